//! StatefulSets by partition, DaemonSets node by node.

use interlock_crds::Verb;
use interlock_rehearsal::{
    faults::Faults,
    history::{History, config},
    world::{Happening, World},
};
use serde_json::{Value, json};

use super::play::{command, each_kill, history, id, play, status, stored, told};

fn set(kind: &str, image: &str) -> Value {
    let mut set = json!({
        "apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "db", "namespace": "teller"},
        "spec": {"selector": {"matchLabels": {"app": "db"}}, "template": {
            "metadata": {"labels": {"app": "db"}}, "spec": {"containers": [{"name": "app", "image": image}]}}},
    });
    if kind == "StatefulSet" {
        set["spec"]["replicas"] = json!(3);
        set["spec"]["serviceName"] = json!("db");
    }
    set
}

fn batches(kind: &str, image: &str) -> History {
    let steps =
        json!([{"setWeight": 30}, {"pause": {"duration": "10s"}}, {"setWeight": 60}, {"pause": {"duration": "10s"}}]);
    let plan = json!({"batches": {"steps": steps}});
    history(&plan, vec![set(kind, "web:zero")], &[set(kind, image)], Vec::new())
}

fn images(world: &World) -> Vec<String> {
    let pods = world.objects("", "Pod");
    let ours = pods.iter().filter(|pod| pod["metadata"]["labels"]["app"] == "db");
    let mut images: Vec<_> =
        ours.map(|pod| pod["spec"]["containers"][0]["image"].as_str().unwrap().to_owned()).collect();
    images.sort();
    images
}

fn strategy(world: &World, kind: &str) -> Value {
    world.live(&id("apps", kind, "db")).unwrap()["spec"]["updateStrategy"].clone()
}

fn own_strategy(kind: &str) -> Value {
    if kind == "StatefulSet" {
        json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0, "maxUnavailable": 1}})
    } else {
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}})
    }
}

/// Partitions that the executor gave the StatefulSet, in their order.
fn partitions(timeline: &[Happening]) -> Vec<Option<i64>> {
    let mut partitions = Vec::new();
    for set in stored(timeline, &id("apps", "StatefulSet", "db")).into_iter().flatten() {
        let partition = set["spec"]["updateStrategy"]["rollingUpdate"]["partition"].as_i64();
        partitions.extend((partitions.last() != Some(&partition)).then_some(partition));
    }
    partitions
}

#[test]
fn a_stateful_set_takes_the_new_version_from_its_last_pod_on() {
    let (world, timeline) = play(&batches("StatefulSet", "web:new"));
    assert_eq!(status(&world)["phase"], "Succeeded", "{}", told(&world));
    assert_eq!(images(&world), ["web:new"; 3]);
    assert_eq!(partitions(&timeline), [Some(2), Some(1), Some(0)]);
    assert_eq!(strategy(&world, "StatefulSet"), own_strategy("StatefulSet"));
}

#[test]
fn a_daemon_set_takes_it_node_by_node() {
    let (world, timeline) = play(&batches("DaemonSet", "web:new"));
    assert_eq!(status(&world)["phase"], "Succeeded", "{}", told(&world));
    assert_eq!(images(&world), ["web:new"; 3]);
    let deleted: Vec<_> = timeline
        .iter()
        .filter_map(|happening| match happening {
            Happening::Stored(audit) if audit.user.ends_with(":executor") && audit.id.kind == "Pod" => Some(audit.at),
            _ => None,
        })
        .collect();
    assert_eq!(deleted.len(), 3, "{deleted:?}");
    assert!(deleted.windows(2).all(|pair| pair[1].duration_since(pair[0]).as_secs() >= 10), "{deleted:?}");
    assert_eq!(strategy(&world, "DaemonSet"), own_strategy("DaemonSet"));
}

#[test]
fn a_version_that_never_gets_ready_costs_one_pod_and_is_taken_back() {
    for kind in ["StatefulSet", "DaemonSet"] {
        let (world, _) = play(&batches(kind, "web:bad"));
        assert_eq!(status(&world)["phase"], "RolledBack", "{kind} {}", told(&world));
        assert_eq!(images(&world), ["web:zero"; 3], "{kind}");
        assert_eq!(strategy(&world, kind), own_strategy(kind));
    }
}

#[test]
fn a_person_who_aborts_between_two_batches_gets_every_pod_back() {
    for kind in ["StatefulSet", "DaemonSet"] {
        let mut history = batches(kind, "web:new");
        history.acts.push(command(22_000, Verb::Abort));
        let (world, _) = play(&history);
        assert_eq!(status(&world)["phase"], "RolledBack", "{kind} {}", told(&world));
        assert_eq!(images(&world), ["web:zero"; 3], "{kind}");
        assert_eq!(strategy(&world, kind), own_strategy(kind));
    }
}

#[test]
fn what_the_pods_read_is_written_in_its_place_and_put_back() {
    for (image, phase, value) in [("web:new", "Succeeded", "after"), ("web:bad", "RolledBack", "before")] {
        let mut workload = set("StatefulSet", image);
        workload["spec"]["template"]["spec"]["containers"][0]["envFrom"] =
            json!([{"configMapRef": {"name": "config-0"}}]);
        let plan = json!({"batches": {"steps": [{"setWeight": 50}]}});
        let manifests = [config("teller", 0, "after"), workload];
        let (world, _) = play(&history(&plan, vec![set("StatefulSet", "web:zero")], &manifests, Vec::new()));
        assert_eq!(status(&world)["phase"], phase, "{}", told(&world));
        assert_eq!(world.live(&id("", "ConfigMap", "config-0")).unwrap()["data"]["value"], value);
    }
}

#[test]
fn a_disruption_budget_that_allows_nothing_is_waited_for() {
    let budget = json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "db", "namespace": "teller"},
        "spec": {"minAvailable": 3, "selector": {"matchLabels": {"app": "db"}}},
    });
    let plan = json!({"batches": {"steps": [{"setWeight": 30}]}});
    for kind in ["StatefulSet", "DaemonSet"] {
        let objects = vec![set(kind, "web:zero"), budget.clone()];
        let (world, timeline) = play(&history(&plan, objects, &[set(kind, "web:new")], Vec::new()));
        assert_eq!(status(&world)["phase"], "RolledBack", "{kind} {}", told(&world));
        assert!(told(&world).contains("a PodDisruptionBudget allows no further pod"), "{kind} {}", told(&world));
        assert!(!timeline.iter().any(|h| matches!(h, Happening::Stored(a) if a.id.kind == "Pod")), "{kind}");
    }
}

#[test]
fn batches_end_well_whatever_goes_wrong() {
    for seed in 1..13 {
        let image_of = if seed % 3 == 0 { "web:bad" } else { "web:new" };
        let kind = if seed % 2 == 0 { "StatefulSet" } else { "DaemonSet" };
        let storm = History { seed, faults: Faults::storm(), controllers: 2, ..batches(kind, image_of) };
        let (world, _) = play(&storm);
        let end = status(&world)["finished"]["phase"].clone();
        let has = if end == "Succeeded" { "web:new" } else { "web:zero" };
        assert!(images(&world).iter().all(|image| image == has), "seed {seed}: {end} {}", told(&world));
        assert_eq!(strategy(&world, kind), own_strategy(kind), "seed {seed}");
    }
}

#[test]
fn a_controller_killed_after_any_single_write_replaces_the_same_pods() {
    for (kind, image, phase, has) in [
        ("StatefulSet", "web:new", "Succeeded", "web:new"),
        ("StatefulSet", "web:bad", "RolledBack", "web:zero"),
        ("DaemonSet", "web:new", "Succeeded", "web:new"),
        ("DaemonSet", "web:bad", "RolledBack", "web:zero"),
    ] {
        each_kill(&batches(kind, image), |world, _, why| {
            assert_eq!(status(world)["phase"], phase, "{kind} {why}");
            assert_eq!(images(world), [has; 3], "{kind} {why}");
            assert_eq!(strategy(world, kind), own_strategy(kind), "{kind} {why}");
        });
    }
}
