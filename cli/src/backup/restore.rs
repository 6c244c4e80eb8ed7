//! `restore`: a recovery point to a volume, as a change that is agreed like any other.

use std::process::ExitCode;

use clap::Args;
use interlock_controller::backup::Images;
use interlock_core::backup::{
    choose::{Wanted, choose},
    pods::{self, PRIVILEGES_LABEL, PRIVILEGES_PERMITTED, Restore},
};
use interlock_crds::{Backup, BackupPolicy, BackupRepository, Duration, RecoveryPoint};
use jiff::Timestamp;
use k8s_openapi::api::{batch::v1::Job, core::v1::Namespace};
use kube::{Api, ResourceExt as _, api::ListParams};
use serde_json::{Value, json};

use super::{backups, size};
use crate::{
    context::{Context, harmless},
    error::CliError,
    output::Format,
    propose::{self, ProposeArgs},
    ui::Ui,
};

/// What is restored, and where to.
///
/// Proposes a change that makes a volume and a Job that restores to it. Nothing is restored before it is approved.
#[derive(Args, Debug)]
pub struct RestoreArgs {
    /// The BackupPolicy.
    policy: String,
    /// The PersistentVolumeClaim to make and restore to.
    #[arg(long, value_name = "NAME", required_unless_present = "over", conflicts_with = "over")]
    to_claim: Option<String>,
    /// Restore over what a PersistentVolumeClaim holds: files of the recovery point replace those of the same name. Stop what
    /// uses it first.
    #[arg(long, value_name = "NAME")]
    over: Option<String>,
    /// The Backup to restore. Default: the newest good one.
    #[arg(long, value_name = "NAME", conflicts_with = "at")]
    backup: Option<String>,
    /// The newest good one whose data is not later than this (RFC 3339).
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
    /// Size of the volume. Default: twice the data, in whole GiB.
    #[arg(long, value_name = "QUANTITY", conflicts_with = "over")]
    size: Option<String>,
    /// StorageClass of the volume. Default: that of the cluster.
    #[arg(long, value_name = "NAME", conflicts_with = "over")]
    storage_class: Option<String>,
    /// The restore is ended after this time.
    #[arg(long, default_value = "6h", value_name = "TIME")]
    deadline: Duration,
    /// Why.
    #[arg(long)]
    reason: String,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
    /// Show what would be proposed, and propose nothing.
    #[arg(long)]
    dry_run: bool,
}

/// Proposes it.
pub async fn execute(args: &RestoreArgs, context: &Context, ui: Ui) -> Result<ExitCode, CliError> {
    let propose = ProposeArgs {
        files: Vec::new(),
        title: None,
        reason: args.reason.clone(),
        type_: propose::Type::Normal,
        minimum_risk: None,
        not_before: None,
        expires_at: None,
        depends_on: Vec::new(),
        // What came back before it failed is looked at before it goes.
        on_failure: propose::Failure::Pause,
        progress_deadline: args.deadline,
        name: None,
        patch: false,
        delete: false,
        yes: args.yes,
        dry_run: args.dry_run,
        output: Format::Table,
    };
    let asks = propose::may_ask(&propose)?;
    let namespace = context.namespace_or_default();
    let missing =
        |kind: &str, name: &str| CliError::NotFound(format!("there is no {kind} {name} in namespace {namespace}"));
    let policies: Api<BackupPolicy> = Api::namespaced(context.client.clone(), &namespace);
    let policy = policies.get_opt(&args.policy).await?.ok_or_else(|| missing("BackupPolicy", &args.policy))?;
    let named = &policy.spec.repository_ref.name;
    let repositories: Api<BackupRepository> = Api::namespaced(context.client.clone(), &namespace);
    let repository = repositories.get_opt(named).await?.ok_or_else(|| missing("BackupRepository", named))?;
    let of_policy = ListParams::default().fields(&format!("spec.policyRef.name={}", args.policy));
    let runs: Vec<Backup> = backups(context).list(&of_policy).await?.items.into_iter().map(harmless).collect();
    let wanted = match (&args.backup, args.at) {
        (Some(name), _) => Wanted::Of(name.clone()),
        (None, Some(at)) => Wanted::At(at),
        (None, None) => Wanted::Newest,
    };
    let (backup, point, warning) = choose(&runs, &wanted).map_err(CliError::NotFound)?;
    tell(backup, point, warning.as_deref(), args, ui);
    let claim = args.to_claim.as_ref().or(args.over.as_ref()).cloned().unwrap_or_default();
    let name = job_name(&claim, crate::wall_clock());
    let images = images(&backup.name_any(), context, &namespace).await?;
    let permitted = privileges(&policy, context, &namespace).await?;
    let restore = Restore {
        name: &name,
        claim: &claim,
        snapshot: &point.snapshot_id,
        repository_id: repository.status.as_ref().and_then(|status| status.repository_id.as_deref()),
        deadline: args.deadline.seconds(),
    };
    let borrowed = pods::Images { interlock: &images.interlock, restic: &images.restic, postgres: &images.postgres };
    let job = pods::restore_job(&namespace, &restore, &policy.spec, &repository.spec, &borrowed, permitted)
        .map_err(|error| CliError::Usage(error.to_string()))?;
    let mut objects: Vec<Value> = args.to_claim.iter().map(|name| volume(name, &namespace, point, args)).collect();
    objects.push(job);
    propose::these(objects, asks, &propose, context, ui).await
}

fn tell(backup: &Backup, point: &RecoveryPoint, warning: Option<&str>, args: &RestoreArgs, ui: Ui) {
    ui.line(&format!(
        "restores {}: data of {}, {} files, {}",
        ui.strong(&backup.name_any()),
        point.data_time.0,
        point.files,
        size(point.bytes)
    ));
    if let Some(warning) = warning {
        ui.line(&ui.warn(warning));
    }
    if let Some(over) = &args.over {
        ui.line(
            &ui.warn(&format!("what the claim {over} holds under the same names is replaced; stop what uses it first")),
        );
    }
    if point.postgres_version.is_some() {
        ui.line(&ui.dim(
            "it comes back as dump.sql: play it with `psql --no-psqlrc --set ON_ERROR_STOP=1 -f dump.sql postgres`",
        ));
    }
}

/// A name of its own for each restore: a Job that ended is never taken for one that is to come.
fn job_name(claim: &str, now: Timestamp) -> String {
    let claim: String = claim.chars().take(39).collect();
    format!("restore-{}-{}", claim.trim_end_matches(['-', '.']), now.strftime("%Y%m%d%H%M%S"))
}

fn volume(name: &str, namespace: &str, point: &RecoveryPoint, args: &RestoreArgs) -> Value {
    const GIBIBYTE: i64 = 1 << 30;
    let default = || format!("{}Gi", (point.bytes.max(0) / GIBIBYTE).saturating_mul(2).saturating_add(1));
    let mut claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": args.size.clone().unwrap_or_else(default)}},
        },
    });
    if let Some(class) = &args.storage_class {
        claim["spec"]["storageClassName"] = json!(class);
    }
    claim
}

/// The images of the run that made the recovery point, if its Job is still there; else those of this release.
async fn images(backup: &str, context: &Context, namespace: &str) -> Result<Images, CliError> {
    let jobs: Api<Job> = Api::namespaced(context.client.clone(), namespace);
    let mut images = Images::default();
    let pod = jobs.get_opt(backup).await?.and_then(|job| job.spec).and_then(|spec| spec.template.spec);
    for container in pod.iter().flat_map(|pod| pod.init_containers.iter().flatten()) {
        let Some(image) = container.image.clone() else { continue };
        match container.name.as_str() {
            "install" => images.interlock = image,
            "restic" => images.restic = image,
            // Where no other image brings restic, it is the tool's.
            "tool" if pod.iter().flat_map(|pod| pod.init_containers.iter().flatten()).all(|c| c.name != "restic") => {
                images.restic = image;
            }
            _ => {}
        }
    }
    Ok(images)
}

async fn privileges(policy: &BackupPolicy, context: &Context, namespace: &str) -> Result<bool, CliError> {
    if !policy.spec.pod.as_ref().is_some_and(|pod| pod.read_all) {
        return Ok(false);
    }
    let namespaces: Api<Namespace> = Api::all(context.client.clone());
    let found = namespaces.get(namespace).await?;
    Ok(found.labels().get(PRIVILEGES_LABEL).is_some_and(|value| value == PRIVILEGES_PERMITTED))
}
