//! The few calls of a proposal on objects of any kind: which resource a kind is, reads, and writes that store nothing.

use std::collections::{BTreeSet, HashMap};

use interlock_core::{change::FIELD_MANAGER, object::ObjectId};
use kube::Client;
use serde_json::{Value, json};

use crate::error::CliError;

/// How a kind is addressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Such as `deployments`.
    pub plural: String,
    /// Whether its objects lie in namespaces.
    pub namespaced: bool,
}

/// The kinds that the API server knows, of the groups that a proposal needs.
#[derive(Clone, Debug, Default)]
pub struct Kinds(HashMap<(String, String, String), Resource>);

impl Kinds {
    /// The resource of an object's kind; none if the API server does not know it (yet).
    pub fn of(&self, id: &ObjectId) -> Option<&Resource> {
        self.0.get(&(id.group.clone(), id.version.clone(), id.kind.clone()))
    }

    /// Notes what the API server says about one version of a group.
    pub fn learn(&mut self, group: &str, version: &str, answer: &Value) {
        for entry in answer.get("resources").and_then(Value::as_array).into_iter().flatten() {
            let text = |field: &str| entry.get(field).and_then(Value::as_str);
            if let (Some(plural), Some(kind)) = (text("name"), text("kind"))
                && let Some(namespaced) = entry.get("namespaced").and_then(Value::as_bool)
                && !plural.contains('/')
            {
                let resource = Resource { plural: plural.to_owned(), namespaced };
                self.0.insert((group.to_owned(), version.to_owned(), kind.to_owned()), resource);
            }
        }
    }
}

/// What the API server refused, in its words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub code: u16,
    /// Why.
    pub message: String,
}

impl Refusal {
    /// Whether it is about the rights of the user, not about the object.
    pub const fn is_about_rights(&self) -> bool {
        matches!(self.code, 401 | 403)
    }
}

/// An answer that is a value or a refusal; an error is a cluster that does not answer.
pub type Answer = Result<Result<Value, Refusal>, CliError>;

/// A cluster as the user of the command sees it.
pub struct Cluster {
    client: Client,
    kinds: Kinds,
}

impl Cluster {
    /// Asks what kinds these objects are.
    pub async fn discover(client: Client, ids: &[ObjectId]) -> Result<Self, CliError> {
        let versions: BTreeSet<(&str, &str)> = ids.iter().map(|id| (id.group.as_str(), id.version.as_str())).collect();
        let mut cluster = Self { client, kinds: Kinds::default() };
        for (group, version) in versions {
            match cluster.call(http::Method::GET, &root(group, version), "application/json", None).await? {
                Ok(answer) => cluster.kinds.learn(group, version, &answer),
                Err(refusal) if refusal.code == 404 => {}
                Err(refusal) => return Err(CliError::Refused(refusal.message)),
            }
        }
        Ok(cluster)
    }

    /// The kinds that were found.
    pub const fn kinds(&self) -> &Kinds {
        &self.kinds
    }

    /// The object as it is.
    pub async fn get(&self, id: &ObjectId) -> Answer {
        self.on(id, http::Method::GET, "", "application/json", None).await
    }

    /// The object as a server-side apply would leave it.
    pub async fn try_apply(&self, id: &ObjectId, manifest: &Value) -> Answer {
        let query = format!("?fieldManager={FIELD_MANAGER}&fieldValidation=Strict&force=true&dryRun=All");
        self.on(id, http::Method::PATCH, &query, "application/apply-patch+yaml", Some(manifest)).await
    }

    /// The object as this replacement would leave it.
    pub async fn try_replace(&self, id: &ObjectId, object: &Value) -> Answer {
        let query = format!("?fieldManager={FIELD_MANAGER}&fieldValidation=Strict&dryRun=All");
        self.on(id, http::Method::PUT, &query, "application/json", Some(object)).await
    }

    /// Whether a deletion would be taken.
    pub async fn try_delete(&self, id: &ObjectId) -> Answer {
        let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "dryRun": ["All"]});
        self.on(id, http::Method::DELETE, "", "application/json", Some(&options)).await
    }

    async fn on(&self, id: &ObjectId, method: http::Method, query: &str, kind: &str, body: Option<&Value>) -> Answer {
        let Some(resource) = self.kinds.of(id) else {
            return Ok(Err(Refusal {
                code: 404,
                message: format!("the API server does not know {}", id.group_kind()),
            }));
        };
        self.call(method, &format!("{}{query}", path(id, resource)), kind, body).await
    }

    async fn call(&self, method: http::Method, uri: &str, content_type: &str, body: Option<&Value>) -> Answer {
        let bytes = body.map(|b| b.to_string().into_bytes()).unwrap_or_default();
        let request = http::Request::builder()
            .method(method)
            .uri(uri)
            .header(http::header::CONTENT_TYPE, content_type)
            .body(bytes)
            .map_err(|error| CliError::Usage(format!("no address can be made of {uri}: {error}")))?;
        match self.client.request::<Value>(request).await {
            Ok(answer) => Ok(Ok(answer)),
            Err(kube::Error::Api(status)) => {
                let code = status.code;
                match CliError::from_kube(kube::Error::Api(status)) {
                    CliError::NotFound(message) | CliError::Refused(message) | CliError::Other(message) => {
                        Ok(Err(Refusal { code, message }))
                    }
                    error => Err(error),
                }
            }
            Err(error) => Err(CliError::from_kube(error)),
        }
    }
}

fn root(group: &str, version: &str) -> String {
    if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") }
}

/// The address of an object; its parts were checked when the manifests were read.
fn path(id: &ObjectId, resource: &Resource) -> String {
    let namespace = id.namespace.as_deref().filter(|_| resource.namespaced);
    let within = namespace.map_or_else(String::new, |n| format!("/namespaces/{n}"));
    format!("{}{within}/{}/{}", root(&id.group, &id.version), resource.plural, id.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_addressed_as_the_api_server_says() {
        let mut kinds = Kinds::default();
        let answer = json!({"resources": [
            {"name": "deployments/scale", "kind": "Scale", "namespaced": true},
            {"name": "deployments", "kind": "Deployment", "namespaced": true},
            {"kind": "Broken"},
        ]});
        kinds.learn("apps", "v1", &answer);
        let id = ObjectId::of(
            &json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a", "namespace": "b"}}),
        );
        let id = id.unwrap();
        let resource = kinds.of(&id).unwrap();
        assert_eq!(path(&id, resource), "/apis/apps/v1/namespaces/b/deployments/a");
        let scale = ObjectId { kind: "Scale".to_owned(), ..id };
        assert_eq!(kinds.of(&scale), None);
    }
}
