//! Where things are kept on this machine: a cache that may be deleted, and the state of running clusters.

use std::env;
use std::path::PathBuf;

use thiserror::Error;

/// Neither an explicit folder nor a home directory is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("neither {explicit}, {xdg} nor HOME is set to an absolute path")]
pub struct NoHome {
    explicit: &'static str,
    xdg: &'static str,
}

/// `${INTERLOCK_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/interlock}`.
pub fn cache() -> Result<PathBuf, NoHome> {
    resolve("INTERLOCK_CACHE", "XDG_CACHE_HOME", ".cache", environment)
}

/// `${INTERLOCK_STATE:-${XDG_STATE_HOME:-$HOME/.local/state}/interlock}`.
pub fn state() -> Result<PathBuf, NoHome> {
    resolve("INTERLOCK_STATE", "XDG_STATE_HOME", ".local/state", environment)
}

/// A relative path would mean another folder after a change of directory, and the XDG specification says to ignore it.
fn environment(name: &str) -> Option<PathBuf> {
    env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute())
}

fn resolve(
    explicit: &'static str,
    xdg: &'static str,
    below_home: &str,
    variable: impl Fn(&str) -> Option<PathBuf>,
) -> Result<PathBuf, NoHome> {
    variable(explicit)
        .or_else(|| variable(xdg).map(|base| base.join("interlock")))
        .or_else(|| variable("HOME").map(|home| home.join(below_home).join("interlock")))
        .ok_or(NoHome { explicit, xdg })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::resolve;

    fn with(set: &[(&str, &str)]) -> Option<PathBuf> {
        resolve("INTERLOCK_STATE", "XDG_STATE_HOME", ".local/state", |name| {
            set.iter().find(|(key, _)| *key == name).map(|(_, value)| PathBuf::from(value))
        })
        .ok()
    }

    #[test]
    fn the_most_explicit_folder_wins() {
        let (own, xdg, home) = (("INTERLOCK_STATE", "/own"), ("XDG_STATE_HOME", "/xdg"), ("HOME", "/home/h"));
        assert_eq!(with(&[own, xdg, home]), Some("/own".into()));
        assert_eq!(with(&[xdg, home]), Some("/xdg/interlock".into()));
        assert_eq!(with(&[home]), Some("/home/h/.local/state/interlock".into()));
        assert_eq!(with(&[]), None);
    }
}
