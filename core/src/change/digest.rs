//! The two numbers of a change: what evidence binds to, and what votes bind to.

use std::collections::BTreeMap;

use interlock_crds::{ChangeRequestSpec, SecretRef};
use serde::Serialize;
use serde_json::Value;

use super::content::{ContentObject, Intent};
use crate::object::{CanonicalError, Digest, ObjectId, Path};

/// First field of every content envelope.
const CONTENT_DOMAIN: &str = "interlock.dev/content";
/// First field of every change envelope.
const CHANGE_DOMAIN: &str = "interlock.dev/change";
/// Version of both envelopes; a change of their shape raises it.
const FORMAT: u32 = 1;

/// Why a digest cannot be computed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// The content has no canonical JSON.
    #[error("{0}")]
    Canonical(String),
}

impl From<CanonicalError> for DigestError {
    fn from(error: CanonicalError) -> Self {
        Self::Canonical(error.to_string())
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ContentEnvelope<'a> {
    domain: &'static str,
    format: u32,
    renderer: Renderer,
    objects: Vec<ContentEntry<'a>>,
    secrets: Vec<SecretEntry<'a>>,
}

#[derive(Serialize)]
struct Renderer {
    name: &'static str,
    version: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ContentEntry<'a> {
    group: &'a str,
    version: &'a str,
    kind: &'a str,
    namespace: Option<&'a str>,
    name: &'a str,
    operation: &'static str,
    manifest: &'a Value,
}

#[derive(Serialize)]
struct SecretEntry<'a> {
    target: &'a str,
    #[serde(rename = "type")]
    type_: &'a str,
    keys: &'a [String],
}

/// SHA-256 over the canonical JSON of the ordered objects. Names and keys of staged Secrets count, their values and the
/// name of the staged object do not: so that it can be computed from Git alone.
pub fn content_digest(objects: &[ContentObject], secrets: &[SecretRef]) -> Result<Digest, DigestError> {
    let envelope = ContentEnvelope {
        domain: CONTENT_DOMAIN,
        format: FORMAT,
        renderer: Renderer { name: "inline", version: "1" },
        objects: objects.iter().filter(|o| o.staged.is_none()).map(entry).collect(),
        secrets: secrets.iter().map(|s| SecretEntry { target: &s.target, type_: &s.type_, keys: &s.keys }).collect(),
    };
    Ok(Digest::of_canonical(&envelope)?)
}

fn entry(object: &ContentObject) -> ContentEntry<'_> {
    ContentEntry {
        group: &object.id.group,
        version: &object.id.version,
        kind: &object.id.kind,
        namespace: object.id.namespace.as_deref(),
        name: &object.id.name,
        operation: match object.intent {
            Intent::Apply => "Apply",
            Intent::Patch => "Patch",
            Intent::Delete => "Delete",
        },
        manifest: &object.manifest,
    }
}

/// What a reference named when the digest was computed. Its fields stand in the order of their names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Resolved {
    /// Its generation.
    pub generation: i64,
    /// Name of the object.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

/// The RolloutPlan that a change is carried out by. Its fields stand in the order of their names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ResolvedPlan {
    /// Digest of its spec.
    pub digest: Digest,
    /// `namespace/name`.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

/// Everything that votes bind to beside what the requester wrote. Its fields stand in the order of their names.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Binding<'a> {
    /// Digest of the live values that will be written over.
    pub base: Digest,
    /// The Calendar, if the policy names one for this type.
    pub calendar: Option<&'a Resolved>,
    /// Uid of the kube-system namespace.
    pub cluster: &'a str,
    /// User name under whose rights the change will be carried out.
    pub executor: Option<String>,
    /// Namespace of the ChangeRequest.
    pub namespace: &'a str,
    /// The RolloutPlan, if the change is carried out gradually. A change without one has the digest that it always had.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<&'a ResolvedPlan>,
    /// The ChangePolicy.
    pub policy: &'a Resolved,
    /// Keyed hash over staged values; empty without staged Secrets.
    pub secrets_mac: &'a str,
    /// The System.
    pub system: &'a Resolved,
    /// Uid of the ChangeRequest.
    pub uid: &'a str,
}

/// Its fields stand in the order of their names.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ChangeEnvelope<'a> {
    binding: &'a Binding<'a>,
    content: Digest,
    domain: &'static str,
    format: u32,
    spec: Digest,
}

/// Digest of everything that the requester wrote.
pub fn spec_digest(spec: &ChangeRequestSpec) -> Result<Digest, DigestError> {
    Ok(Digest::of_canonical(spec)?)
}

/// SHA-256 over the canonical JSON of the digest of the whole request and every reference resolved.
pub fn change_digest(spec: Digest, content: Digest, binding: &Binding<'_>) -> Result<Digest, DigestError> {
    let envelope = ChangeEnvelope { binding, content, domain: CHANGE_DOMAIN, format: FORMAT, spec };
    Ok(Digest::of_ordered(&envelope)?)
}

/// The live values of the paths that a change will write, object by object.
pub type BaseValues = BTreeMap<String, BaseObject>;

/// The live values of one object.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BaseObject {
    /// Whether the object existed.
    pub exists: bool,
    /// Uid: an object made again under the same name is another one.
    pub uid: String,
    /// Path and value, for each path that the change states; null where absent.
    pub values: BTreeMap<String, Value>,
}

/// The live values of the paths that the manifest states (all of them for a deletion).
pub fn base_of(object: &ContentObject, live: Option<&Value>) -> BaseObject {
    let uid = live.and_then(|l| l.pointer("/metadata/uid")).and_then(Value::as_str).unwrap_or_default().to_owned();
    let kind = object.id.group_kind();
    let mut values = BTreeMap::new();
    match (object.intent, live) {
        (_, None) => {}
        (Intent::Delete, Some(live)) => {
            let mut live = live.clone();
            crate::object::strip_server_fields(&mut live);
            values.insert(Path::root().to_string(), live);
        }
        (Intent::Apply | Intent::Patch, Some(live)) => {
            for (path, _) in crate::object::stated_paths(&kind, &object.manifest) {
                let value = crate::object::get(live, &path).cloned().unwrap_or(Value::Null);
                values.insert(path.to_string(), value);
            }
            if object.staged.is_some() {
                values.insert("/data".to_owned(), live.get("data").cloned().unwrap_or(Value::Null));
            }
        }
    }
    if object.staged.is_some() || (object.id.kind == "Secret" && object.id.group.is_empty()) {
        // Values of Secrets are bound by their digest only; the record itself never shows them.
        for value in values.values_mut() {
            *value = Value::String(Digest::of_canonical(value).map_or_else(|_| String::new(), |d| d.to_string()));
        }
    }
    BaseObject { exists: live.is_some(), uid, values }
}

/// Digest of the base of a change.
pub fn base_digest(base: &BaseValues) -> Result<Digest, DigestError> {
    Ok(Digest::of_canonical(base)?)
}

/// Key of an object in [`BaseValues`].
pub fn base_key(id: &ObjectId) -> String {
    id.key()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The envelope of votes is written in canonical order from the start: whoever checks a digest with any RFC 8785
        /// library finds the same.
        #[test]
        fn the_change_envelope_is_canonical_as_it_is_written(name in ".*", uid in "\\PC*", generation in 0..1_i64 << 53) {
            let resolved = Resolved { generation, name: name.clone(), uid: uid.clone() };
            let digest = Digest::of_bytes(name.as_bytes());
            let plan = ResolvedPlan { digest, name: name.clone(), uid: uid.clone() };
            let binding = Binding {
                base: digest, calendar: Some(&resolved), cluster: &uid, executor: Some(name.clone()), namespace: &name,
                plan: Some(&plan).filter(|_| generation % 2 == 0), policy: &resolved, secrets_mac: &uid, system: &resolved, uid: &uid,
            };
            let envelope = ChangeEnvelope { binding: &binding, content: digest, domain: CHANGE_DOMAIN, format: FORMAT, spec: digest };
            prop_assert_eq!(Digest::of_ordered(&envelope), Digest::of_canonical(&envelope));
        }
    }
}
