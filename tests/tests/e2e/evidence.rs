//! What must have been examined before a change may start.

use interlock_tests::{Options, Stage, config_map, eventually, patch_of, policy_of, world::SOON};
use serde_json::{Value, json};

use crate::{assert_refused, counted};

fn scanned() -> Options {
    let mut policy = policy_of(1, "sre");
    policy["types"]["normal"]["evidence"] = json!([{"kind": "SecurityScan", "issuers": {"groups": ["branch-ops"]}}]);
    Options { policy, ..Options::default() }
}

fn scan(stage: &Stage<'_>, issuer: &str, digest: &Value, result: &str) -> Value {
    json!({"apiVersion": "interlock.dev/v1alpha1", "kind": "Evidence",
        "metadata": {"generateName": "scan-", "namespace": stage.namespace},
        "spec": {"kind": "SecurityScan", "subject": {"contentDigest": digest}, "result": result, "issuer": issuer,
            "summary": [{"name": "critical", "value": 0}]}})
}

#[test]
fn a_change_waits_for_evidence_of_an_allowed_issuer() {
    let stage = Stage::with("evidence", scanned());
    let change = stage.propose("alice", "scanned", vec![patch_of(config_map("web", &[("greeting", "hi")]))]);
    change.approve(&["bob"]);
    let status = change.until("evidence", |s| s["waitingFor"] == "Evidence");
    let digest = status["contentDigest"].clone();
    // In one's own name only; and mallory may state what she likes.
    assert_refused(stage.user("mallory").create(&scan(&stage, "dave", &digest, "Passed")), 403, "IssuerMismatch");
    stage.user("mallory").create(&scan(&stage, "mallory", &digest, "Passed")).unwrap();
    let other = json!(format!("sha256:{}", "b".repeat(64)));
    stage.user("dave").create(&scan(&stage, "dave", &other, "Passed")).unwrap();
    change.stays("Pending", std::time::Duration::from_millis(700));
    let failed = stage.user("dave").create(&scan(&stage, "dave", &digest, "Failed")).unwrap();
    change.wait_gate("Evidence", "EvidenceFailed");
    // A record is kept: a newer one replaces it.
    assert_refused(stage.user("dave").delete(&interlock_tests::path_of(&failed)), 403, "RecordKept");
    // Of one second's statements the failure counts, so it may take another.
    eventually(SOON, || {
        if change.gate("Evidence")["reason"] == "EvidenceFailed" {
            std::thread::sleep(std::time::Duration::from_secs(1));
            stage.user("dave").create(&scan(&stage, "dave", &digest, "Passed")).map_err(|e| e.to_string())?;
        }
        if change.phase() == "Succeeded" { Ok(()) } else { Err(format!("{:#}", change.status())) }
    });
}

#[test]
fn a02_who_contributed_does_not_vote() {
    let stage = Stage::with("a02", scanned());
    let change = stage.propose("alice", "contributed", vec![patch_of(config_map("web", &[("greeting", "hi")]))]);
    change.digest();
    let digest = change.status()["contentDigest"].clone();
    // erin is in sre and in branch-ops: what she examined, another approves.
    change.approve(&["erin"]);
    stage.user("erin").create(&scan(&stage, "erin", &digest, "Passed")).unwrap();
    let status = change.until("her vote void", |s| counted(s, "Void") == 1);
    assert_eq!(status["phase"], "Pending", "{status:#}");
    assert_refused(change.vote("erin"), 403, "Contributor");
    change.vote("bob").unwrap();
    change.wait("Succeeded");
}
