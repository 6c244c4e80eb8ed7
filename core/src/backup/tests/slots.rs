//! B1 to B6, B14: which slot is run.

use std::collections::BTreeMap;

use interlock_crds::{BackupMode, BackupSchedule, BackupTrigger, OverlapRule, ScheduleStatus};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::{at, duration};
use crate::{
    backup::slots::{DueRun, Existing, Passed, SlotDecision, SlotFacts, decide, jitter_offset, run_name},
    calendar::{Schedule, time_zone},
};

/// A policy that lives through decisions.
#[derive(Clone)]
struct Policy {
    schedules: Vec<BackupSchedule>,
    progress: Vec<ScheduleStatus>,
    created_at: Timestamp,
    overlap: OverlapRule,
    jitter: Option<interlock_crds::Duration>,
    suspended: bool,
    run_on_resume: bool,
    suspended_since: Option<Timestamp>,
    active: Option<String>,
    existing: BTreeMap<String, Option<String>>,
}

fn schedule(name: &str, cron: &str, zone: &str, deadline: Option<&str>) -> BackupSchedule {
    BackupSchedule {
        name: name.into(),
        mode: BackupMode::Incremental,
        schedule: cron.into(),
        time_zone: zone.into(),
        starting_deadline: deadline.map(duration),
    }
}

impl Policy {
    fn new(created_at: &str, schedules: Vec<BackupSchedule>) -> Self {
        Self {
            schedules,
            progress: vec![],
            created_at: at(created_at),
            overlap: OverlapRule::Forbid,
            jitter: None,
            suspended: false,
            run_on_resume: false,
            suspended_since: None,
            active: None,
            existing: BTreeMap::new(),
        }
    }

    fn ask(&self, now: Timestamp) -> SlotDecision {
        decide(&SlotFacts {
            policy: "teller-db",
            uid: "uid-1",
            created_at: self.created_at,
            schedules: &self.schedules,
            progress: &self.progress,
            overlap: self.overlap,
            jitter: self.jitter,
            suspended: self.suspended,
            run_on_resume: self.run_on_resume,
            suspended_since: self.suspended_since,
            active: self.active.as_deref(),
            existing: Existing(&|name| self.existing.get(name).cloned()),
            now,
        })
    }

    /// Decides and records.
    fn pass(&mut self, now: &str) -> SlotDecision {
        self.pass_at(at(now))
    }

    fn pass_at(&mut self, now: Timestamp) -> SlotDecision {
        let decision = self.ask(now);
        self.progress.clone_from(&decision.progress);
        self.suspended_since = decision.suspended_since;
        if let Some(run) = &decision.begin {
            self.existing.insert(run.name.clone(), Some("uid-1".into()));
        }
        decision
    }
}

fn begun(decision: &SlotDecision) -> &DueRun {
    decision.begin.as_ref().unwrap()
}

#[test]
fn b1_one_run_follows_many_missed_slots() {
    let mut policy = Policy::new("2026-11-23T09:01:00Z", vec![schedule("often", "*/5 * * * *", "UTC", None)]);
    let decision = policy.pass("2026-11-23T10:21:00Z");
    let run = begun(&decision);
    assert_eq!((run.slot, run.trigger, run.late_seconds), (at("2026-11-23T10:20:00Z"), BackupTrigger::Scheduled, None));
    let missed = decision.progress[0].missed_slots.as_ref().unwrap();
    assert_eq!((missed.total, missed.count), (15, 15));
    assert_eq!((missed.first.0, missed.last.0), (at("2026-11-23T09:05:00Z"), at("2026-11-23T10:15:00Z")));
    let told = decision.passed[0].sentence();
    assert!(told.contains("15 slots") && told.contains("09:05") && told.contains("10:15"), "{told}");
    assert_eq!(decision.next_slot, Some(at("2026-11-23T10:25:00Z")));
    let again = policy.pass("2026-11-23T10:21:01Z");
    assert_eq!((again.begin, again.passed), (None, vec![]));
}

#[test]
fn b2_a_slot_beyond_its_starting_deadline_is_missed() {
    let daily = |deadline| vec![schedule("daily", "0 2 * * *", "UTC", deadline)];
    let mut policy = Policy::new("2026-11-22T12:00:00Z", daily(Some("10m")));
    let decision = policy.pass("2026-11-23T02:25:00Z");
    assert_eq!(decision.begin, None);
    assert_eq!((decision.passed[0].count, &decision.passed[0].why), (1, &Passed::Missed));
    assert_eq!(decision.wake_at, Some(at("2026-11-24T02:00:00Z")));
    assert_eq!(begun(&policy.pass("2026-11-24T02:00:00Z")).slot, at("2026-11-24T02:00:00Z"));

    let mut policy = Policy::new("2026-11-22T12:00:00Z", daily(None));
    let decision = policy.pass("2026-11-23T02:25:00Z");
    assert_eq!((begun(&decision).trigger, begun(&decision).late_seconds), (BackupTrigger::CatchUp, Some(1500)));

    // At the deadline itself it is still begun.
    let mut policy = Policy::new("2026-11-22T12:00:00Z", daily(Some("10m")));
    assert!(policy.pass("2026-11-23T02:10:00Z").begin.is_some());
}

#[test]
fn b3_thousands_of_missed_slots_are_counted_without_visiting_them() {
    let mut policy = Policy::new("2026-11-22T00:00:00Z", vec![schedule("minutely", "* * * * *", "UTC", None)]);
    let decision = policy.pass("2026-11-23T09:20:30Z");
    assert_eq!(begun(&decision).slot, at("2026-11-23T09:20:00Z"));
    assert_eq!(decision.progress[0].missed_slots.as_ref().unwrap().total, 1999);
    // Ten years: five million slots, ten thousand times. Visiting each would take hours.
    let policy = Policy::new("2017-01-01T00:00:00Z", vec![schedule("minutely", "* * * * *", "Europe/Berlin", None)]);
    for _ in 0..10_000 {
        let decision = policy.ask(at("2027-01-01T00:00:00Z"));
        // Every autumn the clocks repeat an hour, and its sixty slots are run the first time only.
        assert_eq!(decision.progress[0].missed_slots.as_ref().unwrap().total, 5_258_880 - 10 * 60 - 1);
        if cfg!(debug_assertions) {
            break;
        }
    }
}

#[test]
fn b4_a_slot_that_the_clocks_skip_is_run_when_they_change() {
    let mut policy = Policy::new("2027-03-27T12:00:00Z", vec![schedule("daily", "30 2 * * *", "Europe/Berlin", None)]);
    assert_eq!(policy.pass("2027-03-28T00:59:59Z").begin, None);
    let decision = policy.pass("2027-03-28T01:00:00Z");
    assert_eq!((begun(&decision).slot, begun(&decision).shifted), (at("2027-03-28T01:00:00Z"), true));
    assert_eq!(policy.pass("2027-03-28T01:30:00Z").begin, None);
    let next = policy.pass("2027-03-29T00:30:00Z");
    assert!(!begun(&next).shifted);
}

#[test]
fn b5_a_slot_that_the_clocks_repeat_is_run_the_first_time_only() {
    let schedules = vec![schedule("daily", "30 2 * * *", "Europe/Berlin", None)];
    let mut policy = Policy::new("2026-10-24T12:00:00Z", schedules);
    assert_eq!(begun(&policy.pass("2026-10-25T00:30:00Z")).slot, at("2026-10-25T00:30:00Z"));
    let second = policy.pass("2026-10-25T01:30:00Z");
    assert_eq!((second.begin, second.next_slot), (None, Some(at("2026-10-26T01:30:00Z"))));
    let mut utc = Policy::new("2026-10-24T12:00:00Z", vec![schedule("daily", "30 1 * * *", "UTC", None)]);
    assert!(utc.pass("2026-10-25T01:30:00Z").begin.is_some());

    let mut nowhere =
        Policy::new("2026-10-24T12:00:00Z", vec![schedule("daily", "30 2 * * *", "Europe/Nowhere", None)]);
    let decision = nowhere.pass("2026-10-25T01:30:00Z");
    assert!(decision.begin.is_none() && decision.problems[0].1.contains("Europe/Nowhere"), "{:?}", decision.problems);
}

#[test]
fn b6_a_slot_during_a_run_is_skipped_waits_or_replaces() {
    let mut policy = Policy::new("2026-11-22T12:00:00Z", vec![schedule("daily", "0 2 * * *", "UTC", None)]);
    policy.active = Some("earlier".into());
    let mut forbid = policy.clone();
    let decision = forbid.pass("2026-11-23T02:00:00Z");
    assert_eq!((decision.begin, &decision.passed[0].why), (None, &Passed::Overlap("earlier".into())));
    assert_eq!(decision.progress[0].skipped_slots.as_ref().unwrap().total, 1);
    forbid.active = None;
    assert_eq!(forbid.pass("2026-11-23T03:00:00Z").begin, None, "a skipped slot is not made up for");

    policy.overlap = OverlapRule::Wait;
    let mut wait = policy.clone();
    assert_eq!(wait.pass("2026-11-23T02:00:00Z").begin, None);
    let two_days = wait.pass("2026-11-24T02:00:00Z");
    assert_eq!(two_days.passed.len(), 1, "of several that wait the newest alone");
    wait.active = None;
    assert_eq!(begun(&wait.pass("2026-11-24T05:00:00Z")).slot, at("2026-11-24T02:00:00Z"));

    policy.overlap = OverlapRule::Replace;
    let decision = policy.pass("2026-11-23T02:00:00Z");
    assert_eq!((decision.begin, decision.replace.as_deref()), (None, Some("earlier")));
    policy.active = None;
    assert!(policy.pass("2026-11-23T02:00:10Z").begin.is_some());
}

#[test]
fn b7_a_run_made_before_a_crash_is_adopted_and_a_foreign_one_is_not() {
    let mut policy = Policy::new("2026-11-22T12:00:00Z", vec![schedule("daily", "0 2 * * *", "UTC", None)]);
    let name = run_name("teller-db", "uid-1", at("2026-11-23T02:00:00Z"));
    assert_eq!(begun(&policy.ask(at("2026-11-23T02:00:00Z"))).name, name);
    assert!(name.starts_with("teller-db-20261123-0200-") && name.len() <= 63, "{name}");
    let mut crashed = policy.clone();
    crashed.existing.insert(name.clone(), Some("uid-1".into()));
    crashed.active = Some(name.clone());
    let decision = crashed.pass("2026-11-23T02:00:05Z");
    assert_eq!((decision.begin, decision.adopted.as_deref(), decision.passed), (None, Some(name.as_str()), vec![]));
    assert_eq!(decision.progress[0].last_slot.as_ref().unwrap().0, at("2026-11-23T02:00:00Z"));

    policy.existing.insert(name.clone(), Some("another".into()));
    let decision = policy.pass("2026-11-23T02:00:05Z");
    assert_eq!((decision.begin, &decision.passed[0].why), (None, &Passed::NameTaken(name)));
    assert!(policy.pass("2026-11-24T02:00:00Z").begin.is_some(), "the schedule goes on");
}

#[test]
fn b14_slots_while_suspended_are_not_made_up_for_unless_asked() {
    for (run_on_resume, seen_meanwhile) in [(false, true), (false, false), (true, true), (true, false)] {
        let mut policy = Policy::new("2026-11-20T12:00:00Z", vec![schedule("daily", "0 2 * * *", "UTC", Some("1h"))]);
        policy.run_on_resume = run_on_resume;
        policy.suspended = true;
        policy.pass("2026-11-20T13:00:00Z");
        assert_eq!(policy.suspended_since, Some(at("2026-11-20T13:00:00Z")));
        if seen_meanwhile {
            for day in 21..=23 {
                assert_eq!(policy.pass(&format!("2026-11-{day}T02:00:01Z")).begin, None);
            }
        }
        policy.suspended = false;
        let resumed = policy.pass("2026-11-23T12:00:00Z");
        assert_eq!(resumed.begin.is_some(), run_on_resume, "{run_on_resume} {seen_meanwhile}");
        if let Some(run) = &resumed.begin {
            assert_eq!((run.trigger, run.slot), (BackupTrigger::Resumed, at("2026-11-23T02:00:00Z")));
        }
        assert_eq!(policy.suspended_since, None);
        assert_eq!(policy.progress[0].missed_slots, None);
        let next = policy.pass("2026-11-24T02:00:00Z");
        assert_eq!(begun(&next).trigger, BackupTrigger::Scheduled);
    }
}

#[test]
fn of_schedules_that_are_due_together_the_full_one_runs() {
    let mut full = schedule("monthly", "0 2 1 * *", "UTC", None);
    full.mode = BackupMode::Full;
    let mut policy = Policy::new("2026-11-30T12:00:00Z", vec![schedule("daily", "0 2 * * *", "UTC", None), full]);
    let decision = policy.pass("2026-12-01T02:00:00Z");
    assert_eq!((begun(&decision).schedule.as_str(), begun(&decision).mode), ("monthly", BackupMode::Full));
    assert_eq!(decision.passed[0].why, Passed::Covered("monthly".into()));
    assert_eq!(policy.pass("2026-12-01T02:00:01Z").begin, None);
}

#[test]
fn jitter_is_bounded_the_same_each_time_and_spreads() {
    assert_eq!(jitter_offset("a", None), SignedDuration::ZERO);
    let offsets: Vec<_> =
        (0..1000).map(|n| jitter_offset(&format!("uid-{n}"), Some(duration("10m"))).as_secs()).collect();
    assert!(offsets.iter().all(|offset| (0..=600).contains(offset)));
    for minute in 0..10 {
        let within = offsets.iter().filter(|offset| **offset / 60 == minute).count();
        assert!((60..=140).contains(&within), "minute {minute}: {within}");
    }
    let mut policy = Policy::new("2026-11-22T12:00:00Z", vec![schedule("daily", "0 2 * * *", "UTC", Some("1m"))]);
    policy.jitter = Some(duration("10m"));
    let offset = jitter_offset("uid-1", policy.jitter);
    let begins = at("2026-11-23T02:00:00Z").checked_add(offset).unwrap();
    assert!(offset.as_secs() > 0);
    assert_eq!(policy.pass("2026-11-23T02:00:00Z").wake_at, Some(begins));
    let decision = policy.pass_at(begins);
    assert_eq!((begun(&decision).slot, begun(&decision).late_seconds), (at("2026-11-23T02:00:00Z"), None));
}

const CRONS: [&str; 6] = ["*/5 * * * *", "30 2 * * *", "0 */3 * * *", "15,45 1-3 * * *", "0 2 * * 0", "* * * * *"];
const ZONES: [&str; 4] = ["UTC", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Shanghai"];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Against a reference that walks from slot to slot: each slot is accounted for once, the newest alone is begun.
    #[test]
    fn every_slot_is_accounted_for_once(
        cron in prop::sample::select(&CRONS[..]),
        zone in prop::sample::select(&ZONES[..]),
        deadline in prop::option::of(1_i64..40_000),
        start in 0_usize..3,
        pauses in prop::collection::vec((1_i64..90_000, any::<bool>(), any::<bool>()), 1..12),
    ) {
        let start = at(["2027-03-27T12:00:00Z", "2026-10-24T12:00:00Z", "2026-10-03T02:00:00Z"][start]);
        let mut policy = Policy::new("2020-01-01T00:00:00Z", vec![schedule("s", cron, zone, None)]);
        policy.created_at = start;
        policy.schedules[0].starting_deadline = deadline.map(interlock_crds::Duration::from_seconds);
        let compiled = Schedule::compile(cron, &time_zone(zone).unwrap()).unwrap();
        let (mut now, mut decided) = (start, start);
        let (mut runs, mut missed, mut skipped) = (0, 0, 0);
        for (pause, busy, twice) in pauses {
            now = now.checked_add(SignedDuration::from_secs(pause)).unwrap();
            policy.active = busy.then(|| "earlier".to_owned());
            // The reference.
            let mut slots = vec![];
            let mut slot = decided;
            while let Some(next) = compiled.next_after(slot).filter(|next| *next <= now) {
                slots.push(next);
                slot = next;
            }
            let newest = slots.last().copied();
            let in_time = newest.is_some_and(|n| deadline.is_none_or(|d| now.duration_since(n).as_secs() <= d));
            decided = newest.unwrap_or(decided);
            let expected = newest.filter(|_| in_time && !busy);
            missed += slots.len() as u64 - u64::from(in_time);
            skipped += u64::from(in_time && busy);
            runs += u64::from(expected.is_some());
            let decision = policy.pass_at(now);
            prop_assert_eq!(decision.begin.as_ref().map(|run| run.slot), expected);
            if twice {
                let again = policy.pass_at(now);
                prop_assert_eq!((again.begin, again.passed.len()), (None, 0));
            }
            prop_assert_eq!(decision.next_slot, compiled.next_after(now));
        }
        let progress = &policy.progress[0];
        prop_assert_eq!(progress.missed_slots.as_ref().map_or(0, |c| c.total), missed);
        prop_assert_eq!(progress.skipped_slots.as_ref().map_or(0, |c| c.total), skipped);
        prop_assert_eq!(policy.existing.len() as u64, runs);
    }
}
