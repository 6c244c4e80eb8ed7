//! `drill status`: one run, once or live.

use std::{pin::pin, process::ExitCode, time::Duration};

use clap::Args;
use futures::TryStreamExt as _;
use interlock_crds::DrillRun;
use jiff::Timestamp;
use kube::{
    ResourceExt as _,
    api::ListParams,
    runtime::{WatchStreamExt as _, watcher},
};

use super::{code, draw, runs, status_of};
use crate::{
    context::{Context, harmless},
    error::CliError,
    output::{Format, print},
    ui::Ui,
};

/// How often a live view is drawn again.
const TICK: Duration = Duration::from_secs(1);

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
    let config = watcher::Config::default().fields(&format!("metadata.name={}", run.name_any()));
    let mut stream = pin!(watcher(runs(context), config).default_backoff());
    let mut tick = tokio::time::interval(TICK);
    let mut shown = None::<DrillRun>;
    let mut told = Vec::new();
    loop {
        let event = tokio::select! {
            event = stream.try_next() => event.map_err(|error| CliError::Cluster(error.to_string()))?,
            _ = tick.tick(), if ui.is_terminal() => {
                if let Some(found) = &shown {
                    draw_over(found, ui);
                }
                continue;
            }
        };
        let found = match event {
            Some(watcher::Event::Apply(found) | watcher::Event::InitApply(found)) => harmless(found),
            Some(watcher::Event::Delete(found)) => {
                return Err(CliError::NotFound(format!("{} was deleted", found.name_any())));
            }
            Some(watcher::Event::Init | watcher::Event::InitDone) => continue,
            None => return Err(CliError::Cluster("the watch ended".to_owned())),
        };
        if found.uid() != run.uid() {
            return Err(CliError::NotFound(format!("{} was deleted and made anew", found.name_any())));
        }
        let ended = status_of(&found).phase.is_terminal();
        if ui.is_terminal() {
            draw_over(&found, ui);
        } else if ended {
            draw::whole(&found, now(), ui).iter().for_each(|line| ui.line(line));
        } else {
            tell(&found, &mut told, ui);
        }
        if ended {
            return Ok(code(&found));
        }
        shown = Some(found);
    }
}

fn draw_over(run: &DrillRun, ui: Ui) {
    ui.raw(&format!("\u{1b}[H\u{1b}[2J{}\n", draw::whole(run, now(), ui).join("\n")));
}

/// A line for each thing that changed.
fn tell(run: &DrillRun, told: &mut Vec<String>, ui: Ui) {
    let lines = draw::news(run);
    for line in lines.iter().filter(|line| !told.contains(line)) {
        ui.line(line);
    }
    *told = lines;
}

/// The local clock: how long something takes is told to a person who looks at it here.
#[allow(clippy::disallowed_methods)]
fn now() -> Timestamp {
    Timestamp::now()
}
