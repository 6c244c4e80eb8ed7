//! The control plane's programs, built from pinned Go modules and kept in a cache.
//!
//! The module files are part of this library, so a test binary needs neither the repository nor a download page: Go's
//! module proxy and checksum database are the only sources.
//!
//! To move to another version, change it in `tools/<module>/go.mod` and run `go mod tidy` there; for Kubernetes, the
//! `replace` lines move with it, because its staging modules are released as v0.X.Y next to v1.X.Y.

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::time::Instant;

use ring::digest::{Context, SHA256};
use thiserror::Error;

use crate::roots::{self, NoHome};

/// Enough of a digest to tell two versions of the module files apart by eye and by accident.
const DIGEST_BYTES: usize = 6;

/// Why the tools are not there.
#[derive(Debug, Error)]
pub enum ToolsError {
    /// Neither a cache directory nor a home directory is known.
    #[error("no place for the tool cache")]
    NoCache(#[source] NoHome),
    /// The cache cannot be written.
    #[error("cannot write {path} in the tool cache")]
    Cache {
        /// The file or directory.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// There is no Go.
    #[error(
        "cannot run `go`, which builds {tool}: install Go 1.26 or newer, or point KUBEBUILDER_ASSETS at a directory that holds {tool}"
    )]
    NoGo {
        /// The tool to be built.
        tool: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// Go refused.
    #[error("building {tool} failed:\n{output}")]
    Build {
        /// The tool to be built.
        tool: &'static str,
        /// The end of what Go printed.
        output: String,
    },
    /// The embedded module file does not name the version of the module it is for.
    #[error("the module file of {module} does not require {package}")]
    Unpinned {
        /// The tool module.
        module: &'static str,
        /// The Go module it should require.
        package: &'static str,
    },
}

/// A program of the control plane.
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
}

impl Tool {
    /// Every tool, in the order in which they are built.
    pub const ALL: [Self; 6] =
        [Self::Etcd, Self::KubeApiserver, Self::KubeControllerManager, Self::KubeScheduler, Self::Kubectl, Self::Kwok];

    /// The program's file name.
    pub const fn file_name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::KubeApiserver => "kube-apiserver",
            Self::KubeControllerManager => "kube-controller-manager",
            Self::KubeScheduler => "kube-scheduler",
            Self::Kubectl => "kubectl",
            Self::Kwok => "kwok",
        }
    }

    const fn package(self) -> &'static str {
        match self {
            Self::Etcd => "go.etcd.io/etcd/server/v3",
            Self::KubeApiserver => "k8s.io/kubernetes/cmd/kube-apiserver",
            Self::KubeControllerManager => "k8s.io/kubernetes/cmd/kube-controller-manager",
            Self::KubeScheduler => "k8s.io/kubernetes/cmd/kube-scheduler",
            Self::Kubectl => "k8s.io/kubernetes/cmd/kubectl",
            Self::Kwok => "sigs.k8s.io/kwok/cmd/kwok",
        }
    }

    const fn module(self) -> &'static Module {
        match self {
            Self::Etcd => &ETCD,
            Self::KubeApiserver | Self::KubeControllerManager | Self::KubeScheduler | Self::Kubectl => &KUBERNETES,
            Self::Kwok => &KWOK,
        }
    }
}

/// A Go module of this repository that pins one upstream module and everything below it.
struct Module {
    name: &'static str,
    upstream: &'static str,
    /// Go packages with the variables `gitVersion`, `gitMajor` and `gitMinor`, unset in a plain build.
    version_packages: &'static [&'static str],
    go_mod: &'static str,
    go_sum: &'static str,
}

const ETCD: Module = Module {
    name: "etcd",
    upstream: "go.etcd.io/etcd/server/v3",
    version_packages: &[],
    go_mod: include_str!("../tools/etcd/go.mod"),
    go_sum: include_str!("../tools/etcd/go.sum"),
};

const KUBERNETES: Module = Module {
    name: "kubernetes",
    upstream: "k8s.io/kubernetes",
    version_packages: &["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"],
    go_mod: include_str!("../tools/kubernetes/go.mod"),
    go_sum: include_str!("../tools/kubernetes/go.sum"),
};

const KWOK: Module = Module {
    name: "kwok",
    upstream: "sigs.k8s.io/kwok",
    version_packages: &[],
    go_mod: include_str!("../tools/kwok/go.mod"),
    go_sum: include_str!("../tools/kwok/go.sum"),
};

impl Module {
    /// The upstream version, read from the module file so that it is written in one place.
    fn version(&self) -> Result<&'static str, ToolsError> {
        self.go_mod
            .lines()
            .filter_map(|line| line.trim().trim_start_matches("require ").strip_prefix(self.upstream))
            .find_map(|rest| {
                rest.split_whitespace().next().filter(|word| word.starts_with('v') && rest.starts_with(' '))
            })
            .ok_or(ToolsError::Unpinned { module: self.name, package: self.upstream })
    }

    /// The folder of this module in the cache: another version or another dependency is another folder.
    fn cache_key(&self) -> Result<String, ToolsError> {
        let mut digest = Context::new(&SHA256);
        digest.update(self.go_mod.as_bytes());
        digest.update(&[0]);
        digest.update(self.go_sum.as_bytes());
        let mut head = [0; size_of::<u64>()];
        head[size_of::<u64>() - DIGEST_BYTES..].copy_from_slice(&digest.finish().as_ref()[..DIGEST_BYTES]);
        let short = u64::from_be_bytes(head);
        Ok(format!("{}-{}-{short:0width$x}", self.name, self.version()?, width = 2 * DIGEST_BYTES))
    }

    fn linker_flags(&self) -> Result<String, ToolsError> {
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

/// Where each tool lies.
#[derive(Clone, Debug)]
pub struct Tools {
    paths: BTreeMap<Tool, PathBuf>,
}

impl Tools {
    /// Finds every tool, and builds those that are neither in `KUBEBUILDER_ASSETS` nor in the cache. The first build
    /// takes about ten minutes on two cores; progress goes to standard error.
    pub fn ensure() -> Result<Self, ToolsError> {
        let assets = env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from);
        let cache = roots::cache().map_err(ToolsError::NoCache)?.join("tools");
        let mut paths = BTreeMap::new();
        let mut missing = Vec::new();
        for tool in Tool::ALL {
            let path = if let Some(path) = installed(tool, assets.as_deref()) { path } else { cached(tool, &cache)? };
            if !path.is_file() {
                missing.push(tool);
            }
            paths.insert(tool, path);
        }
        for (index, &tool) in missing.iter().enumerate() {
            build(tool, &cache, (index + 1, missing.len()))?;
        }
        Ok(Self { paths })
    }

    /// The program's path.
    pub fn path(&self, tool: Tool) -> &Path {
        // `ensure` is the only constructor and inserts every tool; the bare name would be looked up in PATH.
        self.paths.get(&tool).map_or_else(|| Path::new(tool.file_name()), PathBuf::as_path)
    }
}

/// The version of Kubernetes that is built.
pub fn kubernetes_version() -> Result<&'static str, ToolsError> {
    KUBERNETES.version()
}

fn installed(tool: Tool, assets: Option<&Path>) -> Option<PathBuf> {
    assets.map(|folder| folder.join(tool.file_name())).filter(|path| path.is_file())
}

fn cached(tool: Tool, cache: &Path) -> Result<PathBuf, ToolsError> {
    Ok(cache.join(tool.module().cache_key()?).join("bin").join(tool.file_name()))
}

fn build(tool: Tool, cache: &Path, (number, count): (usize, usize)) -> Result<(), ToolsError> {
    let module = tool.module();
    let home = cache.join(module.cache_key()?);
    let (source, binaries) = (home.join("src"), home.join("bin"));
    for folder in [&source, &binaries] {
        fs::create_dir_all(folder).map_err(cache_error(folder))?;
    }
    let lock_path = home.join("lock");
    let lock = File::create(&lock_path).map_err(cache_error(&lock_path))?;
    if lock.try_lock().is_err() {
        eprintln!("waiting for another process that builds {}", module.name);
        lock.lock().map_err(cache_error(&lock_path))?;
    }
    let target = binaries.join(tool.file_name());
    if target.is_file() {
        // Another process built it while this one waited for the lock.
        return Ok(());
    }
    eprintln!(
        "building {} {} ({number}/{count}), cached in {}",
        tool.file_name(),
        module.version()?,
        binaries.display()
    );
    let began = Instant::now();
    for (name, content) in [("go.mod", module.go_mod), ("go.sum", module.go_sum)] {
        let path = source.join(name);
        fs::write(&path, content).map_err(cache_error(&path))?;
    }
    let partial = binaries.join(format!(".{}.partial-{}", tool.file_name(), process::id()));
    go_build(tool, &source, &partial)?;
    fs::rename(&partial, &target).map_err(cache_error(&target))?;
    eprintln!("built {} in {} s", tool.file_name(), began.elapsed().as_secs());
    Ok(())
}

fn go_build(tool: Tool, source: &Path, target: &Path) -> Result<(), ToolsError> {
    let output = Command::new("go")
        .args(["build", "-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags"])
        .arg(tool.module().linker_flags()?)
        .arg("-o")
        .arg(target)
        .arg(tool.package())
        .current_dir(source)
        // A workspace file above the cache, or one named by the environment, would change what is built.
        .env("GOWORK", "off")
        .env("CGO_ENABLED", "0")
        .stdin(Stdio::null())
        .output()
        .map_err(|source| ToolsError::NoGo { tool: tool.file_name(), source })?;
    if output.status.success() {
        return Ok(());
    }
    let lines: Vec<_> = String::from_utf8_lossy(&output.stderr).lines().map(str::to_owned).collect();
    let shown = &lines[lines.len().saturating_sub(30)..];
    Err(ToolsError::Build { tool: tool.file_name(), output: shown.join("\n") })
}

fn cache_error(path: &Path) -> impl FnOnce(io::Error) -> ToolsError + use<> {
    let path = path.to_owned();
    move |source| ToolsError::Cache { path, source }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{ETCD, KUBERNETES, KWOK, Module, Tool, ToolsError, installed};

    #[test]
    fn versions_are_those_of_the_module_files() {
        assert_eq!(ETCD.version().unwrap(), "v3.7.3");
        assert_eq!(KUBERNETES.version().unwrap(), "v1.37.2");
        assert_eq!(KWOK.version().unwrap(), "v0.8.0");
    }

    #[test]
    fn a_module_with_a_longer_path_is_not_taken_for_the_upstream() {
        let module = Module { go_mod: "require k8s.io/kubernetes/sub v9.9.9\n", ..KUBERNETES };
        assert!(matches!(module.version(), Err(ToolsError::Unpinned { module: "kubernetes", .. })));
    }

    #[test]
    fn the_cache_key_names_the_version_and_changes_with_the_module_files() {
        let key = KUBERNETES.cache_key().unwrap();
        assert!(key.starts_with("kubernetes-v1.37.2-"), "{key}");
        assert_eq!(key.len(), "kubernetes-v1.37.2-".len() + 12);
        assert_eq!(key, KUBERNETES.cache_key().unwrap());
        assert_ne!(key, Module { go_sum: "other", ..KUBERNETES }.cache_key().unwrap());
        let moved_line = Module { go_mod: KUBERNETES.go_mod.strip_suffix('\n').unwrap(), ..KUBERNETES };
        assert_ne!(key, moved_line.cache_key().unwrap());
    }

    #[test]
    fn kubernetes_reports_its_version_and_others_their_own() {
        let flags = KUBERNETES.linker_flags().unwrap();
        assert!(flags.contains("-X k8s.io/component-base/version.gitVersion=v1.37.2"));
        assert!(flags.contains("-X k8s.io/component-base/version.gitMinor=37"));
        assert_eq!(ETCD.linker_flags().unwrap(), "-s -w");
    }

    #[test]
    fn assets_win_for_the_tools_they_hold() {
        let assets = tempfile::tempdir().unwrap();
        fs::write(assets.path().join("etcd"), "").unwrap();
        assert_eq!(installed(Tool::Etcd, Some(assets.path())), Some(assets.path().join("etcd")));
        assert_eq!(installed(Tool::Kwok, Some(assets.path())), None);
        assert_eq!(installed(Tool::Etcd, None), None);
    }
}
