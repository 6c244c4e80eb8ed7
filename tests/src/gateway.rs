//! A small Gateway: it follows the HTTPRoutes of a namespace, accepts them, and shares real requests by weight over the
//! ready endpoints of the Services behind them.
//!
//! No complete implementation of the Gateway API can be had where the tests run. This one does what a release depends on:
//! it takes a route's generation up first and says so afterwards, picks the rule with most headers, shares by weight,
//! copies for mirrors, and never tries a request twice, so that each that fails is seen.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{body::Body, extract::State, http::Request, response::IntoResponse as _};
use futures::StreamExt as _;
use http::{HeaderMap, StatusCode};
use hyper_util::rt::TokioIo;
use kube::{
    Client, ResourceExt as _,
    api::{Api, ApiResource, DynamicObject, Patch, PatchParams},
    core::GroupVersionKind,
    runtime::{WatchStreamExt as _, watcher},
};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

/// The Gateway API's own definition of HTTPRoutes, with its defaults and its rules.
pub fn definition_of_routes() -> Value {
    let folder = interlock_cluster::gateway_api().unwrap_or_else(|error| panic!("no definition of routes: {error:?}"));
    let text = std::fs::read_to_string(folder.join("gateway.networking.k8s.io_httproutes.yaml")).unwrap();
    serde_saphyr::from_str(&text).unwrap()
}

/// Name of the controller in `status.parents`.
const CONTROLLER: &str = "interlock.dev/test-gateway";

/// What the Gateway knows of the namespace.
#[derive(Debug, Default)]
struct Known {
    /// By name: the routes in the form in which they are in effect.
    routes: BTreeMap<String, Value>,
    /// By name.
    slices: BTreeMap<String, Value>,
}

#[derive(Debug, Default)]
struct Shared {
    known: Mutex<Known>,
    /// Requests by the Service that took them.
    counts: Mutex<BTreeMap<String, u64>>,
    /// What went wrong, and where.
    failures: Mutex<Vec<String>>,
    turn: AtomicU64,
}

/// A Gateway that runs as long as this value lives.
#[derive(Debug)]
pub struct Gateway {
    address: SocketAddr,
    shared: Arc<Shared>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

impl Gateway {
    /// Starts one for the routes of a namespace. `lag`: time from seeing a route to its being in effect, and once more to
    /// saying so.
    pub async fn start(client: Client, namespace: &str, lag: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let routes = tokio::spawn(follow_routes(client.clone(), namespace.to_owned(), lag, shared.clone()));
        let slices = tokio::spawn(follow_slices(client, namespace.to_owned(), shared.clone()));
        let app = axum::Router::new().fallback(answer).with_state(shared.clone());
        let server = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { address, shared, tasks: vec![routes, slices, server] }
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Requests by Service since the last call.
    pub fn take_counts(&self) -> BTreeMap<String, u64> {
        std::mem::take(&mut *lock(&self.shared.counts))
    }

    /// What went wrong since the last call.
    pub fn take_failures(&self) -> Vec<String> {
        std::mem::take(&mut *lock(&self.shared.failures))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn dynamic(client: Client, group: &str, version: &str, kind: &str, namespace: &str) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    Api::namespaced_with(client, namespace, &resource)
}

async fn follow_routes(client: Client, namespace: String, lag: Duration, shared: Arc<Shared>) {
    let api = dynamic(client, "gateway.networking.k8s.io", "v1", "HTTPRoute", &namespace);
    let mut events = pin!(watcher(api.clone(), watcher::Config::default()).default_backoff());
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Apply(route) | watcher::Event::InitApply(route)) => {
                let object = serde_json::to_value(&route).unwrap();
                let taken = lock(&shared.known).routes.get(&route.name_any()).cloned();
                if taken.as_ref().is_some_and(|taken| generation(taken) == generation(&object)) {
                    continue;
                }
                tokio::time::sleep(lag).await;
                lock(&shared.known).routes.insert(route.name_any(), object.clone());
                tokio::time::sleep(lag).await;
                accept(&api, &object).await;
            }
            Ok(watcher::Event::Delete(route)) => {
                lock(&shared.known).routes.remove(&route.name_any());
            }
            Ok(watcher::Event::Init | watcher::Event::InitDone) => {}
            Err(error) => lock(&shared.failures).push(format!("watch of routes: {error}")),
        }
    }
}

fn generation(object: &Value) -> i64 {
    object["metadata"]["generation"].as_i64().unwrap_or_default()
}

/// Says that the route is in effect.
async fn accept(api: &Api<DynamicObject>, route: &Value) {
    let condition = |kind: &str| {
        json!({
            "type": kind, "status": "True", "reason": kind, "message": "", "observedGeneration": generation(route),
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        })
    };
    let parents: Vec<Value> = route["spec"]["parentRefs"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|parent| {
            json!({
                "parentRef": parent, "controllerName": CONTROLLER,
                "conditions": [condition("Accepted"), condition("ResolvedRefs")],
            })
        })
        .collect();
    let name = route["metadata"]["name"].as_str().unwrap_or_default();
    let patch = json!({"status": {"parents": parents}});
    // The route may be gone, and then nobody waits for this.
    let _ = api.patch_status(name, &PatchParams::default(), &Patch::Merge(&patch)).await;
}

async fn follow_slices(client: Client, namespace: String, shared: Arc<Shared>) {
    let api = dynamic(client, "discovery.k8s.io", "v1", "EndpointSlice", &namespace);
    let mut events = pin!(watcher(api, watcher::Config::default()).default_backoff());
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Apply(slice) | watcher::Event::InitApply(slice)) => {
                let object = serde_json::to_value(&slice).unwrap();
                lock(&shared.known).slices.insert(slice.name_any(), object);
            }
            Ok(watcher::Event::Delete(slice)) => {
                lock(&shared.known).slices.remove(&slice.name_any());
            }
            Ok(watcher::Event::Init | watcher::Event::InitDone) => {}
            Err(error) => lock(&shared.failures).push(format!("watch of endpoints: {error}")),
        }
    }
}

impl Known {
    /// The rule for a request: of those whose headers it has, the one with most of them.
    fn rule(&self, headers: &HeaderMap) -> Option<&Value> {
        let rules = self.routes.values().flat_map(|route| list(&route["spec"]["rules"]));
        let fits = |matched: &Value| {
            list(&matched["headers"]).iter().all(|wanted| {
                let found = wanted["name"].as_str().and_then(|name| headers.get(name));
                found.and_then(|value| value.to_str().ok()) == wanted["value"].as_str()
            })
        };
        let rank = |rule: &Value| -> Option<usize> {
            let matches = list(&rule["matches"]);
            if matches.is_empty() {
                return Some(0);
            }
            matches.iter().filter(|one| fits(one)).map(|one| list(&one["headers"]).len()).max()
        };
        let mut best: Option<(usize, &Value)> = None;
        for rule in rules {
            if let Some(rank) = rank(rule).filter(|rank| best.is_none_or(|(most, _)| *rank > most)) {
                best = Some((rank, rule));
            }
        }
        best.map(|(_, rule)| rule)
    }

    /// Addresses of the ready endpoints of a Service.
    fn endpoints(&self, service: &str) -> Vec<SocketAddr> {
        let slices = self
            .slices
            .values()
            .filter(|slice| slice["metadata"]["labels"]["kubernetes.io/service-name"].as_str() == Some(service));
        let mut found: Vec<SocketAddr> = slices
            .flat_map(|slice| {
                let port = slice["ports"][0]["port"].as_u64().and_then(|port| u16::try_from(port).ok()).unwrap_or(80);
                list(&slice["endpoints"])
                    .iter()
                    .filter(|endpoint| endpoint["conditions"]["ready"] != json!(false))
                    .filter_map(move |endpoint| {
                        Some(SocketAddr::new(endpoint["addresses"][0].as_str()?.parse().ok()?, port))
                    })
            })
            .collect();
        found.sort_unstable();
        found
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A backend by weight. `turn` counts requests and is spread over the weights by a multiplicative hash (Knuth), so that
/// shares hold for short spans too and still look like chance to whoever counts.
fn pick(backends: &[Value], turn: u64) -> Option<&str> {
    let weight = |backend: &Value| backend["weight"].as_u64().unwrap_or(1);
    let total: u64 = backends.iter().map(weight).sum();
    let mut at = (turn.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33).checked_rem(total)?;
    for backend in backends {
        if at < weight(backend) {
            return backend["name"].as_str();
        }
        at -= weight(backend);
    }
    None
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request<Body>) -> axum::response::Response {
    let turn = shared.turn.fetch_add(1, Ordering::Relaxed);
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap_or_default();
    let route = {
        let known = lock(&shared.known);
        known.rule(&parts.headers).map(|rule| {
            let service = pick(list(&rule["backendRefs"]), turn).unwrap_or_default().to_owned();
            let mirrors: Vec<_> = list(&rule["filters"])
                .iter()
                .filter_map(|filter| filter["requestMirror"]["backendRef"]["name"].as_str())
                .flat_map(|service| known.endpoints(service))
                .collect();
            let endpoints = known.endpoints(&service);
            (service, endpoints, mirrors)
        })
    };
    let fail = |why: String| {
        lock(&shared.failures).push(why.clone());
        (StatusCode::BAD_GATEWAY, why).into_response()
    };
    let Some((service, endpoints, mirrors)) = route else { return fail("no rule".to_owned()) };
    for mirror in mirrors.into_iter().take(1) {
        let copy = Request::from_parts(parts.clone(), Body::from(body.clone()));
        // Nobody sees the answer.
        tokio::spawn(async move { forward(mirror, copy).await.map(drop) });
    }
    *lock(&shared.counts).entry(service.clone()).or_default() += 1;
    let Some(endpoint) = (turn as usize).checked_rem(endpoints.len()).and_then(|at| endpoints.get(at)) else {
        return fail(format!("{service} has no ready endpoint"));
    };
    match forward(*endpoint, Request::from_parts(parts, Body::from(body))).await {
        Ok(response) if response.status().is_server_error() => {
            lock(&shared.failures).push(format!("{service} at {endpoint}: {}", response.status()));
            response
        }
        Ok(response) => response,
        Err(why) => fail(format!("{service} at {endpoint}: {why}")),
    }
}

async fn forward(endpoint: SocketAddr, request: Request<Body>) -> Result<axum::response::Response, String> {
    let stream = TcpStream::connect(endpoint).await.map_err(|error| error.to_string())?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    tokio::spawn(connection);
    let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
    Ok(response.map(Body::new))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_follow_the_weights() {
        let backends = [json!({"name": "a", "weight": 80}), json!({"name": "b", "weight": 20})];
        let share = (0..10_000).filter(|turn| pick(&backends, *turn) == Some("b")).count();
        assert!((1_900..2_100).contains(&share), "{share}");
        assert_eq!(pick(&[json!({"name": "a", "weight": 0})], 1), None);
        assert_eq!(pick(&[json!({"name": "a"})], 1), Some("a"));
    }

    #[test]
    fn the_rule_with_most_headers_wins() {
        let rule =
            |name: &str, headers: Value| json!({"matches": [{"headers": headers}], "backendRefs": [{"name": name}]});
        let rules = [rule("plain", json!([])), rule("testers", json!([{"name": "x-tester", "value": "yes"}]))];
        let known = Known {
            routes: BTreeMap::from([("web".to_owned(), json!({"spec": {"rules": rules}}))]),
            ..Known::default()
        };
        let mut headers = HeaderMap::new();
        let name = |headers: &HeaderMap| known.rule(headers).unwrap()["backendRefs"][0]["name"].clone();
        assert_eq!(name(&headers), "plain");
        headers.insert("x-tester", "yes".parse().unwrap());
        assert_eq!(name(&headers), "testers");
    }
}
