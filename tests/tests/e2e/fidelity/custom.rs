//! Custom resources: Interlock's own definitions, and one that has what theirs have not.

use serde_json::{Value, json};

use super::{
    play::play,
    request::{apply, create, delete, get, list, merge, put, replace},
};

fn ours(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "interlock.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

/// A definition of a kind for one case, so that no other case waits for it.
pub fn definition(kind: &str, schema: &Value) -> Value {
    let plural = format!("{}s", kind.to_lowercase());
    let mut schema = schema.clone();
    if schema["properties"]["colour"].is_null() {
        schema["properties"]["colour"] = json!({"type": "string"});
    }
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.example.org")},
        "spec": {
            "group": "example.org", "scope": "Namespaced",
            "names": {"kind": kind, "listKind": format!("{kind}List"), "plural": plural, "singular": kind.to_lowercase()},
            "versions": [{
                "name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "selectableFields": [{"jsonPath": ".spec.colour"}],
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": schema,
                    "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                }}},
            }],
        },
    })
}

#[test]
fn our_kinds_are_defaulted_and_their_status_is_apart() {
    play("ours", |on| {
        let calendar = ours(
            "Calendar",
            "fidelity",
            json!({"timeZone": "Asia/Shanghai", "windows": [{"name": "night", "schedule": "0 22 * * *", "duration": "4h"}]}),
        );
        let made = on.ask(create(&calendar));
        let with_status = made.with("/status", &json!({"observedGeneration": 1}));
        on.all([
            replace(&with_status),
            replace(&with_status).status().by("controller"),
            merge(&calendar, json!({"status": {"phase": "x"}})),
            merge(&calendar, json!({"status": {"observedGeneration": 2}, "spec": {"timeZone": "UTC"}})).status(),
            merge(&calendar, json!({"metadata": {"labels": {"l": "v"}}, "status": {"observedGeneration": 3}})).status(),
            merge(&calendar, json!({"spec": {"timeZone": "UTC"}})),
            merge(&calendar, json!({"metadata": {"annotations": {"l": "v"}}})),
            merge(&calendar, json!({"metadata": {"generation": 9}})),
            apply(&calendar).by("two"),
            apply(&calendar).by("two").forced(),
            apply(with_status.edited(|object| {
                object["metadata"] = json!({"name": "fidelity"});
            }))
            .by("applier")
            .status(),
            replace(&calendar),
            get(&calendar),
            list(&calendar).with_fields("metadata.name=fidelity"),
            list(&calendar).with_fields("spec.timeZone=UTC"),
            delete(&calendar),
        ]);
    });
}

#[test]
fn our_kinds_refuse_what_their_schemas_do_not_allow() {
    play("ours wrong", |on| {
        let person = ours("Person", "fidelity", json!({"displayName": {"en": "Li Na"}, "identities": ["li.na"]}));
        let with = |pointer: &str, value: Value| {
            let mut person = person.clone();
            put(&mut person, pointer, value);
            person
        };
        for wrong in [
            with("/spec/unknown", json!(1)),
            with("/spec/displayName/fr", json!("x")),
            with("/unknown", json!(1)),
            with("/spec/identities", json!("li.na")),
            with("/spec/identities", json!([5])),
            with("/spec/identities", json!([])),
            with("/spec/identities", Value::Null),
            with("/spec/identities", json!(["a", "a"])),
            with("/spec/identities", json!([""])),
            with("/spec/identities", json!(vec!["x"; 200])),
            with("/spec/identities", json!(["x".repeat(2000)])),
            with("/spec/displayName", json!({"en": ""})),
            with("/spec", Value::Null),
            with("/spec", json!([])),
            with("/metadata/labels", json!({"-": "x"})),
            with("/metadata/finalizers", json!(["short"])),
            with("/metadata/name", json!("Not_A_Name")),
        ] {
            on.ask(create(&wrong).dry());
        }
        on.all([
            create(&person),
            merge(&person, json!({"spec": {"unknown": 1}})).named("patch"),
            merge(&person, json!({"spec": {"identities": [5]}})),
            merge(&person, json!({"spec": null})),
            apply(with("/spec/unknown", json!(1))),
            apply(with("/spec/identities", json!([5]))),
            apply(with("/spec/identities", json!("x"))),
            delete(&person),
        ]);
    });
}

#[test]
fn changes_are_defaulted_and_bounded() {
    play("ours changes", |on| {
        let manifest =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "web"}, "data": {"a": "1"}});
        let change = on.placed(ours(
            "ChangeRequest",
            "fidelity",
            json!({"title": "A change", "reason": "Because", "requester": "alice", "content": {"manifests": [manifest]}}),
        ));
        let made = on.ask(create(&change));
        let with = |pointer: &str, value: Value| made.with(pointer, &value);
        on.all([
            replace(with("/spec/title", json!(""))),
            replace(with("/spec/title", json!("x".repeat(5000)))),
            replace(with("/spec/type", json!("Nonsense"))),
            replace(with("/spec/content/manifests", json!([]))),
            replace(with("/spec/content/manifests", json!([{"kind": "ConfigMap"}]))),
            replace(with("/spec/content/manifests/0/data/more", json!({"any": ["thing", 1, null]}))),
            merge(&change, json!({"spec": {"title": "Another"}})),
            apply(&change).by("two").forced(),
            delete(&change),
        ]);
    });
}

/// Every keyword that definitions may use.
fn schema_of_every_sort() -> Value {
    json!({
        "type": "object",
        "required": ["must"],
        "properties": {
            "must": {"type": "string"},
            "colour": {"type": "string", "enum": ["red", "green"], "default": "red"},
            "count": {"type": "integer", "minimum": 1, "maximum": 10, "multipleOf": 2},
            "share": {"type": "number", "minimum": 0, "exclusiveMinimum": true, "maximum": 1.5},
            "big": {"type": "integer", "format": "int32"},
            "flag": {"type": "boolean", "default": false},
            "code": {"type": "string", "pattern": "^[a-z]+$", "minLength": 2, "maxLength": 4},
            "when": {"type": "string", "format": "date-time"},
            "day": {"type": "string", "format": "date"},
            "wait": {"type": "string", "format": "duration"},
            "mail": {"type": "string", "format": "email"},
            "id": {"type": "string", "format": "uuid"},
            "address": {"type": "string", "format": "ipv4"},
            "port": {"x-kubernetes-int-or-string": true},
            "maybe": {"type": "string", "nullable": true},
            "filled": {"type": "string", "nullable": true, "default": "x"},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "map": {"type": "object", "additionalProperties": {"type": "integer"}, "maxProperties": 2},
            "least": {"type": "object", "additionalProperties": {"type": "string"}, "minProperties": 1},
            "nested": {"type": "object", "default": {}, "properties": {
                "depth": {"type": "integer", "default": 3},
                "inner": {"type": "object", "properties": {"x": {"type": "string", "default": "y"}}},
            }},
            "list": {"type": "array", "minItems": 1, "maxItems": 3, "items": {"type": "string"}},
            "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
            "parts": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                "items": {"type": "object", "required": ["name"], "properties": {
                    "name": {"type": "string"}, "size": {"type": "integer", "default": 1},
                }}},
            "atom": {"type": "object", "x-kubernetes-map-type": "atomic", "properties": {"a": {"type": "string"}, "b": {"type": "string"}}},
            "either": {"oneOf": [{"required": ["a"]}, {"required": ["b"]}], "type": "object",
                "properties": {"a": {"type": "string"}, "b": {"type": "string"}}},
            "both": {"allOf": [{"maxLength": 3}, {"pattern": "^x"}], "type": "string"},
            "any": {"anyOf": [{"minLength": 5}, {"pattern": "^x"}], "type": "string"},
            "none": {"not": {"pattern": "^x"}, "type": "string"},
            "embedded": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true},
        },
    })
}

#[test]
fn schemas_of_every_sort() {
    play("schemas", |on| {
        let definition = definition("Widget", &schema_of_every_sort());
        on.define(&definition);
        let plain = on.placed(json!({
            "apiVersion": "example.org/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": {"must": "x"},
        }));
        let made = on.ask(create(&plain));
        for (field, values) in [
            ("must", vec![json!(null), json!(5)]),
            ("colour", vec![json!("green"), json!("blue"), json!(null), json!("")]),
            ("count", vec![json!(2), json!(3), json!(0), json!(12), json!("2"), json!(2.5), json!(4.0)]),
            ("share", vec![json!(0), json!(0.5), json!(1.5), json!(1.6), json!(1)]),
            ("big", vec![json!(4_294_967_296_i64), json!(7)]),
            ("flag", vec![json!(true), json!("true"), json!(null)]),
            ("code", vec![json!("ab"), json!("a"), json!("abcde"), json!("AB"), json!("ünï")]),
            (
                "when",
                vec![json!("2026-01-01T00:00:00Z"), json!("2026-01-01"), json!("2026-01-01T00:00:00+08:00"), json!("")],
            ),
            ("day", vec![json!("2026-01-01"), json!("2026-13-01")]),
            ("wait", vec![json!("10m"), json!("1h30m"), json!("soon")]),
            ("mail", vec![json!("a@example.org"), json!("nobody")]),
            ("id", vec![json!("00000000-0000-4000-8000-000000000001"), json!("nobody")]),
            ("address", vec![json!("10.0.0.1"), json!("10.0.0.256")]),
            ("port", vec![json!(80), json!("http"), json!(1.5), json!(true)]),
            ("maybe", vec![json!("x"), json!({}), json!(null)]),
            ("filled", vec![json!("y"), json!(null)]),
            ("free", vec![json!({"any": {"thing": [1, null]}}), json!([])]),
            ("map", vec![json!({"a": 1}), json!({"a": "1"}), json!({"a": 1, "b": 2, "c": 3}), json!({"a": null})]),
            ("least", vec![json!({"a": "1"}), json!({})]),
            (
                "nested",
                vec![json!({"depth": 4}), json!({"inner": {}}), json!({"unknown": 1}), json!({"inner": {"y": 1}})],
            ),
            ("list", vec![json!(["a"]), json!([]), json!(["a", "b", "c", "d"]), json!(["a", 1]), json!([null])]),
            ("tags", vec![json!(["a", "b"]), json!(["a", "a"])]),
            ("parts", vec![json!([{"name": "a"}]), json!([{"name": "a"}, {"name": "a"}]), json!([{"size": 2}])]),
            ("either", vec![json!({"a": "x"}), json!({"a": "x", "b": "y"}), json!({})]),
            ("both", vec![json!("xab"), json!("abc"), json!("xabc"), json!("abcd")]),
            ("any", vec![json!("xa"), json!("abcde"), json!("ab")]),
            ("none", vec![json!("ab"), json!("xb")]),
            (
                "embedded",
                vec![
                    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": {}}),
                    json!({"kind": "Pod"}),
                    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "Not_A_Name"}}),
                ],
            ),
            ("unknown", vec![json!(1)]),
        ] {
            for value in values {
                let name = if ["either", "both", "any", "none"].contains(&field) { "logic" } else { field };
                on.ask(replace(made.edited(|object| object["spec"][field] = value.clone())).dry().named(name));
            }
        }
        on.ask(delete(&plain));
        on.undefine(&definition);
    });
}

#[test]
fn applying_to_lists_and_maps_of_a_schema() {
    play("custom apply", |on| {
        let schema = json!({
            "type": "object",
            "properties": {
                "colour": {"type": "string"},
                "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
                "list": {"type": "array", "items": {"type": "string"}},
                "map": {"type": "object", "additionalProperties": {"type": "integer"}},
                "atom": {"type": "object", "x-kubernetes-map-type": "atomic", "properties": {"a": {"type": "string"}, "b": {"type": "string"}}},
                "parts": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                    "items": {"type": "object", "required": ["name"], "properties": {
                        "name": {"type": "string"}, "size": {"type": "integer", "default": 1}, "note": {"type": "string"},
                    }}},
            },
        });
        let definition = definition("Gadget", &schema);
        on.define(&definition);
        let place = on.placed(json!({"apiVersion": "example.org/v1", "kind": "Gadget", "metadata": {"name": "g"}}));
        let of = |spec: Value| {
            let mut gadget = place.clone();
            gadget["spec"] = spec;
            gadget
        };
        let full = of(json!({
            "colour": "red", "tags": ["a", "b"], "list": ["x"], "map": {"m": 1}, "atom": {"a": "1"},
            "parts": [{"name": "one", "size": 2}, {"name": "two", "note": "n"}],
        }));
        on.all([
            apply(&full),
            apply(of(json!({"tags": ["b", "c"], "map": {"n": 2}, "parts": [{"name": "three"}, {"name": "one"}]})))
                .by("two"),
            apply(of(json!({"list": ["y"], "atom": {"b": "2"}, "parts": [{"name": "one", "size": 3}]}))).by("three"),
            apply(of(json!({"list": ["y"], "atom": {"b": "2"}, "parts": [{"name": "one", "size": 3}]})))
                .by("three")
                .forced(),
            apply(of(json!({"colour": "red", "tags": [], "map": {}, "parts": []}))),
            apply(of(json!({"tags": null, "parts": [{"name": "one", "size": null}]}))).by("four"),
            apply(of(json!({"parts": [{"name": "one"}, {"name": "one"}]}))).by("five"),
            apply(of(json!({"parts": [{"size": 1}]}))).by("five"),
            apply(of(json!({"tags": ["a", "a"]}))).by("five"),
            apply(of(json!({}))).by("three"),
            apply(of(json!({}))),
            merge(&place, json!({"spec": {"parts": null, "colour": "blue"}})).by("hand"),
            apply(&full),
            apply(&full).forced(),
            list(&place).with_fields("spec.colour=red"),
            list(&place).with_fields("spec.colour=blue"),
            list(&place).with_fields("spec.list=x"),
            delete(&place),
        ]);
        on.undefine(&definition);
    });
}
