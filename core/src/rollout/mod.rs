//! Gray releases: from the first pod of a new version to the last, and back.
//!
//! [`decide`](decide::decide) is a pure function of what was read and the time. It states what the release should look
//! like now and plans the writes that may be made now; whatever has to happen first is awaited, never assumed. It
//! remembers no write: a write that is already visible is not planned again, so that after a crash between any two of
//! them it goes on. What [`derive`] computes from a form, the executor writes and [`permit`] lets through.
//!
//! [`measure`] adds what analyses measure. `sides` moves traffic between two Deployments (canary, blue/green), `batches` replaces pods of StatefulSets and
//! DaemonSets in place, `waves` orders releases of several workloads. See docs/rollouts.md.

mod back;
mod batches;
mod begin;
pub mod capacity;
mod commands;
pub mod decide;
pub mod derive;
pub mod facts;
pub mod known;
pub mod live;
pub mod measure;
mod outlook;
pub(crate) mod pass;
pub mod permit;
mod promotion;
pub mod revisions;
mod settle;
mod sides;
pub mod sign_off;
mod steps;
mod tell;
mod view;
pub mod waves;

pub use decide::{AnalysisRun, RolloutDecision, decide};
pub use facts::{
    AnalysisFact, CommandFact, ConfigTarget, GateFact, LiveObjects, RefusedWrite, RolloutFacts, RolloutVerb,
    TargetFacts, Verdict, WindowFact,
};
pub use outlook::{Outlook, outlook};
pub use pass::PlannedWrite;
pub use permit::{Refusal, permitted};
pub use tell::{described, notes};

/// Label of everything that a release makes: uid of its Rollout.
pub const ROLLOUT_LABEL: &str = "interlock.dev/rollout";
/// Finalizer of a Rollout: it stays until nothing of the release is left.
pub const FINALIZER: &str = "interlock.dev/rollout";
/// Label of the pods of the second Deployment.
pub const TRACK_LABEL: &str = "interlock.dev/track";
/// Value of [`TRACK_LABEL`].
pub const CANARY_TRACK: &str = "canary";
/// Label by which the Deployment controller tells versions apart.
pub const HASH_LABEL: &str = "pod-template-hash";
/// Label by which StatefulSets and DaemonSets tell versions apart.
pub const REVISION_LABEL: &str = "controller-revision-hash";
/// Annotation of the pod template that makes pods start anew when only their configuration changed.
pub const CONFIG_ANNOTATION: &str = "interlock.dev/config";

#[cfg(test)]
mod tests;
