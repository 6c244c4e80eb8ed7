//! Tests of the server, by what they are about.

mod admission;
mod apply;
mod custom;
mod defaults;
mod deletion;
mod managers;
mod reads;
mod validation;
mod writes;

use std::sync::Arc;

use interlock_core::admission::User;
use interlock_core::object::{GroupKind, ObjectId};
use serde_json::{Value, json};

use super::{Api, ApiError, Write};

fn user() -> User {
    User { name: "li.na".into(), groups: vec!["system:authenticated".into()], claims: Vec::new() }
}

/// A server with the namespace `bank`.
fn api() -> Api {
    let mut api = Api::new("2026-03-01T10:00:00.5Z".parse().unwrap());
    api.write(Write::create(&user(), "test", &namespace("bank"))).unwrap();
    api
}

fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}

fn config_map(name: &str, data: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "bank"}, "data": data})
}

fn deployment(name: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": "bank"},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "main", "image": "bank/teller:1", "ports": [{"containerPort": 8080}]}]}
            }
        }
    })
}

fn create(api: &mut Api, object: &Value) -> Result<Arc<Value>, ApiError> {
    api.write(Write::create(&user(), "creator", object))
}

fn replace(api: &mut Api, object: &Value) -> Result<Arc<Value>, ApiError> {
    api.write(Write::replace(&user(), "replacer", object))
}

fn apply(api: &mut Api, manager: &str, object: &Value) -> Result<Arc<Value>, ApiError> {
    api.write(Write::apply(&user(), manager, object))
}

fn id_of(object: &Value) -> ObjectId {
    ObjectId::of(object).unwrap()
}

fn live(api: &Api, object: &Value) -> Option<Arc<Value>> {
    let id = id_of(object);
    api.get_arc(&GroupKind::of(object).unwrap(), id.namespace.as_deref().unwrap_or_default(), &id.name)
}

/// The entry of a manager.
fn fields(object: &Value, manager: &str, operation: &str) -> Value {
    let entries = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let found = entries.into_iter().find(|entry| entry["manager"] == manager && entry["operation"] == operation);
    found.map_or(Value::Null, |entry| entry["fieldsV1"].clone())
}

fn changed(object: &Value, change: impl FnOnce(&mut Value)) -> Value {
    let mut object = object.clone();
    change(&mut object);
    object
}
