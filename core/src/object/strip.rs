//! What the API server writes into an object, and nobody asked for.

use serde_json::Value;

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

/// Removes status, the server's part of metadata and the last-applied annotation; an annotation map that becomes empty
/// by this goes too. What is no object stays as it is.
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
    let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) else {
        return;
    };
    if annotations.remove(LAST_APPLIED).is_some() && annotations.is_empty() {
        metadata.remove("annotations");
    }
}
