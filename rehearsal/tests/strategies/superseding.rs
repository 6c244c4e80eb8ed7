//! A newer change on a workload that is being released.

use interlock_rehearsal::{
    faults::Faults,
    history::{History, deployment},
    people::Act,
    world::World,
};
use serde_json::{Value, json};

use super::play::{each_kill, history, id, play, propose, status, status_of, stored, told, votes};

fn two(supersede: &str, second: &[&str]) -> History {
    let steps = json!([{"setWeight": 50}, {"pause": {"duration": "120s"}}]);
    let plan = json!({"canary": {"steps": steps}, "supersede": supersede});
    let mut more: Vec<(i64, Act)> = Vec::new();
    for (n, image) in second.iter().enumerate() {
        let (name, at) = (format!("newer-{n}"), 40_000 + 40_000 * n as i64);
        more.push(propose(&name, at, &[deployment("web-0", image)]));
        more.extend(votes(&name, at + 5_000));
    }
    history(&plan, Vec::new(), &[deployment("web-0", "web:one")], more)
}

fn image(world: &World) -> Value {
    world.live(&id("apps", "Deployment", "web-0")).unwrap()["spec"]["template"]["spec"]["containers"][0]["image"]
        .clone()
}

fn phase(world: &World, name: &str) -> Value {
    status_of(world, name)["phase"].clone()
}

#[test]
fn r10_a_newer_approved_change_sends_the_running_one_back_to_nothing_first() {
    let (world, timeline) = play(&two("Restart", &["web:two"]));
    assert_eq!((phase(&world, "release"), phase(&world, "newer-0")), (json!("RolledBack"), json!("Succeeded")));
    assert!(told(&world).contains("superseded by change teller/newer-0"), "{}", told(&world));
    assert_eq!(image(&world), "web:two");
    let canaries: Vec<_> = stored(&timeline, &id("apps", "Deployment", "web-0-canary"))
        .iter()
        .map(|canary| {
            canary.as_ref().map_or(json!(null), |c| c["spec"]["template"]["spec"]["containers"][0]["image"].clone())
        })
        .collect();
    let gone = canaries.iter().position(Value::is_null).unwrap();
    let second = canaries.iter().position(|image| image == "web:two").unwrap();
    assert!(gone < second, "the first canary goes before the second comes: {canaries:?}");
}

#[test]
fn a_newer_change_that_nobody_approved_disturbs_nothing() {
    let mut history = two("Restart", &["web:two"]);
    history.acts.retain(|(_, act)| !matches!(act, Act::Vote(_, change, _) if change.name == "newer-0"));
    let (world, _) = play(&history);
    assert_eq!(status(&world)["phase"], "Succeeded", "{}", told(&world));
    assert_eq!(image(&world), "web:one");
}

#[test]
fn a_plan_that_queues_lets_the_newer_one_wait() {
    let (world, _) = play(&two("Queue", &["web:two"]));
    assert_eq!(status(&world)["phase"], "Succeeded", "{}", told(&world));
    assert_ne!(phase(&world, "newer-0"), "RolledBack");
}

#[test]
fn of_three_the_newest_is_released() {
    let (world, _) = play(&two("Restart", &["web:two", "web:three"]));
    assert_eq!(phase(&world, "newer-1"), "Succeeded", "{}", told(&world));
    assert_eq!(image(&world), "web:three");
}

#[test]
fn superseding_ends_well_whatever_goes_wrong() {
    for seed in 1..9 {
        let storm =
            History { seed, faults: Faults::storm(), controllers: 2, ..two("Restart", &["web:two", "web:bad"]) };
        let (world, _) = play(&storm);
        assert!(world.live(&id("apps", "Deployment", "web-0-canary")).is_none(), "seed {seed}: {}", told(&world));
        assert_ne!(image(&world), "web:bad", "seed {seed}");
    }
}

#[test]
fn a_controller_killed_after_any_single_write_supersedes_all_the_same() {
    each_kill(&two("Restart", &["web:two"]), |world, _, why| {
        assert_ne!(status(world)["finished"], json!(null), "{why}");
        assert_ne!(image(world), "web:zero", "{why}");
    });
}
