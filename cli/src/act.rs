//! Commands on a change: `abort`, `rollback`, `pause`, `resume`, `rebase`.

use std::process::ExitCode;

use clap::Args;
use interlock_crds::{Action, ActionSpec, ActionTarget, Verb};
use kube::{
    Api,
    api::{ObjectMeta, PostParams},
};

use crate::{context::Context, error::CliError, ui::Ui};

/// A command on a change.
#[derive(Args, Debug)]
pub struct ActArgs {
    /// The change: cr/NAME.
    pub change: String,
    /// Why.
    #[arg(long, default_value = "")]
    pub reason: String,
}

/// Gives the command `verb` on `change`.
pub async fn command(change: &str, verb: Verb, reason: &str, context: &Context, ui: Ui) -> Result<ExitCode, CliError> {
    let found = context.change(change).await?;
    let name = found.metadata.name.clone().unwrap_or_default();
    let uid = found.metadata.uid.unwrap_or_default();
    let target = ActionTarget { kind: "ChangeRequest".to_owned(), name: name.clone(), uid };
    record(target, verb, reason, context, ui).await?;
    let namespace = context.namespace_or_default();
    ui.line(&ui.dim(&format!("next: interlock status cr/{name} -n {namespace} --watch")));
    Ok(ExitCode::SUCCESS)
}

/// Records the command `verb` on `target`, given by the caller.
pub async fn record(target: ActionTarget, verb: Verb, reason: &str, context: &Context, ui: Ui) -> Result<(), CliError> {
    let namespace = context.namespace_or_default();
    let name = target.name.clone();
    let action = Action {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", format!("{verb:?}").to_lowercase())),
            namespace: Some(namespace.clone()),
            ..ObjectMeta::default()
        },
        spec: ActionSpec { target, verb, actor: context.whoami().await?, reason: reason.to_owned(), recorded: None },
    };
    let actions: Api<Action> = Api::namespaced(context.client.clone(), &namespace);
    let stored = actions.create(&PostParams::default(), &action).await?;
    ui.wrap(&format!("{verb:?} of {name} recorded ({})", stored.metadata.name.unwrap_or_default()), 2);
    Ok(())
}
