//! `cargo xtask sim`: random histories in the simulated cluster, and one of them again with what happened in it.

use crate::shell::{self, ShellError};

/// Which histories.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Play this one, made as small as it can be if it breaks an invariant, and tell what happens.
    #[arg(long, conflicts_with_all = ["first", "fresh", "count", "hours", "seconds"])]
    seed: Option<u64>,
    /// With `--seed`: leave the history as it is.
    #[arg(long, requires = "seed")]
    whole: bool,
    /// The first seed. Default: 1.
    #[arg(long)]
    first: Option<u64>,
    /// Begin with a seed by chance, so that every run plays others.
    #[arg(long, conflicts_with = "first")]
    fresh: bool,
    /// How many. Default: 500, or as many as there is time for.
    #[arg(long)]
    count: Option<u64>,
    /// For how many hours, which may be a fraction.
    #[arg(long, conflicts_with = "seconds")]
    hours: Option<f64>,
    /// For how many seconds.
    #[arg(long)]
    seconds: Option<u64>,
}

/// Plays them, optimised.
pub fn run(arguments: &Arguments) -> Result<(), ShellError> {
    let seconds = arguments.seconds.or_else(|| arguments.hours.map(|hours| (hours * 3_600.0) as u64));
    let mut options = Vec::new();
    let numbers = [
        ("--seed", arguments.seed),
        ("--first", arguments.first),
        ("--count", arguments.count),
        ("--seconds", seconds),
    ];
    for (name, value) in numbers {
        options.extend(value.into_iter().flat_map(|value| [name.to_owned(), value.to_string()]));
    }
    options.extend(arguments.whole.then(|| "--whole".to_owned()));
    options.extend(arguments.fresh.then(|| "--fresh".to_owned()));
    let mut play = shell::cargo(&["run", "--quiet", "--profile", "dist"]);
    play.args(["--package", "interlock-rehearsal", "--example", "histories", "--"]).args(options);
    shell::run(&mut play)
}

/// Fresh histories for so many seconds, in the build that the tests use.
pub fn fresh(seconds: u64) -> Result<(), ShellError> {
    shell::build_with_example("histories")?;
    shell::run(shell::example("histories").args(["--fresh", "--seconds", &seconds.to_string()]))
}
