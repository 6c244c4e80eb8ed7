//! Server-side apply: who owns which field.

use serde_json::{Value, json};

use super::{
    play::play,
    request::{apply, delete, merge, replace},
};

#[test]
fn applying_and_owning_fields() {
    play("apply", |on| {
        let one = on.config("apply", json!({"a": "1", "b": "1"}));
        let two = on.config("apply", json!({"b": "2", "c": "2"}));
        let three = on.config("apply", json!({"d": "5"}));
        on.all([
            apply(&one),
            apply(&one),
            apply(&one),
            // Another states a field of the first differently: refused, then taken over.
            apply(&two).by("two"),
            apply(&two).by("two").forced().dry(),
            apply(&two).by("two").forced(),
            // What the owner no longer states goes; what others own stays.
            apply(on.config("apply", json!({}))),
            merge(&two, json!({"data": {"d": "4"}})).by("hand"),
            apply(&three).by("two"),
            apply(&three).by("two").forced(),
            delete(&one),
        ]);
    });
}

#[test]
fn preconditions_of_an_apply() {
    play("preconditions", |on| {
        let wanted = on.config("preconditions", json!({"a": "1"}));
        let mut stated = wanted.clone();
        stated["metadata"]["uid"] = json!("00000000-0000-4000-8000-000000000001");
        on.ask(apply(&stated).forced());
        let made = on.ask(apply(&wanted).forced());
        let version = made.at("/metadata/resourceVersion");
        let old = made.edited(|object| *object = on.config("preconditions", json!({"a": "2"})));
        let mut old = old;
        old.real["metadata"]["resourceVersion"] = version.real;
        old.sim["metadata"]["resourceVersion"] = version.sim;
        on.ask(apply(&old).forced());
        on.ask(apply(old.with("/data/a", &json!("3"))).forced());
        on.ask(delete(&wanted));
    });
}

#[test]
fn managers_are_kept_unless_they_are_to_be_forgotten() {
    play("managers", |on| {
        let made = on.ask(apply(on.config("managers", json!({"a": "1"}))));
        let forgetting = |entries: Value| {
            made.edited(|object| {
                object["metadata"]["managedFields"] = entries.clone();
                object["metadata"].as_object_mut().unwrap().remove("resourceVersion");
            })
        };
        on.all([
            replace(forgetting(Value::Null)).by("two"),
            replace(forgetting(json!([]))).by("two"),
            replace(forgetting(json!([])).with("/data/b", &json!("2"))).by("two"),
            apply(on.config("managers", json!({"a": "2"}))).by("three"),
            merge(&made, json!({"metadata": {"managedFields": null}})),
            replace(forgetting(json!([{}]))).by("two"),
            merge(&made, json!({"data": {"c": "3"}})).by("two"),
            apply(on.config("managers", json!({"a": "2"}))).by("three"),
            apply(on.config("managers", json!({"a": "2"}))).by("three").forced(),
            merge(&made, json!({"metadata": {"managedFields": []}})),
            merge(&made, json!({"data": {"c": "4"}})),
        ]);
        // A manager may be renamed by hand, which is how ownership is handed over.
        let applied = on.ask(apply(on.config("managers", json!({"a": "2"}))).by("three").forced());
        let index = |object: &Value| {
            let entries = object["metadata"]["managedFields"].as_array().unwrap();
            entries.iter().position(|entry| entry["manager"] == "three").unwrap()
        };
        let renamed = applied.edited(|object| {
            let index = index(object);
            object["metadata"]["managedFields"][index]["manager"] = json!("four");
        });
        let odd = applied.edited(|object| object["metadata"]["managedFields"][0]["operation"] = json!("Nonsense"));
        on.all([replace(odd), replace(&renamed).by("five"), apply(on.config("managers", json!({}))).by("four")]);
    });
}
