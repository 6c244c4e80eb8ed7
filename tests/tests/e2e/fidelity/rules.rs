//! The rules of definitions (CEL).

use serde_json::{Value, json};

use super::{
    custom::definition,
    play::play,
    request::{Both, Request, apply, create, delete, merge, replace},
};

fn ours(kind: &str, spec: Value) -> Value {
    json!({"apiVersion": "interlock.dev/v1alpha1", "kind": kind, "metadata": {"name": "fidelity"}, "spec": spec})
}

#[test]
fn our_rules_refuse_the_same() {
    play("our rules", |on| {
        let times = |windows: Value| ours("Calendar", json!({"timeZone": "UTC", "windows": windows}));
        let evidence = |spec: Value| {
            let mut evidence = json!({
                "changeRequest": "x", "kind": "Test", "issuer": "ci", "passed": true, "producedAt": "2026-01-01T00:00:00Z",
            });
            evidence.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
            on.placed(ours("Evidence", evidence))
        };
        let change = |manifest: Value| {
            let spec = json!({"title": "x", "reason": "y", "requester": "alice", "content": {"manifests": [manifest]}});
            on.placed(ours("ChangeRequest", spec))
        };
        let digest = format!("sha256:{}", "0".repeat(64));
        let named = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "web"}});
        let wrong = [
            times(json!([{"name": "a", "schedule": "0 22 * * *"}])),
            times(json!([{"name": "a", "from": "2026-01-02T00:00:00+08:00", "until": "2026-01-01T17:00:00Z"}])),
            times(json!([{"name": "a", "from": "2026-01-02T00:00:00", "until": "2026-01-01T17:00:00"}])),
            times(json!([{"name": "a", "from": "2026-01-01T00:00:00", "until": "2026-01-01T17:00:00"}])),
            ours("Person", json!({"displayName": {}, "identities": ["x"]})),
            ours("Person", json!({"displayName": {"en": "x"}, "identities": ["x", "system:admin"]})),
            evidence(json!({})),
            evidence(json!({"contentDigest": digest, "artifactDigest": digest})),
            change(json!({"apiVersion": "v1", "kind": "ConfigMapList", "metadata": {"name": "x"}})),
            change(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": ""}})),
            change(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}})),
            change(json!({"apiVersion": "v1", "kind": "ConfigMap"})),
        ];
        let change = change(named);
        for object in &wrong {
            on.ask(create(object).dry());
        }
        on.all([
            create(&change),
            merge(&change, json!({"spec": {"requester": "bob"}})),
            merge(&change, json!({"spec": {"content": {"manifests": null}}})),
            merge(&change, json!({"spec": {"schedule": {"notBefore": "2026-01-02T00:00:00Z", "expiresAt": "2026-01-01T00:00:00Z"}}})),
            merge(&change, json!({"spec": {"requester": "bob", "content": {"manifests": []}}})),
            delete(&change),
        ]);
    });
}

#[test]
fn rules_of_every_sort() {
    play("rules", |on| {
        let rule = |rule: &str| json!([{"rule": rule}]);
        let schema = json!({
            "type": "object",
            "properties": {
                "text": {"type": "string", "maxLength": 50, "x-kubernetes-validations": [
                    {"rule": "self != 'bad'", "message": "not bad"},
                    {"rule": "self != 'worse'", "messageExpression": "'not ' + self", "reason": "FieldValueForbidden"},
                    {"rule": "self.size() < 10"},
                ]},
                "number": {"type": "integer", "x-kubernetes-validations": [
                    {"rule": "self < 5", "message": "too much", "reason": "FieldValueInvalid"},
                    {"rule": "10 / self > 0", "message": "never told"},
                ]},
                "real": {"type": "number", "x-kubernetes-validations": rule("self <= 1.0")},
                "flag": {"type": "boolean", "x-kubernetes-validations": rule("self")},
                "fixed": {"type": "string", "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "is fixed"}]},
                "grows": {"type": "integer", "x-kubernetes-validations": [
                    {"rule": "!oldSelf.hasValue() || self >= oldSelf.value()", "optionalOldSelf": true},
                ]},
                "list": {"type": "array", "maxItems": 5, "items": {"type": "string", "maxLength": 5,
                    "x-kubernetes-validations": rule("self != 'x'")},
                    "x-kubernetes-validations": rule("self.all(i, i.startsWith('a')) || self.size() == 1")},
                "map": {"type": "object", "maxProperties": 5, "additionalProperties": {"type": "integer",
                    "x-kubernetes-validations": rule("self > 0")},
                    "x-kubernetes-validations": rule("!('no' in self) && self.all(k, k.size() < 5)")},
                "parts": {"type": "array", "maxItems": 5, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                    "items": {"type": "object", "required": ["name"], "properties": {
                        "name": {"type": "string", "maxLength": 5},
                        "size": {"type": "integer", "x-kubernetes-validations": [{"rule": "self >= oldSelf", "message": "shrinks"}]},
                    }}},
                "from": {"type": "string", "format": "date-time"},
                "until": {"type": "string", "format": "date-time"},
                "wait": {"type": "string", "format": "duration", "x-kubernetes-validations": rule("self <= duration('1h')")},
                "set": {"type": "array", "maxItems": 5, "x-kubernetes-list-type": "set", "items": {"type": "string", "maxLength": 5},
                    "x-kubernetes-validations": rule("self == ['b', 'a'] || self.size() != 2")},
                "memory": {"type": "string", "maxLength": 10, "x-kubernetes-validations": rule("isQuantity(self) && quantity(self).isLessThan(quantity('2Gi'))")},
                "path": {"type": "object", "properties": {"of": {"type": "string", "maxLength": 5}}, "x-kubernetes-validations": [
                    {"rule": "has(self.of)", "message": "of is missing", "fieldPath": ".of", "reason": "FieldValueRequired"},
                ]},
                "in-dash": {"type": "string", "maxLength": 5},
                "namespace": {"type": "string", "maxLength": 5},
            },
            "x-kubernetes-validations": [
                {"rule": "!has(self.from) || !has(self.until) || self.from < self.until", "message": "until must be later"},
                {"rule": "!has(self.in__dash__dash) || self.in__dash__dash != 'no'", "message": "dash"},
                {"rule": "!has(self.__namespace__) || self.__namespace__ != 'no'", "message": "namespace"},
            ],
        });
        let definition = definition("Ruled", &schema);
        on.define(&definition);
        let plain = on.placed(json!({
            "apiVersion": "example.org/v1", "kind": "Ruled", "metadata": {"name": "r"},
            "spec": {"fixed": "a", "grows": 2, "parts": [{"name": "p", "size": 2}, {"name": "q", "size": 2}]},
        }));
        let made = on.ask(create(&plain));
        let with = |field: &str, value: &Value| -> Both { made.edited(|object| object["spec"][field] = value.clone()) };
        for (field, values) in [
            ("text", vec![json!("good"), json!("bad"), json!("worse"), json!("0123456789")]),
            ("number", vec![json!(3), json!(5), json!(20), json!(0)]),
            ("real", vec![json!(1), json!(1.5)]),
            ("flag", vec![json!(true), json!(false)]),
            ("fixed", vec![json!("a"), json!("b"), json!(null)]),
            ("grows", vec![json!(3), json!(1), json!(null)]),
            ("list", vec![json!(["a", "ab"]), json!(["a", "b"]), json!(["x"]), json!(["b"])]),
            ("map", vec![json!({"a": 1}), json!({"a": 0}), json!({"no": 1}), json!({"longer": -1})]),
            (
                "parts",
                vec![
                    json!([{"name": "q", "size": 3}, {"name": "p", "size": 2}]),
                    json!([{"name": "q", "size": 1}, {"name": "p", "size": 1}]),
                    json!([{"name": "new", "size": 1}]),
                ],
            ),
            ("wait", vec![json!("59m"), json!("61m")]),
            ("set", vec![json!(["a", "b"]), json!(["a", "c"])]),
            ("memory", vec![json!("1Gi"), json!("3Gi"), json!("lots")]),
            ("path", vec![json!({"of": "x"}), json!({})]),
            ("in-dash", vec![json!("yes"), json!("no")]),
            ("namespace", vec![json!("yes"), json!("no")]),
        ] {
            for value in values {
                let name = if field == "map" { "map" } else { "" };
                on.ask(replace(with(field, &value)).dry().named(name));
            }
        }
        let several: [Request; 4] = [
            merge(&plain, json!({"spec": {"from": "2026-01-01T00:00:00Z", "until": "2025-12-31T23:00:00Z"}})),
            merge(&plain, json!({"spec": {"from": "2026-01-01T00:00:00+08:00", "until": "2025-12-31T23:00:00Z"}})),
            merge(&plain, json!({"spec": {"fixed": "b", "flag": false, "number": 7}})),
            apply(on.placed(json!({"apiVersion": "example.org/v1", "kind": "Ruled", "metadata": {"name": "r"}, "spec": {"text": "bad"}}))),
        ];
        on.all(several);
        on.ask(delete(&plain));
        on.undefine(&definition);
    });
}

#[test]
fn what_was_wrong_before_may_stay() {
    play("ratcheting", |on| {
        let schema = |text: Value, most: u64| {
            let mut text = text;
            text["type"] = json!("string");
            json!({"type": "object", "properties": {
                "text": text, "other": {"type": "string", "maxLength": most},
                "list": {"type": "array", "maxItems": 5, "items": {"type": "string", "maxLength": most}},
            }})
        };
        let loose = definition("Ratchet", &schema(json!({"maxLength": 20}), 20));
        let rules = json!([{"rule": "self.startsWith('a')", "message": "a comes first"}]);
        let tight = definition("Ratchet", &schema(json!({"maxLength": 20, "x-kubernetes-validations": rules}), 3));
        on.define(&loose);
        let object = on.placed(json!({
            "apiVersion": "example.org/v1", "kind": "Ratchet", "metadata": {"name": "r"},
            "spec": {"text": "bad", "other": "too long", "list": ["too long"]},
        }));
        on.ask(create(&object));
        on.redefine(&tight, &object);
        on.all([
            merge(&object, json!({"metadata": {"labels": {"l": "v"}}})),
            merge(&object, json!({"spec": {"text": "worse"}})),
            merge(&object, json!({"spec": {"other": "too long too"}})),
            merge(&object, json!({"spec": {"list": ["too long", "more"]}})),
            merge(&object, json!({"spec": {"list": ["ok"]}})),
            merge(&object, json!({"spec": {"text": "ab", "other": "abc"}})),
            merge(&object, json!({"spec": {"text": "bad"}})),
            delete(&object),
        ]);
        on.undefine(&loose);
    });
}
