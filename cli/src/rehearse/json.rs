//! A rehearsal for programs.

use interlock_rehearsal::scenario::{Replayed, Report};
use serde::Serialize;

use crate::error::CliError;

#[derive(Serialize)]
struct Whole<'a> {
    #[serde(flatten)]
    report: &'a Report,
    #[serde(skip_serializing_if = "Option::is_none")]
    replay: Option<&'a [Replayed]>,
}

/// The report as JSON.
pub fn render(report: &Report, replay: Option<&[Replayed]>) -> Result<String, CliError> {
    serde_json::to_string_pretty(&Whole { report, replay }).map_err(|error| CliError::Other(error.to_string()))
}
