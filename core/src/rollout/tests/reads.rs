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
    reads(&spec, &TargetFacts { before: workload.clone(), wanted: workload, configs: Vec::new() }, "uid")
}

fn labelled(reads: &[Read], wanted: &str) -> Vec<String> {
    let labels = reads.iter().filter_map(|read| match read {
        Read::Labelled(_, _, kind, _, labels) if *kind == wanted => Some(labels.clone()),
        _ => None,
    });
    labels.collect()
}

#[test]
fn only_what_has_the_labels_of_the_workload_and_of_its_services_is_listed() {
    let plan = json!({"canary": {"route": {"httpRoute": "web", "backend": "web"}, "steps": [{"setWeight": 5}]}});
    let found = read_of(plan, json!({"matchLabels": {"app": "web", "tier": "front"}}));
    assert_eq!(labelled(&found, "ReplicaSet"), ["app=web,tier=front"]);
    let services: Vec<_> =
        ["web", "web-stable", "web-canary"].map(|name| format!("kubernetes.io/service-name={name}")).to_vec();
    assert_eq!(labelled(&found, "EndpointSlice"), services);
    let whole: Vec<_> = found.iter().filter(|read| matches!(read, Read::All(..))).collect();
    assert!(matches!(whole.as_slice(), [Read::All(_, _, "HorizontalPodAutoscaler", _)]), "{whole:?}");
}

#[test]
fn a_selector_that_is_more_than_labels_reads_the_whole_kind() {
    let plan = json!({"canary": {"steps": [{"setWeight": 5}]}});
    let selector = json!({"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "tier", "operator": "Exists"}]});
    let found = read_of(plan, selector);
    assert!(found.contains(&Read::All("apps", "v1", "ReplicaSet", "shop".to_owned())));
    assert_eq!(labelled(&found, "ReplicaSet"), Vec::<String>::new());
}
