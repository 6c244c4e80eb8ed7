//! Every decision of Interlock: pure functions over observed facts and the time.
//!
//! **Architecture Invariant:** nothing here reads a clock, a file, the environment or the network, holds global state
//! or draws random numbers. Facts and the time come in as arguments; decisions that explain themselves come out. The
//! body around it (the controller, the simulation, the `check` command) implements [`port::Port`].
//!
//! One module per domain; inside a domain `facts` is what it looks at, `decide` what follows, and the messages of its
//! gates are what it tells a person.

#![deny(missing_docs)]

pub mod admission;
pub mod analysis;
pub mod backup;
pub mod calendar;
pub mod change;
pub mod drill;
pub mod mutants;
pub mod object;
pub mod people;
pub mod port;
pub mod rollout;
mod say;
pub mod seal;
