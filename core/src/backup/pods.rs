//! The Jobs of backups and maintenance.
//!
//! One pod, four containers in a row: Interlock's image copies `interlock` into a shared folder; where the tool runs in
//! another image, restic's image copies `restic` there too; `tool` runs in its own image, started through `interlock runner`,
//! and notes how it ended; `report`, Interlock's image again, reads the snapshot back and alone writes the result. The pod has
//! no API token, its host name is never set, and it is restricted; only the tool may have the one capability that reads every
//! file, and only where the owner of the namespace permits it.

pub(super) mod build;

use build::Pod;
use interlock_crds::{
    BackupMode, BackupPolicySpec, BackupRepositorySpec, MaintenanceOperation, PinnedPolicy, PodOptions,
};
use serde_json::{Value, json};

use super::{
    plan::{BASE_PATH, MaintenanceWork, OBJECTS_PATH, PlannedRecovery, RunnerPlan, SOURCE_PATH, WAL_PATH, removes},
    receiver::RECEIVER_LABEL,
};

/// Label of a namespace by which its owner lets backups read, and restores give back, every file.
pub const PRIVILEGES_LABEL: &str = "interlock.dev/backup-privileges";
/// Its value.
pub const PRIVILEGES_PERMITTED: &str = "permitted";
/// Label of Jobs and pods with the uid of their run.
pub const RUN_LABEL: &str = "interlock.dev/run-uid";

/// Images of a release.
#[derive(Clone, Copy, Debug)]
pub struct Images<'a> {
    /// Interlock.
    pub interlock: &'a str,
    /// restic.
    pub restic: &'a str,
    /// Client programs of PostgreSQL.
    pub postgres: &'a str,
}

/// Whose Job it is.
#[derive(Clone, Copy, Debug)]
pub struct Owner<'a> {
    /// Kind of the owner: Backup or BackupRepository.
    pub kind: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its uid.
    pub uid: &'a str,
    /// Its namespace.
    pub namespace: &'a str,
    /// Whether the namespace permits reading every file.
    pub privileges_permitted: bool,
}

/// Why a Job cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PodError {
    /// The namespace does not permit it.
    #[error(
        "pod.readAll needs the label {PRIVILEGES_LABEL}={PRIVILEGES_PERMITTED} on namespace {0}, set by its owner; or leave readAll out and set runAsUser to a user that may read the source"
    )]
    NotPermitted(String),
    /// The plan cannot be written.
    #[error("the plan of the run cannot be written: {0}")]
    Plan(String),
}

/// The Job of a backup. Its name is that of the Backup.
///
/// # Errors
/// It asks for what its namespace does not permit.
pub fn backup_job(
    owner: &Owner<'_>,
    policy: &BackupPolicySpec,
    repository: &BackupRepositorySpec,
    pinned: &PinnedPolicy,
    mode: BackupMode,
    images: &Images<'_>,
) -> Result<Value, PodError> {
    let plan = RunnerPlan::backup(owner.uid, policy, repository, pinned, mode);
    let default = PodOptions::default();
    let options = policy.pod.as_ref().unwrap_or(&default);
    let (source, claim_is_read_only) = (&policy.source, true);
    let mut pod = Pod::new(owner, options, repository, &plan, &repository.restic.secret_ref)?;
    let of_repository = repository.pod.as_ref().and_then(|pod| pod.image.clone());
    pod.restic_image = options.image.clone().or(of_repository).unwrap_or_else(|| images.restic.to_owned());
    pod.tool_image.clone_from(&pod.restic_image);
    if let Some(files) = &source.files {
        pod.claim("source", &files.persistent_volume_claim, SOURCE_PATH, claim_is_read_only);
    }
    if let Some(postgres) = &source.postgres {
        pod.tool_image = postgres.image.clone().unwrap_or_else(|| images.postgres.to_owned());
        pod.secret("source", &postgres.secret_ref);
        if let Some(wal) = &postgres.wal {
            pod.claim("spool", &wal.persistent_volume_claim, WAL_PATH, false);
            pod.volumes.push(json!({"name": "base", "emptyDir": {"sizeLimit": scratch_size(policy)}}));
            pod.mounts.push(json!({"name": "base", "mountPath": BASE_PATH}));
            pod.shares_spool = true;
        }
    }
    if let Some(command) = &source.command {
        pod.tool_image.clone_from(&command.image);
        if let Some(secret) = &command.secret_ref {
            pod.environment.push(json!({"secretRef": {"name": secret.name}}));
        }
    }
    if source.objects.is_some() {
        // Kubelets mount Secrets as links into a folder whose name changes: what is copied are plain files beside them.
        pod.volumes.push(json!({"name": "objects", "projected": {"sources": []}}));
        pod.mounts.push(json!({"name": "objects", "mountPath": OBJECTS_PATH, "readOnly": true}));
        pod.volumes.push(json!({"name": "source", "emptyDir": {"sizeLimit": "128Mi"}}));
        pod.mounts.push(json!({"name": "source", "mountPath": SOURCE_PATH}));
    }
    let labels = [("interlock.dev/backup-policy", policy_label(pinned))];
    let shares_spool = pod.shares_spool;
    let mut job = pod.job(owner.name, policy.deadline.seconds(), "backup", &labels, images.interlock);
    if shares_spool {
        // A spool that is of one node alone is there where the receiver runs; without one the run goes on all the same.
        job["spec"]["template"]["spec"]["affinity"]["podAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"] = json!([{
            "weight": 100,
            "podAffinityTerm": {
                "labelSelector": {"matchLabels": {RECEIVER_LABEL: pinned.policy_uid}},
                "topologyKey": "kubernetes.io/hostname",
            },
        }]);
    }
    Ok(job)
}

/// Lets the Job of a run of `source.objects` see its manifests: the Secrets that the run announced.
pub fn mount_objects(job: &mut Value, run: &str, secrets: usize) {
    let volumes = job.pointer_mut("/spec/template/spec/volumes").and_then(Value::as_array_mut).into_iter().flatten();
    for volume in volumes.filter(|volume| volume.get("name").and_then(Value::as_str) == Some("objects")) {
        let name = |index: usize| super::objects::secret_name(run, u32::try_from(index).unwrap_or(u32::MAX));
        let sources: Vec<_> = (0..secrets).map(|index| json!({"secret": {"name": name(index)}})).collect();
        *volume = json!({"name": "objects", "projected": {"sources": sources}});
    }
}

/// The Job of a maintenance run called `name`.
///
/// # Errors
/// It asks for what its namespace does not permit.
pub fn maintenance_job(
    owner: &Owner<'_>,
    name: &str,
    operation: MaintenanceOperation,
    repository: &BackupRepositorySpec,
    repository_id: Option<&str>,
    work: &MaintenanceWork,
    images: &Images<'_>,
) -> Result<Value, PodError> {
    let plan = RunnerPlan::maintenance(name, operation, repository, repository_id, work);
    let default = PodOptions::default();
    let options = repository.pod.as_ref().unwrap_or(&default);
    let restic = &repository.restic;
    let removing = restic.maintenance_secret_ref.as_ref().filter(|_| removes(operation));
    let secret = removing.unwrap_or(&restic.secret_ref);
    let mut pod = Pod::new(owner, options, repository, &plan, secret)?;
    pod.restic_image = options.image.clone().unwrap_or_else(|| images.restic.to_owned());
    pod.tool_image.clone_from(&pod.restic_image);
    if let Some(new) = restic.new_key_secret_ref.as_ref().filter(|_| operation == MaintenanceOperation::RotateKey) {
        pod.secret("new-key", new);
    }
    let deadline = match operation {
        MaintenanceOperation::Check => repository.check.as_ref().map(|check| check.deadline),
        MaintenanceOperation::Prune => repository.prune.as_ref().map(|prune| prune.deadline),
        _ => None,
    };
    let seconds = deadline.map_or(3_600, interlock_crds::Duration::seconds);
    Ok(pod.job(name, seconds, "maintenance", &[], images.interlock))
}

/// A restore.
#[derive(Clone, Copy, Debug)]
pub struct Restore<'a> {
    /// Name of the Job.
    pub name: &'a str,
    /// Claim that is restored to.
    pub claim: &'a str,
    /// Id of the snapshot.
    pub snapshot: &'a str,
    /// How many files it has.
    pub files: i64,
    /// `namespace/name` of the BackupRepository that keeps it.
    pub repository: &'a str,
    /// restic's id of the repository, if known.
    pub repository_id: Option<&'a str>,
    /// Seconds after which it is ended.
    pub deadline: i64,
    /// How a physical copy of a PostgreSQL server is made ready.
    pub recovery: Option<&'a PlannedRecovery>,
}

/// The Job that restores a snapshot to a claim: part of a change, so that it is agreed and carried out like one. Nobody owns
/// it.
///
/// # Errors
/// It asks for what its namespace does not permit.
pub fn restore_job(
    namespace: &str,
    restore: &Restore<'_>,
    policy: &BackupPolicySpec,
    repository: &BackupRepositorySpec,
    images: &Images<'_>,
    privileges_permitted: bool,
) -> Result<Value, PodError> {
    let owner = Owner { kind: "", name: restore.name, uid: restore.name, namespace, privileges_permitted };
    let plan = RunnerPlan::restore(
        restore.name,
        policy,
        repository,
        restore.repository_id,
        (restore.snapshot, restore.files),
        restore.recovery,
    );
    let default = PodOptions::default();
    let options = policy.pod.as_ref().unwrap_or(&default);
    let mut pod = Pod::new(&owner, options, repository, &plan, &repository.restic.secret_ref)?;
    pod.restores = true;
    let of_repository = repository.pod.as_ref().and_then(|pod| pod.image.clone());
    pod.restic_image = options.image.clone().or(of_repository).unwrap_or_else(|| images.restic.to_owned());
    pod.tool_image.clone_from(&pod.restic_image);
    pod.claim("source", restore.claim, SOURCE_PATH, false);
    let mut job = pod.job(restore.name, restore.deadline, super::restore::COMPONENT, &[], images.interlock);
    if let Some(meta) = job.get_mut("metadata").and_then(Value::as_object_mut) {
        meta.remove("ownerReferences");
    }
    let annotations = super::restore::annotations(restore.repository, restore.snapshot, restore.recovery);
    for pointer in ["/metadata", "/spec/template/metadata"] {
        if let Some(meta) = job.pointer_mut(pointer).and_then(Value::as_object_mut) {
            meta.insert("annotations".to_owned(), annotations.clone());
        }
    }
    Ok(job)
}

/// Room for temporary files of a policy's runs, and once more for a base copy.
pub(super) fn scratch_size(policy: &BackupPolicySpec) -> &str {
    policy.pod.as_ref().and_then(|pod| pod.scratch_size.as_deref()).unwrap_or(build::SCRATCH)
}

fn policy_label(pinned: &PinnedPolicy) -> String {
    pinned.policy_uid.clone()
}
