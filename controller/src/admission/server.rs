//! The HTTPS server that the API server calls.
//!
//! It only speaks the protocol; a [`Judge`] decides. Whatever goes wrong on the way, a judged entry never lets a write
//! pass by accident: a judge that is too slow or panics denies. The `open` variants of the entries serve the webhooks
//! of Systems in Audit and Warn, which must never stop anyone: there the failure is answered as an HTTP error, so that
//! the webhook's `failurePolicy: Ignore` decides.

use std::fmt;
use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Request, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use futures::StreamExt as _;
use interlock_core::admission::{Denial, MutateAnswer, Verdict, WriteRequest};
use serde_json::Value;
use tokio::task::JoinError;

use super::review;
use crate::shutdown::Shutdown;
use crate::telemetry::{Metrics, Readiness, WEBHOOK};

/// A body of up to so many times the limit is read to its end before it is refused.
const DISCARDED: usize = 4;

/// Which webhook entry a request came through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Entry {
    /// Interlock's own kinds.
    Own,
    /// Governed objects in enrolled namespaces.
    Governed,
    /// Namespaces, without selector.
    Namespace,
    /// Governed cluster-scoped objects.
    Cluster,
}

impl Entry {
    /// The last part of its path, which is also its label in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Governed => "governed",
            Self::Namespace => "namespace",
            Self::Cluster => "cluster",
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Decides about writes.
pub trait Judge: Send + Sync + 'static {
    /// What the mutating webhook answers.
    fn mutate(&self, request: &WriteRequest) -> impl Future<Output = MutateAnswer> + Send;
    /// What a validating webhook answers.
    fn validate(&self, entry: Entry, request: &WriteRequest) -> impl Future<Output = Verdict> + Send;
}

/// Limits of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerOptions {
    /// A greater body is refused with 413.
    pub body_limit: usize,
    /// From the first byte of a request to its answer; below the webhook's own timeout of 2 s.
    pub deadline: Duration,
    /// How long requests may still take that were begun before the end.
    pub drain: Duration,
    /// How long new connections are still accepted after the end was asked for: the time that it takes the cluster to
    /// stop sending them here.
    pub linger: Duration,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            body_limit: 3 << 20,
            deadline: Duration::from_millis(1800),
            drain: Duration::from_secs(10),
            linger: Duration::from_secs(3),
        }
    }
}

/// What a route does.
#[derive(Clone, Copy)]
enum Route {
    Mutate,
    Validate { entry: Entry, open: bool },
}

impl Route {
    const fn label(self) -> &'static str {
        match self {
            Self::Mutate => "mutate",
            Self::Validate { entry, .. } => entry.as_str(),
        }
    }

    /// Whether a failure is left to the webhook's failure policy.
    const fn is_open(self) -> bool {
        matches!(self, Self::Validate { open: true, .. })
    }
}

struct Server<J> {
    judge: Arc<J>,
    options: ServerOptions,
    metrics: Metrics,
}

impl<J> Clone for Server<J> {
    fn clone(&self) -> Self {
        Self { judge: Arc::clone(&self.judge), options: self.options, metrics: self.metrics.clone() }
    }
}

/// Serves until `shutdown`, then answers what is under way and returns. The certificate is replaced through `tls`
/// while the server runs.
pub async fn serve<J: Judge>(
    listener: TcpListener,
    tls: RustlsConfig,
    judge: Arc<J>,
    options: ServerOptions,
    metrics: Metrics,
    readiness: Readiness,
    shutdown: Shutdown,
) -> std::io::Result<()> {
    listener.set_nonblocking(true)?;
    let handle = Handle::<SocketAddr>::new();
    let ending = handle.clone();
    let announced = readiness.clone();
    let watcher = tokio::spawn(async move {
        if ending.listening().await.is_some() {
            announced.set(WEBHOOK, Ok(()));
        }
        shutdown.triggered().await;
        announced.set(WEBHOOK, Err("this process is ending".to_owned()));
        tokio::time::sleep(options.linger).await;
        ending.graceful_shutdown(Some(options.drain));
    });
    let routes = router(judge, options, metrics);
    let result = axum_server::from_tcp_rustls(listener, tls)?.handle(handle).serve(routes.into_make_service()).await;
    watcher.abort();
    readiness.set(WEBHOOK, Err("the webhook's server has ended".to_owned()));
    result
}

/// The routes without the listener.
pub fn router<J: Judge>(judge: Arc<J>, options: ServerOptions, metrics: Metrics) -> Router {
    let mut router = Router::new().route("/mutate", post(handler::<J>(Route::Mutate)));
    for entry in [Entry::Own, Entry::Governed, Entry::Namespace, Entry::Cluster] {
        let path = format!("/validate/{entry}");
        router = router.route(&path, post(handler::<J>(Route::Validate { entry, open: false })));
    }
    for entry in [Entry::Governed, Entry::Cluster] {
        let path = format!("/validate/{entry}/open");
        router = router.route(&path, post(handler::<J>(Route::Validate { entry, open: true })));
    }
    router.with_state(Server { judge, options, metrics })
}

fn handler<J: Judge>(
    route: Route,
) -> impl Fn(State<Server<J>>, Request<Body>) -> futures::future::BoxFuture<'static, Response> + Clone {
    move |State(server), request| Box::pin(async move { server.answer(route, request).await })
}

impl<J: Judge> Server<J> {
    async fn answer(&self, route: Route, request: Request<Body>) -> Response {
        let began = Instant::now();
        let (verdict, reason, response) = self.judged(route, request).await;
        self.metrics.admission(route.label(), verdict, &reason, began.elapsed());
        response
    }

    async fn judged(&self, route: Route, request: Request<Body>) -> (&'static str, String, Response) {
        let until = tokio::time::Instant::now() + self.options.deadline;
        let (parts, body) = request.into_parts();
        if !is_json(&parts.headers) {
            let sentence = "the Content-Type must be application/json";
            return refused(StatusCode::BAD_REQUEST, "BadContentType", sentence.to_owned());
        }
        let body = match tokio::time::timeout_at(until, read(body, self.options.body_limit)).await {
            Ok(Ok(body)) => body,
            Ok(Err((status, reason, sentence))) => return refused(status, reason, sentence),
            Err(_) => {
                let sentence = format!("the request did not arrive within {:?}", self.options.deadline);
                return refused(StatusCode::REQUEST_TIMEOUT, "SlowRequest", sentence);
            }
        };
        let write = match review::parse(&body) {
            Ok(write) => write,
            Err(error) => return refused(StatusCode::BAD_REQUEST, "Malformed", error.to_string()),
        };
        drop(body);
        let uid = write.uid.clone();
        let object = write.target();
        // On a task of its own, so that a judge that computes without a pause is still answered for in time.
        let judge = Arc::clone(&self.judge);
        let task = Abort(tokio::spawn(async move {
            match route {
                Route::Mutate => Answer::Mutate(judge.mutate(&write).await),
                Route::Validate { entry, .. } => Answer::Validate(judge.validate(entry, &write).await),
            }
        }));
        let failure = match tokio::time::timeout_at(until, task).await {
            Ok(Ok(answer)) => return answered(&uid, &object, &answer),
            Ok(Err(error)) => {
                tracing::error!(object, uid, reason = %error, "an admission request was not judged");
                Denial {
                    code: 500,
                    reason: "InternalError".to_owned(),
                    message: "Interlock could not judge this write because of an error of its own, and so it does not \
                              pass. The controller's log has the details; please report them."
                        .to_owned(),
                }
            }
            Err(_) => {
                tracing::warn!(object, uid, reason = "Timeout", "an admission request was not judged in time");
                Denial {
                    code: 504,
                    reason: "Timeout".to_owned(),
                    message: format!(
                        "Interlock could not judge this write within {:?}, and so it does not pass. Nothing was \
                         written: try again.",
                        self.options.deadline
                    ),
                }
            }
        };
        if route.is_open() {
            let status = StatusCode::from_u16(failure.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            return refused_as("failed-open", status, &failure.reason, failure.message);
        }
        answered(&uid, &object, &Answer::Validate(Verdict::Deny(failure)))
    }
}

enum Answer {
    Mutate(MutateAnswer),
    Validate(Verdict),
}

/// A judge whose answer nobody waits for any more stops.
struct Abort(tokio::task::JoinHandle<Answer>);

impl Future for Abort {
    type Output = Result<Answer, JoinError>;

    fn poll(mut self: std::pin::Pin<&mut Self>, context: &mut std::task::Context<'_>) -> std::task::Poll<Self::Output> {
        std::pin::Pin::new(&mut self.0).poll(context)
    }
}

impl Drop for Abort {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn answered(uid: &str, object: &str, answer: &Answer) -> (&'static str, String, Response) {
    let (verdict, reason, body) = match answer {
        Answer::Mutate(answer) => {
            let (verdict, reason) = match answer {
                MutateAnswer::Deny(denial) => ("deny", denial.reason.clone()),
                MutateAnswer::Patch(_) => ("patch", String::new()),
                MutateAnswer::Nothing => ("allow", String::new()),
            };
            (verdict, reason, review::mutate_review(uid, answer))
        }
        Answer::Validate(verdict) => {
            let (name, reason) = match verdict {
                Verdict::Deny(denial) => ("deny", denial.reason.clone()),
                Verdict::Allow { audit: Some(denial), .. } => ("would-deny", denial.reason.clone()),
                Verdict::Allow { .. } => ("allow", String::new()),
            };
            (name, reason, review::verdict_review(uid, verdict))
        }
    };
    tracing::debug!(object, uid, verdict, reason, "admission");
    (verdict, reason, json_response(&body))
}

fn json_response(body: &Value) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

fn refused(status: StatusCode, reason: &str, sentence: String) -> (&'static str, String, Response) {
    refused_as("refused", status, reason, sentence)
}

fn refused_as(
    verdict: &'static str,
    status: StatusCode,
    reason: &str,
    sentence: String,
) -> (&'static str, String, Response) {
    tracing::warn!(code = status.as_u16(), reason, sentence, "an admission call was refused");
    (verdict, reason.to_owned(), (status, sentence).into_response())
}

fn is_json(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
}

/// The body, or why it is not judged. What is over the limit is still taken off the wire and thrown away, within
/// reason: a client that is cut off while it writes does not see the answer.
async fn read(body: Body, limit: usize) -> Result<Vec<u8>, (StatusCode, &'static str, String)> {
    let mut chunks = body.into_data_stream();
    let (mut kept, mut length) = (Vec::new(), 0usize);
    while let Some(chunk) = chunks.next().await {
        let chunk =
            chunk.map_err(|error| (StatusCode::BAD_REQUEST, "CutOff", format!("the request was cut off: {error}")))?;
        length = length.saturating_add(chunk.len());
        if length <= limit {
            kept.extend_from_slice(&chunk);
        } else if length > limit.saturating_mul(DISCARDED) {
            break;
        }
    }
    if length <= limit {
        return Ok(kept);
    }
    let sentence = format!(
        "the admission request has more than {limit} bytes, which is the most that Interlock reads; make the object \
         smaller, or split it"
    );
    Err((StatusCode::PAYLOAD_TOO_LARGE, "TooLarge", sentence))
}

#[cfg(test)]
mod tests;
