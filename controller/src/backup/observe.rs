//! Reading: what a policy, a repository and a run refer to.

use interlock_core::{
    backup::{observed, pods, restore, run::JobFact, validate},
    object::ObjectId,
    port::{Identity, Port, PortError},
};
use interlock_crds::{self as crds, BackupPolicy, BackupRepository};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::unreadable;
use crate::{change::Context, index::beside};

/// An object of Interlock's own kinds.
pub fn own_id(kind: &str, key: &str) -> ObjectId {
    id((crds::GROUP, crds::VERSION, kind), key)
}

fn id((group, version, kind): (&str, &str, &str), key: &str) -> ObjectId {
    let (namespace, name) = key.split_once('/').unwrap_or(("", key));
    ObjectId {
        group: group.to_owned(),
        version: version.to_owned(),
        kind: kind.to_owned(),
        namespace: (!namespace.is_empty()).then(|| namespace.to_owned()),
        name: name.to_owned(),
    }
}

/// The id of a Job.
pub fn job_id(namespace: &str, name: &str) -> ObjectId {
    id(("batch", "v1", "Job"), &format!("{namespace}/{name}"))
}

/// The id of a Deployment.
pub fn deployment_id(namespace: &str, name: &str) -> ObjectId {
    id(("apps", "v1", "Deployment"), &format!("{namespace}/{name}"))
}

/// An object of Interlock's own kinds, as the server has it.
pub async fn own<P: Port, T: DeserializeOwned>(
    context: &Context<P>,
    kind: &str,
    key: &str,
) -> Result<Option<T>, PortError> {
    let id = own_id(kind, key);
    let found = context.port.live_get(&Identity::Controller, &id).await?;
    found.map(serde_json::from_value).transpose().map_err(|error| unreadable(&id.to_string(), &error))
}

/// In whose name Jobs are made in a namespace: the executor of its System.
///
/// # Errors
/// The sentence why nobody can.
pub fn executor<P: Port>(context: &Context<P>, namespace: &str) -> Result<Identity, String> {
    let Some(system) = context.ask(|index| index.system_of(namespace)) else {
        return Err(format!("no System lists namespace {namespace}: backups run in the name of a System's executor"));
    };
    let account = system.spec.executor.as_ref().and_then(|executor| executor.service_account.as_ref());
    account.map(|account| Identity::Impersonate(account.user())).ok_or_else(|| {
        format!(
            "System {} names no executor: give spec.executor.serviceAccount, with the right to make Jobs",
            system.resolved.name
        )
    })
}

/// The Job of this name as the run with uid `owner` sees it. From now on each change of it wakes `waiter`. Of one that
/// `was_made` and is gone, pods are looked for.
pub async fn job<P: Port>(
    context: &Context<P>,
    waiter: &str,
    (namespace, name): (&str, &str),
    owner: &str,
    was_made: bool,
) -> Result<(JobFact, Option<Value>), PortError> {
    let id = job_id(namespace, name);
    context.port.watch(waiter, std::slice::from_ref(&id));
    let job = context.port.live_get(&Identity::Controller, &id).await?;
    let label = if job.is_some() {
        format!("{}={name}", observed::JOB_NAME_LABEL)
    } else if was_made {
        format!("{}={owner}", pods::RUN_LABEL)
    } else {
        return Ok((JobFact::Absent, None));
    };
    let pods = context.port.live_list_labelled("", "v1", "Pod", Some(namespace), &label).await?;
    // A pod that is being removed takes along what its tool wrote last, so its own end counts too.
    let going = pods.iter().filter(|pod| pod.pointer("/metadata/deletionTimestamp").is_some());
    let going = going.filter_map(|pod| pod.pointer("/metadata/name")?.as_str());
    let going = going.map(|name| self::id(("", "v1", "Pod"), &format!("{namespace}/{name}")));
    let watched: Vec<_> = std::iter::once(id).chain(going).collect();
    if watched.len() > 1 {
        context.port.watch(waiter, &watched);
    }
    Ok((observed::job(job.as_ref(), &pods, owner), job))
}

/// Whether a restore that a change carried out may still read the repository `namespace/name`. What Jobs and pods of another
/// System say of it holds nothing.
pub async fn is_restored_from<P: Port>(context: &Context<P>, repository: &str) -> Result<bool, PortError> {
    // One may run in another namespace of the System.
    let label = format!("app.kubernetes.io/component={}", restore::COMPONENT);
    let mut jobs = context.port.live_list_labelled("batch", "v1", "Job", None, &label).await?;
    let mut pods = context.port.live_list_labelled("", "v1", "Pod", None, &label).await?;
    let own = context.ask(|index| index.namespaces_beside(repository));
    restore::retain_in(&own, &mut jobs);
    restore::retain_in(&own, &mut pods);
    Ok(restore::may_read(&jobs, &pods, repository))
}

/// Whether a Job of the run with this uid, which is gone itself, or a pod of one may still work in its namespace.
pub async fn works_on<P: Port>(context: &Context<P>, namespace: &str, run: &str) -> Result<bool, PortError> {
    let label = format!("{}={run}", pods::RUN_LABEL);
    let jobs = context.port.live_list_labelled("batch", "v1", "Job", Some(namespace), &label).await?;
    let pods = context.port.live_list_labelled("", "v1", "Pod", Some(namespace), &label).await?;
    Ok(observed::may_work(jobs.iter(), pods.iter()))
}

/// Whether the owner of the namespace lets backups read every file; asked only where that matters.
pub async fn privileges<P: Port>(context: &Context<P>, namespace: &str, asked: bool) -> Result<bool, PortError> {
    if !asked {
        return Ok(false);
    }
    let found = context.port.live_get(&Identity::Controller, &id(("", "v1", "Namespace"), namespace)).await?;
    let labels = found.as_ref().and_then(|namespace| namespace.pointer("/metadata/labels"));
    let label = labels.and_then(|labels| labels.get(pods::PRIVILEGES_LABEL)).and_then(Value::as_str);
    Ok(label == Some(pods::PRIVILEGES_PERMITTED))
}

/// What cannot be used of a policy and what it refers to. What is missing wakes the policy when it appears, and what runs
/// beside its source whenever that changes.
pub async fn problems_of_policy<P: Port>(
    context: &Context<P>,
    waiter: &str,
    key: &str,
    policy: &BackupPolicy,
    repository: Option<&BackupRepository>,
    companions: Vec<ObjectId>,
) -> Result<Vec<String>, PortError> {
    let namespace = policy.metadata.namespace.as_deref().unwrap_or_default();
    let source = &policy.spec.source;
    let claims = [
        source.files.as_ref().map(|files| &files.persistent_volume_claim),
        source.postgres.as_ref().and_then(|postgres| postgres.wal.as_ref()).map(|wal| &wal.persistent_volume_claim),
    ];
    let mut missing = Vec::new();
    for claim in claims.into_iter().flatten() {
        let id = id(("", "v1", "PersistentVolumeClaim"), &beside(key, claim));
        if context.port.live_get(&Identity::Controller, &id).await?.is_none() {
            missing.push(id);
        }
    }
    let watched: Vec<_> = missing.iter().cloned().chain(companions).collect();
    context.port.watch(waiter, &watched);
    let mut problems = validate::policy(&policy.spec);
    problems.extend(validate::references(&policy.spec, repository.map(|repository| &repository.spec), |claim| {
        !missing.iter().any(|id| id.name == claim)
    }));
    problems.extend(executor(context, namespace).err());
    if policy.spec.pod.as_ref().is_some_and(|pod| pod.read_all) && !privileges(context, namespace, true).await? {
        problems.push(pods::PodError::NotPermitted(namespace.to_owned()).to_string());
    }
    Ok(problems)
}

/// What cannot be used of a repository.
pub async fn problems_of_repository<P: Port>(
    context: &Context<P>,
    repository: &BackupRepository,
) -> Result<Vec<String>, PortError> {
    let namespace = repository.metadata.namespace.as_deref().unwrap_or_default();
    let mut problems = validate::repository(&repository.spec);
    problems.extend(executor(context, namespace).err());
    if repository.spec.pod.as_ref().is_some_and(|pod| pod.read_all) && !privileges(context, namespace, true).await? {
        problems.push(pods::PodError::NotPermitted(namespace.to_owned()).to_string());
    }
    Ok(problems)
}
