//! Reading objects as the invariants need them.

use std::sync::Arc;

use interlock_core::object::{ObjectId, Path, apply_partial, get, stated_paths, strip_server_fields};
use interlock_crds::{ChangeRequest, GROUP};
use interlock_sim::api::meta;
use serde_json::Value;

use crate::{cluster::Audit, world::World};

pub(super) fn change_of(audit: &Audit) -> Option<ChangeRequest> {
    (audit.id.group == GROUP && audit.id.kind == "ChangeRequest").then(|| parsed(audit.new.as_ref()?)).flatten()
}

pub(super) fn parsed(object: &Arc<Value>) -> Option<ChangeRequest> {
    serde_json::from_value((**object).clone()).ok()
}

pub(super) fn is_running(change: &ChangeRequest) -> bool {
    change.status.as_ref().is_some_and(|status| status.run.is_some() && status.finished.is_none())
}

/// Whether a change is carried out by a Rollout: it names a plan, or its System does.
pub(super) fn is_gradual(world: &World, change: &ChangeRequest) -> bool {
    let namespace = change.metadata.namespace.clone().unwrap_or_default();
    let of_system = || {
        world.objects(GROUP, "System").iter().any(|system| {
            let claimed = system.pointer("/spec/namespaces").and_then(Value::as_array);
            claimed.into_iter().flatten().any(|claimed| claimed.as_str() == Some(&namespace))
                && system.pointer("/spec/defaultRolloutPlanRef").is_some()
        })
    };
    change.spec.rollout_plan_ref.is_some() || of_system()
}

/// Every object that a change states: its manifests, and the Secrets of its staged ones.
pub(super) fn ids(change: &ChangeRequest) -> Vec<ObjectId> {
    let manifests = change.spec.content.manifests.iter().flatten().filter_map(|m| ObjectId::of(m).ok());
    let secrets = change.spec.content.secret_refs.iter().map(|secret| ObjectId {
        group: String::new(),
        version: "v1".to_owned(),
        kind: "Secret".to_owned(),
        namespace: change.metadata.namespace.clone(),
        name: secret.target.clone(),
    });
    manifests.chain(secrets).collect()
}

/// Whether an object that became `new` is as the change states it.
pub(super) fn is_forward(
    world: &World,
    change: &ChangeRequest,
    id: &ObjectId,
    old: Option<&Value>,
    new: Option<&Value>,
) -> bool {
    let mut manifests = change.spec.content.manifests.iter().flatten();
    let Some(manifest) = manifests.find(|m| ObjectId::of(m).is_ok_and(|stated| stated.same_object(id))) else {
        return is_staged(world, change, id, new);
    };
    let operation = manifest
        .pointer("/metadata/annotations")
        .and_then(|a| a.get(interlock_core::change::OPERATION_ANNOTATION))
        .and_then(Value::as_str);
    let Some(new) = new.filter(|new| !meta::is_terminating(new)) else {
        return operation == Some("Delete");
    };
    if operation == Some("Delete") {
        return false;
    }
    let mut manifest = manifest.clone();
    if let Some(metadata) = manifest.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("annotations");
    }
    let kind = id.group_kind();
    let stands = stated_paths(&kind, &manifest).iter().all(|(path, value)| same(new, path, value));
    // Beside what is stated, a part changes nothing.
    let part = operation == Some("Patch");
    stands
        && (!part || old.is_none_or(|old| plain(Some(&apply_partial(&kind, Some(old), &manifest))) == plain(Some(new))))
}

/// Whether a Secret has the values of the staged one that the change names.
fn is_staged(world: &World, change: &ChangeRequest, id: &ObjectId, new: Option<&Value>) -> bool {
    let refs = &change.spec.content.secret_refs;
    let Some(reference) = refs.iter().find(|r| id.kind == "Secret" && r.target == id.name) else { return false };
    let namespace = change.metadata.namespace.as_deref().unwrap_or_default();
    let staged = world.object("", "Secret", namespace, &reference.name);
    staged.is_some_and(|staged| {
        meta::uid(&staged) == reference.uid && new.is_some_and(|new| new.get("data") == staged.get("data"))
    })
}

/// Whether the value stands there; null stands for none.
fn same(object: &Value, path: &Path, value: &Value) -> bool {
    get(object, path).unwrap_or(&Value::Null) == value
}

/// The object without what the server makes.
pub(super) fn plain(object: Option<&Value>) -> Option<Value> {
    let mut object = object?.clone();
    strip_server_fields(&mut object);
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    if let Some(annotations) = object.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.remove("deployment.kubernetes.io/revision");
        if annotations.is_empty()
            && let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut)
        {
            metadata.remove("annotations");
        }
    }
    Some(object)
}
