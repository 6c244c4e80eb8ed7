//! `rollout status`: releases, once or live.

use std::{collections::BTreeMap, process::ExitCode};

use clap::Args;
use interlock_crds::{Rollout, RolloutPhase};
use jiff::Timestamp;
use kube::{Api, ResourceExt as _, api::ListParams};

use super::{draw, find};
use crate::{
    context::{Context, harmless},
    error::{CliError, exit},
    live::{self, View, now},
    output::{Format, print},
    ui::{Ui, padded},
};

/// Which releases, and how.
#[derive(Args, Debug)]
pub struct StatusArgs {
    /// One release: the name of the Rollout, of its change or of its workload. Default: all of the namespace.
    pub rollout: Option<String>,
    /// Releases of every namespace.
    #[arg(short = 'A', long, conflicts_with = "rollout")]
    pub all_namespaces: bool,
    /// Go on and show what happens. Ends when the release has ended.
    #[arg(short, long, requires = "rollout")]
    pub watch: bool,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

/// Shows releases. Exit code 4 while one waits, 5 if it ended without success.
pub async fn execute(args: &StatusArgs, context: &Context, ui: Ui) -> Result<ExitCode, CliError> {
    let Some(name) = &args.rollout else { return list(args, context, ui).await };
    let found = find::one(name, context).await?;
    if args.watch {
        return live::watch(&found, find::api(context), Live::default(), ui).await;
    }
    match args.output {
        Format::Table => draw::whole(&found, now(), ui).iter().for_each(|line| ui.line(line)),
        format => print(&found, format, ui)?,
    }
    Ok(code(&found))
}

async fn list(args: &StatusArgs, context: &Context, ui: Ui) -> Result<ExitCode, CliError> {
    let api = if args.all_namespaces { Api::all(context.client.clone()) } else { find::api(context) };
    let mut list = api.list(&ListParams::default()).await?;
    list.items = list.items.into_iter().map(harmless).collect();
    if args.output != Format::Table {
        print(&list, args.output, ui)?;
        return Ok(ExitCode::SUCCESS);
    }
    if list.items.is_empty() {
        ui.wrap("no releases; name a RolloutPlan in rolloutPlanRef of a change, and it is carried out gradually", 2);
        return Ok(ExitCode::SUCCESS);
    }
    list.items.sort_by_key(|rollout| (phase(rollout).is_at_rest(), rollout.namespace(), rollout.creation_timestamp()));
    let width = list.items.iter().map(|rollout| rollout.name_any().chars().count()).max().unwrap_or(0) + 2;
    for rollout in &list.items {
        let status = rollout.status.clone().unwrap_or_default();
        let step = format!("{}/{}", status.current_step, status.steps);
        let weight = status.weights.map(|weights| format!("{} %", weights.observed.canary)).unwrap_or_default();
        let namespace = if args.all_namespaces { rollout.namespace().unwrap_or_default() + "/" } else { String::new() };
        let row = format!(
            "{namespace}{}{} {} {} {}",
            padded(&rollout.name_any(), width),
            padded(&format!("{:?}", status.phase), 11),
            padded(&step, 6),
            padded(&weight, 6),
            status.message.unwrap_or_default()
        );
        ui.wrap(&row, 4);
    }
    Ok(ExitCode::SUCCESS)
}

/// A release, live: what was told of itself and of each measurement.
#[derive(Default)]
struct Live {
    told: BTreeMap<String, String>,
}

impl View<Rollout> for Live {
    fn whole(&self, rollout: &Rollout, now: Timestamp, ui: Ui) -> Vec<String> {
        draw::whole(rollout, now, ui)
    }

    fn tell(&mut self, rollout: &Rollout, ui: Ui) {
        let status = rollout.status.clone().unwrap_or_default();
        let weight = status.weights.map(|weights| format!(", {} % new", weights.observed.canary)).unwrap_or_default();
        let message = status.message.unwrap_or_default();
        let own = format!("{:?} {}/{}{weight}: {message}", status.phase, status.current_step, status.steps);
        let measured = status.analyses.iter().filter_map(|record| {
            let last = record.state.measurements.last()?;
            let value = last.value.as_deref().unwrap_or_default();
            let text = format!("  {} {}: {:?} {value} {}", record.state.name, last.number, last.outcome, last.message);
            Some((record.run.clone(), text.trim_end().to_owned()))
        });
        for (what, line) in std::iter::once((String::new(), own)).chain(measured) {
            if self.told.get(&what) != Some(&line) {
                ui.wrap(&line, 4);
                self.told.insert(what, line);
            }
        }
    }

    fn ended(&self, rollout: &Rollout) -> Option<ExitCode> {
        phase(rollout).is_at_rest().then(|| code(rollout))
    }
}

fn phase(rollout: &Rollout) -> RolloutPhase {
    rollout.status.as_ref().map(|status| status.phase).unwrap_or_default()
}

/// 0 for success or progress, 4 for waiting, 5 for an end without success.
fn code(rollout: &Rollout) -> ExitCode {
    match phase(rollout) {
        RolloutPhase::Succeeded | RolloutPhase::Progressing | RolloutPhase::Promoting => ExitCode::SUCCESS,
        RolloutPhase::Pending | RolloutPhase::Paused => ExitCode::from(exit::WAITS),
        RolloutPhase::Aborting | RolloutPhase::RolledBack | RolloutPhase::Failed => ExitCode::from(exit::NOT_SUCCEEDED),
    }
}
