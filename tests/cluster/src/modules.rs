//! Which programs there are, and the pinned Go module each is built from.

use ring::digest::{Context, SHA256};

use crate::tools::ToolsError;

/// Enough of a digest to tell two versions of the module files apart by eye and by accident.
const DIGEST_BYTES: usize = 6;

/// A program that is built from a Go module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tool {
    /// The store.
    Etcd,
    /// The API.
    KubeApiserver,
    /// The built-in controllers.
    KubeControllerManager,
    /// Assigns pods to nodes.
    KubeScheduler,
    /// The command line client, of the server's version.
    Kubectl,
    /// Simulates nodes and the life of their pods.
    Kwok,
    /// Runs the pods of a real node.
    Kubelet,
    /// Makes Services reachable on a real node.
    KubeProxy,
    /// Runs the containers of a real node.
    Containerd,
    /// Stands between containerd and a pod's processes.
    ContainerdShim,
    /// containerd's command line client.
    Ctr,
    /// Starts a container.
    Runc,
    /// Connects a pod with the node.
    CniPtp,
    /// Brings up a pod's loopback interface.
    CniLoopback,
    /// Assigns pods their addresses.
    CniHostLocal,
    /// This repository's own: the pause process, the way to the API server and the enforcement of NetworkPolicies.
    NodeHelper,
    /// Backs up and restores.
    Restic,
    /// Keeps repositories behind HTTP, and can refuse to remove anything.
    RestServer,
    /// This repository's own: the web server of the tests.
    Web,
    /// What gray releases are measured against.
    ArgoRollouts,
}

/// How Go builds a tool.
pub(crate) struct Recipe {
    file_name: &'static str,
    package: &'static str,
    pub(crate) module: &'static Module,
    pub(crate) tags: &'static str,
}

impl Tool {
    /// What every cluster needs, in the order in which it is built.
    pub const CONTROL_PLANE: [Self; 6] =
        [Self::Etcd, Self::KubeApiserver, Self::KubeControllerManager, Self::KubeScheduler, Self::Kubectl, Self::Kwok];

    /// What a real node needs beside that.
    pub const NODE: [Self; 10] = [
        Self::Kubelet,
        Self::KubeProxy,
        Self::Containerd,
        Self::ContainerdShim,
        Self::Ctr,
        Self::Runc,
        Self::CniPtp,
        Self::CniLoopback,
        Self::CniHostLocal,
        Self::NodeHelper,
    ];

    /// The program's file name.
    pub const fn file_name(self) -> &'static str {
        self.recipe().file_name
    }

    pub(crate) const fn package(self) -> &'static str {
        self.recipe().package
    }

    pub(crate) const fn module(self) -> &'static Module {
        self.recipe().module
    }

    pub(crate) const fn recipe(self) -> Recipe {
        let (file_name, package, module, tags) = match self {
            Self::Etcd => ("etcd", "go.etcd.io/etcd/server/v3", &ETCD, ""),
            Self::KubeApiserver => ("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver", &KUBERNETES, ""),
            Self::KubeControllerManager => {
                ("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager", &KUBERNETES, "")
            }
            Self::KubeScheduler => ("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler", &KUBERNETES, ""),
            Self::Kubectl => ("kubectl", "k8s.io/kubernetes/cmd/kubectl", &KUBERNETES, ""),
            Self::Kwok => ("kwok", "sigs.k8s.io/kwok/cmd/kwok", &KWOK, ""),
            Self::Kubelet => ("kubelet", "k8s.io/kubernetes/cmd/kubelet", &KUBERNETES, ""),
            Self::KubeProxy => ("kube-proxy", "k8s.io/kubernetes/cmd/kube-proxy", &KUBERNETES, ""),
            Self::Containerd => {
                ("containerd", "github.com/containerd/containerd/v2/cmd/containerd", &CONTAINERD, CONTAINERD_TAGS)
            }
            Self::ContainerdShim => (
                "containerd-shim-runc-v2",
                "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
                &CONTAINERD,
                CONTAINERD_TAGS,
            ),
            Self::Ctr => ("ctr", "github.com/containerd/containerd/v2/cmd/ctr", &CONTAINERD, CONTAINERD_TAGS),
            Self::Runc => ("runc", "github.com/opencontainers/runc", &RUNC, "seccomp netgo osusergo"),
            Self::CniPtp => ("ptp", "github.com/containernetworking/plugins/plugins/main/ptp", &CNI, ""),
            Self::CniLoopback => ("loopback", "github.com/containernetworking/plugins/plugins/main/loopback", &CNI, ""),
            Self::CniHostLocal => {
                ("host-local", "github.com/containernetworking/plugins/plugins/ipam/host-local", &CNI, "")
            }
            Self::NodeHelper => ("node", ".", &NODE, ""),
            Self::Restic => ("restic", "github.com/restic/restic/cmd/restic", &RESTIC, ""),
            Self::RestServer => ("rest-server", "github.com/restic/rest-server/cmd/rest-server", &REST_SERVER, ""),
            Self::Web => ("web", ".", &WEB, ""),
            Self::ArgoRollouts => {
                ("rollouts-controller", "github.com/argoproj/argo-rollouts/cmd/rollouts-controller", &ARGO_ROLLOUTS, "")
            }
        };
        Recipe { file_name, package, module, tags }
    }
}

const CONTAINERD_TAGS: &str = "no_btrfs no_zfs no_devmapper";

/// A Go module of this repository that pins one upstream module and everything below it.
pub(crate) struct Module {
    pub(crate) name: &'static str,
    /// None if the sources are this repository's own.
    upstream: Option<&'static str>,
    /// Go packages with the variables `gitVersion`, `gitMajor` and `gitMinor`, unset in a plain build.
    version_packages: &'static [&'static str],
    /// The module files, and the sources of an own module.
    pub(crate) files: &'static [(&'static str, &'static str)],
}

const fn upstream(
    name: &'static str,
    upstream: &'static str,
    files: &'static [(&'static str, &'static str)],
) -> Module {
    Module { name, upstream: Some(upstream), version_packages: &[], files }
}

macro_rules! module_files {
    ($($folder:literal: $($file:literal),+);+) => {
        &[$($(($file, include_str!(concat!("../", $folder, "/", $file)))),+),+]
    };
}

const ETCD: Module = upstream("etcd", "go.etcd.io/etcd/server/v3", module_files!["tools/etcd": "go.mod", "go.sum"]);
const KUBERNETES: Module = Module {
    version_packages: &["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"],
    ..upstream("kubernetes", "k8s.io/kubernetes", module_files!["tools/kubernetes": "go.mod", "go.sum"])
};
const KWOK: Module = upstream("kwok", "sigs.k8s.io/kwok", module_files!["tools/kwok": "go.mod", "go.sum"]);
const CONTAINERD: Module = upstream(
    "containerd",
    "github.com/containerd/containerd/v2",
    module_files!["tools/containerd": "go.mod", "go.sum"],
);
const RUNC: Module =
    upstream("runc", "github.com/opencontainers/runc", module_files!["tools/runc": "go.mod", "go.sum"]);
const CNI: Module =
    upstream("cni", "github.com/containernetworking/plugins", module_files!["tools/cni": "go.mod", "go.sum"]);
const RESTIC: Module =
    upstream("restic", "github.com/restic/restic", module_files!["tools/restic": "go.mod", "go.sum"]);
const REST_SERVER: Module =
    upstream("rest-server", "github.com/restic/rest-server", module_files!["tools/rest-server": "go.mod", "go.sum"]);
const NODE: Module = Module {
    name: "node",
    upstream: None,
    version_packages: &[],
    files: module_files!["tools/node": "go.mod", "main.go", "objects.go", "policies.go", "watch.go"],
};
// The newest version that Go 1.26.8 builds.
const ARGO_ROLLOUTS: Module = upstream(
    "argo-rollouts",
    "github.com/argoproj/argo-rollouts",
    module_files!["tools/argo-rollouts": "go.mod", "go.sum"],
);
const WEB: Module = Module {
    name: "web",
    upstream: None,
    version_packages: &[],
    files: module_files!["../images/web": "go.mod", "main.go"],
};

impl Module {
    /// The upstream version, read from the module file so that it is written in one place.
    pub(crate) fn version(&self) -> Result<&'static str, ToolsError> {
        let Some(upstream) = self.upstream else {
            return Ok("own");
        };
        let go_mod = self.files.iter().find(|(name, _)| *name == "go.mod").map_or("", |(_, content)| content);
        go_mod
            .lines()
            .filter_map(|line| line.trim().trim_start_matches("require ").strip_prefix(upstream))
            .find_map(|rest| {
                rest.split_whitespace().next().filter(|word| word.starts_with('v') && rest.starts_with(' '))
            })
            .ok_or(ToolsError::Unpinned { module: self.name, package: upstream })
    }

    /// The folder of this module in the cache: another version or another dependency is another folder.
    pub(crate) fn cache_key(&self) -> Result<String, ToolsError> {
        Ok(format!("{}-{}-{:0width$x}", self.name, self.version()?, self.digest(), width = 2 * DIGEST_BYTES))
    }

    fn digest(&self) -> u64 {
        let mut digest = Context::new(&SHA256);
        for (index, (_, content)) in self.files.iter().enumerate() {
            if index > 0 {
                digest.update(&[0]);
            }
            digest.update(content.as_bytes());
        }
        let mut head = [0; size_of::<u64>()];
        head[size_of::<u64>() - DIGEST_BYTES..].copy_from_slice(&digest.finish().as_ref()[..DIGEST_BYTES]);
        u64::from_be_bytes(head)
    }

    pub(crate) fn linker_flags(&self) -> Result<String, ToolsError> {
        let version = self.version()?;
        let mut numbers = version.trim_start_matches('v').split('.');
        let (major, minor) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
        let mut flags = vec!["-s -w".to_owned()];
        for package in self.version_packages {
            for (variable, value) in [("gitVersion", version), ("gitMajor", major), ("gitMinor", minor)] {
                flags.push(format!("-X {package}.{variable}={value}"));
            }
        }
        Ok(flags.join(" "))
    }
}

/// The version of Kubernetes that is built.
pub fn kubernetes_version() -> Result<&'static str, ToolsError> {
    KUBERNETES.version()
}

#[cfg(test)]
mod tests {
    use super::{CONTAINERD, ETCD, KUBERNETES, KWOK, Module, NODE, REST_SERVER, RESTIC, ToolsError};

    #[test]
    fn versions_are_those_of_the_module_files() {
        assert_eq!(ETCD.version().unwrap(), "v3.7.3");
        assert_eq!(KUBERNETES.version().unwrap(), "v1.37.2");
        assert_eq!(KWOK.version().unwrap(), "v0.8.0");
        assert_eq!(CONTAINERD.version().unwrap(), "v2.4.2");
        assert_eq!(RESTIC.version().unwrap(), "v0.19.1");
        assert_eq!(REST_SERVER.version().unwrap(), "v0.14.0");
        assert_eq!(NODE.version().unwrap(), "own");
    }

    #[test]
    fn a_module_with_a_longer_path_is_not_taken_for_the_upstream() {
        let module = Module { files: &[("go.mod", "require k8s.io/kubernetes/sub v9.9.9\n")], ..KUBERNETES };
        assert!(matches!(module.version(), Err(ToolsError::Unpinned { module: "kubernetes", .. })));
    }

    #[test]
    fn the_cache_key_names_the_version_and_changes_with_the_module_files() {
        let key = KUBERNETES.cache_key().unwrap();
        assert!(key.starts_with("kubernetes-v1.37.2-"), "{key}");
        assert_eq!(key.len(), "kubernetes-v1.37.2-".len() + 12);
        assert_eq!(key, KUBERNETES.cache_key().unwrap());
        let moved_line = Module { files: &[("go.mod", "\n"), ("go.sum", "")], ..ETCD };
        let other = Module { files: &[("go.mod", ""), ("go.sum", "\n")], ..ETCD };
        assert_ne!(moved_line.digest(), other.digest());
    }

    #[test]
    fn kubernetes_reports_its_version_and_others_their_own() {
        let flags = KUBERNETES.linker_flags().unwrap();
        assert!(flags.contains("-X k8s.io/component-base/version.gitVersion=v1.37.2"));
        assert!(flags.contains("-X k8s.io/component-base/version.gitMinor=37"));
        assert_eq!(ETCD.linker_flags().unwrap(), "-s -w");
    }
}
