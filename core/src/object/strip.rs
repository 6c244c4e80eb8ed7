//! What the API server writes into an object, and nobody asked for.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::id::GroupKind;

/// Fields of `metadata` that only the API server sets.
const SERVER_METADATA: [&str; 8] = [
    "managedFields",
    "resourceVersion",
    "uid",
    "generation",
    "creationTimestamp",
    "selfLink",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
];

/// The copy of a manifest that client-side `kubectl apply` leaves in the object.
pub(super) const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Counts the templates of a DaemonSet; the API server sets it whatever a request says.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

/// Removes status, the server's part of metadata, its count of templates and the last-applied annotation; an annotation
/// map that becomes empty by this goes too. What is no object stays as it is.
pub fn strip_server_fields(object: &mut Value) {
    let Some(fields) = object.as_object_mut() else {
        return;
    };
    fields.remove("status");
    let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) else {
        return;
    };
    for name in SERVER_METADATA {
        metadata.remove(name);
    }
    remove_annotations(metadata, &[LAST_APPLIED, TEMPLATE_GENERATION]);
}

/// The object without the server's count of templates, if its kind has one.
pub(super) fn without_template_generation<'a>(kind: &GroupKind, object: &'a Value) -> Cow<'a, Value> {
    let mut object = Cow::Borrowed(object);
    if kind.is("apps", "DaemonSet")
        && let Some(metadata) = object.to_mut().get_mut("metadata").and_then(Value::as_object_mut)
    {
        remove_annotations(metadata, &[TEMPLATE_GENERATION]);
    }
    object
}

fn remove_annotations(metadata: &mut Map<String, Value>, names: &[&str]) {
    let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) else { return };
    let before = annotations.len();
    annotations.retain(|name, _| !names.contains(&name.as_str()));
    if annotations.is_empty() && before > 0 {
        metadata.remove("annotations");
    }
}
