//! The scenarios of backups, as tables and as properties.

mod exposure;
mod heartbeat;
mod hooks;
mod maintenance;
mod objects;
mod observed;
mod outcome;
mod pods;
mod receiver;
mod repository;
mod retention;
mod run;
mod slots;
mod validate;
mod wal;

use interlock_crds::{BackupPolicySpec, BackupRepositorySpec, Duration};
use jiff::Timestamp;
use serde_json::{Value, json};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn duration(text: &str) -> Duration {
    text.parse().unwrap()
}

fn policy_spec(change: impl FnOnce(&mut Value)) -> BackupPolicySpec {
    let mut spec = json!({
        "repositoryRef": {"name": "vault"},
        "source": {"files": {"persistentVolumeClaim": "data", "paths": ["/accounts", "/"]}},
        "schedules": [{"name": "daily", "schedule": "0 2 * * *"}],
        "retention": {"keepDaily": 7},
        "objectives": {"rpo": "24h"},
        "deadline": "3h",
        "waitForRepository": "1h",
    });
    change(&mut spec);
    serde_json::from_value(spec).unwrap()
}

fn repository_spec(change: impl FnOnce(&mut Value)) -> BackupRepositorySpec {
    let mut spec = json!({
        "restic": {"url": "rest:https://vault.bank.example/teller/", "secretRef": {"name": "append"}, "maintenanceSecretRef": {"name": "full"}},
        "check": {"schedule": "0 3 * * 0", "readDataSubset": "1/12"},
        "prune": {"schedule": "0 5 1 * *"},
    });
    change(&mut spec);
    serde_json::from_value(spec).unwrap()
}
