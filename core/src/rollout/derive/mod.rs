//! Objects that follow from an approved change: the one place that says what a release may write.
//!
//! Each function computes a whole object from the live one (or from what was approved) and nothing else, so that the
//! executor, which writes it, and the webhook, which compares a write with it, cannot disagree.

pub mod autoscaler;
pub mod batch;
pub mod config;
pub mod route;
pub mod service;
pub mod workload;

use serde_json::{Map, Value};

use crate::change::EPOCH_ANNOTATION;

/// The map at `key`, made if it is not there.
pub(super) fn map_at<'a>(object: &'a mut Value, key: &str) -> Option<&'a mut Map<String, Value>> {
    let fields = object.as_object_mut()?;
    let entry = fields.entry(key).or_insert_with(|| Value::Object(Map::new()));
    if entry.is_null() {
        *entry = Value::Object(Map::new());
    }
    entry.as_object_mut()
}

/// Sets a text of a map below a path of maps, which are made where they are missing.
pub(super) fn set_text(object: &mut Value, path: &[&str], key: &str, text: &str) {
    let Some((first, rest)) = path.split_first() else {
        if let Some(fields) = object.as_object_mut() {
            fields.insert(key.to_owned(), Value::String(text.to_owned()));
        }
        return;
    };
    if map_at(object, first).is_some()
        && let Some(inner) = object.get_mut(*first)
    {
        set_text(inner, rest, key, text);
    }
}

/// Removes a key of the map at a JSON pointer, and the map with it when that empties it.
pub(super) fn remove_key(object: &mut Value, parent: &str, map: &str, key: &str) {
    let Some(holder) = object.pointer_mut(parent).and_then(Value::as_object_mut) else { return };
    let Some(fields) = holder.get_mut(map).and_then(Value::as_object_mut) else { return };
    if fields.remove(key).is_some() && fields.is_empty() {
        holder.remove(map);
    }
}

/// The object with the mark of an epoch, or without any.
pub fn touched(live: &Value, epoch: Option<i64>) -> Value {
    let mut object = live.clone();
    match epoch {
        Some(epoch) => set_text(&mut object, &["metadata", "annotations"], EPOCH_ANNOTATION, &epoch.to_string()),
        None => remove_key(&mut object, "/metadata", "annotations", EPOCH_ANNOTATION),
    }
    object
}

/// Whether the object has the mark of an epoch.
pub fn is_touched(live: &Value) -> bool {
    live.pointer("/metadata/annotations").and_then(|annotations| annotations.get(EPOCH_ANNOTATION)).is_some()
}

/// The Job of a step.
pub fn step_job(namespace: &str, rollout: &str, uid: &str, run: &str, spec: &Value) -> Value {
    own_job(namespace, rollout, uid, &crate::analysis::job::fitting(format!("{rollout}-{run}")), spec)
}

/// A Job of a Rollout. It belongs to it: nothing serves from it.
pub fn own_job(namespace: &str, rollout: &str, uid: &str, name: &str, spec: &Value) -> Value {
    serde_json::json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": { crate::rollout::ROLLOUT_LABEL: uid },
            "ownerReferences": [{
                "apiVersion": interlock_crds::API_VERSION, "kind": "Rollout", "name": rollout, "uid": uid,
                "controller": true, "blockOwnerDeletion": false,
            }],
        },
        "spec": spec,
    })
}
