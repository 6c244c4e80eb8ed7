//! `cargo xtask test`: every test, in the order in which a failure is cheapest to find.

use std::{fs, path::PathBuf, thread, time::Instant};

use interlock_cluster::Tools;

use crate::shell::{self, ShellError};

/// For how long fresh histories are played.
const FRESH_SECONDS: u64 = 45;

/// The test that needs a feature of its own.
const MUTANTS: &str = "mutants";

/// The tests of which some wait for their turn: whoever waits keeps a thread, but no core.
const TAKING_TURNS: &str = "e2e";

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
    /// A folder with tests cannot be read.
    #[error("{path} cannot be read")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The programs of the local cluster could not be built.
    #[error("the programs of the local cluster could not be built")]
    Tools(#[source] Box<dyn std::error::Error>),
}

/// Crates whose tests need no cluster.
const ALONE: [&str; 6] = ["crds", "core", "controller", "sim", "rehearsal", "cli"];

/// Runs every test. Each step selects the whole workspace and then some of its tests: see [`shell::build_with_example`].
pub fn run(arguments: &Arguments) -> Result<(), TestError> {
    let started = Instant::now();
    step(started, "unit, property and core scenario tests");
    let mut alone = ALONE.iter().map(|folder| tests_in(folder)).collect::<Result<Vec<_>, _>>()?.concat();
    alone.retain(|test| test != MUTANTS);
    test(&["--lib", "--bins"], &alone, None)?;
    test(&["--doc"], &[], None)?;
    step(started, "deliberate errors, each of which the simulation must see");
    test(&["--features", "interlock-rehearsal/mutants"], &[MUTANTS.to_owned()], None)?;
    step(started, "histories that nobody has played before");
    crate::sim::fresh(FRESH_SECONDS)?;
    if arguments.quick {
        return Ok(());
    }
    step(started, "building the local cluster's programs (cached by version)");
    Tools::ensure().map_err(|e| TestError::Tools(Box::new(e)))?;
    step(started, "the local cluster itself");
    test(&[], &tests_in("tests/cluster")?, None)?;
    step(started, "scenarios against a real API server");
    shell::build_with_example("codegen")?;
    for name in tests_in("tests")? {
        step(started, &name);
        let at_once =
            (name == TAKING_TURNS).then(|| thread::available_parallelism().map_or(2, |cores| cores.get() + 1));
        test(&[], &[name], at_once)?;
    }
    step(started, "done");
    Ok(())
}

/// The tests of these targets, so many at once; by default as many as there are cores.
fn test(more: &[&str], targets: &[String], at_once: Option<usize>) -> Result<(), ShellError> {
    let mut cargo = shell::cargo(&["test", "--workspace"]);
    cargo.args(more).args(targets.iter().flat_map(|target| ["--test", target]));
    if let Some(at_once) = at_once {
        cargo.args(["--", "--test-threads", &at_once.to_string()]);
    }
    shell::run(&mut cargo)
}

/// Names of the test targets of a crate, as cargo finds them: files of its folder `tests`, and folders there with a `main.rs`.
fn tests_in(folder: &str) -> Result<Vec<String>, TestError> {
    let place = shell::root().join(folder).join("tests");
    let unreadable = |source| TestError::Read { path: place.clone(), source };
    if !place.is_dir() {
        return Ok(Vec::new());
    }
    let mut names = Vec::new();
    for entry in fs::read_dir(&place).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|extension| extension == "rs") || path.join("main.rs").is_file() {
            names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    Ok(names)
}

fn step(started: Instant, what: &str) {
    println!("== {:>4} s  {what}", started.elapsed().as_secs());
}
