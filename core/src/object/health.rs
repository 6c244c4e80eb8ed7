//! Whether an object does what it was asked to: the rules of kstatus (sigs.k8s.io/cli-utils), stricter for Jobs, which
//! must complete, and for workloads that no controller has looked at yet.

use serde_json::Value;

use super::{id::GroupKind, workload_health};

/// How an object is doing, with a sentence for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It is as asked.
    Healthy,
    /// It is on its way, or waits for something.
    Progressing(String),
    /// It will not get there by itself.
    Failed(String),
}

impl Health {
    /// Whether nothing is left to wait for.
    pub fn is_healthy(&self) -> bool {
        *self == Self::Healthy
    }

    pub(super) fn progressing(message: impl Into<String>) -> Self {
        Self::Progressing(message.into())
    }

    pub(super) fn failed(message: impl Into<String>) -> Self {
        Self::Failed(message.into())
    }
}

/// The health that an object's own fields tell, without a look at other objects or at the time.
///
/// A `PersistentVolumeClaim` that is `Pending` and that neither the scheduler nor a provisioner has taken up (no
/// `selected-node` and no `storage-provisioner` annotation) counts as healthy: with volume binding mode
/// `WaitForFirstConsumer` it stays so until a pod uses it, and claims are written before workloads.
pub fn health(object: &Value) -> Health {
    let object = Observed(object);
    if object.0.pointer("/metadata/deletionTimestamp").is_some_and(|time| !time.is_null()) {
        return Health::progressing("it is being deleted");
    }
    let Ok(kind) = GroupKind::of(object.0) else {
        return Health::progressing("it has no apiVersion or kind");
    };
    if let Some(waiting) = object.behind(is_observed_kind(&kind)).or_else(|| standard_conditions(object)) {
        return waiting;
    }
    match (kind.group.as_str(), kind.kind.as_str()) {
        ("apps", "Deployment") => workload_health::deployment(object),
        ("apps", "StatefulSet") => workload_health::stateful_set(object),
        ("apps", "DaemonSet") => workload_health::daemon_set(object),
        ("apps", "ReplicaSet") => workload_health::replica_set(object),
        ("batch", "Job") => workload_health::job(object),
        ("", "Pod") => workload_health::pod(object),
        ("", "PersistentVolumeClaim") => claim(object),
        ("", "Service") => service(object),
        ("", "Namespace") => namespace(object),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => definition(object),
        ("autoscaling", "HorizontalPodAutoscaler") => autoscaler(object),
        ("policy", "PodDisruptionBudget") | ("batch", "CronJob") => Health::Healthy,
        _ => ready(object),
    }
}

/// Kinds whose controllers always say which generation they saw.
fn is_observed_kind(kind: &GroupKind) -> bool {
    matches!(
        (kind.group.as_str(), kind.kind.as_str()),
        ("apps", "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet") | ("policy", "PodDisruptionBudget")
    )
}

fn standard_conditions(object: Observed<'_>) -> Option<Health> {
    if let Some(stalled) = object.condition("Stalled").filter(Condition::is_true) {
        return Some(Health::failed(format!("it is stalled: {}", stalled.why())));
    }
    let reconciling = object.condition("Reconciling").filter(Condition::is_true)?;
    Some(Health::progressing(format!("it is reconciling: {}", reconciling.why())))
}

fn ready(object: Observed<'_>) -> Health {
    match object.condition("Ready") {
        Some(ready) if !ready.is_true() => Health::progressing(format!("it is not ready: {}", ready.why())),
        Some(ready) if ready.observed.zip(object.generation()).is_some_and(|(seen, current)| seen < current) => {
            Health::progressing("its Ready condition is about an older generation")
        }
        _ => Health::Healthy,
    }
}

fn claim(object: Observed<'_>) -> Health {
    const TAKEN_UP: [&str; 3] = [
        "volume.kubernetes.io/selected-node",
        "volume.kubernetes.io/storage-provisioner",
        "volume.beta.kubernetes.io/storage-provisioner",
    ];
    let annotations = object.0.pointer("/metadata/annotations");
    let is_taken_up = TAKEN_UP.iter().any(|name| annotations.and_then(|all| all.get(name)).is_some());
    match object.text("/status/phase") {
        "Bound" => Health::Healthy,
        "Lost" => Health::failed("its volume is lost"),
        "Pending" if !is_taken_up => Health::Healthy,
        "Pending" => Health::progressing("its volume is being provisioned"),
        _ => Health::progressing("no controller has looked at it yet"),
    }
}

fn service(object: Observed<'_>) -> Health {
    let ingress = object.0.pointer("/status/loadBalancer/ingress").and_then(Value::as_array);
    if object.text("/spec/type") == "LoadBalancer" && ingress.is_none_or(Vec::is_empty) {
        return Health::progressing("its load balancer has no address yet");
    }
    Health::Healthy
}

fn namespace(object: Observed<'_>) -> Health {
    match object.text("/status/phase") {
        "Active" => Health::Healthy,
        "" => Health::progressing("its phase is not known yet"),
        phase => Health::progressing(format!("its phase is {phase}")),
    }
}

fn definition(object: Observed<'_>) -> Health {
    if let Some(refused) = object.condition("NamesAccepted").filter(Condition::is_false) {
        return Health::failed(format!("its names are not accepted: {}", refused.why()));
    }
    match object.condition("Established") {
        Some(established) if established.is_true() => Health::Healthy,
        Some(established) if established.is_false() && established.reason != "Installing" => {
            Health::failed(format!("it cannot be established: {}", established.why()))
        }
        _ => Health::progressing("it is not established yet"),
    }
}

fn autoscaler(object: Observed<'_>) -> Health {
    let blocked = ["AbleToScale", "ScalingActive"]
        .into_iter()
        .filter_map(|kind| object.condition(kind))
        // A target that was scaled to zero on purpose switches the autoscaler off.
        .find(|condition| condition.is_false() && condition.reason != "ScalingDisabled");
    blocked.map_or(Health::Healthy, |condition| Health::progressing(format!("it cannot scale: {}", condition.why())))
}

/// An object as the API server last showed it, read without trust in its shape.
#[derive(Clone, Copy)]
pub(super) struct Observed<'a>(pub &'a Value);

impl<'a> Observed<'a> {
    /// The text at a JSON pointer; empty if there is none.
    pub fn text(self, pointer: &str) -> &'a str {
        self.0.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    /// The number at a JSON pointer.
    pub fn number(self, pointer: &str) -> Option<i64> {
        self.0.pointer(pointer).and_then(Value::as_i64)
    }

    /// The count at a JSON pointer; the API leaves zeros out.
    pub fn count(self, pointer: &str) -> i64 {
        self.number(pointer).unwrap_or(0)
    }

    /// The replicas that are asked for; the API's default is one.
    pub fn replicas(self) -> i64 {
        self.number("/spec/replicas").unwrap_or(1)
    }

    fn generation(self) -> Option<i64> {
        self.number("/metadata/generation")
    }

    /// Why what the object says is about an older state of it, if it is.
    fn behind(self, always_observed: bool) -> Option<Health> {
        let generation = self.generation()?;
        match self.number("/status/observedGeneration") {
            Some(seen) if seen < generation => {
                Some(Health::progressing(format!("its controller has seen generation {seen} of {generation}")))
            }
            None if always_observed => Some(Health::progressing("no controller has looked at it yet")),
            _ => None,
        }
    }

    /// The condition of a type.
    pub fn condition(self, kind: &str) -> Option<Condition<'a>> {
        let conditions = self.0.pointer("/status/conditions")?.as_array()?;
        let condition = Self(conditions.iter().find(|condition| Self(condition).text("/type") == kind)?);
        Some(Condition {
            status: condition.text("/status"),
            reason: condition.text("/reason"),
            message: condition.text("/message"),
            observed: condition.number("/observedGeneration"),
        })
    }
}

/// A condition of an object's status.
pub(super) struct Condition<'a> {
    status: &'a str,
    pub reason: &'a str,
    message: &'a str,
    observed: Option<i64>,
}

impl Condition<'_> {
    pub fn is_true(&self) -> bool {
        self.status == "True"
    }

    pub fn is_false(&self) -> bool {
        self.status == "False"
    }

    /// Reason and message in one sentence.
    pub fn why(&self) -> String {
        match (self.reason, self.message) {
            ("", "") => "no reason is given".to_owned(),
            (reason, "") => reason.to_owned(),
            ("", message) => message.to_owned(),
            (reason, message) => format!("{reason}, {message}"),
        }
    }
}
