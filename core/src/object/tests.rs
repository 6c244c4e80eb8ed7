//! Scenarios and laws of the object module.

// A test that indexes past its fixture fails, which is what it should do.
#![allow(clippy::indexing_slicing)]

mod admission;
mod changes;
mod conditions;
mod laws;
mod tables;

use serde_json::{Value, json};

use super::{GroupKind, Path};

fn deployment_kind() -> GroupKind {
    GroupKind::new("apps", "Deployment")
}

/// The teller of the running example, as a dry run shows it.
fn teller() -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": "teller", "namespace": "teller", "uid": "a1", "resourceVersion": "7", "generation": 3,
            "labels": { "app": "teller" },
        },
        "spec": {
            "replicas": 3,
            "selector": { "matchLabels": { "app": "teller" } },
            "template": {
                "metadata": { "labels": { "app": "teller" } },
                "spec": {
                    "initContainers": [
                        { "name": "fetch", "image": "fetch:1" },
                        { "name": "migrate", "image": "migrate:1" },
                    ],
                    "containers": [
                        {
                            "name": "teller", "image": "teller:1.4.1",
                            "env": [{ "name": "HOST", "value": "db" }, { "name": "URL", "value": "pg://$(HOST)" }],
                            "ports": [{ "containerPort": 8080, "protocol": "TCP" }],
                            "resources": { "limits": { "cpu": "1", "memory": "1Gi" } },
                        },
                        { "name": "proxy", "image": "proxy:2" },
                    ],
                    "tolerations": [{ "key": "bank", "operator": "Exists" }],
                },
            },
        },
        "status": { "replicas": 3 },
    })
}

/// The object with one JSON pointer's value replaced, or added below an existing object.
fn with(mut object: Value, pointer: &str, value: Value) -> Value {
    let (parent, last) = pointer.rsplit_once('/').unwrap();
    let last = last.replace("~1", "/");
    match object.pointer_mut(parent).unwrap() {
        Value::Object(fields) => {
            fields.insert(last, value);
        }
        Value::Array(items) if last == "-" => items.push(value),
        Value::Array(items) => items[last.parse::<usize>().unwrap()] = value,
        other => panic!("{parent} is {other}"),
    }
    object
}

fn without(mut object: Value, pointer: &str) -> Value {
    let (parent, last) = pointer.rsplit_once('/').unwrap();
    match object.pointer_mut(parent).unwrap() {
        Value::Object(fields) => {
            fields.remove(last).unwrap();
        }
        Value::Array(items) => {
            items.remove(last.parse::<usize>().unwrap());
        }
        other => panic!("{parent} is {other}"),
    }
    object
}

fn shown(paths: impl IntoIterator<Item = Path>) -> Vec<String> {
    paths.into_iter().map(|path| path.to_string()).collect()
}

const POD: &str = "/spec/template/spec";
const TELLER: &str = "/spec/template/spec/containers/0";
