//! System: an information system under governance.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    common::{GroupKind, LocalizedText, NameRef, NamespacedRef, ServiceAccountRef},
    rules,
};

/// An information system: who owns it, which namespaces and kinds belong to it, how strictly it is governed and
/// under whose rights approved changes are carried out.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "interlock.dev",
    version = "v1alpha1",
    kind = "System",
    plural = "systems",
    shortname = "sys",
    category = "interlock",
    status = "SystemStatus",
    derive = "PartialEq",
    doc = "An information system under governance",
    printcolumn(name = "Tier", type_ = "string", json_path = ".spec.tier"),
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Policy", type_ = "string", json_path = ".spec.policyRef.name"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.size() <= 63").message("the name of a System is used as a label value: at most 63 characters")
)]
#[serde(rename_all = "camelCase")]
pub struct SystemSpec {
    /// Name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<LocalizedText>,
    /// What the system is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub description: Option<String>,
    /// Who answers for the system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Owner>,
    /// How much depends on the system; raises the computed risk of its changes.
    pub tier: Tier,
    /// Which environment this is, such as `production`.
    #[serde(default)]
    pub environment: Environment,
    /// Audit records what would be denied, Warn tells the user, Enforce denies. Default: Audit.
    #[serde(default)]
    pub mode: Mode,
    /// Namespaces of the system; each may be listed by one System only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 63), regex(pattern = rules::LABEL)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[x_kube(validation = Rule::new("!self.exists(n, n == 'kube-system' || n == 'kube-public' || n == 'kube-node-lease')").message("kube-system, kube-public and kube-node-lease cannot be governed: a mistake there would stop the cluster"))]
    pub namespaces: Vec<String>,
    /// Cluster-scoped objects that belong to this system and that its changes may touch. The controller registers them with
    /// the webhooks; condition KindsGoverned says whether it has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub cluster_objects: Vec<ClusterObject>,
    /// Which kinds are governed, as a difference from the default (workloads, config, services, routes, RBAC,
    /// autoscaling, storage claims, backups and drills).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub governs: Option<Governs>,
    /// Who carries out approved changes. Without it a change can be approved, but not carried out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executor: Option<Executor>,
    /// ServiceAccounts that pods of a change may use, by name in their own namespace. Empty: `default` only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 253), regex(pattern = rules::NAME)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub allowed_service_accounts: Vec<String>,
    /// Add-on controllers whose writes to the named kinds and paths pass without a change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub trusted_controllers: Vec<TrustedController>,
    /// Systems that this one needs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 253), regex(pattern = rules::NAME)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub depends_on: Vec<String>,
    /// The ChangePolicy that rules changes of this system.
    pub policy_ref: NameRef,
    /// RolloutPlan for changes that name none. Default: none, they are carried out at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_rollout_plan_ref: Option<NamespacedRef>,
}

/// Who answers for a system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Owner {
    /// Name of a Person.
    #[schemars(length(min = 1, max = 253), regex(pattern = rules::NAME))]
    pub person: String,
    /// Department.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub department: Option<String>,
}

/// How much depends on a system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)]
pub enum Tier {
    Critical,
    High,
    Medium,
    Low,
}

/// Where a system runs. Free text; `production` by default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Environment(pub String);

impl Default for Environment {
    fn default() -> Self {
        Self("production".to_owned())
    }
}

impl JsonSchema for Environment {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Environment".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "minLength": 1, "maxLength": 63 })
    }
}

/// What happens to a write that no change permits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Mode {
    /// It is allowed and recorded.
    #[default]
    Audit,
    /// It is allowed, and its author reads a warning.
    Warn,
    /// It is denied.
    Enforce,
}

/// A cluster-scoped object by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterObject {
    /// API group; empty for the core group.
    #[serde(default)]
    #[schemars(length(max = 253), regex(pattern = rules::API_GROUP))]
    pub group: String,
    /// Kind.
    #[schemars(length(min = 1, max = 63), regex(pattern = rules::KIND))]
    pub kind: String,
    /// Name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// Difference from the kinds that are governed by default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Governs {
    /// Kinds governed in addition, in the namespaces of this System. The controller registers them with the webhooks;
    /// condition KindsGoverned says whether it has. Never governed: Events, Leases, Nodes, Namespaces, admission
    /// configurations, certificate requests, reviews and Interlock's own kinds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub add: Vec<GroupKind>,
    /// Kinds not governed. Bare Pods and kinds that make pods stay governed whatever stands here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub remove: Vec<GroupKind>,
}

/// Who carries out approved changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.type == 'Interlock' ? has(self.serviceAccount) && !has(self.users) : has(self.users) && !has(self.serviceAccount)").message("type Interlock needs serviceAccount and no users; type External needs users and no serviceAccount"))]
pub struct Executor {
    /// Interlock: Interlock applies changes, impersonating `serviceAccount`. External: the named users apply them and
    /// Interlock only lets the approved content through.
    #[serde(rename = "type", default)]
    pub type_: ExecutorType,
    /// Whose rights are used. Interlock may impersonate exactly this ServiceAccount, granted by its owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account: Option<ServiceAccountRef>,
    /// Users that apply changes (type External).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 1024)))]
    pub users: Vec<String>,
}

/// Kinds of executor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ExecutorType {
    /// Interlock itself, impersonating a ServiceAccount.
    #[default]
    Interlock,
    /// Another tool, such as Argo CD, Flux or a pipeline.
    External,
}

/// An add-on controller that may write some paths without a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TrustedController {
    /// Exact user name.
    #[schemars(length(min = 1, max = 1024))]
    pub user: String,
    /// Kinds it may write.
    #[schemars(length(min = 1, max = 32))]
    pub kinds: Vec<GroupKind>,
    /// Paths it may write, such as `/spec/replicas`; `*` stands for one segment.
    #[schemars(length(min = 1, max = 32), inner(length(min = 2, max = 512), regex(pattern = "^/")))]
    pub paths: Vec<String>,
}

/// What the controller found out about a System.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SystemStatus {
    /// Generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// One word: Ready or NotReady.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub phase: Option<String>,
    /// What is wrong, for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
    /// Valid, NamespacesEnrolled, ExecutorReady; where kinds or cluster-scoped objects are named, also KindsGoverned and
    /// KindsReadable.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
}
