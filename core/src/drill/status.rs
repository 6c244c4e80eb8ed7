//! What people see of a drill: phase, conditions and one sentence; and what an Event, later an Incident, tells once.

use interlock_crds::{
    CleanupState, DrillResult, DrillRun, DrillVerdict, RestoreDrillPhase, RestoreDrillSpec, RestoreDrillStatus,
    ShuffleState,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::{
    earlier,
    proof::{self, Results},
    schedule::{Overdue, ScheduleDecision},
};
use crate::backup::status::since;

/// What is looked at.
#[derive(Clone, Copy, Debug)]
pub struct DrillStatusFacts<'a> {
    /// Generation of the spec.
    pub generation: i64,
    /// The spec.
    pub spec: &'a RestoreDrillSpec,
    /// What was recorded so far.
    pub status: &'a RestoreDrillStatus,
    /// What cannot be used of spec and references, as sentences; empty if all can.
    pub problems: &'a [String],
    /// What was decided about its slots.
    pub slots: &'a ScheduleDecision,
    /// Whether a pass is overdue.
    pub overdue: &'a Overdue,
    /// Its runs.
    pub runs: &'a [DrillRun],
    /// Name of the run whose verdict has not fallen.
    pub active: Option<&'a str>,
    /// Now.
    pub now: Timestamp,
}

/// Something that is told once when it begins and once when it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alarm {
    /// CamelCase.
    pub reason: &'static str,
    /// Whether it is bad news.
    pub warning: bool,
    /// Which time it is: the same until it is recorded.
    pub of: String,
    /// The sentence.
    pub message: String,
}

/// The results that a status has recorded.
pub fn recorded(status: &RestoreDrillStatus) -> Results {
    Results {
        last: status.last_run.clone(),
        passed: status.last_passed.clone(),
        failed: status.last_failed.clone(),
        proven_failure: status.proven_failure.clone(),
    }
}

/// The status of a drill, and what is to be told.
pub fn drill(facts: &DrillStatusFacts<'_>) -> (RestoreDrillStatus, Vec<Alarm>) {
    let results = proof::results(facts.runs, &recorded(facts.status), facts.spec.require_proven_failure);
    let phase = phase(facts, &results);
    let leftovers = facts
        .runs
        .iter()
        .find(|run| run.status.as_ref().is_some_and(|status| status.cleanup.state == CleanupState::Failed));
    let valid = match facts.problems {
        [] => ("True", "Valid", "everything can be used".to_owned()),
        problems => ("False", "Invalid", bounded(&problems.join("; "))),
    };
    let proven = match (&results.passed, &results.failed) {
        (_, Some(failed)) if results.is_failing() => (
            "False",
            "DrillFailed",
            format!("run {} failed ({})", failed.run, failed.reason.as_deref().unwrap_or("Unknown")),
        ),
        (Some(passed), _) => ("True", "DrillPassed", format!("run {} passed {}", passed.run, passed.finished_at.0)),
        (None, _) if facts.spec.require_proven_failure && results.proven_failure.is_none() => (
            "False",
            "FailureNotProven",
            "no run with an injected fault has failed because of it yet, so no pass counts (requireProvenFailure)"
                .to_owned(),
        ),
        (None, _) => ("False", "NeverPassed", "no run has passed yet".to_owned()),
    };
    let late = match &facts.overdue.why {
        Some(why) => ("True", "Overdue", why.clone()),
        None => ("False", "OnTime", "no pass is owed".to_owned()),
    };
    let clean = match leftovers {
        Some(run) => {
            let name = run.metadata.name.as_deref().unwrap_or_default();
            let what = run.status.as_ref().and_then(|status| status.cleanup.message.clone()).unwrap_or_default();
            ("True", "Leftovers", bounded(&format!("run {name}: {what}")))
        }
        None => ("False", "Clean", "nothing is left of ended runs".to_owned()),
    };
    let conditions: Vec<_> = [("Valid", valid), ("Proven", proven), ("DrillOverdue", late), ("CleanupFailed", clean)]
        .into_iter()
        .map(|(type_, (status, reason, message))| condition(facts, type_, status, reason, message))
        .collect();
    let alarms = alarms(facts, &conditions);
    let status = RestoreDrillStatus {
        observed_generation: Some(facts.generation),
        phase,
        message: Some(sentence(facts, phase, &results)),
        active: facts.active.map(ToOwned::to_owned),
        decided_until: facts.slots.decided_until.map(Time),
        last_slot: facts.slots.last_slot.map(Time),
        next_slot: facts.slots.next_slot.filter(|_| !facts.spec.suspend).map(Time),
        missed_slots: facts.slots.missed.clone(),
        skipped_slots: facts.slots.skipped.clone(),
        last_run: results.last,
        last_passed: results.passed,
        last_failed: results.failed,
        proven_failure: results.proven_failure,
        shuffle: facts.status.shuffle.clone(),
        runs: u32::try_from(facts.runs.len()).unwrap_or(u32::MAX),
        next_transition: earlier(facts.slots.wake_at, facts.overdue.at).map(Time),
        conditions,
    };
    (status, alarms)
}

/// The status with the shuffle of a run that was admitted.
#[must_use]
pub fn with_shuffle(status: &RestoreDrillStatus, shuffle: ShuffleState) -> RestoreDrillStatus {
    RestoreDrillStatus { shuffle: Some(shuffle), ..status.clone() }
}

fn phase(facts: &DrillStatusFacts<'_>, results: &Results) -> RestoreDrillPhase {
    let inconclusive = |last: &DrillResult| last.verdict == Some(DrillVerdict::Inconclusive) && counts(facts, last);
    match () {
        () if !facts.problems.is_empty() => RestoreDrillPhase::Invalid,
        () if facts.active.is_some() => RestoreDrillPhase::Running,
        () if facts.spec.suspend => RestoreDrillPhase::Suspended,
        () if facts.overdue.why.is_some() => RestoreDrillPhase::Overdue,
        () if results.last.as_ref().is_some_and(inconclusive) => RestoreDrillPhase::Inconclusive,
        () if results.is_failing() => RestoreDrillPhase::Failing,
        () if results.passed.is_none() => RestoreDrillPhase::Unproven,
        () => RestoreDrillPhase::Proven,
    }
}

/// Whether the run of a result counts; one that is gone did.
fn counts(facts: &DrillStatusFacts<'_>, result: &DrillResult) -> bool {
    let run = facts.runs.iter().find(|run| run.metadata.name.as_ref() == Some(&result.run));
    run.is_none_or(proof::counts)
}

fn sentence(facts: &DrillStatusFacts<'_>, phase: RestoreDrillPhase, results: &Results) -> String {
    let next = match facts.slots.next_slot {
        Some(next) => format!("the next slot is {next}"),
        None => "it runs when a person asks: `interlock drill run`".to_owned(),
    };
    let last = results.last.as_ref().map(|last| {
        let reason = last.reason.as_deref().unwrap_or("Unknown");
        let verdict = last.verdict.map_or_else(|| format!("{:?}", last.phase), |verdict| format!("{verdict:?}"));
        let so_what = if counts(facts, last) { "" } else { ", which counts neither as pass nor as failure" };
        format!("run {} ended {verdict} ({reason}){so_what}", last.run)
    });
    bounded(&match phase {
        RestoreDrillPhase::Invalid => facts.problems.join("; "),
        RestoreDrillPhase::Running => format!("run {} is active", facts.active.unwrap_or_default()),
        RestoreDrillPhase::Suspended => "suspended: no run is begun; set suspend to false to go on".to_owned(),
        RestoreDrillPhase::Overdue => facts.overdue.why.clone().unwrap_or_default(),
        RestoreDrillPhase::Unproven
        | RestoreDrillPhase::Proven
        | RestoreDrillPhase::Failing
        | RestoreDrillPhase::Inconclusive => match last {
            Some(last) => format!("{last}; {next}"),
            None => format!("it has not run yet; {next}"),
        },
    })
}

fn alarms(facts: &DrillStatusFacts<'_>, conditions: &[Condition]) -> Vec<Alarm> {
    let is = |conditions: &[Condition], type_: &str| conditions.iter().any(|c| c.type_ == type_ && c.status == "True");
    let message =
        |type_: &str| conditions.iter().find(|c| c.type_ == type_).map(|c| c.message.clone()).unwrap_or_default();
    let was = &facts.status.conditions;
    [("DrillOverdue", "DrillOverdue", "DrillOnTime"), ("CleanupFailed", "CleanupFailed", "CleanupDone")]
        .into_iter()
        .filter_map(|(type_, begins, ends)| match (is(was, type_), is(conditions, type_)) {
            (false, true) => {
                Some(Alarm { reason: begins, warning: true, of: since(was, type_), message: message(type_) })
            }
            (true, false) => {
                Some(Alarm { reason: ends, warning: false, of: since(was, type_), message: message(type_) })
            }
            _ => None,
        })
        .collect()
}

fn bounded(text: &str) -> String {
    text.chars().take(2_048).collect()
}

fn condition(facts: &DrillStatusFacts<'_>, type_: &str, status: &str, reason: &str, message: String) -> Condition {
    let known = facts.status.conditions.iter().find(|c| c.type_ == type_ && c.status == status);
    Condition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message,
        observed_generation: Some(facts.generation),
        last_transition_time: known.map_or_else(|| Time(facts.now), |c| c.last_transition_time.clone()),
    }
}
