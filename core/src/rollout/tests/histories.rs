//! R29 and R30: killed after every write, and random histories. What must hold is checked by `Game` after every event.

use interlock_crds::{OnFailure, RolloutPhase};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::game::{Game, Kill, autoscaler, by_pods, deployment, plan, route, routed, service};
use crate::rollout::{ConfigTarget, RolloutVerb};

fn config(data: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings", "namespace": "teller"}, "data": {"mode": data}})
}

fn with_config(image: &str, replicas: u32) -> Value {
    let mut object = deployment(image, replicas);
    object["spec"]["template"]["spec"]["volumes"] = json!([{"name": "s", "configMap": {"name": "settings"}}]);
    object
}

/// Canary by pods, by route, blue/green; with autoscaler and configuration.
fn game(kind: u8) -> Game {
    let steps = json!([{"setWeight": 20}, {"pause": {"duration": "5s"}}, {"setWeight": 50}]);
    let (plan, others) = match kind {
        0 => (by_pods(steps), vec![autoscaler(1, 10)]),
        1 => (routed(steps), vec![service(), route(), autoscaler(1, 10)]),
        _ => (
            plan(
                json!({"blueGreen": {"service": "teller", "steps": [{"pause": {"duration": "5s"}}], "keepOld": "20s"}, "progressDeadline": "60s"}),
            ),
            vec![service(), autoscaler(1, 10)],
        ),
    };
    let config = ConfigTarget { before: Some(config("old")), wanted: config("new") };
    let mut game = Game::new(plan, with_config("v1", 3), with_config("v2", 3), &others).with_configs(vec![config]);
    game.remember();
    game
}

fn finish(game: &mut Game) {
    game.run_for(120);
}

#[test]
fn r29_killed_after_every_write_it_goes_on_as_if_undisturbed() {
    for kind in 0..3 {
        let mut undisturbed = game(kind);
        finish(&mut undisturbed);
        assert_eq!(undisturbed.phase(), RolloutPhase::Succeeded, "{kind}: {}", undisturbed.message());
        let mut after = 0;
        loop {
            let mut disturbed = game(kind);
            disturbed.kill = Kill::After(after);
            finish(&mut disturbed);
            assert_eq!(
                (disturbed.phase(), &disturbed.weights),
                (undisturbed.phase(), &undisturbed.weights),
                "killed after {after}"
            );
            assert_eq!(disturbed.log, undisturbed.log, "killed after {after}");
            if disturbed.kills == 0 {
                assert!(after > 10, "the test kills");
                break;
            }
            after += 1;
        }
    }
}

#[test]
fn r29_an_abort_at_every_moment_and_a_kill_after_every_write() {
    for kind in 0..3 {
        for moment in (kind as usize..140).step_by(11) {
            for after in [0, 1, 2, 4] {
                let mut game = game(kind);
                for _ in 0..moment {
                    if !game.pass() {
                        let Some(event) = game.cluster.events().into_iter().next() else { break };
                        game.happen(&event);
                    }
                }
                let promoted = game.phase() == RolloutPhase::Succeeded;
                game.command(RolloutVerb::Abort);
                game.kill = Kill::After(after);
                finish(&mut game);
                let expected = if promoted { RolloutPhase::Succeeded } else { RolloutPhase::RolledBack };
                assert_eq!(game.phase(), expected, "{kind} {moment} {after}: {}", game.message());
                let image = if promoted { "v2" } else { "v1" };
                assert_eq!(game.cluster.images("teller").into_iter().collect::<Vec<_>>(), [(image.to_owned(), 3)]);
                let data = if promoted { "new" } else { "old" };
                assert_eq!(game.cluster.get("ConfigMap", "settings").unwrap()["data"]["mode"], data);
            }
        }
    }
}

/// A write that was sent by a process that died arrives much later.
#[test]
fn r29_a_late_write_of_the_way_forward_does_not_disturb_the_way_back() {
    for kind in 0..3 {
        for moment in (0..120).step_by(5) {
            let mut game = game(kind);
            for _ in 0..moment {
                if !game.pass() {
                    let Some(event) = game.cluster.events().into_iter().next() else { break };
                    game.happen(&event);
                }
            }
            // Journalled and sent, but not stored yet.
            game.kill = Kill::After(0);
            let sent = game.decide();
            game.pass();
            let late: Vec<_> = sent.writes;
            let before = game.status.phase;
            game.kill = Kill::Never;
            game.command(RolloutVerb::Abort);
            for turn in 0..40 {
                if turn == 5 {
                    for write in &late {
                        let _ = game.cluster.apply(write);
                    }
                }
                if !game.pass() {
                    let Some(event) = game.cluster.events().into_iter().next() else { break };
                    game.happen(&event);
                }
            }
            finish(&mut game);
            // A creation cannot be under way for longer than the client waits; an update carries its precondition for ever.
            for write in late.iter().filter(|write| write.operation != interlock_crds::OperationKind::Create) {
                let _ = game.cluster.apply(write);
            }
            game.check();
            if before != RolloutPhase::Succeeded {
                assert_eq!(game.phase(), RolloutPhase::RolledBack, "{kind} {moment}: {}", game.message());
                game.as_before(&json!("v1"));
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Doing {
    Pass,
    Event(usize),
    Time(i64),
    Command(RolloutVerb),
    Kill(u32),
    Break(bool, usize),
    Scale(u32),
    Gateway(bool),
    Touch(&'static str),
}

fn doing() -> impl Strategy<Value = Doing> {
    use RolloutVerb::{Abort, Pause, Promote, PromoteFully, Resume, Retry, Rollback, Skip};
    prop_oneof![
        8 => Just(Doing::Pass),
        16 => (0usize..64).prop_map(Doing::Event),
        2 => (1i64..40).prop_map(Doing::Time),
        2 => prop::sample::select(vec![Abort, Pause, Promote, PromoteFully, Resume, Retry, Rollback, Skip]).prop_map(Doing::Command),
        1 => (0u32..4).prop_map(Doing::Kill),
        1 => (any::<bool>(), 1usize..4).prop_map(|(old, n)| Doing::Break(old, n)),
        1 => (1u32..7).prop_map(Doing::Scale),
        1 => any::<bool>().prop_map(Doing::Gateway),
        1 => prop::sample::select(vec!["Service", "HTTPRoute", "Deployment"]).prop_map(Doing::Touch),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 80, ..ProptestConfig::default() })]

    #[test]
    fn r30_random_histories(kind in 0u8..3, hold in any::<bool>(), doings in prop::collection::vec(doing(), 20..160)) {
        let mut game = game(kind);
        if hold {
            game.spec.plan.on_failure = OnFailure::Pause;
        }
        game.chaos = true;
        for doing in doings {
            match doing {
                Doing::Pass => { game.pass(); }
                Doing::Event(n) => {
                    let events = game.cluster.events();
                    if let Some(event) = events.get(n % events.len().max(1)) {
                        game.happen(event);
                    }
                }
                Doing::Time(seconds) => game.now = game.now.checked_add(jiff::SignedDuration::from_secs(seconds)).unwrap(),
                Doing::Command(verb) => game.command(verb),
                Doing::Kill(n) => game.kill = Kill::After(n),
                Doing::Break(old, n) => game.cluster.break_pods(if old { "v1" } else { "v2" }, n),
                Doing::Scale(n) => game.cluster.edit("Deployment", "teller", |d| d["spec"]["replicas"] = json!(n)),
                Doing::Gateway(down) => game.cluster.gateway_is_down = down,
                Doing::Touch(kind) if game.cluster.get(kind, "teller").is_some() => {
                    game.cluster.edit(kind, "teller", |o| o["metadata"]["labels"]["touched"] = json!("yes"));
                }
                Doing::Touch(_) => {}
            }
        }
        // The cluster is well again, and somebody wants to go back: it always ends.
        game.cluster.gateway_is_down = false;
        game.kill = Kill::Never;
        game.command(RolloutVerb::Abort);
        game.run_for(600);
        prop_assert!(
            matches!(game.phase(), RolloutPhase::RolledBack | RolloutPhase::Succeeded),
            "{:?} {}", game.phase(), game.message()
        );
        let image = if game.phase() == RolloutPhase::Succeeded { "v2" } else { "v1" };
        if game.status.started_at.is_some() {
            game.as_before(&json!(image));
        }
        prop_assert_eq!(game.cluster.images("teller").into_keys().collect::<Vec<_>>(), vec![image.to_owned()]);
    }
}
