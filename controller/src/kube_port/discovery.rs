//! Which resource a kind is, as the API server tells it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use interlock_core::port::PortError;
use serde_json::Value;

use super::error::port_error;

/// A kind that was missing is not asked for again for this long.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// How a kind is addressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Resource {
    /// Such as `deployments`.
    pub plural: String,
    /// Whether its objects lie in namespaces.
    pub namespaced: bool,
}

type GroupVersion = (String, String);

struct Group {
    kinds: HashMap<String, Resource>,
    read: Instant,
}

/// What was learnt so far; asked for when a kind is first used, and again when one is missing.
pub(super) struct Discovery {
    client: kube::Client,
    limit: Duration,
    known: Mutex<HashMap<GroupVersion, Group>>,
    /// The version in which a kind of a group was found.
    found: Mutex<HashMap<(String, String), String>>,
    asking: tokio::sync::Mutex<()>,
}

impl Discovery {
    pub(super) fn new(client: kube::Client, limit: Duration) -> Self {
        Self { client, limit, known: Mutex::default(), found: Mutex::default(), asking: tokio::sync::Mutex::default() }
    }

    /// How the kind is addressed.
    pub(super) async fn resource(&self, group: &str, version: &str, kind: &str) -> Result<Resource, PortError> {
        let key = (group.to_owned(), version.to_owned());
        if let Some(found) = self.recall(&key, kind, ASK_AGAIN) {
            return found;
        }
        // One question at a time: the others find the answer when their turn comes.
        let _turn = self.asking.lock().await;
        if let Some(found) = self.recall(&key, kind, ASK_AGAIN) {
            return found;
        }
        let kinds = self.ask(group, version).await?;
        let found = kinds.get(kind).cloned().ok_or_else(|| unknown(&key, kind));
        self.known().insert(key, Group { kinds, read: Instant::now() });
        found
    }

    /// How the kind is addressed in whatever version serves it, the preferred one first.
    pub(super) async fn any_version(&self, group: &str, kind: &str) -> Result<Option<Resource>, PortError> {
        let key = (group.to_owned(), kind.to_owned());
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        let versions = match found {
            Some(version) => vec![version],
            None => self.versions(group).await?,
        };
        for version in versions {
            match self.resource(group, &version, kind).await {
                Err(PortError::UnknownKind { .. }) => {}
                Ok(resource) => {
                    self.found.lock().unwrap_or_else(PoisonError::into_inner).insert(key, version);
                    return Ok(Some(resource));
                }
                Err(error) => return Err(error),
            }
        }
        self.found.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
        Ok(None)
    }

    /// The version that serves the kind, the preferred one if several do.
    pub(super) async fn preferred(&self, group: &str, kind: &str) -> Result<Option<String>, PortError> {
        if self.any_version(group, kind).await?.is_none() {
            return Ok(None);
        }
        let key = (group.to_owned(), kind.to_owned());
        Ok(self.found.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned())
    }

    /// The versions of a group, the preferred one first; none if the server has no such group.
    async fn versions(&self, group: &str) -> Result<Vec<String>, PortError> {
        if group.is_empty() {
            return Ok(vec!["v1".to_owned()]);
        }
        let Some(found) = self.read(&format!("/apis/{group}")).await? else { return Ok(Vec::new()) };
        Ok(versions(&found))
    }

    /// Forgets a group: a resource in it was gone.
    pub(super) fn forget(&self, group: &str, version: &str) {
        self.known().remove(&(group.to_owned(), version.to_owned()));
    }

    fn recall(&self, key: &GroupVersion, kind: &str, fresh: Duration) -> Option<Result<Resource, PortError>> {
        let known = self.known();
        let group = known.get(key)?;
        match group.kinds.get(kind) {
            Some(resource) => Some(Ok(resource.clone())),
            None if group.read.elapsed() < fresh => Some(Err(unknown(key, kind))),
            None => None,
        }
    }

    async fn ask(&self, group: &str, version: &str) -> Result<HashMap<String, Resource>, PortError> {
        let path = if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") };
        Ok(self.read(&path).await?.map(|list| resources(&list)).unwrap_or_default())
    }

    /// What the server tells at `path`; none if it does not know it.
    async fn read(&self, path: &str) -> Result<Option<Value>, PortError> {
        let request = http::Request::get(path)
            .body(Vec::new())
            .map_err(|error| PortError::Invalid(format!("{path} is no API group: {error}")))?;
        let text = match tokio::time::timeout(self.limit, self.client.request_text(request)).await {
            Err(_) => return Err(PortError::Unavailable(format!("no answer within {:?} to GET {path}", self.limit))),
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => return Ok(None),
            Ok(answer) => answer.map_err(port_error)?,
        };
        serde_json::from_str(&text)
            .map(Some)
            .map_err(|error| PortError::Unavailable(format!("the answer to GET {path} cannot be read: {error}")))
    }

    fn known(&self) -> MutexGuard<'_, HashMap<GroupVersion, Group>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn resources(list: &Value) -> HashMap<String, Resource> {
    let entries = list.get("resources").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    entries
        .iter()
        .filter_map(|entry| {
            let plural = entry.get("name")?.as_str()?;
            let kind = entry.get("kind")?.as_str()?;
            // A subresource, such as `deployments/scale`, is addressed through its resource.
            let own = !plural.contains('/');
            let namespaced = entry.get("namespaced")?.as_bool()?;
            own.then(|| (kind.to_owned(), Resource { plural: plural.to_owned(), namespaced }))
        })
        .collect()
}

fn versions(group: &Value) -> Vec<String> {
    let text = |version: &Value| version.get("version").and_then(Value::as_str).map(ToOwned::to_owned);
    let preferred = group.get("preferredVersion").and_then(text);
    let all = group.get("versions").and_then(Value::as_array).into_iter().flatten().filter_map(text);
    let mut versions: Vec<_> = preferred.clone().into_iter().collect();
    versions.extend(all.filter(|version| Some(version) != preferred.as_ref()));
    versions
}

fn unknown((group, version): &GroupVersion, kind: &str) -> PortError {
    let api_version = if group.is_empty() { version.clone() } else { format!("{group}/{version}") };
    PortError::UnknownKind { api_version, kind: kind.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn subresources_are_no_kinds_of_their_own() {
        let found = resources(&json!({"resources": [
            {"name": "deployments/scale", "kind": "Scale", "namespaced": true},
            {"name": "deployments", "kind": "Deployment", "namespaced": true},
            {"name": "deployments/status", "kind": "Deployment", "namespaced": true},
            {"name": "nodes", "kind": "Node", "namespaced": false},
            {"kind": "Broken"}
        ]}));
        assert_eq!(found.len(), 2);
        assert_eq!(found["Deployment"], Resource { plural: "deployments".into(), namespaced: true });
        assert!(!found["Node"].namespaced);
        assert!(resources(&json!("nothing")).is_empty());
    }

    #[test]
    fn the_preferred_version_of_a_group_is_asked_first() {
        let found = versions(&json!({
            "preferredVersion": {"groupVersion": "autoscaling/v2", "version": "v2"},
            "versions": [{"version": "v1"}, {"version": "v2"}],
        }));
        assert_eq!(found, ["v2", "v1"]);
        assert!(versions(&json!({})).is_empty());
    }
}
