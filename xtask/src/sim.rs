//! `cargo xtask sim`: random histories in the simulated cluster, and one of them again with what happened in it.

use crate::shell::{self, ShellError};

/// Which histories.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Play this one, made as small as it can be if it breaks an invariant, and tell what happens.
    #[arg(long)]
    seed: Option<u64>,
    /// With `--seed`: leave the history as it is.
    #[arg(long, requires = "seed")]
    whole: bool,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// How many.
    #[arg(long, default_value_t = 500)]
    count: u64,
}

/// Plays them.
pub fn run(arguments: &Arguments) -> Result<(), ShellError> {
    let mut numbers = match arguments.seed {
        Some(seed) => vec!["--seed".to_owned(), seed.to_string()],
        None => {
            vec!["--first".to_owned(), arguments.first.to_string(), "--count".to_owned(), arguments.count.to_string()]
        }
    };
    numbers.extend(arguments.whole.then(|| "--whole".to_owned()));
    let mut play = shell::cargo(&[
        "run",
        "--quiet",
        "--release",
        "--package",
        "interlock-rehearsal",
        "--example",
        "histories",
        "--",
    ]);
    play.args(numbers);
    shell::run(&mut play)
}
