//! Which slot of a drill is to be run now, and whether a pass is overdue.
//!
//! Every slot is accounted for once: begun, skipped (an earlier run was active) or missed (nobody could begin it within
//! `startWithin`, or the drill was suspended). Of several slots that lie behind the newest alone can be begun.

use interlock_crds::{DrillTrigger, RestoreDrillSpec, RestoreDrillStatus, SlotCount};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{minus, plus};
use crate::calendar::{Schedule, time_zone};

/// A run begun later than this after its slot is a catch-up.
const LATE: SignedDuration = SignedDuration::from_secs(60);
const TICK: SignedDuration = SignedDuration::from_nanos(1);

/// What is looked at.
#[derive(Clone, Copy)]
pub struct ScheduleFacts<'a> {
    /// Name of the drill.
    pub drill: &'a str,
    /// Its uid.
    pub uid: &'a str,
    /// When it was made: earlier slots are nobody's.
    pub created_at: Timestamp,
    /// What it wants.
    pub spec: &'a RestoreDrillSpec,
    /// How far it got.
    pub status: &'a RestoreDrillStatus,
    /// Name of the run that is active: one whose verdict has not fallen.
    pub active: Option<&'a str>,
    /// The uid of the drill whose slot a DrillRun of this name runs; none if there is no such run, empty if it is of no slot.
    pub existing: &'a dyn Fn(&str) -> Option<String>,
    /// Now.
    pub now: Timestamp,
}

/// What follows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ScheduleDecision {
    /// The run to make. Making it may be repeated: its name is that of the slot.
    pub begin: Option<DueDrill>,
    /// A run of the due slot is there already, from before a crash.
    pub adopted: Option<String>,
    /// Slots that are accounted for without a run, as sentences.
    pub passed: Vec<String>,
    /// To be recorded with, or before, the run.
    pub decided_until: Option<Timestamp>,
    /// The slot that was begun last.
    pub last_slot: Option<Timestamp>,
    /// Slots without a run.
    pub missed: Option<SlotCount>,
    /// Slots that were skipped.
    pub skipped: Option<SlotCount>,
    /// The next slot.
    pub next_slot: Option<Timestamp>,
    /// When time alone changes the answer.
    pub wake_at: Option<Timestamp>,
    /// Why the schedule cannot be used.
    pub problem: Option<String>,
}

/// A run that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueDrill {
    /// Name of the DrillRun.
    pub name: String,
    /// The slot.
    pub slot: Timestamp,
    /// Scheduled or CatchUp.
    pub trigger: DrillTrigger,
}

/// The name of the run for a slot: the same whoever computes it, whenever.
pub fn run_name(drill: &str, slot: Timestamp) -> String {
    format!("{drill}-{}", slot.strftime("%y%m%d%H%M"))
}

/// The schedule of a drill.
///
/// # Errors
/// It cannot be used; the sentence says why.
pub fn compile(spec: &RestoreDrillSpec) -> Result<Option<Schedule>, String> {
    let Some(text) = &spec.schedule else { return Ok(None) };
    let zone = time_zone(&spec.time_zone).map_err(|error| format!("timeZone: {error}"))?;
    Schedule::compile(text, &zone).map(Some).map_err(|error| format!("schedule: {error}"))
}

/// Decides which slot is to be run.
pub fn decide(facts: &ScheduleFacts<'_>) -> ScheduleDecision {
    let status = facts.status;
    let mut decision = ScheduleDecision {
        decided_until: status.decided_until.as_ref().map(|at| at.0),
        last_slot: status.last_slot.as_ref().map(|at| at.0),
        missed: status.missed_slots.clone(),
        skipped: status.skipped_slots.clone(),
        ..ScheduleDecision::default()
    };
    let schedule = match compile(facts.spec) {
        Ok(Some(schedule)) => schedule,
        Ok(None) => return decision,
        Err(why) => {
            decision.problem = Some(why);
            return decision;
        }
    };
    decision.next_slot = schedule.next_after(facts.now);
    decision.wake_at = decision.next_slot;
    let from = decision.decided_until.unwrap_or(facts.created_at);
    let Some(newest) = schedule.latest_at_or_before(facts.now).filter(|newest| *newest > from) else { return decision };
    let first = schedule.next_after(from).unwrap_or(newest);
    let count = schedule.count(plus(from, TICK), plus(newest, TICK));
    let slots = |count: u64, last: Timestamp| match count {
        1 => format!("slot {first}"),
        _ => format!("{count} slots ({first} to {last})"),
    };
    decision.decided_until = Some(newest);
    let late = facts.now.duration_since(newest);
    let within = facts.spec.start_within;
    if facts.spec.suspend {
        add(&mut decision.missed, count, first, newest);
        decision.passed.push(format!("{} missed: the drill is suspended", slots(count, newest)));
        return decision;
    }
    if late > within.signed() {
        add(&mut decision.missed, count, first, newest);
        decision.passed.push(format!("{} missed: nothing could begin it within {within}", slots(count, newest)));
        return decision;
    }
    if let Some(last) = schedule.latest_at_or_before(minus(newest, TICK)).filter(|_| count > 1) {
        add(&mut decision.missed, count - 1, first, last);
        decision.passed.push(format!("{} missed: a later slot is due, and one run follows", slots(count - 1, last)));
    }
    let name = run_name(facts.drill, newest);
    match ((facts.existing)(&name), facts.active) {
        (Some(uid), _) if uid == facts.uid => {
            decision.last_slot = Some(newest);
            decision.adopted = Some(name);
        }
        (Some(_), _) => {
            add(&mut decision.skipped, 1, newest, newest);
            decision.passed.push(format!(
                "slot {newest} skipped: DrillRun {name} exists and was not begun for this slot; delete it if nobody needs it"
            ));
        }
        (None, Some(active)) => {
            add(&mut decision.skipped, 1, newest, newest);
            decision
                .passed
                .push(format!("slot {newest} skipped: run {active} is still active; give the slots more distance"));
        }
        (None, None) => {
            decision.last_slot = Some(newest);
            let trigger = if late > LATE { DrillTrigger::CatchUp } else { DrillTrigger::Scheduled };
            decision.begin = Some(DueDrill { name, slot: newest, trigger });
        }
    }
    decision
}

fn add(counted: &mut Option<SlotCount>, count: u64, first: Timestamp, last: Timestamp) {
    let total = counted.as_ref().map_or(0, |c| c.total).saturating_add(count);
    *counted = Some(SlotCount { total, count, first: Time(first), last: Time(last) });
}

/// Whether a pass is overdue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overdue {
    /// The sentence, if it is.
    pub why: Option<String>,
    /// When it will be, if no run passes.
    pub at: Option<Timestamp>,
}

/// A pass is overdue when the newest one that counts (or the making of the drill, if there is none) is older than twice the
/// time between two slots. A drill without schedule is never overdue.
pub fn overdue(facts: &ScheduleFacts<'_>) -> Overdue {
    let passed = facts.status.last_passed.as_ref().map(|result| result.finished_at.0);
    match owed(facts.spec, facts.created_at, passed) {
        None => Overdue { why: None, at: None },
        Some((from, why)) if from <= facts.now => Overdue { why: Some(why), at: None },
        Some((from, _)) => Overdue { why: None, at: Some(from) },
    }
}

/// From when on a pass of a drill is overdue if no run passes, and the sentence that then holds; none if none is ever owed.
pub fn owed(spec: &RestoreDrillSpec, created_at: Timestamp, passed: Option<Timestamp>) -> Option<(Timestamp, String)> {
    let schedule = compile(spec).ok()??;
    let since = passed.unwrap_or(created_at);
    let cadence = cadence(&schedule, since)?;
    let limit = plus(since, cadence + cadence);
    let said = match passed {
        Some(at) => format!("the last run that passed ended {at}"),
        None => format!("no run has passed since the drill was made {since}"),
    };
    let days = (cadence + cadence).as_hours() / 24;
    let age = if days > 1 { format!("{days} days") } else { format!("{} h", (cadence + cadence).as_hours()) };
    // What is not tried is not known to work, whoever decided that.
    let then = if spec.suspend {
        "the drill is suspended (spec.suspend): let it run again, or run it once with `interlock drill run`"
    } else {
        "see why runs do not pass"
    };
    let why = format!("{said}, more than twice the time between two slots ({age}) ago; {then}");
    Some((plus(limit, SignedDuration::from_secs(1)), why))
}

/// The time between the two slots after `since`: months differ, so it is the cadence of that time.
fn cadence(schedule: &Schedule, since: Timestamp) -> Option<SignedDuration> {
    let first = schedule.next_after(since)?;
    Some(schedule.next_after(first)?.duration_since(first))
}
