//! The body around the core: observe, decide, act, record.
//!
//! Generic over [`interlock_core::port::Port`]: the kube client implements it for a real cluster, the simulation for a
//! simulated one. Every decision is the core's; nothing here knows what a policy says.

#![deny(missing_docs)]

pub mod admission;
pub mod analysis;
pub mod backup;
pub mod certs;
pub mod change;
pub mod claims;
pub mod clock;
pub mod drill;
pub mod governors;
pub mod index;
pub mod kube_port;
pub mod leader;
pub mod queue;
pub mod rollout;
pub mod runtime;
pub mod seen;
pub mod shutdown;
pub mod telemetry;
pub mod watch;
