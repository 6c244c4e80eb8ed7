//! Status of a RestoreDrill.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    backup_policy_status::SlotCount,
    drill_run::{DrillPhase, DrillVerdict},
    restore_drill::Fault,
};

/// What the controller found out about a RestoreDrill.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestoreDrillStatus {
    /// Generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Where it stands.
    #[serde(default)]
    pub phase: RestoreDrillPhase,
    /// What happened last or is wrong, for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub message: Option<String>,
    /// Name of the run that is active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub active: Option<String>,
    /// Slots up to this instant, inclusive, are accounted for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_until: Option<Time>,
    /// The slot that was begun last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_slot: Option<Time>,
    /// The next slot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_slot: Option<Time>,
    /// Slots for which there was no run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missed_slots: Option<SlotCount>,
    /// Slots that were skipped because an earlier run was active, or because their recovery point was proved already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped_slots: Option<SlotCount>,
    /// The newest run that ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run: Option<DrillResult>,
    /// The newest run that passed and counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_passed: Option<DrillResult>,
    /// The newest run that failed, without an injected fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failed: Option<DrillResult>,
    /// The run that proved that this drill can fail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proven_failure: Option<ProvenFailure>,
    /// How far the shuffle of strategy RandomWithin got.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shuffle: Option<ShuffleState>,
    /// How many runs there are.
    #[serde(default)]
    pub runs: u32,
    /// When the controller will look again, if time alone changes the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_transition: Option<Time>,
    /// Valid, Proven, DrillOverdue, CleanupFailed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
}

/// Where a drill stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RestoreDrillPhase {
    /// It has never run.
    #[default]
    Unproven,
    /// A run is active.
    Running,
    /// The newest run that counts passed.
    Proven,
    /// The newest run that counts failed.
    Failing,
    /// The newest run could not tell.
    Inconclusive,
    /// No run passed for twice the time between two slots.
    Overdue,
    /// No run is begun.
    Suspended,
    /// The spec cannot be used.
    Invalid,
}

/// A run that ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DrillResult {
    /// Name of the DrillRun.
    #[schemars(length(max = 253))]
    pub run: String,
    /// Its uid.
    #[schemars(length(max = 64))]
    pub uid: String,
    /// How it ended.
    pub phase: DrillPhase,
    /// What it found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<DrillVerdict>,
    /// Why, in CamelCase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub reason: Option<String>,
    /// When the verdict fell.
    pub finished_at: Time,
    /// Name of the Backup that it restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub backup: Option<String>,
    /// Measured recovery time, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rto_seconds: Option<i64>,
    /// Measured recovery point, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rpo_seconds: Option<i64>,
}

/// A run with an injected fault that failed because of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProvenFailure {
    /// Name of the DrillRun.
    #[schemars(length(max = 253))]
    pub run: String,
    /// The fault.
    pub fault: Fault,
    /// Digest of the validations of that run: after they are edited the proof is needed again.
    #[schemars(length(max = 80))]
    pub validations_digest: String,
    /// When its verdict fell.
    pub at: Time,
}

/// How far a shuffle without replacement got.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ShuffleState {
    /// Seed of the round.
    #[schemars(range(max = 9_007_199_254_740_991_u64))]
    pub seed: u64,
    /// Number of the round, from 1.
    pub round: u32,
    /// Tiers of the retention drawn in this round.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 32)))]
    pub drawn_tiers: Vec<String>,
    /// Names of Backups drawn lately, newest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 253)))]
    pub drawn: Vec<String>,
    /// Seed of the run that drew last: one run is remembered once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seed: Option<u64>,
}
