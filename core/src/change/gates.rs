//! The gates. Each is a pure function of facts and the time, and explains itself: what it looks at, what would open it,
//! and when, if time alone will.

use interlock_crds::{
    Approvals, ChangeType, EnforceMode, EvidenceRequirement, GateState, GateStatus, Gates, Priority, RiskLevel,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    content::Content,
    decide::Pinned,
    evidence::{self, EvidenceState},
    facts::{BaseState, CalendarFacts, ChangeFacts, EffectKind, Preflight},
    restores, standard,
    votes::Tally,
};
use crate::calendar::{WindowState, describe_instant};
use crate::drill::proof;
use crate::mutants::{self, Mutant};
use crate::object::ObjectId;

/// Kinds by which a System is protected.
const PROTECTING_KINDS: [&str; 3] = ["BackupRepository", "BackupPolicy", "RestoreDrill"];

/// A gate with what it found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gate {
    /// Its name.
    pub name: GateName,
    /// Whether the change may pass.
    pub state: GateState,
    /// Whether it holds the change back when it is not open.
    pub enforced: bool,
    /// One word.
    pub reason: &'static str,
    /// What would open it.
    pub message: String,
    /// When time alone opens it.
    pub opens_at: Option<Timestamp>,
    /// When the answer may change although nothing but time does.
    pub valid_until: Option<Timestamp>,
}

/// The gates by name, in the order in which they are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum GateName {
    Approval,
    Evidence,
    Signature,
    Window,
    ErrorBudget,
    RestoreProof,
    OpenIncident,
    Collision,
    Dependency,
    Milestone,
    Precondition,
    /// Whether the server would accept the change and its executor may make it.
    Preflight,
}

impl GateName {
    /// The name as it stands in status.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Approval => "Approval",
            Self::Evidence => "Evidence",
            Self::Signature => "Signature",
            Self::Window => "Window",
            Self::ErrorBudget => "ErrorBudget",
            Self::RestoreProof => "RestoreProof",
            Self::OpenIncident => "OpenIncident",
            Self::Collision => "Collision",
            Self::Dependency => "Dependency",
            Self::Milestone => "Milestone",
            Self::Precondition => "Precondition",
            Self::Preflight => "Preflight",
        }
    }
}

impl Gate {
    fn open(name: GateName, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            name,
            state: GateState::Open,
            enforced: true,
            reason,
            message: message.into(),
            opens_at: None,
            valid_until: None,
        }
    }

    fn closed(name: GateName, reason: &'static str, message: impl Into<String>) -> Self {
        Self { state: GateState::Closed, ..Self::open(name, reason, message) }
    }

    fn unknown(name: GateName, reason: &'static str, message: impl Into<String>) -> Self {
        Self { state: GateState::Unknown, ..Self::open(name, reason, message) }
    }

    fn until(mut self, instant: Option<Timestamp>) -> Self {
        self.valid_until = instant;
        self
    }

    fn opening(mut self, instant: Option<Timestamp>) -> Self {
        self.opens_at = instant;
        self.valid_until = instant;
        self
    }

    fn mode(mut self, mode: EnforceMode) -> Option<Self> {
        self.enforced = mode == EnforceMode::Enforce;
        (mode != EnforceMode::Off).then_some(self)
    }

    /// Whether it holds the change back.
    pub fn holds(&self) -> bool {
        self.enforced && self.state != GateState::Open
    }

    /// Whether time alone will open it.
    pub fn waits_for_time(&self) -> bool {
        self.holds() && self.opens_at.is_some()
    }

    /// The gate as it stands in status.
    pub fn status(&self) -> GateStatus {
        GateStatus {
            name: self.name.as_str().to_owned(),
            state: self.state,
            enforced: self.enforced,
            reason: self.reason.to_owned(),
            message: crate::change::decide::bounded(&self.message, 2048),
            opens_at: self.opens_at.map(Time),
        }
    }
}

/// What a policy demands of a change of one type.
#[derive(Clone, Copy, Debug)]
pub struct Demands<'a> {
    /// Votes; none for standard changes.
    pub approvals: Option<&'a Approvals>,
    /// Templates; for standard changes only.
    pub templates: Option<&'a [interlock_crds::StandardTemplate]>,
    /// Evidence.
    pub evidence: &'a [EvidenceRequirement],
    /// Further gates.
    pub gates: &'a Gates,
    /// Whether windows and freezes apply.
    pub window: bool,
    /// For emergency changes: the least priority of an incident that must be open.
    pub incident: Option<Priority>,
    /// Whether data may be destroyed.
    pub allow_irreversible: bool,
}

/// What `policy` demands of a change of type `type_`; none if it does not allow the type.
pub fn demands(policy: &interlock_crds::ChangePolicySpec, type_: ChangeType) -> Option<Demands<'_>> {
    let types = &policy.types;
    match type_ {
        ChangeType::Normal => types.normal.as_ref().map(|t| Demands {
            approvals: Some(&t.approvals),
            templates: None,
            evidence: &t.evidence,
            gates: &t.gates,
            window: true,
            incident: None,
            allow_irreversible: t.allow_irreversible,
        }),
        ChangeType::Standard => types.standard.as_ref().map(|t| Demands {
            approvals: None,
            templates: Some(&t.templates),
            evidence: &t.evidence,
            gates: &t.gates,
            window: true,
            incident: None,
            allow_irreversible: false,
        }),
        ChangeType::Emergency => types.emergency.as_ref().map(|t| Demands {
            approvals: Some(&t.approvals),
            templates: None,
            evidence: &[],
            gates: &t.gates,
            window: false,
            incident: Some(t.require_incident),
            allow_irreversible: t.allow_irreversible,
        }),
    }
}

/// Name of the calendar that `policy` demands for a change of type `type_`.
pub fn calendar_name(policy: &interlock_crds::ChangePolicySpec, type_: ChangeType) -> Option<&str> {
    match type_ {
        ChangeType::Normal => policy.types.normal.as_ref()?.calendar_ref.as_ref(),
        ChangeType::Standard => policy.types.standard.as_ref()?.calendar_ref.as_ref(),
        ChangeType::Emergency => None,
    }
    .map(|reference| reference.name.as_str())
}

/// The gate Approval.
pub fn approval(demands: &Demands<'_>, tally: Option<&Tally>, facts: &ChangeFacts<'_>) -> Gate {
    let name = GateName::Approval;
    if let Some(templates) = demands.templates {
        let BaseState::Read(base) = facts.base else {
            return Gate::unknown(name, "NotRead", "the live objects were not read yet");
        };
        return match standard::matching(templates, &base.effects) {
            Ok(template) => {
                Gate::open(name, "Preauthorised", format!("inside the standard template {}", template.name))
            }
            Err(why) => Gate::closed(
                name,
                "OutsideTemplate",
                format!("not a standard change ({why}); propose it as type Normal"),
            ),
        };
    }
    let Some(tally) = tally else {
        return Gate::unknown(name, "NoDigest", "the digest to vote on is not known yet");
    };
    if tally.thresholds.is_empty() {
        return Gate::unknown(
            name,
            "NoThreshold",
            "the policy has no threshold that applies at this risk; no vote could open it",
        );
    }
    if tally.met() {
        return Gate::open(name, "ThresholdsMet", tally.describe()).until(tally.expires_at);
    }
    let missing: Vec<_> = tally
        .thresholds
        .iter()
        .filter(|t| t.have < t.need)
        .map(|t| format!("{} more from {}", t.need - t.have, t.groups.join(" or ")))
        .collect();
    let stale = tally.summaries.iter().filter(|s| s.state == interlock_crds::VoteState::Stale).count();
    let hint = if stale > 0 { format!("; {stale} votes are stale, the content changed") } else { String::new() };
    Gate::closed(name, "VotesMissing", format!("{}: needs {}{hint}", tally.describe(), missing.join(", ")))
        .until(tally.expires_at)
}

/// The gate Evidence.
pub fn evidence(
    demands: &Demands<'_>,
    risk: RiskLevel,
    content: &Content,
    facts: &ChangeFacts<'_>,
    now: Timestamp,
) -> Gate {
    let name = GateName::Evidence;
    let (mut missing, mut failed, mut met, mut until) = (Vec::new(), Vec::new(), Vec::new(), None::<Timestamp>);
    for requirement in demands.evidence.iter().filter(|r| evidence::applies(r, risk)) {
        match evidence::judge(requirement, content, facts.evidence, facts.people, now) {
            EvidenceState::Met(end) => {
                met.push(format!("{:?}", requirement.kind));
                until = match (until, end) {
                    (Some(a), Some(b)) => Some(a.min(b)),
                    (a, b) => a.or(b),
                };
            }
            EvidenceState::Missing(_) if mutants::is(Mutant::TakeAnyEvidence) => {}
            EvidenceState::Missing(why) => missing.push(why),
            EvidenceState::Failed(why) => failed.push(why),
        }
    }
    if !failed.is_empty() {
        return Gate::closed(name, "EvidenceFailed", failed.join("; "));
    }
    if !missing.is_empty() {
        return Gate::closed(
            name,
            "EvidenceMissing",
            format!("{}; submit it with `interlock evidence submit`", missing.join("; ")),
        );
    }
    let message = if met.is_empty() { "none required".to_owned() } else { met.join(", ") };
    Gate::open(name, "EvidenceComplete", message).until(until)
}

/// The gate Window: `notBefore`, windows and freezes.
pub fn window(demands: &Demands<'_>, facts: &ChangeFacts<'_>, now: Timestamp) -> Gate {
    let name = GateName::Window;
    let not_before = facts.request.spec.schedule.as_ref().and_then(|s| s.not_before.as_ref()).map(|t| t.0);
    let early = not_before.filter(|instant| *instant > now);
    if !demands.window {
        return match early {
            Some(instant) => not_before_gate(name, instant, now, "UTC"),
            None => Gate::open(name, "NotApplicable", "emergency changes do not wait for a window"),
        };
    }
    match facts.calendar {
        CalendarFacts::None => match early {
            Some(instant) => not_before_gate(name, instant, now, "UTC"),
            None => Gate::open(name, "NoCalendar", "the policy names no calendar"),
        },
        CalendarFacts::Broken { name: calendar, why } => {
            Gate::unknown(name, "CalendarBroken", format!("Calendar {calendar} cannot be used: {why}"))
        }
        CalendarFacts::Known { view, time_zone, .. } => {
            if let Some(instant) = early {
                return not_before_gate(name, instant, now, time_zone);
            }
            calendar_gate(name, &view.state, time_zone, now).and_until(view.valid_until)
        }
    }
}

impl Gate {
    /// At this instant too the gate has to be looked at again: what it says may be otherwise, although it stays closed.
    fn and_until(mut self, instant: Option<Timestamp>) -> Self {
        self.valid_until = [self.valid_until, instant].into_iter().flatten().min();
        self
    }
}

fn not_before_gate(name: GateName, instant: Timestamp, now: Timestamp, zone: &str) -> Gate {
    Gate::closed(name, "NotBefore", format!("not wanted before {}", describe_instant(instant, now, zone)))
        .opening(Some(instant))
}

fn calendar_gate(name: GateName, state: &WindowState, zone: &str, now: Timestamp) -> Gate {
    let at = |instant: Option<Timestamp>| {
        instant.map_or_else(
            || "nothing opens within 400 days".to_owned(),
            |i| format!("opens {}", describe_instant(i, now, zone)),
        )
    };
    match state {
        WindowState::Open { window, closes_at } => {
            let until = closes_at.map_or_else(String::new, |c| format!(" until {}", describe_instant(c, now, zone)));
            let what = window.as_ref().map_or_else(|| "no freeze".to_owned(), |w| format!("window {w} is open"));
            Gate::open(name, "InWindow", format!("{what}{until}")).until(*closes_at)
        }
        WindowState::Frozen { .. } if mutants::is(Mutant::IgnoreTheFreeze) => Gate::open(name, "InWindow", ""),
        WindowState::Frozen { freeze, ends_at, opens_at } => Gate::closed(
            name,
            "Frozen",
            format!("freeze {freeze} until {}; {}", describe_instant(*ends_at, now, zone), at(*opens_at)),
        )
        .opening(*opens_at),
        WindowState::Outside { next_window, opens_at } => {
            let which = next_window.as_ref().map_or_else(|| "no window".to_owned(), |w| format!("window {w}"));
            Gate::closed(name, "OutsideWindow", format!("{which} {}", at(*opens_at))).opening(*opens_at)
        }
    }
}

/// The gate ErrorBudget.
pub fn error_budget(demands: &Demands<'_>, facts: &ChangeFacts<'_>, now: Timestamp) -> Option<Gate> {
    let rule = demands.gates.error_budget.as_ref()?;
    let name = GateName::ErrorBudget;
    match facts.later.error_budget {
        None => Gate::unknown(
            name,
            "NoAgreement",
            "the policy demands an error budget, and no ServiceLevelAgreement measures one for this System",
        ),
        Some((left, _)) if left > 0.0 => {
            Gate::open(name, "BudgetLeft", format!("{:.1} % of the error budget is left", left * 100.0))
        }
        Some((_, opens_at)) => {
            let when = opens_at.map_or_else(String::new, |i| {
                format!("; without further bad time it opens {}", describe_instant(i, now, "UTC"))
            });
            Gate::closed(name, "BudgetExhausted", format!("the error budget is exhausted{when}")).opening(opens_at)
        }
    }
    .mode(rule.mode)
}

/// The gate RestoreProof. A change of nothing but backups and drills passes it: it is how proof comes to be. One that only
/// restores is not held by data that is too old or a drill that is overdue, as it is how data that is lost comes back.
pub fn restore_proof(demands: &Demands<'_>, facts: &ChangeFacts<'_>, now: Timestamp) -> Option<Gate> {
    let rule = demands.gates.restore_proof.as_ref()?;
    let name = GateName::RestoreProof;
    let objects = facts.content.as_ref().map(|content| content.objects.as_slice()).unwrap_or_default();
    let is_about_backups =
        |id: &ObjectId| id.group == interlock_crds::GROUP && PROTECTING_KINDS.contains(&id.kind.as_str());
    let gate = if !objects.is_empty() && objects.iter().all(|object| is_about_backups(&object.id)) {
        Gate::open(name, "ConcernsBackups", "it changes nothing but backups and drills, which is how proof comes to be")
    } else {
        match &facts.later.restore_proof {
            None => Gate::unknown(name, "NoDrill", "it is not known which backups and drills the System has"),
            Some(proof) => {
                let answer = if restores::only_restores(facts) {
                    proof::gate(&proof.shown.clone().into(), rule, now)?
                } else {
                    proof::gate(proof, rule, now)?
                };
                if answer.open {
                    Gate::open(name, answer.reason, answer.sentence).until(answer.until)
                } else {
                    Gate::closed(name, answer.reason, answer.sentence)
                }
            }
        }
    };
    gate.mode(rule.mode)
}

/// The gate OpenIncident, and for emergency changes the incident that unlocks them.
pub fn open_incident(demands: &Demands<'_>, facts: &ChangeFacts<'_>) -> Option<Gate> {
    let name = GateName::OpenIncident;
    let fixes = &facts.request.spec.fixes;
    if let Some(least) = demands.incident {
        let Some(incidents) = &facts.later.incidents else {
            return Some(Gate::unknown(
                name,
                "NoIncidents",
                format!(
                    "an emergency change needs an open incident of {least:?} or more urgent named in fixes, and incidents are not recorded by this version; propose it as type Normal"
                ),
            ));
        };
        let unlocking = incidents.iter().find(|i| fixes.contains(&i.name) && i.priority <= least && i.confirmed);
        return Some(match unlocking {
            Some(incident) => {
                Gate::open(name, "Unlocked", format!("fixes incident {} ({:?})", incident.name, incident.priority))
            }
            None => Gate::closed(
                name,
                "NoIncident",
                format!(
                    "needs an open incident of {least:?} or more urgent in fixes, opened by a monitoring source or confirmed by another commander"
                ),
            ),
        });
    }
    let rule = demands.gates.open_incident.as_ref()?;
    let gate = match &facts.later.incidents {
        None => {
            Gate::unknown(name, "NoIncidents", "the policy looks at incidents, and this version does not record any")
        }
        Some(incidents) => {
            let standing: Vec<_> = incidents
                .iter()
                .filter(|i| i.priority <= rule.at_or_above && !fixes.contains(&i.name))
                .map(|i| format!("{} ({:?})", i.name, i.priority))
                .collect();
            if standing.is_empty() {
                Gate::open(name, "NoIncident", "no incident stands in the way")
            } else {
                Gate::closed(
                    name,
                    "IncidentOpen",
                    format!("open: {}; resolve it, or name it in fixes if this change fixes it", standing.join(", ")),
                )
            }
        }
    };
    gate.mode(rule.mode)
}

/// The gate Collision.
pub fn collision(demands: &Demands<'_>, facts: &ChangeFacts<'_>) -> Option<Gate> {
    let rule = demands.gates.collision.clone().unwrap_or_default();
    let name = GateName::Collision;
    let in_the_way = facts.running.iter().find(|r| !r.dependency || rule.include_dependencies);
    let gate = match in_the_way {
        None => Gate::open(name, "Alone", "no running change touches the same objects"),
        Some(other) => {
            let what = match &other.shared {
                Some(object) => format!("also writes {object}"),
                None => format!("runs in System {}", other.system),
            };
            Gate::closed(name, "Collision", format!("change {} {what}; it opens when that has ended", other.key))
        }
    };
    gate.mode(rule.mode)
}

/// The gate Dependency.
pub fn dependency(facts: &ChangeFacts<'_>) -> Gate {
    use interlock_crds::ChangePhase as P;
    let name = GateName::Dependency;
    if facts.dependencies.is_empty() {
        return Gate::open(name, "None", "depends on no other change");
    }
    let mut waiting = Vec::new();
    for dependency in facts.dependencies {
        if dependency.cycle {
            return Gate::closed(
                name,
                "Cycle",
                format!("{} depends on this change in turn; remove one of the two dependsOn entries", dependency.key),
            );
        }
        match dependency.phase {
            Some(P::Succeeded) => {}
            None => waiting.push(format!("{} does not exist", dependency.key)),
            Some(phase) if phase.is_terminal() => {
                waiting.push(format!("{} ended {phase:?} and will never succeed; edit dependsOn", dependency.key));
            }
            Some(phase) => waiting.push(format!("{} is {phase:?}", dependency.key)),
        }
    }
    if waiting.is_empty() {
        Gate::open(name, "Succeeded", "every change it depends on has succeeded")
    } else {
        Gate::closed(name, "Waiting", waiting.join("; "))
    }
}

/// The gate Milestone.
pub fn milestone(facts: &ChangeFacts<'_>) -> Option<Gate> {
    let wanted = facts.request.spec.milestone.as_ref()?;
    let name = GateName::Milestone;
    let which = format!("milestone {} of project {}", wanted.name, wanted.project);
    Some(match facts.later.milestone {
        None => Gate::unknown(
            name,
            "NoProject",
            format!("{which} is not known: this version records no projects; leave milestone out"),
        ),
        Some(true) => Gate::open(name, "Reached", format!("{which} has its deliverables and sign-offs")),
        Some(false) => Gate::closed(name, "NotReached", format!("{which} lacks deliverables or sign-offs")),
    })
}

/// The gate Signature: for content that comes from Git.
pub fn signature(facts: &ChangeFacts<'_>) -> Option<Gate> {
    facts.request.spec.content.git.as_ref()?;
    let name = GateName::Signature;
    Some(match facts.later.signature {
        None => Gate::unknown(name, "NotVerified", "the commits were not verified"),
        Some(true) => Gate::open(name, "Signed", "every commit is signed by an allowed key"),
        Some(false) => Gate::closed(name, "NotSigned", "a commit is not signed by an allowed key"),
    })
}

/// The gate Precondition.
pub fn precondition(demands: &Demands<'_>, pinned: &Pinned, facts: &ChangeFacts<'_>) -> Gate {
    let name = GateName::Precondition;
    let base = match facts.base {
        BaseState::Unread => {
            return Gate::unknown(name, "NotRead", "the live objects were not read yet");
        }
        BaseState::Unreadable(why) => {
            return Gate::unknown(name, "Unreadable", format!("the live objects could not be read: {why}"));
        }
        BaseState::Read(base) => base,
    };
    if let Some(gate) = irreversible(name, demands, facts, base) {
        return gate;
    }
    match pinned {
        Pinned::Now(_) => Gate::open(name, "Pinned", "the live objects were just recorded as the base of this change"),
        Pinned::Before(record) if base.live == *record.digest && record.secrets_mac == base.secrets_mac => Gate::open(
            name,
            "BaseUnchanged",
            "the live objects were as the approvers saw them when last read; they are read again before the start",
        ),
        Pinned::Before(record) if record.secrets_mac != base.secrets_mac => Gate::closed(
            name,
            "SecretsChanged",
            "a staged Secret is gone or was exchanged since it was proposed; propose the change again",
        ),
        Pinned::Before(_) => Gate::closed(
            name,
            "BaseChanged",
            "somebody changed the live objects since the approvers saw them; look at the difference and run `interlock rebase`, which makes earlier votes stale",
        ),
    }
}

fn irreversible(
    name: GateName,
    demands: &Demands<'_>,
    facts: &ChangeFacts<'_>,
    base: &super::facts::BaseFacts,
) -> Option<Gate> {
    let content = facts.content.as_ref().ok()?;
    let doomed: Vec<_> = content
        .irreversible()
        .filter(|o| base.effects.iter().any(|e| e.id == o.id && e.kind == EffectKind::Delete))
        .map(|o| o.id.to_string())
        .collect();
    (!doomed.is_empty() && !demands.allow_irreversible).then(|| {
        Gate::closed(
            name,
            "Irreversible",
            format!("deleting {} destroys data that no rollback brings back, and the policy does not allow that (allowIrreversible)", doomed.join(", ")),
        )
    })
}

/// The gate Preflight.
pub fn preflight(facts: &ChangeFacts<'_>, now: Timestamp) -> Gate {
    let name = GateName::Preflight;
    let executor = facts.system.and_then(|s| s.spec.executor.as_ref());
    match executor {
        None => {
            return Gate::closed(
                name,
                "NoExecutor",
                "the System names no executor.serviceAccount under whose rights the change could be carried out",
            );
        }
        Some(executor) if executor.service_account.is_none() => {
            return Gate::unknown(
                name,
                "ExternalExecutor",
                "executors of type External are not supported by this version; name a serviceAccount",
            );
        }
        Some(_) => {}
    }
    match facts.preflight {
        Preflight::NotTried => Gate::open(name, "NotTried", "will be tried with a dry run before anything is written"),
        Preflight::Refused { message, retry_at } if *retry_at > now => {
            Gate::closed(name, "Refused", format!("{message}; tried again {}", describe_instant(*retry_at, now, "UTC")))
                .until(Some(*retry_at))
        }
        Preflight::Refused { .. } => Gate::open(name, "TryAgain", "will be tried again with a dry run"),
    }
}
