//! The client: one connection to the API server, whose every answer feeds the clock and the metrics.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use http::{Method, Request, Response, header};
use kube::client::{Body, ClientBuilder};
use tower::{Layer, Service};

use crate::clock::Clock;
use crate::telemetry::Metrics;

/// A client that does not retry by itself: the callers know which calls may be repeated and how long they may take.
/// Everything that talks to the API server shares it.
pub fn client(mut config: kube::Config, clock: Clock, metrics: Metrics) -> Result<kube::Client, kube::Error> {
    crate::certs::install_crypto_provider();
    config.default_retry = false;
    let builder = ClientBuilder::try_from(config)?;
    Ok(builder.with_layer(&ObserveLayer { clock, metrics }).build())
}

/// Feeds the clock and the metrics from every answer.
#[derive(Clone, Debug)]
pub struct ObserveLayer {
    /// Learns from the `Date` headers.
    pub clock: Clock,
    /// Counts the calls.
    pub metrics: Metrics,
}

impl<S> Layer<S> for ObserveLayer {
    type Service = Observe<S>;

    fn layer(&self, inner: S) -> Observe<S> {
        Observe { inner, clock: self.clock.clone(), metrics: self.metrics.clone() }
    }
}

/// See [`ObserveLayer`].
#[derive(Clone, Debug)]
pub struct Observe<S> {
    inner: S,
    clock: Clock,
    metrics: Metrics,
}

impl<S, B> Service<Request<Body>> for Observe<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (verb, resource) = describe(request.method(), request.uri().path(), request.uri().query());
        let counted = Counted { metrics: self.metrics.clone(), verb, resource, code: "cancelled".to_owned() };
        let clock = self.clock.clone();
        let sent = Instant::now();
        let answer = self.inner.call(request);
        Box::pin(async move {
            // Counted when it is dropped, so that a call that nobody waits for any more is counted as well.
            let mut counted = counted;
            let answer = answer.await;
            let received = Instant::now();
            match &answer {
                Ok(response) => {
                    response.status().as_str().clone_into(&mut counted.code);
                    if let Some(date) = response.headers().get(header::DATE).and_then(|date| date.to_str().ok()) {
                        clock.observe(date, sent, received);
                    }
                }
                Err(_) => "error".clone_into(&mut counted.code),
            }
            answer
        })
    }
}

struct Counted {
    metrics: Metrics,
    verb: &'static str,
    resource: String,
    code: String,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.metrics.api_call(self.verb, &self.resource, &self.code);
    }
}

/// Verb and resource (`deployments`, `deployments/scale`) as RBAC names them; neither names an object.
fn describe(method: &Method, path: &str, query: Option<&str>) -> (&'static str, String) {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let rest = match parts.as_slice() {
        ["api", _, rest @ ..] | ["apis", _, _, rest @ ..] => rest,
        ["api" | "apis", ..] => &[],
        _ => return (verb(method, false, query), "nonresource".to_owned()),
    };
    let rest = match rest {
        // These two are subresources of a namespace, not resources inside it.
        ["namespaces", _, "status" | "finalize"] => rest,
        ["namespaces", _, inner @ ..] if !inner.is_empty() => inner,
        _ => rest,
    };
    match rest {
        [] => (verb(method, true, query), "discovery".to_owned()),
        [resource] => (verb(method, false, query), (*resource).to_owned()),
        [resource, _] => (verb(method, true, query), (*resource).to_owned()),
        [resource, _, subresource, ..] => (verb(method, true, query), format!("{resource}/{subresource}")),
    }
}

fn verb(method: &Method, named: bool, query: Option<&str>) -> &'static str {
    let watches = || query.is_some_and(|query| query.split('&').any(|pair| matches!(pair, "watch=true" | "watch=1")));
    match (method.as_str(), named) {
        ("GET", _) if watches() => "watch",
        ("GET", true) => "get",
        ("GET", false) => "list",
        ("POST", _) => "create",
        ("PUT", _) => "update",
        ("PATCH", _) => "patch",
        ("DELETE", true) => "delete",
        ("DELETE", false) => "deletecollection",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    #[test]
    fn calls_are_described_as_rbac_names_them_and_without_names_of_objects() {
        let of = |method: Method, uri: &str| {
            let uri: http::Uri = uri.parse().expect("uri");
            let (verb, resource) = describe(&method, uri.path(), uri.query());
            format!("{verb} {resource}")
        };
        assert_eq!(of(Method::GET, "/api/v1/namespaces/a/configmaps/b"), "get configmaps");
        assert_eq!(of(Method::GET, "/api/v1/namespaces/a/configmaps?limit=5"), "list configmaps");
        assert_eq!(of(Method::GET, "/apis/apps/v1/deployments?timeout=9&watch=true"), "watch deployments");
        assert_eq!(of(Method::PUT, "/apis/apps/v1/namespaces/a/deployments/b/scale"), "update deployments/scale");
        assert_eq!(of(Method::PATCH, "/api/v1/namespaces/a"), "patch namespaces");
        assert_eq!(of(Method::PUT, "/api/v1/namespaces/a/status"), "update namespaces/status");
        assert_eq!(of(Method::POST, "/api/v1/namespaces"), "create namespaces");
        assert_eq!(of(Method::DELETE, "/api/v1/namespaces/a/pods/b"), "delete pods");
        assert_eq!(of(Method::GET, "/apis/apps/v1"), "get discovery");
        assert_eq!(of(Method::GET, "/version"), "list nonresource");
    }

    #[derive(Clone)]
    struct Dated;

    impl Service<Request<Body>> for Dated {
        type Response = Response<Body>;
        type Error = Infallible;
        type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: Request<Body>) -> Self::Future {
            Box::pin(async move {
                if request.uri().path().ends_with("/slow") {
                    std::future::pending::<()>().await;
                }
                let response = Response::builder().status(404).header(header::DATE, "Mon, 23 Nov 2026 06:00:00 GMT");
                Ok(response.body(Body::empty()).expect("response"))
            })
        }
    }

    #[tokio::test]
    async fn every_answer_feeds_the_clock_and_is_counted_also_one_that_never_comes() {
        let (clock, metrics) = (Clock::new(), Metrics::new());
        let mut service = ObserveLayer { clock: clock.clone(), metrics: metrics.clone() }.layer(Dated);
        assert_eq!(clock.now(), None);
        let request = |uri: &str| Request::get(uri).body(Body::empty()).expect("request");
        let answer = service.call(request("/api/v1/namespaces/a/pods/b")).await.expect("answered");
        assert_eq!(answer.status(), 404);
        assert_eq!(clock.now().expect("known").to_string().split('.').next(), Some("2026-11-23T06:00:00"));
        assert_eq!(metrics.api_calls_of("get", "pods", "404"), 1);
        let slow = service.call(request("/api/v1/namespaces/a/pods/slow"));
        assert!(tokio::time::timeout(std::time::Duration::from_millis(20), slow).await.is_err());
        assert_eq!(metrics.api_calls_of("get", "pods", "cancelled"), 1);
    }
}
