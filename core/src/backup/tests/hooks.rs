//! Hooks that are commands in pods.

use interlock_crds::Hook;
use serde_json::{Value, json};

use super::at;
use crate::{
    analysis::{Answer, Observation},
    backup::hooks::{MAX_STDERR_BYTES, done, labels_of, pod_of, question, shown},
    port::Identity,
};

fn hook() -> Hook {
    serde_json::from_value(json!({
        "name": "freeze", "timeout": "20s",
        "exec": {"pod": [{"key": "app", "value": "db"}, {"key": "role", "value": "primary"}], "command": ["freeze", "now"]},
    }))
    .unwrap()
}

fn pod(name: &str, ready: &str) -> Value {
    json!({
        "metadata": {"name": name}, "spec": {"containers": [{"name": "db"}, {"name": "sidecar"}]},
        "status": {"conditions": [{"type": "Ready", "status": ready}]},
    })
}

#[test]
fn a_command_is_run_in_the_one_ready_pod_that_is_meant() {
    let hook = hook();
    let exec = hook.exec.as_ref().unwrap();
    assert_eq!(labels_of(exec), "app=db,role=primary");
    let found = |pods: &[Value]| pod_of(exec, pods);
    let one = Ok(("db-0".to_owned(), Some("db".to_owned())));
    assert_eq!(found(&[pod("db-0", "True"), pod("db-1", "False")]), one);
    assert!(found(&[pod("db-1", "False")]).unwrap_err().contains("no ready pod has the labels app=db,role=primary"));
    let mut going = pod("db-0", "True");
    going["metadata"]["deletionTimestamp"] = json!("2026-11-23T02:00:00Z");
    assert!(found(&[going]).is_err());
    assert!(found(&[pod("db-0", "True"), pod("db-1", "True")]).unwrap_err().contains("2 ready pods"));
    let mut elsewhere = exec.clone();
    elsewhere.container = Some("sidecar".into());
    assert_eq!(pod_of(&elsewhere, &[pod("db-0", "True")]).unwrap().1.as_deref(), Some("sidecar"));
}

#[test]
fn the_end_of_a_command_is_told_by_its_exit_code_and_a_clean_end_of_its_errors() {
    let hook = hook();
    let asked = question(&hook, "k".into(), Identity::Controller, "teller", at("2026-11-23T02:00:00Z")).unwrap();
    let exec = asked.exec.unwrap();
    assert_eq!((exec.hook.command.join(" "), exec.timeout.seconds()), ("freeze now".to_owned(), 20));
    let end = |exit_code: i32, stderr: &str| {
        done(&hook, false, &Answer::Seen(Observation::Exec { exit_code, stderr: stderr.into() })).problem
    };
    assert_eq!(end(0, "a warning"), None);
    assert_eq!(end(7, "").as_deref(), Some("its command ended with 7"));
    assert_eq!(end(7, "no such\n  table").as_deref(), Some("its command ended with 7: no such table"));
    let answered = done(&hook, false, &Answer::Seen(Observation::Http { status: 200, body: None }));
    assert!(answered.problem.is_some(), "an answer to another question is none");
}

#[test]
fn what_looks_like_a_credential_is_not_told() {
    let told = shown(
        "login --password hunter2 PGPASSWORD=hunter2 token: hunter2 postgres://bob:hunter2@db/x \u{1b}[31mfailed",
    );
    assert!(!told.contains("hunter2") && !told.contains('\u{1b}'), "{told}");
    assert!(told.contains("postgres://***@db/x") && told.ends_with("failed"), "{told}");
    let long = shown(&format!("{} 日本 the end", "x ".repeat(2_000)));
    assert!(long.len() <= MAX_STDERR_BYTES && long.ends_with("the end"));
}
