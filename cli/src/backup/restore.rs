//! `restore`: a recovery point to a volume, as a change that is agreed like any other.

use std::{cmp::Reverse, process::ExitCode};

use clap::Args;
use interlock_controller::backup::Images;
use interlock_core::backup::{
    choose::{Recovery, Wanted, choose, choose_recovery},
    plan::PlannedRecovery,
    pods::{self, PRIVILEGES_LABEL, PRIVILEGES_PERMITTED, Restore},
};
use interlock_crds::{Backup, BackupPolicy, BackupRepository, Duration, PostgresMode, RecoveryPoint};
use jiff::Timestamp;
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{Namespace, PodSpec},
};
use kube::{Api, ResourceExt, api::ListParams};
use serde_json::{Value, json};

use super::{backups, size};
use crate::{
    context::{Context, harmless},
    error::CliError,
    propose::{self, ProposeArgs},
    ui::Ui,
};

/// Jobs of so many runs are looked for: the controller keeps five of each policy, beside those that have not ended.
const MOST_JOBS: usize = 8;

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
    /// Namespace of the System to make it in. Credentials are never copied: it has a BackupRepository of its own for the same
    /// repository. Default: that of the policy.
    #[arg(long, value_name = "NAME", requires = "to_claim")]
    to_namespace: Option<String>,
    /// Restore over what a PersistentVolumeClaim holds: files of the recovery point replace those of the same name. Stop what
    /// uses it first.
    #[arg(long, value_name = "NAME")]
    over: Option<String>,
    /// The Backup to restore. Default: the newest good one.
    #[arg(long, value_name = "NAME", conflicts_with = "at")]
    backup: Option<String>,
    /// The newest good one whose data is not later than this (RFC 3339). A server that is copied physically recovers to
    /// exactly this moment.
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
        // What came back before it failed is looked at before it goes.
        on_failure: propose::Failure::Pause,
        progress_deadline: args.deadline,
        ..ProposeArgs::of(&args.reason, args.yes, args.dry_run)
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
    let chosen = chosen(&policy, &runs, &wanted).map_err(CliError::NotFound)?;
    let (backup, point) = (chosen.backup, chosen.point);
    tell(&chosen, &policy, args, ui);
    let claim = args.to_claim.as_ref().or(args.over.as_ref()).cloned().unwrap_or_default();
    let name = job_name(&claim, crate::wall_clock());
    let images = images(backup, &runs, context, ui).await?;
    let (target, through) = match &args.to_namespace {
        Some(other) if *other != namespace => {
            let repositories: Api<BackupRepository> = Api::namespaced(context.client.clone(), other);
            let there = repositories.list(&ListParams::default()).await?.items;
            let twin = twin(&repository, &there, &namespace, other).map_err(CliError::NotFound)?;
            let through = format!("it is read through BackupRepository {} of namespace {other}", twin.name_any());
            ui.wrap(&ui.dim(&through), 2);
            (other.as_str(), twin.clone())
        }
        _ => (namespace.as_str(), repository.clone()),
    };
    let permitted = privileges(&policy, context, target).await?;
    let kept_in = format!("{namespace}/{named}");
    let restore = Restore {
        name: &name,
        claim: &claim,
        snapshot: &point.snapshot_id,
        files: point.files,
        repository: &kept_in,
        repository_id: repository.status.as_ref().and_then(|status| status.repository_id.as_deref()),
        deadline: args.deadline.seconds(),
        recovery: chosen.recovery.as_ref(),
    };
    let borrowed = pods::Images { interlock: &images.interlock, restic: &images.restic, postgres: &images.postgres };
    let job = pods::restore_job(target, &restore, &policy.spec, &through.spec, &borrowed, permitted)
        .map_err(|error| CliError::Usage(error.to_string()))?;
    let mut objects: Vec<Value> = args.to_claim.iter().map(|name| volume(name, target, chosen.bytes, args)).collect();
    objects.push(job);
    propose::these(objects, asks, &propose, context, ui).await
}

/// The BackupRepository of another namespace that is the same repository, opened with a Secret of that namespace.
///
/// # Errors
/// The sentence why there is none.
fn twin<'a>(
    of: &BackupRepository,
    there: &'a [BackupRepository],
    namespace: &str,
    other: &str,
) -> Result<&'a BackupRepository, String> {
    let id = |repository: &BackupRepository| repository.status.as_ref().and_then(|status| status.repository_id.clone());
    let name = of.name_any();
    let wanted = id(of).ok_or_else(|| {
        format!(
            "BackupRepository {name} of namespace {namespace} has not been opened yet, so it cannot be known again in {other}: wait until its status.repositoryId is there"
        )
    })?;
    there.iter().find(|found| id(found).as_ref() == Some(&wanted)).ok_or_else(|| {
        let others: Vec<_> = there.iter().map(ResourceExt::name_any).collect();
        let others = if others.is_empty() { "none at all".to_owned() } else { others.join(", ") };
        format!(
            "namespace {other} has no BackupRepository with id {wanted}, as {name} of {namespace} has (there: {others}); credentials are never copied, so propose one there with the same restic.url and a Secret of that namespace, or leave --to-namespace out"
        )
    })
}

/// What is restored.
struct Chosen<'a> {
    backup: &'a Backup,
    point: &'a RecoveryPoint,
    warning: Option<String>,
    /// The base copy, where the point carries one on.
    base: Option<&'a Backup>,
    recovery: Option<PlannedRecovery>,
    bytes: i64,
}

fn chosen<'a>(policy: &BackupPolicy, runs: &'a [Backup], wanted: &Wanted) -> Result<Chosen<'a>, String> {
    let physical = policy.spec.source.postgres.as_ref().is_some_and(|p| p.mode == PostgresMode::Physical);
    if !physical {
        let (backup, point, warning) = choose(runs, wanted)?;
        return Ok(Chosen { backup, point, warning, base: None, recovery: None, bytes: point.bytes });
    }
    let (Recovery { base, wal, until }, warning) = choose_recovery(runs, wanted)?;
    let (backup, point) = wal.unwrap_or(base);
    let planned = PlannedRecovery { base: wal.map(|_| base.1.snapshot_id.clone()), until };
    let bytes = base.1.bytes.saturating_add(wal.map_or(0, |(_, point)| point.bytes));
    Ok(Chosen { backup, point, warning, base: wal.map(|_| base.0), recovery: Some(planned), bytes })
}

fn tell(chosen: &Chosen<'_>, policy: &BackupPolicy, args: &RestoreArgs, ui: Ui) {
    let (backup, point) = (chosen.backup, chosen.point);
    let until = chosen.recovery.as_ref().and_then(|recovery| recovery.until);
    let base = chosen.base.map(|base| format!(" on base copy {}", ui.strong(&base.name_any()))).unwrap_or_default();
    let (name, files, of) = (ui.strong(&backup.name_any()), point.files, until.unwrap_or(point.data_time.0));
    ui.wrap(&format!("restores {name}{base}: data of {of}, {files} files, {}", size(chosen.bytes)), 2);
    if let Some(warning) = &chosen.warning {
        ui.wrap(&ui.warn(warning), 2);
    }
    if let Some(over) = &args.over {
        let replaced = format!("what the claim {over} holds under the same names is replaced; stop what uses it first");
        ui.wrap(&ui.warn(&replaced), 2);
    }
    if let (Some(recovery), Some(version)) = (&chosen.recovery, point.postgres_version) {
        let end = recovery.until.map_or_else(|| "the end of what is stored".to_owned(), |until| until.to_string());
        let how = format!(
            "it comes back as base/pgdata: a server of PostgreSQL {version} that is started on it recovers to {end} and then takes writes; run it as the user of the restore, with PGDATA=MOUNT/base/pgdata, and keep MOUNT/wal until it has"
        );
        ui.wrap(&ui.dim(&how), 2);
    } else if point.postgres_version.is_some() {
        let how =
            "it comes back as dump.sql: play it with `psql --no-psqlrc --set ON_ERROR_STOP=1 -f dump.sql postgres`";
        ui.wrap(&ui.dim(how), 2);
    } else if policy.spec.source.objects.is_some() {
        let how = "it comes back as one JSON file for each object, which names its namespace: what is wanted of them is proposed with `interlock propose -f`";
        ui.wrap(&ui.dim(how), 2);
    }
}

/// A name of its own for each restore: a Job that ended is never taken for one that is to come.
fn job_name(claim: &str, now: Timestamp) -> String {
    let claim: String = claim.chars().take(39).collect();
    format!("restore-{}-{}", claim.trim_end_matches(['-', '.']), now.strftime("%Y%m%d%H%M%S"))
}

fn volume(name: &str, namespace: &str, bytes: i64, args: &RestoreArgs) -> Value {
    const GIBIBYTE: i64 = 1 << 30;
    let default = || format!("{}Gi", (bytes.max(0) / GIBIBYTE).saturating_mul(2).saturating_add(1));
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

/// The images of the run that made the recovery point, or of the newest run of its policy whose Job is still there.
async fn images(made: &Backup, runs: &[Backup], context: &Context, ui: Ui) -> Result<Images, CliError> {
    let jobs: Api<Job> = Api::namespaced(context.client.clone(), &context.namespace_or_default());
    let mut newest_first: Vec<_> = runs.iter().collect();
    newest_first.sort_by_key(|run| Reverse(run.creation_timestamp()));
    for run in [made].into_iter().chain(newest_first.into_iter().take(MOST_JOBS)) {
        if let Some(pod) = jobs.get_opt(&run.name_any()).await?.and_then(|job| job.spec?.template.spec) {
            return Ok(images_of(&pod));
        }
    }
    let images = Images::default();
    let used = format!(
        "no Job of a run of this policy is left to take images from: those of this release are used ({}, {}); if your \
         registry is another one, run a backup first",
        images.interlock, images.restic
    );
    ui.wrap(&ui.warn(&used), 2);
    Ok(images)
}

fn images_of(pod: &PodSpec) -> Images {
    let mut images = Images::default();
    let image = |name: &str| {
        let found = pod.init_containers.iter().flatten().find(|container| container.name == name);
        found.and_then(|container| container.image.clone())
    };
    if let Some(own) = image("install") {
        images.interlock = own;
    }
    match (image("restic"), image("tool")) {
        (Some(restic), tool) => {
            images.restic = restic;
            images.postgres = tool.unwrap_or(images.postgres);
        }
        // Where no other image brings restic, it is the tool's.
        (None, Some(tool)) => images.restic = tool,
        (None, None) => {}
    }
    images
}

async fn privileges(policy: &BackupPolicy, context: &Context, namespace: &str) -> Result<bool, CliError> {
    if !policy.spec.pod.as_ref().is_some_and(|pod| pod.read_all) {
        return Ok(false);
    }
    let namespaces: Api<Namespace> = Api::all(context.client.clone());
    let found = namespaces.get(namespace).await?;
    Ok(found.labels().get(PRIVILEGES_LABEL).is_some_and(|value| value == PRIVILEGES_PERMITTED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_namespace_reads_through_a_repository_of_its_own_with_the_same_id() {
        let repository = |name: &str, id: Option<&str>| -> BackupRepository {
            serde_json::from_value(json!({
                "metadata": {"name": name},
                "spec": {"restic": {"url": "rest:https://vault.bank.example/", "secretRef": {"name": "vault"}}},
                "status": {"repositoryId": id},
            }))
            .unwrap()
        };
        let of = repository("vault", Some("a"));
        let there = [repository("vault", Some("b")), repository("read-only", Some("a")), repository("new", None)];
        let found = |of: &BackupRepository, there: &[BackupRepository]| {
            twin(of, there, "teller", "audit").map(ResourceExt::name_any)
        };
        assert_eq!(found(&of, &there), Ok("read-only".to_owned()), "by its id, whatever it is called");
        assert!(found(&of, &there[..1]).unwrap_err().contains("(there: vault); credentials are never copied"));
        assert!(found(&of, &[]).unwrap_err().contains("none at all"));
        assert!(found(&repository("vault", None), &there).unwrap_err().contains("has not been opened yet"));
    }

    #[test]
    fn images_are_those_that_the_run_had() {
        let of = |containers: &[(&str, &str)]| {
            let all: Vec<_> = containers.iter().map(|(name, image)| json!({"name": name, "image": image})).collect();
            images_of(&serde_json::from_value(json!({"containers": [], "initContainers": all})).unwrap())
        };
        let dump = of(&[("install", "own/interlock:1"), ("restic", "own/restic:1"), ("tool", "own/postgres:15")]);
        let files = of(&[("install", "own/interlock:1"), ("tool", "own/restic:1")]);
        for images in [&dump, &files] {
            assert_eq!((&*images.interlock, &*images.restic), ("own/interlock:1", "own/restic:1"));
        }
        assert_eq!((dump.postgres.as_str(), files.postgres), ("own/postgres:15", Images::default().postgres));
    }
}
