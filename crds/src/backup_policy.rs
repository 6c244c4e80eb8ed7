//! BackupPolicy: what is backed up, when, and for how long it is kept.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    backup_pod::{Hooks, LabelValue, PodOptions},
    backup_policy_status::BackupPolicyStatus,
    backup_source::BackupSource,
    common::{Duration, NameRef},
    rules,
};

/// What is backed up, when, where to, and for how long it is kept. The policy, its repository and its source are in one
/// namespace.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "interlock.dev",
    version = "v1alpha1",
    kind = "BackupPolicy",
    plural = "backuppolicies",
    shortname = "bp",
    category = "interlock",
    namespaced,
    status = "BackupPolicyStatus",
    derive = "PartialEq",
    doc = "What is backed up, when, and for how long it is kept",
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Last good", type_ = "date", json_path = ".status.lastGood.dataTime"),
    printcolumn(name = "Last proven", type_ = "date", json_path = ".status.lastProven.dataTime"),
    printcolumn(name = "Last run", type_ = "string", json_path = ".status.lastRun.phase"),
    printcolumn(name = "Next", type_ = "string", json_path = ".status.nextSlot"),
    printcolumn(name = "Points", type_ = "integer", json_path = ".status.points", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.size() <= 40").message("the name of a BackupPolicy is part of the names of runs and Jobs: at most 40 characters"),
    validation = Rule::new("self.spec.repositoryRef == oldSelf.spec.repositoryRef").message("the recovery points of a policy are in its repository, so repositoryRef cannot be changed: make another BackupPolicy")
)]
#[serde(rename_all = "camelCase")]
pub struct BackupPolicySpec {
    /// BackupRepository of this namespace. Cannot be changed, as the policy's recovery points are there.
    pub repository_ref: NameRef,
    /// What is copied.
    pub source: BackupSource,
    /// When. None: only when a person asks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub schedules: Vec<BackupSchedule>,
    /// What happens to a slot while an earlier run is active. Default: Forbid.
    #[serde(default)]
    pub overlap: OverlapRule,
    /// A run is begun at most so long after its slot, chosen by hash of the policy's uid and the same each time: it spreads
    /// policies with one schedule. Default: no spread, a run begins at its slot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter: Option<Duration>,
    /// A run whose Job takes longer is ended and has failed. Default: 6h.
    #[serde(default = "six_hours")]
    pub deadline: Duration,
    /// A run that the repository has not let in by then (while it is pruned) has failed. Default: 2h.
    #[serde(default = "two_hours")]
    pub wait_for_repository: Duration,
    /// For how long recovery points are kept.
    pub retention: Retention,
    /// What must not be missed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objectives: Option<BackupObjectives>,
    /// A record that is written to the source all the time, by which lost data is measured. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat: Option<Heartbeat>,
    /// What is done around the copying.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hooks: Option<Hooks>,
    /// Pods of the runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodOptions>,
    /// Begin no run. Slots meanwhile are not made up for, unless runOnResume. Default: false.
    #[serde(default)]
    pub suspend: bool,
    /// Begin one run when suspend ends, if a slot passed meanwhile. Default: false.
    #[serde(default)]
    pub run_on_resume: bool,
}

fn six_hours() -> Duration {
    Duration::from_seconds(21_600)
}

fn two_hours() -> Duration {
    Duration::from_seconds(7_200)
}

/// When runs are due.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupSchedule {
    /// Name, part of the names of runs.
    #[schemars(length(min = 1, max = 20), regex(pattern = rules::LABEL))]
    pub name: String,
    /// Full reads everything again; Incremental reads what changed since the last recovery point. Every recovery point is
    /// complete either way, except those of physical PostgreSQL, which need their base. Default: Incremental.
    #[serde(default)]
    pub mode: BackupMode,
    /// Cron expression, five fields.
    #[schemars(length(min = 1, max = 128), regex(pattern = rules::CRON))]
    pub schedule: String,
    /// IANA time zone of the schedule. A local time that the clocks skip is when they change; one that they repeat is the
    /// first time. Default: UTC.
    #[serde(default = "utc")]
    #[schemars(length(min = 1, max = 64), regex(pattern = rules::TIME_ZONE))]
    pub time_zone: String,
    /// A slot that could not begin for so long is missed, and the next one is waited for. Default: a slot is made up for,
    /// however late, and of several the newest alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starting_deadline: Option<Duration>,
}

fn utc() -> String {
    "UTC".to_owned()
}

/// How much is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum BackupMode {
    /// What changed since the last recovery point.
    #[default]
    Incremental,
    /// Everything.
    Full,
}

/// What happens to a slot while an earlier run of the policy is active.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OverlapRule {
    /// The slot is skipped.
    #[default]
    Forbid,
    /// The slot waits; of several waiting the newest alone is made up for.
    Wait,
    /// The active run is ended and has failed; the slot begins.
    Replace,
}

/// For how long recovery points are kept: a point stays while any rule keeps it. Beside the rules the newest good point, the
/// newest proven one, bases that others need, points in use and held ones always stay.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.keepLast), has(self.keepHourly), has(self.keepDaily), has(self.keepWeekly), has(self.keepMonthly), has(self.keepYearly), has(self.keepWithin), has(self.keepWithinHourly), has(self.keepWithinDaily), has(self.keepWithinWeekly), has(self.keepWithinMonthly), has(self.keepWithinYearly)].exists(x, x)").message("give at least one keep rule: without any everything would be forgotten"))]
pub struct Retention {
    /// So many of the newest points.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub keep_last: Option<u32>,
    /// The newest point of each of the last so many hours that have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub keep_hourly: Option<u32>,
    /// The newest point of each of the last so many days that have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub keep_daily: Option<u32>,
    /// The newest point of each of the last so many weeks (ISO 8601) that have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub keep_weekly: Option<u32>,
    /// The newest point of each of the last so many months that have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub keep_monthly: Option<u32>,
    /// The newest point of each of the last so many years that have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub keep_yearly: Option<u32>,
    /// Every point younger than this, counted from the newest point, as restic does: a policy that stopped loses nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_within: Option<Duration>,
    /// The newest point of each hour younger than this, counted from the newest point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_within_hourly: Option<Duration>,
    /// The newest point of each day younger than this, counted from the newest point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_within_daily: Option<Duration>,
    /// The newest point of each week younger than this, counted from the newest point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_within_weekly: Option<Duration>,
    /// The newest point of each month younger than this, counted from the newest point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_within_monthly: Option<Duration>,
    /// The newest point of each year younger than this, counted from the newest point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_within_yearly: Option<Duration>,
    /// IANA time zone in which hours, days, weeks, months and years are counted. Default: UTC.
    #[serde(default = "utc")]
    #[schemars(length(min = 1, max = 64), regex(pattern = rules::TIME_ZONE))]
    pub time_zone: String,
}

/// What a policy must not miss.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupObjectives {
    /// Recovery point objective: the newest good recovery point is never older. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rpo: Option<Duration>,
}

/// A record that one Deployment writes to the source all the time: id, sequence number, time and nonce. The run notes the
/// newest one before it copies, so that a restore tells how much was lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.table) != has(self.file)").message("give either heartbeat.table or heartbeat.file"))]
#[x_kube(validation = Rule::new("!has(self.table) || has(self.secretRef)").message("heartbeat.table needs secretRef: a role that may only INSERT into it"))]
pub struct Heartbeat {
    /// Time from one record to the next, at most 1h. Default: 30s.
    #[serde(default = "thirty_seconds")]
    pub interval: Duration,
    /// Table of the source's PostgreSQL server, made beforehand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = rules::SQL_NAME))]
    pub table: Option<String>,
    /// Database of the table. Default: the first one of the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[A-Za-z0-9_][A-Za-z0-9_\-.]*$"))]
    pub database: Option<String>,
    /// Secret with `username` and `password` of a role that may INSERT into the table and do nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<NameRef>,
    /// Path of a file on the source's volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 1024), regex(pattern = rules::PATH))]
    pub file: Option<String>,
    /// Run the writer on the node of a pod with these labels, where a ReadWriteOnce volume is reachable. Default: anywhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["key".into()]))]
    pub same_node_as: Vec<LabelValue>,
}

fn thirty_seconds() -> Duration {
    Duration::from_seconds(30)
}
