//! The simulated kube-apiserver: objects, their versions and their managers, synchronous and deterministic.
//!
//! A write has three steps, so that a webhook that reads the API itself can judge it in between:
//! [`Api::prepare`] authorises, merges and defaults; [`Prepared`] is what mutating admission sees, and
//! [`Api::mutate`] applies its answer. [`Api::settle`] fills in the server's fields and validates; [`Pending`] is what
//! validating admission sees. [`Api::commit`] stores it, unless the object changed meanwhile. [`Api::write`] does all
//! of it without webhooks, [`Api::write_admitted`] with ones that answer at once.
//!
//! Time is what [`Api::set_time`] says; uids and generated names count up. What a server does later by itself happens
//! in steps: [`Api::collect_garbage`] and [`Api::finish_namespaces`].
//!
//! Objects, `managedFields` and messages were compared with those of a kube-apiserver 1.37.2.
//!
//! An empty list that is applied to a built-in kind is owned as such; a real server forgets it.
//!
//! The suite `tests/tests/e2e/fidelity` plays several hundred requests here and on a real server and compares each answer; what
//! differs on purpose is listed there, in `exceptions.rs`.
//!
//! Not modelled: conversion between versions (each kind has one), pagination, the counting of quotas, grace periods (a
//! Pod is gone at once), the subresources scale, eviction and binding (a Pod's `spec.nodeName` may be written while it is
//! unset), RBAC (see [`Authorizer`]), validation of status, and of built-in kinds whatever `validate` does not name. CEL rules
//! of custom resources are evaluated, but their cost is not counted, and a rule is checked for types only when it runs.
//! Every write is validated as with `fieldValidation=Strict`.

use std::sync::Arc;

use interlock_core::admission::User;
use interlock_core::object::{GroupKind, ObjectId};
use interlock_core::port::Precondition;
use jiff::Timestamp;
use serde_json::Value;

mod auth;
mod error;
mod log;
pub mod meta;
mod quantities;
mod registry;
mod schema;
mod select;
mod slot;
mod store;
mod watch;
mod write;

pub(crate) use schema::compiled as pattern;

pub use auth::{Access, Authorizer, DenyRule};
pub use error::{ApiError, Cause, Details};
pub use log::{Event, EventType};
pub use registry::{KindInfo, Registry};
pub use select::{Selector, label_selector_matches};
pub use store::Key;
pub use watch::{Since, WatchEvent, Watched};
pub use write::{Admission, NoAdmission, Outcome, Pending, Prepared, Propagation, Verb, Write};

mod addresses;
mod apply;
mod bootstrap;
mod commit;
mod decode;
mod defaults;
mod delete;
mod fields;
mod garbage;
mod json;
mod kinds;
mod managers;
mod pod_admission;
mod prepare;
mod strategy;
mod typed;
mod validate;
mod walk;
mod zero;

/// The answer to a list.
#[derive(Clone, Debug)]
pub struct Listing {
    /// The objects in order of namespace and name.
    pub items: Vec<Arc<Value>>,
    /// The resourceVersion of the whole: a watch goes on from here.
    pub rv: u64,
}

/// The server.
#[derive(Clone, Debug)]
pub struct Api {
    now: Timestamp,
    rv: u64,
    counted: u64,
    addresses: u32,
    /// The resourceVersion after which the garbage collector found nothing to do.
    collected: u64,
    registry: Registry,
    store: store::Store,
    log: log::Log,
    authorizer: Authorizer,
}

impl Api {
    /// A server with the built-in kinds, Interlock's definitions and the namespaces every cluster has.
    pub fn new(start: Timestamp) -> Self {
        let mut api = Self {
            now: start,
            rv: 0,
            counted: 0,
            addresses: 0,
            collected: 0,
            registry: Registry::built_in(),
            store: store::Store::default(),
            log: log::Log::default(),
            authorizer: Authorizer::default(),
        };
        api.bootstrap();
        api
    }

    /// The present instant.
    pub const fn now(&self) -> Timestamp {
        self.now
    }

    /// Moves the clock; it never goes back.
    pub fn set_time(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
    }

    /// The server's clock is set, forward or back, as by somebody who corrects it.
    pub const fn set_clock(&mut self, now: Timestamp) {
        self.now = now;
    }

    /// The kinds.
    pub const fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The rules of denial, to be changed at run time.
    pub const fn authorizer(&mut self) -> &mut Authorizer {
        &mut self.authorizer
    }

    /// The newest resourceVersion.
    pub const fn resource_version(&self) -> u64 {
        self.rv
    }

    /// GET by a user.
    ///
    /// # Errors
    /// 403, or 404 of the object or its kind.
    pub fn get(&self, user: &User, id: &ObjectId) -> Result<Arc<Value>, ApiError> {
        let info = self.registry.find(&id.group, &id.version, &id.kind)?;
        let namespace = id.namespace.as_deref().unwrap_or_default();
        let access = Access { user, verb: "get", info, subresource: None, namespace, name: &id.name };
        self.authorizer.check(&access)?;
        let found = self.store.get(&info.group_kind(), namespace, &id.name);
        found.cloned().ok_or_else(|| ApiError::not_found(&info.resource(), &id.name))
    }

    /// LIST by a user, in a namespace or in all.
    ///
    /// # Errors
    /// 403, or 404 of the kind.
    pub fn list(
        &self,
        user: &User,
        (group, version, kind): (&str, &str, &str),
        namespace: Option<&str>,
        selector: &Selector,
    ) -> Result<Listing, ApiError> {
        let info = self.registry.find(group, version, kind)?;
        let within = namespace.unwrap_or_default();
        let access = Access { user, verb: "list", info, subresource: None, namespace: within, name: "" };
        self.authorizer.check(&access)?;
        selector.check(info)?;
        let items = self.store.list(&info.group_kind(), namespace).filter(|object| selector.matches(object));
        Ok(Listing { items: items.cloned().collect(), rv: self.rv })
    }

    /// Reads without authorisation; `namespace` is empty for cluster-scoped kinds.
    pub fn get_arc(&self, kind: &GroupKind, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.store.get(kind, namespace, name).cloned()
    }

    /// Lists without authorisation, in order of namespace and name.
    pub fn list_arc(&self, kind: &GroupKind, namespace: Option<&str>) -> Vec<Arc<Value>> {
        self.store.list(kind, namespace).cloned().collect()
    }

    /// The same one by one, for somebody who looks at each of them once.
    pub fn glance<'a>(
        &'a self,
        kind: &GroupKind,
        namespace: Option<&'a str>,
    ) -> impl Iterator<Item = Arc<Value>> + use<'a> {
        self.store.glance(kind, namespace)
    }

    /// Every object, in order of kind, namespace and name.
    pub fn all(&self) -> impl Iterator<Item = Arc<Value>> {
        self.store.all()
    }

    /// The object that has this uid.
    pub fn by_uid(&self, uid: &str) -> Option<Arc<Value>> {
        self.store.key_of_uid(uid).and_then(|key| self.store.at(key)).cloned()
    }

    /// The objects that name this uid among their owners.
    pub fn dependants(&self, uid: &str) -> Vec<Arc<Value>> {
        self.store.dependants(uid).iter().filter_map(|key| self.store.at(key)).cloned().collect()
    }

    /// The log after a resourceVersion, of one kind or of all.
    ///
    /// # Errors
    /// 410 when the log no longer reaches back so far.
    pub fn events_since<'a>(
        &'a self,
        rv: u64,
        kind: Option<&'a GroupKind>,
    ) -> Result<impl Iterator<Item = &'a Event>, ApiError> {
        Ok(self.log.since(rv)?.filter(move |event| kind.is_none_or(|kind| event.kind == *kind)))
    }

    /// Forgets the log up to a resourceVersion.
    pub fn compact(&mut self, rv: u64) {
        self.log.compact(rv.min(self.rv));
    }

    /// A write without webhooks.
    ///
    /// # Errors
    /// Whatever the server would answer.
    pub fn write(&mut self, write: Write) -> Result<Arc<Value>, ApiError> {
        let prepared = self.prepare(write)?;
        let pending = self.settle(prepared)?;
        match self.commit(pending)? {
            Outcome::Done(object) => Ok(object),
            // Nothing happens between the halves.
            Outcome::Changed => Err(ApiError::new(409, "Conflict", "the object kept changing")),
        }
    }

    /// A write of a built-in controller (`system:serviceaccount:kube-system:<controller>`, manager
    /// `kube-controller-manager`), without webhooks.
    ///
    /// # Errors
    /// Whatever the server would answer.
    pub fn write_as_system(&mut self, controller: &str, verb: Verb) -> Result<Arc<Value>, ApiError> {
        self.write(Write::new(&system_user(controller), MANAGER, verb))
    }

    /// PUT of a status by a built-in controller.
    ///
    /// # Errors
    /// Whatever the server would answer.
    pub fn write_status_as_system(&mut self, controller: &str, object: Value) -> Result<Arc<Value>, ApiError> {
        self.write(Write::new(&system_user(controller), MANAGER, Verb::Replace(object)).on("status"))
    }

    /// DELETE by a built-in controller; done if the object is gone already.
    ///
    /// # Errors
    /// Whatever the server would answer, but for 404.
    pub fn delete_as_system(&mut self, controller: &str, object: &Value) -> Result<(), ApiError> {
        let id = ObjectId::of(object).map_err(|error| ApiError::bad_request(error.to_string()))?;
        let precondition = Precondition { uid: Some(meta::uid(object).to_owned()), resource_version: None };
        let verb = Verb::Delete { id, precondition, propagation: Propagation::Background };
        match self.write_as_system(controller, verb) {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }
}

/// The uid of the n-th thing that needed one.
fn uid_of(counted: u64) -> String {
    format!("{:08x}-0000-4000-8000-{counted:012x}", counted.wrapping_mul(0x9e37_79b9) & 0xffff_ffff)
}

/// The five characters that the server appends to `generateName`, here counted.
fn suffix_of(counted: u64) -> String {
    const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    // An odd factor spreads neighbours without repeating within 27^5.
    let mut rest = counted.wrapping_mul(7_368_787) % 14_348_907;
    let mut suffix = String::new();
    for _ in 0..5 {
        suffix.push(char::from(LETTERS[(rest % 27) as usize]));
        rest /= 27;
    }
    suffix
}

/// A time as the API shows it.
fn whole_seconds(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// After so many writes, what was not read meanwhile is kept in less space.
const REST: u64 = 1024;

/// The field manager of the built-in controllers.
const MANAGER: &str = "kube-controller-manager";

/// The identity of a built-in controller, such as `deployment-controller`.
pub fn system_user(controller: &str) -> User {
    User {
        name: format!("system:serviceaccount:kube-system:{controller}"),
        groups: ["system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"]
            .map(ToOwned::to_owned)
            .to_vec(),
        claims: Vec::new(),
    }
}

#[cfg(test)]
mod tests;
