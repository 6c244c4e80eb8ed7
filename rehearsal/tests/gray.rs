//! Gray releases in the simulated cluster: a canary that is good, one that never gets ready, one that a person stops; calm,
//! under faults, and with a controller that dies after each single write.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use interlock_core::object::ObjectId;
use interlock_crds::{API_VERSION, ApprovalDecision::Approve, GROUP, Verb};
use interlock_rehearsal::{
    faults::Faults,
    history::{Bank, History, deployment, start},
    invariants::Watchdog,
    metrics::{Source, Values},
    people::{Act, Change, Disturbance, user},
    process::Key,
    world::{Happening, Options, World, key_of},
};
use interlock_sim::api::meta;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

fn the_change() -> Change {
    Change { namespace: "teller".to_owned(), name: "release".to_owned() }
}

fn plan(steps: &Value) -> Value {
    json!({
        "apiVersion": API_VERSION, "kind": "RolloutPlan", "metadata": {"name": "cautious", "namespace": "teller"},
        "spec": {"canary": {"steps": steps}, "progressDeadline": "60s", "analyses": [errors()]},
    })
}

fn errors() -> Value {
    json!({
        "name": "errors", "interval": "10s", "count": 3, "failureLimit": 1, "successWhen": "result < 0.01",
        "prometheus": {"address": "http://prometheus.monitoring:9090", "query": "errors{app=\"{{workload}}\"}"},
    })
}

fn measured() -> Value {
    json!([{"setWeight": 25}, {"analysis": ["errors"]}, {"setWeight": 50}])
}

fn measure(after: i64, source: Source) -> (i64, Act) {
    (after, Act::Fault(Disturbance::Measure("errors".to_owned(), source)))
}

fn says(value: f64) -> Source {
    let value = Values::One(value);
    Source::Says { stable: value.clone(), value, every: SignedDuration::from_secs(30) }
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
fn a_release_reads_its_before_state_once_and_its_rollout_for_admission_alone() {
    let (world, timeline) = play(&history(&careful(), "web:new", Vec::new()));
    assert_eq!(status(&world)["phase"], "Succeeded", "{:#}", status(&world));
    let by_executor =
        |happening: &&Happening| matches!(happening, Happening::Stored(audit) if audit.user.ends_with(":executor"));
    let writes = timeline.iter().filter(by_executor).count() as u64;
    // Once more each if the change is looked at before anybody has told of its Rollout.
    let (secrets, rollouts) = (world.gets_made("Secret"), world.gets_made("Rollout"));
    assert!(secrets <= 2, "the before-state was read {secrets} times");
    assert!(rollouts <= writes + 1, "the Rollout was read {rollouts} times for {writes} writes");
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

fn analyses(world: &World) -> Vec<(String, String, u64)> {
    let rollout = rollout(world).unwrap();
    let records = rollout["status"]["analyses"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let counted = |record: &Value| record["state"]["measurements"].as_array().map_or(0, Vec::len) as u64;
    records.iter().map(|r| (text(&r["run"]), text(&r["state"]["verdict"]), counted(r))).collect()
}

#[test]
fn a_canary_whose_values_are_good_is_promoted_after_every_measurement() {
    let (world, _) = play(&history(&measured(), "web:new", vec![measure(500, says(0.002))]));
    assert_eq!(status(&world)["phase"], "Succeeded", "{:#}", rollout(&world).unwrap_or_default());
    assert_eq!(analyses(&world), [("1-errors-0-0".to_owned(), "Passed".to_owned(), 3)]);
    assert_eq!(image(&world, "web-0").as_deref(), Some("web:new"));
}

#[test]
fn r17_a_canary_whose_values_are_bad_goes_back_when_the_limit_is_passed() {
    let (world, timeline) = play(&history(&measured(), "web:new", vec![measure(500, says(0.3))]));
    assert_eq!(status(&world)["phase"], "RolledBack", "{:#}", status(&world));
    assert_eq!(analyses(&world), [("1-errors-0-0".to_owned(), "Failed".to_owned(), 2)]);
    let rollout = rollout(&world).unwrap();
    assert_eq!(rollout["status"]["weights"]["observed"], json!({"stable": 100, "canary": 0}));
    let cause = rollout["status"]["cause"].as_str().unwrap();
    assert_eq!(cause, "analysis errors: errors 0.3 is not < 0.01, 2 failures of at most 1");
    assert_eq!((image(&world, "web-0").as_deref(), image(&world, "web-0-canary")), (Some("web:zero"), None));
    assert!(written(&timeline, "web-0").is_empty());
}

#[test]
fn r13_a_canary_that_nothing_is_known_of_waits_for_a_person_who_may_go_on() {
    let bob = user("bob", &["sre"]);
    let promote = Act::CommandRelease(bob, the_change(), Verb::Promote, "looked at it".to_owned());
    let (world, timeline) = play(&history(&measured(), "web:new", vec![(300_000, promote)]));
    assert_eq!(status(&world)["phase"], "Succeeded", "{:#}", status(&world));
    assert_eq!(analyses(&world), [("1-errors-0-0".to_owned(), "Inconclusive".to_owned(), 1)]);
    let held = timeline.iter().any(|happening| match happening {
        Happening::Stored(audit) => audit.new.as_ref().is_some_and(|new| {
            new.pointer("/status/hold/reason") == Some(&json!("Inconclusive")) && new["status"]["phase"] == "Paused"
        }),
        _ => false,
    });
    assert!(held, "it was held");
}

#[test]
fn what_is_missing_to_measure_is_told_and_waited_for() {
    let missing = Source::Missing("Secret prometheus does not exist in namespace teller".to_owned());
    let acts = vec![measure(500, missing), measure(200_000, says(0.002))];
    let (world, timeline) = play(&history(&measured(), "web:new", acts));
    assert_eq!(status(&world)["phase"], "Succeeded", "{:#}", status(&world));
    assert_eq!(analyses(&world), [("1-errors-0-0".to_owned(), "Passed".to_owned(), 3)], "nothing missing was counted");
    let told = timeline.iter().any(|happening| {
        let Happening::Stored(audit) = happening else { return false };
        let conditions = audit.new.as_ref().and_then(|new| new.pointer("/status/conditions")?.as_array());
        conditions.into_iter().flatten().any(|condition| {
            condition["type"] == "Measured"
                && condition["reason"] == "Missing"
                && condition["message"].as_str().unwrap().contains("Secret prometheus does not exist")
        })
    });
    assert!(told);
}

#[test]
fn an_analysis_beside_the_steps_turns_a_release_back_in_the_middle_of_a_pause() {
    let mut release = history(
        &json!([{"setWeight": 25}, {"pause": {"duration": "10m"}}]),
        "web:new",
        vec![measure(500, says(0.002))],
    );
    release.acts.push(measure(150_000, says(0.4)));
    let plan = release.objects.last_mut().unwrap();
    plan["spec"]["canary"]["background"] = json!({"analyses": ["errors"]});
    let (world, _) = play(&release);
    assert_eq!(status(&world)["phase"], "RolledBack", "{:#}", status(&world));
    let (run, verdict, _) = analyses(&world).remove(0);
    assert_eq!((run.as_str(), verdict.as_str()), ("background-errors-0-0", "Failed"));
    assert_eq!(image(&world, "web-0").as_deref(), Some("web:zero"));
}

fn blue_green(image: &str, acts: Vec<(i64, Act)>) -> History {
    let mut release = history(&careful(), image, acts);
    let plan = release.objects.last_mut().unwrap();
    plan["spec"] = json!({
        "blueGreen": {"service": "web-0", "steps": [{"pause": {"duration": "20s"}}], "afterSwitch": ["errors"], "keepOld": "30s"},
        "progressDeadline": "60s", "analyses": [errors()],
    });
    release.objects.push(json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web-0", "namespace": "teller"},
        "spec": {"selector": {"app": "web-0"}, "ports": [{"port": 80, "targetPort": 8080}]},
    }));
    release
}

#[test]
fn r14_blue_green_switches_once_and_back_when_the_values_are_bad_after_the_switch() {
    for (value, phase, serves) in [(0.002, "Succeeded", "web:new"), (0.4, "RolledBack", "web:zero")] {
        let (world, _) = play(&blue_green("web:new", vec![measure(500, says(value))]));
        assert_eq!(status(&world)["phase"], phase, "{:#} {:#}", status(&world), rollout(&world).unwrap_or_default());
        assert_eq!((image(&world, "web-0").as_deref(), image(&world, "web-0-canary")), (Some(serves), None));
        assert_eq!(analyses(&world)[0].0, "switched-errors-0-0");
        let services = world.objects("", "Service");
        let own: Vec<_> = services.iter().filter(|one| one["metadata"]["namespace"] == "teller").collect();
        assert_eq!(own.len(), 1, "{own:#?}");
        assert_eq!(own[0]["spec"]["selector"], json!({"app": "web-0"}));
    }
}

#[test]
fn jobs_measure_and_are_steps() {
    let work =
        json!({"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "check:1"}]}}});
    let steps = json!([{"setWeight": 25}, {"job": {"name": "smoke", "spec": work}}, {"analysis": ["checks"]}]);
    let mut release = history(&steps, "web:new", Vec::new());
    let plan = release.objects.last_mut().unwrap();
    plan["spec"]["analyses"] = json!([{"name": "checks", "interval": "10s", "count": 2, "job": {"spec": work}}]);
    let (world, _) = play(&release);
    assert_eq!(status(&world)["phase"], "Succeeded", "{:#} {:#}", status(&world), rollout(&world).unwrap_or_default());
    assert_eq!(analyses(&world), [("2-checks-0-0".to_owned(), "Passed".to_owned(), 2)]);
}

#[test]
fn people_pause_resume_skip_and_abort_a_release_and_a_stranger_does_not() {
    let (bob, mallory) = (user("bob", &["sre"]), user("mallory", &["dev"]));
    let command = |user: &interlock_core::admission::User, verb| {
        Act::CommandRelease(user.clone(), the_change(), verb, "said so".to_owned())
    };
    let steps = json!([{"setWeight": 25}, {"pause": {}}, {"setWeight": 50}, {"pause": {}}]);
    let acts = vec![
        (100_000, command(&mallory, Verb::Abort)),
        (120_000, command(&bob, Verb::Pause)),
        (150_000, command(&bob, Verb::Resume)),
        (180_000, command(&bob, Verb::Promote)),
        (300_000, command(&bob, Verb::Abort)),
    ];
    let (world, timeline) = play(&history(&steps, "web:new", acts));
    assert_eq!(status(&world)["phase"], "RolledBack", "{:#}", status(&world));
    let rollout = rollout(&world).unwrap();
    assert_eq!(rollout["status"]["obeyed"].as_array().unwrap().len(), 4, "{:#}", rollout["status"]);
    assert_eq!(rollout["status"]["cause"], "Abort by bob: said so");
    let refused =
        |h: &&Happening| matches!(h, Happening::Act { what, came: Err(_), .. } if what.starts_with("mallory"));
    assert_eq!(timeline.iter().filter(refused).count(), 1, "the stranger");
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
    let (good, bad) = (vec![measure(500, says(0.002))], vec![measure(500, says(0.3))]);
    for (steps, new, acts, phase, serves) in [
        (careful(), "web:new", Vec::new(), "Succeeded", "web:new"),
        (careful(), "web:bad", Vec::new(), "RolledBack", "web:zero"),
        (measured(), "web:new", good, "Succeeded", "web:new"),
        (measured(), "web:new", bad, "RolledBack", "web:zero"),
    ] {
        let history = history(&steps, new, acts);
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

/// So many releases that are proposed and approved together, and some that nobody approves.
fn crowd_of(count: usize, waiting: usize) -> History {
    let names: Vec<String> = (0..count + waiting).map(|number| format!("crowd-{number}")).collect();
    let mut acts = Vec::new();
    for (number, name) in names.iter().enumerate() {
        let request = json!({
            "apiVersion": API_VERSION, "kind": "ChangeRequest", "metadata": {"name": name, "namespace": "teller"},
            "spec": {"title": name, "reason": "a test", "requester": "alice", "rolloutPlanRef": {"name": "cautious"},
                "content": {"manifests": [deployment(name, "web:new")]}},
        });
        acts.push((1_000, Act::Create(user("alice", &["dev", "sre"]), request)));
        let change = Change { namespace: "teller".to_owned(), name: name.clone() };
        let vote = Act::Vote(user("bob", &["sre"]), change, Approve);
        if number < count {
            acts.extend([(30_000, vote.clone()), (60_000, vote)]);
        }
    }
    acts.sort_by_key(|(after, _)| *after);
    let mut history = History::at(&Bank { votes: 1, ..Bank::default() }, acts);
    history.objects.extend(names.iter().map(|name| deployment(name, "web:zero")));
    history.objects.push(plan(&careful()));
    history
}

/// So many releases that begin together: the world afterwards, when each ended, and passes and calls for each.
fn crowd(count: usize) -> (World, Vec<Timestamp>, f64, f64) {
    let (world, timeline) = play(&crowd_of(count, 0));
    let ends: Vec<_> = timeline
        .iter()
        .filter_map(|happening| match happening {
            Happening::Stored(audit) if audit.id.kind == "ChangeRequest" => {
                let phase =
                    |object: &Option<Arc<Value>>| object.as_ref().map(|object| object["status"]["phase"].clone());
                let ended = Some(json!("Succeeded"));
                (phase(&audit.new) == ended && phase(&audit.old) != ended).then_some(happening.at())
            }
            _ => None,
        })
        .collect();
    #[allow(clippy::cast_precision_loss, reason = "some thousand")]
    let each = |all: u64| all as f64 / count as f64;
    let (passes, calls) = (each(world.passes_begun()), each(world.calls_made()));
    (world, ends, passes, calls)
}

#[test]
fn r32_many_releases_at_once_all_end_and_cost_no_more_each() {
    let (_, alone, passes_alone, calls_alone) = crowd(4);
    assert_eq!(alone.len(), 4);
    let (mut world, ends, passes, calls) = crowd(24);
    assert_eq!(ends.len(), 24, "each of them ends");
    // Whoever is looked at last is not looked at much later: all steps together take half a minute of pauses.
    let spread = ends[23].duration_since(ends[0]);
    assert!(spread < SignedDuration::from_secs(20), "the last one ended {spread} after the first");
    assert!(passes < passes_alone * 1.2, "{passes} passes each, {passes_alone} among few");
    assert!(calls < calls_alone * 1.2, "{calls} calls each, {calls_alone} among few");
    // Nothing is looked at when nothing happens and nothing is due.
    let (before, until) = (world.passes_begun(), world.now() + SignedDuration::from_hours(6));
    while world.step(until) {}
    assert_eq!(world.passes_begun(), before);
}

/// Why the controller may look at a release.
#[derive(Default)]
struct Reasons {
    /// What the server told of its objects.
    events: u64,
    /// When it said that there would be something to do.
    stated: BTreeSet<Timestamp>,
    /// Its change and its Rollout.
    keys: BTreeSet<Key>,
}

/// The release of a crowd whose object has this name.
fn release_of(name: &str) -> Option<&str> {
    let number = name.strip_prefix("crowd-")?;
    let rest = number.find('-').map_or(0, |dash| number.len() - dash);
    name.get(..name.len() - rest)
}

#[test]
fn r32_while_many_run_no_release_is_looked_at_without_an_event_or_a_due_time_of_its_own() {
    const OWN: [&str; 5] = ["ChangeRequest", "Approval", "Rollout", "Deployment", "ReplicaSet"];
    let (count, waiting) = (24, 6);
    let history = crowd_of(count, waiting);
    let mut world = World::new(&Options { seed: 1, start: start(), controllers: 1, faults: Faults::default() });
    world.seed_objects(&history.objects).unwrap();
    let begun = start() + SignedDuration::from_secs(30);
    while world.step(begun) {}
    for (after, act) in &history.acts {
        world.schedule(begun + SignedDuration::from_millis(*after), act.clone());
    }
    let mut read = world.shared.lock().api.resource_version();
    let mut reasons: BTreeMap<String, Reasons> = BTreeMap::new();
    while world.step(begun + SignedDuration::from_hours(1)) {
        world.take_happened();
        let cluster = world.shared.lock();
        let now = cluster.api.now();
        for event in cluster.api.events_since(read, None).unwrap() {
            read = event.rv;
            let kind = event.kind.kind.as_str();
            let Some(release) = release_of(meta::name(&event.object)).filter(|_| OWN.contains(&kind)) else { continue };
            let of = reasons.entry(release.to_owned()).or_default();
            of.events += 1;
            let stated = event.object.pointer("/status/nextTransition").and_then(Value::as_str);
            of.stated.extend(stated.map(|at| at.parse::<Timestamp>().unwrap()));
            match kind {
                "ChangeRequest" => of.keys.insert(Key::Change(key_of(&event.object))),
                "Rollout" => of.keys.insert(Key::Rollout(key_of(&event.object))),
                _ => false,
            };
        }
        drop(cluster);
        for of in reasons.values() {
            let due = of.stated.range(..=now).count() as u64;
            for key in &of.keys {
                let (passes, events) = (world.passes_over(key), of.events);
                assert!(passes <= events + due, "{key:?}: {passes} passes for {events} events and {due} due times");
            }
        }
    }
    assert_eq!(reasons.len(), count + waiting);
    let ran = reasons.iter().filter(|(release, of)| {
        let change = world.object(GROUP, "ChangeRequest", "teller", release).unwrap();
        change["status"]["phase"] == "Succeeded" && of.keys.len() == 2
    });
    assert_eq!(ran.count(), count, "the others wait for votes");
}
