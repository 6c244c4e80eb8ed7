//! Writes as data, and the two halves into which each is divided so that a webhook can judge in between.

use std::sync::Arc;

use interlock_core::admission::{MutateAnswer, Operation, User, Verdict, WriteRequest};
use interlock_core::object::ObjectId;
use interlock_core::port::{DryRun, Precondition};
use serde_json::Value;

use super::registry::KindInfo;
use super::store::Key;

/// What becomes of dependants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Propagation {
    /// They are deleted after their owner.
    #[default]
    Background,
    /// They are deleted before their owner.
    Foreground,
    /// They stay and lose their owner.
    Orphan,
}

/// What a write does.
#[derive(Clone, Debug, PartialEq)]
pub enum Verb {
    /// POST.
    Create(Value),
    /// PUT; a resourceVersion in the object's metadata is required of the live one.
    Replace(Value),
    /// PATCH with a JSON merge patch (RFC 7386); a resourceVersion in its metadata is a precondition.
    MergePatch {
        /// Of what.
        id: ObjectId,
        /// The patch.
        patch: Value,
    },
    /// PATCH with an apply configuration; uid and resourceVersion in its metadata are preconditions.
    Apply {
        /// What is applied.
        object: Value,
        /// Whether fields are taken from other managers.
        force: bool,
    },
    /// DELETE.
    Delete {
        /// What.
        id: ObjectId,
        /// What is required of the live object.
        precondition: Precondition,
        /// What becomes of dependants.
        propagation: Propagation,
    },
}

/// One write by somebody.
#[derive(Clone, Debug, PartialEq)]
pub struct Write {
    /// Who.
    pub user: User,
    /// The field manager.
    pub manager: String,
    /// What.
    pub verb: Verb,
    /// `status`; none for the object itself.
    pub subresource: Option<String>,
    /// Whether it is only tried.
    pub dry_run: bool,
}

impl Write {
    /// A write of the object itself that is stored.
    pub fn new(user: &User, manager: &str, verb: Verb) -> Self {
        Self { user: user.clone(), manager: manager.to_owned(), verb, subresource: None, dry_run: false }
    }

    /// POST.
    pub fn create(user: &User, manager: &str, object: &Value) -> Self {
        Self::new(user, manager, Verb::Create(object.clone()))
    }

    /// PUT.
    pub fn replace(user: &User, manager: &str, object: &Value) -> Self {
        Self::new(user, manager, Verb::Replace(object.clone()))
    }

    /// PUT of the status subresource.
    pub fn status(user: &User, manager: &str, object: &Value) -> Self {
        Self::replace(user, manager, object).on("status")
    }

    /// Merge patch.
    pub fn merge_patch(user: &User, manager: &str, id: &ObjectId, patch: &Value) -> Self {
        Self::new(user, manager, Verb::MergePatch { id: id.clone(), patch: patch.clone() })
    }

    /// Server-side apply with force.
    pub fn apply(user: &User, manager: &str, object: &Value) -> Self {
        Self::new(user, manager, Verb::Apply { object: object.clone(), force: true })
    }

    /// Server-side apply that gives way to other managers.
    pub fn apply_without_force(user: &User, manager: &str, object: &Value) -> Self {
        Self::new(user, manager, Verb::Apply { object: object.clone(), force: false })
    }

    /// DELETE in the background.
    pub fn delete(user: &User, id: &ObjectId) -> Self {
        let precondition = Precondition::default();
        Self::new(user, "", Verb::Delete { id: id.clone(), precondition, propagation: Propagation::Background })
    }

    /// The same deletion with preconditions; other writes carry them in their object.
    #[must_use]
    pub fn requiring(mut self, required: &Precondition) -> Self {
        if let Verb::Delete { precondition, .. } = &mut self.verb {
            precondition.clone_from(required);
        }
        self
    }

    /// The same deletion with another propagation.
    #[must_use]
    pub fn propagating(mut self, how: Propagation) -> Self {
        if let Verb::Delete { propagation, .. } = &mut self.verb {
            *propagation = how;
        }
        self
    }

    /// The same write on a subresource.
    #[must_use]
    pub fn on(mut self, subresource: &str) -> Self {
        self.subresource = Some(subresource.to_owned());
        self
    }

    /// The same write, stored or only tried.
    #[must_use]
    pub fn dry_run(mut self, dry_run: DryRun) -> Self {
        self.dry_run = dry_run == DryRun::Yes;
        self
    }
}

/// A write on its way: authorised, merged and defaulted, and seen by mutating admission next.
#[derive(Clone, Debug)]
pub struct Prepared {
    pub(super) write: Write,
    pub(super) info: Arc<KindInfo>,
    pub(super) key: Key,
    pub(super) operation: Operation,
    pub(super) old: Option<Arc<Value>>,
    pub(super) new: Option<Value>,
    /// Whether mutating admission changed it.
    pub(super) is_mutated: bool,
    /// Whether the client requires exactly the object that it read.
    pub(super) is_conditional: bool,
    pub(super) review_uid: String,
    /// None while the name is still to be generated.
    pub(super) requested_name: Option<String>,
}

/// A write that is validated and needs only to be stored.
#[derive(Clone, Debug)]
pub struct Pending {
    pub(super) prepared: Prepared,
    /// Whether the write changes nothing at all.
    pub(super) is_no_op: bool,
}

/// What became of a write.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It is stored (or would be); the object as the server answers it.
    Done(Arc<Value>),
    /// The object changed since the write was prepared, and the client required no special state: prepare it again.
    Changed,
}

impl Prepared {
    /// The kind that is written.
    pub fn kind(&self) -> &KindInfo {
        &self.info
    }

    /// What is done to it.
    pub const fn operation(&self) -> Operation {
        self.operation
    }

    /// The subresource, if one is written.
    pub fn subresource(&self) -> Option<&str> {
        self.write.subresource.as_deref()
    }

    /// The name, unless the server is still to generate it.
    pub fn name(&self) -> Option<&str> {
        self.requested_name.as_deref()
    }

    /// The live object.
    pub const fn old(&self) -> Option<&Arc<Value>> {
        self.old.as_ref()
    }

    /// The write as mutating admission sees it.
    pub fn request(&self) -> WriteRequest {
        let named = self.requested_name.clone();
        WriteRequest {
            uid: self.review_uid.clone(),
            operation: self.operation,
            group: self.info.group.clone(),
            version: self.info.version.clone(),
            kind: self.info.kind.clone(),
            resource: self.info.plural.clone(),
            subresource: self.write.subresource.clone(),
            namespace: self.namespace().map(ToOwned::to_owned),
            name: named,
            user: self.write.user.clone(),
            dry_run: self.write.dry_run,
            object: self.new.clone().filter(|_| self.operation != Operation::Delete),
            old: self.old.as_deref().cloned(),
            options: Some(self.options()),
        }
    }

    /// The namespace as admission sees it: a Namespace is in itself.
    pub fn namespace(&self) -> Option<&str> {
        let is_namespace = self.info.is("", "Namespace");
        let namespace = if is_namespace { self.requested_name.as_deref() } else { Some(self.key.namespace.as_str()) };
        namespace.filter(|namespace| !namespace.is_empty())
    }

    fn options(&self) -> Value {
        let (kind, version) = match &self.write.verb {
            Verb::Create(_) => ("CreateOptions", "meta.k8s.io/v1"),
            Verb::Replace(_) => ("UpdateOptions", "meta.k8s.io/v1"),
            // An apply that creates is presented with the options of a patch all the same.
            Verb::MergePatch { .. } | Verb::Apply { .. } => ("PatchOptions", "meta.k8s.io/v1"),
            Verb::Delete { .. } => ("DeleteOptions", "meta.k8s.io/v1"),
        };
        let mut options = serde_json::Map::new();
        let mut put = |name: &str, value: Value| {
            options.insert(name.to_owned(), value);
        };
        put("apiVersion", version.into());
        put("kind", kind.into());
        if self.write.dry_run {
            put("dryRun", serde_json::json!(["All"]));
        }
        match &self.write.verb {
            Verb::Delete { precondition, propagation, .. } => {
                put("propagationPolicy", format!("{propagation:?}").into());
                let mut required = serde_json::Map::new();
                required.extend(precondition.uid.iter().map(|uid| ("uid".to_owned(), uid.clone().into())));
                let version = precondition.resource_version.iter();
                required.extend(version.map(|version| ("resourceVersion".to_owned(), version.clone().into())));
                if !required.is_empty() {
                    put("preconditions", Value::Object(required));
                }
            }
            Verb::Apply { force, .. } => {
                put("fieldManager", self.write.manager.clone().into());
                put("force", (*force).into());
            }
            _ => put("fieldManager", self.write.manager.clone().into()),
        }
        Value::Object(options)
    }
}

impl Pending {
    /// The write as validating admission sees it.
    pub fn request(&self) -> WriteRequest {
        self.prepared.request()
    }

    /// The write as it was prepared.
    pub const fn prepared(&self) -> &Prepared {
        &self.prepared
    }

    /// Whether the write changes nothing: nothing will be stored, though admission is asked all the same.
    pub const fn is_no_op(&self) -> bool {
        self.is_no_op
    }
}

/// Webhooks that answer at once. Those that read the API themselves are called between the halves of a write instead.
pub trait Admission {
    /// The mutating call.
    fn mutate(&mut self, request: &WriteRequest) -> MutateAnswer;

    /// The validating call.
    fn validate(&mut self, request: &WriteRequest) -> Verdict;
}

/// No webhooks.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoAdmission;

impl Admission for NoAdmission {
    fn mutate(&mut self, _: &WriteRequest) -> MutateAnswer {
        MutateAnswer::Nothing
    }

    fn validate(&mut self, _: &WriteRequest) -> Verdict {
        Verdict::allow()
    }
}
