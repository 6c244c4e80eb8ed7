//! The narrow port through which the body reads and writes a cluster.
//!
//! The kube client implements it for a real cluster, the simulation for a simulated one; the code that observes and
//! acts runs unchanged on both. Objects cross it as JSON, because a change may hold any kind.

use std::future::Future;

use serde_json::Value;

use crate::analysis::{Answer, Question};
use crate::object::ObjectId;

/// Under whose rights a call is made.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Identity {
    /// Interlock's own ServiceAccount.
    Controller,
    /// The named user, impersonated; used for a System's executor only.
    Impersonate(String),
}

/// What a write requires of the live object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Precondition {
    /// The live object has this uid.
    pub uid: Option<String>,
    /// The live object has this resourceVersion.
    pub resource_version: Option<String>,
}

impl Precondition {
    /// Requires exactly the object that was read.
    pub fn of(live: &Value) -> Self {
        let text = |name: &str| {
            live.get("metadata").and_then(|meta| meta.get(name)).and_then(Value::as_str).map(ToOwned::to_owned)
        };
        Self { uid: text("uid"), resource_version: text("resourceVersion") }
    }
}

/// Whether a write is stored or only tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DryRun {
    /// The server does everything but store it.
    Yes,
    /// The server stores it.
    No,
}

/// Why a call failed. The messages are the server's own where it answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    /// The object, or its namespace, does not exist.
    #[error("{0}")]
    NotFound(String),
    /// An object of this name exists already.
    #[error("{0}")]
    AlreadyExists(String),
    /// A precondition did not hold: somebody else wrote the object meanwhile.
    #[error("{0}")]
    Conflict(String),
    /// The identity lacks the right, or admission denied the write.
    #[error("{0}")]
    Forbidden(String),
    /// The server refused the object: it is invalid, immutable, or over a quota.
    #[error("{0}")]
    Invalid(String),
    /// The server does not know the kind.
    #[error("the cluster does not know the kind {kind} of {api_version}: install its definition first")]
    UnknownKind {
        /// `group/version`.
        api_version: String,
        /// Kind.
        kind: String,
    },
    /// No answer in time, too many requests, or a failure of the server. Whether a write took effect is not known.
    #[error("{0}")]
    Unavailable(String),
}

impl PortError {
    /// Whether the same call may succeed later without anybody doing anything.
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Conflict(_))
    }
}

/// How the server addresses a kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// Plural name of its resource, such as `deployments`.
    pub plural: String,
    /// Whether its objects lie in namespaces.
    pub namespaced: bool,
}

/// A line for people that read `kubectl describe` and `kubectl get events`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// `Normal` or `Warning`.
    pub warning: bool,
    /// One word.
    pub reason: String,
    /// What was done, one word.
    pub action: String,
    /// One sentence.
    pub message: String,
}

/// The name under which an object is waited for: that of what it belongs to where nobody can know its own before. An
/// `EndpointSlice` goes by the name of its Service, a `ReplicaSet` by that of its Deployment, a `HorizontalPodAutoscaler` by that
/// of the workload that it scales. None of what has no name.
pub fn awaited_as(object: &Value) -> Option<ObjectId> {
    let id = ObjectId::of(object).ok()?;
    let other = match id.kind.as_str() {
        "EndpointSlice" => {
            object.pointer("/metadata/labels").and_then(|labels| labels.get("kubernetes.io/service-name")?.as_str())
        }
        "ReplicaSet" => {
            let owners = object.pointer("/metadata/ownerReferences").and_then(Value::as_array);
            let controls = |owner: &&Value| owner.get("controller") == Some(&Value::Bool(true));
            owners.and_then(|owners| owners.iter().find(controls)?.get("name")?.as_str())
        }
        "HorizontalPodAutoscaler" => object.pointer("/spec/scaleTargetRef/name").and_then(Value::as_str),
        _ => None,
    };
    Some(match other {
        Some(other) => ObjectId { name: other.to_owned(), ..id },
        None => id,
    })
}

/// Whether objects of this kind are waited for under the name of what they belong to.
pub fn is_awaited_by_owner(kind: &str) -> bool {
    matches!(kind, "EndpointSlice" | "ReplicaSet" | "HorizontalPodAutoscaler")
}

/// Whether an object has each of these labels, written as in a selector of equalities: `a=b,c=d`.
pub fn has_labels(object: &Value, labels: &str) -> bool {
    let found = object.pointer("/metadata/labels");
    let text = |key: &str| found.and_then(|labels| labels.get(key)).and_then(Value::as_str);
    labels.split(',').filter_map(|label| label.split_once('=')).all(|(key, value)| text(key) == Some(value))
}

/// What is awaited under this name, read from the server: one object, or those that belong to the one of this name. `labels`
/// are those that the latter have, so that no others are read.
///
/// # Errors
/// Those of the reads.
pub async fn live_of<P: Port>(port: &P, id: &ObjectId, labels: Option<&str>) -> Result<Vec<Value>, PortError> {
    if !is_awaited_by_owner(&id.kind) {
        return Ok(port.live_get(&Identity::Controller, id).await?.into_iter().collect());
    }
    let namespace = id.namespace.as_deref();
    let mut found = match labels {
        Some(labels) => port.live_list_labelled(&id.group, &id.version, &id.kind, namespace, labels).await?,
        None => port.live_list(&id.group, &id.version, &id.kind, namespace).await?,
    };
    found.retain(|object| awaited_as(object).is_some_and(|found| found.name == id.name));
    Ok(found)
}

/// Reads and writes of one cluster.
///
/// Every write is safe to repeat: it has a deterministic name or a precondition. A call that returns
/// [`PortError::Unavailable`] may have taken effect.
pub trait Port: Send + Sync {
    /// The present instant by the API server's clock; none when it is not known.
    fn now(&self) -> Option<jiff::Timestamp>;

    /// Whether this process may write: it holds the lease now.
    fn may_write(&self) -> bool;

    /// Reads the object from the server, not from a cache. None if it does not exist.
    fn live_get(
        &self,
        identity: &Identity,
        id: &ObjectId,
    ) -> impl Future<Output = Result<Option<Value>, PortError>> + Send;

    /// Lists objects of a kind in a namespace (or cluster-wide) from the server, not from a cache.
    fn live_list(
        &self,
        group: &str,
        version: &str,
        kind: &str,
        namespace: Option<&str>,
    ) -> impl Future<Output = Result<Vec<Value>, PortError>> + Send;

    /// Like [`Port::live_list`], only objects whose text at `field` (such as `.spec.changeRequestUid`, a selectable field of
    /// the kind) is `value`. Without help from the server everything is listed and sorted out here.
    fn live_list_where(
        &self,
        group: &str,
        version: &str,
        kind: &str,
        namespace: Option<&str>,
        (field, value): (&str, &str),
    ) -> impl Future<Output = Result<Vec<Value>, PortError>> + Send {
        async move {
            let pointer = field.replace('.', "/");
            let mut listed = self.live_list(group, version, kind, namespace).await?;
            listed.retain(|object| object.pointer(&pointer).and_then(Value::as_str) == Some(value));
            Ok(listed)
        }
    }

    /// Like [`Port::live_list`], only objects with these labels: `app=web,tier=front`. Without help from the server everything
    /// is listed and sorted out here.
    fn live_list_labelled(
        &self,
        group: &str,
        version: &str,
        kind: &str,
        namespace: Option<&str>,
        labels: &str,
    ) -> impl Future<Output = Result<Vec<Value>, PortError>> + Send {
        async move {
            let mut listed = self.live_list(group, version, kind, namespace).await?;
            listed.retain(|object| has_labels(object, labels));
            Ok(listed)
        }
    }

    /// Like [`Port::live_list`], in the name of `identity` and in the version that the server prefers; none if it serves no such
    /// kind. A port that lists in nobody's name says so.
    fn live_list_as(
        &self,
        identity: &Identity,
        group: &str,
        kind: &str,
        namespace: Option<&str>,
    ) -> impl Future<Output = Result<Option<Vec<Value>>, PortError>> + Send {
        let _ = (identity, group, kind, namespace);
        std::future::ready(Err(PortError::Invalid("objects of a kind cannot be listed from here".to_owned())))
    }

    /// The version in which the server prefers to serve the kind; none if it serves no such kind.
    fn preferred_version(
        &self,
        group: &str,
        kind: &str,
    ) -> impl Future<Output = Result<Option<String>, PortError>> + Send {
        let _ = (group, kind);
        std::future::ready(Ok(None))
    }

    /// How the server addresses the kind, in whatever version; none if it serves no such kind. A cluster that cannot tell
    /// serves none.
    fn served(&self, group: &str, kind: &str) -> impl Future<Output = Result<Option<Served>, PortError>> + Send {
        let _ = (group, kind);
        std::future::ready(Ok(None))
    }

    /// Creates the object; fails if it exists. Returns what was (or would be) stored.
    fn create(
        &self,
        identity: &Identity,
        manager: &str,
        object: &Value,
        dry_run: DryRun,
    ) -> impl Future<Output = Result<Value, PortError>> + Send;

    /// Server-side apply with `force`, as `manager`. Preconditions go into the object's metadata. Returns what was (or
    /// would be) stored.
    fn apply(
        &self,
        identity: &Identity,
        manager: &str,
        object: &Value,
        precondition: &Precondition,
        dry_run: DryRun,
    ) -> impl Future<Output = Result<Value, PortError>> + Send;

    /// Replaces the object (PUT). Its metadata carries the precondition.
    fn replace(
        &self,
        identity: &Identity,
        manager: &str,
        object: &Value,
        dry_run: DryRun,
    ) -> impl Future<Output = Result<Value, PortError>> + Send;

    /// JSON merge patch of the object.
    fn merge_patch(
        &self,
        identity: &Identity,
        manager: &str,
        id: &ObjectId,
        patch: &Value,
    ) -> impl Future<Output = Result<Value, PortError>> + Send;

    /// Replaces the status subresource; `object.metadata.resourceVersion` is the precondition.
    fn replace_status(&self, object: &Value) -> impl Future<Output = Result<Value, PortError>> + Send;

    /// Deletes the object in the background, or in the foreground when `foreground`. Succeeds if it is gone already.
    fn delete(
        &self,
        identity: &Identity,
        id: &ObjectId,
        precondition: &Precondition,
        foreground: bool,
        dry_run: DryRun,
    ) -> impl Future<Output = Result<(), PortError>> + Send;

    /// Tells people. Best effort: it never fails a change.
    fn note(&self, regarding: &Value, note: &Note) -> impl Future<Output = ()> + Send;

    /// Tells people once, before what is told is recorded: the Event has this name, and one that is there already stays as it
    /// is. So whoever dies before the record tells it again, and it stands there once. Best effort like [`Self::note`].
    fn note_once(&self, regarding: &Value, note: &Note, _name: &str) -> impl Future<Output = ()> + Send {
        self.note(regarding, note)
    }

    /// From now on, every change of one of these objects wakes `waiter` (`namespace/name` of a ChangeRequest). Replaces
    /// the earlier interest of this waiter; an empty list ends it. Names are those of [`awaited_as`].
    fn watch(&self, waiter: &str, objects: &[ObjectId]);

    /// What was last told of an object that somebody watches, or of those that belong to the one of this name (see
    /// [`awaited_as`]); read from the server if nothing was told yet. It may be behind, and every change that was not told yet
    /// wakes the waiter. So it is enough to decide by, as long as each write that follows carries the resourceVersion that was
    /// told: if that is no longer the live one, the write conflicts, and whoever made it has to [`Port::doubt`] what was told.
    /// ReplicaSets may come without their template, and nothing with its managers.
    fn told(&self, id: &ObjectId, labels: Option<&str>) -> impl Future<Output = Result<Vec<Value>, PortError>> + Send
    where
        Self: Sized,
    {
        live_of(self, id, labels)
    }

    /// What was told of the objects that `waiter` watches, or of one of them only, is not believed any more: it is read from the
    /// server next time.
    fn doubt(&self, waiter: &str, only: Option<&ObjectId>) {
        let _ = (waiter, only);
    }

    /// What a measurement came to, told once. None while it is under way: it is begun if it was not, never waited for, and
    /// wakes `waiter` when it has come to something. A port that reaches no servers says so.
    fn measure(&self, waiter: &str, question: &Question) -> Option<Answer> {
        let _ = (waiter, question);
        Some(Answer::Impossible("nothing can be measured from here".to_owned()))
    }
}
