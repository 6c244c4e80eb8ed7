//! Many gray releases at once, and the same by Argo Rollouts, each on a fresh cluster with pods of kwok. `cargo xtask bench
//! --rollouts` runs it with the program that is shipped.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "a benchmark that cannot go on should stop"
)]

mod argo;
mod figures;
mod ours;

use figures::Figures;

/// Releases one after another, for the time from a pod's readiness to the next write.
const ALONE: usize = 20;
/// How many releases Argo Rollouts works on at a time, which is its default; Interlock works on eight.
const THREADS: usize = 10;

fn main() {
    let count: usize = std::env::var("INTERLOCK_BENCH_COUNT").ok().and_then(|n| n.parse().ok()).unwrap_or(1_000);
    println!("{count} workloads of 3 pods each, from version 1 to 2 by 20, 35 and 50 percent without pauses");
    let ours = ours::measure(count);
    ours.print("Interlock", count);
    let theirs = argo::measure(count);
    theirs.print("Argo Rollouts", count);
    let ratio = |of: fn(&Figures) -> f64| of(&ours) / of(&theirs);
    println!(
        "Interlock to Argo Rollouts: time {:.2}, processor {:.2}, memory {:.2}, writes {:.2}, reaction {:.2}",
        ratio(|one| one.seconds),
        ratio(|one| one.cpu),
        ratio(|one| one.peak_mib),
        ratio(|one| one.writes() as f64),
        ratio(|one| one.reaction.0),
    );
}

/// Runs `work` for each of them, eight at a time.
fn in_parallel(names: &[String], work: impl Fn(&str) + Sync) {
    let next = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while let Some(name) = names.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
                    work(name);
                }
            });
        }
    });
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("w{number:04}")).collect()
}
