//! `drill status`: one run, once or live.

use std::process::ExitCode;

use clap::Args;
use interlock_crds::DrillRun;
use jiff::Timestamp;
use kube::{ResourceExt as _, api::ListParams};

use super::{code, draw, runs, status_of};
use crate::{
    context::{Context, harmless},
    error::CliError,
    live::{self, View, now},
    output::{Format, print},
    ui::Ui,
};

/// Which run, and how.
#[derive(Args, Debug)]
pub struct StatusArgs {
    /// The DrillRun, or a RestoreDrill: then the newest of its runs.
    name: String,
    /// Go on and show what happens. Ends when the verdict has fallen.
    #[arg(short, long)]
    watch: bool,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// Shows it. Exit code 4 until the verdict has fallen, 5 if it is none of a pass.
pub async fn execute(args: &StatusArgs, context: &Context, ui: Ui) -> Result<ExitCode, CliError> {
    let found = find(&args.name, context).await?;
    if args.watch {
        return watch(&found, context, ui).await;
    }
    match args.output {
        Format::Table => draw::whole(&found, now(), ui).iter().for_each(|line| ui.line(line)),
        format => print(&found, format, ui)?,
    }
    Ok(code(&found))
}

async fn find(name: &str, context: &Context) -> Result<DrillRun, CliError> {
    let name = name.rsplit_once('/').map_or(name, |(_, name)| name);
    if name.is_empty() {
        return Err(CliError::Usage("the name of the run is empty".to_owned()));
    }
    if let Some(found) = runs(context).get_opt(name).await? {
        return Ok(harmless(found));
    }
    let of_drill = ListParams::default().fields(&format!("spec.drillRef.name={name}"));
    let found = runs(context).list(&of_drill).await?.items.into_iter().max_by_key(newest);
    found.map(harmless).ok_or_else(|| {
        let namespace = context.namespace_or_default();
        CliError::NotFound(format!(
            "there is no DrillRun {name}, and no run of a RestoreDrill {name}, in namespace {namespace}; `interlock drill list -n {namespace}` shows what there is"
        ))
    })
}

/// Runs in the order in which they were made.
pub(super) fn newest(run: &DrillRun) -> (Option<Timestamp>, String) {
    (run.creation_timestamp().map(|at| at.0), run.name_any())
}

/// Shows what happens until the verdict falls.
pub(super) async fn watch(run: &DrillRun, context: &Context, ui: Ui) -> Result<ExitCode, CliError> {
    live::watch(run, runs(context), Live::default(), ui).await
}

/// A run, live.
#[derive(Default)]
struct Live {
    told: Vec<String>,
}

impl View<DrillRun> for Live {
    fn whole(&self, run: &DrillRun, now: Timestamp, ui: Ui) -> Vec<String> {
        draw::whole(run, now, ui)
    }

    fn tell(&mut self, run: &DrillRun, ui: Ui) {
        if status_of(run).phase.is_terminal() {
            return ui.line(&draw::whole(run, now(), ui).join("\n"));
        }
        let lines = draw::news(run);
        for line in lines.iter().filter(|line| !self.told.contains(line)) {
            ui.wrap(line, 4);
        }
        self.told = lines;
    }

    fn ended(&self, run: &DrillRun) -> Option<ExitCode> {
        status_of(run).phase.is_terminal().then(|| code(run))
    }
}
