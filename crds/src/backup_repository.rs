//! BackupRepository: where backups live.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    backup_pod::PodOptions,
    common::{Duration, NameRef},
    rules,
};

/// Where backups live, with which credentials, how they are checked and when unused space is freed.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "interlock.dev",
    version = "v1alpha1",
    kind = "BackupRepository",
    plural = "backuprepositories",
    shortname = "repo",
    category = "interlock",
    namespaced,
    status = "BackupRepositoryStatus",
    derive = "PartialEq",
    doc = "Where backups live, how they are checked and pruned",
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Points", type_ = "integer", json_path = ".status.points"),
    printcolumn(name = "Checked", type_ = "date", json_path = ".status.lastCheck.finishedAt"),
    printcolumn(name = "Check", type_ = "string", json_path = ".status.lastCheck.outcome"),
    printcolumn(name = "Pruned", type_ = "date", json_path = ".status.lastPrune.finishedAt"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.size() <= 52").message("the name of a BackupRepository is part of the names of Jobs: at most 52 characters")
)]
#[serde(rename_all = "camelCase")]
pub struct BackupRepositorySpec {
    /// A repository in restic's format.
    pub restic: ResticRepository,
    /// Create the repository if none is at that address. Never done again once one was seen there: a repository that
    /// disappeared is a finding, not a fresh start. Default: true.
    #[serde(default = "yes")]
    pub initialize: bool,
    /// IANA time zone of the schedules here. Default: UTC.
    #[serde(default = "utc")]
    #[schemars(length(min = 1, max = 64), regex(pattern = rules::TIME_ZONE))]
    pub time_zone: String,
    /// When the repository is checked. Default: never, and condition Checked says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<RepositoryCheck>,
    /// When recovery points that no policy keeps are forgotten and their space is freed. Default: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prune: Option<RepositoryPrune>,
    /// How long a tool waits for a lock of another cluster on the repository. Default: 10m.
    #[serde(default = "ten_minutes")]
    pub retry_lock: Duration,
    /// Pods of checks and prunes; `image` is also the default of the policies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodOptions>,
    /// Begin no check and no prune. Default: false.
    #[serde(default)]
    pub suspend: bool,
}

fn yes() -> bool {
    true
}

fn utc() -> String {
    "UTC".to_owned()
}

fn ten_minutes() -> Duration {
    Duration::from_seconds(600)
}

/// A repository in restic's format: at a URL, or on a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.url) != has(self.volume)").message("give either restic.url or restic.volume"))]
#[x_kube(validation = Rule::new("(has(self.url) == has(oldSelf.url)) && (!has(self.url) || self.url == oldSelf.url) && (has(self.volume) == has(oldSelf.volume)) && (!has(self.volume) || self.volume == oldSelf.volume)").message("the address of a repository cannot be changed, as its recovery points are there: make another BackupRepository"))]
#[x_kube(validation = Rule::new("!has(self.caConfigMapRef) || (has(self.url) && self.url.contains('https://')) || (has(self.maintenanceUrl) && self.maintenanceUrl.contains('https://'))").message("caConfigMapRef needs a url or maintenanceUrl with https://"))]
#[x_kube(validation = Rule::new("!has(self.maintenanceUrl) || (has(self.url) && has(self.maintenanceSecretRef))").message("maintenanceUrl needs url and maintenanceSecretRef: it is the address that those credentials are for"))]
#[x_kube(validation = Rule::new("(!has(self.url) || !self.url.startsWith('sftp:') || self.url.contains('@')) && (!has(self.maintenanceUrl) || !self.maintenanceUrl.startsWith('sftp:') || self.maintenanceUrl.contains('@'))").message("an address with sftp names the user who logs in, as a pod has none: sftp:USER@HOST:/PATH"))]
pub struct ResticRepository {
    /// Address as restic writes it: `s3:https://HOST/BUCKET/PATH`, `rest:https://HOST/PATH/`, `sftp:USER@HOST:/PATH` or, with
    /// another port than 22, `sftp://USER@HOST:PORT//PATH`. Credentials stand in the Secret, never here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 4, max = 1024), regex(pattern = rules::RESTIC_URL))]
    pub url: Option<String>,
    /// A volume of this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<RepositoryVolume>,
    /// Secret with `RESTIC_PASSWORD` and the variables that restic's backend reads (such as `AWS_ACCESS_KEY_ID` and
    /// `AWS_SECRET_ACCESS_KEY`). For sftp `ssh-privatekey`, an ed25519 or ecdsa key without a passphrase, and `known_hosts`, the
    /// only keys that the server may show. Used by backups and restores; append-only credentials are enough.
    pub secret_ref: NameRef,
    /// Secret of the same form whose credentials may also delete; used by prune, unlock and key rotation alone. Default:
    /// secretRef.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maintenance_secret_ref: Option<NameRef>,
    /// The same repository at the address that the credentials of maintenanceSecretRef are for, where whoever asks at url is
    /// refused: a REST server with `--append-only` refuses everybody, so a second one without it serves the same data to those
    /// who may delete. Nothing is done there if the repository has another id. Default: url.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 4, max = 1024), regex(pattern = rules::RESTIC_URL))]
    pub maintenance_url: Option<String>,
    /// ConfigMap with the certificates of the server's authority under `ca.crt`. Default: public authorities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_config_map_ref: Option<NameRef>,
    /// Rotate the key: Secret with the new `RESTIC_PASSWORD`. It is added, proved to open the repository, and then the key
    /// of maintenanceSecretRef, or else of secretRef, is removed; other keys stay. Condition KeyRotated says when secretRef may
    /// name it: until it does, runs end with WrongPassword. Default: no rotation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_key_secret_ref: Option<NameRef>,
}

/// A volume that holds a repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RepositoryVolume {
    /// Name of the PersistentVolumeClaim.
    #[schemars(length(min = 1, max = 253), regex(pattern = rules::NAME))]
    pub persistent_volume_claim: String,
    /// Path on it. Default: `/`.
    #[serde(default = "top")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = rules::PATH))]
    pub path: String,
}

fn top() -> String {
    "/".to_owned()
}

/// When a repository is checked, and how much of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RepositoryCheck {
    /// Cron expression, five fields.
    #[schemars(length(min = 1, max = 128), regex(pattern = rules::CRON))]
    pub schedule: String,
    /// The part of the data that each check reads, as `1/N`; the next check reads the next part, so that N checks read
    /// everything. Default: structure only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 6), regex(pattern = r"^1/[1-9][0-9]{0,2}$"))]
    pub read_data_subset: Option<String>,
    /// A check that takes longer is ended and has failed. Default: 12h.
    #[serde(default = "twelve_hours")]
    pub deadline: Duration,
}

/// When a repository is pruned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RepositoryPrune {
    /// Cron expression, five fields.
    #[schemars(length(min = 1, max = 128), regex(pattern = rules::CRON))]
    pub schedule: String,
    /// Percent of the repository that may stay unused so that less is rewritten. Default: 5.
    #[serde(default = "five")]
    #[schemars(range(min = 0, max = 100))]
    pub max_unused_percent: u8,
    /// A prune that takes longer is ended and has failed; the next one goes on. Default: 12h.
    #[serde(default = "twelve_hours")]
    pub deadline: Duration,
}

fn five() -> u8 {
    5
}

fn twelve_hours() -> Duration {
    Duration::from_seconds(43_200)
}

/// What the controller found out about a BackupRepository.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupRepositoryStatus {
    /// Generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Where it stands.
    #[serde(default)]
    pub phase: RepositoryPhase,
    /// What happened last or is wrong, for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub message: Option<String>,
    /// restic's id of the repository. Once known, another repository at the address is not used and none is made there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub repository_id: Option<String>,
    /// When the repository was first seen or made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen_at: Option<Time>,
    /// Number of recovery points that Interlock knows in it.
    #[serde(default)]
    pub points: u32,
    /// Size in bytes after the last prune or check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<i64>,
    /// The newest check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_check: Option<MaintenanceRecord>,
    /// The newest prune.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_prune: Option<MaintenanceRecord>,
    /// The newest attempt to make the repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_initialize: Option<MaintenanceRecord>,
    /// The newest removal of stale locks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_unlock: Option<MaintenanceRecord>,
    /// The newest exchange of the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_key_rotation: Option<MaintenanceRecord>,
    /// The part of the data that the next check reads, counted from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_part: Option<u32>,
    /// Check or prune that is running or waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<MaintenanceRecord>,
    /// Who holds the repository; the truth is the Lease.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub holders: Vec<RepositoryHolder>,
    /// How many runs wait for it.
    #[serde(default)]
    pub waiting: u32,
    /// When the controller will look again, if time alone changes the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_transition: Option<Time>,
    /// Valid, Ready, Checked, KeyRotated.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
}

/// Where a repository stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RepositoryPhase {
    /// Nothing is known yet.
    #[default]
    Pending,
    /// It was reached and is in order.
    Ready,
    /// It is being checked.
    Checking,
    /// It is being pruned.
    Pruning,
    /// It could not be reached or opened.
    Unreachable,
    /// A check found damage.
    Damaged,
    /// The spec cannot be used.
    Invalid,
}

/// A check or prune.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MaintenanceRecord {
    /// What was done.
    pub operation: MaintenanceOperation,
    /// Deterministic name of the run and its Job.
    #[schemars(length(max = 63))]
    pub name: String,
    /// The slot that it is for; none if a person asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<Time>,
    /// Uid of its Job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub job_uid: Option<String>,
    /// When it became due.
    pub due_at: Time,
    /// When its Job was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<MaintenanceOutcome>,
    /// Why, in CamelCase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub reason: Option<String>,
    /// Why, for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
    /// The part of the data that a check read, as `n/N`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 9))]
    pub part: Option<String>,
    /// How many recovery points a prune forgot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forgotten: Option<u32>,
    /// How many bytes a prune freed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freed_bytes: Option<i64>,
}

/// What is done to a repository as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum MaintenanceOperation {
    /// Make it.
    Initialize,
    /// Check it.
    Check,
    /// Forget recovery points and free their space.
    Prune,
    /// Add the new key and remove the old one.
    RotateKey,
    /// Remove locks of runs that are proved to have ended.
    Unlock,
}

/// How a check or prune ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)]
pub enum MaintenanceOutcome {
    Succeeded,
    Failed,
}

/// One holder of a repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RepositoryHolder {
    /// Kind and name, such as `Backup/teller-db-weekly-1a2b3c`.
    #[schemars(length(max = 320))]
    pub holder: String,
    /// Uid of that object.
    #[schemars(length(max = 64))]
    pub uid: String,
    /// It lets nobody else in.
    #[serde(default)]
    pub exclusive: bool,
    /// Since when.
    pub since: Time,
}
