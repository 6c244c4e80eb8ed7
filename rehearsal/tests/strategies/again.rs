//! Trying again what went back or failed, while its change waits for a person (`contingency.onFailure: Pause`).

use interlock_crds::{GROUP, Verb};
use interlock_rehearsal::{
    history::{History, deployment},
    people::{Act, user},
    world::{Happening, World},
};
use interlock_sim::workloads::{Behaviour, Effect};
use jiff::SignedDuration;
use serde_json::{Value, json};

use super::play::{
    came, command, each_kill, history, id, play, propose, status, status_of, stored, the_change, told, votes,
};

/// A release whose change goes back by itself.
fn release(steps: &Value, acts: Vec<(i64, Act)>) -> History {
    let plan = json!({"canary": {"steps": steps}});
    history(&plan, Vec::new(), &[deployment("web-0", "web:new")], acts)
}

/// A release whose change waits for a person.
fn asking(steps: &Value, acts: Vec<(i64, Act)>) -> History {
    let mut history = release(steps, acts);
    for (_, act) in &mut history.acts {
        if let Act::Create(_, request) = act {
            request["spec"]["contingency"] = json!({"onFailure": "Pause"});
        }
    }
    history
}

fn paused() -> Value {
    json!([{"setWeight": 50}, {"pause": {"duration": "90s"}}])
}

/// Somebody commands the Rollout.
fn bob(at: i64, verb: Verb) -> (i64, Act) {
    (at, Act::CommandRelease(user("bob", &["sre"]), the_change(), verb, "said so".to_owned()))
}

/// The same release; of web-0 itself new pods get ready so late that the promotion fails, or never.
fn fails_to_promote(ready_after: Option<SignedDuration>, acts: Vec<(i64, Act)>) -> History {
    let mut history = asking(&json!([{"setWeight": 50}]), acts);
    history.behaviours.push(Behaviour {
        workload: Some("web-0".to_owned()),
        image: Some("web:new".to_owned()),
        ..Behaviour::of(ready_after.map_or(Effect::NeverReady, Effect::ReadyAfter))
    });
    history
}

fn image(world: &World) -> Value {
    assert!(world.live(&id("apps", "Deployment", "web-0-canary")).is_none(), "{}", told(world));
    world.live(&id("apps", "Deployment", "web-0")).unwrap()["spec"]["template"]["spec"]["containers"][0]["image"]
        .clone()
}

/// Phases of an object of this kind, each once until it is another one.
fn phases(timeline: &[Happening], kind: &str) -> Vec<String> {
    let mut phases = Vec::new();
    for happening in timeline {
        let Happening::Stored(audit) = happening else { continue };
        let phase =
            audit.new.as_ref().filter(|_| audit.id.kind == kind).and_then(|new| new["status"]["phase"].as_str());
        phases.extend(phase.filter(|phase| phases.last().map(String::as_str) != Some(*phase)).map(str::to_owned));
    }
    phases
}

/// The change itself once it runs.
fn run(timeline: &[Happening]) -> Vec<String> {
    phases(timeline, "ChangeRequest").into_iter().skip_while(|phase| phase != "Running").collect()
}

/// What people were told of the release: `1 of 2` for a step that is complete, else the reason.
fn events(timeline: &[Happening]) -> Vec<String> {
    let notes = timeline.iter().filter_map(|happening| match happening {
        Happening::Told(told) if told.note.action == "Release" => Some(&told.note),
        _ => None,
    });
    let brief = notes.map(|note| match note.message.strip_prefix("step ").filter(|_| note.reason == "StepCompleted") {
        Some(step) => step.split(" is complete").next().unwrap().to_owned(),
        None => note.reason.clone(),
    });
    brief.collect()
}

/// The phase of the change and the image of its workload in the end.
fn ends(world: &World, phase: &str, runs: &str) {
    assert_eq!((&status(world)["phase"], image(world)), (&json!(phase), json!(runs)), "{}", told(world));
}

#[test]
fn r01_what_somebody_aborted_is_tried_again_and_succeeds() {
    let (world, timeline) = play(&asking(&paused(), vec![bob(60_000, Verb::Abort), bob(120_000, Verb::Retry)]));
    ends(&world, "Succeeded", "web:new");
    assert_eq!(run(&timeline), ["Running", "Paused", "Running", "Succeeded"]);
    let waits = timeline.iter().any(|happening| match happening {
        Happening::Stored(audit) if audit.id.kind == "ChangeRequest" => {
            let message = audit.new.as_ref().and_then(|new| new["status"]["message"].as_str()).unwrap_or_default();
            message.contains("Abort by bob: said so") && message.contains("waits for `interlock rollout retry`")
        }
        _ => false,
    });
    assert!(waits, "a person is told what to do");
    let expected = ["1 of 2", "Aborting", "RolledBack", "Progressing", "1 of 2", "2 of 2", "Succeeded"];
    assert_eq!(events(&timeline), expected, "each step once, and one abort");
}

#[test]
fn r01_whoever_resumes_the_change_tries_its_release_again() {
    let (world, timeline) = play(&asking(&paused(), vec![bob(60_000, Verb::Abort), command(120_000, Verb::Resume)]));
    ends(&world, "Succeeded", "web:new");
    assert_eq!(run(&timeline), ["Running", "Paused", "Running", "Succeeded"]);
}

#[test]
fn r01_a_controller_killed_after_any_single_write_tries_again_all_the_same() {
    let history = asking(&paused(), vec![bob(60_000, Verb::Abort), bob(150_000, Verb::Retry)]);
    each_kill(&history, |world, _, why| {
        assert_eq!((&status(world)["phase"], image(world)), (&json!("Succeeded"), json!("web:new")), "{why}");
    });
}

#[test]
fn r02_what_somebody_aborted_is_promoted_fully_and_succeeds() {
    let steps = json!([{"setWeight": 50}, {"pause": {}}]);
    let (world, timeline) = play(&asking(&steps, vec![bob(60_000, Verb::Abort), bob(120_000, Verb::PromoteFully)]));
    ends(&world, "Succeeded", "web:new");
    assert_eq!(run(&timeline), ["Running", "Paused", "Running", "Succeeded"]);
    assert_eq!(events(&timeline), ["1 of 2", "Aborting", "RolledBack", "Progressing", "1 of 2", "Succeeded"]);
}

#[test]
fn r01_what_somebody_aborted_waits_until_somebody_ends_it() {
    let (world, _) = play(&asking(&paused(), vec![bob(60_000, Verb::Abort)]));
    ends(&world, "Paused", "web:zero");
    let acts = vec![bob(60_000, Verb::Abort), command(120_000, Verb::Rollback)];
    let (world, _) = play(&asking(&paused(), acts));
    ends(&world, "RolledBack", "web:zero");
}

#[test]
fn r01_by_default_a_change_ends_with_its_abort_and_a_retry_is_told_so() {
    let (world, timeline) = play(&release(&paused(), vec![bob(60_000, Verb::Abort), bob(120_000, Verb::Retry)]));
    ends(&world, "RolledBack", "web:zero");
    let refusals = came(&timeline, "Retry");
    let why = refusals[0].clone().unwrap_err();
    assert!(why.contains("its contingency.onFailure is Rollback") && why.contains("propose a new change"), "{why}");
}

#[test]
fn r18_a_promotion_that_failed_goes_on_when_somebody_tries_again() {
    let late = Some(SignedDuration::from_secs(100));
    let (world, timeline) = play(&fails_to_promote(late, vec![bob(400_000, Verb::Retry)]));
    ends(&world, "Succeeded", "web:new");
    assert_eq!(run(&timeline), ["Running", "Paused", "Running", "Succeeded"]);
    assert!(phases(&timeline, "Rollout").contains(&"Failed".to_owned()), "{:?}", phases(&timeline, "Rollout"));
}

#[test]
fn r18_a_promotion_that_failed_goes_back_when_somebody_aborts_it_and_its_change_still_waits() {
    let (world, timeline) = play(&fails_to_promote(None, vec![bob(200_000, Verb::Abort)]));
    ends(&world, "Paused", "web:zero");
    assert_eq!(run(&timeline), ["Running", "Paused"]);
    let said = status(&world)["message"].as_str().unwrap().to_owned();
    assert!(said.contains("went back") && said.contains("Abort by bob"), "it says what became of it: {said}");
    let acts = vec![bob(200_000, Verb::Abort), command(300_000, Verb::Rollback)];
    let (world, _) = play(&fails_to_promote(None, acts));
    ends(&world, "RolledBack", "web:zero");
}

#[test]
fn r18_a_change_that_is_rolled_back_takes_its_failed_promotion_back() {
    let (world, timeline) = play(&fails_to_promote(None, vec![command(200_000, Verb::Rollback)]));
    ends(&world, "RolledBack", "web:zero");
    assert!(phases(&timeline, "Rollout").contains(&"Failed".to_owned()), "{:?}", phases(&timeline, "Rollout"));
}

#[test]
fn r10_a_newer_change_takes_the_place_of_one_that_went_back_and_waits() {
    let mut acts = vec![bob(60_000, Verb::Abort), propose("newer", 120_000, &[deployment("web-0", "web:two")])];
    acts.extend(votes("newer", 125_000));
    let (world, _) = play(&asking(&paused(), acts));
    let ends = [status(&world), status_of(&world, "newer")].map(|status| status["phase"].clone());
    assert_eq!(
        (ends, image(&world)),
        ([json!("RolledBack"), json!("Succeeded")], json!("web:two")),
        "{}",
        told(&world)
    );
}

#[test]
fn r20_the_version_that_serves_starts_no_canary_a_bad_one_does_each_time_and_its_fix_is_released() {
    let mut acts = Vec::new();
    for (name, at, image) in
        [("same", 200_000, "web:zero"), ("again", 300_000, "web:bad"), ("fixed", 500_000, "web:new")]
    {
        acts.push(propose(name, at, &[deployment("web-0", image)]));
        acts.extend(votes(name, at + 5_000));
    }
    let plan = json!({"canary": {"steps": [{"setWeight": 50}]}});
    let (world, timeline) = play(&history(&plan, Vec::new(), &[deployment("web-0", "web:bad")], acts));
    let ends = ["release", "same", "again", "fixed"].map(|name| status_of(&world, name)["phase"].clone());
    assert_eq!(ends, ["RolledBack", "Succeeded", "RolledBack", "Succeeded"].map(|end| json!(end)), "{}", told(&world));
    assert_eq!((image(&world), world.objects(GROUP, "Rollout").len()), (json!("web:new"), 3), "{}", told(&world));
    // Images of the second Deployment; null where it went.
    let mut canaries: Vec<Value> = Vec::new();
    for canary in stored(&timeline, &id("apps", "Deployment", "web-0-canary")) {
        let image = canary.map(|canary| canary["spec"]["template"]["spec"]["containers"][0]["image"].clone());
        let image = image.unwrap_or_default();
        canaries.extend((canaries.last() != Some(&image)).then_some(image));
    }
    let tried = ["web:bad", "web:bad", "web:new"];
    assert_eq!(canaries, tried.map(|image| [json!(image), Value::Null]).concat());
}
