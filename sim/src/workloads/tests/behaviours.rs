use super::*;
use crate::api::DenyRule;

#[test]
fn a_crash_loop_is_seen_and_ends_when_the_behaviour_does() {
    let mut cluster = Cluster::new(vec![bad_image(Effect::CrashLoop { after: seconds(1) })]);
    let teller = deployment("bank/teller:bad", &json!({}));
    cluster.apply(&teller);
    cluster.run(100);
    let pod = cluster.pods()[0].clone();
    assert!(failed(&health(&pod), "CrashLoopBackOff"), "{:?}", health(&pod));
    assert!(pod["status"]["containerStatuses"][0]["restartCount"].as_i64().unwrap() >= 3);
    cluster.workloads.set_behaviours(Vec::new());
    cluster.run(10);
    assert_eq!(cluster.health(&teller), Health::Healthy);
}

#[test]
fn ready_pods_cease_to_be_ready() {
    let mut cluster = Cluster::new(Vec::new());
    let teller = deployment("bank/teller:1", &json!({"replicas": 2}));
    cluster.apply(&teller);
    cluster.run(10);
    cluster.workloads.set_behaviour(Behaviour {
        namespace: Some("ba*".to_owned()),
        workload: Some("teller".to_owned()),
        ..Behaviour::of(Effect::NeverReady)
    });
    cluster.run(1);
    assert_eq!(cluster.ready_pods(), 0);
    assert!(progressing(&cluster.health(&teller), "available"), "{:?}", cluster.health(&teller));
    cluster.workloads.set_behaviours(vec![Behaviour::of(Effect::ReadyAfter(seconds(30)))]);
    cluster.run(29);
    assert_eq!(cluster.ready_pods(), 0);
    cluster.run(1);
    assert_eq!(cluster.ready_pods(), 2);
}

#[test]
fn pods_take_their_time_to_end() {
    let mut cluster = Cluster::new(vec![Behaviour::of(Effect::TerminatesAfter(seconds(20)))]);
    let teller = deployment("bank/teller:1", &json!({}));
    cluster.apply(&teller);
    cluster.run(10);
    cluster.patch(&teller, &json!({"spec": {"replicas": 0}}));
    cluster.run(10);
    assert_eq!(cluster.live(&teller)["status"]["terminatingReplicas"], 1);
    cluster.run(11);
    assert!(cluster.pods().is_empty());
}

#[test]
fn what_is_denied_is_told_and_tried_again() {
    let mut cluster = Cluster::new(Vec::new());
    let rule = DenyRule { verb: Some("create".into()), resource: Some("pods".into()), ..DenyRule::default() };
    cluster.api.authorizer().deny(rule.clone());
    let teller = deployment("bank/teller:1", &json!({}));
    cluster.apply(&teller);
    cluster.run(10);
    let set = cluster.list("apps", "ReplicaSet")[0].clone();
    assert!(progressing(&health(&set), "FailedCreate"), "{:?}", health(&set));
    assert!(cluster.api.authorizer().allow(&rule));
    cluster.run(30);
    assert_eq!(cluster.health(&teller), Health::Healthy);
    assert_eq!(cluster.health(&set), Health::Healthy);
}

#[test]
fn two_runs_are_equal_to_the_last_byte() {
    let run = || {
        let mut cluster = Cluster::new(vec![bad_image(Effect::NeverReady)]);
        cluster.apply(&deployment("bank/teller:1", &json!({"replicas": 4})));
        cluster.run(10);
        cluster.apply(&deployment("bank/teller:bad", &json!({"replicas": 6})));
        cluster.workloads.lose_node("node-3");
        cluster.run(1000);
        cluster.api.all().map(|object| object.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(run(), run());
}

#[test]
fn a_log_that_was_cut_is_no_loss() {
    let mut cluster = Cluster::new(Vec::new());
    let teller = deployment("bank/teller:1", &json!({"replicas": 2}));
    cluster.apply(&teller);
    cluster.api.compact(cluster.api.resource_version());
    cluster.run(10);
    assert_eq!(cluster.health(&teller), Health::Healthy);
}

#[test]
fn a_change_of_one_leaves_the_others_unwritten() {
    let mut cluster = Cluster::new(Vec::new());
    for number in 0..20 {
        cluster.apply(&workload("Deployment", &format!("teller-{number}"), "bank/teller:1", &json!({"replicas": 2})));
    }
    cluster.run(30);
    let before = cluster.api.resource_version();
    cluster.patch(&workload("Deployment", "teller-7", "", &json!({})), &json!({"metadata": {"labels": {"a": "b"}}}));
    cluster.run(30);
    assert_eq!(cluster.api.resource_version(), before + 1);
}

#[test]
fn behaviours_are_written_as_in_scenario_files() {
    let stated = json!([
        {"image": "*:bad", "effect": "neverReady"},
        {"namespace": "bank", "workload": "ledger-?", "effect": {"readyAfter": "1m30s"}},
        {"effect": {"crashLoop": {"after": "5s"}}},
        {"effect": {"crashLoop": {}}},
        {"effect": {"jobFails": {"times": 2}}},
        {"effect": {"wantsReplicas": 4}},
    ]);
    let behaviours: Vec<Behaviour> = serde_json::from_value(stated.clone()).unwrap();
    assert_eq!(behaviours[1].effect, Effect::ReadyAfter(seconds(90)));
    assert_eq!(behaviours[3].effect, Effect::CrashLoop { after: seconds(1) });
    let again: Vec<Behaviour> = serde_json::from_value(serde_json::to_value(&behaviours).unwrap()).unwrap();
    assert_eq!(again, behaviours);
    assert!(serde_json::from_value::<Behaviour>(json!({"images": "*", "effect": "neverReady"})).is_err());
}
