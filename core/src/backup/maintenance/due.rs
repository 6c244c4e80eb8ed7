//! Which operation is due.

use interlock_crds::{MaintenanceOperation, MaintenanceOutcome, MaintenanceRecord};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::Pass;
use crate::{
    backup::{outcome::Reason, slots::plus},
    calendar::{Schedule, time_zone},
    object::Digest,
};

/// A lock that nobody renewed for 30 minutes is stale to restic; a little more, for clocks that differ.
pub const LOCK_IS_STALE: SignedDuration = SignedDuration::from_mins(31);
/// What failed and has no schedule is tried again after so long.
const TRY_AGAIN: SignedDuration = SignedDuration::from_mins(5);

/// An operation in the names of its Jobs.
pub const fn word(operation: MaintenanceOperation) -> &'static str {
    match operation {
        MaintenanceOperation::Initialize => "init",
        MaintenanceOperation::Check => "check",
        MaintenanceOperation::Prune => "prune",
        MaintenanceOperation::RotateKey => "key",
        MaintenanceOperation::Unlock => "lock",
    }
}

/// What is due since when, and the slot if it has one.
struct Due {
    operation: MaintenanceOperation,
    since: Timestamp,
    slot: Option<Timestamp>,
}

/// The number of parts of `1/N`.
pub(super) fn parts(spec: &str) -> Option<u32> {
    spec.strip_prefix("1/")?.parse().ok().filter(|parts| *parts > 0)
}

impl Pass<'_> {
    /// Notes the operation that is due as active: first what the others need.
    pub(super) fn begin(&mut self) {
        if !self.facts.problems.is_empty() || self.facts.spec.suspend {
            return;
        }
        let due = [
            self.initialize(),
            self.unlock(),
            self.rotation(),
            self.scheduled(MaintenanceOperation::Prune),
            self.scheduled(MaintenanceOperation::Check),
        ];
        let due: Vec<_> = due.into_iter().flatten().collect();
        for later in &due {
            self.wake(Some(later.since));
        }
        let Some(next) = due.into_iter().find(|due| due.since <= self.facts.now) else { return };
        self.status.active = Some(self.record(&next));
    }

    fn record(&self, due: &Due) -> MaintenanceRecord {
        let moment = due.slot.unwrap_or(due.since);
        let text = format!("interlock maintenance\n{}\n{:?}\n{}\n{}", self.facts.uid, due.operation, moment, due.since);
        let digest = Digest::of_bytes(text.as_bytes()).to_string();
        let hash: String = digest.chars().skip("sha256:".len()).take(8).collect();
        let operation = word(due.operation);
        // At most 63 characters: 46 + 1 + 5 + 1 + 8.
        let name: String = self.facts.name.chars().take(46).collect();
        MaintenanceRecord {
            operation: due.operation,
            name: format!("{}-{operation}-{hash}", name.trim_end_matches(['-', '.'])),
            slot: due.slot.map(Time),
            job_uid: None,
            due_at: Time(due.since),
            started_at: None,
            finished_at: None,
            outcome: None,
            reason: None,
            message: None,
            part: None,
            forgotten: None,
            freed_bytes: None,
        }
    }

    /// It is made once, where none is; never again once one was seen.
    fn initialize(&self) -> Option<Due> {
        if !self.facts.spec.initialize || self.status.repository_id.is_some() || self.status.seen_at.is_some() {
            return None;
        }
        let last = self.status.last_initialize.as_ref().and_then(|last| last.finished_at.as_ref());
        let since = last.map_or(self.facts.created_at, |last| plus(last.0, TRY_AGAIN));
        Some(Due { operation: MaintenanceOperation::Initialize, since, slot: None })
    }

    fn unlock(&self) -> Option<Due> {
        let locked = |last: &Option<MaintenanceRecord>| {
            last.as_ref().filter(|last| is(last, Reason::RepositoryLocked))?.finished_at.as_ref().map(|at| at.0)
        };
        let last = [&self.status.last_check, &self.status.last_prune, &self.status.last_key_rotation];
        // The first since then: others that find the same lock do not put it off.
        let begun = self.status.last_unlock.as_ref().and_then(|last| last.started_at.as_ref());
        let locked = last.into_iter().filter_map(locked).chain(self.facts.runs.locked.iter().copied());
        let found = locked.filter(|at| begun.is_none_or(|begun| begun.0 <= *at)).min()?;
        let failed = self.status.last_unlock.as_ref().and_then(|last| last.finished_at.as_ref());
        let again = failed.map(|at| plus(at.0, TRY_AGAIN));
        let since = plus(found, LOCK_IS_STALE);
        Some(Due {
            operation: MaintenanceOperation::Unlock,
            since: again.map_or(since, |again| again.max(since)),
            slot: None,
        })
    }

    fn rotation(&self) -> Option<Due> {
        self.facts.spec.restic.new_key_secret_ref.as_ref()?;
        self.status.repository_id.as_ref()?;
        if self.is_rotated() {
            return None;
        }
        let last =
            self.status.last_key_rotation.as_ref().filter(|last| last.outcome == Some(MaintenanceOutcome::Failed));
        // What found the repository locked is done once the stale lock is gone; each attempt before that would find it anew.
        let again = if last.is_some_and(|last| is(last, Reason::RepositoryLocked)) { LOCK_IS_STALE } else { TRY_AGAIN };
        let last = last.and_then(|last| last.finished_at.as_ref());
        let since = last.map_or(self.facts.created_at, |last| plus(last.0, again));
        Some(Due { operation: MaintenanceOperation::RotateKey, since, slot: None })
    }

    /// Whether the key of the spec as it stands was exchanged.
    pub(super) fn is_rotated(&self) -> bool {
        let rotated = |condition: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition| {
            condition.type_ == "KeyRotated"
                && condition.status == "True"
                && condition.observed_generation == Some(self.facts.generation)
        };
        self.facts.status.conditions.iter().any(rotated)
            || self.ended.as_ref().is_some_and(|ended| {
                ended.operation == MaintenanceOperation::RotateKey
                    && ended.outcome == Some(MaintenanceOutcome::Succeeded)
            })
    }

    /// The newest slot that nothing was done for; of several that passed, one.
    fn scheduled(&mut self, operation: MaintenanceOperation) -> Option<Due> {
        let spec = self.facts.spec;
        let (schedule, last) = if operation == MaintenanceOperation::Check {
            (&spec.check.as_ref()?.schedule, self.status.last_check.clone())
        } else {
            (&spec.prune.as_ref()?.schedule, self.status.last_prune.clone())
        };
        self.status.repository_id.as_ref()?;
        let zone = time_zone(&spec.time_zone).ok()?;
        let schedule = Schedule::compile(schedule, &zone).ok()?;
        let from = last.as_ref().and_then(|last| last.slot.as_ref()).map_or(self.facts.created_at, |slot| slot.0);
        let newest = schedule.latest_at_or_before(self.facts.now).filter(|newest| *newest > from);
        if let Some(newest) = newest {
            return Some(Due { operation, since: newest, slot: Some(newest) });
        }
        self.wake(schedule.next_after(self.facts.now));
        // What found the repository locked is done once the stale lock is gone.
        let last = last.filter(|last| is(last, Reason::RepositoryLocked))?;
        let unlock = self.status.last_unlock.as_ref()?;
        let freed = unlock.finished_at.as_ref().filter(|_| unlock.outcome == Some(MaintenanceOutcome::Succeeded))?;
        let locked = last.finished_at.as_ref()?;
        (freed.0 > locked.0).then(|| Due { operation, since: freed.0, slot: last.slot.map(|slot| slot.0) })
    }
}

fn is(record: &MaintenanceRecord, reason: Reason) -> bool {
    record.reason.as_deref() == Some(reason.name().as_str())
}
