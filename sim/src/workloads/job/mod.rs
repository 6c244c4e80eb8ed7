//! The controller of Jobs: pods until enough of them have succeeded.
//!
//! Left out: pod failure policies, success policies, back-off limits of one index, and the finalizer by which pods are
//! counted (what was counted once is remembered by the status instead).

mod status;
mod tally;

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::pods::{self, Name};
use super::{read, writes};
use crate::api::{Api, ApiError, Key, Verb, meta};
use status::Verdict;
use tally::Tally;

const NAME: &str = "job-controller";
const INDEX: &str = "batch.kubernetes.io/job-completion-index";

/// One look at a Job; answers when the next is due by time alone.
pub(super) fn reconcile(api: &mut Api, key: &Key) -> Result<Option<Timestamp>, ApiError> {
    let Some(job) = writes::live(api, key) else {
        return Ok(None);
    };
    if let Some(finished) = finished_at(&job) {
        return expire(api, &job, finished);
    }
    let now = api.now();
    let is_suspended = read::flag(&job, "/spec/suspend");
    let tally = Tally::of(&job, &writes::pods(api, &job));
    let verdict = Verdict::of(&job, &tally, now);
    let mut due = None;
    let outcome = if is_suspended || verdict.is_some() {
        tally.active.iter().try_for_each(|pod| api.delete_as_system(NAME, pod))
    } else {
        due = read::earlier(tally.retry_at(now), status::deadline(&job));
        work(api, &job, &tally)
    };
    // The pods that were made or deleted just now count already.
    let tally = Tally::of(&job, &writes::pods(api, &job));
    status::write(api, &job, &tally, verdict.as_ref())?;
    outcome.map(|()| due)
}

/// When the Job ended, if it did.
fn finished_at(job: &Value) -> Option<Timestamp> {
    let told = read::list(job, "/status/conditions").iter();
    told.filter(|told| ["Complete", "Failed"].contains(&read::text(told, "/type")))
        .find(|told| read::text(told, "/status") == "True")
        .and_then(|told| read::time(told, "/lastTransitionTime"))
}

fn expire(api: &mut Api, job: &Value, finished: Timestamp) -> Result<Option<Timestamp>, ApiError> {
    let Some(seconds) = read::number(job, "/spec/ttlSecondsAfterFinished") else {
        return Ok(None);
    };
    let due = read::seconds_after(finished, seconds);
    if due > api.now() {
        return Ok(Some(due));
    }
    api.delete_as_system("ttl-after-finished-controller", job).map(|()| None)
}

/// Makes the pods that are missing and takes those away that are too many.
fn work(api: &mut Api, job: &Value, tally: &Tally) -> Result<(), ApiError> {
    let parallelism = read::number(job, "/spec/parallelism").unwrap_or(1).max(0);
    let active = tally.active.len() as i64;
    let wanted = match read::number(job, "/spec/completions") {
        Some(completions) => parallelism.min((completions - tally.succeeded).max(0)),
        // Without a number of completions, the first success says that there is no work left.
        None if tally.succeeded > 0 => active.min(parallelism),
        None => parallelism,
    };
    for pod in tally.active.iter().take((active - wanted).max(0) as usize) {
        api.delete_as_system(NAME, pod)?;
    }
    let missing = (wanted - active).max(0) as usize;
    if missing == 0 || tally.retry_at(api.now()).is_some() {
        return Ok(());
    }
    if read::text(job, "/spec/completionMode") != "Indexed" {
        return (0..missing).try_for_each(|_| create(api, job, None));
    }
    let taken: BTreeSet<i64> = tally.active.iter().filter_map(|pod| index_of(pod)).collect();
    let completions = read::count(job, "/spec/completions");
    let free = (0..completions).filter(|index| !taken.contains(index) && !tally.completed.contains(index));
    free.take(missing).try_for_each(|index| create(api, job, Some(index)))
}

fn index_of(pod: &Value) -> Option<i64> {
    read::annotation(pod, INDEX).parse().ok()
}

fn create(api: &mut Api, job: &Value, index: Option<i64>) -> Result<(), ApiError> {
    let template = job.pointer("/spec/template").cloned().unwrap_or_default();
    let Some(index) = index else {
        let prefix = format!("{}-", meta::name(job));
        let pod = pods::from_template(job, &template, Name::Generated(&prefix), &[]);
        return api.write_as_system(NAME, Verb::Create(pod)).map(drop);
    };
    let (prefix, index) = (format!("{}-{index}-", meta::name(job)), index.to_string());
    let mut pod = pods::from_template(job, &template, Name::Generated(&prefix), &[(INDEX, &index)]);
    if let Some(metadata) = pod.get_mut("metadata").and_then(Value::as_object_mut) {
        writes::set(metadata.entry("annotations").or_insert_with(|| json!({})), INDEX, json!(index));
    }
    if let Some(spec) = pod.get_mut("spec") {
        writes::set(spec, "hostname", json!(prefix.trim_end_matches('-')));
    }
    writes::create(api, NAME, pod).map(drop)
}
