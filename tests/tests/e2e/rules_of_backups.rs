//! The same as `rules` for backups and drills.

use interlock_tests::Stage;
use serde_json::{Value, json};

use crate::rules::object;

/// The administrator, who makes what is to be changed.
const REQUESTER: &str = "admin";

/// One object for each rule that an object can break when it is created.
#[allow(clippy::too_many_lines, reason = "a table")]
pub fn offenders(stage: &Stage<'_>) -> Vec<(&'static str, Value)> {
    let at = |kind: &str, name: &str, spec: Value| stage.placed(object(kind, name, spec));
    vec![
        (
            "the name of a BackupRepository is part of the names of Jobs: at most 52 characters",
            at(
                "BackupRepository",
                &"r".repeat(53),
                json!({"restic": {"secretRef": {"name": "s"}, "url": "rest:https://vault/x/"}}),
            ),
        ),
        (
            "give either restic.url or restic.volume",
            at("BackupRepository", "x", json!({"restic": {"secretRef": {"name": "s"}}})),
        ),
        (
            "caConfigMapRef needs a url or maintenanceUrl with https://",
            at(
                "BackupRepository",
                "x",
                json!({"restic": {"secretRef": {"name": "s"}, "volume": {"persistentVolumeClaim": "v"}, "caConfigMapRef": {"name": "ca"}}}),
            ),
        ),
        (
            "maintenanceUrl needs url and maintenanceSecretRef: it is the address that those credentials are for",
            at(
                "BackupRepository",
                "x",
                json!({"restic": {"secretRef": {"name": "s"}, "url": "rest:https://vault/x/", "maintenanceUrl": "rest:https://full/x/"}}),
            ),
        ),
        (
            "an address with sftp names the user who logs in, as a pod has none: sftp:USER@HOST:/PATH",
            at("BackupRepository", "x", json!({"restic": {"secretRef": {"name": "s"}, "url": "sftp:vault:/x"}})),
        ),
        (
            "readAll runs as user 0 with one capability: leave out runAsUser",
            at(
                "BackupRepository",
                "x",
                json!({"restic": {"secretRef": {"name": "s"}, "url": "rest:https://vault/x/"}, "pod": {"readAll": true, "runAsUser": 70}}),
            ),
        ),
        (
            "the name of a BackupPolicy is part of the names of runs and Jobs: at most 40 characters",
            at(
                "BackupPolicy",
                &"p".repeat(41),
                json!({"repositoryRef": {"name": "vault"}, "source": {"files": {"persistentVolumeClaim": "data"}}, "retention": {"keepLast": 3}}),
            ),
        ),
        (
            "give exactly one of source.files, source.postgres, source.command and source.objects",
            at(
                "BackupPolicy",
                "x",
                json!({"repositoryRef": {"name": "vault"}, "source": {"objects": {}, "files": {"persistentVolumeClaim": "data"}}, "retention": {"keepLast": 3}}),
            ),
        ),
        (
            "mode Physical needs wal (where the write-ahead log is spooled), and mode Logical has none",
            at(
                "BackupPolicy",
                "x",
                json!({"repositoryRef": {"name": "vault"}, "source": {"postgres": {"host": "db", "secretRef": {"name": "db"}, "mode": "Physical"}}, "retention": {"keepLast": 3}}),
            ),
        ),
        (
            "mode Physical copies the whole server: leave out databases",
            at(
                "BackupPolicy",
                "x",
                json!({"repositoryRef": {"name": "vault"}, "source": {"postgres": {"host": "db", "secretRef": {"name": "db"}, "mode": "Physical", "wal": {"persistentVolumeClaim": "w"}, "databases": ["a"]}}, "retention": {"keepLast": 3}}),
            ),
        ),
        (
            "give at least one keep rule: without any everything would be forgotten",
            at(
                "BackupPolicy",
                "x",
                json!({"repositoryRef": {"name": "vault"}, "source": {"files": {"persistentVolumeClaim": "data"}}, "retention": {}}),
            ),
        ),
        (
            "give either heartbeat.table or heartbeat.file",
            at(
                "BackupPolicy",
                "x",
                json!({"repositoryRef": {"name": "vault"}, "source": {"files": {"persistentVolumeClaim": "data"}}, "retention": {"keepLast": 3}, "heartbeat": {"interval": "30s"}}),
            ),
        ),
        (
            "heartbeat.table needs secretRef: a role that may only INSERT into it",
            at(
                "BackupPolicy",
                "x",
                json!({"repositoryRef": {"name": "vault"}, "source": {"files": {"persistentVolumeClaim": "data"}}, "retention": {"keepLast": 3}, "heartbeat": {"table": "beat"}}),
            ),
        ),
        (
            "a hook is either exec or http",
            at(
                "BackupPolicy",
                "x",
                json!({"repositoryRef": {"name": "vault"}, "source": {"files": {"persistentVolumeClaim": "data"}}, "retention": {"keepLast": 3}, "hooks": {"before": [{"name": "freeze"}]}}),
            ),
        ),
        (
            "credentials are sent over https only",
            at(
                "BackupPolicy",
                "x",
                json!({"repositoryRef": {"name": "vault"}, "source": {"files": {"persistentVolumeClaim": "data"}}, "retention": {"keepLast": 3}, "hooks": {"before": [{"name": "freeze", "http": {"url": "http://app.teller.svc/freeze", "secretRef": {"name": "s"}}}]}}),
            ),
        ),
        (
            "the name of a Backup is also that of its Job: at most 63 characters",
            at("Backup", &"b".repeat(64), json!({"policyRef": {"name": "p"}, "requester": "alice"})),
        ),
        (
            "a run of trigger Manual has no slot, and any other has one",
            at(
                "Backup",
                "x",
                json!({"policyRef": {"name": "p"}, "requester": "alice", "slot": {"schedule": "daily", "time": "2026-11-23T02:00:00Z"}}),
            ),
        ),
        (
            "say who asks: requester is the user that creates the Backup",
            at("Backup", "x", json!({"policyRef": {"name": "p"}})),
        ),
        (
            "the name of a RestoreDrill is part of the names of runs and sandboxes: at most 40 characters",
            at(
                "RestoreDrill",
                &"d".repeat(41),
                json!({"policyRef": {"name": "p"}, "validations": [{"name": "rows", "sql": {"database": "d", "query": "select 1", "expect": "result == 1"}}]}),
            ),
        ),
        (
            "at least one validation must be critical: a drill without would pass whatever came back",
            at(
                "RestoreDrill",
                "x",
                json!({"policyRef": {"name": "p"}, "validations": [{"name": "rows", "sql": {"database": "d", "query": "select 1", "expect": "result == 1"}, "critical": false}]}),
            ),
        ),
        (
            "selection ById names one recovery point: leave out schedule and run the drill by hand",
            at(
                "RestoreDrill",
                "x",
                json!({"policyRef": {"name": "p"}, "validations": [{"name": "rows", "sql": {"database": "d", "query": "select 1", "expect": "result == 1"}}], "schedule": "0 4 1 * *", "selection": {"strategy": "ById", "id": "b"}}),
            ),
        ),
        (
            "strategy RandomWithin needs days, and no other has them",
            at(
                "RestoreDrill",
                "x",
                json!({"policyRef": {"name": "p"}, "validations": [{"name": "rows", "sql": {"database": "d", "query": "select 1", "expect": "result == 1"}}], "selection": {"days": 3}}),
            ),
        ),
        (
            "strategy ById needs id, and no other has one",
            at(
                "RestoreDrill",
                "x",
                json!({"policyRef": {"name": "p"}, "validations": [{"name": "rows", "sql": {"database": "d", "query": "select 1", "expect": "result == 1"}}], "selection": {"strategy": "ById"}}),
            ),
        ),
        (
            "a validation is exactly one of sql, command, http, files and heartbeat",
            at(
                "RestoreDrill",
                "x",
                json!({"policyRef": {"name": "p"}, "validations": [{"name": "rows", "sql": {"database": "d", "query": "select 1", "expect": "result == 1"}, "heartbeat": {}}]}),
            ),
        ),
        (
            "give either application.podTemplate or application.postgres",
            at(
                "RestoreDrill",
                "x",
                json!({"policyRef": {"name": "p"}, "validations": [{"name": "rows", "sql": {"database": "d", "query": "select 1", "expect": "result == 1"}}], "sandbox": {"application": {}}}),
            ),
        ),
        (
            "faults FlipBytes and DeleteFiles need path, and no other has one",
            at(
                "RestoreDrill",
                "x",
                json!({"policyRef": {"name": "p"}, "validations": [{"name": "rows", "sql": {"database": "d", "query": "select 1", "expect": "result == 1"}}], "faultInjection": {"fault": "FlipBytes"}}),
            ),
        ),
        (
            "fault Delay needs delay, and no other has one",
            at(
                "RestoreDrill",
                "x",
                json!({"policyRef": {"name": "p"}, "validations": [{"name": "rows", "sql": {"database": "d", "query": "select 1", "expect": "result == 1"}}], "faultInjection": {"fault": "Delay"}}),
            ),
        ),
        (
            "the name of a DrillRun is part of the names of its Jobs and sandbox: at most 52 characters",
            at("DrillRun", &"d".repeat(53), json!({"drillRef": {"name": "d"}, "requester": "alice"})),
        ),
        (
            "a run of trigger Manual has no slot, and any other has one",
            at("DrillRun", "x", json!({"drillRef": {"name": "d"}, "trigger": "Scheduled"})),
        ),
        (
            "say who asks: requester is the user that creates the DrillRun",
            at("DrillRun", "x", json!({"drillRef": {"name": "d"}})),
        ),
    ]
}

/// Objects whose rules can be broken only by a change, and that change.
pub fn kept() -> Vec<(&'static str, Value, Value)> {
    let made = |kind: &str, spec: Value| {
        let mut made = object(kind, "kept-of-rules", spec);
        // Not governed: nothing but the schema refuses.
        made["metadata"]["namespace"] = json!("default");
        made
    };
    vec![
        (
            "the address of a repository cannot be changed, as its recovery points are there: make another BackupRepository",
            made("BackupRepository", json!({"restic": {"url": "rest:https://vault/x/", "secretRef": {"name": "s"}}})),
            json!({"restic": {"url": "rest:https://vault/y/"}}),
        ),
        (
            "the recovery points of a policy are in its repository, so repositoryRef cannot be changed: make another BackupPolicy",
            made(
                "BackupPolicy",
                json!({"repositoryRef": {"name": "vault"}, "source": {"files": {"persistentVolumeClaim": "data"}}, "retention": {"keepLast": 3}}),
            ),
            json!({"repositoryRef": {"name": "another"}}),
        ),
        (
            "a Backup is a record: only spec.hold can be changed; make another one for another run",
            made("Backup", json!({"policyRef": {"name": "p"}, "requester": REQUESTER})),
            json!({"mode": "Full"}),
        ),
        (
            "a DrillRun is a record and cannot be changed: make another one for another run",
            made("DrillRun", json!({"drillRef": {"name": "d"}, "requester": REQUESTER})),
            json!({"selection": {"strategy": "Oldest"}}),
        ),
    ]
}
