//! What people see of a drill.

use interlock_crds::{DrillRun, DrillSelection, RestoreDrillPhase, RestoreDrillStatus, SelectionStrategy};
use serde_json::json;

use super::{
    drill_spec, on,
    proof::{passed, run},
};
use crate::drill::{
    schedule::{Overdue, ScheduleDecision},
    status::{DrillStatusFacts, drill, recorded},
};

fn status(runs: &[DrillRun]) -> RestoreDrillStatus {
    let facts = DrillStatusFacts {
        generation: 1,
        spec: &drill_spec(|_| ()),
        status: &RestoreDrillStatus::default(),
        problems: &[],
        slots: &ScheduleDecision::default(),
        overdue: &Overdue { why: None, at: None },
        runs,
        active: None,
        now: on(20, "00:00:00"),
    };
    drill(&facts).0
}

#[test]
fn d16_a_run_that_counts_neither_way_changes_neither_phase_nor_what_metrics_tell() {
    let fault = json!({"fault": "Delay", "delay": "1h"});
    let noticed = run("b", 4, "Failed", "RTOExceeded", Some(&fault));
    let mut other = run("c", 5, "Inconclusive", "HeartbeatDead", None);
    other.spec.selection = Some(DrillSelection { strategy: SelectionStrategy::Oldest, ..DrillSelection::default() });
    for last in [noticed.clone(), other] {
        let told = status(&[passed("a", 3), last.clone()]);
        assert_eq!(told.phase, RestoreDrillPhase::Proven, "{:?}", told.message);
        assert_eq!(
            told.last_run.as_ref().map(|last| &last.run),
            last.metadata.name.as_ref(),
            "it is shown all the same"
        );
        assert!(told.message.as_ref().is_some_and(|said| said.contains("which counts neither")), "{:?}", told.message);
        let results = recorded(&told);
        assert_eq!((results.is_failing(), results.newest().map(|newest| newest.run.as_str())), (false, Some("a")));
    }
    assert_eq!(status(&[noticed]).phase, RestoreDrillPhase::Unproven);
}

#[test]
fn a_drill_fails_until_a_run_passes_whatever_was_missed_meanwhile() {
    let failed = || run("b", 4, "Failed", "DataCorrupt", None);
    let told = status(&[passed("a", 3), failed(), run("c", 5, "Missed", "StartWindowMissed", None)]);
    assert_eq!(told.phase, RestoreDrillPhase::Failing);
    assert!(recorded(&told).is_failing());
    let unknown = status(&[passed("a", 3), run("c", 5, "Inconclusive", "HeartbeatDead", None)]);
    assert_eq!(unknown.phase, RestoreDrillPhase::Inconclusive);
    assert_eq!(status(&[failed(), passed("d", 6)]).phase, RestoreDrillPhase::Proven);
}
