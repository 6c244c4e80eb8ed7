//! The fast track: a version that served well a short time ago.

use interlock_core::rollout::revisions::{Return, Wanted, bring_back};
use interlock_crds::{GROUP, Rollout};
use interlock_rehearsal::{
    history::{History, deployment},
    metrics::{Source, Values},
    people::{Act, Disturbance},
    world::{Happening, World},
};
use jiff::SignedDuration;
use serde_json::{Value, json};

use super::play::{history, id, play, propose, status_of, told, votes};

/// The version of the start comes back so long after another one was released; how long its release took, in seconds.
fn takes(back_after: i64, fast_track: Option<&str>) -> i64 {
    let mut plan = json!({"canary": {"steps": [{"setWeight": 50}, {"pause": {"duration": "300s"}}]}});
    if let Some(span) = fast_track {
        plan["fastTrack"] = json!(span);
    }
    let mut more: Vec<(i64, Act)> = vec![propose("back", back_after, &[deployment("web-0", "web:zero")])];
    more.extend(votes("back", back_after + 5_000));
    let (world, timeline) = play(&history(&plan, Vec::new(), &[deployment("web-0", "web:new")], more));
    assert_eq!(status_of(&world, "back")["phase"], "Succeeded", "{}", told(&world));
    let at = |phase: &str| {
        timeline.iter().find_map(|happening| match happening {
            Happening::Stored(audit) if audit.id.name == "back" => {
                audit.new.as_ref().filter(|new| new["status"]["phase"] == phase).map(|_| audit.at.as_second())
            }
            _ => None,
        })
    };
    at("Succeeded").unwrap() - at("Running").unwrap()
}

#[test]
fn r12_the_version_before_comes_back_at_once_within_the_fast_track_and_by_every_step_after_it() {
    assert!(takes(400_000, Some("10m")) < 60, "known to be good");
    assert!(takes(1_200_000, Some("10m")) >= 300, "too long ago");
    assert!(takes(400_000, None) >= 300, "the plan has no fast track");
}

/// Version 2 becomes 3, and 3 becomes 4; each is measured three times at half of the pods.
fn to_version_four(more: Vec<(i64, Act)>) -> History {
    let plan = json!({
        "canary": {"steps": [{"setWeight": 50}, {"analysis": ["errors"]}]},
        "analyses": [{
            "name": "errors", "interval": "10s", "count": 3, "successWhen": "result < 0.01",
            "prometheus": {"address": "http://prometheus.monitoring:9090", "query": "errors"},
        }],
        "fastTrack": "10m",
    });
    let value = Values::One(0.002);
    let says = Source::Says { stable: value.clone(), value, every: SignedDuration::from_secs(30) };
    let mut acts = vec![
        (500, Act::Fault(Disturbance::Measure("errors".to_owned(), says))),
        propose("four", 200_000, &[deployment("web-0", "web:four")]),
    ];
    acts.extend(votes("four", 205_000));
    history(&plan, Vec::new(), &[deployment("web-0", "web:three")], [acts, more].concat())
}

/// What `interlock rollout rollback` makes of what is there.
fn version_two(world: &World) -> Return {
    let plain = |kind: &str| world.objects("apps", kind).iter().map(|set| (**set).clone()).collect::<Vec<_>>();
    let rollouts: Vec<Rollout> = world
        .objects(GROUP, "Rollout")
        .iter()
        .map(|rollout| serde_json::from_value((**rollout).clone()).unwrap())
        .collect();
    let workload = world.live(&id("apps", "Deployment", "web-0")).unwrap();
    let held = plain("ReplicaSet");
    bring_back(&Wanted { workload: &workload, held: &held, rollouts: &rollouts, revision: Some(1) }).unwrap()
}

/// Measurements of all releases.
fn measured(world: &World) -> u64 {
    let rollouts = world.objects(GROUP, "Rollout");
    let runs =
        rollouts.iter().flat_map(|rollout| rollout["status"]["analyses"].as_array().cloned().unwrap_or_default());
    runs.map(|run| run["state"]["counts"]["successful"].as_u64().unwrap_or(0)).sum()
}

fn image(world: &World) -> Value {
    let live = world.live(&id("apps", "Deployment", "web-0")).unwrap();
    live["spec"]["template"]["spec"]["containers"][0]["image"].clone()
}

#[test]
fn r12_a_rollback_two_revisions_back_measures_nothing_within_the_fast_track_and_everything_after_it() {
    let (world, _) = play(&to_version_four(Vec::new()));
    assert_eq!((image(&world), measured(&world)), (json!("web:four"), 6), "{}", told(&world));
    let found = version_two(&world);
    assert_eq!((found.revision, found.present, found.other_configuration), (1, 3, false));
    assert_eq!(found.images, ["web:zero"]);
    // The release that took version 2 away ends in the second minute: the fast track lasts until the twelfth.
    for (at, measurements) in [(400_000, 6), (1_000_000, 9)] {
        let back =
            [vec![propose("back", at, std::slice::from_ref(&found.manifest))], votes("back", at + 5_000)].concat();
        let (world, _) = play(&to_version_four(back));
        assert_eq!(status_of(&world, "back")["phase"], "Succeeded", "{}", told(&world));
        assert_eq!((image(&world), measured(&world)), (json!("web:zero"), measurements), "{at}: {}", told(&world));
    }
}
