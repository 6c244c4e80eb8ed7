//! `drill`: restore drills, run now, seen, and their certificates verified.

mod draw;
mod list;
mod run;
mod status;
pub mod verify;

use std::process::ExitCode;

use clap::Subcommand;
use interlock_crds::{DrillPhase, DrillRun, DrillRunStatus};
use kube::Api;

use crate::{
    context::Context,
    error::{CliError, exit},
    ui::Ui,
};

/// What is done with drills.
#[derive(Debug, Subcommand)]
pub enum DrillCommand {
    /// Restore now and measure it
    Run(run::RunArgs),
    /// Show a run: phases, times, validations, verdict and cleanup, once or live
    Status(status::StatusArgs),
    /// Show drills and their runs: what is proved
    List(list::ListArgs),
    /// Verify the certificate of a run with a key that was obtained elsewhere
    Verify(verify::VerifyArgs),
}

/// Does it.
pub async fn execute(command: &DrillCommand, context: &Context, ui: Ui) -> Result<ExitCode, CliError> {
    match command {
        DrillCommand::Run(args) => run::execute(args, context, ui).await,
        DrillCommand::Status(args) => status::execute(args, context, ui).await,
        DrillCommand::List(args) => list::execute(args, context, ui).await,
        DrillCommand::Verify(args) => verify::execute(args, ui),
    }
}

fn runs(context: &Context) -> Api<DrillRun> {
    Api::namespaced(context.client.clone(), &context.namespace_or_default())
}

fn status_of(run: &DrillRun) -> DrillRunStatus {
    run.status.clone().unwrap_or_default()
}

fn phase(phase: DrillPhase, ui: Ui) -> String {
    let text = format!("{phase:?}");
    match phase {
        DrillPhase::Passed => ui.good(&text),
        DrillPhase::Failed => ui.bad(&text),
        DrillPhase::Pending => text,
        _ => ui.warn(&text),
    }
}

/// 0 for a pass, 4 as long as the verdict has not fallen, 5 for any other.
fn code(run: &DrillRun) -> ExitCode {
    match status_of(run).phase {
        DrillPhase::Passed => ExitCode::SUCCESS,
        phase if !phase.is_terminal() => ExitCode::from(exit::WAITS),
        _ => ExitCode::from(exit::NOT_SUCCEEDED),
    }
}
