//! What a change states beside the workload that it releases: written before or after it, by its place in the order.

use interlock_rehearsal::{
    history::{History, config, deployment},
    world::Happening,
};
use serde_json::{Value, json};

use super::play::{each_kill, history, id, play, status, told};

/// A ConfigMap that no pod reads comes before the workload, a PodDisruptionBudget after it.
fn release(image: &str) -> History {
    let budget = json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "web-0", "namespace": "teller"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web-0"}}},
    });
    let manifests = [budget, deployment("web-0", image), config("teller", 0, "after")];
    let plan = json!({"canary": {"steps": [{"setWeight": 50}, {"pause": {"duration": "10s"}}]}});
    history(&plan, Vec::new(), &manifests, Vec::new())
}

/// Where in the timeline this was first stored.
fn first(timeline: &[Happening], kind: &str, is: impl Fn(&Value) -> bool) -> Option<usize> {
    timeline.iter().position(|happening| {
        matches!(happening, Happening::Stored(audit) if audit.id.kind == kind && audit.new.as_deref().is_some_and(&is))
    })
}

#[test]
fn what_comes_before_a_workload_is_written_before_its_release_and_what_comes_after_it_when_that_has_succeeded() {
    let (world, timeline) = play(&release("web:new"));
    assert_eq!(status(&world)["phase"], "Succeeded", "{}", told(&world));
    let before = first(&timeline, "ConfigMap", |config| config["data"]["value"] == "after").unwrap();
    let begun = first(&timeline, "Rollout", |_| true).unwrap();
    let succeeded = first(&timeline, "Rollout", |rollout| rollout["status"]["phase"] == "Succeeded").unwrap();
    let after = first(&timeline, "PodDisruptionBudget", |_| true).unwrap();
    assert!(before < begun && begun < succeeded && succeeded < after, "{before} {begun} {succeeded} {after}");
}

#[test]
fn when_a_release_goes_back_what_came_before_it_returns_and_what_comes_after_it_is_never_written() {
    each_kill(&release("web:bad"), |world, timeline, why| {
        assert_eq!(status(world)["phase"], "RolledBack", "{why}");
        assert_eq!(world.live(&id("", "ConfigMap", "config-0")).unwrap()["data"]["value"], "before", "{why}");
        assert_eq!(first(timeline, "PodDisruptionBudget", |_| true), None, "{why}");
    });
}
