//! How a drill validates what came back.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{common::Duration, rules};

/// One validation: exactly one of its checks. It runs in a pod inside the sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.sql), has(self.command), has(self.http), has(self.files), has(self.heartbeat)].filter(x, x).size() == 1").message("a validation is exactly one of sql, command, http, files and heartbeat"))]
pub struct DrillValidation {
    /// Name, for people.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// The drill passes only if it passes. Default: true.
    #[serde(default = "yes")]
    pub critical: bool,
    /// It has failed if it takes longer. Default: 60s.
    #[serde(default = "one_minute")]
    pub timeout: Duration,
    /// A query to the restored database, in a read-only transaction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sql: Option<SqlValidation>,
    /// A command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<CommandValidation>,
    /// An HTTP request to the application.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpValidation>,
    /// A look at the restored files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<FilesValidation>,
    /// The newest heartbeat in the restored data is at least as new as the recovery point recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat: Option<HeartbeatValidation>,
}

fn yes() -> bool {
    true
}

fn one_minute() -> Duration {
    Duration::from_seconds(60)
}

/// A query. Its first column of its only row is the result, a number or a boolean; nothing else is kept of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SqlValidation {
    /// Database.
    #[schemars(length(min = 1, max = 63))]
    pub database: String,
    /// Query.
    #[schemars(length(min = 1, max = 8192))]
    pub query: String,
    /// CEL condition on `result`, such as `result > 1000`; `result > 1000.0` is the same.
    #[schemars(length(min = 1, max = 512))]
    pub expect: String,
}

/// A command. Exit code 0 is a pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CommandValidation {
    /// Image.
    #[schemars(length(min = 1, max = 512), regex(pattern = rules::IMAGE))]
    pub image: String,
    /// Command and its arguments, without a shell. The restored data is mounted read-only at `/restored`.
    #[schemars(length(min = 1, max = 64), inner(length(max = 4096)))]
    pub command: Vec<String>,
}

/// An HTTP request to the application. Redirects are not followed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpValidation {
    /// Port of the application.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// Path. Default: `/`.
    #[serde(default = "top")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = r"^/[^ ]*$"))]
    pub path: String,
    /// Expected status. Default: 200.
    #[serde(default = "ok")]
    #[schemars(range(min = 100, max = 599))]
    pub expect_status: u16,
    /// Text that the answer must contain. Default: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub expect_text: Option<String>,
}

fn top() -> String {
    "/".to_owned()
}

fn ok() -> u16 {
    200
}

/// A look at the restored files. All that is given must hold; there must be at least one file in any case.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct FilesValidation {
    /// At least so many files. Default: 1.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 9_007_199_254_740_991_i64))]
    pub minimum_files: i64,
    /// Digests of files that never change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["path".into()]))]
    pub digests: Vec<FileDigest>,
    /// Read every file again and compare it with the recovery point. Default: false.
    #[serde(default)]
    pub verify_all: bool,
}

fn one() -> i64 {
    1
}

/// Digest of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FileDigest {
    /// Path in the restored data.
    #[schemars(length(min = 2, max = 1024), regex(pattern = rules::PATH))]
    pub path: String,
    /// Digest of its content.
    #[schemars(length(max = 80), regex(pattern = rules::DIGEST))]
    pub digest: String,
}

/// The newest heartbeat in the restored data. Table and file are those of the policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeartbeatValidation {}
