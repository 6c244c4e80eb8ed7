//! Status of a BackupPolicy.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::backup::BackupPhase;

/// What the controller found out about a BackupPolicy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupPolicyStatus {
    /// Generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Where it stands.
    #[serde(default)]
    pub phase: BackupPolicyPhase,
    /// What happened last or is wrong, for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub message: Option<String>,
    /// Name of the run that is active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub active: Option<String>,
    /// How far each schedule got.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub schedules: Vec<ScheduleStatus>,
    /// The earliest slot that is still to come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_slot: Option<Time>,
    /// Since when the policy is suspended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspended_since: Option<Time>,
    /// The newest run that ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run: Option<LastRun>,
    /// When a run last ended with Succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_successful_time: Option<Time>,
    /// The newest good recovery point: of a run that succeeded, neither forgotten nor found corrupt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_good: Option<PointRef>,
    /// The newest recovery point that a drill has restored and proved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_proven: Option<PointRef>,
    /// How many recovery points there are.
    #[serde(default)]
    pub points: u32,
    /// How many runs in a row did not succeed.
    #[serde(default)]
    pub consecutive_failures: u32,
    /// When the controller will look again, if time alone changes the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_transition: Option<Time>,
    /// Valid, Ready, RPOAtRisk, Overdue, HeartbeatReady, WalReceived.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
}

/// Where a policy stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum BackupPolicyPhase {
    /// Nothing is known yet.
    #[default]
    Pending,
    /// The next slot is waited for.
    Idle,
    /// A run is active.
    Running,
    /// The newest good recovery point is older than the objective, or there is none.
    AtRisk,
    /// The newest run did not succeed.
    Failing,
    /// No run is begun.
    Suspended,
    /// The spec cannot be used.
    Invalid,
}

/// How far a schedule got. Every slot up to `decidedUntil` is accounted for: begun, skipped or missed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScheduleStatus {
    /// Name of the schedule.
    #[schemars(length(max = 20))]
    pub name: String,
    /// Slots up to this instant, inclusive, are accounted for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_until: Option<Time>,
    /// The slot that was begun last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_slot: Option<Time>,
    /// The next slot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_slot: Option<Time>,
    /// Slots for which there was no run, because nobody was there to begin it in time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missed_slots: Option<SlotCount>,
    /// Slots that were skipped because an earlier run was active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped_slots: Option<SlotCount>,
    /// Slots that passed while the policy was suspended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspended_slots: Option<SlotCount>,
}

/// A number of slots, and the newest of the gaps that they make.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SlotCount {
    /// How many in all.
    pub total: u64,
    /// How many in the newest gap.
    pub count: u64,
    /// The first slot of the newest gap.
    pub first: Time,
    /// The last slot of the newest gap.
    pub last: Time,
}

/// A run that ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastRun {
    /// Name of the Backup.
    #[schemars(length(max = 253))]
    pub name: String,
    /// How it ended.
    pub phase: BackupPhase,
    /// Why, in CamelCase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub reason: Option<String>,
    /// When it ended.
    pub finished_at: Time,
}

/// A recovery point.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PointRef {
    /// Name of the Backup.
    #[schemars(length(max = 253))]
    pub backup: String,
    /// Id of the snapshot in the repository.
    #[schemars(length(max = 64))]
    pub snapshot_id: String,
    /// The moment whose data it holds.
    pub data_time: Time,
}
