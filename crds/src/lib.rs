//! The API types of Interlock, group `interlock.dev`, version `v1alpha1`.
//!
//! Types only: schemas, CEL rules, printer columns. Every field's doc comment becomes its description in the
//! schema. What a schema can refuse is refused here, so that `kubectl apply` answers even when no controller runs.
//!
//! This crate must not know any decision: no gate, no clock, no client.

#![deny(missing_docs)]
// kube's derive takes one `printcolumn` attribute a column, which clippy mistakes for repetition.
#![allow(clippy::duplicated_attributes)]

mod action;
mod analysis;
mod approval;
mod calendar;
mod change_request;
mod common;
mod evidence;
mod person;
mod policy;
mod rollout;
mod rollout_plan;
mod rollout_status;
mod rollout_steps;
mod rules;
mod status;
mod system;

pub use action::{Action, ActionSpec, ActionTarget, Verb};
pub use analysis::{
    Analysis, AnalysisCounts, AnalysisRecord, AnalysisState, AnalysisVerdict, CompareMetric, ComparisonTest, ErrorRule,
    Header, HttpMethod, HttpMetric, JobMetric, MeasurementOutcome, MeasurementRecord, NoDataRule, PrometheusMetric,
    QueryRange, ServerTls, WorseDirection,
};
pub use approval::{Approval, ApprovalDecision, ApprovalSpec};
pub use calendar::{Calendar, CalendarSpec, CalendarStatus, Overrun, Period};
pub use change_request::{
    ChangeRequest, ChangeRequestSpec, ChangeType, Content, Contingency, ContingencyJob, DependsOn, GitContent,
    MilestoneRef, OnFailure, Schedule, SecretRef,
};
pub use common::{
    Claim, Duration, DurationError, GroupKind, LocalizedText, NameRef, NamespacedRef, Priority, Recorded, RiskLevel,
    ServiceAccountRef, Severity,
};
pub use evidence::{Evidence, EvidenceKind, EvidenceResult, EvidenceSpec, EvidenceSubject, SummaryEntry};
pub use person::{Contact, KeyType, KeyUse, Person, PersonSpec, PersonStatus, SigningKey};
pub use policy::{
    AllowedDiff, Approvals, BreakGlassRule, ChangePolicy, ChangePolicySpec, ChangePolicyStatus, ChangeTypes,
    ClaimRequirement, CollisionGate, EmergencyType, EnforceMode, ErrorBudgetGate, EvidenceRequirement, Gates,
    ImageTagRule, Issuers, NormalType, OpenIncidentGate, ReplicaRange, RestoreProofGate, SignatureRequirement,
    StandardTemplate, StandardType, Threshold,
};
pub use rollout::{ChangeRequestRef, PartOf, Rollout, RolloutSpec, RolloutTarget};
pub use rollout_plan::{
    BackgroundAnalysis, BatchStrategy, BlueGreenStrategy, CanaryRoute, CanaryStrategy, EarlierWaves, RolloutPlan,
    RolloutPlanSpec, RolloutPlanStatus, Supersede, Wave, WaveTarget, WorkloadKind,
};
pub use rollout_status::{
    Asked, Form, HeldAutoscaler, Hold, HoldReason, JournalEntry, PromotionRecord, RolloutPhase, RolloutStatus, Split,
    StartRecord, StepRecord, VersionCounts, VersionHashes, WavePhase, WaveRecord, Weights,
};
pub use rollout_steps::{
    GateStep, HeaderMatch, HeaderMatchStep, JobStep, MirrorStep, PauseStep, RolloutStep, SignOff, StepGate,
};
pub use status::{
    BaseRecord, ChangePhase, ChangeRequestStatus, FinishRecord, GateState, GateStatus, ObjectStatus, OperationKind,
    RiskFactor, RiskStatus, RunDirection, RunRecord, StepState, VoteState, VoteSummary,
};
pub use system::{
    ClusterObject, Environment, Executor, ExecutorType, Governs, Mode, Owner, System, SystemSpec, SystemStatus, Tier,
    TrustedController,
};

/// The API group of every Interlock kind.
pub const GROUP: &str = "interlock.dev";
/// The API version of every Interlock kind.
pub const VERSION: &str = "v1alpha1";
/// `GROUP/VERSION`.
pub const API_VERSION: &str = "interlock.dev/v1alpha1";

/// Every custom resource definition of this crate, in the order in which they should be applied.
pub fn all() -> Vec<k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition> {
    use kube::CustomResourceExt as _;
    vec![
        System::crd(),
        Person::crd(),
        ChangePolicy::crd(),
        Calendar::crd(),
        ChangeRequest::crd(),
        Approval::crd(),
        Evidence::crd(),
        Action::crd(),
        RolloutPlan::crd(),
        Rollout::crd(),
    ]
}
