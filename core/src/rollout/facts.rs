//! What a decision about a release looks at.

use std::sync::OnceLock;
use std::{collections::BTreeMap, fmt};

use interlock_crds::{Form, OnFailure, OperationKind, Overrun, RolloutPhase, RolloutSpec, RolloutStatus, StepGate};
use jiff::Timestamp;
use serde_json::Value;

use super::{pass::PlannedWrite, sign_off::SignOffFacts};
use crate::{
    change::decide::bounded,
    object::{Change, GroupKind, ObjectId},
};

/// Everything that a decision looks at.
#[derive(Clone, Debug)]
pub struct RolloutFacts<'a> {
    /// Namespace of the Rollout.
    pub namespace: &'a str,
    /// Name of the Rollout.
    pub name: &'a str,
    /// Uid of the Rollout.
    pub uid: &'a str,
    /// Generation of its spec.
    pub generation: i64,
    /// Whether it is being deleted; its finalizer keeps it until everything is restored.
    pub deleting: bool,
    /// What was approved.
    pub spec: &'a RolloutSpec,
    /// What was recorded so far.
    pub status: &'a RolloutStatus,
    /// Whether its change still runs. When it has ended, a release at rest stays as it is.
    pub change_active: bool,
    /// The workload before and as wanted. None for a Rollout with waves.
    pub target: Option<&'a TargetFacts>,
    /// The objects as they are.
    pub live: &'a LiveObjects,
    /// What the analyses say.
    pub analyses: &'a [AnalysisFact],
    /// Commands of people who may give them, in the order in which they were given.
    pub commands: &'a [CommandFact],
    /// Signatures; none if they cannot be counted.
    pub sign_offs: Option<SignOffFacts<'a>>,
    /// Gates that steps can wait for. One that is missing is closed.
    pub gates: &'a BTreeMap<StepGate, GateFact>,
    /// The change window. None: nothing limits when a release may go on.
    pub window: Option<&'a WindowFact>,
    /// Windows of waves with a calendar of their own, by calendar. One that is missing is closed.
    pub wave_windows: &'a BTreeMap<String, GateFact>,
    /// A newer change that wants the same workload.
    pub superseded_by: Option<&'a str>,
    /// Why the version needs no new proof (it served well a short time ago); its steps are then passed over.
    pub known_good: Option<&'a str>,
    /// The Rollout with waves that made this one asks it to return, with its reason.
    pub return_asked: Option<&'a str>,
    /// The write that was refused when it was last tried, by a rule and not by chance.
    pub refused: Option<&'a RefusedWrite>,
}

/// A write that a rule of the cluster does not let pass: a missing permission, a quota, a webhook, a form that is not valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedWrite {
    /// Which object.
    pub id: ObjectId,
    /// What was to be done with it.
    pub operation: OperationKind,
    /// What it was to become.
    pub form: Form,
    /// What the API server said.
    pub why: String,
}

impl RefusedWrite {
    /// This write, for that reason.
    pub fn new(write: &PlannedWrite, why: String) -> Self {
        Self { id: write.id.clone(), operation: write.operation, form: write.form, why }
    }

    /// Whether it is this one.
    pub fn is_of(&self, write: &PlannedWrite) -> bool {
        (&self.id, self.operation, self.form) == (&write.id, write.operation, write.form)
    }
}

impl fmt::Display for RefusedWrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "writing {} was refused ({})", self.id, bounded(&self.why, 512))
    }
}

impl RolloutFacts<'_> {
    /// What the plan says about failure.
    pub fn on_failure(&self) -> OnFailure {
        self.spec.plan.on_failure
    }

    /// Whether it has not begun.
    pub fn is_pending(&self) -> bool {
        self.status.phase == RolloutPhase::Pending
    }
}

/// A workload of the change, from the stored plan of its run.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetFacts {
    /// The workload before, without what the server makes.
    pub before: Value,
    /// The workload as the server's dry run of the approved manifest showed it, without what the server makes.
    pub wanted: Value,
    /// ConfigMaps and Secrets of the change.
    pub configs: Vec<ConfigTarget>,
    /// The difference of the two, once it was asked for.
    pub(super) changes: OnceLock<Vec<Change>>,
}

impl TargetFacts {
    /// The facts, of which nothing was worked out yet.
    pub const fn new(before: Value, wanted: Value, configs: Vec<ConfigTarget>) -> Self {
        Self { before, wanted, configs, changes: OnceLock::new() }
    }
}

/// A ConfigMap or Secret of the change.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfigTarget {
    /// As it was; none if the change creates it.
    pub before: Option<Value>,
    /// As the change wants it.
    pub wanted: Value,
}

/// The live objects that were read. What [`super::live::reads`] asks for and is not in here does not exist.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LiveObjects {
    objects: BTreeMap<String, Value>,
    /// Ready endpoints of Services by the hash of the pod behind them.
    pub endpoints: BTreeMap<String, BTreeMap<String, u32>>,
}

impl LiveObjects {
    /// Adds an object; what has no name is ignored.
    pub fn insert(&mut self, object: Value) {
        if let Ok(id) = ObjectId::of(&object) {
            self.objects.insert(id.key(), object);
        }
    }

    /// Counts the ready endpoints of what was inserted.
    pub fn count_endpoints(&mut self) {
        let all = |group, kind| self.of_kind(group, kind).cloned().collect::<Vec<_>>();
        let (slices, sets) = (all("discovery.k8s.io", "EndpointSlice"), all("apps", "ReplicaSet"));
        self.endpoints = super::live::ready_endpoints(&slices, &sets);
    }

    /// The object, if it exists.
    pub fn get(&self, id: &ObjectId) -> Option<&Value> {
        self.objects.get(&id.key())
    }

    /// Every object of a kind.
    pub fn of_kind<'a>(&'a self, group: &'a str, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        let prefix = format!("{group}/{kind}/");
        self.objects.iter().filter(move |(key, _)| key.starts_with(&prefix)).map(|(_, object)| object)
    }

    /// Every object.
    pub fn iter(&self) -> impl Iterator<Item = &Value> {
        self.objects.values()
    }

    /// Every object that is of the kind.
    pub fn kind<'a>(&'a self, kind: &'a GroupKind) -> impl Iterator<Item = &'a Value> {
        self.of_kind(&kind.group, &kind.kind)
    }

    /// Ready endpoints of a Service whose pods have this hash.
    pub fn endpoints_of(&self, service: &str, hash: &str) -> u32 {
        self.endpoints.get(service).and_then(|of| of.get(hash)).copied().unwrap_or(0)
    }
}

/// What an analysis run says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnalysisFact {
    /// Name of the analysis.
    pub name: String,
    /// Name of the run, as [`super::AnalysisRun`] gave it.
    pub run: String,
    /// Its verdict.
    pub verdict: Verdict,
    /// Whether any measurement succeeded; a dry run counts as measured.
    pub measured: bool,
    /// The same for a person.
    pub message: String,
    /// When it looks again.
    pub wake_at: Option<Timestamp>,
}

/// Verdict of an analysis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Not yet known.
    Running,
    /// The new version is good enough.
    Passed,
    /// It is not.
    Failed,
    /// It could not tell.
    Inconclusive,
}

/// A command that counts: authenticated, authorised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandFact {
    /// Uid of the Action.
    pub id: String,
    /// The command.
    pub verb: RolloutVerb,
    /// Who gave it.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// When the API server stored it.
    pub at: Timestamp,
}

impl CommandFact {
    /// `Abort by li-na: wrong ticket`.
    pub fn describe(&self) -> String {
        let why = if self.reason.is_empty() { String::new() } else { format!(": {}", self.reason) };
        format!("{:?} by {}{why}", self.verb, self.actor)
    }
}

/// Commands on a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RolloutVerb {
    /// End the wait of the current step.
    Promote,
    /// Pass over every step that waits or measures; sign-offs and gates stay.
    PromoteFully,
    /// Hold before the next step.
    Pause,
    /// Go on.
    Resume,
    /// Leave out the current step.
    Skip,
    /// Go back.
    Abort,
    /// Begin anew after going back, or try again what failed.
    Retry,
    /// Go back; also while the old version is kept after a switch.
    Rollback,
}

/// A gate as the change's gates see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GateFact {
    /// Whether it is open.
    pub open: bool,
    /// What it waits for, or why it is open.
    pub message: String,
    /// When time alone changes it.
    pub changes_at: Option<Timestamp>,
}

/// The change window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WindowFact {
    /// Whether it is open.
    pub gate: GateFact,
    /// What a running release does when it closes.
    pub overrun: Overrun,
}
