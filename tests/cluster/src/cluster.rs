//! A cluster: bring one up, attach to one, talk to it, take it down.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use thiserror::Error;

use crate::certs::CertsError;
use crate::components::Component;
use crate::modules::Tool;
use crate::network::Network;
use crate::process::{self, ProcessError, ProcessId, Watchdog};
use crate::state::{Audit, Description, Folder, Origin, Phase, Registry, StateError};
use crate::tools::{Tools, ToolsError};
use crate::{bring_up, existing};

/// The administrator's name for [`Cluster::kubectl`]: a member of `system:masters`.
pub const ADMIN: &str = "admin";

/// Why a cluster is not up, or not down.
#[derive(Debug, Error)]
pub enum ClusterError {
    /// The programs are not there.
    #[error("the control plane's programs are not there")]
    Tools(#[from] ToolsError),
    /// The cluster's folder cannot be used.
    #[error("the cluster's state cannot be used")]
    State(#[from] StateError),
    /// The certificates cannot be made.
    #[error("the cluster's certificates cannot be made")]
    Certs(#[from] CertsError),
    /// A process cannot be started or ended.
    #[error("the cluster's processes cannot be handled")]
    Process(#[from] ProcessError),
    /// The calling process cannot read its own entry.
    #[error("cannot read /proc, which is needed to tell processes apart (Linux only)")]
    NoProc,
    /// No port is free.
    #[error("no free port")]
    Ports(#[source] io::Error),
    /// Every number of a cluster with a node is taken.
    #[error("this machine has as many clusters with a real node as it can hold: take one down")]
    NoNetwork,
    /// A component ended.
    #[error("{component} ended ({status}); the end of its log:\n{log}")]
    Ended {
        /// The component.
        component: Component,
        /// How.
        status: ExitStatus,
        /// The end of its log.
        log: String,
    },
    /// Something did not come in time.
    #[error("waited {} s for {what}; the end of the log of {component}:\n{log}", .limit.as_secs())]
    TooLate {
        /// What was waited for.
        what: &'static str,
        /// How long.
        limit: Duration,
        /// The component that should have done it.
        component: Component,
        /// The end of its log.
        log: String,
    },
    /// kubectl cannot be run.
    #[error("cannot run kubectl")]
    NoKubectl(#[source] io::Error),
    /// kubectl refused.
    #[error("kubectl {command} failed: {output}")]
    Kubectl {
        /// What it was asked.
        command: String,
        /// What it said.
        output: String,
    },
    /// The existing cluster's kubeconfig holds no user.
    #[error("{0} has no user for its current context")]
    NoUser(PathBuf),
    /// This cluster's processes are not this library's.
    #[error("cluster `{0}` was there before, so its components are not managed here")]
    NotManaged(String),
}

/// Where a cluster comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ClusterSource {
    /// Start one, with simulated nodes.
    #[default]
    Start,
    /// Use the one this administrator's kubeconfig names (kind, for example). Its nodes are its own; the users act by
    /// impersonation.
    Existing(PathBuf),
}

/// What cluster to bring up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterOptions {
    /// Distinguishes clusters that are up at the same time: up to 40 lower case letters, digits and `-`.
    pub name: String,
    /// Where it comes from.
    pub source: ClusterSource,
    /// Whether it ends with the calling process, even if that is killed. Others stay until they are taken down.
    pub ephemeral: bool,
    /// What the API server writes to its audit log.
    pub audit: Audit,
    /// Whether it is to have a real node, started by [`crate::Node::start`], in place of the simulated ones.
    pub real_node: bool,
    /// Further flags of the API server, such as `--feature-gates=...`.
    pub apiserver_arguments: Vec<String>,
}

impl ClusterOptions {
    /// A cluster that stays up until somebody takes it down.
    pub fn persistent(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            source: ClusterSource::Start,
            ephemeral: false,
            audit: Audit::Off,
            real_node: false,
            apiserver_arguments: Vec::new(),
        }
    }

    /// A cluster of this process alone: its name starts with `prefix` and is not used by another process.
    pub fn ephemeral(prefix: &str) -> Self {
        let name = format!("{prefix}-{}", std::process::id());
        Self { ephemeral: true, ..Self::persistent(name) }
    }

    /// The same for a real node.
    #[must_use]
    pub fn with_real_node(self) -> Self {
        Self { real_node: true, ..self }
    }

    /// The same with that audit log.
    #[must_use]
    pub fn with_audit(self, audit: Audit) -> Self {
        Self { audit, ..self }
    }
}

/// A cluster that is up. An ephemeral one goes down when this value is dropped.
#[derive(Debug)]
pub struct Cluster {
    pub(crate) description: Description,
    pub(crate) folder: Folder,
    /// The components this very value started. Of a cluster that was attached to, there are none.
    pub(crate) children: BTreeMap<Component, Child>,
    /// Present in the owner of an ephemeral cluster, and of any while it is brought up.
    pub(crate) watchdog: Option<Watchdog>,
}

impl Cluster {
    /// Brings a cluster up and returns when its nodes are ready. If that fails, nothing of it is left.
    pub fn up(options: &ClusterOptions) -> Result<Self, ClusterError> {
        let registry = Registry::open()?;
        registry.sweep()?;
        let tools = Tools::ensure()?;
        let mut cluster = Self::claim(&registry, options, &tools)?;
        let outcome = match &options.source {
            ClusterSource::Start => bring_up::bring_up(&mut cluster, options, &tools),
            ClusterSource::Existing(kubeconfig) => existing::adopt(&cluster, kubeconfig),
        };
        let outcome = outcome.and_then(|()| {
            cluster.description.phase = Phase::Ready;
            cluster.folder.describe(&cluster.description)?;
            cluster.outlive_owner()
        });
        match outcome {
            Ok(()) => Ok(cluster),
            Err(reason) => {
                // The reason is what the caller must see; a folder that cannot be removed is found by the next sweep.
                let _ = cluster.take_down();
                Err(reason)
            }
        }
    }

    fn claim(registry: &Registry, options: &ClusterOptions, tools: &Tools) -> Result<Self, ClusterError> {
        let origin = match &options.source {
            ClusterSource::Start => Origin::Started { server: String::new(), audit: options.audit },
            ClusterSource::Existing(kubeconfig) => Origin::Existing { kubeconfig: kubeconfig.clone() },
        };
        let description = Description {
            name: options.name.clone(),
            phase: Phase::Starting,
            origin,
            ephemeral: options.ephemeral,
            owner: ProcessId::own().ok_or(ClusterError::NoProc)?,
            kubectl: tools.path(Tool::Kubectl).to_owned(),
            network: if options.real_node { Some(Self::free_network(registry)?) } else { None },
            launches: BTreeMap::new(),
        };
        let folder = registry.claim(&description)?;
        let watchdog = Some(Watchdog::start(folder.path())?);
        Ok(Self { description, folder, children: BTreeMap::new(), watchdog })
    }

    fn free_network(registry: &Registry) -> Result<Network, ClusterError> {
        let others = registry.all()?.into_iter().filter_map(|folder| folder.description_read().ok());
        let taken: Vec<_> = others.filter_map(|description| description.network).collect();
        Network::choose(&taken).ok_or(ClusterError::NoNetwork)
    }

    /// Until here the cluster ends with its owner, so that an interrupted start leaves nothing behind.
    fn outlive_owner(&mut self) -> Result<(), ClusterError> {
        if self.description.ephemeral {
            return Ok(());
        }
        self.watchdog.take().map_or(Ok(()), Watchdog::disarm).map_err(ClusterError::Process)
    }

    /// The cluster of that name, which another process may have brought up.
    pub fn attach(name: &str) -> Result<Self, ClusterError> {
        let folder = Registry::open()?.find(name)?;
        Self::from_folder(folder)
    }

    /// Every cluster of this user, after removing what crashed processes left behind.
    pub fn all() -> Result<Vec<Self>, ClusterError> {
        let registry = Registry::open()?;
        registry.sweep()?;
        let clusters = registry.all()?.into_iter().filter_map(|folder| {
            match Self::from_folder(folder.clone()) {
                // Its owner took it down between the listing and the reading.
                Err(_) if !folder.path().exists() => None,
                outcome => Some(outcome),
            }
        });
        clusters.collect()
    }

    fn from_folder(folder: Folder) -> Result<Self, ClusterError> {
        let description = folder.description_read()?;
        Ok(Self { description, folder, children: BTreeMap::new(), watchdog: None })
    }

    /// Ends the processes this library started for the cluster, and removes its folder. An existing cluster's own
    /// processes and objects stay.
    pub fn down(mut self) -> Result<(), ClusterError> {
        self.take_down()
    }

    fn take_down(&mut self) -> Result<(), ClusterError> {
        let outcome = self.folder.demolish();
        for (_, mut child) in std::mem::take(&mut self.children) {
            // Only to collect what is dead; what could not be killed is in `outcome` and must not be waited for.
            let _ = child.try_wait();
        }
        if let Some(mut watchdog) = self.watchdog.take() {
            watchdog.release();
        }
        Ok(outcome?)
    }

    /// What `cluster.json` says.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// The cluster's name.
    pub fn name(&self) -> &str {
        &self.description.name
    }

    /// Whether nodes and pods are simulated, so that [`crate::Behaviour`] applies.
    pub fn is_simulated(&self) -> bool {
        matches!(self.description.origin, Origin::Started { .. }) && self.description.network.is_none()
    }

    /// The cluster's folder. It goes with the cluster.
    pub fn directory(&self) -> &Path {
        self.folder.path()
    }

    /// The administrator's kubeconfig.
    pub fn admin_kubeconfig(&self) -> PathBuf {
        self.folder.admin_kubeconfig()
    }

    /// The kubeconfig of one of [`crate::USERS`], or of [`ADMIN`].
    pub fn kubeconfig(&self, user: &str) -> PathBuf {
        if user == ADMIN { self.admin_kubeconfig() } else { self.folder.user_kubeconfig(user) }
    }

    /// kubectl as one of [`crate::USERS`], or as [`ADMIN`]. It reads nothing of the calling person's configuration.
    pub fn kubectl(&self, user: &str) -> Command {
        self.kubectl_with(&self.kubeconfig(user))
    }

    pub(crate) fn kubectl_with(&self, kubeconfig: &Path) -> Command {
        let mut command = Command::new(&self.description.kubectl);
        command
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .arg("--cache-dir")
            .arg(self.folder.kubectl_cache())
            .env("KUBERC", "off")
            .env_remove("KUBECONFIG");
        command
    }

    /// The audit log, one JSON object per line, if the cluster keeps one.
    pub fn audit_log(&self) -> Option<PathBuf> {
        match self.description.origin {
            Origin::Started { audit: Audit::Metadata | Audit::Bodies, .. } => Some(self.folder.audit_log()),
            Origin::Started { audit: Audit::Off, .. } | Origin::Existing { .. } => None,
        }
    }

    /// The component's log.
    pub fn log(&self, component: Component) -> PathBuf {
        self.folder.log(component)
    }

    /// The component's latest process, whether it still runs or not.
    pub fn process(&self, component: Component) -> Option<ProcessId> {
        self.folder.process(component)
    }

    /// Every component that this library starts for the cluster and its latest process, in the order in which they are
    /// started.
    pub fn processes(&self) -> Vec<(Component, Option<ProcessId>)> {
        let started = self.description.launches.keys();
        started.map(|&component| (component, self.process(component))).collect()
    }

    /// Kills a component, as a crash would. It stays down until [`Cluster::start`].
    pub fn kill(&mut self, component: Component) -> Result<(), ClusterError> {
        if let Some(process) = self.process(component) {
            process::kill_all(&[process])?;
        }
        if let Some(mut child) = self.children.remove(&component) {
            // Collects the dead process; nothing depends on how it ended.
            let _ = child.wait();
        }
        Ok(())
    }

    /// Starts a component that was killed, with the flags it had. Does nothing if it runs.
    pub fn start(&mut self, component: Component) -> Result<(), ClusterError> {
        if self.process(component).is_some_and(ProcessId::is_alive) {
            return Ok(());
        }
        bring_up::start(self, component)?;
        bring_up::wait_started(self, component)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.watchdog.is_some() {
            // A drop cannot report; the watchdog, released next, tries again what is left.
            let _ = self.take_down();
        }
    }
}
