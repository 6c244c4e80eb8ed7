//! What `interlock runner` is told: the plan of one pod, in the environment variable [`PLAN_VARIABLE`].
//!
//! Without secrets: credentials reach the tool through the environment and files of the Secret alone. Paths are fixed, so that
//! snapshots of one policy compare with each other wherever they ran.

use interlock_crds::{
    BackupMode, BackupPolicySpec, BackupRepositorySpec, Duration, MaintenanceOperation, PinnedPolicy, PostgresMode,
    SslMode,
};
use serde::{Deserialize, Serialize};

use super::{result::RunnerOperation, wal};

/// The environment variable with the plan, JSON.
pub const PLAN_VARIABLE: &str = "INTERLOCK_PLAN";
/// Where the source's volume is mounted, or the manifests of objects are copied to.
pub const SOURCE_PATH: &str = "/data";
/// Where a base copy of a PostgreSQL server is made, and restored to.
pub const BASE_PATH: &str = "/data/base";
/// Where the spool with segments of write-ahead log is mounted, and restored to.
pub const WAL_PATH: &str = "/data/wal";
/// Where the Secrets with manifests of objects are mounted, to be copied to [`SOURCE_PATH`].
pub const OBJECTS_PATH: &str = "/interlock/objects";
/// Where a repository on a volume is mounted.
pub const REPOSITORY_PATH: &str = "/repository";
/// Where the programs are copied to.
pub const PROGRAMS_PATH: &str = "/interlock/bin";
/// Where containers of one pod tell each other how they ended.
pub const EXCHANGE_PATH: &str = "/interlock/run";
/// Where credentials are mounted that are no environment variables, one folder a Secret.
pub const SECRETS_PATH: &str = "/interlock/secrets";
/// Cache and temporary files of the tool.
pub const SCRATCH_PATH: &str = "/interlock/scratch";
/// Longest time that the address of a repository is tried, in seconds: a server whose pod moves is back by then.
pub const MAX_PATIENCE_SECONDS: i64 = 300;
/// Most snapshots that one prune forgets; the rest is left to the next one.
pub const MAX_FORGET: usize = 500;

/// The plan of one pod.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunnerPlan {
    /// Version of this form: that of the result.
    pub version: u32,
    /// Uid of the run.
    pub run: String,
    /// What is to be done.
    pub operation: RunnerOperation,
    /// Where the repository is, as restic writes it.
    pub repository: String,
    /// restic's id of it, if known: another one is not touched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository_id: Option<String>,
    /// How long to wait for a lock of another cluster, in seconds.
    pub retry_lock_seconds: i64,
    /// How long the address of the repository is tried, in seconds. Default: [`MAX_PATIENCE_SECONDS`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patience_seconds: Option<i64>,
    /// The certificates of the repository's authority.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<String>,
    /// `--host` of the snapshot: the policy's uid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// What is copied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<PlannedSource>,
    /// Read everything again (`--force`).
    #[serde(default)]
    pub force: bool,
    /// Compare with this snapshot (`--parent`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Heartbeat to read before the copying.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat: Option<PlannedHeartbeat>,
    /// Snapshot to restore to [`SOURCE_PATH`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore: Option<PlannedRestore>,
    /// Snapshots to forget.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forget: Vec<String>,
    /// Percent that may stay unused after a prune.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_unused_percent: Option<u8>,
    /// The part of the data that a check reads, as `n/N`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_data_subset: Option<String>,
}

/// What is restored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlannedRestore {
    /// Id of the snapshot.
    pub snapshot: String,
    /// How many files its recovery point has: of one that has any, nothing that comes back is a failure. None: it is not said, and
    /// taken to have some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<i64>,
    /// The folder of the snapshot whose content is restored; none restores everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
    /// It is a physical copy of a PostgreSQL server, to be made ready to recover.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery: Option<PlannedRecovery>,
}

/// How a physical copy of a PostgreSQL server is made ready.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlannedRecovery {
    /// Snapshot of the base copy, if the restored one is of write-ahead log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// The moment to recover to; none: the end of what is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<jiff::Timestamp>,
}

/// What is copied.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum PlannedSource {
    /// Paths below [`SOURCE_PATH`].
    #[serde(rename_all = "camelCase")]
    Files {
        /// Absolute paths in the pod.
        paths: Vec<String>,
        /// Patterns that are left out.
        exclude: Vec<String>,
    },
    /// Output of a program, as one file.
    #[serde(rename_all = "camelCase")]
    Command {
        /// Program and arguments.
        command: Vec<String>,
        /// Name of the file.
        file_name: String,
    },
    /// A PostgreSQL server; credentials are in `/interlock/secrets/source`.
    #[serde(rename_all = "camelCase")]
    Postgres {
        /// Host.
        host: String,
        /// Port.
        port: u16,
        /// Databases; empty: all.
        databases: Vec<String>,
        /// How.
        mode: PostgresMode,
        /// How the connection is secured.
        ssl_mode: SslMode,
        /// Physical: whether a base copy is made, or completed segments of the spool are copied.
        base: bool,
        /// Physical: replication slot.
        slot: Option<String>,
        /// Physical: snapshot of the base copy that segments carry on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        base_id: Option<String>,
        /// Physical: room for a base copy, in bytes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        room_bytes: Option<u64>,
    },
    /// Manifests below [`OBJECTS_PATH`], one file each, copied as files of [`SOURCE_PATH`].
    Objects,
}

/// A heartbeat to read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlannedHeartbeat {
    /// Table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// Its database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// Path of the file, in the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}

/// What maintenance does beside its operation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MaintenanceWork {
    /// Snapshots to forget.
    pub forget: Vec<String>,
    /// The part of the data to read, counted from 1.
    pub part: Option<u32>,
}

/// Where a repository is, seen from a pod.
pub fn location(repository: &BackupRepositorySpec) -> String {
    match (&repository.restic.url, &repository.restic.volume) {
        (Some(url), _) => url.clone(),
        (None, Some(volume)) => below(REPOSITORY_PATH, &volume.path),
        (None, None) => String::new(),
    }
}

/// Whether an operation removes something, and so goes by maintenanceSecretRef and maintenanceUrl.
pub fn removes(operation: MaintenanceOperation) -> bool {
    matches!(operation, MaintenanceOperation::Prune | MaintenanceOperation::RotateKey | MaintenanceOperation::Unlock)
}

/// How long the address of a repository is tried, in seconds: of a short deadline half, so that what it came to can be told.
pub fn patience(deadline: Duration) -> i64 {
    (deadline.seconds() / 2).min(MAX_PATIENCE_SECONDS)
}

/// The path `path` of a volume that is mounted at `mount`.
pub fn below(mount: &str, path: &str) -> String {
    let path = path.trim_matches('/');
    if path.is_empty() { mount.to_owned() } else { format!("{mount}/{path}") }
}

/// The part of the data that check number `part` (from 1) reads of `1/N`.
pub fn subset(spec: &str, part: u32) -> Option<String> {
    let parts: u32 = spec.strip_prefix("1/")?.parse().ok().filter(|parts| *parts > 0)?;
    Some(format!("{}/{parts}", (part.max(1) - 1) % parts + 1))
}

impl RunnerPlan {
    fn new(run: &str, operation: RunnerOperation, repository: &BackupRepositorySpec, id: Option<&str>) -> Self {
        Self {
            repository_id: id.map(ToOwned::to_owned),
            retry_lock_seconds: repository.retry_lock.seconds(),
            ca_file: repository.restic.ca_config_map_ref.as_ref().map(|_| format!("{SECRETS_PATH}/ca/ca.crt")),
            ..Self::at(run, operation, location(repository))
        }
    }

    /// A plan that says only which run does what with the repository at this place.
    pub fn at(run: &str, operation: RunnerOperation, repository: String) -> Self {
        Self {
            version: super::result::RESULT_VERSION,
            run: run.to_owned(),
            operation,
            repository,
            repository_id: None,
            retry_lock_seconds: 0,
            patience_seconds: None,
            ca_file: None,
            host: None,
            source: None,
            force: false,
            parent: None,
            heartbeat: None,
            restore: None,
            forget: Vec::new(),
            max_unused_percent: None,
            read_data_subset: None,
        }
    }

    /// The plan of a backup.
    pub fn backup(
        run: &str,
        policy: &BackupPolicySpec,
        repository: &BackupRepositorySpec,
        pinned: &PinnedPolicy,
        mode: BackupMode,
    ) -> Self {
        let incremental = mode == BackupMode::Incremental;
        let heartbeat = policy.heartbeat.as_ref().map(|heartbeat| PlannedHeartbeat {
            table: heartbeat.table.clone(),
            database: heartbeat
                .database
                .clone()
                .or_else(|| policy.source.postgres.as_ref()?.databases.first().cloned()),
            file: heartbeat.file.as_ref().map(|file| below(SOURCE_PATH, file)),
        });
        Self {
            host: Some(pinned.policy_uid.clone()),
            source: source(policy, pinned, mode),
            force: !incremental,
            parent: pinned.parent.clone().filter(|_| incremental),
            heartbeat,
            patience_seconds: Some(patience(policy.deadline)),
            ..Self::new(run, RunnerOperation::Backup, repository, pinned.repository_id.as_deref())
        }
    }

    /// The plan of a restore to a volume that is mounted at [`SOURCE_PATH`].
    pub fn restore(
        run: &str,
        policy: &BackupPolicySpec,
        repository: &BackupRepositorySpec,
        id: Option<&str>,
        (snapshot, files): (&str, i64),
        recovery: Option<&PlannedRecovery>,
    ) -> Self {
        // Files were copied from where they go back to; everything else is one file at the top.
        let folders = policy.source.files.is_some() || policy.source.objects.is_some();
        let folder = folders.then(|| SOURCE_PATH.to_owned());
        let (snapshot, recovery) = (snapshot.to_owned(), recovery.cloned());
        let restore = PlannedRestore { snapshot, files: Some(files), folder, recovery };
        Self { restore: Some(restore), ..Self::new(run, RunnerOperation::Restore, repository, id) }
    }

    /// The plan of maintenance.
    pub fn maintenance(
        run: &str,
        operation: MaintenanceOperation,
        repository: &BackupRepositorySpec,
        id: Option<&str>,
        work: &MaintenanceWork,
    ) -> Self {
        let does = match operation {
            MaintenanceOperation::Initialize => RunnerOperation::Initialize,
            MaintenanceOperation::Check => RunnerOperation::Check,
            MaintenanceOperation::Prune => RunnerOperation::Prune,
            MaintenanceOperation::RotateKey => RunnerOperation::RotateKey,
            MaintenanceOperation::Unlock => RunnerOperation::Unlock,
        };
        let of = |wanted: MaintenanceOperation| operation == wanted;
        let check = repository.check.as_ref().filter(|_| of(MaintenanceOperation::Check));
        let prune = repository.prune.as_ref().filter(|_| of(MaintenanceOperation::Prune));
        let deadline = check.map(|check| check.deadline).or(prune.map(|prune| prune.deadline));
        let another = repository.restic.maintenance_url.clone().filter(|_| removes(operation));
        Self {
            repository: another.unwrap_or_else(|| location(repository)),
            patience_seconds: deadline.map(patience),
            forget: prune.map(|_| work.forget.iter().take(MAX_FORGET).cloned().collect()).unwrap_or_default(),
            max_unused_percent: prune.map(|prune| prune.max_unused_percent),
            read_data_subset: check
                .and_then(|check| check.read_data_subset.as_deref())
                .and_then(|parts| subset(parts, work.part.unwrap_or(1))),
            ..Self::new(run, does, repository, id)
        }
    }
}

fn source(policy: &BackupPolicySpec, pinned: &PinnedPolicy, mode: BackupMode) -> Option<PlannedSource> {
    let source = &policy.source;
    if let Some(files) = &source.files {
        let paths = files.paths.iter().map(|path| below(SOURCE_PATH, path)).collect();
        return Some(PlannedSource::Files { paths, exclude: files.exclude.clone() });
    }
    if let Some(command) = &source.command {
        let (command, file_name) = (command.command.clone(), command.file_name.clone());
        return Some(PlannedSource::Command { command, file_name });
    }
    if let Some(postgres) = &source.postgres {
        return Some(PlannedSource::Postgres {
            host: postgres.host.clone(),
            port: postgres.port,
            databases: postgres.databases.clone(),
            mode: postgres.mode,
            ssl_mode: postgres.ssl_mode,
            base: mode == BackupMode::Full,
            slot: postgres.wal.as_ref().map(|wal| wal.slot.clone()),
            base_id: pinned.base_id.clone(),
            room_bytes: postgres.wal.as_ref().and_then(|_| wal::quantity_bytes(super::pods::scratch_size(policy))),
        });
    }
    source.objects.as_ref().map(|_| PlannedSource::Objects)
}
