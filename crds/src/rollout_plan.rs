//! RolloutPlan: how a change is carried out gradually.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    analysis::Analysis,
    change_request::OnFailure,
    common::{Duration, NameRef},
    rollout_steps::{RolloutStep, SignOff},
    rules,
};

/// How changes are carried out gradually: steps, analysis, deadlines, and what happens on failure. A running Rollout
/// works on its own copy, so editing a plan changes nothing that runs.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "interlock.dev",
    version = "v1alpha1",
    kind = "RolloutPlan",
    plural = "rolloutplans",
    shortname = "rp",
    category = "interlock",
    namespaced,
    status = "RolloutPlanStatus",
    derive = "PartialEq",
    doc = "How changes are carried out gradually",
    printcolumn(name = "On failure", type_ = "string", json_path = ".spec.onFailure"),
    printcolumn(name = "Deadline", type_ = "string", json_path = ".spec.progressDeadline"),
    printcolumn(name = "Valid", type_ = "string", json_path = ".status.conditions[?(@.type==\"Valid\")].status"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.canary), has(self.blueGreen), has(self.batches), has(self.waves)].filter(x, x).size() == 1").message("give exactly one of canary, blueGreen, batches and waves"))]
pub struct RolloutPlanSpec {
    /// A second Deployment takes the new version and more and more of the traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<CanaryStrategy>,
    /// The new version runs beside the old one at full size; one switch moves all traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blue_green: Option<BlueGreenStrategy>,
    /// A StatefulSet by partitions, a DaemonSet node by node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batches: Option<BatchStrategy>,
    /// Groups of workloads, one group after another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub waves: Option<Vec<Wave>>,
    /// What is measured, by name; steps say when.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub analyses: Vec<Analysis>,
    /// How long a step may go without progress (a pod that becomes ready, a route that is accepted) before the release
    /// counts as failed. Time in which the release is held does not count. Default: 10m.
    #[serde(default = "ten_minutes")]
    pub progress_deadline: Duration,
    /// Rollback goes back by itself; Pause holds the release for a person. Default: Rollback.
    #[serde(default)]
    pub on_failure: OnFailure,
    /// What happens when a newer change wants the same workload. Default: Restart.
    #[serde(default)]
    pub supersede: Supersede,
    /// What happens to waves that have succeeded when a later one fails. Default: Stay.
    #[serde(default)]
    pub earlier_waves: EarlierWaves,
    /// The version that a Deployment had until a release of it succeeded, at most so long ago, is known to be good if all
    /// its pods were ready then: bringing it back passes over steps that wait or measure, not over sign-offs and gates.
    /// Default: every version takes every step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fast_track: Option<Duration>,
}

fn ten_minutes() -> Duration {
    Duration::from_seconds(600)
}

/// What happens when a newer change wants the same workload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Supersede {
    /// This release goes back to weight 0 and ends; the newer one starts from the beginning.
    #[default]
    Restart,
    /// The newer one waits.
    Queue,
}

/// What happens to waves that have succeeded when a later one fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum EarlierWaves {
    /// They keep the new version.
    #[default]
    Stay,
    /// They return to the old one.
    Return,
}

/// A second Deployment takes the new version and more and more of the traffic.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.route) || self.steps.all(s, !has(s.setWeight) || (s.setWeight >= 1 && s.setWeight <= 50) || s.setWeight == 100)").message("without a route weight is by pods added to the old ones: setWeight is 1 to 50, or 100; name a route for other weights"))]
#[x_kube(validation = Rule::new("has(self.route) || self.steps.all(s, !has(s.headerMatch) && !has(s.mirror))").message("headerMatch and mirror need a route"))]
pub struct CanaryStrategy {
    /// The route that splits the traffic. Leave out: weight by number of pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<CanaryRoute>,
    /// What is done, in order. After the last step the new version is promoted.
    #[schemars(length(min = 1, max = 40))]
    pub steps: Vec<RolloutStep>,
    /// At most so many pods of the new version during the steps. A promotion through a route needs as many as the old
    /// version has, whatever stands here, because for a while they carry everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub max_canary_replicas: Option<u32>,
    /// Analyses that run beside the steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub background: Option<BackgroundAnalysis>,
}

/// An HTTPRoute of the Gateway API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CanaryRoute {
    /// Name of the HTTPRoute, in the namespace of the workload.
    #[schemars(length(min = 1, max = 253), regex(pattern = rules::NAME))]
    pub http_route: String,
    /// Name of the Service behind it whose share is split.
    #[schemars(length(min = 1, max = 55), regex(pattern = rules::LABEL))]
    pub backend: String,
}

/// Analyses that run beside the steps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackgroundAnalysis {
    /// Names of the analyses.
    #[schemars(length(min = 1, max = 8), inner(length(min = 1, max = 40), regex(pattern = rules::LABEL)))]
    pub analyses: Vec<String>,
    /// Position of the step with which they begin, counted from 0. Default: 0.
    #[serde(default)]
    #[schemars(range(max = 40))]
    pub starting_step: u32,
}

/// The new version runs beside the old one at full size; one switch moves all traffic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.steps) || self.steps.all(s, !has(s.setWeight) && !has(s.headerMatch) && !has(s.mirror))").message("blueGreen moves all traffic at once: setWeight, headerMatch and mirror belong to canary"))]
#[x_kube(validation = Rule::new("!has(self.previewService) || self.previewService != self.service").message("previewService must be another Service than service"))]
pub struct BlueGreenStrategy {
    /// Service whose traffic is switched.
    #[schemars(length(min = 1, max = 55), regex(pattern = rules::LABEL))]
    pub service: String,
    /// Name of a Service that reaches the new version before the switch; made and removed by the release. Default: the
    /// name of `service` with `-preview`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = rules::LABEL))]
    pub preview_service: Option<String>,
    /// What is done, in order, before the switch.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 40))]
    pub steps: Vec<RolloutStep>,
    /// Analyses that must pass after the switch, while the old version is still there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(min = 1, max = 40), regex(pattern = rules::LABEL)))]
    pub after_switch: Vec<String>,
    /// How long the old version is kept after the switch, for instant return. Default: 5m.
    #[serde(default = "five_minutes")]
    pub keep_old: Duration,
}

fn five_minutes() -> Duration {
    Duration::from_seconds(300)
}

/// A StatefulSet by partitions, a DaemonSet node by node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.steps.all(s, !has(s.headerMatch) && !has(s.mirror))").message("headerMatch and mirror belong to canary"))]
pub struct BatchStrategy {
    /// What is done, in order. setWeight is the percent, setReplicas the number of pods with the new version so far.
    /// After the last step all others follow.
    #[schemars(length(min = 1, max = 40))]
    pub steps: Vec<RolloutStep>,
    /// Percent of a batch's pods that may be unready for the batch to count as complete. Default: 0.
    #[serde(default)]
    #[schemars(range(min = 0, max = 99))]
    pub failure_threshold: u8,
}

/// A group of workloads that is changed before the next group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.canary), has(self.blueGreen), has(self.batches)].filter(x, x).size() == 1").message("a wave has exactly one of canary, blueGreen and batches"))]
pub struct Wave {
    /// Name of the wave.
    #[schemars(length(min = 1, max = 40), regex(pattern = rules::LABEL))]
    pub name: String,
    /// Its workloads.
    #[schemars(length(min = 1, max = 100))]
    pub targets: Vec<WaveTarget>,
    /// How each of them is changed: as a canary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<CanaryStrategy>,
    /// How each of them is changed: blue/green.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blue_green: Option<BlueGreenStrategy>,
    /// How each of them is changed: in batches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batches: Option<BatchStrategy>,
    /// How long the wave must have been complete before the next one may begin. Default: no time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soak: Option<Duration>,
    /// Signatures without which the wave does not begin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sign_off: Option<SignOff>,
    /// Calendar in one of whose windows each workload of the wave begins. Default: that of the change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calendar_ref: Option<NameRef>,
    /// At most so many workloads are being changed at the same time. Default: 1.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 100))]
    pub max_parallel: u32,
    /// So many workloads of the wave may fail before the wave counts as failed. Default: 0.
    #[serde(default)]
    #[schemars(range(min = 0, max = 100))]
    pub failure_threshold: u32,
}

fn one() -> u32 {
    1
}

/// A workload of a wave; its manifest is in the change.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WaveTarget {
    /// Deployment, StatefulSet or DaemonSet.
    pub kind: WorkloadKind,
    /// Namespace. Default: that of the change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = rules::LABEL))]
    pub namespace: Option<String>,
    /// Name.
    #[schemars(length(min = 1, max = 253), regex(pattern = rules::NAME))]
    pub name: String,
}

/// Kinds of workload that are changed gradually.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)]
pub enum WorkloadKind {
    Deployment,
    StatefulSet,
    DaemonSet,
}

/// What the controller found out about a RolloutPlan.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutPlanStatus {
    /// Generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Valid.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
}
