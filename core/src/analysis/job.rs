//! Jobs that measure.

use std::fmt::Write as _;

use interlock_crds::JobMetric;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::observation::{JobEnd, Observation};
use super::run::Slot;
use super::shorten;
use super::template::{self, Subject, TemplateError};

/// Longest name of a Job whose pods carry it in a label.
const MAX_NAME: usize = 63;

/// The name of the Job of one measurement: the same after a crash. `run` tells apart whatever begins the analysis anew.
pub fn name(run: &str, analysis: &str, slot: &Slot) -> String {
    fitting(format!("{run}-{analysis}-{}", slot.number))
}

/// A name that a Job may have: a longer one is cut, and told apart by a digest of the whole.
pub fn fitting(name: String) -> String {
    if name.len() <= MAX_NAME {
        return name;
    }
    let digest = ring::digest::digest(&ring::digest::SHA256, name.as_bytes());
    let mut suffix = String::new();
    for byte in digest.as_ref().iter().take(5) {
        let _ = write!(suffix, "{byte:02x}");
    }
    let end = name.floor_char_boundary(MAX_NAME - suffix.len() - 1);
    format!("{}-{suffix}", name[..end].trim_end_matches(['-', '.']))
}

/// The Job of one measurement.
pub fn manifest(metric: &JobMetric, name: &str, subject: &Subject) -> Result<Value, TemplateError> {
    Ok(json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": subject.namespace},
        "spec": template::json(&metric.spec, subject)?,
    }))
}

/// How the Job of `slot` ended; None while it may still end in time. The instant at which its time is over is
/// [`deadline`].
pub fn observe(metric: &JobMetric, slot: &Slot, job: &Value, now: Timestamp) -> Option<Observation> {
    let condition = |kind: &str| {
        let conditions = job.pointer("/status/conditions")?.as_array()?;
        conditions.iter().find(|condition| condition["type"] == kind && condition["status"] == "True")
    };
    let end = if condition("Complete").is_some() {
        JobEnd::Complete
    } else if let Some(failed) = condition("Failed") {
        let text = |field: &str| failed.get(field).and_then(Value::as_str).unwrap_or_default();
        JobEnd::Failed(shorten(&format!("{} {}", text("reason"), text("message")), 300).trim().to_owned())
    } else if now >= deadline(metric, slot, job) {
        JobEnd::Unfinished(format!("the job has not finished within {}", metric.timeout))
    } else {
        return None;
    };
    Some(Observation::Job(end))
}

/// When the time of a Job is over: counted from when it was due, or created if that was later.
pub fn deadline(metric: &JobMetric, slot: &Slot, job: &Value) -> Timestamp {
    let created = job.pointer("/metadata/creationTimestamp").and_then(Value::as_str).and_then(|text| text.parse().ok());
    let begun = created.map_or(slot.due, |created: Timestamp| created.max(slot.due));
    begun.checked_add(SignedDuration::from_secs(metric.timeout.seconds())).unwrap_or(Timestamp::MAX)
}
