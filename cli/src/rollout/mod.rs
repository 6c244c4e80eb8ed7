//! `rollout`: gray releases, how they stand and what people command.

mod draw;
mod find;
mod plot;
mod rollback;
mod sign;
mod status;

pub use draw::span;

use std::process::ExitCode;

use clap::{Args, Subcommand};
use interlock_crds::{ActionTarget, ApprovalDecision, Rollout, Verb};
use kube::ResourceExt as _;

use crate::{act, context::Context, error::CliError, ui::Ui};

/// What is done with a release.
#[derive(Debug, Subcommand)]
pub enum RolloutCommand {
    /// Show releases: steps, traffic, pods, measurements, what they wait for and for how long
    Status(status::StatusArgs),
    /// End the wait of the current step
    Promote(PromoteArgs),
    /// Hold the release where it is
    Pause(CommandArgs),
    /// Go on after a pause or a failure
    Resume(CommandArgs),
    /// Leave the current step out
    Skip(CommandArgs),
    /// Go back to the old version now
    Abort(CommandArgs),
    /// Try again what failed, or begin anew after going back; only while its change runs (`contingency.onFailure: Pause`)
    Retry(CommandArgs),
    /// Propose a change that brings an earlier revision of a workload back
    Rollback(rollback::RollbackArgs),
    /// Sign the step or wave that waits for signatures
    Sign(sign::SignArgs),
}

/// Which release, and why.
#[derive(Args, Debug)]
pub struct CommandArgs {
    /// The release: the name of the Rollout, of its change or of its workload.
    pub rollout: String,
    /// Why.
    #[arg(long, default_value = "")]
    pub reason: String,
}

/// How far to promote.
#[derive(Args, Debug)]
pub struct PromoteArgs {
    #[command(flatten)]
    command: CommandArgs,
    /// Pass over every step that waits or measures; signatures and gates stay.
    #[arg(long)]
    full: bool,
}

/// Does it.
pub async fn execute(command: &RolloutCommand, context: &Context, ui: Ui) -> Result<ExitCode, CliError> {
    let (args, verb) = match command {
        RolloutCommand::Status(args) => return status::execute(args, context, ui).await,
        RolloutCommand::Rollback(args) => return rollback::execute(args, context, ui).await,
        RolloutCommand::Sign(args) => {
            let decision = if args.reject { ApprovalDecision::Reject } else { ApprovalDecision::Approve };
            return sign::execute(args, decision, context, ui).await;
        }
        RolloutCommand::Promote(args) => (&args.command, if args.full { Verb::PromoteFully } else { Verb::Promote }),
        RolloutCommand::Pause(args) => (args, Verb::Pause),
        RolloutCommand::Resume(args) => (args, Verb::Resume),
        RolloutCommand::Skip(args) => (args, Verb::Skip),
        RolloutCommand::Abort(args) => (args, Verb::Abort),
        RolloutCommand::Retry(args) => (args, Verb::Retry),
    };
    let found = find::one(&args.rollout, context).await?;
    act::record(target(&found), verb, &args.reason, context, ui).await?;
    ui.line(&ui.dim(&format!(
        "next: interlock rollout status {} -n {} --watch",
        found.name_any(),
        context.namespace_or_default()
    )));
    Ok(ExitCode::SUCCESS)
}

fn target(rollout: &Rollout) -> ActionTarget {
    ActionTarget { kind: "Rollout".to_owned(), name: rollout.name_any(), uid: rollout.uid().unwrap_or_default() }
}
