//! A small Gateway: it follows the HTTPRoutes of a namespace, accepts them, and shares real requests by weight over the
//! ready endpoints of the Services behind them.
//!
//! No complete implementation of the Gateway API can be had where the tests run. This one does what a release depends on:
//! it takes a route's generation up first and says so afterwards, picks the rule with most headers, shares by weight,
//! copies for mirrors as many requests as they say, and never tries a request twice, so that each that fails is seen. In each
//! answer it tells by which generation of the route and by which weights it came.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{body::Body, extract::State, http::Request, response::IntoResponse as _};
use futures::StreamExt as _;
use http::{HeaderMap, HeaderValue, StatusCode};
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

/// Header of each answer: the generation of the route that it came by.
pub const GENERATION: &str = "x-route-generation";
/// Header of each answer: the weights by which its backend was drawn, as `web-stable=80 web-canary=20`.
pub const WEIGHTS: &str = "x-route-weights";

/// What chance begins with whenever a route is taken up. Any number would do; as it stays, what is within the bounds of chance
/// in one run is so in each.
pub const SEED: u64 = 7;

/// What the Gateway knows of the namespace.
#[derive(Debug, Default)]
struct Known {
    /// By name: the routes in the form in which they are in effect.
    routes: BTreeMap<String, Value>,
    /// By name.
    slices: BTreeMap<String, Value>,
    dice: Dice,
    /// By the generation of the route.
    routed: BTreeMap<i64, Routed>,
}

/// Requests by one generation of a route.
#[derive(Clone, Debug, Default)]
pub struct Routed {
    /// How many each Service was to answer.
    pub answered: BTreeMap<String, u64>,
    /// How many each Service was sent copies of.
    pub copied: BTreeMap<String, u64>,
}

/// Where a request goes.
#[derive(Debug)]
struct Choice {
    generation: i64,
    weights: String,
    service: String,
    endpoints: Vec<SocketAddr>,
    /// Services that get a copy, and their endpoints.
    copies: Vec<(String, Vec<SocketAddr>)>,
}

/// Chance, for Services and for copies apart, so that one does not disturb the other.
#[derive(Debug)]
struct Dice {
    backends: fastrand::Rng,
    copies: fastrand::Rng,
}

impl Default for Dice {
    fn default() -> Self {
        Self { backends: fastrand::Rng::with_seed(SEED), copies: fastrand::Rng::with_seed(SEED) }
    }
}

#[derive(Debug, Default)]
struct Shared {
    known: Mutex<Known>,
    /// What went wrong, and where.
    failures: Mutex<Vec<String>>,
    /// Counts requests: endpoints take turns.
    turn: AtomicUsize,
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

    /// Requests so far by that generation of a route.
    pub fn routed(&self, generation: i64) -> Routed {
        lock(&self.shared.known).routed.get(&generation).cloned().unwrap_or_default()
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
                lock(&shared.known).take_up(route.name_any(), object.clone());
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
    /// A route is in effect from now on. Chance begins anew: what it gives depends on nothing but the number of requests since.
    fn take_up(&mut self, name: String, route: Value) {
        self.routes.insert(name, route);
        self.dice = Dice::default();
    }

    /// Where a request goes, by the rule for it.
    fn choose(&mut self, headers: &HeaderMap) -> Option<Choice> {
        let (generation, rule) = self.rule(headers).map(|(route, rule)| (generation(route), rule.clone()))?;
        let backends = list(&rule["backendRefs"]);
        let service = self.dice.backend(backends).unwrap_or_default().to_owned();
        let mirrors = list(&rule["filters"]).iter().map(|filter| &filter["requestMirror"]);
        let copies: Vec<String> = mirrors.filter_map(|mirror| self.dice.copy(mirror)).collect();
        let routed = self.routed.entry(generation).or_default();
        *routed.answered.entry(service.clone()).or_default() += 1;
        for copy in &copies {
            *routed.copied.entry(copy.clone()).or_default() += 1;
        }
        let with_endpoints = |service: String| {
            let endpoints = self.endpoints(&service);
            (service, endpoints)
        };
        Some(Choice {
            generation,
            weights: weights(backends),
            endpoints: self.endpoints(&service),
            service,
            copies: copies.into_iter().map(with_endpoints).collect(),
        })
    }

    /// The rule for a request, and its route: of those whose headers it has, the one with most of them.
    fn rule(&self, headers: &HeaderMap) -> Option<(&Value, &Value)> {
        let rules = self.routes.values().flat_map(|route| {
            let rules = list(&route["spec"]["rules"]).iter();
            rules.map(move |rule| (route, rule))
        });
        let has = |wanted: &Value| {
            let found = wanted["name"].as_str().and_then(|name| headers.get(name));
            let is_exact = wanted["type"].as_str().is_none_or(|kind| kind == "Exact");
            is_exact && found.and_then(|value| value.to_str().ok()) == wanted["value"].as_str()
        };
        let fits = |matched: &Value| list(&matched["headers"]).iter().all(has);
        let rank = |rule: &Value| -> Option<usize> {
            let matches = list(&rule["matches"]);
            if matches.is_empty() {
                return Some(0);
            }
            matches.iter().filter(|one| fits(one)).map(|one| list(&one["headers"]).len()).max()
        };
        let mut best: Option<(usize, &Value, &Value)> = None;
        for (route, rule) in rules {
            if let Some(rank) = rank(rule).filter(|rank| best.is_none_or(|(most, ..)| *rank > most)) {
                best = Some((rank, route, rule));
            }
        }
        best.map(|(_, route, rule)| (route, rule))
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

fn weight(backend: &Value) -> u64 {
    backend["weight"].as_u64().unwrap_or(1)
}

/// The weights of a rule for whoever reads an answer.
fn weights(backends: &[Value]) -> String {
    let one = |backend: &Value| format!("{}={}", backend["name"].as_str().unwrap_or_default(), weight(backend));
    backends.iter().map(one).collect::<Vec<_>>().join(" ")
}

impl Dice {
    /// A backend by weight.
    fn backend<'b>(&mut self, backends: &'b [Value]) -> Option<&'b str> {
        let total: u64 = backends.iter().map(weight).sum();
        if total == 0 {
            return None;
        }
        let mut at = self.backends.u64(..total);
        for backend in backends {
            if at < weight(backend) {
                return backend["name"].as_str();
            }
            at -= weight(backend);
        }
        None
    }

    /// The Service that gets a copy of a request by a `requestMirror` filter: of each, or of as many as `percent` or `fraction`
    /// say. None of any other filter.
    fn copy(&mut self, mirror: &Value) -> Option<String> {
        let service = mirror["backendRef"]["name"].as_str()?;
        let fraction = &mirror["fraction"];
        let (part, whole) = match (mirror["percent"].as_u64(), fraction["numerator"].as_u64()) {
            (Some(percent), _) => (percent, 100),
            (None, Some(part)) => (part, fraction["denominator"].as_u64().unwrap_or(100)),
            (None, None) => (1, 1),
        };
        (self.copies.u64(..whole.max(1)) < part).then(|| service.to_owned())
    }
}

/// One of the endpoints, each in its turn.
fn one_of(endpoints: &[SocketAddr], turn: usize) -> Option<SocketAddr> {
    endpoints.get(turn.checked_rem(endpoints.len())?).copied()
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request<Body>) -> axum::response::Response {
    let turn = shared.turn.fetch_add(1, Ordering::Relaxed);
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap_or_default();
    let fail = |why: String| {
        lock(&shared.failures).push(why.clone());
        (StatusCode::BAD_GATEWAY, why).into_response()
    };
    let choice = lock(&shared.known).choose(&parts.headers);
    let Some(Choice { generation, weights, service, endpoints, copies }) = choice else {
        return fail("no rule".to_owned());
    };
    for (service, endpoints) in copies {
        let copy = Request::from_parts(parts.clone(), Body::from(body.clone()));
        tokio::spawn(send_copy(shared.clone(), service, one_of(&endpoints, turn), copy));
    }
    let Some(endpoint) = one_of(&endpoints, turn) else {
        return fail(format!("{service} has no ready endpoint"));
    };
    let mut response = match forward(endpoint, Request::from_parts(parts, Body::from(body))).await {
        Ok(response) => response,
        Err(why) => return fail(format!("{service} at {endpoint}: {why}")),
    };
    if response.status().is_server_error() {
        lock(&shared.failures).push(format!("{service} at {endpoint}: {}", response.status()));
    }
    let headers = response.headers_mut();
    headers.insert(GENERATION, HeaderValue::from(generation));
    if let Ok(weights) = HeaderValue::from_str(&weights) {
        headers.insert(WEIGHTS, weights);
    }
    response
}

/// Nobody sees the answer; a copy that does not arrive is a failure all the same.
async fn send_copy(shared: Arc<Shared>, service: String, endpoint: Option<SocketAddr>, copy: Request<Body>) {
    let sent = match endpoint {
        Some(endpoint) => forward(endpoint, copy).await.map(drop),
        None => Err("it has no ready endpoint".to_owned()),
    };
    if let Err(why) = sent {
        lock(&shared.failures).push(format!("copy to {service}: {why}"));
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
    use crate::load::is_chance;

    #[test]
    fn shares_follow_the_weights_as_chance_has_it_after_any_number_of_requests() {
        for percent in [20_u64, 60] {
            let backends = [json!({"name": "a", "weight": 100 - percent}), json!({"name": "b", "weight": percent})];
            let (mut dice, mut of) = (Dice::default(), 0_u64);
            for all in 1..=20_000_u64 {
                of += u64::from(dice.backend(&backends) == Some("b"));
                if all % 500 != 0 {
                    continue;
                }
                // Four may be under way when answers are counted.
                for (of, all) in [(of, all), (of, all - 4), (of - 4, all - 4)] {
                    assert!(is_chance(of, all, percent as f64), "{of} of {all} are {percent} %");
                }
            }
        }
        let mut dice = Dice::default();
        assert_eq!(dice.backend(&[json!({"name": "a", "weight": 0})]), None);
        assert_eq!(dice.backend(&[json!({"name": "a"})]), Some("a"));
        assert_eq!(weights(&[json!({"name": "a"}), json!({"name": "b", "weight": 0})]), "a=1 b=0");
    }

    #[test]
    fn as_many_requests_are_copied_as_a_mirror_says() {
        let backend = json!({"name": "b", "port": 80});
        let copied = |mirror: Value, all: u64| {
            let mut dice = Dice::default();
            (0..all).filter(|_| dice.copy(&mirror).as_deref() == Some("b")).count() as u64
        };
        for all in [100, 2_000, 4_000, 20_000] {
            assert!(is_chance(copied(json!({"backendRef": backend, "percent": 25}), all), all, 25.0));
        }
        let tenth = json!({"backendRef": backend, "fraction": {"numerator": 10}});
        assert!(is_chance(copied(tenth, 2_000), 2_000, 10.0));
        let eighth = json!({"backendRef": backend, "fraction": {"numerator": 1, "denominator": 8}});
        assert!(is_chance(copied(eighth, 2_000), 2_000, 12.5));
        assert_eq!(copied(json!({"backendRef": backend}), 100), 100);
        assert_eq!(copied(json!({"backendRef": backend, "percent": 0}), 100), 0);
        assert_eq!(copied(Value::Null, 100), 0, "another filter");
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
        let name = |headers: &HeaderMap| known.rule(headers).unwrap().1["backendRefs"][0]["name"].clone();
        assert_eq!(name(&headers), "plain");
        headers.insert("x-tester", "yes".parse().unwrap());
        assert_eq!(name(&headers), "testers");
    }
}
