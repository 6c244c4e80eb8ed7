//! Every form of expectation, once met and once not.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "tests")]

mod common;

use common::played;

/// What was expected and whether it was so, in order.
fn outcomes(rest: &str) -> Vec<(String, bool, String)> {
    played(rest).expectations.into_iter().map(|outcome| (outcome.text, outcome.met, outcome.found)).collect()
}

#[test]
fn phases_at_once_and_within_a_time() {
    // 12:00 in Berlin is 11:00 in UTC: three hours after the start.
    let found = outcomes(
        "
for: 4h
steps:
- {at: 1m, expect: [{change: shop/greeting, phase: Pending}, {change: shop/greeting, phase: Scheduled}]}
- at: 2m
  approve: shop/greeting
  by: bob
  expect:
  - {change: shop/greeting, phase: Scheduled}
  - {change: shop/greeting, phase: Succeeded, within: 3h}
  - {change: shop/greeting, phase: Succeeded, within: 2h}
expect:
- {change: shop/greeting, phase: Succeeded, within: 3h 1m}
- {change: shop/greeting, phase: Succeeded, within: 2h 59m}
- {change: shop/nobody, phase: Succeeded}
",
    );
    let met: Vec<_> = found.iter().map(|(text, met, _)| (text.as_str(), *met)).collect();
    assert_eq!(
        met,
        [
            ("shop/greeting is Pending", true),
            ("shop/greeting is Scheduled", false),
            ("shop/greeting is Scheduled", true),
            ("shop/greeting is Succeeded within 2h", false),
            ("shop/greeting is Succeeded within 3h", true),
            ("shop/greeting is Succeeded within 3h 1m", true),
            ("shop/greeting is Succeeded within 2h 59m", false),
            ("shop/nobody is Succeeded", false),
        ]
    );
    assert_eq!(found[7].2, "there is no ChangeRequest shop/nobody");
}

#[test]
fn gates_and_what_is_waited_for() {
    let found = outcomes(
        "
for: 2h
steps:
- at: 1m
  expect:
  - {change: shop/greeting, waitsFor: Approval}
  - {change: shop/greeting, waitsFor: Collision}
  - {change: shop/greeting, gate: Window, state: Closed, reason: OutsideWindow, contains: noon}
  - {change: shop/greeting, gate: Window, state: Open}
  - {change: shop/greeting, gate: Window, reason: Frozen}
  - {change: shop/greeting, gate: Window, contains: midnight}
  - {change: shop/greeting, gate: Weather, state: Open}
",
    );
    let met: Vec<_> = found.iter().map(|(_, met, _)| *met).collect();
    assert_eq!(met, [true, false, true, false, false, false, false]);
    assert_eq!(found[6].2, "it has no gate Weather");
}

#[test]
fn starts_and_ends_and_the_calendar_then() {
    let found = outcomes(
        "
for: 4h
steps:
- {at: 1m, approve: shop/greeting, by: bob, expect: [{change: shop/greeting, started: {never: true}}]}
expect:
- {change: shop/greeting, started: {after: 3h, before: 3h 1m, inWindow: true, inFreeze: false}}
- {change: shop/greeting, started: {never: true}}
- {change: shop/greeting, started: {after: 3h 1m}}
- {change: shop/greeting, started: {before: 3h}}
- {change: shop/greeting, started: {inFreeze: true}}
- {change: shop/greeting, started: {inWindow: false}}
- {change: shop/greeting, ended: {before: '2026-11-23T12:05[Europe/Berlin]'}}
- {change: shop/greeting, ended: {before: 1h}}
",
    );
    let met: Vec<_> = found.iter().map(|(_, met, _)| *met).collect();
    assert_eq!(met, [true, true, false, false, false, false, false, true, false]);
    assert_eq!(found[1].2, "it started at 12:00 Europe/Berlin on 2026-11-23, in window noon");
}

#[test]
fn refusals_and_objects() {
    let found = outcomes(
        "
for: 2h
steps:
- at: 1m
  approve: shop/greeting
  by: alice
  expect: [{refused: true, contains: SelfApproval}, {refused: true, contains: Weather}, {refused: false}]
- at: 2m
  approve: shop/greeting
  by: bob
  expect: [{refused: false}, {refused: true}]
- at: 3m
  edit: ConfigMap/shop/shop
  patch: {data: {greeting: hacked}}
  by: bob
  expect:
  - {refused: true, contains: NoApprovedChange}
  - {object: ConfigMap/shop/shop, path: /data/greeting, equals: welcome}
  - {object: ConfigMap/shop/shop, path: /data/greeting, equals: hacked}
  - {object: ConfigMap/shop/shop, path: /data/smell, absent: true}
  - {object: ConfigMap/shop/shop, path: /data/colour, absent: true}
  - {object: ConfigMap/shop/other, absent: true}
  - {object: ConfigMap/shop/shop}
  - {object: ConfigMap/shop/other}
  - {object: Weather/shop/other, absent: true}
",
    );
    let met: Vec<_> = found.iter().map(|(_, met, _)| *met).collect();
    assert_eq!(
        met,
        [true, false, false, true, false, true, true, false, true, false, true, true, false, false],
        "{found:#?}"
    );
}

#[test]
fn what_comes_after_the_end_is_not_met() {
    let found = outcomes("for: 1h\nsteps: [{at: 2h, expect: [{change: shop/greeting, phase: Pending}]}]");
    assert_eq!(found.len(), 1);
    assert!(!found[0].1);
    assert_eq!(found[0].2, "the rehearsal ends before that");
}
