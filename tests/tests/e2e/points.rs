//! Records of recovery points on a real API server: they go neither by accident nor by a trick, and all of them with the
//! namespace.

use interlock_tests::{Api, Stage, eventually, world::SOON};
use serde_json::{Value, json};

use crate::{alone::CONTROLLER, assert_refused};

const COLLECTOR: &str = "system:serviceaccount:kube-system:generic-garbage-collector";
const TIME: &str = "2026-11-23T02:00:00Z";

/// Stores a run of a policy that nobody has, with its end as the controller would have recorded it. Returns its path.
fn recorded(stage: &Stage<'_>, name: &str, point: &Value) -> String {
    let run = json!({
        "apiVersion": "interlock.dev/v1alpha1", "kind": "Backup",
        "metadata": {"name": name, "namespace": stage.namespace},
        "spec": {"policyRef": {"name": "gone"}, "requester": "alice"},
    });
    stage.user("alice").create(&run).unwrap();
    let status = json!({
        "observedGeneration": 1, "phase": "Succeeded", "reason": "Complete", "message": "copied and read back",
        "pinned": {
            "policyUid": "policy-1", "policyGeneration": 1, "policyDigest": "sha256:0",
            "repository": "vault", "repositoryUid": "repository-1",
        },
        "finishedAt": TIME, "point": point,
    });
    let path = stage.path(&format!("backups/{name}"));
    let controller = stage.admin().acting_as(CONTROLLER, &[]);
    // The real controller writes there as well: that there is no such policy.
    eventually(SOON, || {
        let mut stored = stage.admin().get(&path).map_err(|refusal| refusal.to_string())?;
        stored["status"] = status.clone();
        controller.replace(&format!("{path}/status"), &stored).map_err(|refusal| refusal.to_string())
    });
    eventually(SOON, || {
        let metadata = stage.get(&format!("backups/{name}"))["metadata"].clone();
        if metadata["finalizers"].is_null() { Ok(()) } else { Err(format!("the run is not let go: {metadata:#}")) }
    });
    path
}

/// Says that the record with this snapshot may go.
fn annotate(user: &Api, path: &str, snapshot: &str) {
    user.merge(path, &json!({"metadata": {"annotations": {"interlock.dev/remove-point": snapshot}}})).unwrap();
}

#[test]
fn b11_b12_records_of_points_go_only_by_name_after_what_needs_them_or_with_their_namespace() {
    let stage = Stage::new("points");
    let alice = stage.user("alice");
    let [base_id, log_id, other_id] = ["a", "b", "c"].map(|digit| digit.repeat(64));
    let base = recorded(&stage, "base", &json!({"snapshotId": base_id, "dataTime": TIME}));
    let log = recorded(&stage, "log", &json!({"snapshotId": log_id, "baseId": base_id, "dataTime": TIME}));
    let other = recorded(&stage, "other", &json!({"snapshotId": other_id, "dataTime": TIME}));

    // The only record of a snapshot stays.
    let kept = assert_refused(alice.delete(&other), 403, "PointKept");
    assert!(kept.message.contains(&format!("interlock.dev/remove-point={other_id}")), "{kept}");

    // So does what another one needs, even if it is named; as soon as the controller knows of the other one.
    eventually(SOON, || match alice.delete(&base) {
        Err(refusal) if refusal.reason == "BaseNeeded" => Ok(()),
        answer => Err(format!("{answer:?}")),
    });
    annotate(&alice, &base, &base_id);
    let needed = assert_refused(alice.delete(&base), 403, "BaseNeeded");
    assert!(needed.message.contains("is the base of log, which cannot be restored without it"), "{needed}");

    // Who names both takes them away, one after the other, and is told what stays in the repository.
    assert_refused(alice.delete(&log), 403, "PointKept");
    annotate(&alice, &log, &log_id);
    let answer = alice.send("DELETE", &log, "application/json", None).unwrap();
    assert!(answer.warnings.iter().any(|told| told.contains(&format!("restic forget {log_id}"))), "{answer:?}");
    eventually(SOON, || alice.delete(&base).map_err(|refusal| refusal.to_string()));
    assert!(!stage.exists("backups/log") && !stage.exists("backups/base"));

    // An owner that is not there makes no way around it.
    let owner = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "name": "gone", "uid": "6f1c2a52-5a0e-4b7e-9a53-0d6f3f6a1b11",
    });
    alice.merge(&other, &json!({"metadata": {"ownerReferences": [owner]}})).unwrap();
    eventually(SOON, || {
        let asked = stage.world.audit(&other);
        let asked: Vec<_> =
            asked.iter().filter(|event| event.user() == COLLECTOR && event.verb() == "delete").collect();
        let is_refused = asked.iter().any(|event| event.code() == 403);
        if is_refused { Ok(()) } else { Err(format!("the garbage collector was not refused: {asked:?}")) }
    });
    assert!(stage.exists("backups/other"));

    // Its System lets go of the namespace, and with that everything goes.
    let system = format!("/apis/interlock.dev/v1alpha1/systems/{}", stage.namespace);
    stage.admin().merge(&system, &json!({"spec": {"namespaces": null}})).unwrap();
    let namespace = format!("/api/v1/namespaces/{}", stage.namespace);
    eventually(SOON, || match stage.admin().delete(&namespace) {
        Ok(_) => Err("is being deleted".to_owned()),
        Err(refusal) if refusal.code == 404 => Ok(()),
        Err(refusal) => Err(refusal.to_string()),
    });
}
