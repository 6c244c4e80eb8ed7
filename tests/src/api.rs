//! The API server as one user sees it: plain JSON in, plain JSON or a refusal out.

use std::fmt;

use futures::{AsyncBufReadExt as _, StreamExt as _};
use http::Request;
use kube::{
    Client, Config,
    client::Body,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::world::SOON;

/// Why the API server refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status.
    pub code: u16,
    /// One word.
    pub reason: String,
    /// For a person.
    pub message: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.code, self.reason, self.message)
    }
}

/// What the API server answered: the object, and the warnings that a person would read.
#[derive(Clone, Debug)]
pub struct Answer {
    pub object: Value,
    pub warnings: Vec<String>,
}

/// Kinds of PATCH.
#[derive(Clone, Debug)]
pub enum Patch {
    Json,
    Merge,
    Strategic,
    /// Server-side apply by that field manager, taking over fields of others.
    Apply(&'static str),
}

/// The API server as one user sees it.
#[derive(Clone)]
pub struct Api {
    runtime: &'static Runtime,
    client: Client,
    impersonate: Vec<(&'static str, String)>,
}

impl Api {
    /// With the credentials of a kubeconfig.
    pub fn new(runtime: &'static Runtime, kubeconfig: &std::path::Path) -> Self {
        let kubeconfig = Kubeconfig::read_from(kubeconfig).expect("a kubeconfig");
        let client = runtime.block_on(async {
            let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
            Client::try_from(config).unwrap()
        });
        Self { runtime, client, impersonate: Vec::new() }
    }

    /// kube's own client of the same user.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// As another user, by impersonation.
    #[must_use]
    pub fn acting_as(&self, user: &str, groups: &[&str]) -> Self {
        let mut impersonate = vec![("Impersonate-User", user.to_owned())];
        impersonate.extend(groups.iter().map(|group| ("Impersonate-Group", (*group).to_owned())));
        impersonate.push(("Impersonate-Group", "system:authenticated".to_owned()));
        Self { impersonate, ..self.clone() }
    }

    /// Any request.
    pub fn send(&self, method: &str, path: &str, content: &str, body: Option<&Value>) -> Result<Answer, Refusal> {
        let (code, answer) = self.raw(method, path, content, body)?;
        if code < 400 {
            return Ok(answer);
        }
        let text = |field: &str| answer.object[field].as_str().unwrap_or_default().to_owned();
        Err(Refusal { code, reason: text("reason"), message: text("message") })
    }

    /// Any request, and the answer as it is, also if it is a refusal.
    pub fn raw(&self, method: &str, path: &str, content: &str, body: Option<&Value>) -> Result<(u16, Answer), Refusal> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("Content-Type", content)
            .header("Accept", "application/json");
        for (name, value) in &self.impersonate {
            request = request.header(*name, value);
        }
        let bytes = body.map(|value| serde_json::to_vec(value).unwrap()).unwrap_or_default();
        let request = request.body(Body::from(bytes)).unwrap();
        let client = self.client.clone();
        self.runtime.block_on(async move {
            let lost = |error: &dyn fmt::Display| Refusal {
                code: 0,
                reason: "Lost".to_owned(),
                message: format!("no answer: {error}"),
            };
            let response = client.send(request).await.map_err(|e| lost(&e))?;
            let code = response.status().as_u16();
            let warnings = response
                .headers()
                .get_all("warning")
                .iter()
                .filter_map(|value| value.to_str().ok().map(str::to_owned))
                .collect();
            let bytes = response.into_body().collect_bytes().await.map_err(|e| lost(&e))?;
            let object: Value = serde_json::from_slice(&bytes)
                .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
            Ok((code, Answer { object, warnings }))
        })
    }

    /// The events of a watch, up to one that ends it; panics when that takes too long.
    pub fn watch(&self, path: &str, is_last: impl Fn(&Value) -> bool) -> Result<Vec<Value>, Refusal> {
        let request = Request::get(path).body(Vec::new()).unwrap();
        let mut events = Vec::new();
        let all = async {
            let mut lines = match self.client.request_stream(request).await {
                Ok(stream) => stream.lines(),
                Err(kube::Error::Api(status)) => {
                    return Err(Refusal { code: status.code, reason: status.reason, message: status.message });
                }
                Err(other) => panic!("{path}: {other}"),
            };
            while let Some(line) = lines.next().await {
                let event: Value = serde_json::from_str(&line.unwrap()).unwrap();
                events.push(event);
                if events.last().is_some_and(&is_last) {
                    return Ok(());
                }
            }
            panic!("{path}: the watch ended")
        };
        let ended = self.runtime.block_on(async { tokio::time::timeout(SOON, all).await });
        let Ok(answer) = ended else { panic!("{path}: in {} s only {events:?}", SOON.as_secs()) };
        answer.map(|()| events)
    }

    pub fn get(&self, path: &str) -> Result<Value, Refusal> {
        self.send("GET", path, "application/json", None).map(|answer| answer.object)
    }

    /// Creates an object at the place that it names itself.
    pub fn create(&self, object: &Value) -> Result<Value, Refusal> {
        self.post(&collection_of(object), object)
    }

    pub fn post(&self, path: &str, object: &Value) -> Result<Value, Refusal> {
        self.send("POST", path, "application/json", Some(object)).map(|answer| answer.object)
    }

    pub fn replace(&self, path: &str, object: &Value) -> Result<Value, Refusal> {
        self.send("PUT", path, "application/json", Some(object)).map(|answer| answer.object)
    }

    pub fn patch(&self, path: &str, patch: &Patch, body: &Value) -> Result<Value, Refusal> {
        let join = if path.contains('?') { '&' } else { '?' };
        let (path, content) = match patch {
            Patch::Json => (path.to_owned(), "application/json-patch+json"),
            Patch::Merge => (path.to_owned(), "application/merge-patch+json"),
            Patch::Strategic => (path.to_owned(), "application/strategic-merge-patch+json"),
            Patch::Apply(manager) => {
                (format!("{path}{join}fieldManager={manager}&force=true"), "application/apply-patch+yaml")
            }
        };
        self.send("PATCH", &path, content, Some(body)).map(|answer| answer.object)
    }

    /// A merge patch.
    pub fn merge(&self, path: &str, body: &Value) -> Result<Value, Refusal> {
        self.patch(path, &Patch::Merge, body)
    }

    pub fn delete(&self, path: &str) -> Result<Value, Refusal> {
        self.send("DELETE", path, "application/json", None).map(|answer| answer.object)
    }
}

/// Where an object is.
pub fn path_of(object: &Value) -> String {
    format!("{}/{}", collection_of(object), object["metadata"]["name"].as_str().expect("metadata.name"))
}

/// Where objects like this one are.
pub fn collection_of(object: &Value) -> String {
    let version = object["apiVersion"].as_str().expect("apiVersion");
    let kind = object["kind"].as_str().expect("kind");
    let root = if version.contains('/') { format!("/apis/{version}") } else { format!("/api/{version}") };
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) => format!("{root}/namespaces/{namespace}/{}", plural(kind)),
        None => format!("{root}/{}", plural(kind)),
    }
}

fn plural(kind: &str) -> String {
    let lower = kind.to_lowercase();
    match lower.strip_suffix('y') {
        Some(stem) if !stem.ends_with(['a', 'e', 'o']) => format!("{stem}ies"),
        _ if lower.ends_with('s') => format!("{lower}es"),
        _ => format!("{lower}s"),
    }
}
