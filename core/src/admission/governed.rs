//! Writes to the objects of governed Systems.

use std::sync::Arc;

use interlock_crds::{ChangePhase, GroupKind as KindRef, Mode, Rollout, RunRecord, SystemSpec};
use serde_json::Value;

use super::{Denial, Operation, Verdict, WriteRequest, denial, in_mode};
use crate::{
    change::{STAGED_SECRET_TYPE, before::BeforeState, content::GOVERNING_KINDS, derive, gradual},
    object::{GroupKind, PathPattern, diff},
    rollout::LiveObjects,
};

/// A change of the System that runs now, as read live.
#[derive(Clone, Debug)]
pub struct ActiveRun {
    /// `namespace/name`.
    pub key: String,
    /// Its sealed record.
    pub run: RunRecord,
    /// Its sealed plan.
    pub before: Arc<BeforeState>,
    /// Its Rollout, if it has one and the plan was read.
    pub rollout: Option<Rollout>,
    /// What the writes of the Rollout are computed from, as it is.
    pub live: LiveObjects,
}

/// A change that would write the object and still waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitingChange {
    /// `namespace/name`.
    pub key: String,
    /// Its phase.
    pub phase: ChangePhase,
    /// The gates that hold it.
    pub waiting_for: Option<String>,
}

/// What judging a write to a governed object looks at.
#[derive(Clone, Debug)]
pub struct GovernedFacts<'a> {
    /// Name of the System.
    pub system: &'a str,
    /// What it states.
    pub spec: &'a SystemSpec,
    /// Running changes of the System; read live if the writer is its executor.
    pub runs: &'a [ActiveRun],
    /// Changes that contain the object and have not started.
    pub waiting: &'a [WaitingChange],
}

/// Whether a write in the System passes whatever runs there: nobody needs to find out what does.
pub fn passes_anyway(spec: &SystemSpec, request: &WriteRequest) -> bool {
    !is_governed(spec, request)
        || is_staged_secret(request)
        || changes_nothing(request)
        || is_finalizer_removal(request)
}

/// Judges a write to an object of a governed namespace, or to a governed cluster-scoped object.
pub fn judge(facts: &GovernedFacts<'_>, request: &WriteRequest) -> Verdict {
    if passes_anyway(facts.spec, request) {
        return Verdict::allow();
    }
    let executor = facts
        .spec
        .executor
        .as_ref()
        .and_then(|e| e.service_account.as_ref())
        .map(interlock_crds::ServiceAccountRef::user);
    let refusal = if executor.as_deref() == Some(request.user.name.as_str()) {
        match by_executor(facts, request) {
            Ok(()) => return Verdict::allow(),
            Err(refusal) => refusal,
        }
    } else if trusted(facts.spec, request) {
        return Verdict::allow();
    } else {
        unapproved(facts, request)
    };
    in_mode(facts.spec.mode, request.dry_run, refusal)
}

/// Kinds that are always governed, because they make pods or are pods.
fn makes_pods(group: &str, kind: &str) -> bool {
    matches!(
        (group, kind),
        ("", "Pod" | "PodTemplate" | "ReplicationController")
            | ("apps", "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet")
            | ("batch", "Job" | "CronJob")
    )
}

fn is_governed(spec: &SystemSpec, request: &WriteRequest) -> bool {
    let removed = spec
        .governs
        .as_ref()
        .is_some_and(|g| g.remove.contains(&KindRef { group: request.group.clone(), kind: request.kind.clone() }));
    !removed || makes_pods(&request.group, &request.kind)
}

/// A staged Secret carries values of a change that is about to be proposed; nothing uses it until a change does.
fn is_staged_secret(request: &WriteRequest) -> bool {
    if !(request.group.is_empty() && request.kind == "Secret" && request.subresource.is_none()) {
        return false;
    }
    let staged = |object: Option<&Value>| {
        object.is_some_and(|o| {
            o.get("type").and_then(Value::as_str) == Some(STAGED_SECRET_TYPE)
                && o.get("immutable").and_then(Value::as_bool) == Some(true)
        })
    };
    match request.operation {
        // A name that a pod may mount could otherwise be filled by anybody before the change that should fill it.
        Operation::Create => {
            staged(request.object.as_ref()) && is_staging_name(request.name.as_deref().unwrap_or_default())
        }
        Operation::Update => staged(request.object.as_ref()) && staged(request.old.as_ref()),
        Operation::Delete => staged(request.old.as_ref()),
        Operation::Connect => false,
    }
}

/// `CHANGE-staged-N`, as `interlock propose` names them.
fn is_staging_name(name: &str) -> bool {
    name.rsplit_once("-staged-").is_some_and(|(change, number)| {
        !change.is_empty() && !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())
    })
}

/// Field ownership, resourceVersion and the like carry nothing.
fn changes_nothing(request: &WriteRequest) -> bool {
    let (Operation::Update, Some(old), Some(new)) = (request.operation, &request.old, &request.object) else {
        return false;
    };
    diff(&kind_of(request), &content_of(old), &content_of(new)).is_empty()
}

fn content_of(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        for field in ["managedFields", "resourceVersion", "generation"] {
            metadata.remove(field);
        }
    }
    object
}

/// An object that is being deleted may lose finalizers, and nothing else.
fn is_finalizer_removal(request: &WriteRequest) -> bool {
    let (Operation::Update, Some(old), Some(new)) = (request.operation, &request.old, &request.object) else {
        return false;
    };
    if old.pointer("/metadata/deletionTimestamp").is_none() {
        return false;
    }
    let without = |object: &Value| {
        let mut object = content_of(object);
        let finalizers =
            object.pointer_mut("/metadata").and_then(Value::as_object_mut).and_then(|m| m.remove("finalizers"));
        (object, finalizers.and_then(|f| f.as_array().cloned()).unwrap_or_default())
    };
    let ((old, before), (new, after)) = (without(old), without(new));
    diff(&kind_of(request), &old, &new).is_empty() && after.iter().all(|f| before.contains(f))
}

fn kind_of(request: &WriteRequest) -> GroupKind {
    GroupKind::new(&request.group, &request.kind)
}

fn by_executor(facts: &GovernedFacts<'_>, request: &WriteRequest) -> Result<(), Denial> {
    let mut why = Vec::new();
    for active in facts.runs {
        let Err(refusal) = derive::permits(&active.run, &active.before, request) else { return Ok(()) };
        let Some(rollout) = &active.rollout else {
            why.push(format!("change {} does not permit it: {refusal}", active.key));
            continue;
        };
        match gradual::permits(rollout, &active.before, &active.live, request) {
            Ok(()) => return Ok(()),
            Err(beyond) => {
                why.push(format!(
                    "change {} does not permit it: {refusal}; nor does its Rollout: {beyond}",
                    active.key
                ));
            }
        }
    }
    if why.is_empty() {
        why.push(format!("no change of System {} runs now", facts.system));
    }
    Err(denial(
        403,
        "BeyondChange",
        format!("{} may not {} {}: {}", request.user.name, request.operation, request.target(), why.join("; ")),
    ))
}

fn trusted(spec: &SystemSpec, request: &WriteRequest) -> bool {
    let kind = KindRef { group: request.group.clone(), kind: request.kind.clone() };
    let (Operation::Update, None, Some(old), Some(new)) =
        (request.operation, &request.subresource, &request.old, &request.object)
    else {
        return false;
    };
    spec.trusted_controllers.iter().filter(|t| t.user == request.user.name && t.kinds.contains(&kind)).any(|trust| {
        let patterns: Vec<PathPattern> = trust.paths.iter().filter_map(|p| p.parse().ok()).collect();
        diff(&kind_of(request), &content_of(old), &content_of(new))
            .iter()
            .all(|change| patterns.iter().any(|p| p.covers(&change.path)))
    })
}

fn unapproved(facts: &GovernedFacts<'_>, request: &WriteRequest) -> Denial {
    let what = match &request.subresource {
        Some(subresource) => format!("{} the {subresource} of {}", request.operation, request.target()),
        None => format!("{} {}", request.operation, request.target()),
    };
    let hint = if let Some(run) = facts.runs.first() {
        format!("change {} runs now, and only its executor writes", run.key)
    } else if let Some(change) = facts.waiting.first() {
        let gates = change.waiting_for.as_deref().unwrap_or("its start");
        let name = change.key.rsplit_once('/').map_or(change.key.as_str(), |(_, name)| name);
        let namespace = change.key.split_once('/').map_or("", |(namespace, _)| namespace);
        format!(
            "change {} would write it and waits for {gates}; see `interlock why cr/{name} -n {namespace}`",
            change.key
        )
    } else {
        "propose a change: `interlock propose -f FILE --reason WHY`".to_owned()
    };
    denial(
        403,
        "NoApprovedChange",
        format!(
            "{} may not {what}: System {} is governed by Interlock, and no approved change permits it; {hint}",
            request.user.name, facts.system
        ),
    )
}

/// Whether a kind lifts gates, so that the root System governs it.
pub fn is_governing(group: &str, kind: &str) -> bool {
    group == interlock_crds::GROUP && GOVERNING_KINDS.contains(&kind)
}

/// Own kinds that are governed with the System of their namespace: whoever edits them runs code on its data, or ends its
/// protection.
const GOVERNED_KINDS: [&str; 3] = ["BackupPolicy", "BackupRepository", "RestoreDrill"];

/// Whether the write is of an own kind that is governed with the System of its namespace.
pub fn is_own_and_governed(request: &WriteRequest) -> bool {
    request.group == interlock_crds::GROUP
        && request.subresource.is_none()
        && GOVERNED_KINDS.contains(&request.kind.as_str())
}

/// The mode in which a write to a governed object is judged, for metrics.
pub fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Audit => "audit",
        Mode::Warn => "warn",
        Mode::Enforce => "enforce",
    }
}
