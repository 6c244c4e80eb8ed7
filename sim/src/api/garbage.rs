//! What follows from a deletion later: dependants without owners, the content of namespaces.

use std::sync::Arc;

use interlock_core::object::GroupKind;
use interlock_core::port::Precondition;
use serde_json::{Value, json};

use super::delete::{FOREGROUND, ORPHAN, is_finished};
use super::log::EventType;
use super::store::Key;
use super::strategy::{PROTECTION, VOLUME_PROTECTION};
use super::write::{Propagation, Verb};
use super::{Api, meta};

/// The identity of the garbage collector.
const COLLECTOR: &str = "generic-garbage-collector";
/// The identity of the namespace controller.
const NAMESPACES: &str = "namespace-controller";

/// What an object's owners are to it.
struct Owners {
    solid: usize,
    /// References to owners that are gone.
    dangling: Vec<String>,
    /// References to owners that wait for their dependants to go.
    waiting: Vec<String>,
}

impl Api {
    /// One step of the garbage collector: dependants of owners that are gone, or never were, are deleted; dependants of
    /// owners that are deleted in the foreground go first; orphaned ones lose their reference. Says whether anything
    /// changed: a cascade needs several steps.
    pub fn collect_garbage(&mut self) -> bool {
        if self.collected == self.rv {
            return false;
        }
        let before = self.rv;
        let mut last = None;
        while let Some(dependant) = self.store.next_unsettled(last.as_ref()) {
            if !self.store.is_dependant(&dependant) || self.collect(&dependant.1) {
                self.store.settle(&dependant);
            }
            last = Some(dependant);
        }
        self.finish_owners();
        self.release_claims();
        if self.rv == before {
            self.collected = before;
        }
        self.rv != before
    }

    /// Says whether nothing is left to do about the object until it or an owner changes.
    fn collect(&mut self, key: &Key) -> bool {
        let Some(object) = self.store.at(key).cloned() else {
            return true;
        };
        let owners = self.owners_of(key, &object);
        if owners.dangling.is_empty() && owners.waiting.is_empty() {
            return true;
        }
        if owners.solid > 0 {
            let gone: Vec<&String> = owners.dangling.iter().chain(&owners.waiting).collect();
            self.drop_references(key, &object, |uid| gone.iter().any(|other| *other == uid));
            return true;
        }
        if meta::is_terminating(&object) {
            return true;
        }
        let finalizers = meta::finalizers(&object);
        let has = |name: &str| finalizers.iter().any(|finalizer| finalizer == name);
        let is_owner = !self.store.dependants(meta::uid(&object)).is_empty();
        let propagation = match () {
            () if has(ORPHAN) => Propagation::Orphan,
            () if has(FOREGROUND) || (!owners.waiting.is_empty() && is_owner) => Propagation::Foreground,
            () => Propagation::Background,
        };
        self.delete_step(COLLECTOR, &object, propagation)
    }

    fn owners_of(&self, key: &Key, object: &Value) -> Owners {
        let mut owners = Owners { solid: 0, dangling: Vec::new(), waiting: Vec::new() };
        for reference in references(object) {
            let text = |field: &str| reference.get(field).and_then(Value::as_str).unwrap_or_default();
            let (group, _) = text("apiVersion").rsplit_once('/').unwrap_or(("", ""));
            let is_it = |owner: &Key| {
                owner.kind.is(group, text("kind"))
                    && owner.name == text("name")
                    && (owner.namespace.is_empty() || owner.namespace == key.namespace)
            };
            let owner = self.store.key_of_uid(text("uid")).filter(|owner| is_it(owner));
            match owner.and_then(|owner| self.store.at(owner)) {
                None => owners.dangling.push(text("uid").to_owned()),
                Some(owner) if is_waiting(owner) => owners.waiting.push(text("uid").to_owned()),
                Some(_) => owners.solid += 1,
            }
        }
        owners
    }

    /// Owners whose dependants are gone, or have been let go, go on.
    fn finish_owners(&mut self) {
        for owner in self.terminating(waits_for_collector) {
            let uid = meta::uid(&owner).to_owned();
            let dependants = self.store.dependants(&uid);
            let is_orphaning = meta::finalizers(&owner).iter().any(|name| name == ORPHAN);
            if is_orphaning {
                for key in &dependants {
                    if let Some(object) = self.store.at(key).cloned() {
                        self.drop_references(key, &object, |other| other == uid);
                    }
                }
            }
            let is_blocked = dependants.iter().filter_map(|key| self.store.at(key)).any(|object| blocks(object, &uid));
            if !is_blocked {
                self.drop_finalizers(&owner, &[ORPHAN, FOREGROUND]);
            }
        }
    }

    /// Claims that are being deleted go when no Pod uses them any more, volumes when they are not bound.
    fn release_claims(&mut self) {
        for claim in self.terminating(|object| is_core(object, "PersistentVolumeClaim")) {
            let pods = self.list_arc(&GroupKind::new("", "Pod"), Some(meta::namespace(&claim)));
            let uses = |pod: &Arc<Value>| {
                let volumes = pod.pointer("/spec/volumes").and_then(Value::as_array).into_iter().flatten();
                let mut names = volumes.filter_map(|volume| volume.pointer("/persistentVolumeClaim/claimName"));
                names.any(|name| name == meta::name(&claim))
            };
            if !pods.iter().any(uses) {
                self.drop_finalizers(&claim, &[PROTECTION]);
            }
        }
        for volume in self.list_arc(&GroupKind::new("", "PersistentVolume"), None) {
            let is_bound = volume.pointer("/status/phase").is_some_and(|phase| phase == "Bound");
            if meta::is_terminating(&volume) && !is_bound {
                self.drop_finalizers(&volume, &[VOLUME_PROTECTION]);
            }
        }
    }

    fn drop_references(&mut self, key: &Key, object: &Value, goes: impl Fn(&str) -> bool) {
        let kept: Vec<Value> = references(object)
            .filter(|reference| !goes(reference.get("uid").and_then(Value::as_str).unwrap_or_default()))
            .cloned()
            .collect();
        let mut new = object.clone();
        meta::set(&mut new, "ownerReferences", (!kept.is_empty()).then_some(Value::Array(kept)));
        if new != *object {
            self.put(key, new, EventType::Modified);
        }
    }

    fn drop_finalizers(&mut self, object: &Value, gone: &[&str]) {
        let Some(key) = self.store.key_of_uid(meta::uid(object)).cloned() else {
            return;
        };
        let mut new = object.clone();
        let kept: Vec<String> =
            meta::finalizers(object).into_iter().filter(|name| !gone.contains(&name.as_str())).collect();
        meta::set(&mut new, "finalizers", (!kept.is_empty()).then(|| json!(kept)));
        if is_finished(&new) {
            self.remove(&key);
        } else if new != *object {
            self.put(&key, new, EventType::Modified);
        }
    }

    /// What is being deleted and fits, in order of kind, namespace and name.
    fn terminating(&self, fits: impl Fn(&Value) -> bool) -> Vec<Arc<Value>> {
        self.store.terminating().map(|(_, object)| object).filter(|object| fits(object)).cloned().collect()
    }

    /// Says whether it was deleted; what is refused now is tried again in the next step.
    fn delete_step(&mut self, controller: &str, object: &Value, propagation: Propagation) -> bool {
        let Ok(id) = interlock_core::object::ObjectId::of(object) else {
            return true;
        };
        let precondition = Precondition { uid: Some(meta::uid(object).to_owned()), resource_version: None };
        self.write_as_system(controller, Verb::Delete { id, precondition, propagation }).is_ok()
    }

    /// One step of the namespace controller: deletes the content of namespaces that are being deleted, then the
    /// namespaces. Says whether anything changed.
    pub fn finish_namespaces(&mut self) -> bool {
        let before = self.rv;
        for namespace in self.terminating(|object| is_core(object, "Namespace")) {
            self.finish_namespace(&namespace);
        }
        self.rv != before
    }

    fn finish_namespace(&mut self, namespace: &Value) {
        let name = meta::name(namespace);
        for key in self.store.keys_in(name) {
            if let Some(object) = self.store.at(&key).cloned().filter(|object| !meta::is_terminating(object)) {
                self.delete_step(NAMESPACES, &object, Propagation::Background);
            }
        }
        let Some(key) = self.store.key_of_uid(meta::uid(namespace)).cloned() else {
            return;
        };
        if !self.store.keys_in(name).is_empty() {
            return;
        }
        let mut new = namespace.clone();
        let finalizers = new.pointer_mut("/spec/finalizers").and_then(Value::as_array_mut);
        if let Some(finalizers) = finalizers {
            finalizers.retain(|name| name != "kubernetes");
        }
        if let Some(spec) = new.get_mut("spec").and_then(Value::as_object_mut) {
            spec.retain(|_, value| value.as_array().is_none_or(|items| !items.is_empty()));
        }
        if is_finished(&new) {
            self.remove(&key);
        } else if new != *namespace {
            self.put(&key, new, EventType::Modified);
        }
    }
}

/// Whether the object is of this kind of the core group.
fn is_core(object: &Value, kind: &str) -> bool {
    object.get("kind").is_some_and(|found| found == kind) && object.get("apiVersion").is_some_and(|found| found == "v1")
}

fn references(object: &Value) -> impl Iterator<Item = &Value> {
    object.pointer("/metadata/ownerReferences").and_then(Value::as_array).into_iter().flatten()
}

/// Whether the object is deleted in the foreground and still there.
fn is_waiting(object: &Value) -> bool {
    meta::is_terminating(object) && meta::finalizers(object).iter().any(|name| name == FOREGROUND)
}

fn waits_for_collector(object: &Value) -> bool {
    meta::is_terminating(object) && meta::finalizers(object).iter().any(|name| name == FOREGROUND || name == ORPHAN)
}

fn blocks(object: &Value, owner: &str) -> bool {
    references(object).any(|reference| {
        reference.get("uid").and_then(Value::as_str) == Some(owner)
            && reference.get("blockOwnerDeletion").and_then(Value::as_bool) == Some(true)
    })
}
