use super::*;

#[test]
fn a_service_lists_the_ready_pods() {
    let mut cluster = Cluster::new(Vec::new());
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "teller", "namespace": "bank"},
        "spec": {"type": "LoadBalancer", "selector": {"app": "teller"}, "ports": [{"port": 80, "targetPort": 8080}]},
    });
    cluster.apply(&service);
    cluster.apply(&deployment("bank/teller:1", &json!({"replicas": 2})));
    cluster.run(1);
    let ready = |cluster: &Cluster| {
        let slices = cluster.list("discovery.k8s.io", "EndpointSlice");
        let endpoints = slices[0]["endpoints"].as_array().cloned().unwrap_or_default();
        endpoints.iter().filter(|endpoint| endpoint["conditions"]["ready"] == true).count()
    };
    assert_eq!(ready(&cluster), 0);
    cluster.run(5);
    assert_eq!(ready(&cluster), 2);
    assert_eq!(cluster.health(&service), Health::Healthy);
}

#[test]
fn an_autoscaler_follows_what_is_asked_within_its_range() {
    let mut cluster = Cluster::new(Vec::new());
    let teller = deployment("bank/teller:1", &json!({"replicas": 2}));
    let autoscaler = json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "teller", "namespace": "bank"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "teller"},
            "minReplicas": 2, "maxReplicas": 5,
        },
    });
    cluster.apply(&autoscaler);
    cluster.run(1);
    assert!(progressing(&cluster.health(&autoscaler), "FailedGetScale"), "{:?}", cluster.health(&autoscaler));
    cluster.apply(&teller);
    cluster.run(10);
    assert_eq!(cluster.health(&autoscaler), Health::Healthy);
    cluster.workloads.set_behaviour(Behaviour::of(Effect::WantsReplicas(9)));
    cluster.run(10);
    assert_eq!(cluster.live(&teller)["spec"]["replicas"], 5);
    assert_eq!(cluster.live(&autoscaler)["status"]["currentReplicas"], 5);
    assert_eq!((cluster.health(&teller), cluster.health(&autoscaler)), (Health::Healthy, Health::Healthy));
}

#[test]
fn a_budget_counts() {
    let mut cluster = Cluster::new(Vec::new());
    let budget = json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "teller", "namespace": "bank"},
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "teller"}}},
    });
    cluster.apply(&budget);
    cluster.apply(&deployment("bank/teller:1", &json!({"replicas": 3})));
    cluster.run(10);
    assert_eq!(cluster.health(&budget), Health::Healthy);
    let status = cluster.live(&budget)["status"].clone();
    assert_eq!((&status["expectedPods"], &status["desiredHealthy"]), (&json!(3), &json!(2)));
    assert_eq!(status["disruptionsAllowed"], 1);
}

#[test]
fn a_claim_is_bound_and_its_volume_goes_with_it() {
    let mut cluster = Cluster::new(Vec::new());
    let claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data", "namespace": "bank"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    });
    cluster.apply(&claim);
    cluster.run(0);
    assert_eq!(cluster.live(&claim)["status"]["phase"], "Bound");
    cluster.patch(&claim, &json!({"spec": {"resources": {"requests": {"storage": "2Gi"}}}}));
    cluster.run(0);
    assert_eq!(cluster.live(&claim)["status"]["capacity"]["storage"], "2Gi");
    cluster.delete(&claim, Propagation::Background);
    cluster.run(0);
    assert!(cluster.get(("", "PersistentVolumeClaim"), "data").is_none());
    assert!(cluster.api.list_arc(&GroupKind::new("", "PersistentVolume"), None).is_empty());
}

#[test]
fn a_namespace_ends_with_everything_in_it() {
    let mut cluster = Cluster::new(Vec::new());
    assert!(cluster.get(("", "ServiceAccount"), "default").is_some());
    cluster.apply(&deployment("bank/teller:1", &json!({"replicas": 2})));
    cluster.run(10);
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "bank"}});
    cluster.delete(&namespace, Propagation::Background);
    cluster.run(30);
    assert!(cluster.api.get_arc(&GroupKind::new("", "Namespace"), "", "bank").is_none());
    assert!(cluster.pods().is_empty());
    assert_eq!(cluster.workloads.next_due(), None);
    assert_eq!(cluster.workloads.pods.all().count(), 0);
}
