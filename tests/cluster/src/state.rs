//! A cluster's folder: what lies where, what describes it, and how it is claimed and removed.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::components::Component;
use crate::network::Network;
use crate::process::{ProcessError, ProcessId, kill_all};
use crate::roots::{self, NoHome};

/// The longest name of a cluster: part of paths and of kubectl's cache.
const LONGEST_NAME: usize = 40;

/// Stands between a cluster's name and a number in the name of a folder that is being removed. No name contains it.
const DOOMED: &str = ".doomed-";

/// In a cluster's folder: a script that removes what is outside it, run after the processes have ended.
pub(crate) const TEARDOWN: &str = "teardown";

/// Why a cluster's folder could not be used.
#[derive(Debug, Error)]
pub enum StateError {
    /// Neither a state directory nor a home directory is known.
    #[error("no place for the state of clusters")]
    NoState(#[source] NoHome),
    /// The name cannot be the name of a folder.
    #[error("`{0}` is no name for a cluster: up to {LONGEST_NAME} lower case letters, digits and `-` are")]
    Name(String),
    /// There is such a cluster already.
    #[error("cluster `{0}` is already up")]
    AlreadyUp(String),
    /// There is no such cluster.
    #[error("there is no cluster `{0}`")]
    Absent(String),
    /// The folder cannot be read or written.
    #[error("cannot use {path}")]
    File {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The description is not what this version writes.
    #[error("cannot understand {path}")]
    Description {
        /// The description.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A process could not be ended.
    #[error("cannot end the processes of cluster `{name}`")]
    Processes {
        /// The cluster.
        name: String,
        /// The process and the reason.
        source: ProcessError,
    },
    /// The node's cgroups could not be removed.
    #[error("cannot remove what the node of cluster `{name}` left behind: {why}")]
    Teardown {
        /// The cluster.
        name: String,
        /// What the script said.
        why: String,
    },
}

/// How much the API server writes to its audit log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Audit {
    /// No audit log.
    #[default]
    Off,
    /// Who asked for what, for every request.
    Metadata,
    /// Also the bodies of requests and responses, but for those of the control plane's own components.
    Bodies,
}

/// Where a cluster's API server comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// This library started it.
    Started {
        /// The API server's address.
        server: String,
        /// What it writes to its audit log.
        audit: Audit,
    },
    /// It was there before, and is neither stopped nor changed by taking the cluster down.
    Existing {
        /// The administrator's kubeconfig it was given by.
        kubeconfig: PathBuf,
    },
}

/// Whether a cluster can be used yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Its owner is bringing it up.
    Starting,
    /// Its nodes are ready.
    Ready,
}

/// `cluster.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Description {
    /// The cluster's name, unique below the state root.
    pub name: String,
    /// Whether it can be used yet.
    pub phase: Phase,
    /// Where its API server comes from.
    pub origin: Origin,
    /// Whether it ends with its owner.
    pub ephemeral: bool,
    /// The process that brought it up.
    pub owner: ProcessId,
    /// The command line client of the server's version.
    pub kubectl: PathBuf,
    /// The addresses of its real node, if it may have one; its nodes are simulated otherwise.
    #[serde(default)]
    pub network: Option<Network>,
    /// How each component was started, to start it again.
    pub(crate) launches: BTreeMap<Component, Launch>,
}

/// How a component is started.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Launch {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
    pub(crate) environment: Vec<(String, String)>,
}

/// A cluster's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn admin_kubeconfig(&self) -> PathBuf {
        self.0.join("admin.kubeconfig")
    }

    pub(crate) fn user_kubeconfig(&self, user: &str) -> PathBuf {
        self.0.join("users").join(format!("{user}.kubeconfig"))
    }

    pub(crate) fn component_kubeconfig(&self, component: Component) -> PathBuf {
        self.0.join("components").join(format!("{component}.kubeconfig"))
    }

    pub(crate) fn certificate(&self, file: &str) -> PathBuf {
        self.0.join("pki").join(file)
    }

    pub(crate) fn config(&self, file: &str) -> PathBuf {
        self.0.join("config").join(file)
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.0.join("data")
    }

    pub(crate) fn kubectl_cache(&self) -> PathBuf {
        self.0.join("kubectl-cache")
    }

    pub(crate) fn log(&self, component: Component) -> PathBuf {
        self.0.join("logs").join(format!("{component}.log"))
    }

    pub(crate) fn audit_log(&self) -> PathBuf {
        self.0.join("logs").join("audit.log")
    }

    pub(crate) fn pid_file(&self, component: Component) -> PathBuf {
        self.0.join("pids").join(component.name())
    }

    /// The component's latest process, running or not.
    pub(crate) fn process(&self, component: Component) -> Option<ProcessId> {
        ProcessId::read(&self.pid_file(component))
    }

    pub(crate) fn describe(&self, description: &Description) -> Result<(), StateError> {
        let path = self.description();
        let text = serde_json::to_string_pretty(description)
            .map_err(|source| StateError::Description { path: path.clone(), source })?;
        // Others read it without a lock: they see the old one or the new one.
        let partial = path.with_extension("json.new");
        write_file(&partial, &text)?;
        fs::rename(&partial, &path).map_err(file_error(&path))
    }

    pub(crate) fn description_read(&self) -> Result<Description, StateError> {
        let path = self.description();
        let text = fs::read_to_string(&path).map_err(file_error(&path))?;
        serde_json::from_str(&text).map_err(|source| StateError::Description { path, source })
    }

    fn description(&self) -> PathBuf {
        self.0.join("cluster.json")
    }

    /// The pid of the first process inside a real node's namespaces.
    pub(crate) fn node_pid_file(&self) -> PathBuf {
        self.0.join("pids").join("node-init")
    }

    /// What a real node keeps.
    pub(crate) fn node(&self) -> PathBuf {
        self.0.join("node")
    }

    fn live_processes(&self) -> Vec<ProcessId> {
        let Ok(files) = fs::read_dir(self.0.join("pids")) else {
            return Vec::new();
        };
        files.flatten().filter_map(|file| ProcessId::read(&file.path())).filter(|process| process.is_alive()).collect()
    }

    /// Whether somebody still needs this cluster. What a crash or a reboot left behind, nobody does.
    fn is_in_use(&self) -> bool {
        let Ok(description) = self.description_read() else {
            // Written by another version of this library, or not yet when its owner was killed.
            return !self.live_processes().is_empty();
        };
        match description.phase {
            Phase::Starting => description.owner.is_alive(),
            Phase::Ready if description.ephemeral => description.owner.is_alive(),
            Phase::Ready => !self.live_processes().is_empty(),
        }
    }

    /// Ends the cluster's processes and removes the folder. The folder is renamed first: a component that is just
    /// starting then fails to write its pid file, and one that has written it is found.
    pub(crate) fn demolish(&self) -> Result<(), StateError> {
        let name = self.0.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let doomed = Self(self.0.with_file_name(format!("{name}{DOOMED}{}", std::process::id())));
        match fs::rename(&self.0, &doomed.0) {
            Ok(()) => doomed.remove(&name),
            Err(reason) if reason.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(StateError::File { path: self.0.clone(), source }),
        }
    }

    fn remove(&self, name: &str) -> Result<(), StateError> {
        kill_all(&self.live_processes()).map_err(|source| StateError::Processes { name: name.to_owned(), source })?;
        let script = self.0.join(TEARDOWN);
        if script.is_file() {
            let failed = |why| StateError::Teardown { name: name.to_owned(), why };
            let output = Command::new("sh").arg(&script).output().map_err(|reason| failed(reason.to_string()))?;
            if !output.status.success() {
                return Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
            }
        }
        fs::remove_dir_all(&self.0).map_err(file_error(&self.0))
    }
}

/// All clusters of this user.
#[derive(Clone, Debug)]
pub(crate) struct Registry(PathBuf);

impl Registry {
    pub(crate) fn open() -> Result<Self, StateError> {
        Self::at(roots::state().map_err(StateError::NoState)?)
    }

    fn at(root: PathBuf) -> Result<Self, StateError> {
        let clusters = root.join("clusters");
        fs::create_dir_all(&clusters).map_err(file_error(&clusters))?;
        Ok(Self(root))
    }

    /// Makes a cluster's folder, which nobody else can then make.
    pub(crate) fn claim(&self, description: &Description) -> Result<Folder, StateError> {
        let _lock = self.lock()?;
        let folder = self.folder(&description.name)?;
        if folder.path().exists() {
            if folder.is_in_use() {
                return Err(StateError::AlreadyUp(description.name.clone()));
            }
            folder.demolish()?;
        }
        // Only its owner may enter: it holds an administrator's keys.
        let mut private = DirBuilder::new();
        private.mode(0o700);
        private.create(folder.path()).map_err(file_error(folder.path()))?;
        for part in ["components", "config", "data", "logs", "pids", "pki", "users"] {
            let path = folder.path().join(part);
            private.create(&path).map_err(file_error(&path))?;
        }
        folder.describe(description)?;
        Ok(folder)
    }

    pub(crate) fn find(&self, name: &str) -> Result<Folder, StateError> {
        let folder = self.folder(name)?;
        if folder.path().is_dir() { Ok(folder) } else { Err(StateError::Absent(name.to_owned())) }
    }

    pub(crate) fn all(&self) -> Result<Vec<Folder>, StateError> {
        let mut folders: Vec<_> = self.entries()?.into_iter().filter(|name| is_name(name)).collect();
        folders.sort();
        folders.iter().map(|name| self.folder(name)).collect()
    }

    /// Removes what nobody needs: clusters whose owner was killed together with its watchdog, or before a reboot, and
    /// removals that were interrupted.
    pub(crate) fn sweep(&self) -> Result<(), StateError> {
        let _lock = self.lock()?;
        for folder in self.all()? {
            // A persistent cluster whose processes ended stays, with its logs, until a person takes it down.
            let persists = folder
                .description_read()
                .is_ok_and(|description| !description.ephemeral && description.phase == Phase::Ready);
            if !persists && !folder.is_in_use() {
                folder.demolish()?;
            }
        }
        for name in self.entries()? {
            let Some((cluster, remover)) = name.split_once(DOOMED) else {
                continue;
            };
            if !is_running(remover) {
                Folder(self.0.join("clusters").join(&name)).remove(cluster)?;
            }
        }
        Ok(())
    }

    fn folder(&self, name: &str) -> Result<Folder, StateError> {
        if is_name(name) {
            Ok(Folder(self.0.join("clusters").join(name)))
        } else {
            Err(StateError::Name(name.to_owned()))
        }
    }

    fn entries(&self) -> Result<Vec<String>, StateError> {
        let clusters = self.0.join("clusters");
        fs::read_dir(&clusters)
            .map_err(file_error(&clusters))?
            .map(|entry| Ok(entry.map_err(file_error(&clusters))?.file_name().to_string_lossy().into_owned()))
            .collect()
    }

    fn lock(&self) -> Result<File, StateError> {
        let path = self.0.join("lock");
        let lock = File::create(&path).map_err(file_error(&path))?;
        lock.lock().map_err(file_error(&path))?;
        Ok(lock)
    }
}

pub(crate) fn write_file(path: &Path, content: &str) -> Result<(), StateError> {
    fs::write(path, content).map_err(file_error(path))
}

fn is_running(pid: &str) -> bool {
    Path::new("/proc").join(pid).exists()
}

fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !name.is_empty() && name.len() <= LONGEST_NAME && name.bytes().all(allowed)
}

fn file_error(path: &Path) -> impl FnOnce(io::Error) -> StateError + use<> {
    let path = path.to_owned();
    move |source| StateError::File { path, source }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::path::PathBuf;

    use super::{Description, Origin, Phase, Registry, StateError, is_name};
    use crate::process::ProcessId;

    fn description(phase: Phase, owner: ProcessId) -> Description {
        Description {
            name: "c".to_owned(),
            phase,
            origin: Origin::Existing { kubeconfig: PathBuf::from("/k") },
            ephemeral: true,
            owner,
            kubectl: PathBuf::from("/kubectl"),
            network: None,
            launches: BTreeMap::new(),
        }
    }

    fn gone() -> ProcessId {
        serde_json::from_str(r#"{"pid": 1, "start_time": 18446744073709551615}"#).unwrap()
    }

    #[test]
    fn names_cannot_leave_the_state_root() {
        for name in ["", ".", "..", "a/b", "A", "a.doomed-1", &"a".repeat(41)] {
            assert!(!is_name(name), "{name}");
        }
        assert!(is_name("chaos-1"));
    }

    #[test]
    fn a_name_is_claimed_once_until_its_owner_is_gone() {
        let root = tempfile::tempdir().unwrap();
        let registry = Registry::at(root.path().to_owned()).unwrap();
        let own = ProcessId::own().unwrap();
        let folder = registry.claim(&description(Phase::Starting, own)).unwrap();
        assert!(matches!(registry.claim(&description(Phase::Starting, own)), Err(StateError::AlreadyUp(_))));
        folder.describe(&description(Phase::Ready, gone())).unwrap();
        fs::write(folder.path().join("leftover"), "").unwrap();
        let again = registry.claim(&description(Phase::Starting, own)).unwrap();
        assert!(!again.path().join("leftover").exists());
    }

    #[test]
    fn sweeping_removes_what_nobody_needs_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let registry = Registry::at(root.path().to_owned()).unwrap();
        let own = ProcessId::own().unwrap();
        let folder = registry.claim(&description(Phase::Ready, own)).unwrap();
        fs::create_dir(root.path().join("clusters/old.doomed-999999999")).unwrap();
        registry.sweep().unwrap();
        assert_eq!(registry.entries().unwrap(), ["c"]);
        folder.describe(&description(Phase::Ready, gone())).unwrap();
        registry.sweep().unwrap();
        assert_eq!(registry.entries().unwrap(), Vec::<String>::new());
    }
}
