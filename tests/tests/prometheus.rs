//! The providers of analyses against a real Prometheus: TLS with an authority of its own, basic authentication, answers
//! of every kind, and a comparison over an hour of samples that were written beforehand. And the alert rules, by its own tool.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::needless_pass_by_value,
    reason = "helpers of tests are tests"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use interlock_cluster::Prometheus;
use interlock_controller::analysis::{Access, Client, Guard, measure};
use interlock_core::analysis::{Judge, Judged, Observation, SampleRange, Slot, Subject};
use interlock_core::object::ObjectId;
use interlock_core::port::{DryRun, Identity, Note, Port, PortError, Precondition};
use interlock_crds::{Analysis, MeasurementOutcome};
use jiff::Timestamp;
use serde_json::{Value, json};

/// bcrypt of `hunter2`, as the server's configuration wants it.
const PASSWORD_HASH: &str = "$2b$04$8Z/OsACdwcSv4oyuoglqm.KBzVge16WB09BqZ3nDHbSbOzvOUQbMW";
const STEP: i64 = 15;
const SAMPLES: i64 = 200;

struct Server {
    process: Child,
    address: String,
    authority: String,
    /// Instant of the last sample.
    end: Timestamp,
    _folder: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Server {
    /// A server whose database holds `latency` of both versions: the new one half as slow again.
    async fn start() -> Self {
        let programs = Prometheus::ensure().expect("Prometheus");
        let folder = tempfile::tempdir().expect("folder");
        let at = |name: &str| folder.path().join(name);
        let (authority, certificate, key) = certificates();
        // Blocks end at even hours, so samples lie a while back; the last is within the server's look-back of nothing.
        let now = fs::metadata(folder.path()).and_then(|file| file.modified()).expect("time");
        let end = Timestamp::try_from(now).expect("time").as_second() / STEP * STEP - 60;
        let end = Timestamp::from_second(end).expect("instant");
        fs::write(at("samples"), samples(end)).expect("samples");
        let filled = Command::new(&programs.tool)
            .args(["tsdb", "create-blocks-from", "openmetrics"])
            .args([at("samples"), at("data")])
            .output()
            .expect("promtool");
        assert!(filled.status.success(), "{}", String::from_utf8_lossy(&filled.stderr));
        fs::write(at("config"), "global: {}\n").expect("config");
        fs::write(at("cert"), certificate).expect("certificate");
        fs::write(at("key"), key).expect("key");
        let web = format!(
            "tls_server_config:\n  cert_file: cert\n  key_file: key\nbasic_auth_users:\n  teller: {PASSWORD_HASH}\n"
        );
        fs::write(at("web"), web).expect("web configuration");
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|free| free.local_addr()).expect("port").port();
        let process = Command::new(&programs.server)
            .arg(option("config.file", &at("config")))
            .arg(option("web.config.file", &at("web")))
            .arg(option("storage.tsdb.path", &at("data")))
            .args([format!("--web.listen-address=127.0.0.1:{port}"), "--storage.tsdb.retention.time=10y".to_owned()])
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(at("log")).expect("log"))
            .spawn()
            .expect("prometheus");
        let mut server =
            Self { process, address: format!("https://localhost:{port}"), authority, end, _folder: folder };
        server.wait().await;
        server
    }

    async fn wait(&mut self) {
        let probe =
            json!({"http": {"url": format!("{}/-/ready", self.address), "tls": tls(), "secretRef": {"name": "s"}}});
        let begun = Instant::now();
        let mut tick = tokio::time::interval(Duration::from_millis(50));
        loop {
            tick.tick().await;
            match self.observe(&probe, None).await {
                Observation::Http { status: 200, .. } => return,
                last => assert!(begun.elapsed() < Duration::from_mins(1), "not ready: {last:?}"),
            }
            assert!(self.process.try_wait().expect("process").is_none(), "it has ended: see its log");
        }
    }

    fn objects(&self, password: &str) -> Objects {
        let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        let secret = json!({
            "type": "interlock.dev/analysis",
            "metadata": {"annotations": {"interlock.dev/origins": self.address}},
            "data": {"username": encode("teller"), "password": encode(password)},
        });
        let authority = json!({"data": {"ca.crt": self.authority}});
        Objects(BTreeMap::from([(("Secret", "s"), secret), (("ConfigMap", "ca"), authority)]))
    }

    async fn observe(&self, analysis: &Value, samples: Option<SampleRange>) -> Observation {
        self.observe_with(analysis, samples, "hunter2").await
    }

    async fn observe_with(&self, analysis: &Value, samples: Option<SampleRange>, password: &str) -> Observation {
        let analysis = read(analysis);
        let access = Access::read(&self.objects(password), &Identity::Controller, "branch", &analysis).await;
        let slot = Slot { samples, ..slot() };
        let client = Client::new(Guard { loopback: true });
        measure(&client, &access.expect("access"), &analysis, &slot, &subject()).await
    }

    fn query(&self, query: &str) -> Value {
        let metric = json!({"address": self.address, "query": query, "secretRef": {"name": "s"}, "tls": tls()});
        json!({"prometheus": metric, "successWhen": "result < 0.01"})
    }

    async fn judge(&self, analysis: &Value, samples: Option<SampleRange>) -> Judged {
        let judge = Judge::new(&read(analysis)).expect("conditions");
        judge.judge(&slot(), &self.observe(analysis, samples).await)
    }
}

fn option(name: &str, path: &Path) -> String {
    format!("--{name}={}", path.display())
}

fn tls() -> Value {
    json!({"caConfigMapRef": {"name": "ca"}})
}

fn read(analysis: &Value) -> Analysis {
    let mut analysis = analysis.clone();
    analysis["name"] = json!("errors");
    serde_json::from_value(analysis).expect("analysis")
}

fn slot() -> Slot {
    Slot { number: 1, due: Timestamp::UNIX_EPOCH, samples: None, of: Some(1) }
}

fn subject() -> Subject {
    Subject {
        workload: "teller".into(),
        namespace: "branch".into(),
        canary_hash: "7d9f6".into(),
        stable_hash: "5c4b8".into(),
    }
}

fn certificates() -> (String, String, String) {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    let ca_key = KeyPair::generate().expect("key");
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = params.self_signed(&ca_key).expect("certificate").pem();
    let issuer = Issuer::new(params, ca_key);
    let key = KeyPair::generate().expect("key");
    let leaf = CertificateParams::new(vec!["localhost".to_owned()]).expect("names");
    let leaf = leaf.signed_by(&key, &issuer).expect("certificate").pem();
    (ca, leaf, key.serialize_pem())
}

/// Values that scatter by a tenth, the same for both versions but for the factor.
fn samples(end: Timestamp) -> String {
    let mut text = String::from("# TYPE latency gauge\n");
    for (track, hash, factor) in [("canary", "7d9f6", 1.5), ("stable", "5c4b8", 1.0)] {
        for at in 0..SAMPLES {
            let value = factor * (100.0 + f64::from(u8::try_from(at * 37 % 101).unwrap_or(0)) / 10.0);
            let time = end.as_second() - (SAMPLES - 1 - at) * STEP;
            let _ = writeln!(text, "latency{{app=\"teller\",track=\"{track}\",hash=\"{hash}\"}} {value} {time}");
        }
    }
    text.push_str("# EOF\n");
    text
}

struct Objects(BTreeMap<(&'static str, &'static str), Value>);

impl Port for Objects {
    fn now(&self) -> Option<Timestamp> {
        None
    }
    fn may_write(&self) -> bool {
        false
    }
    async fn live_get(&self, _: &Identity, id: &ObjectId) -> Result<Option<Value>, PortError> {
        Ok(self
            .0
            .iter()
            .find(|((kind, name), _)| *kind == id.kind && *name == id.name)
            .map(|(_, object)| object.clone()))
    }
    async fn live_list(&self, _: &str, _: &str, _: &str, _: Option<&str>) -> Result<Vec<Value>, PortError> {
        unreachable!("nothing is listed")
    }
    async fn create(&self, _: &Identity, _: &str, _: &Value, _: DryRun) -> Result<Value, PortError> {
        unreachable!("nothing is written")
    }
    async fn apply(&self, _: &Identity, _: &str, _: &Value, _: &Precondition, _: DryRun) -> Result<Value, PortError> {
        unreachable!("nothing is written")
    }
    async fn replace(&self, _: &Identity, _: &str, _: &Value, _: DryRun) -> Result<Value, PortError> {
        unreachable!("nothing is written")
    }
    async fn merge_patch(&self, _: &Identity, _: &str, _: &ObjectId, _: &Value) -> Result<Value, PortError> {
        unreachable!("nothing is written")
    }
    async fn replace_status(&self, _: &Value) -> Result<Value, PortError> {
        unreachable!("nothing is written")
    }
    async fn delete(&self, _: &Identity, _: &ObjectId, _: &Precondition, _: bool, _: DryRun) -> Result<(), PortError> {
        unreachable!("nothing is written")
    }
    async fn note(&self, _: &Value, _: &Note) {}
    fn watch(&self, _: &str, _: &[ObjectId]) {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_prometheus_is_asked_and_its_answers_are_judged() {
    use MeasurementOutcome::{Error, Failed, Inconclusive, Successful};
    let server = Server::start().await;
    let judged = async |query: &str| {
        let judged = server.judge(&server.query(query), None).await;
        (judged.outcome, judged.message)
    };
    assert_eq!(judged("vector(0.034)").await, (Failed, "0.034 is not < 0.01".into()));
    assert_eq!(judged("scalar(vector(0.004))").await, (Successful, "0.004 is < 0.01".into()));
    assert_eq!(judged("0.5 > bool 1").await, (Successful, "0 is < 0.01".into()));
    assert_eq!(judged("no_such_metric").await, (Inconclusive, "no data: the query found nothing".into()));
    assert_eq!(judged("vector(0) / 0").await, (Inconclusive, "no data: the value is not a number".into()));
    assert_eq!(judged("vector(1) / 0").await, (Failed, "infinity is not < 0.01".into()));
    let several = "the query gives 2 series where `result` means one: aggregate it, or look at `series`";
    assert_eq!(judged("last_over_time(latency[3h])").await, (Error, several.into()));
    assert_eq!(judged("\"text\"").await, (Error, "the query gives a text, not a number".into()));
    let (outcome, message) = judged("sum(").await;
    assert_eq!(outcome, Error);
    assert!(message.starts_with("the server answered 400: bad_data: invalid parameter \"query\""), "{message}");
    let (outcome, message) = judged("latency[3h]").await;
    assert_eq!((outcome, message.starts_with("the query gives values over time")), (Error, true));
    let of_canary = "max_over_time(latency{app=\"{{workload}}\",hash=~\"{{hash}}\"}[3h]) / 1e5";
    assert_eq!(judged(of_canary).await, (Successful, "0.00165 is < 0.01".into()));

    let mut all = server.query("last_over_time(latency[3h])");
    all["successWhen"] =
        json!("series.filter(s, s.labels.track == 'canary').all(s, s.value > 150.0) && series.size() == 2");
    let said = server.judge(&all, None).await;
    assert_eq!(said.outcome, Successful, "{said:?}");

    let mut range = server.query("max(last_over_time(latency[3h]))");
    range["prometheus"]["range"] = json!({"window": "10m", "step": "1m"});
    range["successWhen"] = json!("result.all(v, v > 100.0) && result.size() >= 9");
    let said = server.judge(&range, None).await;
    assert_eq!(said.outcome, Successful, "{said:?}");

    let wrong = server.observe_with(&server.query("up"), None, "wrong").await;
    assert_eq!(
        wrong,
        Observation::Error(
            "the server refuses the request (401 Unauthorized): it wants other credentials, see secretRef".into()
        )
    );
    compare(&server).await;
}

async fn compare(server: &Server) {
    let from = server.end - jiff::SignedDuration::from_secs((SAMPLES - 1) * STEP);
    let samples = Some(SampleRange { from, to: server.end, step_seconds: STEP });
    let compare = |query: &str, baseline: Option<&str>| {
        let metric = json!({"address": server.address, "query": query, "secretRef": {"name": "s"}, "tls": tls()});
        json!({"compare": {"metric": metric, "baselineQuery": baseline, "maximumRatio": 1.2}})
    };
    let both = compare("latency{app=\"{{workload}}\",track=\"{{track}}\",hash=\"{{hash}}\"}", None);
    let Observation::Samples { canary, baseline } = server.observe(&both, samples).await else {
        panic!("samples are expected")
    };
    assert_eq!((canary.len(), baseline.len()), (200, 200));
    let judged = server.judge(&both, samples).await;
    assert_eq!(judged.outcome, MeasurementOutcome::Failed, "{judged:?}");
    assert!(judged.message.contains("worse by a factor of 1.5 of at most 1.2"), "{judged:?}");
    let equal = compare("latency{track=\"canary\"}", Some("latency{track=\"stable\"} * 1.5"));
    assert_eq!(server.judge(&equal, samples).await.outcome, MeasurementOutcome::Successful);
    let nothing = compare("none{track=\"{{track}}\"}", None);
    let judged = server.judge(&nothing, samples).await;
    assert_eq!(judged.outcome, MeasurementOutcome::Inconclusive);
    assert!(judged.message.starts_with("no data: 0 samples of the new version"), "{judged:?}");
}

/// The rules that Prometheus is given, and beside them the tests of the rules.
#[test]
fn the_alert_rules_are_rules_and_each_fires_when_it_should_and_only_then() {
    let tool = Prometheus::ensure().expect("Prometheus").tool;
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (rules, cases) = (here.join("../manifests/alerts"), here.join("tests/alerts"));
    let said = |arguments: [&str; 2], file: &Path| {
        let ran = Command::new(&tool).args(arguments).arg(file).output().expect("promtool");
        let text = [ran.stdout, ran.stderr].concat();
        assert!(ran.status.success(), "{}: {}", file.display(), String::from_utf8_lossy(&text));
    };
    let mut files = 0;
    for entry in fs::read_dir(&rules).expect("rules") {
        let file = entry.expect("entry").path();
        said(["check", "rules"], &file);
        let case = cases.join(file.file_name().expect("name"));
        said(["test", "rules"], &case);
        let (text, tests) = (fs::read_to_string(&file).expect("rules"), fs::read_to_string(&case).expect("tests"));
        let alerts = text.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
        for alert in alerts {
            let fires = tests.contains(&format!("    alertname: {alert}\n    exp_alerts:\n    - exp_labels:"));
            let keeps_still = tests.contains(&format!("alertname: {alert}, exp_alerts: []"));
            assert!(fires && keeps_still, "{alert} needs a case in which it fires and one in which it does not");
        }
        files += 1;
    }
    assert!(files > 0, "no rules");
}
