//! Plays random histories; run by `cargo xtask sim`.

use std::{collections::BTreeMap, process::ExitCode, time::Instant};

use interlock_rehearsal::{history::History, tell};

/// Broken histories that are told before it ends.
const MOST_BROKEN: usize = 20;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1)?.parse::<u64>().ok()
    };
    match number("--seed") {
        Some(seed) => one(seed, arguments.iter().any(|argument| argument == "--whole")),
        None => many(number("--first").unwrap_or(1), number("--count").unwrap_or(500)),
    }
}

fn many(first: u64, count: u64) -> ExitCode {
    let begun = Instant::now();
    let (mut steps, mut broken, mut ends) = (0, 0, BTreeMap::<String, usize>::new());
    for seed in first..first + count {
        match History::of_seed(seed).play() {
            Ok(played) => {
                steps += played.steps;
                played.ends.into_iter().for_each(|(end, count)| *ends.entry(end).or_default() += count);
            }
            Err((invariant, _)) => {
                println!("seed {seed}: {invariant}");
                broken += 1;
                if broken == MOST_BROKEN {
                    return ExitCode::FAILURE;
                }
            }
        }
    }
    let took = begun.elapsed().as_secs_f64();
    println!("{count} histories, {broken} broken, {steps} steps in {took:.1} s; how changes ended: {ends:?}");
    if broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn one(seed: u64, whole: bool) -> ExitCode {
    let history = History::of_seed(seed);
    let history = if !whole && history.play().is_err() { history.shrunk() } else { history };
    println!("seed {seed}: {} controllers; what may go wrong: {:?}", history.controllers, history.faults.names());
    let (played, broken) = match history.play() {
        Ok(played) => (played, None),
        Err((broken, played)) => (played, Some(broken)),
    };
    for happening in &played.timeline {
        println!("{}", tell::line(happening));
    }
    if let Some(broken) = broken {
        println!("broken after {} steps: {broken}", played.steps);
        ExitCode::FAILURE
    } else {
        println!("{} steps; how changes ended: {:?}", played.steps, played.ends);
        ExitCode::SUCCESS
    }
}
