//! Votes and edits at the same time.

use std::{sync::Barrier, thread, time::Duration};

use interlock_tests::{Stage, config_map, eventually, world::SOON};
use serde_json::{Value, json};

const AT_ONCE: usize = 4;

fn races() -> usize {
    std::env::var("INTERLOCK_RACES").ok().and_then(|text| text.parse().ok()).unwrap_or(40)
}

/// One race: two people vote on what they saw while the requester edits it. Returns whether the edit came first.
fn race(stage: &Stage<'_>, number: usize) -> bool {
    let name = format!("race-{number}");
    let object = |value: &str| stage.placed(config_map(&name, &[("value", value)]));
    let change = stage.propose("alice", &name, vec![object("first")]);
    let seen = change.digest();
    let start = Barrier::new(3);
    let edited = thread::scope(|scope| {
        for voter in ["bob", "carol"] {
            let (start, vote, api) = (&start, change.ballot(voter, "Approve", &seen), stage.user(voter));
            scope.spawn(move || {
                start.wait();
                // Refused when the edit was seen first.
                let _ = api.create(&vote);
            });
        }
        let (start, api, path) = (&start, stage.user("alice"), change.path());
        let body = json!({"spec": {"content": {"manifests": [object("second")]}}});
        let edit = scope.spawn(move || {
            start.wait();
            // Before the votes, between them, between the last and the start, and after the start.
            thread::sleep(Duration::from_millis((number % 8) as u64 * 60));
            api.merge(&path, &body).is_ok()
        });
        edit.join().unwrap()
    });
    if edited {
        // The votes were about something else: both are needed again.
        for voter in ["bob", "carol"] {
            eventually(SOON, || change.vote(voter).map_err(|e| e.to_string()));
        }
    }
    let status = change.wait("Succeeded");
    judge(stage, &change.get(), &status, &seen, edited);
    edited
}

fn judge(stage: &Stage<'_>, request: &Value, status: &Value, first: &str, edited: bool) {
    let name = request["metadata"]["name"].as_str().unwrap();
    let digest = &status["run"]["changeDigest"];
    let expected = if digest == first { "first" } else { "second" };
    assert_eq!(edited, expected == "second", "{name}: an edit that was accepted is what is carried out");
    assert_eq!(request["spec"]["content"]["manifests"][0]["data"]["value"], expected, "{name}");
    assert_eq!(stage.data(name)["value"], expected, "{name}: executed content is not the approved content");
    let voters: std::collections::BTreeSet<String> = stage.get("approvals")["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|vote| status["run"]["votes"].as_array().unwrap().contains(&vote["metadata"]["uid"]))
        .map(|vote| {
            assert_eq!(&vote["spec"]["digest"], digest, "{name}: a vote on other content counted");
            vote["spec"]["recorded"]["user"].as_str().unwrap().to_owned()
        })
        .collect();
    assert!(voters.len() >= 2, "{name}: executed with the votes of {voters:?}");
}

#[test]
fn a12_votes_and_an_edit_race() {
    let stage = Stage::new("a12");
    let total = races();
    let edits: usize = thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE)
            .map(|worker| {
                let stage = &stage;
                scope.spawn(move || (worker..total).step_by(AT_ONCE).filter(|number| race(stage, *number)).count())
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).sum()
    });
    println!("{total} races, the edit came first in {edits}");
    // What was really written, by the API server's own record: nothing that was not wanted at the end, and once only.
    let events = stage.world.audit(&format!("/namespaces/{}/configmaps", stage.namespace));
    for number in 0..total {
        let name = format!("race-{number}");
        let written: Vec<String> = events
            .iter()
            .filter(|event| event.is_stored_write() && event.is_about(&stage.namespace, "configmaps", &name))
            .map(|event| {
                assert_eq!(event.user(), stage.executor());
                event.response()["data"]["value"].as_str().unwrap_or_default().to_owned()
            })
            .collect();
        assert_eq!(written, [stage.data(&name)["value"].as_str().unwrap()], "{name}");
    }
}
