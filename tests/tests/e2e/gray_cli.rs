//! `interlock rollout`, as people use it.

use interlock_tests::{Options, Stage, deployment, deployment_image, eventually, stage::policy_of, world::SOON};
use serde_json::json;

use crate::gray::{at_step, command, has_no_canary, options, release, rollout_of};

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

#[test]
fn r12_a_version_two_releases_back_is_proposed_from_the_terminal_and_needs_no_new_proof() {
    let steps = json!([{"setWeight": 20}, {"pause": {}}]);
    let stage = Stage::with("rollback", options(json!({"fastTrack": "1h", "canary": {"steps": steps}})));
    eventually(SOON, || match stage.get("deployments/web")["status"]["readyReplicas"].as_u64() {
        // A version counts as known when all its pods were ready.
        Some(4) => Ok(()),
        ready => Err(format!("{ready:?} pods are ready")),
    });
    for (name, image) in [("second", "web:2.0.0"), ("third", "web:3.0.0")] {
        let change = release(&stage, name, image);
        at_step(&stage, &change, 1);
        command(&stage, &change, "bob", "Promote").unwrap();
        change.wait("Succeeded");
    }
    let run = |arguments: &[&str]| {
        let own = ["rollout", "rollback", "web", "-n", &stage.namespace, "--reason", "it was better"];
        stage.world.interlock_status("alice", &[&own[..], arguments].concat())
    };
    let (well, told) = run(&["--to", "7", "--yes"]);
    assert!(!well && told.contains("no revision 7; held are 1, 2, 3, and 3 is the present one"), "{told}");
    let (well, told) = run(&["--dry-run"]);
    assert!(well && told.contains("back from revision 3 to revision 2 (web:2.0.0)"), "{told}");
    assert_eq!(stage.get("changerequests")["items"].as_array().unwrap().len(), 2, "nothing is proposed by that");
    let (well, told) = run(&["--to", "1", "--name", "back", "--yes"]);
    assert!(well && told.contains("back from revision 3 to revision 1 (web:1.0.0)"), "{told}");
    assert!(told.contains("changerequest/back created"), "{told}");
    let stored = stage.get("changerequests/back");
    assert_eq!(stored["spec"]["rolloutPlanRef"]["name"], "cautious", "the plan of the release before");
    let back = stage.change_of(&stored);
    back.digest();
    assert_eq!(stage.image("web"), "web:3.0.0", "nothing before it is agreed");
    back.approve(&["bob"]);
    back.wait("Succeeded");
    assert_eq!(stage.image("web"), "web:1.0.0");
    let web = stage.get("deployments/web");
    assert_eq!((&web["spec"]["replicas"], &web["status"]["readyReplicas"]), (&json!(4), &json!(4)));
    let rollout = rollout_of(&stage, &back);
    assert_eq!((&rollout["status"]["phase"], &rollout["status"]["fully"]), (&json!("Succeeded"), &json!(true)));
    has_no_canary(&stage);
}
