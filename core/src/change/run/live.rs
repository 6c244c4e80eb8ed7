//! What the live object says about a write.

use serde_json::{Value, json};

use crate::{
    change::{EPOCH_ANNOTATION, FIELD_MANAGER, before::Entry, same_at},
    object::{Path, Segment, diff, get, strip_server_fields},
};

pub(super) fn is_deleting(object: &Value) -> bool {
    object.pointer("/metadata/deletionTimestamp").is_some()
}

pub(super) fn plain(object: &Value) -> Value {
    let mut object = object.clone();
    strip_server_fields(&mut object);
    object
}

/// Every value that the manifest states stands in the live object as the dry run showed it.
pub(super) fn is_as_created(entry: &Entry, live: &Value) -> bool {
    let (Some(manifest), Some(expected)) = (&entry.manifest, &entry.expected) else {
        return false;
    };
    let kind = entry.id.group_kind();
    crate::object::stated_paths(&kind, manifest)
        .iter()
        .all(|(path, _)| same_at(&kind, path, get(live, path), get(expected, path)))
}

/// Interlock created the object, although somebody may have changed it since.
pub(super) fn is_interlocks(live: &Value) -> bool {
    let entries = live.pointer("/metadata/managedFields").and_then(Value::as_array);
    entries
        .is_some_and(|entries| entries.iter().any(|e| e.get("manager").and_then(Value::as_str) == Some(FIELD_MANAGER)))
}

/// Every path that the change writes has its new value.
pub(super) fn is_as_updated(entry: &Entry, live: &Value) -> bool {
    let kind = entry.id.group_kind();
    let (orders, values): (Vec<_>, Vec<_>) = entry.changes.iter().partition(|change| is_order(&change.path));
    if !values.iter().all(|change| same_at(&kind, &change.path, get(live, &change.path), change.after.as_ref())) {
        return false;
    }
    if orders.is_empty() {
        return true;
    }
    let left = diff(&kind, &plain(live), entry.expected.as_ref().unwrap_or(&Value::Null));
    orders.iter().all(|order| !left.iter().any(|change| change.path == order.path))
}

/// Whether a path means the order of a list, which has no value of its own in the object.
pub(super) fn is_order(path: &Path) -> bool {
    matches!(path.last(), Some(Segment::Order))
}

/// The object with Interlock's mark of this epoch, or without any.
pub(super) fn touched(mut object: Value, epoch: Option<i64>) -> Value {
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else {
        return object;
    };
    match epoch {
        Some(epoch) => {
            let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
            if let Some(map) = annotations.as_object_mut() {
                map.insert(EPOCH_ANNOTATION.to_owned(), Value::String(epoch.to_string()));
            }
        }
        None => {
            if let Some(map) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
                map.remove(EPOCH_ANNOTATION);
                if map.is_empty() {
                    metadata.remove("annotations");
                }
            }
        }
    }
    object
}
