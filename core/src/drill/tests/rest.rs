//! D10 to D18: cleanup, windows, faults, and whatever else can happen to a run.

use interlock_crds::{CleanupState, DrillPhase, DrillVerdict, ProbeResult, SelectionStrategy, ValidationVerdict};
use proptest::prelude::*;
use serde_json::json;

use super::{
    drill_spec, on,
    run::run,
    world::{RUN, Script, World, heart, number, plus},
};
use crate::drill::{
    names::{self, PodRole},
    run::{DrillWrite, holds},
    verdict::evidence_digest,
};

#[test]
fn d10_a_cleanup_that_fails_is_told_and_tried_on_and_the_verdict_stays() {
    let mut world = World::new(Script { stuck: true, ..Script::good() });
    world.run(3_000, None);
    assert_eq!(world.ended_as(), (DrillPhase::Passed, "Complete"));
    assert_eq!(world.status.cleanup.state, CleanupState::Failed);
    assert_eq!(world.status.conditions[0].type_, "CleanupFailed");
    assert_eq!(world.status.conditions[0].status, "True");
    assert!(world.status.cleanup.leftovers.iter().any(|left| left.starts_with("Namespace/")));
    assert!(!world.released);
    world.script.stuck = false;
    world.lose(2);
    world.lose(4);
    while world.leftovers() > 1 {
        world.lose(5);
    }
    world.run(100, None);
    assert_eq!((world.status.cleanup.state, world.status.conditions[0].status.as_str()), (CleanupState::Done, "False"));
    assert_eq!((world.ended_as().0, world.released), (DrillPhase::Passed, true));
}

#[test]
fn d10_the_sandbox_stays_as_long_as_the_spec_says_unless_the_run_is_deleted() {
    let mut world = World::new(Script::good());
    world.drill = drill_spec(|spec| spec["cleanup"] = json!({"after": "1h"}));
    world.run(2_000, None);
    assert_eq!((world.ended_as().0, world.status.cleanup.state), (DrillPhase::Passed, CleanupState::Pending));
    assert!(world.leftovers() > 0 && !world.released);
    world.deleting = true;
    world.run(100, None);
    assert_eq!((world.leftovers(), world.released), (0, true));
    let mut deleted = World::new(Script::good());
    deleted.run(300, None);
    deleted.deleting = true;
    deleted.run(300, None);
    assert_eq!((deleted.ended_as(), deleted.leftovers()), ((DrillPhase::Failed, "Deleted"), 0));
}

#[test]
fn d10_a_volume_that_would_stay_is_overwritten_and_dropped() {
    let world = run(|world| world.script.reclaim_policy = "Retain");
    assert_eq!((world.ended_as().0, world.leftovers()), (DrillPhase::Passed, 0));
    let at = |wanted: &dyn Fn(&DrillWrite) -> bool| world.made.iter().position(wanted).unwrap();
    let wiped = at(&|write| *write == DrillWrite::CreatePod(PodRole::Wipe));
    assert!(wiped < at(&|write| matches!(write, DrillWrite::DeleteSandbox(_))));
    assert!(wiped < at(&|write| matches!(write, DrillWrite::DropVolume(_))));
    let gone = run(|_| ());
    assert!(!gone.made.contains(&DrillWrite::CreatePod(PodRole::Wipe)));
    let failed = run(|world| {
        world.script.reclaim_policy = "Retain";
        world.script.restore.1.exit_code = Some(1);
    });
    assert_eq!((failed.ended_as(), failed.leftovers()), ((DrillPhase::Failed, "RestoreFailed"), 0));
    let at = |wanted: &dyn Fn(&DrillWrite) -> bool| failed.made.iter().position(wanted).unwrap();
    let wiped = at(&|write| *write == DrillWrite::CreatePod(PodRole::Wipe));
    assert!(at(&|write| *write == DrillWrite::CreateSandboxClaim) < wiped, "it moves to the sandbox to be overwritten");
    assert!(wiped < at(&|write| matches!(write, DrillWrite::DropVolume(_))));
}

#[test]
fn d10_a_volume_that_stays_with_its_data_is_told_until_somebody_takes_care_of_it() {
    let left = |change: fn(&mut World)| {
        let mut world = World::new(Script { reclaim_policy: "Retain", ..Script::good() });
        world.run(300, None);
        change(&mut world);
        world.run(3_000, None);
        assert_eq!(world.status.cleanup.state, CleanupState::Failed);
        assert_eq!(world.status.cleanup.leftovers, ["PersistentVolume/pv-1"]);
        assert_eq!(world.leftovers(), 1);
        assert_eq!((world.status.conditions[0].status.as_str(), world.released), ("True", false));
        assert!(!world.made.iter().any(|write| matches!(write, DrillWrite::DropVolume(_))));
        let end = world.ended_as().1.to_owned();
        world.lose(4);
        world.run(100, None);
        assert_eq!((world.status.cleanup.state, world.released), (CleanupState::Done, true));
        end
    };
    assert_eq!(left(|world| world.script.wipes = false), "Complete");
    assert_eq!(left(|world| world.lose(2)), "SandboxLost");
}

#[test]
fn d10_a_volume_whose_claim_somebody_deletes_is_overwritten_and_dropped_as_any_other() {
    let without_claim = |change: fn(&mut World)| {
        let mut world = World::new(Script { reclaim_policy: "Retain", ..Script::good() });
        world.run(300, None);
        world.lose(1);
        change(&mut world);
        world
    };
    let mut world = without_claim(|_| ());
    world.run(3_000, None);
    assert_eq!((world.ended_as(), world.leftovers()), ((DrillPhase::Failed, "VolumeLost"), 0));
    let at = |wanted: &dyn Fn(&DrillWrite) -> bool| world.made.iter().position(wanted).unwrap();
    let wiped = at(&|write| *write == DrillWrite::CreatePod(PodRole::Wipe));
    assert!(wiped < at(&|write| matches!(write, DrillWrite::DropVolume(_))));
    let unknown = without_claim(|world| world.deleting = true).ask(&|what| what == "volume");
    assert!(unknown.status.cleanup.leftovers.contains(&format!("PersistentVolume of {}", names::claim(RUN))));
    assert!(!unknown.writes.iter().any(|write| matches!(write, DrillWrite::DeleteSandbox(_))), "it may be needed yet");
    let mut other = without_claim(|world| world.volume.as_mut().unwrap().claim_uid = Some("other".into()));
    other.run(3_000, None);
    assert!(other.released && other.volume.is_some_and(|volume| !volume.labelled), "another claim of that name had it");
}

#[test]
fn d12_a_sandbox_that_stays_does_not_keep_the_repository() {
    let mut world = World::new(Script::good());
    world.foreign_sandbox = true;
    world.drill = drill_spec(|spec| spec["cleanup"] = json!({"afterFailure": "1h"}));
    world.run(600, None);
    assert_eq!((world.ended_as().1, world.status.cleanup.state), ("NameTaken", CleanupState::Pending));
    // What was announced may arrive for a minute.
    assert_eq!(world.released_after.map(|(at, _)| at), Some(on(23, "12:04:00")));
}

#[test]
fn d11_the_window_of_validations_closes_and_a_late_answer_does_not_count() {
    use ValidationVerdict::{Passed, Skipped, TimedOut};
    let mut world = World::new(Script::good());
    world.drill = drill_spec(|spec| {
        spec["timeouts"] = json!({"validate": "15s"});
        spec["cleanup"] = json!({"after": "1h"});
    });
    world.run(1_000, None);
    assert_eq!(world.ended_as(), (DrillPhase::Failed, "TimedOut"));
    let verdicts: Vec<_> = world.status.validations.iter().map(|record| record.verdict).collect();
    assert_eq!(verdicts, [Passed, TimedOut, Skipped]);
    let known = world.status.validations.clone();
    world.run(60, None);
    assert_eq!(world.status.validations, known, "what came later is not looked at");
}

#[test]
fn d11_a_good_answer_that_came_after_the_window_while_nobody_looked_does_not_count() {
    use ValidationVerdict::{Passed, TimedOut};
    let mut world = World::new(Script::good());
    world.drill = drill_spec(|spec| spec["timeouts"] = json!({"validate": "25s"}));
    let second = |world: &World| world.status.validations.get(1).map(|record| record.verdict);
    while second(&world) != Some(Passed) {
        world.run(1, None);
    }
    // The third begins 20 s after the start and answers 5 s after the end of the window, before anybody looks again.
    world.now = plus(world.now, 15);
    world.run(1_000, None);
    let third = &world.status.validations[2];
    assert_eq!((world.ended_as(), third.verdict), ((DrillPhase::Failed, "TimedOut"), TimedOut));
    let said = third.message.as_deref().unwrap_or_default();
    assert!(said.contains("a late answer does not count"), "{said}");
    assert!(world.status.heartbeat.is_none(), "it is not looked at");
}

#[test]
fn d12_the_repository_is_let_go_when_the_restore_ended_and_not_before() {
    let world = run(|_| ());
    let at = |wanted: &dyn Fn(&DrillWrite) -> bool| world.made.iter().position(wanted).unwrap();
    let (released, writes) = world.released_after.unwrap();
    assert!(at(&|write| *write == DrillWrite::CreateRestoreJob) < writes, "{released}");
    assert!(writes <= at(&|write| *write == DrillWrite::CreatePod(PodRole::InsideProbe)));
    let busy = run(|world| world.script.queue = 100_000);
    assert_eq!(busy.ended_as(), (DrillPhase::Failed, "RepositoryBusy"));
    assert!(!busy.made.contains(&DrillWrite::CreateRestoreJob));
}

#[test]
fn d13_a_chosen_point_is_held_until_the_verdict_and_one_that_was_forgotten_is_replaced_before_the_restore() {
    let mut world = World::new(Script::good());
    world.run(10, None);
    let object = |world: &World| {
        let run = json!({"apiVersion": "interlock.dev/v1alpha1", "kind": "DrillRun", "metadata": {"name": RUN}, "spec": world.spec, "status": world.status});
        serde_json::from_value(run).unwrap()
    };
    assert_eq!(holds(&[object(&world)]).into_iter().collect::<Vec<_>>(), ["snapshot-1"]);
    let t0 = world.status.t0.clone();
    let mut newer = world.candidates.clone().unwrap();
    newer[0].uid = "other".into();
    newer[0].backup = "other".into();
    world.candidates = Some(newer);
    world.run(1_000, None);
    assert_eq!(world.status.chosen.as_ref().unwrap().backup, "other");
    assert_eq!((world.ended_as().0, &world.status.t0), (DrillPhase::Passed, &t0), "T0 did not move");
    assert!(holds(&[object(&world)]).is_empty());
}

#[test]
fn d14_a_run_that_could_not_be_admitted_in_time_is_missed() {
    let world = run(|world| world.now = on(24, "00:00:01"));
    assert_eq!(
        (world.ended_as(), world.status.verdict),
        ((DrillPhase::Missed, "StartWindowMissed"), Some(DrillVerdict::Missed))
    );
    assert!(world.made.is_empty() && world.status.t0.is_none());
}

#[test]
fn what_a_run_refers_to_may_come_after_it_and_recovery_time_counts_from_then() {
    let mut world = World::new(Script::good());
    world.refusal = Some("BackupPolicy files does not exist in this namespace".into());
    let decision = world.ask(&|_| false);
    assert_eq!((decision.status.phase, decision.wake_at), (DrillPhase::Pending, Some(on(23, "12:00:30"))));
    let message = decision.status.message.clone().unwrap_or_default();
    assert_eq!(message, "waits until 2026-11-23T12:00:30Z: BackupPolicy files does not exist in this namespace");
    assert!(decision.writes.is_empty() && decision.status.t0.is_none());
    world.status = decision.status;
    world.now = on(23, "12:00:29");
    assert_eq!(world.ask(&|_| false).status.phase, DrillPhase::Pending);
    world.now = on(23, "12:00:30");
    let ended = world.ask(&|_| false).status;
    assert_eq!((ended.phase, ended.reason.as_deref()), (DrillPhase::Failed, Some("DrillInvalid")));
    (world.now, world.refusal) = (on(23, "12:00:20"), None);
    world.run(1_000, None);
    assert_eq!(world.ended_as().0, DrillPhase::Passed);
    assert_eq!(world.status.t0.as_ref().unwrap().0, on(23, "12:00:20"));
}

#[test]
fn d15_a_draw_is_remembered_until_the_verdict_and_once() {
    let mut world = World::new(Script::good());
    world.drill = drill_spec(|spec| spec["selection"] = json!({"strategy": "RandomWithin", "days": 30}));
    world.run(30_000, None);
    assert_eq!(world.status.chosen.as_ref().unwrap().strategy, SelectionStrategy::RandomWithin);
    assert_eq!((world.shuffle.round, world.shuffle.drawn.len()), (1, 1));
    assert_eq!(world.shuffle.last_seed, world.status.seed);
}

#[test]
fn d16_a_fault_that_is_noticed_fails_the_run_and_so_does_one_that_is_not() {
    let fault = |fault: serde_json::Value, script: fn(&mut Script)| {
        let world = run(|world| {
            world.drill = drill_spec(|spec| spec["faultInjection"] = fault);
            script(&mut world.script);
        });
        assert_eq!((world.ended_as().0, world.leftovers()), (DrillPhase::Failed, 0));
        world
    };
    let tamper = || json!({"fault": "TamperHeartbeat"});
    let noticed = fault(tamper(), |script| script.validations[2].1 = Some(heart(3, on(23, "11:00:00"))));
    assert_eq!(noticed.ended_as().1, "StaleData");
    let at = |world: &World, role| world.made.iter().position(|write| *write == DrillWrite::CreatePod(role)).unwrap();
    assert!(at(&noticed, PodRole::Application) < at(&noticed, PodRole::Fault), "a table is changed when it is served");
    assert_eq!(fault(tamper(), |_| ()).ended_as().1, "FaultNotNoticed");
    let flipped =
        fault(json!({"fault": "FlipBytes", "path": "/base"}), |script| script.validations[0].1 = Some(number(0.0)));
    assert_eq!(flipped.ended_as().1, "ValidationFailed");
    assert!(
        at(&flipped, PodRole::Fault) < at(&flipped, PodRole::Application),
        "files are changed before they are served"
    );
    let delay = fault(json!({"fault": "Delay", "delay": "10m"}), |_| ());
    assert_eq!(delay.ended_as().1, "RTOExceeded");
    assert_eq!(delay.status.rto.unwrap().seconds, 510 + 600);
}

#[test]
fn d17_a_point_that_was_proved_is_skipped_only_if_the_spec_says_so() {
    let proven = |skip: bool, manual: bool| {
        run(|world| {
            world.drill = drill_spec(|spec| spec["skipIfProven"] = json!(skip));
            world.proven.insert("teller-db-20261123".into());
            if manual {
                world.spec =
                    serde_json::from_value(json!({"drillRef": {"name": "teller-db"}, "requester": "alice"})).unwrap();
            }
        })
    };
    assert_eq!(proven(false, false).ended_as().0, DrillPhase::Passed);
    let skipped = proven(true, false);
    assert_eq!((skipped.ended_as(), skipped.status.verdict), ((DrillPhase::Skipped, "AlreadyVerified"), None));
    assert!(skipped.made.is_empty());
    assert_eq!(proven(true, true).ended_as().0, DrillPhase::Passed, "a person asked");
    let other = run(|world| world.drill = drill_spec(|spec| spec["skipIfProven"] = json!(true)));
    assert_eq!(other.ended_as().0, DrillPhase::Passed, "nothing was proved yet");
}

#[test]
fn d18_a_run_carries_out_what_was_pinned_and_a_changed_record_is_not_believed() {
    let mut world = World::new(Script::good());
    world.run(100, None);
    world.drill = drill_spec(|spec| spec["validations"][0]["sql"]["expect"] = json!("result > 999999"));
    world.run(1_000, None);
    assert_eq!(world.ended_as().0, DrillPhase::Passed, "the edit came later");
    assert_eq!(world.status.evidence_digest, evidence_digest(&world.status));
    let mut forged = World::new(Script::good());
    forged.run(100, None);
    forged.status.pinned.as_mut().unwrap().spec["validations"][0]["sql"]["expect"] = json!("result > 0");
    forged.run(1_000, None);
    assert_eq!(forged.ended_as(), (DrillPhase::Failed, "RecordBroken"));
    assert_eq!(forged.leftovers(), 0);
    let mut edited = world.status.clone();
    edited.validations[0].number = Some(1.0);
    assert_ne!(evidence_digest(&edited), world.status.evidence_digest);
}

/// A run that restores, of whose record somebody changes the drill, and more.
fn broken(script: Script, change: impl FnOnce(&mut World)) -> World {
    let mut world = World::new(script);
    world.run(300, None);
    assert_eq!(world.status.phase, DrillPhase::Restoring);
    world.status.pinned.as_mut().unwrap().spec["validations"] = json!([]);
    change(&mut world);
    world.run(3_000, None);
    assert_eq!(world.ended_as(), (DrillPhase::Failed, "RecordBroken"));
    world
}

#[test]
fn d18_what_a_run_with_a_broken_record_made_goes_by_the_names_that_it_has() {
    let world = broken(Script::good(), |world| {
        world.status.sandbox = None;
        world.status.jobs.clear();
    });
    assert_eq!((world.leftovers(), world.released), (0, true));
    assert_eq!(world.status.cleanup.message.as_deref(), Some("nothing is left"));
}

#[test]
fn d18_a_volume_that_would_stay_is_not_overwritten_without_the_record_and_is_told() {
    let mut world = broken(Script { reclaim_policy: "Retain", ..Script::good() }, |_| ());
    assert_eq!((world.status.cleanup.state, world.released), (CleanupState::Failed, false));
    assert_eq!(world.status.cleanup.leftovers, ["PersistentVolume/pv-1"], "everything else is gone");
    assert_eq!(world.leftovers(), 1);
    let message = world.status.cleanup.message.clone().unwrap();
    assert!(message.ends_with("as the record of the run is broken: overwrite and free it by hand"), "{message}");
    let makes = |write: &DrillWrite| matches!(write, DrillWrite::CreatePod(_) | DrillWrite::CreateSandboxClaim);
    assert!(!world.made.iter().any(makes), "nothing is made for it");
    world.lose(4);
    world.run(100, None);
    assert_eq!((world.status.cleanup.state, world.released), (CleanupState::Done, true));
}

#[test]
fn d18_a_volume_that_a_broken_record_names_and_no_claim_of_the_run_has_is_left_alone() {
    let world = broken(Script { reclaim_policy: "Retain", ..Script::good() }, |world| {
        world.lose(1);
        world.volume.as_mut().unwrap().claim = Some(("prod".into(), "accounts".into()));
        let record = world.status.sandbox.as_mut().unwrap();
        (record.namespace, record.claim) = ("prod".into(), "accounts".into());
        (record.volume, record.reclaim_policy) = (Some("pv-1".into()), Some("Delete".into()));
    });
    assert!(world.volume.is_some_and(|volume| volume.reclaim_policy == "Retain"));
    assert!(!world.made.iter().any(|write| matches!(write, DrillWrite::ReturnVolume { .. })));
    assert!(world.released, "everything else is gone");
}

#[test]
fn what_somebody_else_deletes_fails_the_run_and_is_cleaned_up() {
    for what in 0..6 {
        for after in [200, 300, 430, 460, 490] {
            let mut world = World::new(Script::good());
            world.run(after, None);
            world.lose(what);
            world.run(20_000, None);
            assert!(world.status.phase.is_terminal() && world.released, "{what} {after}");
            assert_eq!(world.leftovers(), 0, "{what} {after} {:?}", world.status);
        }
    }
}

#[test]
fn d8_an_application_that_somebody_takes_away_is_no_word_about_the_data() {
    let mut world = World::new(Script::good());
    while !world.made.contains(&DrillWrite::CreatePod(PodRole::Application)) {
        world.run(1, None);
    }
    world.run(2, None);
    world.lose_pod(PodRole::Application);
    world.run(3_000, None);
    assert_eq!(world.ended_as(), (DrillPhase::Failed, "NeverStarted"), "{:?}", world.status.message);
}

#[test]
fn names_fit_and_runs_of_one_name_do_not_meet() {
    let longest = "r".repeat(52);
    assert!(names::sandbox(&longest, "uid").len() <= 63 && names::restore_job(&longest).len() <= 63);
    assert_ne!(names::sandbox(RUN, "one"), names::sandbox(RUN, "other"));
    assert_ne!(names::outside_probe("one"), names::outside_probe("other"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn no_sequence_of_facts_and_kills_passes_without_every_critical_validation(
        bad in (0_usize..6, 0_usize..4),
        steps in prop::collection::vec((0_i64..90, any::<u32>(), 0_usize..2_000, 0_u8..4), 40..160),
    ) {
        let mut script = Script::good();
        let (which, how) = bad;
        let critical = if which % 2 == 0 { 0 } else { 2 };
        let good = which == 4 || which == 5;
        if !good {
            match how {
                0 => script.validations[critical].1 = None,
                1 => script.validations[critical].1.as_mut().unwrap().exit_code = Some(2),
                2 => script.inside = ProbeResult::Connected,
                _ => script.restore.1.exit_code = Some(1),
            }
        }
        let mut world = World::new(script);
        let mut verdict = None;
        for (seconds, blind, lost, write) in steps {
            world.now = plus(world.now, seconds);
            if lost < 6 {
                world.lose(lost);
            }
            let is_blind = |what: &str| blind >> (what.len() % 32) & 1 == 1 && blind & 7 == 7;
            let decision = world.ask(&is_blind);
            let before = world.status.clone();
            world.status = decision.status;
            if write > 0 {
                // A volume that is gone cannot be written to.
                for made in &decision.writes {
                    let of_volume = matches!(made, DrillWrite::RetainVolume(_) | DrillWrite::RebindVolume(_) | DrillWrite::ReturnVolume { .. } | DrillWrite::CreateSandboxClaim);
                    if !(of_volume && lost < 6) {
                        world.write(made);
                    }
                }
            }
            prop_assert!(before.t0.is_none() || before.t0 == world.status.t0, "T0 moved");
            prop_assert!(verdict.is_none() || verdict == world.status.verdict, "the verdict changed");
            verdict = world.status.verdict;
            prop_assert_eq!(world.status.verdict.is_some(), world.status.phase.is_terminal());
            if verdict == Some(DrillVerdict::Passed) {
                prop_assert!(good);
                let validations = &world.status.validations;
                prop_assert!(validations.iter().filter(|v| v.critical).all(|v| v.verdict == ValidationVerdict::Passed));
                prop_assert!(validations.iter().any(|v| v.critical));
            }
        }
    }
}
