//! `drill run`: a run that a person asks for.

use std::{process::ExitCode, str::FromStr};

use clap::{Args, ValueEnum};
use interlock_core::drill::objects::FINALIZER;
use interlock_crds::{
    DrillRun, DrillRunSpec, DrillSelection, DrillTrigger, Duration, Fault, FaultInjection, NameRef, RestoreDrill,
    SelectionStrategy,
};
use kube::{
    Api, ResourceExt as _,
    api::{ObjectMeta, PostParams},
};

use super::{runs, status};
use crate::{context::Context, error::CliError, ui::Ui};

/// Which drill, and what is different in this run.
#[derive(Args, Debug)]
pub struct RunArgs {
    /// The RestoreDrill.
    drill: String,
    /// Go on and show what happens. Ends when the verdict has fallen.
    #[arg(short, long)]
    watch: bool,
    /// Another recovery point than the drill says: `latest`, `oldest`, `within=DAYS` for a random one, or the name of a Backup.
    /// Such a run never counts for the objective of the recovery point.
    #[arg(long, value_name = "POINT")]
    select: Option<Selected>,
    /// Damage the restored copy, to see that the drill notices it. Such a run never passes.
    #[arg(long, value_enum, value_name = "FAULT")]
    fault: Option<FaultKind>,
    /// File or folder in the restored data that the fault damages.
    #[arg(long, value_name = "PATH", requires = "fault")]
    path: Option<String>,
    /// How long fault delay holds the restore up, such as 30m.
    #[arg(long, value_name = "TIME", requires = "fault")]
    delay: Option<Duration>,
}

/// A fault, as it is typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FaultKind {
    /// The restored heartbeat is older than it was.
    TamperHeartbeat,
    /// Bytes of restored files are changed; needs --path.
    FlipBytes,
    /// Restored files are deleted; needs --path.
    DeleteFiles,
    /// The restore takes longer; needs --delay.
    Delay,
}

/// A recovery point, as it is typed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Selected(DrillSelection);

impl FromStr for Selected {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let of = |strategy| DrillSelection { strategy, days: None, id: None };
        let selection = match (text, text.split_once('=')) {
            ("latest", _) => of(SelectionStrategy::Latest),
            ("oldest", _) => of(SelectionStrategy::Oldest),
            (_, Some(("within", days))) => {
                let days = days.trim_end_matches('d').parse().ok().filter(|days| (1..=36_500).contains(days));
                let days = days.ok_or("write within=DAYS with 1 to 36500 days, such as within=90")?;
                DrillSelection { days: Some(days), ..of(SelectionStrategy::RandomWithin) }
            }
            ("", _) | (_, Some(_)) => {
                return Err("write latest, oldest, within=DAYS or the name of a Backup".to_owned());
            }
            (id, None) => DrillSelection { id: Some(id.to_owned()), ..of(SelectionStrategy::ById) },
        };
        Ok(Self(selection))
    }
}

/// Asks for a run.
pub async fn execute(args: &RunArgs, context: &Context, ui: Ui) -> Result<ExitCode, CliError> {
    let fault_injection = fault(args)?;
    let namespace = context.namespace_or_default();
    let drills: Api<RestoreDrill> = Api::namespaced(context.client.clone(), &namespace);
    let drill = drills.get_opt(&args.drill).await?.ok_or_else(|| {
        CliError::NotFound(format!(
            "there is no RestoreDrill {} in namespace {namespace}; `interlock drill list -n {namespace}` shows what there is",
            args.drill
        ))
    })?;
    let spec = DrillRunSpec {
        drill_ref: NameRef { name: drill.name_any() },
        drill_uid: drill.uid(),
        trigger: DrillTrigger::Manual,
        slot: None,
        requester: Some(context.whoami().await?),
        selection: args.select.as_ref().map(|selected| selected.0.clone()),
        fault_injection,
    };
    let mut asked = DrillRun::new("", spec);
    let prefix: String = drill.name_any().chars().take(40).collect();
    asked.metadata = ObjectMeta {
        generate_name: Some(format!("{prefix}-now-")),
        labels: Some([("interlock.dev/drill".to_owned(), drill.name_any())].into()),
        // Deleted before its verdict, it is cleaned up like any other.
        finalizers: Some(vec![FINALIZER.to_owned()]),
        ..ObjectMeta::default()
    };
    let made = runs(context).create(&PostParams::default(), &asked).await?;
    let name = made.name_any();
    ui.line(&format!("drillrun/{name} was asked for"));
    if args.watch {
        return status::watch(&made, context, ui).await;
    }
    ui.line(&ui.dim(&format!("next: interlock drill status {name} -n {namespace} --watch")));
    Ok(ExitCode::SUCCESS)
}

/// The fault of a run.
///
/// # Errors
/// What it needs is missing, or something was given that it has no use for.
fn fault(args: &RunArgs) -> Result<Option<FaultInjection>, CliError> {
    let Some(kind) = args.fault else { return Ok(None) };
    let (fault, needs_path, needs_delay) = match kind {
        FaultKind::TamperHeartbeat => (Fault::TamperHeartbeat, false, false),
        FaultKind::FlipBytes => (Fault::FlipBytes, true, false),
        FaultKind::DeleteFiles => (Fault::DeleteFiles, true, false),
        FaultKind::Delay => (Fault::Delay, false, true),
    };
    let wrong = |option: &str, needs: bool| {
        let says = if needs { "needs" } else { "has no use for" };
        Err(CliError::Usage(format!("fault {fault:?} {says} --{option}")))
    };
    if needs_path != args.path.is_some() {
        return wrong("path", needs_path);
    }
    if needs_delay != args.delay.is_some() {
        return wrong("delay", needs_delay);
    }
    Ok(Some(FaultInjection { fault, path: args.path.clone(), delay: args.delay }))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Typed {
        #[command(flatten)]
        args: RunArgs,
    }

    fn typed(line: &str) -> RunArgs {
        Typed::try_parse_from(["drill"].into_iter().chain(line.split_whitespace())).unwrap().args
    }

    #[test]
    fn a_point_is_chosen_as_it_is_typed() {
        let chosen = |text: &str| text.parse::<Selected>().map(|selected| selected.0);
        let of = |strategy, days, id: Option<&str>| Ok(DrillSelection { strategy, days, id: id.map(str::to_owned) });
        assert_eq!(chosen("oldest"), of(SelectionStrategy::Oldest, None, None));
        assert_eq!(chosen("within=90"), of(SelectionStrategy::RandomWithin, Some(90), None));
        assert_eq!(chosen("nightly-29401"), of(SelectionStrategy::ById, None, Some("nightly-29401")));
        for wrong in ["", "within=0", "within=x", "days=3"] {
            assert!(chosen(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_fault_has_what_it_needs_and_nothing_else() {
        let of = |line: &str| fault(&typed(line)).map_err(|error| error.to_string());
        assert_eq!(of("teller").unwrap(), None);
        let flip = of("teller --fault flip-bytes --path /accounts").unwrap().unwrap();
        assert_eq!((flip.fault, flip.path.as_deref(), flip.delay), (Fault::FlipBytes, Some("/accounts"), None));
        let delay = of("teller --fault delay --delay 30m").unwrap().unwrap();
        assert_eq!((delay.fault, delay.delay), (Fault::Delay, Some(Duration::from_seconds(1_800))));
        assert_eq!(of("teller --fault delete-files").unwrap_err(), "fault DeleteFiles needs --path");
        assert_eq!(
            of("t --fault tamper-heartbeat --path /x").unwrap_err(),
            "fault TamperHeartbeat has no use for --path"
        );
        assert_eq!(of("t --fault delay").unwrap_err(), "fault Delay needs --delay");
    }
}
