//! The writer of a heartbeat on a real API server: defaults, webhooks, the executor's rights.

use interlock_tests::{
    Options, Stage, eventually, patch_of,
    stage::policy_of,
    world::{SOON, condition},
};
use serde_json::{Value, json};

use crate::assert_refused;

fn own(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "interlock.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

fn policy(heartbeat: Value) -> Value {
    let mut spec = json!({
        "repositoryRef": {"name": "vault"}, "source": {"files": {"persistentVolumeClaim": "data"}},
        "retention": {"keepLast": 3}, "heartbeat": heartbeat,
    });
    spec.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    own("BackupPolicy", "files", spec)
}

fn stage(name: &str, with_rights: bool) -> Stage<'static> {
    let claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    });
    let vault = own(
        "BackupRepository",
        "vault",
        json!({"restic": {"url": "rest:https://vault.example/x/", "secretRef": {"name": "s"}}}),
    );
    let objects = vec![claim, vault, policy(json!({"file": "/beat", "interval": "7s"}))];
    Stage::with(name, Options { policy: policy_of(1, "sre"), objects, with_rights, ..Options::default() })
}

/// Waits for what the policy says of its writer.
fn wait_told(stage: &Stage<'_>, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    eventually(SOON, || {
        let policy = stage.get("backuppolicies/files");
        let told = condition(&policy, "HeartbeatReady").cloned().unwrap_or_default();
        if holds(&told) { Ok(told) } else { Err(format!("not {what}: {}", policy["status"])) }
    })
}

#[test]
fn b17_a_heartbeats_writer_passes_the_webhook_exactly_as_computed_and_nobody_else_touches_it() {
    let stage = stage("heartbeat", true);
    wait_told(&stage, "made", |told| ["NotReady", "Writing"].contains(&told["reason"].as_str().unwrap_or_default()));
    let writer = stage.get("deployments/files-heartbeat");
    assert_eq!(writer["spec"]["strategy"], json!({"type": "Recreate"}));
    assert_eq!(writer["spec"]["template"]["spec"]["automountServiceAccountToken"], false);
    let path = stage.path("deployments/files-heartbeat");
    assert_refused(stage.admin().merge(&path, &json!({"spec": {"replicas": 2}})), 403, "NoApprovedChange");
    assert_refused(stage.admin().delete(&path), 403, "NoApprovedChange");
    // In the name of the executor, and yet not what was computed.
    let executor = stage.world.identity(&stage.executor());
    let mut other = writer.clone();
    other["metadata"] = json!({
        "name": "files-heartbeat-2", "namespace": stage.namespace, "ownerReferences": writer["metadata"]["ownerReferences"],
    });
    let refused = executor.create(&other).unwrap_err();
    assert_eq!(refused.code, 403, "{refused}");
    // A change of the policy makes it anew.
    let mut patch = policy(json!({"file": "/beat", "interval": "5s"}));
    patch["metadata"]["namespace"] = json!(stage.namespace);
    let change = stage.propose("alice", "interval", vec![patch_of(patch)]);
    change.approve(&["bob"]);
    // No pod makes the repository here, so the policy never is ready, and the change goes on waiting for that.
    eventually(SOON, || {
        let found = stage.admin().get(&path).map_err(|refusal| refusal.to_string())?;
        let is_new = found["metadata"]["uid"] != writer["metadata"]["uid"]
            && found.to_string().contains(r#"intervalSeconds\":5"#);
        if is_new { Ok(()) } else { Err(found.to_string()) }
    });
}

#[test]
fn b17_an_executor_without_the_rights_is_told_in_the_policy() {
    let stage = stage("no-heartbeat", false);
    let told = wait_told(&stage, "refused", |told| told["reason"] == "Refused");
    assert!(told["message"].as_str().unwrap().contains("cannot create resource"), "{told}");
    assert!(!stage.exists("deployments/files-heartbeat"));
}
