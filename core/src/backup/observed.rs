//! What the Job of a run and its pods say, read from the objects as the API server has them.

use jiff::Timestamp;
use serde_json::Value;

use super::{
    outcome::PodEnd,
    pods::RUN_LABEL,
    run::{JobEnd, JobFact, JobState},
};

/// Label by which Kubernetes ties pods to their Job.
pub const JOB_NAME_LABEL: &str = "batch.kubernetes.io/job-name";
/// Why a pod ended of which nothing is left.
pub const POD_GONE: &str = "PodGone";
/// The container that reads back and tells.
const REPORT: &str = "report";

/// The Job `job` as the run with uid `owner` sees it, with the pods of its name.
pub fn job(job: Option<&Value>, pods: &[Value], owner: &str) -> JobFact {
    let Some(job) = job else {
        // Deleted with its pods left to themselves, or before they have ended.
        let left = pods.iter().find(|pod| label(pod, RUN_LABEL) == Some(owner) && !has_ended(pod));
        let name = left.and_then(|pod| text(pod, "/metadata/name"));
        return name.map_or(JobFact::Absent, |name| JobFact::Leaving(name.to_owned()));
    };
    if !is_owned_by(job, owner) {
        return JobFact::Foreign;
    }
    let uid = text(job, "/metadata/uid").unwrap_or_default();
    let Some(created_at) = time(job, "/metadata/creationTimestamp") else { return JobFact::Unknown };
    let own = pods.iter().filter(|pod| is_owned_by(pod, uid));
    let pod = own.max_by_key(|pod| time(pod, "/metadata/creationTimestamp"));
    let ended = terminal(job).map(|(condition, at)| JobEnd {
        deadline_exceeded: text(condition, "/reason") == Some("DeadlineExceeded"),
        at,
        pod: pod.map_or_else(gone, end),
    });
    JobFact::Ours(JobState {
        uid: uid.to_owned(),
        created_at,
        deadline_seconds: job.pointer("/spec/activeDeadlineSeconds").and_then(Value::as_i64),
        ended,
        has_pod: pod.is_some(),
        waiting: pod.and_then(waiting),
        log_tail: pod.and_then(log_tail),
    })
}

/// Whether any of these Jobs, or of these pods, may still work.
pub fn may_work<'a>(mut jobs: impl Iterator<Item = &'a Value>, mut pods: impl Iterator<Item = &'a Value>) -> bool {
    jobs.any(|job| !is_terminal(job)) || pods.any(|pod| !has_ended(pod))
}

/// Whether a Job is terminal: Kubernetes says so only when no pod of it is left that runs.
pub fn is_terminal(job: &Value) -> bool {
    terminal(job).is_some()
}

/// Whether a pod has ended.
pub fn has_ended(pod: &Value) -> bool {
    matches!(text(pod, "/status/phase"), Some("Succeeded" | "Failed"))
}

fn terminal(job: &Value) -> Option<(&Value, Timestamp)> {
    let conditions = job.pointer("/status/conditions").and_then(Value::as_array)?;
    let ended = conditions.iter().find(|condition| {
        matches!(text(condition, "/type"), Some("Complete" | "Failed")) && text(condition, "/status") == Some("True")
    })?;
    Some((ended, time(ended, "/lastTransitionTime").or_else(|| time(job, "/metadata/creationTimestamp"))?))
}

fn is_owned_by(object: &Value, uid: &str) -> bool {
    let owners = object.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    owners
        .into_iter()
        .flatten()
        .any(|owner| text(owner, "/uid") == Some(uid) && owner.get("controller").and_then(Value::as_bool) == Some(true))
}

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    let of = |pointer: &str| pod.pointer(pointer).and_then(Value::as_array).into_iter().flatten();
    of("/status/initContainerStatuses").chain(of("/status/containerStatuses"))
}

/// A pod that was removed before its Job ended: by an eviction, or by somebody's hand.
fn gone() -> PodEnd {
    PodEnd { reason: Some(POD_GONE.to_owned()), ..PodEnd::default() }
}

/// How a pod ended.
pub fn end(pod: &Value) -> PodEnd {
    let conditions = pod.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten();
    let disrupted =
        conditions.filter(|c| text(c, "/type") == Some("DisruptionTarget")).find_map(|c| text(c, "/reason"));
    let report = containers(pod).find(|container| text(container, "/name") == Some(REPORT));
    PodEnd {
        reason: disrupted.or_else(|| text(pod, "/status/reason")).map(ToOwned::to_owned),
        out_of_memory: containers(pod)
            .any(|container| text(container, "/state/terminated/reason") == Some("OOMKilled")),
        waiting: waiting(pod),
        begun: containers(pod).any(|container| !never_ran(container)),
        message: report.and_then(|report| text(report, "/state/terminated/message")).map(ToOwned::to_owned),
    }
}

/// What the tool wrote last: it left that as its message when it failed, and the kubelet keeps it of one that was killed.
fn log_tail(pod: &Value) -> Option<String> {
    let others = containers(pod).filter(|container| text(container, "/name") != Some(REPORT));
    let messages = others.filter_map(|container| text(container, "/state/terminated/message"));
    messages.filter(|message| !message.is_empty()).last().map(ToOwned::to_owned)
}

fn never_ran(container: &Value) -> bool {
    ["/state/running", "/state/terminated", "/lastState/terminated"].iter().all(|at| container.pointer(at).is_none())
}

/// What a pod waits for: none of its containers runs, and this keeps the next one from ever having run.
fn waiting(pod: &Value) -> Option<String> {
    if containers(pod).any(|container| container.pointer("/state/running").is_some()) {
        return None;
    }
    let conditions = pod.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten();
    let mut unscheduled =
        conditions.filter(|c| text(c, "/type") == Some("PodScheduled") && text(c, "/status") == Some("False"));
    if let Some(why) = unscheduled.find_map(|condition| text(condition, "/message")) {
        return Some(format!("no node takes it: {why}"));
    }
    containers(pod).filter(|container| never_ran(container)).find_map(|container| {
        let reason = text(container, "/state/waiting/reason").filter(|reason| *reason != "PodInitializing")?;
        let name = text(container, "/name").unwrap_or_default();
        Some(match text(container, "/state/waiting/message") {
            Some(message) => format!("container {name}: {reason}: {message}"),
            None => format!("container {name}: {reason}"),
        })
    })
}

fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.pointer("/metadata/labels")?.get(key)?.as_str()
}

fn text<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    value.pointer(pointer).and_then(Value::as_str)
}

fn time(value: &Value, pointer: &str) -> Option<Timestamp> {
    text(value, pointer)?.parse().ok()
}
