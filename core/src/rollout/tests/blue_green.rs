//! Blue/green releases.

use interlock_crds::{HoldReason, RolloutPhase};
use serde_json::{Value, json};

use super::game::{Game, autoscaler, deployment, plan, service};
use crate::rollout::{RolloutVerb, Verdict};

fn game(image: &str, rest: &Value) -> Game {
    let mut value = json!({"blueGreen": {"service": "teller", "keepOld": "120s"}, "progressDeadline": "60s"});
    for (name, field) in rest.as_object().unwrap() {
        value["blueGreen"][name] = field.clone();
    }
    Game::new(plan(value), deployment("v1", 3), deployment(image, 3), &[service(), autoscaler(1, 9)])
}

fn serves(game: &Game) -> Vec<String> {
    let service = game.cluster.get("Service", "teller").unwrap();
    let mut images: Vec<_> = game.cluster.behind(service).into_keys().collect();
    let mut found: Vec<_> = game
        .cluster
        .pods
        .iter()
        .filter(|p| images.contains(&p.labels["pod-template-hash"].as_str().unwrap().to_owned()))
        .map(|p| p.image.clone())
        .collect();
    found.sort();
    found.dedup();
    images.clear();
    found
}

#[test]
fn r14_preview_then_one_switch_then_the_old_version_is_kept() {
    let mut game = game("v2", &json!({"steps": [{"pause": {}}]}));
    game.run_for(30);
    assert_eq!((game.phase(), serves(&game)), (RolloutPhase::Paused, vec!["v1".to_owned()]));
    assert_eq!((game.cluster.ready_behind("teller-preview"), game.cluster.ready_of("teller-canary")), (3, 3));
    game.command(RolloutVerb::Promote);
    game.run_for(100);
    assert_eq!(
        (game.phase(), serves(&game), game.cluster.ready_of("teller")),
        (RolloutPhase::Promoting, vec!["v2".to_owned()], 3)
    );
    assert_eq!(game.cluster.images("teller").into_keys().collect::<Vec<_>>(), ["v1"], "kept for instant return");
    game.run_for(60);
    assert_eq!(game.phase(), RolloutPhase::Succeeded, "{}", game.message());
}

#[test]
fn r14_rollback_while_the_old_version_is_kept_is_one_switch() {
    let mut game = game("v2", &json!({}));
    game.run_for(60);
    assert_eq!(serves(&game), ["v2"]);
    let writes = game.log.len();
    game.command(RolloutVerb::Rollback);
    game.run_for(0);
    game.run_for(60);
    assert_eq!(game.log[writes], "Update PinnedService teller -1");
    assert_eq!((game.phase(), serves(&game)), (RolloutPhase::RolledBack, vec!["v1".to_owned()]));
}

#[test]
fn r14_an_analysis_after_the_switch_returns_by_itself_or_holds() {
    for (verdict, ended) in [(Verdict::Failed, RolloutPhase::RolledBack), (Verdict::Inconclusive, RolloutPhase::Paused)]
    {
        let mut game = game("v2", &json!({"afterSwitch": ["errors"]}));
        game.verdicts.insert("errors".into(), verdict);
        game.run_for(600);
        assert_eq!(game.phase(), ended);
        assert_eq!(serves(&game), [if verdict == Verdict::Failed { "v1" } else { "v2" }]);
        assert_eq!(
            game.status.hold.is_some_and(|hold| hold.reason == HoldReason::Inconclusive),
            ended == RolloutPhase::Paused
        );
    }
}

#[test]
fn r14_the_version_after_one_that_went_back_is_switched_to_by_hand_and_measured_once() {
    let mut game = game("v2", &json!({"steps": [{"pause": {}}], "afterSwitch": ["errors"]}));
    game.verdicts.insert("errors".into(), Verdict::Failed);
    game.run_for(30);
    game.command(RolloutVerb::Promote);
    game.run_for(600);
    assert_eq!((game.phase(), serves(&game)), (RolloutPhase::RolledBack, vec!["v1".to_owned()]), "{}", game.message());
    // Another Rollout has runs of its own.
    let of_v2 = std::mem::take(&mut game.runs);
    game.next_change(game.spec.plan.clone(), "0b5e7f52-0000-4000-8000-000000000003", "v3");
    game.verdicts.insert("errors".into(), Verdict::Passed);
    game.run_for(600);
    assert_eq!((game.phase(), serves(&game)), (RolloutPhase::Paused, vec!["v1".to_owned()]), "{}", game.message());
    assert_eq!((of_v2.len(), game.runs.len()), (1, 0), "nothing is measured before the switch");
    game.command(RolloutVerb::Promote);
    game.run_for(600);
    assert_eq!((game.phase(), serves(&game)), (RolloutPhase::Succeeded, vec!["v3".to_owned()]), "{}", game.message());
    assert_eq!((of_v2.len(), game.runs.len()), (1, 1));
}

#[test]
fn r14_a_preview_that_never_becomes_ready_changes_nothing_for_callers() {
    let mut game = game("bad", &json!({}));
    game.run_for(300);
    assert_eq!((game.phase(), serves(&game)), (RolloutPhase::RolledBack, vec!["v1".to_owned()]));
    game.next_change(game.spec.plan.clone(), "0b5e7f52-0000-4000-8000-000000000002", "v3");
    game.run_for(600);
    assert_eq!((game.phase(), serves(&game)), (RolloutPhase::Succeeded, vec!["v3".to_owned()]));
}

#[test]
fn r14_a_preview_that_never_becomes_ready_is_kept_for_a_person_if_the_plan_says_so() {
    let mut game = game("bad", &json!({}));
    game.spec.plan.on_failure = interlock_crds::OnFailure::Pause;
    game.run_for(600);
    assert_eq!((game.phase(), serves(&game)), (RolloutPhase::Paused, vec!["v1".to_owned()]), "{}", game.message());
    assert_eq!(game.status.hold.as_ref().map(|hold| hold.reason), Some(HoldReason::Failure));
    assert_eq!(game.cluster.images("teller-canary")["bad"], 3, "to be looked at");
    // What kept it from being ready is mended: it goes on where it was.
    game.cluster.bad_images.clear();
    game.command(RolloutVerb::Retry);
    game.run_for(600);
    assert_eq!((game.phase(), serves(&game)), (RolloutPhase::Succeeded, vec!["bad".to_owned()]), "{}", game.message());
}

#[test]
fn r24_the_autoscaler_is_held_and_released() {
    let least =
        |game: &Game| game.cluster.get("HorizontalPodAutoscaler", "teller").unwrap()["spec"]["minReplicas"].clone();
    for (verb, end) in [(RolloutVerb::Abort, RolloutPhase::RolledBack), (RolloutVerb::Promote, RolloutPhase::Succeeded)]
    {
        let mut game = game("v2", &json!({"steps": [{"pause": {}}]}));
        game.run_for(30);
        assert_eq!(least(&game), 3);
        game.command(verb);
        game.run_for(600);
        assert_eq!((game.phase(), least(&game)), (end, json!(1)), "{}", game.message());
    }
}
