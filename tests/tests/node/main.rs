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
