//! What a write requires of the live object, verb by verb.

use serde_json::{Value, json};

use super::{
    play::play,
    request::{Both, apply, create, delete, merge, replace},
};

const OTHER_UID: &str = "00000000-0000-4000-8000-000000000001";

#[test]
fn versions_and_uids_of_every_verb() {
    play("requirements", |on| {
        let wanted = on.config("requirements", json!({"a": "1"}));
        let made = on.ask(create(&wanted));
        let live = on.ask(merge(&wanted, json!({"data": {"a": "2"}})));
        let changed = |from: &Both, value: &str| from.with("/data/a", &json!(value));
        on.all([
            // A stale version, another uid, both, and neither.
            replace(changed(&made, "3")),
            replace(changed(&live, "3").with("/metadata/uid", &json!(OTHER_UID))),
            replace(changed(&made, "3").with("/metadata/uid", &json!(OTHER_UID))),
            replace(changed(&live, "3").with("/metadata/resourceVersion", &json!("nonsense"))),
            replace(changed(&live, "3").with("/metadata/resourceVersion", &Value::Null)),
            replace(
                changed(&live, "4").with("/metadata/uid", &Value::Null).with("/metadata/resourceVersion", &Value::Null),
            ),
            merge(&wanted, json!({"metadata": {"uid": OTHER_UID}, "data": {"a": "5"}})),
            merge(&wanted, json!({"metadata": {"resourceVersion": "1"}, "data": {"a": "5"}})),
            merge(&wanted, json!({"metadata": {"resourceVersion": ""}, "data": {"a": "6"}})),
            merge(&wanted, json!({"metadata": {"name": "other"}, "data": {"a": "5"}})),
            merge(&wanted, json!({"metadata": {"namespace": "other"}, "data": {"a": "5"}})),
            merge(&wanted, json!({"kind": "Secret"})).named("kind"),
            delete(&wanted).of_uid(json!(OTHER_UID)),
            delete(&wanted).of_version(&made),
            delete(&wanted).of_uid(&made).of_version(&made),
            delete(&wanted).of_uid(json!(OTHER_UID)).dry(),
            delete(&wanted).of_uid(&made).dry(),
            delete(&wanted).of_uid(&made),
            delete(&wanted).of_uid(&made),
        ]);
    });
}

#[test]
fn what_an_apply_requires() {
    play("apply requirements", |on| {
        let wanted = on.config("wanted", json!({"a": "1"}));
        let mut with_uid = wanted.clone();
        with_uid["metadata"]["uid"] = json!(OTHER_UID);
        let mut with_version = wanted.clone();
        with_version["metadata"]["resourceVersion"] = json!("1");
        on.all([apply(&with_uid), apply(&with_version).dry(), apply(&with_version)]);
        let made = on.ask(apply(&wanted));
        let stated = |value: &str, field: &str| {
            let found = made.at(&format!("/metadata/{field}"));
            let mut both = Both::from(&wanted).with("/data/a", &json!(value));
            both.real["metadata"][field] = found.real;
            both.sim["metadata"][field] = found.sim;
            both
        };
        on.all([
            apply(&with_uid),
            apply(&with_version),
            apply(stated("2", "uid")),
            apply(stated("3", "resourceVersion")),
            apply(stated("3", "resourceVersion")),
            apply(stated("4", "resourceVersion")),
        ]);
        let mut managed = wanted.clone();
        managed["metadata"]["managedFields"] = json!([{"manager": "x", "operation": "Apply", "apiVersion": "v1"}]);
        on.all([apply(&managed), apply(wanted).by("")]);
    });
}

#[test]
fn replacing_what_is_not_there() {
    play("create on update", |on| {
        let role = on.placed(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "made"},
            "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}],
        }));
        let lease = on.placed(json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "made"},
            "spec": {"holderIdentity": "x", "leaseDurationSeconds": 15},
        }));
        let budget = on.placed(json!({
            "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "made"}, "spec": {"minAvailable": 1},
        }));
        let mut versioned = role.clone();
        versioned["metadata"]["resourceVersion"] = json!("17");
        let mut with_uid = role.clone();
        with_uid["metadata"]["uid"] = json!(OTHER_UID);
        on.all([
            replace(&versioned),
            replace(&with_uid),
            replace(&role),
            replace(&role),
            replace(&lease),
            replace(&lease),
            replace(&budget),
            create(&budget),
            replace(&budget),
            replace(on.config("absent", json!({}))),
            delete(&role),
        ]);
    });
}

#[test]
fn a_dry_run_does_everything_but_store() {
    play("dry run", |on| {
        let wanted = on.config("tried", json!({"a": "1"}));
        on.all([
            create(&wanted).dry(),
            super::request::get(&wanted),
            apply(&wanted).dry(),
            super::request::get(&wanted),
        ]);
        let mut generated = on.config("unnamed", json!({}));
        generated["metadata"] = json!({"generateName": "tried-", "namespace": generated["metadata"]["namespace"]});
        on.ask(create(&generated).dry());
        let made = on.ask(create(&wanted));
        on.all([
            create(&wanted).dry(),
            replace(made.with("/data/a", &json!("2"))).dry(),
            replace(&made).dry(),
            merge(&wanted, json!({"data": {"b": "2"}})).dry(),
            merge(&wanted, json!({"data": {"b": 2}})).dry().named("type"),
            apply(on.config("tried", json!({"a": "3"}))).by("two").dry(),
            apply(on.config("tried", json!({"a": "3"}))).by("two").forced().dry(),
            delete(&wanted).dry(),
            delete(&wanted).propagating("Foreground").dry(),
            super::request::get(&wanted),
        ]);
    });
}
