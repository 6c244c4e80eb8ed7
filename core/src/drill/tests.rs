//! The scenarios of drills, as tables and as properties.

mod certificate;
mod clock;
mod expect;
mod objects;
mod proof;
mod rest;
mod run;
mod schedule;
mod select;
mod status;
mod world;

use interlock_crds::{ChosenPoint, HeartbeatRecord, RestoreDrillSpec, SelectionStrategy};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// A day of November 2026, with a time.
fn on(day: i8, time: &str) -> Timestamp {
    at(&format!("2026-11-{day:02}T{time}Z"))
}

fn drill_spec(change: impl FnOnce(&mut Value)) -> RestoreDrillSpec {
    let mut spec = json!({
        "policyRef": {"name": "teller-db"},
        "schedule": "0 3 1 * *",
        "startWithin": "12h",
        "objectives": {"rto": "15m", "rpo": "1h"},
        "validations": [
            {"name": "accounts", "timeout": "50s", "sql": {"database": "teller", "query": "select count(*) from account", "expect": "result > 1000"}},
            {"name": "page", "critical": false, "http": {"port": 8080}},
            {"name": "heartbeat", "heartbeat": {}},
        ],
        "sandbox": {"application": {"postgres": {}}},
    });
    change(&mut spec);
    serde_json::from_value(spec).unwrap()
}

fn beat(seq: i64, time: Timestamp) -> HeartbeatRecord {
    HeartbeatRecord { seq, time: Time(time), hmac: format!("hmac-{seq}"), read_at: None }
}

fn chosen(strategy: SelectionStrategy, data_time: Timestamp, heartbeat: Option<HeartbeatRecord>) -> ChosenPoint {
    ChosenPoint {
        backup: "teller-db-20261123".into(),
        uid: "backup-uid".into(),
        snapshot_id: "5f3a".repeat(16),
        base_id: None,
        data_time: Time(data_time),
        strategy,
        tier: None,
        heartbeat,
        bytes: 4_096,
        files: 7,
    }
}
