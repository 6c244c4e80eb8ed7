//! What one measurement asks, and what comes back: the words between the core and whoever measures.

use interlock_crds::Analysis;

use super::{Observation, Slot, Subject};
use crate::port::Identity;

/// What one measurement asks.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// Tells this measurement from every other: it is asked once at a time.
    pub key: String,
    /// Under whose rights Secrets with credentials are read.
    pub identity: Identity,
    /// Where those Secrets lie.
    pub namespace: String,
    /// What is measured.
    pub analysis: Analysis,
    /// Which measurement.
    pub slot: Slot,
    /// Of what.
    pub subject: Subject,
}

/// What came of a question.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// It was asked; this is what was seen.
    Seen(Observation),
    /// Nobody could be asked, because something that the analysis names is missing or unusable; what, for a person.
    Impossible(String),
}
