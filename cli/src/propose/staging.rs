//! Secrets of a proposal: their values go into staged Secrets, the request names only them and their keys.
//!
//! Nothing here prints, derives `Debug` over or puts into an error any value.

use std::collections::BTreeMap;

use base64::Engine as _;
use interlock_core::{change::STAGED_SECRET_TYPE, object::ObjectId};
use interlock_crds::SecretRef;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, Client,
    api::{DeleteParams, ObjectMeta, PostParams, Preconditions},
};
use serde_json::{Value, json};

use super::place::operation_of;
use crate::error::CliError;

/// Label of a staged Secret: name of its change.
pub const CHANGE_LABEL: &str = "interlock.dev/change";
/// Most staged Secrets of one change, as the schema of ChangeRequest says.
const MAX_SECRETS: usize = 32;
/// Most keys of one, as the schema says.
const MAX_KEYS: usize = 64;
/// Stands for the uid of a Secret that is not staged yet.
const NO_UID: &str = "00000000-0000-0000-0000-000000000000";

/// A Secret of the proposal.
pub struct Staged {
    target: String,
    type_: String,
    data: BTreeMap<String, Vec<u8>>,
}

/// The Secrets among `manifests`, which are taken out, and what of them will not be written.
pub fn take(manifests: &mut Vec<Value>, namespace: &str) -> Result<(Vec<Staged>, Vec<String>), CliError> {
    let mut staged = Vec::new();
    let mut notes = Vec::new();
    let mut rest = Vec::with_capacity(manifests.len());
    for manifest in manifests.drain(..) {
        let id = ObjectId::of(&manifest).map_err(|error| CliError::Usage(error.to_string()))?;
        if !is_secret(&id)? || operation_of(&manifest) == Some("Delete") {
            rest.push(manifest);
            continue;
        }
        if operation_of(&manifest).is_some_and(|operation| operation != "Apply") {
            return Err(CliError::Usage(format!(
                "{id}: a Secret is staged as a whole and cannot be patched; propose it with all its keys, without Patch"
            )));
        }
        if id.namespace.as_deref() != Some(namespace) {
            return Err(CliError::Usage(format!(
                "{id}: a Secret must lie in the namespace of its change ({namespace}); propose it with -n {}",
                id.namespace.as_deref().unwrap_or_default()
            )));
        }
        notes.extend(
            left_out(&manifest).map(|what| format!("{id}: its {what} will not be written; only keys and type are")),
        );
        staged.push(one(&id, &manifest)?);
    }
    *manifests = rest;
    if staged.len() > MAX_SECRETS {
        return Err(CliError::Usage(format!("{} Secrets: at most {MAX_SECRETS} in one change", staged.len())));
    }
    Ok((staged, notes))
}

/// A misspelt Secret is refused: taken for another kind, its values would stand in the request.
fn is_secret(id: &ObjectId) -> Result<bool, CliError> {
    let looks = id.group.is_empty() && matches!(id.kind.to_lowercase().as_str(), "secret" | "secrets");
    if looks && id.kind != "Secret" {
        return Err(CliError::Usage(format!("{id}: the kind is written Secret")));
    }
    Ok(looks)
}

fn left_out(manifest: &Value) -> Option<String> {
    let is_there = |pointer: &str| match manifest.pointer(pointer) {
        Some(Value::Object(fields)) => !fields.is_empty(),
        Some(Value::Bool(set)) => *set,
        _ => false,
    };
    let found: Vec<&str> =
        [("/metadata/labels", "labels"), ("/metadata/annotations", "annotations"), ("/immutable", "immutability")]
            .into_iter()
            .filter_map(|(pointer, name)| is_there(pointer).then_some(name))
            .collect();
    (!found.is_empty()).then(|| found.join(" and "))
}

fn one(id: &ObjectId, manifest: &Value) -> Result<Staged, CliError> {
    let wrong = |key: &str, what: &str| CliError::Usage(format!("{id}: the value of key {key} {what}"));
    let fields = |name: &str| manifest.get(name).and_then(Value::as_object).into_iter().flatten();
    let mut data = BTreeMap::new();
    for (key, value) in fields("data") {
        let text = value.as_str().ok_or_else(|| wrong(key, "is no text"))?;
        let text: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(text)
            .map_err(|_| wrong(key, "is not base64; plain text belongs into stringData"))?;
        data.insert(key.clone(), bytes);
    }
    for (key, value) in fields("stringData") {
        let text = value.as_str().ok_or_else(|| wrong(key, "is no text; write numbers and booleans in quotes"))?;
        data.insert(key.clone(), text.as_bytes().to_vec());
    }
    if data.is_empty() || data.len() > MAX_KEYS {
        return Err(CliError::Usage(format!(
            "{id}: a staged Secret has 1 to {MAX_KEYS} keys, this one has {}",
            data.len()
        )));
    }
    let type_ = manifest.get("type").and_then(Value::as_str).filter(|t| !t.is_empty()).unwrap_or("Opaque").to_owned();
    Ok(Staged { target: id.name.clone(), type_, data })
}

impl Staged {
    /// How the request names it, when its `number`th Secret was stored under `uid`; none before that.
    pub fn reference(&self, change: &str, number: usize, uid: Option<&str>) -> SecretRef {
        SecretRef {
            name: format!("{change}-staged-{number}"),
            uid: uid.unwrap_or(NO_UID).to_owned(),
            target: self.target.clone(),
            keys: self.data.keys().cloned().collect(),
            type_: self.type_.clone(),
        }
    }

    /// `data` of the Secret that the change will write. Only for calls of the API server.
    pub fn data(&self) -> Value {
        let encoded = |bytes: &Vec<u8>| base64::engine::general_purpose::STANDARD.encode(bytes);
        Value::Object(self.data.iter().map(|(key, bytes)| (key.clone(), json!(encoded(bytes)))).collect())
    }

    fn secret(&self, change: &str, number: usize, namespace: &str) -> Secret {
        let data = self.data.iter().map(|(key, bytes)| (key.clone(), ByteString(bytes.clone()))).collect();
        Secret {
            metadata: ObjectMeta {
                name: Some(self.reference(change, number, None).name),
                namespace: Some(namespace.to_owned()),
                labels: Some(BTreeMap::from([(CHANGE_LABEL.to_owned(), change.to_owned())])),
                ..ObjectMeta::default()
            },
            immutable: Some(true),
            type_: Some(STAGED_SECRET_TYPE.to_owned()),
            data: Some(data),
            ..Secret::default()
        }
    }
}

/// Secrets that were stored for a request; taken back unless the request is stored too.
pub struct Stored {
    api: Api<Secret>,
    made: Vec<(String, Option<String>)>,
}

/// Stores the Secrets and says how the request names them. If one is refused, those before it are deleted again.
pub async fn store(
    client: &Client,
    staged: &[Staged],
    change: &str,
    namespace: &str,
) -> Result<(Stored, Vec<SecretRef>), CliError> {
    let mut stored = Stored { api: Api::namespaced(client.clone(), namespace), made: Vec::new() };
    let mut references = Vec::new();
    for (index, secret) in staged.iter().enumerate() {
        let number = index + 1;
        let name = secret.reference(change, number, None).name;
        match stored.api.create(&PostParams::default(), &secret.secret(change, number, namespace)).await {
            Ok(made) => {
                stored.made.push((name, made.metadata.uid.clone()));
                references.push(secret.reference(change, number, made.metadata.uid.as_deref()));
            }
            Err(error) => {
                let exists = matches!(&error, kube::Error::Api(status) if status.reason == "AlreadyExists");
                let left = stored.take_back().await;
                let error = if exists {
                    CliError::Refused(format!(
                        "the Secret {name} exists already; name the change otherwise with --name"
                    ))
                } else {
                    CliError::from_kube(error)
                };
                return Err(with_left(error, &left));
            }
        }
    }
    Ok((stored, references))
}

impl Stored {
    /// Deletes the Secrets again; names those that stay.
    pub async fn take_back(&self) -> Vec<String> {
        let mut left = Vec::new();
        for (name, uid) in &self.made {
            let only = DeleteParams {
                preconditions: Some(Preconditions { uid: uid.clone(), resource_version: None }),
                ..DeleteParams::default()
            };
            if self.api.delete(name, &only).await.is_err() {
                left.push(name.clone());
            }
        }
        left
    }
}

/// The error with the names of staged Secrets that could not be deleted again.
pub fn with_left(error: CliError, left: &[String]) -> CliError {
    if left.is_empty() {
        return error;
    }
    let more = format!("; these staged Secrets could not be deleted again: {}", left.join(", "));
    match error {
        CliError::Refused(text) => CliError::Refused(text + &more),
        CliError::NotFound(text) => CliError::NotFound(text + &more),
        CliError::Usage(text) => CliError::Usage(text + &more),
        CliError::Cluster(text) => CliError::Cluster(text + &more),
        CliError::Other(text) => CliError::Other(text + &more),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CANARY: &str = "hunter2-canary";

    fn secret(fields: &Value) -> Value {
        let mut secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "db", "namespace": "shop"}});
        if let (Some(to), Some(from)) = (secret.as_object_mut(), fields.as_object()) {
            to.extend(from.clone());
        }
        secret
    }

    fn taken(manifest: Value) -> Result<(Vec<Staged>, Vec<String>), String> {
        take(&mut vec![manifest], "shop").map_err(|error| error.to_string())
    }

    #[test]
    fn values_go_into_the_staged_secret_and_only_names_into_the_request() {
        let config = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "shop"}});
        let mut manifests = vec![
            secret(
                &json!({"type": "kubernetes.io/basic-auth", "data": {"b": "eA==\n", "a": "eQ=="}, "stringData": {"b": CANARY}}),
            ),
            config.clone(),
        ];
        let (staged, notes) = take(&mut manifests, "shop").unwrap();
        assert_eq!(manifests, [config]);
        assert_eq!(notes, Vec::<String>::new());
        let reference = staged[0].reference("release", 1, Some("u"));
        assert_eq!(
            serde_json::to_value(&reference).unwrap(),
            json!({"name": "release-staged-1", "uid": "u", "target": "db", "keys": ["a", "b"], "type": "kubernetes.io/basic-auth"})
        );
        let stored = serde_json::to_value(staged[0].secret("release", 1, "shop")).unwrap();
        assert_eq!(
            stored,
            json!({"apiVersion": "v1", "kind": "Secret", "immutable": true, "type": "interlock.dev/staged",
                "metadata": {"name": "release-staged-1", "namespace": "shop", "labels": {"interlock.dev/change": "release"}},
                "data": {"a": "eQ==", "b": "aHVudGVyMi1jYW5hcnk="}})
        );
        assert_eq!(staged[0].data(), json!({"a": "eQ==", "b": "aHVudGVyMi1jYW5hcnk="}));
    }

    #[test]
    fn a_secret_that_cannot_be_staged_is_refused_without_its_values() {
        for fields in [
            json!({"data": {"a": CANARY}}),
            json!({"data": {"a": [CANARY]}}),
            json!({"stringData": {"a": {"x": CANARY}}}),
            json!({"stringData": {"a": 5432}}),
            json!({"data": {}}),
            json!({"kind": "secret", "stringData": {"a": CANARY}}),
            json!({"stringData": {"a": CANARY}, "metadata": {"name": "db", "namespace": "other"}}),
            json!({"stringData": {"a": CANARY}, "metadata": {"name": "db", "namespace": "shop", "annotations": {"interlock.dev/operation": "Patch"}}}),
        ] {
            let Err(message) = taken(secret(&fields)) else { panic!("{fields} is taken") };
            assert!(
                message.to_lowercase().contains("secret") && !message.contains(CANARY) && !message.contains("5432"),
                "{message}"
            );
        }
    }

    #[test]
    fn what_is_not_written_is_said_and_a_deletion_stays_in_the_request() {
        let labelled = json!({"stringData": {"a": "b"}, "immutable": true, "metadata": {"name": "db", "namespace": "shop", "labels": {"x": "y"}}});
        let (_, notes) = taken(secret(&labelled)).unwrap();
        assert_eq!(notes, ["Secret shop/db: its labels and immutability will not be written; only keys and type are"]);
        let deleted = secret(
            &json!({"metadata": {"name": "db", "namespace": "shop", "annotations": {"interlock.dev/operation": "Delete"}}}),
        );
        let mut manifests = vec![deleted.clone()];
        assert!(take(&mut manifests, "shop").unwrap().0.is_empty());
        assert_eq!(manifests, [deleted]);
    }
}
