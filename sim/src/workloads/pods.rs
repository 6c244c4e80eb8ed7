//! How pods are doing, as the controllers of pods see it, and how a pod follows from a template.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{conditions, read, writes};
use crate::api::meta;

/// Whether the pod has not ended and is to stay.
pub(super) fn is_active(pod: &Value) -> bool {
    !has_ended(pod) && !meta::is_terminating(pod)
}

/// Whether all containers have ended for good.
pub(super) fn has_ended(pod: &Value) -> bool {
    matches!(read::text(pod, "/status/phase"), "Succeeded" | "Failed")
}

/// Whether the pod is ready.
pub(super) fn is_ready(pod: &Value) -> bool {
    conditions::is_true(pod, "Ready")
}

/// Whether a pod has been ready long enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Availability {
    Yes,
    /// It will be, if it stays ready.
    At(Timestamp),
    No,
}

/// Whether the pod has been ready for `minReadySeconds`.
pub(super) fn availability(pod: &Value, min_ready_seconds: i64, now: Timestamp) -> Availability {
    let Some(ready) = conditions::find(read::list(pod, "/status/conditions"), "Ready").filter(|_| is_ready(pod)) else {
        return Availability::No;
    };
    let since = read::time(ready, "/lastTransitionTime").unwrap_or(now);
    match read::seconds_after(since, min_ready_seconds) {
        at if min_ready_seconds > 0 && at > now => Availability::At(at),
        _ => Availability::Yes,
    }
}

/// Pods, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Census {
    /// Pods that have not ended and are to stay.
    pub active: i64,
    /// Ready ones of them.
    pub ready: i64,
    /// Those of them that have been ready long enough.
    pub available: i64,
    /// Pods that are being deleted.
    pub terminating: i64,
    /// When the next one becomes available.
    pub next: Option<Timestamp>,
}

impl Census {
    /// Counts pods.
    pub fn of<'a>(pods: impl IntoIterator<Item = &'a Arc<Value>>, min_ready_seconds: i64, now: Timestamp) -> Self {
        let mut census = Self::default();
        for pod in pods {
            if !is_active(pod) {
                census.terminating += i64::from(meta::is_terminating(pod) && !has_ended(pod));
                continue;
            }
            census.active += 1;
            census.ready += i64::from(is_ready(pod));
            match availability(pod, min_ready_seconds, now) {
                Availability::Yes => census.available += 1,
                Availability::At(at) => census.next = read::earlier(census.next, Some(at)),
                Availability::No => {}
            }
        }
        census
    }
}

/// The name of a pod that is to be made.
#[derive(Clone, Copy, Debug)]
pub(super) enum Name<'a> {
    /// This name.
    Exactly(&'a str),
    /// The server ends the name.
    Generated(&'a str),
}

/// A pod of a template, controlled by `owner`, with more labels.
pub(super) fn from_template(owner: &Value, template: &Value, name: Name<'_>, labels: &[(&str, &str)]) -> Value {
    let mut metadata = Map::new();
    let of_template = |field: &str| template.pointer("/metadata").and_then(|metadata| metadata.get(field)).cloned();
    for field in ["annotations", "finalizers", "labels"] {
        metadata.extend(of_template(field).map(|value| (field.to_owned(), value)));
    }
    let own = metadata.entry("labels").or_insert_with(|| json!({}));
    for (label, value) in labels {
        writes::set(own, label, json!(value));
    }
    match name {
        Name::Exactly(name) => metadata.insert("name".to_owned(), json!(name)),
        Name::Generated(prefix) => metadata.insert("generateName".to_owned(), json!(prefix)),
    };
    metadata.insert("namespace".to_owned(), json!(meta::namespace(owner)));
    metadata.insert("ownerReferences".to_owned(), json!([writes::reference_to(owner)]));
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": template.get("spec").cloned().unwrap_or_default(),
    })
}
