//! What people are told of a release as Events: each step that is complete, what stops it, and how it ends.
//!
//! Whoever runs `kubectl describe` wants to read what happened, in its order. A pause that the plan states, going on after it,
//! and the beginning of the promotion are told by the step before them: they get no line, nor a call, of their own.

use interlock_crds::{RolloutPhase, RolloutPlanSpec, RolloutStatus, RolloutStep};

use super::{decide::RolloutDecision, pass::Strategy};
use crate::port::Note;

/// A step as a person says it.
pub fn described(step: &RolloutStep) -> String {
    let members = [
        step.set_weight.map(|weight| format!("{weight} % of the traffic")),
        step.set_replicas.map(|replicas| format!("{replicas} pods of the new version")),
        step.pause.as_ref().map(|pause| {
            pause.duration.map_or("wait until somebody promotes".to_owned(), |duration| format!("wait {duration}"))
        }),
        step.analysis.as_ref().map(|names| format!("measure {}", names.join(", "))),
        step.header_match.as_ref().map(|step| {
            let headers: Vec<_> =
                step.headers.iter().map(|header| format!("{}: {}", header.name, header.value)).collect();
            if headers.is_empty() {
                "no header leads to the new version".to_owned()
            } else {
                format!("requests with {}", headers.join(", "))
            }
        }),
        step.mirror.map(|mirror| format!("copy {} % of the requests", mirror.percent)),
        step.job.as_ref().map(|job| format!("run Job {}", job.name)),
        step.sign_off.as_ref().map(|rule| format!("signed by {} of {}", rule.count, rule.groups.join(", "))),
        step.gate.map(|gate| format!("gate {:?} is open", gate.name)),
    ];
    members.into_iter().flatten().next().unwrap_or_else(|| "nothing".to_owned())
}

/// What is told when a decision is recorded over what was `recorded`, in this order. It is told before: who dies in between
/// tells it once more.
pub fn notes(plan: &RolloutPlanSpec, recorded: &RolloutStatus, decision: &RolloutDecision) -> Vec<Note> {
    use RolloutPhase::{Aborting, Failed, Paused, Pending, Progressing, Promoting, RolledBack};
    let status = &decision.status;
    let message = status.message.clone().unwrap_or_default();
    let steps = Strategy::of(plan).map(Strategy::steps).unwrap_or_default();
    let complete = |position: &u32| {
        let step = steps.get(*position as usize)?;
        let message = format!("step {} of {} is complete: {}", position + 1, steps.len(), described(step));
        Some(note(false, "StepCompleted", message))
    };
    let mut notes: Vec<_> = decision.completed.iter().filter_map(complete).collect();
    let goes_as_planned = status.hold.is_none() && matches!(status.phase, Progressing | Paused | Promoting);
    if goes_as_planned && let Some(last) = notes.last_mut() {
        last.message = format!("{}; then: {message}", last.message);
        return notes;
    }
    let is_on_its_way =
        matches!(status.phase, Progressing | Promoting) && matches!(recorded.phase, Pending | Progressing);
    if recorded.phase != status.phase && !is_on_its_way {
        let warning = matches!(status.phase, Aborting | Failed | RolledBack);
        notes.push(note(warning, &format!("{:?}", status.phase), message));
    }
    notes
}

fn note(warning: bool, reason: &str, message: String) -> Note {
    Note { warning, reason: reason.to_owned(), action: "Release".to_owned(), message }
}
