//! Differences, going back, and what a manifest states.

use serde_json::{Value, json};

use super::super::{Change, Shape, apply_partial, diff, partial_between, restore_paths, same, stated_paths};
use super::{POD, TELLER, deployment_kind, shown, teller, with, without};

fn paths(changes: &[Change]) -> Vec<String> {
    shown(changes.iter().map(|change| change.path.clone()))
}

fn differing(new: &Value) -> Vec<String> {
    paths(&diff(&deployment_kind(), &teller(), new))
}

fn assert_same(a: &Value, b: &Value) {
    assert!(same(Shape::of_kind(&deployment_kind()), Some(a), Some(b)), "{a:#}\nis not\n{b:#}");
}

#[test]
fn a_difference_names_its_place() {
    let at = |path: &str| format!("{POD}{path}");
    let table = [
        (with(teller(), &format!("{TELLER}/image"), json!("teller:2")), vec![at("/containers[name=teller]/image")]),
        (without(teller(), &format!("{POD}/containers/1")), vec![at("/containers[name=proxy]")]),
        (with(teller(), &format!("{POD}/hostNetwork"), json!(true)), vec![at("/hostNetwork")]),
        (with(teller(), &format!("{POD}/tolerations"), json!([])), vec![at("/tolerations")]),
        (with(teller(), "/metadata/annotations", json!({"a/b": "c"})), vec!["/metadata/annotations/a~1b".into()]),
        (with(teller(), "/metadata/finalizers", json!(["x/y"])), vec!["/metadata/finalizers[=x/y]".into()]),
        (with(teller(), "/spec/selector/matchLabels/app", json!("x")), vec!["/spec/selector".into()]),
        (with(teller(), "/spec/replicas", json!("3")), vec!["/spec/replicas".into()]),
    ];
    for (new, expected) in table {
        assert_eq!(differing(&new), expected);
    }
}

#[test]
fn containers_have_no_order_but_init_containers_and_env_do() {
    let swap = |pointer: &str| {
        let mut object = teller();
        object.pointer_mut(pointer).unwrap().as_array_mut().unwrap().reverse();
        object
    };
    assert!(differing(&swap(&format!("{POD}/containers"))).is_empty());
    let changed = swap(&format!("{POD}/initContainers"));
    assert_eq!(differing(&changed), [format!("{POD}/initContainers[order]")]);
    let (restored, conflicts) =
        restore_paths(&deployment_kind(), &changed, &diff(&deployment_kind(), &teller(), &changed));
    assert_eq!((restored, conflicts), (teller(), vec![]));
    assert_eq!(differing(&swap(&format!("{TELLER}/env"))), [format!("{POD}/containers[name=teller]/env[order]")]);
}

#[test]
fn malformed_lists_are_compared_as_a_whole() {
    for malformed in [
        json!({}),
        json!("containers"),
        json!([{"name": "a"}, {"name": "a"}]),
        json!([{"image": "a"}]),
        json!(["a"]),
        json!([null]),
        json!([{"name": {}}]),
    ] {
        let changed = with(teller(), &format!("{POD}/containers"), malformed);
        assert_eq!(differing(&changed), [format!("{POD}/containers")]);
        let (restored, _) = restore_paths(&deployment_kind(), &changed, &diff(&deployment_kind(), &teller(), &changed));
        assert_same(&restored, &teller());
    }
}

#[test]
fn going_back_leaves_what_the_change_did_not_write() {
    let after = with(teller(), &format!("{TELLER}/image"), json!("teller:2"));
    let after = with(after, &format!("{POD}/containers/-"), json!({"name": "audit", "image": "audit:1"}));
    let after = with(without(after, &format!("{POD}/containers/1")), "/metadata/annotations", json!({"why": "CR-7"}));
    let changes = diff(&deployment_kind(), &teller(), &after);
    let live = with(after, "/spec/replicas", json!(9));
    let live = with(live, "/metadata/resourceVersion", json!("99"));
    let live = with(live, "/status/replicas", json!(9));
    let (restored, conflicts) = restore_paths(&deployment_kind(), &live, &changes);
    let expected = with(teller(), "/spec/replicas", json!(9));
    let expected = with(with(expected, "/metadata/resourceVersion", json!("99")), "/status/replicas", json!(9));
    assert_same(&restored, &expected);
    assert_eq!(restored.pointer("/metadata/annotations"), None);
    assert_eq!(conflicts, []);
}

#[test]
fn somebody_elses_value_is_put_back_and_reported() {
    let after = with(teller(), &format!("{TELLER}/image"), json!("teller:2"));
    let changes = diff(&deployment_kind(), &teller(), &after);
    let live = with(teller(), &format!("{TELLER}/image"), json!("teller:evil"));
    let (restored, conflicts) = restore_paths(&deployment_kind(), &live, &changes);
    assert_same(&restored, &teller());
    assert_eq!(conflicts.len(), 1);
    assert_eq!((conflicts[0].restored, &conflicts[0].live), (true, &Some(json!("teller:evil"))));
    assert_eq!(restore_paths(&deployment_kind(), &teller(), &changes), (teller(), vec![]), "already back");
}

#[test]
fn a_container_that_is_gone_is_not_half_made() {
    let after = with(teller(), &format!("{TELLER}/image"), json!("teller:2"));
    let changes = diff(&deployment_kind(), &teller(), &after);
    let live = without(after, &format!("{POD}/containers/0"));
    let (restored, conflicts) = restore_paths(&deployment_kind(), &live, &changes);
    assert_eq!(restored, live);
    assert!(matches!(&conflicts[..], [conflict] if !conflict.restored && conflict.live.is_none()));
}

#[test]
fn a_manifest_merges_by_key() {
    let manifest = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "teller", "namespace": "teller"},
        "spec": {"replicas": null, "template": {"spec": {
            "containers": [{"name": "audit", "image": "audit:1", "tty": null}, {"name": "teller", "image": "teller:2"}],
            "tolerations": [{"key": "vault"}],
        }}},
    });
    let applied = apply_partial(&deployment_kind(), Some(&teller()), &manifest);
    let names: Vec<&Value> = applied
        .pointer(&format!("{POD}/containers"))
        .unwrap()
        .as_array()
        .unwrap()
        .iter()
        .map(|item| &item["name"])
        .collect();
    assert_eq!(names, ["audit", "teller", "proxy"]);
    let mut expected = with(without(teller(), "/spec/replicas"), &format!("{TELLER}/image"), json!("teller:2"));
    expected = with(expected, &format!("{POD}/containers/-"), json!({"name": "audit", "image": "audit:1"}));
    assert_same(&applied, &with(expected, &format!("{POD}/tolerations"), json!([{"key": "vault"}])));
    let created = apply_partial(&deployment_kind(), None, &manifest);
    assert_eq!(created.pointer("/spec/replicas"), None);
    assert_eq!(created.pointer(&format!("{POD}/containers/0/tty")), None);
}

#[test]
fn merged_items_keep_the_manifests_order_and_their_neighbours() {
    let list = |names: &[&str]| {
        let env: Vec<Value> = names.iter().map(|name| json!({"name": name})).collect();
        with(teller(), &format!("{TELLER}/env"), json!(env))
    };
    let table: [(&[&str], &[&str], &[&str]); 5] = [
        (&["a", "x", "b"], &["b", "a"], &["b", "a", "x"]),
        (&["x", "a"], &["b", "a"], &["x", "b", "a"]),
        (&["a"], &["c", "a", "d"], &["c", "a", "d"]),
        (&[], &["b", "a"], &["b", "a"]),
        (&["a", "x"], &["a", "c"], &["a", "x", "c"]),
    ];
    for (live, manifest, expected) in table {
        let applied = apply_partial(&deployment_kind(), Some(&list(live)), &list(manifest));
        assert_eq!(applied.pointer(&format!("{TELLER}/env")), list(expected).pointer(&format!("{TELLER}/env")));
    }
}

#[test]
fn the_part_between_two_objects_says_what_goes_too() {
    let debug = json!({"name": "DEBUG", "value": "1"});
    let live = with(with(teller(), &format!("{TELLER}/env/-"), debug), &format!("{POD}/hostNetwork"), json!(true));
    let part =
        partial_between(&deployment_kind(), &live, &with(teller(), &format!("{TELLER}/image"), json!("teller:2")));
    let containers = json!([
        {"name": "teller", "image": "teller:2", "env": [{"name": "DEBUG", "$patch": "delete"}, {"name": "HOST"}, {"name": "URL"}]},
        {"name": "proxy"},
    ]);
    let pod = json!({"hostNetwork": null, "containers": containers});
    assert_eq!(part, Some(json!({"spec": {"template": {"spec": pod}}})));
    let gone = (format!("{TELLER}/env[name=DEBUG]").replace("/containers/0", "/containers[name=teller]"), Value::Null);
    let stated = stated_paths(&deployment_kind(), &part.unwrap());
    assert!(stated.iter().any(|(path, value)| (path.to_string(), value.clone()) == gone), "{stated:?}");
}

#[test]
fn the_part_between_two_objects_makes_one_the_other_or_is_none() {
    let finalizers = |all: &[&str]| with(teller(), "/metadata/finalizers", json!(all));
    let others = [
        teller(),
        without(teller(), &format!("{POD}/containers/1")),
        without(teller(), &format!("{POD}/initContainers")),
        with(
            teller(),
            &format!("{POD}/initContainers"),
            json!([{"name": "migrate", "image": "migrate:2"}, {"name": "fetch"}]),
        ),
        with(teller(), &format!("{POD}/containers/-"), json!({"name": "audit", "image": "audit:1"})),
        with(teller(), &format!("{TELLER}/ports"), json!([{"containerPort": 9090}, {"containerPort": 8080}])),
        with(teller(), &format!("{TELLER}/resources"), json!({})),
        with(teller(), &format!("{POD}/tolerations"), json!([])),
        finalizers(&["x/y"]),
    ];
    for live in &others {
        for wanted in &others {
            let part = partial_between(&deployment_kind(), live, wanted).unwrap_or_else(|| panic!("{live} {wanted}"));
            assert_eq!(&apply_partial(&deployment_kind(), Some(live), &part), wanted, "{part}");
        }
    }
    // A member of a set has no key by which a part could name it.
    assert_eq!(partial_between(&deployment_kind(), &finalizers(&["x/y", "z"]), &finalizers(&["z"])), None);
}

#[test]
fn a_manifest_states_its_leaves() {
    let manifest = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "teller", "namespace": "teller", "finalizers": ["a"]},
        "spec": {"paused": null, "selector": {"matchLabels": {"app": "x"}}, "template": {"spec": {
            "containers": [{"name": "teller", "args": ["-v"], "env": []}], "securityContext": {},
        }}},
    });
    let stated = stated_paths(&deployment_kind(), &manifest);
    let expected = [
        "/metadata/finalizers[=a]".to_owned(),
        "/spec/paused".to_owned(),
        "/spec/selector".to_owned(),
        format!("{POD}/containers[name=teller]/args"),
        format!("{POD}/containers[name=teller]/env"),
        format!("{POD}/containers[name=teller]/name"),
        format!("{POD}/securityContext"),
    ];
    assert_eq!(shown(stated.into_iter().map(|(path, _)| path)), expected);
}
