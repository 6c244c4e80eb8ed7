//! What a rehearsal tells.

use interlock_crds::{ChangePhase, ChangeType};
use jiff::Timestamp;
use serde::Serialize;

use super::{ballots::Alone, board::Held};

/// Of what sort an entry of the timeline is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum EntryKind {
    /// A line for those who read along.
    Said,
    /// Somebody did something, and it was done.
    Done,
    /// Somebody tried something, and it was refused.
    Refused,
    /// Somebody would have done something, and was away or chose to wait.
    Absent,
    /// A change came into another phase.
    Phase,
    /// A gate opened.
    Opened,
    /// A gate closed, or says something new about what it waits for.
    Closed,
    /// A vote counts no longer, or differently.
    Vote,
    /// The controller or an executor wrote something.
    Written,
    /// The controller told people something.
    Event,
    /// Something went wrong, or programs behave differently.
    Fault,
    /// Something was measured, or other values will be.
    Measured,
    /// A gray release moved on.
    Released,
    /// An expectation was met.
    Met,
    /// An expectation was not met.
    Failed,
}

/// One line of the timeline.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// When.
    pub at: Timestamp,
    /// Of what sort.
    pub kind: EntryKind,
    /// The change it is about, `namespace/name`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change: Option<String>,
    /// The phase into which it came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<ChangePhase>,
    /// The gate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gate: Option<String>,
    /// What happened, in a sentence.
    pub text: String,
    /// Where a gate is told of: every gate of the change at that moment, and whether it is open.
    #[serde(skip)]
    pub gates: Vec<(String, bool)>,
}

impl Entry {
    /// An entry about nothing in particular.
    pub fn new(at: Timestamp, kind: EntryKind, text: impl Into<String>) -> Self {
        Self { at, kind, change: None, phase: None, gate: None, text: text.into(), gates: Vec::new() }
    }

    /// The same, about a change.
    #[must_use]
    pub fn about(mut self, change: &str) -> Self {
        self.change = Some(change.to_owned());
        self
    }
}

/// An expectation and what was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// Where it stands.
    pub place: String,
    /// What was expected.
    pub text: String,
    /// Whether it was so.
    pub met: bool,
    /// What was found.
    pub found: String,
    /// When it was looked at.
    pub at: Timestamp,
}

/// A gate that holds a change back, with when it opens by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OpenGate {
    /// Its name.
    pub gate: String,
    /// One word.
    pub reason: String,
    /// What would open it.
    pub message: String,
    /// When time alone opens it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opens_at: Option<Timestamp>,
}

/// How a change went: the answer to "when would this change have run?".
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ChangeSummary {
    /// `namespace/name`.
    pub change: String,
    /// Its title.
    pub title: String,
    /// Its type.
    #[serde(rename = "type")]
    pub type_: ChangeType,
    /// Who asked for it.
    pub requester: String,
    /// Where it stands.
    pub phase: ChangePhase,
    /// What was said last.
    pub message: String,
    /// When it was proposed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proposed_at: Option<Timestamp>,
    /// When it started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// What it still waits for.
    pub waits_for: Vec<OpenGate>,
    /// What held it back, and how long.
    pub held: Vec<Held>,
}

/// Something that was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Refusal {
    /// When.
    pub at: Timestamp,
    /// Who tried what.
    pub what: String,
    /// What refused it, in one word where there is one.
    pub by: String,
    /// Why.
    pub why: String,
}

/// Answers to questions about the policies.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Questions {
    /// Who could have approved a change alone, by policy and type.
    pub who_alone: Vec<Alone>,
}

/// A rehearsal from its start to its end.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// What it showed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The seed with which it plays again exactly so.
    pub seed: u64,
    /// When it began.
    pub start: Timestamp,
    /// When it ended.
    pub end: Timestamp,
    /// In which zone times are told.
    pub time_zone: String,
    /// Steps of the simulation.
    pub steps: u64,
    /// What happened.
    pub timeline: Vec<Entry>,
    /// What was expected, and what was found.
    pub expectations: Vec<Outcome>,
    /// How the changes went.
    pub changes: Vec<ChangeSummary>,
    /// What was refused.
    pub refusals: Vec<Refusal>,
    /// About the policies.
    pub questions: Questions,
}

impl Report {
    /// Whether every expectation was met.
    pub fn is_met(&self) -> bool {
        self.expectations.iter().all(|outcome| outcome.met)
    }
}
