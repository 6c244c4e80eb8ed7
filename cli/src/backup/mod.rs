//! `backup`: runs now, and what there is to restore from.

pub mod list;
pub mod restore;
mod run;
mod show;

use std::process::ExitCode;

use clap::Subcommand;
use interlock_crds::{Backup, BackupPhase, BackupStatus};
use kube::Api;

use crate::{context::Context, error::CliError, ui::Ui};

/// What is done with backups.
#[derive(Debug, Subcommand)]
pub enum BackupCommand {
    /// Back up now
    Run(run::RunArgs),
    /// Show policies and their runs: what there is to restore from
    List(list::ListArgs),
    /// Show one run and its recovery point
    Show(show::ShowArgs),
}

/// Does it.
pub async fn execute(command: &BackupCommand, context: &Context, ui: Ui) -> Result<ExitCode, CliError> {
    match command {
        BackupCommand::Run(args) => run::execute(args, context, ui).await,
        BackupCommand::List(args) => list::execute(args, context, ui).await,
        BackupCommand::Show(args) => show::execute(args, context, ui).await,
    }
}

fn backups(context: &Context) -> Api<Backup> {
    Api::namespaced(context.client.clone(), &context.namespace_or_default())
}

fn status(backup: &Backup) -> BackupStatus {
    backup.status.clone().unwrap_or_default()
}

fn phase(phase: BackupPhase, ui: Ui) -> String {
    let text = format!("{phase:?}");
    match phase {
        BackupPhase::Succeeded => ui.good(&text),
        BackupPhase::Failed | BackupPhase::PartiallyFailed => ui.bad(&text),
        BackupPhase::Running | BackupPhase::Skipped | BackupPhase::Missed => ui.warn(&text),
        BackupPhase::Pending => text,
    }
}

/// Bytes in the unit that suits them.
pub fn size(bytes: i64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    #[allow(clippy::cast_precision_loss, reason = "shown with one digit")]
    let mut number = bytes.max(0) as f64;
    let mut unit = 0;
    while number >= 1024.0 && unit + 1 < UNITS.len() {
        number /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{number:.1} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_are_short() {
        assert_eq!([0, 1_023, 1_536, 5 << 30].map(size), ["0 B", "1023 B", "1.5 KiB", "5.0 GiB"]);
    }
}
