//! `status` and `wait`: changes as a tree, once or live.

use std::{collections::BTreeMap, io::IsTerminal as _, pin::pin, process::ExitCode, time::Duration};

use clap::{Args, ValueEnum};
use futures::TryStreamExt as _;
use interlock_crds::{ChangePhase, ChangeRequest};
use kube::{
    Api, ResourceExt as _,
    api::ListParams,
    runtime::{WatchStreamExt as _, watcher},
};

use crate::{
    context::{Context, change_name, harmless},
    error::{CliError, exit},
    output::{Format, print},
    ui::{Ui, padded},
    why,
};

/// Which changes, and how.
#[derive(Args, Debug)]
pub struct StatusArgs {
    /// One change: cr/NAME. Default: all of the namespace.
    pub change: Option<String>,
    /// Changes of every namespace.
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// Go on and show what happens. Ends when the named change has ended.
    #[arg(short, long)]
    pub watch: bool,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

/// For what to wait.
#[derive(Args, Debug)]
pub struct WaitArgs {
    /// The change: cr/NAME.
    pub change: String,
    /// For which phase.
    #[arg(long = "for", value_enum, ignore_case = true, default_value_t, value_name = "WHAT")]
    pub what: WaitFor,
    /// At most so long, such as 90s, 10m or 2h.
    #[arg(long, default_value = "10m", value_name = "TIME")]
    pub timeout: interlock_crds::Duration,
}

/// For what to wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum WaitFor {
    /// Until it has ended, however.
    #[default]
    #[value(alias = "terminal")]
    Ended,
    /// Until it runs.
    Running,
    /// Until it has succeeded.
    Succeeded,
}

/// Shows changes.
pub async fn execute(args: &StatusArgs, context: &Context, ui: Ui) -> Result<ExitCode, CliError> {
    if let Some(name) = &args.change {
        let change = context.change(name).await?;
        if args.watch {
            return watch_one(&change_name(name)?, context, ui).await;
        }
        match args.output {
            Format::Table => why::explain(&change, ui),
            format => print(&change, format, ui)?,
        }
        return Ok(why::code(&change));
    }
    let changes: Api<ChangeRequest> =
        if args.all_namespaces { Api::all(context.client.clone()) } else { context.changes() };
    if args.watch {
        return watch_all(changes, ui).await;
    }
    let mut list = changes.list(&ListParams::default()).await?;
    list.items = list.items.into_iter().map(harmless).collect();
    if args.output != Format::Table {
        print(&list, args.output, ui)?;
        return Ok(ExitCode::SUCCESS);
    }
    if list.items.is_empty() {
        ui.line("no changes; propose one with `interlock propose -f FILE --reason WHY`");
    }
    tree(&list.items, ui);
    Ok(ExitCode::SUCCESS)
}

fn tree(changes: &[ChangeRequest], ui: Ui) {
    let mut systems = BTreeMap::<String, Vec<&ChangeRequest>>::new();
    for change in changes {
        let system = change.status.as_ref().and_then(|s| s.system.clone()).unwrap_or_else(|| "(no System)".to_owned());
        systems.entry(system).or_default().push(change);
    }
    for (system, mut changes) in systems {
        ui.heading(&system);
        changes.sort_by_key(|c| (c.status.as_ref().is_some_and(|s| s.phase.is_terminal()), c.creation_timestamp()));
        let last = changes.len() - 1;
        for (position, change) in changes.into_iter().enumerate() {
            let (branch, stem) = if position == last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            ui.wrap(&format!("{branch}{}", row(change, ui)), 53);
            let status = change.status.clone().unwrap_or_default();
            if status.phase.is_active() {
                why::objects(&status, ui, stem);
            } else if let Some(message) = status.message.filter(|_| !status.phase.is_terminal()) {
                ui.wrap(&format!("{stem}  {}", ui.dim(&message)), 5);
            }
        }
    }
}

fn row(change: &ChangeRequest, ui: Ui) -> String {
    let status = change.status.clone().unwrap_or_default();
    let risk = status.risk.map_or_else(String::new, |r| format!("{:?}", r.level));
    let phase = format!("{:?}", status.phase);
    let phase = padded(&phase, 11).replace(&phase, &ui.phase(status.phase));
    format!("{} {phase} {} {}", padded(&change.name_any(), 28), padded(&risk, 8), change.spec.title)
}

fn line_of(change: &ChangeRequest) -> String {
    let status = change.status.clone().unwrap_or_default();
    format!("{:?}: {}", status.phase, status.message.unwrap_or_default())
}

/// The change that an event tells of; an error when it tells that the change is gone.
fn seen(event: watcher::Event<ChangeRequest>) -> Result<Option<ChangeRequest>, CliError> {
    match event {
        watcher::Event::Apply(change) | watcher::Event::InitApply(change) => Ok(Some(harmless(change))),
        watcher::Event::Delete(change) => Err(CliError::NotFound(format!("{} was deleted", change.name_any()))),
        watcher::Event::Init | watcher::Event::InitDone => Ok(None),
    }
}

async fn watch_one(name: &str, context: &Context, ui: Ui) -> Result<ExitCode, CliError> {
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut stream = pin!(watcher(context.changes(), config).default_backoff());
    let mut last = String::new();
    while let Some(event) = stream.try_next().await.map_err(|e| CliError::Cluster(e.to_string()))? {
        let Some(change) = seen(event)? else { continue };
        if std::io::stdout().is_terminal() {
            ui.raw("\u{1b}[H\u{1b}[2J");
            why::explain(&change, ui);
        } else if line_of(&change) != last {
            last = line_of(&change);
            ui.wrap(&last, 2);
        }
        if change.status.as_ref().is_some_and(|s| s.phase.is_terminal()) {
            return Ok(why::code(&change));
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn watch_all(changes: Api<ChangeRequest>, ui: Ui) -> Result<ExitCode, CliError> {
    let mut stream = pin!(watcher(changes, watcher::Config::default()).default_backoff().applied_objects());
    let mut known = BTreeMap::new();
    while let Some(change) = stream.try_next().await.map_err(|e| CliError::Cluster(e.to_string()))? {
        let (key, line) =
            (format!("{}/{}", change.namespace().unwrap_or_default(), change.name_any()), line_of(&change));
        let previous = known.insert(key.clone(), (line.clone(), change));
        if ui.is_terminal() {
            ui.raw("\u{1b}[H\u{1b}[2J");
            tree(&known.values().map(|(_, c)| c.clone()).collect::<Vec<_>>(), ui);
        } else if previous.is_none_or(|(before, _)| before != line) {
            ui.wrap(&format!("{key}  {line}"), 2);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Waits for a phase. Exit code 4 if it did not come in time, 5 if it cannot come any more.
pub async fn wait(args: &WaitArgs, context: &Context, ui: Ui) -> Result<ExitCode, CliError> {
    context.change(&args.change).await?;
    let limit = Duration::from_secs(u64::try_from(args.timeout.seconds()).unwrap_or(600));
    if let Ok(result) = tokio::time::timeout(limit, wait_for(args, context, ui)).await {
        return result;
    }
    let change = context.change(&args.change).await?;
    ui.wrap(&format!("not within {}: {}", args.timeout, line_of(&change)), 2);
    Ok(ExitCode::from(exit::WAITS))
}

async fn wait_for(args: &WaitArgs, context: &Context, ui: Ui) -> Result<ExitCode, CliError> {
    let name = change_name(&args.change)?;
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut stream = pin!(watcher(context.changes(), config).default_backoff());
    while let Some(event) = stream.try_next().await.map_err(|e| CliError::Cluster(e.to_string()))? {
        let Some(change) = seen(event)? else { continue };
        let phase = change.status.as_ref().map_or(ChangePhase::Pending, |s| s.phase);
        let met = match args.what {
            WaitFor::Ended => phase.is_terminal(),
            WaitFor::Running => phase == ChangePhase::Running,
            WaitFor::Succeeded => phase == ChangePhase::Succeeded,
        };
        if met || phase.is_terminal() {
            ui.wrap(&line_of(&change), 2);
            return Ok(if met && args.what != WaitFor::Ended { ExitCode::SUCCESS } else { why::code(&change) });
        }
    }
    Ok(ExitCode::from(exit::FAILED))
}
