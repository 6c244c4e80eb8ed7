//! D1 to D9: a run from its object to its verdict and its cleanup.

use interlock_crds::{CleanupState, DrillPhase, DrillVerdict, PointVerdict, ProbeResult, ValidationVerdict};

use serde_json::json;

use super::{
    drill_spec, on,
    world::{Script, UID, World, heart, matches, number, plus},
};
use crate::{
    backup::{outcome::PodEnd, result::RunnerStage},
    drill::{clock::segment_seconds, names::PodRole, outcome, reason::Reason, report::DrillReport, run::DrillWrite},
};

pub(super) fn run(change: impl FnOnce(&mut World)) -> World {
    let mut world = World::new(Script::good());
    change(&mut world);
    world.run(30_000, None);
    world
}

#[test]
fn d6_a_run_that_passes_measures_from_admission_and_leaves_nothing() {
    let world = run(|_| ());
    assert_eq!(world.ended_as(), (DrillPhase::Passed, "Complete"), "{:?}", world.status.message);
    let status = &world.status;
    let lengths: Vec<_> = status.segments.iter().filter_map(segment_seconds).collect();
    assert_eq!(status.t0.as_ref().unwrap().0, on(23, "12:00:00"));
    assert_eq!((lengths[0], lengths[2], lengths[3], lengths[4]), (180, 240, 60, 30), "{lengths:?}");
    assert_eq!(lengths.iter().sum::<i64>(), status.rto.unwrap().seconds);
    assert_eq!((status.rto.unwrap().seconds, status.rto.unwrap().met), (510, Some(true)));
    assert_eq!((status.rpo.unwrap().seconds, status.rpo.unwrap().met), (10, Some(true)));
    assert_eq!(status.cleanup.state, CleanupState::Done);
    assert_eq!((world.leftovers(), world.released), (0, true));
    assert_eq!(status.validations[0].number, Some(1_500.0));
}

#[test]
fn d6_a_kill_after_any_record_or_write_ends_the_same() {
    let undisturbed = run(|_| ());
    let effects = 60;
    for kill in 1..effects {
        let mut world = World::new(Script::good());
        world.run(30_000, Some(kill));
        assert_eq!(world.status, undisturbed.status, "killed after {kill}");
        assert_eq!(world.leftovers(), 0, "killed after {kill}");
        let created: Vec<_> = world.made.iter().filter(|write| matches!(write, DrillWrite::CreatePod(_))).collect();
        assert_eq!(created.len(), 6, "killed after {kill}");
    }
}

#[test]
fn d5_an_objective_that_is_missed_fails_although_everything_came_back() {
    let late = |world: &mut World| {
        world.now = plus(on(23, "12:00:00"), 2_850 - 10);
        world.spec.slot = None;
    };
    let passed = run(late);
    assert_eq!((passed.ended_as().0, passed.status.rpo.unwrap().seconds), (DrillPhase::Passed, 2_850));
    let failed = run(|world| {
        late(world);
        world.drill.objectives.as_mut().unwrap().rpo = Some("30m".parse().unwrap());
    });
    assert_eq!(failed.ended_as(), (DrillPhase::Failed, "RPOExceeded"));
    let slow = run(|world| world.drill.objectives.as_mut().unwrap().rto = Some("509s".parse().unwrap()));
    assert_eq!(slow.ended_as(), (DrillPhase::Failed, "RTOExceeded"));
    assert!(slow.status.message.as_ref().unwrap().contains("after 510 s; the objective is 509 s"));
}

#[test]
fn d5_a_run_with_another_selection_is_not_judged_by_the_objective_and_one_with_the_same_is() {
    let asked = |of_drill: serde_json::Value| {
        run(|world| {
            let spec =
                json!({"drillRef": {"name": "teller-db"}, "requester": "alice", "selection": {"strategy": "Latest"}});
            world.spec = serde_json::from_value(spec).unwrap();
            world.drill = drill_spec(|spec| {
                spec["selection"] = of_drill;
                spec["objectives"] = json!({"rpo": "5s"});
            });
        })
    };
    let same = asked(json!({"strategy": "Latest"}));
    assert_eq!(same.ended_as(), (DrillPhase::Failed, "RPOExceeded"));
    let other = asked(json!({"strategy": "RandomWithin", "days": 30}));
    assert_eq!((other.ended_as().0, other.status.rpo.unwrap().met), (DrillPhase::Passed, None));
}

#[test]
fn d4_d5_what_was_left_out_on_purpose_is_neither_stale_nor_lost() {
    let recovered = |mode: &str, seq: i64, time: &str| {
        run(|world| {
            world.policy.source.postgres.as_mut().unwrap().mode = serde_json::from_value(json!(mode)).unwrap();
            world.drill = drill_spec(|spec| {
                spec["sandbox"] = json!({"application": {"postgres": {"recoverBeforeEnd": "1h"}}});
                spec["objectives"] = json!({"rpo": "1m"});
            });
            world.candidates.as_mut().unwrap()[0].heartbeat = Some(super::beat(900, on(23, "11:59:50")));
            world.script.validations[2].1 = Some(heart(seq, on(23, time)));
        })
    };
    let healthy = recovered("Physical", 540, "10:59:50");
    assert_eq!((healthy.ended_as().1, healthy.status.rpo.unwrap().seconds), ("Complete", 10));
    assert_eq!(recovered("Physical", 480, "10:49:50").ended_as().1, "StaleData", "that is more than was left out");
    assert_eq!(recovered("Logical", 540, "10:59:50").ended_as().1, "StaleData", "dumps have one moment");
}

#[test]
fn d1_d2_d3_a_restore_that_is_not_whole_fails_with_its_reason() {
    let with = |change: fn(&mut DrillReport)| {
        let world = run(|world| change(&mut world.script.restore.1));
        let (phase, reason) = world.ended_as();
        assert_eq!((phase, world.leftovers()), (DrillPhase::Failed, 0));
        assert!(!world.made.iter().any(|write| matches!(write, DrillWrite::CreatePod(_))), "nothing was started on it");
        reason.to_owned()
    };
    let damaged = |report: &mut DrillReport| {
        report.exit_code = Some(1);
        report.errors = vec!["ciphertext verification failed".into()];
    };
    assert_eq!(with(damaged), "DataCorrupt");
    assert_eq!(with(|report| report.restored.as_mut().unwrap().verified = false), "DataCorrupt");
    assert_eq!(with(|report| report.restored.as_mut().unwrap().files = 0), "EmptyRestore");
    assert_eq!(with(|report| report.restored.as_mut().unwrap().files = 6), "RestoreIncomplete");
    assert_eq!(with(|report| report.exit_code = Some(1)), "RestoreFailed");
    assert_eq!(with(|report| report.error_count = 1), "RestoreFailed");
    assert_eq!(with(|report| report.restored = None), "RestoreFailed");
    assert_eq!(with(|report| report.restored.as_mut().unwrap().snapshot_id = "other".into()), "RestoreFailed");
    assert_eq!(with(|report| report.repository_id = Some("other".into())), "RepositoryReplaced");
    assert_eq!(with(|report| report.exit_code = Some(12)), "WrongPassword");
    assert_eq!(with(|report| report.run = "other".into()), "NoResult");
}

#[test]
fn d2_without_a_recovery_point_the_run_fails_and_makes_nothing() {
    let world = run(|world| world.candidates = Some(Vec::new()));
    assert_eq!(world.ended_as(), (DrillPhase::Failed, "NoRecoveryPoint"));
    assert!(world.made.is_empty() && world.released);
}

#[test]
fn d4_d7_lost_data_fails_and_a_dead_writer_cannot_tell() {
    let stale = run(|world| world.script.validations[2].1 = Some(heart(41, on(23, "11:59:40"))));
    assert_eq!(stale.ended_as(), (DrillPhase::Failed, "StaleData"));
    let dead = run(|world| {
        let old = super::beat(42, on(23, "11:50:00"));
        world.candidates.as_mut().unwrap()[0].heartbeat = Some(old);
        world.script.validations[2].1 = Some(heart(42, on(23, "11:50:00")));
    });
    assert_eq!(dead.ended_as(), (DrillPhase::Inconclusive, "HeartbeatDead"));
    assert_eq!(dead.status.verdict, Some(DrillVerdict::Inconclusive));
    let gone = run(|world| world.script.validations[2].1.as_mut().unwrap().heartbeat = None);
    assert_eq!(gone.ended_as(), (DrillPhase::Failed, "StaleData"));
}

#[test]
fn d4_a_source_whose_heartbeat_was_set_ahead_fails_and_condemns_no_point() {
    // Found in the source as it is now, or changed between the reading and the copying.
    for recorded in ["23:00:00", "11:59:50"] {
        let forged = run(|world| {
            world.candidates.as_mut().unwrap()[0].heartbeat = Some(super::beat(42, on(23, recorded)));
            world.script.validations[2].1 = Some(heart(43, on(23, "23:00:01")));
        });
        assert_eq!(forged.ended_as(), (DrillPhase::Failed, "HeartbeatAhead"), "{:?}", forged.status.message);
        assert_eq!(forged.status.rpo.unwrap().met, Some(false), "a negative loss is no merit");
        assert_eq!(Reason::HeartbeatAhead.of_point(), Some(PointVerdict::Unverified));
    }
}

#[test]
fn d8_a_critical_check_that_fails_hangs_or_never_runs_fails_the_run() {
    use ValidationVerdict::{Error, Failed, TimedOut};
    let with = |change: fn(&mut Script)| {
        let world = run(|world| change(&mut world.script));
        assert_eq!(world.leftovers(), 0);
        (world.ended_as().1.to_owned(), world.status.validations[0].verdict, world.status.rto.is_some())
    };
    assert_eq!(with(|s| s.validations[0].1 = Some(number(1_000.0))), ("ValidationFailed".into(), Failed, false));
    assert_eq!(
        with(|s| s.validations[0].1.as_mut().unwrap().exit_code = Some(1)),
        ("ValidationFailed".into(), Failed, false)
    );
    assert_eq!(with(|s| s.validations[0].1.as_mut().unwrap().timed_out = true), ("TimedOut".into(), TimedOut, false));
    assert_eq!(
        with(|s| s.validations[0].1.as_mut().unwrap().exit_code = None),
        ("ValidationError".into(), Error, false)
    );
    assert_eq!(with(|s| s.validations[0].1.as_mut().unwrap().number = None).1, Failed);
    assert_eq!(with(|s| s.validations[0].1.as_mut().unwrap().run = "other".into()).1, Error);
    assert_eq!(with(|s| s.validations[0].1 = None), ("TimedOut".into(), TimedOut, false));
    let minor = run(|world| world.script.validations[1].1 = Some(matches(false)));
    assert_eq!(
        (minor.ended_as().0, minor.status.validations[1].verdict),
        (DrillPhase::Passed, Failed),
        "it was not critical"
    );
}

#[test]
fn d8_a_check_whose_image_is_missing_says_so_instead_of_being_slow() {
    let spec = drill_spec(|_| ());
    let over = |waiting: Option<&str>| {
        let end = PodEnd { waiting: waiting.map(ToOwned::to_owned), ..PodEnd::default() };
        outcome::validation(&spec.validations[0], &end, true, UID)
    };
    assert_eq!(over(None).verdict, ValidationVerdict::TimedOut);
    let never = over(Some("container tool: ErrImagePull"));
    assert_eq!(never.verdict, ValidationVerdict::Error);
    assert!(never.message.contains("could not be started: container tool: ErrImagePull"), "{}", never.message);
    let stuck = PodEnd { waiting: Some("container tool: ErrImagePull".into()), begun: true, ..PodEnd::default() };
    let stuck = outcome::validation(&spec.validations[0], &stuck, false, UID);
    assert!(stuck.message.contains("its next container cannot run: container tool"), "{}", stuck.message);
}

#[test]
fn d8_a_query_that_fails_or_does_not_hold_says_why_and_what_came_back() {
    let mut asked = drill_spec(|_| ()).validations[0].clone();
    asked.sql.as_mut().unwrap().expect = "result >= 5".into();
    let said = |change: fn(&mut DrillReport)| {
        let mut report = DrillReport::new(UID);
        (report.exit_code, report.stage) = (Some(0), RunnerStage::Done);
        change(&mut report);
        let end = PodEnd { message: report.encode().ok(), ..PodEnd::default() };
        outcome::validation(&asked, &end, false, UID).message
    };
    assert_eq!(said(|r| r.number = Some(5.0)), "result >= 5 holds");
    assert_eq!(said(|r| r.number = Some(3.5)), "result >= 5 does not hold: the query returned 3.5");
    assert_eq!(said(|r| r.number = Some(-1e300)), "result >= 5 does not hold: the query returned -1e300");
    let unfit = said(|r| r.boolean = Some(true));
    assert!(unfit.starts_with("result >= 5 cannot be told of true, which the query returned: "), "{unfit}");
    assert_eq!(said(|r| r.exit_code = Some(1)), "it ended with 1; the log of its pod says why");
    let wrong = |report: &mut DrillReport| {
        (report.exit_code, report.stage) = (Some(1), RunnerStage::Work);
        report.errors.push("relation \"filler\" does not exist (error 42P01 of PostgreSQL)".into());
    };
    assert_eq!(said(wrong), "it ended with 1: relation \"filler\" does not exist (error 42P01 of PostgreSQL)");
    let missing = |report: &mut DrillReport| {
        report.exit_code = None;
        report.errors.push("this image has no psql".into());
    };
    assert_eq!(said(missing), "it could not be started: this image has no psql");
}

#[test]
fn d9_without_isolation_the_application_is_never_started() {
    use ProbeResult::{Blocked, Connected, NotTried};
    let with = |outside, inside| {
        let world = run(|world| (world.script.outside, world.script.inside) = (outside, inside));
        assert!(!world.made.contains(&DrillWrite::CreatePod(PodRole::Application)), "{outside:?} {inside:?}");
        assert_eq!((world.ended_as().0, world.leftovers()), (DrillPhase::Failed, 0));
        world.ended_as().1.to_owned()
    };
    assert_eq!(with(Connected, Connected), "IsolationNotEnforced");
    assert_eq!(with(Blocked, Blocked), "IsolationUnknown", "what cannot be reached at all proves nothing");
    assert_eq!(with(NotTried, Blocked), "IsolationUnknown");
    assert_eq!(with(Connected, NotTried), "IsolationUnknown");
    let none = run(|world| world.target = None);
    assert_eq!(none.ended_as(), (DrillPhase::Failed, "IsolationUnknown"));
    let mut moved = World::new(Script::good());
    while moved.status.isolation.is_none() {
        moved.run(1, None);
    }
    moved.target = Some("10.0.0.10:8443".into());
    moved.run(3_000, None);
    assert_eq!(moved.ended_as(), (DrillPhase::Failed, "IsolationUnknown"), "the target went away meanwhile");
}

#[test]
fn d9_a_namespace_that_exists_is_not_used() {
    let world = run(|world| world.foreign_sandbox = true);
    assert_eq!(world.ended_as(), (DrillPhase::Failed, "NameTaken"));
    assert!(
        !world.made.iter().any(|write| matches!(write, DrillWrite::DeleteSandbox(_) | DrillWrite::CreateRestoreJob))
    );
}

#[test]
fn d9_with_any_other_network_policy_nothing_is_restored_and_nothing_is_started() {
    let before = run(|world| world.guarded = false);
    assert_eq!(before.ended_as(), (DrillPhase::Failed, "RestoreTimedOut"));
    assert!(before.status.message.as_ref().unwrap().contains("NetworkPolicies"), "{:?}", before.status.message);
    assert!(!before.made.contains(&DrillWrite::CreateRestoreJob), "nothing was restored");
    let mut meanwhile = World::new(Script::good());
    while meanwhile.status.phase != DrillPhase::Probing {
        meanwhile.run(1, None);
    }
    meanwhile.guarded = false;
    meanwhile.run(3_000, None);
    assert_eq!(meanwhile.ended_as(), (DrillPhase::Failed, "IsolationUnknown"));
    assert!(meanwhile.made.contains(&DrillWrite::CreatePod(PodRole::InsideProbe)), "it was probed, and blocked");
    assert!(!meanwhile.made.contains(&DrillWrite::CreatePod(PodRole::Application)), "nothing was started");
    assert_eq!((before.leftovers(), meanwhile.leftovers()), (0, 0));
}
