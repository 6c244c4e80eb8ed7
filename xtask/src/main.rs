//! The project's own commands: `cargo xtask <command>`. One module per command.

mod bench;
mod cluster;
mod codegen;
mod quickstart;
mod shell;
mod sim;
mod test;
mod tools;

use std::error::Error;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The project's own commands", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// A local Kubernetes with simulated nodes
    #[command(subcommand)]
    Cluster(cluster::Command),
    /// The programs the local Kubernetes is made of
    #[command(subcommand)]
    Tools(tools::Command),
    /// See the main job done on a real Kubernetes
    Quickstart(quickstart::Arguments),
    /// Run every test
    Test(test::Arguments),
    /// Play random histories in the simulated cluster
    Sim(sim::Arguments),
    /// Measure, against baselines in the same run
    Bench(bench::Arguments),
    /// Write the files that are made from the types
    Codegen(codegen::Arguments),
}

fn main() -> ExitCode {
    let outcome: Result<(), Box<dyn Error>> = match Arguments::parse().command {
        Command::Cluster(command) => cluster::run(command).map_err(Into::into),
        Command::Tools(command) => tools::run(&command),
        Command::Quickstart(arguments) => quickstart::run(&arguments).map_err(Into::into),
        Command::Test(arguments) => test::run(&arguments).map_err(Into::into),
        Command::Sim(arguments) => sim::run(&arguments).map_err(Into::into),
        Command::Bench(arguments) => bench::run(&arguments).map_err(Into::into),
        Command::Codegen(arguments) => codegen::run(&arguments).map_err(Into::into),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(error.as_ref());
            ExitCode::FAILURE
        }
    }
}

/// Prints the error and everything that led to it, outermost first.
fn report(error: &dyn Error) {
    eprintln!("error: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        eprintln!("  because {error}");
        cause = error.source();
    }
}
