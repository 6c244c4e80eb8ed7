//! The state machine of one analysis: when to measure, and what the measurements so far say.
//!
//! Measurements are numbered from 1, and each number is recorded once: after a crash between measuring and recording,
//! [`decide`] asks for the same number again, so nothing is left out and nothing counts twice.

use interlock_crds::{
    Analysis, AnalysisCounts, AnalysisState, AnalysisVerdict, ErrorRule, MeasurementOutcome, MeasurementRecord,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::judge::Judged;
use super::{MAX_SAMPLES, counted, shorten};

/// What was missing is looked for again after at most so many seconds.
const LOOK_AGAIN: i64 = 15;
/// So many measurements are kept.
pub const KEPT: usize = 20;

/// What follows.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// Measure now, and record the outcome under the slot's number.
    Measure(Slot),
    /// Nothing before this instant.
    Wait(Timestamp),
    /// It has ended.
    Done(AnalysisVerdict),
}

/// One measurement that is due.
#[derive(Clone, Debug, PartialEq)]
pub struct Slot {
    /// Its number, counted from 1.
    pub number: u32,
    /// When it was due.
    pub due: Timestamp,
    /// Samples to take, for a comparison.
    pub samples: Option<SampleRange>,
    /// How many measurements there will be; None in the background.
    pub of: Option<u32>,
}

impl Slot {
    /// The part of `alpha` that this look may use, so that all looks of the analysis together use no more: equal parts
    /// (Bonferroni), or 1/2, 1/6, 1/12, ... where nobody knows how many will follow (their sum is 1).
    pub fn share_of(&self, alpha: f64) -> f64 {
        match self.of {
            Some(count) => alpha / f64::from(count.max(1)),
            None => alpha / (f64::from(self.number) * (f64::from(self.number) + 1.0)),
        }
    }
}

/// Which samples of both versions to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SampleRange {
    /// Instant of the first.
    pub from: Timestamp,
    /// None is later.
    pub to: Timestamp,
    /// Time from one to the next, in seconds.
    pub step_seconds: i64,
}

/// What became of a measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// It counts.
    Counted,
    /// It was recorded before, or the analysis has ended: nothing changed.
    Ignored,
}

/// Begins an analysis. In the background it measures until it is stopped.
pub fn start(analysis: &Analysis, background: bool, now: Timestamp) -> AnalysisState {
    let started_at = whole_seconds(now);
    AnalysisState {
        name: analysis.name.clone(),
        started_at: Time(started_at),
        background,
        verdict: AnalysisVerdict::Running,
        message: String::new(),
        dry_run: analysis.dry_run,
        blocked: false,
        counts: AnalysisCounts::default(),
        next_due: Some(Time(first_due(analysis, started_at))),
        finished_at: None,
        measurements: Vec::new(),
    }
}

/// What follows now.
pub fn decide(analysis: &Analysis, state: &AnalysisState, now: Timestamp) -> Next {
    if state.verdict != AnalysisVerdict::Running {
        return Next::Done(state.verdict);
    }
    let due = due(analysis, state);
    if now < due {
        return Next::Wait(due);
    }
    let samples = analysis.compare.as_ref().map(|metric| {
        let step = metric.step.seconds().max(1);
        let begin = after(state.started_at.0, delay(analysis) + step);
        let longest =
            metric.window.map_or(i64::MAX, interlock_crds::Duration::seconds).min(step * i64::from(MAX_SAMPLES));
        let earliest = after(whole_seconds(now), step - longest);
        SampleRange { from: begin.max(earliest), to: now, step_seconds: step }
    });
    let of = (!state.background).then(|| wanted(analysis));
    Next::Measure(Slot { number: next_number(state), due, samples, of })
}

/// Records the outcome of measurement `number`, and what follows from it for the analysis.
pub fn record(
    analysis: &Analysis,
    state: &mut AnalysisState,
    number: u32,
    judged: &Judged,
    now: Timestamp,
) -> Recorded {
    if state.verdict != AnalysisVerdict::Running || number != next_number(state) {
        return Recorded::Ignored;
    }
    state.blocked = false;
    let counts = &mut state.counts;
    let counter = match judged.outcome {
        MeasurementOutcome::Successful => &mut counts.successful,
        MeasurementOutcome::Failed => &mut counts.failed,
        MeasurementOutcome::Inconclusive => &mut counts.inconclusive,
        MeasurementOutcome::Error => &mut counts.errors,
    };
    *counter = counter.saturating_add(1);
    counts.consecutive_errors = match judged.outcome {
        MeasurementOutcome::Error => counts.consecutive_errors.saturating_add(1),
        _ => 0,
    };
    state.measurements.push(MeasurementRecord {
        number,
        at: Time(whole_seconds(now)),
        outcome: judged.outcome,
        value: judged.value.as_deref().map(|value| shorten(value, 40)),
        message: shorten(&judged.message, 512),
    });
    let surplus = state.measurements.len().saturating_sub(KEPT);
    state.measurements.drain(..surplus);
    let (verdict, why) = verdict(analysis, state, &judged.message);
    if verdict == AnalysisVerdict::Running {
        state.next_due = Some(Time(next_due(analysis, state, now)));
        state.message = shorten(&why, 1024);
    } else {
        finish(state, verdict, &why, now);
    }
    Recorded::Counted
}

/// Measurement `number` is not possible now: something that it needs is missing. It counts as nothing and is tried again.
pub fn postpone(analysis: &Analysis, state: &mut AnalysisState, number: u32, why: &str, now: Timestamp) {
    if state.verdict != AnalysisVerdict::Running || number != next_number(state) {
        return;
    }
    let wait = analysis.interval.seconds().clamp(1, LOOK_AGAIN);
    state.blocked = true;
    state.message = shorten(&format!("{} cannot be measured: {why}", state.name), 1024);
    state.next_due = Some(Time(after(whole_seconds(now), wait)));
}

/// Ends an analysis that runs in the background: the steps are complete. One that saw no success cannot say that all is
/// well.
pub fn stop(state: &mut AnalysisState, now: Timestamp) {
    if state.verdict != AnalysisVerdict::Running {
        return;
    }
    let name = state.name.clone();
    if state.counts.successful > 0 {
        let why = format!("{name} passed: {}", summary(&state.counts));
        finish(state, AnalysisVerdict::Passed, &why, now);
    } else {
        let why = format!("{name} was stopped before any measurement succeeded: {}", summary(&state.counts));
        finish(state, AnalysisVerdict::Inconclusive, &why, now);
    }
}

/// What several analyses say together, with the reason of the one that decides. Dry runs only report. A failure weighs
/// most; then what could not tell, which pauses the release although others still measure; all must pass.
pub fn overall<'a>(states: impl IntoIterator<Item = &'a AnalysisState>) -> (AnalysisVerdict, String) {
    let rank = |verdict| match verdict {
        AnalysisVerdict::Failed => 3,
        AnalysisVerdict::Inconclusive => 2,
        AnalysisVerdict::Running => 1,
        AnalysisVerdict::Passed => 0,
    };
    let mut heaviest: Option<&AnalysisState> = None;
    for state in states.into_iter().filter(|state| !state.dry_run) {
        if heaviest.is_none_or(|known| rank(state.verdict) > rank(known.verdict)) {
            heaviest = Some(state);
        }
    }
    heaviest.map_or((AnalysisVerdict::Passed, String::new()), |state| (state.verdict, state.message.clone()))
}

fn verdict(analysis: &Analysis, state: &AnalysisState, last: &str) -> (AnalysisVerdict, String) {
    let name = &state.name;
    let counts = &state.counts;
    if counts.failed > analysis.failure_limit {
        let failures = counted(counts.failed, "failure", "failures");
        return (AnalysisVerdict::Failed, format!("{name} {last}, {failures} of at most {}", analysis.failure_limit));
    }
    if counts.consecutive_errors > analysis.consecutive_error_limit {
        let verdict = match analysis.on_error {
            ErrorRule::Inconclusive => AnalysisVerdict::Inconclusive,
            ErrorRule::Fail => AnalysisVerdict::Failed,
        };
        let errors = counted(counts.consecutive_errors, "error", "errors");
        let limit = analysis.consecutive_error_limit;
        return (verdict, format!("{name} could not be measured: {last}, {errors} in a row of at most {limit}"));
    }
    if counts.inconclusive > analysis.inconclusive_limit {
        let times = counted(counts.inconclusive, "inconclusive measurement", "inconclusive measurements");
        let limit = analysis.inconclusive_limit;
        return (AnalysisVerdict::Inconclusive, format!("{name} {last}, {times} of at most {limit}"));
    }
    let complete = !state.background && measured(counts) >= wanted(analysis);
    match (complete, counts.successful, counts.failed) {
        (false, ..) => (AnalysisVerdict::Running, format!("{name} {last}; {}", summary(counts))),
        (true, 0, 0) => (AnalysisVerdict::Inconclusive, format!("{name} {last}; {}", summary(counts))),
        // The limit bears failures among successes; without any success nothing says that the release is good.
        (true, 0, _) => (AnalysisVerdict::Failed, format!("{name} {last}; {}", summary(counts))),
        (true, ..) => (AnalysisVerdict::Passed, format!("{name} passed: {last}; {}", summary(counts))),
    }
}

fn summary(counts: &AnalysisCounts) -> String {
    let mut text = format!("{} of {} measurements successful", counts.successful, measured(counts));
    for (count, one, many) in [
        (counts.failed, "failure", "failures"),
        (counts.inconclusive, "inconclusive", "inconclusive"),
        (counts.errors, "error", "errors"),
    ] {
        if count > 0 {
            text.push_str(", ");
            text.push_str(&counted(count, one, many));
        }
    }
    text
}

fn finish(state: &mut AnalysisState, verdict: AnalysisVerdict, why: &str, now: Timestamp) {
    state.verdict = verdict;
    state.message = shorten(why, 1024);
    state.blocked = false;
    state.finished_at = Some(Time(whole_seconds(now)));
    state.next_due = None;
}

fn measured(counts: &AnalysisCounts) -> u32 {
    counts.successful.saturating_add(counts.failed).saturating_add(counts.inconclusive)
}

/// Number of the next measurement.
pub(crate) fn next_number(state: &AnalysisState) -> u32 {
    measured(&state.counts).saturating_add(state.counts.errors).saturating_add(1)
}

/// How many measurements end it, where it does not run in the background.
pub(super) fn wanted(analysis: &Analysis) -> u32 {
    analysis.count.unwrap_or(1).max(1)
}

fn delay(analysis: &Analysis) -> i64 {
    analysis.initial_delay.map_or(0, interlock_crds::Duration::seconds)
}

fn first_due(analysis: &Analysis, started_at: Timestamp) -> Timestamp {
    after(started_at, lead(analysis))
}

/// Seconds before the first measurement: a comparison begins when enough samples can be there.
fn lead(analysis: &Analysis) -> i64 {
    let samples = analysis
        .compare
        .as_ref()
        .map_or(0, |metric| metric.step.seconds().saturating_mul(i64::from(metric.minimum_samples)));
    delay(analysis).saturating_add(samples)
}

/// Seconds from the beginning of an analysis to the last of its measurements, if none ends in an error.
pub fn seconds(analysis: &Analysis) -> i64 {
    let further = i64::from(wanted(analysis)) - 1;
    lead(analysis).saturating_add(analysis.interval.seconds().saturating_mul(further))
}

fn due(analysis: &Analysis, state: &AnalysisState) -> Timestamp {
    state.next_due.as_ref().map_or_else(|| first_due(analysis, state.started_at.0), |time| time.0)
}

/// The next instant of the rhythm that is later than `now`: what was missed while nobody looked is not made up for, since
/// it would measure the same moment many times.
fn next_due(analysis: &Analysis, state: &AnalysisState, now: Timestamp) -> Timestamp {
    let interval = analysis.interval.seconds().max(1);
    let due = due(analysis, state);
    let late = now.duration_since(due).as_secs().max(0);
    after(due, interval.saturating_mul(late / interval + 1))
}

fn after(time: Timestamp, seconds: i64) -> Timestamp {
    time.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(if seconds < 0 {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    })
}

/// Times in a status have whole seconds.
fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}
