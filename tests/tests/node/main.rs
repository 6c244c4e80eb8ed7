//! What only a real node can show. Gray releases: real processes answer real requests through a Gateway that follows the
//! route, and a real Prometheus looks at them. Backups: real restic and real PostgreSQL in real pods. Needs Linux and root;
//! without them each test says so and ends.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    reason = "helpers of tests are tests"
)]

mod backups;
mod drills;
mod prometheus;
mod releases;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// One node at a time: side by side on two cores none ends earlier, each takes longer than it may, and what measures time measures
/// the others.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}
