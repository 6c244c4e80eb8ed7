//! `drill list`: drills, and the runs of one.

use std::process::ExitCode;

use clap::Args;
use interlock_crds::{DrillPhase, DrillRun, RestoreDrill, RestoreDrillPhase};
use kube::{ResourceExt as _, api::ListParams};

use super::{runs, status::newest, status_of};
use crate::{
    backup::list::{listed, name_of, table},
    context::{Context, harmless},
    error::CliError,
    output::{Format, print},
    ui::Ui,
};

/// Of what.
#[derive(Args, Debug)]
pub struct ListArgs {
    /// The RestoreDrill whose runs are shown. Default: the drills.
    drill: Option<String>,
    /// Drills of every namespace.
    #[arg(short = 'A', long, conflicts_with = "drill")]
    all_namespaces: bool,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// Shows them.
pub async fn execute(args: &ListArgs, context: &Context, ui: Ui) -> Result<ExitCode, CliError> {
    match &args.drill {
        Some(drill) => of_drill(drill, args.output, context, ui).await?,
        None => drills(args, context, ui).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn drills(args: &ListArgs, context: &Context, ui: Ui) -> Result<(), CliError> {
    let namespace = context.namespace_or_default();
    let found: Vec<RestoreDrill> = listed(args.all_namespaces, context).await?;
    if args.output != Format::Table {
        return print(&found, args.output, ui);
    }
    if found.is_empty() {
        ui.line(&format!("no RestoreDrill in namespace {namespace}; -A looks in all"));
        return Ok(());
    }
    let mut rows = vec![["NAME", "PHASE", "POLICY", "LAST PASSED", "RTO", "NEXT", "MESSAGE"].map(ToOwned::to_owned)];
    for drill in &found {
        let status = drill.status.clone().unwrap_or_default();
        let none = || "-".to_owned();
        let rto = status.last_passed.as_ref().and_then(|passed| passed.rto_seconds);
        rows.push([
            name_of(drill, args.all_namespaces),
            format!("{:?}", status.phase),
            drill.spec.policy_ref.name.clone(),
            status.last_passed.as_ref().map_or_else(none, |passed| passed.finished_at.0.to_string()),
            rto.map_or_else(none, |seconds| format!("{seconds}s")),
            status.next_slot.map_or_else(none, |slot| slot.0.to_string()),
            status.message.unwrap_or_default(),
        ]);
    }
    table(&rows, ui, |row| match found.get(row).and_then(|drill| drill.status.as_ref()).map(|s| s.phase) {
        Some(RestoreDrillPhase::Proven) => Some(Ui::good),
        Some(RestoreDrillPhase::Failing | RestoreDrillPhase::Overdue | RestoreDrillPhase::Invalid) => Some(Ui::bad),
        Some(RestoreDrillPhase::Running | RestoreDrillPhase::Inconclusive | RestoreDrillPhase::Suspended) => {
            Some(Ui::warn)
        }
        Some(RestoreDrillPhase::Unproven) | None => None,
    });
    Ok(())
}

async fn of_drill(drill: &str, format: Format, context: &Context, ui: Ui) -> Result<(), CliError> {
    let of_drill = ListParams::default().fields(&format!("spec.drillRef.name={drill}"));
    let mut found: Vec<DrillRun> = runs(context).list(&of_drill).await?.items.into_iter().map(harmless).collect();
    found.sort_by_key(|run| std::cmp::Reverse(newest(run)));
    if format != Format::Table {
        return print(&found, format, ui);
    }
    if found.is_empty() {
        ui.line(&format!("no run of {drill} in namespace {}", context.namespace_or_default()));
        return Ok(());
    }
    let columns = ["NAME", "PHASE", "REASON", "BACKUP", "RTO", "RPO", "CLEANUP", "MESSAGE"];
    let mut rows = vec![columns.map(ToOwned::to_owned)];
    for run in &found {
        let status = status_of(run);
        let none = || "-".to_owned();
        rows.push([
            run.name_any(),
            format!("{:?}", status.phase),
            status.reason.unwrap_or_else(none),
            status.chosen.map_or_else(none, |chosen| chosen.backup),
            status.rto.map_or_else(none, |rto| format!("{}s", rto.seconds)),
            status.rpo.map_or_else(none, |rpo| format!("{}s", rpo.seconds)),
            format!("{:?}", status.cleanup.state),
            status.message.unwrap_or_default(),
        ]);
    }
    table(&rows, ui, |row| match status_of(found.get(row)?).phase {
        DrillPhase::Passed => Some(Ui::good),
        DrillPhase::Failed => Some(Ui::bad),
        DrillPhase::Pending => None,
        _ => Some(Ui::warn),
    });
    Ok(())
}
