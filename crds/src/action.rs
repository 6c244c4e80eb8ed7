//! Action: one person's command.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{common::Recorded, rules};

/// One person's command on a change or on its Rollout: authenticated, immutable, sealed like a vote.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "interlock.dev",
    version = "v1alpha1",
    kind = "Action",
    plural = "actions",
    shortname = "act",
    category = "interlock",
    namespaced,
    derive = "PartialEq",
    doc = "One person's command on a change or on its Rollout",
    printcolumn(name = "Target", type_ = "string", json_path = ".spec.target.name"),
    printcolumn(name = "Verb", type_ = "string", json_path = ".spec.verb"),
    printcolumn(name = "Actor", type_ = "string", json_path = ".spec.actor"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.spec == oldSelf.spec").message("an Action cannot be changed: it is a record of what was commanded")
)]
#[serde(rename_all = "camelCase")]
pub struct ActionSpec {
    /// What is commanded.
    pub target: ActionTarget,
    /// The command.
    pub verb: Verb,
    /// User name of whoever commands it; must be the user that creates the object.
    #[schemars(length(min = 1, max = 1024))]
    pub actor: String,
    /// Why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 4096))]
    pub reason: String,
    /// Written by Interlock's webhook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recorded: Option<Recorded>,
}

/// What a command is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.kind in ['ChangeRequest', 'Rollout']").message("only a ChangeRequest or a Rollout can be commanded"))]
pub struct ActionTarget {
    /// Kind of the object.
    #[schemars(length(min = 1, max = 63), regex(pattern = rules::KIND))]
    pub kind: String,
    /// Its name, in the same namespace.
    #[schemars(length(min = 1, max = 253), regex(pattern = rules::NAME))]
    pub name: String,
    /// Its uid.
    #[schemars(length(max = 64), regex(pattern = rules::UID))]
    pub uid: String,
}

/// Commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Verb {
    /// Go back now.
    Abort,
    /// Go back from Paused.
    Rollback,
    /// Take the request back before it starts.
    Withdraw,
    /// Accept the present live state as the new base; earlier votes become stale.
    Rebase,
    /// Hold before the next step.
    Pause,
    /// Go on after Pause, or try again after a failure with `onFailure: Pause`.
    Resume,
    /// Of a Rollout: end the wait of the current step.
    Promote,
    /// Of a Rollout: pass over every step that waits or measures; sign-offs and gates stay.
    PromoteFully,
    /// Of a Rollout: leave out the current step.
    Skip,
    /// Of a Rollout: try again what failed, or begin anew after going back.
    Retry,
}
