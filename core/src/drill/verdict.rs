//! The verdict, from what was recorded alone.
//!
//! Passed is one narrow path: the sandbox was isolated, every critical validation passed, there was at least one, no fault was
//! injected, the heartbeat is neither stale nor from the future, its writer was alive, and no objective was missed. Whoever has
//! the record can judge again and gets the same.

use interlock_crds::{
    BackupPolicySpec, DrillPhase, DrillRunStatus, ProbeResult, RestoreDrillSpec, ValidationRecord, ValidationVerdict,
};
use serde_json::{Value, json};

use super::{
    clock::{self, HeartbeatFinding, HeartbeatLimits},
    reason::{Ending, Reason},
};
use crate::{
    mutants::{self, Mutant},
    object::Digest,
};

/// Judges a run whose validations are all decided. `drill` is what the run carried out, with its own selection and fault.
pub fn judge(status: &DrillRunStatus, drill: &RestoreDrillSpec, policy: &BackupPolicySpec) -> Ending {
    let found = findings(status, drill, policy);
    let Some(fault) = &drill.fault_injection else { return found };
    match found.phase {
        DrillPhase::Passed | DrillPhase::Inconclusive => Ending::failed(
            Reason::FaultNotNoticed,
            format!(
                "fault {:?} was injected and nothing noticed: this drill would also pass on damaged data. Add a validation that looks at what was damaged",
                fault.fault
            ),
        ),
        _ => Ending {
            message: format!("{} (fault {:?} was injected: that is what was to be proved)", found.message, fault.fault),
            ..found
        },
    }
}

fn findings(status: &DrillRunStatus, drill: &RestoreDrillSpec, policy: &BackupPolicySpec) -> Ending {
    let isolation = status.isolation.as_ref();
    let isolated = isolation.is_some_and(|record| {
        record.outside == Some(ProbeResult::Connected) && record.inside == Some(ProbeResult::Blocked)
    });
    if !isolated {
        return Ending::failed(Reason::IsolationUnknown, "it is not recorded that the sandbox was isolated");
    }
    let Some(chosen) = &status.chosen else {
        return Ending::failed(Reason::RecordBroken, "it is not recorded what was restored");
    };
    let asks_heartbeat = drill.validations.iter().any(|validation| validation.heartbeat.is_some());
    let critical = || status.validations.iter().filter(|record| record.critical);
    let heartbeat = asks_heartbeat.then(|| {
        let interval =
            policy.heartbeat.as_ref().map_or(jiff::SignedDuration::ZERO, |heartbeat| heartbeat.interval.signed());
        let limits = HeartbeatLimits {
            interval,
            before_end: clock::before_end(drill, policy),
            t0: status.t0.as_ref().map_or(chosen.data_time.0, |t0| t0.0),
            skew: clock::CLOCK_SKEW,
        };
        clock::heartbeat(chosen, status.heartbeat.as_ref(), &limits)
    });
    let heartbeat_was_read = drill
        .validations
        .iter()
        .zip(&status.validations)
        .all(|(validation, record)| validation.heartbeat.is_none() || record.verdict == ValidationVerdict::Passed);
    // That data is missing says more than that a query does not find it.
    if let Some(HeartbeatFinding::Stale(why)) = &heartbeat
        && heartbeat_was_read
    {
        return Ending::failed(Reason::StaleData, why.clone());
    }
    if let Some(HeartbeatFinding::Ahead(why)) = &heartbeat
        && heartbeat_was_read
    {
        return Ending::failed(Reason::HeartbeatAhead, why.clone());
    }
    if let Some(failed) = critical().find(|record| !holds(record)) {
        return Ending::failed(reason_of(failed), sentence(failed));
    }
    // Every validation of the spec has its record, and every record is of the spec.
    let asked = drill.validations.iter().map(|validation| (&validation.name, validation.critical));
    if !asked.eq(status.validations.iter().map(|record| (&record.name, record.critical))) || critical().count() == 0 {
        return Ending::failed(Reason::RecordBroken, "the record does not answer each validation of the drill");
    }
    if let Some(rto) = status.rto.filter(|rto| rto.met == Some(false)) {
        let objective = rto.objective_seconds.unwrap_or_default();
        let message = format!("everything came back, after {} s; the objective is {objective} s", rto.seconds);
        return Ending::failed(Reason::RTOExceeded, message);
    }
    let Some(rto) = status.rto else {
        return Ending::failed(Reason::RecordBroken, "the recovery time was not measured");
    };
    if let Some(HeartbeatFinding::Dead(why)) = heartbeat {
        return Ending { phase: DrillPhase::Inconclusive, reason: Reason::HeartbeatDead, message: why };
    }
    if let Some(rpo) = status.rpo.filter(|rpo| rpo.met == Some(false)) {
        return Ending::failed(
            Reason::RPOExceeded,
            format!(
                "everything came back, but what was written in the last {} s (between {} and {}) is not in it; the objective is {} s. Back up more often",
                rpo.seconds,
                rpo.at_least_seconds,
                rpo.at_most_seconds,
                rpo.objective_seconds.unwrap_or_default()
            ),
        );
    }
    if let Some(rpo) = status.rpo.filter(|rpo| rpo.capture_lag_met == Some(false)) {
        let lag = rpo.capture_lag_seconds.unwrap_or_default();
        return Ending::failed(
            Reason::CaptureLagExceeded,
            format!(
                "the newest heartbeat in the restored data is {lag} s older than the moment that the recovery point promises"
            ),
        );
    }
    let count = critical().count();
    Ending {
        phase: DrillPhase::Passed,
        reason: Reason::Complete,
        message: format!("{} came back in {} s; {count} critical validations passed", chosen.backup, rto.seconds),
    }
}

/// Whether a validation passed; that alone counts.
pub(super) fn holds(record: &ValidationRecord) -> bool {
    let silent = mutants::is(Mutant::PassWithoutAnAnswer) && record.verdict == ValidationVerdict::Error;
    record.verdict == ValidationVerdict::Passed || silent
}

fn reason_of(failed: &ValidationRecord) -> Reason {
    match failed.verdict {
        ValidationVerdict::TimedOut | ValidationVerdict::Skipped => Reason::TimedOut,
        ValidationVerdict::Error | ValidationVerdict::Pending => Reason::ValidationError,
        ValidationVerdict::Failed | ValidationVerdict::Passed => Reason::ValidationFailed,
    }
}

fn sentence(failed: &ValidationRecord) -> String {
    let why = failed.message.as_deref().unwrap_or("it has no result");
    format!("critical validation {}: {why}", failed.name)
}

/// Everything that a verdict rests on, as one value. Numbers that validations returned are texts, as any can be there.
pub fn evidence(status: &DrillRunStatus) -> Value {
    let validations = status.validations.iter().map(|record| {
        let mut value = json!(record);
        if let (Some(number), Some(fields)) = (record.number, value.as_object_mut()) {
            fields.insert("number".into(), json!(number.to_string()));
        }
        value
    });
    json!({
        "t0": status.t0, "seed": status.seed, "pinned": status.pinned, "chosen": status.chosen,
        "segments": status.segments, "isolation": status.isolation, "validations": validations.collect::<Vec<_>>(),
        "heartbeat": status.heartbeat, "rto": status.rto, "rpo": status.rpo, "images": status.images,
        "verdict": status.verdict, "reason": status.reason, "message": status.message, "finishedAt": status.finished_at,
    })
}

/// Digest of [`evidence`].
pub fn evidence_digest(status: &DrillRunStatus) -> Option<String> {
    Digest::of_canonical(&evidence(status)).ok().map(|digest| digest.to_string())
}
