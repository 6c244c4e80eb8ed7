//! Deletion.

use std::sync::Arc;

use interlock_core::admission::Operation;
use interlock_core::port::Precondition;
use serde_json::{Value, json};

use super::error::ApiError;
use super::log::EventType;
use super::write::{Prepared, Propagation, Verb};
use super::{Api, meta};

pub(super) const ORPHAN: &str = "orphan";
pub(super) const FOREGROUND: &str = "foregroundDeletion";

/// Whether an object that is being deleted waits for nothing any more.
pub(super) fn is_finished(object: &Value) -> bool {
    let of_namespace = object.pointer("/spec/finalizers").and_then(Value::as_array);
    let waits = object.get("kind").is_some_and(|kind| kind == "Namespace")
        && of_namespace.is_some_and(|listed| !listed.is_empty());
    let grace = object.pointer("/metadata/deletionGracePeriodSeconds").and_then(Value::as_i64).unwrap_or(0);
    meta::is_terminating(object) && meta::finalizers(object).is_empty() && !waits && grace == 0
}

pub(super) fn prepare(prepared: &mut Prepared, precondition: &Precondition) -> Result<(), ApiError> {
    prepared.operation = Operation::Delete;
    let (resource, name) = (prepared.info.resource(), &prepared.key.name);
    let Some(old) = &prepared.old else {
        return Err(ApiError::not_found(&resource, name));
    };
    let (uid, version) = (meta::uid(old), meta::resource_version(old));
    // These two name the kind, not the resource.
    let kind = prepared.info.qualified_kind();
    if let Some(wanted) = precondition.uid.as_ref().filter(|wanted| *wanted != uid) {
        let why = format!(
            "the UID in the precondition ({wanted}) does not match the UID in record ({uid}). The object might have \
             been deleted and then recreated"
        );
        return Err(ApiError::conflict(&kind, name, &why));
    }
    if let Some(wanted) = precondition.resource_version.as_ref().filter(|wanted| *wanted != version) {
        let why = format!(
            "the ResourceVersion in the precondition ({wanted}) does not match the ResourceVersion in record \
             ({version}). The object might have been modified"
        );
        return Err(ApiError::conflict(&kind, name, &why));
    }
    if prepared.info.is("", "Namespace") && ["default", "kube-system", "kube-public"].contains(&name.as_str()) {
        return Err(ApiError::forbidden(&resource, name, "this namespace may not be deleted"));
    }
    prepared.is_conditional = precondition.resource_version.is_some();
    Ok(())
}

impl Api {
    pub(super) fn commit_delete(&mut self, prepared: &Prepared) -> Result<Arc<Value>, ApiError> {
        let Verb::Delete { propagation, .. } = &prepared.write.verb else {
            return Err(ApiError::bad_request("not a deletion"));
        };
        let Some(old) = prepared.old.clone() else {
            return Err(ApiError::not_found(&prepared.info.resource(), &prepared.key.name));
        };
        let mut new = (*old).clone();
        self.mark_deleted(&mut new, *propagation);
        if prepared.write.dry_run {
            return Ok(if is_finished(&new) { old } else { Arc::new(new) });
        }
        if is_finished(&new) {
            self.remove(&prepared.key);
            return Ok(old);
        }
        Ok(if new == *old { old } else { self.put(&prepared.key, new, EventType::Modified) })
    }

    fn mark_deleted(&self, object: &mut Value, propagation: Propagation) {
        let is_namespace = object.get("kind").is_some_and(|kind| kind == "Namespace");
        let mut finalizers = meta::finalizers(object);
        finalizers.retain(|name| name != ORPHAN && name != FOREGROUND);
        match propagation {
            Propagation::Background => {}
            Propagation::Foreground => finalizers.push(FOREGROUND.to_owned()),
            Propagation::Orphan => finalizers.push(ORPHAN.to_owned()),
        }
        meta::set(object, "finalizers", (!finalizers.is_empty()).then(|| json!(finalizers)));
        if meta::is_terminating(object) {
            return;
        }
        meta::set(object, "deletionTimestamp", Some(json!(super::whole_seconds(self.now))));
        let grace = (!is_namespace).then(|| json!(0));
        meta::set(object, "deletionGracePeriodSeconds", grace);
        let generation = object.pointer("/metadata/generation").and_then(Value::as_i64);
        if let Some(generation) = generation {
            meta::set(object, "generation", Some(json!(generation + 1)));
        }
        if is_namespace && let Some(status) = object.get_mut("status").and_then(Value::as_object_mut) {
            status.insert("phase".to_owned(), json!("Terminating"));
        }
    }
}
