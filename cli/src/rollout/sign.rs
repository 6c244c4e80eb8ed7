//! `rollout sign`: a signature on the step or wave that waits for one.

use std::process::ExitCode;

use clap::Args;
use interlock_core::rollout::sign_off;
use interlock_crds::{Approval, ApprovalDecision, ApprovalSpec, Rollout};
use kube::{
    Api, ResourceExt as _,
    api::{ObjectMeta, PostParams},
};

use super::find;
use crate::{context::Context, error::CliError, ui::Ui};

/// A signature.
#[derive(Args, Debug)]
pub struct SignArgs {
    /// The release: the name of the Rollout, of its change or of its workload.
    pub rollout: String,
    /// Why.
    #[arg(long, default_value = "")]
    pub reason: String,
    /// The wave to sign. Default: the next one that waits, or the current step.
    #[arg(long)]
    pub wave: Option<String>,
    /// Refuse to sign: the release goes no further.
    #[arg(long)]
    pub reject: bool,
}

/// Signs, or refuses to.
pub async fn execute(
    args: &SignArgs,
    decision: ApprovalDecision,
    context: &Context,
    ui: Ui,
) -> Result<ExitCode, CliError> {
    let rollout = find::one(&args.rollout, context).await?;
    let (status, uid) = (rollout.status.clone().unwrap_or_default(), rollout.uid().unwrap_or_default());
    let awaited = sign_off::awaited(&rollout.spec, &status, &uid);
    let is_meant = |what: &str| args.wave.as_ref().is_none_or(|wave| what == format!("wave {wave}"));
    let Some(awaited) = awaited.iter().find(|one| is_meant(&one.what)) else {
        return Err(CliError::Refused(format!("{} waits for no such signature now", rollout.name_any())));
    };
    let namespace = context.namespace_or_default();
    let approval = signature(&rollout, &awaited.digest, decision, context.whoami().await?, &args.reason);
    let approvals: Api<Approval> = Api::namespaced(context.client.clone(), &namespace);
    let stored = approvals.create(&PostParams::default(), &approval).await?;
    let what = match decision {
        ApprovalDecision::Approve => ui.good("signed"),
        ApprovalDecision::Reject => ui.bad("refused"),
    };
    let name = stored.metadata.name.unwrap_or_default();
    ui.wrap(&format!("{} of {}: {what} by {} ({name})", awaited.what, rollout.name_any(), stored.spec.approver), 2);
    ui.line(&ui.dim(&format!("next: interlock rollout status {} -n {namespace} --watch", rollout.name_any())));
    Ok(ExitCode::SUCCESS)
}

fn signature(rollout: &Rollout, digest: &str, decision: ApprovalDecision, approver: String, reason: &str) -> Approval {
    let change = &rollout.spec.change_request;
    Approval {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", change.name)),
            namespace: rollout.namespace(),
            ..ObjectMeta::default()
        },
        spec: ApprovalSpec {
            change_request: change.name.clone(),
            change_request_uid: change.uid.clone(),
            digest: digest.to_owned(),
            approver,
            decision,
            reason: reason.to_owned(),
            signature: String::new(),
            recorded: None,
        },
    }
}
