//! `backup list`: policies, and the runs of one.

use std::{fmt::Debug, process::ExitCode};

use clap::Args;
use interlock_crds::{Backup, BackupPhase, BackupPolicy, BackupPolicyPhase, PointVerdict};
use k8s_openapi::NamespaceResourceScope;
use kube::{Api, Resource, ResourceExt, api::ListParams};
use serde::{Serialize, de::DeserializeOwned};

use super::{backups, size, status};
use crate::{
    context::{Context, harmless},
    error::CliError,
    output::{Format, print},
    ui::{Ui, WIDTH, columns, padded},
};

/// Of what.
#[derive(Args, Debug)]
pub struct ListArgs {
    /// The BackupPolicy whose runs are shown. Default: the policies.
    policy: Option<String>,
    /// Policies of every namespace.
    #[arg(short = 'A', long, conflicts_with = "policy")]
    all_namespaces: bool,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// Shows them.
pub async fn execute(args: &ListArgs, context: &Context, ui: Ui) -> Result<ExitCode, CliError> {
    match &args.policy {
        Some(policy) => runs(policy, args.output, context, ui).await?,
        None => policies(args, context, ui).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn policies(args: &ListArgs, context: &Context, ui: Ui) -> Result<(), CliError> {
    let namespace = context.namespace_or_default();
    let found: Vec<BackupPolicy> = listed(args.all_namespaces, context).await?;
    if args.output != Format::Table {
        return print(&found, args.output, ui);
    }
    if found.is_empty() {
        ui.line(&format!("no BackupPolicy in namespace {namespace}; -A looks in all"));
        return Ok(());
    }
    let mut rows = vec![["NAME", "PHASE", "DATA OF", "POINTS", "NEXT", "MESSAGE"].map(ToOwned::to_owned)];
    for policy in &found {
        let status = policy.status.clone().unwrap_or_default();
        let time = |at: Option<String>| at.unwrap_or_else(|| "-".to_owned());
        rows.push([
            name_of(policy, args.all_namespaces),
            format!("{:?}", status.phase),
            time(status.last_good.map(|point| point.data_time.0.to_string())),
            status.points.to_string(),
            time(status.next_slot.map(|slot| slot.0.to_string())),
            status.message.unwrap_or_default(),
        ]);
    }
    table(&rows, ui, |row| match found.get(row).and_then(|policy| policy.status.as_ref()).map(|s| s.phase) {
        Some(BackupPolicyPhase::AtRisk | BackupPolicyPhase::Failing | BackupPolicyPhase::Invalid) => Some(Ui::bad),
        Some(BackupPolicyPhase::Running | BackupPolicyPhase::Suspended) => Some(Ui::warn),
        _ => None,
    });
    Ok(())
}

async fn runs(policy: &str, format: Format, context: &Context, ui: Ui) -> Result<(), CliError> {
    let of_policy = ListParams::default().fields(&format!("spec.policyRef.name={policy}"));
    let mut found: Vec<Backup> = backups(context).list(&of_policy).await?.items.into_iter().map(harmless).collect();
    found.sort_by_key(|run| std::cmp::Reverse(run.creation_timestamp().map(|at| at.0)));
    if format != Format::Table {
        return print(&found, format, ui);
    }
    if found.is_empty() {
        ui.line(&format!("no run of {policy} in namespace {}", context.namespace_or_default()));
        return Ok(());
    }
    let mut rows = vec![["NAME", "PHASE", "DATA OF", "SIZE", "PROVEN", "MESSAGE"].map(ToOwned::to_owned)];
    for run in &found {
        let status = status(run);
        let proven = status.verified.as_ref().map_or("-", |verified| match verified.verdict {
            PointVerdict::Proven => "yes",
            PointVerdict::Corrupt => "corrupt",
            PointVerdict::Unverified => "unclear",
        });
        let forgotten = status.retention.as_ref().is_some_and(|record| record.forgotten_at.is_some());
        rows.push([
            run.name_any(),
            format!("{:?}", status.phase),
            status.point.as_ref().map_or_else(|| "-".to_owned(), |point| point.data_time.0.to_string()),
            status.point.as_ref().map_or_else(|| "-".to_owned(), |point| size(point.bytes)),
            proven.to_owned(),
            if forgotten { "forgotten by retention".to_owned() } else { status.message.unwrap_or_default() },
        ]);
    }
    table(&rows, ui, |row| match status(found.get(row)?).phase {
        BackupPhase::Succeeded => Some(Ui::good),
        BackupPhase::Failed | BackupPhase::PartiallyFailed => Some(Ui::bad),
        BackupPhase::Pending => None,
        _ => Some(Ui::warn),
    });
    Ok(())
}

/// The objects of a kind in the chosen namespace, or in every one.
///
/// # Errors
/// The cluster does not answer, or not with these objects.
pub async fn listed<K>(all_namespaces: bool, context: &Context) -> Result<Vec<K>, CliError>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned,
{
    let api: Api<K> = if all_namespaces {
        Api::all(context.client.clone())
    } else {
        Api::namespaced(context.client.clone(), &context.namespace_or_default())
    };
    Ok(api.list(&ListParams::default()).await?.items.into_iter().map(harmless).collect())
}

/// What a row calls an object: with its namespace if rows are of several.
pub fn name_of<K: ResourceExt>(object: &K, all_namespaces: bool) -> String {
    match object.namespace() {
        Some(namespace) if all_namespaces => format!("{namespace}/{}", object.name_any()),
        _ => object.name_any(),
    }
}

/// How a cell is coloured.
pub type Paint = fn(Ui, &str) -> String;

/// Columns that a message beside the others needs; with less room it stands below.
const BESIDE: usize = 24;

/// A table whose second column is painted, and whose last one takes as many lines as it needs on a terminal.
pub fn table<const N: usize>(rows: &[[String; N]], ui: Ui, paint: impl Fn(usize) -> Option<Paint>) {
    for line in lines(rows, ui, paint) {
        ui.line(&line);
    }
}

fn lines<const N: usize>(rows: &[[String; N]], ui: Ui, paint: impl Fn(usize) -> Option<Paint>) -> Vec<String> {
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| columns(cell)).max();
    let widths: Vec<_> = (0..N.saturating_sub(1)).map(|column| width(column).unwrap_or_default()).collect();
    let message_at = widths.iter().map(|width| width + 2).sum::<usize>();
    let indent = if message_at + BESIDE <= WIDTH { message_at } else { 4 };
    let line = |(number, row): (usize, &[String; N])| {
        let mut cells: Vec<_> = row.iter().zip(&widths).map(|(cell, width)| padded(cell, *width)).collect();
        let color = number.checked_sub(1).and_then(&paint);
        if let (Some(paint), Some(cell)) = (color, cells.get_mut(1)) {
            *cell = paint(ui, cell);
        }
        cells.extend(row.last().cloned());
        let line = ui.fit(&cells.join("  "), indent);
        if number == 0 { ui.dim(&line) } else { line }
    };
    rows.iter().enumerate().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::Color;

    #[test]
    fn a_message_stands_beside_the_other_columns_or_below_them_and_never_leaves_the_terminal() {
        let long = "its data is older than its objective and 柜面系统的备份已经失败三次需要处理 ".repeat(3);
        let told = |name: &str| {
            let head = ["NAME", "PHASE", "NEXT", "MESSAGE"].map(ToOwned::to_owned);
            let row = [name, "AtRisk", "2026-11-23T02:00:00Z", long.as_str()].map(ToOwned::to_owned);
            lines(&[head, row], Ui::new(Color::Always).of_story(), |_| Some(Ui::bad))
        };
        for (name, indent) in [("teller", 38), ("the-branches-of-the-north-and-the-south", 4)] {
            let text = told(name)[1].clone();
            assert!(text.lines().all(|line| columns(line) <= WIDTH), "{text}");
            let (first, more) = text.split_once('\n').unwrap();
            assert!(first.starts_with(name) && first.contains("2026-11-23T02:00:00Z"), "{text}");
            let blanks = |line: &str| line.len() - line.trim_start().len();
            assert!(more.lines().all(|line| blanks(line) == indent), "{text}");
        }
    }
}
