//! Canary releases, by pods and by route.

use interlock_crds::{HoldReason, OperationKind, PartOf, RolloutPhase};
use serde_json::json;

use super::game::{Game, autoscaler, by_pods, deployment, route, routed, service};
use crate::rollout::{PlannedWrite, RefusedWrite, RolloutVerb, Verdict};

fn pods_game(steps: serde_json::Value, replicas: u32) -> Game {
    Game::new(by_pods(steps), deployment("v1", replicas), deployment("v2", replicas), &[])
}

fn route_game(steps: serde_json::Value, replicas: u32) -> Game {
    Game::new(routed(steps), deployment("v1", replicas), deployment("v2", replicas), &[service(), route()])
}

#[test]
fn a_canary_by_pods_succeeds() {
    let mut game = pods_game(json!([{"setWeight": 25}, {"pause": {"duration": "30s"}}, {"setWeight": 50}]), 4);
    game.run_for(10);
    assert_eq!(game.phase(), RolloutPhase::Paused);
    assert_eq!((game.cluster.ready_of("teller"), game.cluster.ready_of("teller-canary")), (4, 2));
    game.run_for(300);
    assert_eq!(game.phase(), RolloutPhase::Succeeded, "{}", game.message());
}

#[test]
fn a_canary_by_route_succeeds() {
    let mut game = route_game(json!([{"setWeight": 10}, {"pause": {"duration": "30s"}}, {"setWeight": 50}]), 4);
    game.run_for(600);
    assert_eq!(game.phase(), RolloutPhase::Succeeded, "{}: {:#?}", game.message(), game.log);
    assert_eq!(game.weights, [10, 50, 100, 0]);
}

#[test]
fn r01_abort_retry_promote() {
    let mut game = pods_game(json!([{"setWeight": 50}, {"pause": {"duration": "3s"}}]), 1);
    game.run_for(0);
    assert_eq!((game.cluster.ready_of("teller"), game.cluster.ready_of("teller-canary")), (1, 1));
    game.command(RolloutVerb::Abort);
    game.run_for(0);
    assert_eq!(game.phase(), RolloutPhase::RolledBack);
    assert!(game.message().contains("Abort by li-na: because"), "{}", game.message());
    game.command(RolloutVerb::Retry);
    game.run_for(0);
    assert_eq!((game.phase(), game.cluster.ready_of("teller-canary")), (RolloutPhase::Paused, 1));
    game.run_for(60);
    let phases: Vec<_> =
        game.phases.iter().map(|phase| format!("{phase:?}")).filter(|phase| phase != "Pending").collect();
    assert_eq!(phases.join(" "), "Progressing Paused Aborting RolledBack Progressing Paused Promoting Succeeded");
    let told = game.told_briefly();
    assert_eq!(told, ["1 of 2", "Aborting", "RolledBack", "Progressing", "1 of 2", "2 of 2", "Succeeded"]);
    let first = "StepCompleted: step 1 of 2 is complete: 50 % of the traffic; then: paused until ";
    assert!(game.told[0].starts_with(first), "{}", game.told[0]);
    assert_eq!(game.cluster.images("teller").into_iter().collect::<Vec<_>>(), [("v2".to_owned(), 1)]);
}

#[test]
fn a_step_is_told_once_when_it_is_complete_and_not_when_it_is_passed_over() {
    for (verb, expected) in [
        (RolloutVerb::Promote, vec!["1 of 3", "2 of 3", "3 of 3", "Succeeded"]),
        (RolloutVerb::Skip, vec!["1 of 3", "3 of 3", "Succeeded"]),
        (RolloutVerb::PromoteFully, vec!["1 of 3", "3 of 3", "Succeeded"]),
    ] {
        let mut game = route_game(json!([{"setWeight": 10}, {"pause": {}}, {"setWeight": 50}]), 2);
        game.run_for(10);
        game.command(verb);
        game.run_for(60);
        let told: Vec<_> = game.told_briefly().into_iter().filter(|told| *told != "Progressing").collect();
        assert_eq!(told, expected, "{verb:?}: {:?}", game.told);
    }
}

#[test]
fn r10_superseded_goes_to_weight_0_before_the_next_begins() {
    let mut game = route_game(json!([{"setWeight": 5}, {"pause": {}}]), 4);
    game.run_for(10);
    assert_eq!(game.effective_share(), 5);
    game.superseded_by = Some("cr-3".into());
    game.run_for(0);
    assert_eq!(game.phase(), RolloutPhase::RolledBack);
    assert_eq!(game.weights, [5, 0]);
    let at_zero = game.log.iter().position(|l| l.contains("RestoredRoute")).unwrap();
    let deleted = game.log.iter().position(|l| l.contains("Delete Gone teller-canary")).unwrap();
    assert!(at_zero < deleted);
    game.next_change(routed(json!([{"setWeight": 5}, {"pause": {}}])), "0b5e7f52-0000-4000-8000-000000000003", "v3");
    game.run_for(10);
    assert_eq!((game.phase(), game.effective_share()), (RolloutPhase::Paused, 5));
    assert_eq!(game.cluster.images("teller-canary").into_keys().collect::<Vec<_>>(), ["v3"]);
}

#[test]
fn r10_while_the_route_cannot_be_written_the_superseded_version_keeps_its_pods() {
    let mut game = route_game(json!([{"setWeight": 5}, {"pause": {}}]), 4);
    game.run_for(10);
    game.superseded_by = Some("cr-3".into());
    let mut refused = 0;
    for _ in 0..1_000 {
        let decision = game.decide();
        let of_route: Vec<_> = decision.writes.iter().filter(|write| write.id.kind == "HTTPRoute").collect();
        if refused < 5 && !of_route.is_empty() {
            // Somebody else writes it at the same moment.
            game.cluster.edit("HTTPRoute", "teller", |route| route["metadata"]["labels"]["by"] = json!("another"));
            for write in of_route {
                game.cluster.apply(write).unwrap_err();
            }
            game.status.clone_from(&decision.status);
            refused += 1;
            assert_eq!(
                (game.phase(), game.effective_share(), game.cluster.ready_of("teller-canary")),
                (RolloutPhase::Aborting, 5, 1)
            );
        } else if !game.pass() {
            let Some(event) = game.cluster.events().into_iter().next() else { break };
            game.happen(&event);
        }
    }
    assert_eq!(refused, 5);
    game.run_for(60);
    assert_eq!((game.phase(), game.weights.as_slice()), (RolloutPhase::RolledBack, [5, 0].as_slice()));
}

#[test]
fn r13_an_inconclusive_analysis_holds_and_does_not_abort() {
    let mut game = route_game(json!([{"setWeight": 10}, {"analysis": ["errors"]}]), 2);
    game.verdicts.insert("errors".into(), Verdict::Inconclusive);
    game.run_for(600);
    assert_eq!(game.status.hold.as_ref().map(|hold| hold.reason), Some(HoldReason::Inconclusive));
    assert_eq!((game.phase(), game.effective_share()), (RolloutPhase::Paused, 10));
    game.command(RolloutVerb::Retry);
    game.verdicts.insert("errors".into(), Verdict::Passed);
    game.run_for(600);
    assert_eq!(game.runs, ["1-errors-0-0", "1-errors-0-1"], "it is measured anew");
    assert_eq!(game.phase(), RolloutPhase::Succeeded);
}

#[test]
fn r24_the_autoscaler_keeps_working_and_does_not_shrink_the_stable() {
    let others = [service(), route(), autoscaler(2, 10)];
    let plan = routed(json!([{"setWeight": 50}, {"pause": {}}]));
    let mut game = Game::new(plan, deployment("v1", 4), deployment("v2", 4), &others);
    game.run_for(10);
    assert_eq!(game.cluster.get("HorizontalPodAutoscaler", "teller").unwrap()["spec"]["minReplicas"], 4);
    game.command(RolloutVerb::PromoteFully);
    game.run_for(600);
    assert_eq!(game.phase(), RolloutPhase::Succeeded, "{}", game.message());
    assert_eq!(game.cluster.get("HorizontalPodAutoscaler", "teller").unwrap()["spec"]["minReplicas"], 2);
}

#[test]
fn r02_promote_fully_after_an_abort_starts_no_analysis() {
    let steps = json!([{"pause": {"duration": "24h"}}, {"analysis": ["slow"]}, {"pause": {}}, {"analysis": ["late"]}]);
    let mut plan = routed(steps);
    plan.canary.as_mut().unwrap().background =
        Some(interlock_crds::BackgroundAnalysis { analyses: vec!["beside".into()], starting_step: 4 });
    let mut game = Game::new(plan, deployment("v1", 2), deployment("v2", 2), &[service(), route()]);
    game.run_for(60);
    assert_eq!((game.phase(), game.status.current_step), (RolloutPhase::Paused, 0));
    game.command(RolloutVerb::Promote);
    game.run_for(60);
    assert_eq!((game.status.current_step, game.runs.as_slice()), (1, ["1-slow-0-0".to_owned()].as_slice()));
    game.command(RolloutVerb::Promote);
    game.run_for(60);
    assert_eq!((game.phase(), game.status.current_step), (RolloutPhase::Paused, 2));
    game.command(RolloutVerb::Abort);
    game.run_for(60);
    assert_eq!(game.phase(), RolloutPhase::RolledBack);
    game.command(RolloutVerb::PromoteFully);
    game.run_for(600);
    assert_eq!((game.phase(), game.runs.len()), (RolloutPhase::Succeeded, 1));
}

#[test]
fn r03_good_bad_bad_keeps_every_old_pod() {
    let mut plan = by_pods(json!([{"setWeight": 20}]));
    plan.progress_deadline = "10s".parse().unwrap();
    plan.on_failure = interlock_crds::OnFailure::Pause;
    let mut game = Game::new(plan.clone(), deployment("v1", 4), deployment("bad", 4), &[]);
    game.run_for(9);
    assert_eq!(game.phase(), RolloutPhase::Progressing);
    game.run_for(5);
    assert_eq!(game.status.hold.as_ref().map(|hold| hold.reason), Some(HoldReason::Failure));
    assert!(game.message().contains("no progress for 10s: 0 of 1 pods"), "{}", game.message());
    assert_eq!((game.cluster.ready_of("teller"), game.cluster.images("teller-canary")["bad"]), (4, 1));
    game.command(RolloutVerb::Abort);
    game.run_for(5);
    game.next_change(plan.clone(), "0b5e7f52-0000-4000-8000-000000000002", "worse");
    game.run_for(60);
    assert_eq!((game.cluster.ready_of("teller"), game.cluster.images("teller-canary")["worse"]), (4, 1));
    game.command(RolloutVerb::Abort);
    game.run_for(5);
    game.next_change(plan, "0b5e7f52-0000-4000-8000-000000000003", "v2");
    game.run_for(60);
    assert_eq!((game.phase(), game.cluster.images("teller")["v2"]), (RolloutPhase::Succeeded, 4));
}

#[test]
fn r03_a_broken_stable_does_not_block_its_fix() {
    for others in [vec![], vec![service(), route()]] {
        let steps = json!([{"setWeight": 20}, {"pause": {"duration": "10s"}}, {"setWeight": 50}]);
        let plan = if others.is_empty() { by_pods(steps) } else { routed(steps) };
        let mut game = Game::new(plan, deployment("bad", 4), deployment("v2", 4), &others);
        game.run_for(300);
        assert_eq!((game.phase(), game.cluster.ready_of("teller")), (RolloutPhase::Succeeded, 4), "{}", game.message());
    }
}

#[test]
fn r04_a_pause_does_not_consume_the_deadline() {
    let mut plan = routed(
        json!([{"setWeight": 20}, {"pause": {"duration": "30s"}}, {"setWeight": 40}, {"pause": {}}, {"setWeight": 60}]),
    );
    plan.progress_deadline = "5s".parse().unwrap();
    let mut game = Game::new(plan, deployment("v1", 4), deployment("v2", 4), &[service(), route()]);
    game.run_for(40);
    assert_eq!((game.phase(), game.status.current_step), (RolloutPhase::Paused, 3));
    game.run_for(3600);
    game.command(RolloutVerb::Promote);
    game.cluster.gateway_is_down = true;
    game.run_for(4);
    assert_eq!(game.phase(), RolloutPhase::Progressing);
    // A hold does not either.
    game.command(RolloutVerb::Pause);
    game.run_for(3600);
    assert_eq!(game.phase(), RolloutPhase::Paused);
    game.command(RolloutVerb::Resume);
    game.cluster.gateway_is_down = false;
    game.run_for(60);
    assert_eq!(game.phase(), RolloutPhase::Succeeded, "{}", game.message());
    assert_eq!(game.status.held_seconds, 3600);
    assert!(!game.phases.contains(&RolloutPhase::Aborting));
}

#[test]
fn r05_a_persons_pause_wins_over_an_elapsed_one() {
    let mut game =
        route_game(json!([{"setWeight": 20}, {"pause": {"duration": "30s"}}, {"setWeight": 40}, {"pause": {}}]), 2);
    game.run_for(10);
    game.command(RolloutVerb::Pause);
    game.run_for(60);
    assert_eq!((game.phase(), game.status.current_step), (RolloutPhase::Paused, 1));
    let paused = |game: &Game| game.status.conditions.iter().find(|c| c.type_ == "Paused").unwrap().clone();
    let before = paused(&game);
    game.chaos = true;
    game.cluster.break_pods("v1", 1);
    game.run_for(60);
    assert_eq!(before.status, "True");
    assert_eq!(before, paused(&game), "no condition flaps while pods come and go");
    game.command(RolloutVerb::Resume);
    game.run_for(60);
    assert_eq!(game.status.current_step, 3, "the timed pause had elapsed meanwhile");
}

#[test]
fn r05_a_retry_resets_the_deadline() {
    let mut plan = by_pods(json!([{"setWeight": 20}]));
    plan.on_failure = interlock_crds::OnFailure::Pause;
    let mut game = Game::new(plan, deployment("v1", 4), deployment("bad", 4), &[]);
    game.run_for(61);
    assert!(game.status.hold.is_some());
    game.run_for(500);
    game.command(RolloutVerb::Retry);
    game.run_for(59);
    assert_eq!(game.phase(), RolloutPhase::Progressing);
    game.run_for(2);
    assert_eq!(game.phase(), RolloutPhase::Paused);
}

#[test]
fn r06_scaling_while_paused_keeps_the_share() {
    let mut game = pods_game(json!([{"setWeight": 25}, {"pause": {}}]), 4);
    for (size, canary) in [(8, 3), (4, 2)] {
        game.cluster.edit("Deployment", "teller", |d| d["spec"]["replicas"] = json!(size));
        game.run_for(60);
        assert_eq!((game.cluster.ready_of("teller"), game.cluster.ready_of("teller-canary")), (size, canary));
        assert_eq!((game.phase(), game.status.current_step), (RolloutPhase::Paused, 1));
    }
}

#[test]
fn r06_size_and_version_change_together() {
    for (others, from, to) in [(vec![], 4, 6), (vec![service(), route()], 6, 3)] {
        let steps = json!([{"setWeight": 25}]);
        let plan = if others.is_empty() { by_pods(steps) } else { routed(steps) };
        let mut game = Game::new(plan, deployment("v1", from), deployment("v2", to), &others);
        game.run_for(300);
        assert_eq!(
            (game.phase(), game.cluster.ready_of("teller")),
            (RolloutPhase::Succeeded, to),
            "{}",
            game.message()
        );
        // And once more, back to the first size.
        game.next_change(game.spec.plan.clone(), "0b5e7f52-0000-4000-8000-000000000002", "v3");
        game.target.wanted["spec"]["replicas"] = json!(from);
        game.run_for(300);
        let end = (game.phase(), game.cluster.ready_of("teller"));
        assert_eq!(end, (RolloutPhase::Succeeded, from), "{}", game.message());
    }
}

#[test]
fn r07_from_100_to_0_the_old_version_is_there_all_the_time() {
    for abort in [false, true] {
        let mut game = route_game(
            json!([{"setWeight": 100}, {"pause": {"duration": "10s"}}, {"setWeight": 0}, {"analysis": ["errors"]}]),
            4,
        );
        game.verdicts.insert("errors".into(), Verdict::Failed);
        game.run_for(5);
        assert_eq!((game.effective_share(), game.cluster.ready_of("teller")), (100, 4));
        if abort {
            game.command(RolloutVerb::Abort);
        }
        game.run_for(600);
        assert_eq!((game.phase(), game.weights.as_slice()), (RolloutPhase::RolledBack, [100, 0].as_slice()));
    }
}

#[test]
fn r08_an_abort_returns_traffic_only_with_ready_pods() {
    let mut game = route_game(json!([{"setWeight": 75}, {"pause": {}}]), 4);
    game.run_for(10);
    game.chaos = true;
    game.cluster.break_pods("v1", 4);
    game.cluster.bad_images.push("v1".into());
    game.command(RolloutVerb::Abort);
    game.run_for(30);
    assert_eq!(
        (game.phase(), game.effective_share(), game.cluster.ready_of("teller-canary")),
        (RolloutPhase::Aborting, 75, 3)
    );
    assert!(game.message().contains("0 of 4 pods of the old version are ready"), "{}", game.message());
    let pod = game.cluster.pods.iter_mut().filter(|p| p.image == "v1").take(3);
    pod.for_each(|p| p.ready = true);
    game.run_for(30);
    let left = (game.effective_share(), game.cluster.ready_of("teller-canary"));
    assert_eq!(left, (25, 1), "3 of 4 carry 75 percent, and the room of two is theirs again");
    game.cluster.bad_images.pop();
    game.run_for(30);
    assert_eq!((game.phase(), game.weights.as_slice()), (RolloutPhase::RolledBack, [75, 25, 0].as_slice()));
}

#[test]
fn r11_a_weight_counts_when_a_gateway_has_accepted_it() {
    let mut game = route_game(json!([{"setWeight": 25}, {"setWeight": 50}]), 4);
    game.cluster.gateway_is_down = true;
    game.run_for(50);
    assert_eq!((game.phase(), game.status.current_step), (RolloutPhase::Progressing, 0));
    assert_eq!(game.status.weights.unwrap().observed.canary, 0);
    assert!(game.message().contains("no Gateway has accepted generation 2"), "{}", game.message());
    game.cluster.gateway_is_down = false;
    game.run_for(0);
    game.run_for(300);
    assert_eq!(game.phase(), RolloutPhase::Succeeded);
}

#[test]
fn r11_at_the_end_no_pod_goes_before_the_route_is_accepted() {
    let mut game = route_game(json!([{"setWeight": 25}]), 4);
    for _ in 0..500 {
        if game.status.promotion.as_ref().is_some_and(|p| p.returning)
            && game.log.iter().any(|l| l.contains("RestoredRoute"))
        {
            break;
        }
        if !game.pass() {
            let event = game.cluster.events().remove(0);
            game.happen(&event);
        }
    }
    game.cluster.gateway_is_down = true;
    game.run_for(300);
    assert_eq!(game.phase(), RolloutPhase::Failed, "it does not go back either: the new version serves");
    assert_eq!((game.cluster.ready_of("teller-canary"), game.effective_share()), (4, 100));
    game.cluster.gateway_is_down = false;
    game.command(RolloutVerb::Retry);
    game.run_for(60);
    assert_eq!(game.phase(), RolloutPhase::Succeeded);
}

#[test]
fn r12_a_version_that_proved_itself_needs_no_new_proof() {
    for known in [true, false] {
        let mut game =
            route_game(json!([{"setWeight": 10}, {"pause": {"duration": "1h"}}, {"analysis": ["errors"]}]), 2);
        game.known_good = known;
        game.verdicts.insert("errors".into(), Verdict::Passed);
        game.run_for(30);
        let ended = if known { RolloutPhase::Succeeded } else { RolloutPhase::Paused };
        assert_eq!(game.phase(), ended);
        game.run_for(7200);
        assert_eq!((game.phase(), game.runs.len()), (RolloutPhase::Succeeded, usize::from(!known)));
    }
}

#[test]
fn r17_a_failed_analysis_goes_back() {
    let mut game = route_game(json!([{"setWeight": 30}, {"analysis": ["errors"]}]), 4);
    game.verdicts.insert("errors".into(), Verdict::Failed);
    game.run_for(60);
    assert_eq!((game.phase(), game.weights.as_slice()), (RolloutPhase::RolledBack, [30, 0].as_slice()));
    assert!(game.message().contains("analysis errors: it says Failed"), "{}", game.message());
    game.change_active = false;
    let log = game.log.len();
    game.command(RolloutVerb::Retry);
    game.run_for(600);
    assert_eq!((game.phase(), game.log.len()), (RolloutPhase::RolledBack, log), "an ended change changes nothing more");
}

/// A release whose workload was given the new version, of which no pod starts from then on.
fn stuck_promotion(part_of: Option<PartOf>) -> Game {
    let mut game = route_game(json!([{"setWeight": 50}]), 4);
    game.spec.part_of = part_of;
    game.chaos = true;
    for _ in 0..500 {
        if game.status.promotion.as_ref().is_some_and(|p| p.written) {
            break;
        }
        if !game.pass() {
            let event = game.cluster.events().remove(0);
            game.happen(&event);
        }
    }
    game.cluster.bad_images.push("v2".into());
    game.run_for(300);
    game
}

#[test]
fn r18_a_promotion_that_fails_stays_where_it_serves() {
    let mut game = stuck_promotion(None);
    assert_eq!(game.phase(), RolloutPhase::Failed, "{}", game.message());
    assert_eq!((game.effective_share(), game.cluster.ready_of("teller-canary")), (100, 4));
    assert_eq!(game.status.weights.unwrap().observed.canary, 100);
    // Going back is safe too: the second Deployment serves until the old version is ready.
    game.command(RolloutVerb::Abort);
    game.run_for(300);
    assert_eq!((game.phase(), game.cluster.images("teller")["v1"]), (RolloutPhase::RolledBack, 4));
    assert_eq!(game.weights, [50, 100, 0]);
}

#[test]
fn r18_a_promotion_that_failed_goes_on_when_somebody_tries_again() {
    let mut game = stuck_promotion(None);
    assert_eq!(game.phase(), RolloutPhase::Failed, "{}", game.message());
    let (began, waited) =
        (game.status.started_at.clone(), game.now.duration_since(game.status.finished_at.clone().unwrap().0));
    game.cluster.bad_images.retain(|image| image != "v2");
    game.command(RolloutVerb::Retry);
    game.run_for(300);
    let status = &game.status;
    assert_eq!(
        (&status.started_at, status.held_seconds),
        (&began, waited.as_secs()),
        "it waited for a person, and goes on"
    );
    assert_eq!((game.phase(), game.cluster.images("teller")["v2"]), (RolloutPhase::Succeeded, 4), "{}", game.message());
    assert_eq!(game.weights, [50, 100, 0]);
}

/// It goes on until the traffic has returned to the workload itself; `more` says whether that is far enough.
fn until_returned(game: &mut Game, more: impl Fn(&Game) -> bool) {
    for _ in 0..1000 {
        let returning = game.status.promotion.as_ref().is_some_and(|promotion| promotion.returning);
        if returning && game.effective_share() == 0 && more(game) {
            return;
        }
        if !game.pass() {
            let event = game.cluster.events().remove(0);
            game.happen(&event);
        }
    }
    panic!("the traffic never returned: {:?}, {}", game.weights, game.message());
}

/// No pod of the workload itself is ready any more, nor becomes so.
fn lose_all(game: &mut Game) {
    game.cluster.bad_images.push("v2".into());
    let owner = game.cluster.get("Deployment", "teller").unwrap()["metadata"]["uid"].as_str().unwrap().to_owned();
    game.cluster.pods.iter_mut().filter(|pod| pod.owner == owner).for_each(|pod| pod.ready = false);
    game.cluster.count_pods();
}

/// A release whose workload loses all of its pods as soon as the traffic has returned to it; killed before it deletes the
/// second Deployment, or not. The write that was under way then, if any.
fn lost_after_return(killed: bool) -> (Game, Option<PlannedWrite>) {
    let mut game = route_game(json!([{"setWeight": 50}]), 4);
    game.chaos = true;
    let deletion =
        |game: &Game| game.decide().writes.into_iter().find(|write| write.operation == OperationKind::Delete);
    until_returned(&mut game, |game| !killed || deletion(game).is_some());
    let under_way = killed.then(|| deletion(&game)).flatten();
    if killed {
        game.status = game.decide().status;
    }
    lose_all(&mut game);
    (game, under_way)
}

#[test]
fn r18_pods_that_fail_after_the_traffic_returned_are_relieved_by_the_second_deployment() {
    for killed in [false, true] {
        let (mut game, under_way) = lost_after_return(killed);
        assert_eq!(under_way.is_some(), killed);
        game.run_for(30);
        assert_eq!((game.phase(), game.effective_share()), (RolloutPhase::Promoting, 100), "{}", game.message());
        assert_eq!(game.cluster.ready_behind("teller"), 4, "callers inside the cluster reach it too");
        assert_eq!(game.status.weights.unwrap().observed.canary, 100);
        if let Some(late) = under_way {
            assert!(game.cluster.apply(&late).is_err(), "what was under way comes too late");
        }
        game.run_for(300);
        assert_eq!((game.phase(), game.effective_share()), (RolloutPhase::Failed, 100), "{}", game.message());
        game.cluster.bad_images.retain(|image| image != "v2");
        game.command(RolloutVerb::Retry);
        game.run_for(300);
        assert_eq!(
            (game.phase(), game.cluster.images("teller")["v2"]),
            (RolloutPhase::Succeeded, 4),
            "{}",
            game.message()
        );
        assert_eq!(game.weights, [50, 100, 0, 100, 0]);
    }
}

#[test]
fn r18_pods_that_come_back_in_time_take_the_traffic_again() {
    let (mut game, _) = lost_after_return(false);
    game.run_for(20);
    game.cluster.bad_images.retain(|image| image != "v2");
    game.run_for(300);
    assert_eq!(game.phase(), RolloutPhase::Succeeded, "{}", game.message());
    assert_eq!((game.weights.as_slice(), game.status.epoch), ([50, 100, 0, 100, 0].as_slice(), 1));
}

#[test]
fn r18_pods_that_fail_under_traffic_each_time_are_relieved_three_times_and_then_a_person_is_asked() {
    let (mut game, _) = lost_after_return(false);
    for round in 1..=3 {
        game.run_for(20);
        if round < 3 {
            assert_eq!((game.phase(), game.effective_share()), (RolloutPhase::Promoting, 100), "{}", game.message());
            game.cluster.bad_images.retain(|image| image != "v2");
            until_returned(&mut game, |_| true);
            lose_all(&mut game);
        }
    }
    assert_eq!((game.phase(), game.effective_share()), (RolloutPhase::Failed, 100), "{}", game.message());
    assert!(game.message().contains("3 times the workload lost pods"), "{}", game.message());
    game.cluster.bad_images.retain(|image| image != "v2");
    game.command(RolloutVerb::Retry);
    game.run_for(300);
    assert_eq!(game.phase(), RolloutPhase::Succeeded, "{}", game.message());
}

#[test]
fn r18_somebody_who_annotates_the_workload_while_the_traffic_returns_moves_nothing() {
    let mut game = route_game(json!([{"setWeight": 50}]), 4);
    until_returned(&mut game, |_| true);
    game.cluster.edit("Deployment", "teller", |workload| workload["metadata"]["annotations"]["note"] = json!("x"));
    game.run_for(300);
    assert_eq!((game.phase(), game.weights.as_slice()), (RolloutPhase::Succeeded, [50, 100, 0].as_slice()));
}

#[test]
fn a_workload_of_a_wave_whose_promotion_fails_goes_back_by_itself() {
    let wave = PartOf { name: "big".into(), uid: "parent".into(), wave: "counters".into() };
    let game = stuck_promotion(Some(wave));
    assert_eq!(
        (game.phase(), game.cluster.images("teller")["v1"]),
        (RolloutPhase::RolledBack, 4),
        "{}",
        game.message()
    );
    assert!(!game.phases.contains(&RolloutPhase::Failed), "{:?}", game.phases);
    assert!(game.message().contains("the promotion failed"), "{}", game.message());
    assert_eq!(game.weights, [50, 100, 0]);
}

#[test]
fn nobody_tries_again_what_its_change_takes_back() {
    let mut game = stuck_promotion(None);
    game.return_asked = Some("the change goes back: Rollback by li-na".into());
    game.command(RolloutVerb::Retry);
    game.run_for(300);
    assert_eq!(
        (game.phase(), game.cluster.images("teller")["v1"]),
        (RolloutPhase::RolledBack, 4),
        "{}",
        game.message()
    );
    assert_eq!((game.status.obeyed.len(), game.status.attempt), (1, 0));
}

#[test]
fn r19_weight_ladders() {
    for ladder in [vec![20, 40, 60], vec![50], vec![1, 2, 10, 80]] {
        let steps: Vec<_> = ladder.iter().map(|weight| json!({"setWeight": weight})).collect();
        let mut game = route_game(json!(steps), 5);
        game.run_for(600);
        let mut weights = ladder.clone();
        weights.extend([100, 0]);
        assert_eq!((game.phase(), &game.weights), (RolloutPhase::Succeeded, &weights));
        let phases: Vec<_> = game.phases.iter().copied().filter(|phase| *phase != RolloutPhase::Pending).collect();
        assert_eq!(phases, [RolloutPhase::Progressing, RolloutPhase::Promoting, RolloutPhase::Succeeded]);
    }
}

#[test]
fn r20_a_change_that_gives_the_pods_nothing_new_starts_no_canary() {
    let mut wanted = deployment("v1", 3);
    wanted["metadata"]["labels"]["team"] = json!("branch-it");
    let mut game = Game::new(
        routed(json!([{"setWeight": 10}, {"pause": {}}])),
        deployment("v1", 3),
        wanted,
        &[service(), route()],
    );
    game.run_for(60);
    assert_eq!(game.phase(), RolloutPhase::Succeeded);
    assert_eq!(game.log, ["Update Promoted teller -1"]);
}

#[test]
fn r20_a_bad_version_is_tried_and_taken_back_each_time_and_promoted_once_it_is_mended() {
    let canaries = |game: &Game| game.log.iter().filter(|line| line.starts_with("Create CanaryWorkload")).count();
    let serves = |game: &Game| game.cluster.images("teller").into_iter().collect::<Vec<_>>();
    // One never gets ready; what is measured of the other is bad.
    for (image, verdict) in [("bad", Verdict::Passed), ("v2", Verdict::Failed)] {
        let steps = routed(json!([{"setWeight": 10}, {"analysis": ["errors"]}]));
        let mut game = Game::new(steps, deployment("v1", 2), deployment(image, 2), &[service(), route()]);
        game.verdicts.insert("errors".into(), verdict);
        game.run_for(300);
        assert_eq!((game.phase(), canaries(&game)), (RolloutPhase::RolledBack, 1), "{image}: {}", game.message());
        // Another change states the same once more, and its Rollout has runs of its own.
        game.runs.clear();
        game.next_change(game.spec.plan.clone(), "0b5e7f52-0000-4000-8000-000000000002", image);
        game.run_for(300);
        assert_eq!((game.phase(), canaries(&game)), (RolloutPhase::RolledBack, 2), "{image}: {}", game.message());
        assert_eq!(serves(&game), [("v1".to_owned(), 2)]);
        game.cluster.bad_images.clear();
        game.verdicts.insert("errors".into(), Verdict::Passed);
        game.command(RolloutVerb::Retry);
        game.run_for(300);
        assert_eq!((game.phase(), canaries(&game)), (RolloutPhase::Succeeded, 3), "{image}: {}", game.message());
        assert_eq!(serves(&game), [(image.to_owned(), 2)]);
    }
}

#[test]
fn r21_deleting_it_mid_way_restores_everything() {
    for steps in (1..130).step_by(6) {
        let mut game = route_game(json!([{"setWeight": 50}, {"setWeight": 80}]), 3);
        for _ in 0..steps {
            if !game.pass() {
                let Some(event) = game.cluster.events().into_iter().next() else { break };
                game.happen(&event);
            }
        }
        let had_succeeded = game.phase() == RolloutPhase::Succeeded;
        game.deleting = true;
        assert!(!game.released);
        game.run_for(120);
        assert!(game.released, "after {steps}: {:?} {}", game.phase(), game.message());
        assert_eq!(game.phase() == RolloutPhase::Succeeded, had_succeeded);
        let image = if had_succeeded { "v2" } else { "v1" };
        game.as_before(&json!(image));
    }
}

#[test]
fn r21_the_finalizer_stays_until_the_gateway_has_taken_the_traffic_back() {
    let mut game = route_game(json!([{"setWeight": 75}, {"pause": {}}]), 4);
    game.run_for(10);
    game.cluster.gateway_is_down = true;
    game.deleting = true;
    game.run_for(600);
    assert!(!game.released, "{}", game.message());
    assert_eq!((game.phase(), game.effective_share()), (RolloutPhase::Aborting, 75), "{}", game.message());
    assert_eq!(game.cluster.ready_of("teller-canary"), 3, "its pods serve as long as the Gateway leads to them");
    game.cluster.gateway_is_down = false;
    game.run_for(60);
    assert!(game.released, "{}", game.message());
    assert_eq!((game.phase(), game.weights.as_slice()), (RolloutPhase::RolledBack, [75, 0].as_slice()));
}

#[test]
fn foreign_backends_headers_and_mirrors() {
    let mut own = route();
    own["spec"]["rules"][0]["backendRefs"] = json!([
        {"group": "", "kind": "Service", "name": "cdn", "port": 80, "weight": 50},
        {"group": "", "kind": "Service", "name": "teller", "port": 80, "weight": 200, "filters": [{"type": "X"}]},
    ]);
    let steps = json!([
        {"headerMatch": {"headers": [{"name": "x-canary", "value": "yes"}]}}, {"pause": {"duration": "5s"}},
        {"mirror": {"percent": 10}}, {"pause": {"duration": "5s"}}, {"setWeight": 30}, {"pause": {}},
    ]);
    let mut game = Game::new(routed(steps), deployment("v1", 2), deployment("v2", 2), &[service(), own]);
    game.run_for(60);
    let spec = &game.cluster.get("HTTPRoute", "teller").unwrap()["spec"];
    let rules = spec["rules"].as_array().unwrap();
    assert_eq!(rules.len(), 3);
    assert_eq!(rules[0]["matches"][0]["headers"][0]["value"], "yes");
    assert_eq!(rules[0]["backendRefs"].as_array().unwrap().len(), 1);
    let refs: Vec<_> = rules[1]["backendRefs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| (r["name"].as_str().unwrap(), r["weight"].as_i64().unwrap()))
        .collect();
    assert_eq!(refs, [("cdn", 50), ("teller-stable", 140), ("teller-canary", 60)], "the other backend keeps its fifth");
    assert_eq!(rules[1]["filters"].as_array().unwrap().len(), 2);
    game.command(RolloutVerb::Abort);
    game.run_for(60);
    assert_eq!(game.phase(), RolloutPhase::RolledBack);
}

#[test]
fn a_route_without_room_or_without_traffic_is_told_before_the_first_write() {
    let backend = |name: &str, weight: u8| json!({"name": name, "port": 80, "weight": weight});
    let filter = json!({"type": "RequestHeaderModifier", "requestHeaderModifier": {"remove": ["x"]}});
    let mut full = vec![backend("cdn", 0); 15];
    full.push(backend("teller", 1));
    for (field, value, says) in [
        (
            "backendRefs",
            vec![backend("cdn", 100), backend("teller", 0)],
            "HTTPRoute teller gives Service teller no traffic, as its weight is 0 in every rule; give it a weight",
        ),
        (
            "backendRefs",
            full,
            "a rule of HTTPRoute teller has no room for a second share of Service teller: a rule holds 16 backends; take one out",
        ),
        (
            "filters",
            vec![filter; 16],
            "a rule of HTTPRoute teller has no room for copies of its requests: a rule holds 16 filters; take one out",
        ),
    ] {
        let mut own = route();
        own["spec"]["rules"][0][field] = json!(value);
        let steps = json!([{"mirror": {"percent": 10}}, {"pause": {}}]);
        let mut game = Game::new(routed(steps), deployment("v1", 2), deployment("v2", 2), &[service(), own]);
        game.run_for(60);
        assert_eq!((game.phase(), game.message(), game.log.len()), (RolloutPhase::Pending, says, 0));
    }
}

#[test]
fn a_plan_that_names_what_is_missing_waits_and_heals() {
    let lacks = |game: &Game| {
        let ready = game.status.conditions.iter().find(|condition| condition.type_ == "Ready")?;
        (ready.status == "False" && ready.reason == "Missing").then(|| ready.message.clone())
    };
    let (before, wanted) = (deployment("v1", 2), deployment("v2", 2));
    let mut elsewhere = route();
    elsewhere["spec"]["rules"].as_array_mut().unwrap().remove(0);
    for (there, absent, says) in [
        (vec![route()], service(), "Service teller does not exist"),
        (vec![service()], route(), "HTTPRoute teller does not exist"),
        (
            vec![service(), elsewhere],
            route(),
            "HTTPRoute teller sends nothing to Service teller; name the backend whose share is to be split",
        ),
    ] {
        let mut game =
            Game::new(routed(json!([{"setWeight": 10}, {"pause": {}}])), before.clone(), wanted.clone(), &there);
        game.run_for(600);
        assert_eq!((game.phase(), game.message()), (RolloutPhase::Pending, says));
        assert_eq!(lacks(&game).as_deref(), Some(says));
        game.cluster.put(absent);
        game.remember();
        game.run_for(60);
        assert_eq!((game.phase(), lacks(&game)), (RolloutPhase::Paused, None), "{}", game.message());
        game.command(RolloutVerb::Promote);
        game.run_for(300);
        assert_eq!(game.phase(), RolloutPhase::Succeeded, "{}", game.message());
    }
}

#[test]
fn a_write_that_is_refused_is_told_until_it_passes() {
    let mut game = route_game(json!([{"setWeight": 50}, {"pause": {}}]), 2);
    let first = game.decide().writes.remove(0);
    game.refused = Some(RefusedWrite::new(&first, "services is forbidden".into()));
    let decision = game.decide();
    assert!(decision.must_record(&game.status));
    let told = decision.status.message.unwrap();
    assert!(told.contains(&format!("writing {} was refused (services is forbidden)", first.id)), "{told}");
    let ready = decision.status.conditions.iter().find(|condition| condition.type_ == "Ready").unwrap();
    assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("False", "Refused"));
    assert_eq!(decision.writes[0], first, "it is tried again");
    // Another write is not held up by it, nor told of.
    game.run_for(60);
    assert_eq!((game.phase(), game.message().contains("refused")), (RolloutPhase::Paused, false));
}

#[test]
fn a_route_that_no_gateway_has_accepted_keeps_a_release_from_beginning() {
    let mut game =
        Game::new(routed(json!([{"setWeight": 10}])), deployment("v1", 2), deployment("v2", 2), &[service()]);
    game.cluster.gateway_is_down = true;
    game.cluster.put(route());
    game.remember();
    game.run_for(600);
    let says = "no Gateway has accepted HTTPRoute teller yet";
    assert_eq!((game.phase(), game.message()), (RolloutPhase::Pending, says));
    game.cluster.gateway_is_down = false;
    game.run_for(300);
    assert_eq!(game.phase(), RolloutPhase::Succeeded, "{}", game.message());
}

#[test]
fn r08_without_a_route_the_new_version_makes_room_while_an_old_pod_is_missing() {
    let mut game =
        Game::new(by_pods(json!([{"setWeight": 50}, {"pause": {}}])), deployment("v1", 10), deployment("v2", 10), &[]);
    game.run_for(30);
    game.chaos = true;
    game.cluster.break_pods("v1", 1);
    game.cluster.bad_images.push("v1".into());
    let before = game.cluster.ready_of("teller-canary");
    game.command(RolloutVerb::Abort);
    game.run_for(30);
    assert_eq!((before > 1, game.phase()), (true, RolloutPhase::Aborting), "{}", game.message());
    assert_eq!(game.cluster.ready_of("teller-canary"), 1, "one for the one that is missing");
    game.cluster.bad_images.pop();
    game.run_for(60);
    assert_eq!(game.phase(), RolloutPhase::RolledBack);
}

#[test]
fn a_restart_of_the_old_version_meanwhile_is_followed() {
    for abort in [false, true] {
        let mut game = route_game(json!([{"setWeight": 25}, {"pause": {}}]), 4);
        game.run_for(30);
        game.chaos = true;
        game.cluster.edit("Deployment", "teller", |deployment| {
            deployment["spec"]["template"]["metadata"]["annotations"] = json!({"restartedAt": "now"});
        });
        game.run_for(120);
        let old = game.status.hashes.as_ref().unwrap().stable.clone();
        assert_eq!(game.cluster.get("Service", "teller").unwrap()["spec"]["selector"]["pod-template-hash"], old);
        assert_eq!(game.status.replicas.unwrap().old, 4, "{}", game.message());
        game.command(if abort { RolloutVerb::Abort } else { RolloutVerb::Promote });
        game.run_for(300);
        let end = if abort { RolloutPhase::RolledBack } else { RolloutPhase::Succeeded };
        assert_eq!(game.phase(), end, "{}", game.message());
    }
}

#[test]
fn no_service_goes_while_the_route_leads_to_it_whoever_removed_the_second_deployment() {
    for stage in ["forward", "promotion"] {
        let mut game = route_game(json!([{"setWeight": 25}, {"pause": {}}]), 4);
        game.run_for(30);
        if stage == "promotion" {
            game.command(RolloutVerb::Promote);
            while !game.status.promotion.as_ref().is_some_and(|promotion| promotion.returning) {
                if !game.pass() {
                    let event = game.cluster.events().remove(0);
                    game.happen(&event);
                }
            }
        }
        game.chaos = true;
        // Somebody else's now, or gone.
        if stage == "promotion" {
            game.cluster.objects.remove(&super::cluster::key("Deployment", "teller-canary"));
        } else {
            game.cluster.edit("Deployment", "teller-canary", |deployment| {
                deployment["metadata"]["labels"] = json!({});
            });
            game.command(RolloutVerb::Abort);
        }
        let mut removed = false;
        for _ in 0..400 {
            let share = game.cluster.get("Service", "teller-canary").is_some();
            removed |= !share;
            assert!(share || game.effective_share() == 0, "{stage}: the Gateway leads to a Service that is gone");
            if !game.pass() {
                let events = game.cluster.events();
                let Some(event) = events.first().cloned() else { break };
                game.happen(&event);
            }
        }
        assert!(removed, "{stage}: {}", game.message());
    }
}

#[test]
fn a_new_version_without_a_ready_pod_has_no_traffic_although_an_old_pod_is_missing() {
    let mut game = route_game(json!([{"setWeight": 50}, {"pause": {}}]), 4);
    game.run_for(30);
    game.chaos = true;
    game.command(RolloutVerb::Pause);
    game.cluster.break_pods("v1", 1);
    game.cluster.break_pods("v2", 4);
    game.cluster.bad_images.extend(["v1".into(), "v2".into()]);
    game.run_for(30);
    assert_eq!(game.effective_share(), 0, "{}", game.message());
}
