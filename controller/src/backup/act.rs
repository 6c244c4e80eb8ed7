//! Acting: status, Jobs and finalizers.

use interlock_core::{
    change::FIELD_MANAGER,
    object::{Digest, ObjectId},
    port::{DryRun, Identity, Note, Port, PortError, Precondition},
};
use interlock_crds::API_VERSION;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde_json::{Value, json};

use super::{observe::job_id, unreadable};
use crate::change::Context;

/// An object by its identity alone.
pub fn reference(kind: &str, meta: &ObjectMeta) -> Value {
    json!({
        "apiVersion": API_VERSION,
        "kind": kind,
        "metadata": {
            "name": meta.name, "namespace": meta.namespace, "uid": meta.uid, "resourceVersion": meta.resource_version,
        },
    })
}

/// Records a status; the resourceVersion under which the object was read is the precondition. What is stored then.
pub async fn record<P: Port>(
    context: &Context<P>,
    kind: &str,
    meta: &mut ObjectMeta,
    spec: &impl Serialize,
    status: &impl Serialize,
) -> Result<(), PortError> {
    let mut object = reference(kind, meta);
    let name = meta.name.clone().unwrap_or_default();
    if let Some(fields) = object.as_object_mut() {
        fields.insert("spec".to_owned(), serde_json::to_value(spec).map_err(|error| unreadable(&name, &error))?);
        fields.insert("status".to_owned(), serde_json::to_value(status).map_err(|error| unreadable(&name, &error))?);
    }
    let stored = context.port.replace_status(&object).await?;
    let version = stored.pointer("/metadata/resourceVersion").and_then(Value::as_str);
    meta.resource_version = version.map(ToOwned::to_owned).or(meta.resource_version.take());
    Ok(())
}

/// Tells people, as often as it happens.
pub async fn tell<P: Port>(context: &Context<P>, object: &Value, warning: bool, reason: &str, message: String) {
    context.port.note(object, &note(object, warning, reason, message)).await;
}

/// Tells people once, before what is told is recorded. `of` says which time it is, and is the same until it is recorded: whoever
/// dies in between tells it again under the same name, and it stands there once.
pub async fn tell_once<P: Port>(
    context: &Context<P>,
    object: &Value,
    of: &str,
    warning: bool,
    reason: &str,
    message: String,
) {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let digest = Digest::of_bytes(format!("{} {reason} {of}", text("/metadata/uid")).as_bytes()).to_string();
    let short: String = digest.chars().skip("sha256:".len()).take(16).collect();
    let name: String = text("/metadata/name").chars().take(200).collect();
    let note = note(object, warning, reason, message);
    context.port.note_once(object, &note, &format!("{name}.{short}")).await;
}

fn note(object: &Value, warning: bool, reason: &str, message: String) -> Note {
    let action = match object.get("kind").and_then(Value::as_str) {
        Some("RestoreDrill" | "DrillRun") => "Drill",
        _ => "Backup",
    };
    Note { warning, reason: reason.to_owned(), action: action.to_owned(), message }
}

/// How a creation ended.
pub enum Created {
    /// It is there now, made by this call or before it.
    There,
    /// The server refused it for good, with these words.
    Refused(String),
}

/// Makes an object in the name of `identity`.
pub async fn create<P: Port>(context: &Context<P>, identity: &Identity, object: &Value) -> Result<Created, PortError> {
    match context.port.create(identity, FIELD_MANAGER, object, DryRun::No).await {
        Ok(_) | Err(PortError::AlreadyExists(_)) => Ok(Created::There),
        Err(PortError::Forbidden(why) | PortError::Invalid(why) | PortError::NotFound(why)) => {
            Ok(Created::Refused(why))
        }
        Err(error) => Err(error),
    }
}

/// Deletes the Job with this uid and its pods.
pub async fn stop_job<P: Port>(
    context: &Context<P>,
    executor: &Identity,
    (namespace, name): (&str, &str),
    uid: String,
) -> Result<(), PortError> {
    let precondition = Precondition { uid: Some(uid), resource_version: None };
    match context.port.delete(executor, &job_id(namespace, name), &precondition, true, DryRun::No).await {
        // Another one of its name is nobody's business here.
        Err(PortError::Conflict(_)) => Ok(()),
        answer => answer,
    }
}

/// Puts the finalizer `name` on or takes it off.
pub async fn finalizer<P: Port>(
    context: &Context<P>,
    id: &ObjectId,
    meta: &mut ObjectMeta,
    name: &str,
    kept: bool,
) -> Result<(), PortError> {
    let mut finalizers = meta.finalizers.clone().unwrap_or_default();
    if finalizers.iter().any(|finalizer| finalizer == name) == kept {
        return Ok(());
    }
    if kept {
        finalizers.push(name.to_owned());
    } else {
        finalizers.retain(|finalizer| finalizer != name);
    }
    let patch =
        json!({"metadata": {"finalizers": finalizers, "uid": meta.uid, "resourceVersion": meta.resource_version}});
    match context.port.merge_patch(&Identity::Controller, FIELD_MANAGER, id, &patch).await {
        Ok(stored) => {
            let version = stored.pointer("/metadata/resourceVersion").and_then(Value::as_str);
            meta.resource_version = version.map(ToOwned::to_owned).or(meta.resource_version.take());
            meta.finalizers = Some(finalizers);
            Ok(())
        }
        Err(PortError::NotFound(_)) => Ok(()),
        Err(error) => Err(error),
    }
}
