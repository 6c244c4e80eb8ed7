//! Calendar: change windows and freezes.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{common::Duration, rules};

/// When changes may start: windows, and freezes that win over them. Start inclusive, end exclusive.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "interlock.dev",
    version = "v1alpha1",
    kind = "Calendar",
    plural = "calendars",
    shortname = "cal",
    category = "interlock",
    status = "CalendarStatus",
    derive = "PartialEq",
    doc = "Change windows and freezes",
    printcolumn(name = "Zone", type_ = "string", json_path = ".spec.timeZone"),
    printcolumn(name = "State", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Until", type_ = "string", json_path = ".status.nextTransition"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct CalendarSpec {
    /// IANA time zone of every local time here, such as `Asia/Shanghai`.
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z0-9_+\-/]+$"))]
    pub time_zone: String,
    /// A change may start while one of these is open. None: any time outside freezes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub windows: Vec<Period>,
    /// No change starts while one of these lasts; they win over windows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub freezes: Vec<Period>,
    /// What a running change does when its window closes. Default: Finish.
    #[serde(default)]
    pub overrun: Overrun,
}

/// A span of time: recurring (`schedule` and `duration`) or dated (`from` and `until`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(has(self.schedule) && has(self.duration) && !has(self.from) && !has(self.until)) || (!has(self.schedule) && !has(self.duration) && has(self.from) && has(self.until))").message("give either schedule and duration, or from and until"))]
#[x_kube(validation = Rule::new("!has(self.from) || !has(self.until) || self.from < self.until").message("until must be later than from"))]
pub struct Period {
    /// Name, unique in its list.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Cron expression of the starts, five fields, in the calendar's zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub schedule: Option<String>,
    /// How long each lasts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<Duration>,
    /// Local start, inclusive, such as `2027-02-05T00:00`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 19), regex(pattern = rules::LOCAL_TIME))]
    pub from: Option<String>,
    /// Local end, exclusive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 19), regex(pattern = rules::LOCAL_TIME))]
    pub until: Option<String>,
}

/// What a running change does when its window closes or a freeze begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Overrun {
    /// It goes on to its end.
    #[default]
    Finish,
    /// It takes no further step until a window is open again.
    Pause,
    /// It goes back.
    Rollback,
}

/// What the controller found out about a Calendar.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CalendarStatus {
    /// Generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Open, Outside, Frozen or Invalid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub phase: Option<String>,
    /// When the phase next changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_transition: Option<Time>,
    /// Valid.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
}
