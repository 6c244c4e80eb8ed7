//! The [`Port`] of a real cluster.
//!
//! Every call has a time limit and is made once: whether it may be repeated is known only to the caller. A write waits
//! for its turn and then asks once more whether this process still holds the lease.

mod client;
mod discovery;
mod error;
mod events;
mod exec;
mod inquiry;
mod interest;
mod request;
mod whole;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use interlock_core::analysis::{Answer, Question};
use interlock_core::object::ObjectId;
use interlock_core::port::{DryRun, Identity, Note, Port, PortError, Precondition, Served, live_of};
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::Semaphore;

pub use client::{Observe, ObserveLayer, client};
pub use interest::Wakeups;

use crate::analysis;
use crate::clock::Clock;
use crate::leader::LeaderHandle;
use discovery::{Discovery, Resource};
use error::port_error;
use events::Events;
use inquiry::Inquiries;
use interest::Interests;
use request::{Call, Selector, path, path_of};

/// The field manager of status writes.
const STATUS_MANAGER: &str = "interlock-status";

/// Limits of the port.
#[derive(Clone, Debug)]
pub struct KubePortOptions {
    /// How long one call may take.
    pub timeout: Duration,
    /// How many writes may be under way at once.
    pub concurrent_writes: usize,
    /// Stands in Events as the reporting instance, such as the pod's name.
    pub instance: String,
    /// Where analyses may ask.
    pub guard: analysis::Guard,
}

impl Default for KubePortOptions {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(10),
            concurrent_writes: 32,
            instance: "interlock".to_owned(),
            guard: analysis::Guard::default(),
        }
    }
}

/// Reads and writes of a real cluster. Clones share everything.
#[derive(Clone)]
pub struct KubePort {
    client: kube::Client,
    clock: Clock,
    leader: Option<LeaderHandle>,
    discovery: Arc<Discovery>,
    interests: Interests,
    events: Events,
    writes: Arc<Semaphore>,
    timeout: Duration,
    inquiries: Inquiries,
}

impl KubePort {
    /// A port over a client made by [`client`]. Without a leader handle writes are not tied to a lease, as for the
    /// commands of people. Must be called inside a tokio runtime.
    pub fn new(
        client: kube::Client,
        clock: Clock,
        leader: Option<LeaderHandle>,
        options: KubePortOptions,
    ) -> (Self, Wakeups) {
        let KubePortOptions { timeout, concurrent_writes, instance, guard } = options;
        let discovery = Arc::new(Discovery::new(client.clone(), timeout));
        let (interests, wakeups) = Interests::new(client.clone(), Arc::clone(&discovery));
        let events = Events::start(client.clone(), clock.clone(), &instance);
        let writes = Arc::new(Semaphore::new(concurrent_writes.max(1)));
        let inquiries = Inquiries::new(analysis::Client::new(guard));
        let port = Self { client, clock, leader, discovery, interests, events, writes, timeout, inquiries };
        (port, wakeups)
    }

    async fn resource(&self, id: &ObjectId) -> Result<Resource, PortError> {
        self.discovery.resource(&id.group, &id.version, &id.kind).await
    }

    /// The address of the object that `object` states, or of its kind's objects when it is to be created.
    async fn path_for(&self, object: &Value, place: Place) -> Result<String, PortError> {
        let (group, version) = group_version(object);
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
        let kind = text("/kind").unwrap_or_default();
        let resource = self.discovery.resource(group, version, kind).await?;
        let namespace = text("/metadata/namespace").filter(|namespace| !namespace.is_empty());
        let name = text("/metadata/name").filter(|name| !name.is_empty());
        // Without a name the address is that of the kind, and a namespaced object must still have its namespace.
        let shown = name.or(text("/metadata/generateName")).unwrap_or_default();
        if resource.namespaced != namespace.is_some() {
            let has = if resource.namespaced { "needs a namespace" } else { "has a namespace, but its kind has none" };
            return Err(PortError::Invalid(format!("{kind} {shown} {has}")));
        }
        match place {
            Place::Kind => path(group, version, &resource, namespace, None, None),
            Place::Object | Place::Status => {
                let name = name.ok_or_else(|| PortError::Invalid(format!("{kind} {shown} needs a name")))?;
                let subresource = (place == Place::Status).then_some("status");
                path(group, version, &resource, namespace, Some(name), subresource)
            }
        }
    }

    async fn read(&self, call: &Call, identity: &Identity) -> Result<Value, PortError> {
        self.within(call, identity).await
    }

    /// A write whose answer is the object as it is stored now; it is known before a watch tells of it.
    async fn store(&self, call: &Call, identity: &Identity, dry_run: DryRun) -> Result<Value, PortError> {
        let stored = self.write(call, identity, dry_run).await?;
        if dry_run == DryRun::No {
            self.interests.wrote(&stored);
        }
        Ok(stored)
    }

    async fn write(&self, call: &Call, identity: &Identity, dry_run: DryRun) -> Result<Value, PortError> {
        // The semaphore is never closed.
        let _turn = self.writes.acquire().await.map_err(|error| PortError::Unavailable(error.to_string()))?;
        if dry_run == DryRun::No && !self.may_write() {
            return Err(PortError::Unavailable(
                "this controller does not hold the lease any more; nothing was sent".to_owned(),
            ));
        }
        self.within(call, identity).await
    }

    async fn within(&self, call: &Call, identity: &Identity) -> Result<Value, PortError> {
        let request = call.request(identity)?;
        let limit = self.timeout;
        let text = match tokio::time::timeout(limit, self.client.request_text(request)).await {
            Ok(answer) => answer.map_err(port_error)?,
            Err(_) => {
                return Err(PortError::Unavailable(format!("no answer within {limit:?} to {}", call.describe())));
            }
        };
        // kube's own parsing would log the whole text, which may hold the values of a Secret.
        serde_json::from_str(&text).map_err(|error| {
            PortError::Unavailable(format!("the answer to {} cannot be read: {error}", call.describe()))
        })
    }

    /// An apply that states only a resourceVersion creates an object that is not there; only a uid prevents that.
    async fn with_uid(
        &self,
        identity: &Identity,
        path: &str,
        precondition: &Precondition,
    ) -> Result<Precondition, PortError> {
        let (None, Some(required)) = (&precondition.uid, &precondition.resource_version) else {
            return Ok(precondition.clone());
        };
        let gone = |message: String| PortError::Conflict(format!("it was at version {required}, but: {message}"));
        let live = match self.read(&Call::get(path.to_owned()), identity).await {
            Err(PortError::NotFound(message)) => return Err(gone(message)),
            live => live?,
        };
        Ok(Precondition { uid: Precondition::of(&live).uid, ..precondition.clone() })
    }

    /// A missing kind answers like a missing object, except that the address itself is not known.
    fn kind_may_be_gone(&self, id: &ObjectId, error: &PortError) {
        if matches!(error, PortError::NotFound(message) if message.contains("could not find the requested resource") || message.contains("page not found"))
        {
            self.discovery.forget(&id.group, &id.version);
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Kind,
    Object,
    Status,
}

fn group_version(object: &Value) -> (&str, &str) {
    let stated = object.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
    stated.rsplit_once('/').unwrap_or(("", stated))
}

impl KubePort {
    async fn listed(
        &self,
        group: &str,
        version: &str,
        kind: &str,
        namespace: Option<&str>,
        selector: Selector<'_>,
        identity: &Identity,
    ) -> Result<Vec<Value>, PortError> {
        let resource = self.discovery.resource(group, version, kind).await?;
        let namespace = namespace.filter(|_| resource.namespaced);
        let path = path(group, version, &resource, namespace, None, None)?;
        let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
        let (mut items, mut token) = (Vec::new(), None);
        loop {
            let mut page = self.read(&Call::list(path.clone(), token).selecting(selector), identity).await?;
            let next = page.pointer("/metadata/continue").and_then(Value::as_str).filter(|token| !token.is_empty());
            token = next.map(ToOwned::to_owned);
            let listed = page.get_mut("items").and_then(Value::as_array_mut).map(std::mem::take).unwrap_or_default();
            items.extend(listed.into_iter().map(|mut item| {
                // The items of a list leave out what the list says once.
                if let Some(fields) = item.as_object_mut() {
                    fields.entry("apiVersion").or_insert_with(|| Value::String(api_version.clone()));
                    fields.entry("kind").or_insert_with(|| Value::String(kind.to_owned()));
                }
                item
            }));
            if token.is_none() {
                return Ok(items);
            }
        }
    }
}

impl Port for KubePort {
    fn now(&self) -> Option<Timestamp> {
        self.clock.now()
    }

    fn may_write(&self) -> bool {
        self.leader.as_ref().is_none_or(LeaderHandle::is_leader_now)
    }

    async fn live_get(&self, identity: &Identity, id: &ObjectId) -> Result<Option<Value>, PortError> {
        let resource = self.resource(id).await?;
        let call = Call::get(path_of(id, &resource, None)?);
        match self.read(&call, identity).await {
            Ok(object) => Ok(Some(object)),
            Err(error @ PortError::NotFound(_)) => {
                self.kind_may_be_gone(id, &error);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    async fn live_list(
        &self,
        group: &str,
        version: &str,
        kind: &str,
        namespace: Option<&str>,
    ) -> Result<Vec<Value>, PortError> {
        self.listed(group, version, kind, namespace, Selector::All, &Identity::Controller).await
    }

    async fn live_list_where(
        &self,
        group: &str,
        version: &str,
        kind: &str,
        namespace: Option<&str>,
        (field, value): (&str, &str),
    ) -> Result<Vec<Value>, PortError> {
        self.listed(group, version, kind, namespace, Selector::Field(field, value), &Identity::Controller).await
    }

    async fn live_list_labelled(
        &self,
        group: &str,
        version: &str,
        kind: &str,
        namespace: Option<&str>,
        labels: &str,
    ) -> Result<Vec<Value>, PortError> {
        self.listed(group, version, kind, namespace, Selector::Labels(labels), &Identity::Controller).await
    }

    async fn live_list_as(
        &self,
        identity: &Identity,
        group: &str,
        kind: &str,
        namespace: Option<&str>,
    ) -> Result<Option<Vec<Value>>, PortError> {
        let Some(version) = self.discovery.preferred(group, kind).await? else { return Ok(None) };
        self.listed(group, &version, kind, namespace, Selector::All, identity).await.map(Some)
    }

    async fn preferred_version(&self, group: &str, kind: &str) -> Result<Option<String>, PortError> {
        self.discovery.preferred(group, kind).await
    }

    async fn served(&self, group: &str, kind: &str) -> Result<Option<Served>, PortError> {
        let found = self.discovery.any_version(group, kind).await?;
        Ok(found.map(|Resource { plural, namespaced }| Served { plural, namespaced }))
    }

    async fn create(
        &self,
        identity: &Identity,
        manager: &str,
        object: &Value,
        dry_run: DryRun,
    ) -> Result<Value, PortError> {
        let path = self.path_for(object, Place::Kind).await?;
        self.store(&Call::create(path, manager, object, dry_run), identity, dry_run).await
    }

    async fn apply(
        &self,
        identity: &Identity,
        manager: &str,
        object: &Value,
        precondition: &Precondition,
        dry_run: DryRun,
    ) -> Result<Value, PortError> {
        let path = self.path_for(object, Place::Object).await?;
        let precondition = self.with_uid(identity, &path, precondition).await?;
        self.store(&Call::apply(path, manager, object, &precondition, dry_run), identity, dry_run).await
    }

    async fn replace(
        &self,
        identity: &Identity,
        manager: &str,
        object: &Value,
        dry_run: DryRun,
    ) -> Result<Value, PortError> {
        let path = self.path_for(object, Place::Object).await?;
        self.store(&Call::replace(path, manager, object, dry_run), identity, dry_run).await
    }

    async fn merge_patch(
        &self,
        identity: &Identity,
        manager: &str,
        id: &ObjectId,
        patch: &Value,
    ) -> Result<Value, PortError> {
        let resource = self.resource(id).await?;
        let path = path_of(id, &resource, None)?;
        self.store(&Call::merge_patch(path, manager, patch), identity, DryRun::No).await
    }

    async fn replace_status(&self, object: &Value) -> Result<Value, PortError> {
        let path = self.path_for(object, Place::Status).await?;
        let call = Call::replace(path, STATUS_MANAGER, object, DryRun::No);
        self.write(&call, &Identity::Controller, DryRun::No).await
    }

    async fn delete(
        &self,
        identity: &Identity,
        id: &ObjectId,
        precondition: &Precondition,
        foreground: bool,
        dry_run: DryRun,
    ) -> Result<(), PortError> {
        let resource = match self.resource(id).await {
            // Without its definition no object of a kind is left.
            Err(PortError::UnknownKind { .. }) => return Ok(()),
            resource => resource?,
        };
        let call = Call::delete(path_of(id, &resource, None)?, precondition, foreground, dry_run);
        match self.write(&call, identity, dry_run).await {
            Ok(left) => {
                if dry_run == DryRun::No {
                    self.interests.deleted(id, precondition.uid.as_deref(), &left);
                }
                Ok(())
            }
            Err(error @ PortError::NotFound(_)) => {
                self.kind_may_be_gone(id, &error);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn note(&self, regarding: &Value, note: &Note) -> impl Future<Output = ()> + Send {
        self.events.note(regarding, note);
        std::future::ready(())
    }

    async fn note_once(&self, regarding: &Value, note: &Note, name: &str) {
        self.events.once(regarding, note, name).await;
    }

    fn watch(&self, waiter: &str, objects: &[ObjectId]) {
        self.interests.set(waiter, objects);
    }

    async fn told(&self, id: &ObjectId, labels: Option<&str>) -> Result<Vec<Value>, PortError> {
        if let Some(known) = self.interests.seen(id) {
            return Ok(known);
        }
        let found = live_of(self, id, labels).await?;
        self.interests.read(id, &found);
        Ok(found)
    }

    fn doubt(&self, waiter: &str, only: Option<&ObjectId>) {
        self.interests.doubt(waiter, only);
    }

    fn measure(&self, waiter: &str, question: &Question) -> Option<Answer> {
        self.inquiries.ask(self, waiter, question)
    }
}

#[cfg(test)]
mod tests;
