//! Where a drill restores to, and the application that it starts there.

use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    backup_pod::{PodOptions, ResourceAmounts},
    common::Duration,
    rules,
};

/// A fresh namespace for each run, with the restored data, without egress, without credentials of the repository, and gone
/// afterwards.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DrillSandbox {
    /// StorageClass of the volume that is restored into. Default: that of the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = rules::NAME))]
    pub storage_class_name: Option<String>,
    /// Size of that volume. Default: twice the bytes of the recovery point, at least 1Gi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 24), regex(pattern = rules::QUANTITY))]
    pub volume_size: Option<String>,
    /// What all pods of the sandbox may use together. Default: 2 CPU, 4Gi memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<ResourceAmounts>,
    /// The pod that restores, in the namespace of the repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodOptions>,
    /// A pod that is known to answer: it must be reachable from outside the sandbox and must not be from inside, or the
    /// application is never started. Default: one that Interlock runs in its own namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolation_target: Option<IsolationTarget>,
    /// What the application needs before it starts, in order: each is ready before the next one starts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub dependencies: Vec<DrillDependency>,
    /// The application that is started on the restored data. Default: none; then validations look at the files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub application: Option<DrillApplication>,
}

/// A pod that is known to answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IsolationTarget {
    /// Service whose ready pods are tried by their addresses, as `NAME.NAMESPACE`.
    #[schemars(
        length(min = 3, max = 127),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?\.[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub service: String,
    /// TCP port of the pods.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
}

/// An application on the restored data: exactly one of its members.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.podTemplate) != has(self.postgres)").message("give either application.podTemplate or application.postgres"))]
pub struct DrillApplication {
    /// Template of a pod. It mounts the restored data as volume `restored`, which Interlock adds; it is ready when its
    /// readiness probes say so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "pod_template")]
    pub pod_template: Option<Value>,
    /// A PostgreSQL server on the restored base copy, or one that the restored dumps are loaded into.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postgres: Option<DrillPostgres>,
}

/// A PostgreSQL server in a sandbox.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DrillPostgres {
    /// Image of the server, of the major version of the source. Default: the one that this release of Interlock was tested
    /// with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), regex(pattern = rules::IMAGE))]
    pub image: Option<String>,
    /// What the server may use. Default: the quota.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<ResourceAmounts>,
    /// Recover to this long before the newest moment that the recovery point offers (physical). Default: the newest moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recover_before_end: Option<Duration>,
    /// User id of the server. Default: that of the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub run_as_user: Option<i64>,
}

/// Something that the application needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DrillDependency {
    /// Name; the application reaches it by this host name.
    #[schemars(length(min = 1, max = 40), regex(pattern = rules::LABEL))]
    pub name: String,
    /// TCP ports under that name.
    #[schemars(length(max = 8), inner(range(min = 1, max = 65535)))]
    pub ports: Vec<u16>,
    /// Template of its pod.
    #[schemars(schema_with = "pod_template")]
    pub pod_template: Value,
}

fn pod_template(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "x-kubernetes-preserve-unknown-fields": true,
        "nullable": true,
        "description": "Template of a pod: `metadata` and `spec`. Restricted (Pod Security Standards), without ServiceAccount token.",
    })
}
