//! The definitions of the Gateway API, from its own Go module.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;
use thiserror::Error;

const MODULE: &str = "sigs.k8s.io/gateway-api@v1.6.3";
/// What Go's checksum database says of that version.
const SUM: &str = "h1:lKpJa5bGlraC/QeACvCpsHLdmO6y0iKfzVl6gzaFEYc=";

/// Why the definitions could not be had.
#[derive(Debug, Error)]
pub enum GatewayApiError {
    /// Go cannot be run.
    #[error("cannot run go, which downloads {MODULE}")]
    NoGo(#[source] std::io::Error),
    /// The module could not be downloaded.
    #[error("cannot download {MODULE}: {0}")]
    Download(String),
    /// It is not what it was when this was written.
    #[error("{MODULE} has the checksum {0:?}, not {SUM}")]
    Changed(String),
}

/// The folder with the standard channel's CustomResourceDefinitions, one file for each kind.
pub fn gateway_api() -> Result<PathBuf, GatewayApiError> {
    let output = Command::new("go")
        .args(["mod", "download", "-json", MODULE])
        .env("GOWORK", "off")
        // Whatever module the caller stands in has no say.
        .current_dir(std::env::temp_dir())
        .stdin(Stdio::null())
        .output()
        .map_err(GatewayApiError::NoGo)?;
    let answer: Value = serde_json::from_slice(&output.stdout)
        .map_err(|_| GatewayApiError::Download(String::from_utf8_lossy(&output.stderr).trim().to_owned()))?;
    let text = |field: &str| answer.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    if !text("Error").is_empty() || text("Dir").is_empty() {
        return Err(GatewayApiError::Download(text("Error")));
    }
    if text("Sum") != SUM {
        return Err(GatewayApiError::Changed(text("Sum")));
    }
    Ok(PathBuf::from(text("Dir")).join("config/crd/standard"))
}
