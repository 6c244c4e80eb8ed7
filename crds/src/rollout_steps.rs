//! Steps of a gray release.

use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{common::Duration, rules};

/// One step: exactly one of its members. Steps are taken in order; one begins when the one before is complete.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.setWeight), has(self.setReplicas), has(self.pause), has(self.analysis), has(self.headerMatch), has(self.mirror), has(self.job), has(self.signOff), has(self.gate)].filter(x, x).size() == 1").message("a step does exactly one thing: setWeight, setReplicas, pause, analysis, headerMatch, mirror, job, signOff or gate"))]
pub struct RolloutStep {
    /// Percent of the traffic for the new version, 0 to 100. Of a canary without route it is a share of the pods: 1 to
    /// 50, or 100, which promotes. Of batches it is the percent of the pods that have the new version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub set_weight: Option<u8>,
    /// So many pods of the new version, whatever the weight; until the next setWeight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub set_replicas: Option<u32>,
    /// Wait: for `duration`, or without it until somebody promotes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<PauseStep>,
    /// Run these analyses and wait until all have passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 8), inner(length(min = 1, max = 40), regex(pattern = rules::LABEL)))]
    pub analysis: Option<Vec<String>>,
    /// Send requests with these headers to the new version. Needs a route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header_match: Option<HeaderMatchStep>,
    /// Send a copy of requests to the new version, whose answers nobody sees. Needs a route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<MirrorStep>,
    /// Run a Job and wait until it has completed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobStep>,
    /// Wait until people have signed. Neither promoting nor skipping replaces a signature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sign_off: Option<SignOff>,
    /// Wait until a gate is open. Neither promoting nor skipping opens it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<GateStep>,
}

/// A wait.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PauseStep {
    /// How long. Without it: until somebody promotes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<Duration>,
}

/// Requests that go to the new version whatever the weight.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeaderMatchStep {
    /// A request must have all of these. None: such requests no longer go there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub headers: Vec<HeaderMatch>,
}

/// One header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeaderMatch {
    /// Name of the header.
    #[schemars(length(min = 1, max = 256), regex(pattern = r"^[A-Za-z0-9!#$%&'*+\-.^_\x60|~]+$"))]
    pub name: String,
    /// Its exact value.
    #[schemars(length(min = 1, max = 4096))]
    pub value: String,
}

/// A copy of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MirrorStep {
    /// Percent of the requests that are copied; 0 ends it. Default: 100.
    #[serde(default = "all")]
    #[schemars(range(min = 0, max = 100))]
    pub percent: u8,
}

fn all() -> u8 {
    100
}

/// A Job as a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobStep {
    /// Name, part of the Job's name.
    #[schemars(length(min = 1, max = 40), regex(pattern = rules::LABEL))]
    pub name: String,
    /// `spec` of a batch/v1 Job.
    #[schemars(schema_with = "job_spec")]
    pub spec: Value,
}

fn job_spec(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true, "description": "`spec` of a batch/v1 Job." })
}

/// Signatures that are waited for. An Approval signs; its digest names the Rollout and the step or wave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SignOff {
    /// Distinct persons. Default: 1.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 20))]
    pub count: u32,
    /// Groups whose members may sign.
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 253)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub groups: Vec<String>,
}

fn one() -> u32 {
    1
}

/// A gate as a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GateStep {
    /// Which gate of the change's policy.
    pub name: StepGate,
}

/// Gates that a step can wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum StepGate {
    /// A change window is open.
    Window,
    /// The error budget is not exhausted.
    ErrorBudget,
    /// No serious incident is open.
    OpenIncident,
    /// A restore was proven lately.
    RestoreProof,
}
