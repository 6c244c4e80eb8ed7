//! The port against a stub of the API server: what goes over the wire and what comes back.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Mutex;
use std::task;

use http::{Request, Response, StatusCode};
use kube::client::Body;
use serde_json::json;
use tower::Service;

use super::*;

/// Answers by method and path; keeps what was asked.
#[derive(Clone, Default)]
struct Stub {
    answers: Arc<Mutex<BTreeMap<String, (u16, Value)>>>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

#[derive(Clone, Debug)]
struct Asked {
    line: String,
    user: Option<String>,
}

impl Stub {
    fn answers(&self, line: &str, code: u16, body: Value) {
        self.answers.lock().expect("lock").insert(line.to_owned(), (code, body));
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("lock").iter().map(|asked| asked.line.clone()).collect()
    }
}

impl Service<Request<Body>> for Stub {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> task::Poll<Result<(), Infallible>> {
        task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let line = format!("{} {}", request.method(), request.uri());
        let user = request.headers().get("Impersonate-User").map(|user| user.to_str().expect("text").to_owned());
        self.asked.lock().expect("lock").push(Asked { line: line.clone(), user });
        let without_query = line.split('?').next().unwrap_or_default();
        let answers = self.answers.lock().expect("lock");
        let answer = answers.get(&line).or_else(|| answers.get(without_query)).cloned();
        Box::pin(async move {
            let Some((code, body)) = answer else {
                return std::future::pending().await;
            };
            let response = Response::builder().status(StatusCode::from_u16(code).expect("code"));
            Ok(response.body(Body::from(body.to_string().into_bytes())).expect("response"))
        })
    }
}

fn status(code: u16, reason: &str, message: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message})
}

fn port(stub: &Stub, leader: Option<LeaderHandle>) -> KubePort {
    stub.answers(
        "GET /apis/apps/v1",
        200,
        json!({"resources": [
            {"name": "deployments", "kind": "Deployment", "namespaced": true}
        ]}),
    );
    let client = kube::Client::new(stub.clone(), "default");
    let options = KubePortOptions { timeout: Duration::from_millis(80), ..KubePortOptions::default() };
    KubePort::new(client, Clock::new(), leader, options).0
}

fn teller() -> ObjectId {
    ObjectId {
        group: "apps".into(),
        version: "v1".into(),
        kind: "Deployment".into(),
        namespace: Some("bank".into()),
        name: "teller".into(),
    }
}

const TELLER: &str = "/apis/apps/v1/namespaces/bank/deployments/teller";

#[tokio::test]
async fn a_kind_is_looked_up_once_and_a_missing_object_is_none() {
    let stub = Stub::default();
    let port = port(&stub, None);
    stub.answers(&format!("GET {TELLER}"), 200, json!({"metadata": {"name": "teller"}}));
    for _ in 0..3 {
        let found = port.live_get(&Identity::Controller, &teller()).await.expect("read");
        assert_eq!(found, Some(json!({"metadata": {"name": "teller"}})));
    }
    assert_eq!(stub.asked().iter().filter(|line| line.as_str() == "GET /apis/apps/v1").count(), 1);
    stub.answers(&format!("GET {TELLER}"), 404, status(404, "NotFound", "gone"));
    assert_eq!(port.live_get(&Identity::Controller, &teller()).await, Ok(None));
    let other = ObjectId { kind: "Teleporter".into(), ..teller() };
    let error = port.live_get(&Identity::Controller, &other).await.expect_err("unknown");
    assert!(matches!(error, PortError::UnknownKind { .. }), "{error}");
}

#[tokio::test]
async fn an_unknown_kind_is_asked_for_again_once_its_definition_may_be_there() {
    let stub = Stub::default();
    let port = port(&stub, None);
    let id = ObjectId { group: "bank.example".into(), kind: "Branch".into(), ..teller() };
    stub.answers("GET /apis/bank.example/v1", 404, json!("404 page not found"));
    for _ in 0..5 {
        assert!(port.live_get(&Identity::Controller, &id).await.is_err());
    }
    assert_eq!(stub.asked().len(), 1, "not asked for at every use");
    stub.answers(
        "GET /apis/bank.example/v1",
        200,
        json!({"resources": [
            {"name": "branches", "kind": "Branch", "namespaced": true}
        ]}),
    );
    stub.answers("GET /apis/bank.example/v1/namespaces/bank/branches/teller", 200, json!({"found": true}));
    tokio::time::sleep(Duration::from_millis(1050)).await;
    assert_eq!(port.live_get(&Identity::Controller, &id).await, Ok(Some(json!({"found": true}))));
}

#[tokio::test]
async fn a_write_is_made_under_the_executors_name_with_strict_validation() {
    let stub = Stub::default();
    let port = port(&stub, Some(LeaderHandle::always(3)));
    stub.answers(&format!("PATCH {TELLER}"), 200, json!({"applied": true}));
    let object = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "teller", "namespace": "bank"}
    });
    let executor = Identity::Impersonate("system:serviceaccount:bank:interlock-executor".into());
    let stored = port.apply(&executor, "interlock-change", &object, &Precondition::default(), DryRun::Yes).await;
    assert_eq!(stored, Ok(json!({"applied": true})));
    let asked = stub.asked.lock().expect("lock").last().cloned().expect("asked");
    assert_eq!(
        asked.line,
        format!("PATCH {TELLER}?fieldManager=interlock-change&fieldValidation=Strict&dryRun=All&force=true")
    );
    assert_eq!(asked.user.as_deref(), Some("system:serviceaccount:bank:interlock-executor"));
}

#[tokio::test]
async fn without_the_lease_nothing_is_written_but_a_dry_run_may() {
    let stub = Stub::default();
    let handle = LeaderHandle::always(3);
    handle.raise_above(3);
    let port = port(&stub, Some(handle));
    stub.answers(&format!("DELETE {TELLER}"), 200, json!({}));
    let none = Precondition::default();
    let refused = port.delete(&Identity::Controller, &teller(), &none, false, DryRun::No).await;
    assert!(matches!(refused, Err(PortError::Unavailable(_))), "{refused:?}");
    assert!(!stub.asked().iter().any(|line| line.starts_with("DELETE")), "nothing was sent");
    assert_eq!(port.delete(&Identity::Controller, &teller(), &none, false, DryRun::Yes).await, Ok(()));
}

#[tokio::test]
async fn what_is_gone_already_counts_as_deleted_and_a_foreign_object_is_a_conflict() {
    let stub = Stub::default();
    let port = port(&stub, None);
    let precondition = Precondition { uid: Some("u7".into()), resource_version: None };
    stub.answers(&format!("DELETE {TELLER}"), 404, status(404, "NotFound", "gone"));
    assert_eq!(port.delete(&Identity::Controller, &teller(), &precondition, true, DryRun::No).await, Ok(()));
    stub.answers(&format!("DELETE {TELLER}"), 409, status(409, "Conflict", "Precondition failed: UID"));
    let foreign = port.delete(&Identity::Controller, &teller(), &precondition, true, DryRun::No).await;
    assert_eq!(foreign, Err(PortError::Conflict("Precondition failed: UID".into())));
}

#[tokio::test]
async fn a_call_that_is_not_answered_ends_and_says_which_one_it_was() {
    let stub = Stub::default();
    let port = port(&stub, None);
    let error = port.live_get(&Identity::Controller, &teller()).await.expect_err("no answer");
    assert_eq!(error, PortError::Unavailable(format!("no answer within 80ms to GET {TELLER}")));
}

#[tokio::test]
async fn a_long_list_is_read_page_by_page_and_each_item_says_what_it_is() {
    let stub = Stub::default();
    let port = port(&stub, None);
    let list = "GET /apis/apps/v1/namespaces/bank/deployments?limit=500";
    let page =
        |name: &str, next: &str| json!({"metadata": {"continue": next}, "items": [{"metadata": {"name": name}}]});
    stub.answers(list, 200, page("one", "a+b"));
    stub.answers(&format!("{list}&continue=a%2Bb"), 200, page("two", ""));
    let found = port.live_list("apps", "v1", "Deployment", Some("bank")).await.expect("listed");
    let names: Vec<&str> = found.iter().filter_map(|item| item["metadata"]["name"].as_str()).collect();
    assert_eq!(names, ["one", "two"]);
    assert!(found.iter().all(|item| item["kind"] == "Deployment" && item["apiVersion"] == "apps/v1"));
}

#[tokio::test]
async fn what_has_labels_is_selected_by_the_server() {
    let stub = Stub::default();
    let port = port(&stub, None);
    let list = "GET /apis/apps/v1/namespaces/bank/deployments?limit=500&labelSelector=app%3Dweb%2Ctier%3Dfront";
    stub.answers(list, 200, json!({"metadata": {}, "items": [{"metadata": {"name": "web"}}]}));
    let found = port.live_list_labelled("apps", "v1", "Deployment", Some("bank"), "app=web,tier=front").await;
    assert_eq!(found.expect("listed").len(), 1);
}

#[tokio::test]
async fn an_object_that_lacks_its_place_is_refused_before_anything_is_sent() {
    let stub = Stub::default();
    let port = port(&stub, None);
    let object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "teller"}});
    let error = port.create(&Identity::Controller, "m", &object, DryRun::No).await.expect_err("refused");
    assert_eq!(error, PortError::Invalid("Deployment teller needs a namespace".into()));
    let nameless = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"namespace": "bank"}});
    let error = port.replace(&Identity::Controller, "m", &nameless, DryRun::No).await.expect_err("refused");
    assert!(matches!(error, PortError::Invalid(_)));
}

#[tokio::test]
async fn an_apply_that_requires_a_version_never_creates_the_object() {
    let stub = Stub::default();
    let port = port(&stub, None);
    let object = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "teller", "namespace": "bank"}
    });
    stub.answers(&format!("GET {TELLER}"), 404, status(404, "NotFound", "gone"));
    stub.answers(&format!("PATCH {TELLER}"), 200, json!({}));
    let version = Precondition { uid: None, resource_version: Some("9".into()) };
    let gone = port.apply(&Identity::Controller, "m", &object, &version, DryRun::No).await;
    assert_eq!(gone, Err(PortError::Conflict("it was at version 9, but: gone".into())));
    assert!(!stub.asked().iter().any(|line| line.starts_with("PATCH")), "nothing was written");
}
