//! Random histories with faults, on as many threads as there are cores.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use interlock_rehearsal::history::History;

/// Plays the seeds from 1 to `count`.
pub fn measure(count: usize) {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let (next, steps) = (AtomicU64::new(1), AtomicUsize::new(0));
    let begun = Instant::now();
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed > count as u64 {
                        return;
                    }
                    let played = History::of_seed(seed).play().map_err(|(broken, _)| broken);
                    steps.fetch_add(played.expect("no invariant is broken").steps, Ordering::Relaxed);
                }
            });
        }
    });
    let took = begun.elapsed().as_secs_f64();
    let steps = steps.into_inner() as f64;
    println!(
        "histories: {:.0} a second of {:.0} steps each on {threads} cores, {:.0} steps a second, peak memory {} MiB",
        count as f64 / took,
        steps / count as f64,
        steps / took,
        super::peak_mib()
    );
}
