//! Objects that many tests write.

use serde_json::{Map, Value, json};

/// A ConfigMap; the namespace is filled in by whoever uses it.
pub fn config_map(name: &str, data: &[(&str, &str)]) -> Value {
    let data: Map<String, Value> = data.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

/// A Deployment of two replicas.
pub fn deployment(name: &str, image: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "main", "image": image}]},
            },
        },
    })
}

/// A part of [`deployment`] that sets another image.
pub fn deployment_image(name: &str, image: &str) -> Value {
    patch_of(json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {"template": {"spec": {"containers": [{"name": "main", "image": image}]}}},
    }))
}

/// The manifest as a part of an object.
pub fn patch_of(manifest: Value) -> Value {
    operation(manifest, "Patch")
}

/// The manifest with that operation.
pub fn operation(mut manifest: Value, operation: &str) -> Value {
    manifest["metadata"]["annotations"]["interlock.dev/operation"] = json!(operation);
    manifest
}
