//! What a change says to its Rollout, and what its Rollout says to it.

use std::collections::{BTreeMap, BTreeSet};

use interlock_crds::{
    GateState, GateStatus, Overrun, Rollout, RolloutPhase, RolloutTarget, RunDirection, RunRecord, StepGate, Verb, Wave,
};
use jiff::Timestamp;
use serde_json::Value;

use super::{BeforeState, Entry, config_of};
use crate::{
    admission::WriteRequest,
    calendar::WindowState,
    change::{
        decide::counts,
        facts::{CalendarFacts, ChangeFacts, Command, RequestFacts},
        gates::{self, GateName},
    },
    object::{Health, ObjectId},
    people::is_machine,
    rollout::{self, CommandFact, GateFact, LiveObjects, RolloutFacts, RolloutVerb, TargetFacts, WindowFact, waves},
};

fn phase_of(rollout: &Value) -> RolloutPhase {
    let phase = rollout.pointer("/status/phase").cloned().unwrap_or_default();
    serde_json::from_value(phase).unwrap_or_default()
}

/// How far the Rollout of a change is, for the change.
pub fn progress(rollout: &Value) -> Health {
    let message = || rollout.pointer("/status/message").and_then(Value::as_str).unwrap_or("no reason was recorded");
    match phase_of(rollout) {
        RolloutPhase::Succeeded => Health::Healthy,
        RolloutPhase::RolledBack => Health::Failed(format!("went back: {}", message())),
        // What keeps the new version by the plan must not be taken along by the change: a person says how it goes on.
        RolloutPhase::Failed if keeps_some(rollout) => Health::Progressing(format!(
            "failed, and earlier waves keep the new version: {}. Go on with `interlock rollout retry`, or return all with `interlock rollback`",
            message()
        )),
        RolloutPhase::Failed => Health::Failed(format!("failed: {}", message())),
        // No message of its own: that changes often, and each time the change would be written.
        RolloutPhase::Pending | RolloutPhase::Progressing | RolloutPhase::Promoting => {
            Health::Progressing("is under way; its status says more".to_owned())
        }
        phase => Health::Progressing(format!("is {phase:?}; its status says more")),
    }
}

/// Whether earlier waves of a Rollout that failed keep the new version.
fn keeps_some(rollout: &Value) -> bool {
    let waves = rollout.pointer("/status/waves").and_then(Value::as_array).into_iter().flatten();
    waves.into_iter().any(|wave| wave.get("phase").and_then(Value::as_str) == Some("Complete"))
}

/// Positions of what the waves of a Rollout went on without: workloads that went back, and the
/// configuration that they got copies of.
pub fn missed(rollout: &Value, before: &BeforeState) -> Vec<usize> {
    let waves = rollout.pointer("/status/waves").and_then(Value::as_array).into_iter().flatten();
    let missed =
        waves.filter_map(|wave| serde_json::from_value::<Vec<RolloutTarget>>(wave.get("missed")?.clone()).ok());
    let missed: Vec<_> = missed.flatten().map(|target| rollout::live::workload_id(&target)).collect();
    let workloads: Vec<_> = before
        .entries
        .iter()
        .filter(|entry| entry.gradual && missed.iter().any(|workload| entry.id.same_object(workload)))
        .collect();
    // Configuration went with the one workload that got copies of it, whoever else reads it.
    let release = before.entries.iter().find(|entry| entry.is_rollout());
    let namespace = release.and_then(|entry| entry.id.namespace.as_deref()).unwrap_or_default();
    let plan = before.rollout_plan.as_ref();
    let copies = |id: &ObjectId| plan.is_none_or(|plan| super::fit::copies_configuration(plan, namespace, id));
    let is_missed = |entry: &Entry| {
        let took = |workload: &Entry| copies(&workload.id) && super::reads(workload, entry);
        workloads.iter().any(|workload| workload.id.same_object(&entry.id) || took(workload))
    };
    let positions = before.entries.iter().enumerate().filter(|(_, entry)| entry.gradual && is_missed(entry));
    positions.map(|(position, _)| position).collect()
}

/// Whether everything that the Rollout wrote is as before.
pub fn has_returned(rollout: &Value) -> bool {
    phase_of(rollout) == RolloutPhase::RolledBack
}

/// Whether a Rollout that had gone back or failed is on its way again, or has arrived.
pub fn runs_again(rollout: &Value) -> bool {
    !matches!(phase_of(rollout), RolloutPhase::Aborting | RolloutPhase::RolledBack | RolloutPhase::Failed)
}

/// Why the Rollout of a change is to go back; none while the change goes forward.
pub fn return_asked(run: &RunRecord) -> Option<String> {
    let cause = run.cause.as_deref().unwrap_or("no reason was recorded");
    (run.direction == RunDirection::Back).then(|| format!("the change goes back: {cause}"))
}

/// What a Rollout releases, from the stored plan of its change. None for one with waves, which releases nothing itself.
pub fn target(rollout: &Rollout, before: &BeforeState) -> Option<TargetFacts> {
    let [target] = rollout.spec.targets.as_slice() else { return None };
    if rollout.spec.plan.waves.is_some() {
        return None;
    }
    let id = rollout::live::workload_id(target);
    let workload = before.entries.iter().find(|entry| entry.gradual && entry.id.same_object(&id))?;
    let read = before.entries.iter().filter(|entry| entry.gradual && super::reads(workload, entry));
    let configs = read.filter_map(config_of).collect();
    Some(TargetFacts::new(workload.before.clone()?, workload.expected.clone()?, configs))
}

/// Whether this Rollout is the one that the sealed plan of a run makes, or one that a wave of that one makes: whatever
/// else has its name is carried out by nobody. `parent` is the Rollout that it says it is part of.
pub fn belongs(rollout: &Rollout, parent: Option<&Rollout>, before: &BeforeState) -> bool {
    let manifest = match (&rollout.spec.part_of, parent) {
        (None, _) => before.entries.iter().find(|entry| entry.is_rollout()).and_then(|entry| entry.manifest.clone()),
        (Some(of), Some(parent)) if parent.metadata.uid.as_deref() == Some(of.uid.as_str()) => {
            let name = rollout.metadata.name.clone().unwrap_or_default();
            belongs(parent, None, before)
                .then(|| {
                    with_facts(parent, before, &LiveObjects::default(), |facts| waves::rollout_named(facts, &name))
                })
                .flatten()
        }
        (Some(_), _) => None,
    };
    let Some(planned) = manifest.and_then(|manifest| serde_json::from_value::<Rollout>(manifest).ok()) else {
        return false;
    };
    planned.metadata.name == rollout.metadata.name
        && planned.metadata.namespace == rollout.metadata.namespace
        && planned.spec == rollout.spec
}

/// Why a Rollout of a wave is to return, if it is.
pub fn wave_returns(rollout: &Rollout, parent: &Rollout) -> Option<String> {
    let status = parent.status.clone().unwrap_or_default();
    waves::return_asked(&status, &rollout.spec.part_of.as_ref()?.wave)
}

/// The wave of a Rollout that is part of another one.
pub fn wave_of<'a>(rollout: &Rollout, parent: &'a Rollout) -> Option<&'a Wave> {
    let name = &rollout.spec.part_of.as_ref()?.wave;
    parent.spec.plan.waves.iter().flatten().find(|wave| wave.name == *name)
}

/// The object from which writes of a Rollout are computed beside its target: the Service whose traffic it leads.
pub fn needs(rollout: &Rollout) -> Option<ObjectId> {
    let target = rollout.spec.targets.first()?;
    Some(ObjectId {
        group: String::new(),
        version: "v1".to_owned(),
        kind: "Service".to_owned(),
        namespace: Some(target.namespace.clone()),
        name: rollout::permit::own_service(&rollout.spec.plan)?.to_owned(),
    })
}

/// Whether a write of the executor is one that the Rollout of a running change announced, one of which [`belongs`] was
/// found true.
///
/// # Errors
/// Why it is refused.
pub fn permits(
    rollout: &Rollout,
    before: &BeforeState,
    live: &LiveObjects,
    request: &WriteRequest,
) -> Result<(), String> {
    if request.subresource.is_some() {
        return Err("a release writes no subresource".to_owned());
    }
    with_facts(rollout, before, live, |facts| {
        rollout::permitted(facts, request.old.as_ref(), request.object.as_ref()).map_err(|refusal| refusal.to_string())
    })
}

/// The object of this kind and name that a Rollout announced to create, before the server has filled it in.
pub fn announced(rollout: &Rollout, before: &BeforeState, live: &LiveObjects, kind: &str, name: &str) -> Option<Value> {
    with_facts(rollout, before, live, |facts| rollout::permit::announced(facts, kind, name))
}

fn with_facts<T>(
    rollout: &Rollout,
    before: &BeforeState,
    live: &LiveObjects,
    then: impl FnOnce(&RolloutFacts<'_>) -> T,
) -> T {
    let (target, status) = (target(rollout, before), rollout.status.clone().unwrap_or_default());
    then(&RolloutFacts {
        namespace: rollout.metadata.namespace.as_deref().unwrap_or_default(),
        name: rollout.metadata.name.as_deref().unwrap_or_default(),
        uid: rollout.metadata.uid.as_deref().unwrap_or_default(),
        generation: rollout.metadata.generation.unwrap_or_default(),
        deleting: rollout.metadata.deletion_timestamp.is_some(),
        spec: &rollout.spec,
        status: &status,
        change_active: true,
        target: target.as_ref(),
        live,
        analyses: &[],
        commands: &[],
        sign_offs: None,
        gates: &BTreeMap::new(),
        window: None,
        wave_windows: &BTreeMap::new(),
        superseded_by: None,
        known_good: None,
        return_asked: None,
        refused: None,
    })
}

/// Commands on the Rollout that count, in the order in which they were given: those of `given` that name it, and that its
/// change is resumed after it went back or failed.
pub fn commands(facts: &ChangeFacts<'_>, rollout: &Rollout, given: &[Command], now: Timestamp) -> Vec<CommandFact> {
    let uid = rollout.metadata.uid.as_deref().unwrap_or_default();
    let own = given.iter().filter(|command| command.target_uid == uid);
    let own = own.filter_map(|command| Some((command, verb(command.verb)?)));
    let resumed = resumed(facts, rollout).map(|command| (command, RolloutVerb::Retry));
    let mut counting: Vec<_> = own
        .chain(resumed)
        .filter(|(command, _)| counts(facts, command, now))
        .filter_map(|(command, verb)| {
            Some(CommandFact {
                // One admission request makes one Action.
                id: command.sealed.as_ref()?.request_uid.clone(),
                verb,
                actor: command.actor.clone(),
                reason: command.reason.clone(),
                at: command.created,
            })
        })
        .collect();
    counting.sort_by(|a, b| (a.at, &a.id).cmp(&(b.at, &b.id)));
    counting
}

/// The command by which somebody resumed the change since its Rollout went back or failed.
fn resumed<'a>(facts: &ChangeFacts<'a>, rollout: &Rollout) -> Option<&'a Command> {
    let status = rollout.status.as_ref()?;
    let is_asked =
        rollout.spec.part_of.is_none() && matches!(status.phase, RolloutPhase::RolledBack | RolloutPhase::Failed);
    let since = status.finished_at.as_ref().filter(|_| is_asked)?.0;
    let own = facts.commands.iter().filter(|command| command.target_uid == facts.request.uid);
    let resumes = own.filter(|command| command.verb == Verb::Resume && command.created >= since);
    resumes.max_by_key(|command| (command.created, command.name.as_str()))
}

/// What a command means on a Rollout.
fn verb(verb: Verb) -> Option<RolloutVerb> {
    Some(match verb {
        Verb::Abort => RolloutVerb::Abort,
        Verb::Rollback => RolloutVerb::Rollback,
        Verb::Pause => RolloutVerb::Pause,
        Verb::Resume => RolloutVerb::Resume,
        Verb::Promote => RolloutVerb::Promote,
        Verb::PromoteFully => RolloutVerb::PromoteFully,
        Verb::Skip => RolloutVerb::Skip,
        Verb::Retry => RolloutVerb::Retry,
        Verb::Withdraw | Verb::Rebase => return None,
    })
}

/// The window of the change as its Rollout sees it. None: the policy names no calendar. One that cannot be understood is
/// closed, and holds what runs.
pub fn window(calendar: &CalendarFacts) -> Option<WindowFact> {
    Some(match calendar {
        CalendarFacts::None => return None,
        CalendarFacts::Broken { name, why } => WindowFact {
            gate: GateFact { open: false, message: format!("Calendar {name}: {why}"), changes_at: None },
            overrun: Overrun::Pause,
        },
        CalendarFacts::Known { resolved, view, overrun, .. } => {
            let open = matches!(view.state, WindowState::Open { .. });
            let message = format!("Calendar {} is {}", resolved.name, if open { "open" } else { "closed" });
            let gate = GateFact { open, message, changes_at: view.valid_until };
            WindowFact { gate, overrun: *overrun }
        }
    })
}

/// The gate Window of steps. Without a calendar it is open, as it is for changes.
pub fn window_gate(window: Option<&WindowFact>) -> GateFact {
    window.map_or_else(
        || GateFact { open: true, message: "the policy names no calendar".to_owned(), changes_at: None },
        |window| window.gate.clone(),
    )
}

/// The gates for which steps of a change's Rollouts wait, of which this version knows the state.
pub fn step_gates(
    facts: &ChangeFacts<'_>,
    window: Option<&WindowFact>,
    now: Timestamp,
) -> BTreeMap<StepGate, GateFact> {
    let demands = facts.policy.and_then(|policy| gates::demands(&policy.spec, facts.request.spec.type_));
    let proof = demands.and_then(|demands| gates::restore_proof(&demands, facts, now)).map_or_else(
        || GateFact {
            open: false,
            message: "the policy does not say how old a proof may be; set its gates.restoreProof.maxAge".to_owned(),
            changes_at: None,
        },
        |gate| GateFact { open: gate.state == GateState::Open, message: gate.message, changes_at: gate.valid_until },
    );
    BTreeMap::from([(StepGate::Window, window_gate(window)), (StepGate::RestoreProof, proof)])
}

/// User names of those who may not sign steps and waves of a change: its requester, and whoever gave evidence for it.
pub fn contributors(facts: &ChangeFacts<'_>) -> BTreeSet<String> {
    let issuers = facts.evidence.iter().map(|evidence| &evidence.issuer).filter(|issuer| !is_machine(issuer));
    issuers.chain([&facts.request.spec.requester]).cloned().collect()
}

/// Whether nothing holds a change back but another one that runs.
pub fn is_ready(request: &RequestFacts) -> bool {
    let status = &request.status;
    let passes = |gate: &GateStatus| {
        gate.state == GateState::Open || !gate.enforced || gate.name == GateName::Collision.as_str()
    };
    !request.deleting
        && request.finished().is_none()
        && status.observed_generation == Some(request.generation)
        && status.change_digest.is_some()
        && !status.gates.is_empty()
        && status.gates.iter().all(passes)
}

/// Whether a change takes the place of one that runs and wants the same workload: it is newer, and ready or running.
pub fn supersedes(newer: &RequestFacts, older: &RequestFacts) -> bool {
    newer.uid != older.uid && newer.created > older.created && (newer.is_running() || is_ready(newer))
}
