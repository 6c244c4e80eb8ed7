//! What live objects say: versions, ready pods, accepted routes.

use std::collections::{BTreeMap, BTreeSet};

use interlock_crds::{RolloutSpec, RolloutTarget, WorkloadKind};
use serde_json::Value;

use super::{
    HASH_LABEL, ROLLOUT_LABEL,
    derive::{config, service, workload},
    facts::{LiveObjects, RolloutFacts, TargetFacts},
    measure,
    pass::Strategy,
    permit,
};
use crate::object::ObjectId;

/// What must be read before a decision. A kind is read in the namespace of the workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// One object.
    One(ObjectId),
    /// Every object of a kind: group, version, kind, namespace.
    All(&'static str, &'static str, &'static str, String),
    /// Those of them with these labels: `app=web,tier=front`.
    Labelled(&'static str, &'static str, &'static str, String, String),
    /// Those that belong to the object of this name, as [`crate::port::awaited_as`] has it; and the labels that they have.
    Of(ObjectId, Option<String>),
}

/// The labels that a workload's selector demands, as a selector; none if it demands more than labels.
fn selected_labels(workload: &Value) -> Option<String> {
    let selector = workload.pointer("/spec/selector")?;
    if selector.get("matchExpressions").and_then(Value::as_array).is_some_and(|all| !all.is_empty()) {
        return None;
    }
    let labels = selector.get("matchLabels")?.as_object().filter(|labels| !labels.is_empty())?;
    let pairs: Option<Vec<_>> = labels.iter().map(|(key, value)| Some(format!("{key}={}", value.as_str()?))).collect();
    Some(pairs?.join(","))
}

/// What must be read before a decision about a release of this workload. Beside these: [`jobs`],
/// and for a Rollout with waves the Rollouts that it made.
pub fn reads(spec: &RolloutSpec, target: &TargetFacts, rollout_uid: &str) -> Vec<Read> {
    let Some(workload) = spec.targets.first() else { return Vec::new() };
    let namespace = workload.namespace.clone();
    let one =
        |group: &str, version: &str, kind: &str, name: &str| Read::One(id(group, version, kind, &namespace, name));
    let all = |group, version, kind| Read::All(group, version, kind, namespace.clone());
    // What belongs to a workload has the labels of its selector, so that nobody else's is read.
    let labels = selected_labels(&target.before);
    let own = |group, version, kind| match &labels {
        Some(labels) => Read::Labelled(group, version, kind, namespace.clone(), labels.clone()),
        None => all(group, version, kind),
    };
    let endpoints = |service: &str| {
        let label = format!("kubernetes.io/service-name={service}");
        Read::Of(id("discovery.k8s.io", "v1", "EndpointSlice", &namespace, service), Some(label))
    };
    let autoscaler = id("autoscaling", "v2", "HorizontalPodAutoscaler", &namespace, &workload.name);
    let mut reads = vec![Read::One(workload_id(workload)), Read::Of(autoscaler, None)];
    let service_of = |name: &str| one("", "v1", "Service", name);
    match Strategy::of(&spec.plan) {
        Some(Strategy::Canary(canary)) => {
            if let Some(route) = &canary.route {
                reads.push(one("gateway.networking.k8s.io", "v1", "HTTPRoute", &route.http_route));
                let names =
                    [route.backend.clone(), service::stable_name(&route.backend), service::canary_name(&route.backend)];
                reads.extend(names.iter().flat_map(|name| [service_of(name), endpoints(name)]));
            }
        }
        Some(Strategy::BlueGreen(blue_green)) => {
            let preview =
                blue_green.preview_service.clone().unwrap_or_else(|| service::preview_name(&blue_green.service));
            let names = [blue_green.service.clone(), preview];
            reads.extend(names.iter().flat_map(|name| [service_of(name), endpoints(name)]));
        }
        Some(Strategy::Batches(_)) => {
            reads.extend([
                own("", "v1", "Pod"),
                all("policy", "v1", "PodDisruptionBudget"),
                own("apps", "v1", "ControllerRevision"),
            ]);
        }
        Some(Strategy::Waves(_)) | None => {}
    }
    if matches!(Strategy::of(&spec.plan), Some(Strategy::Canary(_) | Strategy::BlueGreen(_))) {
        let canary = workload::canary_name(&workload.name);
        let sets = |name: &str| Read::Of(id("apps", "v1", "ReplicaSet", &namespace, name), labels.clone());
        reads.extend([one("apps", "v1", "Deployment", &canary), sets(&workload.name), sets(&canary)]);
    }
    for object in &target.configs {
        if let Ok(own) = ObjectId::of(&object.wanted) {
            reads.push(one(&own.group, &own.version, &own.kind, &config::copy_name(&own.name, rollout_uid)));
            reads.push(Read::One(own));
        }
    }
    reads
}

/// What must be read before a decision about a release in waves: its workloads, and the Rollouts that it made.
pub fn reads_of_waves(facts: &RolloutFacts<'_>) -> Vec<Read> {
    let label = format!("{ROLLOUT_LABEL}={}", facts.uid);
    let own = Read::Labelled("interlock.dev", "v1alpha1", "Rollout", facts.namespace.to_owned(), label);
    super::waves::reads(facts).into_iter().map(Read::One).chain([own]).collect()
}

/// The Jobs that must be read beside [`reads`]: those of the current step, those that measure, those that were announced.
pub fn jobs(facts: &RolloutFacts<'_>) -> Vec<ObjectId> {
    let announced = facts.status.journal.iter().chain(&facts.status.unsettled).filter(|entry| entry.kind == "Job");
    let mut jobs: Vec<_> = announced.map(|entry| id("batch", "v1", "Job", &entry.namespace, &entry.name)).collect();
    jobs.extend(measure::reads(facts));
    let step = permit::step_job(facts, facts.status.current_step as usize);
    jobs.extend(step.ok().and_then(|job| ObjectId::of(&job).ok()));
    jobs.sort_by_key(ObjectId::key);
    jobs.dedup();
    jobs
}

pub(super) fn id(group: &str, version: &str, kind: &str, namespace: &str, name: &str) -> ObjectId {
    ObjectId {
        group: group.to_owned(),
        version: version.to_owned(),
        kind: kind.to_owned(),
        namespace: Some(namespace.to_owned()),
        name: name.to_owned(),
    }
}

/// The identity of a workload of the change.
pub fn workload_id(target: &RolloutTarget) -> ObjectId {
    let kind = match target.kind {
        WorkloadKind::Deployment => "Deployment",
        WorkloadKind::StatefulSet => "StatefulSet",
        WorkloadKind::DaemonSet => "DaemonSet",
    };
    id("apps", "v1", kind, &target.namespace, &target.name)
}

/// The text at a JSON pointer; empty if there is none.
pub fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The count at a JSON pointer; the API leaves zeros out.
pub fn count(object: &Value, pointer: &str) -> u32 {
    object.pointer(pointer).and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok()).unwrap_or(0)
}

/// Replicas that are asked for; the API's default is one.
pub fn replicas(object: &Value) -> u32 {
    object.pointer("/spec/replicas").map_or(1, |_| count(object, "/spec/replicas"))
}

/// A label of an object.
pub fn label<'a>(object: &'a Value, name: &str) -> &'a str {
    object.pointer("/metadata/labels").and_then(|labels| labels.get(name)).and_then(Value::as_str).unwrap_or_default()
}

/// Whether an object is being deleted.
pub fn is_deleting(object: &Value) -> bool {
    object.pointer("/metadata/deletionTimestamp").is_some_and(|at| !at.is_null())
}

/// Whether the controller of an object has seen its newest generation.
pub fn is_observed(object: &Value) -> bool {
    let generation = object.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or(0);
    object.pointer("/status/observedGeneration").and_then(Value::as_i64).unwrap_or(-1) >= generation
}

/// Whether `owner` controls the object.
pub fn is_controlled_by(object: &Value, owner: &Value) -> bool {
    let uid = text(owner, "/metadata/uid");
    object.pointer("/metadata/ownerReferences").and_then(Value::as_array).into_iter().flatten().any(|reference| {
        !uid.is_empty()
            && reference.get("uid").and_then(Value::as_str) == Some(uid)
            && reference.get("controller") == Some(&Value::Bool(true))
    })
}

/// A version of a Deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaSet {
    /// Its hash.
    pub hash: String,
    /// Pods that are ready for as long as the Deployment asks (`minReadySeconds`).
    pub ready: u32,
    /// Whether it is the version that the Deployment states now.
    pub is_current: bool,
}

/// The versions of a Deployment.
pub fn replica_sets(live: &LiveObjects, deployment: &Value) -> Vec<ReplicaSet> {
    let revision = |object: &Value| {
        let annotations = object.pointer("/metadata/annotations");
        annotations
            .and_then(|all| all.get(workload::REVISION_ANNOTATION))
            .and_then(Value::as_str)
            .map(ToOwned::to_owned)
    };
    let current = revision(deployment).filter(|_| is_observed(deployment));
    live.of_kind("apps", "ReplicaSet")
        .filter(|set| is_controlled_by(set, deployment))
        .map(|set| ReplicaSet {
            hash: label(set, HASH_LABEL).to_owned(),
            ready: count(set, "/status/availableReplicas"),
            is_current: current.is_some() && revision(set) == current,
        })
        .collect()
}

/// The version that a Deployment states now; none until its controller has made it.
pub fn current(sets: &[ReplicaSet]) -> Option<&ReplicaSet> {
    sets.iter().find(|set| set.is_current)
}

/// The version that serves: the one with most ready pods, the stated one among equals.
pub fn serving(sets: &[ReplicaSet]) -> Option<&ReplicaSet> {
    sets.iter().max_by(|a, b| (a.ready, a.is_current, &b.hash).cmp(&(b.ready, b.is_current, &a.hash)))
}

/// Whether a Job is suspended that has not completed.
pub fn is_suspended(job: &Value) -> bool {
    let complete = |c: &Value| text(c, "/type") == "Complete" && text(c, "/status") == "True";
    job.pointer("/spec/suspend") == Some(&Value::Bool(true)) && !list(job, "/status/conditions").iter().any(complete)
}

/// Whether every Gateway that the route names has accepted its newest generation. A route without parents is accepted by
/// nobody and never is.
pub fn is_accepted(route: &Value) -> bool {
    let generation = route.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or(0);
    let wanted = list(route, "/spec/parentRefs");
    let found = list(route, "/status/parents");
    let own = text(route, "/metadata/namespace");
    let same = |a: &Value, b: &Value| {
        ["name", "sectionName", "port"].iter().all(|key| a.get(*key) == b.get(*key))
            && ["namespace"].iter().all(|key| {
                let of = |r: &Value| r.get(*key).and_then(Value::as_str).unwrap_or(own).to_owned();
                of(a) == of(b)
            })
    };
    let holds = |status: &Value, kind: &str, missing: bool| {
        let condition = list(status, "/conditions").iter().find(|c| text(c, "/type") == kind);
        condition.map_or(missing, |c| {
            text(c, "/status") == "True"
                && c.get("observedGeneration").and_then(Value::as_i64).unwrap_or(0) >= generation
        })
    };
    !wanted.is_empty()
        && wanted.iter().all(|parent| {
            let mut statuses =
                found.iter().filter(|status| status.get("parentRef").is_some_and(|r| same(r, parent))).peekable();
            statuses.peek().is_some() && statuses.all(|s| holds(s, "Accepted", false) && holds(s, "ResolvedRefs", true))
        })
}

fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Ready endpoints of each Service by the hash of the pod behind them, from EndpointSlices and the pods (or, where pods
/// are not read, ReplicaSets, of whose pods' names theirs is the beginning). An endpoint of a pod that is neither counts
/// under an empty hash.
pub fn ready_endpoints(slices: &[Value], sets: &[Value]) -> BTreeMap<String, BTreeMap<String, u32>> {
    let mut all = BTreeMap::<String, BTreeMap<String, u32>>::new();
    // A Service of two address families has each pod in two slices.
    let mut counted = BTreeSet::new();
    for slice in slices {
        let service = label(slice, "kubernetes.io/service-name");
        let of = all.entry(service.to_owned()).or_default();
        for endpoint in list(slice, "/endpoints") {
            // Absent means ready (discovery.k8s.io/v1).
            if endpoint.pointer("/conditions/ready") == Some(&Value::Bool(false)) {
                continue;
            }
            let pod = text(endpoint, "/targetRef/name");
            if !pod.is_empty() && !counted.insert((service, pod)) {
                continue;
            }
            // The name of a pod is that of its ReplicaSet, cut to 58 characters, and a suffix of five.
            let hash = sets.iter().filter(|set| text(set, "/metadata/namespace") == text(slice, "/metadata/namespace"));
            let hash = hash
                .filter(|set| {
                    let base: String = format!("{}-", text(set, "/metadata/name")).chars().take(58).collect();
                    pod.strip_prefix(&base).is_some_and(|rest| rest.len() == 5)
                })
                .map(|set| label(set, HASH_LABEL))
                .next()
                .unwrap_or_default();
            *of.entry(hash.to_owned()).or_default() += 1;
        }
    }
    all
}

/// Name of an object; empty if there is none.
pub fn name_of(object: Option<&Value>) -> &str {
    object.map_or("", |object| text(object, "/metadata/name"))
}

/// The value at a JSON pointer as a person writes it.
pub fn text_of(object: &Value, pointer: &str) -> String {
    object.pointer(pointer).map(ToString::to_string).unwrap_or_default()
}
