//! What was last told of the objects that somebody waits for.
//!
//! Synchronous and pure, like the index: what a watch tells goes in, objects come out. It keeps only what is awaited, as text,
//! since a tree takes several times the space, and without what no decision looks at. An entry is complete once everything
//! that belongs to its name was told or read; until then whoever asks reads the server. What is told may be older than what
//! was read or written meanwhile: the newer one stays.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use interlock_core::{
    object::ObjectId,
    port::{awaited_as, is_awaited_by_owner},
};
use serde_json::{Map, Value, json};

/// Kinds of which more is told than that they changed. The values of others, above all of Secrets, are none of a watch's
/// business.
const KEPT: [(&str, &str); 8] = [
    ("apps", "Deployment"),
    ("apps", "ReplicaSet"),
    ("apps", "StatefulSet"),
    ("apps", "DaemonSet"),
    ("autoscaling", "HorizontalPodAutoscaler"),
    ("discovery.k8s.io", "EndpointSlice"),
    ("gateway.networking.k8s.io", "HTTPRoute"),
    ("", "Service"),
];

/// Whether the objects of a kind are kept.
pub fn keeps(group: &str, kind: &str) -> bool {
    KEPT.contains(&(group, kind))
}

/// What was told, by the key of what is awaited.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    entries: BTreeMap<String, Entry>,
    /// What is there of the kinds and namespaces that are watched, awaited or not.
    scopes: BTreeMap<String, Scope>,
}

/// A kind in a namespace that is watched.
#[derive(Clone, Debug, Default)]
struct Scope {
    /// It was listed to its end.
    is_complete: bool,
    /// The name under which an object would be awaited, and its own.
    names: BTreeSet<(String, String)>,
    /// The first by the second, of kinds of which they differ.
    of_name: BTreeMap<String, String>,
}

/// What belongs to one awaited name.
#[derive(Clone, Debug, Default)]
struct Entry {
    /// The API version in which it is awaited: another one would have another shape.
    api: String,
    is_complete: bool,
    /// It was there when the list began that is being told.
    is_being_listed: bool,
    /// By name. None: it is gone since the entry was begun.
    objects: BTreeMap<String, Option<Told>>,
}

#[derive(Clone, Debug)]
struct Told {
    version: u64,
    text: Box<str>,
    /// It is the answer to a write of ours: others who wait for it have not heard of it yet.
    is_own: bool,
}

impl Told {
    fn is_of(&self, uid: &str) -> bool {
        serde_json::from_str::<Value>(&self.text).is_ok_and(|object| object["metadata"]["uid"] == uid)
    }
}

impl Seen {
    /// From now on what is told under this name is kept, if its kind is.
    pub fn begin(&mut self, id: &ObjectId) {
        if keeps(&id.group, &id.kind) {
            // What was not told is not there, once everything was.
            let is_absent = self.scopes.get(&scope_of(id)).is_some_and(|scope| scope.has_none_of(&id.name));
            let entry = || Entry { api: id.version.clone(), is_complete: is_absent, ..Entry::default() };
            self.entries.entry(id.key()).or_insert_with(entry);
        }
    }

    /// Nobody waits for it any more.
    pub fn end(&mut self, key: &str) {
        self.entries.remove(key);
    }

    /// Everything that belongs to the name, if all of it is known.
    pub fn get(&self, id: &ObjectId) -> Option<Vec<Value>> {
        let entry = self.entries.get(&id.key()).filter(|entry| entry.is_complete && entry.api == id.version)?;
        entry.objects.values().flatten().map(|told| serde_json::from_str(&told.text).ok()).collect()
    }

    /// An object was stored. Whether a decision may see a difference.
    pub fn stored(&mut self, object: &Value) -> bool {
        let Some((name, version)) = identity(object) else { return true };
        if let Some((scope, id)) = self.scope_and_name(object)
            && let Some(former) = scope.add(&id.name, &name)
            && let Some(entry) = self.entries.get_mut(&ObjectId { name: former, ..id }.key())
        {
            // It belongs to another one now.
            entry.objects.remove(&name);
        }
        let Some(entry) = self.entry_of(object) else { return true };
        let known = entry.objects.get(&name).and_then(Option::as_ref);
        if known.is_some_and(|known| known.version > version) {
            return false;
        }
        let told = Told::of(object, version);
        let is_same = known.zip(told.as_ref()).is_some_and(|(known, told)| !known.is_own && known.text == told.text);
        let is_news = !(is_same && entry.is_complete);
        entry.objects.insert(name, told);
        is_news
    }

    /// A write of ours was answered with this.
    pub fn wrote(&mut self, object: &Value) {
        self.stored(object);
        let name = identity(object).map(|(name, _)| name).unwrap_or_default();
        if let Some(Some(told)) = self.entry_of(object).and_then(|entry| entry.objects.get_mut(&name)) {
            told.is_own = true;
        }
    }

    /// An object is gone; this is the last that was known of it. Whether a decision may see a difference.
    pub fn gone(&mut self, object: &Value) -> bool {
        let Some((name, version)) = identity(object) else { return true };
        if let Some((scope, id)) = self.scope_and_name(object) {
            scope.of_name.remove(&name);
            scope.names.remove(&(id.name, name.clone()));
        }
        let Some(entry) = self.entry_of(object) else { return true };
        if entry.objects.get(&name).is_some_and(|known| known.as_ref().is_some_and(|k| k.version > version)) {
            return false;
        }
        if entry.is_complete {
            entry.objects.remove(&name);
        } else {
            // What is being read may still show it.
            entry.objects.insert(name, None);
        }
        true
    }

    /// A deletion of ours was answered, and nothing keeps the object. What is awaited by what it belongs to is read again, since
    /// others may belong to the same. `uid` is of the object that was deleted, if that is known: another of its name that was told
    /// of meanwhile stays.
    pub fn deleted(&mut self, id: &ObjectId, uid: Option<&str>) {
        let Some(entry) = self.entries.get_mut(&id.key()) else { return };
        let told = entry.objects.get(&id.name).and_then(Option::as_ref);
        if let (Some(told), Some(uid)) = (told, uid)
            && !told.is_of(uid)
        {
            return;
        }
        if is_awaited_by_owner(&id.kind) {
            entry.forget();
        } else if entry.is_complete {
            entry.objects.remove(&id.name);
        } else {
            // What is being read may still show it.
            entry.objects.insert(id.name.clone(), None);
        }
    }

    /// Everything that belongs to a name was read. What was told since the entry was begun is newer, or the same.
    pub fn fill(&mut self, id: &ObjectId, found: &[Value]) {
        let entry = self.entries.get_mut(&id.key()).filter(|entry| entry.api == id.version);
        let Some(entry) = entry else { return };
        for object in found {
            let Some((name, version)) = identity(object) else { continue };
            let is_newer = match entry.objects.get(&name) {
                None => true,
                Some(None) => false,
                Some(Some(known)) => known.version < version,
            };
            if is_newer {
                entry.objects.insert(name, Told::of(object, version));
            }
        }
        entry.objects.retain(|_, told| told.is_some());
        entry.is_complete = true;
    }

    /// What is known of a name is not believed any more.
    pub fn doubt(&mut self, key: &str) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.forget();
        }
    }

    /// A watch lists its kind and namespace anew: what is not told again is gone.
    pub fn list_begins(&mut self, scope: &str) {
        self.scopes.insert(scope.to_owned(), Scope::default());
        for entry in self.in_scope(scope) {
            entry.forget();
            entry.is_being_listed = true;
        }
    }

    /// The list was told to its end.
    pub fn list_ends(&mut self, scope: &str) {
        if let Some(scope) = self.scopes.get_mut(scope) {
            scope.is_complete = true;
        }
        for entry in self.in_scope(scope).filter(|entry| entry.is_being_listed) {
            entry.is_being_listed = false;
            entry.is_complete = true;
            entry.objects.retain(|_, told| told.is_some());
        }
    }

    /// A kind and namespace is not watched any more.
    pub fn is_not_watched(&mut self, scope: &str) {
        self.scopes.remove(scope);
    }

    fn scope_and_name(&mut self, object: &Value) -> Option<(&mut Scope, ObjectId)> {
        let id = awaited_as(object)?;
        Some((self.scopes.get_mut(&scope_of(&id))?, id))
    }

    fn in_scope<'a>(&'a mut self, scope: &'a str) -> impl Iterator<Item = &'a mut Entry> {
        let from = self.entries.range_mut(scope.to_owned()..);
        from.take_while(move |(key, _)| key.starts_with(scope)).map(|(_, entry)| entry)
    }

    fn entry_of(&mut self, object: &Value) -> Option<&mut Entry> {
        let id = awaited_as(object)?;
        self.entries.get_mut(&id.key()).filter(|entry| entry.api == id.version)
    }
}

impl Scope {
    /// It is there, under these names. The name under which it was awaited before, if that was another one.
    fn add(&mut self, awaited: &str, name: &str) -> Option<String> {
        self.names.insert((awaited.to_owned(), name.to_owned()));
        if awaited == name && !self.of_name.contains_key(name) {
            return None;
        }
        let former = self.of_name.insert(name.to_owned(), awaited.to_owned()).filter(|former| former != awaited)?;
        self.names.remove(&(former.clone(), name.to_owned()));
        Some(former)
    }

    fn has_none_of(&self, awaited: &str) -> bool {
        let mut from = self.names.range((awaited.to_owned(), String::new())..);
        self.is_complete && from.next().is_none_or(|(name, _)| name != awaited)
    }
}

impl Entry {
    fn forget(&mut self) {
        *self = Self { api: std::mem::take(&mut self.api), ..Self::default() };
    }
}

impl Told {
    fn of(object: &Value, version: u64) -> Option<Self> {
        let name = object.pointer("/metadata/name").and_then(Value::as_str);
        let is_version = awaited_as(object).is_some_and(|id| id.kind == "ReplicaSet" && Some(id.name.as_str()) != name);
        let object = if is_version { Cow::Owned(version_of(object)) } else { without_managers(object) };
        Some(Self { version, text: serde_json::to_string(&*object).ok()?.into_boxed_str(), is_own: false })
    }
}

fn without_managers(object: &Value) -> Cow<'_, Value> {
    if object.pointer("/metadata/managedFields").is_none() {
        return Cow::Borrowed(object);
    }
    let mut object = object.clone();
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    Cow::Owned(object)
}

/// What a decision looks at of the ReplicaSet of a Deployment. Nobody writes one, so that it needs no resourceVersion.
fn version_of(set: &Value) -> Value {
    let part = |of: &Value, names: &[&str]| -> Map<String, Value> {
        names.iter().filter_map(|name| Some(((*name).to_owned(), of.get(*name)?.clone()))).collect()
    };
    let metadata = ["name", "namespace", "uid", "labels", "annotations", "ownerReferences", "deletionTimestamp"];
    let nothing = Value::Null;
    json!({
        "apiVersion": set["apiVersion"], "kind": set["kind"],
        "metadata": part(set.get("metadata").unwrap_or(&nothing), &metadata),
        "status": part(set.get("status").unwrap_or(&nothing), &["availableReplicas"]),
    })
}

/// The beginning of the keys of everything that is awaited of the kind and namespace of `id`.
pub fn scope_of(id: &ObjectId) -> String {
    ObjectId { name: String::new(), ..id.clone() }.key()
}

/// Name and resourceVersion. Versions are compared as the numbers that they are since Kubernetes 1.35.
fn identity(object: &Value) -> Option<(String, u64)> {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
    Some((text("/metadata/name")?.to_owned(), text("/metadata/resourceVersion")?.parse().ok()?))
}

/// The keys under which somebody may wait for an object: its own, and that of what it belongs to.
pub fn awaited_keys(object: &Value) -> Vec<String> {
    let own = ObjectId::of(object).ok().filter(|id| is_awaited_by_owner(&id.kind));
    let mut keys: Vec<_> = own.into_iter().chain(awaited_as(object)).map(|id| id.key()).collect();
    keys.dedup();
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    fn web(version: u64, image: &str) -> Value {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {
                "namespace": "bank", "name": "web", "uid": "u", "resourceVersion": version.to_string(),
                "managedFields": [{"manager": "kubectl"}],
            },
            "spec": {"image": image},
        })
    }

    fn image(seen: &Seen, id: &ObjectId) -> Option<Vec<String>> {
        let found = seen.get(id)?;
        Some(found.iter().map(|object| object["spec"]["image"].as_str().unwrap_or_default().to_owned()).collect())
    }

    #[test]
    fn what_was_told_last_is_known_once_all_of_it_was_and_older_news_change_nothing() {
        let mut seen = Seen::default();
        let id = ObjectId::of(&web(1, "")).expect("id");
        seen.stored(&web(1, "a"));
        assert_eq!(image(&seen, &id), None, "nobody waits for it");
        seen.begin(&id);
        seen.stored(&web(7, "c"));
        assert_eq!(image(&seen, &id), None, "nobody knows yet whether that is all");
        seen.fill(&id, &[web(5, "b")]);
        assert_eq!(image(&seen, &id), Some(vec!["c".to_owned()]), "what was told was newer than what was read");
        seen.stored(&web(6, "b"));
        assert_eq!(image(&seen, &id), Some(vec!["c".to_owned()]));
        assert!(seen.get(&id).expect("known")[0].pointer("/metadata/managedFields").is_none());
        assert!(!seen.stored(&web(7, "c")), "that was told already");
        seen.wrote(&web(7, "c"));
        assert!(seen.stored(&web(7, "c")), "who did not write it hears of it now");
        seen.gone(&web(6, "b"));
        assert_eq!(image(&seen, &id).expect("known").len(), 1, "an older one of that name is gone");
        seen.gone(&web(8, "c"));
        assert_eq!(image(&seen, &id), Some(Vec::new()));
        seen.end(&id.key());
        assert_eq!(image(&seen, &id), None);
    }

    #[test]
    fn what_went_while_it_was_read_stays_gone_and_doubt_has_it_read_again() {
        let mut seen = Seen::default();
        let id = ObjectId::of(&web(1, "")).expect("id");
        seen.begin(&id);
        seen.gone(&web(6, "a"));
        seen.fill(&id, &[web(5, "a")]);
        assert_eq!(image(&seen, &id), Some(Vec::new()));
        seen.stored(&web(9, "b"));
        seen.doubt(&id.key());
        assert_eq!(image(&seen, &id), None);
        seen.fill(&id, &[]);
        assert_eq!(image(&seen, &id), Some(Vec::new()), "it is not there");
    }

    #[test]
    fn what_a_deletion_of_ours_removed_is_known_to_be_gone() {
        let mut seen = Seen::default();
        let id = ObjectId::of(&web(1, "")).expect("id");
        seen.deleted(&id, None);
        assert_eq!(image(&seen, &id), None, "nobody waits for it");
        seen.begin(&id);
        seen.fill(&id, &[web(5, "a")]);
        seen.deleted(&id, Some("another-before"));
        assert_eq!(image(&seen, &id), Some(vec!["a".to_owned()]), "it was made anew meanwhile");
        seen.deleted(&id, None);
        assert_eq!(image(&seen, &id), Some(Vec::new()));
        seen.doubt(&id.key());
        seen.deleted(&id, None);
        assert_eq!(image(&seen, &id), None, "nobody knows yet whether that was all");
        seen.fill(&id, &[web(5, "a")]);
        assert_eq!(image(&seen, &id), Some(Vec::new()), "it was read before it went");
        let autoscaler = json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
            "metadata": {"namespace": "bank", "name": "web", "resourceVersion": "3"},
            "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "web"}},
        });
        let of_web = awaited_as(&autoscaler).expect("id");
        seen.begin(&of_web);
        seen.fill(&of_web, &[autoscaler]);
        seen.deleted(&of_web, None);
        assert_eq!(seen.get(&of_web), None, "another one may scale the same workload");
    }

    #[test]
    fn a_list_that_begins_anew_forgets_what_it_does_not_tell() {
        let mut seen = Seen::default();
        let id = ObjectId::of(&web(1, "")).expect("id");
        seen.begin(&id);
        seen.fill(&id, &[web(5, "a")]);
        let scope = scope_of(&id);
        seen.list_begins(&scope);
        assert_eq!(image(&seen, &id), None, "until the list is over nobody knows");
        let late = ObjectId { name: "late".to_owned(), ..id.clone() };
        seen.begin(&late);
        seen.list_ends(&scope);
        assert_eq!(image(&seen, &id), Some(Vec::new()));
        assert_eq!(image(&seen, &late), None, "its turn in the list may have been over already");
        seen.stored(&web(6, "b"));
        seen.end(&id.key());
        seen.begin(&id);
        assert_eq!(image(&seen, &id), None, "it is there, and nobody kept it");
        let none = ObjectId { name: "none".to_owned(), ..id.clone() };
        seen.begin(&none);
        assert_eq!(image(&seen, &none), Some(Vec::new()), "everything was told, and not that");
        seen.is_not_watched(&scope);
        let other = ObjectId { name: "other".to_owned(), ..id };
        seen.begin(&other);
        assert_eq!(image(&seen, &other), None, "nobody tells any more");
    }

    #[test]
    fn versions_go_by_their_deployment_without_template_and_values_of_secrets_are_not_kept() {
        let mut seen = Seen::default();
        let set = json!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet",
            "metadata": {
                "namespace": "bank", "name": "web-5d", "resourceVersion": "3",
                "ownerReferences": [{"kind": "Deployment", "name": "web", "uid": "u", "controller": true}],
            },
            "spec": {"replicas": 3, "template": {"spec": {}}},
        });
        let of_web = awaited_as(&set).expect("id");
        assert_eq!(of_web.name, "web");
        assert_eq!(awaited_keys(&set), ["apps/ReplicaSet/bank/web-5d", "apps/ReplicaSet/bank/web"]);
        seen.begin(&of_web);
        seen.fill(&of_web, std::slice::from_ref(&set));
        let known = seen.get(&of_web).expect("known");
        assert_eq!(known[0].get("spec"), None);
        assert_eq!(known[0]["metadata"]["ownerReferences"], set["metadata"]["ownerReferences"]);
        let mut later = set.clone();
        later["metadata"]["resourceVersion"] = json!("4");
        later["status"] = json!({"replicas": 3});
        assert!(!seen.stored(&later), "no decision asks how many pods there are that are not ready");
        later["metadata"]["resourceVersion"] = json!("5");
        later["status"] = json!({"replicas": 3, "availableReplicas": 1});
        assert!(seen.stored(&later));
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"namespace": "bank", "name": "key", "resourceVersion": "3"}, "data": {"key": "dg=="},
        });
        let id = ObjectId::of(&secret).expect("id");
        seen.begin(&id);
        seen.fill(&id, &[secret]);
        assert_eq!(seen.get(&id), None);
    }
}
