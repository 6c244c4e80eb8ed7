//! What the result of a pod means for a backup: outcome, reason and sentence.
//!
//! Success is one narrow path: exit code 0, and a snapshot of this policy that was read back and has files. Everything else
//! has a reason of its own, so that a person knows where to look.

use interlock_crds::{BackupPhase, MaintenanceOperation};

use super::{
    lock,
    observed::POD_GONE,
    result::{ResultError, RunResult, RunnerStage, SourceFailure},
};

/// Why a run did not succeed, or was not begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "each is told by its sentence")]
pub enum Reason {
    Complete,
    Incomplete,
    EmptySource,
    SourceFailed,
    SourceUnreadable,
    NotReadBack,
    ForeignSnapshot,
    RepositoryMissing,
    RepositoryReplaced,
    RepositoryLocked,
    RepositoryUnreachable,
    WrongPassword,
    ToolFailed,
    ToolKilled,
    NotRemoved,
    NoResult,
    BadResult,
    OutOfMemory,
    Evicted,
    NodeLost,
    NeverStarted,
    DeadlineExceeded,
    RepositoryBusy,
    Replaced,
    Deleted,
    JobDeleted,
    JobRefused,
    NameTaken,
    PolicyGone,
    HookFailed,
    Forbidden,
    TooLarge,
    Damaged,
    UnsupportedSource,
    SlotMissing,
    WalGap,
    WalNotReceived,
    BaseMissing,
    BaseNotVerified,
    ScratchTooSmall,
}

impl Reason {
    const ALL: [Self; 40] = [
        Self::Complete,
        Self::Incomplete,
        Self::EmptySource,
        Self::SourceFailed,
        Self::SourceUnreadable,
        Self::NotReadBack,
        Self::ForeignSnapshot,
        Self::RepositoryMissing,
        Self::RepositoryReplaced,
        Self::RepositoryLocked,
        Self::RepositoryUnreachable,
        Self::WrongPassword,
        Self::ToolFailed,
        Self::ToolKilled,
        Self::NotRemoved,
        Self::NoResult,
        Self::BadResult,
        Self::OutOfMemory,
        Self::Evicted,
        Self::NodeLost,
        Self::NeverStarted,
        Self::DeadlineExceeded,
        Self::RepositoryBusy,
        Self::Replaced,
        Self::Deleted,
        Self::JobDeleted,
        Self::JobRefused,
        Self::NameTaken,
        Self::PolicyGone,
        Self::HookFailed,
        Self::Forbidden,
        Self::TooLarge,
        Self::Damaged,
        Self::UnsupportedSource,
        Self::SlotMissing,
        Self::WalGap,
        Self::WalNotReceived,
        Self::BaseMissing,
        Self::BaseNotVerified,
        Self::ScratchTooSmall,
    ];

    /// In CamelCase, for `status.reason`.
    pub fn name(self) -> String {
        format!("{self:?}")
    }

    /// Reads what [`Self::name`] wrote.
    pub fn of(name: &str) -> Self {
        Self::ALL.into_iter().find(|reason| reason.name() == name).unwrap_or(Self::ToolKilled)
    }
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Succeeded, PartiallyFailed, Failed or Skipped.
    pub phase: BackupPhase,
    /// Why.
    pub reason: Reason,
    /// Why and what can be done.
    pub message: String,
}

impl Outcome {
    /// An outcome other than success.
    pub fn new(phase: BackupPhase, reason: Reason, message: impl Into<String>) -> Self {
        Self { phase, reason, message: message.into() }
    }

    /// There is no recovery point.
    pub fn failed(reason: Reason, message: impl Into<String>) -> Self {
        Self::new(BackupPhase::Failed, reason, message)
    }
}

/// How the pod of a Job ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodEnd {
    /// Why, as Kubernetes has it: Evicted, NodeLost, Preempted, ...
    pub reason: Option<String>,
    /// A container was ended for using more memory than its limit.
    pub out_of_memory: bool,
    /// What the pod was waiting for when it last was seen, if its next container could not run.
    pub waiting: Option<String>,
    /// Whether a container of it has run.
    pub begun: bool,
    /// Termination message of the last container.
    pub message: Option<String>,
}

/// What a backup must look like.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// Uid of the run.
    pub run: &'a str,
    /// Uid of the policy, which is the host of its snapshots.
    pub policy_uid: &'a str,
    /// restic's id of the repository, if it was seen before.
    pub repository_id: Option<&'a str>,
    /// Whether a snapshot without files is good.
    pub allow_empty: bool,
}

/// What the end of a pod means, with the result if there is one.
pub fn judge(end: &PodEnd, expected: &Expected<'_>) -> (Outcome, Option<RunResult>) {
    match RunResult::decode(end.message.as_deref(), expected.run) {
        Ok(result) => (of_result(&result, expected), Some(result)),
        Err(ResultError::Missing) => (of_silence(end), None),
        Err(error) => {
            let message = format!("{error}; nothing that the pod may have done counts. The Job's log says more");
            (Outcome::failed(Reason::BadResult, message), None)
        }
    }
}

/// What the end of a maintenance Job means: Complete, or why not. `elsewhere` is restic.maintenanceUrl, if the Job went there.
pub fn of_maintenance(
    end: &PodEnd,
    run: &str,
    operation: MaintenanceOperation,
    repository_id: Option<&str>,
    elsewhere: Option<&str>,
) -> (Outcome, Option<RunResult>) {
    let result = match RunResult::decode(end.message.as_deref(), run) {
        Ok(result) => result,
        Err(ResultError::Missing) => return (of_silence(end), None),
        Err(error) => return (Outcome::failed(Reason::BadResult, error.to_string()), None),
    };
    let worked = result.stage >= RunnerStage::Work && result.signal.is_none();
    let another = replaced(&result, repository_id);
    let outcome = another.unwrap_or_else(|| match result.exit_code {
        Some(0) if result.stage == RunnerStage::Done && result.error_count == 0 => {
            Outcome::new(BackupPhase::Succeeded, Reason::Complete, format!("{operation:?} was done"))
        }
        Some(0 | 1) if worked && operation == MaintenanceOperation::Check => Outcome::failed(
            Reason::Damaged,
            format!(
                "{} errors in the repository{}; keep what is there, repair it as restic's manual says, and take a Full backup",
                result.error_count.max(1),
                first_error(&result)
            ),
        ),
        Some(3) if operation == MaintenanceOperation::Prune => Outcome::failed(
            Reason::NotRemoved,
            format!(
                "restic could not remove all snapshots that it was told to forget{}. If its credentials may not delete, name a Secret whose credentials may in restic.maintenanceSecretRef{}; the next prune goes on",
                // The first sums up; the next is what the repository answered.
                result.errors.iter().take(2).next_back().map(|error| format!(": {error}")).unwrap_or_default(),
                if elsewhere.is_none() {
                    ", and its server in restic.maintenanceUrl if the one at url removes for nobody"
                } else {
                    ""
                }
            ),
        ),
        Some(0) => Outcome::failed(
            Reason::NotReadBack,
            format!("restic reported success, but it stopped in stage {:?}{}", result.stage, first_error(&result)),
        ),
        _ => {
            let expected = Expected { run, policy_uid: "", repository_id, allow_empty: false };
            of_result(&result, &expected)
        }
    });
    let outcome = match elsewhere {
        Some(address) => at_another_address(outcome, address),
        None => outcome,
    };
    (outcome, Some(result))
}

/// What lies at restic.maintenanceUrl says nothing about the repository that runs write to: its address is wrong, nothing is lost.
fn at_another_address(outcome: Outcome, address: &str) -> Outcome {
    let found = match outcome.reason {
        Reason::RepositoryMissing => "there is no repository at restic.maintenanceUrl",
        Reason::RepositoryReplaced => {
            "the repository at restic.maintenanceUrl is another one than that at url, and nothing was done in it"
        }
        _ => return outcome,
    };
    let message = format!("{found}; it must be another address of the repository at url. Correct it: {address}");
    Outcome { message, ..outcome }
}

fn of_silence(end: &PodEnd) -> Outcome {
    if end.out_of_memory {
        return Outcome::failed(
            Reason::OutOfMemory,
            "a container of the pod was killed for using more memory than its limit; raise pod.resources.limits.memory",
        );
    }
    match (end.reason.as_deref(), end.waiting.as_deref()) {
        (
            Some(
                "Evicted"
                | "Preempted"
                | "Preempting"
                | "TerminationByKubelet"
                | "EvictionByEvictionAPI"
                | "PreemptionByScheduler",
            ),
            _,
        ) => Outcome::failed(
            Reason::Evicted,
            "the pod was evicted before it ended; give it resources or a priorityClassName. The next slot tries again",
        ),
        (Some(POD_GONE), _) => Outcome::failed(
            Reason::Evicted,
            "the pod was evicted or deleted before it told its result; give it resources or a priorityClassName. The next slot tries again",
        ),
        (Some("NodeLost" | "DeletionByTaintManager" | "DeletionByPodGC" | "NodeShutdown"), _) => Outcome::failed(
            Reason::NodeLost,
            "the node of the pod was lost before the run ended. The next slot tries again",
        ),
        (_, Some(waiting)) if end.begun => {
            Outcome::failed(Reason::NoResult, format!("the pod ended as its next container cannot run: {waiting}"))
        }
        (_, Some(waiting)) => Outcome::failed(Reason::NeverStarted, format!("the pod never started: {waiting}")),
        _ => Outcome::failed(
            Reason::NoResult,
            "the pod ended without a result: it was killed, or its last container never ran. The Job's log says more",
        ),
    }
}

/// Whether the repository is another one than before.
fn replaced(result: &RunResult, known: Option<&str>) -> Option<Outcome> {
    let (known, found) = (known?, result.repository_id.as_deref()?);
    let message = format!(
        "the repository at the address has id {found}, not {known} as before: somebody replaced it; earlier recovery points are not in it"
    );
    (known != found).then(|| Outcome::failed(Reason::RepositoryReplaced, message))
}

fn of_result(result: &RunResult, expected: &Expected<'_>) -> Outcome {
    if let Some(outcome) = replaced(result, expected.repository_id) {
        return outcome;
    }
    if let Some(signal) = result.signal {
        return Outcome::failed(
            Reason::ToolKilled,
            format!("restic was ended by signal {signal} in stage {:?}", result.stage),
        );
    }
    if let Some(failure) = result.failure {
        let sentence = result.errors.first().cloned().unwrap_or_else(|| format!("{failure:?}"));
        return Outcome::failed(of_source(failure), sentence);
    }
    if let Some(code) = result.source_exit_code.filter(|code| *code != 0) {
        return Outcome::failed(
            Reason::SourceFailed,
            format!(
                "the program whose output is backed up ended with {code}; what it had written until then is no recovery point{}",
                first_error(result)
            ),
        );
    }
    match result.exit_code {
        Some(0) => complete(result, expected),
        Some(3) if result.snapshot.is_some() => Outcome::new(
            BackupPhase::PartiallyFailed,
            Reason::Incomplete,
            format!(
                "{} files could not be read, so the snapshot is not complete and no good recovery point{}; set pod.runAsUser or pod.readAll so that everything can be read",
                result.error_count.max(1),
                first_error(result)
            ),
        ),
        Some(3) => Outcome::failed(
            Reason::SourceUnreadable,
            format!(
                "nothing could be read from the source{}; set pod.runAsUser, pod.fsGroup or pod.readAll",
                first_error(result)
            ),
        ),
        Some(10) => Outcome::failed(
            Reason::RepositoryMissing,
            if expected.repository_id.is_some() {
                "there is no repository at the address any more; Interlock makes no new one, because recovery points were there: look for them first"
            } else {
                "there is no repository at the address; set initialize: true, or correct the address"
            },
        ),
        Some(11) => Outcome::failed(Reason::RepositoryLocked, lock::locked(&result.errors)),
        Some(12) => Outcome::failed(
            Reason::WrongPassword,
            "the repository does not open with RESTIC_PASSWORD of its Secret; correct the Secret",
        ),
        Some(code) if result.stage <= RunnerStage::Open => Outcome::failed(
            Reason::RepositoryUnreachable,
            format!("the repository could not be opened (exit code {code}){}", first_error(result)),
        ),
        Some(code) => Outcome::failed(
            Reason::ToolFailed,
            format!("restic ended with {code} in stage {:?}{}", result.stage, first_error(result)),
        ),
        None => Outcome::failed(
            Reason::ToolFailed,
            format!("restic was not run: the run stopped in stage {:?}{}", result.stage, first_error(result)),
        ),
    }
}

fn of_source(failure: SourceFailure) -> Reason {
    match failure {
        SourceFailure::Failed => Reason::SourceFailed,
        SourceFailure::Unsupported => Reason::UnsupportedSource,
        SourceFailure::SlotMissing => Reason::SlotMissing,
        SourceFailure::WalGap => Reason::WalGap,
        SourceFailure::WalNotReceived => Reason::WalNotReceived,
        SourceFailure::BaseMissing => Reason::BaseMissing,
        SourceFailure::BaseNotVerified => Reason::BaseNotVerified,
        SourceFailure::ScratchTooSmall => Reason::ScratchTooSmall,
    }
}

fn complete(result: &RunResult, expected: &Expected<'_>) -> Outcome {
    let Some(snapshot) = &result.snapshot else {
        return Outcome::failed(
            Reason::NotReadBack,
            format!(
                "restic reported success, but no snapshot could be read back from the repository{}",
                first_error(result)
            ),
        );
    };
    if result.stage != RunnerStage::Done {
        return Outcome::failed(
            Reason::NotReadBack,
            format!(
                "restic reported success, but reading snapshot {} back failed{}",
                short(&snapshot.id),
                first_error(result)
            ),
        );
    }
    if snapshot.host != expected.policy_uid {
        return Outcome::failed(
            Reason::ForeignSnapshot,
            format!("snapshot {} is of host {}, not of this policy", short(&snapshot.id), snapshot.host),
        );
    }
    if snapshot.files == 0 && !expected.allow_empty {
        return Outcome::failed(
            Reason::EmptySource,
            "the source has no files; most often the wrong volume was mounted. If an empty one is right, set allowEmpty: true",
        );
    }
    if result.error_count > 0 {
        return Outcome::new(
            BackupPhase::PartiallyFailed,
            Reason::Incomplete,
            format!("restic reported {} errors{}", result.error_count, first_error(result)),
        );
    }
    let until = snapshot.recoverable_until.map(|until| format!("; recoverable until {until}")).unwrap_or_default();
    Outcome::new(
        BackupPhase::Succeeded,
        Reason::Complete,
        format!(
            "{} files, {} bytes, read back as snapshot {}{until}",
            snapshot.files,
            snapshot.bytes,
            short(&snapshot.id)
        ),
    )
}

/// The first eight digits of an id, as restic shows it.
pub fn short(id: &str) -> String {
    id.chars().take(8).collect()
}

fn first_error(result: &RunResult) -> String {
    result.errors.first().map(|error| format!(": {error}")).unwrap_or_default()
}
