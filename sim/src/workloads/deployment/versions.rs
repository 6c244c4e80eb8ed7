//! The ReplicaSets of a Deployment.

use std::sync::Arc;

use serde_json::{Value, json};

use super::super::{hash, read, rounding::Bounds, writes};
use super::{NAME, REVISION, status::News};
use crate::api::{Api, ApiError, meta};

const HASH: &str = "pod-template-hash";
const HISTORY: &str = "deployment.kubernetes.io/revision-history";
const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
const MAX: &str = "deployment.kubernetes.io/max-replicas";

/// The ReplicaSets that a Deployment controls.
#[derive(Clone, Debug)]
pub(super) struct Versions {
    /// The one of the Deployment's template, if it exists.
    pub new: Option<Arc<Value>>,
    /// The others, the oldest first.
    pub old: Vec<Arc<Value>>,
}

impl Versions {
    pub fn read(api: &Api, deployment: &Value) -> Self {
        let mut sets = writes::controlled(api, deployment, "apps", "ReplicaSet");
        sets.sort_by_cached_key(|set| {
            (read::text(set, "/metadata/creationTimestamp").to_owned(), meta::name(set).to_owned())
        });
        let template = deployment.pointer("/spec/template");
        let is_new = |set: &Arc<Value>| set.pointer("/spec/template").map(without_hash).as_ref() == template;
        let new = sets.iter().position(is_new).map(|at| sets.remove(at));
        Self { new, old: sets }
    }

    pub fn all(&self) -> impl Iterator<Item = &Arc<Value>> {
        self.old.iter().chain(&self.new)
    }
}

fn without_hash(template: &Value) -> Value {
    let mut template = template.clone();
    if let Some(labels) = template.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
        labels.remove(HASH);
    }
    template
}

fn revision(set: &Value) -> i64 {
    read::annotation(set, REVISION).parse().unwrap_or(0)
}

/// The set of the Deployment's template with the highest revision; made if it is missing.
pub(super) fn ensure_new(
    api: &mut Api,
    deployment: &Value,
    versions: &Versions,
    news: &mut News,
) -> Result<Arc<Value>, ApiError> {
    let wanted = versions.old.iter().map(|set| revision(set)).max().unwrap_or(0) + 1;
    let Some(found) = &versions.new else {
        return create(api, deployment, versions, wanted, news);
    };
    let seconds = read::count(deployment, "/spec/minReadySeconds");
    let (is_behind, differs) = (revision(found) < wanted, read::count(found, "/spec/minReadySeconds") != seconds);
    if !is_behind && !differs {
        return Ok(Arc::clone(found));
    }
    let mut annotations = json!({});
    if is_behind {
        let earlier = [read::annotation(found, HISTORY), read::annotation(found, REVISION)];
        let earlier: Vec<&str> = earlier.into_iter().filter(|text| !text.is_empty()).collect();
        writes::set(&mut annotations, HISTORY, json!(earlier.join(",")));
        writes::set(&mut annotations, REVISION, json!(wanted.to_string()));
    }
    let patch = json!({"metadata": {"annotations": annotations}, "spec": {"minReadySeconds": seconds}});
    writes::patch(api, NAME, found, patch)
}

fn create(
    api: &mut Api,
    deployment: &Value,
    versions: &Versions,
    revision: i64,
    news: &mut News,
) -> Result<Arc<Value>, ApiError> {
    let mut template = deployment.pointer("/spec/template").cloned().unwrap_or_default();
    let hash = hash::template(&template, read::count(deployment, "/status/collisionCount"));
    let labels = template.pointer_mut("/metadata/labels");
    if let Some(labels) = labels {
        writes::set(labels, HASH, json!(hash));
    }
    let mut selector = deployment.pointer("/spec/selector").cloned().unwrap_or_else(|| json!({}));
    if selector.get("matchLabels").is_none() {
        writes::set(&mut selector, "matchLabels", json!({}));
    }
    if let Some(labels) = selector.get_mut("matchLabels") {
        writes::set(labels, HASH, json!(hash));
    }
    let mut annotations = deployment.pointer("/metadata/annotations").cloned().unwrap_or_else(|| json!({}));
    if let Some(inherited) = annotations.as_object_mut() {
        inherited.remove("kubectl.kubernetes.io/last-applied-configuration");
        inherited.extend(bookkeeping(deployment));
        inherited.insert(REVISION.to_owned(), json!(revision.to_string()));
    }
    let name = format!("{}-{hash}", meta::name(deployment));
    let set = json!({
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": name,
            "namespace": meta::namespace(deployment),
            "labels": template.pointer("/metadata/labels"),
            "annotations": annotations,
            "ownerReferences": [writes::reference_to(deployment)],
        },
        "spec": {
            "replicas": room_for_new(deployment, versions, 0),
            "minReadySeconds": read::count(deployment, "/spec/minReadySeconds"),
            "selector": selector,
            "template": template,
        },
    });
    let created = writes::create(api, NAME, set);
    match &created {
        Ok(_) => news.created = Some(name),
        // Another set has this name: the next attempt takes another hash.
        Err(error) if error.is_already_exists() => news.collided = true,
        Err(error) => news.failure = Some(error.message.clone()),
    }
    created
}

/// How many pods the new set may have now, if it has `current`.
pub(super) fn room_for_new(deployment: &Value, versions: &Versions, current: i64) -> i64 {
    let wanted = read::replicas(deployment);
    if read::text(deployment, "/spec/strategy/type") == "Recreate" || current >= wanted {
        return wanted;
    }
    let most = wanted + Bounds::of(deployment).surge;
    let room = most - super::asked_of(&versions.old) - current;
    current + room.clamp(0, wanted - current)
}

fn bookkeeping(deployment: &Value) -> serde_json::Map<String, Value> {
    let wanted = read::replicas(deployment);
    let most = if wanted == 0 { 0 } else { wanted + Bounds::of(deployment).surge };
    [(DESIRED.to_owned(), json!(wanted.to_string())), (MAX.to_owned(), json!(most.to_string()))].into_iter().collect()
}

/// Asks a set for a number of pods. Says whether that was anything new.
pub(super) fn scale(api: &mut Api, deployment: &Value, set: &Value, replicas: i64) -> Result<bool, ApiError> {
    if read::replicas(set) == replicas {
        return Ok(false);
    }
    let patch = json!({"metadata": {"annotations": bookkeeping(deployment)}, "spec": {"replicas": replicas}});
    writes::patch(api, NAME, set, patch)?;
    Ok(true)
}

/// Keeps as many empty sets as `revisionHistoryLimit` says.
pub(super) fn forget_oldest(api: &mut Api, deployment: &Value, versions: &Versions) -> Result<(), ApiError> {
    let limit = read::number(deployment, "/spec/revisionHistoryLimit").unwrap_or(10).max(0);
    let mut old: Vec<&Arc<Value>> = versions.old.iter().filter(|set| !meta::is_terminating(set)).collect();
    old.sort_by_key(|set| revision(set));
    let surplus = (old.len() as i64 - limit).max(0) as usize;
    for set in old.into_iter().take(surplus) {
        let is_empty = read::replicas(set) == 0 && read::count(set, "/status/replicas") == 0;
        let is_seen = read::count(set, "/status/observedGeneration") >= read::count(set, "/metadata/generation");
        if is_empty && is_seen {
            api.delete_as_system(NAME, set)?;
        }
    }
    Ok(())
}
