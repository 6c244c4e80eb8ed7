//! Everything that a run makes: built from what was recorded, the same whoever builds it.
//!
//! In the namespace of the repository: a claim and the Job that restores into it, the only pod with a credential. In the
//! sandbox: quota, two NetworkPolicies, the claim, and pods without any.

mod pods;
mod restore;

pub use pods::{PodContext, manifest_path, pod};
pub use restore::{restore_claim, restore_job};

use interlock_crds::{PinnedDrill, RestoreDrillSpec, SandboxRecord};
use serde_json::{Value, json};

use super::names;
use crate::{backup::pods::RUN_LABEL, object::Digest};

/// Label of everything that a run makes with the name of the run, for people.
pub const RUN_NAME_LABEL: &str = "interlock.dev/drill-run";
/// Annotation of the sandbox with the digest of its guards: whoever changes them is noticed.
pub const GUARDS_ANNOTATION: &str = "interlock.dev/drill-guards";
/// Annotation of the sandbox with an HMAC of [`RunRef::marked`]: only Interlock can have made it.
pub const SANDBOX_MARK: &str = "interlock.dev/drill-mark";
/// Component of sandboxes, as their label says.
pub const SANDBOX_COMPONENT: &str = "drill-sandbox";
/// Component of volumes that were handed over, as their label says.
pub const VOLUME_COMPONENT: &str = "drill-volume";
/// Default quota.
const QUOTA_CPU: &str = "2";
const QUOTA_MEMORY: &str = "4Gi";
/// Most pods of a sandbox: 8 dependencies, an application, 32 validations, probe, fault and wipe.
const QUOTA_PODS: &str = "48";

/// Whose objects they are.
#[derive(Clone, Copy, Debug)]
pub struct RunRef<'a> {
    /// Name of the DrillRun.
    pub name: &'a str,
    /// Its uid.
    pub uid: &'a str,
    /// Its namespace: that of the repository.
    pub namespace: &'a str,
}

impl RunRef<'_> {
    /// Labels of everything of the run: the orphan sweep finds by them what no run knows any more.
    pub fn labels(&self, component: &str) -> Value {
        json!({
            "app.kubernetes.io/managed-by": "interlock",
            "app.kubernetes.io/component": component,
            RUN_LABEL: self.uid,
            RUN_NAME_LABEL: self.name,
        })
    }

    /// Objects of its own namespace go with it.
    pub(super) fn owner(&self) -> Value {
        json!([{
            "apiVersion": interlock_crds::API_VERSION, "kind": "DrillRun", "name": self.name, "uid": self.uid,
            "controller": true, "blockOwnerDeletion": true,
        }])
    }

    /// Name of its sandbox.
    pub fn sandbox(&self) -> String {
        names::sandbox(self.name, self.uid)
    }

    /// What the mark of its sandbox is an HMAC of. The first byte begins no text: HMACs of texts, as of the nonces of
    /// heartbeats, are shown to others.
    pub fn marked(&self) -> Vec<u8> {
        let text = format!("interlock drill sandbox\n{}\n{}", self.uid, self.sandbox());
        [0xff].into_iter().chain(text.into_bytes()).collect()
    }
}

/// The sandbox's namespace and its guards, in the order in which they are made. A namespace is made, never changed: one that
/// exists and is not of this run is left alone. `mark` is the HMAC of [`RunRef::marked`].
pub fn sandbox(run: &RunRef<'_>, drill: &RestoreDrillSpec, mark: &str) -> Vec<Value> {
    let guards = guards(run, drill);
    let mut namespace = json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {
            "name": run.sandbox(), "labels": run.labels(SANDBOX_COMPONENT),
            "annotations": {GUARDS_ANNOTATION: guards_digest(run, drill), SANDBOX_MARK: mark},
        },
    });
    for mode in ["enforce", "audit", "warn"] {
        namespace["metadata"]["labels"][format!("pod-security.kubernetes.io/{mode}")] = json!("restricted");
    }
    [namespace].into_iter().chain(guards).collect()
}

/// Digest of the guards as they were built.
pub fn guards_digest(run: &RunRef<'_>, drill: &RestoreDrillSpec) -> String {
    Digest::of_canonical(&guards(run, drill)).map(|digest| digest.to_string()).unwrap_or_default()
}

/// Whether quota and NetworkPolicies of this run are among `live`, with the specs with which they were built, and no other
/// NetworkPolicy.
pub fn are_guarded(run: &RunRef<'_>, drill: &RestoreDrillSpec, live: &[Value]) -> bool {
    let guards = guards(run, drill);
    let is = |one: &Value, other: &Value| {
        one["kind"] == other["kind"] && one["metadata"]["name"] == other["metadata"]["name"]
    };
    let stated = |live: &Value, wanted: &Value| match wanted["kind"].as_str() {
        // The API server writes quantities its own way; that the quota is there at all is what matters.
        Some("ResourceQuota") => live.get("spec").is_some(),
        _ => without_empty(&live["spec"]) == without_empty(&wanted["spec"]),
    };
    // What pods without limits count is a convenience, and guards nothing.
    let mut needed = guards.iter().filter(|wanted| wanted["kind"] != "LimitRange");
    let are_there =
        needed.all(|wanted| live.iter().find(|live| is(live, wanted)).is_some_and(|live| stated(live, wanted)));
    // What NetworkPolicies let through adds up.
    let mut policies = live.iter().filter(|live| live["kind"] == "NetworkPolicy");
    are_there && policies.all(|live| guards.iter().any(|wanted| is(live, wanted)))
}

/// Empty lists are left out by some writers and not by others; an empty selector is not an absent one.
fn without_empty(spec: &Value) -> Value {
    let mut spec = spec.clone();
    if let Some(fields) = spec.as_object_mut() {
        fields.retain(|_, value| value.as_array().is_none_or(|items| !items.is_empty()));
    }
    spec
}

/// Quota and NetworkPolicies. Nothing gets in or out, except between pods of the sandbox; no name server either.
fn guards(run: &RunRef<'_>, drill: &RestoreDrillSpec) -> Vec<Value> {
    let metadata =
        |name: &str| json!({"name": name, "namespace": run.sandbox(), "labels": run.labels(SANDBOX_COMPONENT)});
    let quota = drill.sandbox.quota.clone().unwrap_or_default();
    let (cpu, memory) = (quota.cpu.as_deref().unwrap_or(QUOTA_CPU), quota.memory.as_deref().unwrap_or(QUOTA_MEMORY));
    let mut hard = json!({
        "limits.memory": memory, "requests.memory": memory, "requests.cpu": cpu, "limits.cpu": cpu, "pods": QUOTA_PODS,
        "persistentvolumeclaims": "1", "services": "0", "services.loadbalancers": "0", "services.nodeports": "0",
    });
    if let Some(disk) = &quota.ephemeral_storage {
        hard["limits.ephemeral-storage"] = json!(disk);
    }
    let everyone = json!({});
    vec![
        json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata("drill"), "spec": {"hard": hard}}),
        // What a pod does not say counts against the quota as little as possible, instead of being refused.
        json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": metadata("drill"), "spec": {"limits": [{
            "type": "Container", "default": {"cpu": "500m", "memory": "512Mi"}, "defaultRequest": {"cpu": "50m", "memory": "64Mi"},
        }]}}),
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata("default-deny"),
            "spec": {"podSelector": everyone, "policyTypes": ["Ingress", "Egress"]},
        }),
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata("within-sandbox"),
            "spec": {
                "podSelector": everyone, "policyTypes": ["Ingress", "Egress"],
                "ingress": [{"from": [{"podSelector": everyone}]}], "egress": [{"to": [{"podSelector": everyone}]}],
            },
        }),
    ]
}

/// Lets a volume survive its claim, and says whose it is, so that the orphan sweep finds it.
pub fn retain_patch(run: &RunRef<'_>) -> Value {
    json!({"metadata": {"labels": run.labels(VOLUME_COMPONENT)}, "spec": {"persistentVolumeReclaimPolicy": "Retain"}})
}

/// Gives a volume its reclaim policy back.
pub fn return_patch(reclaim_policy: &str) -> Value {
    json!({"spec": {"persistentVolumeReclaimPolicy": reclaim_policy}})
}

/// Keeps a volume for the claim in the sandbox (JSON merge patch): without uid, so that the claim that is made next is bound.
pub fn rebind_patch(run: &RunRef<'_>) -> Value {
    json!({"metadata": {"labels": run.labels(VOLUME_COMPONENT)}, "spec": {"claimRef": {
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": run.sandbox(), "name": names::SANDBOX_CLAIM,
        "uid": null, "resourceVersion": null,
    }}})
}

/// Frees a volume that nobody provisioned for the run (JSON merge patch). A provisioned one is deleted instead.
pub fn free_patch() -> Value {
    let labels = json!({
        "app.kubernetes.io/managed-by": null, "app.kubernetes.io/component": null, RUN_LABEL: null, RUN_NAME_LABEL: null,
    });
    json!({"metadata": {"labels": labels}, "spec": {"claimRef": null}})
}

/// Whether a volume was provisioned for its claim, and is deleted with it.
pub fn is_provisioned(volume: &Value) -> bool {
    volume.pointer("/metadata/annotations").is_some_and(|all| all.get("pv.kubernetes.io/provisioned-by").is_some())
}

/// The claim in the sandbox, for the volume that was kept for it. Class, size and mode are those of the volume.
pub fn sandbox_claim(run: &RunRef<'_>, record: &SandboxRecord, volume: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": names::SANDBOX_CLAIM, "namespace": record.namespace, "labels": run.labels(SANDBOX_COMPONENT)},
        "spec": {
            "accessModes": volume["spec"]["accessModes"],
            "storageClassName": volume["spec"].get("storageClassName").cloned().unwrap_or_else(|| json!("")),
            "volumeMode": "Filesystem",
            "volumeName": record.volume,
            "resources": {"requests": {"storage": volume["spec"]["capacity"]["storage"]}},
        },
    })
}

/// The DrillRun for a slot. Its selection and fault are those of the drill.
pub fn drill_run(drill: &str, namespace: &str, due: &super::schedule::DueDrill, pin: &PinnedDrill) -> Value {
    json!({
        "apiVersion": interlock_crds::API_VERSION, "kind": "DrillRun",
        "metadata": {
            "name": due.name, "namespace": namespace,
            "labels": {"app.kubernetes.io/managed-by": "interlock", "interlock.dev/drill": drill},
            "finalizers": [FINALIZER],
            "ownerReferences": [{
                "apiVersion": interlock_crds::API_VERSION, "kind": "RestoreDrill", "name": drill, "uid": pin.drill_uid,
                "controller": true, "blockOwnerDeletion": true,
            }],
        },
        "spec": {"drillRef": {"name": drill}, "drillUid": pin.drill_uid, "trigger": due.trigger, "slot": due.slot},
    })
}

/// Keeps a DrillRun until nothing is left of it.
pub const FINALIZER: &str = "interlock.dev/drill-cleanup";
