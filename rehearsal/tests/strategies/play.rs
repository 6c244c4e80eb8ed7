//! A release and how it is played.

use std::sync::Arc;

use interlock_core::{object::ObjectId, port::PortError};
use interlock_crds::{API_VERSION, ApprovalDecision::Approve, GROUP, Verb};
use interlock_rehearsal::{
    history::{Bank, History, start},
    invariants::Watchdog,
    people::{Act, Change, user},
    world::{Happening, Options, World},
};
use interlock_sim::api::meta;
use jiff::SignedDuration;
use serde_json::{Value, json};

/// The change of every test.
pub fn the_change() -> Change {
    Change { namespace: "teller".to_owned(), name: "release".to_owned() }
}

/// An identity in namespace teller.
pub fn id(group: &str, kind: &str, name: &str) -> ObjectId {
    let version = if kind == "HorizontalPodAutoscaler" { "v2" } else { "v1" };
    ObjectId {
        group: group.to_owned(),
        version: version.to_owned(),
        kind: kind.to_owned(),
        namespace: Some("teller".to_owned()),
        name: name.to_owned(),
    }
}

/// A history in which a change with these manifests is proposed under a plan of this strategy, and approved.
pub fn history(plan: &Value, objects: Vec<Value>, manifests: &[Value], more: Vec<(i64, Act)>) -> History {
    let mut spec = plan.clone();
    spec["progressDeadline"] = json!("60s");
    let plan = json!({
        "apiVersion": API_VERSION, "kind": "RolloutPlan", "metadata": {"name": "cautious", "namespace": "teller"},
        "spec": spec,
    });
    let acts = [vec![propose("release", 1_000, manifests)], votes("release", 8_000), more].concat();
    let mut history = History::at(&Bank { votes: 1, ..Bank::default() }, acts);
    history.objects.splice(history.objects.len() - 1.., [objects, vec![system(&["teller"]), plan]].concat());
    history
}

/// The System of the test, so that namespaces can be added.
pub fn system(namespaces: &[&str]) -> Value {
    json!({
        "apiVersion": API_VERSION, "kind": "System", "metadata": {"name": "teller"},
        "spec": {
            "tier": "High", "mode": "Enforce", "namespaces": namespaces, "policyRef": {"name": "bank"},
            "dependsOn": ["ledger"],
            "executor": {"type": "Interlock", "serviceAccount": {"name": "executor", "namespace": "teller"}},
        },
    })
}

/// Somebody proposes a change by the plan.
pub fn propose(name: &str, at: i64, manifests: &[Value]) -> (i64, Act) {
    let request = json!({
        "apiVersion": API_VERSION, "kind": "ChangeRequest", "metadata": {"name": name, "namespace": "teller"},
        "spec": {"title": name, "reason": "a test", "requester": "alice", "rolloutPlanRef": {"name": "cautious"},
            "content": {"manifests": manifests}},
    });
    (at, Act::Create(user("alice", &["dev", "sre"]), request))
}

/// Votes for a change, the second for a storm that swallows the first.
pub fn votes(name: &str, at: i64) -> Vec<(i64, Act)> {
    let change = Change { namespace: "teller".to_owned(), name: name.to_owned() };
    let vote = Act::Vote(user("bob", &["sre"]), change, Approve);
    vec![(at, vote.clone()), (at + 22_000, vote)]
}

/// The change is commanded.
pub fn command(at: i64, verb: Verb) -> (i64, Act) {
    (at, Act::Command(user("alice", &["dev", "sre"]), the_change(), verb, "no".to_owned()))
}

/// Plays a history that keeps every invariant.
pub fn play(history: &History) -> (World, Vec<Happening>) {
    let (world, played) = history.play_whole().unwrap_or_else(|(broken, played)| {
        let told: Vec<_> = played.timeline.iter().rev().take(12).map(briefly).collect();
        panic!("{broken}\n{told:#?}")
    });
    if std::env::var_os("TELL").is_some() {
        played.timeline.iter().for_each(|happening| eprintln!("{}", briefly(happening)));
    }
    (world, played.timeline)
}

fn briefly(happening: &Happening) -> String {
    match happening {
        Happening::Stored(audit) => {
            let status =
                audit.new.as_ref().map(|new| format!("{} {}", new["status"]["phase"], new["status"]["message"]));
            format!(
                "{} {} wrote {} {:?} {}",
                audit.at,
                audit.user,
                audit.id,
                audit.subresource,
                status.unwrap_or_default()
            )
        }
        Happening::Told(told) => format!("{} {}: {}", told.at, told.about, told.note.message),
        Happening::Act { at, what, came } => format!("{at} {what}: {:?}", came.as_ref().map(|_| ())),
        Happening::Fault { at, what } => format!("{at} {what}"),
    }
}

/// Status of a change.
pub fn status_of(world: &World, name: &str) -> Value {
    let change = Change { namespace: "teller".to_owned(), name: name.to_owned() };
    world.live(&change.id()).map(|live| live["status"].clone()).unwrap_or_default()
}

/// Status of the change of every test.
pub fn status(world: &World) -> Value {
    status_of(world, "release")
}

/// What the Rollouts say, for a failed test.
pub fn told(world: &World) -> String {
    let all = world.objects(GROUP, "Rollout");
    let said = all.iter().map(|r| format!("{}: {} {}", meta::name(r), r["status"]["phase"], r["status"]["message"]));
    let said: Vec<_> = said.collect();
    let status = status(world);
    format!("{} {} {said:#?}", status["phase"], status["message"])
}

/// What the executor stored, in its order.
pub fn stored(timeline: &[Happening], id: &ObjectId) -> Vec<Option<Arc<Value>>> {
    let of_executor = timeline.iter().filter_map(|happening| match happening {
        Happening::Stored(audit) if audit.user.ends_with(":executor") && audit.id.same_object(id) => {
            Some(audit.new.clone().filter(|new| !meta::is_terminating(new)))
        }
        _ => None,
    });
    of_executor.collect()
}

/// What came of what people did whose description has this text.
pub fn came(timeline: &[Happening], what: &str) -> Vec<Result<(), String>> {
    let acts = timeline.iter().filter_map(|happening| match happening {
        Happening::Act { what: of, came, .. } if of.contains(what) => {
            Some(came.as_ref().map(|_| ()).map_err(PortError::to_string))
        }
        _ => None,
    });
    acts.collect()
}

/// Plays a calm history in which the controller is killed right after its write of this number; how many it made.
pub fn killed_after(history: &History, kill: usize) -> (World, Vec<Happening>, usize) {
    let options = Options { seed: 1, start: start(), controllers: 1, faults: history.faults.clone() };
    let mut world = World::new(&options);
    world.workloads.set_behaviours(history.behaviours.clone());
    world.gateway.set_delay(history.gateway_delay);
    world.seed_objects(&history.objects).unwrap();
    let (mut dog, mut writes, mut timeline) = (Watchdog::default(), 0, Vec::new());
    let begun = start() + SignedDuration::from_secs(30);
    while world.step(begun) {}
    world.take_happened();
    for (after, act) in &history.acts {
        world.schedule(begun + SignedDuration::from_millis(*after), act.clone());
    }
    let mut end = begun + SignedDuration::from_hours(1);
    while world.step(end) {
        for happening in world.take_happened() {
            timeline.push(happening.clone());
            let Happening::Stored(audit) = happening else { continue };
            let is_over = |new: &Arc<Value>| new.pointer("/status/finished").is_some();
            let all_over = || !world.has_plans() && world.objects(GROUP, "ChangeRequest").iter().all(is_over);
            if audit.id.kind == "ChangeRequest" && all_over() {
                // Long enough for what was under way.
                end = end.min(world.now() + SignedDuration::from_mins(1));
            }
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
    (world, timeline, writes)
}

/// Kills the controller after each write in turn: `check` looks at each end.
pub fn each_kill(history: &History, check: impl Fn(&World, &[Happening], &str)) {
    let (world, timeline, writes) = killed_after(history, 0);
    check(&world, &timeline, "undisturbed");
    assert!(writes > 10, "{writes}");
    for kill in 1..=writes {
        let (world, timeline, _) = killed_after(history, kill);
        check(&world, &timeline, &format!("killed after write {kill} of {writes}: {}", told(&world)));
    }
}
