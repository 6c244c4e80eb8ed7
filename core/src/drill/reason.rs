//! Why a drill ended as it did.

use interlock_crds::{DrillPhase, DrillVerdict, PointVerdict};

/// Why a drill ended as it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "each is told by its sentence")]
pub enum Reason {
    Complete,
    DrillGone,
    DrillInvalid,
    RecordBroken,
    Deleted,
    StartWindowMissed,
    AlreadyVerified,
    NoRecoveryPoint,
    RepositoryBusy,
    NameTaken,
    Refused,
    SandboxLost,
    VolumeLost,
    RestoreTimedOut,
    RestoreFailed,
    RepositoryUnreachable,
    WrongPassword,
    RepositoryReplaced,
    DataCorrupt,
    EmptyRestore,
    RestoreIncomplete,
    JobLost,
    NeverStarted,
    NoResult,
    Evicted,
    OutOfMemory,
    IsolationNotEnforced,
    IsolationUnknown,
    FaultNotInjected,
    FaultNotNoticed,
    StartFailed,
    StartTimedOut,
    ValidationFailed,
    TimedOut,
    ValidationError,
    StaleData,
    HeartbeatDead,
    HeartbeatAhead,
    RTOExceeded,
    RPOExceeded,
    CaptureLagExceeded,
}

impl Reason {
    /// In CamelCase, for `status.reason`.
    pub fn name(self) -> String {
        format!("{self:?}")
    }

    /// The reason of that name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.name() == name)
    }

    /// Each of them.
    pub const ALL: [Self; 41] = [
        Self::Complete,
        Self::DrillGone,
        Self::DrillInvalid,
        Self::RecordBroken,
        Self::Deleted,
        Self::StartWindowMissed,
        Self::AlreadyVerified,
        Self::NoRecoveryPoint,
        Self::RepositoryBusy,
        Self::NameTaken,
        Self::Refused,
        Self::SandboxLost,
        Self::VolumeLost,
        Self::RestoreTimedOut,
        Self::RestoreFailed,
        Self::RepositoryUnreachable,
        Self::WrongPassword,
        Self::RepositoryReplaced,
        Self::DataCorrupt,
        Self::EmptyRestore,
        Self::RestoreIncomplete,
        Self::JobLost,
        Self::NeverStarted,
        Self::NoResult,
        Self::Evicted,
        Self::OutOfMemory,
        Self::IsolationNotEnforced,
        Self::IsolationUnknown,
        Self::FaultNotInjected,
        Self::FaultNotNoticed,
        Self::StartFailed,
        Self::StartTimedOut,
        Self::ValidationFailed,
        Self::TimedOut,
        Self::ValidationError,
        Self::StaleData,
        Self::HeartbeatDead,
        Self::HeartbeatAhead,
        Self::RTOExceeded,
        Self::RPOExceeded,
        Self::CaptureLagExceeded,
    ];

    /// What a run that ended for this reason, without an injected fault, says about its recovery point; none if nothing.
    ///
    /// Corrupt is what the data itself proved. A query that does not hold may be a wrong query, and an application that does
    /// not start may be a wrong template, and a heartbeat from the future a wrong clock: that leaves the point unverified, so that
    /// nobody loses a good one for it.
    pub const fn of_point(self) -> Option<PointVerdict> {
        Some(match self {
            Self::Complete | Self::RTOExceeded | Self::RPOExceeded | Self::CaptureLagExceeded => PointVerdict::Proven,
            Self::DataCorrupt | Self::EmptyRestore | Self::RestoreIncomplete | Self::StaleData => PointVerdict::Corrupt,
            Self::StartFailed
            | Self::StartTimedOut
            | Self::ValidationFailed
            | Self::TimedOut
            | Self::ValidationError
            | Self::HeartbeatDead
            | Self::HeartbeatAhead
            | Self::RestoreFailed => PointVerdict::Unverified,
            _ => return None,
        })
    }
}

/// How a drill ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// A terminal phase.
    pub phase: DrillPhase,
    /// Why.
    pub reason: Reason,
    /// Why and what can be done.
    pub message: String,
}

impl Ending {
    /// It failed.
    pub fn failed(reason: Reason, message: impl Into<String>) -> Self {
        Self { phase: DrillPhase::Failed, reason, message: message.into() }
    }

    /// The verdict; a skipped run has none.
    pub const fn verdict(&self) -> Option<DrillVerdict> {
        match self.phase {
            DrillPhase::Passed => Some(DrillVerdict::Passed),
            DrillPhase::Inconclusive => Some(DrillVerdict::Inconclusive),
            DrillPhase::Missed => Some(DrillVerdict::Missed),
            DrillPhase::Skipped => None,
            _ => Some(DrillVerdict::Failed),
        }
    }
}
