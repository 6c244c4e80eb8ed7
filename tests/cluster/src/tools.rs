//! Programs built from pinned Go modules and kept in a cache.
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

use thiserror::Error;

use crate::debian::{self, DebianError};
use crate::modules::Tool;
use crate::roots::{self, NoHome};

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
    /// What a tool is linked with is not there.
    #[error("a library is not there")]
    Library(#[from] DebianError),
    /// The embedded module file does not name the version of the module it is for.
    #[error("the module file of {module} does not require {package}")]
    Unpinned {
        /// The tool module.
        module: &'static str,
        /// The Go module it should require.
        package: &'static str,
    },
}

/// Where each tool lies.
#[derive(Clone, Debug)]
pub struct Tools {
    paths: BTreeMap<Tool, PathBuf>,
}

impl Tools {
    /// Finds the control plane's tools, and builds those that are neither in `KUBEBUILDER_ASSETS` nor in the cache. The
    /// first build takes about ten minutes on two cores; progress goes to standard error.
    pub fn ensure() -> Result<Self, ToolsError> {
        Self::ensure_these(&Tool::CONTROL_PLANE)
    }

    /// The same for these tools alone.
    pub fn ensure_these(tools: &[Tool]) -> Result<Self, ToolsError> {
        let assets = env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from);
        let cache = roots::cache().map_err(ToolsError::NoCache)?.join("tools");
        let mut paths = BTreeMap::new();
        let mut missing = Vec::new();
        for &tool in tools {
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
        // The constructor inserts every tool it was asked for; the bare name would be looked up in PATH.
        self.paths.get(&tool).map_or_else(|| Path::new(tool.file_name()), PathBuf::as_path)
    }
}

fn installed(tool: Tool, assets: Option<&Path>) -> Option<PathBuf> {
    // That folder is for control planes; what it calls `node` or `runc` is something else, or too old.
    let assets = assets.filter(|_| Tool::CONTROL_PLANE.contains(&tool));
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
    for (name, content) in module.files {
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
    let mut linker_flags = tool.module().linker_flags()?;
    let mut command = Command::new("go");
    command.env("CGO_ENABLED", "0");
    if tool == Tool::Runc {
        // Its first steps in a new namespace are C. Linked statically, it needs no library where it runs.
        linker_flags.push_str(" -linkmode external -extldflags -static");
        let root = debian::unpacked("libseccomp", &["libseccomp-dev", "libseccomp2"])?;
        command.env("CGO_ENABLED", "1").env("PKG_CONFIG_SYSROOT_DIR", &root);
        command.env("PKG_CONFIG_LIBDIR", debian::libraries(&root).join("pkgconfig"));
    }
    let output = command
        .args(["build", "-mod=readonly", "-trimpath", "-buildvcs=false", "-tags", tool.recipe().tags, "-ldflags"])
        .arg(linker_flags)
        .arg("-o")
        .arg(target)
        .arg(tool.package())
        .current_dir(source)
        // A workspace file above the cache, or one named by the environment, would change what is built.
        .env("GOWORK", "off")
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

    use super::{Tool, installed};

    #[test]
    fn assets_win_for_the_tools_they_hold() {
        let assets = tempfile::tempdir().unwrap();
        fs::write(assets.path().join("etcd"), "").unwrap();
        assert_eq!(installed(Tool::Etcd, Some(assets.path())), Some(assets.path().join("etcd")));
        assert_eq!(installed(Tool::Kwok, Some(assets.path())), None);
        assert_eq!(installed(Tool::Etcd, None), None);
        fs::write(assets.path().join("node"), "").unwrap();
        assert_eq!(installed(Tool::NodeHelper, Some(assets.path())), None);
    }
}
