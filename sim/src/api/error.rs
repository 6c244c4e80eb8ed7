//! The API server's refusals, in its own words.

use interlock_core::object::GroupKind;
use interlock_core::port::PortError;
use serde_json::{Map, Value, json};

/// A `Status` of kind failure.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// HTTP status code.
    pub code: u16,
    /// One word, such as `NotFound`; empty where the server gives none.
    pub reason: String,
    /// What a person reads.
    pub message: String,
    /// What a program reads.
    pub details: Box<Details>,
}

/// What a refusal is about. What is empty is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Details {
    /// API group.
    pub group: String,
    /// Plural of the resource, or the kind where the object's content is at fault.
    pub kind: String,
    /// Name of the object.
    pub name: String,
    /// The reasons, one by one.
    pub causes: Vec<Cause>,
}

impl ApiError {
    /// An error with a code, a reason and a message.
    pub fn new(code: u16, reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code, reason: reason.into(), message: message.into(), details: Box::default() }
    }

    /// The same error about that object; `resource` is `deployments.apps`, or `pods` in the core group.
    #[must_use]
    fn about(mut self, resource: &str, name: &str) -> Self {
        let (kind, group) = resource.split_once('.').unwrap_or((resource, ""));
        (self.details.kind, self.details.group) = (kind.to_owned(), group.to_owned());
        name.clone_into(&mut self.details.name);
        self
    }

    /// The same error with its reasons one by one.
    #[must_use]
    pub(super) fn because(mut self, causes: Vec<Cause>) -> Self {
        self.details.causes = causes;
        self
    }

    /// The `Status` that the server answers.
    pub fn status(&self) -> Value {
        let Details { group, kind, name, causes } = &*self.details;
        let mut details = Map::new();
        for (field, text) in [("name", name), ("group", group), ("kind", kind)] {
            if !text.is_empty() {
                details.insert(field.to_owned(), json!(text));
            }
        }
        if !causes.is_empty() {
            details.insert("causes".to_owned(), causes.iter().map(Cause::shown).collect());
        }
        let mut status = json!({
            "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure",
            "code": self.code, "message": self.message,
        });
        if let Some(fields) = status.as_object_mut() {
            if !self.reason.is_empty() {
                fields.insert("reason".to_owned(), json!(self.reason));
            }
            // About a path that leads nowhere it says that it says nothing.
            if !details.is_empty() || self.code == 404 {
                fields.insert("details".to_owned(), Value::Object(details));
            }
        }
        status
    }

    /// 404 of an object; `resource` is `deployments.apps`.
    pub fn not_found(resource: &str, name: &str) -> Self {
        Self::new(404, "NotFound", format!("{resource} \"{name}\" not found")).about(resource, name)
    }

    /// 409 of a create.
    pub fn already_exists(resource: &str, name: &str) -> Self {
        Self::new(409, "AlreadyExists", format!("{resource} \"{name}\" already exists")).about(resource, name)
    }

    /// 409 of a write.
    pub fn conflict(resource: &str, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {resource} \"{name}\": {why}");
        Self::new(409, "Conflict", message).about(resource, name)
    }

    /// 409 since the object is no longer the one that was read.
    pub fn modified(resource: &str, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(resource, name, why)
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// 403 about one object.
    pub fn forbidden(resource: &str, name: &str, why: &str) -> Self {
        let shown = if name.is_empty() { String::new() } else { format!(" \"{name}\"") };
        Self::new(403, "Forbidden", format!("{resource}{shown} is forbidden: {why}")).about(resource, name)
    }

    /// 422: each cause is a field and what is wrong with it.
    pub fn invalid(kind: &GroupKind, name: &str, causes: &[Cause]) -> Self {
        let qualified = if kind.group.is_empty() { kind.kind.clone() } else { format!("{}.{}", kind.kind, kind.group) };
        // Each is told once.
        let mut told: Vec<Cause> = Vec::new();
        for cause in causes {
            if !told.contains(cause) {
                told.push(cause.clone());
            }
        }
        let shown: Vec<String> = told.iter().map(|cause| format!("{}: {}", cause.field, cause.detail)).collect();
        let shown = match shown.as_slice() {
            [only] => only.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let message = format!("{qualified} \"{name}\" is invalid: {shown}");
        Self::new(422, "Invalid", message).about(&qualified, name).because(told)
    }

    /// 404 of a whole kind.
    pub fn unknown_kind() -> Self {
        Self::new(404, "NotFound", "the server could not find the requested resource")
    }

    /// 410 of a watch or list that starts before what the log still holds.
    pub fn expired(wanted: u64, oldest: u64) -> Self {
        Self::new(410, "Expired", format!("too old resource version: {wanted} ({oldest})"))
    }

    /// Whether nothing of that name exists.
    pub fn is_not_found(&self) -> bool {
        self.reason == "NotFound"
    }

    /// Whether a precondition did not hold.
    pub fn is_conflict(&self) -> bool {
        self.reason == "Conflict"
    }

    /// Whether an object of that name exists already.
    pub fn is_already_exists(&self) -> bool {
        self.reason == "AlreadyExists"
    }
}

/// One reason of a 422.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// The field, such as `spec.selector`.
    pub field: String,
    /// What is wrong with it, such as `Required value`.
    pub detail: String,
}

impl Cause {
    /// A field and what is wrong with it.
    pub fn new(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { field: field.into(), detail: detail.into() }
    }

    /// The server's word for the kind of mistake, which its sentence begins with.
    pub fn reason(&self) -> &'static str {
        const WORDS: [(&str, &str); 10] = [
            ("Required value", "FieldValueRequired"),
            ("Duplicate value", "FieldValueDuplicate"),
            ("Unsupported value", "FieldValueNotSupported"),
            ("Forbidden", "FieldValueForbidden"),
            ("Not found", "FieldValueNotFound"),
            ("Too long", "FieldValueTooLong"),
            ("Too many", "FieldValueTooMany"),
            ("Internal error", "InternalError"),
            ("conflict with", "FieldManagerConflict"),
            ("namespace ", "NamespaceTerminating"),
        ];
        if self.detail.contains(" in body must be of type ") {
            return "FieldValueTypeInvalid";
        }
        let word = WORDS.iter().find(|(beginning, _)| self.detail.starts_with(beginning));
        word.map_or("FieldValueInvalid", |(_, reason)| reason)
    }

    fn shown(&self) -> Value {
        json!({"reason": self.reason(), "message": self.detail, "field": self.field})
    }
}

impl From<ApiError> for PortError {
    /// The same reading of answers as `controller/src/kube_port/error.rs`; [`PortError::UnknownKind`] comes from discovery.
    fn from(error: ApiError) -> Self {
        let message = error.message;
        match (error.reason.as_str(), error.code) {
            ("Invalid", _) if error.details.causes.iter().any(|cause| cause.field == "metadata.uid") => {
                Self::Conflict(message)
            }
            (_, 500) if message.starts_with("failed to create typed patch object") => Self::Invalid(message),
            ("NotFound", _) => Self::NotFound(message),
            ("AlreadyExists", _) => Self::AlreadyExists(message),
            ("Conflict", _) => Self::Conflict(message),
            ("Forbidden", _) if message.contains("exceeded quota") => Self::Invalid(message),
            ("Forbidden", _) => Self::Forbidden(message),
            ("Invalid" | "BadRequest" | "MethodNotAllowed" | "RequestEntityTooLarge", _) => Self::Invalid(message),
            (_, 500) if message.contains("resourceVersion should not be set on objects to be created") => {
                Self::Conflict(message)
            }
            (
                "Unauthorized" | "TooManyRequests" | "ServerTimeout" | "Timeout" | "InternalError"
                | "ServiceUnavailable",
                _,
            ) => Self::Unavailable(message),
            (_, 401 | 408 | 410 | 429 | 500..) => Self::Unavailable(message),
            (_, 409) => Self::Conflict(message),
            (_, 400 | 405 | 406 | 413 | 415 | 422) => Self::Invalid(message),
            (_, 404) => Self::NotFound(message),
            (_, 402..500) => Self::Forbidden(message),
            _ => Self::Unavailable(message),
        }
    }
}
