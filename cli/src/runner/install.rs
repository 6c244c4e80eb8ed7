//! Copying programs to where the other containers find them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Copies this program.
///
/// # Errors
/// It cannot be read or written.
pub(super) fn own(dir: &Path) -> Result<(), String> {
    let from =
        std::env::current_exe().map_err(|error| format!("where this program is cannot be found out: {error}"))?;
    copy(&from, dir, "interlock")
}

/// Copies a program that is found by the search path.
///
/// # Errors
/// It is not there, or cannot be read or written.
pub(super) fn tool(name: &str, dir: &Path) -> Result<(), String> {
    let from = find(name).ok_or_else(|| format!("this image has no {name}: name one that has in pod.image"))?;
    copy(&from, dir, name)
}

/// Where a program is.
pub(super) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file())
}

fn copy(from: &Path, dir: &Path, name: &str) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{} cannot be copied to {}: {error}", from.display(), dir.display());
    // A container that was killed while it copied leaves nothing that could be run.
    let (partial, whole) = (dir.join(format!(".{name}.partial")), dir.join(name));
    fs::copy(from, &partial).map_err(failed)?;
    fs::set_permissions(&partial, fs::Permissions::from_mode(0o755)).map_err(failed)?;
    fs::rename(&partial, &whole).map_err(failed)
}
