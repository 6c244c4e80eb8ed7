//! A simulated cluster in one process: an API server with the semantics that the controller depends on, the built-in
//! controllers of common workloads, a virtual clock and seeded faults.

#![deny(missing_docs)]

pub mod api;
mod cel;
pub mod workloads;
