//! Acting: the status first, then the writes that it announces, as the System's executor.

use interlock_core::{
    change::{FIELD_MANAGER, gradual::FINALIZER},
    object::ObjectId,
    port::{DryRun, Identity, Note, Port, PortError},
    rollout::PlannedWrite,
};
use interlock_crds::{API_VERSION, Form, GROUP, OperationKind, RolloutStatus, VERSION};
use serde_json::{Value, json};

use super::observe::Observed;
use crate::change::Context;

/// Records the status unless it stands there already; whether it was written. The resourceVersion under which the Rollout
/// was read is the precondition. People are told first: who dies in between tells them once more.
pub async fn record<P: Port>(
    context: &Context<P>,
    observed: &mut Observed,
    status: RolloutStatus,
    notes: &[Note],
) -> Result<bool, PortError> {
    if *observed.status() == status {
        return Ok(false);
    }
    for note in notes {
        let (name, reason, message) = (&observed.rollout.metadata.name, &note.reason, &note.message);
        tracing::info!(rollout = name, reason, message, "the release moves on");
        context.port.note(&reference(observed), note).await;
    }
    let mut object = reference(observed);
    if let Some(fields) = object.as_object_mut() {
        fields.insert("spec".to_owned(), serde_json::to_value(&observed.rollout.spec).map_err(|e| invalid(&e))?);
        fields.insert("status".to_owned(), serde_json::to_value(&status).map_err(|e| invalid(&e))?);
    }
    let stored = context.port.replace_status(&object).await?;
    let version = stored.pointer("/metadata/resourceVersion").and_then(Value::as_str).map(ToOwned::to_owned);
    observed.recorded(status, version);
    context.learn_rollout(stored);
    Ok(true)
}

/// Makes the announced writes. Fails with the first that does.
pub async fn write<'w, P: Port>(
    context: &Context<P>,
    observed: &Observed,
    writes: &'w [PlannedWrite],
) -> Result<(), (&'w PlannedWrite, PortError)> {
    let Some((run, _)) = &observed.run else { return Ok(()) };
    let executor = Identity::Impersonate(run.executor.clone());
    let port = &context.port;
    for write in writes {
        tracing::info!(rollout = observed.rollout.metadata.name, object = %write.id, form = ?write.form, "writing");
        // Rollouts are Interlock's own records.
        let identity = if write.form == Form::WaveRollout { &Identity::Controller } else { &executor };
        let made = match (write.operation, &write.object) {
            (OperationKind::Create, Some(object)) => {
                port.create(identity, FIELD_MANAGER, object, DryRun::No).await.map(drop)
            }
            // The object carries the uid and resourceVersion that it was computed from.
            (OperationKind::Update, Some(object)) => {
                port.replace(identity, FIELD_MANAGER, object, DryRun::No).await.map(drop)
            }
            (OperationKind::Delete, _) => {
                port.delete(identity, &write.id, &write.precondition, write.foreground, DryRun::No).await
            }
            (OperationKind::Create | OperationKind::Update | OperationKind::RunJob, _) => Ok(()),
        };
        made.map_err(|error| (write, error))?;
    }
    Ok(())
}

/// A write was refused by a rule, not by chance: people are told.
pub async fn refused<P: Port>(context: &Context<P>, observed: &Observed, error: &PortError) {
    tracing::warn!(rollout = observed.rollout.metadata.name, %error, "a write was refused");
    let note = Note {
        warning: true,
        reason: "Refused".to_owned(),
        action: "Release".to_owned(),
        message: format!("a write was refused and is tried again: {error}"),
    };
    context.port.note(&reference(observed), &note).await;
}

/// Takes the finalizer off: nothing of the release is left.
pub async fn release<P: Port>(context: &Context<P>, observed: &Observed) -> Result<(), PortError> {
    let meta = &observed.rollout.metadata;
    let finalizers = meta.finalizers.clone().unwrap_or_default();
    if !finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
        return Ok(());
    }
    let left: Vec<_> = finalizers.into_iter().filter(|finalizer| finalizer != FINALIZER).collect();
    let id = ObjectId {
        group: GROUP.to_owned(),
        version: VERSION.to_owned(),
        kind: "Rollout".to_owned(),
        namespace: meta.namespace.clone(),
        name: meta.name.clone().unwrap_or_default(),
    };
    let patch =
        json!({"metadata": {"finalizers": left, "uid": meta.uid, "resourceVersion": observed.resource_version}});
    match context.port.merge_patch(&Identity::Controller, FIELD_MANAGER, &id, &patch).await {
        Ok(_) | Err(PortError::NotFound(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

fn reference(observed: &Observed) -> Value {
    let meta = &observed.rollout.metadata;
    json!({
        "apiVersion": API_VERSION,
        "kind": "Rollout",
        "metadata": {
            "name": meta.name, "namespace": meta.namespace, "uid": meta.uid,
            "resourceVersion": observed.resource_version,
        },
    })
}

fn invalid(error: &serde_json::Error) -> PortError {
    PortError::Invalid(error.to_string())
}
