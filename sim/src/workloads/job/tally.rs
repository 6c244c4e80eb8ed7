//! The pods of a Job, counted.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::super::{pods, read};
use super::index_of;
use crate::api::meta;

/// The delay before a failed pod is replaced: the first, and the longest.
const BACK_OFF: (i64, i64) = (10, 600);

/// What became of the pods so far.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    /// Pods that run or will.
    pub active: Vec<Arc<Value>>,
    pub ready: i64,
    pub terminating: i64,
    pub succeeded: i64,
    pub failed: i64,
    /// Restarts of containers in active pods.
    pub restarts: i64,
    /// Indexes that have succeeded.
    pub completed: BTreeSet<i64>,
    last_failure: Option<Timestamp>,
}

impl Tally {
    pub fn of(job: &Value, all: &[Arc<Value>]) -> Self {
        let active: Vec<Arc<Value>> = all.iter().filter(|pod| pods::is_active(pod)).cloned().collect();
        let ended = |phase: &'static str| all.iter().filter(move |pod| read::text(pod, "/status/phase") == phase);
        let mut completed = indexes(read::text(job, "/status/completedIndexes"));
        completed.extend(ended("Succeeded").filter_map(|pod| index_of(pod)));
        let succeeded = match read::text(job, "/spec/completionMode") {
            "Indexed" => completed.len() as i64,
            // Pods that have been counted may be deleted.
            _ => (ended("Succeeded").count() as i64).max(read::count(job, "/status/succeeded")),
        };
        Self {
            ready: active.iter().filter(|pod| pods::is_ready(pod)).count() as i64,
            terminating: all.iter().filter(|pod| meta::is_terminating(pod) && !pods::has_ended(pod)).count() as i64,
            succeeded,
            failed: (ended("Failed").count() as i64).max(read::count(job, "/status/failed")),
            restarts: active.iter().flat_map(|pod| read::list(pod, "/status/containerStatuses")).map(restarts).sum(),
            last_failure: ended("Failed").filter_map(finished).max(),
            completed,
            active,
        }
    }

    /// Until when a failed pod is not replaced.
    pub fn retry_at(&self, now: Timestamp) -> Option<Timestamp> {
        let last = self.last_failure.filter(|_| self.failed > 0)?;
        let doublings = (self.failed - 1).min(16) as u32;
        let delay = BACK_OFF.0.saturating_mul(1 << doublings).min(BACK_OFF.1);
        Some(read::after(last, SignedDuration::from_secs(delay))).filter(|at| *at > now)
    }

    /// The indexes that have succeeded, as the status shows them: `0-2,5`.
    pub fn shown(&self) -> String {
        let mut runs: Vec<(i64, i64)> = Vec::new();
        for index in &self.completed {
            match runs.last_mut() {
                Some((_, last)) if *last + 1 == *index => *last = *index,
                _ => runs.push((*index, *index)),
            }
        }
        let shown = runs.iter().map(|(first, last)| match last - first {
            0 => first.to_string(),
            1 => format!("{first},{last}"),
            _ => format!("{first}-{last}"),
        });
        shown.collect::<Vec<_>>().join(",")
    }
}

fn restarts(container: &Value) -> i64 {
    read::count(container, "/restartCount")
}

fn finished(pod: &Arc<Value>) -> Option<Timestamp> {
    let containers = read::list(pod, "/status/containerStatuses").iter();
    containers.filter_map(|container| read::time(container, "/state/terminated/finishedAt")).max()
}

fn indexes(shown: &str) -> BTreeSet<i64> {
    let parts = shown.split(',').filter_map(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse::<i64>().ok()?..=last.parse::<i64>().ok()?)
    });
    parts.flatten().collect()
}
