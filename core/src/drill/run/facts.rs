//! What is looked at for one run, and what may follow from it.

use std::collections::{BTreeMap, BTreeSet};

use interlock_crds::{DrillRunSpec, DrillRunStatus, ImageRecord, PinnedDrill, ShuffleState};
use jiff::{SignedDuration, Timestamp};

use crate::{
    backup::outcome::PodEnd,
    drill::{names::PodRole, select::Candidate},
};

/// Something of a deterministic name.
#[derive(Clone, Debug, PartialEq, Default)]
pub enum Seen<T> {
    /// It is not known.
    #[default]
    Unknown,
    /// There is none.
    Absent,
    /// There is none, and the API server refused to make it for good, with these words.
    Refused(String),
    /// There is one that is not of this run: it has not its uid as label or, of a sandbox, not Interlock's mark.
    Foreign,
    /// It is this run's.
    Ours(T),
}

/// What is looked at.
#[derive(Clone, Copy)]
pub struct DrillFacts<'a> {
    /// Name of the DrillRun.
    pub name: &'a str,
    /// Its uid.
    pub uid: &'a str,
    /// Its namespace: that of the repository.
    pub namespace: &'a str,
    /// Generation of its spec.
    pub generation: i64,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// Whether it is being deleted; its finalizer keeps it until nothing is left of it.
    pub deleting: bool,
    /// What was asked for.
    pub spec: &'a DrillRunSpec,
    /// What was recorded so far.
    pub status: &'a DrillRunStatus,
    /// The drill that it names; none if there is none.
    pub drill: Option<DrillFact<'a>>,
    /// Recovery points of the policy; none if they are not known.
    pub candidates: Option<&'a [Candidate]>,
    /// How far the drill's shuffle got.
    pub shuffle: &'a ShuffleState,
    /// Names of Backups that a run of the same spec has proved.
    pub proven: &'a BTreeSet<String>,
    /// Whether the repository lets it in.
    pub repository: Access<'a>,
    /// restic's id of the repository, if it was seen before.
    pub repository_id: Option<&'a str>,
    /// The Job that restores.
    pub restore_job: &'a Seen<JobState>,
    /// The claim in the namespace of the repository.
    pub claim: &'a Seen<ClaimState>,
    /// The volume of that claim, or the one that was recorded; if neither tells, one that refers to the claim that is gone.
    /// Never Foreign: whose it is says its claim.
    pub volume: &'a Seen<VolumeState>,
    /// The sandbox.
    pub sandbox: &'a Seen<SandboxState>,
    /// The claim in the sandbox.
    pub sandbox_claim: &'a Seen<ClaimState>,
    /// Its pods; one that is left out is not known.
    pub pods: &'a BTreeMap<PodRole, Seen<PodState>>,
    /// Address and port of a pod that is ready now and answers, as `ADDRESS:PORT`.
    pub target: Option<&'a str>,
    /// By how much clocks differ at most.
    pub skew: SignedDuration,
    /// HMAC of a heartbeat's nonce.
    pub hmac: &'a dyn Fn(&str) -> String,
    /// Now.
    pub now: Timestamp,
}

/// The drill of a run.
#[derive(Clone, Copy, Debug)]
pub struct DrillFact<'a> {
    /// What the run is to be pinned to: the drill, its policy and its repository as they are now.
    pub pin: &'a PinnedDrill,
    /// Why a run cannot be begun, if it cannot: something is invalid or missing.
    pub refusal: Option<&'a str>,
}

/// Whether the repository lets a run in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access<'a> {
    /// It is not known.
    Unknown,
    /// It does not, because of this.
    Waiting(&'a str),
    /// It does since then: the claim of the run's uid is stored.
    Held(Timestamp),
}

/// The Job that restores.
#[derive(Clone, Debug, PartialEq)]
pub struct JobState {
    /// Its uid.
    pub uid: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// How it ended, if it is terminal with no pod left that may still write.
    pub ended: Option<Ended>,
    /// What its pod waits for, if its next container cannot run.
    pub waiting: Option<String>,
    /// Images that it ran.
    pub images: Vec<ImageRecord>,
}

/// The end of a Job or pod.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    /// When, by the cluster's record.
    pub at: Timestamp,
    /// Whether its deadline ended it.
    pub deadline_exceeded: bool,
    /// How its pod ended.
    pub pod: PodEnd,
}

/// A pod of the run.
#[derive(Clone, Debug, PartialEq)]
pub struct PodState {
    /// Its uid.
    pub uid: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// Since when it is ready.
    pub ready_at: Option<Timestamp>,
    /// How it ended.
    pub ended: Option<Ended>,
    /// What it waits for, if its next container cannot run.
    pub waiting: Option<String>,
    /// Images that it ran.
    pub images: Vec<ImageRecord>,
}

/// A claim of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimState {
    /// Its uid.
    pub uid: String,
    /// Its volume.
    pub volume: Option<String>,
    /// Whether it is bound.
    pub bound: bool,
    /// Whether it is being deleted.
    pub terminating: bool,
}

/// A volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeState {
    /// Its name.
    pub name: String,
    /// Its reclaim policy.
    pub reclaim_policy: String,
    /// Namespace and name of the claim that it is bound to, or kept for.
    pub claim: Option<(String, String)>,
    /// Uid of that claim; none as long as it is kept for whichever has the name.
    pub claim_uid: Option<String>,
    /// Whether it carries the run's label: no other volume is dropped.
    pub labelled: bool,
}

/// The sandbox's namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SandboxState {
    /// Its uid.
    pub uid: String,
    /// Whether it is being deleted.
    pub terminating: bool,
    /// Whether quota and both NetworkPolicies are there, as they were built, and no other NetworkPolicy.
    pub guarded: bool,
}

/// One write. Each is idempotent and has a deterministic name; the status is recorded before the first of them is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DrillWrite {
    /// Ask the repository to let the run in.
    ClaimRepository,
    /// Make the sandbox's namespace with its guards, or put missing guards back.
    CreateSandbox,
    /// Make the claim in the namespace of the repository.
    CreateClaim,
    /// Make the Job that restores.
    CreateRestoreJob,
    /// Let the volume of this name survive its claim.
    RetainVolume(String),
    /// Delete the claim in the namespace of the repository, with this uid as precondition.
    DeleteClaim(String),
    /// Keep the volume of this name for the claim in the sandbox.
    RebindVolume(String),
    /// Make the claim in the sandbox.
    CreateSandboxClaim,
    /// Make a pod.
    CreatePod(PodRole),
    /// Delete the Job that restores, in the foreground, with this uid as precondition.
    DeleteRestoreJob(String),
    /// Delete a pod, with this uid as precondition.
    DeletePod(PodRole, String),
    /// Give a volume its reclaim policy back.
    ReturnVolume {
        /// Its name.
        name: String,
        /// The policy that it had.
        reclaim_policy: String,
    },
    /// Delete the sandbox's namespace, with this uid as precondition.
    DeleteSandbox(String),
    /// Delete a volume that its policy would keep: it was overwritten. A volume that nobody provisioned is freed instead.
    DropVolume(String),
}

/// What follows.
#[derive(Clone, Debug, PartialEq)]
pub struct DrillDecision {
    /// To be recorded before the first write.
    pub status: DrillRunStatus,
    /// To be made then, in this order.
    pub writes: Vec<DrillWrite>,
    /// How far the drill's shuffle got with this run: to be recorded in the drill.
    pub shuffle: Option<ShuffleState>,
    /// When time alone changes the answer.
    pub wake_at: Option<Timestamp>,
    /// Nothing is left of the run: its finalizer may go.
    pub release: bool,
}
