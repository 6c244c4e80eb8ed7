//! Measuring during a release: which runs of analyses there are, which measurements are due, and what they say.
//!
//! The runs stand in the status, so that a controller that is started anew goes on where the last one was. A measurement is
//! asked for until its answer is recorded; [`analysis::run`](crate::analysis::run) counts each number once.

use std::borrow::Cow;

use interlock_crds::{
    Analysis, AnalysisRecord, AnalysisState, AnalysisVerdict, Form, MeasurementOutcome, OperationKind, RolloutPhase,
    RolloutPlanSpec, RolloutStatus, Severity,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::Value;

use super::{
    ROLLOUT_LABEL,
    decide::{AnalysisRun, RolloutDecision},
    derive,
    facts::{AnalysisFact, RolloutFacts, Verdict},
    live, pass,
    pass::PlannedWrite,
};
use crate::{
    analysis::{self, Answer, Judge, Judged, Next, Observation, Slot, Subject, job, run},
    object::ObjectId,
    port::Precondition,
};

/// The answer to one measurement.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// Name of the run.
    pub run: String,
    /// Which of its measurements.
    pub slot: Slot,
    /// What came of it.
    pub answer: Answer,
}

/// A measurement that is due.
#[derive(Clone, Debug, PartialEq)]
pub struct Due {
    /// Name of the run.
    pub run: String,
    /// What is measured.
    pub analysis: Analysis,
    /// Which of its measurements.
    pub slot: Slot,
    /// Of what.
    pub subject: Subject,
}

/// Most decisions in one: a verdict may end one step and begin the next.
const ROUNDS: usize = 8;
/// So many runs that have ended are kept.
const KEPT: usize = 24;
/// With so many runs no dry run of an earlier step goes on; the schema lets 64 be recorded.
const MOST: usize = 40;

/// Decides like [`super::decide()`], with what was `measured`; beside the decision, the measurements to take now. Jobs
/// that measure are among the planned writes.
pub fn decide(facts: &RolloutFacts<'_>, measured: &[Measured], now: Timestamp) -> (RolloutDecision, Vec<Due>) {
    let mut status = Cow::Borrowed(facts.status);
    let mut news = Cow::Borrowed(measured);
    let mut reasons: Vec<String> = Vec::new();
    let mut completed: Vec<u32> = Vec::new();
    let mut rounds = 0;
    loop {
        for one in news.iter() {
            take(&facts.spec.plan, status.to_mut(), one, now);
        }
        let said = verdicts(&status);
        let mut decision = super::decide(&RolloutFacts { status: &status, analyses: &said, ..facts.clone() }, now);
        decision.reasons.retain(|reason| !reasons.contains(reason));
        decision.reasons.splice(0..0, reasons);
        decision.completed.splice(0..0, completed);
        let began = follow(&facts.spec.plan, &mut decision, now);
        let mut due = due(facts, &mut decision, now);
        let (writes, ended) = jobs(facts, &mut due, &mut decision, now);
        rounds += 1;
        if rounds < ROUNDS && (began || !ended.is_empty()) {
            (reasons, completed) = (decision.reasons, decision.completed);
            // Nothing of it was sent.
            decision.status.journal.clone_from(&facts.status.journal);
            status = Cow::Owned(decision.status);
            news = Cow::Owned(ended);
            continue;
        }
        if !writes.is_empty() {
            decision.writes.extend(writes);
            pass::journal(&mut decision.status, &mut decision.writes, now);
        }
        decision.status.next_transition = decision.wake_at.map(Time);
        return (decision, due);
    }
}

/// An analysis that a plan names somewhere and does not list.
pub fn unknown(plan: &RolloutPlanSpec) -> Option<&str> {
    let waves = plan.waves.iter().flatten();
    let canaries = plan.canary.iter().chain(waves.clone().filter_map(|wave| wave.canary.as_ref()));
    let switches = plan.blue_green.iter().chain(waves.clone().filter_map(|wave| wave.blue_green.as_ref()));
    let batches = plan.batches.iter().chain(waves.filter_map(|wave| wave.batches.as_ref()));
    let beside = canaries.clone().flat_map(|canary| &canary.background).flat_map(|background| &background.analyses);
    let after = switches.clone().flat_map(|blue_green| &blue_green.after_switch);
    let steps = canaries.flat_map(|canary| &canary.steps);
    let steps = steps.chain(switches.flat_map(|blue_green| &blue_green.steps));
    let steps = steps.chain(batches.flat_map(|batches| &batches.steps));
    let mut named = steps.filter_map(|step| step.analysis.as_ref()).flatten().chain(beside).chain(after);
    named.find(|name| !plan.analyses.iter().any(|analysis| analysis.name == **name)).map(String::as_str)
}

/// What is wrong with what a plan measures, as far as the schema cannot tell.
pub fn wrong(plan: &RolloutPlanSpec) -> Option<String> {
    if let Some(name) = unknown(plan) {
        let known: Vec<_> = plan.analyses.iter().map(|analysis| analysis.name.as_str()).collect();
        let listed =
            if known.is_empty() { "it lists none".to_owned() } else { format!("it lists {}", known.join(", ")) };
        return Some(format!(
            "a step names the analysis {name}, and {listed}: add it to analyses, or correct the name"
        ));
    }
    plan.analyses.iter().find_map(|analysis| {
        let errors = analysis::validate(analysis).into_iter().find(|finding| finding.severity == Severity::Error)?;
        Some(format!("analysis {}, {}: {}", analysis.name, errors.field, errors.message))
    })
}

/// Records an answer.
fn take(plan: &RolloutPlanSpec, status: &mut RolloutStatus, one: &Measured, now: Timestamp) {
    let Some(record) = status.analyses.iter_mut().find(|record| record.run == one.run) else { return };
    let Some(analysis) = plan.analyses.iter().find(|analysis| analysis.name == record.state.name) else { return };
    let observation = match &one.answer {
        Answer::Impossible(why) => return run::postpone(analysis, &mut record.state, one.slot.number, why, now),
        Answer::Seen(observation) => observation,
    };
    let judged = Judge::new(analysis).map_or_else(
        |findings| {
            let wrong: Vec<_> = findings.iter().map(|finding| finding.message.as_str()).collect();
            Judged::new(MeasurementOutcome::Error, wrong.join("; "))
        },
        |judge| judge.judge(&one.slot, observation),
    );
    run::record(analysis, &mut record.state, one.slot.number, &judged, now);
}

/// What the runs say for the release. Dry runs are only shown.
fn verdicts(status: &RolloutStatus) -> Vec<AnalysisFact> {
    let verdict = |state: &AnalysisState| match state.verdict {
        _ if state.dry_run => Verdict::Passed,
        AnalysisVerdict::Running => Verdict::Running,
        AnalysisVerdict::Passed => Verdict::Passed,
        AnalysisVerdict::Failed => Verdict::Failed,
        AnalysisVerdict::Inconclusive => Verdict::Inconclusive,
    };
    let message = |state: &AnalysisState| match (&state.next_due, state.message.as_str()) {
        (Some(due), "") => format!("its first measurement is due at {}", due.0),
        (_, message) => message.to_owned(),
    };
    let runs = status.analyses.iter().map(|AnalysisRecord { run, state }| AnalysisFact {
        name: state.name.clone(),
        run: run.clone(),
        verdict: verdict(state),
        measured: state.dry_run || state.counts.successful > 0,
        message: message(state),
        wake_at: state.next_due.as_ref().map(|due| due.0).filter(|_| !state.dry_run),
    });
    runs.collect()
}

/// Begins the runs that are asked for and ends those that have no meaning any more; whether any began.
fn follow(plan: &RolloutPlanSpec, decision: &mut RolloutDecision, now: Timestamp) -> bool {
    let (status, asked) = (&mut decision.status, &decision.analyses);
    let mut began = false;
    for AnalysisRun { name, run } in asked {
        let is_known = status.analyses.iter().any(|record| record.run == *run);
        let analysis = plan.analyses.iter().find(|analysis| analysis.name == *name).filter(|_| !is_known);
        if let Some(analysis) = analysis {
            let state = run::start(analysis, run.starts_with(BACKGROUND), now);
            status.analyses.push(AnalysisRecord { run: run.clone(), state });
            began = true;
        }
    }
    let moving = matches!(status.phase, RolloutPhase::Progressing | RolloutPhase::Paused | RolloutPhase::Promoting);
    let steps = status.promotion.is_none();
    let own = if steps { format!("{}-", status.current_step) } else { SWITCHED.to_owned() };
    for record in status.analyses.iter_mut().filter(|record| record.state.verdict == AnalysisVerdict::Running) {
        // What runs beside the steps lasts as long as they do, and what a step waits for as long as the step.
        let beside = steps && (record.state.background || record.state.dry_run);
        let goes_on = moving && (beside || record.run.starts_with(&own));
        if !goes_on && !asked.iter().any(|run| run.run == record.run) {
            run::stop(&mut record.state, now);
        }
    }
    // Dry runs of earlier steps end as well when there are too many of them.
    let excess = status.analyses.len().saturating_sub(MOST);
    let is_asked = |record: &AnalysisRecord| asked.iter().any(|run| run.run == record.run);
    let of_old = |record: &&mut AnalysisRecord| {
        record.state.dry_run && record.state.verdict == AnalysisVerdict::Running && !is_asked(record)
    };
    status.analyses.iter_mut().filter(of_old).take(excess).for_each(|record| run::stop(&mut record.state, now));
    let ended = |record: &AnalysisRecord| record.state.verdict != AnalysisVerdict::Running;
    let mut surplus = status.analyses.iter().filter(|record| ended(record)).count().saturating_sub(KEPT);
    status.analyses.retain(|record| {
        let goes = surplus > 0 && ended(record) && !asked.iter().any(|run| run.run == record.run);
        surplus -= usize::from(goes);
        !goes
    });
    began
}

/// Beginning of the names of runs beside the steps.
const BACKGROUND: &str = "background-";
/// Beginning of the names of runs after a switch.
const SWITCHED: &str = "switched-";

/// Measurements that are due. While the release is held nothing is measured.
fn due(facts: &RolloutFacts<'_>, decision: &mut RolloutDecision, now: Timestamp) -> Vec<Due> {
    let status = &decision.status;
    let Some(subject) = subject(facts, status).filter(|_| status.hold.is_none()) else { return Vec::new() };
    let mut due = Vec::new();
    let mut wakes: Vec<_> = decision.wake_at.into_iter().collect();
    for AnalysisRecord { run, state } in &status.analyses {
        let Some(analysis) = facts.spec.plan.analyses.iter().find(|analysis| analysis.name == state.name) else {
            continue;
        };
        match run::decide(analysis, state, now) {
            Next::Measure(slot) => {
                due.push(Due { run: run.clone(), analysis: analysis.clone(), slot, subject: subject.clone() });
            }
            Next::Wait(at) => wakes.push(at),
            Next::Done(_) => {}
        }
    }
    decision.wake_at = wakes.into_iter().min();
    due
}

/// What the analyses of a release are about.
pub(super) fn subject(facts: &RolloutFacts<'_>, status: &RolloutStatus) -> Option<Subject> {
    let target = facts.spec.targets.first()?;
    let hashes = status.hashes.clone().unwrap_or_default();
    Some(Subject {
        workload: target.name.clone(),
        namespace: target.namespace.clone(),
        canary_hash: hashes.canary,
        stable_hash: hashes.stable,
    })
}

/// Takes the Jobs out of what is due: those to be made, and what those that have ended say.
fn jobs(
    facts: &RolloutFacts<'_>,
    due: &mut Vec<Due>,
    decision: &mut RolloutDecision,
    now: Timestamp,
) -> (Vec<PlannedWrite>, Vec<Measured>) {
    let (mut writes, mut ended) = (Vec::new(), Vec::new());
    due.retain(|due| {
        let Some(metric) = &due.analysis.job else { return true };
        let mut answered = |answer| ended.push(Measured { run: due.run.clone(), slot: due.slot.clone(), answer });
        let object = match object(facts, due) {
            Ok(object) => object,
            Err(why) => {
                answered(Answer::Seen(Observation::Error(why)));
                return false;
            }
        };
        let Ok(id) = ObjectId::of(&object) else { return false };
        match facts.live.get(&id) {
            None => writes.push(PlannedWrite {
                id,
                operation: OperationKind::Create,
                form: Form::AnalysisJob,
                number: Some(i64::from(due.slot.number)),
                hash: String::new(),
                object: Some(object),
                precondition: Precondition::default(),
                foreground: false,
            }),
            Some(found) if live::label(found, ROLLOUT_LABEL) != facts.uid => {
                answered(Answer::Impossible(format!("Job {} is in the way; delete it", id.name)));
            }
            Some(found) => {
                if let Some(observation) = job::observe(metric, &due.slot, found, now) {
                    answered(Answer::Seen(observation));
                } else {
                    let end = job::deadline(metric, &due.slot, found);
                    decision.wake_at = Some(decision.wake_at.map_or(end, |at| at.min(end)));
                }
            }
        }
        false
    });
    (writes, ended)
}

/// The Job of one measurement.
fn object(facts: &RolloutFacts<'_>, due: &Due) -> Result<Value, String> {
    let metric = due.analysis.job.as_ref().ok_or("the analysis runs no Job")?;
    let name = job::name(&format!("{}-{}", facts.name, due.run), &due.analysis.name, &due.slot);
    let job = job::manifest(metric, &name, &due.subject).map_err(|error| error.to_string())?;
    Ok(derive::own_job(facts.namespace, facts.name, facts.uid, &name, job.get("spec").unwrap_or(&Value::Null)))
}

/// The Jobs that measure now.
fn running<'a>(facts: &'a RolloutFacts<'_>) -> impl Iterator<Item = Value> + 'a {
    let subject = subject(facts, facts.status);
    facts.status.analyses.iter().filter_map(move |AnalysisRecord { run, state }| {
        let analysis = facts.spec.plan.analyses.iter().find(|analysis| analysis.name == state.name)?;
        // The Job depends on nothing of the slot but its number.
        let slot = Slot { number: run::next_number(state), due: Timestamp::MIN, samples: None, of: None };
        let is_running = analysis.job.is_some() && state.verdict == AnalysisVerdict::Running;
        let due = Due { run: run.clone(), analysis: analysis.clone(), slot, subject: subject.clone()? };
        object(facts, &due).ok().filter(|_| is_running)
    })
}

/// The Job of this name that measures now.
pub(super) fn job_named(facts: &RolloutFacts<'_>, name: &str) -> Option<Value> {
    running(facts).find(|job| live::text(job, "/metadata/name") == name)
}

/// Jobs to be read before a decision: those that measure now.
pub(super) fn reads(facts: &RolloutFacts<'_>) -> Vec<ObjectId> {
    running(facts).filter_map(|job| ObjectId::of(&job).ok()).collect()
}
