//! What decisions about changes look at.

use std::collections::BTreeSet;
use std::sync::Arc;

use interlock_crds::{
    ApprovalDecision, BaseRecord, CalendarSpec, ChangePhase, ChangePolicySpec, ChangeRequestSpec, ChangeRequestStatus,
    EvidenceKind, EvidenceResult, FinishRecord, Overrun, Priority, RolloutPlanSpec, RunRecord, SystemSpec, Verb,
};
use jiff::Timestamp;

use super::{
    content::{Content, Problem},
    digest::{Resolved, ResolvedPlan},
};
use crate::{
    calendar::{CalendarView, WindowState},
    drill::proof::Proof,
    object::{Change, Digest, ObjectId},
    people::People,
};

/// The request itself.
#[derive(Clone, Debug, PartialEq)]
pub struct RequestFacts {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Uid.
    pub uid: String,
    /// Generation of the spec.
    pub generation: i64,
    /// When the API server created it.
    pub created: Timestamp,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// What the requester wrote.
    pub spec: Arc<ChangeRequestSpec>,
    /// What was recorded so far; trusted only where sealed.
    pub status: ChangeRequestStatus,
    /// Which records in `status` Interlock itself sealed. Verified once for each version of the object, not for each
    /// decision.
    pub sealed: SealedRecords,
}

/// Which records of a status carry Interlock's seal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SealedRecords {
    /// `status.base`.
    pub base: bool,
    /// `status.run`.
    pub run: bool,
    /// `status.finished`.
    pub finish: bool,
}

impl RequestFacts {
    /// The pinned base, if Interlock pinned it.
    pub fn base(&self) -> Option<&BaseRecord> {
        self.status.base.as_ref().filter(|_| self.sealed.base)
    }

    /// The run, if Interlock started it.
    pub fn run(&self) -> Option<&RunRecord> {
        self.status.run.as_ref().filter(|_| self.sealed.run)
    }

    /// The end, if Interlock ended it.
    pub fn finished(&self) -> Option<&FinishRecord> {
        self.status.finished.as_ref().filter(|_| self.sealed.finish)
    }

    /// Whether it runs: it was started and has not ended.
    pub fn is_running(&self) -> bool {
        self.run().is_some() && self.finished().is_none()
    }
}

/// The System of the request's namespace.
#[derive(Clone, Debug, PartialEq)]
pub struct SystemFacts {
    /// Which object it was.
    pub resolved: Resolved,
    /// What it states.
    pub spec: SystemSpec,
}

/// The policy of the System.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyFacts {
    /// Which object it was.
    pub resolved: Resolved,
    /// What it states.
    pub spec: ChangePolicySpec,
}

/// The calendar that the policy names for the request's type.
#[derive(Clone, Debug, PartialEq)]
pub enum CalendarFacts {
    /// The policy names none.
    None,
    /// It names one that does not exist, or that cannot be understood.
    Broken {
        /// Its name.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// Its state now.
    Known {
        /// Which object it was.
        resolved: Resolved,
        /// Its state and how long that lasts.
        view: CalendarView,
        /// Its time zone, for messages.
        time_zone: String,
        /// What a running change does when the window closes.
        overrun: Overrun,
    },
}

impl CalendarFacts {
    /// The calendar's state at `now`, from its spec.
    pub fn of(resolved: Resolved, spec: &CalendarSpec, calendar: &crate::calendar::Calendar, now: Timestamp) -> Self {
        Self::Known { resolved, view: calendar.view(now), time_zone: spec.time_zone.clone(), overrun: spec.overrun }
    }

    /// Until when the state lasts.
    pub fn valid_until(&self) -> Option<Timestamp> {
        match self {
            Self::None | Self::Broken { .. } => None,
            Self::Known { view, .. } => view.valid_until,
        }
    }

    /// What a running change does now that it would not if the window were open.
    pub fn overrun(&self) -> Option<Overrun> {
        match self {
            Self::None | Self::Broken { .. } => None,
            Self::Known { view, overrun, .. } => (!matches!(view.state, WindowState::Open { .. })).then_some(*overrun),
        }
    }
}

/// The RolloutPlan that the request, or else its System, names.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum PlanFacts {
    /// None is named: the change is carried out at once.
    #[default]
    None,
    /// It does not exist, or cannot be read.
    Missing {
        /// `namespace/name`.
        key: String,
        /// Whether the System names it, not the request.
        is_default: bool,
    },
    /// As it stands now.
    Known {
        /// Which object it was.
        resolved: ResolvedPlan,
        /// What it states.
        spec: Arc<RolloutPlanSpec>,
    },
}

/// What the objects of the change look like in the cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct BaseFacts {
    /// Digest of the live values of the paths that will be written, as last read.
    pub live: Digest,
    /// What the change would do, object by object, against the state as last read.
    pub effects: Vec<Effect>,
    /// Keyed hash over the values of staged Secrets; empty without any.
    pub secrets_mac: String,
}

/// What a change would do to one object.
#[derive(Clone, Debug, PartialEq)]
pub struct Effect {
    /// Which object.
    pub id: ObjectId,
    /// What would be done.
    pub kind: EffectKind,
}

/// What would be done to an object.
#[derive(Clone, Debug, PartialEq)]
pub enum EffectKind {
    /// It would be created.
    Create,
    /// These paths would change; none if it is as wanted already.
    Update(Vec<Change>),
    /// It would be deleted.
    Delete,
    /// It is to be deleted and does not exist.
    AlreadyGone,
}

/// The base of the request: not yet read, or read.
#[derive(Clone, Debug, PartialEq)]
pub enum BaseState {
    /// The live objects were not read since this process started.
    Unread,
    /// They could not be read.
    Unreadable(String),
    /// As last read.
    Read(BaseFacts),
}

/// One vote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vote {
    /// Name of the Approval.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// User name of the voter.
    pub approver: String,
    /// For or against.
    pub decision: ApprovalDecision,
    /// Change digest that was looked at.
    pub digest: String,
    /// Uid of the request that was looked at.
    pub change_uid: String,
    /// When the API server stored it.
    pub created: Timestamp,
    /// Who recorded it; none without a valid seal.
    pub sealed: Option<SealedFacts>,
}

/// What Interlock's webhook recorded and sealed about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedFacts {
    /// Authenticated user.
    pub user: String,
    /// Groups at that moment.
    pub groups: Vec<String>,
    /// Claims at that moment.
    pub claims: Vec<(String, Vec<String>)>,
    /// That moment.
    pub time: Timestamp,
    /// Uid of the admission request.
    pub request_uid: String,
}

/// One piece of evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvidenceFacts {
    /// Name of the object.
    pub name: String,
    /// What was examined.
    pub kind: EvidenceKind,
    /// Digest of the content it is about.
    pub content_digest: Option<String>,
    /// Digest of the artifact it is about.
    pub artifact_digest: Option<String>,
    /// Whether it passed.
    pub result: EvidenceResult,
    /// User name of the issuer.
    pub issuer: String,
    /// When the API server stored it.
    pub created: Timestamp,
    /// Who recorded it; none without a valid seal.
    pub sealed: Option<SealedFacts>,
}

/// One person's command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Name of the Action.
    pub name: String,
    /// Uid of the request it is about.
    pub target_uid: String,
    /// The command.
    pub verb: Verb,
    /// User name of whoever commanded it.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// When the API server stored it.
    pub created: Timestamp,
    /// Who recorded it; none without a valid seal.
    pub sealed: Option<SealedFacts>,
}

/// A running change that may stand in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunningChange {
    /// `namespace/name`.
    pub key: String,
    /// Its System.
    pub system: String,
    /// An object that both write; none if only the System is in the way.
    pub shared: Option<ObjectId>,
    /// Whether it only concerns a System that this one depends on.
    pub dependency: bool,
}

/// A change that this one depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DependencyFacts {
    /// `namespace/name`.
    pub key: String,
    /// Its phase, if it exists; terminal phases only with a valid seal.
    pub phase: Option<ChangePhase>,
    /// Whether it depends, directly or not, on this change.
    pub cycle: bool,
}

/// An open incident.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IncidentFacts {
    /// Name.
    pub name: String,
    /// Priority.
    pub priority: Priority,
    /// Whether an authenticated machine opened it, or a commander other than requester and contributors confirmed it.
    pub confirmed: bool,
}

/// Facts of domains that have their own kinds. None: no such fact exists, so a gate that needs it is Unknown.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LaterFacts {
    /// Share of the error budget that is left, -inf to 1, and when time alone will restore it.
    pub error_budget: Option<(f64, Option<Timestamp>)>,
    /// What the restore drills of the System prove.
    pub restore_proof: Option<Proof>,
    /// Open incidents of the System.
    pub incidents: Option<Vec<IncidentFacts>>,
    /// Whether the named milestone is reached.
    pub milestone: Option<bool>,
    /// Whether every commit is signed by an allowed key.
    pub signature: Option<bool>,
}

/// Whether the change could be carried out as it stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Preflight {
    /// It was not tried yet; it will be when every gate is open.
    #[default]
    NotTried,
    /// The server refused the dry run, or the executor lacks a right.
    Refused {
        /// What it said, about which object.
        message: String,
        /// When it will be tried again.
        retry_at: Timestamp,
    },
}

/// Everything that a decision about one change looks at.
#[derive(Clone, Debug)]
pub struct ChangeFacts<'a> {
    /// Uid of the kube-system namespace.
    pub cluster: &'a str,
    /// The request.
    pub request: &'a RequestFacts,
    /// Its content, or what is wrong with it.
    pub content: &'a Result<Content, Vec<Problem>>,
    /// The System of its namespace.
    pub system: Option<&'a SystemFacts>,
    /// The policy of the System.
    pub policy: Option<&'a PolicyFacts>,
    /// The calendar of the policy.
    pub calendar: &'a CalendarFacts,
    /// The RolloutPlan of the request, or of its System.
    pub plan: &'a PlanFacts,
    /// Who is who.
    pub people: &'a People,
    /// Every vote that names the request.
    pub votes: &'a [Vote],
    /// Evidence that names its content or its artifacts.
    pub evidence: &'a [EvidenceFacts],
    /// Commands that name the request.
    pub commands: &'a [Command],
    /// The live objects.
    pub base: &'a BaseState,
    /// Changes that run now and touch the same objects or Systems.
    pub running: &'a [RunningChange],
    /// Changes that must have succeeded before.
    pub dependencies: &'a [DependencyFacts],
    /// Other systems that depend on this one.
    pub dependants: &'a BTreeSet<String>,
    /// Changes of the System that failed or were rolled back in the last 30 days, and all that ended.
    pub history: (u32, u32),
    /// Whether it could be carried out.
    pub preflight: &'a Preflight,
    /// Facts of other domains.
    pub later: &'a LaterFacts,
}
