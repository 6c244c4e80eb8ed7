//! Status of a Rollout: the controller's side.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    analysis::AnalysisRecord,
    rollout::RolloutTarget,
    rollout_steps::{HeaderMatch, MirrorStep},
    status::OperationKind,
};

/// How far a release got.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutStatus {
    /// Generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Where it stands.
    #[serde(default)]
    pub phase: RolloutPhase,
    /// What happened last or is waited for, for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub message: Option<String>,
    /// Position of the current step, counted from 0; the number of steps when all are complete.
    #[serde(default)]
    pub current_step: u32,
    /// Number of steps.
    #[serde(default)]
    pub steps: u32,
    /// When the current step began, and how its deadline runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<StepRecord>,
    /// Percent of the traffic, wanted and in effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<Weights>,
    /// Pods of both versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<VersionCounts>,
    /// `pod-template-hash` (`controller-revision-hash` of batches) of both versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hashes: Option<VersionHashes>,
    /// What the steps so far ask for beside the weight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<Asked>,
    /// Why the release is held, and since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
    /// How everything was when the release began; what going back restores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<StartRecord>,
    /// How far a promotion got.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promotion: Option<PromotionRecord>,
    /// Why it goes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub cause: Option<String>,
    /// Steps that wait or measure are passed over (promoted fully, or a version that proved itself lately). Sign-offs and
    /// gates are not.
    #[serde(default)]
    pub fully: bool,
    /// Counts beginnings: 0 at first, one more for each retry. Part of the names of Jobs and analysis runs.
    #[serde(default)]
    pub attempt: u32,
    /// Counts changes of direction; late writes of an earlier epoch conflict.
    #[serde(default)]
    pub epoch: i64,
    /// The writes that are about to be made, or were made last; which of both, the live objects tell.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub journal: Vec<JournalEntry>,
    /// Writes of an earlier direction that were not seen to arrive and may still do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub unsettled: Vec<JournalEntry>,
    /// Uids of Actions that were obeyed, newest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 64)))]
    pub obeyed: Vec<String>,
    /// Actions up to this time were obeyed and are no longer listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub obeyed_until: Option<Time>,
    /// What is measured, and what was measured last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub analyses: Vec<AnalysisRecord>,
    /// How often something was tried again. Part of the names of analysis runs beside the steps.
    #[serde(default)]
    pub retries: u32,
    /// Waves and their workloads.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub waves: Vec<WaveRecord>,
    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// Seconds in which it was held, of the time since it began.
    #[serde(default)]
    pub held_seconds: i64,
    /// When the controller will look again, if time alone changes the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_transition: Option<Time>,
    /// Progressing, Paused, Healthy; Ready (False with reason Missing: something that the release needs is not there);
    /// Measured.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
}

/// Where a release stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum RolloutPhase {
    /// It has not begun: something that it needs is missing.
    #[default]
    Pending,
    /// Its steps are being taken.
    Progressing,
    /// It is held, or a step waits.
    Paused,
    /// All steps are complete; the workload itself takes the new version.
    Promoting,
    /// It goes back.
    Aborting,
    /// The workload has the new version and everything temporary is gone.
    Succeeded,
    /// Everything is as before.
    RolledBack,
    /// The promotion failed; the new version serves from where it served, and a person decides.
    Failed,
}

impl RolloutPhase {
    /// Whether nothing more happens unless somebody commands it.
    pub const fn is_at_rest(self) -> bool {
        match self {
            Self::Pending | Self::Progressing | Self::Paused | Self::Promoting | Self::Aborting => false,
            Self::Succeeded | Self::RolledBack | Self::Failed => true,
        }
    }
}

/// The current step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepRecord {
    /// When it began.
    pub started_at: Time,
    /// Instant from which its deadline runs: its beginning or its last progress, later by the time for which it was held.
    pub progress_at: Time,
    /// What counted as progress last: a number that only grows within a step.
    #[serde(default)]
    pub progress: i64,
    /// How often its analyses or Jobs were begun anew.
    #[serde(default)]
    pub tries: u32,
    /// What was asked for before it, where it asks for something else: that counts again when the step is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Asked>,
}

/// Percent of the traffic, wanted and in effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Weights {
    /// What the current step asks for.
    pub desired: Split,
    /// What the route, or without one the number of ready pods, was last seen to give.
    pub observed: Split,
}

/// Percent of the traffic of each version; the sum is 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Split {
    /// Old version.
    #[schemars(range(max = 100))]
    pub stable: u8,
    /// New version.
    #[schemars(range(max = 100))]
    pub canary: u8,
}

impl Split {
    /// The split that gives the new version `canary` percent.
    pub const fn of(canary: u8) -> Self {
        let canary = if canary > 100 { 100 } else { canary };
        Self { stable: 100 - canary, canary }
    }
}

impl Default for Split {
    fn default() -> Self {
        Self::of(0)
    }
}

/// Pods of both versions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VersionCounts {
    /// Ready pods of the old version.
    pub old: u32,
    /// Ready pods of the new version.
    pub new: u32,
    /// Pods of the new version that are asked for.
    pub new_desired: u32,
}

/// Hashes of both versions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VersionHashes {
    /// Old version.
    #[schemars(length(max = 64))]
    pub stable: String,
    /// New version; empty until it is known.
    #[schemars(length(max = 64))]
    pub canary: String,
}

/// What the steps so far ask for beside the weight.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Asked {
    /// Percent of the traffic for the new version.
    #[serde(default)]
    #[schemars(range(max = 100))]
    pub weight: u8,
    /// Pods of the new version, where a step set them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u32>,
    /// Headers whose requests go to the new version.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub headers: Vec<HeaderMatch>,
    /// Copies of requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<MirrorStep>,
}

/// Why a release is held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Hold {
    /// Why.
    pub reason: HoldReason,
    /// Since when.
    pub since: Time,
    /// The same for a person.
    #[schemars(length(max = 1024))]
    pub message: String,
}

/// Why a release is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum HoldReason {
    /// Somebody commanded it.
    Commanded,
    /// It failed, and the plan says Pause.
    Failure,
    /// An analysis could not tell.
    Inconclusive,
    /// Its window closed, and the calendar says Pause.
    WindowClosed,
}

/// How everything was when the release began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StartRecord {
    /// Replicas that the workload asked for.
    pub replicas: u32,
    /// Ready pods of the version that served, if they were fewer: going back needs no more than there was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<u32>,
    /// The HorizontalPodAutoscaler whose minReplicas is held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoscaler: Option<HeldAutoscaler>,
    /// Weights of the split backend, in the order of the route's rules; -1 where none was stated.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub route_weights: Vec<i64>,
    /// `updateStrategy` of a workload in batches, as JSON.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub update_strategy: String,
}

/// A HorizontalPodAutoscaler that is kept from shrinking the workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeldAutoscaler {
    /// Its name.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Its minReplicas before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<i64>,
    /// Its minReplicas meanwhile.
    pub held: i64,
}

/// How far a promotion got.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PromotionRecord {
    /// The workload itself was, or is about to be, given the new version.
    #[serde(default)]
    pub written: bool,
    /// When all traffic had reached the new version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub switched_at: Option<Time>,
    /// The workload itself runs the new version and takes the traffic back.
    #[serde(default)]
    pub returning: bool,
    /// How many times the second Deployment relieved it since somebody last tried again, because it lost pods meanwhile. None:
    /// never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reliefs: Option<u32>,
}

/// A write that is about to be made or was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JournalEntry {
    /// `apps/v1`.
    #[schemars(length(max = 317))]
    pub api_version: String,
    /// Kind.
    #[schemars(length(max = 63))]
    pub kind: String,
    /// Namespace.
    #[schemars(length(max = 63))]
    pub namespace: String,
    /// Name.
    #[schemars(length(max = 253))]
    pub name: String,
    /// What is done to it.
    pub operation: OperationKind,
    /// What it becomes.
    pub form: Form,
    /// The number that the form has: replicas, percent, a partition, minReplicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<i64>,
    /// The hash that the form selects.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub hash: String,
    /// Uid that the write requires; empty for a creation.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub uid: String,
    /// resourceVersion that the write requires; empty for a creation.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub resource_version: String,
    /// When it was announced.
    pub at: Time,
}

/// What a write of a release makes of an object. Executor and webhook compute the object from it, by the same functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Form {
    /// The second Deployment, with `number` replicas.
    CanaryWorkload,
    /// The second Deployment of a blue/green release, with `number` replicas.
    GreenWorkload,
    /// The workload with the new version.
    Promoted,
    /// The workload as before.
    Restored,
    /// A ConfigMap or Secret of the change under a name of its own.
    ConfigCopy,
    /// A ConfigMap or Secret as the change wants it.
    ConfigPromoted,
    /// A ConfigMap or Secret as before.
    ConfigRestored,
    /// The Service of the old version's share, selecting `hash`.
    StableService,
    /// The Service of the new version's share, selecting `hash`.
    CanaryService,
    /// The Service that reaches the new version before the switch, selecting `hash`.
    PreviewService,
    /// The user's Service, selecting `hash` in addition.
    PinnedService,
    /// The user's Service as before.
    UnpinnedService,
    /// The route with `number` percent for the new version.
    SplitRoute,
    /// The same with the headers and copies that the steps ask for.
    MatchedRoute,
    /// The route as before.
    RestoredRoute,
    /// The HorizontalPodAutoscaler with `number` as minReplicas.
    HeldAutoscaler,
    /// The HorizontalPodAutoscaler as before.
    ReleasedAutoscaler,
    /// The Job of the step at position `number`.
    StepJob,
    /// The Job of the measurement of this number.
    AnalysisJob,
    /// The StatefulSet with the new version and `number` as partition.
    Partition,
    /// The DaemonSet with the new version, whose pods are replaced only when they are deleted.
    OnDelete,
    /// The workload in batches as before, its own updateStrategy still withheld.
    BatchesBack,
    /// The workload in batches with its own updateStrategy.
    StrategyReleased,
    /// A pod that is deleted so that a new one takes its place.
    ReplacedPod,
    /// A Rollout of one workload of a wave.
    WaveRollout,
    /// The object with the mark of the present epoch, so that a late write conflicts.
    Touched,
    /// The object without that mark.
    Untouched,
    /// Nothing: the object is deleted.
    Gone,
}

/// A wave and its workloads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WaveRecord {
    /// Name of the wave.
    #[schemars(length(max = 40))]
    pub name: String,
    /// Where it stands.
    pub phase: WavePhase,
    /// The attempt in which it began. Part of the names of its Rollouts: what is complete is not done again by a retry.
    #[serde(default)]
    pub attempt: u32,
    /// When it was complete; its soak time runs from here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Time>,
    /// Workloads by what became of them.
    #[serde(default)]
    pub succeeded: u32,
    /// Workloads that are being changed.
    #[serde(default)]
    pub running: u32,
    /// Workloads that went back or failed.
    #[serde(default)]
    pub failed: u32,
    /// Which these are. Of a wave that is complete: those that keep the old version, as many as its `failureThreshold` lets be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub missed: Vec<RolloutTarget>,
    /// What it waits for, for a person.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub message: String,
}

/// Where a wave stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum WavePhase {
    /// It has not begun.
    #[default]
    Waiting,
    /// Its workloads are being changed.
    Running,
    /// All were changed; the soak time runs.
    Soaking,
    /// It is complete.
    Complete,
    /// Too many of its workloads failed.
    Failed,
    /// Its workloads return to the old version.
    Returning,
    /// Its workloads have returned.
    Returned,
}
