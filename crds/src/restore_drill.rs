//! RestoreDrill: scheduled proof that backups come back.

use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::{
    common::{Duration, NameRef},
    drill_sandbox::DrillSandbox,
    drill_status::RestoreDrillStatus,
    drill_validation::DrillValidation,
    rules,
};

/// A restore test on a schedule: which recovery point is restored, where, how the result is validated, and how long all that
/// may take.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "interlock.dev",
    version = "v1alpha1",
    kind = "RestoreDrill",
    plural = "restoredrills",
    shortname = "drill",
    category = "interlock",
    namespaced,
    status = "RestoreDrillStatus",
    derive = "PartialEq",
    doc = "Scheduled proof that backups come back",
    printcolumn(name = "Policy", type_ = "string", json_path = ".spec.policyRef.name"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Last", type_ = "string", json_path = ".status.lastRun.verdict"),
    printcolumn(name = "Last passed", type_ = "date", json_path = ".status.lastPassed.finishedAt"),
    printcolumn(name = "RTO s", type_ = "integer", json_path = ".status.lastRun.rtoSeconds"),
    printcolumn(name = "Next", type_ = "string", json_path = ".status.nextSlot"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.size() <= 40").message("the name of a RestoreDrill is part of the names of runs and sandboxes: at most 40 characters")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.validations.exists(v, v.critical)").message("at least one validation must be critical: a drill without would pass whatever came back"))]
#[x_kube(validation = Rule::new("self.selection.strategy != 'ById' || !has(self.schedule)").message("selection ById names one recovery point: leave out schedule and run the drill by hand"))]
pub struct RestoreDrillSpec {
    /// BackupPolicy of this namespace whose recovery points are tested.
    pub policy_ref: NameRef,
    /// Cron expression, five fields. Default: only when a person asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = rules::CRON))]
    pub schedule: Option<String>,
    /// IANA time zone of the schedule. Default: UTC.
    #[serde(default = "utc")]
    #[schemars(length(min = 1, max = 64), regex(pattern = rules::TIME_ZONE))]
    pub time_zone: String,
    /// A slot that could not begin for so long is missed. Default: 24h.
    #[serde(default = "one_day")]
    pub start_within: Duration,
    /// Which recovery point is restored. Default: Latest.
    #[serde(default)]
    pub selection: DrillSelection,
    /// What the restore must achieve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objectives: Option<DrillObjectives>,
    /// Where it is restored and which application is started on it.
    #[serde(default)]
    pub sandbox: DrillSandbox,
    /// How long each part may take.
    #[serde(default)]
    pub timeouts: DrillTimeouts,
    /// How the result is validated, in order.
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub validations: Vec<DrillValidation>,
    /// Damage the restored copy, so that the drill proves that it can fail. Such a run never counts as passed. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault_injection: Option<FaultInjection>,
    /// A pass counts only after a run with an injected fault has failed because of it. Default: false.
    #[serde(default)]
    pub require_proven_failure: bool,
    /// Skip a slot whose recovery point a run of this spec has proved already. Default: false, as restores get slower too.
    #[serde(default)]
    pub skip_if_proven: bool,
    /// What is left of a run.
    #[serde(default)]
    pub cleanup: DrillCleanup,
    /// How many runs are kept.
    #[serde(default)]
    pub history: DrillHistory,
    /// Begin no run. Slots meanwhile are missed. Default: false.
    #[serde(default)]
    pub suspend: bool,
}

fn utc() -> String {
    "UTC".to_owned()
}

fn one_day() -> Duration {
    Duration::from_seconds(86_400)
}

/// Which recovery point is restored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(self.strategy == 'RandomWithin') == has(self.days)").message("strategy RandomWithin needs days, and no other has them"))]
#[x_kube(validation = Rule::new("(self.strategy == 'ById') == has(self.id)").message("strategy ById needs id, and no other has one"))]
pub struct DrillSelection {
    /// Default: Latest.
    #[serde(default)]
    pub strategy: SelectionStrategy,
    /// How many days back RandomWithin looks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 36500))]
    pub days: Option<u32>,
    /// Name of the Backup, or id of its snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = rules::NAME))]
    pub id: Option<String>,
}

/// How a recovery point is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum SelectionStrategy {
    /// The newest good one when the run is admitted.
    #[default]
    Latest,
    /// The oldest good one.
    Oldest,
    /// A random one of the last days: every tier of the retention is drawn from before one is again.
    RandomWithin,
    /// A named one.
    ById,
}

/// What a restore must achieve.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DrillObjectives {
    /// Recovery time objective: from the admission of the run to the last critical validation that passed. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rto: Option<Duration>,
    /// Recovery point objective, judged for selection Latest: from the newest heartbeat in the restored data to the admission
    /// of the run. Default: that of the policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rpo: Option<Duration>,
    /// Capture lag, judged for other selections: from the newest heartbeat in the restored data to the moment that the
    /// recovery point promises. Default: three heartbeat intervals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capture_lag: Option<Duration>,
}

/// How long each part of a run may take. What takes longer has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DrillTimeouts {
    /// Waiting for the repository. Default: 4h.
    #[serde(default = "four_hours")]
    pub queue: Duration,
    /// Volume, restore and hand-over. Default: 2h.
    #[serde(default = "two_hours")]
    pub restore: Duration,
    /// From the start of the application until it is ready. Default: 10m.
    #[serde(default = "ten_minutes")]
    pub start: Duration,
    /// All validations together. Default: 15m.
    #[serde(default = "fifteen_minutes")]
    pub validate: Duration,
    /// Cleanup, before it counts as failed and is tried again. Default: 15m.
    #[serde(default = "fifteen_minutes")]
    pub cleanup: Duration,
}

impl Default for DrillTimeouts {
    fn default() -> Self {
        Self {
            queue: four_hours(),
            restore: two_hours(),
            start: ten_minutes(),
            validate: fifteen_minutes(),
            cleanup: fifteen_minutes(),
        }
    }
}

fn four_hours() -> Duration {
    Duration::from_seconds(14_400)
}

fn two_hours() -> Duration {
    Duration::from_seconds(7_200)
}

fn ten_minutes() -> Duration {
    Duration::from_seconds(600)
}

fn fifteen_minutes() -> Duration {
    Duration::from_seconds(900)
}

/// Damage to the restored copy, before the application starts. The source and the repository are never touched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(self.fault == 'FlipBytes' || self.fault == 'DeleteFiles') == has(self.path)").message("faults FlipBytes and DeleteFiles need path, and no other has one"))]
#[x_kube(validation = Rule::new("(self.fault == 'Delay') == has(self.delay)").message("fault Delay needs delay, and no other has one"))]
pub struct FaultInjection {
    /// What is done.
    pub fault: Fault,
    /// File or folder in the restored data that is damaged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 1024), regex(pattern = rules::PATH))]
    pub path: Option<String>,
    /// How long the restore is held up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<Duration>,
}

/// Faults that a drill must notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Fault {
    /// The restored heartbeat is older than it was.
    TamperHeartbeat,
    /// Bytes of a restored file are changed.
    FlipBytes,
    /// Restored files are deleted.
    DeleteFiles,
    /// The restore takes longer.
    Delay,
}

/// What is left of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DrillCleanup {
    /// How long the sandbox stays after the verdict, so that people can look. Default: it goes at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "zero_or_more")]
    pub after: Option<Duration>,
    /// How long it stays after a verdict other than Passed. Default: as `after`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "zero_or_more")]
    pub after_failure: Option<Duration>,
}

/// The schema of a length of time that may be `0s`.
fn zero_or_more(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "pattern": r"^[0-9]{1,9}(s|m|h|d)$", "maxLength": 10, "nullable": true })
}

/// How many runs are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DrillHistory {
    /// So many of the newest; the newest passed and the newest failed one always stay. Default: 24.
    #[serde(default = "two_dozen")]
    #[schemars(range(min = 1, max = 1000))]
    pub keep: u32,
}

impl Default for DrillHistory {
    fn default() -> Self {
        Self { keep: two_dozen() }
    }
}

fn two_dozen() -> u32 {
    24
}
