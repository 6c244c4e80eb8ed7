//! What people see of a policy: phase, conditions and one sentence.

use interlock_crds::{
    BackupPhase, BackupPolicyPhase, BackupPolicySpec, BackupPolicyStatus, LastRun, PointRef, ScheduleStatus,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::{
    exposure::{Exposure, at_risk_sentence, exposure},
    heartbeat::writer,
    receiver,
    slots::{SlotDecision, earlier},
};

/// What is looked at.
#[derive(Clone, Copy, Debug)]
pub struct PolicyFacts<'a> {
    /// Generation of the spec.
    pub generation: i64,
    /// The spec.
    pub spec: &'a BackupPolicySpec,
    /// What was recorded so far.
    pub status: &'a BackupPolicyStatus,
    /// When the policy was created.
    pub created_at: Timestamp,
    /// What cannot be used of spec and references, as sentences; empty if all can.
    pub problems: &'a [String],
    /// Why the repository cannot take runs, if it cannot.
    pub repository_problem: Option<&'a str>,
    /// What was decided about its slots.
    pub slots: &'a SlotDecision,
    /// Name of the active run.
    pub active: Option<&'a str>,
    /// The newest run that ended.
    pub last_run: Option<&'a LastRun>,
    /// How many runs in a row did not succeed.
    pub consecutive_failures: u32,
    /// When a run last succeeded.
    pub last_success: Option<Timestamp>,
    /// The newest good point.
    pub last_good: Option<&'a PointRef>,
    /// The newest proven point.
    pub last_proven: Option<&'a PointRef>,
    /// How many points there are.
    pub points: u32,
    /// What is told of the writer of its heartbeat, if it has one.
    pub heartbeat: Option<&'a writer::Told>,
    /// What is told of the receiver of its write-ahead log, if it has one.
    pub wal: Option<&'a writer::Told>,
    /// Now.
    pub now: Timestamp,
}

/// Something that an Event, and later an Incident, tells once when it begins and once when it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RiskChange {
    /// Whether it begins.
    pub begins: bool,
    /// Which time it is: the same until it is recorded.
    pub of: String,
    /// The sentence.
    pub message: String,
}

/// The status of a policy, and whether its risk changed.
pub fn policy(facts: &PolicyFacts<'_>) -> (BackupPolicyStatus, Option<RiskChange>) {
    let rpo = facts.spec.objectives.as_ref().and_then(|objectives| objectives.rpo);
    let exposed = exposure(facts.last_good, facts.created_at, rpo.map(interlock_crds::Duration::signed), facts.now);
    let risk = risk_sentence(facts, &exposed);
    let overdue = facts.slots.progress.iter().find_map(overdue);
    let valid = match facts.problems {
        [] => ("True", "Valid", "everything can be used".to_owned()),
        problems => ("False", "Invalid", problems.join("; ")),
    };
    let ready = match facts.repository_problem {
        None => ("True", "RepositoryReady", "the repository takes runs".to_owned()),
        Some(why) => ("False", "RepositoryNotReady", why.to_owned()),
    };
    let at_risk = match (&risk, rpo) {
        (Some(why), _) => ("True", "RPOExceeded", why.clone()),
        (None, Some(rpo)) => {
            ("False", "WithinObjective", format!("the newest good recovery point is not older than {rpo}"))
        }
        (None, None) => ("False", "NoObjective", "objectives.rpo is not set, so no age counts as too old".to_owned()),
    };
    let late =
        overdue.clone().map_or(("False", "OnTime", "no slot is owed".to_owned()), |why| ("True", "SlotMissed", why));
    let companions = [(writer::CONDITION, facts.heartbeat), (receiver::CONDITION, facts.wal)];
    let companions =
        companions.into_iter().filter_map(|(condition, told)| Some((condition, told?))).map(|(condition, told)| {
            (condition, (if told.is_ready { "True" } else { "False" }, told.reason, told.message.clone()))
        });
    let conditions = [("Valid", valid), ("Ready", ready), ("RPOAtRisk", at_risk), ("Overdue", late)]
        .into_iter()
        .chain(companions)
        .map(|(type_, (status, reason, message))| condition(facts, type_, status, reason, message))
        .collect();
    let phase = phase(facts, risk.is_some());
    let status = BackupPolicyStatus {
        observed_generation: Some(facts.generation),
        phase,
        message: Some(sentence(facts, phase, risk.as_deref(), overdue.as_deref())),
        active: facts.active.map(ToOwned::to_owned),
        schedules: facts.slots.progress.clone(),
        next_slot: facts.slots.next_slot.filter(|_| !facts.spec.suspend).map(Time),
        suspended_since: facts.slots.suspended_since.map(Time),
        last_run: facts.last_run.cloned(),
        last_successful_time: facts.last_success.map(Time),
        last_good: facts.last_good.cloned(),
        last_proven: facts.last_proven.cloned(),
        points: facts.points,
        consecutive_failures: facts.consecutive_failures,
        next_transition: earlier(facts.slots.wake_at, exposed.at_risk_at).map(Time),
        conditions,
    };
    let was = facts.status.conditions.iter().any(|c| c.type_ == "RPOAtRisk" && c.status == "True");
    let of = || since(&facts.status.conditions, "RPOAtRisk");
    let change = match (was, risk) {
        (false, Some(message)) => Some(RiskChange { begins: true, of: of(), message }),
        (true, None) => Some(RiskChange {
            begins: false,
            of: of(),
            message: "there is a good recovery point within the objective again".into(),
        }),
        _ => None,
    };
    (status, change)
}

/// Since when a condition has been as it is recorded; empty if it is not. It tells one turn of it from the next.
pub(crate) fn since(recorded: &[Condition], type_: &str) -> String {
    let known = recorded.iter().find(|condition| condition.type_ == type_);
    known.map_or_else(String::new, |condition| condition.last_transition_time.0.to_string())
}

fn phase(facts: &PolicyFacts<'_>, at_risk: bool) -> BackupPolicyPhase {
    let failed =
        facts.last_run.is_some_and(|run| matches!(run.phase, BackupPhase::Failed | BackupPhase::PartiallyFailed));
    match () {
        () if !facts.problems.is_empty() => BackupPolicyPhase::Invalid,
        () if facts.active.is_some() => BackupPolicyPhase::Running,
        () if at_risk => BackupPolicyPhase::AtRisk,
        () if facts.spec.suspend => BackupPolicyPhase::Suspended,
        () if failed => BackupPolicyPhase::Failing,
        () => BackupPolicyPhase::Idle,
    }
}

fn risk_sentence(facts: &PolicyFacts<'_>, exposed: &Exposure) -> Option<String> {
    let rpo = facts.spec.objectives.as_ref()?.rpo.filter(|_| exposed.at_risk)?;
    Some(at_risk_sentence(facts.last_good, rpo))
}

/// A schedule owes a run if its newest slot was missed and nothing was begun since.
fn overdue(progress: &ScheduleStatus) -> Option<String> {
    let missed = progress.missed_slots.as_ref()?;
    let begun = progress.last_slot.as_ref().is_some_and(|slot| slot.0 > missed.last.0);
    (!begun).then(|| {
        let next = progress.next_slot.as_ref().map(|next| format!("; the next slot is {}", next.0)).unwrap_or_default();
        format!("slot {} of schedule {} was missed and nothing was begun since{next}", missed.last.0, progress.name)
    })
}

fn sentence(facts: &PolicyFacts<'_>, phase: BackupPolicyPhase, risk: Option<&str>, overdue: Option<&str>) -> String {
    let next = || {
        facts.slots.next_slot.map_or_else(|| "no slot follows".to_owned(), |next| format!("the next slot is {next}"))
    };
    let text = match phase {
        BackupPolicyPhase::Invalid => facts.problems.join("; "),
        BackupPolicyPhase::Running => format!("run {} is active", facts.active.unwrap_or_default()),
        BackupPolicyPhase::AtRisk => risk.unwrap_or_default().to_owned(),
        BackupPolicyPhase::Suspended => "suspended: no run is begun; set suspend to false to go on".to_owned(),
        BackupPolicyPhase::Failing => facts.last_run.map_or_else(String::new, |run| {
            let reason = run.reason.as_deref().unwrap_or("Unknown");
            format!("run {} ended with {:?} ({reason}); {}", run.name, run.phase, next())
        }),
        BackupPolicyPhase::Idle | BackupPolicyPhase::Pending => overdue.map_or_else(next, ToOwned::to_owned),
    };
    text.chars().take(2_048).collect()
}

fn condition(facts: &PolicyFacts<'_>, type_: &str, status: &str, reason: &str, message: String) -> Condition {
    let known = facts.status.conditions.iter().find(|c| c.type_ == type_ && c.status == status);
    Condition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message,
        observed_generation: Some(facts.generation),
        last_transition_time: known.map_or_else(|| Time(facts.now), |c| c.last_transition_time.clone()),
    }
}
