use super::*;

fn ledger(image: &str, spec: &Value) -> Value {
    let mut set = workload("StatefulSet", "ledger", image, spec);
    set["spec"]["serviceName"] = json!("ledger");
    set
}

fn images(cluster: &Cluster) -> Vec<(String, String)> {
    let shown = |pod: &Arc<Value>, pointer| super::super::read::text(pod, pointer).to_owned();
    let pods = cluster.pods();
    pods.iter().map(|pod| (shown(pod, "/metadata/name"), shown(pod, "/spec/containers/0/image"))).collect()
}

#[test]
fn pods_come_in_order_with_their_claims() {
    let mut cluster = Cluster::new(Vec::new());
    let claim = json!({"metadata": {"name": "data"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}},
    }});
    let set = ledger("bank/ledger:1", &json!({"replicas": 3, "volumeClaimTemplates": [claim]}));
    cluster.apply(&set);
    cluster.watch(10, |cluster| assert!(cluster.pods().len() <= cluster.ready_pods() + 1));
    assert_eq!(cluster.health(&set), Health::Healthy);
    let claims = cluster.list("", "PersistentVolumeClaim");
    assert_eq!(claims.len(), 3);
    assert!(claims.iter().all(|claim| health(claim).is_healthy() && claim["status"]["phase"] == "Bound"));
    assert_eq!(claims[2]["metadata"]["name"], "data-ledger-2");
}

#[test]
fn parallel_pods_come_at_once() {
    let mut cluster = Cluster::new(Vec::new());
    let set = ledger("bank/ledger:1", &json!({"replicas": 3, "podManagementPolicy": "Parallel"}));
    cluster.apply(&set);
    cluster.run(0);
    assert_eq!(cluster.pods().len(), 3);
    cluster.run(2);
    assert_eq!(cluster.health(&set), Health::Healthy);
}

#[test]
fn a_partition_keeps_lower_ordinals() {
    let mut cluster = Cluster::new(Vec::new());
    let spec = |partition: i64| json!({"replicas": 3, "updateStrategy": {"rollingUpdate": {"partition": partition}}});
    let set = ledger("bank/ledger:1", &spec(0));
    cluster.apply(&set);
    cluster.run(20);
    let uid = |cluster: &Cluster| cluster.get(("", "Pod"), "ledger-1").unwrap()["metadata"]["uid"].clone();
    let before = uid(&cluster);
    cluster.apply(&ledger("bank/ledger:2", &spec(2)));
    cluster.run(30);
    assert_eq!(uid(&cluster), before, "it was not touched");
    let version = |number: usize| images(&cluster)[number].1.clone();
    assert_eq!([version(0), version(1), version(2)], ["bank/ledger:1", "bank/ledger:1", "bank/ledger:2"]);
    assert_eq!(cluster.health(&set), Health::Healthy);
    let status = cluster.live(&set)["status"].clone();
    assert_ne!(status["currentRevision"], status["updateRevision"]);
    // A pod below the partition comes back as it was.
    let first = cluster.get(("", "Pod"), "ledger-0").unwrap();
    cluster.delete(&first, Propagation::Background);
    cluster.run(20);
    assert_eq!(images(&cluster)[0].1, "bank/ledger:1");

    cluster.apply(&ledger("bank/ledger:2", &spec(0)));
    cluster.run(30);
    assert!(images(&cluster).iter().all(|(_, image)| image == "bank/ledger:2"));
    let status = cluster.live(&set)["status"].clone();
    assert_eq!(status["currentRevision"], status["updateRevision"]);
    assert_eq!(cluster.health(&set), Health::Healthy);
}

#[test]
fn a_bad_image_stops_at_the_highest_ordinal() {
    let mut cluster = Cluster::new(vec![bad_image(Effect::ImagePullError)]);
    let set = ledger("bank/ledger:1", &json!({"replicas": 3}));
    cluster.apply(&set);
    cluster.run(20);
    cluster.apply(&ledger("bank/ledger:bad", &json!({"replicas": 3})));
    cluster.run(600);
    assert_eq!(cluster.ready_pods(), 2);
    assert_eq!(images(&cluster)[2].1, "bank/ledger:bad");
    assert!(progressing(&cluster.health(&set), "2 of 3 pods are ready"), "{:?}", cluster.health(&set));
    // As on a real cluster, somebody has to delete the broken pod after the template is right again.
    cluster.apply(&set);
    cluster.run(60);
    assert_eq!(cluster.ready_pods(), 2);
    let broken = cluster.get(("", "Pod"), "ledger-2").unwrap();
    cluster.delete(&broken, Propagation::Background);
    cluster.run(20);
    assert_eq!(cluster.health(&set), Health::Healthy);
}

#[test]
fn on_delete_waits_for_a_person() {
    let mut cluster = Cluster::new(Vec::new());
    let spec = json!({"replicas": 2, "updateStrategy": {"type": "OnDelete"}});
    cluster.apply(&ledger("bank/ledger:1", &spec));
    cluster.run(20);
    cluster.apply(&ledger("bank/ledger:2", &spec));
    cluster.run(20);
    assert!(images(&cluster).iter().all(|(_, image)| image == "bank/ledger:1"));
    let last = cluster.get(("", "Pod"), "ledger-1").unwrap();
    cluster.delete(&last, Propagation::Background);
    cluster.run(20);
    assert_eq!(images(&cluster)[1].1, "bank/ledger:2");
}

#[test]
fn scaling_down_takes_one_after_the_other_the_highest_first() {
    let mut cluster = Cluster::new(Vec::new());
    let set = ledger("bank/ledger:1", &json!({"replicas": 3}));
    cluster.apply(&set);
    cluster.run(20);
    cluster.patch(&set, &json!({"spec": {"replicas": 1}}));
    cluster.watch(10, |cluster| {
        let going = |pod: &&Arc<Value>| crate::api::meta::is_terminating(pod);
        assert!(cluster.pods().iter().filter(going).count() <= 1);
        assert_eq!(images(cluster)[0].0, "ledger-0");
    });
    assert_eq!(cluster.pods().len(), 1);
    assert_eq!(cluster.health(&set), Health::Healthy);
}
