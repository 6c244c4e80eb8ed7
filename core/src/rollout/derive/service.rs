//! Services of a release.

use serde_json::{Map, Value, json};

use super::{map_at, remove_key, touched};
use crate::rollout::{HASH_LABEL, ROLLOUT_LABEL};

/// Name of the Service of the old version's share.
pub fn stable_name(service: &str) -> String {
    format!("{service}-stable")
}

/// Name of the Service of the new version's share.
pub fn canary_name(service: &str) -> String {
    format!("{service}-canary")
}

/// Name of the Service that reaches the new version before the switch, where the plan names none.
pub fn preview_name(service: &str) -> String {
    format!("{service}-preview")
}

/// A Service beside the user's one that reaches only the pods of one version: same ports and affinity, cluster-internal,
/// without anything that costs an address of its own.
pub fn share_service(user: &Value, name: &str, hash: &str, rollout_uid: &str) -> Value {
    let mut spec = Map::new();
    // What the server would fill in is taken over too: the webhook sees the object with it.
    let kept = ["sessionAffinity", "sessionAffinityConfig", "internalTrafficPolicy", "ipFamilies", "ipFamilyPolicy"];
    for field in kept {
        if let Some(value) = user.pointer("/spec").and_then(|spec| spec.get(field)) {
            spec.insert(field.to_owned(), value.clone());
        }
    }
    if user.pointer("/spec/clusterIP").and_then(Value::as_str) == Some("None") {
        spec.insert("clusterIP".to_owned(), json!("None"));
    }
    let mut ports = user.pointer("/spec/ports").cloned().unwrap_or_else(|| json!([]));
    for port in ports.as_array_mut().into_iter().flatten() {
        if let Some(port) = port.as_object_mut() {
            port.remove("nodePort");
        }
    }
    let mut selector = user.pointer("/spec/selector").and_then(Value::as_object).cloned().unwrap_or_default();
    selector.insert(HASH_LABEL.to_owned(), json!(hash));
    spec.insert("ports".to_owned(), ports);
    spec.insert("selector".to_owned(), Value::Object(selector));
    spec.insert("type".to_owned(), json!("ClusterIP"));
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": name,
            "namespace": user.pointer("/metadata/namespace").cloned().unwrap_or(Value::Null),
            "labels": { ROLLOUT_LABEL: rollout_uid },
        },
        "spec": spec,
    })
}

/// The live Service, selecting only the pods of one version; all else stays as it is.
pub fn pinned_service(live: &Value, hash: &str) -> Value {
    let mut object = touched(live, None);
    if let Some(spec) = object.get_mut("spec")
        && let Some(selector) = map_at(spec, "selector")
    {
        selector.insert(HASH_LABEL.to_owned(), json!(hash));
    }
    object
}

/// The live Service, selecting all versions again.
pub fn unpinned_service(live: &Value) -> Value {
    let mut object = touched(live, None);
    remove_key(&mut object, "/spec", "selector", HASH_LABEL);
    object
}

/// The hash that a Service selects, if it selects one.
pub fn selected_hash(service: &Value) -> Option<&str> {
    service.pointer("/spec/selector")?.get(HASH_LABEL)?.as_str()
}
