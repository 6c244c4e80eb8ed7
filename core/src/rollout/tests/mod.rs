//! Scenarios R of SCENARIOS.md that can be shown in the core, on a tiny cluster.

mod batches;
mod blue_green;
mod canary;
mod cluster;
mod game;
mod histories;
mod waves;
