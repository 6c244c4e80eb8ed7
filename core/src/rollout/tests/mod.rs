//! Scenarios R of SCENARIOS.md that can be shown in the core, on a tiny cluster.

// Steps are written as JSON values where they are used.
#![allow(clippy::needless_pass_by_value)]

mod batches;
mod blue_green;
mod canary;
mod cluster;
mod game;
mod histories;
mod known;
mod measuring;
mod permits;
mod reads;
mod revisions;
mod steps;
mod waves;
