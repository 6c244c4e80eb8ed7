//! Rollout: one execution of a plan for one change.

use std::fmt;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    rollout_plan::{RolloutPlanSpec, WorkloadKind},
    rollout_status::RolloutStatus,
    rules,
};

/// One execution of a plan for one change. Made by Interlock, owned by its ChangeRequest, and never edited: it runs on
/// the copy of the plan that the votes were bound to.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "interlock.dev",
    version = "v1alpha1",
    kind = "Rollout",
    plural = "rollouts",
    shortname = "ro",
    category = "interlock",
    namespaced,
    status = "RolloutStatus",
    derive = "PartialEq",
    doc = "One execution of a plan for one change",
    selectable = ".spec.changeRequest.uid",
    printcolumn(name = "Change", type_ = "string", json_path = ".spec.changeRequest.name"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Step", type_ = "integer", json_path = ".status.currentStep"),
    printcolumn(name = "Of", type_ = "integer", json_path = ".status.steps"),
    printcolumn(name = "Weight", type_ = "integer", json_path = ".status.weights.observed.canary"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.spec == oldSelf.spec").message("a Rollout cannot be changed: it runs on what was approved; command it with `interlock rollout`, or propose a new change")
)]
#[serde(rename_all = "camelCase")]
pub struct RolloutSpec {
    /// The change that is carried out.
    pub change_request: ChangeRequestRef,
    /// The digest that was approved.
    #[schemars(length(max = 80), regex(pattern = rules::DIGEST))]
    pub change_digest: String,
    /// The whole plan as it was approved.
    pub plan: RolloutPlanSpec,
    /// The workloads of the change that are carried out gradually. A plan without waves has one.
    #[schemars(length(min = 1, max = 200))]
    pub targets: Vec<RolloutTarget>,
    /// The Rollout whose wave this one is part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part_of: Option<PartOf>,
}

/// A ChangeRequest in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChangeRequestRef {
    /// Name.
    #[schemars(length(min = 1, max = 253), regex(pattern = rules::NAME))]
    pub name: String,
    /// Uid.
    #[schemars(length(max = 64), regex(pattern = rules::UID))]
    pub uid: String,
}

/// A workload of the change.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutTarget {
    /// Deployment, StatefulSet or DaemonSet.
    pub kind: WorkloadKind,
    /// Namespace.
    #[schemars(length(min = 1, max = 63), regex(pattern = rules::LABEL))]
    pub namespace: String,
    /// Name.
    #[schemars(length(min = 1, max = 253), regex(pattern = rules::NAME))]
    pub name: String,
}

impl fmt::Display for RolloutTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// The Rollout with waves that made this one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PartOf {
    /// Name of that Rollout.
    #[schemars(length(min = 1, max = 253), regex(pattern = rules::NAME))]
    pub name: String,
    /// Its uid.
    #[schemars(length(max = 64), regex(pattern = rules::UID))]
    pub uid: String,
    /// Name of the wave.
    #[schemars(length(min = 1, max = 40), regex(pattern = rules::LABEL))]
    pub wave: String,
}
