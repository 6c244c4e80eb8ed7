//! The simulated API server answers as the real one does. Each case is played on both in step: every answer is compared
//! object by object, a refusal with its whole `Status`.
//!
//! Nothing may differ but what differs by nature ([`plain`]) and what [`exceptions`] lists. The real server is alone
//! ([`interlock_tests::bare`]): no controller writes between two requests, so nothing here waits.

mod exceptions;
mod plain;
mod play;
mod real;
mod request;
mod simulated;

mod apply;
mod custom;
mod kinds;
mod names;
mod objects;
mod preconditions;
mod rules;
mod watches;
mod workloads;
