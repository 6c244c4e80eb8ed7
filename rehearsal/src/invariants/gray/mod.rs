//! Gray releases: what they may write beside what a change states, and in which order.

mod derived;
mod ready;
mod signed;
mod traffic;
mod waves;

use std::sync::Arc;

use interlock_core::object::ObjectId;
use interlock_crds::{ChangeRequest, GROUP, Rollout, RolloutPhase, RolloutPlanSpec, RolloutStep};
use interlock_sim::api::meta;
use serde_json::Value;

pub(super) use derived::{beside_strategy, is_derived};
pub(super) use ready::ready_pods_stay;
pub(super) use signed::steps_are_signed;
pub(super) use traffic::{Ready, pods_go_after_their_traffic, services_follow_ready_pods, weights_follow_endpoints};
pub(super) use waves::waves_begin_in_turn;

use super::{Start, Watchdog};
use crate::{cluster::Audit, world::World};

/// Workloads that a change states, with their manifests.
fn workloads(change: &ChangeRequest) -> impl Iterator<Item = (ObjectId, &Value)> {
    let manifests = change.spec.content.manifests.iter().flatten();
    manifests
        .filter_map(|manifest| Some((ObjectId::of(manifest).ok()?, manifest)))
        .filter(|(id, _)| matches!(id.kind.as_str(), "Deployment" | "StatefulSet" | "DaemonSet"))
}

fn deployments(change: &ChangeRequest) -> impl Iterator<Item = (ObjectId, &Value)> {
    workloads(change).filter(|(id, _)| id.kind == "Deployment")
}

fn canary_of(id: &ObjectId) -> ObjectId {
    ObjectId { name: format!("{}-canary", id.name), ..id.clone() }
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn number(object: &Value, pointer: &str) -> u64 {
    object.pointer(pointer).and_then(Value::as_u64).unwrap_or_default()
}

fn is_releases(object: &Value) -> bool {
    object.pointer("/metadata/labels").is_some_and(|labels| labels.get("interlock.dev/rollout").is_some())
}

/// The Rollouts of a change.
fn of_change(world: &World, change: &ChangeRequest) -> Vec<Rollout> {
    let uid = change.metadata.uid.as_deref();
    let all = world.objects(GROUP, "Rollout").into_iter();
    all.filter(|rollout| rollout.pointer("/spec/changeRequest/uid").and_then(Value::as_str) == uid)
        .filter_map(|rollout| parsed(&rollout))
        .collect()
}

fn parsed(object: &Arc<Value>) -> Option<Rollout> {
    serde_json::from_value((**object).clone()).ok()
}

/// The Rollout of a change that releases one workload.
fn rollout_of(world: &World, start: &Start, workload: &ObjectId) -> Option<Rollout> {
    let is_target = |rollout: &Rollout| {
        rollout.spec.plan.waves.is_none()
            && rollout.spec.targets.iter().any(|target| {
                target.name == workload.name
                    && Some(&target.namespace) == workload.namespace.as_ref()
                    && format!("{:?}", target.kind) == workload.kind
            })
    };
    let mut all = of_change(world, &start.change);
    all.retain(is_target);
    // A later attempt is another Rollout.
    all.into_iter().max_by_key(|rollout| rollout.metadata.creation_timestamp.clone())
}

/// The Services whose traffic a release leads.
fn own_services(rollout: &Rollout) -> Vec<String> {
    let plan = &rollout.spec.plan;
    let route = plan.canary.as_ref().and_then(|canary| canary.route.as_ref()).map(|route| route.backend.clone());
    route.into_iter().chain(plan.blue_green.as_ref().map(|plan| plan.service.clone())).collect()
}

/// The Services that a release makes.
fn shares_of(rollout: &Rollout) -> Vec<String> {
    let own = own_services(rollout);
    let mut shares: Vec<_> = own.iter().flat_map(|own| [format!("{own}-stable"), format!("{own}-canary")]).collect();
    shares.extend(own.iter().map(|own| format!("{own}-preview")));
    shares.extend(rollout.spec.plan.blue_green.as_ref().and_then(|plan| plan.preview_service.clone()));
    shares
}

fn steps(plan: &RolloutPlanSpec) -> &[RolloutStep] {
    let canary = plan.canary.as_ref().map(|canary| canary.steps.as_slice());
    let blue_green = plan.blue_green.as_ref().map(|plan| plan.steps.as_slice());
    canary.or(blue_green).or(plan.batches.as_ref().map(|plan| plan.steps.as_slice())).unwrap_or_default()
}

/// How many pods of a workload in batches may have the new version: what the steps up to this one say.
fn batch(steps: &[RolloutStep], at: usize, size: u64) -> u64 {
    let of_step = |step: &RolloutStep| {
        let weight = step.set_weight.map(|weight| (size * u64::from(weight)).div_ceil(100));
        step.set_replicas.map(u64::from).or(weight)
    };
    steps.iter().take(at + 1).filter_map(of_step).next_back().unwrap_or(0)
}

/// A Deployment is given the new version only when every step of its Rollout is complete; of a StatefulSet and a DaemonSet
/// no more pods than the steps so far say.
pub(super) fn steps_come_first(dog: &mut Watchdog, world: &World, audit: &Audit) -> Result<(), String> {
    if !audit.user.ends_with(":executor") {
        return Ok(());
    }
    if audit.id.kind == "Pod" {
        return pods_go_in_batches(dog, world, audit);
    }
    for start in dog.running_changes().filter(|start| start.is_gradual) {
        let Some((_, manifest)) = workloads(&start.change).find(|(id, _)| id.same_object(&audit.id)) else {
            continue;
        };
        let is_new =
            |object: Option<&Value>| object.is_some_and(|object| derived::has_pods_of(object, manifest, &audit.id));
        let before = start.before.get(&audit.id.key()).cloned().flatten();
        if !is_new(audit.new.as_deref()) || is_new(before.as_deref()) {
            continue;
        }
        let rollout =
            rollout_of(world, start, &audit.id).ok_or_else(|| format!("{} was written without a Rollout", audit.id))?;
        let status = rollout.status.clone().unwrap_or_default();
        let steps = steps(&rollout.spec.plan);
        let (all, at) = (steps.len(), status.current_step as usize);
        match audit.id.kind.as_str() {
            "Deployment" if !is_new(audit.old.as_deref()) && (status.steps == 0 || at < all) => {
                return Err(format!("{} has the new version at step {at} of {all}", audit.id));
            }
            "StatefulSet" if at < all => {
                let (size, new) = (
                    number_of(audit, "/spec/replicas"),
                    number_of(audit, "/spec/updateStrategy/rollingUpdate/partition"),
                );
                let most = batch(steps, at, size);
                if size.saturating_sub(new) > most {
                    return Err(format!("{} has partition {new} of {size}, and {most} may be new", audit.id));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Pods of a DaemonSet that still have the old version are deleted only as far as the steps so far say.
fn pods_go_in_batches(dog: &Watchdog, world: &World, audit: &Audit) -> Result<(), String> {
    let Some(pod) = audit.old.as_deref() else { return Ok(()) };
    let owner = ObjectId {
        group: "apps".to_owned(),
        kind: text(pod, "/metadata/ownerReferences/0/kind").to_owned(),
        name: text(pod, "/metadata/ownerReferences/0/name").to_owned(),
        ..audit.id.clone()
    };
    for start in dog.running_changes().filter(|start| start.is_gradual && owner.kind == "DaemonSet") {
        let Some((_, manifest)) = workloads(&start.change).find(|(id, _)| id.same_object(&owner)) else { continue };
        let wanted = images(manifest.pointer("/spec/template/spec"));
        let Some(rollout) = rollout_of(world, start, &owner) else { continue };
        let status = rollout.status.clone().unwrap_or_default();
        let steps = steps(&rollout.spec.plan);
        let at = status.current_step as usize;
        if images(pod.get("spec")) == wanted || status.phase == RolloutPhase::Aborting || at >= steps.len() {
            continue;
        }
        let uid = text(pod, "/metadata/ownerReferences/0/uid");
        let pods = world.objects("", "Pod");
        let is_old = |other: &Value| {
            text(other, "/metadata/ownerReferences/0/uid") == uid
                && !meta::is_terminating(other)
                && images(other.get("spec")) != wanted
        };
        let left = pods.iter().filter(|other| is_old(other)).count() as u64;
        let size = status.start.as_ref().map_or(0, |start| u64::from(start.replicas));
        let most = batch(steps, at, size);
        if size.saturating_sub(left) > most {
            return Err(format!("{} goes: {left} of {size} are old, and {most} may be new", audit.id));
        }
    }
    Ok(())
}

/// Images of a pod's containers.
fn images(spec: Option<&Value>) -> Vec<&str> {
    let containers = spec.and_then(|spec| spec.get("containers")?.as_array());
    containers.into_iter().flatten().map(|container| text(container, "/image")).collect()
}

/// Every pod of a workload that this change wrote last has the version that the workload states.
pub(super) fn one_version_runs(dog: &Watchdog, world: &World, start: &Start, uid: &str) -> Result<(), String> {
    for (id, _) in workloads(&start.change).filter(|_| start.is_gradual) {
        let key = id.key();
        if dog.written.keys().any(|(other, written)| other != uid && *written == key) {
            continue;
        }
        let Some(workload) = world.live(&id) else { continue };
        let stated = images(workload.pointer("/spec/template/spec"));
        let owners = ready::owners(world, &[&workload]);
        let is_other = |pod: &&Arc<Value>| {
            let owner = text(pod, "/metadata/ownerReferences/0/uid");
            owners.iter().any(|uid| uid == owner) && !meta::is_terminating(pod) && images(pod.get("spec")) != stated
        };
        if let Some(pod) = world.objects("", "Pod").iter().find(is_other) {
            return Err(format!(
                "pod {} of {id} has {:?}, and {stated:?} is stated",
                meta::name(pod),
                images(pod.get("spec"))
            ));
        }
    }
    Ok(())
}

fn number_of(audit: &Audit, pointer: &str) -> u64 {
    audit.new.as_deref().map_or(0, |object| number(object, pointer))
}

/// What the executor writes for a release leaves the old version as many replicas as it had.
pub(super) fn capacity_stays(dog: &mut Watchdog, _: &World, audit: &Audit) -> Result<(), String> {
    if !audit.user.ends_with(":executor") {
        return Ok(());
    }
    for start in dog.running_changes().filter(|start| start.is_gradual) {
        let Some((_, manifest)) = deployments(&start.change).find(|(id, _)| id.same_object(&audit.id)) else {
            continue;
        };
        let before = start.before.get(&audit.id.key()).cloned().flatten();
        let had = before.as_deref().map_or(0, |before| number(before, "/spec/replicas"));
        // Fewer only where the change itself says so.
        let had = manifest.pointer("/spec/replicas").and_then(Value::as_u64).map_or(had, |stated| had.min(stated));
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

fn is_ready(pod: &Value) -> bool {
    let conditions = pod.pointer("/status/conditions").and_then(Value::as_array);
    !meta::is_terminating(pod)
        && conditions.into_iter().flatten().any(|c| text(c, "/type") == "Ready" && text(c, "/status") == "True")
}

/// Whether a release waits for what only people can give: a signature, a promotion, a decision, or an object.
pub(super) fn waits_for_people(world: &World, start: &Start) -> bool {
    const SIGNS: [&str; 6] = [
        "with `interlock rollout",
        "until somebody promotes",
        "does not exist",
        "is in the way",
        "keep the new version",
        "does not select",
    ];
    of_change(world, &start.change).iter().any(|rollout| {
        let status = rollout.status.clone().unwrap_or_default();
        let waits = matches!(status.phase, RolloutPhase::Paused | RolloutPhase::Pending | RolloutPhase::Failed);
        waits && SIGNS.iter().any(|sign| status.message.as_deref().is_some_and(|message| message.contains(sign)))
    })
}

/// A gradual change that has ended left nothing temporary: no second Deployment, no Service of a share, no version that a
/// Service selects, no share in a route, no autoscaler held.
pub(super) fn nothing_is_left(world: &World, start: &Start) -> Result<(), String> {
    for (id, _) in deployments(&start.change).filter(|_| start.is_gradual) {
        // A later release of the same workload may be under way, or wait for a person.
        let of_another = |canary: &Arc<Value>| {
            let of = text(canary, "/metadata/labels/interlock.dev~1rollout");
            let own = of_change(world, &start.change);
            let own = own.iter().any(|rollout| rollout.metadata.uid.as_deref() == Some(of));
            !own && world.objects(GROUP, "Rollout").iter().any(|rollout| meta::uid(rollout) == of)
        };
        if world.live(&canary_of(&id)).is_some_and(|canary| !of_another(&canary)) {
            return Err(format!("{} is still there", canary_of(&id)));
        }
    }
    for rollout in of_change(world, &start.change) {
        let uid = rollout.metadata.uid.clone().unwrap_or_default();
        let is_ours = |object: &Arc<Value>| text(object, "/metadata/labels/interlock.dev~1rollout") == uid;
        for (group, kind) in [("", "Service"), ("", "ConfigMap"), ("", "Secret"), ("apps", "Deployment")] {
            if let Some(left) = world.objects(group, kind).iter().find(|object| is_ours(object)) {
                return Err(format!("{kind} {} is still there", meta::name(left)));
            }
        }
        let namespaces: Vec<_> = rollout.spec.targets.iter().map(|target| target.namespace.as_str()).collect();
        for own in own_services(&rollout) {
            for namespace in &namespaces {
                let service = world.object("", "Service", namespace, &own);
                if service.is_some_and(|own| own.pointer("/spec/selector/pod-template-hash").is_some()) {
                    return Err(format!("Service {own} still selects one version"));
                }
            }
            let routes = world.objects("gateway.networking.k8s.io", "HTTPRoute");
            let canary = format!("{own}-canary");
            if let Some(route) =
                routes.iter().find(|route| route.pointer("/spec").is_some_and(|s| mentions(s, &canary)))
            {
                return Err(format!("HTTPRoute {} still sends to {canary}", meta::name(route)));
            }
        }
    }
    Ok(())
}

fn mentions(value: &Value, name: &str) -> bool {
    match value {
        Value::String(text) => text == name,
        Value::Array(all) => all.iter().any(|value| mentions(value, name)),
        Value::Object(all) => all.values().any(|value| mentions(value, name)),
        _ => false,
    }
}
