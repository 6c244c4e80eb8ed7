//! Who waits for which objects: watches that are open only while somebody does.
//!
//! One watch serves all waiters of a kind in a namespace. Of the kinds of which [`Seen`] keeps objects it carries all of them;
//! of others only metadata, as a waiter reads those objects live when it wakes. A watch that nobody needs any more is kept for a
//! moment, because the next change often needs it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use interlock_core::object::ObjectId;
use kube::api::{Api, ApiResource, DynamicObject};
use kube::core::PartialObjectMeta;
use kube::runtime::{WatchStreamExt as _, watcher};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::AbortHandle;

use super::discovery::Discovery;
use super::whole::Whole;
use crate::seen::{self, Seen};

/// `namespace/name` of each ChangeRequest that an object's change wakes.
pub type Wakeups = UnboundedReceiver<String>;

/// How long a watch outlives its last waiter.
const LINGER: Duration = Duration::from_secs(30);
/// How soon a kind that could not be found is looked for again.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// What one watch covers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Scope {
    group: String,
    version: String,
    kind: String,
    namespace: Option<String>,
}

impl Scope {
    fn of(id: &ObjectId) -> Self {
        Self {
            group: id.group.clone(),
            version: id.version.clone(),
            kind: id.kind.clone(),
            namespace: id.namespace.clone(),
        }
    }

    fn key(&self) -> String {
        seen::scope_of(&ObjectId {
            group: self.group.clone(),
            version: self.version.clone(),
            kind: self.kind.clone(),
            namespace: self.namespace.clone(),
            name: String::new(),
        })
    }

    fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }
}

/// What a watch tells of an object.
trait Told:
    kube::Resource<DynamicType = ApiResource> + Clone + std::fmt::Debug + DeserializeOwned + Send + 'static
{
    /// The object, or as much of it as was told, with its kind.
    fn object(self, scope: &Scope) -> Value;
}

impl Told for Whole {
    fn object(self, scope: &Scope) -> Value {
        let mut object = self.into_object();
        // The items of a list leave out what the list says once.
        if let Some(fields) = object.as_object_mut() {
            fields.entry("apiVersion").or_insert_with(|| json!(scope.api_version()));
            fields.entry("kind").or_insert_with(|| json!(scope.kind));
        }
        object
    }
}

impl Told for PartialObjectMeta<DynamicObject> {
    fn object(self, scope: &Scope) -> Value {
        let meta = &self.metadata;
        let metadata = json!({"namespace": meta.namespace, "name": meta.name, "labels": meta.labels});
        json!({"apiVersion": scope.api_version(), "kind": scope.kind, "metadata": metadata})
    }
}

#[derive(Default)]
struct Book {
    of_waiter: HashMap<String, Vec<ObjectId>>,
    of_object: HashMap<String, BTreeSet<String>>,
    watches: HashMap<Scope, AbortHandle>,
    seen: Seen,
}

/// What a new interest demands.
#[derive(Debug, PartialEq, Eq)]
struct Demand {
    open: Vec<Scope>,
    unneeded: bool,
}

impl Book {
    fn set(&mut self, waiter: &str, objects: &[ObjectId]) -> Demand {
        if self.of_waiter.get(waiter).map_or(&[][..], Vec::as_slice) == objects {
            return Demand { open: Vec::new(), unneeded: false };
        }
        let before = self.of_waiter.remove(waiter).unwrap_or_default();
        for id in objects {
            self.of_object.entry(id.key()).or_default().insert(waiter.to_owned());
            self.seen.begin(id);
        }
        for id in before.iter().filter(|id| !objects.contains(id)) {
            let key = id.key();
            if let Some(waiters) = self.of_object.get_mut(&key) {
                waiters.remove(waiter);
                if waiters.is_empty() {
                    self.of_object.remove(&key);
                    self.seen.end(&key);
                }
            }
        }
        if !objects.is_empty() {
            self.of_waiter.insert(waiter.to_owned(), objects.to_vec());
        }
        let wanted: HashSet<Scope> = objects.iter().map(Scope::of).collect();
        let unneeded = before.iter().map(Scope::of).any(|scope| !wanted.contains(&scope));
        let open = wanted.into_iter().filter(|scope| !self.watches.contains_key(scope)).collect();
        Demand { open, unneeded }
    }

    /// Who waits for an object, or for what it belongs to.
    fn waiters(&self, object: &Value) -> BTreeSet<String> {
        let keys = seen::awaited_keys(object);
        keys.iter().filter_map(|key| self.of_object.get(key)).flatten().cloned().collect()
    }

    /// Ends every watch that nobody needs.
    fn sweep(&mut self) {
        let needed: HashSet<Scope> = self.of_waiter.values().flatten().map(Scope::of).collect();
        let seen = &mut self.seen;
        self.watches.retain(|scope, watch| {
            let keep = needed.contains(scope);
            if !keep {
                watch.abort();
                seen.is_not_watched(&scope.key());
            }
            keep
        });
    }
}

struct Shared {
    client: kube::Client,
    discovery: Arc<Discovery>,
    wake: UnboundedSender<String>,
    runtime: Handle,
    book: Mutex<Book>,
}

/// The interests of all waiters.
#[derive(Clone)]
pub(super) struct Interests {
    shared: Arc<Shared>,
}

impl Interests {
    pub(super) fn new(client: kube::Client, discovery: Arc<Discovery>) -> (Self, Wakeups) {
        let (wake, wakeups) = unbounded_channel();
        let runtime = Handle::current();
        let shared = Shared { client, discovery, wake, runtime, book: Mutex::default() };
        (Self { shared: Arc::new(shared) }, wakeups)
    }

    /// Replaces the waiter's interest.
    pub(super) fn set(&self, waiter: &str, objects: &[ObjectId]) {
        let mut book = self.book();
        let demand = book.set(waiter, objects);
        for scope in demand.open {
            let task = self.shared.runtime.spawn(self.clone().watch(scope.clone()));
            book.watches.insert(scope, task.abort_handle());
        }
        if demand.unneeded {
            let later = self.clone();
            self.shared.runtime.spawn(async move {
                tokio::time::sleep(LINGER).await;
                later.book().sweep();
            });
        }
    }

    async fn watch(self, scope: Scope) {
        let resource = loop {
            match self.shared.discovery.resource(&scope.group, &scope.version, &scope.kind).await {
                Ok(resource) => break resource,
                Err(error) => {
                    tracing::warn!(kind = scope.kind, reason = %error, "objects of this kind cannot be watched yet");
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
            }
        };
        let described = ApiResource {
            group: scope.group.clone(),
            version: scope.version.clone(),
            api_version: scope.api_version(),
            kind: scope.kind.clone(),
            plural: resource.plural,
        };
        if seen::keeps(&scope.group, &scope.kind) {
            self.follow::<Whole>(&scope, &described, resource.namespaced).await;
        } else {
            self.follow::<PartialObjectMeta<DynamicObject>>(&scope, &described, resource.namespaced).await;
        }
    }

    async fn follow<K>(self, scope: &Scope, described: &ApiResource, namespaced: bool)
    where
        K: Told + kube::Resource<Scope = kube::core::DynamicResourceScope>,
    {
        let client = self.shared.client.clone();
        let api: Api<K> = match &scope.namespace {
            Some(namespace) if namespaced => Api::namespaced_with(client, namespace, described),
            _ => Api::all_with(client, described),
        };
        let whole = scope.key();
        let mut events = watcher(api, watcher::Config::default()).default_backoff().boxed();
        while let Some(event) = events.next().await {
            match event {
                // Also what the first list shows: the object may have changed before the watch was open.
                Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) => {
                    self.tell(&object.object(scope), Seen::stored);
                }
                Ok(watcher::Event::Delete(object)) => self.tell(&object.object(scope), Seen::gone),
                Ok(watcher::Event::Init) => self.book().seen.list_begins(&whole),
                Ok(watcher::Event::InitDone) => self.book().seen.list_ends(&whole),
                Err(error) => {
                    tracing::warn!(
                        kind = scope.kind, namespace = scope.namespace.as_deref().unwrap_or_default(), reason = %error,
                        "the watch was interrupted and is opened again"
                    );
                }
            }
        }
    }

    /// Wakes one waiter.
    pub(super) fn wake(&self, waiter: &str) {
        // Nobody listens any more when the process ends.
        let _ = self.shared.wake.send(waiter.to_owned());
    }

    fn tell(&self, object: &Value, happened: fn(&mut Seen, &Value) -> bool) {
        // It is known before anybody wakes.
        let waiters = {
            let mut book = self.book();
            if happened(&mut book.seen, object) { book.waiters(object) } else { BTreeSet::new() }
        };
        for waiter in waiters {
            self.wake(&waiter);
        }
    }

    /// What was told of everything that is awaited under this name, if all of it was.
    pub(super) fn seen(&self, id: &ObjectId) -> Option<Vec<Value>> {
        self.book().seen.get(id)
    }

    /// What was read under this name.
    pub(super) fn read(&self, id: &ObjectId, found: &[Value]) {
        self.book().seen.fill(id, found);
    }

    /// What the server made of a write of ours.
    pub(super) fn wrote(&self, stored: &Value) {
        self.book().seen.wrote(stored);
    }

    /// What the server answered to a deletion of ours: the object, if something keeps it for a while.
    pub(super) fn deleted(&self, id: &ObjectId, uid: Option<&str>, answer: &Value) {
        let mut book = self.book();
        if answer.pointer("/metadata/deletionTimestamp").is_some() {
            book.seen.wrote(answer);
        } else {
            book.seen.deleted(id, uid);
        }
    }

    /// Nothing that was told of what the waiter waits for is believed any more.
    pub(super) fn doubt(&self, waiter: &str, only: Option<&ObjectId>) {
        let mut book = self.book();
        let of_waiter = book.of_waiter.get(waiter).into_iter().flatten().filter(|_| only.is_none());
        let keys: Vec<_> = of_waiter.chain(only).map(ObjectId::key).collect();
        for key in keys {
            book.seen.doubt(&key);
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.shared.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(kind: &str, namespace: &str, name: &str) -> ObjectId {
        ObjectId {
            group: "apps".into(),
            version: "v1".into(),
            kind: kind.into(),
            namespace: Some(namespace.into()),
            name: name.into(),
        }
    }

    fn object(id: &ObjectId) -> Value {
        json!({"apiVersion": "apps/v1", "kind": id.kind, "metadata": {"namespace": id.namespace, "name": id.name}})
    }

    fn waiters(book: &Book, id: &ObjectId) -> Vec<String> {
        book.waiters(&object(id)).into_iter().collect()
    }

    #[test]
    fn an_objects_change_wakes_exactly_those_who_wait_for_it() {
        let mut book = Book::default();
        let (teller, ledger) = (id("Deployment", "bank", "teller"), id("Deployment", "bank", "ledger"));
        let demand = book.set("bank/a", &[teller.clone(), ledger.clone()]);
        assert_eq!(demand, Demand { open: vec![Scope::of(&teller)], unneeded: false }, "one watch for both");
        book.set("bank/b", std::slice::from_ref(&ledger));
        assert_eq!(waiters(&book, &teller), ["bank/a"]);
        assert_eq!(waiters(&book, &ledger), ["bank/a", "bank/b"]);
        assert_eq!(waiters(&book, &id("Deployment", "other", "teller")), Vec::<String>::new());
        assert!(!book.set("bank/a", std::slice::from_ref(&teller)).unneeded, "the watch is still needed");
        assert_eq!(waiters(&book, &ledger), ["bank/b"]);
        assert!(book.set("bank/b", &[]).unneeded);
        book.set("bank/a", &[]);
        assert!(book.of_object.is_empty() && book.of_waiter.is_empty(), "nothing is left behind");
    }

    #[tokio::test]
    async fn a_watch_that_nobody_needs_is_ended() {
        let mut book = Book::default();
        let (teller, canary) = (id("Deployment", "bank", "teller"), id("StatefulSet", "bank", "teller"));
        let never = || tokio::spawn(std::future::pending::<()>());
        let (kept, ended) = (never(), never());
        book.watches.insert(Scope::of(&teller), kept.abort_handle());
        book.watches.insert(Scope::of(&canary), ended.abort_handle());
        book.set("bank/a", std::slice::from_ref(&teller));
        book.sweep();
        assert_eq!(book.watches.len(), 1);
        assert!(ended.await.expect_err("ended").is_cancelled());
        assert!(!kept.is_finished());
    }
}
