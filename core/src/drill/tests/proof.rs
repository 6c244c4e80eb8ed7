//! D1, D14, D16 and gate RestoreProof: what follows from drills.

use interlock_crds::{DrillRun, DrillSelection, EnforceMode, PointVerdict, RestoreProofGate, SelectionStrategy};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{drill_spec, on};
use crate::drill::{
    proof::{PolicyProof, Proof, Results, gate, proof, results, supersedes, surplus, verification},
    reason::Reason,
};

fn run(name: &str, day: i8, verdict: &str, reason: &str, fault: Option<&Value>) -> DrillRun {
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

fn passed(name: &str, day: i8) -> DrillRun {
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

fn answer(drills: &[(&str, &[DrillRun])], mode: EnforceMode, now: Timestamp) -> (bool, bool, String) {
    let policies: Vec<_> = drills
        .iter()
        .map(|(policy, runs)| PolicyProof { policy, drills: vec![("monthly", of(runs, false))] })
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
    assert_eq!(gate(&Proof::None(String::new()), &off, on(9, "04:00:00")), None);
    assert_eq!(proof(&[]).fact(), None);
}

#[test]
fn every_reason_has_its_name() {
    for reason in Reason::ALL {
        assert_eq!(Reason::of(&reason.name()), Some(reason));
    }
}
