//! StatefulSets by partition, DaemonSets by nodes.

use interlock_crds::RolloutPhase;
use serde_json::{Value, json};

use super::game::{Game, Kill, plan};
use crate::rollout::RolloutVerb;

fn set(kind: &str, image: &str) -> Value {
    let own = if kind == "StatefulSet" {
        json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0}})
    } else {
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 2, "maxSurge": 0}})
    };
    let mut object = json!({
        "apiVersion": "apps/v1", "kind": kind,
        "metadata": {"name": "teller", "namespace": "teller"},
        "spec": {
            "selector": {"matchLabels": {"app": "teller"}},
            "template": {"metadata": {"labels": {"app": "teller"}}, "spec": {"containers": [{"name": "teller", "image": image}]}},
            "updateStrategy": own,
        },
    });
    if kind == "StatefulSet" {
        object["spec"]["replicas"] = json!(10);
    }
    object
}

fn game(kind: &str, image: &str, steps: Value, threshold: u32) -> Game {
    let plan = plan(json!({"batches": {"steps": steps, "failureThreshold": threshold}, "progressDeadline": "60s"}));
    let mut game = Game::new(plan, set(kind, "v1"), set(kind, image), &[]);
    game.cluster.nodes = 10;
    game.settle_cluster();
    game
}

fn strategy(game: &Game, kind: &str) -> Value {
    game.cluster.get(kind, "teller").unwrap()["spec"]["updateStrategy"].clone()
}

#[test]
fn r23_batches_of_a_stateful_set_and_a_daemon_set() {
    for kind in ["StatefulSet", "DaemonSet"] {
        let pause = json!({"pause": {}});
        let steps = json!([{"setWeight": 10}, pause, {"setWeight": 30}, pause, {"setReplicas": 6}, pause]);
        let mut game = game(kind, "v2", steps, 20);
        for new in [1, 3, 6] {
            game.run_for(30);
            assert_eq!(
                (game.phase(), game.cluster.set_images(true)["v2"]),
                (RolloutPhase::Paused, new),
                "{kind}: {}",
                game.message()
            );
            assert_eq!(game.status.replicas.unwrap().new, new);
            game.command(RolloutVerb::Promote);
        }
        game.run_for(60);
        assert_eq!(
            (game.phase(), game.cluster.set_images(true)["v2"]),
            (RolloutPhase::Succeeded, 10),
            "{}",
            game.message()
        );
        assert_eq!(strategy(&game, kind), set(kind, "v2")["spec"]["updateStrategy"]);
    }
}

#[test]
fn r23_scaling_keeps_the_percentage() {
    let mut game = game("StatefulSet", "v2", json!([{"setWeight": 40}, {"pause": {}}]), 0);
    game.run_for(30);
    for (size, new) in [(5, 2), (10, 4)] {
        game.cluster.edit("StatefulSet", "teller", |o| o["spec"]["replicas"] = json!(size));
        game.run_for(30);
        let partition = strategy(&game, "StatefulSet")["rollingUpdate"]["partition"].as_u64().unwrap();
        assert_eq!((game.phase(), partition), (RolloutPhase::Paused, size - new));
    }
}

#[test]
fn r23_an_abort_deletes_broken_pods_of_an_ordered_set() {
    for kind in ["StatefulSet", "DaemonSet"] {
        let mut game = game(kind, "bad", json!([{"setWeight": 20}]), 0);
        game.run_for(600);
        assert_eq!(game.phase(), RolloutPhase::RolledBack, "{}", game.message());
        assert_eq!(game.cluster.set_images(true).into_iter().collect::<Vec<_>>(), [("v1".to_owned(), 10)]);
        assert_eq!(strategy(&game, kind), set(kind, "v1")["spec"]["updateStrategy"]);
        assert!(game.log.iter().any(|line| line.contains("ReplacedPod")));
    }
}

#[test]
fn r15_a_disruption_budget_is_honoured() {
    let mut game = game("DaemonSet", "v2", json!([{"setWeight": 20}]), 0);
    let budget = |allowed: u32| {
        json!({
            "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "teller", "namespace": "teller", "generation": 1},
            "spec": {"selector": {"matchLabels": {"app": "teller"}}}, "status": {"disruptionsAllowed": allowed, "observedGeneration": 9},
        })
    };
    game.cluster.put(budget(0));
    game.run_for(30);
    assert_eq!(game.cluster.set_images(true)["v1"], 10);
    assert!(game.message().contains("a PodDisruptionBudget allows no further pod"), "{}", game.message());
    game.cluster.put(budget(1));
    game.run_for(60);
    assert_eq!(game.phase(), RolloutPhase::Succeeded);
    assert!(game.log.iter().filter(|line| line.contains("ReplacedPod")).count() == 10);
}

#[test]
fn r29_batches_go_on_after_a_kill_at_every_write() {
    for kind in ["StatefulSet", "DaemonSet"] {
        let steps = json!([{"setWeight": 30}, {"setWeight": 60}]);
        for abort in [false, true] {
            for after in 0..40 {
                let mut game = game(kind, "v2", steps.clone(), 0);
                if abort {
                    for _ in 0..after {
                        if !game.pass() {
                            let Some(event) = game.cluster.events().into_iter().next() else { break };
                            game.happen(&event);
                        }
                    }
                    if game.phase() == RolloutPhase::Succeeded {
                        break;
                    }
                    game.command(RolloutVerb::Abort);
                }
                game.kill = Kill::After(if abort { after % 5 } else { after });
                game.run_for(120);
                let (ended, image) =
                    if abort { (RolloutPhase::RolledBack, "v1") } else { (RolloutPhase::Succeeded, "v2") };
                assert_eq!(game.phase(), ended, "{kind} {after}: {}", game.message());
                assert_eq!(game.cluster.set_images(true).into_iter().collect::<Vec<_>>(), [(image.to_owned(), 10)]);
                if game.kills == 0 && !abort {
                    break;
                }
            }
        }
    }
}
