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
mod backup;
mod backup_pod;
mod backup_policy;
mod backup_policy_status;
mod backup_repository;
mod backup_source;
mod calendar;
mod change_request;
mod common;
mod drill_run;
mod drill_sandbox;
mod drill_status;
mod drill_validation;
mod evidence;
mod person;
mod policy;
mod restore_drill;
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
pub use backup::{
    Backup, BackupHold, BackupPhase, BackupSlot, BackupSpec, BackupStatus, BackupTrigger, HeartbeatRecord, HookRecord,
    JobRef, JudgedRun, ObjectsRecord, PinnedPolicy, PointVerdict, RecoveryPoint, RetentionRecord, StopRecord,
    Verification, WalRange,
};
pub use backup_pod::{
    ExecHook, Hook, HookErrorRule, Hooks, HttpHook, LabelValue, PodOptions, ResourceAmounts, Resources, TaintEffect,
    Toleration,
};
pub use backup_policy::{
    BackupMode, BackupObjectives, BackupPolicy, BackupPolicySpec, BackupSchedule, Heartbeat, OverlapRule, Retention,
};
pub use backup_policy_status::{BackupPolicyPhase, BackupPolicyStatus, LastRun, PointRef, ScheduleStatus, SlotCount};
pub use backup_repository::{
    BackupRepository, BackupRepositorySpec, BackupRepositoryStatus, MaintenanceOperation, MaintenanceOutcome,
    MaintenanceRecord, RepositoryCheck, RepositoryHolder, RepositoryPhase, RepositoryPrune, RepositoryVolume,
    ResticRepository,
};
pub use backup_source::{
    BackupSource, CommandSource, FilesSource, ObjectsSource, PostgresMode, PostgresSource, SslMode, WalSpool,
};
pub use calendar::{Calendar, CalendarSpec, CalendarStatus, Overrun, Period};
pub use change_request::{
    ChangeRequest, ChangeRequestSpec, ChangeType, Content, Contingency, ContingencyJob, DependsOn, GitContent,
    MilestoneRef, OnFailure, Schedule, SecretRef,
};
pub use common::{
    Claim, Duration, DurationError, GroupKind, LocalizedText, NameRef, NamespacedRef, Priority, Recorded, RiskLevel,
    ServiceAccountRef, Severity,
};
pub use drill_run::{
    CertificateRef, ChosenPoint, CleanupRecord, CleanupState, DrillPhase, DrillRun, DrillRunSpec, DrillRunStatus,
    DrillSegment, DrillTrigger, DrillVerdict, ImageRecord, IsolationRecord, MeasuredRpo, MeasuredRto, PinnedDrill,
    ProbeResult, SandboxRecord, SegmentName, ValidationRecord, ValidationVerdict,
};
pub use drill_sandbox::{DrillApplication, DrillDependency, DrillPostgres, DrillSandbox, IsolationTarget};
pub use drill_status::{DrillResult, ProvenFailure, RestoreDrillPhase, RestoreDrillStatus, ShuffleState};
pub use drill_validation::{
    CommandValidation, DrillValidation, FileDigest, FilesValidation, HeartbeatValidation, HttpValidation, SqlValidation,
};
pub use evidence::{Evidence, EvidenceKind, EvidenceResult, EvidenceSpec, EvidenceSubject, SummaryEntry};
pub use person::{Contact, KeyType, KeyUse, Person, PersonSpec, PersonStatus, SigningKey};
pub use policy::{
    AllowedDiff, Approvals, BreakGlassRule, ChangePolicy, ChangePolicySpec, ChangePolicyStatus, ChangeTypes,
    ClaimRequirement, CollisionGate, EmergencyType, EnforceMode, ErrorBudgetGate, EvidenceRequirement, Gates,
    ImageTagRule, Issuers, NormalType, OpenIncidentGate, ReplicaRange, RestoreProofGate, SignatureRequirement,
    StandardTemplate, StandardType, Threshold,
};
pub use restore_drill::{
    DrillCleanup, DrillHistory, DrillObjectives, DrillSelection, DrillTimeouts, Fault, FaultInjection, RestoreDrill,
    RestoreDrillSpec, SelectionStrategy,
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

/// Every custom resource definition that the controller acts on, in the order in which they should be applied.
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
        BackupRepository::crd(),
        BackupPolicy::crd(),
        Backup::crd(),
        RestoreDrill::crd(),
        DrillRun::crd(),
    ]
}
