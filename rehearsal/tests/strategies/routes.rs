//! Canaries whose share an HTTPRoute splits.

use interlock_crds::Verb;
use interlock_rehearsal::{
    faults::Faults,
    history::{History, deployment},
    people::{Act, user},
    world::{Happening, World},
};
use jiff::SignedDuration;
use serde_json::{Value, json};

use super::play::{command, each_kill, history, id, play, status, stored, told};

fn service() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "shop", "namespace": "teller"},
        "spec": {"selector": {"app": "web-0"}, "ports": [{"port": 80}]},
    })
}

/// A route with a rule of somebody else's and a second backend that has nothing to do with the release.
fn route() -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": {"name": "teller", "namespace": "teller", "labels": {"team": "branch"}},
        "spec": {"parentRefs": [{"name": "public"}], "hostnames": ["teller.bank.example"], "rules": [
            {"matches": [{"path": {"type": "PathPrefix", "value": "/"}}], "backendRefs": [{"name": "shop", "port": 80}]},
            {"matches": [{"path": {"type": "PathPrefix", "value": "/help"}}], "backendRefs": [{"name": "web-1", "port": 80}]},
        ]},
    })
}

fn split(steps: &Value, image: &str) -> History {
    let plan = json!({"canary": {"route": {"httpRoute": "teller", "backend": "shop"}, "steps": steps}});
    history(&plan, vec![service(), route()], &[deployment("web-0", image)], Vec::new())
}

fn careful() -> Value {
    json!([{"setWeight": 20}, {"pause": {"duration": "10s"}}, {"setWeight": 60}, {"pause": {"duration": "10s"}}])
}

/// Weights that the executor gave the new version; none for the route's own form.
fn weights(timeline: &[Happening]) -> Vec<Option<i64>> {
    let mut weights = Vec::new();
    for route in stored(timeline, &id("gateway.networking.k8s.io", "HTTPRoute", "teller")).into_iter().flatten() {
        let refs = route["spec"]["rules"].as_array().unwrap().iter().flat_map(|r| r["backendRefs"].as_array().unwrap());
        let weight = refs.clone().find(|r| r["name"] == "shop-canary").map(|r| r["weight"].as_i64().unwrap());
        if weights.last() != Some(&weight) {
            weights.push(weight);
        }
    }
    weights
}

fn image(world: &World) -> Value {
    world.live(&id("apps", "Deployment", "web-0")).unwrap()["spec"]["template"]["spec"]["containers"][0]["image"]
        .clone()
}

fn spec_of_route(world: &World) -> Value {
    world.live(&id("gateway.networking.k8s.io", "HTTPRoute", "teller")).unwrap()["spec"].clone()
}

fn is_as_before(world: &World) {
    assert_eq!(spec_of_route(world), route()["spec"]);
    let service = world.live(&id("", "Service", "shop")).unwrap();
    assert_eq!(service["spec"]["selector"], json!({"app": "web-0"}));
}

#[test]
fn a_split_route_takes_its_weights_one_after_another_and_gets_its_own_form_back() {
    let (world, timeline) = play(&split(&careful(), "web:new"));
    assert_eq!(status(&world)["phase"], "Succeeded", "{}", told(&world));
    assert_eq!(image(&world), "web:new");
    assert_eq!(weights(&timeline), [Some(20), Some(60), Some(100), None]);
    is_as_before(&world);
}

#[test]
fn a_version_that_never_gets_ready_gets_no_traffic() {
    let (world, timeline) = play(&split(&careful(), "web:bad"));
    assert_eq!(status(&world)["phase"], "RolledBack", "{}", told(&world));
    assert_eq!(image(&world), "web:zero");
    assert_eq!(weights(&timeline), []);
    is_as_before(&world);
}

/// A release that somebody aborts while it has most of the traffic, later than a new leader needs.
fn aborted() -> History {
    let mut history = split(&json!([{"setWeight": 60}, {"pause": {}}]), "web:new");
    history.acts.push(command(240_000, Verb::Abort));
    history
}

#[test]
fn an_abort_takes_the_traffic_back_first() {
    let (world, timeline) = play(&aborted());
    assert_eq!(status(&world)["phase"], "RolledBack", "{}", told(&world));
    assert_eq!((image(&world), weights(&timeline)), (json!("web:zero"), vec![Some(60), None]));
    is_as_before(&world);
}

#[test]
fn headers_and_copies_go_to_the_new_version_while_its_weight_is_zero() {
    let steps = json!([
        {"setWeight": 0}, {"headerMatch": {"headers": [{"name": "x-canary", "value": "yes"}]}}, {"mirror": {"percent": 10}},
        {"pause": {"duration": "10s"}}, {"headerMatch": {}}, {"mirror": {"percent": 0}}, {"setWeight": 50},
    ]);
    let (world, timeline) = play(&split(&steps, "web:new"));
    assert_eq!(status(&world)["phase"], "Succeeded", "{}", told(&world));
    let forms = stored(&timeline, &id("gateway.networking.k8s.io", "HTTPRoute", "teller"));
    let has = |what: &str| forms.iter().flatten().any(|route| route.to_string().contains(what));
    assert!(has("x-canary") && has("requestMirror") && has("\"percent\":10"));
    is_as_before(&world);
}

#[test]
fn a_release_begins_when_the_gateway_has_accepted_its_route_and_no_weight_counts_before() {
    let mut history = split(&json!([{"setWeight": 20}]), "web:new");
    history.gateway_delay = SignedDuration::from_secs(50);
    let (world, timeline) = play(&history);
    assert_eq!(status(&world)["phase"], "Succeeded", "{}", told(&world));
    assert_eq!(readiness(&timeline), [("False", "no Gateway has accepted HTTPRoute teller yet"), COMPLETE]);
    assert_eq!(weights(&timeline), [Some(20), Some(100), None]);
    let at: Vec<_> = timeline
        .iter()
        .filter(|h| matches!(h, Happening::Stored(a) if a.id.kind == "HTTPRoute"))
        .map(Happening::at)
        .collect();
    assert!(at.windows(2).all(|pair| pair[1].duration_since(pair[0]) >= history.gateway_delay), "{at:?}");
}

const COMPLETE: (&str, &str) = ("True", "everything that the release needs is there");

/// What the Rollouts said of what they need, in its order: status and message of the condition Ready.
fn readiness(timeline: &[Happening]) -> Vec<(&str, &str)> {
    let mut said = Vec::new();
    for happening in timeline {
        let Happening::Stored(audit) = happening else { continue };
        let new = audit.new.as_deref().filter(|_| audit.id.kind == "Rollout");
        let mut conditions = new.and_then(|new| new.pointer("/status/conditions")?.as_array()).into_iter().flatten();
        let Some(ready) = conditions.find(|condition| condition["type"] == "Ready") else { continue };
        let one = (ready["status"].as_str().unwrap(), ready["message"].as_str().unwrap());
        said.extend((said.last() != Some(&one)).then_some(one));
    }
    said
}

#[test]
fn what_a_release_needs_and_is_missing_is_told_and_it_begins_by_itself_when_that_is_there() {
    let admin = || user("admin", &["system:masters"]);
    let mut elsewhere = route();
    elsewhere["spec"]["rules"].as_array_mut().unwrap().remove(0);
    let corrected = json!({"spec": {"rules": route()["spec"]["rules"]}});
    let id_of_route = id("gateway.networking.k8s.io", "HTTPRoute", "teller");
    for (kind, instead, mends, says) in [
        ("Service", None, Act::Create(admin(), service()), "Service shop does not exist"),
        ("HTTPRoute", None, Act::Create(admin(), route()), "HTTPRoute teller does not exist"),
        (
            "HTTPRoute",
            Some(elsewhere),
            Act::Patch(admin(), id_of_route, corrected),
            "HTTPRoute teller sends nothing to Service shop; name the backend whose share is to be split",
        ),
    ] {
        let mut release = split(&careful(), "web:new");
        release.objects.retain(|object| object["kind"] != kind);
        release.objects.extend(instead);
        // Whoever runs the Gateway writes both without a change.
        let free = json!([{"kind": "Service"}, {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute"}]);
        for system in release.objects.iter_mut().filter(|object| object["kind"] == "System") {
            system["spec"]["governs"] = json!({"remove": free});
        }
        release.acts.push((60_000, mends));
        let (world, timeline) = play(&release);
        assert_eq!(status(&world)["phase"], "Succeeded", "{says}: {}", told(&world));
        assert_eq!(readiness(&timeline).first(), Some(&("False", says)));
        assert_eq!(readiness(&timeline).last(), Some(&COMPLETE));
        let mended = timeline.iter().find_map(|happening| match happening {
            Happening::Act { at, what, came: Ok(_) } if what.starts_with("admin") => Some(*at),
            _ => None,
        });
        let written = timeline.iter().find_map(|happening| match happening {
            Happening::Stored(audit) if audit.user.ends_with(":executor") => Some(audit.at),
            _ => None,
        });
        assert!(mended.unwrap() <= written.unwrap(), "{says}: nothing is written before");
        assert_eq!(weights(&timeline), [Some(20), Some(60), Some(100), None], "{says}");
        is_as_before(&world);
    }
}

#[test]
fn split_routes_end_well_whatever_goes_wrong() {
    for seed in 1..13 {
        let image_of = if seed % 3 == 0 { "web:bad" } else { "web:new" };
        let storm = History { seed, faults: Faults::storm(), controllers: 2, ..split(&careful(), image_of) };
        let (world, _) = play(&storm);
        let status = status(&world);
        let end = status["finished"]["phase"].as_str().unwrap_or("waits");
        let serves = if end == "Succeeded" { "web:new" } else { "web:zero" };
        assert_eq!(image(&world), serves, "seed {seed}: {end} {}", told(&world));
        is_as_before(&world);
    }
}

#[test]
fn r29_a_controller_killed_after_any_single_write_moves_the_same_weights_to_the_same_end() {
    for (new, phase, serves, moved) in [
        ("web:new", "Succeeded", "web:new", vec![Some(20), Some(60), Some(100), None]),
        ("web:bad", "RolledBack", "web:zero", vec![]),
    ] {
        each_kill(&split(&careful(), new), |world, timeline, why| {
            assert_eq!(status(world)["phase"], phase, "{why}");
            assert_eq!(image(world), serves, "{why}");
            assert_eq!(weights(timeline), moved, "{why}");
            is_as_before(world);
        });
    }
}

#[test]
fn r29_a_controller_killed_after_any_single_write_takes_the_traffic_back_all_the_same() {
    each_kill(&aborted(), |world, timeline, why| {
        assert_eq!((&status(world)["phase"], image(world)), (&json!("RolledBack"), json!("web:zero")), "{why}");
        assert_eq!(weights(timeline), [Some(60), None], "{why}");
        is_as_before(world);
    });
}
