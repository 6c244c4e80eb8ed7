//! D12, D14: when.

use interlock_crds::{DrillPhase, DrillResult, DrillTrigger, RestoreDrillSpec, RestoreDrillStatus};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{at, drill_spec};
use crate::drill::schedule::{DueDrill, ScheduleDecision, ScheduleFacts, decide, overdue};

struct Drill {
    spec: RestoreDrillSpec,
    status: RestoreDrillStatus,
    active: Option<&'static str>,
    existing: Option<(&'static str, &'static str)>,
}

impl Drill {
    fn new() -> Self {
        Self { spec: drill_spec(|_| ()), status: RestoreDrillStatus::default(), active: None, existing: None }
    }

    fn ask<T>(&self, now: &str, question: impl Fn(&ScheduleFacts<'_>) -> T) -> T {
        let existing = |name: &str| self.existing.filter(|(known, _)| *known == name).map(|(_, uid)| uid.to_owned());
        question(&ScheduleFacts {
            drill: "teller-db",
            uid: "drill-uid",
            created_at: at("2026-09-15T12:00:00Z"),
            spec: &self.spec,
            status: &self.status,
            active: self.active,
            existing: &existing,
            now: at(now),
        })
    }

    fn at(&mut self, now: &str) -> ScheduleDecision {
        let decision = self.ask(now, decide);
        let time = |at: Option<Timestamp>| at.map(Time);
        self.status.decided_until = time(decision.decided_until);
        self.status.last_slot = time(decision.last_slot);
        self.status.missed_slots.clone_from(&decision.missed);
        self.status.skipped_slots.clone_from(&decision.skipped);
        let again = self.ask(now, decide);
        assert!(again.begin.is_none() && again.passed.is_empty(), "each slot is accounted for once");
        decision
    }

    fn passed(&mut self, at: Timestamp) {
        self.status.last_passed = Some(DrillResult {
            run: "r".into(),
            uid: "u".into(),
            phase: DrillPhase::Passed,
            verdict: None,
            reason: None,
            finished_at: Time(at),
            backup: None,
            rto_seconds: None,
            rpo_seconds: None,
        });
    }
}

#[test]
fn d14_a_slot_is_run_once_late_within_its_window_and_missed_after_it() {
    let mut drill = Drill::new();
    let slot = at("2026-10-01T03:00:00Z");
    let due = |trigger| Some(DueDrill { name: "teller-db-2610010300".into(), slot, trigger });
    assert_eq!(drill.at("2026-10-01T02:59:59Z").begin, None);
    assert_eq!(Drill::new().at("2026-10-01T03:00:01Z").begin, due(DrillTrigger::Scheduled));
    assert_eq!(Drill::new().at("2026-10-01T15:00:00Z").begin, due(DrillTrigger::CatchUp));
    let decision = drill.at("2026-10-01T15:00:01Z");
    assert_eq!((decision.begin, decision.missed.unwrap().total), (None, 1));
    assert!(decision.passed[0].contains("within 12h"), "{:?}", decision.passed);
    let decision = drill.at("2027-02-01T04:00:00Z");
    assert_eq!(decision.begin.unwrap().name, "teller-db-2702010300", "of several the newest");
    let missed = decision.missed.unwrap();
    assert_eq!(
        (missed.total, missed.count, missed.first.0, missed.last.0),
        (4, 3, at("2026-11-01T03:00:00Z"), at("2027-01-01T03:00:00Z"))
    );
    assert_eq!(decision.next_slot, Some(at("2027-03-01T03:00:00Z")));
}

#[test]
fn d14_suspended_slots_are_missed_and_none_follows() {
    let mut drill = Drill::new();
    drill.spec.suspend = true;
    assert_eq!(drill.at("2026-11-01T04:00:00Z").missed.unwrap().total, 2);
    drill.spec.suspend = false;
    assert_eq!(drill.at("2026-11-01T05:00:00Z").begin, None);
}

#[test]
fn d12_a_slot_during_an_active_run_is_skipped() {
    let mut drill = Drill::new();
    drill.active = Some("teller-db-2610010300");
    let decision = drill.at("2026-10-01T03:00:00Z");
    assert_eq!((decision.begin, decision.skipped.unwrap().total, decision.missed), (None, 1, None));
    assert!(decision.passed[0].contains("teller-db-2610010300 is still active"));
    drill.active = None;
    assert_eq!(drill.at("2026-10-01T03:10:00Z").begin, None, "it is not made up for");
}

#[test]
fn a_run_of_the_slot_is_adopted_after_a_crash_and_a_foreign_one_is_left_alone() {
    let mut drill = Drill::new();
    drill.existing = Some(("teller-db-2610010300", "drill-uid"));
    let decision = drill.at("2026-10-01T03:00:05Z");
    assert_eq!((decision.begin, decision.adopted.as_deref()), (None, Some("teller-db-2610010300")));
    // Of another drill, or asked for by a person.
    for of in ["another", ""] {
        let mut drill = Drill::new();
        drill.existing = Some(("teller-db-2610010300", of));
        let decision = drill.at("2026-10-01T03:00:05Z");
        assert_eq!((decision.begin, decision.adopted, decision.skipped.unwrap().total), (None, None, 1));
        assert!(decision.passed[0].contains("teller-db-2610010300 exists and was not begun for this slot"));
    }
}

#[test]
fn d14_a_pass_is_overdue_after_twice_the_cadence() {
    let mut drill = Drill::new();
    let why = |drill: &Drill, now: &str| drill.ask(now, overdue).why;
    // Made on 15 September: the slots that follow are 31 days apart.
    assert_eq!(why(&drill, "2026-11-16T12:00:00Z"), None);
    assert!(why(&drill, "2026-11-16T12:00:01Z").unwrap().contains("no run has passed"));
    assert_eq!(drill.ask("2026-11-01T00:00:00Z", overdue).at, Some(at("2026-11-16T12:00:01Z")));
    drill.spec.suspend = true;
    assert!(why(&drill, "2026-11-16T12:00:01Z").unwrap().contains("the drill is suspended"), "it is owed all the same");
    drill.spec.suspend = false;
    drill.passed(at("2026-11-01T04:00:00Z"));
    assert_eq!(why(&drill, "2026-12-01T12:00:01Z"), None);
    assert!(why(&drill, "2027-01-02T04:00:01Z").unwrap().contains("62 days"));
    drill.spec.schedule = None;
    assert_eq!(why(&drill, "2028-01-01T00:00:00Z"), None, "without a schedule nothing is owed");
}

#[test]
fn a_schedule_that_cannot_be_used_begins_nothing_and_says_why() {
    let mut drill = Drill::new();
    drill.spec.time_zone = "Europe/Nowhere".into();
    assert!(drill.at("2026-10-01T03:00:00Z").problem.unwrap().contains("Europe/Nowhere"));
    drill.spec.time_zone = "Europe/Berlin".into();
    assert_eq!(drill.at("2026-10-01T01:00:00Z").begin.unwrap().slot, at("2026-10-01T01:00:00Z"));
}
