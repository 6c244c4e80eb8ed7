//! Approval: one vote.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{common::Recorded, rules};

/// One person's vote on one digest of one ChangeRequest. Immutable; deleting one's own before execution withdraws it.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "interlock.dev",
    version = "v1alpha1",
    kind = "Approval",
    plural = "approvals",
    shortname = "appr",
    category = "interlock",
    namespaced,
    derive = "PartialEq",
    doc = "One person's vote on one digest of one ChangeRequest",
    selectable = ".spec.changeRequestUid",
    printcolumn(name = "Change", type_ = "string", json_path = ".spec.changeRequest"),
    printcolumn(name = "Approver", type_ = "string", json_path = ".spec.approver"),
    printcolumn(name = "Decision", type_ = "string", json_path = ".spec.decision"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.spec == oldSelf.spec").message("an Approval cannot be changed: delete it to withdraw the vote, then vote again")
)]
#[serde(rename_all = "camelCase")]
pub struct ApprovalSpec {
    /// Name of the ChangeRequest, in the same namespace.
    #[schemars(length(min = 1, max = 253), regex(pattern = rules::NAME))]
    pub change_request: String,
    /// Uid of the ChangeRequest: a request made again under the same name is another one.
    #[schemars(length(max = 64), regex(pattern = rules::UID))]
    pub change_request_uid: String,
    /// `status.changeDigest` that was looked at.
    #[schemars(length(max = 80), regex(pattern = rules::DIGEST))]
    pub digest: String,
    /// User name of the voter; must be the user that creates the object.
    #[schemars(length(min = 1, max = 1024))]
    pub approver: String,
    /// Approve or Reject.
    pub decision: ApprovalDecision,
    /// Why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 4096))]
    pub reason: String,
    /// SSHSIG over the digest. Needs a release with signed votes; refused until then.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 8192))]
    pub signature: String,
    /// Written by Interlock's webhook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recorded: Option<Recorded>,
}

/// A vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ApprovalDecision {
    /// For the change.
    Approve,
    /// Against the change.
    Reject,
}
