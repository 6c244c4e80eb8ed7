//! StatefulSets by partition, DaemonSets by nodes.

use interlock_crds::RolloutPhase;
use serde_json::{Value, json};

use super::{
    cluster::key,
    game::{Game, Kill, plan},
};
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
    let budget = |allowed: u32| {
        json!({
            "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "teller", "namespace": "teller", "generation": 1},
            "spec": {"selector": {"matchLabels": {"app": "teller"}}}, "status": {"disruptionsAllowed": allowed, "observedGeneration": 9},
        })
    };
    for kind in ["StatefulSet", "DaemonSet"] {
        let mut game = game(kind, "v2", json!([{"setWeight": 20}]), 0);
        game.cluster.put(budget(0));
        game.run_for(30);
        assert_eq!(game.cluster.set_images(true)["v1"], 10, "{kind}");
        assert!(game.message().contains("a PodDisruptionBudget allows no further pod"), "{kind}: {}", game.message());
        game.cluster.put(budget(1));
        game.run_for(60);
        assert_eq!(game.phase(), RolloutPhase::Succeeded, "{kind}: {}", game.message());
        let count = |form: &str| game.log.iter().filter(|line| line.contains(form)).count();
        if kind == "DaemonSet" {
            assert_eq!(count("ReplacedPod"), 10);
        } else {
            let expected: Vec<_> = (0..=10).rev().map(|partition| partition.to_string()).collect();
            assert_eq!(partitions(&game), expected, "by one pod at a time");
        }
    }
}

/// The partitions that a StatefulSet was given, in their order.
fn partitions(game: &Game) -> Vec<&str> {
    game.log.iter().filter_map(|line| line.strip_prefix("Update Partition teller ")).collect()
}

#[test]
fn r15_a_budget_for_a_few_pods_lowers_the_partition_by_a_few() {
    let mut game = game("StatefulSet", "v2", json!([{"setWeight": 60}, {"pause": {}}]), 0);
    // Two pods are not ready anyway: what replaces them costs nothing.
    for name in ["teller-9", "teller-7"] {
        set_ready(&mut game, name, false);
    }
    game.cluster.put(json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "teller", "namespace": "teller", "generation": 1},
        "spec": {"selector": {"matchLabels": {"app": "teller"}}}, "status": {"disruptionsAllowed": 2, "observedGeneration": 9},
    }));
    while partitions(&game).is_empty() {
        assert!(game.pass(), "{}", game.message());
    }
    assert_eq!(partitions(&game), ["6"], "9 and 7 for nothing, 8 and 6 within the budget");
    for name in ["teller-9", "teller-7"] {
        set_ready(&mut game, name, true);
    }
    game.run_for(30);
    assert_eq!((game.phase(), partitions(&game)), (RolloutPhase::Paused, vec!["6", "4"]), "{}", game.message());
}

#[test]
fn r15_a_workload_that_does_not_fit_is_told_and_goes_on_when_it_is_put_right() {
    for (kind, wrong, told) in [
        ("StatefulSet", json!({"type": "OnDelete"}), "has updateStrategy OnDelete"),
        ("DaemonSet", json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}), "has maxSurge"),
    ] {
        let mut game = game(kind, "v2", json!([{"setWeight": 20}]), 0);
        let own = strategy(&game, kind);
        game.cluster.edit(kind, "teller", |set| set["spec"]["updateStrategy"] = wrong);
        game.run_for(600);
        assert_eq!((game.phase(), game.log.len()), (RolloutPhase::Pending, 0), "{kind}: {}", game.message());
        assert!(game.message().contains(told), "{kind}: {}", game.message());
        game.cluster.edit(kind, "teller", |set| set["spec"]["updateStrategy"] = own.clone());
        game.run_for(60);
        assert_eq!(game.phase(), RolloutPhase::Succeeded, "{kind}: {}", game.message());
        assert_eq!(strategy(&game, kind), own);
    }
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

#[test]
fn what_a_plan_tolerates_takes_no_more_pods_away_at_once() {
    let mut game = game("DaemonSet", "v2", json!([{"setWeight": 100}]), 50);
    let mut least = 10;
    for _ in 0..2_000 {
        least = least.min(game.cluster.set_pods().iter().filter(|pod| is_up(pod)).count());
        if !game.pass() {
            let Some(event) = game.cluster.events().first().cloned() else { break };
            game.happen(&event);
        }
    }
    assert_eq!((game.phase(), least), (RolloutPhase::Succeeded, 8), "maxUnavailable is 2: {}", game.message());
}

fn is_up(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let is_ready = conditions.iter().any(|c| c["type"] == "Ready" && c["status"] == "True");
    is_ready && pod["metadata"].get("deletionTimestamp").is_none()
}

#[test]
fn a_daemon_set_that_surges_is_not_replaced_in_place() {
    let surging = |image: &str| {
        let mut object = set("DaemonSet", image);
        object["spec"]["updateStrategy"]["rollingUpdate"] = json!({"maxUnavailable": 0, "maxSurge": 1});
        object
    };
    let plan = plan(json!({"batches": {"steps": [{"setWeight": 50}]}}));
    let mut game = Game::new(plan, surging("v1"), surging("v2"), &[]);
    game.cluster.nodes = 4;
    game.settle_cluster();
    game.run_for(60);
    assert_eq!(game.phase(), RolloutPhase::Pending);
    assert!(game.message().contains("has maxSurge"), "{}", game.message());
}

fn set_ready(game: &mut Game, name: &str, ready: bool) {
    let status = if ready { "True" } else { "False" };
    game.cluster.edit("Pod", name, |pod| pod["status"]["conditions"][0]["status"] = json!(status));
}

/// Plays until `ended`, or nothing happens any more. The new pods of these names stay broken.
fn play_with_broken(game: &mut Game, names: &[&str], ended: impl Fn(&Game) -> bool) {
    for _ in 0..5_000 {
        let broken: Vec<String> = game
            .cluster
            .set_pods()
            .iter()
            .filter(|pod| pod["spec"]["image"] == "v2" && is_up(pod))
            .map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned())
            .filter(|name| names.contains(&name.as_str()))
            .collect();
        for name in broken {
            set_ready(game, &name, false);
        }
        if game.pass() {
            continue;
        }
        if ended(game) {
            return;
        }
        if let Some(event) = game.cluster.events().first().cloned() {
            game.happen(&event);
        } else if let Some(wake) = game.decide().wake_at {
            game.now = wake;
        } else {
            return;
        }
    }
}

#[test]
fn nodes_whose_new_pod_never_becomes_ready_are_tolerated_as_far_as_the_plan_says() {
    for (threshold, end) in [(30, RolloutPhase::Succeeded), (10, RolloutPhase::RolledBack)] {
        let mut game = game("DaemonSet", "v2", json!([{"setWeight": 100}]), threshold);
        // Of the new pods the first three stay broken.
        play_with_broken(&mut game, &["teller-0", "teller-1", "teller-2"], |game| game.phase().is_at_rest());
        assert_eq!(game.phase(), end, "{threshold}: {}", game.message());
    }
}

#[test]
fn r23_a_batch_counts_when_all_but_the_threshold_are_ready() {
    let pause = json!({"pause": {}});
    let steps = json!([{"setWeight": 10}, pause, {"setWeight": 30}, pause, {"setWeight": 60}, pause]);
    let mut game = game("DaemonSet", "v2", steps, 20);
    for (step, new) in [(1, 1), (3, 2), (5, 4)] {
        let waits = |game: &Game| game.phase() == RolloutPhase::Paused && game.status.current_step == step;
        play_with_broken(&mut game, &["teller-2", "teller-5"], waits);
        assert!(waits(&game), "step {step}: {}", game.message());
        assert_eq!((game.status.replicas.unwrap().new, game.cluster.set_images(true)["v2"]), (new, new));
        game.command(RolloutVerb::Promote);
    }
    play_with_broken(&mut game, &["teller-2", "teller-5"], |game| game.phase().is_at_rest());
    assert_eq!(game.phase(), RolloutPhase::Succeeded, "{}", game.message());
    assert_eq!((game.cluster.set_images(true)["v2"], game.cluster.set_images(false)["v2"]), (8, 2));
}

#[test]
fn r23_an_ordered_set_has_given_the_whole_batch_the_new_version_before_any_failure_is_tolerated() {
    // Half of the batch may be broken; but an ordered set waits for the first broken pod, and the next ones stay old.
    for (broken, ready, end) in [("teller-6", 3, RolloutPhase::Paused), ("teller-7", 0, RolloutPhase::RolledBack)] {
        let mut game = game("StatefulSet", "v2", json!([{"setWeight": 40}, {"pause": {}}]), 50);
        play_with_broken(&mut game, &[broken], |game| game.phase() == end);
        assert_eq!(game.phase(), end, "{broken}: {}", game.message());
        assert_eq!(game.cluster.set_images(true).get("v2").copied().unwrap_or(0), ready);
        if end == RolloutPhase::RolledBack {
            let cause = game.status.cause.clone().unwrap();
            assert!(cause.contains("2 of 4 pods of the batch are ready and 3 have the new version"), "{cause}");
            continue;
        }
        set_ready(&mut game, broken, true);
        game.command(RolloutVerb::Promote);
        game.run_for(60);
        assert_eq!(game.phase(), RolloutPhase::Succeeded, "{}", game.message());
        assert_eq!(game.cluster.set_images(true)["v2"], 10);
    }
}

#[test]
fn r23_a_newer_version_from_the_second_batch_on_begins_where_all_pods_are_old_again() {
    for kind in ["StatefulSet", "DaemonSet"] {
        let steps = json!([{"setWeight": 10}, {"setWeight": 30}, {"pause": {}}]);
        let mut game = game(kind, "v2", steps, 20);
        game.run_for(30);
        assert_eq!((game.status.current_step, game.cluster.set_images(true)["v2"]), (2, 3), "{kind}");
        game.superseded_by = Some("cr-3".into());
        game.run_for(60);
        assert_eq!(game.phase(), RolloutPhase::RolledBack, "{kind}: {}", game.message());
        assert_eq!(game.status.cause.as_deref(), Some("superseded by cr-3"));
        game.next_change(game.spec.plan.clone(), "0b5e7f52-0000-4000-8000-000000000003", "v3");
        game.run_for(30);
        let images: Vec<_> = game.cluster.set_images(true).into_iter().collect();
        assert_eq!((game.phase(), images), (RolloutPhase::Paused, vec![("v1".into(), 7), ("v3".into(), 3)]), "{kind}");
        game.command(RolloutVerb::Promote);
        game.run_for(60);
        assert_eq!(game.phase(), RolloutPhase::Succeeded, "{kind}: {}", game.message());
        assert_eq!(game.cluster.set_images(true).into_iter().collect::<Vec<_>>(), [("v3".to_owned(), 10)]);
    }
}

/// What `kubectl rollout restart` does.
fn restart(game: &mut Game, kind: &str) {
    game.cluster.edit(kind, "teller", |set| {
        set["spec"]["template"]["metadata"]["annotations"] = json!({"kubectl.kubernetes.io/restartedAt": "now"});
    });
}

#[test]
fn a_restart_meanwhile_is_followed_and_hangs_no_abort() {
    let pause = json!({"pause": {}});
    for kind in ["StatefulSet", "DaemonSet"] {
        for (moment, verb) in [
            ("before the first batch", RolloutVerb::Promote),
            ("before the first batch", RolloutVerb::Abort),
            ("between batches", RolloutVerb::Promote),
            ("between batches", RolloutVerb::Abort),
            ("on the way back", RolloutVerb::Abort),
        ] {
            let mut game = game(kind, "v2", json!([pause, {"setWeight": 30}, pause]), 0);
            game.run_for(30);
            if moment == "before the first batch" {
                let before = game.status.hashes.clone().unwrap().stable;
                restart(&mut game, kind);
                game.run_for(30);
                assert_eq!(game.status.replicas.unwrap().old, 10, "{kind}: the restarted pods are the old version");
                assert_ne!(game.status.hashes.clone().unwrap().stable, before);
            }
            game.command(RolloutVerb::Promote);
            game.run_for(30);
            if moment == "between batches" {
                restart(&mut game, kind);
                game.run_for(30);
            }
            assert_eq!(
                (game.phase(), game.cluster.set_images(true)["v2"], game.status.replicas.unwrap().new),
                (RolloutPhase::Paused, 3, 3),
                "{kind} {moment}: {}",
                game.message()
            );
            game.command(verb);
            if moment == "on the way back" {
                while !game.log.iter().any(|line| line.contains("BatchesBack")) {
                    assert!(game.pass(), "{kind}: {}", game.message());
                }
                restart(&mut game, kind);
            }
            game.run_for(300);
            let abort = verb == RolloutVerb::Abort;
            let (end, image) = if abort { (RolloutPhase::RolledBack, "v1") } else { (RolloutPhase::Succeeded, "v2") };
            assert_eq!(game.phase(), end, "{kind} {moment}: {}", game.message());
            assert_eq!(game.cluster.set_images(true).into_iter().collect::<Vec<_>>(), [(image.to_owned(), 10)]);
            assert_eq!(strategy(&game, kind), set(kind, image)["spec"]["updateStrategy"]);
            let template = &game.cluster.get(kind, "teller").unwrap()["spec"]["template"];
            let restarted = &template["metadata"]["annotations"]["kubectl.kubernetes.io/restartedAt"];
            assert_eq!(restarted, "now", "{kind} {moment}: it is followed, not fought");
        }
    }
}

#[test]
fn going_back_after_a_restart_replaces_no_pod_of_the_old_version() {
    let mut game = game("DaemonSet", "v2", json!([{"setWeight": 30}, {"pause": {}}]), 0);
    game.run_for(30);
    restart(&mut game, "DaemonSet");
    game.run_for(30);
    game.log.clear();
    game.command(RolloutVerb::Abort);
    game.run_for(300);
    assert_eq!(game.phase(), RolloutPhase::RolledBack, "{}", game.message());
    let replaced = game.log.iter().filter(|line| line.contains("ReplacedPod")).count();
    assert_eq!(replaced, 3, "those of the batch: {:?}", game.log);
}

#[test]
fn pods_of_the_new_version_are_not_old_while_the_old_revision_is_not_told_yet() {
    let mut game = game("DaemonSet", "v2", json!([{"setWeight": 30}, {"pause": {}}]), 0);
    game.run_for(30);
    game.command(RolloutVerb::Abort);
    while !game.log.iter().any(|line| line.contains("BatchesBack")) {
        assert!(game.pass(), "{}", game.message());
    }
    // The DaemonSet is told before its revisions are: of these the new version's is still the newest.
    let set = game.cluster.objects.get_mut(&key("DaemonSet", "teller")).unwrap();
    set["status"]["observedGeneration"] = set["metadata"]["generation"].clone();
    assert!(game.pass());
    assert_eq!(game.status.replicas.unwrap().old, 7, "{}", game.message());
    game.run_for(300);
    assert_eq!(game.phase(), RolloutPhase::RolledBack, "{}", game.message());
    assert_eq!(game.cluster.set_images(true).into_iter().collect::<Vec<_>>(), [("v1".to_owned(), 10)]);
}

#[test]
fn an_abort_that_takes_too_long_names_a_pod_that_is_not_ready_and_ends_when_it_is() {
    for (kind, pod) in [("StatefulSet", "teller-9"), ("DaemonSet", "teller-0")] {
        let mut game = game(kind, "v2", json!([{"setWeight": 20}, {"pause": {}}]), 0);
        game.run_for(30);
        game.cluster.bad_images.push("v1".into());
        game.command(RolloutVerb::Abort);
        game.run_for(100);
        let advice = format!("longer than the plan's progressDeadline; pod {pod} is not ready: see why, or delete it");
        assert_eq!(game.phase(), RolloutPhase::Aborting, "{kind}");
        assert!(game.message().contains(&advice), "{kind}: {}", game.message());
        game.cluster.bad_images.pop();
        let broken: Vec<String> = game
            .cluster
            .set_pods()
            .into_iter()
            .filter(|pod| !is_up(pod))
            .map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned())
            .collect();
        for name in broken {
            game.cluster.objects.remove(&key("Pod", &name));
        }
        game.run_for(100);
        assert_eq!(game.phase(), RolloutPhase::RolledBack, "{kind}: {}", game.message());
    }
}

#[test]
fn what_cannot_be_given_its_old_version_goes_to_no_further_pod_and_is_told() {
    let mut game = game("StatefulSet", "v2", json!([{"setWeight": 30}, {"pause": {}}]), 0);
    let rename = |game: &mut Game, name: &str| {
        game.cluster.edit("StatefulSet", "teller", |set| {
            set["spec"]["template"]["spec"]["containers"][0]["name"] = json!(name);
        });
    };
    game.run_for(30);
    rename(&mut game, "cashier");
    game.command(RolloutVerb::Abort);
    game.run_for(100);
    assert_eq!(game.phase(), RolloutPhase::Aborting);
    assert_eq!(strategy(&game, "StatefulSet")["rollingUpdate"]["partition"], 7);
    assert!(game.message().contains("cannot be given its old version; give it that by hand"), "{}", game.message());
    rename(&mut game, "teller");
    game.run_for(100);
    assert_eq!(game.phase(), RolloutPhase::RolledBack, "{}", game.message());
    assert_eq!(game.cluster.set_images(true).into_iter().collect::<Vec<_>>(), [("v1".to_owned(), 10)]);
}
