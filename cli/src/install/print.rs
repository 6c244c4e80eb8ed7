//! Printing objects.

use serde_json::Value;

use super::{InstallError, Output, bundle};

/// `objects` as YAML documents or one JSON List.
pub fn render(objects: &[Value], output: Output) -> Result<String, InstallError> {
    match output {
        Output::Yaml => {
            serde_saphyr::to_string_multiple(objects).map_err(|error| InstallError::Print(error.to_string()))
        }
        Output::Json => match serde_json::to_string_pretty(&bundle::list(objects)) {
            Ok(text) => Ok(text + "\n"),
            Err(error) => Err(InstallError::Print(error.to_string())),
        },
    }
}
