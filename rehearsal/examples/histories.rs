//! Plays random histories; run by `cargo xtask sim`.

use std::{
    collections::BTreeMap,
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use interlock_rehearsal::{history::History, tell};

/// Broken histories after which it ends.
const MOST_BROKEN: usize = 20;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |name: &str| arguments.iter().any(|argument| argument == name);
    let number = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1)?.parse::<u64>().ok()
    };
    if let Some(seed) = number("--seed") {
        return one(seed, has("--whole"));
    }
    let first = if has("--fresh") { fastrand::u64(1 << 32..1 << 48) } else { number("--first").unwrap_or(1) };
    let limit = number("--seconds").map(Duration::from_secs);
    let count = number("--count").unwrap_or(if limit.is_some() { u64::MAX } else { 500 });
    Batch { first, last: first.saturating_add(count), limit, ..Batch::default() }.play()
}

/// Histories in a row, on every core.
#[derive(Default)]
struct Batch {
    first: u64,
    last: u64,
    limit: Option<Duration>,
    next: AtomicU64,
    sum: Mutex<Sum>,
}

#[derive(Default)]
struct Sum {
    histories: u64,
    steps: usize,
    broken: usize,
    ends: BTreeMap<String, usize>,
}

impl Batch {
    fn play(self) -> ExitCode {
        let begun = Instant::now();
        self.next.store(self.first, Ordering::Relaxed);
        thread::scope(|scope| {
            for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
                scope.spawn(|| while self.play_next(begun) {});
            }
        });
        let took = begun.elapsed().as_secs_f64();
        let Sum { histories, steps, broken, ends } = self.sum.into_inner().unwrap_or_else(PoisonError::into_inner);
        println!("{histories} histories from seed {}, {broken} broken, {steps} steps in {took:.1} s", self.first);
        println!("how changes, backups and drills ended: {ends:?}");
        if broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    fn play_next(&self, begun: Instant) -> bool {
        let seed = self.next.fetch_add(1, Ordering::Relaxed);
        let is_late = self.limit.is_some_and(|limit| begun.elapsed() > limit);
        if is_late || seed >= self.last || self.sum().broken >= MOST_BROKEN {
            return false;
        }
        let played = History::of_any(seed).play();
        let mut sum = self.sum();
        sum.histories += 1;
        match played {
            Ok(played) => {
                sum.steps += played.steps;
                played.ends.into_iter().for_each(|(end, count)| *sum.ends.entry(end).or_default() += count);
            }
            Err((invariant, _)) => {
                println!("seed {seed}: {invariant}; see `cargo xtask sim --seed {seed}`");
                sum.broken += 1;
            }
        }
        true
    }

    fn sum(&self) -> std::sync::MutexGuard<'_, Sum> {
        self.sum.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn one(seed: u64, whole: bool) -> ExitCode {
    let history = History::of_any(seed);
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
        println!("{} steps; how changes, backups and drills ended: {:?}", played.steps, played.ends);
        ExitCode::SUCCESS
    }
}
