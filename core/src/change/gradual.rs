//! What of a change is carried out gradually, by which plan, and what ties its Rollout to it.
//!
//! A RolloutPlan that votes are bound to stands in the stored plan of the run ([`BeforeState::rollout_plan`]), and so does
//! the Rollout itself, as one more entry: the run creates it in its place in the order, and waits for it. Entries that
//! are `gradual` are the Rollout's to write and to put back; the run leaves them alone.

mod fit;
mod ties;

use interlock_crds::{
    ChangeRequestRef, EnforceMode, OperationKind, Rollout, RolloutPlanSpec, RolloutSpec, RolloutStep, RolloutTarget,
    StepGate, Wave, WorkloadKind,
};
use serde_json::{Value, json};

pub use ties::{
    announced, belongs, commands, contributors, has_returned, is_ready, missed, needs, permits, progress, return_asked,
    runs_again, step_gates, supersedes, target, wave_of, wave_returns, window, window_gate,
};

use super::{
    before::{BeforeState, Entry},
    content::Problem,
    facts::{Effect, EffectKind, PlanFacts, RequestFacts},
    gates::Demands,
};
use crate::{
    analysis,
    object::{GroupKind, ObjectId, Path},
    rollout::{ConfigTarget, derive::config, measure, pass::Strategy, waves},
};

/// Finalizer of a Rollout: it stays until routes and workloads are as they should be.
pub const FINALIZER: &str = "interlock.dev/rollout";

/// What a plan asks for that this version does not carry out; none if it can be used.
pub fn unsupported(plan: &RolloutPlanSpec) -> Option<String> {
    if let Some(why) = measure::wrong(plan) {
        return Some(why);
    }
    let Some(waves) = &plan.waves else { return unsupported_strategy(plan) };
    let of_wave = |wave: &Wave| {
        let why = unsupported_strategy(&waves::plan_of(plan, wave)).or_else(|| fit::misplaced(plan, wave))?;
        Some(format!("wave {}: {why}", wave.name))
    };
    fit::shared(plan).or_else(|| waves.iter().find_map(of_wave))
}

/// What keeps a stored plan from being carried out as it is written: a reason in one word, and a sentence. Admission has
/// refused the first kind, unless it was away or is newer than the plan.
pub fn wrong_with(plan: &RolloutPlanSpec, has_calendar: impl Fn(&str) -> bool) -> Option<(&'static str, String)> {
    if let Some(why) = unsupported(plan) {
        return Some(("BadRolloutPlan", why));
    }
    let missing = |wave: &Wave| {
        let name = &wave.calendar_ref.as_ref()?.name;
        (!has_calendar(name)).then(|| format!("wave {}: Calendar {name} does not exist: it will not begin", wave.name))
    };
    plan.waves.iter().flatten().find_map(missing).map(|why| ("NoCalendar", why))
}

fn unsupported_strategy(plan: &RolloutPlanSpec) -> Option<String> {
    let Some(strategy) = Strategy::of(plan) else {
        return Some("it states no strategy: give canary, blueGreen, batches or waves".to_owned());
    };
    let unsupported = strategy.steps().iter().enumerate().find_map(unsupported_step);
    unsupported.or_else(|| impossible(plan, strategy.steps()))
}

/// Steps that could never be complete, or never begin. The schema sees each step alone.
fn impossible(plan: &RolloutPlanSpec, steps: &[RolloutStep]) -> Option<String> {
    let canary = plan.canary.as_ref();
    if let Some(background) = canary.and_then(|canary| canary.background.as_ref())
        && background.starting_step as usize >= steps.len()
    {
        let (begins, count) = (background.starting_step, steps.len());
        return Some(format!(
            "background begins with step {begins}, and there are {count}, counted from 0: it would never begin"
        ));
    }
    if plan.batches.is_some()
        && let Some(why) = shrinks(steps)
    {
        return Some(why);
    }
    let most = canary.and_then(|canary| canary.max_canary_replicas);
    steps.iter().enumerate().find_map(|(position, step)| {
        if let (Some(replicas), Some(most)) = (step.set_replicas, most)
            && replicas > most
        {
            return Some(format!(
                "step {position} asks for {replicas} pods, and maxCanaryReplicas is {most}: raise it, or ask for less"
            ));
        }
        let job = step.job.as_ref()?;
        let containers = job.spec.pointer("/template/spec/containers").and_then(Value::as_array);
        containers.is_none_or(Vec::is_empty).then(|| {
            format!("job {} in step {position} has no containers: give spec.template.spec.containers", job.name)
        })
    })
}

/// A batch that is smaller than one before it.
fn shrinks(steps: &[RolloutStep]) -> Option<String> {
    let (mut percent, mut pods) = (0, 0);
    steps.iter().enumerate().find_map(|(position, step)| {
        let (most, asked, unit) = match (step.set_weight, step.set_replicas) {
            (Some(weight), _) => (&mut percent, u32::from(weight), "percent"),
            (None, Some(replicas)) => (&mut pods, replicas, "pods"),
            (None, None) => return None,
        };
        let before = std::mem::replace(most, asked);
        (asked < before).then(|| {
            format!(
                "step {position} asks for {asked} {unit} after {before}, and batches only grow, as pods are replaced in their place: ask for more, or leave it out"
            )
        })
    })
}

/// What a plan states that is probably not meant.
pub fn warnings(plan: &RolloutPlanSpec) -> Vec<String> {
    let found = plan.analyses.iter().flat_map(|one| analysis::validate(one).into_iter().map(move |found| (one, found)));
    found.map(|(one, found)| format!("analysis {}, {}: {}", one.name, found.field, found.message)).collect()
}

/// A step that no release could pass.
fn unsupported_step((position, step): (usize, &RolloutStep)) -> Option<String> {
    let name = step.gate?.name;
    if matches!(name, StepGate::Window | StepGate::RestoreProof) {
        return None;
    }
    Some(format!(
        "gate {name:?} in step {position} is not there yet: this version does not know its state, and what is unknown is closed; leave it out"
    ))
}

/// What keeps the plan itself from being used.
pub fn problem(plan: &PlanFacts) -> Option<Problem> {
    match plan {
        PlanFacts::None => None,
        PlanFacts::Missing { key, is_default: false } => Some(Problem::new(
            "NoRolloutPlan",
            format!("RolloutPlan {key} does not exist; create it or leave rolloutPlanRef out"),
        )),
        PlanFacts::Missing { key, is_default: true } => Some(Problem::new(
            "NoRolloutPlan",
            format!(
                "RolloutPlan {key}, the System's default, does not exist; create it or name another one with rolloutPlanRef"
            ),
        )),
        PlanFacts::Known { resolved, spec } => unsupported(spec)
            .map(|why| Problem::new("BadRolloutPlan", format!("RolloutPlan {} cannot be used: {why}", resolved.name))),
    }
}

/// Whether a step waits for a gate that the policy never opens to a change like this one, as it does not ask it.
pub fn unasked(plan: &PlanFacts, demands: &Demands<'_>) -> Option<Problem> {
    let PlanFacts::Known { resolved, spec } = plan else { return None };
    let asks = demands.gates.restore_proof.as_ref().is_some_and(|rule| rule.mode != EnforceMode::Off);
    let step = step_waiting(spec, StepGate::RestoreProof).filter(|_| !asks)?;
    Some(Problem::new(
        "BadRolloutPlan",
        format!(
            "{step} of RolloutPlan {} waits for gate RestoreProof, and the policy does not say how old a proof may be: set gates.restoreProof.maxAge for changes of this type, or leave the step out",
            resolved.name
        ),
    ))
}

/// The first step of a plan, or of one of its waves, that waits for the gate.
fn step_waiting(plan: &RolloutPlanSpec, gate: StepGate) -> Option<String> {
    let waiting = |plan: &RolloutPlanSpec| {
        let waits = |step: &RolloutStep| step.gate.is_some_and(|step| step.name == gate);
        let position = Strategy::of(plan)?.steps().iter().position(waits)?;
        Some(format!("step {position}"))
    };
    let of_wave = |wave: &Wave| Some(format!("wave {}, {}", wave.name, waiting(&waves::plan_of(plan, wave))?));
    waiting(plan).or_else(|| plan.waves.iter().flatten().find_map(of_wave))
}

/// Whether what the change does, as last read, does not fit the plan.
pub fn misfit(plan: &PlanFacts, namespace: &str, effects: &[Effect]) -> Option<Problem> {
    let PlanFacts::Known { resolved, spec } = plan else { return None };
    let template = Path::of_keys(["spec", "template"]);
    let covered = effects.iter().filter(|effect| {
        workload_kind(&effect.id).is_some()
            && matches!(&effect.kind, EffectKind::Update(changes) if changes.iter().any(|c| c.path.is_within(&template)))
    });
    let ids: Vec<_> = covered.map(|effect| &effect.id).collect();
    fit::refusal(&resolved.name, spec, namespace, &ids).map(|why| Problem::new("RolloutPlanDoesNotFit", why))
}

fn workload_kind(id: &ObjectId) -> Option<WorkloadKind> {
    match (id.group.as_str(), id.kind.as_str()) {
        ("apps", "Deployment") => Some(WorkloadKind::Deployment),
        ("apps", "StatefulSet") => Some(WorkloadKind::StatefulSet),
        ("apps", "DaemonSet") => Some(WorkloadKind::DaemonSet),
        _ => None,
    }
}

/// A ConfigMap or Secret that the change creates or updates.
fn config_of(entry: &Entry) -> Option<ConfigTarget> {
    let written = matches!(entry.operation, OperationKind::Create | OperationKind::Update);
    let is = entry.id.group.is_empty() && matches!(entry.id.kind.as_str(), "ConfigMap" | "Secret");
    (written && is)
        .then(|| ConfigTarget { before: entry.before.clone(), wanted: entry.expected.clone().unwrap_or_default() })
}

/// Whether the pods of a workload read a ConfigMap or Secret of the change.
fn reads(workload: &Entry, other: &Entry) -> bool {
    let (Some(wanted), Some(config)) = (&workload.expected, config_of(other)) else { return false };
    workload.id.namespace == other.id.namespace && config::uses_any(wanted, &[config])
}

/// Whether the change gives an existing workload new pods: another template, or another configuration.
fn gives_new_pods(before: &BeforeState, copies: bool, workload: &Entry) -> bool {
    let template = Path::of_keys(["spec", "template"]);
    workload_kind(&workload.id).is_some()
        && workload.operation == OperationKind::Update
        && (workload.changes.iter().any(|change| change.path.is_within(&template))
            || (copies && before.entries.iter().any(|other| reads(workload, other))))
}

/// Makes the stored plan of a run one that is carried out by a Rollout, if there is anything to release gradually.
///
/// # Errors
/// Why the RolloutPlan cannot carry it out.
pub fn plan_into(before: &mut BeforeState, plan: &PlanFacts, request: &RequestFacts) -> Result<(), String> {
    if let Some(problem) = problem(plan) {
        return Err(problem.message);
    }
    let PlanFacts::Known { resolved, spec } = plan else { return Ok(()) };
    let copies = |id: &ObjectId| fit::copies_configuration(spec, &request.namespace, id);
    let covered: Vec<Entry> =
        before.entries.iter().filter(|entry| gives_new_pods(before, copies(&entry.id), entry)).cloned().collect();
    let ids: Vec<_> = covered.iter().map(|entry| &entry.id).collect();
    if let Some(why) = fit::refusal(&resolved.name, spec, &request.namespace, &ids) {
        return Err(why);
    }
    let Some(first) = before.entries.iter().position(|entry| ids.contains(&&entry.id)) else { return Ok(()) };
    for entry in &mut before.entries {
        let readers: Vec<_> =
            covered.iter().filter(|workload| copies(&workload.id) && reads(workload, entry)).collect();
        if let [one, other, ..] = readers.as_slice() {
            return Err(format!(
                "{} {} is read by {} {} and {} {}, which are released one after the other, so that it cannot go with both: give each its own, or propose it as a change of its own",
                entry.id.kind, entry.id.name, one.id.kind, one.id.name, other.id.kind, other.id.name
            ));
        }
        entry.gradual = ids.contains(&&entry.id) || !readers.is_empty();
    }
    let rollout = rollout(before, spec, &ids, request).map_err(|error| error.to_string())?;
    before.entries.insert(first, rollout);
    before.rollout_plan = Some((**spec).clone());
    Ok(())
}

/// Name of the Rollout of a change: the same at every try, and another one for a change that is made again.
pub fn rollout_name(change: &str, uid: &str) -> String {
    let base: String = change.chars().take(200).collect();
    let uid: String = uid.chars().take(8).collect();
    format!("{}-{uid}", base.trim_end_matches(['-', '.']))
}

fn rollout(
    before: &BeforeState,
    plan: &RolloutPlanSpec,
    workloads: &[&ObjectId],
    request: &RequestFacts,
) -> Result<Entry, serde_json::Error> {
    let target = |id: &&ObjectId| {
        let (namespace, name) = (id.namespace.clone().unwrap_or_default(), id.name.clone());
        workload_kind(id).map(|kind| RolloutTarget { kind, namespace, name })
    };
    let mut rollout = Rollout::new(
        &rollout_name(&request.name, &request.uid),
        RolloutSpec {
            change_request: ChangeRequestRef { name: request.name.clone(), uid: request.uid.clone() },
            change_digest: before.change_digest.clone(),
            plan: plan.clone(),
            targets: workloads.iter().filter_map(target).collect(),
            part_of: None,
        },
    );
    rollout.metadata.namespace = Some(request.namespace.clone());
    rollout.metadata.finalizers = Some(vec![FINALIZER.to_owned()]);
    let mut manifest = serde_json::to_value(&rollout)?;
    if let Some(metadata) = manifest.get_mut("metadata").and_then(Value::as_object_mut) {
        let owner = json!({
            "apiVersion": interlock_crds::API_VERSION, "kind": "ChangeRequest", "name": request.name,
            "uid": request.uid, "controller": true, "blockOwnerDeletion": false,
        });
        metadata.insert("ownerReferences".to_owned(), json!([owner]));
    }
    Ok(Entry {
        id: ObjectId {
            group: interlock_crds::GROUP.to_owned(),
            version: interlock_crds::VERSION.to_owned(),
            kind: "Rollout".to_owned(),
            namespace: Some(request.namespace.clone()),
            name: rollout_name(&request.name, &request.uid),
        },
        operation: OperationKind::Create,
        before: None,
        expected: Some(manifest.clone()),
        manifest: Some(manifest),
        patch: false,
        changes: Vec::new(),
        gradual: false,
    })
}

/// The kind whose place in the order an entry takes: a Rollout takes that of its workload.
pub fn ordered_as(entry: &Entry) -> GroupKind {
    if entry.is_rollout() { GroupKind::new("apps", "Deployment") } else { entry.id.group_kind() }
}
