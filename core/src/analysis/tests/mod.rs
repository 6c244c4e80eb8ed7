//! Analyses from end to end, without a server.

mod conditions;
mod judging;
mod runs;
mod statistics;
mod templates;
mod validation;

use interlock_crds::Analysis;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Slot, Subject};

/// An analysis as people write it.
fn analysis(fields: Value) -> Analysis {
    let mut all = json!({"name": "errors"});
    if let (Some(all), Value::Object(fields)) = (all.as_object_mut(), fields) {
        all.extend(fields);
    }
    serde_json::from_value(all).expect("analysis")
}

/// One that asks Prometheus and wants `result < 0.01`.
fn errors(fields: Value) -> Analysis {
    let mut all = json!({
        "prometheus": {"address": "http://prometheus.monitoring:9090", "query": "errors{app=\"{{workload}}\"}"},
        "successWhen": "result < 0.01",
        "interval": "30s",
    });
    if let (Some(all), Value::Object(fields)) = (all.as_object_mut(), fields) {
        all.extend(fields);
    }
    analysis(all)
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_795_413_600 + seconds).expect("instant")
}

fn subject() -> Subject {
    Subject {
        workload: "teller".into(),
        namespace: "branch".into(),
        canary_hash: "7d9f6".into(),
        stable_hash: "5c4b8".into(),
    }
}

fn slot() -> Slot {
    Slot { number: 1, due: at(0), samples: None, of: Some(1) }
}
