//! `backup run`: a run that a person asks for.

use std::process::ExitCode;
use std::{pin::pin, time::Duration};

use clap::Args;
use futures::TryStreamExt as _;
use interlock_crds::{Backup, BackupMode, BackupPhase, BackupPolicy, BackupSpec, BackupTrigger, NameRef};
use kube::{
    Api, ResourceExt as _,
    api::{ObjectMeta, PostParams},
    runtime::{WatchStreamExt as _, watcher},
};

use super::{backups, show, status};
use crate::{
    context::{Context, harmless},
    error::{CliError, exit},
    ui::Ui,
};

/// Of what.
#[derive(Args, Debug)]
pub struct RunArgs {
    /// The BackupPolicy.
    policy: String,
    /// Read everything again instead of what changed.
    #[arg(long)]
    full: bool,
    /// Do not wait for the end.
    #[arg(long)]
    no_wait: bool,
    /// Wait at most so long, such as 10m or 2h.
    #[arg(long, default_value = "2h", value_name = "TIME")]
    timeout: interlock_crds::Duration,
}

/// Asks for a run, and waits for its end.
pub async fn execute(args: &RunArgs, context: &Context, ui: Ui) -> Result<ExitCode, CliError> {
    let namespace = context.namespace_or_default();
    let policies: Api<BackupPolicy> = Api::namespaced(context.client.clone(), &namespace);
    let policy = policies.get_opt(&args.policy).await?.ok_or_else(|| {
        CliError::NotFound(format!(
            "there is no BackupPolicy {} in namespace {namespace}; `interlock backup list -n {namespace}` shows what there is",
            args.policy
        ))
    })?;
    let requester = context.whoami().await?;
    let spec = BackupSpec {
        policy_ref: NameRef { name: policy.name_any() },
        policy_uid: policy.uid(),
        repository_ref: None,
        trigger: BackupTrigger::Manual,
        slot: None,
        mode: if args.full { BackupMode::Full } else { BackupMode::Incremental },
        requester: Some(requester),
        hold: None,
    };
    let mut asked = Backup::new("", spec);
    let prefix: String = policy.name_any().chars().take(40).collect();
    asked.metadata = ObjectMeta { generate_name: Some(format!("{prefix}-now-")), ..ObjectMeta::default() };
    let made = backups(context).create(&PostParams::default(), &asked).await?;
    let name = made.name_any();
    ui.line(&format!("backup/{name} was asked for"));
    if args.no_wait {
        ui.line(&ui.dim(&format!("next: interlock backup show {name} -n {namespace}")));
        return Ok(ExitCode::SUCCESS);
    }
    let limit = Duration::from_secs(u64::try_from(args.timeout.seconds()).unwrap_or_default());
    let ended = tokio::time::timeout(limit, until_ended(&name, context, ui)).await;
    let ended = ended.map_err(|_| {
        CliError::Other(format!(
            "backup/{name} has not ended within {}; it goes on. `interlock backup show {name}` tells",
            args.timeout
        ))
    })??;
    show::tell(&ended, ui);
    Ok(code(&ended))
}

/// 0 for a good point, else that of what did not succeed.
pub(super) fn code(backup: &Backup) -> ExitCode {
    match status(backup).phase {
        BackupPhase::Succeeded => ExitCode::SUCCESS,
        BackupPhase::Pending | BackupPhase::Running => ExitCode::from(exit::WAITS),
        _ => ExitCode::from(exit::NOT_SUCCEEDED),
    }
}

async fn until_ended(name: &str, context: &Context, ui: Ui) -> Result<Backup, CliError> {
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut events = pin!(watcher(backups(context), config).default_backoff().applied_objects());
    let mut told = None;
    while let Some(backup) = events.try_next().await.map_err(|error| CliError::Cluster(error.to_string()))? {
        let backup = harmless(backup);
        let status = status(&backup);
        if status.phase.is_terminal() {
            return Ok(backup);
        }
        if status.message != told {
            ui.wrap(&ui.dim(status.message.as_deref().unwrap_or("it waits for the controller")), 2);
            told = status.message;
        }
    }
    Err(CliError::Cluster("the watch ended".to_owned()))
}
