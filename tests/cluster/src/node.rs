//! A real node on this machine: containerd, the kubelet and kube-proxy in namespaces of their own.
//!
//! The node has its own network, mount and process namespaces. So kube-proxy's nftables table, the pods' interfaces and
//! mounts and every container are its own, several nodes live side by side, and all of it goes at once when the first
//! process of the namespaces ends. What remains are cgroups, which the cluster's teardown removes.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::json;

use crate::bring_up::{kubectl, start, wait_for, wait_nodes_ready};
use crate::cluster::Cluster;
use crate::components::{Component, RELAY_PORT};
use crate::debian;
use crate::image::{Image, ImageError};
use crate::modules::Tool;
use crate::network::Network;
use crate::node_config::{PAUSE_IMAGE, Site, hides};
use crate::node_error::NodeError;
use crate::process::ProcessId;
use crate::state::{Launch, Origin, TEARDOWN, write_file};
use crate::tools::Tools;
use crate::volumes::{self, Reclaim};

/// The real node's name.
pub const NODE_NAME: &str = "node-real";
/// Who its kubelet is.
pub(crate) const NODE_USER: &str = "system:node:node-real";

/// Whether `NetworkPolicies` hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PodNetwork {
    /// They hold, see `docs/architecture.md` for what exactly.
    #[default]
    Enforced,
    /// They are accepted and do nothing, as with many plain networks.
    Unenforced,
}

/// What node to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeOptions {
    /// Whether `NetworkPolicies` hold.
    pub network: PodNetwork,
    /// How many persistent volumes the pool has.
    pub volumes: usize,
    /// How big each volume says it is.
    pub volume_size: String,
    /// What becomes of a volume when its claim is gone.
    pub reclaim: Reclaim,
    /// A volume that holds no more than this, in the form of `mount -t tmpfs -o size=`. Only pods see what is in
    /// it, so its class is not that of the pool but [`SMALL`](crate::SMALL).
    pub small: Option<(usize, &'static str)>,
}

impl Default for NodeOptions {
    fn default() -> Self {
        Self {
            network: PodNetwork::Enforced,
            volumes: 4,
            volume_size: "1Gi".to_owned(),
            reclaim: Reclaim::Retain,
            small: None,
        }
    }
}

/// A real node. It ends with its cluster.
#[derive(Clone, Debug)]
pub struct Node {
    home: PathBuf,
    socket: PathBuf,
    ctr: PathBuf,
    network: Network,
}

impl Node {
    /// Why no node can be started here, if none can.
    pub fn check_possible() -> Result<(), NodeError> {
        if rustix::process::geteuid().is_root() && cfg!(target_os = "linux") { Ok(()) } else { Err(NodeError::NotRoot) }
    }

    /// Starts the node of a cluster that was brought up for one, and returns when it is ready.
    pub fn start(cluster: &mut Cluster, options: &NodeOptions) -> Result<Self, NodeError> {
        Self::check_possible()?;
        let not_prepared = || NodeError::NotPrepared(cluster.name().to_owned());
        let network = cluster.description.network.ok_or_else(not_prepared)?;
        let Origin::Started { server, .. } = cluster.description.origin.clone() else {
            return Err(not_prepared());
        };
        let tools = Tools::ensure_these(&Tool::NODE)?;
        let folder = cluster.folder.clone();
        let site = Site { folder: &folder, network, tools: &tools, nft: debian::nftables()?, name: NODE_NAME };
        for path in [folder.path(), tools.path(Tool::Containerd)] {
            if hides(path) {
                return Err(NodeError::Hidden(path.to_owned()));
            }
        }
        write_files(&site, options)?;
        let node = Self { home: site.home(), socket: site.socket(), ctr: tools.path(Tool::Ctr).to_owned(), network };
        let init = namespaces(cluster, &site, options)?;
        run(cluster, Component::ApiRelay, site.relay(&server))?;
        run(cluster, Component::Containerd, site.inside(Component::Containerd, init))?;
        wait_for(cluster, Component::Containerd, "containerd to answer", |_| Ok(node.ctr(&["version"]).is_ok()))?;
        let pause = Image::new(PAUSE_IMAGE).file(tools.path(Tool::NodeHelper), "/pause").entrypoint(&["/pause"]);
        pause.import(&node)?;
        run(cluster, Component::Kubelet, site.inside(Component::Kubelet, init))?;
        run(cluster, Component::KubeProxy, site.inside(Component::KubeProxy, init))?;
        if options.network == PodNetwork::Enforced {
            run(cluster, Component::Policies, site.inside(Component::Policies, init))?;
            wait_for_table(cluster, Component::Policies, &site, init, "interlock-policies")?;
        }
        wait_for_table(cluster, Component::KubeProxy, &site, init, "kube-proxy")?;
        create_objects(cluster, &site, options)?;
        wait_nodes_ready(cluster, Component::Kubelet, 1)?;
        Ok(node)
    }

    /// The running node of a cluster that another process may have brought up.
    pub fn attach(cluster: &Cluster) -> Result<Self, NodeError> {
        let network = cluster.description.network;
        let network = network.ok_or_else(|| NodeError::NotPrepared(cluster.name().to_owned()))?;
        let home = cluster.folder.node();
        let tools = Tools::ensure_these(&[Tool::Ctr])?;
        Ok(Self { socket: home.join("containerd.sock"), home, ctr: tools.path(Tool::Ctr).to_owned(), network })
    }

    /// The cluster's addresses.
    pub fn network(&self) -> Network {
        self.network
    }

    /// Where the pool's volumes lie.
    pub fn volume(&self, index: usize) -> PathBuf {
        self.home.join("volumes").join(index.to_string())
    }

    /// containerd's client, for the images and containers of Kubernetes.
    pub fn ctr(&self, arguments: &[&str]) -> Result<String, ImageError> {
        let failed = |why| ImageError::Program { program: "ctr".to_owned(), image: arguments.join(" "), why };
        let output = Command::new(&self.ctr)
            .arg("--address")
            .arg(&self.socket)
            .args(["--namespace", "k8s.io", "--connect-timeout", "2s"])
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .map_err(|reason| failed(reason.to_string()))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
    }

    /// Imports an image archive (`docker save`, or an OCI layout in a tar file).
    pub fn import(&self, archive: &Path) -> Result<(), ImageError> {
        self.ctr(&["images", "import", &archive.to_string_lossy()]).map(drop)
    }
}

impl Image {
    /// Makes the image and gives it to the node. Pods then use it with `imagePullPolicy: Never`.
    pub fn import(&self, node: &Node) -> Result<(), ImageError> {
        let name: String = self.name().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let folder = node.home.join("images").join(name);
        self.check(&folder, fs::create_dir_all(&folder))?;
        let imported = self.write(&folder).and_then(|archive| node.import(&archive));
        self.check(&folder, fs::remove_dir_all(&folder))?;
        imported
    }
}

fn write_files(site: &Site<'_>, options: &NodeOptions) -> Result<(), NodeError> {
    let make = |path: PathBuf, mode: u32| {
        let made = DirBuilder::new().recursive(true).mode(mode).create(&path);
        made.map_err(|source| NodeError::File { path, source })
    };
    make(site.home(), 0o700)?;
    make(site.cni(), 0o700)?;
    for index in 0..options.volumes {
        let path = site.home().join("volumes").join(index.to_string());
        make(path.clone(), 0o777)?;
        // Any user's pod may write; the mode above is cut by the umask.
        let opened = fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o777));
        opened.map_err(|source| NodeError::File { path, source })?;
    }
    write_file(&site.cni().join("10-pods.conflist"), &site.pod_network().to_string())?;
    write_file(&site.folder.config("containerd.toml"), &site.containerd_toml())?;
    write_file(&site.folder.config("kubelet.json"), &site.kubelet_config().to_string())?;
    write_file(&site.folder.path().join(TEARDOWN), &site.teardown_script())?;
    Ok(())
}

/// Makes the namespaces and the link, and returns the first process inside.
fn namespaces(cluster: &mut Cluster, site: &Site<'_>, options: &NodeOptions) -> Result<ProcessId, NodeError> {
    run(cluster, Component::Node, site.holder())?;
    let mut init = None;
    wait_for(cluster, Component::Node, "the node's namespaces", |cluster| {
        init = cluster.process(Component::Node).and_then(first_child);
        Ok(init.is_some())
    })?;
    let init = init.ok_or_else(|| NodeError::Prepare("its first process ended".to_owned()))?;
    write_file(&site.folder.node_pid_file(), &init.written())?;
    shell(Command::new("sh").args(["-c", &site.outer_script(init)]))?;
    let mut inside = Command::new("nsenter");
    inside.args(["--target", &init.pid().to_string(), "--mount", "--net", "--pid", "--"]);
    shell(inside.args(["sh", "-c", &site.inner_script(options.small)]))?;
    Ok(init)
}

/// The process inside, once it has become what it is to be: its mounts are made by then.
fn first_child(holder: ProcessId) -> Option<ProcessId> {
    let pid = holder.pid();
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    let child = children.split_whitespace().next()?.parse().ok()?;
    let command = fs::read_to_string(format!("/proc/{child}/comm")).ok()?;
    if command.trim_end() == Tool::NodeHelper.file_name() { ProcessId::of(child) } else { None }
}

fn run(cluster: &mut Cluster, component: Component, launch: Launch) -> Result<(), NodeError> {
    cluster.description.launches.insert(component, launch);
    cluster.folder.describe(&cluster.description)?;
    Ok(start(cluster, component)?)
}

/// Waits until a component has written its first rules.
fn wait_for_table(
    cluster: &mut Cluster,
    component: Component,
    site: &Site<'_>,
    init: ProcessId,
    table: &str,
) -> Result<(), NodeError> {
    let (folder, libraries) = &site.nft;
    Ok(wait_for(cluster, component, "the first nftables rules", |_| {
        let mut command = Command::new("nsenter");
        command.args(["--target", &init.pid().to_string(), "--net", "--"]).arg(folder.join("nft"));
        if let Some(libraries) = libraries {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        Ok(shell(command.args(["list", "table", "ip", table])).is_ok())
    })?)
}

/// The pool, and where the Service `kubernetes` leads.
fn create_objects(cluster: &Cluster, site: &Site<'_>, options: &NodeOptions) -> Result<(), NodeError> {
    let folder = site.home().join("volumes");
    let pool = volumes::pool(&folder, options);
    let api = json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": "kubernetes"},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [site.network.machine()], "conditions": {"ready": true}}],
        "ports": [{"name": "https", "port": RELAY_PORT, "protocol": "TCP"}],
    });
    for objects in [pool, api] {
        kubectl(cluster, &["create", "-f", "-"], Some(&objects.to_string()))?;
    }
    Ok(())
}

fn shell(command: &mut Command) -> Result<(), NodeError> {
    let output = command.stdin(Stdio::null()).output().map_err(|reason| NodeError::Prepare(reason.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(NodeError::Prepare(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}
