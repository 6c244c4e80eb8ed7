//! What a schema cannot refuse.

use serde_json::{Value, json};

use super::{policy_spec, repository_spec};
use crate::backup::validate::{policy, policy_warnings, references, repository};

/// What is told, and what is different from a good spec.
type Case = (&'static str, fn(&mut Value));

#[test]
fn what_can_be_used_has_no_finding() {
    assert_eq!(policy(&policy_spec(|_| ())), [""; 0]);
    assert_eq!(repository(&repository_spec(|_| ())), [""; 0]);
    assert_eq!(policy_warnings(&policy_spec(|_| ())), [""; 0]);
    assert_eq!(references(&policy_spec(|_| ()), Some(&repository_spec(|_| ())), |_| true), [""; 0]);
}

#[test]
fn each_contradiction_of_a_policy_is_named() {
    let cases: [Case; 17] = [
        ("is not a time zone", |s| s["schedules"][0]["timeZone"] = json!("Europe/Nowhere")),
        ("never occurs", |s| s["schedules"][0]["schedule"] = json!("0 0 30 2 *")),
        ("is not a cron expression", |s| s["schedules"][0]["schedule"] = json!("0 25 * * *")),
        ("two schedules are named daily", |s| {
            let same = s["schedules"][0].clone();
            s["schedules"].as_array_mut().unwrap().push(same);
        }),
        ("startingDeadline is 10s", |s| s["schedules"][0]["startingDeadline"] = json!("10s")),
        ("no keep rule", |s| s["retention"] = json!({})),
        ("retention.timeZone", |s| s["retention"]["timeZone"] = json!("X")),
        ("deadline is 8d", |s| s["deadline"] = json!("8d")),
        ("heartbeat.table needs source.postgres", |s| {
            s["heartbeat"] = json!({"table": "beat", "secretRef": {"name": "w"}, "database": "d"});
        }),
        ("heartbeat.interval is 2h", |s| s["heartbeat"] = json!({"interval": "2h", "file": "/beat"})),
        ("heartbeat.file /accounts2/beat is below none of source.files.paths", |s| {
            s["source"]["files"]["paths"] = json!(["/accounts/"]);
            s["heartbeat"] = json!({"file": "/accounts2/beat"});
        }),
        ("adds and excludes Thing", |s| {
            let thing = json!({"group": "x.io", "kind": "Thing"});
            s["source"] = json!({"objects": {"add": [thing], "exclude": [thing]}});
        }),
        ("set includeSecrets: true", |s| s["source"] = json!({"objects": {"add": [{"kind": "Secret"}]}})),
        ("a schedule in mode Full", |s| {
            s["source"] = json!({"postgres": {"host": "db", "secretRef": {"name": "x"}, "mode": "Physical", "wal": {"persistentVolumeClaim": "spool"}}});
        }),
        ("two hooks are named freeze", |s| {
            let hook = json!({"name": "freeze", "http": {"url": "http://app.teller.svc:8080/freeze"}});
            s["hooks"] = json!({"before": [hook], "after": [hook]});
        }),
        ("is not a Service", |s| {
            s["hooks"] = json!({"before": [{"name": "x", "http": {"url": "http://169.254.169.254/latest"}}]});
        }),
        ("is not a Service", |s| {
            s["hooks"] = json!({"before": [{"name": "x", "http": {"url": "https://kubernetes.default.svc/api"}}]});
        }),
    ];
    for (expected, change) in cases {
        let found = policy(&policy_spec(change));
        assert!(found.len() == 1 && found[0].contains(expected), "{expected}: {found:?}");
    }
    let silent = policy_spec(|s| {
        s["objectives"] = json!({});
        s["schedules"] = json!([]);
    });
    assert_eq!(policy_warnings(&silent).len(), 2);
}

#[test]
fn each_contradiction_of_a_repository_is_named() {
    let cases: [Case; 6] = [
        ("leave it out", |s| {
            s["restic"] = json!({"volume": {"persistentVolumeClaim": "vault"}, "secretRef": {"name": "x"}});
            s["pod"] = json!({"readAll": true});
        }),
        ("timeZone", |s| s["timeZone"] = json!("X")),
        ("check.schedule", |s| s["check"]["schedule"] = json!("0 0 31 2 *")),
        ("prune.deadline is 30s", |s| s["prune"]["deadline"] = json!("30s")),
        ("another Secret with the new one", |s| s["restic"]["newKeySecretRef"] = json!({"name": "append"})),
        ("retryLock", |s| s["retryLock"] = json!("2d")),
    ];
    for (expected, change) in cases {
        let found = repository(&repository_spec(change));
        assert!(found.len() == 1 && found[0].contains(expected), "{expected}: {found:?}");
    }
}

#[test]
fn policy_repository_and_volume_must_be_there_and_apart() {
    let spec = policy_spec(|_| ());
    assert!(references(&spec, None, |_| true)[0].contains("vault"));
    assert!(references(&spec, Some(&repository_spec(|_| ())), |_| false)[0].contains("data"));
    let same = repository_spec(|s| {
        s["restic"] = json!({"volume": {"persistentVolumeClaim": "data"}, "secretRef": {"name": "x"}});
    });
    assert!(references(&spec, Some(&same), |_| true)[0].contains("put it on another one"));
}

#[test]
fn who_runs_as_another_user_may_not_write_to_a_repository_on_a_volume() {
    let told = |policy: Value, repository: Value, on_volume: bool| {
        let repository = repository_spec(|s| {
            s["pod"] = repository;
            if on_volume {
                s["restic"] = json!({"volume": {"persistentVolumeClaim": "vault"}, "secretRef": {"name": "x"}});
            }
        });
        references(&policy_spec(|s| s["pod"] = policy), Some(&repository), |_| true)
    };
    let read_all = || json!({"readAll": true});
    let user = |user: i64| json!({"runAsUser": user});
    assert!(told(read_all(), json!({}), true)[0].contains("set pod.runAsUser"));
    assert!(told(user(70), json!({}), true)[0].contains("pod.runAsUser is 70 here and 65532 there"));
    assert!(told(json!({}), user(71), true)[0].contains("pod.runAsUser is 65532 here and 71 there"));
    let group = |user: i64| json!({"runAsUser": user, "fsGroup": 7});
    for (policy, repository, on_volume) in [
        (read_all(), json!({}), false),
        (user(70), user(71), false),
        (user(70), user(70), true),
        (json!({}), user(65_532), true),
        (group(70), group(71), true),
    ] {
        assert_eq!(told(policy, repository, on_volume), [""; 0]);
    }
}

#[test]
fn heartbeats_commands_and_objects_are_carried_out() {
    let hook = json!({"name": "freeze", "exec": {"pod": [{"key": "app", "value": "db"}], "command": ["freeze"]}, "timeout": "5m"});
    let whole = policy_spec(|s| {
        s["heartbeat"] = json!({"file": "/accounts/beat"});
        s["hooks"] = json!({"before": [hook]});
    });
    assert_eq!(policy(&whole), Vec::<String>::new());
    assert!(policy_warnings(&whole).iter().any(|told| told.contains("pods/exec")));
    let objects = policy_spec(|s| s["source"] = json!({"objects": {"includeSecrets": true}}));
    assert_eq!(policy(&objects), Vec::<String>::new());
    assert!(policy_warnings(&objects).iter().any(|told| told.contains("own namespace")));
    let physical = policy_spec(|s| {
        s["source"] = json!({"postgres": {"host": "db", "secretRef": {"name": "x"}, "mode": "Physical", "wal": {"persistentVolumeClaim": "spool"}}});
        s["schedules"] = json!([{"name": "base", "mode": "Full", "schedule": "0 1 * * 0"}]);
    });
    assert_eq!(policy(&physical), Vec::<String>::new());
    let told = policy_warnings(&physical);
    assert!(told.iter().any(|told| told.contains("no schedule is in mode Incremental")), "{told:?}");
    assert!(told.iter().any(|told| told.contains("keepWithin")), "{told:?}");
}
