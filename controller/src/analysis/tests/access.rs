use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use interlock_core::object::ObjectId;
use interlock_core::port::{DryRun, Identity, Note, Port, PortError, Precondition};
use jiff::SignedDuration;

use super::*;
use crate::analysis::AccessError;
use crate::certs::Authority;

/// Objects that can be read, by kind and name, by one identity.
#[derive(Default)]
struct Objects(BTreeMap<(String, String), Value>, AtomicUsize);

fn reader() -> Identity {
    Identity::Impersonate("system:serviceaccount:branch:executor".into())
}

impl Port for Objects {
    fn now(&self) -> Option<Timestamp> {
        None
    }
    fn may_write(&self) -> bool {
        false
    }
    async fn live_get(&self, identity: &Identity, id: &ObjectId) -> Result<Option<Value>, PortError> {
        assert_eq!((identity, id.namespace.as_deref()), (&reader(), Some("branch")));
        self.1.fetch_add(1, Ordering::SeqCst);
        if id.name == "locked" {
            return Err(PortError::Forbidden("secrets \"locked\" is forbidden".into()));
        }
        Ok(self.0.get(&(id.kind.clone(), id.name.clone())).cloned())
    }
    async fn live_list(&self, _: &str, _: &str, _: &str, _: Option<&str>) -> Result<Vec<Value>, PortError> {
        panic!("nothing is listed")
    }
    async fn create(&self, _: &Identity, _: &str, _: &Value, _: DryRun) -> Result<Value, PortError> {
        panic!("nothing is written")
    }
    async fn apply(&self, _: &Identity, _: &str, _: &Value, _: &Precondition, _: DryRun) -> Result<Value, PortError> {
        panic!("nothing is written")
    }
    async fn replace(&self, _: &Identity, _: &str, _: &Value, _: DryRun) -> Result<Value, PortError> {
        panic!("nothing is written")
    }
    async fn merge_patch(&self, _: &Identity, _: &str, _: &ObjectId, _: &Value) -> Result<Value, PortError> {
        panic!("nothing is written")
    }
    async fn replace_status(&self, _: &Value) -> Result<Value, PortError> {
        panic!("nothing is written")
    }
    async fn delete(&self, _: &Identity, _: &ObjectId, _: &Precondition, _: bool, _: DryRun) -> Result<(), PortError> {
        panic!("nothing is written")
    }
    async fn note(&self, _: &Value, _: &Note) {}
    fn watch(&self, _: &str, _: &[ObjectId]) {}
}

fn secret(kind: &str, origins: Option<&str>, data: &[(&str, &str)]) -> Value {
    let data: serde_json::Map<_, _> =
        data.iter().map(|(key, value)| ((*key).to_owned(), json!(STANDARD.encode(value)))).collect();
    let annotations = origins.map_or(json!({}), |origins| json!({"interlock.dev/origins": origins}));
    json!({"kind": "Secret", "type": kind, "metadata": {"annotations": annotations}, "data": data})
}

async fn read(objects: &Objects, http: Value) -> Result<Access, AccessError> {
    Access::read(objects, &reader(), "branch", &analysis(json!({"http": http}))).await
}

fn with(kind: &str, name: &str, object: Value) -> Objects {
    Objects(BTreeMap::from([((kind.to_owned(), name.to_owned()), object)]), AtomicUsize::new(0))
}

async fn refused(secret: Value) -> String {
    let objects = with("Secret", "s", secret);
    let read = read(&objects, json!({"url": "https://a.example", "secretRef": {"name": "s"}})).await;
    read.expect_err("refused").to_string()
}

#[tokio::test]
async fn only_secrets_made_for_it_are_used_and_errors_show_no_value() {
    let token = [("token", "hunter2")];
    assert_eq!(
        refused(secret("Opaque", Some("https://a.example"), &token)).await,
        "Secret s cannot be used: its type must be interlock.dev/analysis"
    );
    assert!(
        refused(secret("interlock.dev/analysis", None, &token))
            .await
            .contains("annotate it with interlock.dev/origins")
    );
    for origins in ["http://a.example", "a.example", "https://a:b"] {
        let why = refused(secret("interlock.dev/analysis", Some(origins), &token)).await;
        assert!(why.ends_with("interlock.dev/origins lists what is no https://HOST:PORT"), "{why}");
    }
    let origins = Some("https://a.example");
    for data in [
        &[][..],
        &[("username", "hunter2")],
        &[("token", "hunter2\nx: y")],
        &[("tls.crt", "hunter2"), ("tls.key", "hunter2")],
    ] {
        let why = refused(secret("interlock.dev/analysis", origins, data)).await;
        assert!(!why.contains("hunter2"), "{why}");
    }
    let mut odd = secret("interlock.dev/analysis", origins, &token);
    odd["data"]["token"] = json!("hunter2!");
    assert_eq!(refused(odd).await, "Secret s cannot be used: its key token is not base64");
    let good = with("Secret", "s", secret("interlock.dev/analysis", origins, &token));
    let access = read(&good, json!({"url": "https://a.example", "secretRef": {"name": "s"}})).await.expect("usable");
    assert!(!format!("{access:?} {access:#?}").contains("hunter2"));
}

#[tokio::test]
async fn what_is_missing_or_may_not_be_read_is_named() {
    let objects = Objects::default();
    let of = async |fields: Value| read(&objects, fields).await.expect_err("missing").to_string();
    assert_eq!(
        of(json!({"url": "https://a", "secretRef": {"name": "s"}})).await,
        "Secret s does not exist in namespace branch"
    );
    assert_eq!(
        of(json!({"url": "https://a", "tls": {"caConfigMapRef": {"name": "ca"}}})).await,
        "ConfigMap ca does not exist in namespace branch"
    );
    assert_eq!(
        of(json!({"url": "https://a", "secretRef": {"name": "locked"}})).await,
        "Secret locked cannot be read: secrets \"locked\" is forbidden"
    );
    assert!(read(&objects, json!({"url": "http://a"})).await.is_ok());
    let empty = with("ConfigMap", "ca", json!({"data": {"ca.crt": "no"}}));
    let why = read(&empty, json!({"url": "https://a", "tls": {"caConfigMapRef": {"name": "ca"}}})).await;
    assert_eq!(why.expect_err("no").to_string(), "ConfigMap ca cannot be used: it needs certificates under ca.crt");
}

/// A server with a certificate of an authority of its own, for `localhost`.
async fn encrypted() -> (u16, Log, String) {
    crate::certs::install_crypto_provider();
    let now: Timestamp = "2026-11-23T00:00:00Z".parse().expect("instant");
    // The library looks at the machine's clock: valid for long.
    let authority = Authority::new(now - SignedDuration::from_hours(24 * 365)).expect("authority");
    let leaf = authority.issue(&["localhost".into()], &[], now, now + SignedDuration::from_hours(24 * 3_650));
    let leaf = leaf.expect("certificate");
    let config = axum_server::tls_rustls::RustlsConfig::from_pem(leaf.certificate().into(), leaf.key().into());
    let log = Log::default();
    let app = app(Arc::clone(&log), |_| reply(200, "ok"));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("port");
    listener.set_nonblocking(true).expect("non-blocking");
    let port = listener.local_addr().expect("address").port();
    let server = axum_server::from_tcp_rustls(listener, config.await.expect("usable")).expect("server");
    tokio::spawn(server.serve(app.into_make_service()));
    (port, log, authority.certificate().to_owned())
}

#[tokio::test]
async fn a_private_authority_is_trusted_where_it_is_named_and_only_there() {
    let (port, log, ca) = encrypted().await;
    let objects = with("ConfigMap", "ca", json!({"data": {"ca.crt": ca}}));
    let url = format!("https://localhost:{port}/");
    let trusting = json!({"url": url, "tls": {"caConfigMapRef": {"name": "ca"}}});
    let access = read(&objects, trusting.clone()).await.expect("access");
    let ok = Observation::Http { status: 200, body: Some("ok".into()) };
    assert_eq!(observe(&analysis(json!({"http": trusting})), &access).await, ok);
    let why = error(&analysis(json!({"http": {"url": url}})), &Access::default()).await;
    assert!(why.starts_with(&format!("https://localhost:{port} cannot be trusted or does not speak TLS: ")), "{why}");
    // By another name than the certificate's it is trusted only where the plan gives that name.
    let by_address = format!("https://127.0.0.1:{port}/");
    let why = error(&analysis(json!({"http": {"url": by_address}})), &access).await;
    assert!(why.contains("cannot be trusted"), "{why}");
    let named = json!({"url": by_address, "tls": {"caConfigMapRef": {"name": "ca"}, "serverName": "localhost"}});
    let access = read(&objects, named.clone()).await.expect("access");
    assert_eq!(observe(&analysis(json!({"http": named})), &access).await, ok);
    assert_eq!(log.lock().expect("log").len(), 2);
    let plain =
        error(&analysis(json!({"http": {"url": format!("http://localhost:{port}/")}})), &Access::default()).await;
    assert!(plain.contains("did not answer in HTTP"), "{plain}");
}

#[tokio::test]
async fn credentials_go_to_the_servers_they_are_for_and_over_tls_only() {
    let (port, log, ca) = encrypted().await;
    let origin = format!("https://localhost:{port}");
    let mut objects = with("ConfigMap", "ca", json!({"data": {"ca.crt": ca}}));
    let origins = format!("https://other.example, {origin}");
    for (name, data) in
        [("bearer", vec![("token", "hunter2\n")]), ("basic", vec![("username", "u"), ("password", "hunter2")])]
    {
        let made = secret("interlock.dev/analysis", Some(&origins), &data);
        objects.0.insert(("Secret".into(), name.into()), made);
    }
    let tls = json!({"caConfigMapRef": {"name": "ca"}});
    for (name, header) in
        [("bearer", "Bearer hunter2".to_owned()), ("basic", format!("Basic {}", STANDARD.encode("u:hunter2")))]
    {
        let http = json!({"url": format!("{origin}/x"), "secretRef": {"name": name}, "tls": tls});
        let access = read(&objects, http.clone()).await.expect("access");
        assert!(matches!(
            observe(&analysis(json!({"http": http})), &access).await,
            Observation::Http { status: 200, .. }
        ));
        assert_eq!(log.lock().expect("log").pop().expect("asked").headers["authorization"], header);
    }
    let access =
        read(&objects, json!({"url": origin, "secretRef": {"name": "bearer"}, "tls": tls})).await.expect("access");
    let (elsewhere, seen) = serve(|_| reply(200, "ok")).await;
    for (url, why) in [
        (format!("http://{elsewhere}"), "credentials are sent over https only".to_owned()),
        (
            format!("https://{elsewhere}"),
            format!("the Secret's annotation interlock.dev/origins does not list https://{elsewhere}"),
        ),
    ] {
        let said = error(&analysis(json!({"http": {"url": url}})), &access).await;
        assert_eq!(said, format!("nothing was sent to {url}: {why}"));
    }
    assert_eq!(seen.lock().expect("log").len(), 0);
}
