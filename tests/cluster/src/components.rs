//! What each component of the control plane is started with.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::modules::Tool;
use crate::network::Network;
use crate::state::{Audit, Folder, Launch};
use crate::tools::Tools;

/// The range the API server assigns cluster addresses from. Its first address is the API's own.
const SERVICE_RANGE: &str = "10.96.0.0/16";
/// The first address of [`SERVICE_RANGE`].
pub(crate) const API_CLUSTER_IP: &str = "10.96.0.1";
/// On the machine's end of the link to a real node: where the API server is for the node and its pods.
pub(crate) const RELAY_PORT: u16 = 6443;
const POD_RANGE: &str = "10.244.0.0/16";

/// A process of the control plane or of a real node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Component {
    /// The store.
    Etcd,
    /// The API.
    KubeApiserver,
    /// The built-in controllers.
    KubeControllerManager,
    /// Assigns pods to nodes.
    KubeScheduler,
    /// Simulates the nodes.
    Kwok,
    /// Holds the namespaces that a real node lives in, and everything on it: no process of the node outlives it.
    Node,
    /// Leads from the node to the API server.
    ApiRelay,
    /// Runs containers.
    Containerd,
    /// Runs pods.
    Kubelet,
    /// Makes Services reachable.
    KubeProxy,
    /// Enforces NetworkPolicies.
    Policies,
}

impl Component {
    /// Every component of the control plane, in the order in which they are started.
    pub const ALL: [Self; 5] =
        [Self::Etcd, Self::KubeApiserver, Self::KubeControllerManager, Self::KubeScheduler, Self::Kwok];

    /// Every component of a real node, in the order in which they are started.
    pub const NODE: [Self; 6] =
        [Self::Node, Self::ApiRelay, Self::Containerd, Self::Kubelet, Self::KubeProxy, Self::Policies];

    /// The name of its program, log and pid file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::ApiRelay => "api-relay",
            Self::Policies => "policies",
            _ => self.tool().file_name(),
        }
    }

    pub(crate) const fn tool(self) -> Tool {
        match self {
            Self::Etcd => Tool::Etcd,
            Self::KubeApiserver => Tool::KubeApiserver,
            Self::KubeControllerManager => Tool::KubeControllerManager,
            Self::KubeScheduler => Tool::KubeScheduler,
            Self::Kwok => Tool::Kwok,
            Self::Containerd => Tool::Containerd,
            Self::Kubelet => Tool::Kubelet,
            Self::KubeProxy => Tool::KubeProxy,
            Self::Node | Self::ApiRelay | Self::Policies => Tool::NodeHelper,
        }
    }
}

impl fmt::Display for Component {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

/// The ports of one attempt to bring a cluster up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    pub(crate) etcd: u16,
    pub(crate) apiserver: u16,
}

impl Ports {
    pub(crate) fn server(self) -> String {
        format!("https://127.0.0.1:{}", self.apiserver)
    }
}

/// What differs between clusters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings<'a> {
    pub(crate) ports: Ports,
    pub(crate) audit: Audit,
    pub(crate) apiserver_arguments: &'a [String],
    pub(crate) network: Option<Network>,
}

/// How a component of the control plane of the cluster in `folder` is started. One of a node is started by the node.
pub(crate) fn launch(component: Component, tools: &Tools, folder: &Folder, settings: Settings<'_>) -> Option<Launch> {
    let arguments = match component {
        Component::Etcd => etcd(folder, settings.ports),
        Component::KubeApiserver => {
            let mut arguments = apiserver(folder, settings.ports);
            arguments.extend(network(folder, settings.network));
            arguments.extend(audit(folder, settings.audit));
            arguments.extend_from_slice(settings.apiserver_arguments);
            arguments
        }
        Component::KubeControllerManager => controller_manager(folder),
        Component::KubeScheduler => scheduler(folder),
        Component::Kwok => kwok(folder),
        Component::Node
        | Component::ApiRelay
        | Component::Containerd
        | Component::Kubelet
        | Component::KubeProxy
        | Component::Policies => return None,
    };
    let environment = match component {
        // It would otherwise read a person's own configuration below the home directory first.
        Component::Kwok => vec![("KWOK_WORKDIR".to_owned(), text(&folder.data()))],
        _ => Vec::new(),
    };
    Some(Launch { program: tools.path(component.tool()).to_owned(), arguments, environment })
}

fn etcd(folder: &Folder, ports: Ports) -> Vec<String> {
    let url = format!("https://127.0.0.1:{}", ports.etcd);
    flags(&[
        ("data-dir", &text(&folder.data().join("etcd"))),
        ("listen-client-urls", &url),
        ("advertise-client-urls", &url),
        // No peer ever calls, so any port will do.
        ("listen-peer-urls", "http://127.0.0.1:0"),
        ("cert-file", &text(&folder.certificate("etcd.crt"))),
        ("key-file", &text(&folder.certificate("etcd.key"))),
        ("trusted-ca-file", &text(&folder.certificate("etcd-ca.crt"))),
        ("client-cert-auth", "true"),
        ("unsafe-no-fsync", "true"),
        ("log-level", "warn"),
    ])
}

fn apiserver(folder: &Folder, ports: Ports) -> Vec<String> {
    let file = |name: &str| text(&folder.certificate(name));
    let mut arguments = flags(&[
        ("etcd-servers", &format!("https://127.0.0.1:{}", ports.etcd)),
        ("etcd-cafile", &file("etcd-ca.crt")),
        ("etcd-certfile", &file("etcd-client.crt")),
        ("etcd-keyfile", &file("etcd-client.key")),
        ("bind-address", "127.0.0.1"),
        ("advertise-address", "127.0.0.1"),
        ("secure-port", &ports.apiserver.to_string()),
        // The loopback address is refused as an endpoint of the Service `kubernetes`, again and again.
        ("endpoint-reconciler-type", "none"),
        ("cert-dir", &text(&folder.data().join("apiserver"))),
        ("tls-cert-file", &file("apiserver.crt")),
        ("tls-private-key-file", &file("apiserver.key")),
        ("client-ca-file", &file("ca.crt")),
        ("authorization-mode", "Node,RBAC"),
        ("allow-privileged", "true"),
        ("kubelet-preferred-address-types", "InternalIP"),
        ("profiling", "false"),
    ]);
    arguments.extend(flags(&[
        ("service-account-issuer", "https://kubernetes.default.svc.cluster.local"),
        ("service-account-key-file", &file("service-account.pub")),
        ("service-account-signing-key-file", &file("service-account.key")),
    ]));
    arguments.extend(flags(&[
        ("requestheader-client-ca-file", &file("front-proxy-ca.crt")),
        ("requestheader-allowed-names", "front-proxy-client"),
        ("requestheader-extra-headers-prefix", "X-Remote-Extra-"),
        ("requestheader-group-headers", "X-Remote-Group"),
        ("requestheader-username-headers", "X-Remote-User"),
        ("proxy-client-cert-file", &file("front-proxy-client.crt")),
        ("proxy-client-key-file", &file("front-proxy-client.key")),
    ]));
    arguments
}

/// Where Services get their addresses from, and who the API server is for the kubelet of a real node.
fn network(folder: &Folder, network: Option<Network>) -> Vec<String> {
    let Some(network) = network else {
        return flags(&[("service-cluster-ip-range", SERVICE_RANGE)]);
    };
    flags(&[
        ("service-cluster-ip-range", &network.services()),
        ("kubelet-client-certificate", &text(&folder.certificate("kubelet-client.crt"))),
        ("kubelet-client-key", &text(&folder.certificate("kubelet-client.key"))),
    ])
}

fn audit(folder: &Folder, audit: Audit) -> Vec<String> {
    match audit {
        Audit::Off => Vec::new(),
        Audit::Metadata | Audit::Bodies => flags(&[
            ("audit-policy-file", &text(&folder.config("audit.yaml"))),
            ("audit-log-path", &text(&folder.audit_log())),
            // In megabytes. Without it the file is put aside at 100, and tests that read it miss what was before.
            ("audit-log-maxsize", "100000"),
        ]),
    }
}

/// The audit policy for that level, if one is needed.
pub(crate) fn audit_policy(audit: Audit) -> Option<&'static str> {
    match audit {
        Audit::Off => None,
        Audit::Metadata => Some(include_str!("../assets/audit-metadata.yaml")),
        Audit::Bodies => Some(include_str!("../assets/audit-bodies.yaml")),
    }
}

fn controller_manager(folder: &Folder) -> Vec<String> {
    flags(&[
        ("kubeconfig", &text(&folder.component_kubeconfig(Component::KubeControllerManager))),
        ("secure-port", "0"),
        ("leader-elect", "false"),
        ("use-service-account-credentials", "true"),
        ("service-account-private-key-file", &text(&folder.certificate("service-account.key"))),
        ("root-ca-file", &text(&folder.certificate("ca.crt"))),
        // Simulated nodes send no heartbeats; they stay as ready as they were.
        ("node-monitor-grace-period", "24h"),
        ("allocate-node-cidrs", "false"),
        ("kube-api-qps", "200"),
        ("kube-api-burst", "400"),
    ])
}

fn scheduler(folder: &Folder) -> Vec<String> {
    flags(&[
        ("kubeconfig", &text(&folder.component_kubeconfig(Component::KubeScheduler))),
        ("secure-port", "0"),
        ("leader-elect", "false"),
        ("kube-api-qps", "200"),
        ("kube-api-burst", "400"),
    ])
}

fn kwok(folder: &Folder) -> Vec<String> {
    flags(&[
        ("kubeconfig", &text(&folder.component_kubeconfig(Component::Kwok))),
        ("config", &text(&folder.config("stages.yaml"))),
        ("manage-all-nodes", "true"),
        ("cidr", POD_RANGE),
        ("node-ip", "10.0.0.1"),
    ])
}

pub(crate) fn flags(pairs: &[(&str, &str)]) -> Vec<String> {
    pairs.iter().map(|(name, value)| format!("--{name}={value}")).collect()
}

pub(crate) fn text(path: &Path) -> String {
    path.display().to_string()
}
