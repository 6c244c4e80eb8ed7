//! D1, D14, D16 and gate RestoreProof: what follows from drills.

use interlock_crds::{
    BackupPolicySpec, DrillRun, DrillSelection, EnforceMode, PointRef, PointVerdict, RestoreProofGate,
    SelectionStrategy,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::{drill_spec, on};
use crate::drill::{
    proof::{DrillProof, PolicyProof, Results, Shown, gate, proof, results, supersedes, surplus, verification},
    reason::Reason,
};

pub(super) fn run(name: &str, day: i8, verdict: &str, reason: &str, fault: Option<&Value>) -> DrillRun {
    let spec = json!(drill_spec(|_| ()));
    let run = json!({
        "apiVersion": "interlock.dev/v1alpha1", "kind": "DrillRun", "metadata": {"name": name, "uid": format!("{name}-uid")},
        "spec": {"drillRef": {"name": "teller-db"}, "requester": "alice", "faultInjection": fault},
        "status": {
            "phase": verdict, "verdict": verdict, "reason": reason, "finishedAt": on(day, "04:00:00"), "cleanup": {"state": "Done"},
            "pinned": {
                "drillUid": "d", "generation": 1, "specDigest": "x", "spec": spec, "policyUid": "p", "policyDigest": "x",
                "policySpec": {}, "repository": "vault", "repositoryUid": "r",
            },
        },
    });
    serde_json::from_value(run).unwrap()
}

pub(super) fn passed(name: &str, day: i8) -> DrillRun {
    run(name, day, "Passed", "Complete", None)
}

fn of(runs: &[DrillRun], required: bool) -> Results {
    results(runs, &Results::default(), required)
}

fn name(result: Option<&interlock_crds::DrillResult>) -> Option<&str> {
    result.map(|result| result.run.as_str())
}

#[test]
fn d1_a_corrupt_point_is_told_and_a_fault_or_a_wrong_query_condemns_none() {
    let said =
        |reason: &str, fault: Option<&Value>| verification(&run("r", 3, "Failed", reason, fault)).map(|v| v.verdict);
    assert_eq!(said("DataCorrupt", None), Some(PointVerdict::Corrupt));
    assert_eq!(said("StaleData", None), Some(PointVerdict::Corrupt));
    assert_eq!(said("RTOExceeded", None), Some(PointVerdict::Proven), "it came back, only late");
    assert_eq!(said("ValidationFailed", None), Some(PointVerdict::Unverified));
    assert_eq!(said("RepositoryBusy", None), None);
    assert_eq!(said("StaleData", Some(&json!({"fault": "TamperHeartbeat"}))), None);
    assert_eq!(verification(&passed("r", 3)).unwrap().verdict, PointVerdict::Proven);
    let (corrupt, unknown) = (run("a", 3, "Failed", "DataCorrupt", None), run("b", 4, "Failed", "TimedOut", None));
    let (corrupt, unknown) = (verification(&corrupt).unwrap(), verification(&unknown).unwrap());
    assert!(supersedes(None, &unknown) && supersedes(Some(&unknown), &verification(&passed("c", 5)).unwrap()));
    assert!(!supersedes(Some(&corrupt), &unknown), "not to know takes nothing back");
    assert!(!supersedes(Some(&corrupt), &corrupt));
}

#[test]
fn d7_an_inconclusive_run_is_neither_a_pass_nor_a_failure() {
    let found = of(&[passed("a", 3), run("b", 4, "Inconclusive", "HeartbeatDead", None)], false);
    assert_eq!(
        (name(found.last.as_ref()), name(found.passed.as_ref()), name(found.failed.as_ref())),
        (Some("b"), Some("a"), None)
    );
}

#[test]
fn a_run_with_another_selection_than_its_drills_is_neither_a_pass_nor_a_failure() {
    use SelectionStrategy::{Latest, Oldest};
    let selects = |mut run: DrillRun, strategy| {
        run.spec.selection = Some(DrillSelection { strategy, ..DrillSelection::default() });
        run
    };
    let corrupt = || run("c", 5, "Failed", "DataCorrupt", None);
    let found = of(&[passed("a", 3), selects(passed("b", 4), Oldest), selects(corrupt(), Oldest)], false);
    assert_eq!(
        (name(found.last.as_ref()), name(found.passed.as_ref()), name(found.failed.as_ref())),
        (Some("c"), Some("a"), None)
    );
    let found = of(&[passed("a", 3), selects(passed("b", 4), Latest), selects(corrupt(), Latest)], false);
    assert_eq!((name(found.passed.as_ref()), name(found.failed.as_ref())), (Some("b"), Some("c")), "it is the same");
}

#[test]
fn d16_a_pass_counts_only_after_a_proof_that_the_drill_can_fail() {
    let fault = json!({"fault": "TamperHeartbeat"});
    let tamper = || Some(&fault);
    let early = [passed("a", 3)];
    assert_eq!(name(of(&early, true).passed.as_ref()), None);
    assert_eq!(name(of(&early, false).passed.as_ref()), Some("a"));
    let proven = [passed("a", 3), run("b", 4, "Failed", "StaleData", tamper()), passed("c", 5)];
    let found = of(&proven, true);
    assert_eq!(
        (name(found.passed.as_ref()), name(found.failed.as_ref())),
        (Some("c"), None),
        "the fault is no failure"
    );
    assert_eq!(found.proven_failure.as_ref().unwrap().run, "b");
    for reason in ["FaultNotNoticed", "RepositoryBusy", "ValidationFailed"] {
        let wrong = [run("b", 4, "Failed", reason, tamper()), passed("c", 5)];
        assert_eq!(name(of(&wrong, true).passed.as_ref()), None, "{reason}");
    }
    let flip = json!({"fault": "FlipBytes", "path": "/base"});
    for (reason, noticed) in [
        ("ValidationFailed", true),
        ("StaleData", true),
        ("StartFailed", true),
        // A missing image, a pod that the cluster ended, a check that hangs: that is no word about the damage.
        ("ValidationError", false),
        ("TimedOut", false),
        ("NeverStarted", false),
        ("Evicted", false),
    ] {
        let found = of(&[run("b", 4, "Failed", reason, Some(&flip)), passed("c", 5)], true);
        assert_eq!(found.passed.is_some(), noticed, "{reason}");
    }
    let mut edited = passed("d", 6);
    edited.status.as_mut().unwrap().pinned.as_mut().unwrap().spec["validations"][0]["name"] = json!("other");
    let edited = [proven[1].clone(), edited];
    assert_eq!(name(of(&edited, true).passed.as_ref()), None, "the proof was one for other validations");
    let known = of(&proven, true);
    assert_eq!(results(&[], &known, true), known, "what is recorded stays when the runs are gone");
}

#[test]
fn history_keeps_the_newest_passed_and_failed_runs_and_what_is_not_cleaned_up() {
    let mut runs = vec![passed("a", 1), run("b", 2, "Failed", "TimedOut", None)];
    runs.extend((3..9).map(|day| run(&format!("n{day}"), day, "Inconclusive", "HeartbeatDead", None)));
    runs[3].status.as_mut().unwrap().cleanup.state = interlock_crds::CleanupState::Failed;
    assert_eq!(surplus(&runs, 2, &of(&runs, false)), ["n6", "n5", "n3"]);
}

fn policy_spec(objectives: &Value) -> BackupPolicySpec {
    let source = json!({"files": {"persistentVolumeClaim": "data"}});
    let spec = json!({
        "repositoryRef": {"name": "vault"}, "source": source, "retention": {"keepDaily": 7}, "objectives": objectives,
    });
    serde_json::from_value(spec).unwrap()
}

fn answer(drills: &[(&str, &[DrillRun])], mode: EnforceMode, now: Timestamp) -> (bool, bool, String) {
    let policies: Vec<_> = drills
        .iter()
        .map(|(policy, runs)| {
            let results = of(runs, false);
            PolicyProof { policy, exposed: None, drills: vec![DrillProof { drill: "monthly", results, overdue: None }] }
        })
        .collect();
    let rule = RestoreProofGate { mode, max_age: "10d".parse().unwrap() };
    let answer = gate(&proof(&policies), &rule, now).unwrap();
    (answer.open, answer.holds_back, answer.sentence)
}

#[test]
fn the_gate_is_open_when_every_policy_was_proved_lately() {
    let (db, files) = ([passed("a", 3), passed("b", 8)], [passed("c", 5)]);
    let both: [(&str, &[DrillRun]); 2] = [("teller/db", &db), ("teller/files", &files)];
    let enforced = |drills: &[(&str, &[DrillRun])], day| answer(drills, EnforceMode::Enforce, on(day, "04:00:00"));
    assert!(enforced(&both, 14).0);
    let (open, holds, why) = enforced(&both, 15);
    assert!(
        !open && holds && why.contains("drill monthly of teller/files passed 2026-11-05"),
        "the worst policy decides: {why}"
    );
    let (open, holds, _) = answer(&both, EnforceMode::Warn, on(15, "04:00:00"));
    assert!(!open && !holds, "a warning holds nothing back");
    assert!(!enforced(&[("teller/db", &db), ("teller/files", &[])], 9).0, "one policy without proof");
    assert!(!enforced(&[], 9).0, "no policy at all");
    let failed = [passed("a", 3), run("x", 9, "Failed", "DataCorrupt", None)];
    let (open, _, why) = enforced(&[("teller/db", &failed)], 9);
    assert!(!open && why.contains("DataCorrupt"), "{why}");
    let again = [passed("a", 3), run("x", 9, "Failed", "DataCorrupt", None), passed("y", 10)];
    assert!(enforced(&[("teller/db", &again)], 11).0, "it opens with the next pass");
    let off = RestoreProofGate { mode: EnforceMode::Off, max_age: "10d".parse().unwrap() };
    assert_eq!(gate(&Shown::None(String::new()).into(), &off, on(9, "04:00:00")), None);
    assert!(matches!(proof(&[]).shown, Shown::None(_)));
}

#[test]
fn exposure_beyond_the_objective_an_overdue_and_a_failed_drill_close_the_gate_and_recovery_opens_it() {
    let rule = RestoreProofGate { mode: EnforceMode::Enforce, max_age: "90d".parse().unwrap() };
    let policy = policy_spec(&json!({"rpo": "2d"}));
    let daily = drill_spec(|spec| spec["schedule"] = json!("0 3 * * *"));
    let point = |day: i8| PointRef {
        backup: format!("db-{day}"),
        snapshot_id: "5".into(),
        data_time: Time(on(day, "02:00:00")),
    };
    let ask = |runs: &[DrillRun], good: Option<i8>, now: Timestamp| {
        let drill = DrillProof::new("daily", &daily, on(1, "00:00:00"), of(runs, false));
        let good = good.map(point);
        let policy = PolicyProof::new("teller/db", &policy, on(1, "00:00:00"), good.as_ref(), vec![drill]);
        gate(&proof(&[policy]), &rule, now).unwrap()
    };
    let open = ask(&[passed("a", 5)], Some(5), on(5, "05:00:00"));
    assert_eq!((open.open, open.reason), (true, "DrillPassed"), "{}", open.sentence);
    assert_eq!(open.until, Some(on(7, "02:00:01")), "the data is too old before the next pass is overdue");

    let at_the_limit = ask(&[passed("a", 5)], Some(5), on(7, "02:00:00"));
    assert!(at_the_limit.open, "the objective is met at its end");
    let exposed = ask(&[passed("a", 5)], Some(5), on(7, "02:00:01"));
    assert_eq!((exposed.open, exposed.holds_back, exposed.reason, exposed.until), (false, true, "Exposed", None));
    for said in ["teller/db", "db-5", "2d", "2026-11-07T02:00:00Z", "interlock backup run"] {
        assert!(exposed.sentence.contains(said), "{said}: {}", exposed.sentence);
    }
    let good_again = ask(&[passed("a", 5)], Some(7), on(7, "02:10:00"));
    assert_eq!((good_again.open, good_again.until), (true, Some(on(7, "04:00:01"))), "then a pass is overdue");

    let overdue = ask(&[passed("a", 5)], Some(7), on(7, "04:00:01"));
    assert_eq!((overdue.open, overdue.reason), (false, "DrillOverdue"));
    assert!(overdue.sentence.contains("drill daily of teller/db is overdue"), "{}", overdue.sentence);
    assert!(ask(&[passed("a", 5), passed("b", 7)], Some(7), on(7, "05:00:00")).open, "a pass opens it");

    let failed = [passed("a", 5), run("x", 7, "Failed", "DataCorrupt", None)];
    let all = ask(&failed, None, on(8, "05:00:00"));
    assert_eq!((all.open, all.reason), (false, "DrillFailed"));
    for said in ["DataCorrupt", "is overdue", "there is no good recovery point"] {
        assert!(all.sentence.contains(said), "everything that closes it is told: {}", all.sentence);
    }
    let warned = RestoreProofGate { mode: EnforceMode::Warn, max_age: rule.max_age };
    let drill = DrillProof::new("daily", &daily, on(1, "00:00:00"), of(&[passed("a", 5)], false));
    let policy = PolicyProof::new("teller/db", &policy, on(1, "00:00:00"), None, vec![drill]);
    let warned = gate(&proof(&[policy]), &warned, on(6, "00:00:00")).unwrap();
    assert_eq!((warned.open, warned.holds_back, warned.reason), (false, false, "Exposed"));
}

#[test]
fn without_objective_and_schedule_nothing_lapses_but_the_proof_itself() {
    let rule = RestoreProofGate { mode: EnforceMode::Enforce, max_age: "90d".parse().unwrap() };
    let policy = policy_spec(&json!({}));
    let asked_for = drill_spec(|spec| spec["schedule"] = json!(null));
    let drill = DrillProof::new("monthly", &asked_for, on(1, "00:00:00"), of(&[passed("a", 3)], false));
    let policy = PolicyProof::new("teller/db", &policy, on(1, "00:00:00"), None, vec![drill]);
    let answer = gate(&proof(&[policy]), &rule, on(30, "00:00:00")).unwrap();
    assert_eq!((answer.open, answer.until), (true, on(3, "04:00:00").checked_add(rule.max_age.signed()).ok()));
}

#[test]
fn every_reason_has_its_name() {
    for reason in Reason::ALL {
        assert_eq!(Reason::of(&reason.name()), Some(reason));
    }
}
