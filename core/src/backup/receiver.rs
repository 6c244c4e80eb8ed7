//! The receiver of a policy's write-ahead log: how it runs, what it is told, and what it does after pg_receivewal ended.

mod deployment;

use interlock_crds::{BackupPolicySpec, SslMode};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

pub use deployment::{CONDITION, RECEIVER_LABEL, decide, deployment, is_announced, may_go, receiver_name};

/// The environment variable with the plan of a receiver, JSON.
pub const RECEIVER_PLAN_VARIABLE: &str = "INTERLOCK_WAL";
/// The form of the plan that this release writes and reads.
pub const RECEIVER_PLAN_VERSION: u32 = 1;
/// A receiver that has not told for so long that it receives does not.
pub const ALIVE: SignedDuration = SignedDuration::from_secs(30);
/// Longest time between two attempts.
const LONGEST_PAUSE: SignedDuration = SignedDuration::from_secs(60);

/// What the receiver is told. Without secrets: credentials are in `/interlock/secrets/source`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReceiverPlan {
    /// [`RECEIVER_PLAN_VERSION`].
    pub version: u32,
    /// Host.
    pub host: String,
    /// Port.
    pub port: u16,
    /// How the connection is secured.
    pub ssl_mode: SslMode,
    /// Replication slot.
    pub slot: String,
}

impl ReceiverPlan {
    /// Of a policy; none if it receives nothing.
    pub fn of(policy: &BackupPolicySpec) -> Option<Self> {
        let server = policy.source.postgres.as_ref()?;
        let wal = server.wal.as_ref()?;
        Some(Self {
            version: RECEIVER_PLAN_VERSION,
            host: server.host.clone(),
            port: server.port,
            ssl_mode: server.ssl_mode,
            slot: wal.slot.clone(),
        })
    }
}

/// Why pg_receivewal ended, as far as it matters for what follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceiverEnd {
    /// The server no longer has what comes next: what was received is ended, and it begins anew.
    Removed,
    /// The slot is gone or was given up: it is made anew.
    SlotLost,
    /// Anything else: it is tried again.
    Other,
}

/// Reads what it wrote to its standard error.
pub fn receiver_end(errors: &str) -> ReceiverEnd {
    if errors.contains("has already been removed") {
        return ReceiverEnd::Removed;
    }
    let of_slot = errors.lines().filter(|line| line.contains("replication slot"));
    let lost = |line: &str| {
        [
            "does not exist",
            "can no longer get changes",
            "been invalidated",
            "exceeded the maximum reserved size",
            "obsolete",
        ]
        .iter()
        .any(|sign| line.contains(sign))
    };
    if of_slot.into_iter().any(lost) { ReceiverEnd::SlotLost } else { ReceiverEnd::Other }
}

/// How long to wait before attempt `attempt` (from 1) after one that failed.
pub fn pause(attempt: u32) -> SignedDuration {
    SignedDuration::from_secs(1_i64 << attempt.min(6)).min(LONGEST_PAUSE)
}

/// Whether a receiver that told at `told` that it receives still does.
pub fn is_alive(told: Timestamp, now: Timestamp) -> bool {
    now.duration_since(told) <= ALIVE
}
