//! How many ready pods serve while a release runs.

use std::sync::Arc;

use interlock_crds::GROUP;
use interlock_sim::api::meta;
use serde_json::Value;

use super::{Start, is_ready, number, text, traffic::weights, workloads};
use crate::{
    cluster::Audit,
    invariants::{A_MOMENT, Watchdog},
    world::World,
};

/// While a release runs, as many ready pods are behind what serves as when it began, less those that the workload itself, or
/// the plan's `failureThreshold`, lets be away. What a lost node took is not the release's doing.
pub(in crate::invariants) fn ready_pods_stay(dog: &mut Watchdog, world: &World, _: &Audit) -> Result<(), String> {
    if !dog.running_changes().any(|start| start.is_gradual) {
        return Ok(());
    }
    let now = world.instant();
    if world.objects("", "Node").iter().any(|node| !is_ready(node)) {
        dog.node_was_lost = Some(now);
    }
    if dog.node_was_lost.is_some_and(|at| now.duration_since(at) < A_MOMENT) {
        return Ok(());
    }
    let rollouts = world.objects(GROUP, "Rollout");
    let runs = |rollout: &Value| {
        let phase = text(rollout, "/status/phase");
        ["Progressing", "Paused", "Promoting", "Aborting", "Failed"].contains(&phase)
            && rollout.pointer("/status/start").is_some()
    };
    for rollout in rollouts.iter().filter(|rollout| runs(rollout)) {
        let of = text(rollout, "/spec/changeRequest/uid");
        let Some(start) = dog.started.get(of).filter(|_| dog.running.iter().any(|uid| uid == of)) else { continue };
        let Some(release) = Release::of(world, rollout) else { continue };
        let (Some(ready), needed) = (release.serving(world), release.needed(start)) else { continue };
        if ready < needed {
            return Err(format!("{ready} ready pods serve for {}, {needed} must", meta::name(&release.workload)));
        }
    }
    Ok(())
}

/// A Rollout of one workload that has begun.
struct Release<'a> {
    rollout: &'a Value,
    workload: Arc<Value>,
    kind: &'a str,
    namespace: &'a str,
}

impl<'a> Release<'a> {
    fn of(world: &World, rollout: &'a Value) -> Option<Self> {
        let target = |field: &str| text(rollout, &format!("/spec/targets/0/{field}"));
        let (kind, namespace) = (target("kind"), target("namespace"));
        let workload = world.object("apps", kind, namespace, target("name"))?;
        Some(Self { rollout, workload, kind, namespace })
    }

    /// How many ready pods must serve.
    fn needed(&self, start: &Start) -> u64 {
        let recorded = self.rollout.pointer("/status/start").unwrap_or(&Value::Null);
        let size = number(recorded, "/replicas");
        let had = recorded.get("ready").and_then(Value::as_u64).unwrap_or(size);
        // Fewer where the change itself says so, or somebody scaled the workload down.
        let manifest = workloads(&start.change).find(|(id, _)| {
            id.kind == self.kind
                && id.name == meta::name(&self.workload)
                && id.namespace.as_deref() == Some(self.namespace)
        });
        let stated = manifest.and_then(|(_, manifest)| manifest.pointer("/spec/replicas")?.as_u64());
        let has = self.workload.pointer("/spec/replicas").and_then(Value::as_u64);
        let kept = [stated, has].into_iter().flatten().fold(had, u64::min);
        kept.saturating_sub(self.may_be_away(recorded, size))
    }

    fn may_be_away(&self, recorded: &Value, size: u64) -> u64 {
        if self.kind == "Deployment" {
            return of_size(self.workload.pointer("/spec/strategy/rollingUpdate/maxUnavailable"), size, false);
        }
        let strategy: Value = serde_json::from_str(text(recorded, "/updateStrategy")).unwrap_or_default();
        let tolerated = size * number(self.rollout, "/spec/plan/batches/failureThreshold") / 100;
        of_size(strategy.pointer("/rollingUpdate/maxUnavailable"), size, true).max(1) + tolerated
    }

    /// Ready pods to which the release's Service or route leads; without one those of the workload and of the second
    /// Deployment. None while nobody knows where requests go.
    fn serving(&self, world: &World) -> Option<u64> {
        let mut pods = world.objects("", "Pod");
        pods.retain(|pod| meta::namespace(pod) == self.namespace && is_ready(pod));
        let count = if let Some(services) = self.led(world)? {
            pods.iter().filter(|pod| services.iter().any(|service| selects(service, pod))).count()
        } else {
            let name = format!("{}-canary", meta::name(&self.workload));
            let second = world.object("apps", "Deployment", self.namespace, &name);
            let both: Vec<&Value> = second.iter().chain([&self.workload]).map(|one| &**one).collect();
            let owners = owners(world, &both);
            let owner = |pod: &Value| text(pod, "/metadata/ownerReferences/0/uid").to_owned();
            pods.iter().filter(|pod| owners.contains(&owner(pod))).count()
        };
        Some(count as u64)
    }

    /// The Services that get requests; none if the release leads none. None at all if that cannot be seen.
    #[allow(clippy::option_option, reason = "both are answers")]
    fn led(&self, world: &World) -> Option<Option<Vec<Arc<Value>>>> {
        let plan = |pointer: &str| text(self.rollout, &format!("/spec/plan{pointer}"));
        let names = match (plan("/canary/route/backend"), plan("/blueGreen/service")) {
            ("", "") => return Some(None),
            ("", service) => vec![service.to_owned()],
            (backend, _) => {
                let route = format!("{}/{}", self.namespace, plan("/canary/route/httpRoute"));
                let shares = [backend.to_owned(), format!("{backend}-stable"), format!("{backend}-canary")];
                let weights = weights(world.gateway.in_effect(&route)?);
                shares.into_iter().filter(|share| weights.get(share).is_some_and(|weight| *weight > 0)).collect()
            }
        };
        let services: Option<Vec<_>> =
            names.iter().map(|name| world.object("", "Service", self.namespace, name)).collect();
        services.filter(|found| !found.is_empty()).map(Some)
    }
}

/// Uids of what owns the pods of workloads: they themselves, and their ReplicaSets.
pub(super) fn owners(world: &World, workloads: &[&Value]) -> Vec<String> {
    let mut owners: Vec<_> = workloads.iter().map(|workload| meta::uid(workload).to_owned()).collect();
    let mut sets = world.objects("apps", "ReplicaSet");
    sets.retain(|set| owners.iter().any(|uid| uid == text(set, "/metadata/ownerReferences/0/uid")));
    owners.extend(sets.iter().map(|set| meta::uid(set).to_owned()));
    owners
}

/// A number or a percentage of a size.
fn of_size(stated: Option<&Value>, size: u64, up: bool) -> u64 {
    let percent = stated.and_then(Value::as_str).and_then(|text| text.strip_suffix('%')?.parse::<u64>().ok());
    match percent {
        Some(percent) if up => (size * percent).div_ceil(100),
        Some(percent) => size * percent / 100,
        None => stated.and_then(Value::as_u64).unwrap_or(0),
    }
}

fn selects(service: &Value, pod: &Value) -> bool {
    let labels = pod.pointer("/metadata/labels");
    let selector = service.pointer("/spec/selector").and_then(Value::as_object);
    selector.is_some_and(|selector| {
        selector.iter().all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value))
    })
}
