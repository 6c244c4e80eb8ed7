//! Short ways to an object's metadata.

use serde_json::{Map, Value};

/// A text of the object's metadata, if it is not empty.
pub fn text<'a>(object: &'a Value, field: &str) -> Option<&'a str> {
    object.get("metadata")?.get(field)?.as_str().filter(|text| !text.is_empty())
}

/// The object's name.
pub fn name(object: &Value) -> &str {
    text(object, "name").unwrap_or_default()
}

/// The object's namespace; empty for cluster-scoped ones.
pub fn namespace(object: &Value) -> &str {
    text(object, "namespace").unwrap_or_default()
}

/// The object's uid.
pub fn uid(object: &Value) -> &str {
    text(object, "uid").unwrap_or_default()
}

/// The object's resourceVersion.
pub fn resource_version(object: &Value) -> &str {
    text(object, "resourceVersion").unwrap_or_default()
}

/// Whether deletion was asked for and the object still exists.
pub fn is_terminating(object: &Value) -> bool {
    text(object, "deletionTimestamp").is_some()
}

/// The finalizers.
pub fn finalizers(object: &Value) -> Vec<String> {
    let listed = object.pointer("/metadata/finalizers").and_then(Value::as_array).into_iter().flatten();
    listed.filter_map(|text| text.as_str().map(ToOwned::to_owned)).collect()
}

/// Metadata to write into; made if it is missing.
pub(super) fn of_mut(object: &mut Value) -> Option<&mut Map<String, Value>> {
    let fields = object.as_object_mut()?;
    let metadata = fields.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
    if metadata.is_null() {
        *metadata = Value::Object(Map::new());
    }
    metadata.as_object_mut()
}

/// Sets or removes a field of metadata.
pub(super) fn set(object: &mut Value, field: &str, value: Option<Value>) {
    let Some(metadata) = of_mut(object) else {
        return;
    };
    match value {
        Some(value) => metadata.insert(field.to_owned(), value),
        None => metadata.remove(field),
    };
}

/// Copies a field of metadata, or its absence.
pub(super) fn keep(object: &mut Value, from: &Value, field: &str) {
    set(object, field, from.get("metadata").and_then(|metadata| metadata.get(field)).cloned());
}
