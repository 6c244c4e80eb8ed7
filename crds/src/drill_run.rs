//! DrillRun: one drill.

mod findings;
mod status;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use findings::{
    CertificateRef, CleanupRecord, CleanupState, ImageRecord, IsolationRecord, MeasuredRpo, MeasuredRto, ProbeResult,
    ValidationRecord, ValidationVerdict,
};
pub use status::{
    ChosenPoint, DrillPhase, DrillRunStatus, DrillSegment, DrillVerdict, PinnedDrill, SandboxRecord, SegmentName,
};

use crate::{
    common::NameRef,
    restore_drill::{DrillSelection, FaultInjection},
    rules,
};

/// One run of a RestoreDrill: what was restored, how long each part took, what the validations said, and the verdict. Made
/// by Interlock for a slot, or by a person who asks for a run now; never edited.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "interlock.dev",
    version = "v1alpha1",
    kind = "DrillRun",
    plural = "drillruns",
    shortname = "dr",
    category = "interlock",
    namespaced,
    status = "DrillRunStatus",
    derive = "PartialEq",
    doc = "One drill: what was restored, how long it took, and the verdict",
    selectable = ".spec.drillRef.name",
    printcolumn(name = "Drill", type_ = "string", json_path = ".spec.drillRef.name"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.reason"),
    printcolumn(name = "Backup", type_ = "string", json_path = ".status.chosen.backup"),
    printcolumn(name = "RTO s", type_ = "integer", json_path = ".status.rto.seconds"),
    printcolumn(name = "RPO s", type_ = "integer", json_path = ".status.rpo.seconds"),
    printcolumn(name = "Cleanup", type_ = "string", json_path = ".status.cleanup.state"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.size() <= 52").message("the name of a DrillRun is part of the names of its Jobs and sandbox: at most 52 characters"),
    validation = Rule::new("self.spec == oldSelf.spec").message("a DrillRun is a record and cannot be changed: make another one for another run")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(self.trigger == 'Manual') == !has(self.slot)").message("a run of trigger Manual has no slot, and any other has one"))]
#[x_kube(validation = Rule::new("self.trigger != 'Manual' || has(self.requester)").message("say who asks: requester is the user that creates the DrillRun"))]
pub struct DrillRunSpec {
    /// RestoreDrill of this namespace.
    pub drill_ref: NameRef,
    /// Its uid; another drill of the same name has nothing to do with this run. Default: that of the drill at admission.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), regex(pattern = rules::UID))]
    pub drill_uid: Option<String>,
    /// Why it runs. Default: Manual.
    #[serde(default)]
    pub trigger: DrillTrigger,
    /// The slot that it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<Time>,
    /// User name of the person who asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub requester: Option<String>,
    /// Another selection than that of the drill. Such a run has a verdict, and counts neither as pass nor as failure of the
    /// drill. Default: that of the drill.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selection: Option<DrillSelection>,
    /// A fault for this run alone. Default: that of the drill.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault_injection: Option<FaultInjection>,
}

/// Why a drill runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum DrillTrigger {
    /// A person asked.
    #[default]
    Manual,
    /// Its slot came.
    Scheduled,
    /// Its slot passed while nobody could begin it.
    CatchUp,
}
