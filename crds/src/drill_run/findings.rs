//! What a drill measured and found.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the isolation probe found: both attempts go to one address, with the same image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IsolationRecord {
    /// Address and port that were dialled.
    #[schemars(length(max = 64))]
    pub target: String,
    /// From outside the sandbox; must be Connected, or the probe says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outside: Option<ProbeResult>,
    /// From inside the sandbox; must be Blocked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inside: Option<ProbeResult>,
    /// When the later attempt ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Time>,
}

/// How an attempt to connect ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ProbeResult {
    /// The other side answered, if only by refusing.
    Connected,
    /// Nothing came back.
    Blocked,
    /// The attempt could not be made.
    NotTried,
}

/// What a validation found. Never what a query or a command returned, except one number or boolean.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ValidationRecord {
    /// Name of the validation.
    #[schemars(length(max = 63))]
    pub name: String,
    /// The drill passes only if it passes.
    pub critical: bool,
    /// What it found.
    #[serde(default)]
    pub verdict: ValidationVerdict,
    /// Why, in CamelCase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub reason: Option<String>,
    /// Why, for a person; words of Interlock, never data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub message: Option<String>,
    /// Digest of the query, command or request.
    #[schemars(length(max = 80))]
    pub query_digest: String,
    /// The result, if it is a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<f64>,
    /// The result, if it is a boolean.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boolean: Option<bool>,
    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
}

/// What a validation found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ValidationVerdict {
    /// It has not ended.
    #[default]
    Pending,
    /// What it asks for holds.
    Passed,
    /// It does not.
    Failed,
    /// It took too long.
    TimedOut,
    /// It could not run. Counts as failed.
    Error,
    /// It was not begun, because the run ended before. A critical one counts as failed.
    Skipped,
}

/// Measured recovery time: from T0 to the last critical validation that passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MeasuredRto {
    /// In seconds.
    pub seconds: i64,
    /// The objective, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objective_seconds: Option<i64>,
    /// Whether it was met; none without an objective.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub met: Option<bool>,
}

/// Measured recovery point: from the newest heartbeat in the restored data to T0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MeasuredRpo {
    /// In seconds.
    pub seconds: i64,
    /// It is certainly not less, in seconds: one heartbeat interval and the skew of the clocks off.
    pub at_least_seconds: i64,
    /// It is certainly not more, in seconds.
    pub at_most_seconds: i64,
    /// The objective, in seconds; judged for selection Latest alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objective_seconds: Option<i64>,
    /// Whether the objective was met; none where it is not judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub met: Option<bool>,
    /// Age of the data when it was captured: from the newest restored heartbeat to the moment that the recovery point
    /// promises, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capture_lag_seconds: Option<i64>,
    /// Whether that is within its objective; none where it is not judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capture_lag_met: Option<bool>,
}

/// An image that ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImageRecord {
    /// Container that ran it.
    #[schemars(length(max = 63))]
    pub container: String,
    /// As it was asked for.
    #[schemars(length(max = 512))]
    pub image: String,
    /// The digest that the node reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 600))]
    pub image_id: Option<String>,
}

/// What became of the sandbox.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CleanupRecord {
    /// How far it got.
    #[serde(default)]
    pub state: CleanupState,
    /// Not before this instant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_at: Option<Time>,
    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When nothing was left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// What is left, or what went wrong, for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
    /// What is left, as `Kind/namespace/name`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 400)))]
    pub leftovers: Vec<String>,
}

/// How far a cleanup got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum CleanupState {
    /// There is nothing to clean up yet, or the verdict has not fallen.
    #[default]
    Pending,
    /// It is being done.
    Running,
    /// Nothing is left.
    Done,
    /// It takes longer than it may. It is tried on.
    Failed,
}

/// A signed certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CertificateRef {
    /// ConfigMap of this namespace with the certificate, as `certificate.json` and `certificate.html`.
    #[schemars(length(max = 253))]
    pub config_map: String,
    /// Digest of the signed JSON.
    #[schemars(length(max = 80))]
    pub digest: String,
    /// Identifies the key that signed it.
    #[schemars(length(max = 64))]
    pub key_id: String,
    /// Ed25519 signature, base64.
    #[schemars(length(max = 128))]
    pub signature: String,
}
