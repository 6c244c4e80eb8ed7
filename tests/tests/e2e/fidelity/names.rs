//! Names, generated names, labels, annotations, and namespaces that are not there or leave.

use serde_json::{Value, json};

use super::{
    play::{Case, play},
    request::{apply, create, delete, get, merge, replace},
};

fn generated(on: &Case, prefix: &str) -> Value {
    let mut config = on.config("x", json!({}));
    config["metadata"]["name"] = Value::Null;
    config["metadata"].as_object_mut().unwrap().remove("name");
    config["metadata"]["generateName"] = json!(prefix);
    config
}

#[test]
fn names_are_generated() {
    play("generated", |on| {
        let made = on.ask(create(generated(on, "made-")));
        on.ask(create(generated(on, "Not_a-")));
        on.ask(create(generated(on, "")));
        on.ask(get(&made));
        let mut both = on.config("given", json!({}));
        both["metadata"]["generateName"] = json!("prefix-");
        let long = "p".repeat(300);
        on.all([create(&both), create(generated(on, &long)), delete(&made)]);
    });
}

#[test]
fn names_are_checked_by_kind() {
    play("names", |on| {
        let names: [&str; 9] = ["Upper", "under_score", "-dash", "dash-", "a..b", "a.b", "a/b", "", "ünï"];
        let long = "n".repeat(254);
        let of_kind = |name: &str, api_version: &str, kind: &str| {
            let mut object = on.placed(json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name}}));
            if kind == "Service" {
                object["spec"] = json!({"ports": [{"port": 80}]});
            }
            if kind == "Namespace" || kind == "PriorityClass" {
                object["metadata"].as_object_mut().unwrap().remove("namespace");
            }
            object
        };
        let mut objects = Vec::new();
        for (api_version, kind) in
            [("v1", "ConfigMap"), ("v1", "Service"), ("v1", "ServiceAccount"), ("rbac.authorization.k8s.io/v1", "Role")]
        {
            objects.extend(names.iter().chain([&long.as_str()]).map(|name| of_kind(name, api_version, kind)));
        }
        objects.push(of_kind("a.b", "v1", "Namespace"));
        objects.push(of_kind(&"n".repeat(64), "v1", "Namespace"));
        objects.push(of_kind(&"n".repeat(64), "v1", "Service"));
        for object in objects {
            on.ask(create(&object).dry());
        }
    });
}

#[test]
fn labels_annotations_and_references_are_checked() {
    play("labels", |on| {
        let with = |field: &str, value: Value| {
            let mut config = on.config("labels", json!({}));
            config["metadata"][field] = value;
            config
        };
        let wrong = [
            with("labels", json!({"-bad": "x"})),
            with("labels", json!({"good": "bad value"})),
            with("labels", json!({"good": "v".repeat(64)})),
            with("labels", json!({"n".repeat(64): "x"})),
            with("labels", json!({"UPPER.example.org/x": "x"})),
            with("labels", json!({"example.org/": "x"})),
            with("labels", json!({"a/b/c": "x"})),
            with("labels", json!({"": "x"})),
            with("annotations", json!({"-bad": "x"})),
            with("annotations", json!({"UPPER.example.org/x": "any value, at all"})),
            with("annotations", json!({"big": "x".repeat(300_000)})),
            with("finalizers", json!(["bad"])),
            with("finalizers", json!(["example.org/good", "-bad/x"])),
            with("ownerReferences", json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": ""}])),
            with("ownerReferences", json!([{"apiVersion": "", "kind": "", "name": "", "uid": "u"}])),
            with(
                "ownerReferences",
                json!([
                    {"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "u", "controller": true},
                    {"apiVersion": "v1", "kind": "ConfigMap", "name": "y", "uid": "w", "controller": true},
                ]),
            ),
            with("ownerReferences", json!([{"apiVersion": "v1", "kind": "Event", "name": "x", "uid": "u"}])),
        ];
        let mistyped = with("labels", json!({"n": 5}));
        for object in &wrong {
            on.ask(create(object).dry());
        }
        on.ask(create(&mistyped).named("type"));
        let plain = on.config("labels", json!({}));
        on.all([
            create(&plain),
            merge(&plain, json!({"metadata": {"labels": {"-bad": "x"}}})),
            merge(&plain, json!({"metadata": {"labels": {"a": "1", "b": null}}})),
            merge(&plain, json!({"metadata": {"labels": {"a": null}}})),
            merge(&plain, json!({"metadata": {"annotations": {"a": ""}}})),
            merge(&plain, json!({"metadata": {"creationTimestamp": "2020-01-01T00:00:00Z", "generation": 7}})),
            merge(&plain, json!({"metadata": {"deletionTimestamp": "2020-01-01T00:00:00Z"}})),
            merge(&plain, json!({"metadata": {"selfLink": "/x"}})),
        ]);
    });
}

#[test]
fn keys_and_sizes_of_config() {
    play("keys", |on| {
        let of = |kind: &str, field: &str, value: Value| {
            on.placed(json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": "keys"}, field: value}))
        };
        let mut double = of("ConfigMap", "data", json!({"a": "1"}));
        double["binaryData"] = json!({"a": "AAEC"});
        let objects = [
            of("ConfigMap", "data", json!({"bad key": "x"})),
            of("ConfigMap", "data", json!({"..": "x"})),
            of("ConfigMap", "data", json!({"..x": "x"})),
            of("ConfigMap", "data", json!({"k".repeat(254): "x"})),
            of("ConfigMap", "binaryData", json!({"b": "AAEC"})),
            of("Secret", "data", json!({"s": "AAEC"})),
            of("Secret", "stringData", json!({"s": "text", "bad key": "x"})),
            of("ConfigMap", "data", json!({"big": "x".repeat(1_100_000)})),
            of("ConfigMap", "unknown", json!({"b": "x"})),
        ];
        let mistyped = [
            of("ConfigMap", "data", json!({"n": 5})),
            of("ConfigMap", "binaryData", json!({"b": "not base64!"})),
            of("Secret", "data", json!({"s": "not base64!"})),
        ];
        for object in &objects {
            on.ask(create(object).dry());
        }
        for object in &mistyped {
            on.ask(create(object).dry().named("type"));
        }
        on.ask(create(&double).dry());
    });
}

#[test]
fn namespaces_that_are_not_there_or_leave() {
    play("namespaces", |on| {
        let place = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "leaving"}});
        let config = |name: &str, place: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": place}, "data": {"a": "1"}});
        let inside = config("inside", "leaving");
        on.all([
            create(config("x", "nowhere")),
            create(config("x", "nowhere")).dry(),
            apply(config("x", "nowhere")),
            merge(config("x", "nowhere"), json!({"data": {"a": "2"}})),
            delete(config("x", "nowhere")),
            get(config("x", "nowhere")),
            super::request::list(config("x", "nowhere")),
            create(&place),
            create(&inside),
            delete(&place).dry(),
            delete(&place),
            delete(&place),
            get(&place),
            create(config("late", "leaving")),
            apply(config("late", "leaving")),
            merge(&inside, json!({"data": {"a": "2"}})),
            merge(&place, json!({"metadata": {"labels": {"l": "v"}}})),
            replace(&place),
            delete(&inside),
            create(&inside),
        ]);
        for name in ["default", "kube-system", "kube-public"] {
            on.ask(delete(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})));
        }
        on.ask(create(json!({"apiVersion": "v1", "kind": "Nonsense", "metadata": {"name": "x"}})));
        on.ask(create(json!({"apiVersion": "v2", "kind": "ConfigMap", "metadata": {"name": "x"}})));
    });
}
