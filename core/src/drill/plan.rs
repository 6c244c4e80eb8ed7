//! What `interlock runner` is told in the pods of a drill: the environment variable [`PLAN_VARIABLE`].
//!
//! Without secrets. Only the restore has an address of the repository in it, and it never runs in the sandbox.

use interlock_crds::{
    BackupPolicySpec, BackupRepositorySpec, ChosenPoint, DrillValidation, Duration, Fault, FaultInjection, PostgresMode,
};
use serde::{Deserialize, Serialize};

use crate::backup::plan::{PlannedHeartbeat, SECRETS_PATH, location, patience};

/// The environment variable with the plan, JSON.
pub const PLAN_VARIABLE: &str = "INTERLOCK_DRILL_PLAN";
/// Version of this form and of the reports.
pub const PLAN_VERSION: u32 = 1;
/// Where the restored volume is mounted.
pub const RESTORED_PATH: &str = "/restored";
/// The folder of that volume with the restored data: snapshots have their paths below `/data`.
pub const DATA_FOLDER: &str = "data";
/// The folder of that volume with the manifest of what was restored, whose digest is in the report.
pub const MANIFEST_FOLDER: &str = "interlock";
/// How long a probe tries to connect.
const PROBE_SECONDS: u32 = 10;

/// The plan of one pod.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DrillPlan {
    /// [`PLAN_VERSION`].
    pub version: u32,
    /// Uid of the DrillRun.
    pub run: String,
    /// What is to be done.
    pub work: DrillWork,
}

/// What one pod does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DrillWork {
    /// Restore snapshots, one over the other, read them back, and write the manifest.
    #[serde(rename_all = "camelCase")]
    Restore {
        /// Where the repository is, as restic writes it.
        repository: String,
        /// restic's id of it: another one is not read.
        repository_id: Option<String>,
        /// How long to wait for a lock of another cluster, in seconds.
        retry_lock_seconds: i64,
        /// How long the address of the repository is tried, in seconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        patience_seconds: Option<i64>,
        /// The certificates of the repository's authority.
        ca_file: Option<String>,
        /// Ids of the snapshots: the base first.
        snapshots: Vec<String>,
    },
    /// Try to connect.
    #[serde(rename_all = "camelCase")]
    Probe {
        /// Address.
        address: String,
        /// TCP port.
        port: u16,
        /// For how long it is tried. One answer is enough to be connected.
        seconds: u32,
    },
    /// Damage the restored copy.
    #[serde(rename_all = "camelCase")]
    Fault {
        /// How.
        fault: Fault,
        /// File or folder, in the pod.
        path: Option<String>,
        /// Where the heartbeat is.
        heartbeat: Option<PlannedHeartbeat>,
    },
    /// Run a PostgreSQL server on the restored data, until the pod is deleted. Ready when it answers queries.
    #[serde(rename_all = "camelCase")]
    Serve {
        /// Dumps that are loaded, or a base copy that is recovered.
        mode: PostgresMode,
        /// Recover to this long before the newest moment, in seconds.
        recover_before_end_seconds: Option<i64>,
    },
    /// Validate the restored data.
    #[serde(rename_all = "camelCase")]
    Validate {
        /// It has failed if it takes longer.
        timeout_seconds: i64,
        /// What is checked.
        validation: Box<DrillValidation>,
        /// Where the heartbeat is.
        heartbeat: Option<PlannedHeartbeat>,
        /// Digest of the manifest of what was restored.
        manifest_digest: Option<String>,
    },
    /// Overwrite the restored copy.
    Wipe,
}

/// Whose programs a work needs beside Interlock's own. Such a work runs in a container of its own and leaves a note; without,
/// one container does all of it and reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkTool<'a> {
    /// Programs of PostgreSQL.
    Postgres,
    /// What this image holds.
    Image(&'a str),
}

impl DrillWork {
    /// Whose programs it needs.
    pub fn tool(&self) -> Option<WorkTool<'_>> {
        let in_table = |heartbeat: &Option<PlannedHeartbeat>| heartbeat.as_ref().is_some_and(|h| h.table.is_some());
        match self {
            Self::Fault { fault: Fault::TamperHeartbeat, heartbeat, .. } if in_table(heartbeat) => {
                Some(WorkTool::Postgres)
            }
            Self::Validate { validation, heartbeat, .. } => match &validation.command {
                Some(command) => Some(WorkTool::Image(&command.image)),
                None if validation.sql.is_some() || (validation.heartbeat.is_some() && in_table(heartbeat)) => {
                    Some(WorkTool::Postgres)
                }
                None => None,
            },
            _ => None,
        }
    }
}

impl DrillPlan {
    /// A plan of the run with this uid.
    pub fn new(run: &str, work: DrillWork) -> Self {
        Self { version: PLAN_VERSION, run: run.to_owned(), work }
    }

    /// The plan as the variable has it.
    pub fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// The restore of a point, which is ended after `limit`.
pub fn restore(
    repository: &BackupRepositorySpec,
    repository_id: Option<&str>,
    chosen: &ChosenPoint,
    limit: Duration,
) -> DrillWork {
    DrillWork::Restore {
        repository: location(repository),
        repository_id: repository_id.map(ToOwned::to_owned),
        retry_lock_seconds: repository.retry_lock.seconds(),
        patience_seconds: Some(patience(limit)),
        ca_file: repository.restic.ca_config_map_ref.as_ref().map(|_| format!("{SECRETS_PATH}/ca/ca.crt")),
        snapshots: chosen.base_id.iter().cloned().chain([chosen.snapshot_id.clone()]).collect(),
    }
}

/// An attempt to connect to `ADDRESS:PORT`; an IPv6 address stands in brackets.
pub fn probe(target: &str) -> Option<DrillWork> {
    let (address, port) = target.rsplit_once(':')?;
    let address = address.trim_start_matches('[').trim_end_matches(']').to_owned();
    Some(DrillWork::Probe { address, port: port.parse().ok()?, seconds: PROBE_SECONDS })
}

/// Damage by a fault; none for one that is no damage.
pub fn fault(fault: &FaultInjection, policy: &BackupPolicySpec) -> Option<DrillWork> {
    (fault.fault != Fault::Delay).then(|| DrillWork::Fault {
        fault: fault.fault,
        path: fault.path.as_deref().map(restored),
        heartbeat: heartbeat(policy),
    })
}

/// A path of the restored data, in a pod.
pub fn restored(path: &str) -> String {
    format!("{RESTORED_PATH}/{DATA_FOLDER}/{}", path.trim_matches('/'))
}

/// Where the heartbeat of a policy is in the restored data.
pub fn heartbeat(policy: &BackupPolicySpec) -> Option<PlannedHeartbeat> {
    let heartbeat = policy.heartbeat.as_ref()?;
    let first = || policy.source.postgres.as_ref()?.databases.first().cloned();
    Some(PlannedHeartbeat {
        table: heartbeat.table.clone(),
        database: heartbeat.database.clone().or_else(first),
        file: heartbeat.file.as_deref().map(restored),
    })
}

/// The superuser of the server in the sandbox. Of its own name, so that every role of a dump can be made as it was.
pub fn database_role(run: &str) -> String {
    let own: String = run.chars().filter(char::is_ascii_alphanumeric).take(8).collect();
    format!("interlock_{}", own.to_ascii_lowercase())
}
