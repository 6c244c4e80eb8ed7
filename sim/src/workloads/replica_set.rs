//! The controller of ReplicaSets: as many pods as asked for.

use std::cmp::Reverse;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::conditions::{self, Condition};
use super::pods::{self, Census, Name};
use super::{read, writes};
use crate::api::{Api, ApiError, Key, meta};

const NAME: &str = "replicaset-controller";

/// One look at a ReplicaSet; answers when the next is due by time alone.
pub(super) fn reconcile(api: &mut Api, key: &Key) -> Result<Option<Timestamp>, ApiError> {
    let Some(set) = writes::live(api, key) else {
        return Ok(None);
    };
    let outcome = scale(api, &set);
    let due = report(api, &set, outcome.as_ref().err())?;
    outcome.map(|()| due)
}

fn scale(api: &mut Api, set: &Value) -> Result<(), ApiError> {
    let mut active = writes::pods(api, set);
    active.retain(|pod| pods::is_active(pod));
    let (wanted, found) = (read::replicas(set), active.len() as i64);
    for _ in found..wanted {
        let template = set.pointer("/spec/template").cloned().unwrap_or_default();
        let prefix = format!("{}-", meta::name(set));
        writes::create(api, NAME, pods::from_template(set, &template, Name::Generated(&prefix), &[]))?;
    }
    active.sort_by_key(going_order);
    for pod in active.iter().take((found - wanted).max(0) as usize) {
        api.delete_as_system(NAME, pod)?;
    }
    Ok(())
}

/// Pods that serve least go first, the newest of them before older ones.
fn going_order(pod: &Arc<Value>) -> impl Ord + use<> {
    let rank = match read::text(pod, "/status/phase") {
        _ if read::text(pod, "/spec/nodeName").is_empty() => 0,
        "Pending" | "" => 1,
        _ if !pods::is_ready(pod) => 2,
        _ => 3,
    };
    (rank, Reverse(read::text(pod, "/metadata/creationTimestamp").to_owned()), meta::name(pod).to_owned())
}

fn report(api: &mut Api, set: &Value, failure: Option<&ApiError>) -> Result<Option<Timestamp>, ApiError> {
    let now = api.now();
    let all = writes::pods(api, set);
    let census = Census::of(&all, read::count(set, "/spec/minReadySeconds"), now);
    let labels = set.pointer("/spec/template/metadata/labels").and_then(Value::as_object);
    let is_labelled = |pod: &&Arc<Value>| {
        pods::is_active(pod) && labels.into_iter().flatten().all(|(name, value)| read::label(pod, name) == value)
    };
    let mut status = json!({"replicas": census.active, "terminatingReplicas": census.terminating});
    writes::set_count(&mut status, "fullyLabeledReplicas", all.iter().filter(is_labelled).count() as i64);
    writes::set_count(&mut status, "readyReplicas", census.ready);
    writes::set_count(&mut status, "availableReplicas", census.available);
    writes::set_count(&mut status, "observedGeneration", read::count(set, "/metadata/generation"));
    let mut found = read::list(set, "/status/conditions").to_vec();
    match failure {
        Some(error) => {
            let message = &error.message;
            let condition = Condition { kind: "ReplicaFailure", status: "True", reason: "FailedCreate", message };
            conditions::put(&mut found, &condition, json!({}), now);
        }
        None => conditions::remove(&mut found, "ReplicaFailure"),
    }
    if !found.is_empty() {
        writes::set(&mut status, "conditions", json!(found));
    }
    writes::put_status(api, NAME, set, status)?;
    Ok(census.next)
}
