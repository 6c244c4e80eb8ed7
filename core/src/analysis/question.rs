//! What one measurement asks, and what comes back: the words between the core and whoever measures.

use interlock_crds::{Analysis, Duration, ExecHook};

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
    /// A command that is run in a pod instead of measuring: a hook.
    pub exec: Option<Exec>,
}

/// A command that is run in the one ready pod with these labels.
#[derive(Clone, Debug, PartialEq)]
pub struct Exec {
    /// Which pod, container and command.
    pub hook: ExecHook,
    /// From finding the pod to the end of the command; nothing is begun later.
    pub timeout: Duration,
}

/// What came of a question.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// It was asked; this is what was seen.
    Seen(Observation),
    /// Nobody could be asked, because something that the analysis names is missing or unusable; what, for a person.
    Impossible(String),
}
