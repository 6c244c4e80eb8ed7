//! Real HTTPS calls, with bodies as the API server sends them; A21 and A22.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::json;

use super::*;
use crate::certs::{Names, Renewal, TlsMaterial, server_config};

const NAME: &str = "interlock-webhook.interlock-system.svc";

/// Answers by the name of the object.
struct Script {
    finished: AtomicUsize,
}

impl Script {
    async fn act(&self, request: &WriteRequest) {
        match request.name.as_deref().unwrap_or_default() {
            "slow" => tokio::time::sleep(Duration::from_secs(30)).await,
            "busy" => std::thread::sleep(Duration::from_millis(600)),
            "draining" => tokio::time::sleep(Duration::from_millis(400)).await,
            "panic" => panic!("a defect in the judge (this panic belongs to the test)"),
            _ => {}
        }
        self.finished.fetch_add(1, Ordering::SeqCst);
    }
}

impl Judge for Script {
    async fn mutate(&self, request: &WriteRequest) -> MutateAnswer {
        self.act(request).await;
        MutateAnswer::Patch(vec![json!({"op": "add", "path": "/spec/recorded", "value": request.user.name})])
    }

    async fn validate(&self, entry: Entry, request: &WriteRequest) -> Verdict {
        self.act(request).await;
        if request.name.as_deref() == Some("forbidden") {
            let message = format!("{} through {entry}", request.target());
            return Verdict::Deny(Denial { code: 403, reason: "NotApproved".to_owned(), message });
        }
        Verdict::allow()
    }
}

struct Running {
    address: SocketAddr,
    tls: RustlsConfig,
    metrics: Metrics,
    readiness: Readiness,
    shutdown: Shutdown,
    judge: Arc<Script>,
    server: tokio::task::JoinHandle<std::io::Result<()>>,
}

fn now() -> jiff::Timestamp {
    // Certificates of the test must be valid by the real clock, which rustls' client reads. They are backdated by an
    // hour and valid for ninety days, and the file that cargo has just built is younger than that.
    let built = std::env::current_exe().and_then(std::fs::metadata).and_then(|file| file.modified()).expect("a time");
    jiff::Timestamp::try_from(built).expect("a time")
}

fn material() -> TlsMaterial {
    TlsMaterial::new(now(), &Names::of_service("interlock-webhook", "interlock-system")).expect("made")
}

fn client_trusting(bundle: &str) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
        roots.add(root.expect("pem")).expect("root");
    }
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

async fn start(material: &TlsMaterial, deadline: Duration) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = listener.local_addr().expect("address");
    let tls = RustlsConfig::from_config(server_config(&material.leaf).expect("config"));
    let (metrics, readiness, shutdown) = (Metrics::new(), Readiness::new(&[WEBHOOK]), Shutdown::new());
    let judge = Arc::new(Script { finished: AtomicUsize::new(0) });
    let options = ServerOptions { deadline, linger: Duration::from_millis(50), ..ServerOptions::default() };
    let server = tokio::spawn(serve(
        listener,
        tls.clone(),
        Arc::clone(&judge),
        options,
        metrics.clone(),
        readiness.clone(),
        shutdown.clone(),
    ));
    while !readiness.is_ready() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Running { address, tls, metrics, readiness, shutdown, judge, server }
}

/// Status and body of one POST on a connection of its own.
fn post_once(
    client: &Arc<ClientConfig>,
    address: SocketAddr,
    path: &str,
    kind: &str,
    body: &[u8],
) -> std::io::Result<(u16, String)> {
    let name = ServerName::try_from(NAME).expect("name");
    let connection = ClientConnection::new(Arc::clone(client), name).map_err(std::io::Error::other)?;
    let mut stream = StreamOwned::new(connection, TcpStream::connect(address)?);
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {NAME}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    // A server that refuses early stops reading: its answer counts, not the broken pipe.
    let _ = stream.write_all(body).and_then(|()| stream.flush());
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    let text = String::from_utf8_lossy(&answer).into_owned();
    let status = text.split(' ').nth(1).and_then(|code| code.parse().ok());
    match (status, text.split_once("\r\n\r\n")) {
        (Some(status), Some((_, body))) => Ok((status, body.to_owned())),
        _ => Err(read.err().unwrap_or_else(|| std::io::Error::other("no answer"))),
    }
}

async fn post(running: &Running, client: &Arc<ClientConfig>, path: &str, body: Vec<u8>) -> (u16, String) {
    post_kind(running, client, path, "application/json", body).await
}

async fn post_kind(
    running: &Running,
    client: &Arc<ClientConfig>,
    path: &str,
    kind: &str,
    body: Vec<u8>,
) -> (u16, String) {
    let (client, address, path, kind) = (Arc::clone(client), running.address, path.to_owned(), kind.to_owned());
    tokio::task::spawn_blocking(move || post_once(&client, address, &path, &kind, &body))
        .await
        .expect("joined")
        .expect("answered")
}

fn admission(name: &str) -> Vec<u8> {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": format!("uid-{name}"), "operation": "UPDATE", "name": name, "namespace": "bank",
            "kind": {"group": "apps", "version": "v1", "kind": "Deployment"},
            "resource": {"group": "apps", "version": "v1", "resource": "deployments"},
            "userInfo": {"username": "alice"}, "object": {}, "oldObject": {}
        }
    })
    .to_string()
    .into_bytes()
}

fn response(body: &str) -> Value {
    let review: Value = serde_json::from_str(body).expect("json");
    assert_eq!(review["apiVersion"], "admission.k8s.io/v1");
    review["response"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_route_answers_with_the_uid_of_its_request() {
    let material = material();
    let client = client_trusting(&material.bundle(now()));
    let running = start(&material, Duration::from_secs(5)).await;
    for entry in ["own", "governed", "namespace", "cluster", "governed/open", "cluster/open"] {
        let (status, body) = post(&running, &client, &format!("/validate/{entry}"), admission("teller")).await;
        assert_eq!((status, response(&body)), (200, json!({"uid": "uid-teller", "allowed": true})), "{entry}");
    }
    let (_, body) = post(&running, &client, "/validate/own", admission("forbidden")).await;
    let denied = response(&body);
    assert_eq!((&denied["allowed"], &denied["status"]["code"]), (&json!(false), &json!(403)));
    assert_eq!(denied["status"]["message"], "Deployment bank/forbidden through own");
    let (_, body) = post(&running, &client, "/mutate", admission("teller")).await;
    assert_eq!(response(&body)["patchType"], "JSONPatch");
    assert_eq!(post(&running, &client, "/elsewhere", admission("teller")).await.0, 404);
    let page = running.metrics.render(None);
    for line in [
        "interlock_admission_requests_total{entry=\"own\",verdict=\"deny\",reason=\"NotApproved\"} 1",
        "interlock_admission_requests_total{entry=\"mutate\",verdict=\"patch\",reason=\"\"} 1",
        "interlock_admission_requests_total{entry=\"governed\",verdict=\"allow\",reason=\"\"} 2",
    ] {
        assert!(page.contains(line), "{line} is missing in\n{page}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_judged_is_refused_with_a_sentence() {
    let material = material();
    let client = client_trusting(&material.bundle(now()));
    let running = start(&material, Duration::from_secs(5)).await;
    let path = "/validate/governed";
    let (status, body) = post_kind(&running, &client, path, "text/plain", admission("teller")).await;
    assert_eq!((status, body.as_str()), (400, "the Content-Type must be application/json"));
    let charset = "application/json; charset=utf-8";
    assert_eq!(post_kind(&running, &client, path, charset, admission("teller")).await.0, 200);
    let (status, body) = post(&running, &client, path, b"{\"kind\": 7".to_vec()).await;
    assert_eq!(status, 400);
    assert!(body.starts_with("the body is no AdmissionReview"), "{body}");
    let (status, body) = post(&running, &client, path, b"{\"kind\": \"Pod\", \"apiVersion\": \"v1\"}".to_vec()).await;
    assert_eq!(status, 400);
    assert!(body.contains("Pod of v1"), "{body}");
    let (status, body) = post(&running, &client, path, vec![b' '; (3 << 20) + 1]).await;
    assert_eq!(status, 413);
    assert!(body.contains("3145728 bytes"), "{body}");
    assert_eq!(running.judge.finished.load(Ordering::SeqCst), 1, "only the good request was judged");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_judge_that_is_slow_or_panics_denies_and_an_open_entry_leaves_it_to_the_failure_policy() {
    let material = material();
    let client = client_trusting(&material.bundle(now()));
    let running = start(&material, Duration::from_millis(300)).await;
    // A panic tells its stack first, which takes its time on a busy machine.
    let patient = start(&material, Duration::from_secs(30)).await;
    for (name, code, reason) in [("slow", 504, "Timeout"), ("busy", 504, "Timeout"), ("panic", 500, "InternalError")] {
        let running = if name == "panic" { &patient } else { &running };
        for path in ["/validate/governed", "/mutate"] {
            let began = Instant::now();
            let (status, body) = post(running, &client, path, admission(name)).await;
            assert!(
                name == "panic" || began.elapsed() < Duration::from_millis(1500),
                "{name} was answered for too late"
            );
            let answer = response(&body);
            assert_eq!(
                (status, &answer["allowed"], &answer["uid"]),
                (200, &json!(false), &json!(format!("uid-{name}")))
            );
            assert_eq!((&answer["status"]["code"], &answer["status"]["reason"]), (&json!(code), &json!(reason)));
        }
        let (status, body) = post(running, &client, "/validate/governed/open", admission(name)).await;
        assert_eq!(status, code);
        assert!(body.starts_with("Interlock could not judge this write"), "{body}");
    }
    let finished = running.judge.finished.load(Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(800)).await;
    assert!(running.judge.finished.load(Ordering::SeqCst) <= finished + 3, "slow judges were stopped");
    assert_eq!(post(&running, &client, "/validate/own", admission("teller")).await.0, 200, "the server lives on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_the_end_what_was_begun_is_answered_and_readiness_goes_first() {
    let material = material();
    let client = client_trusting(&material.bundle(now()));
    let running = start(&material, Duration::from_secs(5)).await;
    let (address, trusting) = (running.address, Arc::clone(&client));
    let under_way = tokio::task::spawn_blocking(move || {
        post_once(&trusting, address, "/validate/own", "application/json", &admission("draining"))
    });
    tokio::time::sleep(Duration::from_millis(150)).await;
    running.shutdown.trigger("test");
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(!running.readiness.is_ready());
    let (status, _) = under_way.await.expect("joined").expect("answered");
    assert_eq!(status, 200);
    tokio::time::timeout(Duration::from_secs(5), running.server)
        .await
        .expect("in time")
        .expect("joined")
        .expect("ended");
    assert!(TcpStream::connect(address).is_err(), "nobody listens any more");
}

/// A22: leaves and the authority are replaced while connections come and stay: no handshake and no request fails.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_rotated_under_load_without_a_failure() {
    let names = Names::of_service("interlock-webhook", "interlock-system");
    let mut material = material();
    let running = start(&material, Duration::from_secs(5)).await;
    // What the API server trusts: its configuration is watched, so each connection sees the newest published bundle.
    let trusted = Arc::new(std::sync::RwLock::new(client_trusting(&material.bundle(now()))));
    let stop = Arc::new(AtomicBool::new(false));
    let workers: Vec<_> = (0..3)
        .map(|worker| {
            let (trusted, stop, address) = (Arc::clone(&trusted), Arc::clone(&stop), running.address);
            std::thread::spawn(move || {
                let (mut answered, mut failures) = (0u32, Vec::new());
                while !stop.load(Ordering::SeqCst) {
                    let client = Arc::clone(&trusted.read().expect("lock"));
                    let body = admission(if worker == 0 { "draining" } else { "teller" });
                    match post_once(&client, address, "/validate/governed", "application/json", &body) {
                        Ok((200, _)) => answered += 1,
                        other => failures.push(format!("{other:?}")),
                    }
                }
                (answered, failures)
            })
        })
        .collect();
    let first_authority = material.authority.certificate().to_owned();
    for round in 0..12 {
        let steps: &[Renewal] =
            if round % 4 == 3 { &[Renewal::Stage, Renewal::MarkPublished, Renewal::Promote] } else { &[Renewal::Leaf] };
        for step in steps {
            material = material.renewed(*step, now(), &names).expect("renewed");
            if *step == Renewal::MarkPublished {
                *trusted.write().expect("lock") = client_trusting(&material.bundle(now()));
                // Connections that began with the bundle before it end in this time; a cluster waits far longer.
                tokio::time::sleep(Duration::from_millis(600)).await;
            }
            running.tls.reload_from_config(server_config(&material.leaf).expect("config"));
        }
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    stop.store(true, Ordering::SeqCst);
    let results = tokio::task::spawn_blocking(move || {
        workers.into_iter().map(|worker| worker.join().expect("joined")).collect::<Vec<_>>()
    })
    .await
    .expect("joined");
    for (answered, failures) in &results {
        assert_eq!(failures, &Vec::<String>::new());
        assert!(*answered > 3);
    }
    assert_ne!(material.authority.certificate(), first_authority);
    // The test can fail: a client that was not told of the new authority refuses it.
    let uninformed = client_trusting(&first_authority);
    let address = running.address;
    let refused = tokio::task::spawn_blocking(move || {
        post_once(&uninformed, address, "/validate/own", "application/json", &admission("teller"))
    });
    assert!(refused.await.expect("joined").is_err());
}
