//! What the end of a drill's pod means: for the restore, and for each validation.
//!
//! A restore succeeded on one narrow path: exit code 0, of the right snapshot and repository, read back, with files, and not
//! fewer than the recovery point has. A validation passed only if it ran to its end, in time, and what it asks for holds.

use interlock_crds::{ChosenPoint, DrillValidation, ValidationVerdict};

use super::{
    expect::{Scalar, holds},
    reason::{Ending, Reason},
    report::{DrillReport, RestoredReport},
};
use crate::{
    analysis::shorten,
    backup::{
        outcome::PodEnd,
        result::{HeartbeatRead, ResultError, RunnerStage},
    },
};

/// Words of restic that tell damaged data from everything else that can go wrong.
const DAMAGE: [&str; 9] = [
    "ciphertext verification failed",
    "invalid data returned",
    "wrong hash",
    "hash mismatch",
    "does not match id",
    "unexpected content",
    "invalid file size",
    "id not found",
    "not found in repository",
];

/// Reads what the pod of a restore said.
///
/// # Errors
/// The data did not come back; how the run ends.
pub fn restore(
    end: &PodEnd,
    deadline_exceeded: bool,
    run: &str,
    repository_id: Option<&str>,
    chosen: &ChosenPoint,
) -> Result<RestoredReport, Ending> {
    let report = DrillReport::decode(end.message.as_deref(), run).map_err(|error| {
        if deadline_exceeded {
            Ending::failed(Reason::RestoreTimedOut, "the restore took longer than timeouts.restore and was ended")
        } else {
            silence(end, &error)
        }
    })?;
    if let (Some(known), Some(found)) = (repository_id, report.repository_id.as_deref())
        && known != found
    {
        return Err(Ending::failed(
            Reason::RepositoryReplaced,
            format!("the repository at the address has id {found}, not {known}: somebody replaced it"),
        ));
    }
    let told = |what: String| {
        let errors = report.error_count.max(report.errors.len() as u64);
        let damaged = report.errors.iter().any(|error| is_damage(error));
        if damaged {
            Ending::failed(
                Reason::DataCorrupt,
                format!(
                    "{what}: data in the repository is damaged ({errors} errors); this recovery point is not restored from any more. Run a check that reads all data"
                ),
            )
        } else {
            // The Job goes with the cleanup, and its log with it.
            let first = report.errors.first().map(|error| error.chars().take(300).collect::<String>());
            let first = first.map_or_else(String::new, |first| format!(", the first: {first}"));
            Ending::failed(Reason::RestoreFailed, format!("{what}, {errors} errors{first}"))
        }
    };
    if let Some(signal) = report.signal {
        return Err(told(format!("restic was ended by signal {signal}")));
    }
    match report.exit_code {
        Some(0) => {}
        Some(10) => {
            return Err(Ending::failed(Reason::RepositoryUnreachable, "there is no repository at the address"));
        }
        Some(12) => {
            return Err(Ending::failed(
                Reason::WrongPassword,
                "the repository does not open with RESTIC_PASSWORD of its Secret; correct the Secret",
            ));
        }
        Some(code) if report.stage <= RunnerStage::Open => {
            let first = report.errors.first().map(|error| format!(": {}", shorten(error, 300))).unwrap_or_default();
            return Err(Ending::failed(
                Reason::RepositoryUnreachable,
                format!("the repository could not be opened (exit code {code}){first}"),
            ));
        }
        Some(code) => return Err(told(format!("restic ended with {code}"))),
        None => return Err(told("restic was not run".to_owned())),
    }
    if report.error_count > 0 || !report.errors.is_empty() {
        return Err(told("restic reported success and errors".to_owned()));
    }
    let Some(restored) = report.restored.filter(|_| report.stage == RunnerStage::Done) else {
        return Err(Ending::failed(
            Reason::RestoreFailed,
            "restic reported success, but what it restored could not be read back",
        ));
    };
    counted(restored, chosen)
}

fn counted(restored: RestoredReport, chosen: &ChosenPoint) -> Result<RestoredReport, Ending> {
    if restored.snapshot_id != chosen.snapshot_id {
        return Err(Ending::failed(
            Reason::RestoreFailed,
            format!("snapshot {} was restored instead of {}", restored.snapshot_id, chosen.snapshot_id),
        ));
    }
    if restored.files <= 0 {
        return Err(Ending::failed(
            Reason::EmptyRestore,
            "restic reported success and restored no files: nothing came back",
        ));
    }
    // What a base and its additions have together is not counted by either.
    if chosen.base_id.is_none() && restored.files < chosen.files {
        return Err(Ending::failed(
            Reason::RestoreIncomplete,
            format!("{} of {} files came back, although restic reported success", restored.files, chosen.files),
        ));
    }
    if !restored.verified {
        return Err(Ending::failed(
            Reason::DataCorrupt,
            "the restored files are not those of the recovery point: reading them again found differences",
        ));
    }
    Ok(restored)
}

fn is_damage(error: &str) -> bool {
    let error = error.to_ascii_lowercase();
    DAMAGE.iter().any(|known| error.contains(known))
}

/// Why a pod ended without telling how.
pub fn silence(end: &PodEnd, error: &ResultError) -> Ending {
    if *error != ResultError::Missing {
        return Ending::failed(Reason::NoResult, format!("{error}; nothing that the pod may have done counts"));
    }
    if end.out_of_memory {
        return Ending::failed(
            Reason::OutOfMemory,
            "a container of the pod was killed for using more memory than its limit; raise sandbox.quota or sandbox.pod.resources",
        );
    }
    match (&end.reason, &end.waiting) {
        (_, Some(waiting)) if end.begun => {
            Ending::failed(Reason::NoResult, format!("the pod ended as its next container cannot run: {waiting}"))
        }
        (_, Some(waiting)) => Ending::failed(Reason::NeverStarted, format!("the pod never started: {waiting}")),
        (Some(reason), None) => Ending::failed(Reason::Evicted, format!("the pod was ended by the cluster ({reason})")),
        (None, None) => Ending::failed(Reason::NoResult, error.to_string()),
    }
}

/// What a validation found.
#[derive(Clone, Debug, PartialEq)]
pub struct Validated {
    /// How it ended.
    pub verdict: ValidationVerdict,
    /// Why.
    pub reason: &'static str,
    /// Why, for a person; never data.
    pub message: String,
    /// The one value that is kept.
    pub result: Option<Scalar>,
    /// The newest heartbeat in the restored data; the outer one says whether it was looked for.
    pub heartbeat: Option<Option<HeartbeatRead>>,
}

impl Validated {
    fn new(verdict: ValidationVerdict, reason: &'static str, message: impl Into<String>) -> Self {
        Self { verdict, reason, message: message.into(), result: None, heartbeat: None }
    }

    /// It took too long.
    pub fn timed_out(message: impl Into<String>) -> Self {
        Self::new(ValidationVerdict::TimedOut, "TimedOut", message)
    }

    /// It could not run.
    pub fn error(reason: &'static str, message: impl Into<String>) -> Self {
        Self::new(ValidationVerdict::Error, reason, message)
    }
}

/// Reads what the pod of a validation said.
pub fn validation(spec: &DrillValidation, end: &PodEnd, deadline_exceeded: bool, run: &str) -> Validated {
    let too_long = || Validated::timed_out(format!("it did not end within {}", spec.timeout));
    let report = match DrillReport::decode(end.message.as_deref(), run) {
        Ok(report) => report,
        Err(ResultError::Missing) if deadline_exceeded => {
            let never = |why: &str| Validated::error("NeverStarted", format!("it could not be started: {why}"));
            return end.waiting.as_deref().map_or_else(too_long, never);
        }
        Err(error) => return Validated::error("NoResult", silence(end, &error).message),
    };
    if report.timed_out {
        return too_long();
    }
    if let Some(signal) = report.signal {
        return Validated::error("Killed", format!("it was ended by signal {signal}"));
    }
    let Some(code) = report.exit_code else {
        return Validated::error("NotRun", why("it could not be started", &report));
    };
    let holds = |holds: bool, yes: String, no: String| {
        if holds {
            Validated::new(ValidationVerdict::Passed, "Passed", yes)
        } else {
            Validated::new(ValidationVerdict::Failed, "Failed", no)
        }
    };
    if spec.command.is_some() {
        return holds(code == 0, "the command ended with 0".into(), format!("the command ended with {code}"));
    }
    if code != 0 || report.stage != RunnerStage::Done {
        return Validated::new(ValidationVerdict::Failed, "Failed", why(&format!("it ended with {code}"), &report));
    }
    if spec.heartbeat.is_some() {
        let said =
            if report.heartbeat.is_some() { "a heartbeat was read" } else { "there is no heartbeat in the data" };
        let found = Validated::new(ValidationVerdict::Passed, "Read", said);
        return Validated { heartbeat: Some(report.heartbeat), ..found };
    }
    if let Some(sql) = &spec.sql {
        return query(&sql.expect, &report);
    }
    match report.matches {
        Some(matches) => {
            holds(matches, "as expected".into(), "not as expected; the log of its pod says what differs".into())
        }
        None => Validated::error("NoResult", "its pod did not say whether it holds"),
    }
}

/// What happened, with the first error that the pod told. Its log goes with the sandbox.
fn why(what: &str, report: &DrillReport) -> String {
    match report.errors.first() {
        Some(error) => format!("{what}: {}", shorten(error, 300)),
        None => format!("{what}; the log of its pod says why"),
    }
}

fn query(expect: &str, report: &DrillReport) -> Validated {
    let result = match (report.number, report.boolean) {
        (Some(number), None) if number.is_finite() => Scalar::Number(number),
        (None, Some(boolean)) => Scalar::Boolean(boolean),
        _ => {
            return Validated::new(
                ValidationVerdict::Failed,
                "NoValue",
                "the query did not return one row whose first column is a number or a boolean",
            );
        }
    };
    let asked = shorten(expect, 200);
    let found = match holds(expect, result) {
        Ok(true) => Validated::new(ValidationVerdict::Passed, "Passed", format!("{asked} holds")),
        Ok(false) => Validated::new(
            ValidationVerdict::Failed,
            "Failed",
            format!("{asked} does not hold: the query returned {result}"),
        ),
        Err(why) => Validated::error(
            "BadExpectation",
            format!("{asked} cannot be told of {result}, which the query returned: {why}"),
        ),
    };
    Validated { result: Some(result), ..found }
}
