//! `interlock run`: the controller and its webhooks.

use std::{net::SocketAddr, time::Duration};

use clap::Args;
use interlock_controller::{
    analysis::Guard,
    backup::Images,
    certs::Names,
    leader,
    runtime::{self, RunError, RunOptions},
    shutdown::Shutdown,
};

/// How the controller runs.
#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    /// Where the webhooks listen.
    #[arg(long, default_value = "0.0.0.0:9443")]
    pub webhook_bind: SocketAddr,
    /// Where /metrics, /healthz and /readyz listen.
    #[arg(long, default_value = "0.0.0.0:8080")]
    pub metrics_bind: SocketAddr,
    /// A further IP address or name for which the webhook's certificate is issued (with `install --webhook-url`).
    #[arg(long = "webhook-host", value_name = "HOST")]
    pub webhook_hosts: Vec<String>,
    /// Seconds for which a leader holds its lease without renewing it.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(2..=300))]
    pub lease_seconds: u64,
    /// Name under which this process holds the lease. Default: its host name and a random part.
    #[arg(long)]
    pub identity: Option<String>,
    /// Changes looked at at the same time.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub concurrency: u16,
    /// Lets analyses ask addresses of this machine; for development outside a cluster.
    #[arg(long)]
    pub analysis_loopback: bool,
    /// Image of Interlock in the pods that it makes. Default: that of this version.
    #[arg(long)]
    pub image: Option<String>,
    /// Image of restic in the pods of backups.
    #[arg(long)]
    pub restic_image: Option<String>,
    /// Image with the client programs of PostgreSQL in the pods of backups.
    #[arg(long)]
    pub postgres_image: Option<String>,
    /// Logs as JSON lines.
    #[arg(long)]
    pub log_json: bool,
}

/// Runs the controller until SIGTERM or SIGINT.
pub async fn execute(args: &RunArgs, config: kube::Config) -> Result<(), RunError> {
    logs(args.log_json);
    let shutdown = Shutdown::new();
    shutdown.on_signals().map_err(|e| RunError::Cluster(e.to_string()))?;
    let mut names = Names::of_service("interlock-webhook", "interlock-system");
    for host in &args.webhook_hosts {
        match host.parse() {
            Ok(ip) => names.ips.push(ip),
            Err(_) => names.dns.push(host.clone()),
        }
    }
    let base = std::env::var("HOSTNAME").unwrap_or_else(|_| "interlock".to_owned());
    let ours = Images::default();
    let options = RunOptions {
        webhook_bind: args.webhook_bind,
        metrics_bind: args.metrics_bind,
        names,
        lease: Duration::from_secs(args.lease_seconds),
        identity: args.identity.clone().unwrap_or_else(|| leader::unique_identity(&base)),
        concurrency: usize::from(args.concurrency),
        guard: Guard { loopback: args.analysis_loopback },
        images: Images {
            interlock: args.image.clone().unwrap_or(ours.interlock),
            restic: args.restic_image.clone().unwrap_or(ours.restic),
            postgres: args.postgres_image.clone().unwrap_or(ours.postgres),
        },
    };
    runtime::run(config, options, shutdown).await
}

fn logs(json: bool) {
    let filter = tracing_subscriber::EnvFilter::try_from_env("INTERLOCK_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,kube=warn,hyper=warn,tower=warn"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second subscriber in one process is a test's business; the first one stays.
    let _ = if json { builder.json().try_init() } else { builder.try_init() };
}
