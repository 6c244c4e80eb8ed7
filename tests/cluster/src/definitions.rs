//! CustomResourceDefinitions of others, each from its own Go module.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;
use thiserror::Error;

/// Why the definitions could not be had.
#[derive(Debug, Error)]
pub enum DefinitionsError {
    /// Go cannot be run.
    #[error("cannot run go, which downloads {0}")]
    NoGo(&'static str, #[source] std::io::Error),
    /// The module could not be downloaded.
    #[error("cannot download {0}: {1}")]
    Download(&'static str, String),
    /// It is not what it was when this was written.
    #[error("{module} has the checksum {found:?}, not {wanted}")]
    Changed {
        /// The module and its version.
        module: &'static str,
        /// Its checksum.
        found: String,
        /// What Go's checksum database says of that version.
        wanted: &'static str,
    },
}

/// The folder with the Gateway API's standard channel, one file for each kind.
pub fn gateway_api() -> Result<PathBuf, DefinitionsError> {
    let sum = "h1:lKpJa5bGlraC/QeACvCpsHLdmO6y0iKfzVl6gzaFEYc=";
    Ok(module("sigs.k8s.io/gateway-api@v1.6.3", sum)?.join("config/crd/standard"))
}

/// The folder with the definitions of Argo Rollouts, one file for each kind.
pub fn argo_rollouts() -> Result<PathBuf, DefinitionsError> {
    let sum = "h1:6oyVPGiHHxu3ixkT6mngemh88HLPDoTX1IwO6KNR1Y4=";
    Ok(module("github.com/argoproj/argo-rollouts@v1.10.1", sum)?.join("manifests/crds"))
}

/// The folder of a module.
fn module(module: &'static str, wanted: &'static str) -> Result<PathBuf, DefinitionsError> {
    let output = Command::new("go")
        .args(["mod", "download", "-json", module])
        .env("GOWORK", "off")
        // Whatever module the caller stands in has no say.
        .current_dir(std::env::temp_dir())
        .stdin(Stdio::null())
        .output()
        .map_err(|source| DefinitionsError::NoGo(module, source))?;
    let answer: Value = serde_json::from_slice(&output.stdout)
        .map_err(|_| DefinitionsError::Download(module, String::from_utf8_lossy(&output.stderr).trim().to_owned()))?;
    let text = |field: &str| answer.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    if !text("Error").is_empty() || text("Dir").is_empty() {
        return Err(DefinitionsError::Download(module, text("Error")));
    }
    if text("Sum") != wanted {
        return Err(DefinitionsError::Changed { module, found: text("Sum"), wanted });
    }
    Ok(PathBuf::from(text("Dir")))
}
