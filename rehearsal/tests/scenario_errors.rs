//! Bad folders and scenarios: each is refused with the file, the step and what to write instead.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "tests")]

mod common;

use common::{CHANGE, folder};
use interlock_rehearsal::scenario::{Folder, Player, Scenario};

fn refused(rest: &str) -> String {
    let folder = folder(CHANGE);
    let text = format!("start: 2026-11-23T08:00:00Z\n{rest}");
    let scenario = Scenario::parse("test.yaml", &text, &folder);
    scenario.and_then(|scenario| Player::new(&folder, &scenario)).expect_err(rest).to_string()
}

#[test]
fn scenarios_say_where_they_are_wrong() {
    let cases = [
        ("steps: [{at: 1m, aprove: shop/greeting, by: bob}]", "test.yaml, step 1 (at 1m): unknown field `aprove`"),
        ("steps: [{at: 1m}]", "test.yaml, step 1 (at 1m): nothing happens in it"),
        ("steps: [{say: a}, {approve: shop/greeting}]", "test.yaml, step 2: it does not say who does it: add `by`"),
        ("steps: [{approve: shop/greeting, by: bop}]", "nobody is called \"bop\""),
        (
            "steps: [{approve: greeting, by: bob}]",
            "step 1: approve: \"greeting\" names no change: write NAMESPACE/NAME",
        ),
        ("steps: [{approve: shop/greeting, reject: shop/greeting, by: bob}]", "several things (approve, reject)"),
        ("steps: [{at: soon, crash: true}]", "step 1 (at soon): \"soon\" is no moment"),
        ("steps: [{at: 2026-11-01T00:00Z, crash: true}]", "it lies before the start"),
        ("steps: [{propose: {file: none.yaml}}]", "propose: the folder has no such object in a file none.yaml"),
        ("steps: [{propose: {file: shop.yaml}}]", "propose: shop.yaml holds several objects: add `name`"),
        ("steps: [{propose: {file: shop.yaml, name: alice}}]", "propose: it is no ChangeRequest"),
        ("steps: [{edit: ConfigMap/shop/shop, by: bob}]", "edit: edit needs a patch"),
        ("steps: [{delete: shop, by: bob}]", "delete: \"shop\" names no object"),
        ("steps: [{crash: true, ask: Really}]", "ask belongs to a step that approves or rejects"),
        ("steps: [{behaviours: [{effect: nevrReady}]}]", "behaviours: entry 1: unknown variant `nevrReady`"),
        (
            "steps: [{metric: {analysis: errors, value: 1, empty: true}}]",
            "metric: give exactly one of value, empty, fails and missing",
        ),
        ("behaviours: [{image: 1}]", "test.yaml: behaviours: entry 1"),
        ("faults: {lostcalls: 1}", "test.yaml: unknown field `lostcalls`"),
        ("for: later", "test.yaml: \"later\" is no length of time"),
        ("timeZone: Mars/Olympus", "test.yaml: timeZone: \"Mars/Olympus\""),
        ("people: {bob: {away: [{from: 2d, to: 1d}]}}", "people, bob: a holiday ends after it begins"),
        ("steps: [{say: a, expect: [{change: shop/greeting}]}]", "step 1, expect 1: expect exactly one of"),
        ("expect: [{phase: Pending}]", "test.yaml, expect 1: say of which change"),
        ("expect: [{change: shop/greeting, phase: Done}]", "expect 1: unknown variant `Done`"),
        ("expect: [{change: shop/greeting, phase: Pending, gate: Window}]", "this has phase and gate"),
        ("expect: [{change: shop/greeting, gate: Window}]", "say how the gate is"),
        ("expect: [{refused: true}]", "refused belongs to a step"),
        ("expect: [{object: ConfigMap/shop/shop, path: data}]", "path \"data\" is no JSON pointer"),
        ("expect: [{object: ConfigMap/shop/shop, equals: 1, absent: true}]", "leave out equals or absent"),
        ("expect: [{object: ConfigMap/shop/shop, within: 1h}]", "within at the end of the file goes with phase only"),
        ("steps: [", "test.yaml, document 1"),
    ];
    for (text, expected) in cases {
        let message = refused(text);
        assert!(message.contains(expected), "{text}\n  said: {message}\n  not:  {expected}");
    }
}

#[test]
fn folders_say_where_they_are_wrong() {
    let cases = [
        (
            "apiVersion: weather.example/v1\nkind: Storm\nmetadata: {name: a}",
            "does not know the kind Storm of weather.example/v1",
        ),
        (
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: nowhere}",
            "shop.yaml, document 10: ConfigMap a: ",
        ),
        ("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: shop, namespace: shop}", "ConfigMap shop: "),
        ("apiVersion: interlock.dev/v1alpha1\nkind: Approval\nmetadata: {name: a, namespace: shop}", "--replay"),
    ];
    for (text, expected) in cases {
        let folder = folder(text);
        let scenario = Scenario::parse("test.yaml", "start: 2026-11-23T08:00:00Z", &folder).expect("it is a scenario");
        let message = Player::new(&folder, &scenario).expect_err(text).to_string();
        assert!(message.contains(expected) && message.contains("shop.yaml, document 10"), "{message}");
    }
    let broken = Folder::embedded(&[("a.yaml", "kind: Secret\nstringData: {a: *canary}\n")]).expect_err("broken");
    assert!(broken.to_string().starts_with("a.yaml, document 1"), "{broken}");
    assert!(!broken.to_string().contains("canary"), "no value is repeated: {broken}");
    let nameless = Folder::embedded(&[("a.yaml", "apiVersion: v1\nkind: ConfigMap\n")]).expect_err("nameless");
    assert_eq!(nameless.to_string(), "a.yaml, document 1: metadata.name is missing, empty or not a string");
}

#[test]
fn without_a_start_nothing_begins() {
    let folder = folder(CHANGE);
    let scenario = Scenario::parse("test.yaml", "for: 1h", &folder).expect("it is a scenario");
    let error = Player::new(&folder, &scenario).expect_err("no start");
    assert_eq!(error.to_string(), "test.yaml: nothing says when it begins: add `start`");
}
