//! One run, from its object to its outcome: what to do next, and what is recorded before it is done.
//!
//! Pin the policy, wait for the repository, make the Job, wait for its end, judge, let go of the repository. Each write is
//! announced in the status before it is made; each has a deterministic name; so a second controller, or the same one after a
//! crash, finds out from the objects where the run is. The repository stays claimed until the Job is terminal or gone, or
//! was never made.

mod end;
mod facts;

use interlock_crds::{BackupPhase, BackupStatus, JobRef, StopRecord};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

pub use facts::{JobEnd, JobFact, JobState, ObjectsFact, PolicyFact, RepositoryFact, RunDecision, RunFacts, RunStep};

use super::{
    ADMISSION_PATIENCE,
    outcome::{Outcome, Reason},
    slots::{earlier, plus},
};

/// A Job that should have been stopped by now is looked at again after this long.
const STOP_PATIENCE: SignedDuration = SignedDuration::from_secs(30);

/// A creation that was sent arrives within this, or never: longer than the client's time limit.
const CREATION_LIMIT: SignedDuration = SignedDuration::from_secs(60);

/// Decides what follows for one run.
pub fn decide(facts: &RunFacts<'_>) -> RunDecision {
    let mut status = facts.status.clone();
    status.observed_generation = Some(facts.generation);
    let mut pass = Pass { facts, status, wake_at: None };
    let step = pass.step();
    pass.status.message = pass.status.message.map(|message| message.chars().take(2_048).collect());
    pass.status.next_transition = pass.wake_at.map(Time);
    RunDecision { status: pass.status, step, wake_at: pass.wake_at }
}

struct Pass<'a> {
    facts: &'a RunFacts<'a>,
    status: BackupStatus,
    wake_at: Option<Timestamp>,
}

impl Pass<'_> {
    fn step(&mut self) -> RunStep {
        match self.status.phase {
            BackupPhase::Pending if self.status.job.is_none() => self.before_job(),
            BackupPhase::Pending | BackupPhase::Running => self.with_job(),
            _ => self.at_rest(),
        }
    }

    /// The run has ended: whatever is left of its Job must be gone before the repository is let go.
    fn at_rest(&mut self) -> RunStep {
        match self.facts.job {
            JobFact::Ours(job) if job.ended.is_none() => self.stop(job),
            JobFact::Unknown if self.status.job.is_some() => RunStep::Nothing,
            JobFact::Leaving(_) => {
                self.wake(plus(self.facts.now, STOP_PATIENCE));
                RunStep::Nothing
            }
            _ => RunStep::Release,
        }
    }

    fn before_job(&mut self) -> RunStep {
        let facts = self.facts;
        if facts.deleting {
            return self.end(&Outcome::failed(Reason::Deleted, "it was deleted before its Job was made"));
        }
        if facts.replaced {
            return self.end(&replaced());
        }
        let Some(policy) = facts.policy.filter(|policy| self.is_of(policy)) else {
            let name = &facts.spec.policy_ref.name;
            return self.unusable(
                Reason::PolicyGone,
                format!("BackupPolicy {name}, as it was when the run was asked for, does not exist in this namespace"),
            );
        };
        if let Some(why) = policy.refusal {
            return self.unusable(Reason::JobRefused, why.to_owned());
        }
        if self.pin(&policy) {
            self.status.queued_at = Some(Time(facts.now));
            let slot = facts.spec.slot.as_ref().map(|slot| facts.now.duration_since(slot.time.0).as_secs());
            self.status.late_seconds = slot.filter(|seconds| *seconds > 60);
            self.status.message = Some(format!("asks repository {} to be let in", policy.pin.repository));
        }
        let queued = self.status.queued_at.as_ref().map_or(facts.now, |at| at.0);
        let until = plus(queued, policy.spec.wait_for_repository.signed());
        match facts.repository {
            RepositoryFact::Held => {
                self.status.claimed_at = Some(Time(facts.now));
                self.status.job = Some(JobRef { name: facts.name.to_owned(), uid: None });
                self.status.message = Some("the repository let it in; its Job is made".to_owned());
                // The next pass looks whether the Job is there already.
                self.with_job()
            }
            RepositoryFact::Waiting(_) | RepositoryFact::Unknown if until <= facts.now => {
                let why = match facts.repository {
                    RepositoryFact::Waiting(why) => why,
                    _ => "it is not known who holds it",
                };
                self.end(&Outcome::failed(
                    Reason::RepositoryBusy,
                    format!("the repository did not let it in within {}: {why}", policy.spec.wait_for_repository),
                ))
            }
            RepositoryFact::Waiting(why) => {
                self.status.message = Some(format!("waits for the repository: {why}"));
                self.wake(until);
                RunStep::Claim
            }
            RepositoryFact::Unknown => {
                self.wake(until);
                RunStep::Claim
            }
        }
    }

    /// What the run refers to is missing or cannot be used: that is its outcome, unless it may not be known yet.
    fn unusable(&mut self, reason: Reason, why: String) -> RunStep {
        let until = plus(self.facts.created_at, ADMISSION_PATIENCE);
        if self.status.pinned.is_some() || until <= self.facts.now {
            return self.end(&Outcome::failed(reason, why));
        }
        self.status.message = Some(format!("waits until {until}: {why}"));
        self.wake(until);
        RunStep::Nothing
    }

    /// Pins the run to the policy as it is now, as long as its Job was not made; whether it is pinned for the first time.
    fn pin(&mut self, policy: &PolicyFact<'_>) -> bool {
        self.status.pinned.replace(policy.pin.clone()).is_none()
    }

    fn is_of(&self, policy: &PolicyFact<'_>) -> bool {
        let known =
            self.status.pinned.as_ref().map(|pinned| &pinned.policy_uid).or(self.facts.spec.policy_uid.as_ref());
        known.is_none_or(|uid| *uid == policy.pin.policy_uid)
    }

    fn with_job(&mut self) -> RunStep {
        let known = self.status.job.as_ref().and_then(|job| job.uid.clone());
        match (self.facts.job, known) {
            (JobFact::Unknown, _) => RunStep::Nothing,
            (JobFact::Leaving(pod), _) => {
                self.status.message =
                    Some(format!("its Job was deleted; pod {pod} of it may still write and is waited for"));
                self.wake(plus(self.facts.now, STOP_PATIENCE));
                RunStep::Nothing
            }
            (JobFact::Foreign, _) => self.end(&Outcome::new(
                BackupPhase::Skipped,
                Reason::NameTaken,
                format!(
                    "a Job {} exists that is not of this run; delete it if nobody needs it. The next slot is run",
                    self.facts.name
                ),
            )),
            (JobFact::Refused(why), None) => {
                self.end(&Outcome::failed(Reason::JobRefused, format!("the API server refused its Job: {why}")))
            }
            (JobFact::Absent, None) => self.create(),
            (JobFact::Absent | JobFact::Refused(_), Some(_)) => {
                let gone = "its Job was deleted before it ended, by somebody else than Interlock";
                let outcome = self.stopped().unwrap_or_else(|| Outcome::failed(Reason::JobDeleted, gone));
                self.end(&outcome)
            }
            (JobFact::Ours(job), Some(uid)) if job.uid != uid => self.end(&Outcome::failed(
                Reason::JobDeleted,
                "its Job was deleted and another one of the same name was made by somebody else than Interlock",
            )),
            (JobFact::Ours(job), _) => self.running(job),
        }
    }

    /// The Job is announced and not there: it is made, unless the run is no longer wanted. Then a creation that may still be
    /// on its way is waited for, as the repository must not be let go before it.
    fn create(&mut self) -> RunStep {
        let unwanted = match (self.facts.deleting, self.facts.replaced) {
            (true, _) => Some(Outcome::failed(Reason::Deleted, "it was deleted before its Job was made")),
            (false, true) => Some(replaced()),
            (false, false) => self.stopped().or_else(|| match self.facts.policy {
                None => Some(policy_gone()),
                Some(policy) => policy.refusal.map(|why| Outcome::failed(Reason::JobRefused, why)),
            }),
        };
        let Some(outcome) = unwanted else {
            if let Some(policy) = self.facts.policy {
                self.pin(&policy);
            }
            return match self.take_hooks(false) {
                Ok(None) => self.take_objects(),
                Ok(Some(step)) => step,
                Err(why) => self.end(&Outcome::failed(Reason::HookFailed, why)),
            };
        };
        let since = self.status.stopping.get_or_insert_with(|| stop_record(&outcome, self.facts.now)).at.0;
        let arrived = plus(since, CREATION_LIMIT);
        if arrived <= self.facts.now {
            return self.end(&outcome);
        }
        self.wake(arrived);
        RunStep::Nothing
    }

    /// Objects are read, announced and stored before the Job that copies them is made.
    fn take_objects(&mut self) -> RunStep {
        let copied = self.facts.policy.is_some_and(|policy| policy.spec.source.objects.is_some());
        if !copied || self.status.objects.as_ref().is_some_and(|record| record.stored) {
            return RunStep::CreateJob;
        }
        match (self.facts.objects, &mut self.status.objects) {
            (Some(ObjectsFact::Failed(outcome)), _) => self.end(outcome),
            (Some(ObjectsFact::Stored), Some(record)) => {
                record.stored = true;
                RunStep::CreateJob
            }
            (Some(ObjectsFact::Read(record)), announced) => {
                *announced = Some(record.clone());
                RunStep::StoreObjects
            }
            (Some(ObjectsFact::Stored), None) | (None, _) => RunStep::StoreObjects,
        }
    }

    fn running(&mut self, job: &JobState) -> RunStep {
        self.status.phase = BackupPhase::Running;
        self.status.job = Some(JobRef { name: self.facts.name.to_owned(), uid: Some(job.uid.clone()) });
        self.status.started_at.get_or_insert(Time(job.created_at));
        if let Some(end) = &job.ended {
            return self.ended(end, job.log_tail.as_deref());
        }
        // A pod that is gone has not begun since.
        if job.has_pod {
            self.status.waiting = job.waiting.as_ref().map(|waiting| bounded(waiting));
        }
        // A pod that is ended from outside is removed, and with it what its tool wrote last.
        if let Some(log) = &job.log_tail {
            self.status.log_tail = Some(end::tail(log));
        }
        self.status.message = Some(match &self.status.waiting {
            Some(waiting) => format!("its pod cannot go on: {waiting}"),
            None => "its Job runs".to_owned(),
        });
        let policy = self.facts.policy.map(|policy| policy.spec.deadline.seconds());
        let seconds = job.deadline_seconds.or(policy);
        let deadline = seconds.map(|seconds| plus(job.created_at, SignedDuration::from_secs(seconds)));
        if self.status.stopping.is_none() {
            let why = if self.facts.replaced {
                Some(replaced())
            } else if self.facts.deleting {
                Some(Outcome::failed(Reason::Deleted, "it was deleted while its Job ran"))
            } else if deadline.is_some_and(|deadline| deadline <= self.facts.now) {
                Some(over_time(seconds.unwrap_or_default(), self.status.waiting.as_deref()))
            } else {
                None
            };
            self.status.stopping = why.map(|outcome| stop_record(&outcome, self.facts.now));
        }
        if self.status.stopping.is_some() {
            return self.stop(job);
        }
        if let Some(deadline) = deadline {
            self.wake(deadline);
        }
        RunStep::Nothing
    }

    fn stop(&mut self, job: &JobState) -> RunStep {
        self.wake(plus(self.facts.now, STOP_PATIENCE));
        RunStep::StopJob(job.uid.clone())
    }

    fn wake(&mut self, at: Timestamp) {
        self.wake_at = earlier(self.wake_at, Some(at));
    }
}

pub(super) fn stop_record(outcome: &Outcome, now: Timestamp) -> StopRecord {
    StopRecord { reason: outcome.reason.name(), message: bounded(&outcome.message), at: Time(now) }
}

/// As much as a field for a person holds.
fn bounded(text: &str) -> String {
    text.chars().take(1_024).collect()
}

fn policy_gone() -> Outcome {
    Outcome::failed(Reason::PolicyGone, "its BackupPolicy was deleted before its Job was made")
}

fn replaced() -> Outcome {
    Outcome::failed(Reason::Replaced, "the run of a later slot takes its place (overlap: Replace)")
}

fn over_time(seconds: i64, waiting: Option<&str>) -> Outcome {
    match waiting {
        Some(waiting) => Outcome::failed(
            Reason::NeverStarted,
            format!("its pod could not go on within the deadline of {seconds} s: {waiting}"),
        ),
        None => Outcome::failed(
            Reason::DeadlineExceeded,
            format!(
                "it took longer than its deadline of {seconds} s and was ended; raise deadline if that is too short"
            ),
        ),
    }
}
