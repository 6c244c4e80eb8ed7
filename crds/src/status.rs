//! Status of a ChangeRequest: the controller's side.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::common::RiskLevel;

/// What the controller found out about a change and did for it. Never an input to a decision, except the sealed run
/// record and its journal, which are void without a valid seal.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChangeRequestStatus {
    /// Generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Where the change stands.
    #[serde(default)]
    pub phase: ChangePhase,
    /// What happened last or is waited for, for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub message: Option<String>,
    /// The closed gates by name, for one column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub waiting_for: Option<String>,
    /// The System to which the change belongs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub system: Option<String>,
    /// Computed risk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub risk: Option<RiskStatus>,
    /// Digest of the content alone; computable from Git; evidence binds to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 80))]
    pub content_digest: Option<String>,
    /// Digest of everything that is approved; votes bind to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 80))]
    pub change_digest: Option<String>,
    /// The live values that the approvers saw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<BaseRecord>,
    /// Every gate, open or not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub gates: Vec<GateStatus>,
    /// The votes that were cast and whether they count.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub votes: Vec<VoteSummary>,
    /// How the change is being or was carried out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunRecord>,
    /// When the controller will look again, if time alone changes the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_transition: Option<Time>,
    /// How it ended; sealed, because a phase alone proves nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished: Option<FinishRecord>,
    /// Valid, Approved, Progressing, Healthy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
}

/// How a change ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FinishRecord {
    /// The terminal phase.
    pub phase: ChangePhase,
    /// When it ended.
    pub at: Time,
    /// Why, for a person.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 2048))]
    pub message: String,
    /// Interlock's seal over this record and the uid of the change; base64.
    #[schemars(length(max = 128))]
    pub seal: String,
}

/// Where a change stands. Terminal phases never change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ChangePhase {
    /// Something but time is missing.
    #[default]
    Pending,
    /// Only time is missing, or it is about to start.
    Scheduled,
    /// It is being carried out, or going back.
    Running,
    /// It failed with `onFailure: Pause` and waits for a person.
    Paused,
    /// It was carried out and everything is healthy.
    Succeeded,
    /// It failed or was aborted, and everything is as before.
    RolledBack,
    /// It failed and could not be put back completely.
    Failed,
    /// Enough people rejected it.
    Rejected,
    /// It did not start in time.
    Expired,
    /// Its requester took it back.
    Withdrawn,
    /// Another change took its place.
    Superseded,
}

impl ChangePhase {
    /// Whether the phase is final.
    pub const fn is_terminal(self) -> bool {
        match self {
            Self::Pending | Self::Scheduled | Self::Running | Self::Paused => false,
            Self::Succeeded
            | Self::RolledBack
            | Self::Failed
            | Self::Rejected
            | Self::Expired
            | Self::Withdrawn
            | Self::Superseded => true,
        }
    }

    /// Whether the change has begun to write and has not ended.
    pub const fn is_active(self) -> bool {
        matches!(self, Self::Running | Self::Paused)
    }
}

/// Computed risk with its factors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RiskStatus {
    /// The level that the policy looks at.
    pub level: RiskLevel,
    /// Sum of the factors' points, 0 to 100.
    pub score: u32,
    /// What contributed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub factors: Vec<RiskFactor>,
}

/// One contribution to the risk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RiskFactor {
    /// Name of the factor.
    #[schemars(length(max = 64))]
    pub name: String,
    /// Points, at least 0.
    pub points: u32,
    /// Why, for a person.
    #[schemars(length(max = 512))]
    pub why: String,
}

/// The live values of the paths that the change will write, as they were when this generation was first evaluated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BaseRecord {
    /// Digest of the values.
    #[schemars(length(max = 80))]
    pub digest: String,
    /// Generation of the spec for which it was pinned.
    pub generation: i64,
    /// How often the change was re-based since it was created.
    #[serde(default)]
    pub rebases: i64,
    /// Keyed hash over the values of staged Secrets, so that an exchange is noticed; empty without Secrets.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 160))]
    pub secrets_mac: String,
    /// Interlock's seal over this record and the uid of the change; base64.
    #[schemars(length(max = 128))]
    pub seal: String,
}

/// One gate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GateStatus {
    /// Name of the gate.
    #[schemars(length(max = 64))]
    pub name: String,
    /// Whether it lets the change through. Unknown is closed.
    pub state: GateState,
    /// Whether a closed gate holds the change back, or only warns.
    #[serde(default = "always")]
    pub enforced: bool,
    /// One word.
    #[schemars(length(max = 64))]
    pub reason: String,
    /// What would open it, for a person.
    #[schemars(length(max = 2048))]
    pub message: String,
    /// When time alone opens it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opens_at: Option<Time>,
}

fn always() -> bool {
    true
}

/// State of a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum GateState {
    /// The change may pass.
    Open,
    /// The change may not pass.
    Closed,
    /// What it looks at is not known; the change may not pass.
    Unknown,
}

/// One vote and whether it counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VoteSummary {
    /// Name of the Approval.
    #[schemars(length(max = 253))]
    pub approval: String,
    /// Person, or the user name where no person is known.
    #[schemars(length(max = 1024))]
    pub person: String,
    /// Whether it counts.
    pub state: VoteState,
    /// Why, for a person.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 512))]
    pub why: String,
}

/// Whether a vote counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum VoteState {
    /// It counts for the change.
    Approves,
    /// It counts against the change.
    Rejects,
    /// It was cast on other content.
    Stale,
    /// It is older than the policy allows.
    Expired,
    /// It does not count for the stated reason.
    Void,
}

/// How a change is carried out. Sealed when it enters Running; ignored without a valid seal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunRecord {
    /// Counts take-overs by a new leader or direction; late writes of an earlier epoch conflict.
    pub epoch: i64,
    /// The approved change digest.
    #[schemars(length(max = 80))]
    pub change_digest: String,
    /// Uids of the Approvals that let it through.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 200), inner(length(max = 64)))]
    pub votes: Vec<String>,
    /// The standard template that let it through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub template: Option<String>,
    /// `system:serviceaccount:...` under whose rights it is carried out.
    #[schemars(length(max = 512))]
    pub executor: String,
    /// Digest of the stored before-state and expected state.
    #[schemars(length(max = 80))]
    pub before_digest: String,
    /// Number of Secrets in Interlock's namespace that hold it.
    pub before_chunks: u32,
    /// When it entered Running.
    pub started_at: Time,
    /// Interlock's seal over the fields above and the uid of the change; base64.
    #[schemars(length(max = 128))]
    pub seal: String,
    /// Forward, or going back.
    #[serde(default)]
    pub direction: RunDirection,
    /// Why it goes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub cause: Option<String>,
    /// When the current step's object was written; its deadline runs from here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_started_at: Option<Time>,
    /// The journal: one entry an object, in the order in which they are carried out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 240))]
    pub objects: Vec<ObjectStatus>,
}

/// Which way a run goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RunDirection {
    /// The change is carried out.
    #[default]
    Forward,
    /// The change goes back.
    Back,
}

/// Journal entry of one object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectStatus {
    /// `apps/v1`.
    #[schemars(length(max = 317))]
    pub api_version: String,
    /// Kind.
    #[schemars(length(max = 63))]
    pub kind: String,
    /// Namespace; absent for cluster-scoped objects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub namespace: Option<String>,
    /// Name.
    #[schemars(length(max = 253))]
    pub name: String,
    /// What is done to it.
    pub operation: OperationKind,
    /// How far it got.
    pub state: StepState,
    /// Uid observed when the step was journalled; empty if the object did not exist.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub uid: String,
    /// resourceVersion observed when the step was journalled.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub resource_version: String,
    /// What went wrong or is waited for, for a person.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub message: String,
}

/// What is done to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum OperationKind {
    /// It is created.
    Create,
    /// It is changed.
    Update,
    /// It is deleted.
    Delete,
    /// A contingency Job is run.
    RunJob,
}

/// How far the step of an object got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum StepState {
    /// Not begun.
    #[default]
    Waiting,
    /// The write is about to be made or was made; which of both, the live object tells.
    Intended,
    /// Written; not yet healthy.
    Written,
    /// Written and healthy (or gone, for a deletion).
    Done,
    /// Failed.
    Failed,
    /// Going back: the write back is about to be made or was made.
    Reverting,
    /// As before.
    Reverted,
    /// Could not be put back.
    RevertFailed,
}
