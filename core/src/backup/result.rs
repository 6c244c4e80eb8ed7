//! What `interlock runner` tells when a pod ends: the termination message of the last container, at most 4,000 bytes.
//!
//! The kubelet cuts messages at 4,096 bytes. What does not fit (a log, a list) is written to the log as a framed record whose
//! digest stands here. No message, a cut one or one of another run is never a success.

use interlock_crds::HeartbeatRecord;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::{Deserialize, Serialize};

/// Longest message, in bytes.
pub const MAX_RESULT_BYTES: usize = 4_000;
/// The form that this release writes and reads.
pub const RESULT_VERSION: u32 = 1;

/// What the runner did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunnerOperation {
    /// Copy a source into a snapshot.
    Backup,
    /// Restore a snapshot.
    Restore,
    /// Make a repository.
    Initialize,
    /// Check a repository.
    Check,
    /// Forget snapshots and free their space.
    Prune,
    /// Exchange the key of a repository.
    RotateKey,
    /// Remove stale locks.
    Unlock,
    /// Validate restored data.
    Validate,
    /// Try to connect.
    Probe,
}

/// How far the runner got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum RunnerStage {
    /// Its plan and volumes.
    Prepare,
    /// Opening the repository.
    Open,
    /// Reading the heartbeat.
    Heartbeat,
    /// The operation itself.
    Work,
    /// Reading back what was done.
    ReadBack,
    /// Everything was done.
    Done,
}

/// What of the source was not as it must be, so that nothing was copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SourceFailure {
    /// The server did not answer, or its program failed.
    Failed,
    /// It is of a kind or version that is not copied like this.
    Unsupported,
    /// There is no replication slot, or it was lost.
    SlotMissing,
    /// A segment of the write-ahead log is missing.
    WalGap,
    /// No segment has arrived that would carry the base on.
    WalNotReceived,
    /// The base copy that is carried on cannot be read.
    BaseMissing,
    /// The base copy is not what its manifest says.
    BaseNotVerified,
    /// There is no room for a base copy.
    ScratchTooSmall,
}

/// The termination message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunResult {
    /// [`RESULT_VERSION`].
    pub version: u32,
    /// Uid of the object that the run is of: a message of another run says nothing.
    pub run: String,
    /// What was to be done.
    pub operation: RunnerOperation,
    /// How far it got; where the tool failed, the stage in which it did.
    pub stage: RunnerStage,
    /// Exit code of the tool; none if it was never started or ended by a signal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Signal that ended the tool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// Exit code of the program whose output was copied (dump, command).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_exit_code: Option<i32>,
    /// What of the source was not as it must be; the first of the errors is the sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<SourceFailure>,
    /// restic's id of the repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository_id: Option<String>,
    /// The snapshot, as it was read back from the repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<SnapshotResult>,
    /// The newest heartbeat before the copying, or in the restored data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat: Option<HeartbeatRead>,
    /// Why it could not be read, if it was to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat_error: Option<String>,
    /// Number of files that could not be read, or of errors that a check found.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub error_count: u64,
    /// The first of them, one line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<String>,
    /// How many snapshots were forgotten.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub forgotten: u64,
    /// Bytes that were freed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub freed_bytes: u64,
    /// Bytes of the repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository_bytes: Option<u64>,
    /// SHA-256 of the framed record in the log that holds what does not fit here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record_digest: Option<String>,
}

/// A snapshot as it stands in the repository.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotResult {
    /// Its full id.
    pub id: String,
    /// The one that it was compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Its time: when the copying began (clock of the node).
    pub time: jiff::Timestamp,
    /// Its host, which is the policy's uid.
    pub host: String,
    /// Number of files.
    pub files: u64,
    /// Bytes of the data.
    pub bytes: u64,
    /// Bytes that were new to the repository.
    #[serde(default)]
    pub added_bytes: u64,
    /// The newest moment that write-ahead log covers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recoverable_until: Option<jiff::Timestamp>,
    /// Major version of PostgreSQL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postgres_version: Option<u32>,
    /// Its segments of write-ahead log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wal: Option<interlock_crds::WalRange>,
}

/// A heartbeat record as it was read. The controller keeps an HMAC of its nonce, not the nonce.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeartbeatRead {
    /// Sequence number.
    pub seq: i64,
    /// Its time (clock of the source).
    pub time: jiff::Timestamp,
    /// Its nonce.
    pub nonce: String,
    /// When it was read (clock of the source).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_at: Option<jiff::Timestamp>,
}

impl HeartbeatRead {
    /// What is recorded of it, with the HMAC of its nonce. Times are whole seconds, as the API server keeps them: records of
    /// a backup and of a drill are compared.
    pub fn record(&self, hmac: String) -> HeartbeatRecord {
        let whole = |at: jiff::Timestamp| Time(jiff::Timestamp::from_second(datable(at).as_second()).unwrap_or(at));
        HeartbeatRecord { seq: self.seq, time: whole(self.time), hmac, read_at: self.read_at.map(whole) }
    }
}

/// The moment, or the first one that RFC 3339 can write: what a source says of time may be of any year.
pub fn datable(at: jiff::Timestamp) -> jiff::Timestamp {
    at.max(jiff::Timestamp::constant(-62_135_596_800, 0))
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde wants it")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Why a termination message says nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResultError {
    /// There is none.
    #[error("the pod ended without a result: it was killed, or its last container never ran")]
    Missing,
    /// It ends in the middle.
    #[error("the result of the pod was cut off after {0} bytes")]
    Truncated(usize),
    /// It is something else.
    #[error("the pod wrote something that is not a result: {0}")]
    Malformed(String),
    /// It is of another release.
    #[error(
        "the result has version {0}, and this release reads version {RESULT_VERSION}: run the same release of Interlock in pods and controller"
    )]
    Version(u32),
    /// It is of another run.
    #[error("the result is of another run ({0})")]
    OtherRun(String),
}

impl RunResult {
    /// An empty result of a run, at its first stage.
    pub fn new(run: impl Into<String>, operation: RunnerOperation) -> Self {
        Self {
            version: RESULT_VERSION,
            run: run.into(),
            operation,
            stage: RunnerStage::Prepare,
            exit_code: None,
            signal: None,
            source_exit_code: None,
            failure: None,
            repository_id: None,
            snapshot: None,
            heartbeat: None,
            heartbeat_error: None,
            error_count: 0,
            errors: Vec::new(),
            forgotten: 0,
            freed_bytes: 0,
            repository_bytes: None,
            record_digest: None,
        }
    }

    /// The message. Errors are left out from the end until it fits; their number stays.
    ///
    /// # Errors
    /// It does not fit even without errors.
    pub fn encode(&self) -> Result<String, ResultError> {
        let mut fitting = self.clone();
        // No more of the shortest would fit.
        fitting.errors.truncate(MAX_RESULT_BYTES / 3);
        // The first may be the sentence that people are told: of a source that failed, or of a repository that was not reached.
        let is_sentence = self.failure.is_some() || self.stage <= RunnerStage::Open;
        let first = if is_sentence { 1_000 } else { 200 };
        let limits = std::iter::once(first).chain(std::iter::repeat(200));
        for (line, limit) in fitting.errors.iter_mut().zip(limits) {
            *line = line.chars().take(limit).collect();
        }
        fitting.heartbeat_error.iter_mut().for_each(|line| *line = line.chars().take(200).collect());
        loop {
            let text = serde_json::to_string(&fitting).map_err(|error| ResultError::Malformed(error.to_string()))?;
            if text.len() <= MAX_RESULT_BYTES {
                return Ok(text);
            }
            // What is too much is at least so many lines, as no line is longer than 200 characters of 4 bytes, quoted.
            let left = fitting.errors.len().checked_sub(1).ok_or(ResultError::Truncated(text.len()))?;
            fitting.errors.truncate(left.saturating_sub((text.len() - MAX_RESULT_BYTES) / 1_300));
        }
    }

    /// Reads the message of the run with uid `run`.
    ///
    /// # Errors
    /// It is no whole result of this run and version.
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
        if version != RESULT_VERSION {
            return Err(ResultError::Version(version));
        }
        let result: Self = serde_json::from_str(text).map_err(read)?;
        if result.run == run { Ok(result) } else { Err(ResultError::OtherRun(result.run)) }
    }
}
