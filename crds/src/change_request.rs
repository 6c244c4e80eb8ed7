//! ChangeRequest: one change.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    common::{Duration, NameRef, RiskLevel},
    rules,
    status::ChangeRequestStatus,
};

/// One change: its exact content, its type, when it may run and what happens when it fails. It waits until every gate
/// of its policy is open, is then carried out under the rights of its System's executor, and goes back if it turns out
/// bad.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "interlock.dev",
    version = "v1alpha1",
    kind = "ChangeRequest",
    plural = "changerequests",
    shortname = "cr",
    category = "interlock",
    namespaced,
    status = "ChangeRequestStatus",
    derive = "PartialEq",
    doc = "One change that waits for its approvals",
    selectable = ".status.phase",
    printcolumn(name = "Type", type_ = "string", json_path = ".spec.type"),
    printcolumn(name = "Risk", type_ = "string", json_path = ".status.risk.level"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Waiting for", type_ = "string", json_path = ".status.waitingFor"),
    printcolumn(name = "Requester", type_ = "string", json_path = ".spec.requester", priority = 1),
    printcolumn(name = "Title", type_ = "string", json_path = ".spec.title", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.size() <= 200").message("the name of a ChangeRequest is part of other names: at most 200 characters")
)]
#[serde(rename_all = "camelCase")]
pub struct ChangeRequestSpec {
    /// What the change is, in a few words.
    #[schemars(length(min = 1, max = 200))]
    pub title: String,
    /// Why it is needed.
    #[schemars(length(min = 1, max = 4096))]
    pub reason: String,
    /// User name of whoever asks for the change; must be the user that creates it.
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("requester cannot be changed: propose a new change instead"))]
    pub requester: String,
    /// Normal, Standard or Emergency. Default: Normal.
    #[serde(rename = "type", default)]
    pub type_: ChangeType,
    /// Raises the computed risk to at least this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum_risk: Option<RiskLevel>,
    /// What is changed.
    pub content: Content,
    /// Carry the change out gradually, by this RolloutPlan of the same namespace. Default: that of the System, if it names
    /// one; else everything at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout_plan_ref: Option<NameRef>,
    /// What happens when the change fails.
    #[serde(default)]
    pub contingency: Contingency,
    /// When the change may start and until when it is wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
    /// Changes that must have succeeded before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub depends_on: Vec<DependsOn>,
    /// Names of incidents that this change fixes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 253), regex(pattern = rules::NAME)))]
    pub fixes: Vec<String>,
    /// The project milestone that this change reaches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub milestone: Option<MilestoneRef>,
    /// How long an object may take to become healthy before the change counts as failed. Default: 10m.
    #[serde(default = "ten_minutes")]
    pub progress_deadline: Duration,
}

fn ten_minutes() -> Duration {
    Duration::from_seconds(600)
}

/// Types of change, after ITIL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ChangeType {
    /// Authorised in advance as long as the difference stays inside a template of the policy.
    Standard,
    /// Voted on.
    #[default]
    Normal,
    /// Fewer votes and no window, but an open incident and a review afterwards.
    Emergency,
}

/// What is changed: inline manifests, or a path in a Git commit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.git) ? !has(self.manifests) : (has(self.manifests) && self.manifests.size() > 0) || (has(self.secretRefs) && self.secretRefs.size() > 0)").message("give either content.manifests (or secretRefs) or content.git"))]
pub struct Content {
    /// Objects to create, update or (annotation `interlock.dev/operation: Delete`) delete. At most 200 objects and 200 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "manifests_schema")]
    pub manifests: Option<Vec<Value>>,
    /// Objects of a Git commit. Needs a release with ConfigSources; refused until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git: Option<GitContent>,
    /// Staged Secrets that belong to the change, bound by uid. Secret values never stand inline.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub secret_refs: Vec<SecretRef>,
}

fn manifests_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 200,
        "description": "Objects to create, update or (annotation `interlock.dev/operation: Delete`) delete. At most 200 objects and 200 KiB.",
        "items": {
            "type": "object",
            "x-kubernetes-embedded-resource": true,
            "x-kubernetes-preserve-unknown-fields": true,
            "x-kubernetes-validations": [
                {"rule": "self.kind != 'List' && !self.kind.endsWith('List')", "message": "write the objects one by one: a List cannot be an item of manifests"},
                {"rule": "self.metadata.name.size() > 0", "message": "every manifest needs metadata.name: generateName would make another object at each try"}
            ],
        },
    })
}

/// A path in a Git commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GitContent {
    /// ConfigSource in the same namespace.
    pub source_ref: NameRef,
    /// Commit id.
    #[schemars(regex(pattern = "^[0-9a-f]{40}$"))]
    pub commit: String,
    /// Path in the tree.
    #[schemars(length(min = 1, max = 1024))]
    pub path: String,
}

/// A staged Secret: type `interlock.dev/staged`, immutable, in the namespace of the change.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Name of the staged Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = rules::NAME))]
    pub name: String,
    /// Its uid, so that it cannot be exchanged for another of the same name.
    #[schemars(regex(pattern = rules::UID))]
    pub uid: String,
    /// Name of the Secret that the change writes with its values.
    #[schemars(length(min = 1, max = 253), regex(pattern = rules::NAME))]
    pub target: String,
    /// Names of its keys, sorted. The content digest covers names and keys, never values.
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 253)))]
    pub keys: Vec<String>,
    /// Type of the Secret to write. Default: Opaque.
    #[serde(rename = "type", default = "opaque")]
    #[schemars(length(min = 1, max = 253))]
    pub type_: String,
}

fn opaque() -> String {
    "Opaque".to_owned()
}

/// What happens when the change fails.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Contingency {
    /// Rollback goes back by itself; Pause leaves it to a person. Default: Rollback.
    #[serde(default)]
    pub on_failure: OnFailure,
    /// Jobs run, one after another, after the objects were put back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub jobs: Vec<ContingencyJob>,
    /// Where the people who carry it out find their instructions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub runbook: Option<String>,
}

/// What happens when a change fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnFailure {
    /// It goes back by itself.
    #[default]
    Rollback,
    /// It stops and waits for `interlock rollback` or `interlock resume`. So it does when its release went back or failed, also
    /// by `interlock rollout abort`: `interlock rollout retry` tries that again.
    Pause,
}

/// A Job of the contingency plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContingencyJob {
    /// Name, part of the Job's name.
    #[schemars(length(min = 1, max = 40), regex(pattern = rules::LABEL))]
    pub name: String,
    /// `spec` of a batch/v1 Job.
    #[schemars(schema_with = "job_spec_schema")]
    pub spec: Value,
}

fn job_spec_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true, "description": "`spec` of a batch/v1 Job." })
}

/// When a change may start and until when it is wanted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.notBefore) || !has(self.expiresAt) || self.notBefore < self.expiresAt").message("expiresAt must be later than notBefore"))]
pub struct Schedule {
    /// Not before this instant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Time>,
    /// If it has not started by then, the change expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
}

/// A change that must have succeeded before.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DependsOn {
    /// Namespace of the ChangeRequest. Default: the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = rules::LABEL))]
    pub namespace: Option<String>,
    /// Name of the ChangeRequest.
    #[schemars(length(min = 1, max = 253), regex(pattern = rules::NAME))]
    pub name: String,
}

/// A milestone of a project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MilestoneRef {
    /// Name of the Project.
    #[schemars(length(min = 1, max = 253), regex(pattern = rules::NAME))]
    pub project: String,
    /// Name of the milestone in it.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
}
