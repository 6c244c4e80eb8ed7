//! What is read before a decision: what belongs to the release, and not what others have.

use interlock_crds::RolloutSpec;
use serde_json::{Value, json};

use crate::rollout::{
    TargetFacts,
    live::{Read, reads},
};

fn read_of(plan: Value, selector: Value) -> Vec<Read> {
    let spec: RolloutSpec = serde_json::from_value(json!({
        "changeRequest": {"name": "c", "uid": "u"}, "changeDigest": "d", "plan": plan,
        "targets": [{"kind": "Deployment", "namespace": "shop", "name": "web"}],
    }))
    .unwrap();
    let workload = json!({"spec": {"selector": selector}});
    reads(&spec, &TargetFacts::new(workload.clone(), workload, Vec::new()), "uid")
}

/// What belongs to whom is read, with which labels.
fn of(reads: &[Read], wanted: &str) -> Vec<(String, Option<String>)> {
    let found = reads.iter().filter_map(|read| match read {
        Read::Of(id, labels) if id.kind == wanted => Some((id.name.clone(), labels.clone())),
        _ => None,
    });
    found.collect()
}

#[test]
fn only_what_has_the_labels_of_the_workload_and_of_its_services_is_listed() {
    let plan = json!({"canary": {"route": {"httpRoute": "web", "backend": "web"}, "steps": [{"setWeight": 5}]}});
    let found = read_of(plan, json!({"matchLabels": {"app": "web", "tier": "front"}}));
    let labels = Some("app=web,tier=front".to_owned());
    let sets = ["web", "web-canary"].map(|name| (name.to_owned(), labels.clone()));
    assert_eq!(of(&found, "ReplicaSet"), sets);
    let services = ["web", "web-stable", "web-canary"]
        .map(|name| (name.to_owned(), Some(format!("kubernetes.io/service-name={name}"))));
    assert_eq!(of(&found, "EndpointSlice"), services);
    assert_eq!(of(&found, "HorizontalPodAutoscaler"), [("web".to_owned(), None)]);
    assert!(!found.iter().any(|read| matches!(read, Read::All(..) | Read::Labelled(..))), "{found:?}");
}

#[test]
fn a_selector_that_is_more_than_labels_reads_the_whole_kind() {
    let plan = json!({"canary": {"steps": [{"setWeight": 5}]}});
    let selector = json!({"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "tier", "operator": "Exists"}]});
    let found = read_of(plan, selector);
    let sets = ["web", "web-canary"].map(|name| (name.to_owned(), None));
    assert_eq!(of(&found, "ReplicaSet"), sets, "and sorts out by their owner");
}
