//! Backups: a slot has one run, whoever removes is alone with the repository, and outcomes stand.

use interlock_core::{
    backup::{
        observed,
        plan::{PLAN_VARIABLE, RunnerPlan},
        result::RunnerOperation,
    },
    drill::plan as drill,
    object::{Digest, canonical_json},
};
use interlock_crds::{Backup, DrillPhase, DrillRun, GROUP};
use serde_json::Value;

use super::Watchdog;
use crate::{cluster::Audit, port::CONTROLLER, world::World};

fn backup(object: Option<&Value>) -> Option<Backup> {
    serde_json::from_value(object?.clone()).ok()
}

/// No two Backups of one policy are for the same slot of the same schedule.
pub(super) fn one_run_a_slot(_: &mut Watchdog, world: &World, audit: &Audit) -> Result<(), String> {
    if audit.id.kind != "Backup" || audit.old.is_some() {
        return Ok(());
    }
    let Some(new) = backup(audit.new.as_deref()) else { return Ok(()) };
    let Some(slot) = &new.spec.slot else { return Ok(()) };
    let of_slot = world.objects(GROUP, "Backup");
    let of_slot = of_slot
        .iter()
        .filter_map(|object| backup(Some(object)))
        .filter(|other| other.spec.policy_uid == new.spec.policy_uid && other.spec.slot.as_ref() == Some(slot));
    match of_slot.count() {
        0 | 1 => Ok(()),
        runs => Err(format!("{runs} runs for slot {} of {}", slot.time.0, new.spec.policy_ref.name)),
    }
}

/// What a Job of Interlock's was told to do.
fn plan(job: &Value) -> Option<&str> {
    let containers = job.pointer("/spec/template/spec/containers")?.as_array()?;
    let mut variables = containers.iter().filter_map(|container| container.get("env")?.as_array()).flatten();
    let names = [PLAN_VARIABLE, drill::PLAN_VARIABLE];
    let is_plan =
        |variable: &&Value| variable.get("name").and_then(Value::as_str).is_some_and(|name| names.contains(&name));
    variables.find(is_plan)?.get("value")?.as_str()
}

/// Whether a Job removes something from its repository, or is alone with it for another reason; none if it is no Job of
/// Interlock's. With the address.
fn touches(job: &Value) -> Option<(bool, String)> {
    let text = plan(job)?;
    if let Ok(drill::DrillPlan { work: drill::DrillWork::Restore { repository, .. }, .. }) = serde_json::from_str(text)
    {
        return Some((false, repository));
    }
    let plan: RunnerPlan = serde_json::from_str(text).ok()?;
    Some((!matches!(plan.operation, RunnerOperation::Backup | RunnerOperation::Restore), plan.repository))
}

/// What people state of backups and drills is theirs: the controller writes no more than a status.
pub(super) fn specs_are_peoples(_: &mut Watchdog, _: &World, audit: &Audit) -> Result<(), String> {
    let kind = audit.id.kind.as_str();
    let is_stated = matches!(kind, "BackupPolicy" | "BackupRepository" | "RestoreDrill");
    let Some(new) = audit.new.as_deref().filter(|_| is_stated && audit.user == CONTROLLER) else { return Ok(()) };
    if audit.old.as_deref().and_then(|old| old.get("spec")) == new.get("spec") {
        return Ok(());
    }
    Err(format!("the controller wrote the spec of {kind} {}", audit.id.name))
}

/// When a Job appears, no other one that is not over touches the same repository, if one of both must be alone.
pub(super) fn removal_is_alone(_: &mut Watchdog, world: &World, audit: &Audit) -> Result<(), String> {
    if audit.id.kind != "Job" || audit.old.is_some() {
        return Ok(());
    }
    let Some((alone, address)) = audit.new.as_deref().and_then(touches) else { return Ok(()) };
    for other in world.objects("batch", "Job") {
        let name = other.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        let namespace = other.pointer("/metadata/namespace").and_then(Value::as_str);
        if name == audit.id.name || namespace != audit.id.namespace.as_deref() || observed::is_terminal(&other) {
            continue;
        }
        if let Some((other_alone, at)) = touches(&other)
            && at == address
            && (alone || other_alone)
        {
            return Err(format!("Job {} appears while Job {name} touches the same repository", audit.id.name));
        }
    }
    Ok(())
}

/// When a prune appears, it is not told to forget what a drill has been let in for and has not judged.
pub(super) fn nothing_needed_is_forgotten(_: &mut Watchdog, world: &World, audit: &Audit) -> Result<(), String> {
    if audit.id.kind != "Job" || audit.old.is_some() {
        return Ok(());
    }
    let told = audit.new.as_deref().and_then(plan).and_then(|text| serde_json::from_str::<RunnerPlan>(text).ok());
    let Some(told) = told.filter(|told| !told.forget.is_empty()) else { return Ok(()) };
    for object in world.objects(GROUP, "DrillRun") {
        let Ok(run) = serde_json::from_value::<DrillRun>((*object).clone()) else { continue };
        let status = run.status.unwrap_or_default();
        // One that waits may lose what it has chosen: it chooses anew.
        let needs = status.phase > DrillPhase::Queued && !status.phase.is_terminal();
        let Some(chosen) = status.chosen.filter(|_| needs) else { continue };
        if let Some(id) =
            told.forget.iter().find(|id| **id == chosen.snapshot_id || Some(*id) == chosen.base_id.as_ref())
        {
            let name = run.metadata.name.unwrap_or_default();
            return Err(format!("{} forgets {id}, which {name} needs ({:?})", audit.id.name, status.phase));
        }
    }
    Ok(())
}

/// A run that has not ended.
pub(super) fn under_way(world: &World) -> Option<String> {
    let runs = world.objects(GROUP, "Backup").into_iter().filter_map(|object| backup(Some(&object)));
    let mut open = runs.filter(|run| run.status.as_ref().is_none_or(|status| !status.phase.is_terminal()));
    open.next().map(|run| format!("{} has not ended: {:?}", run.metadata.name.unwrap_or_default(), run.status))
}

/// Phase, reason and recovery point of a run that has ended stay as they are.
pub(super) fn outcomes_stay(_: &mut Watchdog, _: &World, audit: &Audit) -> Result<(), String> {
    if audit.id.kind != "Backup" {
        return Ok(());
    }
    let (Some(old), Some(new)) = (backup(audit.old.as_deref()), backup(audit.new.as_deref())) else { return Ok(()) };
    let outcome = |backup: &Backup| {
        let status = backup.status.clone().unwrap_or_default();
        (status.phase, status.reason, status.point)
    };
    let (before, after) = (outcome(&old), outcome(&new));
    if before.0.is_terminal() && before != after {
        return Err(format!("{} was {before:?} and is {after:?}", audit.id.name));
    }
    Ok(())
}

/// Whether the executor made or ended the Job of a run or of a repository's upkeep that was announced before.
pub(super) fn is_job_of(world: &World, audit: &Audit) -> bool {
    if audit.id.kind != "Job" || audit.subresource.is_some() {
        return false;
    }
    let Some(job) = audit.new.as_deref().or(audit.old.as_deref()) else { return false };
    let owner = |field: &str| job.pointer(&format!("/metadata/ownerReferences/0/{field}")).and_then(Value::as_str);
    let (Some(kind), Some(name), Some(uid)) = (owner("kind"), owner("name"), owner("uid")) else { return false };
    let namespace = audit.id.namespace.as_deref().unwrap_or_default();
    let Some(owner) = world.object(GROUP, kind, namespace, name) else { return false };
    let name = |pointer: &str| owner.pointer(pointer).and_then(Value::as_str) == Some(audit.id.name.as_str());
    let known = match (kind, audit.old.is_none()) {
        ("Backup", _) => name("/status/job/name"),
        ("BackupRepository", true) => name("/status/active/name"),
        // What is over may go.
        ("BackupRepository", false) => !name("/status/active/name"),
        _ => false,
    };
    owner.pointer("/metadata/uid").and_then(Value::as_str) == Some(uid) && known
}

/// The owner that an object names, if it is there with that uid.
fn owner(world: &World, audit: &Audit, kind: &str) -> Option<Value> {
    let object = audit.new.as_deref().or(audit.old.as_deref())?;
    let text = |field: &str| object.pointer(&format!("/metadata/ownerReferences/0/{field}")).and_then(Value::as_str);
    let found = world.object(GROUP, kind, audit.id.namespace.as_deref().unwrap_or_default(), text("name")?)?;
    let is_owner = text("kind") == Some(kind) && found.pointer("/metadata/uid").and_then(Value::as_str) == text("uid");
    is_owner.then(|| (*found).clone())
}

/// Whether the executor made the writer of a heartbeat that its policy asks for and had announced, or takes one away.
pub(super) fn is_writer_of(world: &World, audit: &Audit) -> bool {
    if audit.id.kind != "Deployment" || audit.subresource.is_some() {
        return false;
    }
    let Some(policy) = owner(world, audit, "BackupPolicy") else { return false };
    let name = policy.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    let (Some(new), None) = (audit.new.as_deref(), audit.old.as_deref()) else {
        return audit.id.name == format!("{name}-heartbeat") && is_going(audit);
    };
    let conditions = policy.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten();
    let announced = conditions.into_iter().any(|condition| condition["type"] == "HeartbeatReady");
    let container = new.pointer("/spec/template/spec/containers/0");
    let plan = container.and_then(|container| container.pointer("/env/0/value")?.as_str()).unwrap_or_default();
    let plan: Value = serde_json::from_str(plan).unwrap_or_default();
    let of_policy = plan.get("policy") == policy.pointer("/metadata/uid");
    let only =
        new.pointer("/spec/template/spec/containers").and_then(Value::as_array).is_some_and(|all| all.len() == 1);
    audit.id.name == format!("{name}-heartbeat")
        && policy.pointer("/spec/heartbeat").is_some()
        && (announced, of_policy, only) == (true, true, true)
}

/// Whether the object is deleted, or is on its way there.
fn is_going(audit: &Audit) -> bool {
    audit.new.as_deref().is_none_or(|new| new.pointer("/metadata/deletionTimestamp").is_some())
}

/// Whether the executor stored manifests of a run as they were recorded before, or takes them away.
pub(super) fn are_manifests_of(world: &World, audit: &Audit) -> bool {
    if audit.id.kind != "Secret" || audit.subresource.is_some() {
        return false;
    }
    let Some(run) = owner(world, audit, "Backup") else { return false };
    let (Some(new), None) = (audit.new.as_deref(), audit.old.as_deref()) else { return is_going(audit) };
    let index = audit.id.name.rsplit_once("-objects-").and_then(|(_, index)| index.parse::<usize>().ok());
    let recorded = index.and_then(|index| run.pointer(&format!("/status/objects/chunks/{index}"))?.as_str());
    let data = new.get("data").and_then(|data| canonical_json(data).ok());
    data.is_some_and(|data| recorded == Some(Digest::of_bytes(&data).to_string().as_str()))
}
