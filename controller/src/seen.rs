//! What was last told of the objects that somebody waits for.
//!
//! Synchronous and pure, like the index: what a watch tells goes in, objects come out. It keeps only what is awaited, as text,
//! since a tree takes several times the space, and without what no decision looks at. An entry is complete once everything
//! that belongs to its name was told or read; until then whoever asks reads the server. What is told may be older than what
//! was read or written meanwhile: the newer one stays.

use std::collections::BTreeMap;

use interlock_core::{
    object::ObjectId,
    port::{awaited_as, is_awaited_by_owner},
};
use serde_json::Value;

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
}

impl Seen {
    /// From now on what is told under this name is kept, if its kind is.
    pub fn begin(&mut self, id: &ObjectId) {
        if keeps(&id.group, &id.kind) {
            let entry = || Entry { api: id.version.clone(), ..Entry::default() };
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

    /// An object was stored.
    pub fn stored(&mut self, object: &Value) {
        let Some((name, version)) = identity(object) else { return };
        if let Some(entry) = self.entry_of(object) {
            let is_older =
                entry.objects.get(&name).is_some_and(|known| known.as_ref().is_some_and(|k| k.version > version));
            if !is_older {
                entry.objects.insert(name, Told::of(object, version));
            }
        }
    }

    /// An object is gone; this is the last that was known of it.
    pub fn gone(&mut self, object: &Value) {
        let Some((name, version)) = identity(object) else { return };
        let Some(entry) = self.entry_of(object) else { return };
        if entry.objects.get(&name).is_some_and(|known| known.as_ref().is_some_and(|k| k.version > version)) {
            return;
        }
        if entry.is_complete {
            entry.objects.remove(&name);
        } else {
            // What is being read may still show it.
            entry.objects.insert(name, None);
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
        for entry in self.in_scope(scope) {
            entry.forget();
            entry.is_being_listed = true;
        }
    }

    /// The list was told to its end.
    pub fn list_ends(&mut self, scope: &str) {
        for entry in self.in_scope(scope).filter(|entry| entry.is_being_listed) {
            entry.is_being_listed = false;
            entry.is_complete = true;
            entry.objects.retain(|_, told| told.is_some());
        }
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

impl Entry {
    fn forget(&mut self) {
        *self = Self { api: std::mem::take(&mut self.api), ..Self::default() };
    }
}

impl Told {
    fn of(object: &Value, version: u64) -> Option<Self> {
        let mut object = object.clone();
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
        }
        if object.get("kind").and_then(Value::as_str) == Some("ReplicaSet")
            && let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut)
        {
            spec.remove("template");
        }
        Some(Self { version, text: serde_json::to_string(&object).ok()?.into_boxed_str() })
    }
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
    use serde_json::json;

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
        assert_eq!(known[0]["spec"], json!({"replicas": 3}));
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
