//! What a decision about a run looks at, and what it answers.

use interlock_crds::{BackupPolicySpec, BackupSpec, BackupStatus, ObjectsRecord, PinnedPolicy};
use jiff::Timestamp;

use crate::backup::{
    hooks::HookDone,
    outcome::{Outcome, PodEnd},
};

/// What is looked at.
#[derive(Clone, Copy)]
pub struct RunFacts<'a> {
    /// Name of the Backup, which is also that of its Job.
    pub name: &'a str,
    /// Its uid.
    pub uid: &'a str,
    /// Generation of its spec.
    pub generation: i64,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// Whether it is being deleted; its finalizer keeps it until its Job is gone.
    pub deleting: bool,
    /// What was asked for.
    pub spec: &'a BackupSpec,
    /// What was recorded so far.
    pub status: &'a BackupStatus,
    /// The policy that it names; none if there is none.
    pub policy: Option<PolicyFact<'a>>,
    /// Whether the repository lets it in.
    pub repository: RepositoryFact<'a>,
    /// The Job of its name.
    pub job: &'a JobFact,
    /// Whether a later slot waits for it to end, by the policy's `overlap: Replace`.
    pub replaced: bool,
    /// What became of the objects that are to be copied, as far as this controller came in this pass.
    pub objects: Option<&'a ObjectsFact>,
    /// How hooks ended that this controller ran.
    pub hooks_done: &'a [HookDone],
    /// HMAC of a heartbeat's nonce.
    pub hmac: &'a dyn Fn(&str) -> String,
    /// Now.
    pub now: Timestamp,
}

/// The policy of a run.
#[derive(Clone, Copy, Debug)]
pub struct PolicyFact<'a> {
    /// What the run is to be pinned to: this policy as it is now, with repository, parent and base.
    pub pin: &'a PinnedPolicy,
    /// Its spec.
    pub spec: &'a BackupPolicySpec,
    /// Why a run cannot be begun, if it cannot: the policy or repository is invalid, or a base is missing.
    pub refusal: Option<&'a str>,
}

/// Whether the repository lets a run in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RepositoryFact<'a> {
    /// It is not known.
    Unknown,
    /// It does not, because of this.
    Waiting(&'a str),
    /// It does: the claim of the run's uid is stored.
    Held,
}

/// The Job of a run's name.
#[derive(Clone, Debug, PartialEq)]
pub enum JobFact {
    /// It is not known.
    Unknown,
    /// There is none.
    Absent,
    /// There is none, and the API server refused to make it for good, with these words.
    Refused(String),
    /// There is one that this run does not own.
    Foreign,
    /// There is none any more, and this pod of it has not ended.
    Leaving(String),
    /// It is this run's.
    Ours(JobState),
}

/// How far the objects of a run are on their way into its Job.
#[derive(Clone, Debug, PartialEq)]
pub enum ObjectsFact {
    /// They were read; this is to be recorded before they are stored.
    Read(ObjectsRecord),
    /// What was recorded is stored.
    Stored,
    /// They cannot be copied.
    Failed(Outcome),
}

/// A Job of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct JobState {
    /// Its uid.
    pub uid: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// Its activeDeadlineSeconds.
    pub deadline_seconds: Option<i64>,
    /// Whether it is terminal, with no pod left that may still write.
    pub ended: Option<JobEnd>,
    /// Whether it has a pod.
    pub has_pod: bool,
    /// What its pod is waiting for, if its next container cannot run.
    pub waiting: Option<String>,
    /// The end of the tool's log, if the tool has ended and left one.
    pub log_tail: Option<String>,
}

/// How a Job ended.
#[derive(Clone, Debug, PartialEq)]
pub struct JobEnd {
    /// Whether its deadline ended it.
    pub deadline_exceeded: bool,
    /// When it ended.
    pub at: Timestamp,
    /// How its pod ended.
    pub pod: PodEnd,
}

/// What is to be done, after the status was recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunStep {
    /// Nothing.
    Nothing,
    /// Ask the repository to let the run in.
    Claim,
    /// Run this hook of the policy, of those after the copying or before it, once.
    RunHook {
        /// Its name.
        name: String,
        /// Whether it is one of those after the copying.
        after: bool,
    },
    /// Read the objects that are to be copied; once they are recorded, store them.
    StoreObjects,
    /// Make the Job.
    CreateJob,
    /// Delete the Job in the foreground, with the uid as precondition.
    StopJob(String),
    /// Let go of the repository, then the finalizer: nothing of the run is left that could write.
    Release,
}

/// What follows.
#[derive(Clone, Debug, PartialEq)]
pub struct RunDecision {
    /// To be recorded before the step is taken.
    pub status: BackupStatus,
    /// What is to be done then.
    pub step: RunStep,
    /// When time alone changes the answer.
    pub wake_at: Option<Timestamp>,
}
