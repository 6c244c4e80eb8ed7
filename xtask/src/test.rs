//! `cargo xtask test`: every test, in the order in which a failure is cheapest to find.

use std::time::Instant;

use interlock_cluster::Tools;

use crate::shell::{self, ShellError};

/// For how long fresh histories are played.
const FRESH_SECONDS: u64 = 45;

/// What is tested.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Leave out the tests that need a cluster.
    #[arg(long)]
    quick: bool,
}

/// Why it failed.
#[derive(Debug, thiserror::Error)]
pub enum TestError {
    /// A program failed.
    #[error(transparent)]
    Shell(#[from] ShellError),
    /// The programs of the local cluster could not be built.
    #[error("the programs of the local cluster could not be built")]
    Tools(#[source] Box<dyn std::error::Error>),
}

/// Runs every test.
pub fn run(arguments: &Arguments) -> Result<(), TestError> {
    let started = Instant::now();
    step(started, "unit, property and core scenario tests");
    shell::run(&mut shell::cargo(&[
        "test",
        "--workspace",
        "--exclude",
        "interlock-tests",
        "--exclude",
        "interlock-cluster",
    ]))?;
    step(started, "deliberate errors, each of which the simulation must see");
    shell::run(&mut shell::cargo(&[
        "test",
        "--package",
        "interlock-rehearsal",
        "--features",
        "mutants",
        "--test",
        "mutants",
    ]))?;
    step(started, "histories that nobody has played before");
    crate::sim::fresh(FRESH_SECONDS)?;
    if arguments.quick {
        return Ok(());
    }
    step(started, "building the local cluster's programs (cached by version)");
    Tools::ensure().map_err(|e| TestError::Tools(Box::new(e)))?;
    step(started, "the local cluster itself");
    shell::run(&mut shell::cargo(&["test", "--package", "interlock-cluster"]))?;
    step(started, "scenarios against a real API server");
    shell::run(&mut shell::cargo(&["build", "--package", "interlock"]))?;
    shell::run(&mut shell::cargo(&["test", "--package", "interlock-tests"]))?;
    step(started, "done");
    Ok(())
}

fn step(started: Instant, what: &str) {
    println!("== {:>4} s  {what}", started.elapsed().as_secs());
}
