//! Which version is known to be good.

use std::sync::Arc;

use interlock_crds::Rollout;
use serde_json::{Value, json};

use super::game::{at, deployment, plan};
use crate::rollout::{ConfigTarget, LiveObjects, TargetFacts, known::known_good};

fn earlier(change: impl Fn(&mut Value)) -> Arc<Rollout> {
    let mut rollout = json!({
        "metadata": {"name": "earlier"},
        "spec": {"changeRequest": {"name": "c", "uid": "u"}, "changeDigest": "", "plan": {},
            "targets": [{"kind": "Deployment", "namespace": "teller", "name": "teller"}]},
        "status": {"phase": "Succeeded", "hashes": {"stable": "h1", "canary": "h2"}, "finishedAt": at(0).to_string(),
            "start": {"replicas": 4}},
    });
    change(&mut rollout);
    Arc::new(serde_json::from_value(rollout).unwrap())
}

fn known(rollout: Arc<Rollout>, wanted: &str, seconds: i64, configs: bool) -> bool {
    let mut spec = rollout.spec.clone();
    spec.plan = plan(json!({"canary": {"steps": [{"setWeight": 50}]}, "fastTrack": "10m"}));
    spec.targets[0].name = "teller".into();
    let (mut workload, mut objects) = (deployment("v2", 4), LiveObjects::default());
    workload["metadata"]["uid"] = json!("w");
    let mut set = json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {"name": "teller-h1", "namespace": "teller", "labels": {"pod-template-hash": "h1"}, "ownerReferences": [
            {"apiVersion": "apps/v1", "kind": "Deployment", "name": "teller", "uid": "w", "controller": true}]},
        "spec": {"template": deployment("v1", 4)["spec"]["template"]},
    });
    set["spec"]["template"]["metadata"]["labels"]["pod-template-hash"] = json!("h1");
    objects.insert(workload.clone());
    objects.insert(set);
    let config = ConfigTarget { before: None, wanted: json!({}) };
    let configs = if configs { vec![config] } else { Vec::new() };
    let target = TargetFacts::new(workload, deployment(wanted, 4), configs);
    known_good(&spec, &target, &objects, &[rollout], at(seconds)).is_some()
}

#[test]
fn r12_only_what_served_wholly_ready_until_a_release_succeeded_a_short_time_ago_is_known() {
    let plain = || earlier(|_| {});
    assert!(known(plain(), "v1", 599, false));
    assert!(!known(plain(), "v1", 600, false), "too long ago");
    assert!(!known(plain(), "v3", 10, false), "another version");
    assert!(!known(plain(), "v1", 10, true), "other configuration is another version");
    let broken = earlier(|rollout| rollout["status"]["start"]["ready"] = json!(3));
    assert!(!known(broken, "v1", 10, false), "it was not wholly ready");
    let back = earlier(|rollout| rollout["status"]["phase"] = json!("RolledBack"));
    assert!(!known(back, "v1", 10, false), "nothing took its place");
    let hash = earlier(|rollout| rollout["status"]["hashes"]["stable"] = json!("h0"));
    assert!(!known(hash, "v1", 10, false), "another version served then");
    let other = earlier(|rollout| rollout["spec"]["targets"][0]["name"] = json!("ledger"));
    assert!(!known(other, "v1", 10, false), "another workload");
}
