//! Objects as YAML or JSON.

use clap::ValueEnum;
use serde::Serialize;

use crate::{error::CliError, ui::Ui};

/// How to print.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

/// Prints `object` as JSON or YAML.
pub fn print(object: &impl Serialize, format: Format, ui: Ui) -> Result<(), CliError> {
    let text = match format {
        Format::Json | Format::Table => {
            serde_json::to_string_pretty(object).map_err(|e| CliError::Other(e.to_string()))?
        }
        Format::Yaml => serde_saphyr::to_string(object).map_err(|e| CliError::Other(e.to_string()))?,
    };
    ui.line(text.trim_end());
    Ok(())
}
