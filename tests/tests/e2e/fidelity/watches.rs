//! Lists and watches: what is told, in which order, from where on.

use serde_json::{Value, json};

use super::{
    play::{Case, play},
    request::{Both, create, delete, list, merge, replace},
};

fn kind() -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap"})
}

fn labelled(on: &Case, name: &str, label: &str) -> Value {
    let mut config = on.config(name, json!({"a": "1"}));
    config["metadata"]["labels"] = json!({"l": label});
    config
}

/// Objects come, change, are held, and go.
fn busy(on: &mut Case) -> Both {
    let first = on.ask(create(labelled(on, "first", "x")));
    let second = labelled(on, "second", "y");
    let mut held = labelled(on, "held", "x");
    held["metadata"]["finalizers"] = json!(["example.org/hold"]);
    let made = on.ask(create(&second));
    on.all([
        create(&held),
        merge(&second, json!({"data": {"a": "2"}})),
        // Writes that store nothing are told to nobody.
        merge(&second, json!({"data": {"a": "2"}})).by("two"),
        merge(&second, json!({"data": {"a": "3"}})).dry(),
        replace(&made),
        delete(&held),
        delete(&held),
        merge(&held, json!({"metadata": {"annotations": {"n": "1"}}})),
        merge(&held, json!({"metadata": {"finalizers": null}})),
        // It leaves what is selected, and comes back.
        merge(&first, json!({"metadata": {"labels": {"l": "y"}}})),
        merge(&first, json!({"metadata": {"labels": {"l": "x"}}})),
        delete(&second).of_version(json!("1")),
        delete(&second),
        create(&second),
        create(labelled(on, "end", "x")),
    ]);
    first
}

#[test]
fn a_watch_tells_every_write_in_order() {
    play("watch", |on| {
        let start = on.ask(create(on.config("start", json!({}))));
        busy(on);
        on.watch(&kind(), Some(&start), "");
    });
}

#[test]
fn a_watch_with_labels_tells_who_comes_and_who_leaves() {
    play("watch labels", |on| {
        let start = on.ask(create(on.config("start", json!({}))));
        let first = busy(on);
        on.watch(&kind(), Some(&start), "l=x");
        on.watch(&kind(), Some(&first), "l in (x)");
        on.watch(&kind(), Some(&start), "l notin (y)");
    });
}

#[test]
fn a_streamed_list_ends_with_a_bookmark() {
    play("watch list", |on| {
        busy(on);
        on.watch(&kind(), None, "");
        on.watch(&kind(), None, "l=y");
    });
}

#[test]
fn a_watch_from_what_is_forgotten_is_refused() {
    play("watch stale", |on| {
        // Definitions are made after the server began, so that it knows nothing of their kinds from before.
        let calendar = json!({"apiVersion": "interlock.dev/v1alpha1", "kind": "Calendar", "metadata": {"name": "x"}});
        on.sim().compact(u64::MAX);
        on.watch_all(&calendar, Some(&Both::from(json!({"metadata": {"resourceVersion": "1"}}))), "");
    });
}

#[test]
fn a_watch_of_cluster_wide_kinds() {
    play("watch cluster", |on| {
        let class = |name: &str| {
            json!({
                "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
                "metadata": {"name": name, "labels": {"case": "watch"}}, "value": 5,
            })
        };
        let start = on.ask(create(class("start")));
        on.all([create(class("one")), merge(class("one"), json!({"description": "x"})), create(class("end"))]);
        on.watch_all(&class("end"), Some(&start), "case=watch");
        on.all([delete(class("start")), delete(class("one")), delete(class("end"))]);
    });
}

#[test]
fn lists_select_by_labels_and_fields() {
    play("lists", |on| {
        for (name, labels) in [
            ("a", json!({"app": "web", "tier": "front"})),
            ("b", json!({"app": "web", "tier": "back"})),
            ("c", json!({"app": "db", "example.org/old": ""})),
            ("d", Value::Null),
        ] {
            let mut config = on.config(name, json!({}));
            config["metadata"]["labels"] = labels;
            on.ask(create(&config));
        }
        let any = on.config("any", json!({}));
        for labels in [
            "",
            "app=web",
            "app==web,tier=front",
            "app!=web",
            "app in (web,db)",
            "app in (web, db),tier notin (front)",
            "tier",
            "!tier",
            "example.org/old",
            "example.org/old=",
            "app in ()",
            "app=,tier",
        ] {
            on.ask(list(&any).labelled(labels));
        }
        for labels in ["app=we b", "=web", "app in web"] {
            on.ask(list(&any).labelled(labels).named("unreadable"));
        }
        for fields in [
            "metadata.name=a",
            "metadata.name!=a",
            "metadata.name=a,metadata.namespace=fidelity-lists",
            "metadata.name=nobody",
            "data.a=1",
            "metadata.name",
        ] {
            on.ask(list(&any).with_fields(fields));
        }
    });
}

#[test]
fn lists_of_other_kinds_select_by_their_own_fields() {
    play("list fields", |on| {
        let secret = |name: &str, of: &str| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": of});
        let one = on.placed(secret("one", "example.org/a"));
        on.all([create(&one), create(on.placed(secret("two", "example.org/b")))]);
        on.all([
            list(&one).with_fields("type=example.org/a"),
            list(&one).with_fields("type!=example.org/a,metadata.name=two"),
            list(&one).with_fields("data=1"),
        ]);
        let deployment = on.placed(json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x"}}));
        on.ask(list(&deployment).with_fields("spec.replicas=1"));
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "x"}});
        on.ask(list(&namespace).with_fields("metadata.name=fidelity-list-fields"));
        on.ask(list(&namespace).with_fields("status.phase=Active,metadata.name=fidelity-list-fields"));
    });
}
