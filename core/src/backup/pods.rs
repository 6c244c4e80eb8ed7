//! The Jobs of backups and maintenance.
//!
//! One pod, four containers in a row: Interlock's image copies `interlock` into a shared folder; where the tool runs in
//! another image, restic's image copies `restic` there too; `tool` runs in its own image, started through `interlock runner`,
//! and notes how it ended; `report`, Interlock's image again, reads the snapshot back and alone writes the result. The pod has
//! no API token, its host name is never set, and it is restricted; only the tool may have the one capability that reads every
//! file, and only where the owner of the namespace permits it.

use interlock_crds::{
    BackupMode, BackupPolicySpec, BackupRepositorySpec, MaintenanceOperation, NameRef, PinnedPolicy, PodOptions,
    ResourceAmounts,
};
use serde_json::{Map, Value, json};

use super::plan::{
    EXCHANGE_PATH, MaintenanceWork, PLAN_VARIABLE, PROGRAMS_PATH, REPOSITORY_PATH, RunnerPlan, SCRATCH_PATH,
    SECRETS_PATH, SOURCE_PATH,
};

/// Label of a namespace by which its owner lets backups read, and restores give back, every file.
pub const PRIVILEGES_LABEL: &str = "interlock.dev/backup-privileges";
/// Its value.
pub const PRIVILEGES_PERMITTED: &str = "permitted";
/// Label of Jobs and pods with the uid of their run.
pub const RUN_LABEL: &str = "interlock.dev/run-uid";
/// User and group of pods that say nothing else.
const NOBODY: i64 = 65_532;

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
            pod.claim("spool", &wal.persistent_volume_claim, SOURCE_PATH, false);
        }
    }
    if let Some(command) = &source.command {
        pod.tool_image.clone_from(&command.image);
        if let Some(secret) = &command.secret_ref {
            pod.environment.push(json!({"secretRef": {"name": secret.name}}));
        }
    }
    if source.objects.is_some() {
        pod.volumes.push(json!({"name": "objects", "secret": {"secretName": format!("{}-objects", owner.name)}}));
        pod.mounts.push(json!({"name": "objects", "mountPath": SOURCE_PATH, "readOnly": true}));
    }
    let labels = [("interlock.dev/backup-policy", policy_label(pinned))];
    Ok(pod.job(owner.name, policy.deadline.seconds(), "backup", &labels, images.interlock))
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
    let removes = matches!(
        operation,
        MaintenanceOperation::Prune | MaintenanceOperation::RotateKey | MaintenanceOperation::Unlock
    );
    let restic = &repository.restic;
    let secret = restic.maintenance_secret_ref.as_ref().filter(|_| removes).unwrap_or(&restic.secret_ref);
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

fn policy_label(pinned: &PinnedPolicy) -> String {
    pinned.policy_uid.clone()
}

struct Pod<'a> {
    owner: &'a Owner<'a>,
    options: &'a PodOptions,
    plan: String,
    restic_image: String,
    tool_image: String,
    volumes: Vec<Value>,
    mounts: Vec<Value>,
    environment: Vec<Value>,
}

impl<'a> Pod<'a> {
    fn new(
        owner: &'a Owner<'a>,
        options: &'a PodOptions,
        repository: &BackupRepositorySpec,
        plan: &RunnerPlan,
        secret: &NameRef,
    ) -> Result<Self, PodError> {
        if options.read_all && !owner.privileges_permitted {
            return Err(PodError::NotPermitted(owner.namespace.to_owned()));
        }
        let plan = serde_json::to_string(plan).map_err(|error| PodError::Plan(error.to_string()))?;
        let scratch = options.scratch_size.as_deref().unwrap_or("2Gi");
        let mut pod = Self {
            owner,
            options,
            plan,
            restic_image: String::new(),
            tool_image: String::new(),
            volumes: vec![
                json!({"name": "programs", "emptyDir": {"sizeLimit": "256Mi"}}),
                json!({"name": "exchange", "emptyDir": {"sizeLimit": "64Mi"}}),
                json!({"name": "scratch", "emptyDir": {"sizeLimit": scratch}}),
            ],
            mounts: vec![
                json!({"name": "programs", "mountPath": PROGRAMS_PATH}),
                json!({"name": "exchange", "mountPath": EXCHANGE_PATH}),
                json!({"name": "scratch", "mountPath": SCRATCH_PATH}),
            ],
            environment: vec![json!({"secretRef": {"name": secret.name}})],
        };
        pod.secret("repository", secret);
        if let Some(volume) = &repository.restic.volume {
            pod.claim("repository-volume", &volume.persistent_volume_claim, REPOSITORY_PATH, false);
        }
        if let Some(ca) = &repository.restic.ca_config_map_ref {
            pod.volumes.push(json!({"name": "ca", "configMap": {"name": ca.name}}));
            pod.mounts.push(json!({"name": "ca", "mountPath": format!("{SECRETS_PATH}/ca"), "readOnly": true}));
        }
        Ok(pod)
    }

    fn claim(&mut self, name: &str, claim: &str, path: &str, read_only: bool) {
        self.volumes.push(json!({"name": name, "persistentVolumeClaim": {"claimName": claim, "readOnly": read_only}}));
        self.mounts.push(json!({"name": name, "mountPath": path, "readOnly": read_only}));
    }

    fn secret(&mut self, name: &str, secret: &NameRef) {
        let volume = format!("{name}-secret");
        self.volumes.push(json!({"name": volume, "secret": {"secretName": secret.name}}));
        self.mounts.push(json!({"name": volume, "mountPath": format!("{SECRETS_PATH}/{name}"), "readOnly": true}));
    }

    fn job(&self, name: &str, deadline: i64, component: &str, more: &[(&str, String)], interlock: &str) -> Value {
        let options = self.options;
        let mut labels = Map::new();
        labels.insert("app.kubernetes.io/managed-by".into(), json!("interlock"));
        labels.insert("app.kubernetes.io/component".into(), json!(component));
        labels.insert(RUN_LABEL.into(), json!(self.owner.uid));
        labels.extend(more.iter().map(|(key, value)| ((*key).to_owned(), json!(value))));
        let runner = format!("{PROGRAMS_PATH}/interlock");
        let mut init = vec![Self::small("install", interlock, &["interlock", "runner", "install", PROGRAMS_PATH])];
        if self.tool_image != self.restic_image {
            init.push(Self::small(
                "restic",
                &self.restic_image,
                &[&runner, "runner", "install-tool", "restic", PROGRAMS_PATH],
            ));
        }
        init.push(self.tool(&[&runner, "runner", "tool"]));
        let mut report = self.container("report", interlock, &["interlock", "runner", "report"]);
        report["securityContext"] = restricted();
        report["terminationMessagePolicy"] = json!("File");
        let mut spec = json!({
            "restartPolicy": "Never",
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "terminationGracePeriodSeconds": 60,
            "securityContext": self.pod_security(),
            "initContainers": init,
            "containers": [report],
            "volumes": self.volumes,
        });
        if let Some(class) = &options.priority_class_name {
            spec["priorityClassName"] = json!(class);
        }
        if !options.image_pull_secrets.is_empty() {
            spec["imagePullSecrets"] = options.image_pull_secrets.iter().map(|name| json!({"name": name})).collect();
        }
        if !options.node_selector.is_empty() {
            spec["nodeSelector"] =
                options.node_selector.iter().map(|l| (l.key.clone(), json!(l.value))).collect::<Map<_, _>>().into();
        }
        if !options.tolerations.is_empty() {
            let tolerations = options.tolerations.iter().map(|t| {
                let operator = if t.value.is_some() { "Equal" } else { "Exists" };
                let mut toleration = json!(t);
                toleration["operator"] = json!(operator);
                toleration
            });
            spec["tolerations"] = tolerations.collect();
        }
        if !options.same_node_as.is_empty() {
            let wanted: Map<_, _> = options.same_node_as.iter().map(|l| (l.key.clone(), json!(l.value))).collect();
            spec["affinity"] = json!({"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
                {"labelSelector": {"matchLabels": wanted}, "topologyKey": "kubernetes.io/hostname"}
            ]}});
        }
        json!({
            "apiVersion": "batch/v1", "kind": "Job",
            "metadata": {
                "name": name, "namespace": self.owner.namespace, "labels": labels,
                "ownerReferences": [{
                    "apiVersion": interlock_crds::API_VERSION, "kind": self.owner.kind, "name": self.owner.name,
                    "uid": self.owner.uid, "controller": true, "blockOwnerDeletion": true,
                }],
            },
            "spec": {
                "backoffLimit": 0, "completions": 1, "parallelism": 1, "podReplacementPolicy": "Failed",
                "activeDeadlineSeconds": deadline,
                "template": {"metadata": {"labels": labels}, "spec": spec},
            },
        })
    }

    /// A container that copies a program.
    fn small(name: &str, image: &str, command: &[&str]) -> Value {
        let mut container = json!({"name": name, "image": image, "command": command, "securityContext": restricted()});
        container["volumeMounts"] = json!([{"name": "programs", "mountPath": PROGRAMS_PATH}]);
        container["resources"] = json!({"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}});
        container
    }

    fn tool(&self, command: &[&str]) -> Value {
        let mut container = self.container("tool", &self.tool_image, command);
        container["securityContext"] = restricted();
        if self.options.read_all {
            container["securityContext"] = json!({
                "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "runAsNonRoot": false, "runAsUser": 0,
                "capabilities": {"drop": ["ALL"], "add": ["DAC_READ_SEARCH"]},
            });
        }
        container
    }

    fn container(&self, name: &str, image: &str, command: &[&str]) -> Value {
        let resources = self.options.resources.clone().unwrap_or_default();
        let fixed = |amounts: Option<ResourceAmounts>, cpu: Option<&str>, memory: &str| {
            let amounts = amounts.unwrap_or_default();
            let mut all = Map::new();
            all.extend(amounts.cpu.as_deref().or(cpu).map(|cpu| ("cpu".to_owned(), json!(cpu))));
            all.insert("memory".into(), json!(amounts.memory.as_deref().unwrap_or(memory)));
            all.extend(amounts.ephemeral_storage.map(|disk| ("ephemeral-storage".to_owned(), json!(disk))));
            all
        };
        json!({
            "name": name, "image": image, "command": command,
            "env": [
                {"name": PLAN_VARIABLE, "value": self.plan},
                {"name": "RESTIC_CACHE_DIR", "value": format!("{SCRATCH_PATH}/cache")},
                {"name": "TMPDIR", "value": SCRATCH_PATH},
                {"name": "HOME", "value": SCRATCH_PATH},
            ],
            "envFrom": self.environment,
            "resources": {"requests": fixed(resources.requests, Some("100m"), "256Mi"), "limits": fixed(resources.limits, None, "2Gi")},
            "volumeMounts": self.mounts,
        })
    }

    fn pod_security(&self) -> Value {
        let options = self.options;
        let mut context = json!({
            "runAsNonRoot": true,
            "runAsUser": options.run_as_user.unwrap_or(NOBODY),
            "runAsGroup": options.run_as_group.unwrap_or(NOBODY),
            "seccompProfile": {"type": "RuntimeDefault"},
        });
        if let Some(group) = options.fs_group {
            context["fsGroup"] = json!(group);
            context["fsGroupChangePolicy"] = json!("OnRootMismatch");
        }
        if !options.supplemental_groups.is_empty() {
            context["supplementalGroups"] = json!(options.supplemental_groups);
        }
        context
    }
}

/// A container by the restricted Pod Security Standard.
fn restricted() -> Value {
    json!({"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}})
}
