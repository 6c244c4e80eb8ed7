//! When a change may start.

use interlock_tests::{Options, Stage, config_map, patch_of, stage::policy_of, world::SOON, world::eventually};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use serde_json::{Value, json};

use crate::assert_refused;

/// The API server's time.
fn now(stage: &Stage<'_>) -> Timestamp {
    let probe = json!({"apiVersion": "interlock.dev/v1alpha1", "kind": "Calendar",
        "metadata": {"generateName": "now-"}, "spec": {"timeZone": "UTC"}});
    let stored = stage.admin().post("/apis/interlock.dev/v1alpha1/calendars", &probe).unwrap();
    stored["metadata"]["creationTimestamp"].as_str().unwrap().parse().unwrap()
}

fn local(instant: Timestamp, zone: &str) -> String {
    instant.to_zoned(TimeZone::get(zone).unwrap()).strftime("%Y-%m-%dT%H:%M:%S").to_string()
}

pub fn calendar(name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "interlock.dev/v1alpha1", "kind": "Calendar", "metadata": {"name": name}, "spec": spec})
}

fn with_calendar(name: &str) -> Options {
    let mut policy = policy_of(1, "sre");
    policy["types"]["normal"]["calendarRef"] = json!({"name": name});
    Options { policy, ..Options::default() }
}

#[test]
fn a26_a_change_starts_by_itself_when_the_freeze_ends() {
    let stage = Stage::with("a26", with_calendar("a26"));
    let zone = "Asia/Shanghai";
    let start = now(&stage);
    let end = start + SignedDuration::from_secs(12);
    let spec = json!({"timeZone": zone, "freezes": [
        {"name": "stocktaking", "from": local(start - SignedDuration::from_mins(1), zone), "until": local(end, zone)},
    ]});
    stage.admin().create(&calendar("a26", &spec)).unwrap();
    let change = stage.propose("alice", "frozen", vec![patch_of(config_map("web", &[("greeting", "hi")]))]);
    change.wait_gate("Window", "Frozen");
    change.vote("bob").unwrap();
    let status = change.wait("Scheduled");
    assert_eq!(status["waitingFor"], "Window");
    assert_eq!(change.gate("Window")["opensAt"], end.to_string());
    assert_eq!(status["nextTransition"], end.to_string());
    // Nobody touches anything from here on.
    let status = change.wait("Succeeded");
    let started: Timestamp = status["run"]["startedAt"].as_str().unwrap().parse().unwrap();
    assert!(started >= end, "started {started}, the freeze ended {end}");
    assert!(started < end + SignedDuration::from_secs(15), "started {started}, the freeze ended {end}");
}

#[test]
fn a26_a_freeze_wins_over_a_window() {
    let stage = Stage::with("a26w", with_calendar("a26w"));
    let start = now(&stage);
    let span = |hours: i64| local(start + SignedDuration::from_hours(hours), "Europe/Berlin");
    let spec = json!({"timeZone": "Europe/Berlin",
        "windows": [{"name": "always", "schedule": "0 0 * * *", "duration": "1d"}],
        "freezes": [{"name": "audit", "from": span(-1), "until": span(1)}]});
    stage.admin().create(&calendar("a26w", &spec)).unwrap();
    let change = stage.propose("alice", "frozen", vec![patch_of(config_map("web", &[("greeting", "hi")]))]);
    change.vote("bob").unwrap();
    change.wait("Scheduled");
    // The freeze is lifted: no nudge is needed for that either.
    stage.admin().merge("/apis/interlock.dev/v1alpha1/calendars/a26w", &json!({"spec": {"freezes": null}})).unwrap();
    change.until("an open window", |s| interlock_tests::stage::gate(s, "Window")["reason"] == "InWindow");
    // The calendar is part of what was approved.
    change.until("stale or started", |s| s["phase"] != "Scheduled");
    if change.phase() == "Pending" {
        change.vote("bob").unwrap();
    }
    change.wait("Succeeded");
}

#[test]
fn impossible_calendars_are_refused() {
    let stage = Stage::with("badcal", with_calendar("badcal"));
    let window = |schedule: &str| json!([{"name": "w", "schedule": schedule, "duration": "1h"}]);
    for (spec, expected) in [
        (json!({"timeZone": "Mars/Olympus"}), "Mars/Olympus"),
        (json!({"timeZone": "UTC", "windows": window("0 25 * * *")}), "0 25 * * *"),
        (json!({"timeZone": "UTC", "windows": window("every day")}), "every day"),
        (json!({"timeZone": "UTC", "windows": window("0 0 30 2 *")}), "0 0 30 2 *"),
    ] {
        let refusal = assert_refused(stage.admin().create(&calendar("badcal", &spec)), 422, "BadCalendar");
        assert!(refusal.message.contains(expected), "{refusal}");
    }
    // A change whose policy names a calendar that is not there waits and says so.
    let change = stage.propose("alice", "waits", vec![patch_of(config_map("web", &[("greeting", "hi")]))]);
    change.vote("bob").unwrap();
    change.wait_gate("Window", "CalendarBroken");
    assert_eq!(change.phase(), "Pending");
    stage.admin().create(&calendar("badcal", &json!({"timeZone": "UTC"}))).unwrap();
    eventually(SOON, || match change.phase().as_str() {
        "Succeeded" => Ok(()),
        // The calendar is part of what is voted on.
        phase => {
            let _ = change.vote("erin");
            Err(phase.to_owned())
        }
    });
}

/// A change that runs when a freeze begins, under each of the rules for that.
fn overrun(rule: &str) -> (Stage<'static>, String) {
    let name = format!("overrun-{}", rule.to_lowercase());
    let stage = Stage::with(&name, with_calendar(&name));
    stage.admin().create(&calendar(&name, &json!({"timeZone": "UTC", "overrun": rule}))).unwrap();
    let objects = vec![
        patch_of(config_map("web", &[("greeting", "hi")])),
        interlock_tests::deployment_image("web", "web:broken"),
    ];
    let change = stage.propose_with("alice", "overrun", objects, json!({"progressDeadline": "10s"}));
    eventually(SOON, || match change.phase().as_str() {
        "Running" => Ok(()),
        // Votes are stale when the calendar was seen after they were cast.
        phase => {
            let _ = change.vote("bob");
            Err(phase.to_owned())
        }
    });
    let start = now(&stage);
    let freeze = json!([{"name": "sudden", "from": local(start - SignedDuration::from_mins(1), "UTC"),
        "until": local(start + SignedDuration::from_hours(1), "UTC")}]);
    stage
        .admin()
        .merge(&format!("/apis/interlock.dev/v1alpha1/calendars/{name}"), &json!({"spec": {"freezes": freeze}}))
        .unwrap();
    (stage, name)
}

#[test]
fn a26_a_freeze_that_begins_during_a_change_follows_the_overrun_rule() {
    let (stage, _) = overrun("Rollback");
    let change = stage.change_of(&stage.get("changerequests/overrun"));
    let status = change.wait("RolledBack");
    assert!(status["message"].as_str().unwrap().contains("overrun: Rollback"), "{status:#}");
    assert_eq!(stage.data("web")["greeting"], "hello");
    let (stage, _) = overrun("Finish");
    let change = stage.change_of(&stage.get("changerequests/overrun"));
    let status = change.wait("RolledBack");
    assert!(status["message"].as_str().unwrap().contains("was not healthy within 10 s"), "{status:#}");
}
