//! A write as the API server presents it, and the answers to it.

use std::collections::BTreeSet;

use serde_json::Value;

/// Who makes a request, as the API server authenticated them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// User name.
    pub name: String,
    /// Groups.
    pub groups: Vec<String>,
    /// Extra claims.
    pub claims: Vec<(String, Vec<String>)>,
}

impl User {
    /// The groups as a set.
    pub fn group_set(&self) -> BTreeSet<&str> {
        self.groups.iter().map(String::as_str).collect()
    }
}

/// What is done to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Operation {
    Create,
    Update,
    Delete,
    Connect,
}

impl std::fmt::Display for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Create => "create",
            Self::Update => "change",
            Self::Delete => "delete",
            Self::Connect => "connect to",
        })
    }
}

/// One admission request.
#[derive(Clone, Debug, PartialEq)]
pub struct WriteRequest {
    /// Uid of the admission request.
    pub uid: String,
    /// What is done.
    pub operation: Operation,
    /// API group of the object (converted by `matchPolicy: Equivalent`).
    pub group: String,
    /// API version of the object.
    pub version: String,
    /// Kind of the object.
    pub kind: String,
    /// Resource, lower-case plural.
    pub resource: String,
    /// Subresource, such as `scale`.
    pub subresource: Option<String>,
    /// Namespace; for a Namespace its own name.
    pub namespace: Option<String>,
    /// Name; for deletecollection the name of the old object.
    pub name: Option<String>,
    /// Who asks.
    pub user: User,
    /// Whether nothing will be stored.
    pub dry_run: bool,
    /// The object as it would be stored.
    pub object: Option<Value>,
    /// The object as it is stored.
    pub old: Option<Value>,
    /// Options of the request.
    pub options: Option<Value>,
}

impl WriteRequest {
    /// `Deployment teller/teller`, for messages.
    pub fn target(&self) -> String {
        let name = self.name.as_deref().unwrap_or("(unnamed)");
        match &self.namespace {
            Some(namespace) if self.kind != "Namespace" => {
                format!("{} {namespace}/{name}", self.kind)
            }
            _ => format!("{} {name}", self.kind),
        }
    }
}

/// The answer of the validating webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The write passes.
    Allow {
        /// Shown to whoever writes.
        warnings: Vec<String>,
        /// What Enforce would have answered; goes into the audit annotations and the metrics.
        audit: Option<Denial>,
    },
    /// The write does not pass.
    Deny(Denial),
}

impl Verdict {
    /// The write passes without a word.
    pub const fn allow() -> Self {
        Self::Allow { warnings: Vec::new(), audit: None }
    }

    /// The same with these warnings too, if the write passes.
    #[must_use]
    pub fn with_warnings(self, more: Vec<String>) -> Self {
        match self {
            Self::Allow { warnings, audit } => Self::Allow { warnings: [more, warnings].concat(), audit },
            denied @ Self::Deny(_) => denied,
        }
    }

    /// Whether the write passes.
    pub const fn is_allowed(&self) -> bool {
        matches!(self, Self::Allow { .. })
    }
}

/// Why a write does not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// HTTP status code: 403, 409 or 422.
    pub code: u16,
    /// One word, CamelCase.
    pub reason: String,
    /// What happened, why, and what the person can do.
    pub message: String,
}

/// The answer of the mutating webhook.
#[derive(Clone, Debug, PartialEq)]
pub enum MutateAnswer {
    /// JSON patch operations.
    Patch(Vec<Value>),
    /// Nothing to change.
    Nothing,
    /// The write does not pass.
    Deny(Denial),
}
