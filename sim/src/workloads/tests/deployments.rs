use super::*;

#[test]
fn a_deployment_becomes_healthy() {
    let mut cluster = Cluster::new(Vec::new());
    let teller = deployment("bank/teller:1", &json!({"replicas": 3}));
    cluster.apply(&teller);
    cluster.run(1);
    assert!(progressing(&cluster.health(&teller), "available"), "{:?}", cluster.health(&teller));
    cluster.run(1);
    assert_eq!(cluster.health(&teller), Health::Healthy);
    let live = cluster.live(&teller);
    assert_eq!(live["metadata"]["annotations"]["deployment.kubernetes.io/revision"], "1");
    assert_eq!(live["status"]["availableReplicas"], 3);
    assert_eq!(live["status"]["terminatingReplicas"], 0);
    for pod in cluster.pods() {
        assert_eq!(health(&pod), Health::Healthy);
        assert_eq!(pod["status"]["containerStatuses"][0]["image"], "bank/teller:1");
    }
    for set in cluster.list("apps", "ReplicaSet") {
        assert_eq!(health(&set), Health::Healthy);
    }
    assert_eq!(cluster.workloads.next_due(), None);
    assert!(!cluster.workloads.step(&mut cluster.api));
}

#[test]
fn a_rolling_update_keeps_its_bounds() {
    let mut cluster = Cluster::new(Vec::new());
    let strategy = json!({"rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}});
    let teller = deployment("bank/teller:1", &json!({"replicas": 10, "strategy": strategy}));
    cluster.apply(&teller);
    cluster.run(10);
    cluster.apply(&deployment("bank/teller:2", &json!({"replicas": 10, "strategy": strategy})));
    // 25 % of 10 is a surge of 3 and 2 that may be missing.
    cluster.watch(60, |cluster| {
        let active = cluster.pods().iter().filter(|pod| super::super::pods::is_active(pod)).count();
        assert!(cluster.ready_pods() >= 8 && active <= 13, "{} ready of {active}", cluster.ready_pods());
    });
    assert_eq!(cluster.health(&teller), Health::Healthy);
    assert!(cluster.pods().iter().all(|pod| pod["spec"]["containers"][0]["image"] == "bank/teller:2"));
    assert_eq!(cluster.live(&teller)["metadata"]["annotations"]["deployment.kubernetes.io/revision"], "2");
}

#[test]
fn a_bad_image_ends_at_the_deadline_and_a_rollback_heals_it() {
    let mut cluster = Cluster::new(vec![bad_image(Effect::NeverReady)]);
    let spec = json!({"replicas": 4, "progressDeadlineSeconds": 60});
    let teller = deployment("bank/teller:1", &spec);
    cluster.apply(&teller);
    cluster.run(10);
    cluster.apply(&deployment("bank/teller:bad", &spec));
    cluster.run(55);
    assert!(progressing(&cluster.health(&teller), ""), "{:?}", cluster.health(&teller));
    cluster.run(10);
    assert!(failed(&cluster.health(&teller), "ProgressDeadlineExceeded"), "{:?}", cluster.health(&teller));
    assert_eq!(cluster.live(&teller)["status"]["availableReplicas"], 3);
    cluster.apply(&teller);
    cluster.run(10);
    assert_eq!(cluster.health(&teller), Health::Healthy);
    assert_eq!(cluster.live(&teller)["metadata"]["annotations"]["deployment.kubernetes.io/revision"], "3");
    assert_eq!(cluster.list("apps", "ReplicaSet").len(), 2);
}

#[test]
fn recreate_stops_before_it_starts() {
    let mut cluster = Cluster::new(Vec::new());
    let spec = json!({"replicas": 2, "strategy": {"type": "Recreate"}});
    let teller = deployment("bank/teller:1", &spec);
    cluster.apply(&teller);
    cluster.run(10);
    cluster.apply(&deployment("bank/teller:2", &spec));
    let images = |cluster: &Cluster| {
        let pods = cluster.pods();
        let mut images: Vec<Value> = pods.iter().map(|pod| pod["spec"]["containers"][0]["image"].clone()).collect();
        images.dedup();
        images
    };
    cluster.watch(20, |cluster| assert!(images(cluster).len() < 2));
    assert_eq!(images(&cluster), ["bank/teller:2"]);
    assert_eq!(cluster.health(&teller), Health::Healthy);
}

#[test]
fn a_paused_deployment_scales_but_does_not_roll() {
    let mut cluster = Cluster::new(Vec::new());
    let teller = deployment("bank/teller:1", &json!({"replicas": 2}));
    cluster.apply(&teller);
    cluster.run(10);
    cluster.apply(&deployment("bank/teller:2", &json!({"replicas": 3, "paused": true})));
    cluster.run(10);
    assert_eq!(cluster.ready_pods(), 3);
    assert!(cluster.pods().iter().all(|pod| pod["spec"]["containers"][0]["image"] == "bank/teller:1"));
    assert!(progressing(&cluster.health(&teller), "paused"), "{:?}", cluster.health(&teller));
    cluster.apply(&deployment("bank/teller:2", &json!({"replicas": 3})));
    cluster.run(30);
    assert_eq!(cluster.health(&teller), Health::Healthy);
    assert!(cluster.pods().iter().all(|pod| pod["spec"]["containers"][0]["image"] == "bank/teller:2"));
}

#[test]
fn scaling_and_min_ready_seconds() {
    let mut cluster = Cluster::new(Vec::new());
    let teller = deployment("bank/teller:1", &json!({"replicas": 1, "minReadySeconds": 30}));
    cluster.apply(&teller);
    cluster.run(20);
    assert!(progressing(&cluster.health(&teller), "available"), "{:?}", cluster.health(&teller));
    cluster.run(20);
    assert_eq!(cluster.health(&teller), Health::Healthy);
    cluster.patch(&teller, &json!({"spec": {"replicas": 0}}));
    cluster.run(5);
    assert!(cluster.pods().is_empty());
    assert_eq!(cluster.health(&teller), Health::Healthy);
}

#[test]
fn old_versions_are_kept_up_to_the_limit() {
    let mut cluster = Cluster::new(Vec::new());
    for version in 1..=5 {
        cluster.apply(&deployment(&format!("bank/teller:{version}"), &json!({"revisionHistoryLimit": 2})));
        cluster.run(20);
    }
    assert_eq!(cluster.list("apps", "ReplicaSet").len(), 3);
}

#[test]
fn a_deleted_deployment_takes_everything_along() {
    for propagation in [Propagation::Background, Propagation::Foreground] {
        let mut cluster = Cluster::new(Vec::new());
        let teller = deployment("bank/teller:1", &json!({"replicas": 2}));
        cluster.apply(&teller);
        cluster.run(10);
        cluster.delete(&teller, propagation);
        cluster.run(10);
        assert!(cluster.get(("apps", "Deployment"), "teller").is_none(), "{propagation:?}");
        assert!(cluster.pods().is_empty() && cluster.list("apps", "ReplicaSet").is_empty());
    }
}
