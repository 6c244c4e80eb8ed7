//! `cargo xtask bench`: figures, as ratios against a baseline measured in the same run. Never part of the tests.

use std::process::Command;

use crate::shell::{self, ShellError};

/// How much is measured.
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Changes in the measurement on a cluster.
    #[arg(long, default_value_t = 1_000)]
    changes: u32,
    /// Only the core, without a cluster.
    #[arg(long)]
    core: bool,
    /// Only the simulation, without a cluster.
    #[arg(long, conflicts_with = "core")]
    sim: bool,
    /// Only gray releases, beside those of Argo Rollouts.
    #[arg(long, conflicts_with_all = ["core", "sim"])]
    rollouts: bool,
    /// Only backups of a GiB on a real node, against the same commands typed by hand. Needs root.
    #[arg(long, conflicts_with_all = ["core", "sim", "rollouts"])]
    backups: bool,
    /// Only what so many BackupPolicies and their Backups take of a controller on a real API server.
    #[arg(long, conflicts_with_all = ["core", "sim", "rollouts", "backups"], num_args = 0..=1, default_missing_value = "10000")]
    policies: Option<u32>,
    /// With --rollouts: without Argo Rollouts beside it.
    #[arg(long, requires = "rollouts")]
    alone: bool,
    /// With --rollouts: each behind an HTTPRoute, from a pod being ready to the weight written into it. Interlock alone.
    #[arg(long, requires = "rollouts")]
    routed: bool,
    /// Deployments in the measurement of gray releases.
    #[arg(long, default_value_t = 1_000)]
    count: u32,
}

/// What is shipped is what is measured.
const PROFILE: [&str; 2] = ["--profile", "dist"];

/// Runs the benchmarks.
pub fn run(arguments: &Arguments) -> Result<(), ShellError> {
    if arguments.rollouts {
        return rollouts(arguments.count, arguments.alone || arguments.routed, arguments.routed);
    }
    if arguments.backups {
        println!("== backups and drills of a GiB on a real node");
        return shell::run(&mut on_a_cluster("bench_vault")?);
    }
    if let Some(count) = arguments.policies {
        return policies(count);
    }
    if !arguments.sim {
        println!("== core: decisions on one core");
        shell::run(&mut example("interlock-core", "bench_decide"))?;
        shell::run(&mut example("interlock-controller", "bench_crowd"))?;
        shell::run(&mut example("interlock-controller", "bench_backups"))?;
    }
    if !arguments.core {
        println!("== simulation: histories, a year, a thousand Systems");
        shell::run(&mut example("interlock-rehearsal", "bench_rehearsal"))?;
    }
    if arguments.core || arguments.sim {
        return Ok(());
    }
    println!("== changes on a real API server");
    let mut bench = on_a_cluster("bench_changes")?;
    shell::run(bench.env("INTERLOCK_BENCH_CHANGES", arguments.changes.to_string()))?;
    policies(10_000)?;
    rollouts(arguments.count, false, false)
}

fn policies(count: u32) -> Result<(), ShellError> {
    println!("== {count} BackupPolicies on a real API server");
    shell::run(on_a_cluster("bench_policies")?.env("INTERLOCK_BENCH_COUNT", count.to_string()))
}

fn rollouts(count: u32, alone: bool, routed: bool) -> Result<(), ShellError> {
    println!("== gray releases on a real API server{}", if alone { "" } else { ", and the same by Argo Rollouts" });
    let mut bench = on_a_cluster("bench_rollouts")?;
    bench.env("INTERLOCK_BENCH_JSON", shell::target().join("bench-rollouts.json"));
    if alone {
        bench.env("INTERLOCK_BENCH_ALONE", "1");
    }
    if routed {
        bench.env("INTERLOCK_BENCH_ROUTED", "1");
    }
    shell::run(bench.env("INTERLOCK_BENCH_COUNT", count.to_string()))
}

/// A benchmark of the program that is shipped.
fn on_a_cluster(name: &str) -> Result<Command, ShellError> {
    shell::run(shell::cargo(&["build", "--quiet", "--package", "interlock"]).args(PROFILE))?;
    let mut bench = example("interlock-tests", name);
    bench.env("INTERLOCK_BIN", shell::target().join("dist/interlock"));
    Ok(bench)
}

fn example(package: &str, example: &str) -> Command {
    let mut command = shell::cargo(&["run", "--quiet", "--package", package, "--example", example]);
    command.args(PROFILE);
    command
}
