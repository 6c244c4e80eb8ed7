//! What machines see of the controller: metrics, liveness and readiness.

mod backups;
mod drills;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use interlock_crds::{BackupPolicy, BackupRepository};
use jiff::Timestamp;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::clock::Clock;
use crate::index::RunsSummary;
use crate::shutdown::Shutdown;

/// Readiness: what is watched has been listed once.
pub const CACHES: &str = "caches";
/// Readiness: the webhook's certificate is valid now.
pub const CERTIFICATE: &str = "certificate";
/// Readiness: the webhook accepts connections.
pub const WEBHOOK: &str = "webhook";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reconcile {
    kind: String,
    outcome: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ApiCall {
    verb: String,
    resource: String,
    code: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Admission {
    entry: String,
    verdict: String,
    reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Entry {
    entry: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Phase {
    phase: String,
}

/// Every metric of the controller. Clones share the values. Labels are kinds, verbs, codes and reasons, never names of
/// objects or people, so that their number is bounded; those of backups alone name policies and repositories.
#[derive(Clone, Debug)]
pub struct Metrics {
    reconciles: Family<Reconcile, Counter>,
    reconcile_duration: Family<Kind, Histogram>,
    api_calls: Family<ApiCall, Counter>,
    admissions: Family<Admission, Counter>,
    admission_duration: Family<Entry, Histogram>,
    changes: Family<Phase, Gauge>,
    queue_depth: Family<Kind, Gauge>,
    leader: Gauge,
    certificate_until: Gauge,
    certificate_left: Gauge,
    backups: backups::Backups,
    drills: drills::Drills,
    registry: Arc<Registry>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All metrics at zero.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("interlock");
        let reconciles = Family::default();
        registry.register("reconciles", "Reconciles by kind and outcome", reconciles.clone());
        let reconcile_duration = Family::new_with_constructor(quick as fn() -> Histogram);
        registry.register_with_unit(
            "reconcile_duration",
            "How long one reconcile took",
            Unit::Seconds,
            reconcile_duration.clone(),
        );
        let api_calls = Family::default();
        registry.register("api_calls", "Calls of the API server by verb, resource and HTTP code", api_calls.clone());
        let admissions = Family::default();
        registry.register("admission_requests", "Admission requests by entry, verdict and reason", admissions.clone());
        let admission_duration = Family::new_with_constructor(quick as fn() -> Histogram);
        registry.register_with_unit(
            "admission_duration",
            "How long one admission request took",
            Unit::Seconds,
            admission_duration.clone(),
        );
        let changes = Family::default();
        registry.register("changes", "ChangeRequests by phase", changes.clone());
        let queue_depth = Family::default();
        registry.register("queue_depth", "Objects that wait to be reconciled", queue_depth.clone());
        let leader = Gauge::default();
        registry.register("leader", "1 while this process holds the lease", leader.clone());
        let certificate_until = Gauge::default();
        registry.register(
            "certificate_not_after_timestamp",
            "End of validity of the webhook's certificate, in seconds since 1970",
            certificate_until.clone(),
        );
        let certificate_left: Gauge = Gauge::default();
        registry.register_with_unit(
            "certificate_expires_in",
            "Time until the webhook's certificate expires; negative when it has",
            Unit::Seconds,
            certificate_left.clone(),
        );
        let backups = backups::Backups::register(&mut registry);
        let drills = drills::Drills::register(&mut registry);
        Self {
            reconciles,
            reconcile_duration,
            api_calls,
            admissions,
            admission_duration,
            changes,
            queue_depth,
            leader,
            certificate_until,
            certificate_left,
            backups,
            drills,
            registry: Arc::new(registry),
        }
    }

    /// One reconcile of an object of `kind` ended: `outcome` is one word such as `Done`, `Waiting` or `Error`.
    pub fn reconciled(&self, kind: &str, outcome: &str, took: Duration) {
        let labels = Reconcile { kind: kind.to_owned(), outcome: outcome.to_owned() };
        self.reconciles.get_or_create(&labels).inc();
        self.reconcile_duration.get_or_create(&Kind { kind: kind.to_owned() }).observe(took.as_secs_f64());
    }

    /// One call of the API server ended; counted by the client's middleware.
    pub fn api_call(&self, verb: &str, resource: &str, code: &str) {
        let labels = ApiCall { verb: verb.to_owned(), resource: resource.to_owned(), code: code.to_owned() };
        self.api_calls.get_or_create(&labels).inc();
    }

    /// How many calls of the API server have ended so far.
    pub fn api_calls_of(&self, verb: &str, resource: &str, code: &str) -> u64 {
        let labels = ApiCall { verb: verb.to_owned(), resource: resource.to_owned(), code: code.to_owned() };
        self.api_calls.get(&labels).map_or(0, |counter| counter.get())
    }

    /// One admission request was answered.
    pub fn admission(&self, entry: &str, verdict: &str, reason: &str, took: Duration) {
        let labels = Admission { entry: entry.to_owned(), verdict: verdict.to_owned(), reason: reason.to_owned() };
        self.admissions.get_or_create(&labels).inc();
        self.admission_duration.get_or_create(&Entry { entry: entry.to_owned() }).observe(took.as_secs_f64());
    }

    /// So many ChangeRequests are in this phase.
    pub fn set_changes(&self, phase: &str, count: usize) {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.changes.get_or_create(&Phase { phase: phase.to_owned() }).set(count);
    }

    /// So many objects of this kind wait to be reconciled.
    pub fn set_queue_depth(&self, kind: &str, count: usize) {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.queue_depth.get_or_create(&Kind { kind: kind.to_owned() }).set(count);
    }

    /// How exposed the data of a policy is; none if the policy is gone.
    pub fn set_backup_policy(&self, key: &str, policy: Option<&BackupPolicy>, runs: &RunsSummary) {
        self.backups.policy(key, policy, runs);
    }

    /// What a drill proved; none if it is gone.
    pub fn set_restore_drill(&self, key: &str, drill: Option<&interlock_crds::RestoreDrill>) {
        self.drills.drill(key, drill);
    }

    /// How a repository stands; none if it is gone.
    pub fn set_backup_repository(&self, key: &str, repository: Option<&BackupRepository>) {
        self.backups.repository(key, repository);
    }

    /// Whether this process leads.
    pub fn set_leader(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// When the certificate that is served ends.
    pub fn set_certificate_expiry(&self, not_after: Timestamp) {
        self.certificate_until.set(not_after.as_second());
    }

    /// All metrics in the OpenMetrics text format; `now` is what "time left" is measured from.
    pub fn render(&self, now: Option<Timestamp>) -> String {
        let until = self.certificate_until.get();
        if let Some(now) = now.filter(|_| until != 0) {
            self.certificate_left.set(until - now.as_second());
        }
        let mut page = String::new();
        // Writing into a String fails only if a metric's own encoder does, and then the page shows what came before.
        if text::encode(&mut page, &self.registry).is_err() {
            tracing::error!("the metrics could not be written");
        }
        page
    }
}

/// From half a millisecond to about sixteen seconds.
fn quick() -> Histogram {
    Histogram::new(exponential_buckets(0.0005, 2.0, 16))
}

/// Named conditions that must all hold before the API server may send requests here. Clones share them.
#[derive(Clone, Debug)]
pub struct Readiness {
    conditions: Arc<Mutex<BTreeMap<&'static str, Result<(), String>>>>,
}

impl Readiness {
    /// None of the conditions holds yet.
    pub fn new(conditions: &[&'static str]) -> Self {
        let conditions = conditions.iter().map(|name| (*name, Err("not yet".to_owned()))).collect();
        Self { conditions: Arc::new(Mutex::new(conditions)) }
    }

    /// States that a condition holds, or what is missing.
    pub fn set(&self, name: &'static str, state: Result<(), String>) {
        let mut conditions = self.conditions.lock().unwrap_or_else(PoisonError::into_inner);
        let before = conditions.insert(name, state.clone());
        if before.as_ref() != Some(&state) {
            match state {
                Ok(()) => tracing::info!(condition = name, "ready"),
                Err(why) => tracing::warn!(condition = name, reason = %why, "not ready"),
            }
        }
    }

    /// What is missing and why; empty when ready.
    pub fn missing(&self) -> Vec<(&'static str, String)> {
        let conditions = self.conditions.lock().unwrap_or_else(PoisonError::into_inner);
        conditions.iter().filter_map(|(name, state)| state.as_ref().err().map(|why| (*name, why.clone()))).collect()
    }

    /// Whether every condition holds.
    pub fn is_ready(&self) -> bool {
        self.missing().is_empty()
    }

    /// One line for each condition, as the API server's own `/readyz?verbose` writes them.
    pub fn report(&self) -> String {
        let conditions = self.conditions.lock().unwrap_or_else(PoisonError::into_inner);
        let mut report = String::new();
        for (name, state) in conditions.iter() {
            // Writing into a String does not fail.
            let _ = match state {
                Ok(()) => writeln!(report, "[+]{name} ok"),
                Err(why) => writeln!(report, "[-]{name} failed: {why}"),
            };
        }
        report
    }
}

#[derive(Clone)]
struct Pages {
    metrics: Metrics,
    readiness: Readiness,
    clock: Clock,
    shutdown: Shutdown,
}

/// The pages, for whoever serves them together with others.
pub fn router(metrics: Metrics, readiness: Readiness, clock: Clock, shutdown: Shutdown) -> Router {
    Router::new()
        .route("/metrics", get(show_metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(show_readiness))
        .with_state(Pages { metrics, readiness, clock, shutdown })
}

/// Serves `/metrics`, `/healthz` and `/readyz` until `shutdown`. A refused connection is as unready as a 503.
pub async fn serve(
    listener: tokio::net::TcpListener,
    metrics: Metrics,
    readiness: Readiness,
    clock: Clock,
    shutdown: Shutdown,
) -> std::io::Result<()> {
    let ended = shutdown.clone();
    axum::serve(listener, router(metrics, readiness, clock, shutdown))
        .with_graceful_shutdown(async move { ended.triggered().await })
        .await
}

async fn show_metrics(State(pages): State<Pages>) -> impl IntoResponse {
    let kind = [(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")];
    (kind, pages.metrics.render(pages.clock.now()))
}

async fn show_readiness(State(pages): State<Pages>) -> impl IntoResponse {
    if pages.shutdown.is_triggered() {
        return (StatusCode::SERVICE_UNAVAILABLE, "[-]shutdown failed: this process is ending\n".to_owned());
    }
    let code = if pages.readiness.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, pages.readiness.report())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    /// A policy, its repository and its drill, and others that are gone.
    fn show_backups(metrics: &Metrics) {
        let slots = |total: u64| serde_json::json!({"total": total, "count": 1, "first": "2026-11-22T00:00:00Z", "last": "2026-11-22T00:00:00Z"});
        let policy: BackupPolicy = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "db", "namespace": "teller", "creationTimestamp": "2026-11-22T00:00:00Z"},
            "spec": {"repositoryRef": {"name": "v"}, "source": {"files": {"persistentVolumeClaim": "d"}},
                "retention": {"keepLast": 1}, "objectives": {"rpo": "2h"}},
            "status": {
                "schedules": [
                    {"name": "often", "missedSlots": slots(16), "skippedSlots": slots(3)},
                    {"name": "daily", "missedSlots": slots(2)},
                ],
                "conditions": [{
                    "type": "Overdue", "status": "True", "reason": "SlotMissed", "message": "late",
                    "lastTransitionTime": "2026-11-22T00:00:00Z",
                }],
            },
        }))
        .expect("a policy");
        let runs =
            RunsSummary { points: 3, consecutive_failures: 1, last_run_seconds: Some(95), ..RunsSummary::default() };
        metrics.set_backup_policy("teller/db", Some(&policy), &runs);
        metrics.set_backup_policy("teller/gone", Some(&policy), &runs);
        metrics.set_backup_policy("teller/gone", None, &runs);
        let drill: interlock_crds::RestoreDrill = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "monthly", "namespace": "teller", "creationTimestamp": "2026-11-22T00:00:00Z"},
            "spec": {"policyRef": {"name": "db"}, "validations": [{"name": "there", "files": {}}], "objectives": {"rto": "30m"}},
            // A fault was injected since it passed.
            "status": {
                "lastRun": {
                    "run": "proof", "uid": "v", "phase": "Failed", "verdict": "Failed",
                    "finishedAt": "2026-11-22T01:00:00Z", "rtoSeconds": 9000, "rpoSeconds": 3600,
                },
                "lastPassed": {
                    "run": "monthly-1", "uid": "u", "phase": "Passed", "verdict": "Passed",
                    "finishedAt": "2026-11-22T00:00:00Z", "rtoSeconds": 1500, "rpoSeconds": 60,
                },
            },
        }))
        .expect("a drill");
        let repository: BackupRepository = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "vault", "namespace": "teller"},
            "spec": {"restic": {"url": "rest:https://vault.bank.example/", "secretRef": {"name": "vault"}}},
            "status": {"sizeBytes": 9, "lastCheck": {
                "operation": "Check", "name": "vault-check-1", "dueAt": "2026-11-22T00:00:00Z",
                "finishedAt": "2026-11-22T00:00:00Z", "outcome": "Failed",
            }},
        }))
        .expect("a repository");
        metrics.set_backup_repository("teller/vault", Some(&repository));
        metrics.set_restore_drill("teller/monthly", Some(&drill));
        metrics.set_restore_drill("teller/gone", Some(&drill));
        metrics.set_restore_drill("teller/gone", None);
    }

    #[test]
    fn metrics_have_the_names_and_labels_that_dashboards_use() {
        let metrics = Metrics::new();
        metrics.reconciled("ChangeRequest", "Done", Duration::from_millis(3));
        metrics.api_call("patch", "deployments", "200");
        metrics.admission("governed", "deny", "NotApproved", Duration::from_millis(2));
        metrics.set_changes("Running", 4);
        metrics.set_queue_depth("ChangeRequest", 7);
        metrics.set_leader(true);
        let now: Timestamp = "2026-11-23T00:00:00Z".parse().expect("time");
        metrics.set_certificate_expiry(now + Duration::from_hours(1));
        show_backups(&metrics);
        let page = metrics.render(Some(now));
        assert!(!page.contains("gone"), "{page}");
        for line in [
            "interlock_backup_exposed_since_timestamp_seconds{namespace=\"teller\",name=\"db\"} 1795305600",
            "interlock_backup_objective_seconds{namespace=\"teller\",name=\"db\"} 7200",
            "interlock_backup_consecutive_failures{namespace=\"teller\",name=\"db\"} 1",
            "interlock_backup_last_duration_seconds{namespace=\"teller\",name=\"db\"} 95",
            "interlock_backup_missed_slots{namespace=\"teller\",name=\"db\"} 18",
            "interlock_backup_skipped_slots{namespace=\"teller\",name=\"db\"} 3",
            "interlock_backup_overdue{namespace=\"teller\",name=\"db\"} 1",
            "interlock_drill_last_passed_timestamp_seconds{namespace=\"teller\",name=\"monthly\"} 1795305600",
            "interlock_drill_rto_objective_seconds{namespace=\"teller\",name=\"monthly\"} 1800",
            "interlock_drill_overdue{namespace=\"teller\",name=\"monthly\"} 0",
            "interlock_drill_failed{namespace=\"teller\",name=\"monthly\"} 0",
            "interlock_drill_rto_seconds{namespace=\"teller\",name=\"monthly\"} 1500",
            "interlock_drill_rpo_seconds{namespace=\"teller\",name=\"monthly\"} 60",
            "interlock_reconciles_total{kind=\"ChangeRequest\",outcome=\"Done\"} 1",
            "interlock_reconcile_duration_seconds_count{kind=\"ChangeRequest\"} 1",
            "interlock_api_calls_total{verb=\"patch\",resource=\"deployments\",code=\"200\"} 1",
            "interlock_admission_requests_total{entry=\"governed\",verdict=\"deny\",reason=\"NotApproved\"} 1",
            "interlock_changes{phase=\"Running\"} 4",
            "interlock_queue_depth{kind=\"ChangeRequest\"} 7",
            "interlock_leader 1",
            "interlock_certificate_expires_in_seconds 3600",
        ] {
            assert!(page.contains(line), "{line} is missing in\n{page}");
        }
        assert!(page.ends_with("# EOF\n"));
    }

    #[test]
    fn the_alert_rules_ask_for_metrics_that_there_are() {
        let metrics = Metrics::new();
        show_backups(&metrics);
        let page = metrics.render(None);
        let rules = include_str!("../../manifests/alerts/backups.yaml");
        let asked = rules.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let asked: Vec<_> = asked.filter(|word| word.starts_with("interlock_")).collect();
        assert!(asked.len() > 8, "{asked:?}");
        for name in asked {
            assert!(page.contains(&format!("\n{name}{{")), "{name} is missing in\n{page}");
        }
    }

    #[test]
    fn a_restart_changes_no_number_of_backups() {
        use crate::index::Index;
        use interlock_crds::Backup;
        use serde_json::{Value, json};
        let policy = |objectives: Value, missed: u64| -> BackupPolicy {
            let at = "2026-11-22T00:00:00Z";
            let slots = json!({"total": missed, "count": 1, "first": at, "last": at});
            serde_json::from_value(json!({
                "metadata": {"name": "db", "namespace": "teller", "uid": "p", "creationTimestamp": at},
                "spec": {"repositoryRef": {"name": "v"}, "source": {"files": {"persistentVolumeClaim": "d"}},
                    "retention": {"keepLast": 1}, "objectives": objectives},
                "status": {"schedules": [{"name": "often", "missedSlots": slots}]},
            }))
            .expect("a policy")
        };
        let run = |name: &str, phase: &str, started: Option<&str>, finished: Option<&str>| -> Backup {
            serde_json::from_value(json!({
                "metadata": {"name": name, "namespace": "teller", "uid": name},
                "spec": {"policyRef": {"name": "db"}, "policyUid": "p", "requester": "bob"},
                "status": {"phase": phase, "startedAt": started, "finishedAt": finished},
            }))
            .expect("a run")
        };
        let show = |metrics: &Metrics, index: &Index| {
            let policy = index.backup_policy("teller/db");
            metrics.set_backup_policy("teller/db", policy.as_deref(), &index.backup_runs("teller/db"));
        };
        let (before, after) = (json!({"rpo": "2h"}), json!({}));
        let good = run("one", "Succeeded", Some("2026-11-22T01:00:00Z"), Some("2026-11-22T01:01:35Z"));
        let bad = run("two", "Failed", None, Some("2026-11-22T02:00:00Z"));
        let (lived, mut index) = (Metrics::new(), Index::new(interlock_core::seal::KeyRing::default()));
        index.backup_policy_stored(&policy(before, 1));
        index.backup_stored(&run("one", "Running", Some("2026-11-22T01:00:00Z"), None));
        show(&lived, &index);
        index.backup_stored(&good);
        show(&lived, &index);
        assert!(
            lived.render(None).contains("interlock_backup_last_duration_seconds{namespace=\"teller\",name=\"db\"} 95")
        );
        index.backup_stored(&bad);
        index.backup_policy_stored(&policy(after.clone(), 2));
        show(&lived, &index);
        let (restarted, mut index) = (Metrics::new(), Index::new(interlock_core::seal::KeyRing::default()));
        index.backup_stored(&bad);
        index.backup_stored(&good);
        index.backup_policy_stored(&policy(after, 2));
        show(&restarted, &index);
        assert_eq!(lived.render(None), restarted.render(None));
    }

    #[test]
    fn readiness_names_what_is_missing() {
        let readiness = Readiness::new(&[CACHES, CERTIFICATE, WEBHOOK]);
        readiness.set(CACHES, Ok(()));
        readiness.set(WEBHOOK, Ok(()));
        readiness.set(CERTIFICATE, Err("the certificate has expired".into()));
        assert!(!readiness.is_ready());
        assert_eq!(readiness.missing(), [(CERTIFICATE, "the certificate has expired".to_owned())]);
        assert_eq!(
            readiness.report(),
            "[+]caches ok\n[-]certificate failed: the certificate has expired\n[+]webhook ok\n"
        );
        readiness.set(CERTIFICATE, Ok(()));
        assert!(readiness.is_ready());
    }

    async fn get(address: std::net::SocketAddr, path: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(address).await.expect("connected");
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("answered");
        answer
    }

    #[tokio::test]
    async fn the_pages_are_served_and_readiness_ends_with_the_process() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("address");
        let (readiness, shutdown) = (Readiness::new(&[CACHES]), Shutdown::new());
        let pages = serve(listener, Metrics::new(), readiness.clone(), Clock::new(), shutdown.clone());
        let served = tokio::spawn(pages);
        assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 200"));
        let unready = get(address, "/readyz").await;
        assert!(unready.starts_with("HTTP/1.1 503") && unready.ends_with("[-]caches failed: not yet\n"), "{unready}");
        readiness.set(CACHES, Ok(()));
        assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 200"));
        assert!(get(address, "/metrics").await.contains("interlock_leader 0"));
        shutdown.trigger("test");
        let ended = tokio::time::timeout(Duration::from_secs(5), served).await.expect("in time").expect("joined");
        assert!(ended.is_ok());
    }
}
