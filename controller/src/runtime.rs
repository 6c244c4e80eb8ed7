//! Wiring: one process that watches, decides and judges.
//!
//! Every replica answers webhooks; the one that holds the lease acts. Order of starting: keys, watches, webhooks, then
//! the lease decides. Order of ending: readiness goes, webhooks drain, passes end before their next write, the lease is
//! released.

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use interlock_core::{
    change::INTERLOCK_NAMESPACE,
    seal::{KeyRing, SealKey},
};
use jiff::Timestamp;
use k8s_openapi::api::{
    authentication::v1::SelfSubjectReview,
    core::v1::{ConfigMap, Namespace, Secret},
};
use kube::{Api, Client, Config, api::PostParams};
use tokio::sync::mpsc;

use crate::{
    admission::{
        judge::Webhook,
        server::{self, ServerOptions},
    },
    analysis::Guard,
    backup::{self, Images},
    certs::{self, KubeCertStore, Names},
    change::{self, Context, Keys, MacKey, Outcome},
    clock::Clock,
    governors,
    index::{BackupKey, Index},
    kube_port::{self, KubePort, KubePortOptions},
    leader::{self, KubeLeaseStore, LeaderState, LeaseOptions},
    queue::{self, Again},
    rollout,
    shutdown::Shutdown,
    telemetry::{self, Metrics, Readiness},
    watch::{self, Wake},
};

/// How long a Rollout that was woken rests: what happens to one pod shows in several objects one after the other.
const ROLLOUTS_REST: Duration = Duration::from_millis(25);

/// How a controller runs.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// Where the webhooks listen.
    pub webhook_bind: SocketAddr,
    /// Where `/metrics`, `/healthz` and `/readyz` listen.
    pub metrics_bind: SocketAddr,
    /// Names for which the webhook's certificate is issued beside its Service.
    pub names: Names,
    /// Length of the lease.
    pub lease: Duration,
    /// Name under which this process holds the lease.
    pub identity: String,
    /// Changes looked at at the same time.
    pub concurrency: usize,
    /// Where analyses may ask.
    pub guard: Guard,
    /// Images of the pods of backups.
    pub images: Images,
}

/// Why a controller ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The installation is not complete.
    #[error("{what} is missing or unusable: {why}; run `interlock install --apply`")]
    NotInstalled {
        /// Which object.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// The cluster does not answer.
    #[error("the cluster does not answer: {0}")]
    Cluster(String),
    /// A port cannot be listened on.
    #[error("cannot listen on {address}: {why}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        why: String,
    },
    /// The certificate cannot be used.
    #[error("the webhook's certificate cannot be used: {0}")]
    Certificate(String),
}

/// Runs until `shutdown`.
pub async fn run(config: Config, options: RunOptions, shutdown: Shutdown) -> Result<(), RunError> {
    let started = Instant::now();
    certs::install_crypto_provider();
    let (clock, metrics) = (Clock::new(), Metrics::new());
    let readiness = Readiness::new(&["caches", "certificate", "webhook"]);
    let client =
        kube_port::client(config, clock.clone(), metrics.clone()).map_err(|e| RunError::Cluster(e.to_string()))?;
    let (keys, ring) = keys(&client).await?;
    let cluster = cluster_uid(&client).await?;
    let user = own_user(&client).await?;
    tracing::info!(user, cluster, "starting");

    let mut lease = LeaseOptions::new(options.identity.clone());
    lease.duration = options.lease;
    let store = KubeLeaseStore::new(client.clone(), INTERLOCK_NAMESPACE, "interlock-controller");
    let (leader, campaign) = leader::campaign(store, &lease, clock.clone());
    let campaign = tokio::spawn(campaign);

    let index = Arc::new(RwLock::new(Index::new(ring)));
    let (changes, woken_changes) = mpsc::unbounded_channel();
    let (governors, woken_governors) = mpsc::unbounded_channel();
    let (rollouts, woken_rollouts) = mpsc::unbounded_channel();
    let (backups, woken_backups) = mpsc::unbounded_channel();
    let wake = Wake { changes, rollouts, backups, governors };
    let mut synced = watch::spawn(&client, &index, &wake, &shutdown);
    watch::spawn_webhooks(&client, &index, &wake, &shutdown);
    let (port, wakeups) = KubePort::new(
        client.clone(),
        clock.clone(),
        Some(leader.clone()),
        KubePortOptions { guard: options.guard, ..KubePortOptions::default() },
    );
    let context = Context::new(port, Arc::clone(&index), keys, cluster).with_images(options.images.clone());
    let context = Arc::new(context);

    let plain = listen(options.metrics_bind).await?;
    let plain =
        tokio::spawn(telemetry::serve(plain, metrics.clone(), readiness.clone(), clock.clone(), shutdown.clone()));
    let ended = shutdown.clone();
    tokio::select! {
        done = synced.wait_for(|count| *count == watch::KINDS) => drop(done),
        () = ended.triggered() => return Ok(()),
    }
    readiness.set("caches", Ok(()));
    tracing::info!(seconds = started.elapsed().as_secs_f64(), "caches are filled");

    let webhooks = serve_webhooks(&client, &options, &context, &user, &clock, &metrics, &readiness, &shutdown).await?;
    tracing::info!(seconds = started.elapsed().as_secs_f64(), address = %options.webhook_bind, "serving");
    forward(wakeups, wake.clone());
    on_leadership(leader.state(), &index, &wake, metrics.clone());
    let woken = (woken_changes, woken_rollouts, woken_backups, woken_governors);
    let queues = queues(&context, woken, &options, &metrics, &shutdown);
    shutdown.triggered().await;
    let _ = webhooks.await;
    let _ = queues.await;
    leader.release().await;
    let _ = campaign.await;
    let _ = plain.await;
    Ok(())
}

async fn listen(address: SocketAddr) -> Result<tokio::net::TcpListener, RunError> {
    tokio::net::TcpListener::bind(address).await.map_err(|e| RunError::Listen { address, why: e.to_string() })
}

async fn keys(client: &Client) -> Result<(Keys, KeyRing), RunError> {
    let missing =
        |what: &str, why: String| RunError::NotInstalled { what: format!("{INTERLOCK_NAMESPACE}/{what}"), why };
    let secrets: Api<Secret> = Api::namespaced(client.clone(), INTERLOCK_NAMESPACE);
    let read = |name: &'static str| {
        let secrets = secrets.clone();
        async move { secrets.get(name).await.map_err(|e| missing(name, e.to_string())) }
    };
    let field = |secret: &Secret, field: &str| {
        secret.data.as_ref().and_then(|d| d.get(field)).map(|v| v.0.clone()).unwrap_or_default()
    };
    let seed = field(&read("interlock-seal-key").await?, "seed");
    let seal = SealKey::from_seed(&seed).map_err(|e| missing("interlock-seal-key", e.to_string()))?;
    let mac = read("interlock-mac-key").await?;
    let mac = MacKey { id: String::from_utf8_lossy(&field(&mac, "key-id")).into_owned(), secret: field(&mac, "key") };
    if mac.secret.len() < 32 {
        return Err(missing(
            "interlock-mac-key",
            format!("its key has {} bytes, at least 32 are needed", mac.secret.len()),
        ));
    }
    let mut ring = KeyRing::default();
    ring.insert(seal.public());
    // Seals of earlier keys still count.
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), INTERLOCK_NAMESPACE);
    if let Ok(Some(public)) = maps.get_opt("interlock-seal-public").await {
        for key in public.data.into_iter().flatten().filter_map(|(_, key)| BASE64.decode(key).ok()) {
            ring.insert(&key);
        }
    }
    Ok((Keys { seal, mac }, ring))
}

async fn cluster_uid(client: &Client) -> Result<String, RunError> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let system = namespaces.get("kube-system").await.map_err(|e| RunError::Cluster(e.to_string()))?;
    Ok(system.metadata.uid.unwrap_or_default())
}

/// The user name under which the API server knows this process: the webhook lets it alone write status.
async fn own_user(client: &Client) -> Result<String, RunError> {
    let reviews: Api<SelfSubjectReview> = Api::all(client.clone());
    let review = reviews
        .create(&PostParams::default(), &SelfSubjectReview::default())
        .await
        .map_err(|e| RunError::Cluster(e.to_string()))?;
    Ok(review.status.and_then(|s| s.user_info).and_then(|u| u.username).unwrap_or_default())
}

#[allow(clippy::too_many_arguments, reason = "the parts of one process, wired once")]
async fn serve_webhooks(
    client: &Client,
    options: &RunOptions,
    context: &Arc<Context<KubePort>>,
    user: &str,
    clock: &Clock,
    metrics: &Metrics,
    readiness: &Readiness,
    shutdown: &Shutdown,
) -> Result<tokio::task::JoinHandle<std::io::Result<()>>, RunError> {
    let broken = |why: String| RunError::Certificate(why);
    let now = clock.now().ok_or_else(|| RunError::Cluster("the API server sends no Date header".to_owned()))?;
    let store = KubeCertStore::new(
        client.clone(),
        INTERLOCK_NAMESPACE,
        vec!["interlock".to_owned()],
        vec!["interlock".to_owned()],
    );
    let fresh = certs::load_or_create(&store, &options.names, now).await.map_err(|e| broken(e.to_string()))?;
    let leaf = fresh.material.leaf;
    let tls = axum_server::tls_rustls::RustlsConfig::from_config(
        certs::server_config(&leaf).map_err(|e| broken(e.to_string()))?,
    );
    certs::tell(&leaf, now, metrics, readiness);
    let keep = certs::keep_fresh(
        store,
        tls.clone(),
        leaf,
        options.names.clone(),
        clock.clone(),
        metrics.clone(),
        readiness.clone(),
        shutdown.clone(),
    );
    tokio::spawn(keep);
    let address = options.webhook_bind;
    let listener = TcpListener::bind(address).map_err(|e| RunError::Listen { address, why: e.to_string() })?;
    let judge = Arc::new(Webhook::new(Arc::clone(context), user.to_owned()));
    Ok(tokio::spawn(server::serve(
        listener,
        tls,
        judge,
        ServerOptions::default(),
        metrics.clone(),
        readiness.clone(),
        shutdown.clone(),
    )))
}

/// Watched objects of running changes and Rollouts wake them.
fn forward(mut wakeups: mpsc::UnboundedReceiver<String>, wake: Wake) {
    tokio::spawn(async move {
        while let Some(key) = wakeups.recv().await {
            let sent = match rollout::key_of_waiter(&key) {
                Some(rollout) => wake.rollouts.send(rollout.to_owned()),
                None if BackupKey::of_waiter(&key).is_some() => wake.backups.send(key),
                None => wake.changes.send(key),
            };
            if sent.is_err() {
                return;
            }
        }
    });
}

/// Whoever begins to lead looks at everything once.
fn on_leadership(
    mut state: tokio::sync::watch::Receiver<LeaderState>,
    index: &Arc<RwLock<Index>>,
    wake: &Wake,
    metrics: Metrics,
) {
    let (index, wake) = (Arc::clone(index), wake.clone());
    tokio::spawn(async move {
        loop {
            let leads = matches!(*state.borrow_and_update(), LeaderState::Leading { .. });
            metrics.set_leader(leads);
            if leads {
                let (changes, rollouts, backups, governors) = {
                    let index = index.read().unwrap_or_else(std::sync::PoisonError::into_inner);
                    let governors = watch::all_governors(&index).collect::<Vec<_>>();
                    (index.all_live(), index.all_rollouts(), index.all_backups(), governors)
                };
                for key in changes {
                    let _ = wake.changes.send(key);
                }
                for key in rollouts {
                    let _ = wake.rollouts.send(key);
                }
                for key in backups {
                    let _ = wake.backups.send(key.waiter());
                }
                for key in governors {
                    let _ = wake.governors.send(key);
                }
            }
            if state.changed().await.is_err() {
                return;
            }
        }
    });
}

/// Woken keys.
type WokenKeys = mpsc::UnboundedReceiver<String>;

fn queues(
    context: &Arc<Context<KubePort>>,
    (changes, rollouts, backups, governors): (WokenKeys, WokenKeys, WokenKeys, WokenKeys),
    options: &RunOptions,
    metrics: &Metrics,
    shutdown: &Shutdown,
) -> tokio::task::JoinHandle<()> {
    let depth = |kind: &'static str, metrics: &Metrics| {
        let metrics = metrics.clone();
        move |count| metrics.set_queue_depth(kind, count)
    };
    let (shared, told) = (Arc::clone(context), metrics.clone());
    let change_queue = queue::run(
        changes,
        options.concurrency,
        Duration::ZERO,
        shutdown.clone(),
        depth("ChangeRequest", metrics),
        move |key| {
            let (context, metrics) = (Arc::clone(&shared), told.clone());
            async move { change_pass(&context, &metrics, &key).await }
        },
    );
    let (shared, told) = (Arc::clone(context), metrics.clone());
    let rollout_queue = queue::run(
        rollouts,
        options.concurrency,
        ROLLOUTS_REST,
        shutdown.clone(),
        depth("Rollout", metrics),
        move |key| {
            let (context, metrics) = (Arc::clone(&shared), told.clone());
            async move { rollout_pass(&context, &metrics, &key).await }
        },
    );
    let (shared, told) = (Arc::clone(context), metrics.clone());
    let backup_queue = queue::run(
        backups,
        options.concurrency,
        Duration::ZERO,
        shutdown.clone(),
        depth("Backup", metrics),
        move |key| {
            let (context, metrics) = (Arc::clone(&shared), told.clone());
            async move { backup_pass(&context, &metrics, &key).await }
        },
    );
    let (shared, told) = (Arc::clone(context), metrics.clone());
    let governor_queue =
        queue::run(governors, 4, Duration::ZERO, shutdown.clone(), depth("Governor", metrics), move |key| {
            let (context, metrics) = (Arc::clone(&shared), told.clone());
            async move { governor_pass(&context, &metrics, &key).await }
        });
    tokio::spawn(async move {
        tokio::join!(change_queue, rollout_queue, backup_queue, governor_queue);
    })
}

async fn change_pass(context: &Context<KubePort>, metrics: &Metrics, key: &str) -> Again {
    let begun = Instant::now();
    let outcome = change::reconcile(context, key).await;
    came_to("ChangeRequest", &outcome, context, metrics, begun)
}

async fn rollout_pass(context: &Context<KubePort>, metrics: &Metrics, key: &str) -> Again {
    let begun = Instant::now();
    let outcome = rollout::reconcile(context, key).await;
    came_to("Rollout", &outcome, context, metrics, begun)
}

async fn backup_pass(context: &Context<KubePort>, metrics: &Metrics, waiter: &str) -> Again {
    let begun = Instant::now();
    let Some(key) = BackupKey::of_waiter(waiter) else { return Again::WhenWoken };
    let outcome = backup::reconcile(context, &key).await;
    match &key {
        BackupKey::Policy(key) => {
            let (policy, runs) = context.ask(|index| (index.backup_policy(key), index.backup_runs(key)));
            metrics.set_backup_policy(key, policy.as_deref(), &runs);
        }
        BackupKey::Repository(key) => {
            let repository = context.ask(|index| index.backup_repository(key));
            metrics.set_backup_repository(key, repository.as_deref());
        }
        BackupKey::Drill(key) => {
            let drill = context.ask(|index| index.restore_drill(key));
            metrics.set_restore_drill(key, drill.as_deref());
        }
        BackupKey::Run(_) | BackupKey::DrillRun(_) | BackupKey::DrillOrphans => {}
    }
    came_to("Backup", &outcome, context, metrics, begun)
}

fn came_to(
    kind: &'static str,
    outcome: &Outcome,
    context: &Context<KubePort>,
    metrics: &Metrics,
    begun: Instant,
) -> Again {
    let (name, again) = match outcome {
        Outcome::Wait(None) => ("settled", Again::WhenWoken),
        Outcome::Wait(Some(at)) => ("waits", due(*at, context)),
        Outcome::Reread { again, until } => ("waits", due(until.map_or(*again, |until| until.min(*again)), context)),
        Outcome::Retry(_) => ("retry", Again::Backoff),
    };
    metrics.reconciled(kind, name, begun.elapsed());
    again
}

fn due(at: Timestamp, context: &Context<KubePort>) -> Again {
    use interlock_core::port::Port as _;
    let Some(now) = context.port.now() else { return Again::Backoff };
    // A little late rather than early: at the instant itself the answer has changed.
    let wait = Duration::try_from(at.duration_since(now)).unwrap_or_default() + Duration::from_millis(20);
    Again::After(wait)
}

async fn governor_pass(context: &Context<KubePort>, metrics: &Metrics, key: &str) -> Again {
    let begun = Instant::now();
    let (name, again) = match governors::reconcile(&context.port, &context.index, key).await {
        Ok(None) => ("settled", Again::WhenWoken),
        Ok(Some(at)) => ("waits", due(at, context)),
        Err(error) => {
            tracing::warn!(governor = key, %error, "the pass ended early");
            ("retry", Again::Backoff)
        }
    };
    metrics.reconciled("Governor", name, begun.elapsed());
    again
}
