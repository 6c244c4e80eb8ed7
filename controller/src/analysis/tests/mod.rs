//! Providers against servers of the test's own. The same questions are asked of a real Prometheus by
//! `cargo xtask test` (`tests/tests/prometheus.rs`).

mod access;
mod probe;
mod prometheus;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::request::Parts;
use axum::response::Response;
use interlock_core::analysis::{Observation, Slot, Subject};
use interlock_crds::Analysis;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Access, Client, Guard, measure};

/// One request that the server saw: method, path, headers, body.
#[derive(Clone, Debug)]
struct Seen {
    method: String,
    target: String,
    headers: BTreeMap<String, String>,
    body: String,
}

impl Seen {
    /// The form that was sent.
    fn form(&self) -> BTreeMap<String, String> {
        let decode = |text: &str| {
            let mut bytes = Vec::new();
            let mut rest = text.bytes();
            while let Some(byte) = rest.next() {
                let mut hex = || char::from(rest.next().expect("digit")).to_digit(16).expect("digit") as u8;
                bytes.push(if byte == b'%' { hex() * 16 + hex() } else { byte });
            }
            String::from_utf8(bytes).expect("UTF-8")
        };
        let pairs = self.body.split('&').filter_map(|pair| pair.split_once('='));
        pairs.map(|(name, value)| (name.to_owned(), decode(value))).collect()
    }
}

type Log = Arc<Mutex<Vec<Seen>>>;

/// Answers every request with what `answer` says, and remembers the requests.
fn app<F>(log: Log, answer: F) -> Router
where
    F: Fn(&Seen) -> Response + Clone + Send + Sync + 'static,
{
    Router::new().fallback(move |parts: Parts, body: Bytes| {
        let headers = parts.headers.iter();
        let seen = Seen {
            method: parts.method.to_string(),
            target: parts.uri.to_string(),
            headers: headers
                .map(|(name, value)| (name.to_string(), value.to_str().unwrap_or("?").to_owned()))
                .collect(),
            body: String::from_utf8_lossy(&body).into_owned(),
        };
        let response = answer(&seen);
        log.lock().expect("log").push(seen);
        async move { response }
    })
}

async fn serve<F>(answer: F) -> (SocketAddr, Log)
where
    F: Fn(&Seen) -> Response + Clone + Send + Sync + 'static,
{
    let log = Log::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("port");
    let address = listener.local_addr().expect("address");
    let app = app(Arc::clone(&log), answer);
    tokio::spawn(async move { axum::serve(listener, app).await });
    (address, log)
}

fn reply(status: u16, body: impl Into<Body>) -> Response {
    Response::builder().status(status).body(body.into()).expect("response")
}

fn analysis(fields: Value) -> Analysis {
    let mut all = json!({"name": "errors"});
    if let (Some(all), Value::Object(fields)) = (all.as_object_mut(), fields) {
        all.extend(fields);
    }
    serde_json::from_value(all).expect("analysis")
}

fn subject() -> Subject {
    Subject {
        workload: "teller".into(),
        namespace: "branch".into(),
        canary_hash: "7d9f6".into(),
        stable_hash: "5c4b8".into(),
    }
}

fn slot() -> Slot {
    Slot { number: 1, due: Timestamp::UNIX_EPOCH, samples: None, of: Some(1) }
}

fn client() -> Client {
    Client::new(Guard { loopback: true })
}

/// What `analysis` observes; a test does not wait longer than this for anything.
async fn observe(analysis: &Analysis, access: &Access) -> Observation {
    let client = client();
    let slot = slot();
    let subject = subject();
    let observed = measure(&client, access, analysis, &slot, &subject);
    tokio::time::timeout(Duration::from_secs(20), observed).await.expect("in time")
}

async fn error(analysis: &Analysis, access: &Access) -> String {
    match observe(analysis, access).await {
        Observation::Error(why) => why,
        other => panic!("an error is expected, not {other:?}"),
    }
}
