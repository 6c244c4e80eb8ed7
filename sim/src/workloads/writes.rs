//! The writes that the controllers share.

use std::sync::Arc;

use interlock_core::object::{GroupKind, ObjectId};
use serde_json::{Value, json};

use super::read;
use crate::api::{Api, ApiError, Key, Verb, meta};

/// The object of a key, unless it is being deleted.
pub(super) fn live(api: &Api, key: &Key) -> Option<Arc<Value>> {
    api.get_arc(&key.kind, &key.namespace, &key.name).filter(|object| !meta::is_terminating(object))
}

/// The objects of a kind that this object controls, in order of name.
pub(super) fn controlled(api: &Api, owner: &Value, group: &str, kind: &str) -> Vec<Arc<Value>> {
    let (uid, kind) = (meta::uid(owner), GroupKind::new(group, kind));
    let mut found = api.dependants(uid);
    found.retain(|object| {
        read::key(object).kind == kind
            && read::controller(object).is_some_and(|controller| read::text(controller, "/uid") == uid)
    });
    found
}

/// The pods that this object controls.
pub(super) fn pods(api: &Api, owner: &Value) -> Vec<Arc<Value>> {
    controlled(api, owner, "", "Pod")
}

/// The reference by which this object controls another.
pub(super) fn reference_to(owner: &Value) -> Value {
    json!({
        "apiVersion": read::text(owner, "/apiVersion"),
        "kind": read::text(owner, "/kind"),
        "name": meta::name(owner),
        "uid": meta::uid(owner),
        "controller": true,
        "blockOwnerDeletion": true,
    })
}

/// Writes a status if it differs.
pub(super) fn put_status(api: &mut Api, controller: &str, live: &Value, status: Value) -> Result<(), ApiError> {
    if live.get("status") == Some(&status) {
        return Ok(());
    }
    api.write_status_as_system(controller, with_status(live, status)).map(drop)
}

/// The object with another status.
pub(super) fn with_status(live: &Value, status: Value) -> Value {
    let fields = live.as_object().into_iter().flatten().filter(|(name, _)| *name != "status");
    let mut new: Value = fields.map(|(name, value)| (name.clone(), value.clone())).collect();
    set(&mut new, "status", status);
    new
}

/// Writes a status, and what else a controller may write with it, if anything differs.
pub(super) fn put_whole_status(api: &mut Api, controller: &str, live: &Value, new: Value) -> Result<(), ApiError> {
    if *live == new {
        return Ok(());
    }
    api.write_status_as_system(controller, new).map(drop)
}

/// Merge patch of an object by a controller.
pub(super) fn patch(api: &mut Api, controller: &str, live: &Value, patch: Value) -> Result<Arc<Value>, ApiError> {
    let id = ObjectId::of(live).map_err(|error| ApiError::bad_request(error.to_string()))?;
    api.write_as_system(controller, Verb::MergePatch { id, patch })
}

/// Creates an object by a controller.
pub(super) fn create(api: &mut Api, controller: &str, object: Value) -> Result<Arc<Value>, ApiError> {
    api.write_as_system(controller, Verb::Create(object))
}

/// Creates an object by a controller unless it exists.
pub(super) fn ensure(api: &mut Api, controller: &str, object: Value) -> Result<(), ApiError> {
    let key = read::key(&object);
    if api.get_arc(&key.kind, &key.namespace, &key.name).is_some() {
        return Ok(());
    }
    create(api, controller, object).map(drop)
}

/// Sets a field of an object.
pub(super) fn set(object: &mut Value, field: &str, value: Value) {
    if let Some(fields) = object.as_object_mut() {
        fields.insert(field.to_owned(), value);
    }
}

/// Sets a field of an object unless it is zero: the API leaves zeros out.
pub(super) fn set_count(object: &mut Value, field: &str, count: i64) {
    if count != 0 {
        set(object, field, json!(count));
    }
}
