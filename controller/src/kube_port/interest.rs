//! Who waits for which objects: watches that are open only while somebody does.
//!
//! One watch serves all waiters of a kind in a namespace. It carries metadata only, as a waiter reads the object live
//! when it wakes. A watch that nobody needs any more is kept for a moment, because the next change often needs it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use interlock_core::object::ObjectId;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, ApiResource, DynamicObject};
use kube::core::PartialObjectMeta;
use kube::runtime::{WatchStreamExt as _, watcher};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::AbortHandle;

use super::discovery::Discovery;

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

    fn key(&self, name: &str) -> String {
        ObjectId {
            group: self.group.clone(),
            version: self.version.clone(),
            kind: self.kind.clone(),
            namespace: self.namespace.clone(),
            name: name.to_owned(),
        }
        .key()
    }
}

#[derive(Default)]
struct Book {
    of_waiter: HashMap<String, Vec<ObjectId>>,
    of_object: HashMap<String, BTreeSet<String>>,
    watches: HashMap<Scope, AbortHandle>,
}

/// What a new interest demands.
#[derive(Debug, PartialEq, Eq)]
struct Demand {
    open: Vec<Scope>,
    unneeded: bool,
}

impl Book {
    fn set(&mut self, waiter: &str, objects: &[ObjectId]) -> Demand {
        let before = self.of_waiter.remove(waiter).unwrap_or_default();
        for id in &before {
            let key = id.key();
            if let Some(waiters) = self.of_object.get_mut(&key) {
                waiters.remove(waiter);
                if waiters.is_empty() {
                    self.of_object.remove(&key);
                }
            }
        }
        for id in objects {
            self.of_object.entry(id.key()).or_default().insert(waiter.to_owned());
        }
        if !objects.is_empty() {
            self.of_waiter.insert(waiter.to_owned(), objects.to_vec());
        }
        let wanted: HashSet<Scope> = objects.iter().map(Scope::of).collect();
        let unneeded = before.iter().map(Scope::of).any(|scope| !wanted.contains(&scope));
        let open = wanted.into_iter().filter(|scope| !self.watches.contains_key(scope)).collect();
        Demand { open, unneeded }
    }

    fn waiters(&self, key: &str) -> Vec<String> {
        self.of_object.get(key).map(|waiters| waiters.iter().cloned().collect()).unwrap_or_default()
    }

    /// Ends every watch that nobody needs.
    fn sweep(&mut self) {
        let needed: HashSet<Scope> = self.of_waiter.values().flatten().map(Scope::of).collect();
        self.watches.retain(|scope, watch| {
            let keep = needed.contains(scope);
            if !keep {
                watch.abort();
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
        let api_version =
            if scope.group.is_empty() { scope.version.clone() } else { format!("{}/{}", scope.group, scope.version) };
        let described = ApiResource {
            group: scope.group.clone(),
            version: scope.version.clone(),
            api_version,
            kind: scope.kind.clone(),
            plural: resource.plural,
        };
        let client = self.shared.client.clone();
        let api: Api<PartialObjectMeta<DynamicObject>> = match &scope.namespace {
            Some(namespace) if resource.namespaced => Api::namespaced_with(client, namespace, &described),
            _ => Api::all_with(client, &described),
        };
        let mut events = watcher(api, watcher::Config::default()).default_backoff().boxed();
        while let Some(event) = events.next().await {
            match event {
                // Also what the first list shows: the object may have changed before the watch was open.
                Ok(
                    watcher::Event::Apply(object) | watcher::Event::InitApply(object) | watcher::Event::Delete(object),
                ) => {
                    self.tell(&scope.key(awaited_name(&scope.kind, &object.metadata)));
                }
                Ok(watcher::Event::Init | watcher::Event::InitDone) => {}
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

    fn tell(&self, key: &str) {
        let waiters = self.book().waiters(key);
        for waiter in waiters {
            self.wake(&waiter);
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.shared.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The name under which an object is waited for: nobody can know those of the EndpointSlices of a Service.
fn awaited_name<'a>(kind: &str, meta: &'a ObjectMeta) -> &'a str {
    let service = || meta.labels.as_ref().and_then(|labels| labels.get("kubernetes.io/service-name"));
    let name = if kind == "EndpointSlice" { service().or(meta.name.as_ref()) } else { meta.name.as_ref() };
    name.map(String::as_str).unwrap_or_default()
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

    #[test]
    fn an_objects_change_wakes_exactly_those_who_wait_for_it() {
        let mut book = Book::default();
        let (teller, ledger) = (id("Deployment", "bank", "teller"), id("Deployment", "bank", "ledger"));
        let demand = book.set("bank/a", &[teller.clone(), ledger.clone()]);
        assert_eq!(demand, Demand { open: vec![Scope::of(&teller)], unneeded: false }, "one watch for both");
        book.set("bank/b", std::slice::from_ref(&ledger));
        assert_eq!(book.waiters(&teller.key()), ["bank/a"]);
        assert_eq!(book.waiters(&ledger.key()), ["bank/a", "bank/b"]);
        assert_eq!(book.waiters(&id("Deployment", "other", "teller").key()), Vec::<String>::new());
        assert!(!book.set("bank/a", std::slice::from_ref(&teller)).unneeded, "the watch is still needed");
        assert_eq!(book.waiters(&ledger.key()), ["bank/b"]);
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
