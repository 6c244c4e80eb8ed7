//! Status of a DrillRun.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::findings::{
    CertificateRef, CleanupRecord, ImageRecord, IsolationRecord, MeasuredRpo, MeasuredRto, ValidationRecord,
};
use crate::{
    backup::{HeartbeatRecord, JobRef},
    restore_drill::SelectionStrategy,
};

/// How far a drill got, and what it found. Verdict and cleanup are separate facts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DrillRunStatus {
    /// Generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Where it stands.
    #[serde(default)]
    pub phase: DrillPhase,
    /// What it found; never changes once it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<DrillVerdict>,
    /// Why, in CamelCase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub reason: Option<String>,
    /// Why and what can be done, for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub message: Option<String>,
    /// When the run was admitted: recovery time counts from here, whatever it waits for. Never changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub t0: Option<Time>,
    /// Seed of everything that is chosen at random.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 9_007_199_254_740_991_u64))]
    pub seed: Option<u64>,
    /// The drill as it was at T0, which the run carries out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned: Option<PinnedDrill>,
    /// The recovery point that is restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chosen: Option<ChosenPoint>,
    /// When each part began and ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub segments: Vec<DrillSegment>,
    /// Jobs of the run, in the order in which they were made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub jobs: Vec<JobRef>,
    /// Since when no Job of the run reads the repository any more, nor ever will: others may have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository_released_at: Option<Time>,
    /// Namespace and volumes that were made, noted before they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<SandboxRecord>,
    /// What the isolation probe found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolation: Option<IsolationRecord>,
    /// What each validation found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub validations: Vec<ValidationRecord>,
    /// The newest heartbeat in the restored data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat: Option<HeartbeatRecord>,
    /// Measured recovery time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rto: Option<MeasuredRto>,
    /// Measured recovery point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rpo: Option<MeasuredRpo>,
    /// Images that ran, with the digests that the nodes reported.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub images: Vec<ImageRecord>,
    /// When the verdict fell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// What became of the sandbox.
    #[serde(default)]
    pub cleanup: CleanupRecord,
    /// Digest of everything above that the verdict rests on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 80))]
    pub evidence_digest: Option<String>,
    /// The signed certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<CertificateRef>,
    /// When the controller will look again, if time alone changes the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_transition: Option<Time>,
    /// Complete, CleanupFailed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
}

/// Where a drill stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum DrillPhase {
    /// It was not admitted yet.
    #[default]
    Pending,
    /// It waits for the repository.
    Queued,
    /// Volume and sandbox are made.
    Provisioning,
    /// The recovery point is restored.
    Restoring,
    /// The volume is handed over to the sandbox.
    HandingOver,
    /// The isolation of the sandbox is probed.
    Probing,
    /// The application starts.
    Starting,
    /// The validations run.
    Validating,
    /// Every critical validation passed, within the objectives.
    Passed,
    /// Something critical did not, or an objective was missed.
    Failed,
    /// It cannot be told.
    Inconclusive,
    /// Its slot passed and was not made up for.
    Missed,
    /// Its slot was skipped.
    Skipped,
}

impl DrillPhase {
    /// Whether the verdict has fallen, or there never will be one.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Passed | Self::Failed | Self::Inconclusive | Self::Missed | Self::Skipped)
    }
}

/// What a drill found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum DrillVerdict {
    /// The data came back, in time.
    Passed,
    /// It did not. A check that could not run is a failure.
    Failed,
    /// It cannot be told: the source's heartbeat was dead. Counts neither as pass nor as failure.
    Inconclusive,
    /// There was no run.
    Missed,
}

/// The drill that a run carries out. Later edits do not change it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PinnedDrill {
    /// Uid of the drill.
    #[schemars(length(max = 64))]
    pub drill_uid: String,
    /// Generation of its spec.
    pub generation: i64,
    /// Digest of its spec.
    #[schemars(length(max = 80))]
    pub spec_digest: String,
    /// Its whole spec; believed only if it has that digest.
    #[schemars(schema_with = "drill_spec")]
    pub spec: Value,
    /// Uid of the policy.
    #[schemars(length(max = 64))]
    pub policy_uid: String,
    /// Digest of the policy's spec.
    #[schemars(length(max = 80))]
    pub policy_digest: String,
    /// The policy's whole spec, for its heartbeat and objective; believed only if it has that digest.
    #[schemars(schema_with = "policy_spec")]
    pub policy_spec: Value,
    /// Name of the repository.
    #[schemars(length(max = 253))]
    pub repository: String,
    /// Uid of the repository object.
    #[schemars(length(max = 64))]
    pub repository_uid: String,
}

fn drill_spec(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true, "description": "Its whole spec; believed only if it has that digest." })
}

fn policy_spec(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true, "description": "The policy's whole spec, for its heartbeat and objective; believed only if it has that digest." })
}

/// The recovery point that a drill restores.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChosenPoint {
    /// Name of the Backup.
    #[schemars(length(max = 253))]
    pub backup: String,
    /// Its uid.
    #[schemars(length(max = 64))]
    pub uid: String,
    /// Id of its snapshot.
    #[schemars(length(max = 64))]
    pub snapshot_id: String,
    /// Snapshot that must be restored before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub base_id: Option<String>,
    /// The moment whose data it holds.
    pub data_time: Time,
    /// How it was chosen.
    pub strategy: SelectionStrategy,
    /// Tier of the retention from which it was drawn (RandomWithin).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub tier: Option<String>,
    /// The heartbeat that its run recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat: Option<HeartbeatRecord>,
    /// Bytes of its data.
    #[serde(default)]
    pub bytes: i64,
    /// Number of its files.
    #[serde(default)]
    pub files: i64,
}

/// One part of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DrillSegment {
    /// Which part.
    pub name: SegmentName,
    /// When it began: the end of the part before.
    pub started_at: Time,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
}

/// Parts of the measured recovery time; together they are all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum SegmentName {
    /// Waiting for the repository.
    Queue,
    /// Volume and sandbox.
    Provision,
    /// Restore and hand-over of the volume.
    Restore,
    /// Isolation probe, dependencies and application.
    Start,
    /// Validations.
    Validate,
}

/// Namespace and volumes of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SandboxRecord {
    /// Name of the namespace.
    #[schemars(length(max = 63))]
    pub namespace: String,
    /// Its uid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub namespace_uid: Option<String>,
    /// PersistentVolumeClaim in the namespace of the repository.
    #[schemars(length(max = 253))]
    pub claim: String,
    /// Its uid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub claim_uid: Option<String>,
    /// Its PersistentVolume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub volume: Option<String>,
    /// The reclaim policy that the volume had, and that it gets back before it is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub reclaim_policy: Option<String>,
    /// Digest of the manifest of what was restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 80))]
    pub manifest_digest: Option<String>,
}
