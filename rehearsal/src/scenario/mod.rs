//! Scenarios: a folder of manifests, a file that says who does what and when, and what is expected to come of it.
//!
//! [`Folder`] holds the manifests with the names of their files, [`Scenario`] is the file, [`Player`] plays both in the
//! simulated cluster and tells what happens as it happens, [`Report`] is all of it at the end. What is decided is decided
//! by the controller's own code; nothing here has an opinion about policy.

mod ballots;
mod board;
mod cast;
mod doings;
mod expect;
mod folder;
mod format;
mod game;
mod look;
mod narrate;
mod perform;
mod play;
mod read;
mod recoveries;
mod releases;
mod replay;
mod report;
mod summary;
mod times;
mod words;

pub use ballots::Alone;
pub use board::Held;
pub use expect::Expectation;
pub use folder::{Folder, Source};
pub use format::{AwaySpan, ExpectFile, PersonFile, ScenarioFile, StepFile, TroubleFile};
pub use game::{Answer, Moment, Player, Question};
pub use play::play;
pub use read::Scenario;
pub use replay::{Replayed, replay};
pub use report::{ChangeSummary, Entry, EntryKind, OpenGate, Outcome, Questions, Refusal, Report};
pub use times::{At, duration_text};

/// Why a folder or a scenario cannot be played: a sentence that names the file and the step.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadInput(pub String);
