//! `backup show`: one run.

use std::process::ExitCode;

use clap::Args;
use interlock_crds::Backup;
use kube::ResourceExt as _;

use super::{backups, phase, run::code, size, status};
use crate::{
    context::{Context, harmless},
    error::CliError,
    output::{Format, print},
    ui::{Ui, padded},
};

/// Which.
#[derive(Args, Debug)]
pub struct ShowArgs {
    /// The Backup.
    name: String,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// Shows it.
pub async fn execute(args: &ShowArgs, context: &Context, ui: Ui) -> Result<ExitCode, CliError> {
    let found = backups(context).get_opt(&args.name).await?.ok_or_else(|| {
        CliError::NotFound(format!("there is no Backup {} in namespace {}", args.name, context.namespace_or_default()))
    })?;
    let backup = harmless(found);
    match args.output {
        Format::Table => tell(&backup, ui),
        format => print(&backup, format, ui)?,
    }
    Ok(code(&backup))
}

/// In words.
pub(super) fn tell(backup: &Backup, ui: Ui) {
    let status = status(backup);
    let line = |label: &str, text: &str| ui.wrap(&format!("  {}{text}", padded(label, 14)), 16);
    ui.wrap(&format!("{}  {}", ui.strong(&backup.name_any()), phase(status.phase, ui)), 2);
    if let Some(message) = &status.message {
        line("message", message);
    }
    line("policy", &backup.spec.policy_ref.name);
    line("mode", &format!("{:?}, {:?}", backup.spec.mode, backup.spec.trigger));
    if let Some(slot) = &backup.spec.slot {
        let late = status.late_seconds.map(|seconds| format!(", begun {seconds} s late")).unwrap_or_default();
        line("slot", &format!("{} of schedule {}{late}", slot.time.0, slot.schedule));
    }
    if let Some(point) = &status.point {
        line("data of", &point.data_time.0.to_string());
        line(
            "holds",
            &format!("{} files, {}, {} of them new", point.files, size(point.bytes), size(point.added_bytes)),
        );
        line("snapshot", &point.snapshot_id);
    }
    if let Some(verified) = &status.verified {
        line("drill", &format!("{:?} by {} at {}", verified.verdict, verified.drill_run, verified.at.0));
    }
    if let Some(record) = &status.retention {
        match (&record.forgotten_at, &record.expired_at) {
            (Some(at), _) => line("forgotten", &at.0.to_string()),
            (None, Some(at)) if record.kept_by.is_empty() => {
                line("expired", &format!("{}: the next prune forgets it", at.0));
            }
            (None, Some(at)) => {
                let kept = record.kept_by.join(", ");
                line(
                    "expired",
                    &format!("{}: a prune broke off that may have forgotten it; {kept} keeps it since", at.0),
                );
            }
            (None, None) => line("kept by", &record.kept_by.join(", ")),
        }
    }
    if let Some(hold) = &backup.spec.hold {
        let until =
            hold.until.as_ref().map_or_else(|| "until it is removed".to_owned(), |at| format!("until {}", at.0));
        line("held", &format!("{until}: {}", hold.reason));
    }
    if let Some(log) = &status.log_tail {
        ui.line(&ui.dim("  end of the log"));
        for text in log.lines() {
            ui.wrap(&format!("    {text}"), 6);
        }
    }
}
