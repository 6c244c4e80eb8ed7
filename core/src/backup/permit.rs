//! Which writes of Jobs are those that Interlock makes for runs and upkeep, and which of Deployments those of heartbeats. The
//! webhook computes the object anew from the stored objects; only what comes out the same passes.

use interlock_crds::{Backup, BackupRepository};
use serde_json::Value;

use crate::object::{GroupKind, permitted_create};

/// Whose Job an object says that it is: kind, name and uid of its controller.
pub fn owner(job: &Value) -> Option<(&str, &str, &str)> {
    let owners = job.pointer("/metadata/ownerReferences").and_then(Value::as_array)?;
    let owner = owners.iter().find(|owner| owner.get("controller").and_then(Value::as_bool) == Some(true))?;
    let text = |field: &str| owner.get(field).and_then(Value::as_str);
    (text("apiVersion")? == interlock_crds::API_VERSION).then_some(())?;
    Some((text("kind")?, text("name")?, text("uid")?))
}

/// Whether a run announced a Job of this name and has not made it.
pub fn run_announced(backup: &Backup, uid: &str, job: &str) -> bool {
    let announced = backup.status.as_ref().filter(|status| !status.phase.is_terminal()).and_then(|s| s.job.as_ref());
    backup.metadata.uid.as_deref() == Some(uid)
        && announced.is_some_and(|announced| announced.name == job && announced.uid.is_none())
}

/// Whether a run is ending its Job, or has ended.
pub fn run_ends(backup: &Backup, uid: &str) -> bool {
    let status = backup.status.as_ref();
    backup.metadata.uid.as_deref() == Some(uid)
        && status.is_some_and(|status| status.stopping.is_some() || status.phase.is_terminal())
}

/// Whether a repository announced a Job of this name and has not made it.
pub fn upkeep_announced(repository: &BackupRepository, uid: &str, job: &str) -> bool {
    let active = repository.status.as_ref().and_then(|status| status.active.as_ref());
    repository.metadata.uid.as_deref() == Some(uid)
        && active.is_some_and(|active| active.name == job && active.job_uid.is_none())
}

/// Whether the Job of this name is not the one of what a repository's upkeep does now.
pub fn upkeep_is_over(repository: &BackupRepository, uid: &str, job: &str) -> bool {
    let active = repository.status.as_ref().and_then(|status| status.active.as_ref());
    repository.metadata.uid.as_deref() == Some(uid) && active.is_none_or(|active| active.name != job)
}

/// Whether a Deployment is the writer of a policy's heartbeat, as the server makes it of what Interlock writes.
pub fn is_expected_writer(deployment: &Value, expected: &Value) -> bool {
    permitted_create(&GroupKind::new("apps", "Deployment"), deployment, expected).is_ok()
}

/// Whether `job` is `expected`, as the server makes it of what Interlock writes.
pub fn is_expected(job: &Value, expected: &Value) -> bool {
    permitted_create(&GroupKind::new("batch", "Job"), job, expected).is_ok()
}
