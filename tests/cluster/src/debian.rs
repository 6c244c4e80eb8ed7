//! Programs that come from Debian packages. They are unpacked into the cache, so nothing is installed and no root is
//! needed.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use thiserror::Error;

use crate::roots::{self, NoHome};

/// What nobody reads here.
const LEFT_OUT: [&str; 5] =
    ["usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/lintian", "usr/lib/postgresql/15/lib/bitcode"];

/// Why a program is not there.
#[derive(Debug, Error)]
pub enum DebianError {
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
    /// A program of Debian's cannot be run, or failed.
    #[error("{program} could not get the package {package}: install it, or put its programs into PATH ({why})")]
    Package {
        /// `apt-get` or `dpkg-deb`.
        program: &'static str,
        /// The package.
        package: String,
        /// The end of what it printed, or the system's reason.
        why: String,
    },
}

impl DebianError {
    /// The package does not hold what it should.
    pub(crate) fn missing(name: &str) -> Self {
        package("dpkg-deb", name)("the package has no such programs".to_owned())
    }
}

/// A Prometheus server and its tool.
#[derive(Clone, Debug)]
pub struct Prometheus {
    /// `prometheus`.
    pub server: PathBuf,
    /// `promtool`, of the same version.
    pub tool: PathBuf,
}

impl Prometheus {
    /// Finds both programs in PATH or in the cache, or unpacks the newest package that apt knows into the cache.
    pub fn ensure() -> Result<Self, DebianError> {
        let found = |folder: &Path| {
            let (server, tool) = (folder.join("prometheus"), folder.join("promtool"));
            (server.is_file() && tool.is_file()).then_some(Self { server, tool })
        };
        if let Some(installed) = env::var_os("PATH").and_then(|path| env::split_paths(&path).find_map(|at| found(&at)))
        {
            return Ok(installed);
        }
        let home = roots::cache().map_err(DebianError::NoCache)?.join("tools").join("debian-prometheus");
        let binaries = home.join("usr/bin");
        if let Some(cached) = found(&binaries) {
            return Ok(cached);
        }
        unpack(&["prometheus"], &home)?;
        found(&binaries).ok_or_else(|| DebianError::missing("prometheus"))
    }
}

/// Server and clients of PostgreSQL.
#[derive(Clone, Debug)]
pub struct Postgres {
    /// The folder of `postgres`, `initdb`, `psql` and `pg_dump`.
    pub binaries: PathBuf,
}

impl Postgres {
    /// Finds the programs in PATH or where Debian's packages put them. Whoever is root gets the package installed: unpacked
    /// elsewhere, it could not be run by the user that the server needs.
    pub fn ensure() -> Result<Self, DebianError> {
        if let Some(found) = Self::find() {
            return Ok(found);
        }
        if !rustix::process::geteuid().is_root() {
            let why = "it is not installed, and only root can install it: apt-get install postgresql";
            return Err(package("apt-get", "postgresql")(why.to_owned()));
        }
        let here = Path::new("/");
        // The list of packages may be missing; what is wrong with it is told by the installation.
        let _ = run("apt-get", "postgresql", &["update", "-q"], here);
        run("apt-get", "postgresql", &["install", "-y", "-q", "--no-install-recommends", "postgresql"], here)?;
        Self::find().ok_or_else(|| package("apt-get", "postgresql")("it was installed without its programs".to_owned()))
    }

    fn find() -> Option<Self> {
        let path = env::var_os("PATH").unwrap_or_default();
        let installed = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().filter_map(Result::ok);
        let mut folders: Vec<_> = installed.map(|entry| entry.path().join("bin")).collect();
        folders.sort();
        folders.extend(env::split_paths(&path));
        let is_whole = |folder: &PathBuf| {
            ["postgres", "initdb", "psql", "pg_dump", "pg_basebackup"].iter().all(|name| folder.join(name).is_file())
        };
        folders.into_iter().rfind(is_whole).map(|binaries| Self { binaries })
    }
}

/// The server of OpenSSH, and its maker of keys.
#[derive(Clone, Debug)]
pub struct OpenSsh {
    /// `sshd`.
    pub server: PathBuf,
    /// `ssh-keygen`.
    pub keygen: PathBuf,
    /// Where libraries lie that the server needs; none if it is installed.
    pub libraries: Option<PathBuf>,
}

impl OpenSsh {
    /// Finds both programs, or unpacks them into the cache. Nothing is installed, as that would begin to serve this machine.
    pub fn ensure() -> Result<Self, DebianError> {
        let path = env::var_os("PATH").unwrap_or_default();
        // Servers are not in everybody's path.
        let folders: Vec<_> = env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]).collect();
        let find = |name: &str| folders.iter().map(|folder| folder.join(name)).find(|file| file.is_file());
        if let (Some(server), Some(keygen)) = (find("sshd"), find("ssh-keygen")) {
            return Ok(Self { server, keygen, libraries: None });
        }
        let root = unpacked("openssh", &["openssh-server", "openssh-client", "libwrap0", "libnsl2", "libtirpc3"])?;
        let (server, keygen) = (root.join("usr/sbin/sshd"), root.join("usr/bin/ssh-keygen"));
        if !(server.is_file() && keygen.is_file()) {
            return Err(DebianError::missing("openssh-server"));
        }
        Ok(Self { server, keygen, libraries: Some(libraries(&root)) })
    }
}

/// The folder below which these packages are unpacked, in the versions that apt knew when they were first asked for.
pub(crate) fn unpacked(label: &str, packages: &[impl AsRef<str>]) -> Result<PathBuf, DebianError> {
    // Tests of one process unpack one after the other, as the folder that they unpack to is that of the process.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let home = roots::cache().map_err(DebianError::NoCache)?.join("tools").join(format!("debian-{label}"));
    if !home.is_dir() {
        let packages: Vec<_> = packages.iter().map(AsRef::as_ref).collect();
        unpack(&packages, &home)?;
    }
    Ok(home)
}

/// The folder of `nft`, as installed or unpacked from Debian's packages, and that of the libraries it then needs.
pub(crate) fn nftables() -> Result<(PathBuf, Option<PathBuf>), DebianError> {
    let installed = env::var_os("PATH").and_then(|path| env::split_paths(&path).find(|at| at.join("nft").is_file()));
    if let Some(folder) = installed {
        return Ok((folder, None));
    }
    let packages = [
        "nftables",
        "libnftables1",
        "libnftnl11",
        "libmnl0",
        "libjansson4",
        "libxtables12",
        "libgmp10",
        "libedit2",
        "libbsd0",
        "libmd0",
        "libtinfo6",
    ];
    let root = unpacked("nftables", &packages)?;
    Ok((root.join("usr/sbin"), Some(libraries(&root))))
}

/// These packages and everything they depend on.
pub(crate) fn closure(packages: &[&str]) -> Result<Vec<String>, DebianError> {
    let name = packages.first().copied().unwrap_or_default();
    let mut arguments = vec!["depends", "--recurse", "--important"];
    arguments.extend(packages);
    let listed = output(Path::new("apt-cache"), name, &arguments)?;
    // A package stands at the beginning of a line; what is indented or in angle brackets is a relation.
    let named = |line: &&str| line.starts_with(|first: char| first.is_ascii_alphanumeric());
    Ok(listed.lines().filter(named).map(str::to_owned).collect())
}

/// What one of Debian's programs prints.
pub(crate) fn output(program: &Path, name: &str, arguments: &[&str]) -> Result<String, DebianError> {
    let failed = package("a program of Debian's", name);
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    match output {
        Ok(output) if output.status.success() => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        Ok(output) => Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned())),
        Err(reason) => Err(failed(reason.to_string())),
    }
}

/// Where the libraries of unpacked packages lie.
pub(crate) fn libraries(root: &Path) -> PathBuf {
    root.join(format!("usr/lib/{}-linux-gnu", env::consts::ARCH))
}

/// Unpacks beside the goal and renames, so that nobody finds half of it.
fn unpack(packages: &[&str], home: &Path) -> Result<(), DebianError> {
    let cache = |path: &Path| {
        let path = path.to_owned();
        move |source| DebianError::Cache { path, source }
    };
    let partial = home.with_extension(format!("partial-{}", process::id()));
    fs::create_dir_all(&partial).map_err(cache(&partial))?;
    let fetched = fetch(packages, &partial);
    let placed = fetched.and_then(|()| match fs::rename(&partial, home) {
        Ok(()) => Ok(()),
        // Another process was faster.
        Err(_) if home.is_dir() => Ok(()),
        Err(error) => Err(cache(home)(error)),
    });
    if partial.is_dir() {
        fs::remove_dir_all(&partial).map_err(cache(&partial))?;
    }
    placed
}

/// Downloads and extracts the packages into the folder.
fn fetch(packages: &[&str], folder: &Path) -> Result<(), DebianError> {
    let name = packages.first().copied().unwrap_or_default();
    let arguments: Vec<_> = ["download"].iter().chain(packages).copied().collect();
    run("apt-get", name, &arguments, folder)?;
    let cache = |source| DebianError::Cache { path: folder.to_owned(), source };
    for file in fs::read_dir(folder).map_err(cache)? {
        let archive = file.map_err(cache)?.path();
        if archive.extension().is_some_and(|extension| extension == "deb") {
            run("dpkg-deb", name, &["--extract", &archive.to_string_lossy(), "."], folder)?;
            fs::remove_file(&archive).map_err(cache)?;
        }
    }
    for path in LEFT_OUT.map(|path| folder.join(path)) {
        if path.is_dir() {
            fs::remove_dir_all(&path).map_err(cache)?;
        }
    }
    Ok(())
}

fn run(program: &'static str, name: &str, arguments: &[&str], folder: &Path) -> Result<(), DebianError> {
    let output = Command::new(program).args(arguments).current_dir(folder).stdin(Stdio::null()).output();
    let output = output.map_err(|error| package(program, name)(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(package(program, name)(said.lines().next_back().unwrap_or_default().to_owned()))
}

fn package(program: &'static str, package: &str) -> impl FnOnce(String) -> DebianError + use<> {
    let package = package.to_owned();
    move |why| DebianError::Package { program, package, why }
}
