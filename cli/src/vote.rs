//! `approve`, `reject` and `withdraw`.

use std::process::ExitCode;

use clap::Args;
use interlock_crds::{Approval, ApprovalDecision, ApprovalSpec, ChangePhase, ChangeRequest, Verb};
use kube::{
    Api,
    api::{DeleteParams, ListParams, ObjectMeta, PostParams},
};

use crate::{act, context::Context, error::CliError, ui::Ui};

/// How often, and how far apart, a change that was just made is looked at before a vote is refused.
const LOOKS: u32 = 20;
const BETWEEN_LOOKS: std::time::Duration = std::time::Duration::from_millis(250);

/// A vote.
#[derive(Args, Debug)]
pub struct VoteArgs {
    /// The change: cr/NAME.
    pub change: String,
    /// Why.
    #[arg(long, default_value = "")]
    pub reason: String,
    /// Vote only if this is the digest of the change: what you reviewed.
    #[arg(long, value_name = "SHA256")]
    pub digest: Option<String>,
}

/// Taking back.
#[derive(Args, Debug)]
pub struct WithdrawArgs {
    /// The change: cr/NAME.
    pub change: String,
    /// Take the change itself back (its requester only) instead of one's own vote.
    #[arg(long = "change")]
    pub whole: bool,
    /// Why.
    #[arg(long, default_value = "")]
    pub reason: String,
}

/// Votes.
pub async fn vote(
    args: &VoteArgs,
    decision: ApprovalDecision,
    context: &Context,
    ui: Ui,
) -> Result<ExitCode, CliError> {
    let change = looked_at(&args.change, context).await?;
    let digest = current_digest(&change)?;
    if let Some(wanted) = &args.digest
        && *wanted != digest
    {
        return Err(CliError::Refused(format!("the change has digest {digest} now, not {wanted}: look at it again")));
    }
    describe(&change, ui);
    let namespace = context.namespace_or_default();
    let name = change.metadata.name.clone().unwrap_or_default();
    let approval = Approval {
        metadata: ObjectMeta {
            generate_name: Some(format!("{name}-")),
            namespace: Some(namespace.clone()),
            ..ObjectMeta::default()
        },
        spec: ApprovalSpec {
            change_request: name.clone(),
            change_request_uid: change.metadata.uid.clone().unwrap_or_default(),
            digest,
            approver: context.whoami().await?,
            decision,
            reason: args.reason.clone(),
            signature: String::new(),
            recorded: None,
        },
    };
    let approvals: Api<Approval> = Api::namespaced(context.client.clone(), &namespace);
    let stored = approvals.create(&PostParams::default(), &approval).await?;
    let what = match decision {
        ApprovalDecision::Approve => ui.good("approved"),
        ApprovalDecision::Reject => ui.bad("rejected"),
    };
    ui.wrap(&format!("{what} by {} ({})", stored.spec.approver, stored.metadata.name.unwrap_or_default()), 2);
    ui.line(&ui.dim(&format!("next: interlock why cr/{name} -n {namespace}")));
    Ok(ExitCode::SUCCESS)
}

/// The change once Interlock has looked at its present version, or as it is after a few seconds.
async fn looked_at(name: &str, context: &Context) -> Result<ChangeRequest, CliError> {
    let mut change = context.change(name).await?;
    for _ in 0..LOOKS {
        let status = change.status.clone().unwrap_or_default();
        if status.observed_generation == change.metadata.generation
            && (status.change_digest.is_some() || status.phase.is_terminal())
        {
            break;
        }
        tokio::time::sleep(BETWEEN_LOOKS).await;
        change = context.change(name).await?;
    }
    Ok(change)
}

fn current_digest(change: &ChangeRequest) -> Result<String, CliError> {
    let name = change.metadata.name.as_deref().unwrap_or_default();
    let status = change.status.clone().unwrap_or_default();
    if status.phase.is_terminal() {
        return Err(CliError::Refused(format!("{name} has ended ({:?}); votes no longer matter", status.phase)));
    }
    if status.observed_generation != change.metadata.generation {
        return Err(CliError::Refused(format!(
            "Interlock has not looked at this version of {name} yet; try again in a moment"
        )));
    }
    status.change_digest.ok_or_else(|| {
        CliError::Refused(format!(
            "{name} has no digest to vote on: {}",
            status.message.unwrap_or_else(|| "Interlock has not looked at it yet".to_owned())
        ))
    })
}

fn describe(change: &ChangeRequest, ui: Ui) {
    let status = change.status.clone().unwrap_or_default();
    ui.heading(&format!("{} ({:?}, asked for by {})", change.spec.title, change.spec.type_, change.spec.requester));
    ui.wrap(&format!("  reason  {}", change.spec.reason), 10);
    if let Some(risk) = &status.risk {
        let factors: Vec<_> = risk.factors.iter().map(|f| f.why.as_str()).collect();
        ui.wrap(&format!("  risk    {:?} ({}): {}", risk.level, risk.score, factors.join(", ")), 10);
    }
    for manifest in change.spec.content.manifests.iter().flatten() {
        let text = |pointer: &str| manifest.pointer(pointer).and_then(serde_json::Value::as_str).unwrap_or_default();
        let operation = manifest
            .pointer("/metadata/annotations")
            .and_then(|a| a.get("interlock.dev/operation"))
            .and_then(serde_json::Value::as_str)
            .unwrap_or("Apply");
        let namespace = text("/metadata/namespace");
        let place = if namespace.is_empty() { String::new() } else { format!("{namespace}/") };
        ui.wrap(&format!("  {operation:<7} {} {place}{}", text("/kind"), text("/metadata/name")), 10);
    }
    for secret in &change.spec.content.secret_refs {
        let keys = secret.keys.join(", ");
        ui.wrap(&format!("  Apply   Secret {} (keys {keys}; values staged in {})", secret.target, secret.name), 10);
    }
    ui.line(&format!("  digest  {}", status.change_digest.unwrap_or_default()));
}

/// Takes one's own votes back, or the whole request.
pub async fn withdraw(args: &WithdrawArgs, context: &Context, ui: Ui) -> Result<ExitCode, CliError> {
    if args.whole {
        return act::command(&args.change, Verb::Withdraw, &args.reason, context, ui).await;
    }
    let change = context.change(&args.change).await?;
    if change.status.as_ref().is_some_and(|s| s.phase == ChangePhase::Running) {
        return Err(CliError::Refused(format!("it has started; to stop it use `interlock abort {}`", args.change)));
    }
    let me = context.whoami().await?;
    let approvals: Api<Approval> = Api::namespaced(context.client.clone(), &context.namespace_or_default());
    let mine: Vec<_> = approvals
        .list(&ListParams::default())
        .await?
        .into_iter()
        .filter(|a| Some(&a.spec.change_request_uid) == change.metadata.uid.as_ref() && a.spec.approver == me)
        .filter_map(|a| a.metadata.name)
        .collect();
    if mine.is_empty() {
        return Err(CliError::NotFound(format!("{me} has no vote on {}", args.change)));
    }
    for name in mine {
        approvals.delete(&name, &DeleteParams::default()).await?;
        ui.line(&format!("withdrawn: {name}"));
    }
    Ok(ExitCode::SUCCESS)
}
