//! Gray releases: what they may write beside what a change states, and in which order.

use std::sync::Arc;

use interlock_core::object::{ObjectId, Path, get, stated_paths};
use interlock_crds::{ChangeRequest, GROUP};
use interlock_sim::api::meta;
use serde_json::Value;

use super::{Start, Watchdog};
use crate::{cluster::Audit, world::World};

/// Deployments that a gradual change states.
fn deployments(change: &ChangeRequest) -> impl Iterator<Item = (ObjectId, &Value)> {
    let manifests = change.spec.content.manifests.iter().flatten().filter(|_| change.spec.rollout_plan_ref.is_some());
    manifests
        .filter_map(|manifest| Some((ObjectId::of(manifest).ok()?, manifest)))
        .filter(|(id, _)| id.kind == "Deployment")
}

fn canary_of(id: &ObjectId) -> ObjectId {
    ObjectId { name: format!("{}-canary", id.name), ..id.clone() }
}

fn number(object: &Value, pointer: &str) -> u64 {
    object.pointer(pointer).and_then(Value::as_u64).unwrap_or_default()
}

/// Whether a write is to the second Deployment of a running change, and gives it the pods that the change states; or to a
/// copy of a ConfigMap that it states.
pub(super) fn is_derived(dog: &Watchdog, audit: &Audit) -> bool {
    dog.running_changes().any(|start| {
        let second = deployments(&start.change).any(|(id, manifest)| {
            canary_of(&id).same_object(&audit.id)
                && audit.new.as_deref().is_none_or(|new| meta::is_terminating(new) || has_pods_of(new, manifest, &id))
        });
        second || is_copy(&start.change, audit)
    })
}

fn has_pods_of(canary: &Value, manifest: &Value, id: &ObjectId) -> bool {
    let pods = Path::of_keys(["spec", "template", "spec", "containers"]);
    let stated = stated_paths(&id.group_kind(), manifest);
    stated.iter().filter(|(path, _)| path.is_within(&pods)).all(|(path, value)| get(canary, path) == Some(value))
}

fn is_copy(change: &ChangeRequest, audit: &Audit) -> bool {
    let manifests = change.spec.content.manifests.iter().flatten().filter(|_| change.spec.rollout_plan_ref.is_some());
    let Some(new) = audit.new.as_deref().filter(|_| audit.id.kind == "ConfigMap") else {
        return audit.id.kind == "ConfigMap" && audit.new.is_none() && audit.old.as_deref().is_some_and(is_releases);
    };
    let mut of = manifests.filter(|m| {
        ObjectId::of(m).is_ok_and(|id| id.kind == "ConfigMap" && audit.id.name.starts_with(&format!("{}-", id.name)))
    });
    is_releases(new) && of.any(|manifest| manifest.get("data") == new.get("data"))
}

/// Whether a write leads traffic as a Rollout may: the Service that its plan names selects one version, or all again, and
/// nothing else of it changes; Services of its own select one version.
pub(super) fn leads_traffic(world: &World, audit: &Audit) -> bool {
    if audit.id.kind != "Service" {
        return false;
    }
    let rollouts = world.objects(GROUP, "Rollout");
    let of = |object: &Value| {
        object.pointer("/metadata/labels").and_then(|labels| labels.get("interlock.dev/rollout")).cloned()
    };
    if let Some(uid) = audit.new.as_deref().or(audit.old.as_deref()).and_then(of) {
        let selects_one = |new: &Value| new.pointer("/spec/selector/pod-template-hash").is_some();
        return rollouts.iter().any(|rollout| uid == meta::uid(rollout))
            && audit.new.as_deref().is_none_or(selects_one);
    }
    let named = rollouts.iter().any(|rollout| {
        let names = ["/spec/plan/blueGreen/service", "/spec/plan/canary/route/backend"];
        names.iter().any(|name| rollout.pointer(name).and_then(Value::as_str) == Some(&audit.id.name))
    });
    let rest = |object: Option<&Value>| {
        let mut rest = object.cloned()?;
        rest.pointer_mut("/spec/selector")?.as_object_mut()?.remove("pod-template-hash");
        rest.get_mut("metadata")?.as_object_mut()?.retain(|field, _| matches!(field.as_str(), "labels" | "name"));
        Some(rest)
    };
    named && rest(audit.old.as_deref()).is_some() && rest(audit.old.as_deref()) == rest(audit.new.as_deref())
}

/// Whether a write makes a Job that the plan of its Rollout states, as a step or as a measurement.
pub(super) fn is_planned_job(world: &World, audit: &Audit) -> bool {
    let Some(job) = audit.new.as_deref().filter(|_| audit.id.kind == "Job" && audit.old.is_none()) else {
        return false;
    };
    let of = job.pointer("/metadata/labels").and_then(|labels| labels.get("interlock.dev/rollout")?.as_str());
    let rollout = world.objects(GROUP, "Rollout").into_iter().find(|rollout| Some(meta::uid(rollout)) == of);
    let Some(plan) = rollout.as_deref().and_then(|rollout| rollout.pointer("/spec/plan")) else { return false };
    let list = |value: Option<&Value>| value.and_then(Value::as_array).cloned().unwrap_or_default();
    let steps = ["/canary/steps", "/blueGreen/steps"].into_iter().flat_map(|steps| list(plan.pointer(steps)));
    steps.chain(list(plan.get("analyses"))).filter_map(|one| one.pointer("/job/spec").cloned()).any(|spec| {
        let stated = serde_json::json!({ "spec": spec });
        let paths = stated_paths(&audit.id.group_kind(), &stated);
        !paths.is_empty() && paths.iter().all(|(path, value)| get(job, path) == Some(value))
    })
}

fn is_releases(object: &Value) -> bool {
    object.pointer("/metadata/labels").is_some_and(|labels| labels.get("interlock.dev/rollout").is_some())
}

fn rollout_of(world: &World, start: &Start) -> Option<Arc<Value>> {
    let uid = start.change.metadata.uid.as_deref()?;
    let mut all = world.objects(GROUP, "Rollout").into_iter();
    all.find(|rollout| rollout.pointer("/spec/changeRequest/uid").and_then(Value::as_str) == Some(uid))
}

/// The workload itself is given the new version only when every step of the Rollout is complete.
pub(super) fn steps_come_first(dog: &mut Watchdog, world: &World, audit: &Audit) -> Result<(), String> {
    if !audit.user.ends_with(":executor") {
        return Ok(());
    }
    for start in dog.running_changes() {
        let Some((_, manifest)) = deployments(&start.change).find(|(id, _)| id.same_object(&audit.id)) else {
            continue;
        };
        let became_new = |object: Option<&Value>| object.is_some_and(|object| has_pods_of(object, manifest, &audit.id));
        if !became_new(audit.new.as_deref()) || became_new(audit.old.as_deref()) {
            continue;
        }
        let rollout = rollout_of(world, start).ok_or_else(|| format!("{} was written without a Rollout", audit.id))?;
        let status = rollout.get("status").cloned().unwrap_or_default();
        if number(&status, "/steps") == 0 || number(&status, "/currentStep") < number(&status, "/steps") {
            return Err(format!("{} has the new version at step {}", audit.id, number(&status, "/currentStep")));
        }
    }
    Ok(())
}

/// What the executor writes for a canary leaves the old version as many replicas as it had.
pub(super) fn capacity_stays(dog: &mut Watchdog, _: &World, audit: &Audit) -> Result<(), String> {
    if !audit.user.ends_with(":executor") {
        return Ok(());
    }
    for start in dog.running_changes() {
        if !deployments(&start.change).any(|(id, _)| id.same_object(&audit.id)) {
            continue;
        }
        let before = start.before.get(&audit.id.key()).cloned().flatten();
        let had = before.as_deref().map_or(0, |before| number(before, "/spec/replicas"));
        let has = audit
            .new
            .as_deref()
            .filter(|new| !meta::is_terminating(new))
            .map_or(0, |new| number(new, "/spec/replicas"));
        if has < had {
            return Err(format!("{} has {has} replicas, and had {had}", audit.id));
        }
    }
    Ok(())
}

/// A gradual change that went back left no second Deployment.
pub(super) fn old_serves_alone(world: &World, start: &Start) -> Result<(), String> {
    for (id, _) in deployments(&start.change) {
        if world.live(&canary_of(&id)).is_some() {
            return Err(format!("{} is still there", canary_of(&id)));
        }
    }
    Ok(())
}
