//! Which writes in a governed namespace are those that Interlock makes for drills. The webhook computes each object anew from
//! what is stored; only what comes out the same passes.

use interlock_crds::{DrillPhase, DrillRun};

use super::{certificate::CertificateError, names, objects::RunRef};
use crate::seal::SealKey;

/// What a run makes, and removes, in the namespace of its repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// The claim that is restored into.
    Claim,
    /// The Job that restores.
    RestoreJob,
    /// The ConfigMap with the certificate.
    Certificate,
}

impl Made {
    /// What an object of this kind and name is to the run called `run`.
    pub fn of(kind: &str, name: &str, run: &str) -> Option<Self> {
        match kind {
            "PersistentVolumeClaim" if name == names::claim(run) => Some(Self::Claim),
            "Job" if name == names::restore_job(run) => Some(Self::RestoreJob),
            "ConfigMap" if name == names::certificate(run) => Some(Self::Certificate),
            _ => None,
        }
    }
}

/// Whether a run announced that it makes this, and has not made it yet as far as is known.
pub fn announced(run: &DrillRun, uid: &str, what: Made) -> bool {
    let Some(status) = run.status.as_ref().filter(|_| run.metadata.uid.as_deref() == Some(uid)) else { return false };
    let name = run.metadata.name.as_deref().unwrap_or_default();
    match what {
        Made::Claim => status.phase == DrillPhase::Provisioning && status.sandbox.is_some(),
        Made::RestoreJob => {
            let job = status.jobs.iter().find(|job| job.name == names::restore_job(name));
            status.phase == DrillPhase::Restoring && job.is_some_and(|job| job.uid.is_none())
        }
        Made::Certificate => status.phase.is_terminal() && status.certificate.is_some(),
    }
}

/// Whether a run removes this: Job and claim when the volume moves on, or after the verdict; never the certificate.
pub fn removes(run: &DrillRun, uid: &str, what: Made) -> bool {
    let Some(status) = run.status.as_ref().filter(|_| run.metadata.uid.as_deref() == Some(uid)) else { return false };
    match what {
        Made::Claim | Made::RestoreJob => status.phase == DrillPhase::HandingOver || status.phase.is_terminal(),
        Made::Certificate => false,
    }
}

/// The certificate of a run as it is recorded: from what is stored and the key alone, so that whoever computes it gets the
/// same. `system` is the System of its namespace, `release` the version of Interlock.
///
/// # Errors
/// There is none, or it is not the recorded one.
pub fn certificate(
    run: &DrillRun,
    system: &str,
    release: &str,
    key: &SealKey,
) -> Result<super::certificate::Sealed, CertificateError> {
    let content = super::certificate::content(run, system, release)?;
    super::certificate::seal(run.metadata.name.as_deref().unwrap_or_default(), &content, key)
}

/// A run by its names.
pub fn reference(run: &DrillRun) -> RunRef<'_> {
    RunRef {
        name: run.metadata.name.as_deref().unwrap_or_default(),
        uid: run.metadata.uid.as_deref().unwrap_or_default(),
        namespace: run.metadata.namespace.as_deref().unwrap_or_default(),
    }
}
