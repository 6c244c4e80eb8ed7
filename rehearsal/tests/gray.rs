//! Gray releases in the simulated cluster: a canary that is good, one that never gets ready, one that a person stops; calm,
//! under faults, and with a controller that dies after each single write.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::sync::Arc;

use interlock_core::object::ObjectId;
use interlock_crds::{API_VERSION, ApprovalDecision::Approve, GROUP, Verb};
use interlock_rehearsal::{
    faults::Faults,
    history::{Bank, History, deployment, start},
    invariants::Watchdog,
    people::{Act, Change, user},
    world::{Happening, Options, World},
};
use jiff::SignedDuration;
use serde_json::{Value, json};

fn the_change() -> Change {
    Change { namespace: "teller".to_owned(), name: "release".to_owned() }
}

fn plan(steps: &Value) -> Value {
    json!({
        "apiVersion": API_VERSION, "kind": "RolloutPlan", "metadata": {"name": "cautious", "namespace": "teller"},
        "spec": {"canary": {"steps": steps}, "progressDeadline": "60s"},
    })
}

fn propose(image: &str) -> Act {
    let request = json!({
        "apiVersion": API_VERSION, "kind": "ChangeRequest", "metadata": {"name": "release", "namespace": "teller"},
        "spec": {"title": "release", "reason": "a test", "requester": "alice", "rolloutPlanRef": {"name": "cautious"},
            "content": {"manifests": [deployment("web-0", image)]}},
    });
    Act::Create(user("alice", &["dev", "sre"]), request)
}

fn history(steps: &Value, image: &str, more: Vec<(i64, Act)>) -> History {
    let vote = Act::Vote(user("bob", &["sre"]), the_change(), Approve);
    let acts = [vec![(1_000, propose(image)), (8_000, vote.clone()), (30_000, vote)], more].concat();
    let mut history = History::at(&Bank { votes: 1, ..Bank::default() }, acts);
    history.objects.push(plan(steps));
    history
}

fn careful() -> Value {
    json!([{"setWeight": 25}, {"pause": {"duration": "20s"}}, {"setWeight": 50}, {"pause": {"duration": "10s"}}])
}

fn web(name: &str) -> ObjectId {
    ObjectId::of(&deployment(name, "")).unwrap()
}

fn image(world: &World, name: &str) -> Option<String> {
    let live = world.live(&web(name))?;
    Some(live["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap().to_owned())
}

fn status(world: &World) -> Value {
    world.live(&the_change().id()).map(|live| live["status"].clone()).unwrap_or_default()
}

fn rollout(world: &World) -> Option<Arc<Value>> {
    world.objects(GROUP, "Rollout").first().cloned()
}

/// Images that the executor gave to a Deployment, in their order.
fn written(timeline: &[Happening], name: &str) -> Vec<String> {
    let mut images: Vec<String> = Vec::new();
    for happening in timeline {
        if let Happening::Stored(audit) = happening
            && audit.user.ends_with(":executor")
            && audit.id.same_object(&web(name))
        {
            let stays = audit.new.as_ref().filter(|new| new.pointer("/metadata/deletionTimestamp").is_none());
            let image = stays.and_then(|new| new.pointer("/spec/template/spec/containers/0/image")?.as_str());
            let image = image.unwrap_or("gone").to_owned();
            images.extend((images.last() != Some(&image)).then_some(image));
        }
    }
    images
}

fn play(history: &History) -> (World, Vec<Happening>) {
    let (world, played) = history.play_whole().unwrap_or_else(|(broken, played)| {
        let told: Vec<_> = played.timeline.iter().rev().take(6).map(|h| format!("{h:?}")).collect();
        panic!("{broken}\n{told:#?}")
    });
    (world, played.timeline)
}

#[test]
fn a_good_canary_is_promoted_and_nothing_temporary_is_left() {
    let (world, timeline) = play(&history(&careful(), "web:new", Vec::new()));
    assert_eq!(status(&world)["phase"], "Succeeded", "{:#} {:#}", status(&world), rollout(&world).unwrap_or_default());
    assert_eq!(image(&world, "web-0").as_deref(), Some("web:new"));
    assert_eq!(image(&world, "web-0-canary"), None);
    assert_eq!(written(&timeline, "web-0-canary"), ["web:new", "gone"]);
    assert_eq!(written(&timeline, "web-0"), ["web:new"]);
    let rollout = rollout(&world).unwrap();
    assert_eq!((&rollout["status"]["phase"], &rollout["status"]["currentStep"]), (&json!("Succeeded"), &json!(4)));
}

#[test]
fn a_canary_that_never_gets_ready_returns_and_the_old_version_was_never_touched() {
    let (world, timeline) = play(&history(&careful(), "web:bad", Vec::new()));
    assert_eq!(status(&world)["phase"], "RolledBack", "{:#} {:#}", status(&world), rollout(&world).unwrap_or_default());
    assert_eq!(image(&world, "web-0").as_deref(), Some("web:zero"));
    assert_eq!(image(&world, "web-0-canary"), None);
    assert!(written(&timeline, "web-0").is_empty(), "{:?}", written(&timeline, "web-0"));
    assert_eq!(rollout(&world).unwrap()["status"]["phase"], "RolledBack");
}

#[test]
fn a_person_who_aborts_the_change_has_its_rollout_return_first() {
    let waits = json!([{"setWeight": 50}, {"pause": {}}]);
    let abort = Act::Command(user("alice", &["dev", "sre"]), the_change(), Verb::Abort, "no".to_owned());
    let (world, timeline) = play(&history(&waits, "web:new", vec![(120_000, abort)]));
    assert_eq!(status(&world)["phase"], "RolledBack", "{:#}", status(&world));
    assert_eq!((image(&world, "web-0").as_deref(), image(&world, "web-0-canary")), (Some("web:zero"), None));
    assert_eq!(written(&timeline, "web-0-canary"), ["web:new", "gone"]);
    assert!(written(&timeline, "web-0").is_empty());
}

#[test]
fn canaries_end_well_whatever_goes_wrong() {
    for seed in 1..13 {
        let image_of = if seed % 3 == 0 { "web:bad" } else { "web:new" };
        let storm =
            History { seed, faults: Faults::storm(), controllers: 2, ..history(&careful(), image_of, Vec::new()) };
        let (world, _) = play(&storm);
        let (status, left) = (status(&world), image(&world, "web-0-canary"));
        assert_eq!(left, None, "seed {seed}: {status:#}");
        let end = status["finished"]["phase"].as_str().unwrap_or("waits").to_owned();
        let serves = image(&world, "web-0").unwrap();
        match end.as_str() {
            "Succeeded" => assert_eq!(serves, "web:new", "seed {seed}"),
            _ => assert_eq!(serves, "web:zero", "seed {seed}: {end}"),
        }
    }
}

/// Plays a calm history in which the controller is killed right after its write of this number.
fn killed_after(history: &History, kill: usize) -> (World, usize) {
    let options = Options { seed: 1, start: start(), controllers: 1, faults: Faults::default() };
    let mut world = World::new(&options);
    world.workloads.set_behaviours(history.behaviours.clone());
    world.seed_objects(&history.objects).unwrap();
    let (mut dog, mut writes) = (Watchdog::default(), 0);
    let begun = start() + SignedDuration::from_secs(30);
    while world.step(begun) {}
    world.take_happened();
    for (after, act) in &history.acts {
        world.schedule(begun + SignedDuration::from_millis(*after), act.clone());
    }
    let end = begun + SignedDuration::from_hours(1);
    while world.step(end) {
        for happening in world.take_happened() {
            let Happening::Stored(audit) = happening else { continue };
            dog.stored(&world, &audit).unwrap_or_else(|broken| panic!("killed after write {kill}: {broken}"));
            if audit.user.starts_with("system:serviceaccount") && audit.id.kind != "Lease" {
                writes += 1;
                if writes == kill {
                    world.crash();
                }
            }
        }
    }
    dog.quiet(&world).unwrap_or_else(|broken| panic!("killed after write {kill}: {broken}"));
    (world, writes)
}

#[test]
fn a_controller_killed_after_any_single_write_carries_a_canary_to_the_same_end() {
    for (new, phase, serves) in [("web:new", "Succeeded", "web:new"), ("web:bad", "RolledBack", "web:zero")] {
        let history = history(&careful(), new, Vec::new());
        let (_, writes) = killed_after(&history, 0);
        assert!(writes > 10, "{writes}");
        for kill in 1..=writes {
            let (world, _) = killed_after(&history, kill);
            assert_eq!(status(&world)["phase"], phase, "killed after write {kill}: {:#}", status(&world));
            assert_eq!(image(&world, "web-0").as_deref(), Some(serves), "killed after write {kill}");
            assert_eq!(image(&world, "web-0-canary"), None, "killed after write {kill}");
        }
    }
}
