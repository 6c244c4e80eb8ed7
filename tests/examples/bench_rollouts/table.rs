//! The two beside each other.

use crate::figures::Figures;

type Row = (&'static str, fn(&Figures, f64) -> f64);

const ROWS: [Row; 14] = [
    ("seconds, all releases", |of, _| of.seconds),
    ("seconds between the first end and the last", |of, _| of.spread),
    ("processor seconds of the controller", |of, _| of.cpu),
    ("those before the releases", |of, _| of.cpu_before),
    ("most memory of the controller, MiB", |of, _| of.peak_mib),
    ("stored writes a release, Events aside", |of, count| of.requests.writes() as f64 / count),
    ("Events a release", |of, count| of.requests.events() as f64 / count),
    ("reads a release", |of, count| of.requests.reads() as f64 / count),
    ("writes of built-in controllers and nodes a release", |of, count| of.requests.others() as f64 / count),
    ("ms from pod to write, one at a time, p50", |of, _| of.alone.p50),
    ("ms from pod to write, one at a time, p99", |of, _| of.alone.p99),
    ("ms from pod to write, all at once, p50", |of, _| of.crowded.p50),
    ("ms from pod to write, all at once, p99", |of, _| of.crowded.p99),
    ("requests in an idle minute, leases aside", |of, _| of.idle.values().sum::<usize>() as f64),
];

pub fn print(ours: &Figures, theirs: Option<&Figures>, count: usize) {
    println!("{:<52} {:>12} {:>14} {:>7}", "", "Interlock", "Argo Rollouts", "ratio");
    for (what, of) in ROWS {
        let one = of(ours, count as f64);
        match theirs.map(|theirs| of(theirs, count as f64)) {
            Some(other) if other > 0.0 => println!("{what:<52} {one:>12.1} {other:>14.1} {:>7.2}", one / other),
            Some(other) => println!("{what:<52} {one:>12.1} {other:>14.1} {:>7}", "-"),
            None => println!("{what:<52} {one:>12.1} {:>14} {:>7}", "-", "-"),
        }
    }
    for (name, figures) in [("Interlock", Some(ours)), ("Argo Rollouts", theirs)] {
        let Some(figures) = figures else { continue };
        println!("{name}, a release ({} and {} reactions):", figures.alone.samples, figures.crowded.samples);
        let requests = &figures.requests;
        for (kind, counted) in [("", &requests.written), ("", &requests.read), ("by others: ", &requests.others)] {
            for (what, number) in counted {
                if *number * 20 >= count {
                    println!("  {:>6.1} {kind}{what}", *number as f64 / count as f64);
                }
            }
        }
        for (what, number) in &figures.idle {
            println!("  idle: {number} {what}");
        }
    }
}
