//! `cargo xtask bench`: figures, as ratios against a baseline measured in the same run. Never part of the tests.

use crate::shell::{self, ShellError};

/// How much is measured.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Changes in the measurement on a cluster.
    #[arg(long, default_value_t = 1_000)]
    changes: u32,
    /// Only the core, without a cluster.
    #[arg(long)]
    core: bool,
}

/// Runs the benchmarks.
pub fn run(arguments: &Arguments) -> Result<(), ShellError> {
    println!("== core: decisions on one core");
    for (package, example) in [("interlock-core", "bench_decide"), ("interlock-controller", "bench_crowd")] {
        let example = ["run", "--quiet", "--release", "--package", package, "--example", example];
        shell::run(&mut shell::cargo(&example))?;
    }
    if arguments.core {
        return Ok(());
    }
    println!("== changes on a real API server");
    shell::run(&mut shell::cargo(&["build", "--quiet", "--release", "--package", "interlock"]))?;
    let mut bench =
        shell::cargo(&["run", "--quiet", "--release", "--package", "interlock-tests", "--example", "bench_changes"]);
    bench.env("INTERLOCK_BENCH_CHANGES", arguments.changes.to_string());
    bench.env("INTERLOCK_BIN", shell::target().join("release/interlock"));
    shell::run(&mut bench)
}
