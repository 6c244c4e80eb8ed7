//! Evidence: one authenticated statement about one digest.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{common::Recorded, rules};

/// One authenticated statement about one digest: a test report, a scan, a document. Immutable.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "interlock.dev",
    version = "v1alpha1",
    kind = "Evidence",
    plural = "evidences",
    shortname = "evd",
    category = "interlock",
    namespaced,
    derive = "PartialEq",
    doc = "One authenticated statement about one digest",
    printcolumn(name = "Kind", type_ = "string", json_path = ".spec.kind"),
    printcolumn(name = "Result", type_ = "string", json_path = ".spec.result"),
    printcolumn(name = "Issuer", type_ = "string", json_path = ".spec.issuer"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.spec == oldSelf.spec").message("Evidence cannot be changed: create a new one")
)]
#[serde(rename_all = "camelCase")]
pub struct EvidenceSpec {
    /// What was examined.
    pub kind: EvidenceKind,
    /// What it is about.
    pub subject: EvidenceSubject,
    /// Whether it passed.
    pub result: EvidenceResult,
    /// Counts, such as findings by severity.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub summary: Vec<SummaryEntry>,
    /// Where the report can be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub uri: Option<String>,
    /// User name of whoever states it; must be the user that creates the object.
    #[schemars(length(min = 1, max = 1024))]
    pub issuer: String,
    /// Written by Interlock's webhook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recorded: Option<Recorded>,
}

/// Kinds of evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)]
pub enum EvidenceKind {
    TestReport,
    SecurityScan,
    StressTest,
    RegressionTest,
    DataMigration,
    PenetrationTest,
    Document,
}

/// What evidence is about: the content of a change, or an artifact in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.contentDigest) != has(self.artifactDigest)").message("give exactly one of contentDigest and artifactDigest"))]
pub struct EvidenceSubject {
    /// `status.contentDigest` of a change; the same before and after a merge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 80), regex(pattern = rules::DIGEST))]
    pub content_digest: Option<String>,
    /// Digest of an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 80), regex(pattern = rules::DIGEST))]
    pub artifact_digest: Option<String>,
}

/// Whether an examination passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)]
pub enum EvidenceResult {
    Passed,
    Failed,
}

/// A named count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SummaryEntry {
    /// Name, such as `critical`.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Count.
    pub value: i64,
}
