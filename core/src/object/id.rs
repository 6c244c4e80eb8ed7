//! Who an object is.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Why a JSON value is not a Kubernetes object that can be named.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ObjectError {
    /// The value is a list, a string or another thing that is no JSON object.
    #[error("an object is expected, but the value is {found}")]
    NotAnObject {
        /// The JSON type that was found.
        found: &'static str,
    },
    /// A field that names the object is missing, empty or no string.
    #[error("{field} is missing, empty or not a string")]
    Missing {
        /// The field as a person writes it, such as `metadata.name`.
        field: &'static str,
    },
    /// A field that names the object holds a character that no name can have.
    #[error("{field} is \"{value}\", which is not a valid name")]
    Invalid {
        /// The field as a person writes it, such as `metadata.name`.
        field: &'static str,
        /// What it holds.
        value: String,
    },
}

/// A kind without its version: what decides the meaning of fields, since versions of one kind describe one object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct GroupKind {
    /// The API group; empty for the core group.
    pub group: String,
    /// The kind, such as `Deployment`.
    pub kind: String,
}

impl GroupKind {
    /// A kind by its group and name.
    pub fn new(group: impl Into<String>, kind: impl Into<String>) -> Self {
        Self { group: group.into(), kind: kind.into() }
    }

    /// The kind that an object states.
    ///
    /// # Errors
    /// When the value is no object, or `apiVersion` or `kind` is missing or malformed.
    pub fn of(object: &Value) -> Result<Self, ObjectError> {
        let (group, _) = group_version(object)?;
        Ok(Self { group, kind: name_field(object, "/kind", "kind")? })
    }

    /// Whether this is the kind with the given group and name.
    pub fn is(&self, group: &str, kind: &str) -> bool {
        self.group == group && self.kind == kind
    }
}

impl fmt::Display for GroupKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.group.is_empty() { f.write_str(&self.kind) } else { write!(f, "{}/{}", self.group, self.kind) }
    }
}

/// The full name of one object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectId {
    /// The API group; empty for the core group.
    pub group: String,
    /// The API version, such as `v1`. It is not part of the identity.
    pub version: String,
    /// The kind, such as `Deployment`.
    pub kind: String,
    /// The namespace; none for cluster-scoped objects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The name.
    pub name: String,
}

impl ObjectId {
    /// The name that an object states.
    ///
    /// # Errors
    /// When the value is no object, or a field that names it is missing or malformed.
    pub fn of(object: &Value) -> Result<Self, ObjectError> {
        let (group, version) = group_version(object)?;
        let namespace = match object.pointer("/metadata/namespace") {
            None | Some(Value::Null) => None,
            Some(Value::String(empty)) if empty.is_empty() => None,
            Some(_) => Some(name_field(object, "/metadata/namespace", "metadata.namespace")?),
        };
        Ok(Self {
            group,
            version,
            kind: name_field(object, "/kind", "kind")?,
            namespace,
            name: name_field(object, "/metadata/name", "metadata.name")?,
        })
    }

    /// The kind without its version.
    pub fn group_kind(&self) -> GroupKind {
        GroupKind::new(&self.group, &self.kind)
    }

    /// Group and version as an object's `apiVersion` states them.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// Whether both name the same object, whatever version they speak.
    pub fn same_object(&self, other: &Self) -> bool {
        self.group == other.group
            && self.kind == other.kind
            && self.namespace == other.namespace
            && self.name == other.name
    }

    /// The identity as one text without the version, `group/kind/namespace/name`; no part can hold a slash.
    pub fn key(&self) -> String {
        let namespace = self.namespace.as_deref().unwrap_or_default();
        format!("{}/{}/{namespace}/{}", self.group, self.kind, self.name)
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.group_kind())?;
        if let Some(namespace) = &self.namespace {
            write!(f, "{namespace}/")?;
        }
        f.write_str(&self.name)
    }
}

fn group_version(object: &Value) -> Result<(String, String), ObjectError> {
    if !object.is_object() {
        return Err(ObjectError::NotAnObject { found: json_type(object) });
    }
    let stated = object.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
    if stated.is_empty() {
        return Err(ObjectError::Missing { field: "apiVersion" });
    }
    let (group, version) = stated.rsplit_once('/').unwrap_or(("", stated));
    let core_with_slash = group.is_empty() && stated.contains('/');
    if version.is_empty() || group.contains('/') || core_with_slash {
        return Err(ObjectError::Invalid { field: "apiVersion", value: stated.to_owned() });
    }
    Ok((group.to_owned(), version.to_owned()))
}

fn name_field(object: &Value, pointer: &str, field: &'static str) -> Result<String, ObjectError> {
    let text = object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    if text.is_empty() {
        return Err(ObjectError::Missing { field });
    }
    if text.contains('/') || text.chars().any(char::is_whitespace) {
        return Err(ObjectError::Invalid { field, value: text.to_owned() });
    }
    Ok(text.to_owned())
}

fn json_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
