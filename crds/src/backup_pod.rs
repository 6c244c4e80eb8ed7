//! How the pods of backups, restores and maintenance look, and what runs around them.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    analysis::HttpMethod,
    common::{Duration, NameRef},
    rules,
};

/// How a pod runs. Pods are restricted (Pod Security Standards) and have no API token, whatever stands here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(has(self.readAll) && self.readAll && has(self.runAsUser))").message("readAll runs as user 0 with one capability: leave out runAsUser"))]
pub struct PodOptions {
    /// Image of restic. Default: the one that this release of Interlock was tested with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), regex(pattern = rules::IMAGE))]
    pub image: Option<String>,
    /// Names of Secrets with which images are pulled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(min = 1, max = 253), regex(pattern = rules::NAME)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub image_pull_secrets: Vec<String>,
    /// What the tool's container asks for and may use at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Room for restic's cache and temporary files. Default: 2Gi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 24), regex(pattern = rules::QUANTITY))]
    pub scratch_size: Option<String>,
    /// Labels that the node must have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["key".into()]))]
    pub node_selector: Vec<LabelValue>,
    /// Taints that the pod bears.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub tolerations: Vec<Toleration>,
    /// Run on the node of a pod with these labels: a ReadWriteOnce volume is reachable only there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["key".into()]))]
    pub same_node_as: Vec<LabelValue>,
    /// User id, not 0: whoever may read the source. Default: 65532.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub run_as_user: Option<i64>,
    /// Group id. Default: 65532.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub run_as_group: Option<i64>,
    /// Group that owns the volumes; Kubernetes changes the group of their files when the pod starts. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub fs_group: Option<i64>,
    /// Further groups. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(range(min = 1, max = 2_147_483_647)))]
    pub supplemental_groups: Vec<i64>,
    /// Read every file (restore: give files their owners back), as user 0 with DAC_READ_SEARCH (restore: CHOWN, FOWNER,
    /// DAC_OVERRIDE) and nothing else. The namespace must permit it by label `interlock.dev/backup-privileges: permitted`.
    /// A backup to a repository on a volume cannot have it: only the user of the repository may write there. Default: false.
    #[serde(default)]
    pub read_all: bool,
    /// PriorityClass of the pods. Default: that of the namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = rules::NAME))]
    pub priority_class_name: Option<String>,
}

/// Requests and limits of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// What it asks for. Default: 100m CPU, 256Mi memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<ResourceAmounts>,
    /// What it may use at most. Default: no limit of CPU, 2Gi memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<ResourceAmounts>,
}

/// Amounts of resources, as Kubernetes quantities in quotes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResourceAmounts {
    /// CPU, such as `500m` or `4`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 24), regex(pattern = rules::QUANTITY))]
    pub cpu: Option<String>,
    /// Memory, such as `8Gi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 24), regex(pattern = rules::QUANTITY))]
    pub memory: Option<String>,
    /// Disk of the node, such as `10Gi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 24), regex(pattern = rules::QUANTITY))]
    pub ephemeral_storage: Option<String>,
}

/// A label and its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LabelValue {
    /// Key of the label.
    #[schemars(length(min = 1, max = 317), regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9._\-/]*$"))]
    pub key: String,
    /// Its value.
    #[schemars(length(max = 63), regex(pattern = r"^([A-Za-z0-9][A-Za-z0-9._\-]*)?$"))]
    pub value: String,
}

/// A taint that a pod bears.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Toleration {
    /// Key of the taint; without it every taint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 317))]
    pub key: Option<String>,
    /// Value of the taint; without it any value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub value: Option<String>,
    /// Effect of the taint; without it any effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<TaintEffect>,
}

/// What a taint does to pods that do not bear it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)]
pub enum TaintEffect {
    NoSchedule,
    PreferNoSchedule,
    NoExecute,
}

/// What is done around the copying, so that what is copied is consistent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Hooks {
    /// Before, in order. One that fails with `onError: Fail` fails the run; nothing is copied then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub before: Vec<Hook>,
    /// Afterwards, in order, however the run ended, once its Job was made or a hook before was begun. One that fails does not
    /// stop the next, nor make a good copy bad; condition HooksSucceeded and the message say so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub after: Vec<Hook>,
}

/// One hook: a command in a running pod, or an HTTP request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.exec) != has(self.http)").message("a hook is either exec or http"))]
pub struct Hook {
    /// Name of the hook.
    #[schemars(length(min = 1, max = 40), regex(pattern = rules::LABEL))]
    pub name: String,
    /// A command in a running pod of this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec: Option<ExecHook>,
    /// An HTTP request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpHook>,
    /// A hook that takes longer has failed. Default: 60s.
    #[serde(default = "one_minute")]
    pub timeout: Duration,
    /// What follows when it fails before the copying. Default: Fail.
    #[serde(default)]
    pub on_error: HookErrorRule,
}

fn one_minute() -> Duration {
    Duration::from_seconds(60)
}

/// A command in a running pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExecHook {
    /// Labels of the pod; exactly one ready pod must have them all.
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["key".into()]))]
    pub pod: Vec<LabelValue>,
    /// Container. Default: the first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = rules::LABEL))]
    pub container: Option<String>,
    /// Command and its arguments, without a shell.
    #[schemars(length(min = 1, max = 32), inner(length(max = 1024)))]
    pub command: Vec<String>,
}

/// An HTTP request to a Service of the cluster. Redirects are not followed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.secretRef) || self.url.startsWith('https://')").message("credentials are sent over https only"))]
pub struct HttpHook {
    /// URL, such as `http://teller.teller.svc:8080/admin/quiesce`.
    #[schemars(length(min = 8, max = 1024), regex(pattern = rules::HTTP_URL))]
    pub url: String,
    /// Default: POST.
    #[serde(default = "post")]
    pub method: HttpMethod,
    /// Statuses that are a success. Default: 200, 202 and 204.
    #[serde(default = "success_statuses")]
    #[schemars(length(min = 1, max = 16), inner(range(min = 100, max = 599)))]
    pub expect_status: Vec<u16>,
    /// Secret of type `interlock.dev/analysis` in this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<NameRef>,
}

fn post() -> HttpMethod {
    HttpMethod::Post
}

fn success_statuses() -> Vec<u16> {
    vec![200, 202, 204]
}

/// What follows when a hook fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum HookErrorRule {
    /// The run does not succeed.
    #[default]
    Fail,
    /// It is noted, and the run goes on.
    Continue,
}
