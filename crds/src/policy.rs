//! ChangePolicy: what a change of each type needs.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    common::{Duration, NameRef, Priority, RiskLevel},
    evidence::EvidenceKind,
    rules,
};

/// What a change needs, by its type: votes, evidence, windows, gates.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "interlock.dev",
    version = "v1alpha1",
    kind = "ChangePolicy",
    plural = "changepolicies",
    shortname = "cp",
    category = "interlock",
    status = "ChangePolicyStatus",
    derive = "PartialEq",
    doc = "What a change needs, by its type",
    printcolumn(name = "Normal", type_ = "string", json_path = ".spec.types.normal.approvals.thresholds[*].name"),
    printcolumn(name = "Valid", type_ = "string", json_path = ".status.conditions[?(@.type==\"Valid\")].status"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct ChangePolicySpec {
    /// Groups that may act on a change (abort, roll back, resume) beside its requester.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 253)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub operators: Vec<String>,
    /// The types of change that this policy allows. A type that is absent is not allowed.
    pub types: ChangeTypes,
    /// Who may open the gates by force in an emergency. Needs a release with BreakGlass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub break_glass: Option<BreakGlassRule>,
}

/// The types of change that a policy allows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.normal) || has(self.standard) || has(self.emergency)").message("allow at least one type of change: normal, standard or emergency"))]
pub struct ChangeTypes {
    /// Normal changes: voted on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub normal: Option<NormalType>,
    /// Standard changes: authorised in advance as long as the difference stays inside a template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standard: Option<StandardType>,
    /// Emergency changes: fewer votes, no window, an open incident, a review afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub emergency: Option<EmergencyType>,
}

/// What a normal change needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NormalType {
    /// Votes.
    pub approvals: Approvals,
    /// Evidence; each entry must be met.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub evidence: Vec<EvidenceRequirement>,
    /// When it may start. Without one: at any time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calendar_ref: Option<NameRef>,
    /// Further gates.
    #[serde(default)]
    pub gates: Gates,
    /// Whether a change may delete what cannot be brought back (volume claims, namespaces, definitions).
    #[serde(default)]
    pub allow_irreversible: bool,
}

/// What a standard change needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StandardType {
    /// The difference must stay inside one of these.
    #[schemars(length(min = 1, max = 32))]
    pub templates: Vec<StandardTemplate>,
    /// Evidence; each entry must be met.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub evidence: Vec<EvidenceRequirement>,
    /// When it may start. Without one: at any time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calendar_ref: Option<NameRef>,
    /// Further gates.
    #[serde(default)]
    pub gates: Gates,
}

/// What an emergency change needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EmergencyType {
    /// Votes.
    pub approvals: Approvals,
    /// An open incident of at least this priority must be named in `fixes`.
    pub require_incident: Priority,
    /// The change must be reviewed within this time after it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub review_within: Option<Duration>,
    /// Further gates.
    #[serde(default)]
    pub gates: Gates,
    /// Whether a change may delete what cannot be brought back.
    #[serde(default)]
    pub allow_irreversible: bool,
}

/// Votes that a change needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Approvals {
    /// Every one must be met. One Person fills one place of one threshold, unless it is `shared`.
    #[schemars(length(min = 1, max = 16))]
    pub thresholds: Vec<Threshold>,
    /// So many rejections end the change. Default: 1.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 100))]
    pub reject_count: u32,
    /// A vote older than this no longer counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<Duration>,
    /// Contributors (commit signers, issuers of evidence) may not vote, like the requester. Default: true.
    #[serde(default = "yes")]
    pub exclude_contributors: bool,
    /// Claims that the API server must have reported when the vote was cast, such as the second factor.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub require_claims: Vec<ClaimRequirement>,
    /// SSH signatures over the digest. Needs a release with signed votes; refused until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub require_signature: Option<SignatureRequirement>,
}

fn one() -> u32 {
    1
}

fn yes() -> bool {
    true
}

/// One threshold of votes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Threshold {
    /// Name for messages, such as `peers`.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// How many distinct persons must approve.
    #[schemars(range(min = 1, max = 100))]
    pub count: u32,
    /// A person of any of these groups may fill a place.
    #[schemars(length(min = 1, max = 32), inner(length(min = 1, max = 253)))]
    pub groups: Vec<String>,
    /// Whether a person who fills a place here may also fill one elsewhere. Default: false.
    #[serde(default)]
    pub shared: bool,
    /// Needed only from this risk on. Default: always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_risk: Option<RiskLevel>,
}

/// A claim that must be present.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClaimRequirement {
    /// Key of the claim.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
    /// Value that must be among its values.
    #[schemars(length(min = 1, max = 1024))]
    pub value: String,
}

/// When a vote must be signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SignatureRequirement {
    /// From this risk on.
    pub from_risk: RiskLevel,
}

/// Evidence that a change needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EvidenceRequirement {
    /// What must have been examined.
    pub kind: EvidenceKind,
    /// Who may state it.
    pub issuers: Issuers,
    /// Evidence older than this does not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<Duration>,
    /// Needed only from this risk on. Default: always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_risk: Option<RiskLevel>,
    /// Accept evidence that names, for every image of the change, the image's digest, instead of the content digest.
    #[serde(default)]
    pub accept_artifact: bool,
}

/// Who may issue evidence: members of the groups, or the named users.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.groups) || has(self.users)").message("name the groups or the users that may issue this evidence"))]
pub struct Issuers {
    /// Groups, as the API server reports them or as a Person lists them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 253)))]
    pub groups: Vec<String>,
    /// Exact user names, such as `system:serviceaccount:ci:pipeline`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 1024)))]
    pub users: Vec<String>,
}

/// Gates beside votes, evidence and windows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Gates {
    /// The error budget of the system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_budget: Option<ErrorBudgetGate>,
    /// A passed restore drill.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore_proof: Option<RestoreProofGate>,
    /// Open incidents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_incident: Option<OpenIncidentGate>,
    /// Other running changes of the same objects. Default: Enforce, without dependencies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collision: Option<CollisionGate>,
}

/// Whether a gate holds a change back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum EnforceMode {
    /// It does.
    #[default]
    Enforce,
    /// It is shown as closed, but does not hold the change back.
    Warn,
    /// It is not evaluated.
    Off,
}

/// The gate ErrorBudget.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ErrorBudgetGate {
    /// Whether it holds a change back.
    #[serde(default)]
    pub mode: EnforceMode,
}

/// The gate RestoreProof.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestoreProofGate {
    /// Whether it holds a change back.
    #[serde(default)]
    pub mode: EnforceMode,
    /// The newest passed drill must be younger than this.
    pub max_age: Duration,
}

/// The gate OpenIncident.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OpenIncidentGate {
    /// Whether it holds a change back.
    #[serde(default)]
    pub mode: EnforceMode,
    /// Incidents of this priority or more urgent close the gate.
    pub at_or_above: Priority,
}

/// The gate Collision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CollisionGate {
    /// Whether it holds a change back.
    #[serde(default)]
    pub mode: EnforceMode,
    /// Whether a running change of a system that this one depends on also closes it.
    #[serde(default)]
    pub include_dependencies: bool,
}

/// A difference that is authorised in advance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StandardTemplate {
    /// Name for messages.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Every changed path must be allowed by one of these. Creations and deletions are never inside a template.
    #[schemars(length(min = 1, max = 32))]
    pub allow: Vec<AllowedDiff>,
}

/// A path that may change, and to what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(has(self.range) ? 1 : 0) + (has(self.imageTag) ? 1 : 0) + (has(self.values) ? 1 : 0) == 1").message("give exactly one of range, imageTag and values"))]
pub struct AllowedDiff {
    /// API group; empty for the core group.
    #[serde(default)]
    #[schemars(length(max = 253), regex(pattern = rules::API_GROUP))]
    pub group: String,
    /// Kind.
    #[schemars(length(min = 1, max = 63), regex(pattern = rules::KIND))]
    pub kind: String,
    /// Path, such as `/spec/replicas`; `*` stands for one segment.
    #[schemars(length(min = 2, max = 512), regex(pattern = "^/"))]
    pub path: String,
    /// The new value is a whole number in this range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<ReplicaRange>,
    /// The new value is the same image with another tag, related to the old as stated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_tag: Option<ImageTagRule>,
    /// The new value is one of these texts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), inner(length(max = 1024)))]
    pub values: Option<Vec<String>>,
}

/// A range of whole numbers, both ends included.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.min <= self.max").message("min must not be greater than max"))]
pub struct ReplicaRange {
    /// Least value.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub min: i64,
    /// Greatest value.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub max: i64,
}

/// How a new image tag must be related to the old one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ImageTagRule {
    /// Same major and minor version, a later patch version (semantic versions).
    SameMinor,
    /// Same major version, a later minor or patch version.
    SameMajor,
}

/// Who may open the gates by force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BreakGlassRule {
    /// Groups that may.
    #[schemars(length(min = 1, max = 32), inner(length(min = 1, max = 253)))]
    pub groups: Vec<String>,
    /// At most so long.
    pub max_duration: Duration,
    /// To be reviewed within this time.
    pub review_within: Duration,
}

/// What the controller found out about a ChangePolicy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChangePolicyStatus {
    /// Generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Valid.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
}
