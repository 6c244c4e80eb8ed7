//! Blue/green: one switch, and the old version kept for a while.

use interlock_crds::Verb;
use interlock_rehearsal::{
    faults::Faults,
    history::{History, deployment},
    world::{Happening, World},
};
use serde_json::{Value, json};

use super::play::{command, each_kill, history, id, play, status, stored, told};

fn service() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "shop", "namespace": "teller"},
        "spec": {"selector": {"app": "web-0"}, "ports": [{"port": 80}]},
    })
}

fn switch(image: &str) -> History {
    keeping("30s", image)
}

/// The old version is kept so long after the switch.
fn keeping(old: &str, image: &str) -> History {
    let plan = json!({"blueGreen": {"service": "shop", "steps": [{"pause": {"duration": "10s"}}], "keepOld": old}});
    history(&plan, vec![service()], &[deployment("web-0", image)], Vec::new())
}

fn image(world: &World) -> Value {
    world.live(&id("apps", "Deployment", "web-0")).unwrap()["spec"]["template"]["spec"]["containers"][0]["image"]
        .clone()
}

fn is_as_before(world: &World) {
    assert_eq!(world.live(&id("", "Service", "shop")).unwrap()["spec"]["selector"], json!({"app": "web-0"}));
    for (group, kind, name) in [("apps", "Deployment", "web-0-canary"), ("", "Service", "shop-preview")] {
        assert!(world.live(&id(group, kind, name)).is_none(), "{name}");
    }
}

/// Versions that the Service was made to select, numbered as they came; none for any.
fn selected(timeline: &[Happening]) -> Vec<Option<usize>> {
    let mut hashes: Vec<Value> = Vec::new();
    let mut selected = Vec::new();
    for service in stored(timeline, &id("", "Service", "shop")).into_iter().flatten() {
        let hash = service["spec"]["selector"].get("pod-template-hash").cloned();
        let number = hash.map(|hash| {
            hashes.iter().position(|known| *known == hash).unwrap_or_else(|| {
                hashes.push(hash);
                hashes.len() - 1
            })
        });
        selected.extend((selected.last() != Some(&number)).then_some(number));
    }
    selected
}

#[test]
fn one_switch_moves_everything_and_the_workload_follows_when_the_old_version_is_no_longer_kept() {
    let (world, timeline) = play(&switch("web:new"));
    assert_eq!((&status(&world)["phase"], image(&world)), (&json!("Succeeded"), json!("web:new")), "{}", told(&world));
    // The old pods, those of the second Deployment, those of the workload, whoever fits.
    assert_eq!(selected(&timeline), [Some(0), Some(1), Some(2), None]);
    let preview = stored(&timeline, &id("", "Service", "shop-preview"));
    assert!(preview.first().is_some_and(Option::is_some) && preview.last().is_some_and(Option::is_none), "{preview:?}");
    is_as_before(&world);
    let at = |what: &dyn Fn(&interlock_rehearsal::cluster::Audit) -> bool| {
        timeline
            .iter()
            .filter_map(|h| match h {
                Happening::Stored(audit) if audit.user.ends_with(":executor") && what(audit) => Some(audit.at),
                _ => None,
            })
            .collect::<Vec<_>>()
    };
    let switched = at(&|audit| audit.id.name == "shop")[1];
    let written = at(&|audit| audit.id.name == "web-0")[0];
    assert!(written.duration_since(switched).as_secs() >= 30, "{switched} {written}");
}

#[test]
fn a_version_that_never_gets_ready_is_never_switched_to() {
    let (world, timeline) = play(&switch("web:bad"));
    assert_eq!(
        (&status(&world)["phase"], image(&world)),
        (&json!("RolledBack"), json!("web:zero")),
        "{}",
        told(&world)
    );
    assert_eq!(selected(&timeline), [Some(0), None]);
    is_as_before(&world);
}

#[test]
fn while_the_old_version_is_kept_one_write_returns_to_it() {
    let mut history = switch("web:new");
    history.acts.push(command(45_000, Verb::Abort));
    let (world, timeline) = play(&history);
    assert_eq!(
        (&status(&world)["phase"], image(&world)),
        (&json!("RolledBack"), json!("web:zero")),
        "{}",
        told(&world)
    );
    assert_eq!(selected(&timeline), [Some(0), Some(1), Some(0), None]);
    assert!(stored(&timeline, &id("apps", "Deployment", "web-0")).is_empty(), "the workload was never written");
    is_as_before(&world);
}

#[test]
fn a_service_of_other_pods_is_not_pinned_to_nothing_but_named() {
    let plan = json!({"blueGreen": {"service": "shop"}});
    let mut others = service();
    others["spec"]["selector"] = json!({"app": "web-1"});
    let (world, timeline) = play(&history(&plan, vec![others], &[deployment("web-0", "web:new")], Vec::new()));
    assert!(told(&world).contains("Service shop does not select the pods of web-0"), "{}", told(&world));
    assert!(stored(&timeline, &id("", "Service", "shop")).is_empty());
}

#[test]
fn switches_end_well_whatever_goes_wrong() {
    for seed in 1..13 {
        let image_of = if seed % 3 == 0 { "web:bad" } else { "web:new" };
        let storm = History { seed, faults: Faults::storm(), controllers: 2, ..switch(image_of) };
        let (world, _) = play(&storm);
        let end = status(&world)["finished"]["phase"].clone();
        let serves = if end == "Succeeded" { "web:new" } else { "web:zero" };
        assert_eq!(image(&world), serves, "seed {seed}: {end} {}", told(&world));
        is_as_before(&world);
    }
}

#[test]
fn a_controller_killed_after_any_single_write_switches_as_if_nothing_had_happened() {
    for (new, phase, serves, moved) in [
        ("web:new", "Succeeded", "web:new", vec![Some(0), Some(1), Some(2), None]),
        ("web:bad", "RolledBack", "web:zero", vec![Some(0), None]),
    ] {
        each_kill(&switch(new), |world, timeline, why| {
            assert_eq!((&status(world)["phase"], image(world)), (&json!(phase), json!(serves)), "{why}");
            assert_eq!(selected(timeline), moved, "{why}");
            is_as_before(world);
        });
    }
}

#[test]
fn r29_a_controller_killed_after_any_single_write_switches_back_all_the_same() {
    let mut history = keeping("10m", "web:new");
    // Later than a new leader needs to switch.
    history.acts.push(command(240_000, Verb::Abort));
    each_kill(&history, |world, timeline, why| {
        assert_eq!((&status(world)["phase"], image(world)), (&json!("RolledBack"), json!("web:zero")), "{why}");
        assert_eq!(selected(timeline), [Some(0), Some(1), Some(0), None], "{why}");
        assert!(stored(timeline, &id("apps", "Deployment", "web-0")).is_empty(), "{why}");
        is_as_before(world);
    });
}
