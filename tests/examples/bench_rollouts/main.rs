//! Many gray releases at once, and the same by Argo Rollouts, each on a fresh cluster with pods of kwok. `cargo xtask bench
//! --rollouts` runs it with the program that is shipped.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a benchmark that cannot go on should stop"
)]

mod argo;
mod figures;
mod ours;
mod table;

use std::{
    fs,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use serde_json::{Value, json};

/// Releases one after another, for the time from a pod's readiness to the next write.
const ALONE: usize = 30;
/// Releases that Argo Rollouts works on at a time, which is its default; Interlock's is eight.
const THREADS: usize = 10;
/// All names are as long, so that what belongs to a workload is known by its first letters.
const NAME_LENGTH: usize = 5;

fn main() {
    let count: usize = std::env::var("INTERLOCK_BENCH_COUNT").ok().and_then(|n| n.parse().ok()).unwrap_or(1_000);
    assert!((1..=9_999).contains(&count), "INTERLOCK_BENCH_COUNT is 1 to 9999");
    println!("{count} workloads of 3 pods each, from version 1 to 2 by 20, 35 and 50 percent without pauses");
    let routed = std::env::var_os("INTERLOCK_BENCH_ROUTED").is_some();
    if routed {
        println!("each behind an HTTPRoute: what answers to a pod is the weight that is written into it");
    }
    // Argo Rollouts writes no HTTPRoute without a plugin.
    let is_alone = routed || std::env::var_os("INTERLOCK_BENCH_ALONE").is_some();
    let program = if is_alone { Err("it is not asked for".to_owned()) } else { argo::program() };
    if let (Err(why), false) = (&program, is_alone) {
        println!("Argo Rollouts cannot be built, so there is nothing to compare with: {why}");
    }
    let ours = ours::measure(count, routed);
    println!("Interlock: {}", ours.json());
    let theirs = program.ok().map(|program| argo::measure(&program, count));
    table::print(&ours, theirs.as_ref(), count);
    if let Some(path) = std::env::var_os("INTERLOCK_BENCH_JSON") {
        let theirs = theirs.map(|theirs| theirs.json());
        let both = json!({"count": count, "routed": routed, "interlock": ours.json(), "argoRollouts": theirs});
        fs::write(&path, format!("{both:#}\n")).expect("the figures as JSON");
        println!("the same as JSON: {}", path.display());
    }
}

/// What both release by: each weight adds one pod of the new version to the three old ones of a Deployment. Without a route
/// Interlock knows no weight between 50 and 100.
fn steps() -> Value {
    json!([{"setWeight": 20}, {"setWeight": 35}, {"setWeight": 50}])
}

/// Runs `work` for each of them, eight at a time.
fn in_parallel(names: &[String], work: impl Fn(&str) + Sync) {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
                    work(name);
                }
            });
        }
    });
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("w{number:04}")).collect()
}
