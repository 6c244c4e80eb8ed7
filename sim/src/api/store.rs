//! Objects by kind, namespace and name, with the indexes that garbage collection needs.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use interlock_core::object::GroupKind;
use serde_json::Value;

use super::meta;
use super::slot::Slot;

/// Where an object is stored.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Group and kind.
    pub kind: GroupKind,
    /// Namespace; empty for cluster-scoped objects.
    pub namespace: String,
    /// Name.
    pub name: String,
}

type Names = BTreeMap<String, Slot>;

/// The stored objects.
#[derive(Clone, Debug, Default)]
pub(super) struct Store {
    kinds: BTreeMap<GroupKind, BTreeMap<String, Names>>,
    by_uid: BTreeMap<String, Key>,
    dependants: BTreeMap<String, BTreeSet<Key>>,
    /// What is being deleted.
    terminating: BTreeSet<Key>,
    /// Dependants, by the uid of an owner, that changed or whose owner did since the garbage collector looked at them.
    unsettled: BTreeSet<(String, Key)>,
}

impl Store {
    pub fn get(&self, kind: &GroupKind, namespace: &str, name: &str) -> Option<&Arc<Value>> {
        self.kinds.get(kind)?.get(namespace)?.get(name).map(Slot::get)
    }

    pub fn at(&self, key: &Key) -> Option<&Arc<Value>> {
        self.get(&key.kind, &key.namespace, &key.name)
    }

    /// Objects of a kind in order of namespace and name.
    pub fn list<'a>(
        &'a self,
        kind: &GroupKind,
        namespace: Option<&'a str>,
    ) -> impl Iterator<Item = &'a Arc<Value>> + use<'a> {
        self.slots(kind, namespace).map(Slot::get)
    }

    /// The same for somebody who looks at each of them once.
    pub fn glance<'a>(
        &'a self,
        kind: &GroupKind,
        namespace: Option<&'a str>,
    ) -> impl Iterator<Item = Arc<Value>> + use<'a> {
        self.slots(kind, namespace).map(Slot::glance)
    }

    /// What nobody looked at since this was called last is kept in little space.
    pub fn rest(&mut self) {
        self.kinds.values_mut().flat_map(BTreeMap::values_mut).flat_map(BTreeMap::values_mut).for_each(Slot::rest);
    }

    fn slots<'a>(&'a self, kind: &GroupKind, namespace: Option<&'a str>) -> impl Iterator<Item = &'a Slot> + use<'a> {
        let of_kind = self.kinds.get(kind);
        let one = namespace.and_then(|namespace| of_kind?.get(namespace));
        let all = of_kind.filter(|_| namespace.is_none());
        one.into_iter().chain(all.into_iter().flat_map(BTreeMap::values)).flat_map(BTreeMap::values)
    }

    /// The keys of everything in a namespace.
    pub fn keys_in(&self, namespace: &str) -> Vec<Key> {
        let mut keys = Vec::new();
        for (kind, namespaces) in &self.kinds {
            for name in namespaces.get(namespace).into_iter().flat_map(BTreeMap::keys) {
                keys.push(Key { kind: kind.clone(), namespace: namespace.to_owned(), name: name.clone() });
            }
        }
        keys
    }

    /// Every stored object.
    pub fn all(&self) -> impl Iterator<Item = Arc<Value>> {
        self.kinds.values().flat_map(BTreeMap::values).flat_map(BTreeMap::values).map(Slot::glance)
    }

    pub fn key_of_uid(&self, uid: &str) -> Option<&Key> {
        self.by_uid.get(uid)
    }

    pub fn dependants(&self, uid: &str) -> Vec<Key> {
        self.dependants.get(uid).into_iter().flatten().cloned().collect()
    }

    /// Objects that are being deleted, in order of kind, namespace and name.
    pub fn terminating(&self) -> impl Iterator<Item = (&Key, &Arc<Value>)> {
        self.terminating.iter().filter_map(|key| Some((key, self.at(key)?)))
    }

    /// The first owner's uid and dependant after a pair that the garbage collector has to look at.
    pub fn next_unsettled(&self, after: Option<&(String, Key)>) -> Option<(String, Key)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.unsettled.range((from, Bound::Unbounded)).next().cloned()
    }

    /// The garbage collector has nothing to do about a dependant of this owner until one of them changes.
    pub fn settle(&mut self, dependant: &(String, Key)) {
        self.unsettled.remove(dependant);
    }

    /// Whether the object names this uid among its owners.
    pub fn is_dependant(&self, (uid, key): &(String, Key)) -> bool {
        self.dependants.get(uid).is_some_and(|keys| keys.contains(key))
    }

    fn unsettle_dependants(&mut self, uid: &str) {
        let dependants = self.dependants.get(uid).into_iter().flatten();
        self.unsettled.extend(dependants.map(|key| (uid.to_owned(), key.clone())));
    }

    pub fn put(&mut self, key: &Key, object: Arc<Value>) {
        self.unindex(key);
        if let Some(uid) = meta::text(&object, "uid") {
            self.by_uid.insert(uid.to_owned(), key.clone());
            self.unsettle_dependants(uid);
        }
        for uid in owner_uids(&object) {
            self.dependants.entry(uid.clone()).or_default().insert(key.clone());
            self.unsettled.insert((uid, key.clone()));
        }
        if meta::is_terminating(&object) {
            self.terminating.insert(key.clone());
        }
        let names = self.kinds.entry(key.kind.clone()).or_default().entry(key.namespace.clone()).or_default();
        names.insert(key.name.clone(), Slot::new(object));
    }

    pub fn remove(&mut self, key: &Key) {
        self.unindex(key);
        if let Some(names) = self.kinds.get_mut(&key.kind).and_then(|namespaces| namespaces.get_mut(&key.namespace)) {
            names.remove(&key.name);
        }
    }

    fn unindex(&mut self, key: &Key) {
        let Some(old) = self.at(key).cloned() else {
            return;
        };
        self.terminating.remove(key);
        if let Some(uid) = meta::text(&old, "uid") {
            self.by_uid.remove(uid);
            self.unsettle_dependants(uid);
        }
        for uid in owner_uids(&old) {
            if let Some(keys) = self.dependants.get_mut(&uid) {
                keys.remove(key);
                if keys.is_empty() {
                    self.dependants.remove(&uid);
                }
            }
        }
    }
}

fn owner_uids(object: &Value) -> Vec<String> {
    let owners = object.pointer("/metadata/ownerReferences").and_then(Value::as_array).into_iter().flatten();
    owners.filter_map(|owner| owner.get("uid")?.as_str().map(ToOwned::to_owned)).collect()
}
