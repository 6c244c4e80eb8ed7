//! What can go wrong with a command, in sentences a person can act on, and the exit code of each.

use std::process::ExitCode;

use thiserror::Error;

/// Exit codes, as documented in `interlock --help`.
pub mod exit {
    /// Something failed.
    pub const FAILED: u8 = 1;
    /// The command line is wrong.
    pub const USAGE: u8 = 2;
    /// The server or the policy refused.
    pub const REFUSED: u8 = 3;
    /// The change waits.
    pub const WAITS: u8 = 4;
    /// The change did not succeed.
    pub const NOT_SUCCEEDED: u8 = 5;
    /// There is no such object.
    pub const NOT_FOUND: u8 = 6;
}

/// Why a command failed.
#[derive(Debug, Error)]
pub enum CliError {
    /// The server, RBAC or Interlock said no.
    #[error("{0}")]
    Refused(String),
    /// There is no such object.
    #[error("{0}")]
    NotFound(String),
    /// The command line asks for something that cannot be.
    #[error("{0}")]
    Usage(String),
    /// The cluster does not answer.
    #[error("the cluster does not answer: {0}; check --kubeconfig and --context")]
    Cluster(String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl CliError {
    /// The error in the words of the server, without the noise around them.
    pub fn from_kube(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => {
                let message = plain(&status.message);
                match status.code {
                    404 => Self::NotFound(message),
                    403 | 409 | 422 => Self::Refused(message),
                    _ => Self::Other(message),
                }
            }
            other => Self::Cluster(root_cause(&other)),
        }
    }

    /// The exit code of the error.
    pub fn code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Refused(_) => exit::REFUSED,
            Self::NotFound(_) => exit::NOT_FOUND,
            Self::Usage(_) => exit::USAGE,
            Self::Cluster(_) | Self::Other(_) => exit::FAILED,
        })
    }
}

impl From<kube::Error> for CliError {
    fn from(error: kube::Error) -> Self {
        Self::from_kube(error)
    }
}

/// What stands at the end of the chain of causes, such as "Connection refused": the rest names only layers.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

/// `admission webhook "x" denied the request: why` becomes `why`.
fn plain(message: &str) -> String {
    match message.split_once(" denied the request: ") {
        Some((before, why)) if before.starts_with("admission webhook ") => why.to_owned(),
        _ => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_noise_around_a_denial_is_taken_off() {
        assert_eq!(plain("admission webhook \"enforce.interlock.dev\" denied the request: no"), "no");
        assert_eq!(plain("pods is forbidden"), "pods is forbidden");
    }
}
