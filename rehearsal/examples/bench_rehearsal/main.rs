//! What the simulation costs: histories per second, a year of the bank, a thousand Systems, ten thousand BackupPolicies.
//! Run by `cargo xtask bench --sim`; each figure in a process of its own, so that each has its own peak of memory.

#![allow(clippy::expect_used, reason = "a benchmark that cannot go on should stop")]

mod histories;
mod policies;
mod systems;
mod year;

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::process::{Command, ExitCode};
use std::time::Instant;

use interlock_rehearsal::scenario::{Folder, Report, Scenario, play};

/// As in the program that is shipped.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures a figure of this size.
type Measure = fn(usize);

/// What is measured, by the argument that asks for it, and its size: histories, days, weeks, Systems, BackupPolicies.
const FIGURES: [(&str, Measure, usize); 5] = [
    ("histories", histories::measure, 400),
    ("bank", year::untouched, 365),
    ("year", year::measure, 52),
    ("systems", systems::measure, 1_000),
    ("policies", policies::measure, 10_000),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(wanted) = arguments.first() else { return all() };
    let Some((_, measure, size)) = FIGURES.iter().find(|(name, ..)| name == wanted) else { return usage() };
    let Some(size) = arguments.get(1).map_or(Some(*size), |size| size.parse().ok()) else { return usage() };
    measure(size);
    ExitCode::SUCCESS
}

fn usage() -> ExitCode {
    let names: Vec<_> = FIGURES.iter().map(|(name, ..)| *name).collect();
    eprintln!("usage: bench_rehearsal [{} [SIZE]]", names.join("|"));
    ExitCode::FAILURE
}

fn all() -> ExitCode {
    let myself = std::env::current_exe().expect("this program has a path");
    let failed = FIGURES.iter().filter(|(name, ..)| {
        let status = Command::new(&myself).arg(name).status().expect("this program starts");
        !status.success()
    });
    if failed.count() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Plays it and tells what it cost.
fn rehearse(what: &str, folder: &Folder, scenario: &Scenario) -> Report {
    let begun = Instant::now();
    let report = play(folder, scenario).expect("it can be played");
    let took = begun.elapsed().as_secs_f64();
    let peak = peak_mib();
    let mut ends = BTreeMap::<String, usize>::new();
    for change in &report.changes {
        *ends.entry(format!("{:?}", change.phase)).or_default() += 1;
    }
    let mut digest = DefaultHasher::new();
    format!("{:?}", report.timeline).hash(&mut digest);
    println!(
        "{what}: {took:.2} s, peak memory {} MiB; {} changes {ends:?}, {} refusals, {} steps, timeline {:016x}",
        peak,
        report.changes.len(),
        report.refusals.len(),
        report.steps,
        digest.finish()
    );
    report
}

/// The most memory that this process held, in MiB; 0 where the system does not tell.
fn peak_mib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()).and_then(|kib| kib.parse::<u64>().ok());
    kib.unwrap_or_default() / 1024
}

/// Seconds of processor time that this process took, whatever else the machine does; 0 where the system does not tell.
fn processor_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name of the program, in brackets, may have spaces; times are the 12th and 13th field after it, in ticks of 10 ms.
    let after = stat.rsplit(')').next().unwrap_or_default();
    let ticks = after.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<f64>().ok());
    ticks.sum::<f64>() / 100.0
}
