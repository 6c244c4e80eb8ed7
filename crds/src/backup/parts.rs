//! Parts of the status of a Backup.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a run stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum BackupPhase {
    /// It has no Job yet: it waits for the repository or for hooks.
    #[default]
    Pending,
    /// Its Job runs.
    Running,
    /// Everything was copied and read back.
    Succeeded,
    /// Something was copied, not all. Never a good recovery point.
    PartiallyFailed,
    /// There is no recovery point.
    Failed,
    /// Its slot was skipped, because an earlier run was active or something else has its name.
    Skipped,
    /// Its slot passed and was not made up for.
    Missed,
}

impl BackupPhase {
    /// Whether nothing more happens to the run.
    pub const fn is_terminal(self) -> bool {
        !matches!(self, Self::Pending | Self::Running)
    }
}

/// The policy and repository that a run works with. Later edits do not change it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PinnedPolicy {
    /// Uid of the policy.
    #[schemars(length(max = 64))]
    pub policy_uid: String,
    /// Generation of its spec.
    pub policy_generation: i64,
    /// Digest of its spec.
    #[schemars(length(max = 80))]
    pub policy_digest: String,
    /// Name of the repository.
    #[schemars(length(max = 253))]
    pub repository: String,
    /// Uid of the repository object.
    #[schemars(length(max = 64))]
    pub repository_uid: String,
    /// restic's id of the repository, once known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub repository_id: Option<String>,
    /// Snapshot that the copying is compared with; none reads everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub parent: Option<String>,
    /// Snapshot with the base copy that this run adds to (physical PostgreSQL, mode Incremental).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub base_id: Option<String>,
}

/// A Job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobRef {
    /// Name.
    #[schemars(length(max = 63))]
    pub name: String,
    /// Uid; none as long as it was not seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub uid: Option<String>,
}

/// That a run is being ended, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StopRecord {
    /// Why, in CamelCase.
    #[schemars(length(max = 64))]
    pub reason: String,
    /// Why, for a person.
    #[schemars(length(max = 1024))]
    pub message: String,
    /// Since when.
    pub at: Time,
}

/// A hook that has run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HookRecord {
    /// Name of the hook.
    #[schemars(length(max = 40))]
    pub name: String,
    /// It belongs to those after the copying.
    #[serde(default)]
    pub after: bool,
    /// When it was begun. Noted before it is begun, so that it is not begun twice.
    pub started_at: Time,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// Whether it did what it should.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub succeeded: Option<bool>,
    /// What went wrong, for a person: of a command its exit code and the end of its standard error, without what looks like a
    /// credential; never what a server answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub message: Option<String>,
}

/// The manifests of a run of `source.objects`. Recorded before they are stored in Secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectsRecord {
    /// How many there are.
    pub manifests: u32,
    /// Their bytes.
    pub bytes: i64,
    /// Digests of the Secrets with them, in order.
    #[schemars(length(max = 64), inner(length(max = 80)))]
    pub chunks: Vec<String>,
    /// How many Secrets there may be: as many as ever were announced.
    pub secrets: u32,
    /// All of them are stored.
    #[serde(default)]
    pub stored: bool,
}

/// What can be restored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RecoveryPoint {
    /// Id of the snapshot in the repository.
    #[schemars(length(max = 64))]
    pub snapshot_id: String,
    /// Snapshot that it was compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub parent: Option<String>,
    /// Snapshot without which it cannot be restored (physical PostgreSQL); none if it is complete by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub base_id: Option<String>,
    /// The moment whose data it holds: when the copying began, or `recoverableUntil`. Nothing later is promised.
    pub data_time: Time,
    /// The newest moment that can be recovered (physical PostgreSQL), by the server's clock: of a base copy its end, else that of
    /// the last commit or mark in the stored write-ahead log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recoverable_until: Option<Time>,
    /// Bytes of the data.
    #[serde(default)]
    pub bytes: i64,
    /// Bytes that were new to the repository.
    #[serde(default)]
    pub added_bytes: i64,
    /// Number of files.
    #[serde(default)]
    pub files: i64,
    /// Major version of PostgreSQL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postgres_version: Option<u32>,
    /// Segments of write-ahead log without a gap: those that a base copy was made during, or those that are stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wal: Option<WalRange>,
}

/// Segments of the write-ahead log of a PostgreSQL server, without a gap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WalRange {
    /// Identifier of the server's database cluster, decimal.
    #[schemars(length(max = 20))]
    pub system_id: String,
    /// Timeline of the last one.
    pub timeline: u32,
    /// Length of a segment, in bytes.
    pub segment_bytes: i64,
    /// Name of the first one.
    #[schemars(length(max = 24))]
    pub from: String,
    /// Name of the last one.
    #[schemars(length(max = 24))]
    pub to: String,
}

/// A heartbeat record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeartbeatRecord {
    /// Sequence number.
    pub seq: i64,
    /// Its time (clock of the source).
    pub time: Time,
    /// HMAC-SHA-256 of its nonce, base64, under a key of Interlock.
    #[schemars(length(max = 64))]
    pub hmac: String,
    /// When it was read (clock of the source).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_at: Option<Time>,
}

/// What a drill found out about a recovery point.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Verification {
    /// Name of the DrillRun.
    #[schemars(length(max = 253))]
    pub drill_run: String,
    /// When it ended.
    pub at: Time,
    /// What it found.
    pub verdict: PointVerdict,
}

/// What is known about a recovery point after a drill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum PointVerdict {
    /// It was restored and every critical validation passed.
    Proven,
    /// It was restored and is not good: it no longer counts as a recovery point.
    Corrupt,
    /// A drill used it and could not tell.
    Unverified,
}

/// What came of a run whose last hooks are still to run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JudgedRun {
    /// Where it will stand.
    pub phase: BackupPhase,
    /// Why, in CamelCase.
    #[schemars(length(max = 64))]
    pub reason: String,
    /// Why and what can be done, for a person.
    #[schemars(length(max = 2048))]
    pub message: String,
}

/// Whether a recovery point is kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetentionRecord {
    /// Rules and protections that keep it, such as `keepWeekly` or `LastGood`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20), inner(length(max = 64)))]
    pub kept_by: Vec<String>,
    /// When a prune was first told to forget it. Until one says that it is gone nobody knows whether it is there, whatever the rules
    /// keep since: it counts for no objective, and is drilled by nobody and restored only by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expired_at: Option<Time>,
    /// When it was forgotten in the repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forgotten_at: Option<Time>,
}
