//! Steps that wait for people, gates, Jobs and windows; times; configuration.

use interlock_crds::{ApprovalDecision, OnFailure, Overrun, PersonSpec, RolloutPhase, StepGate};
use serde_json::{Value, json};

use super::game::{DIGEST, Game, UID, at, by_pods, deployment, plan, route, routed, service};
use crate::{
    change::facts::{SealedFacts, Vote},
    people::PersonFacts,
    rollout::{ConfigTarget, GateFact, Refusal, RolloutVerb, WindowFact, permitted, sign_off},
};

fn game(steps: Value) -> Game {
    Game::new(routed(steps), deployment("v1", 2), deployment("v2", 2), &[service(), route()])
}

fn vote(person: &str, subject: &str, decision: ApprovalDecision) -> Vote {
    let sealed = SealedFacts {
        user: person.into(),
        groups: vec!["ops".into()],
        claims: Vec::new(),
        time: at(1),
        request_uid: format!("r-{person}-{subject}"),
    };
    Vote {
        name: format!("vote-{person}-{subject}"),
        uid: format!("u-{person}-{subject}"),
        approver: person.into(),
        decision,
        digest: sign_off::digest(DIGEST, UID, subject),
        change_uid: "0b5e7f52-0000-4000-8000-0000000000cc".into(),
        created: at(1),
        sealed: Some(sealed),
    }
}

#[test]
fn signatures_are_counted_like_votes_and_nothing_replaces_them() {
    let mut game = game(json!([{"setWeight": 10}, {"signOff": {"count": 2, "groups": ["ops"]}}, {"setWeight": 50}]));
    for name in ["li", "wang", "chen"] {
        let spec: PersonSpec =
            serde_json::from_value(json!({"displayName": {"en": name}, "identities": [name, format!("{name}-2")]}))
                .unwrap();
        game.people.insert(PersonFacts::of(name, &spec));
    }
    let step = "step-1-0";
    // The requester, one person twice, and a signature on another step count for nothing.
    game.votes = vec![
        vote("wang", step, ApprovalDecision::Approve),
        vote("li", step, ApprovalDecision::Approve),
        vote("li-2", step, ApprovalDecision::Approve),
        vote("chen", "step-2-0", ApprovalDecision::Approve),
    ];
    game.run_for(100);
    for verb in [RolloutVerb::Promote, RolloutVerb::Skip, RolloutVerb::PromoteFully] {
        game.command(verb);
        game.run_for(100);
        assert_eq!((game.phase(), game.status.current_step), (RolloutPhase::Paused, 1));
        assert!(game.message().contains("waits for 1 of 2 signatures from ops"), "{}", game.message());
    }
    game.votes.push(vote("chen", step, ApprovalDecision::Approve));
    game.run_for(100);
    assert_eq!(game.phase(), RolloutPhase::Succeeded);
}

#[test]
fn a_refused_signature_goes_back() {
    let mut game = game(json!([{"setWeight": 10}, {"signOff": {"groups": ["ops"]}}]));
    let spec: PersonSpec = serde_json::from_value(json!({"displayName": {"en": "Li"}, "identities": ["li"]})).unwrap();
    game.people.insert(PersonFacts::of("li", &spec));
    game.votes = vec![vote("li", "step-1-0", ApprovalDecision::Reject)];
    game.run_for(100);
    assert_eq!(game.phase(), RolloutPhase::RolledBack);
    assert!(game.message().contains("the sign-off was refused by li"), "{}", game.message());
}

#[test]
fn a_refused_signature_that_pauses_is_given_after_all_before_trying_again_helps() {
    let mut game = game(json!([{"setWeight": 10}, {"signOff": {"groups": ["ops"]}}]));
    game.spec.plan.on_failure = OnFailure::Pause;
    let spec: PersonSpec = serde_json::from_value(json!({"displayName": {"en": "Li"}, "identities": ["li"]})).unwrap();
    game.people.insert(PersonFacts::of("li", &spec));
    game.votes = vec![vote("li", "step-1-0", ApprovalDecision::Reject)];
    game.run_for(100);
    let why = "the sign-off was refused by li, who may sign after all with `interlock rollout sign teller-2`: \
               only then does it go on with `interlock rollout retry`; or go back with `abort`";
    assert_eq!(game.phase(), RolloutPhase::Paused);
    assert!(game.message().contains(why), "{}", game.message());
    game.command(RolloutVerb::Retry);
    game.run_for(100);
    assert_eq!(game.phase(), RolloutPhase::Paused, "who refused has answered");
    assert!(game.message().contains(why), "{}", game.message());
    let mut after_all = vote("li", "step-1-0", ApprovalDecision::Approve);
    after_all.name = "vote-after-all".into();
    after_all.uid = "u-after-all".into();
    after_all.created = game.now;
    let sealed = after_all.sealed.as_mut().unwrap();
    sealed.time = game.now;
    sealed.request_uid = "r-after-all".into();
    game.votes.push(after_all);
    game.command(RolloutVerb::Retry);
    game.run_for(300);
    assert_eq!(game.phase(), RolloutPhase::Succeeded, "{}", game.message());
}

#[test]
fn r25_a_gate_step_opens_by_itself_and_unknown_is_closed() {
    let mut game = game(json!([{"setWeight": 10}, {"gate": {"name": "Window"}}]));
    game.run_for(100);
    assert!(
        game.message().contains("gate Window is closed: this version does not know its state"),
        "{}",
        game.message()
    );
    game.gates.insert(
        StepGate::Window,
        GateFact { open: false, message: "opens at 22:00".into(), changes_at: Some(at(500)) },
    );
    assert_eq!(game.decide().wake_at, Some(at(500)));
    game.run_for(100);
    game.gates.insert(StepGate::Window, GateFact { open: true, message: String::new(), changes_at: None });
    game.run_for(100);
    assert_eq!(game.phase(), RolloutPhase::Succeeded);
}

#[test]
fn r25_a_window_that_closes_finishes_pauses_or_goes_back() {
    for (overrun, ended) in [
        (Overrun::Finish, RolloutPhase::Succeeded),
        (Overrun::Pause, RolloutPhase::Paused),
        (Overrun::Rollback, RolloutPhase::RolledBack),
    ] {
        let mut game = game(json!([{"setWeight": 10}, {"pause": {"duration": "60s"}}, {"setWeight": 50}]));
        let window = |open: bool| WindowFact {
            gate: GateFact { open, message: "until 02:00".into(), changes_at: None },
            overrun,
        };
        game.window = Some(window(true));
        game.run_for(10);
        game.window = Some(window(false));
        game.run_for(600);
        assert_eq!((game.phase(), overrun), (ended, overrun), "{}", game.message());
        game.window = Some(window(true));
        game.run_for(100);
        assert_eq!(game.phase() == RolloutPhase::RolledBack, overrun == Overrun::Rollback);
        assert_eq!(game.status.held_seconds > 0, overrun == Overrun::Pause);
    }
}

#[test]
fn r25_what_went_back_begins_anew_only_in_an_open_window() {
    for verb in [RolloutVerb::Retry, RolloutVerb::PromoteFully] {
        let mut game = game(json!([{"setWeight": 10}, {"pause": {}}]));
        let window = |open: bool| WindowFact {
            gate: GateFact { open, message: "Calendar nights is closed".into(), changes_at: None },
            overrun: Overrun::Finish,
        };
        game.window = Some(window(true));
        game.run_for(10);
        game.command(RolloutVerb::Abort);
        game.run_for(300);
        assert_eq!(game.phase(), RolloutPhase::RolledBack, "{}", game.message());
        game.window = Some(window(false));
        game.command(verb);
        game.pass();
        assert_eq!((game.phase(), game.status.attempt), (RolloutPhase::RolledBack, 0), "{verb:?}");
        let why = "had no effect: it would begin anew, and Calendar nights is closed";
        assert!(game.message().contains(why), "{}", game.message());
        game.window = Some(window(true));
        game.command(verb);
        game.run_for(300);
        assert_eq!(game.status.attempt, 1, "{verb:?}: {}", game.message());
    }
}

/// How many Jobs of steps were created.
fn made_jobs(game: &Game) -> usize {
    game.log.iter().filter(|line| line.contains("StepJob")).count()
}

#[test]
fn r28_a_job_step_runs_once_and_its_failure_goes_back() {
    for (condition, ended) in [("Complete", RolloutPhase::Succeeded), ("Failed", RolloutPhase::RolledBack)] {
        let mut game = game(json!([{"setWeight": 10}, {"job": {"name": "smoke", "spec": {"backoffLimit": 0}}}]));
        game.run_for(30);
        assert_eq!(
            (game.phase(), game.cluster.get("Job", "teller-2-1-smoke-0-0").is_some()),
            (RolloutPhase::Progressing, true)
        );
        game.run_for(3600);
        assert_eq!(game.phase(), RolloutPhase::Progressing, "a Job has its own deadline");
        game.cluster.edit("Job", "teller-2-1-smoke-0-0", |job| {
            job["status"] = json!({"conditions": [{"type": condition, "status": "True"}]});
        });
        game.run_for(300);
        assert_eq!((game.phase(), made_jobs(&game)), (ended, 1));
    }
}

#[test]
fn r28_a_suspended_job_has_not_run() {
    let mut game = game(json!([{"setWeight": 10}, {"job": {"name": "smoke", "spec": {"suspend": true}}}]));
    game.run_for(30);
    let job = "teller-2-1-smoke-0-0";
    assert_eq!((game.phase(), game.status.current_step), (RolloutPhase::Progressing, 1));
    assert!(game.message().contains("is suspended"), "{}", game.message());
    game.cluster.edit("Job", job, |job| {
        job["status"] = json!({"conditions": [{"type": "Complete", "status": "True"}]});
    });
    game.run_for(300);
    assert_eq!(game.phase(), RolloutPhase::Succeeded);
}

#[test]
fn r28_a_job_has_its_own_tries_and_time_and_runs_anew_when_a_person_says_so() {
    let spec = json!({"backoffLimit": 3, "activeDeadlineSeconds": 120});
    for reason in ["BackoffLimitExceeded", "DeadlineExceeded"] {
        let mut game = game(json!([{"setWeight": 10}, {"job": {"name": "smoke", "spec": spec}}]));
        game.spec.plan.on_failure = OnFailure::Pause;
        game.run_for(30);
        let (first, second) = ("teller-2-1-smoke-0-0", "teller-2-1-smoke-0-1");
        assert_eq!(game.cluster.get("Job", first).unwrap()["spec"], spec, "Kubernetes counts them");
        // A pod that failed while tries are left is no failure of the step.
        game.cluster.edit("Job", first, |job| job["status"] = json!({"active": 1, "failed": 2}));
        game.run_for(600);
        assert_eq!((game.phase(), made_jobs(&game)), (RolloutPhase::Progressing, 1), "{}", game.message());
        game.cluster.edit("Job", first, |job| {
            job["status"] = json!({"conditions": [{"type": "Failed", "status": "True", "reason": reason}]});
        });
        game.run_for(300);
        assert_eq!((game.phase(), made_jobs(&game)), (RolloutPhase::Paused, 1), "{}", game.message());
        assert!(game.message().contains(reason), "{}", game.message());
        game.command(RolloutVerb::Retry);
        game.run_for(30);
        assert_eq!((game.phase(), made_jobs(&game)), (RolloutPhase::Progressing, 2), "{}", game.message());
        game.cluster.edit("Job", second, |job| {
            job["status"] = json!({"conditions": [{"type": "Complete", "status": "True"}]});
        });
        game.run_for(300);
        assert_eq!((game.phase(), made_jobs(&game)), (RolloutPhase::Succeeded, 2), "{}", game.message());
    }
}

#[test]
fn r28_pods_that_start_anew_after_the_job_are_not_gated_again() {
    let mut game = game(json!([{"setWeight": 10}, {"job": {"name": "smoke", "spec": {}}}, {"pause": {}}]));
    game.run_for(30);
    let job = "teller-2-1-smoke-0-0";
    game.cluster.edit("Job", job, |job| {
        job["status"] = json!({"conditions": [{"type": "Complete", "status": "True"}]});
    });
    game.run_for(30);
    assert_eq!((game.phase(), game.status.current_step), (RolloutPhase::Paused, 2), "{}", game.message());
    // Kubernetes sweeps it away (ttlSecondsAfterFinished), and the pod that it was run for starts anew.
    game.cluster.objects.remove(&super::cluster::key("Job", job));
    game.chaos = true;
    game.cluster.break_pods("v2", 1);
    game.run_for(60);
    assert_eq!((game.phase(), game.cluster.ready_of("teller-canary")), (RolloutPhase::Paused, 1), "{}", game.message());
    game.command(RolloutVerb::Promote);
    game.run_for(300);
    assert_eq!((game.phase(), made_jobs(&game)), (RolloutPhase::Succeeded, 1), "{}", game.message());
}

#[test]
fn jobs_of_steps_have_names_of_their_own_however_long_a_release_is_named() {
    let long = "payments-release-2026-11-23-branches-east";
    let name = |rollout: &str| {
        let job =
            crate::rollout::derive::step_job("teller", rollout, UID, "12-smoke-test-of-everything-0-0", &json!({}));
        job["metadata"]["name"].as_str().unwrap().to_owned()
    };
    let names = [0, 1, 2].map(|position| name(&format!("{long}-{position}")));
    assert!(names[0] != names[1] && names[1] != names[2] && names[0] != names[2], "{names:?}");
    assert!(names.iter().all(|name| name.len() <= 63), "{names:?}");
}

#[test]
fn each_command_is_obeyed_once_however_many_there_are() {
    let mut game = game(json!([{"setWeight": 10}, {"pause": {}}, {"pause": {}}, {"setWeight": 50}]));
    game.run_for(20);
    for verb in [RolloutVerb::Resume, RolloutVerb::Promote].into_iter().chain([RolloutVerb::Resume; 100]) {
        game.command(verb);
        game.run_for(1);
    }
    assert_eq!(game.status.obeyed.len(), 64);
    assert_eq!((game.phase(), game.status.current_step), (RolloutPhase::Paused, 2), "promoted once");
}

#[test]
fn a_command_that_is_refused_releases_no_hold() {
    let mut game = game(json!([{"setWeight": 10}, {"gate": {"name": "Window"}}]));
    game.run_for(20);
    game.command(RolloutVerb::Pause);
    game.command(RolloutVerb::Promote);
    game.run_for(20);
    assert_eq!(game.status.hold.as_ref().map(|hold| hold.reason), Some(interlock_crds::HoldReason::Commanded));
}

#[test]
fn r16_times_of_a_release() {
    let mut game = game(json!([{"setWeight": 10}, {"pause": {"duration": "100s"}}, {"setWeight": 50}]));
    game.run_for(20);
    game.command(RolloutVerb::Pause);
    game.run_for(200);
    game.cluster.edit("Deployment", "teller", |d| d["spec"]["replicas"] = json!(4));
    game.run_for(20);
    let started = game.status.started_at.clone();
    game.command(RolloutVerb::Resume);
    game.run_for(100);
    assert_eq!(
        (game.phase(), game.status.held_seconds, game.status.started_at.clone()),
        (RolloutPhase::Succeeded, 220, started)
    );
    assert_eq!(game.status.finished_at.as_ref().map(|t| t.0), Some(at(240)));
    let ended = game.status.clone();
    game.cluster.edit("Deployment", "teller", |d| d["spec"]["replicas"] = json!(2));
    game.run_for(100);
    assert_eq!(game.status, ended, "scaling a released workload changes no timer");
}

/// What happens in the middle of a release.
type Happens = fn(&mut Game);

#[test]
fn r16_what_ends_a_release_keeps_its_times_and_what_begins_it_anew_resets_them() {
    let blue_green = json!({"blueGreen": {"service": "teller", "steps": [{"pause": {}}]}, "progressDeadline": "60s"});
    let steps = json!([{"setWeight": 10}, {"pause": {}}, {"setWeight": 50}]);
    for plan in [routed(steps), plan(blue_green)] {
        // What happens after 120 s, of which somebody held it 100; then when it began, when it ended and how long it was held.
        let cases: [(&str, Happens, _); 4] = [
            ("aborted", |game| game.command(RolloutVerb::Abort), (RolloutPhase::RolledBack, 0, Some(120), 100)),
            (
                "superseded",
                |game| game.superseded_by = Some("cr-3".into()),
                (RolloutPhase::RolledBack, 0, Some(120), 100),
            ),
            (
                "tried again",
                |game| {
                    game.command(RolloutVerb::Abort);
                    game.run_for(30);
                    game.command(RolloutVerb::Retry);
                },
                (RolloutPhase::Paused, 150, None, 0),
            ),
            (
                "scaled",
                |game| {
                    game.command(RolloutVerb::Resume);
                    game.cluster.edit("Deployment", "teller", |d| d["spec"]["replicas"] = json!(4));
                },
                (RolloutPhase::Paused, 0, None, 100),
            ),
        ];
        for (what, happens, expected) in cases {
            let others = [service(), route()];
            let mut game = Game::new(plan.clone(), deployment("v1", 2), deployment("v2", 2), &others);
            game.run_for(20);
            game.command(RolloutVerb::Pause);
            game.run_for(100);
            happens(&mut game);
            game.run_for(50);
            let (phase, started, finished, held) = expected;
            let times = (game.status.started_at.as_ref().map(|t| t.0), game.status.finished_at.as_ref().map(|t| t.0));
            assert_eq!(
                (game.phase(), times),
                (phase, (Some(at(started)), finished.map(at))),
                "{what}: {}",
                game.message()
            );
            assert_eq!(game.status.held_seconds, held, "{what}");
        }
    }
    let mut known = game(json!([{"setWeight": 10}, {"pause": {"duration": "1h"}}]));
    known.known_good = true;
    known.run_for(60);
    let status = &known.status;
    assert_eq!((status.phase, status.held_seconds), (RolloutPhase::Succeeded, 0), "a known version is brought back");
    assert_eq!(status.started_at, status.finished_at, "and the cluster of the test takes no time");
}

#[test]
fn r22_steps_that_were_taken_are_not_taken_again() {
    let mut game = game(json!([{"setWeight": 10}, {"pause": {}}, {"setWeight": 50}]));
    game.run_for(20);
    assert_eq!(game.status.current_step, 1);
    for verb in [RolloutVerb::Resume, RolloutVerb::Retry] {
        game.command(verb);
        game.run_for(20);
        assert_eq!((game.status.current_step, game.phase()), (1, RolloutPhase::Paused));
        assert_eq!(game.status.obeyed.len(), game.commands.len(), "what has no effect is not kept for later");
    }
}

#[test]
fn r27_a_stale_read_makes_a_conflict_and_no_second_write() {
    let mut game = game(json!([{"setWeight": 10}, {"pause": {}}]));
    let stale = game.cluster.live();
    game.run_for(20);
    let old = game.with_facts(&game.status, &stale, |facts| crate::rollout::decide(facts, game.now));
    let before = game.cluster.objects.clone();
    for write in &old.writes {
        assert!(game.cluster.apply(write).is_err(), "{write:?}");
    }
    assert_eq!(game.cluster.objects, before);
}

#[test]
fn r27_who_still_believes_active_what_has_ended_may_write_nothing() {
    let mut game = game(json!([{"setWeight": 10}, {"pause": {}}]));
    game.run_for(20);
    let cached = game.status.clone();
    game.command(RolloutVerb::Abort);
    game.run_for(100);
    assert_eq!((cached.phase, game.phase()), (RolloutPhase::Paused, RolloutPhase::RolledBack), "{}", game.message());
    // The command was not read either.
    game.commands.clear();
    let (live, old) = (game.cluster.live(), game.decide_on(&cached));
    assert!(!old.writes.is_empty(), "it would begin to make everything again");
    assert!(old.must_record(&cached), "it records first, over a Rollout that is not the stored one: a conflict");
    for write in &old.writes {
        let found = live.get(&write.id);
        let verdict = game.with_facts(&game.status, &live, |facts| permitted(facts, found, write.object.as_ref()));
        assert!(matches!(verdict, Err(Refusal::NotAnnounced { .. })), "{}: {verdict:?}", write.id);
    }
    let anew = game.decide();
    assert!(anew.writes.is_empty() && anew.status == game.status, "who reads it anew does nothing");
}

#[test]
fn r27_an_abort_before_it_began_ends_it_and_a_promotion_after_that_begins_nothing() {
    let steps = routed(json!([{"setWeight": 10}]));
    // It waits for its Service.
    let mut game = Game::new(steps, deployment("v1", 2), deployment("v2", 2), &[route()]);
    game.run_for(20);
    assert_eq!(game.phase(), RolloutPhase::Pending, "{}", game.message());
    game.command(RolloutVerb::Abort);
    game.command(RolloutVerb::Promote);
    game.run_for(20);
    assert_eq!((game.phase(), game.status.obeyed.len()), (RolloutPhase::RolledBack, 2), "{}", game.message());
    let (refused, ended) = ("Promote by li-na: because had no effect", "nothing was changed: Abort by li-na: because");
    assert!(game.message().contains(refused) && game.message().contains(ended), "{}", game.message());
    game.cluster.put(service());
    game.run_for(300);
    assert_eq!((game.phase(), game.log.len()), (RolloutPhase::RolledBack, 0), "{:?}", game.log);
}

#[test]
fn who_aborts_twice_is_told_that_it_goes_back_or_has_gone_back_already() {
    let mut game = game(json!([{"setWeight": 10}, {"pause": {}}]));
    game.run_for(20);
    game.command(RolloutVerb::Abort);
    game.command(RolloutVerb::Abort);
    let said = game.decide().reasons;
    let why = "Abort by li-na: because had no effect: it is going back already";
    assert!(said.iter().any(|reason| reason == why), "{said:?}");
    game.run_for(100);
    assert_eq!((game.phase(), game.status.obeyed.len()), (RolloutPhase::RolledBack, 2), "{}", game.message());
    let writes = game.log.len();
    game.command(RolloutVerb::Abort);
    let said = game.decide().reasons;
    let why = "Abort by li-na: because had no effect: it has gone back already";
    assert!(said.iter().any(|reason| reason == why), "{said:?}");
    game.run_for(100);
    assert_eq!((game.phase(), game.status.obeyed.len()), (RolloutPhase::RolledBack, 3), "{}", game.message());
    assert_eq!(game.log.len(), writes);
}

#[test]
fn a_configuration_is_released_gradually_and_returns() {
    let config = |data: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings", "namespace": "teller"}, "data": {"mode": data}});
    let mut object = deployment("v1", 2);
    object["spec"]["template"]["spec"]["volumes"] = json!([{"name": "s", "configMap": {"name": "settings"}}]);
    for abort in [true, false] {
        let target = ConfigTarget { before: Some(config("old")), wanted: config("new") };
        let mut game =
            Game::new(by_pods(json!([{"setWeight": 50}, {"pause": {}}])), object.clone(), object.clone(), &[])
                .with_configs(vec![target]);
        game.run_for(20);
        assert_eq!(game.phase(), RolloutPhase::Paused, "a change of configuration alone is gradual too");
        assert_eq!(game.cluster.get("ConfigMap", "settings").unwrap()["data"]["mode"], "old");
        let volume = &game.cluster.get("Deployment", "teller-canary").unwrap()["spec"]["template"]["spec"]["volumes"]
            [0]["configMap"]["name"];
        let copy = game.cluster.get("ConfigMap", volume.as_str().unwrap()).unwrap();
        assert_eq!((&copy["data"]["mode"], &copy["immutable"]), (&json!("new"), &json!(true)));
        let hash = game
            .cluster
            .pods
            .iter()
            .find(|p| p.name.starts_with("teller-") && !p.name.contains("canary"))
            .unwrap()
            .name
            .clone();
        game.command(if abort { RolloutVerb::Abort } else { RolloutVerb::Promote });
        game.run_for(100);
        let (phase, mode) = if abort { (RolloutPhase::RolledBack, "old") } else { (RolloutPhase::Succeeded, "new") };
        assert_eq!(
            (game.phase(), &game.cluster.get("ConfigMap", "settings").unwrap()["data"]["mode"]),
            (phase, &json!(mode))
        );
        assert_eq!(
            game.cluster.pods.iter().any(|p| p.name == hash),
            abort,
            "pods start anew with the new configuration"
        );
    }
}

#[test]
fn a_secret_is_released_beside_the_configuration_of_its_name_and_returns_with_it() {
    let of = |kind: &str, value: &str| json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": "settings", "namespace": "teller"}, "data": {"value": value}});
    let workload = |image: &str| {
        let mut object = deployment(image, 2);
        object["spec"]["template"]["spec"]["volumes"] = json!([
            {"name": "c", "configMap": {"name": "settings"}}, {"name": "s", "secret": {"secretName": "settings"}},
        ]);
        object
    };
    let value =
        |game: &Game, kind: &str| game.cluster.get(kind, "settings").map(|found| found["data"]["value"].clone());
    for existed in [true, false] {
        let target = |kind: &str, existed: bool| ConfigTarget {
            before: existed.then(|| of(kind, "old")),
            wanted: of(kind, "new"),
        };
        let steps = by_pods(json!([{"setWeight": 50}, {"pause": {}}]));
        let mut game = Game::new(steps, workload("v1"), workload("v2"), &[])
            .with_configs(vec![target("ConfigMap", true), target("Secret", existed)]);
        let (old, new) = (existed.then(|| json!("old")), Some(json!("new")));
        game.run_for(20);
        assert_eq!(game.phase(), RolloutPhase::Paused, "{}", game.message());
        assert_eq!((value(&game, "Secret"), value(&game, "ConfigMap")), (old.clone(), Some(json!("old"))));
        let volumes = &game.cluster.get("Deployment", "teller-canary").unwrap()["spec"]["template"]["spec"]["volumes"];
        for (kind, pointer) in [("ConfigMap", "/0/configMap/name"), ("Secret", "/1/secret/secretName")] {
            let copy = game.cluster.get(kind, volumes.pointer(pointer).unwrap().as_str().unwrap()).unwrap();
            assert_eq!((&copy["data"]["value"], &copy["immutable"]), (&json!("new"), &json!(true)), "{kind}");
        }
        game.command(RolloutVerb::Promote);
        game.run_for(100);
        assert_eq!(game.phase(), RolloutPhase::Succeeded, "{}", game.message());
        assert_eq!((value(&game, "Secret"), value(&game, "ConfigMap")), (new.clone(), new));
        game.return_asked = Some("wave mobile: 1 of 1 workloads went back".into());
        game.run_for(100);
        assert_eq!(game.phase(), RolloutPhase::RolledBack, "{}", game.message());
        assert_eq!((value(&game, "Secret"), value(&game, "ConfigMap")), (old, Some(json!("old"))));
    }
}

#[test]
fn a_workload_of_a_wave_returns_after_it_succeeded() {
    let mut game = game(json!([{"setWeight": 50}]));
    game.run_for(100);
    assert_eq!(game.phase(), RolloutPhase::Succeeded);
    game.return_asked = Some("wave mobile: 1 of 1 workloads went back".into());
    game.run_for(100);
    assert_eq!(
        (game.phase(), game.cluster.images("teller").into_keys().next().unwrap().as_str()),
        (RolloutPhase::RolledBack, "v1")
    );
    let writes = game.log.len();
    game.run_for(100);
    assert_eq!(game.log.len(), writes);
}

#[test]
fn r09_going_back_to_an_undersized_stable_waits_for_it() {
    let mut game = game(json!([{"setWeight": 25}, {"pause": {}}]));
    game.run_for(20);
    game.chaos = true;
    game.cluster.bad_images.push("v1".into());
    game.cluster.edit("Deployment", "teller", |d| d["spec"]["replicas"] = json!(8));
    game.superseded_by = Some("cr-3".into());
    game.run_for(30);
    assert_eq!(
        (game.phase(), game.effective_share()),
        (RolloutPhase::Aborting, 25),
        "2 of 8 carry no more than they do"
    );
    game.cluster.bad_images.pop();
    game.run_for(30);
    assert_eq!((game.phase(), game.weights.as_slice()), (RolloutPhase::RolledBack, [25, 13, 0].as_slice()));
}

#[test]
fn r21_without_its_workload_a_deleted_release_still_lets_go() {
    let mut game = game(json!([{"setWeight": 25}, {"pause": {}}]));
    game.run_for(20);
    game.chaos = true;
    let uid = game.cluster.get("Deployment", "teller").unwrap()["metadata"]["uid"].clone();
    game.cluster.objects.remove(&super::cluster::key("Deployment", "teller"));
    game.cluster.pods.retain(|pod| json!(pod.owner) != uid);
    game.run_for(600);
    assert!(game.message().contains("workload teller does not exist"), "{}", game.message());
    game.deleting = true;
    game.run_for(60);
    assert!(game.released, "{}", game.message());
    assert!(
        game.cluster.get("Deployment", "teller-canary").is_none()
            && game.cluster.get("Service", "teller-canary").is_none()
    );
    assert_eq!(game.cluster.get("HTTPRoute", "teller").unwrap()["spec"], route()["spec"]);
}

#[test]
fn r25_a_window_that_closes_holds_a_promotion_before_the_workload_is_written() {
    let mut game = game(json!([{"setWeight": 50}]));
    let window = |open: bool| WindowFact {
        gate: GateFact { open, message: String::new(), changes_at: None },
        overrun: Overrun::Pause,
    };
    game.window = Some(window(true));
    for _ in 0..500 {
        if game.status.promotion.is_some() {
            break;
        }
        if !game.pass() {
            let event = game.cluster.events().remove(0);
            game.happen(&event);
        }
    }
    game.window = Some(window(false));
    game.run_for(300);
    assert_eq!((game.phase(), game.effective_share()), (RolloutPhase::Paused, 50));
    assert_eq!(game.cluster.images("teller").into_keys().collect::<Vec<_>>(), ["v1"]);
    game.cluster.edit("Deployment", "teller", |d| d["spec"]["replicas"] = json!(6));
    game.run_for(300);
    assert!(game.cluster.ready_of("teller-canary") >= 3, "half of six");
    game.window = Some(window(true));
    game.run_for(300);
    assert_eq!(game.phase(), RolloutPhase::Succeeded);
}

#[test]
fn what_is_held_for_a_failure_moves_nothing_until_somebody_decides() {
    let mut game = game(json!([{"setWeight": 10}, {"pause": {"duration": "1s"}}, {"setWeight": 90}]));
    game.spec.plan.on_failure = OnFailure::Pause;
    game.cluster.bad_images.clear();
    game.run_for(0);
    game.cluster.bad_images.push("v2".into());
    game.run_for(300);
    assert_eq!((game.phase(), game.effective_share()), (RolloutPhase::Paused, 10));
    game.cluster.bad_images.clear();
    game.run_for(300);
    assert_eq!((game.phase(), game.effective_share()), (RolloutPhase::Paused, 10), "it recovered, and still waits");
    game.command(RolloutVerb::Retry);
    game.run_for(300);
    assert_eq!(game.phase(), RolloutPhase::Succeeded);
}

#[test]
fn a_weight_that_is_skipped_is_left_out_and_the_one_before_counts_again() {
    let mut game = game(json!([{"setWeight": 10}, {"pause": {}}, {"setWeight": 60}, {"pause": {}}]));
    game.run_for(20);
    game.cluster.bad_images.push("v2".into());
    game.command(RolloutVerb::Promote);
    game.run_for(30);
    assert_eq!((game.phase(), game.status.current_step), (RolloutPhase::Progressing, 2), "{}", game.message());
    game.command(RolloutVerb::Skip);
    game.run_for(30);
    assert_eq!((game.phase(), game.status.current_step), (RolloutPhase::Paused, 3), "{}", game.message());
    assert_eq!((game.effective_share(), game.status.weights.unwrap().desired.canary), (10, 10));
    // What asks for nothing leaves nothing out.
    game.cluster.bad_images.clear();
    game.command(RolloutVerb::Skip);
    game.run_for(100);
    assert_eq!(game.phase(), RolloutPhase::Succeeded, "{}", game.message());
    assert!(!game.weights.contains(&60), "{:?}", game.weights);
}

#[test]
fn r08_a_lower_weight_waits_for_ready_pods_of_the_old_version() {
    let steps = json!([{"setWeight": 80}, {"pause": {}}, {"setWeight": 20}, {"pause": {}}]);
    let mut game = Game::new(routed(steps), deployment("v1", 4), deployment("v2", 4), &[service(), route()]);
    game.run_for(10);
    game.chaos = true;
    game.cluster.bad_images.push("v1".into());
    game.cluster.break_pods("v1", 2);
    game.command(RolloutVerb::Promote);
    game.run_for(30);
    assert_eq!((game.phase(), game.effective_share()), (RolloutPhase::Progressing, 50), "two of four carry half");
    game.cluster.bad_images.pop();
    game.run_for(30);
    assert_eq!((game.status.current_step, game.weights.as_slice()), (3, [80, 50, 25, 20].as_slice()));
}

#[test]
fn r29_a_creation_that_may_still_arrive_is_waited_out() {
    let mut game = game(json!([{"setWeight": 25}, {"pause": {}}]));
    for _ in 0..200 {
        if game.decide().writes.iter().any(|write| write.id.name == "teller-canary") {
            break;
        }
        if !game.pass() {
            let event = game.cluster.events().remove(0);
            game.happen(&event);
        }
    }
    let sent = game.decide().writes;
    game.kill = super::game::Kill::After(0);
    game.pass();
    game.command(RolloutVerb::Abort);
    game.run_for(14);
    assert_eq!(game.phase(), RolloutPhase::Aborting, "{}", game.message());
    for write in &sent {
        let _ = game.cluster.apply(write);
    }
    game.run_for(30);
    assert_eq!(game.phase(), RolloutPhase::RolledBack);
    game.as_before(&json!("v1"));
}

#[test]
fn r30_traffic_returns_when_the_endpoints_are_listed_and_not_before() {
    let mut game = game(json!([{"setWeight": 50}]));
    for _ in 0..2000 {
        let returning = game.status.promotion.as_ref().is_some_and(|promotion| promotion.returning);
        if game.pass() {
            continue;
        }
        // The endpoint controller lags behind the user's Service once the workload takes back.
        let held =
            |event: &super::cluster::Event| returning && *event == super::cluster::Event::Endpoints("teller".into());
        let Some(event) = game.cluster.events().into_iter().find(|event| !held(event)) else { break };
        game.happen(&event);
    }
    assert_eq!((game.phase(), game.effective_share()), (RolloutPhase::Promoting, 100));
    assert!(game.message().contains("0 of 2 endpoints of the workload itself are ready"), "{}", game.message());
    game.run_for(60);
    assert_eq!(game.phase(), RolloutPhase::Succeeded);
}
