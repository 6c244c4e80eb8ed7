//! Gray releases by every strategy in the simulated cluster, carried out by the controller's own code through the
//! webhook: to their end, back, under faults, and with a controller that dies after each single write.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod again;
mod batches;
mod blue_green;
mod known;
mod order;
mod plans;
mod play;
mod routes;
mod scaling;
mod secrets;
mod signing;
mod superseding;
mod waves;
