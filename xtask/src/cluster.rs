//! `cargo xtask cluster`: a local Kubernetes for people.

use std::env;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{Args, Subcommand, ValueEnum};
use interlock_cluster::{
    Audit, Cluster, ClusterError, ClusterOptions, ClusterSource, Node, NodeError, NodeOptions, Origin, POOL, Phase,
    PodNetwork, USERS,
};
use thiserror::Error;

#[derive(Subcommand)]
pub enum Command {
    /// Bring a cluster up; it stays until `cluster down`
    Up(Up),
    /// Take a cluster down and remove everything of it
    Down(Down),
    /// List the clusters that are up
    Status,
    /// Give images to a cluster's real node
    Import(Import),
}

#[derive(Args)]
pub struct Up {
    /// Name of the cluster; several may be up side by side
    #[arg(long, default_value = "default")]
    name: String,
    /// Keep an audit log of every request
    #[arg(long, value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "metadata")]
    audit: Option<AuditLevel>,
    /// Use the cluster that KUBECONFIG names (kind, for example) instead of starting one
    #[arg(long, conflicts_with = "audit")]
    existing: bool,
    /// Start a real node, which runs containers, in place of the simulated ones (Linux, root)
    #[arg(long, conflicts_with = "existing")]
    node: bool,
    /// Let the real node accept NetworkPolicies without enforcing them
    #[arg(long, requires = "node")]
    unenforced: bool,
}

#[derive(Args)]
pub struct Import {
    /// Name of the cluster
    #[arg(long, default_value = "default")]
    name: String,
    /// Archives (of `docker save`, or OCI layouts in a tar file), or `busybox`, `postgres`, `restic`, `web`
    #[arg(required = true)]
    images: Vec<String>,
}

#[derive(Args)]
pub struct Down {
    /// Name of the cluster
    #[arg(long, default_value = "default")]
    name: String,
    /// Take every cluster down
    #[arg(long, conflicts_with = "name")]
    all: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum AuditLevel {
    /// Who asked for what
    Metadata,
    /// Also the bodies of requests and responses
    Bodies,
}

#[derive(Debug, Error)]
pub enum CommandError {
    #[error("--existing needs KUBECONFIG to name one existing file")]
    NoKubeconfig,
    #[error("cluster `{name}` cannot be {verb}")]
    Cluster { name: String, verb: &'static str, source: ClusterError },
    #[error("cluster `{name}` has no real node")]
    Node { name: String, source: NodeError },
    #[error("the clusters cannot be listed")]
    List(#[source] ClusterError),
}

pub fn run(command: Command) -> Result<(), CommandError> {
    match command {
        Command::Up(arguments) => up(&arguments),
        Command::Down(arguments) => down(&arguments),
        Command::Status => status(),
        Command::Import(arguments) => {
            import(&arguments).map_err(|source| CommandError::Node { name: arguments.name.clone(), source })
        }
    }
}

fn up(arguments: &Up) -> Result<(), CommandError> {
    let source = if arguments.existing { existing()? } else { ClusterSource::Start };
    let audit = match arguments.audit {
        None => Audit::Off,
        Some(AuditLevel::Metadata) => Audit::Metadata,
        Some(AuditLevel::Bodies) => Audit::Bodies,
    };
    let no_node = |source| CommandError::Node { name: arguments.name.clone(), source };
    if arguments.node {
        Node::check_possible().map_err(no_node)?;
    }
    let persistent = ClusterOptions::persistent(&arguments.name);
    let options = ClusterOptions { source, audit, real_node: arguments.node, ..persistent };
    let began = Instant::now();
    let mut cluster = Cluster::up(&options).map_err(|source| CommandError::Cluster {
        name: options.name.clone(),
        verb: "brought up",
        source,
    })?;
    if arguments.node {
        let network = if arguments.unenforced { PodNetwork::Unenforced } else { PodNetwork::Enforced };
        if let Err(reason) = Node::start(&mut cluster, &NodeOptions { network, ..NodeOptions::default() }) {
            // The reason is what the person must see; `cluster down` tries again what could not be removed.
            let _ = cluster.down();
            return Err(no_node(reason));
        }
    }
    eprintln!("cluster `{}` is up after {:.1} s", cluster.name(), began.elapsed().as_secs_f32());
    print_use(&cluster);
    Ok(())
}

fn import(arguments: &Import) -> Result<(), NodeError> {
    let node = Node::attach(&Cluster::attach(&arguments.name)?)?;
    for name in &arguments.images {
        let image = match name.as_str() {
            "busybox" => interlock_cluster::busybox()?,
            "postgres" => interlock_cluster::postgres()?,
            "restic" => interlock_cluster::restic()?,
            "web" => interlock_cluster::web("web:1")?,
            archive => {
                node.import(Path::new(archive))?;
                continue;
            }
        };
        image.import(&node)?;
        eprintln!("imported {}", image.name());
    }
    Ok(())
}

fn existing() -> Result<ClusterSource, CommandError> {
    env::var_os("KUBECONFIG")
        .map(PathBuf::from)
        .filter(|path| path.is_file())
        .map(ClusterSource::Existing)
        .ok_or(CommandError::NoKubeconfig)
}

/// Standard output is a script: `eval "$(cargo xtask cluster up)"` sets KUBECONFIG.
fn print_use(cluster: &Cluster) {
    println!("export KUBECONFIG={}", quoted(&cluster.admin_kubeconfig()));
    println!("# as somebody else: kubectl --kubeconfig {}", quoted(&cluster.kubeconfig("USER")));
    println!("# {:<10}groups", "USER");
    for user in USERS {
        println!("# {:<10}{}", user.name, user.groups.join(", "));
    }
    if cluster.description().network.is_some() {
        println!("# images: cargo xtask cluster import --name {} busybox IMAGE.tar", cluster.name());
        println!("# in pods: imagePullPolicy: Never; claims of the class {POOL} are bound");
    }
    if let Some(log) = cluster.audit_log() {
        println!("# audit log: {}", log.display());
    }
}

/// The path as one word of a shell.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+".contains(&byte);
    if text.bytes().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

fn down(arguments: &Down) -> Result<(), CommandError> {
    let clusters = if arguments.all {
        Cluster::all().map_err(CommandError::List)?
    } else {
        let cluster = Cluster::attach(&arguments.name).map_err(|source| CommandError::Cluster {
            name: arguments.name.clone(),
            verb: "taken down",
            source,
        })?;
        vec![cluster]
    };
    for cluster in clusters {
        let name = cluster.name().to_owned();
        cluster.down().map_err(|source| CommandError::Cluster { name: name.clone(), verb: "taken down", source })?;
        eprintln!("cluster `{name}` is down");
    }
    Ok(())
}

fn status() -> Result<(), CommandError> {
    let clusters = Cluster::all().map_err(CommandError::List)?;
    if clusters.is_empty() {
        eprintln!("no cluster is up");
    }
    for cluster in &clusters {
        print_status(cluster);
    }
    Ok(())
}

fn print_status(cluster: &Cluster) {
    let description = cluster.description();
    let phase = match description.phase {
        Phase::Starting => "starting",
        Phase::Ready => "up",
    };
    let life = if description.ephemeral { ", ends with its owner" } else { "" };
    let origin = match &description.origin {
        Origin::Started { server, .. } => server.clone(),
        Origin::Existing { kubeconfig } => kubeconfig.display().to_string(),
    };
    println!("{}: {phase}{life}, {origin}", cluster.name());
    println!("  export KUBECONFIG={}", quoted(&cluster.admin_kubeconfig()));
    if matches!(description.origin, Origin::Started { .. }) {
        for (component, process) in cluster.processes() {
            let state = match process {
                Some(process) if process.is_alive() => format!("pid {}", process.pid()),
                Some(_) => format!("ended, see {}", cluster.log(component).display()),
                None => "not started".to_owned(),
            };
            println!("  {component:<26}{state}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::quoted;

    #[test]
    fn only_paths_that_need_it_are_quoted() {
        assert_eq!(quoted(Path::new("/home/h/.local/c-1")), "/home/h/.local/c-1");
        assert_eq!(quoted(Path::new("/a b/it's")), r"'/a b/it'\''s'");
    }
}
