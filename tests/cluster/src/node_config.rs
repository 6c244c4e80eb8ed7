//! What the components of a real node are started with.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::components::{Component, RELAY_PORT, flags, text};
use crate::modules::Tool;
use crate::network::Network;
use crate::process::ProcessId;
use crate::state::{Folder, Launch};
use crate::tools::Tools;

/// The image that holds a pod's namespaces.
pub(crate) const PAUSE_IMAGE: &str = "docker.io/library/pause:interlock";

/// Where everything of a node lies.
#[derive(Clone, Debug)]
pub(crate) struct Site<'a> {
    pub(crate) folder: &'a Folder,
    pub(crate) network: Network,
    pub(crate) tools: &'a Tools,
    /// nftables: the program's folder and, if it is not installed, that of its libraries.
    pub(crate) nft: (PathBuf, Option<PathBuf>),
    pub(crate) name: &'a str,
}

impl Site<'_> {
    pub(crate) fn home(&self) -> PathBuf {
        self.folder.node()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.home().join("containerd.sock")
    }

    /// The node's own namespaces: killing their first process ends every process in them, and with the last one go its
    /// mounts, interfaces and nftables rules.
    pub(crate) fn holder(&self) -> Launch {
        let options = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];
        let mut arguments: Vec<_> = options.iter().map(|&option| option.to_owned()).collect();
        arguments.push(text(self.tools.path(Tool::NodeHelper)));
        Launch { program: PathBuf::from("unshare"), arguments, environment: Vec::new() }
    }

    /// From the machine's end of the link to the API server at `server`. It stays outside the node's namespaces.
    pub(crate) fn relay(&self, server: &str) -> Launch {
        let listen = format!("{}:{RELAY_PORT}", self.network.machine());
        let target = server.trim_start_matches("https://").to_owned();
        let program = self.tools.path(Tool::NodeHelper).to_owned();
        Launch { program, arguments: vec!["relay".to_owned(), listen, target], environment: Vec::new() }
    }

    /// A component inside the node's namespaces, whose first process is `init`. It ends with the process that is seen
    /// from outside.
    pub(crate) fn inside(&self, component: Component, init: ProcessId) -> Launch {
        let program = text(self.tools.path(component.tool()));
        let mut arguments: Vec<_> = ["--target", &init.pid().to_string(), "--mount", "--net", "--pid", "--"]
            .iter()
            .chain(&["setpriv", "--pdeathsig", "KILL", &program])
            .map(|&word| word.to_owned())
            .collect();
        arguments.extend(self.arguments(component));
        let mut environment = vec![("PATH".to_owned(), self.path())];
        if let (Some(libraries), Component::KubeProxy | Component::Policies) = (&self.nft.1, component) {
            environment.push(("LD_LIBRARY_PATH".to_owned(), text(libraries)));
        }
        Launch { program: PathBuf::from("nsenter"), arguments, environment }
    }

    fn path(&self) -> String {
        let own = [Tool::ContainerdShim, Tool::Runc]
            .map(|tool| self.tools.path(tool).parent().map_or_else(String::new, text));
        format!("{}:{}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", own.join(":"), text(&self.nft.0))
    }

    fn arguments(&self, component: Component) -> Vec<String> {
        let kubeconfig = text(&self.folder.component_kubeconfig(component));
        let config = |name: &str| text(&self.folder.config(name));
        match component {
            Component::Containerd => flags(&[("config", &config("containerd.toml"))]),
            Component::Kubelet => flags(&[
                ("config", &config("kubelet.json")),
                ("kubeconfig", &kubeconfig),
                ("hostname-override", self.name),
                ("node-ip", &self.network.node()),
                ("root-dir", &text(&self.home().join("kubelet"))),
                ("cert-dir", &text(&self.home().join("kubelet-pki"))),
                ("node-labels", "topology.kubernetes.io/zone=zone-a"),
            ]),
            Component::KubeProxy => flags(&[
                ("kubeconfig", &kubeconfig),
                ("hostname-override", self.name),
                ("proxy-mode", "nftables"),
                ("healthz-bind-address", "127.0.0.1:10256"),
                ("metrics-bind-address", "127.0.0.1:10249"),
                // The limits belong to the machine.
                ("conntrack-max-per-core", "0"),
                ("conntrack-tcp-timeout-established", "0"),
                ("conntrack-tcp-timeout-close-wait", "0"),
            ]),
            Component::Policies => {
                let server = format!("https://{}:{RELAY_PORT}", self.network.machine());
                let certificates = ["ca.crt", "policies.crt", "policies.key"];
                let mut arguments = vec!["policies".to_owned(), server];
                arguments.extend(certificates.map(|file| text(&self.folder.certificate(file))));
                arguments.push(self.network.pods());
                arguments
            }
            _ => Vec::new(),
        }
    }

    /// Gives the node its loopback interface, its end of the link and folders of its own in place of the machine's, in
    /// which Kubernetes' programs write at fixed paths. Runs inside.
    pub(crate) fn inner_script(&self, small: Option<(usize, &str)>) -> String {
        let volumes = self.home().join("volumes");
        let mount = small.map_or_else(String::new, |(index, size)| {
            format!("mount -t tmpfs -o size={size},mode=1777 small '{}/{index}'", volumes.display())
        });
        format!(
            "set -e
mount --make-rshared /
for folder in /run /var/log /var/lib; do mount -t tmpfs node $folder; done
mkdir -p /run/netns
ip link set lo up
ip address add {node}/30 dev eth0
ip link set eth0 up
ip route add default via {machine}
echo 1 > /proc/sys/net/ipv4/ip_forward
{mount}
",
            node = self.network.node(),
            machine = self.network.machine(),
        )
    }

    /// The machine's end, and the cgroup. The interface goes with the node's namespace.
    pub(crate) fn outer_script(&self, init: ProcessId) -> String {
        let (interface, machine, node) = (self.network.interface(), self.network.machine(), self.network.node());
        let (pods, services, cgroup) = (self.network.pods(), self.network.services(), self.network.cgroup());
        format!(
            "set -e
ip link add {interface} type veth peer name eth0 netns {pid}
ip address add {machine}/30 dev {interface}
ip link set {interface} up
ip route add {pods} via {node}
ip route add {services} via {node}
if [ -f /sys/fs/cgroup/cgroup.controllers ]; then mkdir -p /sys/fs/cgroup/{cgroup}; exit; fi
for controller in /sys/fs/cgroup/*/; do
  if [ -e \"$controller/tasks\" ] && [ ! -L \"${{controller%/}}\" ]; then mkdir -p \"${{controller}}{cgroup}\"; fi
done
",
            pid = init.pid(),
        )
    }

    /// Removes what the node left outside its folder. Its processes have ended by then, but the kernel takes a moment
    /// to count them out of their cgroups.
    pub(crate) fn teardown_script(&self) -> String {
        format!(
            "ip link delete {interface} 2> /dev/null
attempt=0
while folders=$(ls -d /sys/fs/cgroup/{cgroup} /sys/fs/cgroup/*/{cgroup} 2> /dev/null); [ -n \"$folders\" ]; do
  find $folders -depth -type d -exec rmdir {{}} + 2> /dev/null && exit
  attempt=$((attempt + 1))
  [ $attempt -lt 100 ] || {{ echo \"cgroups are still in use: $folders\" >&2; exit 1; }}
  sleep 0.1
done
",
            interface = self.network.interface(),
            cgroup = self.network.cgroup(),
        )
    }

    pub(crate) fn containerd_toml(&self) -> String {
        let bin = |tool: Tool| self.tools.path(tool).parent().map_or_else(String::new, text);
        format!(
            "version = 3
root = '{root}'
state = '/run/containerd'
[grpc]
  address = '{socket}'
[plugins.'io.containerd.nri.v1.nri']
  disable = true
[plugins.'io.containerd.cri.v1.images']
  snapshotter = 'overlayfs'
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = '{PAUSE_IMAGE}'
[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true
[plugins.'io.containerd.cri.v1.runtime'.cni]
  bin_dirs = ['{cni}']
  conf_dir = '{conf}'
[plugins.'io.containerd.cri.v1.runtime'.containerd]
  default_runtime_name = 'runc'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
  runtime_type = 'io.containerd.runc.v2'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
  BinaryName = '{runc}'
  SystemdCgroup = false
",
            root = text(&self.home().join("containerd")),
            socket = text(&self.socket()),
            cni = bin(Tool::CniPtp),
            conf = text(&self.cni()),
            runc = text(self.tools.path(Tool::Runc)),
        )
    }

    pub(crate) fn cni(&self) -> PathBuf {
        self.home().join("cni")
    }

    /// One interface pair for each pod, and routes: whatever leaves a pod passes the node's forwarding rules.
    pub(crate) fn pod_network(&self) -> Value {
        let ipam = json!({
            "type": "host-local",
            "subnet": self.network.pods(),
            "dataDir": "/run/interlock-ipam",
            "routes": [{"dst": "0.0.0.0/0"}],
        });
        json!({"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "ptp", "ipam": ipam}]})
    }

    pub(crate) fn kubelet_config(&self) -> Value {
        let below = |name: &str| text(&self.home().join(name));
        json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": self.network.node(),
            "readOnlyPort": 0,
            "authentication": {
                "anonymous": {"enabled": false},
                "webhook": {"enabled": false},
                "x509": {"clientCAFile": text(&self.folder.certificate("ca.crt"))},
            },
            "authorization": {"mode": "AlwaysAllow"},
            "containerRuntimeEndpoint": format!("unix://{}", text(&self.socket())),
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": format!("/{}", self.network.cgroup()),
            "failCgroupV1": false,
            "failSwapOn": false,
            "enforceNodeAllocatable": [],
            "makeIPTablesUtilChains": false,
            "localStorageCapacityIsolation": false,
            "evictionHard": {"memory.available": "50Mi", "nodefs.available": "0.1%", "nodefs.inodesFree": "0.1%",
                             "imagefs.available": "0.1%"},
            "imageGCHighThresholdPercent": 100,
            "podLogsDir": below("pod-logs"),
            "volumePluginDir": below("volume-plugins"),
            "resolvConf": "",
            "serializeImagePulls": false,
            "maxPods": 110,
        })
    }
}

/// Folders of the machine that the node does not see, so nothing of it may lie there.
pub(crate) const HIDDEN: [&str; 3] = ["/run", "/var/log", "/var/lib"];

pub(crate) fn hides(path: &Path) -> bool {
    HIDDEN.iter().any(|folder| path.starts_with(folder))
}
