//! Starting the control plane, and knowing when it can be used.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use crate::certs::{Authority, Identity, TokenKeys};
use crate::cluster::{Cluster, ClusterError, ClusterOptions};
use crate::components::{self, API_CLUSTER_IP, Component, Ports, RELAY_PORT, Settings};
use crate::modules::kubernetes_version;
use crate::network::Network;
use crate::node::NODE_USER;
use crate::process::{ProcessId, launch};
use crate::state::{Launch, Origin, StateError, write_file};
use crate::tools::Tools;
use crate::users::USERS;
use crate::{ADMIN, kubeconfig, kwok, ports, wait};

/// How often ports are chosen anew because somebody else took one in between.
const PORT_ATTEMPTS: usize = 5;
/// For each step. Up takes about 6 s; a machine that builds at the same time is ten times slower.
const STEP_LIMIT: Duration = Duration::from_mins(2);
const LOG_LINES: usize = 20;

/// Who each component is. The roles of the first two come with Kubernetes; kwok writes any status it likes.
const COMPONENT_USERS: [(Component, &str, &[&str]); 5] = [
    (Component::KubeControllerManager, "system:kube-controller-manager", &[]),
    (Component::KubeScheduler, "system:kube-scheduler", &[]),
    (Component::Kwok, "interlock-kwok", &["system:masters"]),
    (Component::Kubelet, NODE_USER, &["system:nodes"]),
    (Component::KubeProxy, "system:kube-proxy", &[]),
];

/// Brings the claimed cluster up.
pub(crate) fn bring_up(cluster: &mut Cluster, options: &ClusterOptions, tools: &Tools) -> Result<(), ClusterError> {
    let authority = write_certificates(cluster)?;
    write_config(cluster, options)?;
    start_api(cluster, options, tools, &authority)?;
    for component in [Component::KubeControllerManager, Component::KubeScheduler] {
        start(cluster, component)?;
    }
    if cluster.description.network.is_none() {
        start(cluster, Component::Kwok)?;
        let nodes = kwok::nodes(kubernetes_version()?).to_string();
        kubectl(cluster, &["create", "-f", "-"], Some(&nodes))?;
        wait_nodes_ready(cluster, Component::Kwok, kwok::NODES.len())?;
    }
    wait_for(cluster, Component::KubeControllerManager, "the default service account", |cluster| {
        succeeds(&mut cluster.kubectl(ADMIN), &["get", "serviceaccount", "default", "--namespace=default"])
    })
}

/// Starts etcd and the API server. Ports are chosen and used in two steps, so the choice may have to be repeated.
fn start_api(
    cluster: &mut Cluster,
    options: &ClusterOptions,
    tools: &Tools,
    authority: &Authority,
) -> Result<(), ClusterError> {
    let mut attempt = 1;
    loop {
        let [etcd, apiserver] = ports::free_ports().map_err(ClusterError::Ports)?;
        let ports = Ports { etcd, apiserver };
        settle(cluster, options, tools, authority, ports)?;
        let outcome = start(cluster, Component::Etcd)
            .and_then(|()| start(cluster, Component::KubeApiserver))
            .and_then(|()| wait_started(cluster, Component::KubeApiserver));
        match outcome {
            Err(ClusterError::Ended { log, .. }) if ports::says_port_taken(&log) && attempt < PORT_ATTEMPTS => {
                attempt += 1;
                cluster.kill(Component::KubeApiserver)?;
                cluster.kill(Component::Etcd)?;
                forget_attempt(cluster)?;
            }
            outcome => return outcome,
        }
    }
}

/// A component's log must not show a former attempt's reason, nor etcd find its data.
fn forget_attempt(cluster: &Cluster) -> Result<(), ClusterError> {
    for component in [Component::Etcd, Component::KubeApiserver] {
        write_file(&cluster.folder.log(component), "")?;
    }
    let data = cluster.folder.data();
    let emptied = fs::remove_dir_all(&data).and_then(|()| fs::create_dir(&data));
    Ok(emptied.map_err(|source| StateError::File { path: data, source })?)
}

/// Writes what depends on the ports: the kubeconfigs and the description.
fn settle(
    cluster: &mut Cluster,
    options: &ClusterOptions,
    tools: &Tools,
    authority: &Authority,
    ports: Ports,
) -> Result<(), ClusterError> {
    let folder = &cluster.folder;
    let server = ports.server();
    let network = cluster.description.network;
    let relay = network.map(|network| format!("https://{}:{RELAY_PORT}", network.machine()));
    let write = |path: &Path, user: &str, groups: &[&str], server: &str| -> Result<(), ClusterError> {
        let identity = authority.client(user, groups)?;
        let text = kubeconfig::by_certificate(server, &authority.certificate_pem, user, &identity);
        Ok(write_file(path, &text)?)
    };
    write(&folder.admin_kubeconfig(), ADMIN, &["system:masters"], &server)?;
    for user in USERS {
        write(&folder.user_kubeconfig(user.name), user.name, user.groups, &server)?;
    }
    for (component, user, groups) in COMPONENT_USERS {
        let server = match (component, &relay) {
            (Component::Kubelet | Component::KubeProxy, None) => continue,
            (Component::Kubelet | Component::KubeProxy, Some(relay)) => relay,
            _ => &server,
        };
        write(&folder.component_kubeconfig(component), user, groups, server)?;
    }
    let settings = Settings { ports, audit: options.audit, apiserver_arguments: &options.apiserver_arguments, network };
    cluster.description.launches = Component::ALL
        .into_iter()
        .filter(|component| *component != Component::Kwok || network.is_none())
        .filter_map(|component| Some((component, components::launch(component, tools, folder, settings)?)))
        .collect();
    cluster.description.origin = Origin::Started { server, audit: options.audit };
    Ok(cluster.folder.describe(&cluster.description)?)
}

fn write_certificates(cluster: &Cluster) -> Result<Authority, ClusterError> {
    let authority = Authority::new("interlock-ca")?;
    // Each authority vouches for one thing: a user's certificate must open neither etcd nor the front proxy.
    let etcd_authority = Authority::new("interlock-etcd-ca")?;
    let front_proxy_authority = Authority::new("interlock-front-proxy-ca")?;
    let local = ["127.0.0.1", "localhost"];
    let network = cluster.description.network;
    let inside = network.map_or_else(|| API_CLUSTER_IP.to_owned(), Network::api);
    let relay = network.map_or_else(|| "127.0.0.1".to_owned(), Network::machine);
    let api = [
        relay.as_str(),
        "127.0.0.1",
        "localhost",
        &inside,
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    ];
    write_authority(cluster, "ca", &authority)?;
    write_authority(cluster, "etcd-ca", &etcd_authority)?;
    write_authority(cluster, "front-proxy-ca", &front_proxy_authority)?;
    write_identity(cluster, "apiserver", &authority.server("kube-apiserver", &api)?)?;
    write_identity(cluster, "etcd", &etcd_authority.server("etcd", &local)?)?;
    write_identity(cluster, "etcd-client", &etcd_authority.client("kube-apiserver", &[])?)?;
    write_identity(cluster, "front-proxy-client", &front_proxy_authority.client("front-proxy-client", &[])?)?;
    if network.is_some() {
        write_identity(cluster, "kubelet-client", &authority.client("kube-apiserver", &[])?)?;
        write_identity(cluster, "policies", &authority.client("interlock-policies", &["system:masters"])?)?;
    }
    let tokens = TokenKeys::new()?;
    write_pki(cluster, "service-account.key", &tokens.private_pem)?;
    write_pki(cluster, "service-account.pub", &tokens.public_pem)?;
    Ok(authority)
}

fn write_authority(cluster: &Cluster, name: &str, authority: &Authority) -> Result<(), ClusterError> {
    write_pki(cluster, &format!("{name}.crt"), &authority.certificate_pem)
}

fn write_identity(cluster: &Cluster, name: &str, identity: &Identity) -> Result<(), ClusterError> {
    write_pki(cluster, &format!("{name}.crt"), &identity.certificate_pem)?;
    write_pki(cluster, &format!("{name}.key"), &identity.key_pem)
}

fn write_pki(cluster: &Cluster, file: &str, content: &str) -> Result<(), ClusterError> {
    Ok(write_file(&cluster.folder.certificate(file), content)?)
}

fn write_config(cluster: &Cluster, options: &ClusterOptions) -> Result<(), ClusterError> {
    let folder = &cluster.folder;
    write_file(&folder.config("stages.yaml"), &kwok::stages())?;
    if let Some(policy) = components::audit_policy(options.audit) {
        write_file(&folder.config("audit.yaml"), policy)?;
    }
    Ok(())
}

/// Starts a component as the description says, and returns when it has written its pid file.
pub(crate) fn start(cluster: &mut Cluster, component: Component) -> Result<(), ClusterError> {
    let Some(Launch { program, arguments, environment }) = cluster.description.launches.get(&component) else {
        return Err(ClusterError::NotManaged(cluster.description.name.clone()));
    };
    let (pid_file, log) = (cluster.folder.pid_file(component), cluster.folder.log(component));
    let child = launch(program, arguments, environment, &pid_file, &log)?;
    let pid = i32::try_from(child.id()).ok();
    cluster.children.insert(component, child);
    wait_for(cluster, component, "the process to start", |cluster| {
        Ok(cluster.process(component).map(ProcessId::pid) == pid)
    })
}

/// Waits until a component that was just started can be used, as far as it can be asked.
pub(crate) fn wait_started(cluster: &mut Cluster, component: Component) -> Result<(), ClusterError> {
    match component {
        Component::Etcd | Component::KubeApiserver => {
            wait_for(cluster, Component::KubeApiserver, "the API server to be ready", |cluster| {
                succeeds(&mut cluster.kubectl(ADMIN), &["get", "--raw=/readyz", "--request-timeout=5s"])
            })
        }
        // Nothing of these can be asked; what they do is waited for where it is needed.
        _ => Ok(()),
    }
}

pub(crate) fn wait_nodes_ready(cluster: &mut Cluster, component: Component, count: usize) -> Result<(), ClusterError> {
    let query = r#"--output=jsonpath={.items[*].status.conditions[?(@.type=="Ready")].status}"#;
    wait_for(cluster, component, "the nodes to be ready", |cluster| {
        let statuses = kubectl(cluster, &["get", "nodes", query], None)?;
        Ok(statuses.split_whitespace().filter(|status| *status == "True").count() == count)
    })
}

/// Polls until `reached`, the step's limit, or the end of any component this process started.
/// `component` is the one to blame, whose log the error shows.
pub(crate) fn wait_for(
    cluster: &mut Cluster,
    component: Component,
    what: &'static str,
    mut reached: impl FnMut(&Cluster) -> Result<bool, ClusterError>,
) -> Result<(), ClusterError> {
    let outcome = wait::poll(STEP_LIMIT, || {
        check_running(cluster)?;
        Ok::<_, ClusterError>(reached(cluster)?.then_some(()))
    })?;
    outcome.ok_or_else(|| ClusterError::TooLate {
        what,
        limit: STEP_LIMIT,
        component,
        log: log_tail(cluster, component),
    })
}

fn check_running(cluster: &mut Cluster) -> Result<(), ClusterError> {
    let ended =
        cluster.children.iter_mut().find_map(|(component, child)| Some((*component, child.try_wait().ok().flatten()?)));
    match ended {
        Some((component, status)) => Err(ClusterError::Ended { component, status, log: log_tail(cluster, component) }),
        None => Ok(()),
    }
}

fn log_tail(cluster: &Cluster, component: Component) -> String {
    let content = fs::read(cluster.folder.log(component)).unwrap_or_default();
    let text = String::from_utf8_lossy(&content);
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
}

/// Runs kubectl as the administrator and returns what it prints.
pub(crate) fn kubectl(cluster: &Cluster, arguments: &[&str], input: Option<&str>) -> Result<String, ClusterError> {
    let output = run(cluster.kubectl(ADMIN).args(arguments), input)?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(ClusterError::Kubectl { command: arguments.join(" "), output: said })
    }
}

fn succeeds(command: &mut Command, arguments: &[&str]) -> Result<bool, ClusterError> {
    Ok(run(command.args(arguments), None)?.status.success())
}

fn run(command: &mut Command, input: Option<&str>) -> Result<Output, ClusterError> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(ClusterError::NoKubectl)?;
    if let (Some(mut stdin), Some(text)) = (child.stdin.take(), input) {
        stdin.write_all(text.as_bytes()).map_err(ClusterError::NoKubectl)?;
    }
    child.wait_with_output().map_err(ClusterError::NoKubectl)
}
