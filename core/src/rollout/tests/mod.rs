//! Scenarios R of SCENARIOS.md that can be shown in the core, on a tiny cluster.

mod canary;
mod cluster;
mod game;
mod histories;
