//! Interlock against a real API server. Tests are named by the scenario that they prove.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    reason = "helpers of tests are tests"
)]

mod admission;
mod alone;
mod approval;
mod calendar;
mod content;
mod evidence;
mod examples;
mod fidelity;
mod gray;
mod gray_cli;
mod gray_strategies;
mod heartbeat;
mod kinds;
mod points;
mod races;
mod rules;
mod rules_of_backups;
mod running;
mod secrets;

use interlock_tests::Refusal;
use serde_json::{Value, json};

/// Far in the future: a change with this `notBefore` waits, approved.
const LATER: &str = "2098-01-01T00:00:00Z";

fn held() -> Value {
    json!({"schedule": {"notBefore": LATER}})
}

/// How many votes have that state.
fn counted(status: &Value, state: &str) -> usize {
    status["votes"].as_array().map_or(0, |votes| votes.iter().filter(|vote| vote["state"] == state).count())
}

#[track_caller]
fn assert_refused<T>(answer: Result<T, Refusal>, code: u16, reason: &str) -> Refusal {
    match answer {
        Ok(_) => panic!("allowed; expected {code} {reason}"),
        Err(refusal) => {
            assert_eq!((refusal.code, refusal.reason.as_str()), (code, reason), "{refusal}");
            refusal
        }
    }
}
