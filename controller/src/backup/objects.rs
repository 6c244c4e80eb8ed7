//! The objects of a run of `source.objects`: read and stored in the name of the System's executor, taken away at the end.

use interlock_core::{
    admission::{Operation, WriteRequest},
    backup::{
        objects::{self as core, Chunk},
        outcome::{Outcome, Reason},
        permit,
        run::ObjectsFact,
    },
    change::FIELD_MANAGER,
    object::ObjectId,
    port::{DryRun, Identity, Port, PortError, Precondition},
};
use interlock_crds::{Backup, GroupKind, ObjectsSource};
use serde_json::Value;

use super::{observe, run::Parts};
use crate::change::Context;

/// How far this pass came with the objects.
#[derive(Default)]
pub(super) struct Progress {
    chunks: Vec<Chunk>,
    fact: Option<ObjectsFact>,
}

impl Progress {
    pub(super) fn fact(&self) -> Option<&ObjectsFact> {
        self.fact.as_ref()
    }

    /// Reads the objects, or stores what was read and recorded.
    pub(super) async fn advance<P: Port>(
        &mut self,
        context: &Context<P>,
        backup: &Backup,
        parts: &Parts,
    ) -> Result<(), PortError> {
        let source = parts.policy.as_ref().and_then(|policy| policy.spec.source.objects.clone()).unwrap_or_default();
        let executor = match &parts.executor {
            Ok(executor) => executor,
            Err(why) => {
                self.fact = Some(ObjectsFact::Failed(Outcome::failed(Reason::JobRefused, why.clone())));
                return Ok(());
            }
        };
        self.fact = Some(match self.fact {
            None => match read(context, executor, backup, &source).await? {
                Ok(chunks) => {
                    let before = backup.status.as_ref().and_then(|status| status.objects.as_ref());
                    let record = core::record(&chunks, before);
                    self.chunks = chunks;
                    ObjectsFact::Read(record)
                }
                Err(outcome) => ObjectsFact::Failed(outcome),
            },
            Some(_) => match store(context, executor, backup, &self.chunks).await? {
                Ok(()) => ObjectsFact::Stored,
                Err(why) => ObjectsFact::Failed(Outcome::failed(Reason::JobRefused, why)),
            },
        });
        Ok(())
    }
}

fn user(executor: &Identity) -> &str {
    match executor {
        Identity::Impersonate(user) => user,
        Identity::Controller => "Interlock",
    }
}

/// Everything that is to be copied. What cannot be read fails the run: nothing is left out silently.
async fn read<P: Port>(
    context: &Context<P>,
    executor: &Identity,
    backup: &Backup,
    source: &ObjectsSource,
) -> Result<Result<Vec<Chunk>, Outcome>, PortError> {
    let own = backup.metadata.namespace.as_deref().unwrap_or_default();
    let Some(system) = context.ask(|index| index.system_of(own)) else {
        return Ok(Err(Outcome::failed(Reason::JobRefused, format!("no System lists namespace {own}"))));
    };
    let mut objects = Vec::new();
    for wanted in core::kinds(&system.spec, source) {
        let GroupKind { group, kind } = &wanted.kind;
        for namespace in wanted.namespaces(&system.spec, own) {
            match context.port.live_list_as(executor, group, kind, Some(namespace)).await {
                Ok(Some(listed)) => objects.extend(listed),
                // A kind that is governed by default and that the cluster does not have has no objects.
                Ok(None) if !wanted.named => {}
                Ok(None) => return Ok(Err(core::unknown(&wanted.kind))),
                Err(PortError::Forbidden(why)) => {
                    return Ok(Err(core::forbidden(user(executor), &wanted.kind, Some(namespace), &why)));
                }
                Err(error) => return Err(error),
            }
        }
    }
    for named in &system.spec.cluster_objects {
        let kind = GroupKind { group: named.group.clone(), kind: named.kind.clone() };
        if source.exclude.contains(&kind) {
            continue;
        }
        let Some(version) = context.port.preferred_version(&kind.group, &kind.kind).await? else {
            return Ok(Err(core::unknown(&kind)));
        };
        let id = ObjectId {
            group: named.group.clone(),
            version,
            kind: named.kind.clone(),
            namespace: None,
            name: named.name.clone(),
        };
        match context.port.live_get(executor, &id).await {
            Ok(found) => objects.extend(found),
            Err(PortError::Forbidden(why)) => return Ok(Err(core::forbidden(user(executor), &kind, None, &why))),
            Err(error) => return Err(error),
        }
    }
    Ok(core::pack(objects))
}

fn secret_id(backup: &Backup, index: u32) -> ObjectId {
    ObjectId {
        group: String::new(),
        version: "v1".to_owned(),
        kind: "Secret".to_owned(),
        namespace: backup.metadata.namespace.clone(),
        name: core::secret_name(backup.metadata.name.as_deref().unwrap_or_default(), index),
    }
}

/// Stores what was recorded. What an earlier attempt left of other content goes first.
async fn store<P: Port>(
    context: &Context<P>,
    executor: &Identity,
    backup: &Backup,
    chunks: &[Chunk],
) -> Result<Result<(), String>, PortError> {
    let meta = &backup.metadata;
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let Some(record) = backup.status.as_ref().and_then(|status| status.objects.clone()) else {
        return Err(PortError::Unavailable("what is to be stored was not recorded".to_owned()));
    };
    for (index, chunk) in (0_u32..).zip(chunks) {
        let secret = chunk.secret(&text(&meta.namespace), &text(&meta.name), &text(&meta.uid), index);
        match context.port.create(executor, FIELD_MANAGER, &secret, DryRun::No).await {
            Ok(_) => continue,
            Err(PortError::AlreadyExists(_)) => {}
            Err(PortError::Forbidden(why) | PortError::Invalid(why) | PortError::NotFound(why)) => {
                return Ok(Err(format!("the API server refused the Secret with its manifests: {why}")));
            }
            Err(error) => return Err(error),
        }
        let id = secret_id(backup, index);
        let live = context.port.live_get(&Identity::Controller, &id).await?;
        let Some(live) = live else { return Err(PortError::Unavailable(format!("{id} is going"))) };
        if permit::owner(&live).is_none_or(|(_, _, uid)| meta.uid.as_deref() != Some(uid)) {
            return Ok(Err(format!("Secret {} exists that is not of this run; delete it if nobody needs it", id.name)));
        }
        if !core::holds(&live, &record, index) {
            context.port.delete(executor, &id, &Precondition::of(&live), false, DryRun::No).await?;
            // The next pass reads anew.
            return Err(PortError::Unavailable(format!("{id} of an earlier attempt was deleted")));
        }
    }
    Ok(Ok(()))
}

/// Takes the manifests away once the Job has ended. Without an executor the garbage collector does when the Backup goes.
pub(super) async fn remove<P: Port>(
    context: &Context<P>,
    backup: &Backup,
    executor: Option<&Identity>,
) -> Result<(), PortError> {
    let record = backup.status.as_ref().and_then(|status| status.objects.as_ref());
    let (Some(record), Some(executor)) = (record, executor) else { return Ok(()) };
    for index in 0..record.secrets {
        let id = secret_id(backup, index);
        let Some(live) = context.port.live_get(&Identity::Controller, &id).await? else { continue };
        if permit::owner(&live).is_none_or(|(_, _, uid)| backup.metadata.uid.as_deref() != Some(uid)) {
            continue;
        }
        match context.port.delete(executor, &id, &Precondition::of(&live), false, DryRun::No).await {
            Err(PortError::Forbidden(why)) => {
                tracing::warn!(
                    secret = id.to_string(),
                    why,
                    "manifests of a run that ended stay until its record goes"
                );
            }
            answer => answer?,
        }
    }
    Ok(())
}

/// Whether the write of a Secret is one that a run of `source.objects` makes.
///
/// # Errors
/// Something cannot be read: nobody knows.
pub(super) async fn permits<P: Port>(context: &Context<P>, request: &WriteRequest) -> Result<bool, PortError> {
    let secret = match request.operation {
        Operation::Create => request.object.as_ref(),
        Operation::Delete => request.old.as_ref(),
        Operation::Update | Operation::Connect => None,
    };
    let is_ours = |secret: &&Value| secret.get("type").and_then(Value::as_str) == Some(core::SECRET_TYPE);
    let Some(secret) = secret.filter(is_ours) else { return Ok(false) };
    let Some(("Backup", name, uid)) = permit::owner(secret) else { return Ok(false) };
    let key = format!("{}/{name}", request.namespace.as_deref().unwrap_or_default());
    let backup: Option<Backup> = observe::own(context, "Backup", &key).await?;
    let backup = backup.filter(|backup| backup.metadata.uid.as_deref() == Some(uid));
    Ok(match request.operation {
        Operation::Create => backup.is_some_and(|backup| core::may_store(secret, &backup)),
        _ => core::may_remove(secret, backup.as_ref()),
    })
}
