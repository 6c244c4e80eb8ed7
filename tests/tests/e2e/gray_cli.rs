//! `interlock rollout`, as people use it.

use interlock_tests::{Options, Stage, deployment, deployment_image, eventually, stage::policy_of, world::SOON};
use serde_json::json;

#[test]
fn people_see_a_release_and_command_it_from_their_terminal() {
    let mut web = deployment("web", "web:1.0.0");
    web["spec"]["replicas"] = json!(4);
    let plan = json!({
        "apiVersion": "interlock.dev/v1alpha1", "kind": "RolloutPlan", "metadata": {"name": "cautious"},
        "spec": {"canary": {"steps": [{"setWeight": 20}, {"pause": {}}, {"setWeight": 50}]}},
    });
    let options = Options { policy: policy_of(1, "sre"), objects: vec![web, plan], ..Options::default() };
    let stage = Stage::with("rollout-cli", options);
    let change = stage.propose_with(
        "alice",
        "good",
        vec![deployment_image("web", "web:2.0.0")],
        json!({"rolloutPlanRef": {"name": "cautious"}}),
    );
    change.approve(&["bob"]);
    let world = stage.world;
    let run = |user: &str, arguments: &[&str]| {
        let all: Vec<&str> = ["rollout"].iter().chain(arguments).chain(&["-n", &stage.namespace]).copied().collect();
        world.interlock_status(user, &all)
    };
    // It waits, so the exit code is not 0, and the text says for whom.
    let shown = eventually(SOON, || {
        let (_, shown) = run("alice", &["status", "web"]);
        if shown.contains("▶ wait until somebody promotes") { Ok(shown) } else { Err(shown) }
    });
    for line in [
        "change good: Deployment",
        "still until somebody promotes it",
        "████████ 20 % new",
        "4 old ready, 1 of 1 new ready",
        "✔ 20 % of the traffic",
        "· 50 % of the traffic",
    ] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    assert!(!run("alice", &["status", "web"]).0, "it waits: exit code 4");
    assert!(run("alice", &["status"]).1.contains("Paused"), "the list names its phase");
    let (well, refused) = run("bob", &["promote", "nothing"]);
    assert!(!well && refused.contains("there is no Rollout of nothing"), "{refused}");
    let (well, refused) = run("alice", &["sign", "web"]);
    assert!(!well && refused.contains("waits for no such signature"), "{refused}");
    let (well, told) = run("alice", &["promote", "good", "--reason", "looks fine"]);
    assert!(well && told.contains("Promote of good-"), "{told}");
    let (well, lines) = run("alice", &["status", "good", "--watch"]);
    assert!(well && lines.contains("Succeeded 3/3, 100 % new"), "{lines}");
    change.wait("Succeeded");
    let actions = stage.get("actions");
    let action = &actions["items"][0]["spec"];
    assert_eq!((&action["actor"], &action["verb"]), (&json!("alice"), &json!("Promote")), "{actions:#}");
}
