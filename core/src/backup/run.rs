//! One run, from its object to its outcome: what to do next, and what is recorded before it is done.
//!
//! Pin the policy, wait for the repository, make the Job, wait for its end, judge, let go of the repository. Each write is
//! announced in the status before it is made; each has a deterministic name; so a second controller, or the same one after a
//! crash, finds out from the objects where the run is. The repository stays claimed until the Job is terminal or gone, or
//! was never made.

use interlock_crds::{
    BackupPhase, BackupPolicySpec, BackupSpec, BackupStatus, HeartbeatRecord, JobRef, PinnedPolicy, RecoveryPoint,
    StopRecord,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    outcome::{self, Expected, Outcome, PodEnd, Reason},
    result::RunResult,
    slots::{earlier, plus},
};

/// A Job that should have been stopped by now is looked at again after this long.
const STOP_PATIENCE: SignedDuration = SignedDuration::from_secs(30);

/// A creation that was sent arrives within this, or never: longer than the client's time limit.
const CREATION_LIMIT: SignedDuration = SignedDuration::from_secs(60);

/// What is looked at.
#[derive(Clone, Copy)]
pub struct RunFacts<'a> {
    /// Name of the Backup, which is also that of its Job.
    pub name: &'a str,
    /// Its uid.
    pub uid: &'a str,
    /// Generation of its spec.
    pub generation: i64,
    /// Whether it is being deleted; its finalizer keeps it until its Job is gone.
    pub deleting: bool,
    /// What was asked for.
    pub spec: &'a BackupSpec,
    /// What was recorded so far.
    pub status: &'a BackupStatus,
    /// The policy that it names; none if there is none.
    pub policy: Option<PolicyFact<'a>>,
    /// Whether the repository lets it in.
    pub repository: RepositoryFact<'a>,
    /// The Job of its name.
    pub job: &'a JobFact,
    /// A newer run that replaces it.
    pub replaced_by: Option<&'a str>,
    /// HMAC of a heartbeat's nonce.
    pub hmac: &'a dyn Fn(&str) -> String,
    /// Now.
    pub now: Timestamp,
}

/// The policy of a run.
#[derive(Clone, Copy, Debug)]
pub struct PolicyFact<'a> {
    /// What the run is to be pinned to: this policy as it is now, with repository, parent and base.
    pub pin: &'a PinnedPolicy,
    /// Its spec.
    pub spec: &'a BackupPolicySpec,
    /// Why a run cannot be begun, if it cannot: the policy or repository is invalid, or a base is missing.
    pub refusal: Option<&'a str>,
}

/// Whether the repository lets a run in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RepositoryFact<'a> {
    /// It is not known.
    Unknown,
    /// It does not, because of this.
    Waiting(&'a str),
    /// It does: the claim of the run's uid is stored.
    Held,
}

/// The Job of a run's name.
#[derive(Clone, Debug, PartialEq)]
pub enum JobFact {
    /// It is not known.
    Unknown,
    /// There is none.
    Absent,
    /// There is none, and the API server refused to make it for good, with these words.
    Refused(String),
    /// There is one that this run does not own.
    Foreign,
    /// It is this run's.
    Ours(JobState),
}

/// A Job of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct JobState {
    /// Its uid.
    pub uid: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// Its activeDeadlineSeconds.
    pub deadline_seconds: Option<i64>,
    /// Whether it is terminal, with no pod left that may still write.
    pub ended: Option<JobEnd>,
    /// What its pod is waiting for, if no container ever ran.
    pub waiting: Option<String>,
}

/// How a Job ended.
#[derive(Clone, Debug, PartialEq)]
pub struct JobEnd {
    /// Whether its deadline ended it.
    pub deadline_exceeded: bool,
    /// When it ended.
    pub at: Timestamp,
    /// How its pod ended.
    pub pod: PodEnd,
    /// The end of the tool's log, if it was asked for.
    pub log_tail: Option<String>,
}

/// What is to be done, after the status was recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunStep {
    /// Nothing.
    Nothing,
    /// Ask the repository to let the run in.
    Claim,
    /// Make the Job.
    CreateJob,
    /// Delete the Job in the foreground, with the uid as precondition.
    StopJob(String),
    /// Let go of the repository, then the finalizer: nothing of the run is left that could write.
    Release,
}

/// What follows.
#[derive(Clone, Debug, PartialEq)]
pub struct RunDecision {
    /// To be recorded before the step is taken.
    pub status: BackupStatus,
    /// What is to be done then.
    pub step: RunStep,
    /// When time alone changes the answer.
    pub wake_at: Option<Timestamp>,
}

/// Decides what follows for one run.
pub fn decide(facts: &RunFacts<'_>) -> RunDecision {
    let mut status = facts.status.clone();
    status.observed_generation = Some(facts.generation);
    let mut pass = Pass { facts, status, wake_at: None };
    let step = pass.step();
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
            _ => RunStep::Release,
        }
    }

    fn before_job(&mut self) -> RunStep {
        let facts = self.facts;
        if facts.deleting {
            return self.end(&Outcome::failed(Reason::Deleted, "it was deleted before its Job was made"));
        }
        if let Some(newer) = facts.replaced_by {
            return self.end(&replaced(newer));
        }
        let Some(policy) = facts.policy.filter(|policy| self.is_of(policy)) else {
            let name = &facts.spec.policy_ref.name;
            return self.end(&Outcome::failed(
                Reason::PolicyGone,
                format!("BackupPolicy {name}, as it was when the run was asked for, does not exist in this namespace"),
            ));
        };
        if let Some(why) = policy.refusal {
            return self.end(&Outcome::failed(Reason::JobRefused, why));
        }
        if self.status.pinned.is_none() {
            self.status.pinned = Some(policy.pin.clone());
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
            RepositoryFact::Waiting(why) if until <= facts.now => self.end(&Outcome::failed(
                Reason::RepositoryBusy,
                format!("the repository did not let it in within {}: {why}", policy.spec.wait_for_repository),
            )),
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

    fn is_of(&self, policy: &PolicyFact<'_>) -> bool {
        let known =
            self.status.pinned.as_ref().map(|pinned| &pinned.policy_uid).or(self.facts.spec.policy_uid.as_ref());
        known.is_none_or(|uid| *uid == policy.pin.policy_uid)
    }

    fn with_job(&mut self) -> RunStep {
        let known = self.status.job.as_ref().and_then(|job| job.uid.clone());
        match (self.facts.job, known) {
            (JobFact::Unknown, _) => RunStep::Nothing,
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
        let unwanted = match (self.facts.deleting, self.facts.replaced_by) {
            (true, _) => Some(Outcome::failed(Reason::Deleted, "it was deleted before its Job was made")),
            (false, Some(newer)) => Some(replaced(newer)),
            (false, None) => self.stopped(),
        };
        let Some(outcome) = unwanted else { return RunStep::CreateJob };
        let since = self.status.stopping.get_or_insert_with(|| stop_record(&outcome, self.facts.now)).at.0;
        let arrived = plus(since, CREATION_LIMIT);
        if arrived <= self.facts.now {
            return self.end(&outcome);
        }
        self.wake(arrived);
        RunStep::Nothing
    }

    fn running(&mut self, job: &JobState) -> RunStep {
        self.status.phase = BackupPhase::Running;
        self.status.job = Some(JobRef { name: self.facts.name.to_owned(), uid: Some(job.uid.clone()) });
        self.status.started_at.get_or_insert(Time(job.created_at));
        if let Some(end) = &job.ended {
            return self.ended(end);
        }
        self.status.message = Some(
            job.waiting
                .as_ref()
                .map_or_else(|| "its Job runs".to_owned(), |waiting| format!("its pod has not started: {waiting}")),
        );
        let policy = self.facts.policy.map(|policy| policy.spec.deadline.seconds());
        let seconds = job.deadline_seconds.or(policy);
        let deadline = seconds.map(|seconds| plus(job.created_at, SignedDuration::from_secs(seconds)));
        if self.status.stopping.is_none() {
            let why = if let Some(newer) = self.facts.replaced_by {
                Some(replaced(newer))
            } else if self.facts.deleting {
                Some(Outcome::failed(Reason::Deleted, "it was deleted while its Job ran"))
            } else if deadline.is_some_and(|deadline| deadline <= self.facts.now) {
                Some(over_time(seconds.unwrap_or_default(), job.waiting.as_deref()))
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

    fn ended(&mut self, end: &JobEnd) -> RunStep {
        let pinned = self.status.pinned.clone();
        let allow_empty = self
            .facts
            .policy
            .and_then(|policy| policy.spec.source.files.as_ref())
            .is_some_and(|files| files.allow_empty);
        let expected = Expected {
            run: self.facts.uid,
            policy_uid: pinned.as_ref().map_or("", |pinned| pinned.policy_uid.as_str()),
            repository_id: pinned.as_ref().and_then(|pinned| pinned.repository_id.as_deref()),
            allow_empty,
        };
        let (mut outcome, result) = outcome::judge(&end.pod, &expected);
        // A pod that was ended by us has no better story to tell than why; one that was done before has.
        if result.is_none() {
            let over = || over_time(self.deadline_seconds(), end.pod.waiting.as_deref());
            outcome = self.stopped().or_else(|| end.deadline_exceeded.then(over)).unwrap_or(outcome);
        }
        if let Some(result) = result {
            self.keep(&result, &outcome);
        }
        if outcome.phase != BackupPhase::Succeeded {
            self.status.log_tail = end.log_tail.as_deref().map(|log| tail(log, 4_000));
        }
        self.status.finished_at = Some(Time(end.at));
        self.end(&outcome)
    }

    fn keep(&mut self, result: &RunResult, outcome: &Outcome) {
        self.status.exit_code = result.exit_code;
        self.status.heartbeat = result.heartbeat.as_ref().map(|read| HeartbeatRecord {
            seq: read.seq,
            time: Time(read.time),
            hmac: (self.facts.hmac)(&read.nonce),
            read_at: read.read_at.map(Time),
        });
        let counts = matches!(outcome.phase, BackupPhase::Succeeded | BackupPhase::PartiallyFailed);
        let base_id = self.status.pinned.as_ref().and_then(|pinned| pinned.base_id.clone());
        self.status.point = result.snapshot.as_ref().filter(|_| counts).map(|snapshot| RecoveryPoint {
            snapshot_id: snapshot.id.clone(),
            parent: snapshot.parent.clone(),
            base_id,
            data_time: Time(snapshot.time),
            recoverable_until: snapshot.recoverable_until.map(Time),
            bytes: i64::try_from(snapshot.bytes).unwrap_or(i64::MAX),
            added_bytes: i64::try_from(snapshot.added_bytes).unwrap_or(i64::MAX),
            files: i64::try_from(snapshot.files).unwrap_or(i64::MAX),
            postgres_version: snapshot.postgres_version,
        });
    }

    fn deadline_seconds(&self) -> i64 {
        match self.facts.job {
            JobFact::Ours(job) => job.deadline_seconds.unwrap_or_default(),
            _ => 0,
        }
    }

    /// Why the run is being ended, as an outcome.
    fn stopped(&self) -> Option<Outcome> {
        let stopping = self.status.stopping.as_ref()?;
        let reasons = [Reason::DeadlineExceeded, Reason::NeverStarted, Reason::Replaced, Reason::Deleted];
        let reason = reasons.into_iter().find(|reason| reason.name() == stopping.reason).unwrap_or(Reason::ToolKilled);
        Some(Outcome::failed(reason, stopping.message.clone()))
    }

    fn end(&mut self, outcome: &Outcome) -> RunStep {
        self.status.phase = outcome.phase;
        self.status.reason = Some(outcome.reason.name());
        self.status.message = Some(outcome.message.chars().take(2_048).collect());
        self.status.finished_at.get_or_insert(Time(self.facts.now));
        self.wake_at = None;
        self.at_rest()
    }

    fn wake(&mut self, at: Timestamp) {
        self.wake_at = earlier(self.wake_at, Some(at));
    }
}

fn stop_record(outcome: &Outcome, now: Timestamp) -> StopRecord {
    StopRecord { reason: outcome.reason.name(), message: outcome.message.clone(), at: Time(now) }
}

fn replaced(newer: &str) -> Outcome {
    Outcome::failed(Reason::Replaced, format!("run {newer} of a later slot replaced it (overlap: Replace)"))
}

fn over_time(seconds: i64, waiting: Option<&str>) -> Outcome {
    match waiting {
        Some(waiting) => Outcome::failed(
            Reason::NeverStarted,
            format!("its pod did not start within the deadline of {seconds} s: {waiting}"),
        ),
        None => Outcome::failed(
            Reason::DeadlineExceeded,
            format!(
                "it took longer than its deadline of {seconds} s and was ended; raise deadline if that is too short"
            ),
        ),
    }
}

/// The last `bytes` bytes of `text`, from the beginning of a character.
fn tail(text: &str, bytes: usize) -> String {
    let from = text.char_indices().map(|(at, _)| at).find(|at| text.len() - at <= bytes).unwrap_or(text.len());
    text.get(from..).unwrap_or_default().to_owned()
}
