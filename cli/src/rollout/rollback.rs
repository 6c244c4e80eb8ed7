//! `rollout rollback`: a change that brings an earlier version of a workload back, agreed like any other.

use std::{collections::BTreeSet, process::ExitCode};

use clap::Args;
use interlock_core::rollout::revisions::{self, CannotReturn, Return, Wanted};
use interlock_crds::{Rollout, RolloutTarget, WorkloadKind};
use kube::{
    Api, ResourceExt as _,
    api::{ApiResource, DynamicObject, ListParams},
    core::GroupVersionKind,
};
use serde_json::Value;

use super::find;
use crate::{
    context::{Context, harmless},
    error::CliError,
    propose::{self, ProposeArgs},
    ui::Ui,
};

/// What is brought back, and why.
///
/// Proposes a change that gives a workload the pod template of an earlier revision, which its controller still holds. Nothing
/// is written before the change is approved; with `fastTrack` in its RolloutPlan, steps that wait or measure are passed over
/// for a Deployment's version that served well a short time ago. ConfigMaps and Secrets stay as they are.
#[derive(Args, Debug)]
pub struct RollbackArgs {
    /// The workload: NAME or KIND/NAME, or the name of its release or change.
    workload: String,
    /// The revision, as `kubectl rollout history` counts them. Default: the one before the present one from which no release
    /// went back.
    #[arg(long, value_name = "REVISION")]
    to: Option<u64>,
    /// Why.
    #[arg(long)]
    reason: String,
    /// The RolloutPlan. Default: that of the workload's newest release, else that of the System.
    #[arg(long, value_name = "NAME")]
    rollout_plan: Option<String>,
    /// Name of the ChangeRequest. Default: inferred from what it does.
    #[arg(long)]
    name: Option<String>,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
    /// Show what would be proposed, and propose nothing.
    #[arg(long)]
    dry_run: bool,
}

/// Proposes it.
pub async fn execute(args: &RollbackArgs, context: &Context, ui: Ui) -> Result<ExitCode, CliError> {
    let propose = ProposeArgs::of(&args.reason, args.yes, args.dry_run);
    let asks = propose::may_ask(&propose)?;
    let namespace = context.namespace_or_default();
    let everywhere = everywhere(context).await?;
    let rollouts: Vec<Rollout> = match &everywhere {
        Some(all) => all.iter().filter(|one| one.namespace().as_ref() == Some(&namespace)).cloned().collect(),
        None => find::api(context).list(&ListParams::default()).await?.items.into_iter().map(harmless).collect(),
    };
    let target = meant(&args.workload, &rollouts, &namespace)?;
    let workload = workload(&target, context).await?;
    let held = held(&target, context).await?;
    let known = everywhere.as_deref().unwrap_or(&rollouts);
    let wanted = Wanted { workload: &workload, held: &held, rollouts: known, revision: args.to };
    let found = revisions::bring_back(&wanted).map_err(|why| refused(&why))?;
    tell(&found, &target, ui);
    let rollout_plan = match &args.rollout_plan {
        Some(plan) => Some(plan.clone()),
        None => plan_of_newest(&target, &rollouts, context).await?,
    };
    let propose = ProposeArgs { title: Some(title(&found, &target)), rollout_plan, name: args.name.clone(), ..propose };
    // The change belongs where the plan and earlier releases are, also if the workload lies elsewhere.
    let mut here = context.clone();
    here.namespace = Some(namespace);
    Box::pin(propose::these(vec![found.manifest], asks, &propose, &here, ui)).await
}

fn refused(why: &CannotReturn) -> CliError {
    match why {
        CannotReturn::NothingEarlier { .. } | CannotReturn::NoSuchRevision { .. } => {
            CliError::NotFound(why.to_string())
        }
        _ => CliError::Refused(why.to_string()),
    }
}

fn tell(found: &Return, target: &RolloutTarget, ui: Ui) {
    let (workload, images) = (ui.strong(&target.to_string()), found.images.join(", "));
    let revisions = format!("back from revision {} to revision {}", found.present, found.revision);
    ui.wrap(&format!("{workload}: {revisions} ({images})"), 2);
    if found.other_configuration {
        let other = "it ran with other ConfigMaps or Secrets, which are not held: those of today stay, and it counts as a new version";
        ui.wrap(&ui.warn(other), 2);
    }
    if let Some(rollout) = &found.went_back {
        let went_back = format!("Rollout {rollout} went back from this very version: see why before you propose it");
        ui.wrap(&ui.warn(&went_back), 2);
    }
}

fn title(found: &Return, target: &RolloutTarget) -> String {
    let images = found.images.join(", ");
    let title = format!("Return {:?} {} to revision {} ({images})", target.kind, target.name, found.revision);
    // As long as the schema lets it be.
    title.chars().take(200).collect()
}

/// The workload that somebody means: one that a release of the namespace has, by its name or by that of the release or its
/// change; else the Deployment of that name, or what KIND says.
fn meant(text: &str, rollouts: &[Rollout], namespace: &str) -> Result<RolloutTarget, CliError> {
    let (kind, name) = match text.split_once('/') {
        Some((kind, name)) => (kind_of(kind)?, name),
        None => (None, text),
    };
    if name.is_empty() {
        return Err(CliError::Usage("the name of the workload is empty".to_owned()));
    }
    let is_kind = |target: &RolloutTarget| kind.is_none_or(|kind| target.kind == kind);
    let named = |rollout: &&Rollout| rollout.name_any() == name || rollout.spec.change_request.name == name;
    let targets = |rollout: &Rollout| rollout.spec.targets.clone();
    let mut found: BTreeSet<RolloutTarget> =
        rollouts.iter().flat_map(targets).filter(|target| target.name == name && is_kind(target)).collect();
    if found.is_empty() {
        found.extend(rollouts.iter().filter(named).flat_map(targets).filter(is_kind));
    }
    let mut all = found.iter();
    match (all.next(), all.next()) {
        (Some(only), None) => Ok(only.clone()),
        (None, _) => Ok(RolloutTarget {
            kind: kind.unwrap_or(WorkloadKind::Deployment),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }),
        (Some(_), Some(_)) => {
            let all: Vec<_> = found.iter().map(ToString::to_string).collect();
            Err(CliError::Usage(format!("{text} may be any of {}: name one as KIND/NAME", all.join(", "))))
        }
    }
}

/// The kind that somebody writes before a name; none for what may be any: a release or a change.
fn kind_of(text: &str) -> Result<Option<WorkloadKind>, CliError> {
    match text.to_lowercase().as_str() {
        "deploy" | "deployment" | "deployments" => Ok(Some(WorkloadKind::Deployment)),
        "sts" | "statefulset" | "statefulsets" => Ok(Some(WorkloadKind::StatefulSet)),
        "ds" | "daemonset" | "daemonsets" => Ok(Some(WorkloadKind::DaemonSet)),
        "rollout" | "rollouts" | "cr" | "changerequest" | "changerequests" => Ok(None),
        _ => Err(CliError::Usage(format!(
            "{text} is no kind that is released gradually; write deployment/NAME, statefulset/NAME or daemonset/NAME"
        ))),
    }
}

/// Objects of a kind of the group apps, whole: fields that this version does not know are brought back too.
fn api(context: &Context, kind: &str, namespace: &str) -> Api<DynamicObject> {
    let plural = format!("{}s", kind.to_lowercase());
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("apps", "v1", kind), &plural);
    Api::namespaced_with(context.client.clone(), namespace, &resource)
}

fn plain(object: DynamicObject) -> Result<Value, CliError> {
    serde_json::to_value(object).map_err(|error| CliError::Other(error.to_string()))
}

async fn workload(target: &RolloutTarget, context: &Context) -> Result<Value, CliError> {
    let found = api(context, &format!("{:?}", target.kind), &target.namespace).get_opt(&target.name).await?;
    plain(found.ok_or_else(|| CliError::NotFound(format!("there is no {target}; name another with -n")))?)
}

/// The objects that hold versions, of the whole namespace.
async fn held(target: &RolloutTarget, context: &Context) -> Result<Vec<Value>, CliError> {
    let kind = match target.kind {
        WorkloadKind::Deployment => "ReplicaSet",
        WorkloadKind::StatefulSet | WorkloadKind::DaemonSet => "ControllerRevision",
    };
    let list = api(context, kind, &target.namespace).list(&ListParams::default()).await?;
    list.items.into_iter().map(plain).collect()
}

/// Rollouts of all namespaces: a change of another one may release the workload. None: the person may not list them.
async fn everywhere(context: &Context) -> Result<Option<Vec<Rollout>>, CliError> {
    match Api::<Rollout>::all(context.client.clone()).list(&ListParams::default()).await {
        Ok(list) => Ok(Some(list.items.into_iter().map(harmless).collect())),
        Err(kube::Error::Api(refusal)) if refusal.code == 403 => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The plan that the change of the newest release of the workload names.
async fn plan_of_newest(
    target: &RolloutTarget,
    rollouts: &[Rollout],
    context: &Context,
) -> Result<Option<String>, CliError> {
    let Some(newest) = newest(target, rollouts) else { return Ok(None) };
    let change = context.changes().get_opt(&newest.spec.change_request.name).await?.map(harmless);
    Ok(change.and_then(|change| change.spec.rollout_plan_ref).map(|plan| plan.name))
}

fn newest<'a>(target: &RolloutTarget, rollouts: &'a [Rollout]) -> Option<&'a Rollout> {
    let own = rollouts.iter().filter(|rollout| rollout.spec.targets.contains(target));
    own.max_by_key(|rollout| rollout.creation_timestamp())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rollout(name: &str, change: &str, targets: &[(&str, &str, &str)], created: &str) -> Rollout {
        let targets: Vec<_> = targets
            .iter()
            .map(|(kind, namespace, name)| json!({"kind": kind, "namespace": namespace, "name": name}))
            .collect();
        serde_json::from_value(json!({
            "apiVersion": "interlock.dev/v1alpha1", "kind": "Rollout",
            "metadata": {"name": name, "creationTimestamp": created},
            "spec": {"changeRequest": {"name": change, "uid": "u"}, "changeDigest": "d", "plan": {}, "targets": targets},
        }))
        .unwrap()
    }

    fn all() -> Vec<Rollout> {
        let launch = [("Deployment", "teller", "teller"), ("Deployment", "mobile", "mobile")];
        vec![
            rollout("launch-3-1-a", "launch-3-1", &launch, "2026-11-02T00:00:00Z"),
            rollout("teller-2-b", "teller-2", &[("Deployment", "teller", "teller")], "2026-11-01T00:00:00Z"),
            rollout("ledger-5-c", "ledger-5", &[("StatefulSet", "teller", "ledger")], "2026-11-01T00:00:00Z"),
        ]
    }

    #[test]
    fn a_workload_is_named_by_itself_its_release_or_its_change() {
        let name =
            |text: &str| meant(text, &all(), "teller").map(|target| target.to_string()).map_err(|e| e.to_string());
        let teller = Ok("Deployment teller/teller".to_owned());
        for text in ["teller", "deploy/teller", "teller-2", "cr/teller-2", "teller-2-b", "rollout/teller-2-b"] {
            assert_eq!(name(text), teller, "{text}");
        }
        assert_eq!(name("mobile"), Ok("Deployment mobile/mobile".to_owned()), "where the release says that it lies");
        assert_eq!(name("ledger"), Ok("StatefulSet teller/ledger".to_owned()));
        assert_eq!(name("receipts"), Ok("Deployment teller/receipts".to_owned()), "never released before");
        assert_eq!(name("ds/agent"), Ok("DaemonSet teller/agent".to_owned()));
        let several = name("launch-3-1").unwrap_err();
        assert!(several.contains("Deployment mobile/mobile, Deployment teller/teller: name one"), "{several}");
        assert!(name("svc/teller").unwrap_err().contains("statefulset/NAME"));
        assert!(name("deploy/").unwrap_err().contains("empty"));
    }

    #[test]
    fn the_plan_is_that_of_the_newest_release_of_the_workload() {
        let all = all();
        let of = |text: &str| {
            let target = meant(text, &all, "teller").unwrap();
            newest(&target, &all).map(|rollout| rollout.spec.change_request.name.clone())
        };
        assert_eq!(of("teller").as_deref(), Some("launch-3-1"));
        assert_eq!(of("receipts"), None);
    }

    #[test]
    fn its_title_says_what_comes_back() {
        let target = meant("teller", &all(), "teller").unwrap();
        let mut found = Return {
            revision: 2,
            present: 4,
            images: vec!["teller:2.3.1".to_owned()],
            manifest: json!({}),
            other_configuration: false,
            went_back: None,
        };
        assert_eq!(title(&found, &target), "Return Deployment teller to revision 2 (teller:2.3.1)");
        found.images = vec!["i".repeat(300)];
        assert_eq!(title(&found, &target).chars().count(), 200);
    }
}
