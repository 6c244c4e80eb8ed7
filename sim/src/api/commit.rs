//! The second half of a write: the server's fields, validation, storage.

use std::sync::Arc;

use interlock_core::admission::{Denial, MutateAnswer, Operation, Verdict};
use serde_json::{Value, json as value};

use super::error::ApiError;
use super::log::{Event, EventType};
use super::managers::{self, Manager};
use super::registry::Registry;
use super::store::Key;
use super::write::{Admission, Outcome, Pending, Prepared, Verb, Write};
use super::{Api, decode, delete, json, meta, strategy, validate};

/// What of a `generateName` fits before five generated letters.
const LONGEST_PREFIX: usize = 58;

impl Api {
    /// Applies what mutating admission answered.
    ///
    /// # Errors
    /// The denial, or 500 when the patch does not fit.
    pub fn mutate(&self, prepared: &mut Prepared, answer: MutateAnswer) -> Result<(), ApiError> {
        match answer {
            MutateAnswer::Nothing => Ok(()),
            MutateAnswer::Deny(denial) => Err(denied(&denial)),
            MutateAnswer::Patch(operations) => {
                let Some(new) = prepared.new.take() else {
                    return Ok(());
                };
                let mut patched = new;
                json::patch(&mut patched, &operations)
                    .map_err(|why| ApiError::new(500, "InternalError", format!("Internal error occurred: {why}")))?;
                prepared.new = Some(decode::decode(&prepared.info, patched)?);
                prepared.is_mutated = true;
                Ok(())
            }
        }
    }

    /// Everything between mutating and validating admission: the server's fields and validation.
    ///
    /// # Errors
    /// 422, and 403 or 409 of what a kind forbids.
    pub fn settle(&mut self, mut prepared: Prepared) -> Result<Pending, ApiError> {
        let Some(mut new) = prepared.new.take() else {
            return Ok(Pending { prepared, is_no_op: false });
        };
        let info = Arc::clone(&prepared.info);
        let mut is_no_op = false;
        match (prepared.operation, prepared.old.clone()) {
            (Operation::Create, _) => {
                self.name_and_date(&mut prepared.key, &mut new);
                self.allocate(&info, &mut new, prepared.write.dry_run);
                strategy::prepare_create(&info, &mut new);
                validate::created(&info, &new)?;
            }
            (Operation::Update, Some(old)) => {
                if prepared.is_mutated {
                    strategy::before_managers(&info, prepared.write.subresource.as_deref(), &old, &mut new);
                }
                strategy::prepare_update(&info, &old, &mut new);
                if info.is("", "Service") {
                    self.allocate_addresses(&mut new, prepared.write.dry_run);
                }
                validate::updated(&info, &old, &new)?;
                is_no_op = strategy::same_but_times(&old, &new);
                if is_no_op {
                    new = (*old).clone();
                }
            }
            _ => {}
        }
        prepared.new = Some(new);
        Ok(Pending { prepared, is_no_op })
    }

    fn name_and_date(&mut self, key: &mut Key, new: &mut Value) {
        let prefix = meta::text(new, "generateName").map(ToOwned::to_owned);
        if let Some(prefix) = prefix.filter(|_| meta::name(new).is_empty()) {
            self.counted += 1;
            let beginning: String = prefix.chars().take(LONGEST_PREFIX).collect();
            let name = format!("{beginning}{}", super::suffix_of(self.counted));
            meta::set(new, "name", Some(value!(name)));
        }
        meta::name(new).clone_into(&mut key.name);
        self.counted += 1;
        meta::set(new, "uid", Some(value!(super::uid_of(self.counted))));
        meta::set(new, "creationTimestamp", Some(value!(super::whole_seconds(self.now))));
        meta::set(new, "selfLink", None);
    }

    /// Stores a settled write, if the object is still as it was when the write was prepared.
    ///
    /// # Errors
    /// 404, 409, and 500 of a create that carries a resourceVersion.
    pub fn commit(&mut self, pending: Pending) -> Result<Outcome, ApiError> {
        let Pending { prepared, is_no_op } = pending;
        let current = self.store.at(&prepared.key).cloned();
        let (resource, name) = (prepared.info.resource(), prepared.key.name.as_str());
        let plain_create = matches!(prepared.write.verb, Verb::Create(_));
        match (&prepared.old, &current) {
            (None, Some(current)) if plain_create => {
                let mut error = ApiError::already_exists(&resource, name);
                if meta::is_terminating(current) {
                    error.message = format!("object is being deleted: {}", error.message);
                }
                return Err(error);
            }
            (None, None) => {}
            (Some(old), Some(current)) if Arc::ptr_eq(old, current) => {}
            (Some(_), None) if !matches!(prepared.write.verb, Verb::Apply { .. }) => {
                return Err(ApiError::not_found(&resource, name));
            }
            _ if prepared.is_conditional => return Err(ApiError::modified(&resource, name)),
            _ => return Ok(Outcome::Changed),
        }
        if prepared.operation == Operation::Delete {
            return self.commit_delete(&prepared).map(Outcome::Done);
        }
        let Some(mut new) = prepared.new else {
            return Ok(Outcome::Changed);
        };
        let creates = prepared.operation == Operation::Create;
        if plain_create && meta::text(&new, "resourceVersion").is_some() {
            let message = "resourceVersion should not be set on objects to be created";
            return Err(ApiError::new(500, "", message));
        }
        if let (true, Some(old)) = (is_no_op, prepared.old.clone()) {
            return Ok(Outcome::Done(old));
        }
        if prepared.write.dry_run {
            if let Some(old) = &prepared.old {
                meta::keep(&mut new, old, "resourceVersion");
            }
            return Ok(Outcome::Done(Arc::new(new)));
        }
        if !creates && delete::is_finished(&new) {
            // The writer is told its own write; watches are told the last state that was stored.
            if let Some(old) = &prepared.old {
                meta::keep(&mut new, old, "resourceVersion");
            }
            self.remove(&prepared.key);
            return Ok(Outcome::Done(Arc::new(new)));
        }
        let change = if creates { EventType::Added } else { EventType::Modified };
        Ok(Outcome::Done(self.put(&prepared.key, new, change)))
    }

    /// Stores an object with a fresh resourceVersion.
    pub(super) fn put(&mut self, key: &Key, mut object: Value, change: EventType) -> Arc<Value> {
        self.rv += 1;
        meta::set(&mut object, "resourceVersion", Some(value!(self.rv.to_string())));
        if self.rv.is_multiple_of(super::REST) {
            self.store.rest();
        }
        let object = Arc::new(object);
        let before = self.store.at(key).cloned();
        self.store.put(key, Arc::clone(&object));
        if is_definition(key)
            && let Some(info) = Registry::of_definition(&object)
        {
            self.registry.add(info);
        }
        self.log.push(Event { rv: self.rv, change, kind: key.kind.clone(), object: Arc::clone(&object), before });
        if change == EventType::Added && is_definition(key) {
            // The kind is served at once; the real server needs a moment.
            let mut served = (*object).clone();
            if let Some(fields) = served.as_object_mut() {
                fields.insert("status".to_owned(), strategy::established(&object));
            }
            let time = super::whole_seconds(self.now);
            let manager = Manager { name: "kube-apiserver".to_owned(), subresource: Some("status".to_owned()), time };
            if let Some(info) = self.registry.get(&key.kind).cloned() {
                managers::record_update(&info, Some(&object), &mut served, &manager);
            }
            self.put(key, served, EventType::Modified);
        }
        object
    }

    /// Removes an object; watches are told its last stored state, with a fresh resourceVersion.
    pub(super) fn remove(&mut self, key: &Key) {
        let Some(before) = self.store.at(key).cloned() else {
            return;
        };
        self.store.remove(key);
        self.rv += 1;
        let mut last = (*before).clone();
        meta::set(&mut last, "resourceVersion", Some(value!(self.rv.to_string())));
        if is_definition(key)
            && let Some(info) = Registry::of_definition(&last)
        {
            self.registry.remove(&info.group_kind());
        }
        self.log.push(Event {
            rv: self.rv,
            change: EventType::Deleted,
            kind: key.kind.clone(),
            object: Arc::new(last),
            before: Some(before),
        });
    }

    /// A write with webhooks that answer at once.
    ///
    /// # Errors
    /// Whatever the server would answer, or the webhook's denial.
    // A write is made for one call; taking it reads better at every caller.
    #[allow(clippy::needless_pass_by_value)]
    pub fn write_admitted(&mut self, write: Write, admission: &mut dyn Admission) -> Result<Arc<Value>, ApiError> {
        // Nothing changes between the halves unless a webhook does it, so a few attempts are plenty.
        for _ in 0..5 {
            let mut prepared = self.prepare(write.clone())?;
            let answer = admission.mutate(&prepared.request());
            self.mutate(&mut prepared, answer)?;
            let pending = self.settle(prepared)?;
            if let Verdict::Deny(denial) = admission.validate(&pending.request()) {
                return Err(denied(&denial));
            }
            if let Outcome::Done(object) = self.commit(pending)? {
                return Ok(object);
            }
        }
        Err(ApiError::new(409, "Conflict", "the object kept changing"))
    }
}

fn is_definition(key: &Key) -> bool {
    key.kind.is("apiextensions.k8s.io", "CustomResourceDefinition")
}

/// A webhook's denial as the server passes it on. The name of the webhook, which the server puts in front, is the
/// caller's to add.
fn denied(denial: &Denial) -> ApiError {
    ApiError::new(denial.code, &denial.reason, &denial.message)
}
