//! Random histories keep every invariant; the invariants see what they should; a seed tells the same story twice.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::sync::Arc;

use interlock_core::object::ObjectId;
use interlock_crds::ApprovalDecision;
use interlock_rehearsal::{
    cluster::Audit,
    faults::Faults,
    history::History,
    invariants::Watchdog,
    people::{Act, Change, user},
    port::CONTROLLER,
    world::{Options, World},
};
use serde_json::json;

/// A few in every test run; `cargo xtask sim` plays as many as one has time for.
const SEEDS: std::ops::Range<u64> = 1..41;

#[test]
fn a04_to_a26_random_histories_keep_every_invariant() {
    let mut ends = std::collections::BTreeMap::<String, usize>::new();
    for seed in SEEDS {
        match History::of_seed(seed).play() {
            Ok(played) => played.ends.into_iter().for_each(|(end, count)| *ends.entry(end).or_default() += count),
            Err((broken, _)) => panic!("{broken}; replay it with `cargo xtask sim --seed {seed}`"),
        }
    }
    for end in ["Succeeded", "RolledBack", "Rejected", "Withdrawn"] {
        assert!(ends.contains_key(end), "the histories are too tame: {ends:?}");
    }
}

#[test]
fn b7_b13_d9_to_d13_random_histories_of_backups_and_drills_keep_every_invariant() {
    let mut ends = std::collections::BTreeMap::<String, usize>::new();
    for seed in 1..13 {
        match History::of_backups(seed).play() {
            Ok(played) => played.ends.into_iter().for_each(|(end, count)| *ends.entry(end).or_default() += count),
            Err((broken, _)) => panic!("seed {seed} of backups: {broken}"),
        }
    }
    for end in ["Backup Succeeded", "DrillRun Passed", "DrillRun Failed"] {
        assert!(ends.contains_key(end), "the histories are too tame: {ends:?}");
    }
}

#[test]
fn a_seed_tells_the_same_story_twice() {
    let told = || {
        let played = History::of_seed(7).play().unwrap_or_else(|(broken, _)| panic!("{broken}"));
        played.timeline.iter().map(|happening| format!("{happening:?}")).collect::<Vec<_>>()
    };
    assert_eq!(told(), told());
}

fn quiet_world() -> World {
    let history = History { faults: Faults::default(), ..History::of_seed(1) };
    let options =
        Options { seed: 1, start: interlock_rehearsal::history::start(), controllers: 1, faults: Faults::default() };
    let mut world = World::new(&options);
    world.seed_objects(&history.objects).unwrap();
    let settled = world.now() + jiff::SignedDuration::from_secs(30);
    while world.step(settled) {}
    world
}

fn config_map() -> ObjectId {
    ObjectId {
        group: String::new(),
        version: "v1".to_owned(),
        kind: "ConfigMap".to_owned(),
        namespace: Some("teller".to_owned()),
        name: "config-0".to_owned(),
    }
}

#[test]
fn a_write_past_every_gate_is_seen() {
    let world = quiet_world();
    let old = world.live(&config_map()).unwrap();
    let mut new = (*old).clone();
    new["data"]["value"] = json!("mallory was here");
    let audit = |user: &str| Audit {
        at: world.now(),
        user: user.to_owned(),
        id: config_map(),
        subresource: None,
        old: Some(Arc::clone(&old)),
        new: Some(Arc::new(new.clone())),
    };
    for user in ["mallory", "system:serviceaccount:teller:executor"] {
        let broken = Watchdog::default().stored(&world, &audit(user)).unwrap_err();
        assert_eq!(broken.invariant, "nothing but what was approved is written", "{user}");
    }
}

#[test]
fn b14_a_spec_of_backups_that_the_controller_writes_is_seen() {
    let world = quiet_world();
    let object = |kind: &str, suspend: bool| {
        let metadata = json!({"name": "x", "namespace": "teller"});
        json!({"apiVersion": interlock_crds::API_VERSION, "kind": kind, "metadata": metadata, "spec": {"suspend": suspend}})
    };
    for kind in ["BackupPolicy", "BackupRepository", "RestoreDrill"] {
        let (suspended, mut resumed) = (object(kind, true), object(kind, false));
        let audit = |user: &str, new: &serde_json::Value| Audit {
            at: world.now(),
            user: user.to_owned(),
            id: ObjectId::of(&suspended).unwrap(),
            subresource: None,
            old: Some(Arc::new(suspended.clone())),
            new: Some(Arc::new(new.clone())),
        };
        let broken = Watchdog::default().stored(&world, &audit(CONTROLLER, &resumed)).unwrap_err();
        assert_eq!(broken.invariant, "the controller never writes what people state of backups (B14)", "{kind}");
        Watchdog::default().stored(&world, &audit("system:serviceaccount:ci:deployer", &resumed)).unwrap();
        resumed["spec"] = suspended["spec"].clone();
        resumed["status"] = json!({"message": "suspended"});
        Watchdog::default().stored(&world, &audit(CONTROLLER, &resumed)).unwrap();
    }
}

#[test]
fn a_start_without_votes_and_a_changed_end_are_seen() {
    let mut world = quiet_world();
    let alice = user("alice", &["dev"]);
    let manifest = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "config-0", "namespace": "teller"}, "data": {"value": "new"}});
    let request = json!({
        "apiVersion": interlock_crds::API_VERSION, "kind": "ChangeRequest", "metadata": {"name": "c", "namespace": "teller"},
        "spec": {"title": "c", "reason": "a test", "requester": "alice", "content": {"manifests": [manifest]}},
    });
    let change = Change { namespace: "teller".to_owned(), name: "c".to_owned() };
    let now = world.now();
    world.schedule(now, Act::Create(alice, request));
    for (after, name) in [(1, "bob"), (2, "carol")] {
        let vote = Act::Vote(user(name, &["sre"]), change.clone(), ApprovalDecision::Approve);
        world.schedule(now + jiff::SignedDuration::from_secs(after), vote);
    }
    let end = now + jiff::SignedDuration::from_hours(1);
    while world.step(end) {}
    let ended = world.live(&change.id()).unwrap();
    assert_eq!(ended["status"]["finished"]["phase"], "Succeeded", "{:#}", ended["status"]);
    let audit = |new: serde_json::Value| Audit {
        at: world.now(),
        user: CONTROLLER.to_owned(),
        id: change.id(),
        subresource: Some("status".to_owned()),
        old: None,
        new: Some(Arc::new(new)),
    };

    let mut dog = Watchdog::default();
    dog.stored(&world, &audit((*ended).clone())).unwrap();
    let mut again = (*ended).clone();
    again["status"]["phase"] = json!("RolledBack");
    assert_eq!(dog.stored(&world, &audit(again)).unwrap_err().invariant, "a terminal phase never changes");

    let mut started = (*ended).clone();
    started["status"].as_object_mut().unwrap().remove("finished");
    started["status"]["run"]["votes"] = json!([]);
    let broken = Watchdog::default().stored(&world, &audit(started)).unwrap_err();
    assert_eq!(broken.invariant, "nothing unapproved runs");
}
