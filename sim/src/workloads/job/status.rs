//! What a Job tells about itself, and when it is over.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::super::conditions::{self, Condition, truth};
use super::super::{read, writes};
use super::NAME;
use super::tally::Tally;
use crate::api::{Api, ApiError};

/// Why a Job is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Reached,
    BackoffLimitExceeded,
    DeadlineExceeded,
}

impl Verdict {
    /// The verdict on a Job; one that was told stays.
    pub fn of(job: &Value, tally: &Tally, now: Timestamp) -> Option<Self> {
        if conditions::is_true(job, "SuccessCriteriaMet") {
            return Some(Self::Reached);
        }
        if let Some(told) = conditions::find(read::list(job, "/status/conditions"), "FailureTarget") {
            let is_late = read::text(told, "/reason") == "DeadlineExceeded";
            return Some(if is_late { Self::DeadlineExceeded } else { Self::BackoffLimitExceeded });
        }
        if read::flag(job, "/spec/suspend") {
            return None;
        }
        let limit = read::number(job, "/spec/backoffLimit").unwrap_or(6);
        let restarts_in_place = read::text(job, "/spec/template/spec/restartPolicy") == "OnFailure";
        if tally.failed > limit || (restarts_in_place && tally.restarts > 0 && tally.restarts >= limit) {
            return Some(Self::BackoffLimitExceeded);
        }
        if deadline(job).is_some_and(|deadline| deadline <= now) {
            return Some(Self::DeadlineExceeded);
        }
        let is_reached = match read::number(job, "/spec/completions") {
            Some(completions) => tally.succeeded >= completions,
            None => tally.succeeded > 0 && tally.active.is_empty(),
        };
        is_reached.then_some(Self::Reached)
    }

    const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Reached => ("CompletionsReached", "Reached expected number of succeeded pods"),
            Self::BackoffLimitExceeded => ("BackoffLimitExceeded", "Job has reached the specified backoff limit"),
            Self::DeadlineExceeded => ("DeadlineExceeded", "Job was active longer than specified deadline"),
        }
    }

    /// The condition that is told at once, and the one that is told when no pod is left.
    const fn conditions(self) -> (&'static str, &'static str) {
        match self {
            Self::Reached => ("SuccessCriteriaMet", "Complete"),
            Self::BackoffLimitExceeded | Self::DeadlineExceeded => ("FailureTarget", "Failed"),
        }
    }
}

/// When the Job has run for too long.
pub(super) fn deadline(job: &Value) -> Option<Timestamp> {
    let seconds = read::number(job, "/spec/activeDeadlineSeconds")?;
    read::time(job, "/status/startTime").map(|start| read::seconds_after(start, seconds))
}

/// Writes the status if it differs.
pub(super) fn write(api: &mut Api, job: &Value, tally: &Tally, verdict: Option<&Verdict>) -> Result<(), ApiError> {
    let now = api.now();
    let is_suspended = read::flag(job, "/spec/suspend");
    let mut found = read::list(job, "/status/conditions").to_vec();
    let mut status = json!({
        "uncountedTerminatedPods": {},
        "ready": tally.ready,
        "terminating": tally.terminating,
    });
    suspend(&mut found, is_suspended, now);
    let told = job.pointer("/status/startTime").cloned();
    if !is_suspended || verdict.is_some() {
        writes::set(&mut status, "startTime", told.unwrap_or_else(|| json!(read::shown(now))));
    }
    if let Some(verdict) = verdict {
        let (reason, message) = verdict.words();
        let (first, last) = verdict.conditions();
        let mut tell = |kind| {
            let condition = Condition { kind, status: "True", reason, message };
            conditions::put(&mut found, &condition, json!({"lastProbeTime": read::shown(now)}), now);
        };
        if !conditions::is_true(job, first) {
            tell(first);
        }
        if tally.active.is_empty() && tally.terminating == 0 {
            tell(last);
            if *verdict == Verdict::Reached {
                writes::set(&mut status, "completionTime", json!(read::shown(now)));
            }
        }
    }
    writes::set_count(&mut status, "active", tally.active.len() as i64);
    writes::set_count(&mut status, "succeeded", tally.succeeded);
    writes::set_count(&mut status, "failed", tally.failed);
    if !tally.completed.is_empty() {
        writes::set(&mut status, "completedIndexes", json!(tally.shown()));
    }
    if !found.is_empty() {
        writes::set(&mut status, "conditions", json!(found));
    }
    writes::put_status(api, NAME, job, status)
}

fn suspend(found: &mut Vec<Value>, is_suspended: bool, now: Timestamp) {
    let told = conditions::find(found, "Suspended").map(|told| read::text(told, "/status"));
    if told.unwrap_or("False") == truth(is_suspended) {
        return;
    }
    let (reason, message) =
        if is_suspended { ("JobSuspended", "Job suspended") } else { ("JobResumed", "Job resumed") };
    let condition = Condition { kind: "Suspended", status: truth(is_suspended), reason, message };
    conditions::put(found, &condition, json!({"lastProbeTime": read::shown(now)}), now);
}
