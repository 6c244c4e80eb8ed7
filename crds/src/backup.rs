//! Backup: one run, and its recovery point or its failure.

mod parts;

pub use parts::{
    BackupPhase, HeartbeatRecord, HookRecord, JobRef, JudgedRun, ObjectsRecord, PinnedPolicy, PointVerdict,
    RecoveryPoint, RetentionRecord, StopRecord, Verification, WalRange,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{backup_policy::BackupMode, common::NameRef, rules};

/// One run of a BackupPolicy, and its recovery point or its failure. Made by Interlock for a slot, or by a person who asks
/// for a run now. Only its hold can be changed.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "interlock.dev",
    version = "v1alpha1",
    kind = "Backup",
    plural = "backups",
    shortname = "bk",
    category = "interlock",
    namespaced,
    status = "BackupStatus",
    derive = "PartialEq",
    doc = "One run of a backup, and its recovery point or its failure",
    selectable = ".spec.policyRef.name",
    printcolumn(name = "Policy", type_ = "string", json_path = ".spec.policyRef.name"),
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.reason"),
    printcolumn(name = "Data of", type_ = "date", json_path = ".status.point.dataTime"),
    printcolumn(name = "Bytes", type_ = "integer", json_path = ".status.point.bytes"),
    printcolumn(name = "Proven", type_ = "string", json_path = ".status.verified.verdict"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.size() <= 63").message("the name of a Backup is also that of its Job: at most 63 characters"),
    validation = Rule::new("self.spec.policyRef == oldSelf.spec.policyRef && self.spec.mode == oldSelf.spec.mode && self.spec.trigger == oldSelf.spec.trigger && has(self.spec.policyUid) == has(oldSelf.spec.policyUid) && (!has(self.spec.policyUid) || self.spec.policyUid == oldSelf.spec.policyUid) && has(self.spec.repositoryRef) == has(oldSelf.spec.repositoryRef) && (!has(self.spec.repositoryRef) || self.spec.repositoryRef == oldSelf.spec.repositoryRef) && has(self.spec.slot) == has(oldSelf.spec.slot) && (!has(self.spec.slot) || self.spec.slot == oldSelf.spec.slot) && has(self.spec.requester) == has(oldSelf.spec.requester) && (!has(self.spec.requester) || self.spec.requester == oldSelf.spec.requester)").message("a Backup is a record: only spec.hold can be changed; make another one for another run")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(self.trigger == 'Manual') == !has(self.slot)").message("a run of trigger Manual has no slot, and any other has one"))]
#[x_kube(validation = Rule::new("self.trigger != 'Manual' || has(self.requester)").message("say who asks: requester is the user that creates the Backup"))]
pub struct BackupSpec {
    /// BackupPolicy of this namespace.
    pub policy_ref: NameRef,
    /// Its uid; another policy of the same name has nothing to do with this run. Default: that of the policy at creation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), regex(pattern = rules::UID))]
    pub policy_uid: Option<String>,
    /// BackupRepository of this namespace. Default: that of the policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository_ref: Option<NameRef>,
    /// Why it runs. Default: Manual.
    #[serde(default)]
    pub trigger: BackupTrigger,
    /// The slot that it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<BackupSlot>,
    /// Full or Incremental. Default: Incremental.
    #[serde(default)]
    pub mode: BackupMode,
    /// User name of the person who asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub requester: Option<String>,
    /// Keep the recovery point whatever the policy says. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<BackupHold>,
}

/// Why a run takes place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum BackupTrigger {
    /// A person asked.
    #[default]
    Manual,
    /// Its slot came.
    Scheduled,
    /// Its slot passed while nobody could begin it.
    CatchUp,
    /// The policy was resumed.
    Resumed,
}

/// A slot of a schedule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupSlot {
    /// Name of the schedule.
    #[schemars(length(min = 1, max = 20), regex(pattern = rules::LABEL))]
    pub schedule: String,
    /// When it was due.
    pub time: Time,
    /// The clocks skipped its local time, so it was due when they changed. Default: false.
    #[serde(default)]
    pub shifted: bool,
}

/// Keeps a recovery point whatever the policy says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupHold {
    /// Why, for instance a legal matter.
    #[schemars(length(min = 1, max = 1024))]
    pub reason: String,
    /// Until when. Default: until the hold is removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
}

/// How far a run got.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupStatus {
    /// Generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Where it stands.
    #[serde(default)]
    pub phase: BackupPhase,
    /// Why, in CamelCase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub reason: Option<String>,
    /// Why and what can be done, for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub message: Option<String>,
    /// What it runs with, pinned when it was admitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned: Option<PinnedPolicy>,
    /// The Job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobRef>,
    /// How many seconds after its slot it was begun, if it was late.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late_seconds: Option<i64>,
    /// When it was admitted and asked for the repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queued_at: Option<Time>,
    /// When the repository let it in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claimed_at: Option<Time>,
    /// When its Job was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// What its pod waits for, as long as no container of it ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub waiting: Option<String>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// When its Job is being ended for having taken too long, or because it was replaced or deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopping: Option<StopRecord>,
    /// What came of it, while hooks after the copying are still to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judged: Option<JudgedRun>,
    /// Hooks that have run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub hooks: Vec<HookRecord>,
    /// The manifests that are copied, of a policy with `source.objects`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objects: Option<ObjectsRecord>,
    /// Exit code of the tool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The recovery point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub point: Option<RecoveryPoint>,
    /// The newest heartbeat record in the source before the copying began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat: Option<HeartbeatRecord>,
    /// What a drill found out about the recovery point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified: Option<Verification>,
    /// Whether the recovery point is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<RetentionRecord>,
    /// The end of the tool's log, of a run that did not succeed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub log_tail: Option<String>,
    /// When the controller will look again, if time alone changes the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_transition: Option<Time>,
    /// HeartbeatRead, HooksSucceeded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
}
