//! The one binary: the controller (`run`), its installation, and the commands for people.
//!
//! Thin: a command reads its arguments, calls the API server and prints. What is decided is decided in the cluster.

mod act;
mod backup;
mod context;
mod crd;
mod demo;
mod drill;
mod error;
mod evidence;
mod install;
mod live;
mod manifests;
mod output;
mod propose;
mod rehearse;
mod rollout;
mod run;
mod runner;
mod status;
mod ui;
mod vote;
mod why;

use std::process::ExitCode;

use clap::{Args as _, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use interlock_crds::{ApprovalDecision, Verb};

use crate::{context::Globals, error::CliError, ui::Ui};

/// JSON trees are made of small pieces; the C library's allocator takes a quarter longer over them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Change governance for Kubernetes.
///
/// A change waits until every gate of its policy is open, is then carried out under the rights of its System's executor,
/// and goes back if it turns out bad.
#[derive(Parser)]
#[command(
    name = "interlock",
    version,
    after_help = "Exit codes: 0 done; 1 failed; 2 wrong usage; 3 refused by the server or a policy; 4 the change waits; 5 the change ended without success; 6 not found.\n\nAlso usable as `kubectl interlock` when the binary is on the PATH as kubectl-interlock."
)]
struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Propose a change made of plain manifests
    Propose(Box<propose::ProposeArgs>),
    /// Vote for a change
    Approve(vote::VoteArgs),
    /// Vote against a change
    Reject(vote::VoteArgs),
    /// Take one's vote back, or with --change the change itself
    Withdraw(vote::WithdrawArgs),
    /// Explain what a change waits for
    Why(why::WhyArgs),
    /// Show changes, once or live
    Status(status::StatusArgs),
    /// Wait until a change has ended
    Wait(status::WaitArgs),
    /// Stop a change and go back
    Abort(act::ActArgs),
    /// Go back from a change that is paused after a failure
    Rollback(act::ActArgs),
    /// Hold a running change before its next step
    Pause(act::ActArgs),
    /// Go on after a pause or a failure
    Resume(act::ActArgs),
    /// Accept the live state as the new base of a change; earlier votes become stale
    Rebase(act::ActArgs),
    /// Gray releases: see and command them
    #[command(subcommand, visible_alias = "ro")]
    Rollout(rollout::RolloutCommand),
    /// Backups: run, list and show them
    #[command(subcommand)]
    Backup(backup::BackupCommand),
    /// Restore a backup to a volume, by a change that is agreed first
    Restore(backup::restore::RestoreArgs),
    /// Restore drills: run, see and list them, and verify their certificates
    #[command(subcommand)]
    Drill(drill::DrillCommand),
    /// Evidence about a change
    #[command(subcommand)]
    Evidence(evidence::EvidenceCommand),
    /// Play a folder of manifests and a scenario in a simulated cluster
    Rehearse(rehearse::RehearseArgs),
    /// Watch a bank's changes go through their gates, in a simulated cluster
    Demo(demo::DemoArgs),
    /// Print the definitions of Interlock's kinds
    Crd(crd::CrdArgs),
    /// Print or apply everything that a cluster needs
    Install(Box<install::InstallArgs>),
    /// Run the controller and its webhooks
    Run(run::RunArgs),
    /// Do the work of a container in a pod of Interlock
    #[command(hide = true)]
    Runner(runner::RunnerArgs),
    /// Print a completion script
    Completion {
        /// For which shell.
        shell: clap_complete::Shell,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    interlock_controller::certs::install_crypto_provider();
    let cli = parse();
    let ui = Ui::new(cli.globals.color);
    match execute(cli, ui).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            error.code()
        }
    }
}

/// The command line. Called by kubectl as its plugin `kubectl-interlock`, help and errors name it as it was typed.
fn parse() -> Cli {
    let called = std::env::args_os().next().map(std::path::PathBuf::from);
    let is_plugin =
        called.as_deref().and_then(std::path::Path::file_stem).is_some_and(|name| name == "kubectl-interlock");
    let command = OFFLINE.iter().fold(Cli::command(), |command, name| command.mut_subcommand(name, without_cluster));
    let command = if is_plugin { command.bin_name("kubectl interlock") } else { command };
    Cli::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit())
}

/// Commands that speak to no cluster.
const OFFLINE: [&str; 4] = ["rehearse", "demo", "crd", "completion"];

/// Their help does not show how to reach one.
fn without_cluster(command: clap::Command) -> clap::Command {
    let globals = Globals::augment_args(clap::Command::new(""));
    let hidden: Vec<_> = globals.get_arguments().filter(|arg| arg.get_id() != "color").cloned().collect();
    command.args(hidden.into_iter().map(|arg| arg.hide(true)))
}

async fn execute(cli: Cli, ui: Ui) -> Result<ExitCode, CliError> {
    let globals = cli.globals;
    match cli.command {
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "interlock", &mut script);
            ui.raw(&String::from_utf8_lossy(&script));
            Ok(ExitCode::SUCCESS)
        }
        Command::Crd(args) => crd::execute(&args, ui),
        Command::Rehearse(args) => rehearse::execute(&args, wall_clock(), ui),
        Command::Demo(args) => demo::execute(&args, ui),
        Command::Install(args) => {
            let client = if args.needs_cluster() { Some(globals.connect().await?.client) } else { None };
            install::execute(&args, client, wall_clock()).await.map_err(|e| CliError::Other(e.to_string()))
        }
        Command::Run(args) => {
            let config = globals.config().await?;
            run::execute(&args, config).await.map(|()| ExitCode::SUCCESS).map_err(|e| CliError::Other(e.to_string()))
        }
        Command::Runner(args) => Ok(runner::execute(&args).await),
        Command::Drill(drill::DrillCommand::Verify(args)) => drill::verify::execute(&args, ui),
        command => with_cluster(command, &globals, ui).await,
    }
}

/// The local clock: certificates of an installation are dated by it, because no API server may have answered yet.
#[allow(clippy::disallowed_methods)]
fn wall_clock() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

async fn with_cluster(command: Command, globals: &Globals, ui: Ui) -> Result<ExitCode, CliError> {
    let context = globals.connect().await?;
    let act = |args: act::ActArgs, verb: Verb| {
        let context = context.clone();
        async move { act::command(&args.change, verb, &args.reason, &context, ui).await }
    };
    match command {
        Command::Propose(args) => propose::execute(&args, &context, ui).await,
        Command::Approve(args) => vote::vote(&args, ApprovalDecision::Approve, &context, ui).await,
        Command::Reject(args) => vote::vote(&args, ApprovalDecision::Reject, &context, ui).await,
        Command::Withdraw(args) => vote::withdraw(&args, &context, ui).await,
        Command::Why(args) => why::execute(&args, &context, ui).await,
        Command::Status(args) => status::execute(&args, &context, ui).await,
        Command::Wait(args) => status::wait(&args, &context, ui).await,
        Command::Abort(args) => act(args, Verb::Abort).await,
        Command::Rollback(args) => act(args, Verb::Rollback).await,
        Command::Pause(args) => act(args, Verb::Pause).await,
        Command::Resume(args) => act(args, Verb::Resume).await,
        Command::Rebase(args) => act(args, Verb::Rebase).await,
        Command::Rollout(command) => rollout::execute(&command, &context, ui).await,
        Command::Restore(args) => Box::pin(backup::restore::execute(&args, &context, ui)).await,
        Command::Backup(command) => backup::execute(&command, &context, ui).await,
        Command::Drill(command) => drill::execute(&command, &context, ui).await,
        Command::Evidence(args) => evidence::execute(&args, &context, ui).await,
        Command::Crd(_)
        | Command::Demo(_)
        | Command::Install(_)
        | Command::Rehearse(_)
        | Command::Run(_)
        | Command::Runner(_)
        | Command::Completion { .. } => Ok(ExitCode::SUCCESS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
