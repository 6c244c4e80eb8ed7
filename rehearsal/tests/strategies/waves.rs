//! Waves: the counters of the branches first, in a namespace of their own, then mobile banking, signed.

use interlock_crds::{
    API_VERSION,
    ApprovalDecision::{self, Approve},
    Verb,
};
use interlock_rehearsal::{
    faults::Faults,
    history::{History, deployment, start},
    people::{Act, user},
    world::{Happening, World},
};
use interlock_sim::workloads::{Behaviour, Effect};
use jiff::SignedDuration;
use serde_json::{Value, json};

use super::play::{command, each_kill, history, play, status, system, the_change, told};

fn counter(n: usize, image: &str) -> Value {
    let mut counter = deployment(&format!("counter-{n}"), image);
    counter["metadata"]["namespace"] = json!("branch");
    counter
}

fn plan(earlier: &str) -> Value {
    let target = |namespace: &str, name: &str| json!({"kind": "Deployment", "namespace": namespace, "name": name});
    let canary = json!({"steps": [{"setWeight": 50}]});
    json!({"earlierWaves": earlier, "waves": [
        {"name": "counters", "targets": [target("branch", "counter-0"), target("branch", "counter-1")], "canary": canary, "soak": "60s"},
        {"name": "mobile", "targets": [{"kind": "Deployment", "name": "web-0"}], "canary": canary, "signOff": {"groups": ["branch-ops"]}},
    ]})
}

fn launch(plan: &Value, images: [&str; 3], more: Vec<(i64, Act)>) -> History {
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "branch"}});
    let objects = vec![namespace, counter(0, "web:zero"), counter(1, "web:zero")];
    let manifests = [counter(0, images[0]), counter(1, images[1]), deployment("web-0", images[2])];
    let mut history = history(plan, objects, &manifests, more);
    for object in history.objects.iter_mut().filter(|o| o["kind"] == "System" && o["metadata"]["name"] == "teller") {
        *object = system(&["teller", "branch"]);
    }
    history
}

fn sign(at: i64, decision: ApprovalDecision) -> (i64, Act) {
    (at, Act::Sign(user("erin", &["branch-ops"]), the_change(), Some("mobile".to_owned()), decision))
}

fn images(world: &World) -> [String; 3] {
    [("branch", "counter-0"), ("branch", "counter-1"), ("teller", "web-0")].map(|(namespace, name)| {
        let live = world.object("apps", "Deployment", namespace, name).unwrap();
        live["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap().to_owned()
    })
}

/// When the executor first wrote the workloads themselves, in seconds.
fn written(timeline: &[Happening]) -> Vec<(String, i64)> {
    let mut written: Vec<(String, i64)> = Vec::new();
    for happening in timeline {
        let Happening::Stored(audit) = happening else { continue };
        let name = &audit.id.name;
        let is_first = !written.iter().any(|(known, _)| known == name);
        if audit.user.ends_with(":executor") && audit.id.kind == "Deployment" && !name.ends_with("-canary") && is_first
        {
            written.push((name.clone(), audit.at.as_second()));
        }
    }
    written
}

#[test]
fn the_counters_one_by_one_then_mobile_when_they_soaked_and_somebody_signed() {
    let (world, timeline) = play(&launch(&plan("Stay"), ["web:new"; 3], vec![sign(200_000, Approve)]));
    assert_eq!(status(&world)["phase"], "Succeeded", "{}", told(&world));
    assert_eq!(images(&world), ["web:new"; 3]);
    let written = written(&timeline);
    let names: Vec<_> = written.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["counter-0", "counter-1", "web-0"]);
    assert!(written[2].1 - written[1].1 >= 60, "{written:?}");
}

#[test]
fn r31_a_signature_given_early_does_not_shorten_the_soak() {
    let (world, timeline) = play(&launch(&plan("Stay"), ["web:new"; 3], vec![sign(20_000, Approve)]));
    assert_eq!(status(&world)["phase"], "Succeeded", "{}", told(&world));
    let written = written(&timeline);
    assert!(written[2].1 - written[1].1 >= 60, "{written:?}");
}

/// A Calendar with one freeze, in minutes from the start of the history.
fn night(from: i64, until: i64) -> Value {
    let local = |minutes: i64| (start() + SignedDuration::from_mins(minutes)).strftime("%Y-%m-%dT%H:%M").to_string();
    let freezes = json!([{"name": "evening", "from": local(from), "until": local(until)}]);
    json!({
        "apiVersion": API_VERSION, "kind": "Calendar", "metadata": {"name": "night"},
        "spec": {"timeZone": "UTC", "freezes": freezes},
    })
}

fn said(timeline: &[Happening], text: &str) -> bool {
    timeline.iter().any(|happening| match happening {
        Happening::Stored(audit) if audit.id.kind == "Rollout" => {
            let message = audit.new.as_ref().and_then(|new| new.pointer("/status/message")?.as_str());
            message.is_some_and(|message| message.contains(text))
        }
        _ => false,
    })
}

#[test]
fn r25_a_wave_with_a_calendar_of_its_own_begins_when_that_opens() {
    let mut plan = plan("Stay");
    plan["waves"][1]["calendarRef"] = json!({"name": "night"});
    let mut history = launch(&plan, ["web:new"; 3], vec![sign(20_000, Approve)]);
    history.objects.push(night(-60, 10));
    let (world, timeline) = play(&history);
    assert_eq!(status(&world)["phase"], "Succeeded", "{}", told(&world));
    assert!(said(&timeline, "wave mobile: Calendar night is closed"));
    let (written, opens) = (written(&timeline), start().as_second() + 600);
    assert!(written[1].1 < opens - 120, "it had soaked and was signed before: {written:?}");
    assert!(written[2].1 >= opens, "{written:?}");
}

#[test]
fn r25_a_plan_that_names_a_calendar_which_is_missing_says_so_and_heals_with_it() {
    let mut plan = plan("Stay");
    plan["waves"][1]["calendarRef"] = json!({"name": "night"});
    let admin = user("admin", &["system:masters"]);
    let history =
        launch(&plan, ["web:new"; 3], vec![sign(20_000, Approve), (60_000, Act::Create(admin, night(-60, 10)))]);
    let (world, timeline) = play(&history);
    assert_eq!(status(&world)["phase"], "Succeeded", "{}", told(&world));
    let told_of_plan = timeline.iter().filter_map(|happening| match happening {
        Happening::Stored(audit) if audit.id.kind == "RolloutPlan" => {
            Some(audit.new.as_ref()?["status"]["conditions"][0].clone())
        }
        _ => None,
    });
    let told_of_plan: Vec<_> = told_of_plan.collect();
    let reasons: Vec<_> = told_of_plan.iter().map(|condition| &condition["reason"]).collect();
    assert_eq!(reasons, ["NoCalendar", "Valid"], "{told_of_plan:?}");
    assert_eq!(told_of_plan[0]["message"], "wave mobile: Calendar night does not exist: it will not begin");
}

#[test]
fn r25_a_window_that_closes_between_two_workloads_of_a_wave_keeps_the_second_waiting() {
    let mut plan = plan("Stay");
    plan["waves"][0]["calendarRef"] = json!({"name": "night"});
    // The first one is under way when it closes, and goes on.
    plan["waves"][0]["canary"] = json!({"steps": [{"setWeight": 50}, {"pause": {"duration": "60s"}}]});
    let mut history = launch(&plan, ["web:new"; 3], vec![sign(20_000, Approve)]);
    history.objects.push(night(1, 10));
    let (world, timeline) = play(&history);
    assert_eq!(status(&world)["phase"], "Succeeded", "{}", told(&world));
    assert!(said(&timeline, "wave counters: Calendar night is closed"));
    let (written, opens) = (written(&timeline), start().as_second() + 600);
    let names: Vec<_> = written.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["counter-0", "counter-1", "web-0"]);
    assert!(written[0].1 < opens && written[1].1 >= opens, "{written:?}");
}

#[test]
fn a_first_wave_that_fails_returns_and_the_second_never_begins() {
    let (world, timeline) =
        play(&launch(&plan("Stay"), ["web:new", "web:bad", "web:new"], vec![sign(20_000, Approve)]));
    assert_eq!(status(&world)["phase"], "RolledBack", "{}", told(&world));
    assert_eq!(images(&world), ["web:zero"; 3]);
    assert!(written(&timeline).iter().all(|(name, _)| name == "counter-0"), "{:?}", written(&timeline));
}

/// The first wave may go on without one of its workloads.
fn tolerant() -> Value {
    let mut plan = plan("Stay");
    plan["waves"][0]["failureThreshold"] = json!(1);
    plan
}

/// The launch succeeded without the second counter, of which nothing is left but what was there before.
fn is_carried_out_without_the_second(world: &World) {
    assert_eq!(status(world)["phase"], "Succeeded", "{}", told(world));
    assert_eq!(images(world), ["web:new", "web:zero", "web:new"]);
    assert!(world.object("apps", "Deployment", "branch", "counter-1-canary").is_none());
    let said = status(world)["message"].as_str().unwrap().to_owned();
    assert!(said.contains("branch/counter-1: they went back") && !said.contains("counter-0"), "{said}");
    assert!(told(world).contains("Deployment branch/counter-1 (wave counters), which went back"), "{}", told(world));
}

#[test]
fn a_workload_that_goes_back_is_missed_by_a_wave_that_may_and_named() {
    let (world, _) = play(&launch(&tolerant(), ["web:new", "web:bad", "web:new"], vec![sign(300_000, Approve)]));
    is_carried_out_without_the_second(&world);
}

/// The counter's second Deployment is good, and its own pods never get ready.
fn never_promoted() -> History {
    let mut history = launch(&tolerant(), ["web:new"; 3], vec![sign(300_000, Approve)]);
    history.behaviours.push(Behaviour {
        workload: Some("counter-1".to_owned()),
        image: Some("web:new".to_owned()),
        ..Behaviour::of(Effect::NeverReady)
    });
    history
}

#[test]
fn a_workload_whose_promotion_fails_has_gone_back_before_its_wave_goes_on() {
    let (world, timeline) = play(&never_promoted());
    is_carried_out_without_the_second(&world);
    let own: Vec<_> = written(&timeline).into_iter().map(|(name, _)| name).collect();
    assert_eq!(own, ["counter-0", "counter-1", "web-0"], "its workload was written, and put back");
}

#[test]
fn a_controller_killed_after_any_single_write_takes_back_what_a_wave_misses() {
    each_kill(&never_promoted(), |world, _, why| {
        assert_eq!(
            (&status(world)["phase"], images(world)),
            (&json!("Succeeded"), ["web:new", "web:zero", "web:new"].map(str::to_owned)),
            "{why}"
        );
    });
}

#[test]
fn when_the_second_wave_fails_the_first_stays_until_somebody_takes_all_back_or_returns_at_once() {
    let images_of = ["web:new", "web:new", "web:bad"];
    let (world, _) = play(&launch(&plan("Return"), images_of, vec![sign(20_000, Approve)]));
    assert_eq!((&status(&world)["phase"], images(&world)), (&json!("RolledBack"), ["web:zero"; 3].map(str::to_owned)));
    let (world, _) = play(&launch(&plan("Stay"), images_of, vec![sign(20_000, Approve)]));
    assert_eq!(status(&world)["phase"], "Running", "{}", told(&world));
    assert_eq!(images(&world), ["web:new", "web:new", "web:zero"]);
    assert!(told(&world).contains("counters keep the new version"), "{}", told(&world));
    let acts = vec![sign(20_000, Approve), command(600_000, Verb::Abort)];
    let (world, _) = play(&launch(&plan("Stay"), images_of, acts));
    assert_eq!((&status(&world)["phase"], images(&world)), (&json!("RolledBack"), ["web:zero"; 3].map(str::to_owned)));
}

#[test]
fn who_takes_the_change_back_between_two_waves_takes_all_of_it_back() {
    let acts = vec![command(60_000, Verb::Abort)];
    let (world, _) = play(&launch(&plan("Stay"), ["web:new"; 3], acts));
    assert_eq!((&status(&world)["phase"], images(&world)), (&json!("RolledBack"), ["web:zero"; 3].map(str::to_owned)));
}

#[test]
fn a_workload_that_no_wave_names_is_refused_before_anything_is_written() {
    let mut short = plan("Stay");
    short["waves"].as_array_mut().unwrap().remove(1);
    let (world, timeline) = play(&launch(&short, ["web:new"; 3], Vec::new()));
    let told = status(&world).to_string();
    assert!(told.contains("Deployment web-0, which no wave of RolloutPlan teller/cautious names"), "{told}");
    assert!(written(&timeline).is_empty());
}

#[test]
fn waves_end_well_whatever_goes_wrong() {
    for seed in 1..9 {
        let images_of = if seed % 3 == 0 { ["web:new", "web:bad", "web:new"] } else { ["web:new"; 3] };
        let acts = (0..20).map(|n| sign(20_000 + n * 15_000, Approve)).collect();
        let storm =
            History { seed, faults: Faults::storm(), controllers: 2, ..launch(&plan("Return"), images_of, acts) };
        let (world, _) = play(&storm);
        let (end, images) = (status(&world)["finished"]["phase"].clone(), images(&world));
        match end.as_str() {
            Some("Succeeded") => assert_eq!(images, images_of, "seed {seed}"),
            Some(_) => assert_eq!(images, ["web:zero"; 3], "seed {seed}"),
            // Its proposal, its votes or its signatures were lost.
            None => assert_ne!(images[2], "web:new", "seed {seed}: {}", told(&world)),
        }
    }
}

#[test]
fn a_controller_killed_after_any_single_write_carries_the_waves_to_the_same_end() {
    let good = launch(&plan("Stay"), ["web:new"; 3], vec![sign(20_000, Approve), sign(90_000, Approve)]);
    each_kill(&good, |world, _, why| {
        assert_eq!(
            (&status(world)["phase"], images(world)),
            (&json!("Succeeded"), ["web:new"; 3].map(str::to_owned)),
            "{why}"
        );
    });
}
