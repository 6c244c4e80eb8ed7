//! Restore drills: which recovery point is restored, what one run does, what was measured, and what follows from it.
//!
//! `schedule` says when, `select` which recovery point, `run` carries one run from its object to its verdict and its cleanup,
//! `objects` builds what it makes, `outcome` and `expect` read what its pods said, `clock` measures, `verdict` judges,
//! `certificate` writes it down for an auditor, `proof` says what a change and the backups learn from it, `validate` refuses
//! what a schema cannot.

pub mod certificate;
pub mod clock;
pub mod expect;
pub mod fault;
mod html;
pub mod names;
pub mod objects;
pub mod observed;
pub mod outcome;
pub mod permit;
pub mod plan;
pub mod proof;
pub mod reason;
pub mod report;
pub mod run;
pub mod schedule;
pub mod select;
pub mod status;
pub mod template;
pub mod validate;
pub mod verdict;

#[cfg(test)]
mod tests;

use jiff::{SignedDuration, Timestamp};

/// `at` and `by` later, or the end of time.
fn plus(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}

/// `at` and `by` earlier, or the beginning of time.
fn minus(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.checked_sub(by).unwrap_or(Timestamp::MIN)
}

/// The earlier of two instants, where there are any.
fn earlier(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    [one, other].into_iter().flatten().min()
}

/// Without the part of a second, as Kubernetes stores times.
fn whole_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}
