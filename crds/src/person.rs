//! Person: one human with all their identities.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{common::LocalizedText, rules};

/// One human: every user name that is theirs, their groups, keys and contact. Votes are counted by Person, so that two
/// accounts of one human count once.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "interlock.dev",
    version = "v1alpha1",
    kind = "Person",
    plural = "persons",
    category = "interlock",
    status = "PersonStatus",
    derive = "PartialEq",
    doc = "One human with all their identities",
    printcolumn(name = "Identities", type_ = "string", json_path = ".spec.identities"),
    printcolumn(name = "Groups", type_ = "string", json_path = ".spec.groups"),
    printcolumn(name = "Valid", type_ = "string", json_path = ".status.conditions[?(@.type==\"Valid\")].status"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct PersonSpec {
    /// Name for people.
    pub display_name: LocalizedText,
    /// Every user name of this human, exactly as the API server reports it. One belongs to one Person only: if two
    /// Persons claim it, neither may vote with it.
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 1024)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[x_kube(validation = Rule::new("!self.exists(i, i.startsWith('system:'))").message("an identity of a person cannot be a system: user or a ServiceAccount: these are machines"))]
    pub identities: Vec<String>,
    /// Groups of the person in addition to those that the API server reports when they vote.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 253)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub groups: Vec<String>,
    /// Groups that this person is barred from, whatever the API server reports: takes effect at once, while a token with
    /// the group may still be valid for hours.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 253)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub barred_groups: Vec<String>,
    /// Public keys for signed votes and commits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub signing_keys: Vec<SigningKey>,
    /// How to reach the person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contact: Option<Contact>,
}

/// A public key of a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SigningKey {
    /// Kind of key.
    #[serde(rename = "type")]
    pub type_: KeyType,
    /// Public key as in `authorized_keys`.
    #[schemars(length(min = 16, max = 4096))]
    pub key: String,
    /// First day on which the key counts, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = rules::LOCAL_DATE))]
    pub valid_from: Option<String>,
    /// First day on which the key no longer counts, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = rules::LOCAL_DATE))]
    pub valid_until: Option<String>,
    /// What the key may sign.
    #[serde(rename = "use")]
    #[schemars(length(min = 1, max = 2))]
    pub use_: Vec<KeyUse>,
}

/// Kinds of key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum KeyType {
    /// An SSH public key.
    #[serde(rename = "ssh")]
    Ssh,
}

/// What a key may sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum KeyUse {
    /// Votes.
    Approval,
    /// Commits.
    Commit,
}

/// How to reach a person.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Contact {
    /// E-mail address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 254))]
    pub email: Option<String>,
    /// Telephone number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub phone: Option<String>,
}

/// What the controller found out about a Person.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PersonStatus {
    /// Generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Valid.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
}
