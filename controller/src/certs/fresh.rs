//! Keeping certificates fresh: read, publish, renew, reload.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum_server::tls_rustls::RustlsConfig;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use jiff::Timestamp;
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::pki_types::{ServerName, UnixTime};

use super::{CertError, Leaf, Names, Renewal, TlsMaterial, certificates, server_config};
use crate::clock::Clock;
use crate::shutdown::Shutdown;
use crate::telemetry::{CERTIFICATE, Metrics, Readiness};

/// At least so often the Secret and the webhook configurations are looked at.
const LOOK_EVERY: Duration = Duration::from_hours(1);
/// While an authority waits to be published, or after an error.
const LOOK_AGAIN: Duration = Duration::from_secs(15);
/// So many steps may follow each other at one instant; more would be a loop.
const STEPS: usize = 8;

/// What was stored, and the version that a write must find unchanged.
#[derive(Debug)]
pub struct Stored {
    /// The certificates.
    pub material: TlsMaterial,
    /// Precondition of the next write.
    pub version: String,
}

/// Where certificates lie, and who must trust them.
pub trait CertStore: Send + Sync + 'static {
    /// What is stored now, not from a cache.
    fn read(&self) -> impl Future<Output = Result<Option<Stored>, CertError>> + Send;
    /// Stores it if the stored version is still `version`; none means that nothing may be stored yet.
    fn write(
        &self,
        material: &TlsMaterial,
        version: Option<&str>,
    ) -> impl Future<Output = Result<(), CertError>> + Send;
    /// Sees to it that every webhook configuration trusts the bundle; whether each one does now. Trust that is there
    /// already is never taken away: another replica may know of a newer authority.
    fn publish(&self, bundle: &str) -> impl Future<Output = Result<bool, CertError>> + Send;
    /// Yields whenever what is stored may have changed.
    fn changes(&self) -> BoxStream<'static, ()>;
}

/// The state after everything that was due has been done.
#[derive(Debug)]
pub struct Fresh {
    /// What is stored.
    pub material: TlsMaterial,
    /// Whether every webhook configuration trusts it.
    pub published: bool,
    /// When something is due again.
    pub next: Timestamp,
}

/// Reads the certificates, makes them if there are none, and does what is due. Used once before serving; [`keep_fresh`]
/// repeats it.
pub async fn load_or_create<S: CertStore>(store: &S, names: &Names, now: Timestamp) -> Result<Fresh, CertError> {
    for _ in 0..STEPS {
        let Some(stored) = store.read().await? else {
            conflict_is_news(store.write(&TlsMaterial::new(now, names)?, None).await)?;
            continue;
        };
        let published = match store.publish(&stored.material.bundle(now)).await {
            Ok(published) => published,
            // Serving and renewing do not depend on it; only the rotation of the authority does.
            Err(error) => {
                tracing::warn!(reason = %error, "the webhook configurations could not be read or written");
                false
            }
        };
        let due = match stored.material.due(now, published) {
            Renewal::Wait(_) if !serves(&stored.material, names, now) => Renewal::Leaf,
            due => due,
        };
        if let Renewal::Wait(next) = due {
            return Ok(Fresh { material: stored.material, published, next });
        }
        tracing::info!(what = ?due, "certificates are renewed");
        let renewed = stored.material.renewed(due, now, names)?;
        conflict_is_news(store.write(&renewed, Some(&stored.version)).await)?;
    }
    Err(CertError::Conflict)
}

/// Whoever was faster stored something that is as good; it is read next.
fn conflict_is_news(result: Result<(), CertError>) -> Result<(), CertError> {
    if result == Err(CertError::Conflict) { Ok(()) } else { result }
}

/// Whether a client that trusts the bundle accepts the leaf under each of the names at `now`.
pub(super) fn serves(material: &TlsMaterial, names: &Names, now: Timestamp) -> bool {
    let accepted =
        || -> Option<bool> {
            let mut roots = RootCertStore::empty();
            for root in certificates("ca.crt", &material.bundle(now)).ok()? {
                roots.add(root).ok()?;
            }
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().ok()?;
            let chain = certificates("tls.crt", material.leaf.certificate()).ok()?;
            let (leaf, above) = chain.split_first()?;
            let time = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(now.as_second()).ok()?));
            let dns = names.dns.iter().map(|name| ServerName::try_from(name.clone()).ok());
            let ips = names.ips.iter().map(|ip| Some(ServerName::IpAddress((*ip).into())));
            Some(dns.chain(ips).all(|name| {
                name.is_some_and(|name| verifier.verify_server_cert(leaf, above, &name, &[], time).is_ok())
            }))
        };
    accepted().unwrap_or(false)
}

/// Renews and reloads until the process ends. `serving` is the leaf that `tls` was made with.
#[allow(clippy::too_many_arguments, reason = "the parts of one process, wired once")]
pub async fn keep_fresh<S: CertStore>(
    store: S,
    tls: RustlsConfig,
    serving: Leaf,
    names: Names,
    clock: Clock,
    metrics: Metrics,
    readiness: Readiness,
    shutdown: Shutdown,
) {
    let mut served = serving;
    let mut changes = store.changes().fuse();
    loop {
        let mut wait = LOOK_AGAIN;
        match clock.now() {
            None => tracing::debug!("certificates wait for the API server's time"),
            Some(now) => {
                match load_or_create(&store, &names, now).await {
                    Ok(fresh) => {
                        if fresh.published {
                            wait = until(now, fresh.next).min(LOOK_EVERY);
                        }
                        reload(&tls, &mut served, fresh.material.leaf);
                    }
                    Err(error) => tracing::warn!(reason = %error, "certificates could not be kept fresh"),
                }
                tell(&served, now, &metrics, &readiness);
                // The end of validity must be noticed when it comes, not an hour later.
                wait = wait.min(until(now, served.not_after()));
            }
        }
        tokio::select! {
            () = tokio::time::sleep(wait.max(Duration::from_secs(1))) => {}
            Some(()) = changes.next() => {}
            () = shutdown.triggered() => return,
        }
    }
}

/// New connections get the new certificate; those that stand keep theirs.
fn reload(tls: &RustlsConfig, served: &mut Leaf, leaf: Leaf) {
    if *served == leaf {
        return;
    }
    match server_config(&leaf) {
        Ok(config) => {
            tracing::info!(not_after = %leaf.not_after(), "a new certificate is served");
            tls.reload_from_config(config);
            *served = leaf;
        }
        Err(error) => tracing::error!(reason = %error, "the stored certificate cannot be served"),
    }
}

/// Sets what people and the API server's readiness probes see of the certificate.
pub fn tell(leaf: &Leaf, now: Timestamp, metrics: &Metrics, readiness: &Readiness) {
    metrics.set_certificate_expiry(leaf.not_after());
    let state = if leaf.is_valid_at(now) {
        Ok(())
    } else {
        Err(format!("the webhook's certificate is valid until {} and it is {now} now", leaf.not_after()))
    };
    readiness.set(CERTIFICATE, state);
}

fn until(now: Timestamp, then: Timestamp) -> Duration {
    Duration::try_from(now.duration_until(then)).unwrap_or(Duration::ZERO)
}
