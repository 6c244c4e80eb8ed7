//! Objects come, change and go.

use serde_json::json;

use super::{
    play::play,
    request::{create, delete, get, merge, replace},
};

#[test]
fn creating_replacing_and_deleting() {
    play("crud", |on| {
        let wanted = on.config("crud", json!({"a": "1"}));
        on.ask(get(&wanted));
        let made = on.ask(create(&wanted));
        on.ask(create(&wanted));
        let next = made.with("/data", &json!({"a": "2", "b": "x"}));
        let replaced = on.ask(replace(&next).by("two"));
        on.all([
            replace(&next).by("two"),
            replace(&replaced).by("three"),
            merge(&wanted, json!({"data": {"b": null, "c": "3"}, "metadata": {"labels": {"l": "v"}}})).by("two"),
            delete(&wanted).of_uid(json!("another")),
            delete(&wanted).of_uid(&made).of_version(&made),
        ]);
        let live = on.ask(get(&wanted));
        on.all([delete(&wanted).of_uid(&live).of_version(&live), get(&wanted), delete(&wanted)]);
    });
}

#[test]
fn finalizers_hold_an_object_until_they_are_gone() {
    play("finalizers", |on| {
        let mut wanted = on.config("finalizers", json!({"a": "1"}));
        wanted["metadata"]["finalizers"] = json!(["example.org/hold"]);
        on.all([
            create(&wanted),
            delete(&wanted),
            get(&wanted),
            delete(&wanted),
            merge(&wanted, json!({"data": {"a": "2"}})),
            merge(&wanted, json!({"metadata": {"deletionTimestamp": null}})),
            merge(&wanted, json!({"metadata": {"finalizers": ["example.org/hold", "example.org/more"]}})),
            merge(&wanted, json!({"metadata": {"finalizers": null}})),
            get(&wanted),
        ]);
    });
}

#[test]
fn what_is_wrong_is_refused_in_the_same_words() {
    play("wrong", |on| {
        let mut nowhere = on.config("wrong", json!({}));
        nowhere["metadata"]["namespace"] = json!("nowhere");
        let mut versioned = on.config("versioned", json!({}));
        versioned["metadata"]["resourceVersion"] = json!("17");
        let absent = on.config("absent", json!({}));
        on.all([
            create(&nowhere),
            create(on.config("Not_A_Name", json!({}))),
            create(&versioned),
            replace(&absent),
            merge(&absent, json!({"data": {"a": "b"}})),
        ]);
    });
}
