//! `crd`: the definitions of Interlock's kinds.

use std::process::ExitCode;

use clap::Args;

use crate::{error::CliError, ui::Ui};

/// Which kinds.
#[derive(Args, Debug)]
pub struct CrdArgs {
    /// One kind, such as ChangeRequest. Default: all.
    pub kind: Option<String>,
}

/// Prints the definitions as YAML documents.
pub fn execute(args: &CrdArgs, ui: Ui) -> Result<ExitCode, CliError> {
    let wanted = |kind: &str| args.kind.as_ref().is_none_or(|k| k.eq_ignore_ascii_case(kind));
    let found: Vec<_> = interlock_crds::all().into_iter().filter(|crd| wanted(&crd.spec.names.kind)).collect();
    if found.is_empty() {
        let kinds: Vec<_> = interlock_crds::all().into_iter().map(|crd| crd.spec.names.kind).collect();
        return Err(CliError::NotFound(format!("Interlock has no such kind; it has {}", kinds.join(", "))));
    }
    for crd in found {
        let text = serde_saphyr::to_string(&crd).map_err(|e| CliError::Other(e.to_string()))?;
        ui.raw(&format!("---\n{text}"));
    }
    Ok(ExitCode::SUCCESS)
}
