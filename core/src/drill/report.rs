//! What the last container of a drill's pod says when it ends: its termination message, at most 4,000 bytes.
//!
//! Never data: of a query at most one number or boolean, of a heartbeat its nonce, which the controller replaces by an HMAC.

use interlock_crds::ProbeResult;
use serde::{Deserialize, Serialize};

use super::plan::PLAN_VERSION;
use crate::backup::result::{HeartbeatRead, MAX_RESULT_BYTES, ResultError, RunnerStage};

/// Longest error that is told, in characters.
const ERROR_CHARACTERS: usize = 200;

/// The termination message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DrillReport {
    /// [`PLAN_VERSION`].
    pub version: u32,
    /// Uid of the DrillRun: a message of another run says nothing.
    pub run: String,
    /// How far it got; where it failed, the stage in which it did.
    pub stage: RunnerStage,
    /// Exit code of the tool, or of the command that validates; none if it was never started or ended by a signal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Signal that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// It was ended for taking too long.
    #[serde(default)]
    pub timed_out: bool,
    /// restic's id of the repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository_id: Option<String>,
    /// What was restored, counted on the volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored: Option<RestoredReport>,
    /// How the attempt to connect ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<ProbeResult>,
    /// What the query returned, if it was one value and a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<f64>,
    /// What the query returned, if it was one value and a boolean.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boolean: Option<bool>,
    /// Whether the answer, or the files, are as the validation asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matches: Option<bool>,
    /// The newest heartbeat in the restored data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat: Option<HeartbeatRead>,
    /// The number of errors.
    #[serde(default)]
    pub error_count: u64,
    /// The first of them, one line each: words of restic, of psql where they quote no data, or the tool's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<String>,
}

/// What lies on the volume after a restore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RestoredReport {
    /// Id of the snapshot.
    pub snapshot_id: String,
    /// Number of files, counted on the volume.
    pub files: i64,
    /// Bytes of them.
    pub bytes: i64,
    /// Every file was read again and is as the repository has it (`restic restore --verify`).
    pub verified: bool,
    /// Digest of the manifest that was written beside the data.
    pub manifest_digest: String,
}

impl DrillReport {
    /// An empty report of a run, at its first stage.
    pub fn new(run: impl Into<String>) -> Self {
        Self {
            version: PLAN_VERSION,
            run: run.into(),
            stage: RunnerStage::Prepare,
            exit_code: None,
            signal: None,
            timed_out: false,
            repository_id: None,
            restored: None,
            probe: None,
            number: None,
            boolean: None,
            matches: None,
            heartbeat: None,
            error_count: 0,
            errors: Vec::new(),
        }
    }

    /// Whether all of the work was done.
    pub fn is_done(&self) -> bool {
        self.exit_code == Some(0) && self.stage == RunnerStage::Done
    }

    /// The message. Errors are left out from the end until it fits; their number stays.
    ///
    /// # Errors
    /// It does not fit even without errors.
    pub fn encode(&self) -> Result<String, ResultError> {
        let mut fitting = self.clone();
        // No more of the shortest would fit.
        fitting.errors.truncate(MAX_RESULT_BYTES / 3);
        fitting.errors.iter_mut().for_each(|line| *line = line.chars().take(ERROR_CHARACTERS).collect());
        loop {
            let text = serde_json::to_string(&fitting).map_err(|error| ResultError::Malformed(error.to_string()))?;
            if text.len() <= MAX_RESULT_BYTES {
                return Ok(text);
            }
            fitting.errors.pop().ok_or(ResultError::Truncated(text.len()))?;
        }
    }

    /// Reads the message of the run with uid `run`.
    ///
    /// # Errors
    /// It is no whole report of this run and version.
    pub fn decode(message: Option<&str>, run: &str) -> Result<Self, ResultError> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let text = message.map(str::trim).filter(|text| !text.is_empty()).ok_or(ResultError::Missing)?;
        let read = |error: serde_json::Error| {
            if error.is_eof() { ResultError::Truncated(text.len()) } else { ResultError::Malformed(error.to_string()) }
        };
        let Version { version } = serde_json::from_str(text).map_err(read)?;
        if version != PLAN_VERSION {
            return Err(ResultError::Version(version));
        }
        let report: Self = serde_json::from_str(text).map_err(read)?;
        if report.run == run { Ok(report) } else { Err(ResultError::OtherRun(report.run)) }
    }
}
