//! The controller on the simulated cluster: its own code for observing, deciding and acting, driven by a seeded scheduler
//! instead of sockets and clocks.
//!
//! One step happens at a time: a call is served, a watch tells of an event, a pass begins, a built-in controller works,
//! somebody acts, or time passes. Which one is left to a seed, and so is what goes wrong; the same seed gives the same
//! history. [`invariants`] look at the server's own record of writes after every step.

#![deny(missing_docs)]

pub mod cluster;
pub mod due;
pub mod faults;
pub mod gateway;
pub mod history;
pub mod invariants;
pub mod lease;
pub mod metrics;
pub mod people;
pub mod port;
pub mod process;
pub mod reread;
pub mod scenario;
pub mod server;
pub mod tell;
pub mod vault;
pub mod world;
