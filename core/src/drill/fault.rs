//! Injected faults: a drill that could not fail would prove nothing.
//!
//! A fault touches the restored copy alone: it runs in the sandbox, in a pod that has neither credential nor way out. A run
//! with a fault never passes; it proves something if it failed because of the fault.

use interlock_crds::{DrillRun, DrillVerdict, Fault, FaultInjection, ProvenFailure};

use serde_json::Value;

use super::reason::Reason;
use crate::object::Digest;

/// The fault that a run injects: its own, or that of the drill as it was pinned.
pub fn of_run(run: &DrillRun) -> Option<FaultInjection> {
    let pinned = run.status.as_ref().and_then(|status| status.pinned.as_ref());
    let of_drill = || {
        let fault = pinned?.spec.get("faultInjection").filter(|fault| !fault.is_null())?;
        serde_json::from_value(fault.clone()).ok()
    };
    run.spec.fault_injection.clone().or_else(of_drill)
}

/// Whether a run that ended for this reason noticed the fault.
pub const fn is_noticed(fault: Fault, reason: Reason) -> bool {
    match fault {
        Fault::TamperHeartbeat => matches!(reason, Reason::StaleData),
        // A damaged copy may also end the application. A check that could not run, or took too long, says nothing about the copy.
        Fault::FlipBytes | Fault::DeleteFiles => {
            matches!(reason, Reason::ValidationFailed | Reason::StaleData | Reason::StartFailed)
        }
        Fault::Delay => matches!(reason, Reason::RTOExceeded | Reason::RestoreTimedOut),
    }
}

/// The proof that a run is, that its drill can fail.
pub fn proven_failure(run: &DrillRun) -> Option<ProvenFailure> {
    let fault = of_run(run)?.fault;
    let status = run.status.as_ref()?;
    let reason = Reason::of(status.reason.as_deref()?)?;
    let failed = status.verdict == Some(DrillVerdict::Failed) && is_noticed(fault, reason);
    let at = status.finished_at.clone().filter(|_| failed)?;
    let validations_digest = validations_digest(&status.pinned.as_ref()?.spec);
    Some(ProvenFailure { run: run.metadata.name.clone()?, fault, validations_digest, at })
}

/// Digest of the validations of a drill's spec: a proof that the drill can fail is one for these.
pub fn validations_digest(spec: &Value) -> String {
    Digest::of_canonical(&spec["validations"]).map(|digest| digest.to_string()).unwrap_or_default()
}
