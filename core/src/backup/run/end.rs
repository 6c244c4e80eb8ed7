//! The end of a run: its outcome, its recovery point, and the hooks around it.

use interlock_crds::{BackupPhase, JudgedRun, RecoveryPoint};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::{JobEnd, JobFact, Pass, RunStep, over_time, stop_record};
use crate::backup::{
    hooks::{self, HookStep},
    outcome::{self, Expected, Outcome, Reason},
    result::{RunResult, datable},
};

/// So much of a log stands in a status at most, in bytes.
const LOG_BYTES: usize = 4_000;
/// What a heartbeat that cannot be read means.
const HEARTBEAT_LOST: &str = "the heartbeat could not be read, so a drill of this point cannot tell what was lost";

impl Pass<'_> {
    /// The next step for the hooks of one list; none when they are complete.
    pub(super) fn take_hooks(&mut self, after: bool) -> Result<Option<RunStep>, String> {
        let Some(all) = self.facts.policy.and_then(|policy| policy.spec.hooks.as_ref()) else { return Ok(None) };
        let list = if after { &all.after } else { &all.before };
        match hooks::advance(list, after, &mut self.status.hooks, self.facts.hooks_done, self.facts.now) {
            HookStep::Complete => Ok(None),
            HookStep::Run(name, over) => {
                self.wake(over);
                Ok(Some(RunStep::RunHook { name, after }))
            }
            HookStep::Wait(over) => {
                self.wake(over);
                Ok(Some(RunStep::Nothing))
            }
            HookStep::Failed(why) => Err(why),
        }
    }

    /// What was frozen is thawed before the run is said to have ended, whatever came of it.
    pub(super) fn after_hooks(&mut self, outcome: &Outcome) -> Option<RunStep> {
        let job_made = self.status.job.as_ref().is_some_and(|job| job.uid.is_some());
        if !job_made && self.status.hooks.is_empty() {
            return None;
        }
        self.wake_at = None;
        let step = self.take_hooks(true).ok().flatten()?;
        // These follow from an answer that is not given again.
        let of_source = matches!(
            outcome.reason,
            Reason::Forbidden | Reason::TooLarge | Reason::EmptySource | Reason::SourceUnreadable
        );
        if matches!(outcome.reason, Reason::JobRefused | Reason::NameTaken) || (of_source && !job_made) {
            self.status.stopping.get_or_insert_with(|| stop_record(outcome, self.facts.now));
        }
        Some(step)
    }

    /// The Job has ended. `log` is what its tool wrote last, if its pod is still there.
    pub(super) fn ended(&mut self, end: &JobEnd, log: Option<&str>) -> RunStep {
        // Hooks that thaw take a while; what was judged before them stays, also when the pod has gone meanwhile.
        if let Some(judged) = self.status.judged.clone() {
            return self.end(&Outcome::new(judged.phase, Reason::of(&judged.reason), judged.message));
        }
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
            // Kubernetes removes the pod of a Job that is over its deadline, and with it what it waited for.
            let waiting = end.pod.waiting.as_ref().or(self.status.waiting.as_ref());
            let over = || over_time(self.deadline_seconds(), waiting.map(String::as_str));
            outcome = self.stopped().or_else(|| end.deadline_exceeded.then(over)).unwrap_or(outcome);
        }
        let errors = result.as_ref().map(|result| result.errors.join("\n")).filter(|errors| !errors.is_empty());
        if let Some(result) = result {
            self.keep(&result, &outcome, end.at.min(self.facts.now));
            if let Some(why) = &result.heartbeat_error {
                outcome.message = format!("{}; {HEARTBEAT_LOST}: {why}", outcome.message);
            }
        }
        let log = log.or(errors.as_deref()).map(tail).or(self.status.log_tail.take());
        self.status.log_tail = log.filter(|_| outcome.phase != BackupPhase::Succeeded);
        self.status.finished_at = Some(Time(end.at));
        self.status.judged = Some(JudgedRun {
            phase: outcome.phase,
            reason: outcome.reason.name(),
            message: outcome.message.chars().take(2_048).collect(),
        });
        self.end(&outcome)
    }

    /// Keeps what the runner told of a run that ended at `end`.
    pub(super) fn keep(&mut self, result: &RunResult, outcome: &Outcome, end: Timestamp) {
        self.status.exit_code = result.exit_code;
        self.status.heartbeat = result.heartbeat.as_ref().map(|read| read.record((self.facts.hmac)(&read.nonce)));
        match (&result.heartbeat, &result.heartbeat_error) {
            (_, Some(why)) => {
                self.condition("HeartbeatRead", "False", "Unreadable", format!("{HEARTBEAT_LOST}: {why}"));
            }
            (Some(read), None) => {
                let message = format!("number {} of {} was the newest before the copying", read.seq, read.time);
                self.condition("HeartbeatRead", "True", "Recorded", message);
            }
            (None, None) => {}
        }
        let counts = matches!(outcome.phase, BackupPhase::Succeeded | BackupPhase::PartiallyFailed);
        if let Some(pinned) = self.status.pinned.as_mut().filter(|pinned| counts && pinned.repository_id.is_none()) {
            pinned.repository_id.clone_from(&result.repository_id);
        }
        let base_id = self.status.pinned.as_ref().and_then(|pinned| pinned.base_id.clone());
        self.status.point = result.snapshot.as_ref().filter(|_| counts).map(|snapshot| RecoveryPoint {
            snapshot_id: snapshot.id.clone(),
            parent: snapshot.parent.clone(),
            base_id,
            // A clock that is ahead promises nothing, be it the server's or that of the node on which the tool ran.
            data_time: Time(datable(
                snapshot.recoverable_until.map_or(snapshot.time, |until| until.min(snapshot.time)).min(end),
            )),
            recoverable_until: snapshot.recoverable_until.map(|until| Time(datable(until))),
            bytes: i64::try_from(snapshot.bytes).unwrap_or(i64::MAX),
            added_bytes: i64::try_from(snapshot.added_bytes).unwrap_or(i64::MAX),
            files: i64::try_from(snapshot.files).unwrap_or(i64::MAX),
            postgres_version: snapshot.postgres_version,
            wal: snapshot.wal.clone(),
        });
    }

    pub(super) fn deadline_seconds(&self) -> i64 {
        match self.facts.job {
            JobFact::Ours(job) => job.deadline_seconds.unwrap_or_default(),
            _ => 0,
        }
    }

    /// Why the run is being ended, as an outcome.
    pub(super) fn stopped(&self) -> Option<Outcome> {
        let stopping = self.status.stopping.as_ref()?;
        let reason = Reason::of(&stopping.reason);
        let phase = if reason == Reason::NameTaken { BackupPhase::Skipped } else { BackupPhase::Failed };
        Some(Outcome::new(phase, reason, stopping.message.clone()))
    }

    pub(super) fn end(&mut self, outcome: &Outcome) -> RunStep {
        if let Some(step) = self.after_hooks(outcome) {
            return step;
        }
        self.tell_hooks();
        self.status.waiting = None;
        self.status.judged = None;
        self.status.phase = outcome.phase;
        self.status.reason = Some(outcome.reason.name());
        self.status.message = Some(outcome.message.clone());
        self.status.finished_at.get_or_insert(Time(self.facts.now));
        self.wake_at = None;
        self.at_rest()
    }

    pub(super) fn tell_hooks(&mut self) {
        // Of one that an edit of the policy took away while it ran, nobody knows how it ended.
        let failed: Vec<_> =
            self.status.hooks.iter().filter(|hook| hook.succeeded != Some(true)).map(|h| h.name.as_str()).collect();
        if self.status.hooks.is_empty() {
            return;
        }
        let froze = self.status.hooks.iter().any(|hook| !hook.after);
        let (status, reason, message) = if froze && self.facts.policy.is_none_or(|policy| !self.is_of(&policy)) {
            let why = "the policy was deleted before its hooks after the copying could run; look whether what it freezes is still frozen";
            ("False", "PolicyGone", why.to_owned())
        } else if failed.is_empty() {
            ("True", "Complete", "every hook did what it should".to_owned())
        } else {
            (
                "False",
                "HookFailed",
                format!("hooks failed: {}; look whether what they freeze is still frozen", failed.join(", ")),
            )
        };
        self.condition("HooksSucceeded", status, reason, message);
    }

    fn condition(&mut self, type_: &str, status: &str, reason: &str, message: String) {
        let all = &mut self.status.conditions;
        let known = all.iter().position(|condition| condition.type_ == type_).map(|at| all.remove(at));
        let since = known.filter(|known| known.status == status).map(|known| known.last_transition_time);
        all.push(Condition {
            type_: type_.into(),
            status: status.into(),
            reason: reason.into(),
            message,
            observed_generation: Some(self.facts.generation),
            last_transition_time: since.unwrap_or(Time(self.facts.now)),
        });
        all.sort_by(|a, b| a.type_.cmp(&b.type_));
    }
}

/// The end of a log that a status has room for, from the beginning of a character.
pub(super) fn tail(text: &str) -> String {
    let from = text.ceil_char_boundary(text.len().saturating_sub(LOG_BYTES));
    text.get(from..).unwrap_or_default().to_owned()
}
