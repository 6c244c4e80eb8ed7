//! What a Deployment tells about itself.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::super::conditions::{self, Condition, truth};
use super::super::{read, rounding::Bounds, writes};
use super::versions::Versions;
use super::{NAME, REVISION, reported};
use crate::api::{Api, ApiError, meta};

/// What happened in this look that a condition tells.
#[derive(Clone, Debug, Default)]
pub(super) struct News {
    /// The name of the set that was made.
    pub created: Option<String>,
    /// The new set's name was taken.
    pub collided: bool,
    /// Why the new set could not be made.
    pub failure: Option<String>,
}

/// The counts of a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counts {
    replicas: i64,
    updated: i64,
    ready: i64,
    available: i64,
}

impl Counts {
    fn of(versions: &Versions) -> Self {
        Self {
            replicas: reported(versions.all(), "/status/replicas"),
            updated: reported(&versions.new, "/status/replicas"),
            ready: reported(versions.all(), "/status/readyReplicas"),
            available: reported(versions.all(), "/status/availableReplicas"),
        }
    }

    fn told(deployment: &Value) -> Self {
        let count = |name: &str| read::count(deployment, &format!("/status/{name}"));
        Self {
            replicas: count("replicas"),
            updated: count("updatedReplicas"),
            ready: count("readyReplicas"),
            available: count("availableReplicas"),
        }
    }

    fn progressed_since(self, before: Self) -> bool {
        self.updated > before.updated
            || self.replicas - self.updated < before.replicas - before.updated
            || self.ready > before.ready
            || self.available > before.available
    }

    fn are_complete(self, wanted: i64) -> bool {
        self.updated == wanted && self.replicas == wanted && self.available == wanted
    }
}

/// Whether nothing is left to do.
pub(super) fn is_complete(deployment: &Value, versions: &Versions) -> bool {
    Counts::of(versions).are_complete(read::replicas(deployment))
}

/// Writes the status if it differs; answers when the deadline passes.
pub(super) fn write(
    api: &mut Api,
    deployment: &Value,
    versions: &Versions,
    news: &News,
) -> Result<Option<Timestamp>, ApiError> {
    let (now, counts) = (api.now(), Counts::of(versions));
    let mut status = json!({
        "observedGeneration": read::count(deployment, "/metadata/generation"),
        "terminatingReplicas": reported(versions.all(), "/status/terminatingReplicas"),
    });
    writes::set_count(&mut status, "replicas", counts.replicas);
    writes::set_count(&mut status, "updatedReplicas", counts.updated);
    writes::set_count(&mut status, "readyReplicas", counts.ready);
    writes::set_count(&mut status, "availableReplicas", counts.available);
    writes::set_count(&mut status, "unavailableReplicas", (super::asked_of(versions.all()) - counts.available).max(0));
    let collisions = read::count(deployment, "/status/collisionCount") + i64::from(news.collided);
    writes::set_count(&mut status, "collisionCount", collisions);

    let mut found = read::list(deployment, "/status/conditions").to_vec();
    available(&mut found, deployment, counts, now);
    replica_failure(&mut found, versions, news, now);
    let due = progress(&mut found, deployment, versions, counts, news, now);
    writes::set(&mut status, "conditions", json!(found));

    let mut new = deployment.clone();
    writes::set(&mut new, "status", status);
    if let Some(revision) = versions.new.as_ref().map(|set| read::annotation(set, REVISION))
        && read::annotation(deployment, REVISION) != revision
        && let Some(metadata) = new.pointer_mut("/metadata").and_then(Value::as_object_mut)
    {
        writes::set(metadata.entry("annotations").or_insert_with(|| json!({})), REVISION, json!(revision));
    }
    writes::put_whole_status(api, NAME, deployment, new)?;
    Ok(due)
}

fn available(found: &mut Vec<Value>, deployment: &Value, counts: Counts, now: Timestamp) {
    let is = counts.available >= read::replicas(deployment) - Bounds::of(deployment).unavailable;
    let (reason, message) = if is {
        ("MinimumReplicasAvailable", "Deployment has minimum availability.")
    } else {
        ("MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    };
    conditions::put_dated(found, &Condition { kind: "Available", status: truth(is), reason, message }, false, now);
}

fn replica_failure(found: &mut Vec<Value>, versions: &Versions, news: &News, now: Timestamp) {
    let of_sets = versions.all().find_map(|set| {
        let failure = conditions::find(read::list(set, "/status/conditions"), "ReplicaFailure")?;
        Some(("FailedCreate", read::text(failure, "/message").to_owned()))
    });
    let failure = news.failure.clone().map(|message| ("ReplicaSetCreateError", message)).or(of_sets);
    match failure {
        Some((reason, message)) => {
            let condition = Condition { kind: "ReplicaFailure", status: "True", reason, message: &message };
            conditions::put_dated(found, &condition, false, now);
        }
        None => conditions::remove(found, "ReplicaFailure"),
    }
}

/// Keeps the condition `Progressing`; answers when the deadline passes.
fn progress(
    found: &mut Vec<Value>,
    deployment: &Value,
    versions: &Versions,
    counts: Counts,
    news: &News,
    now: Timestamp,
) -> Option<Timestamp> {
    let Some(deadline) = deadline_seconds(deployment) else {
        conditions::remove(found, "Progressing");
        return None;
    };
    let mut tell = |status: &str, reason: &str, message: &str, touch: bool| {
        conditions::put_dated(found, &Condition { kind: "Progressing", status, reason, message }, touch, now);
    };
    let told = read::list(deployment, "/status/conditions");
    let told = conditions::find(told, "Progressing").map(|told| read::text(told, "/reason")).unwrap_or_default();
    if read::flag(deployment, "/spec/paused") {
        if told != TIMED_OUT {
            tell("Unknown", "DeploymentPaused", "Deployment is paused", false);
        }
        return None;
    }
    if told == "DeploymentPaused" {
        tell("Unknown", "DeploymentResumed", "Deployment is resumed", true);
    }
    if let Some(name) = &news.created {
        tell("True", "NewReplicaSetCreated", &format!("Created new replica set \"{name}\""), true);
    } else if let Some(failure) = &news.failure {
        tell("False", "ReplicaSetCreateError", failure, false);
    } else if let Some(set) = versions.new.as_ref().filter(|_| told.is_empty()) {
        tell("True", "FoundNewReplicaSet", &format!("Found new replica set \"{}\"", meta::name(set)), true);
    }
    // A finished rollout stays so while pods come and go.
    if news.created.is_none() && told == DONE && counts.replicas == counts.updated {
        return None;
    }
    let name = versions.new.as_deref().map_or_else(|| meta::name(deployment), meta::name);
    if counts.are_complete(read::replicas(deployment)) {
        tell("True", DONE, &format!("ReplicaSet \"{name}\" has successfully progressed."), false);
        return None;
    }
    if counts.progressed_since(Counts::told(deployment)) {
        tell("True", "ReplicaSetUpdated", &format!("ReplicaSet \"{name}\" is progressing."), true);
    }
    let current = conditions::find(found, "Progressing")?;
    if [DONE, TIMED_OUT].contains(&read::text(current, "/reason")) {
        return None;
    }
    let due = read::seconds_after(read::time(current, "/lastUpdateTime")?, deadline);
    if due > now {
        return Some(due);
    }
    let message = format!("ReplicaSet \"{name}\" has timed out progressing.");
    let late = Condition { kind: "Progressing", status: "False", reason: TIMED_OUT, message: &message };
    conditions::put_dated(found, &late, false, now);
    None
}

const DONE: &str = "NewReplicaSetAvailable";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";

/// The largest number means that there is no deadline.
fn deadline_seconds(deployment: &Value) -> Option<i64> {
    read::number(deployment, "/spec/progressDeadlineSeconds").filter(|seconds| *seconds != i64::from(i32::MAX))
}
