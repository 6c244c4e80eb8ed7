//! Gray releases on a real node: real processes answer real requests through a Gateway that follows the route, and a real
//! Prometheus looks at them. Needs Linux and root; without them each test says so and ends.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    reason = "helpers of tests are tests"
)]

mod prometheus;
mod releases;
