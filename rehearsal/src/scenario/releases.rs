//! What is told of gray releases: phases, steps and measurements.

use interlock_core::rollout::described;
use interlock_crds::{MeasurementOutcome, Rollout, RolloutPhase, RolloutStatus, RolloutStep};
use jiff::Timestamp;
use serde_json::Value;

use super::report::{Entry, EntryKind};
use crate::world::key_of;

/// What a write of a Rollout says that a person learns something from.
pub(super) fn told(at: Timestamp, old: Option<&Value>, new: &Value) -> Vec<Entry> {
    let Ok(rollout) = serde_json::from_value::<Rollout>(new.clone()) else { return Vec::new() };
    let before = old.and_then(|old| serde_json::from_value::<Rollout>(old.clone()).ok()?.status).unwrap_or_default();
    let Some(status) = &rollout.status else { return Vec::new() };
    let namespace = rollout.metadata.namespace.as_deref().unwrap_or_default();
    let change = format!("{namespace}/{}", rollout.spec.change_request.name);
    let name = match &rollout.spec.part_of {
        None => change.clone(),
        Some(part) => format!("{} (wave {})", key_of(new), part.wave),
    };
    let mut entries = measurements(at, &name, &before, status);
    entries.extend(moved(at, &name, &rollout, &before, status));
    entries.into_iter().map(|entry| entry.about(&change)).collect()
}

fn moved(
    at: Timestamp,
    name: &str,
    rollout: &Rollout,
    before: &RolloutStatus,
    status: &RolloutStatus,
) -> Option<Entry> {
    let step = (before.current_step, before.attempt) != (status.current_step, status.attempt);
    let begins = before.phase == RolloutPhase::Pending && status.phase != RolloutPhase::Pending;
    let says_why = status.phase == RolloutPhase::Pending && before.message.is_none() && status.message.is_some();
    if before.phase == status.phase && !step && !says_why {
        return None;
    }
    let message = status.message.as_deref().filter(|message| !message.is_empty());
    let more = message.map_or_else(String::new, |message| format!(": {message}"));
    let seen = status.weights.map(|weights| format!(", {} % new", weights.observed.canary)).unwrap_or_default();
    let current = steps(rollout).get(status.current_step as usize).filter(|_| step || begins);
    let moves = matches!(status.phase, RolloutPhase::Progressing | RolloutPhase::Paused);
    let text = match current.filter(|_| moves) {
        Some(current) => format!(
            "release of {name}: step {} of {} ({}){seen}{more}",
            status.current_step + 1,
            status.steps,
            described(current)
        ),
        None => format!("release of {name} is {:?}{seen}{more}", status.phase),
    };
    Some(Entry::new(at, EntryKind::Released, text))
}

fn steps(rollout: &Rollout) -> &[RolloutStep] {
    let plan = &rollout.spec.plan;
    let canary = plan.canary.as_ref().map(|canary| canary.steps.as_slice());
    let blue_green = || plan.blue_green.as_ref().map(|blue_green| blue_green.steps.as_slice());
    let batches = || plan.batches.as_ref().map(|batches| batches.steps.as_slice());
    canary.or_else(blue_green).or_else(batches).unwrap_or_default()
}

fn measurements(at: Timestamp, name: &str, before: &RolloutStatus, status: &RolloutStatus) -> Vec<Entry> {
    let mut entries = Vec::new();
    for run in &status.analyses {
        let known = before.analyses.iter().find(|known| known.run == run.run);
        let last = known.and_then(|known| known.state.measurements.last()).map_or(0, |last| last.number);
        for measured in run.state.measurements.iter().filter(|measured| measured.number > last) {
            let word = match measured.outcome {
                MeasurementOutcome::Successful => "good",
                MeasurementOutcome::Failed => "bad",
                MeasurementOutcome::Inconclusive => "unclear",
                MeasurementOutcome::Error => "no measurement",
            };
            let value = measured.value.as_deref().map(|value| format!(" is {value}")).unwrap_or_default();
            let why = if measured.message.is_empty() { String::new() } else { format!(" ({})", measured.message) };
            let text = format!("{name}: {}{value}: {word}{why}", run.state.name);
            entries.push(Entry::new(at, EntryKind::Measured, text));
        }
        if known.is_none_or(|known| known.state.verdict != run.state.verdict) && run.state.finished_at.is_some() {
            let text = format!("{name}: {} has {:?}: {}", run.state.name, run.state.verdict, run.state.message);
            entries.push(Entry::new(at, EntryKind::Measured, text));
        }
    }
    entries
}
