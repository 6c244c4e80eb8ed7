//! The webhook's side: a heartbeat's writer, a run's manifests, and a Job in a governed namespace passes if it is the one that a run or the upkeep of a repository
//! announced, computed anew from what is stored.

use interlock_core::{
    admission::{Operation, WriteRequest},
    backup::permit,
    change::FIELD_MANAGER,
    port::{DryRun, Identity, Port, PortError},
};
use interlock_crds::{Backup, BackupPolicy, BackupRepository};
use serde_json::Value;

use super::{heartbeat, objects, observe, repository, run};
use crate::{change::Context, index::beside};

/// Whether the write is one that Interlock makes for backups. `executor` is the user that writes, and that of the System.
///
/// # Errors
/// Something cannot be read: nobody knows.
pub async fn permits<P: Port>(context: &Context<P>, executor: &str, request: &WriteRequest) -> Result<bool, PortError> {
    match (request.group.as_str(), request.kind.as_str(), &request.subresource) {
        ("batch", "Job", None) => {}
        ("", "Secret", None) => return objects::permits(context, request).await,
        ("apps", "Deployment", None) => return heartbeat::permits(context, executor, request).await,
        _ => return Ok(false),
    }
    let job = match request.operation {
        Operation::Create => request.object.as_ref(),
        Operation::Delete => request.old.as_ref(),
        Operation::Update | Operation::Connect => None,
    };
    let Some((job, (kind, name, uid))) = job.and_then(|job| Some((job, permit::owner(job)?))) else { return Ok(false) };
    let namespace = request.namespace.as_deref().unwrap_or_default();
    let key = format!("{namespace}/{name}");
    let expected = match (kind, request.operation) {
        ("Backup", Operation::Delete) => {
            let backup: Option<Backup> = observe::own(context, "Backup", &key).await?;
            return Ok(backup.is_some_and(|backup| permit::run_ends(&backup, uid)));
        }
        ("BackupRepository", Operation::Delete) => {
            let found: Option<BackupRepository> = observe::own(context, "BackupRepository", &key).await?;
            return Ok(found.is_some_and(|found| permit::upkeep_is_over(&found, uid, self::name(job))));
        }
        ("Backup", _) => of_run(context, &key, uid, job).await?,
        ("BackupRepository", Operation::Create) => of_upkeep(context, &key, uid, job).await?,
        _ => None,
    };
    let Some(expected) = expected else { return Ok(false) };
    let executor = Identity::Impersonate(executor.to_owned());
    // Defaults are the server's: it says what it makes of it.
    let made = context.port.create(&executor, FIELD_MANAGER, &expected, DryRun::Yes).await?;
    Ok(permit::is_expected(job, &made))
}

fn name(job: &Value) -> &str {
    job.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default()
}

async fn of_run<P: Port>(context: &Context<P>, key: &str, uid: &str, job: &Value) -> Result<Option<Value>, PortError> {
    let backup: Option<Backup> = observe::own(context, "Backup", key).await?;
    let Some(backup) = backup.filter(|backup| permit::run_announced(backup, uid, name(job))) else { return Ok(None) };
    let pinned = backup.status.as_ref().and_then(|status| status.pinned.clone());
    let Some(pinned) = pinned else { return Ok(None) };
    let policy: Option<BackupPolicy> =
        observe::own(context, "BackupPolicy", &beside(key, &backup.spec.policy_ref.name)).await?;
    let repository: Option<BackupRepository> =
        observe::own(context, "BackupRepository", &beside(key, &pinned.repository)).await?;
    let policy = policy.filter(|policy| run::is_pinned(policy, &pinned));
    let repository = repository.filter(|known| known.metadata.uid.as_ref() == Some(&pinned.repository_uid));
    Ok(run::job_of(context, &backup, policy.as_ref(), repository.as_ref()).await?.ok())
}

async fn of_upkeep<P: Port>(
    context: &Context<P>,
    key: &str,
    uid: &str,
    job: &Value,
) -> Result<Option<Value>, PortError> {
    let found: Option<BackupRepository> = observe::own(context, "BackupRepository", key).await?;
    let Some(found) = found.filter(|found| permit::upkeep_announced(found, uid, name(job))) else { return Ok(None) };
    let Some(now) = context.port.now() else {
        return Err(PortError::Unavailable("the API server's time is not known".to_owned()));
    };
    let asked = repository::forgotten(Some(job));
    let mut may_go = std::collections::BTreeSet::new();
    for policy in context.ask(|index| index.policies_of_repository(key)) {
        may_go.extend(repository::plan(context, &policy, now).1.forget.into_iter().map(|(id, _)| id));
    }
    if !asked.is_subset(&may_go) {
        return Ok(None);
    }
    let Some(active) = found.status.as_ref().and_then(|status| status.active.clone()) else { return Ok(None) };
    let forget = repository::told_to_forget(Some(job));
    Ok(repository::job_of(context, &found, &active, forget).await?.ok())
}
