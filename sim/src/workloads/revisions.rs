//! ControllerRevisions: the templates that a StatefulSet or a DaemonSet has had.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{hash, pods, read, writes};
use crate::api::{Api, ApiError, meta};

/// The label of a pod that names its revision.
pub(super) const LABEL: &str = "controller-revision-hash";

/// The revisions of an object, the one of its template last.
#[derive(Clone, Debug)]
pub(super) struct Revisions {
    all: Vec<Arc<Value>>,
}

impl Revisions {
    /// Reads them and makes the one of the present template.
    pub fn ensure(api: &mut Api, controller: &str, owner: &Value) -> Result<Self, ApiError> {
        let mut all = writes::controlled(api, owner, "apps", "ControllerRevision");
        all.sort_by_key(|revision| read::count(revision, "/revision"));
        let data = data_of(owner);
        let next = all.last().map_or(0, |last| read::count(last, "/revision")) + 1;
        let found = all.iter().position(|revision| revision.get("data") == Some(&data));
        let current = match found.map(|at| all.remove(at)) {
            Some(current) if read::count(&current, "/revision") == next - 1 => current,
            Some(current) => writes::patch(api, controller, &current, json!({"revision": next}))?,
            None => create(api, controller, owner, &data, next)?,
        };
        all.push(current);
        Ok(Self { all })
    }

    /// The name of the revision of the present template.
    pub fn update(&self) -> &str {
        self.all.last().map(|last| meta::name(last)).unwrap_or_default()
    }

    /// The hash of the present template, which DaemonSets label pods with.
    pub fn update_hash(&self) -> &str {
        self.all.last().map(|last| read::label(last, LABEL)).unwrap_or_default()
    }

    /// The template of a revision.
    pub fn template(&self, name: &str) -> Option<&Value> {
        self.all.iter().find(|revision| meta::name(revision) == name)?.pointer("/data/spec/template")
    }

    /// Forgets the oldest that are neither needed nor within `revisionHistoryLimit`.
    pub fn forget_oldest(
        &self,
        api: &mut Api,
        controller: &str,
        owner: &Value,
        is_needed: impl Fn(&Value) -> bool,
    ) -> Result<(), ApiError> {
        let limit = read::number(owner, "/spec/revisionHistoryLimit").unwrap_or(10).max(0) as usize;
        let (_, earlier) = self.all.split_last().unzip();
        let idle: Vec<&Arc<Value>> = earlier.into_iter().flatten().filter(|revision| !is_needed(revision)).collect();
        let surplus = idle.len().saturating_sub(limit);
        idle.into_iter().take(surplus).try_for_each(|revision| api.delete_as_system(controller, revision))
    }
}

fn data_of(owner: &Value) -> Value {
    let mut template = owner.pointer("/spec/template").cloned().unwrap_or_default();
    writes::set(&mut template, "$patch", json!("replace"));
    json!({"spec": {"template": template}})
}

fn create(api: &mut Api, controller: &str, owner: &Value, data: &Value, number: i64) -> Result<Arc<Value>, ApiError> {
    let hash = hash::short(&[&data.to_string(), meta::uid(owner)]);
    let mut labels = owner.pointer("/spec/template/metadata/labels").cloned().unwrap_or_else(|| json!({}));
    writes::set(&mut labels, LABEL, json!(hash));
    let revision = json!({
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {
            "name": format!("{}-{hash}", meta::name(owner)),
            "namespace": meta::namespace(owner),
            "labels": labels,
            "ownerReferences": [writes::reference_to(owner)],
        },
        "data": data,
        "revision": number,
    });
    writes::create(api, controller, revision)
}

/// Whether the pod is one of a revision, by the value of its label.
pub(super) fn is_of(pod: &Value, label: &str) -> bool {
    read::label(pod, LABEL) == label
}

/// Counts the pods that are to stay and are of a revision.
pub(super) fn count_of<'a>(pods: impl IntoIterator<Item = &'a Arc<Value>>, label: &str) -> i64 {
    pods.into_iter().filter(|pod| pods::is_active(pod) && is_of(pod, label)).count() as i64
}
