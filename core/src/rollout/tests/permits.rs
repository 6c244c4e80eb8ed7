//! What the webhook lets through while a release runs, and what the derived objects are.

use serde_json::{Value, json};

use super::game::{Game, UID, by_pods, deployment, route, routed, service};
use crate::rollout::{
    ConfigTarget, Refusal, RolloutVerb, TargetFacts,
    derive::{config, service as services, workload},
    live, permitted,
};

fn running() -> Game {
    let steps = json!([{"setWeight": 20}, {"pause": {}}]);
    Game::new(routed(steps), deployment("v1", 3), deployment("v2", 3), &[service(), route()])
}

/// Stops before the write to `name` of this form, which is announced then.
fn announced(form: &str) -> (Game, Option<Value>, Value) {
    let mut game = running();
    for _ in 0..400 {
        let decision = game.decide();
        if let Some(write) = decision.writes.iter().find(|write| format!("{:?}", write.form) == form) {
            let before = game.cluster.live().get(&write.id).cloned();
            let object = write.object.clone().unwrap();
            game.status = decision.status;
            return (game, before, object);
        }
        if !game.pass() {
            match game.cluster.events().into_iter().next() {
                Some(event) => game.happen(&event),
                None => game.command(RolloutVerb::Promote),
            }
        }
    }
    panic!("{form} never comes");
}

fn judge(game: &Game, before: Option<&Value>, after: Option<&Value>) -> Result<(), Refusal> {
    game.with_facts(&game.status, &game.cluster.live(), |facts| permitted(facts, before, after))
}

#[test]
fn only_what_is_derived_passes() {
    let (game, _, object) = announced("CanaryWorkload");
    assert_eq!(judge(&game, None, Some(&object)), Ok(()));
    for (place, value) in [
        ("/spec/template/spec/hostNetwork", json!(true)),
        ("/spec/template/spec/containers/1", json!({"name": "sidecar", "image": "evil"})),
        ("/metadata/ownerReferences", json!([{"apiVersion": "v1", "kind": "Pod", "name": "x", "uid": "y"}])),
        ("/spec/replicas", json!(50)),
        ("/spec/template/spec/containers/0/image", json!("v3")),
    ] {
        let mut changed = object.clone();
        let (parent, key) = place.rsplit_once('/').unwrap();
        match changed.pointer_mut(parent).unwrap() {
            Value::Array(items) => items.push(value),
            parent => parent[key] = value,
        }
        assert!(matches!(judge(&game, None, Some(&changed)), Err(Refusal::NotDerived(_))), "{place}");
    }
    let mut other = object;
    other["metadata"]["name"] = json!("somebody");
    assert!(matches!(judge(&game, None, Some(&other)), Err(Refusal::NotAnnounced { .. })));
}

#[test]
fn the_stable_may_be_written_only_when_it_is_announced() {
    let (game, before, object) = announced("Promoted");
    assert_eq!(judge(&game, before.as_ref(), Some(&object)), Ok(()));
    let mut early = running();
    early.run_for(10);
    assert!(matches!(judge(&early, before.as_ref(), Some(&object)), Err(Refusal::NotAnnounced { .. })));
    let mut another = before.clone().unwrap();
    another["metadata"]["uid"] = json!("another");
    assert!(matches!(judge(&game, Some(&another), Some(&object)), Err(Refusal::AnotherObject { .. })));
    assert!(matches!(judge(&game, before.as_ref(), None), Err(Refusal::NotAnnounced { .. })), "nor deleted");
}

#[test]
fn a_route_may_get_the_announced_weight_and_nothing_else() {
    let (game, before, object) = announced("SplitRoute");
    assert_eq!(judge(&game, before.as_ref(), Some(&object)), Ok(()));
    let mut heavier = object.clone();
    heavier["spec"]["rules"][0]["backendRefs"][1]["weight"] = json!(90);
    assert!(judge(&game, before.as_ref(), Some(&heavier)).is_err());
    let mut hosts = object;
    hosts["spec"]["hostnames"] = json!(["bank.example"]);
    assert!(judge(&game, before.as_ref(), Some(&hosts)).is_err());
}

#[test]
fn a_share_service_costs_nothing_and_reaches_one_version() {
    let derived = services::share_service(&service(), "teller-canary", "abc", UID);
    assert_eq!(derived["spec"]["selector"], json!({"app": "teller", "pod-template-hash": "abc"}));
    assert_eq!((&derived["spec"]["type"], &derived["spec"]["ports"]), (&json!("ClusterIP"), &json!([{"port": 80}])));
    assert_eq!(derived["spec"].get("clusterIP"), None);
    let pinned = services::pinned_service(&service(), "abc");
    assert_eq!(services::unpinned_service(&pinned), service());
}

#[test]
fn copies_are_used_wherever_pods_name_them() {
    let named = |kind: &str, name: &str| {
        let wanted = json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": "teller"}, "data": {"a": "b"}});
        ConfigTarget { before: None, wanted }
    };
    let configs = vec![named("ConfigMap", "both"), named("Secret", "both"), named("Secret", "unused")];
    let mut wanted = deployment("v2", 3);
    let spec = &mut wanted["spec"]["template"]["spec"];
    spec["imagePullSecrets"] = json!([{"name": "both"}, {"name": "other"}]);
    spec["volumes"] = json!([
        {"name": "a", "configMap": {"name": "both"}}, {"name": "b", "secret": {"secretName": "both"}},
        {"name": "c", "projected": {"sources": [{"configMap": {"name": "both"}}, {"secret": {"name": "both"}}, {"secret": {"name": "other"}}]}},
    ]);
    spec["initContainers"] =
        json!([{"name": "i", "envFrom": [{"configMapRef": {"name": "both"}}, {"secretRef": {"name": "both"}}]}]);
    spec["containers"][0]["env"] = json!([
        {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "both", "key": "a"}}}, {"name": "B", "valueFrom": {"secretKeyRef": {"name": "both", "key": "a"}}},
    ]);
    let target = TargetFacts::new(deployment("v1", 3), wanted, configs);
    let canary = workload::canary_deployment(&target, UID, 2);
    let text = canary["spec"]["template"].to_string();
    let copy = config::copy_name("both", UID);
    assert_eq!(
        (
            text.matches(&format!("\"{copy}\"")).count(),
            text.matches("\"both\"").count(),
            text.matches("\"other\"").count()
        ),
        (9, 0, 2)
    );
    assert_eq!(config::config_copies(&target.wanted, &target.configs, UID).len(), 2, "what no pod names is not copied");
    assert_eq!(
        canary["metadata"]["labels"].as_object().unwrap().len(),
        2,
        "no label by which another tool would claim it"
    );
    assert_eq!(canary["spec"]["selector"]["matchLabels"]["app"], "teller");
}

#[test]
fn a_route_is_accepted_when_every_parent_has_seen_it() {
    let parent = |generation: i64, status: &str| json!({"parentRef": {"name": "edge"}, "conditions": [{"type": "Accepted", "status": status, "observedGeneration": generation}]});
    let mut object = route();
    object["metadata"]["generation"] = json!(5);
    for (parents, accepted) in [
        (json!([]), false),
        (json!([parent(4, "True")]), false),
        (json!([parent(5, "False")]), false),
        (json!([parent(5, "True")]), true),
        (json!([parent(5, "True"), parent(5, "False")]), false),
    ] {
        object["status"] = json!({"parents": parents});
        assert_eq!(live::is_accepted(&object), accepted, "{parents}");
    }
    object["spec"]["parentRefs"] = json!([{"name": "edge"}, {"name": "inner", "namespace": "infra"}]);
    object["status"] = json!({"parents": [parent(5, "True")]});
    assert!(!live::is_accepted(&object), "the second Gateway has said nothing");
}

#[test]
fn endpoints_are_counted_by_the_version_of_their_pod() {
    let set = |name: &str, hash: &str| json!({"metadata": {"name": name, "namespace": "teller", "labels": {"pod-template-hash": hash}}});
    let long = format!("{}-5d4f", "x".repeat(60));
    let pod =
        |name: &str, ready: Value| json!({"targetRef": {"kind": "Pod", "name": name}, "conditions": {"ready": ready}});
    let slice = json!({
        "metadata": {"namespace": "teller", "labels": {"kubernetes.io/service-name": "teller"}},
        "endpoints": [pod("teller-5d4f-abcde", json!(true)), pod("teller-5d4f-fghij", json!(false)), pod("teller-canary-77aa-abcde", Value::Null),
            pod(&format!("{}abcde", &format!("{long}-")[..58]), json!(true)), pod("stranger", json!(true))],
    });
    let counted = live::ready_endpoints(
        &[slice],
        &[set("teller-5d4f", "5d4f"), set("teller-canary-77aa", "77aa"), set(&long, "long")],
    );
    let expected: Vec<_> = counted["teller"].iter().map(|(hash, n)| (hash.as_str(), *n)).collect();
    assert_eq!(expected, [("", 1), ("5d4f", 1), ("77aa", 1), ("long", 1)]);
}

#[test]
fn an_undisturbed_canary_needs_few_writes() {
    let mut game = running();
    game.run_for(10);
    game.command(RolloutVerb::PromoteFully);
    game.run_for(300);
    assert_eq!(game.log.len(), 15, "{:#?}", game.log);
    let steps = json!([{"setWeight": 20}, {"setWeight": 40}, {"setWeight": 50}]);
    let mut game = Game::new(by_pods(steps), deployment("v1", 3), deployment("v2", 3), &[]);
    game.run_for(300);
    let written = [
        "Create CanaryWorkload teller-canary 1",
        "Update CanaryWorkload teller-canary 2",
        "Update CanaryWorkload teller-canary 3",
        "Update Promoted teller -1",
        "Delete Gone teller-canary -1",
    ];
    assert_eq!(game.log, written);
    assert_eq!(game.urgent_writes, 6, "of {} changes of status", game.status_writes);
}
