//! The port through which the controller's own code reads and writes the simulated cluster. Every call waits until the
//! scheduler serves it, so that anything may happen in between.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use interlock_core::{
    admission::User,
    analysis::{Answer as Measured, Question},
    object::ObjectId,
    port::{DryRun, Identity, Note, Port, PortError, Precondition, Served, has_labels, live_of},
};
use interlock_sim::api::{Propagation, Write};
use jiff::Timestamp;
use serde_json::Value;

use crate::cluster::{Answer, CallId, ProcessId, Request, Shared, Told};

/// The user name of Interlock's controller.
pub const CONTROLLER: &str = "system:serviceaccount:interlock-system:interlock-controller";

/// What one process sees of the cluster.
#[derive(Clone, Debug)]
pub struct SimPort {
    shared: Shared,
    process: ProcessId,
}

impl SimPort {
    /// The port of a process.
    pub const fn new(shared: Shared, process: ProcessId) -> Self {
        Self { shared, process }
    }

    fn tell(&self, regarding: &Value, note: &Note) {
        let text = |pointer: &str| regarding.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let about = format!("{}/{}", text("/metadata/namespace"), text("/metadata/name"));
        let mut cluster = self.shared.lock();
        let at = cluster.api.now();
        cluster.told.push(Told { at, about, note: note.clone() });
    }

    async fn ask(&self, request: Request) -> Result<Answer, PortError> {
        Asked { shared: self.shared.clone(), process: self.process, request: Some(request), id: None }.await
    }

    async fn write(&self, write: Write) -> Result<Value, PortError> {
        if !write.dry_run && !self.may_write() {
            return Err(PortError::Unavailable(
                "this controller does not hold the lease any more; nothing was sent".to_owned(),
            ));
        }
        let dry_run = write.dry_run;
        match self.ask(Request::Write(Box::new(write))).await? {
            Answer::Object(object) => {
                // What it wrote itself it knows before anybody tells it.
                if let Some(belief) = self.shared.lock().beliefs.get_mut(&self.process).filter(|_| !dry_run) {
                    belief.told.wrote(&object);
                }
                Ok((*object).clone())
            }
            Answer::List(_) => Ok(Value::Null),
        }
    }

    /// Objects of a kind; only what is wanted is copied.
    async fn list(
        &self,
        group: &str,
        version: &str,
        kind: &str,
        namespace: Option<&str>,
        wanted: impl Fn(&Value) -> bool + Send,
    ) -> Result<Vec<Value>, PortError> {
        self.known(group, version, kind)?;
        let kind = (group.to_owned(), version.to_owned(), kind.to_owned());
        let request = Request::List(service_account(CONTROLLER), kind, namespace.map(ToOwned::to_owned));
        match self.ask(request).await? {
            Answer::List(items) => Ok(items.iter().filter(|item| wanted(item)).map(|item| (**item).clone()).collect()),
            Answer::Object(_) => Ok(Vec::new()),
        }
    }

    fn known(&self, group: &str, version: &str, kind: &str) -> Result<(), PortError> {
        let cluster = self.shared.lock();
        cluster.api.registry().find(group, version, kind).map(|_| ()).map_err(|_| PortError::UnknownKind {
            api_version: if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") },
            kind: kind.to_owned(),
        })
    }

    fn known_of(&self, object: &Value) -> Result<ObjectId, PortError> {
        let id = ObjectId::of(object).map_err(|error| PortError::Invalid(error.to_string()))?;
        self.known(&id.group, &id.version, &id.kind)?;
        Ok(id)
    }

    fn user(identity: &Identity) -> User {
        match identity {
            Identity::Controller => service_account(CONTROLLER),
            Identity::Impersonate(name) => service_account(name),
        }
    }
}

/// A ServiceAccount with the groups that every one has.
pub fn service_account(name: &str) -> User {
    let namespace = name.split(':').nth(2).unwrap_or_default();
    let groups = ["system:serviceaccounts", &format!("system:serviceaccounts:{namespace}"), "system:authenticated"];
    User { name: name.to_owned(), groups: groups.map(ToOwned::to_owned).to_vec(), claims: Vec::new() }
}

/// A call that waits for its answer.
struct Asked {
    shared: Shared,
    process: ProcessId,
    request: Option<Request>,
    id: Option<CallId>,
}

impl Future for Asked {
    type Output = Result<Answer, PortError>;

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        let shared = self.shared.clone();
        let mut cluster = shared.lock();
        if let Some(request) = self.request.take() {
            self.id = Some(cluster.send(Some(self.process), request));
            return Poll::Pending;
        }
        match self.id.and_then(|id| cluster.take_answer(id)) {
            Some(answer) => {
                self.id = None;
                Poll::Ready(answer)
            }
            None => Poll::Pending,
        }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.shared.lock().abandon(id);
        }
    }
}

impl Port for SimPort {
    fn now(&self) -> Option<Timestamp> {
        let cluster = self.shared.lock();
        let belief = cluster.beliefs.get(&self.process)?;
        belief.clock.now_at(cluster.instant())?.checked_add(belief.skew).ok()
    }

    fn may_write(&self) -> bool {
        let mut cluster = self.shared.lock();
        let now = cluster.lease_instant();
        let Some(belief) = cluster.beliefs.get_mut(&self.process) else { return false };
        let may = belief.leads_until.is_some_and(|until| now < until);
        belief.was_turned_away |= !may;
        may
    }

    async fn live_get(&self, identity: &Identity, id: &ObjectId) -> Result<Option<Value>, PortError> {
        self.known(&id.group, &id.version, &id.kind)?;
        match self.ask(Request::Get(Self::user(identity), id.clone())).await {
            Ok(Answer::Object(object)) => Ok(Some((*object).clone())),
            Ok(Answer::List(_)) | Err(PortError::NotFound(_)) => Ok(None),
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
        self.list(group, version, kind, namespace, |_| true).await
    }

    async fn live_list_labelled(
        &self,
        group: &str,
        version: &str,
        kind: &str,
        namespace: Option<&str>,
        labels: &str,
    ) -> Result<Vec<Value>, PortError> {
        self.list(group, version, kind, namespace, |object| has_labels(object, labels)).await
    }

    async fn live_list_as(
        &self,
        identity: &Identity,
        group: &str,
        kind: &str,
        namespace: Option<&str>,
    ) -> Result<Option<Vec<Value>>, PortError> {
        let Some(version) = self.preferred_version(group, kind).await? else { return Ok(None) };
        let kind = (group.to_owned(), version, kind.to_owned());
        let request = Request::List(Self::user(identity), kind, namespace.map(ToOwned::to_owned));
        match self.ask(request).await? {
            Answer::List(items) => Ok(Some(items.iter().map(|item| (**item).clone()).collect())),
            Answer::Object(_) => Ok(Some(Vec::new())),
        }
    }

    async fn preferred_version(&self, group: &str, kind: &str) -> Result<Option<String>, PortError> {
        let cluster = self.shared.lock();
        let info = cluster.api.registry().all().find(|info| info.group == group && info.kind == kind);
        Ok(info.map(|info| info.version.clone()))
    }

    async fn served(&self, group: &str, kind: &str) -> Result<Option<Served>, PortError> {
        let cluster = self.shared.lock();
        let info = cluster.api.registry().all().find(|info| info.group == group && info.kind == kind);
        Ok(info.map(|info| Served { plural: info.plural.clone(), namespaced: info.namespaced }))
    }

    async fn create(
        &self,
        identity: &Identity,
        manager: &str,
        object: &Value,
        dry_run: DryRun,
    ) -> Result<Value, PortError> {
        self.known_of(object)?;
        self.write(Write::create(&Self::user(identity), manager, object).dry_run(dry_run)).await
    }

    async fn apply(
        &self,
        identity: &Identity,
        manager: &str,
        object: &Value,
        precondition: &Precondition,
        dry_run: DryRun,
    ) -> Result<Value, PortError> {
        let id = self.known_of(object)?;
        let mut required = precondition.clone();
        if let (None, Some(version)) = (&required.uid, &required.resource_version) {
            // An apply that states only a resourceVersion creates an object that is not there; only a uid prevents that.
            let live = self.live_get(identity, &id).await?;
            let live = live.ok_or_else(|| PortError::Conflict(format!("it was at version {version}, but is gone")))?;
            required.uid = Precondition::of(&live).uid;
        }
        let mut object = object.clone();
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            for (field, value) in [("uid", required.uid), ("resourceVersion", required.resource_version)] {
                if let Some(value) = value {
                    metadata.insert(field.to_owned(), Value::String(value));
                }
            }
        }
        self.write(Write::apply(&Self::user(identity), manager, &object).dry_run(dry_run)).await
    }

    async fn replace(
        &self,
        identity: &Identity,
        manager: &str,
        object: &Value,
        dry_run: DryRun,
    ) -> Result<Value, PortError> {
        self.known_of(object)?;
        self.write(Write::replace(&Self::user(identity), manager, object).dry_run(dry_run)).await
    }

    async fn merge_patch(
        &self,
        identity: &Identity,
        manager: &str,
        id: &ObjectId,
        patch: &Value,
    ) -> Result<Value, PortError> {
        self.known(&id.group, &id.version, &id.kind)?;
        self.write(Write::merge_patch(&Self::user(identity), manager, id, patch)).await
    }

    async fn replace_status(&self, object: &Value) -> Result<Value, PortError> {
        self.known_of(object)?;
        self.write(Write::status(&service_account(CONTROLLER), "interlock-controller", object)).await
    }

    async fn delete(
        &self,
        identity: &Identity,
        id: &ObjectId,
        precondition: &Precondition,
        foreground: bool,
        dry_run: DryRun,
    ) -> Result<(), PortError> {
        if self.known(&id.group, &id.version, &id.kind).is_err() {
            return Ok(());
        }
        let how = if foreground { Propagation::Foreground } else { Propagation::Background };
        let write = Write::delete(&Self::user(identity), id).requiring(precondition).propagating(how);
        let answer = self.write(write.dry_run(dry_run)).await;
        let stays = matches!(&answer, Ok(left) if left.pointer("/metadata/deletionTimestamp").is_some());
        let is_gone = answer.is_ok() && dry_run == DryRun::No;
        if let Some(belief) = self.shared.lock().beliefs.get_mut(&self.process).filter(|_| !stays) {
            if is_gone {
                belief.told.deleted(id, precondition.uid.as_deref());
            } else {
                belief.told.doubt(&id.key());
            }
        }
        match answer {
            Ok(_) | Err(PortError::NotFound(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn note(&self, regarding: &Value, note: &Note) -> impl Future<Output = ()> + Send {
        self.tell(regarding, note);
        std::future::ready(())
    }

    fn note_once(&self, regarding: &Value, note: &Note, name: &str) -> impl Future<Output = ()> + Send {
        let is_new = self.shared.lock().told_once.insert(name.to_owned());
        if is_new {
            self.tell(regarding, note);
        }
        std::future::ready(())
    }

    fn watch(&self, waiter: &str, objects: &[ObjectId]) {
        let mut cluster = self.shared.lock();
        let Some(belief) = cluster.beliefs.get_mut(&self.process) else { return };
        let before = belief.interests.remove(waiter).unwrap_or_default();
        if !objects.is_empty() {
            belief.interests.insert(waiter.to_owned(), objects.iter().map(ObjectId::key).collect());
        }
        for id in objects {
            belief.told.begin(id);
        }
        for key in before.iter().filter(|key| !belief.interests.values().any(|keys| keys.contains(*key))) {
            belief.told.end(key);
        }
    }

    async fn told(&self, id: &ObjectId, labels: Option<&str>) -> Result<Vec<Value>, PortError> {
        let known = self.shared.lock().beliefs.get(&self.process).and_then(|belief| belief.told.get(id));
        if let Some(known) = known {
            return Ok(known);
        }
        let found = live_of(self, id, labels).await?;
        if let Some(belief) = self.shared.lock().beliefs.get_mut(&self.process) {
            belief.told.fill(id, &found);
        }
        Ok(found)
    }

    fn doubt(&self, waiter: &str, only: Option<&ObjectId>) {
        let mut cluster = self.shared.lock();
        let Some(belief) = cluster.beliefs.get_mut(&self.process) else { return };
        match only {
            Some(id) => belief.told.doubt(&id.key()),
            None => {
                for key in belief.interests.get(waiter).into_iter().flatten() {
                    belief.told.doubt(key);
                }
            }
        }
    }

    fn measure(&self, _: &str, question: &Question) -> Option<Measured> {
        let cluster = self.shared.lock();
        Some(cluster.metrics.answer(question, cluster.api.now()))
    }
}
