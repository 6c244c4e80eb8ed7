use super::*;

#[test]
fn pods_of_a_lost_node_are_made_again_elsewhere() {
    let mut cluster = Cluster::new(Vec::new());
    let teller = deployment("bank/teller:1", &json!({"replicas": 3}));
    cluster.apply(&teller);
    cluster.apply(&workload("DaemonSet", "agent", "bank/agent:1", &json!({})));
    cluster.run(10);
    cluster.workloads.lose_node("node-2");
    cluster.run(10);
    assert_eq!(cluster.ready_pods(), 4);
    assert!(progressing(&cluster.health(&teller), "2 of 3"), "{:?}", cluster.health(&teller));
    cluster.run(300);
    assert_eq!(cluster.health(&teller), Health::Healthy);
    let pods = cluster.pods();
    let left: Vec<&Arc<Value>> = pods.iter().filter(|pod| pod["spec"]["nodeName"] == "node-2").collect();
    assert_eq!(left.len(), 1, "only the pod of the DaemonSet stays");
    assert_eq!(left[0]["metadata"]["labels"]["app"], "agent");
}

#[test]
fn a_node_that_is_back_in_time_keeps_its_pods() {
    let mut cluster = Cluster::new(Vec::new());
    let agent = workload("DaemonSet", "agent", "bank/agent:1", &json!({}));
    let teller = deployment("bank/teller:1", &json!({"replicas": 3}));
    cluster.apply(&agent);
    cluster.apply(&teller);
    cluster.run(10);
    let names = |cluster: &Cluster| {
        let pods = cluster.pods();
        pods.iter().map(|pod| pod["metadata"]["name"].clone()).collect::<Vec<_>>()
    };
    let before = names(&cluster);
    cluster.workloads.lose_node("node-1");
    cluster.run(100);
    assert!(progressing(&cluster.health(&agent), "2 of 3"), "{:?}", cluster.health(&agent));
    cluster.workloads.return_node("node-1");
    cluster.run(10);
    assert_eq!((cluster.health(&agent), cluster.health(&teller)), (Health::Healthy, Health::Healthy));
    assert_eq!(names(&cluster), before);
}

#[test]
fn without_a_ready_node_pods_wait() {
    let mut cluster = Cluster::new(Vec::new());
    for node in ["node-1", "node-2", "node-3"] {
        cluster.workloads.lose_node(node);
    }
    cluster.apply(&deployment("bank/teller:1", &json!({})));
    cluster.run(10);
    assert!(progressing(&health(&cluster.pods()[0]), "it has no node"), "{:?}", health(&cluster.pods()[0]));
    cluster.workloads.return_node("node-3");
    cluster.run(10);
    assert_eq!(cluster.pods()[0]["spec"]["nodeName"], "node-3");
    assert_eq!(cluster.ready_pods(), 1);
}

#[test]
fn a_daemon_set_rolls_node_by_node() {
    let mut cluster = Cluster::new(Vec::new());
    let agent = |image| workload("DaemonSet", "agent", image, &json!({}));
    cluster.apply(&agent("bank/agent:1"));
    cluster.run(10);
    assert_eq!(cluster.health(&agent("")), Health::Healthy);
    assert_eq!(cluster.pods().len(), 3);
    cluster.apply(&agent("bank/agent:2"));
    cluster.watch(60, |cluster| assert!(cluster.ready_pods() >= 2));
    assert_eq!(cluster.health(&agent("")), Health::Healthy);
    assert!(cluster.pods().iter().all(|pod| pod["spec"]["containers"][0]["image"] == "bank/agent:2"));
}
