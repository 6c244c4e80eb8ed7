//! Events that come in another order than things happened.

use interlock_core::{change::sealed, seal::SealKey};
use serde_json::{Value, json};

use super::*;

fn change(version: &str, status: &Value) -> crds::ChangeRequest {
    serde_json::from_value(json!({
        "apiVersion": crds::API_VERSION, "kind": "ChangeRequest",
        "metadata": {"name": "c", "namespace": "teller", "uid": "u", "generation": 1, "resourceVersion": version},
        "spec": {"title": "t", "reason": "r", "requester": "alice", "content": {"manifests": [
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "web", "namespace": "teller"}},
        ]}},
        "status": status,
    }))
    .unwrap()
}

#[test]
fn the_late_answer_to_a_start_does_not_revive_a_change_that_has_ended() {
    let seal = SealKey::from_seed(&[1; 32]).unwrap();
    let mut keys = KeyRing::default();
    keys.insert(seal.public());
    let mut index = Index::new(keys);
    let now = "2026-11-23T08:00:00Z".parse().unwrap();
    let run = serde_json::from_value(json!({
        "epoch": 1, "changeDigest": "sha256:00", "executor": "e", "beforeDigest": "", "beforeChunks": 1, "startedAt": now, "seal": "",
    }));
    let run = sealed::seal_run(&seal, "u", run.unwrap()).unwrap();
    let running = change("2", &json!({"phase": "Running", "run": run}));
    let end = sealed::seal_finish(&seal, "u", crds::ChangePhase::Succeeded, now, String::new()).unwrap();

    index.change_stored(&change("1", &json!({})));
    index.change_learnt(&running);
    assert_eq!(index.running().len(), 1, "an answer in time is learnt");
    index.change_stored(&change("3", &json!({"phase": "Succeeded", "run": run, "finished": end})));
    // The process hung after its write, and reads the answer only now.
    index.change_learnt(&running);
    assert!(index.running().is_empty() && index.live("teller/c").is_none(), "it has ended");
    index.change_deleted("teller/c");
    index.change_learnt(&running);
    assert!(index.change("teller/c").is_none(), "it is gone");
}
