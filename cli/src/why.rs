//! `why`: every gate of a change, what would open it, and when.

use std::process::ExitCode;

use clap::Args;
use interlock_crds::{ChangeRequest, ChangeRequestStatus, GateState, RunDirection, StepState, VoteState};

use crate::{
    context::Context,
    error::{CliError, exit},
    output::{Format, print},
    ui::{Ui, columns, padded},
};

/// Which change, and how.
#[derive(Args, Debug)]
pub struct WhyArgs {
    /// The change: cr/NAME.
    pub change: String,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

/// Explains a change. Exit code 4 while it waits, 5 if it ended without success.
pub async fn execute(args: &WhyArgs, context: &Context, ui: Ui) -> Result<ExitCode, CliError> {
    let change = context.change(&args.change).await?;
    match args.output {
        Format::Table => explain(&change, ui),
        format => print(&change, format, ui)?,
    }
    Ok(code(&change))
}

/// 0 for success or running, 4 for waiting, 5 for an end without success.
pub fn code(change: &ChangeRequest) -> ExitCode {
    use interlock_crds::ChangePhase as P;
    match change.status.as_ref().map_or(P::Pending, |s| s.phase) {
        P::Succeeded | P::Running => ExitCode::SUCCESS,
        P::Pending | P::Scheduled | P::Paused => ExitCode::from(exit::WAITS),
        _ => ExitCode::from(exit::NOT_SUCCEEDED),
    }
}

/// Prints everything about a change.
pub fn explain(change: &ChangeRequest, ui: Ui) {
    let status = change.status.clone().unwrap_or_default();
    let name = change.metadata.name.as_deref().unwrap_or_default();
    ui.wrap(&format!("{name}  {}  {}", ui.phase(status.phase), change.spec.title), 2);
    let system = status.system.as_deref().unwrap_or("(none)");
    ui.wrap(&format!("  {:?} change of System {system}, asked for by {}", change.spec.type_, change.spec.requester), 4);
    if let Some(risk) = &status.risk {
        let factors: Vec<_> = risk.factors.iter().map(|f| format!("{} +{}", f.why, f.points)).collect();
        ui.wrap(&format!("  risk {:?} ({}): {}", risk.level, risk.score, factors.join(", ")), 4);
    }
    if status.observed_generation != change.metadata.generation {
        ui.line(&ui.warn("  Interlock has not looked at this version yet"));
    }
    if let Some(message) = status
        .message
        .as_deref()
        .filter(|_| status.gates.is_empty() || status.phase.is_terminal() || status.phase.is_active())
    {
        ui.wrap(&format!("  {message}"), 2);
    }
    gates(&status, ui);
    votes(&status, ui);
    objects(&status, ui, "  ");
}

fn gates(status: &ChangeRequestStatus, ui: Ui) {
    if status.gates.is_empty() || status.phase.is_terminal() {
        return;
    }
    ui.heading("gates");
    for gate in &status.gates {
        let indent = 2 + 7 + 1 + 13;
        let (state, name) = (ui.gate(gate.state, gate.enforced), padded(&gate.name, 12));
        ui.wrap(&format!("  {state} {name} {}", gate.message), indent);
        if let Some(at) = gate.opens_at.as_ref().filter(|_| gate.state != GateState::Open) {
            ui.line(&ui.dim(&format!("{}opens by itself at {}", " ".repeat(indent), at.0)));
        }
    }
}

fn votes(status: &ChangeRequestStatus, ui: Ui) {
    if status.votes.is_empty() {
        return;
    }
    ui.heading("votes");
    for vote in &status.votes {
        let state = format!("{:?}", vote.state).to_lowercase();
        let state = match vote.state {
            VoteState::Approves => ui.good(&padded(&state, 9)),
            VoteState::Rejects => ui.bad(&padded(&state, 9)),
            _ => ui.dim(&padded(&state, 9)),
        };
        ui.wrap(&format!("  {state} {} {}", padded(&vote.person, 19), vote.why), 32);
    }
}

/// Prints the journal of a change that has started.
pub fn objects(status: &ChangeRequestStatus, ui: Ui, indent: &str) {
    let Some(run) = &status.run else { return };
    let direction = match run.direction {
        RunDirection::Forward => String::new(),
        RunDirection::Back => format!(" (going back: {})", run.cause.as_deref().unwrap_or("on command")),
    };
    let beside = columns(indent);
    ui.wrap(&format!("{indent}carried out as {}{direction}", run.executor), beside + 2);
    for object in &run.objects {
        let state = format!("{:?}", object.state).to_lowercase();
        let state = match object.state {
            StepState::Done | StepState::Reverted => ui.good(&padded(&state, 12)),
            StepState::Failed | StepState::RevertFailed => ui.bad(&padded(&state, 12)),
            StepState::Waiting => ui.dim(&padded(&state, 12)),
            _ => ui.warn(&padded(&state, 12)),
        };
        let target = match &object.namespace {
            Some(namespace) => format!("{} {namespace}/{}", object.kind, object.name),
            None => format!("{} {}", object.kind, object.name),
        };
        let operation = format!("{:?}", object.operation).to_lowercase();
        ui.wrap(&format!("{indent}  {state} {operation:<7} {target}"), beside + 15);
        if !object.message.is_empty() {
            ui.wrap(&ui.dim(&format!("{indent}               {}", object.message)), beside + 15);
        }
    }
}
