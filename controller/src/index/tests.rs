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

/// A key, and an index that believes its seals.
fn sealed_index() -> (SealKey, Index) {
    let seal = SealKey::from_seed(&[1; 32]).unwrap();
    let mut keys = KeyRing::default();
    keys.insert(seal.public());
    (seal, Index::new(keys))
}

/// The change that has started.
fn started(seal: &SealKey) -> crds::ChangeRequest {
    let run = serde_json::from_value(json!({
        "epoch": 1, "changeDigest": "sha256:00", "executor": "e", "beforeDigest": "", "beforeChunks": 1,
        "startedAt": "2026-11-23T08:00:00Z", "seal": "",
    }));
    let run = sealed::seal_run(seal, "u", run.unwrap()).unwrap();
    change("2", &json!({"phase": "Running", "run": run}))
}

#[test]
fn what_drills_calendars_and_policies_say_wakes_the_releases_of_running_changes() {
    let (seal, mut index) = sealed_index();
    let of = |kind: &str, name: &str, more: Value| {
        let metadata =
            json!({"name": name, "namespace": "teller", "uid": name, "generation": 1, "resourceVersion": "1"});
        let mut object = json!({"apiVersion": crds::API_VERSION, "kind": kind, "metadata": metadata});
        object.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        object
    };
    let policy = |count: u32| {
        let approvals = json!({"thresholds": [{"name": "peers", "count": count, "groups": ["sre"]}]});
        serde_json::from_value(of(
            "ChangePolicy",
            "p",
            json!({"spec": {"types": {"normal": {"approvals": approvals}}}}),
        ))
    };
    let system = json!({"spec": {
        "tier": "Critical", "mode": "Enforce", "namespaces": ["teller"], "policyRef": {"name": "p"},
        "executor": {"type": "Interlock", "serviceAccount": {"namespace": "teller", "name": "e"}},
    }});
    index.system_stored(&serde_json::from_value(of("System", "teller", system)).unwrap());
    index.policy_stored(&policy(1).unwrap());
    index.change_stored(&started(&seal));
    let release = json!({"spec": {
        "changeRequest": {"name": "c", "uid": "u"}, "changeDigest": "sha256:00", "plan": {"canary": {"steps": []}},
        "targets": [{"kind": "Deployment", "namespace": "teller", "name": "web"}],
    }});
    index.rollout_stored(&serde_json::from_value(of("Rollout", "c", release)).unwrap());
    index.take_woken_rollouts();

    let drill = |status: Value| {
        let spec =
            json!({"policyRef": {"name": "files"}, "sandbox": {}, "validations": [{"name": "there", "files": {}}]});
        serde_json::from_value(of("RestoreDrill", "monthly", json!({"spec": spec, "status": status}))).unwrap()
    };
    let woken = |index: &mut Index| !index.take_woken_rollouts().is_empty();
    index.restore_drill_stored(&drill(json!({})));
    assert!(woken(&mut index), "a drill is there");
    let passed =
        json!({"lastPassed": {"run": "r", "uid": "r-1", "phase": "Passed", "finishedAt": "2026-11-23T09:00:00Z"}});
    index.restore_drill_stored(&drill(passed.clone()));
    assert!(woken(&mut index), "it passed");
    index.restore_drill_stored(&drill(passed));
    assert!(!woken(&mut index), "nothing that a gate looks at is different");
    index.restore_drill_deleted("teller/monthly");
    assert!(woken(&mut index), "it is gone");
    index.policy_stored(&policy(2).unwrap());
    assert!(woken(&mut index), "the policy is another one");
    let calendar = json!({"spec": {"timeZone": "UTC", "windows": []}});
    index.calendar_stored(&serde_json::from_value(of("Calendar", "of-a-wave", calendar)).unwrap());
    assert!(woken(&mut index), "a wave may wait for it");
}

#[test]
fn the_late_answer_to_a_start_does_not_revive_a_change_that_has_ended() {
    let (seal, mut index) = sealed_index();
    let now = "2026-11-23T08:00:00Z".parse().unwrap();
    let running = started(&seal);
    let run = running.status.as_ref().unwrap().run.clone();
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
