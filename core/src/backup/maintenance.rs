//! The upkeep of a repository: it is made once, checked, pruned, its key exchanged, stale locks removed. One thing at a
//! time, each alone with the repository.
//!
//! What is to be done is noted as `status.active` before anything is claimed or made; its name follows from repository,
//! operation and moment, so a second controller finds the same Job. It stays active until its Job has ended.

mod due;
mod tell;

use std::collections::BTreeSet;

use interlock_crds::{
    Backup, BackupPhase, BackupRepositorySpec, BackupRepositoryStatus, MaintenanceOperation, MaintenanceOutcome,
    MaintenanceRecord, RepositoryHolder,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

pub(super) use due::{LOCK_IS_STALE, word};

use super::{
    outcome::{self, Outcome, Reason},
    plan,
    repository::{Claim, Use},
    result::RunResult,
    run::{JobEnd, JobFact, RepositoryFact},
    slots::{earlier, plus},
};

/// A pod whose Job was deleted is looked at again after this long.
const LEAVING: SignedDuration = SignedDuration::from_secs(30);

/// What is looked at.
#[derive(Clone, Copy, Debug)]
pub struct MaintenanceFacts<'a> {
    /// Name of the repository.
    pub name: &'a str,
    /// Its uid.
    pub uid: &'a str,
    /// Generation of its spec.
    pub generation: i64,
    /// When it was created: earlier slots are nobody's.
    pub created_at: Timestamp,
    /// The spec.
    pub spec: &'a BackupRepositorySpec,
    /// What was recorded so far.
    pub status: &'a BackupRepositoryStatus,
    /// What cannot be used of the spec and what it refers to, as sentences.
    pub problems: &'a [String],
    /// Whether the active operation holds the repository.
    pub claim: RepositoryFact<'a>,
    /// The Job of the active operation.
    pub job: &'a JobFact,
    /// Whether what an ended prune forgot is noted in the recovery points.
    pub settled: bool,
    /// What runs of policies came to.
    pub runs: &'a SeenByRuns,
    /// Now.
    pub now: Timestamp,
}

/// What runs of policies found out about the repository.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeenByRuns {
    /// restic's id of it, as a run that succeeded read it.
    pub id: Option<String>,
    /// When a run last opened it.
    pub opened_at: Option<Timestamp>,
    /// When a run last could not, and why.
    pub refused: Option<(Timestamp, String)>,
    /// When runs found it locked since one last opened it: by something outside this cluster, or by a lock that a run left which
    /// was killed. The first, and not all that came later.
    pub locked: BTreeSet<Timestamp>,
    /// How many recovery points are in it.
    pub points: u32,
}

/// So many findings of a lock are known at most.
const MOST_LOCKED: usize = 16;

impl SeenByRuns {
    /// Learns from a run that ended what it says about the repository.
    pub fn learn(&mut self, run: &Backup) {
        let Some(status) = &run.status else { return };
        let Some(at) = status.finished_at.as_ref().map(|at| at.0) else { return };
        let is = |reason: Reason| status.reason.as_deref() == Some(reason.name().as_str());
        if matches!(status.phase, BackupPhase::Succeeded | BackupPhase::PartiallyFailed) {
            self.opened_at = self.opened_at.max(Some(at));
            if self.id.is_none() {
                self.id = status.pinned.as_ref().and_then(|pinned| pinned.repository_id.clone());
            }
        }
        let refused = [
            Reason::RepositoryMissing,
            Reason::RepositoryReplaced,
            Reason::RepositoryUnreachable,
            Reason::WrongPassword,
        ];
        if refused.into_iter().any(is) && self.refused.as_ref().is_none_or(|(known, _)| *known < at) {
            self.refused = Some((at, status.message.clone().unwrap_or_default()));
        }
        if is(Reason::RepositoryLocked) {
            self.locked.insert(at);
        }
        if let Some(opened) = self.opened_at {
            self.locked = self.locked.split_off(&opened);
        }
        if self.locked.len() > MOST_LOCKED {
            let second = self.locked.iter().nth(1).copied();
            second.map(|at| self.locked.remove(&at));
        }
    }
}

/// Why no run is let in although nobody holds the repository; none if runs are.
pub fn keeps_runs_out(
    spec: &BackupRepositorySpec,
    status: &BackupRepositoryStatus,
    problems: &[String],
) -> Option<String> {
    if let [first, ..] = problems {
        return Some(format!("the repository cannot be used: {first}"));
    }
    let made = status.repository_id.is_some() || status.seen_at.is_some();
    (spec.initialize && !made).then(|| "the repository is made first".to_owned())
}

/// What is to be done, after the status was recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MaintenanceStep {
    /// Nothing.
    Nothing,
    /// Ask to be alone with the repository.
    Claim(Claim),
    /// Make the Job of the active operation.
    CreateJob,
    /// Note in the recovery points what the ended Job forgot.
    Settle,
}

/// What follows.
#[derive(Clone, Debug, PartialEq)]
pub struct MaintenanceDecision {
    /// To be recorded before the step is taken.
    pub status: BackupRepositoryStatus,
    /// What is to be done then.
    pub step: MaintenanceStep,
    /// When time alone changes the answer.
    pub wake_at: Option<Timestamp>,
    /// An operation that just ended, for people.
    pub ended: Option<MaintenanceRecord>,
}

/// The claim of an operation: it is known by its name.
pub fn claim(record: &MaintenanceRecord) -> Claim {
    Claim {
        uid: record.name.clone(),
        holder: format!("{:?}/{}", record.operation, record.name),
        usage: Use::Exclusive,
        since: record.due_at.0,
    }
}

/// Decides what follows for one repository.
pub fn decide(facts: &MaintenanceFacts<'_>) -> MaintenanceDecision {
    let mut pass = Pass { facts, status: facts.status.clone(), wake_at: None, ended: None };
    pass.learn();
    let step = pass.step();
    pass.tell();
    pass.status.next_transition = pass.wake_at.map(Time);
    MaintenanceDecision { status: pass.status, step, wake_at: pass.wake_at, ended: pass.ended }
}

/// Who holds the repository and how many wait, into its status.
pub fn show(status: &mut BackupRepositoryStatus, holders: Vec<RepositoryHolder>, waiting: usize) {
    status.holders = holders;
    status.waiting = u32::try_from(waiting).unwrap_or(u32::MAX);
}

struct Pass<'a> {
    facts: &'a MaintenanceFacts<'a>,
    status: BackupRepositoryStatus,
    wake_at: Option<Timestamp>,
    ended: Option<MaintenanceRecord>,
}

impl Pass<'_> {
    fn learn(&mut self) {
        let runs = self.facts.runs;
        self.status.observed_generation = Some(self.facts.generation);
        self.status.points = runs.points;
        if self.status.repository_id.is_none()
            && let Some(id) = &runs.id
        {
            self.seen(id.clone());
        }
    }

    fn seen(&mut self, id: String) {
        self.status.repository_id = Some(id);
        self.status.seen_at.get_or_insert(Time(self.facts.now));
    }

    fn step(&mut self) -> MaintenanceStep {
        if self.status.active.is_none() {
            self.begin();
        }
        let Some(active) = self.status.active.clone() else { return MaintenanceStep::Nothing };
        match (self.facts.job, &active.job_uid) {
            (JobFact::Unknown, _) => MaintenanceStep::Nothing,
            // Its pod may still write: nobody else is let in.
            (JobFact::Leaving(_), _) => {
                self.wake(Some(plus(self.facts.now, LEAVING)));
                MaintenanceStep::Nothing
            }
            (JobFact::Foreign, _) => {
                let why = format!("a Job {} exists that is not Interlock's; delete it if nobody needs it", active.name);
                self.end(&Outcome::failed(Reason::NameTaken, why), None)
            }
            (JobFact::Refused(why), None) => {
                let why = format!("the API server refused its Job: {why}");
                self.end(&Outcome::failed(Reason::JobRefused, why), None)
            }
            (JobFact::Absent | JobFact::Refused(_), Some(_)) => {
                self.end(&Outcome::failed(Reason::JobDeleted, "its Job was deleted before it ended"), None)
            }
            (JobFact::Absent, None) => match self.facts.claim {
                RepositoryFact::Held if !self.is_just_begun() => MaintenanceStep::CreateJob,
                _ => MaintenanceStep::Claim(claim(&active)),
            },
            (JobFact::Ours(job), _) => {
                if let Some(active) = &mut self.status.active {
                    active.job_uid = Some(job.uid.clone());
                    active.started_at.get_or_insert(Time(job.created_at));
                }
                job.ended.as_ref().map_or(MaintenanceStep::Nothing, |end| self.ended(&active, end))
            }
        }
    }

    /// The facts about claim and Job are those of what was active before.
    fn is_just_begun(&self) -> bool {
        self.facts.status.active.as_ref().map(|active| &active.name)
            != self.status.active.as_ref().map(|active| &active.name)
    }

    fn ended(&mut self, active: &MaintenanceRecord, end: &JobEnd) -> MaintenanceStep {
        let known = self.status.repository_id.as_deref();
        let elsewhere = self.facts.spec.restic.maintenance_url.as_deref().filter(|_| plan::removes(active.operation));
        let (outcome, result) = outcome::of_maintenance(&end.pod, &active.name, active.operation, known, elsewhere);
        let outcome = if result.is_none() && end.deadline_exceeded {
            Outcome::failed(
                Reason::DeadlineExceeded,
                "it took longer than its deadline and was ended; raise the deadline",
            )
        } else {
            outcome
        };
        let forgot = active.operation == MaintenanceOperation::Prune && outcome.reason == Reason::Complete;
        if forgot && !self.facts.settled {
            return MaintenanceStep::Settle;
        }
        self.end(&outcome, result.as_ref())
    }

    fn end(&mut self, outcome: &Outcome, result: Option<&RunResult>) -> MaintenanceStep {
        let Some(mut record) = self.status.active.take() else { return MaintenanceStep::Nothing };
        let succeeded = outcome.reason == Reason::Complete;
        record.finished_at = Some(Time(self.facts.now));
        record.outcome = Some(if succeeded { MaintenanceOutcome::Succeeded } else { MaintenanceOutcome::Failed });
        record.reason = Some(outcome.reason.name());
        record.message = Some(outcome.message.chars().take(1_024).collect());
        if let Some(result) = result {
            self.take_result(&mut record, result, succeeded);
        }
        match record.operation {
            MaintenanceOperation::Check => {
                if succeeded {
                    let parts = self.facts.spec.check.as_ref().and_then(|check| check.read_data_subset.as_deref());
                    self.status.next_part = parts.and_then(due::parts).map(|parts| {
                        let done = self.status.next_part.unwrap_or(1);
                        done % parts + 1
                    });
                }
                self.status.last_check = Some(record.clone());
            }
            MaintenanceOperation::Prune => self.status.last_prune = Some(record.clone()),
            MaintenanceOperation::Unlock => self.status.last_unlock = Some(record.clone()),
            MaintenanceOperation::Initialize => self.status.last_initialize = Some(record.clone()),
            MaintenanceOperation::RotateKey => self.status.last_key_rotation = Some(record.clone()),
        }
        self.ended = Some(record);
        self.begin();
        self.status.active.as_ref().map_or(MaintenanceStep::Nothing, |next| MaintenanceStep::Claim(claim(next)))
    }

    fn take_result(&mut self, record: &mut MaintenanceRecord, result: &RunResult, succeeded: bool) {
        let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        match record.operation {
            MaintenanceOperation::Check => {
                let parts = self.facts.spec.check.as_ref().and_then(|check| check.read_data_subset.as_deref());
                record.part = parts.and_then(|parts| plan::subset(parts, self.status.next_part.unwrap_or(1)));
            }
            MaintenanceOperation::Prune => {
                record.forgotten = Some(u32::try_from(result.forgotten).unwrap_or(u32::MAX));
                record.freed_bytes = Some(number(result.freed_bytes));
            }
            _ => {}
        }
        if let Some(bytes) = result.repository_bytes {
            self.status.size_bytes = Some(number(bytes));
        }
        if succeeded
            && self.status.repository_id.is_none()
            && let Some(id) = &result.repository_id
        {
            self.seen(id.clone());
        }
    }

    fn wake(&mut self, at: Option<Timestamp>) {
        self.wake_at = earlier(self.wake_at, at.filter(|at| *at > self.facts.now));
    }
}
