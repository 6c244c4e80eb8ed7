//! How far an analysis got: part of the status of a Rollout.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How far one analysis got. Counters count everything; of the measurements the newest 20 are kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AnalysisState {
    /// Name of the analysis.
    #[schemars(length(max = 40))]
    pub name: String,
    /// When it began.
    pub started_at: Time,
    /// It runs beside the steps, until it is stopped.
    #[serde(default)]
    pub background: bool,
    /// What it says.
    #[serde(default)]
    pub verdict: AnalysisVerdict,
    /// Why, with the numbers, for a person.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub message: String,
    /// Its verdict is only shown.
    #[serde(default)]
    pub dry_run: bool,
    /// Something that it names is missing, so that nothing can be measured; the message says what.
    #[serde(default, skip_serializing_if = "is_false")]
    pub blocked: bool,
    /// How many measurements ended in which way.
    #[serde(default)]
    pub counts: AnalysisCounts,
    /// When the next measurement is due; absent when it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_due: Option<Time>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// The newest measurements, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub measurements: Vec<MeasurementRecord>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde wants it")]
fn is_false(value: &bool) -> bool {
    !*value
}

/// A run of an analysis and how far it got.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AnalysisRecord {
    /// Name of the run: another one whenever it is measured anew.
    #[schemars(length(max = 96))]
    pub run: String,
    /// How far it got.
    pub state: AnalysisState,
}

/// What an analysis says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum AnalysisVerdict {
    /// Nothing yet.
    #[default]
    Running,
    /// The values are as they must be.
    Passed,
    /// They are not.
    Failed,
    /// It could not tell: the release pauses for a person.
    Inconclusive,
}

/// How many measurements ended in which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AnalysisCounts {
    /// The value was as it must be.
    #[serde(default)]
    pub successful: u32,
    /// It was not.
    #[serde(default)]
    pub failed: u32,
    /// Neither.
    #[serde(default)]
    pub inconclusive: u32,
    /// Nothing was measured.
    #[serde(default)]
    pub errors: u32,
    /// Errors since the last measurement that was none.
    #[serde(default)]
    pub consecutive_errors: u32,
}

/// One measurement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MeasurementRecord {
    /// Its number, counted from 1; a number is recorded once.
    pub number: u32,
    /// When it was recorded.
    pub at: Time,
    /// How it ended.
    pub outcome: MeasurementOutcome,
    /// The value, if it is one number: a test's p, or what `result` was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40))]
    pub value: Option<String>,
    /// Why it ended so, for a person.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 512))]
    pub message: String,
}

/// How a measurement ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MeasurementOutcome {
    /// The value was as it must be.
    Successful,
    /// It was not.
    Failed,
    /// Neither, or no data.
    Inconclusive,
    /// Nothing was measured, or the condition could not be evaluated.
    Error,
}
