//! An autoscaler that scales the workload while it is being released.

use interlock_crds::Verb;
use interlock_rehearsal::{
    history::{History, deployment},
    people::{Act, user},
    world::Happening,
};
use interlock_sim::workloads::{Behaviour, Effect};
use serde_json::{Value, json};

use super::play::{command, history, id, play, status, stored, the_change, told};

/// The load asks for six pods. The autoscaler may make four, and six from the pause of the release on.
fn growing(more: (i64, Act)) -> History {
    let scaler = id("autoscaling", "HorizontalPodAutoscaler", "web-0");
    let autoscaler = json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "web-0", "namespace": "teller"},
        "spec": {"minReplicas": 1, "maxReplicas": 4,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web-0"}},
    });
    let mut workload = deployment("web-0", "web:new");
    workload["spec"].as_object_mut().unwrap().remove("replicas");
    let raised = Act::Patch(user("admin", &["system:masters"]), scaler, json!({"spec": {"maxReplicas": 6}}));
    let plan = json!({"canary": {"steps": [{"setWeight": 50}, {"pause": {}}]}});
    let mut history = history(&plan, vec![autoscaler], &[workload], vec![(90_000, raised), more]);
    for system in history.objects.iter_mut().filter(|object| object["kind"] == "System") {
        system["spec"]["governs"] = json!({"remove": [{"group": "autoscaling", "kind": "HorizontalPodAutoscaler"}]});
    }
    let load = Behaviour::of(Effect::WantsReplicas(6));
    history.behaviours.push(Behaviour { workload: Some("web-0".to_owned()), ..load });
    history
}

/// What an object had at a place each time that the executor wrote it; a deletion is left out.
fn given(timeline: &[Happening], kind: (&str, &str), name: &str, pointer: &str) -> Vec<Value> {
    let mut given: Vec<Value> = Vec::new();
    for object in stored(timeline, &id(kind.0, kind.1, name)).into_iter().flatten() {
        let value = object.pointer(pointer).cloned().unwrap_or_default();
        if given.last() != Some(&value) {
            given.push(value);
        }
    }
    given
}

#[test]
fn r24_an_autoscaler_that_scales_up_in_a_pause_is_followed_and_given_back_at_either_end() {
    let promote = Act::CommandRelease(user("bob", &["sre"]), the_change(), Verb::Promote, "looked at it".to_owned());
    for (act, phase, serves) in
        [((180_000, promote), "Succeeded", "web:new"), (command(180_000, Verb::Abort), "RolledBack", "web:zero")]
    {
        let (world, timeline) = play(&growing(act));
        assert_eq!(status(&world)["phase"], phase, "{}", told(&world));
        let live = world.live(&id("apps", "Deployment", "web-0")).unwrap();
        assert_eq!(live["spec"]["template"]["spec"]["containers"][0]["image"], serves);
        assert_eq!((&live["spec"]["replicas"], &live["status"]["readyReplicas"]), (&json!(6), &json!(6)), "{phase}");
        // Half of the pods are new ones, of four and of six.
        let canary = given(&timeline, ("apps", "Deployment"), "web-0-canary", "/spec/replicas");
        assert_eq!(canary, [json!(4), json!(6)], "{phase}");
        // It may not shrink the old version meanwhile.
        let least = given(&timeline, ("autoscaling", "HorizontalPodAutoscaler"), "web-0", "/spec/minReplicas");
        assert_eq!(least, [json!(4), json!(1)], "{phase}");
    }
}
