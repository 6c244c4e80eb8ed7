//! Backups: when a run is due, what becomes of it, who may hold the repository, what is kept, and how exposed data is.
//!
//! `slots` says when, `run` carries one run from its object to its outcome, `outcome` reads what the tool said, `repository`
//! lets runs in, `restore` says what a Job of a change reads of it, `retention` says what may be forgotten, `exposure` how old the newest good point is, `pods` builds the
//! Jobs, `status` tells people, `validate` refuses what a schema cannot, `wal` says what PostgreSQL's write-ahead log carries on.

pub mod choose;
pub mod exposure;
pub mod heartbeat;
pub mod hooks;
mod lock;
pub mod maintenance;
pub mod objects;
pub mod observed;
pub mod outcome;
pub mod permit;
pub mod plan;
pub mod pods;
pub mod receiver;
pub mod repository;
pub mod restore;
pub mod result;
pub mod retention;
pub mod run;
pub mod slots;
pub mod status;
pub mod validate;
pub mod wal;

use jiff::SignedDuration;

/// A run, of a policy or of a drill, whose policy, repository, drill or System is missing or invalid waits for this long after
/// it was asked for: people apply files in any order, and a controller hears of each kind by a watch of its own.
pub const ADMISSION_PATIENCE: SignedDuration = SignedDuration::from_secs(30);

#[cfg(test)]
mod tests;
