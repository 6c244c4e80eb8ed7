//! Which slot of a policy's schedules is to be run now.
//!
//! Every slot is accounted for exactly once: begun, skipped (an earlier run was active, or another schedule's run of the same
//! moment does its work), missed (nobody was there in time) or passed while suspended. However many slots lie behind, the
//! work is the same, and at most one run follows: that of the newest slot. Of several schedules that are due together a Full
//! one wins, as it does what the others would.
//!
//! A run is begun at its slot plus an offset that follows from the policy's uid and is 0 unless the policy asks for `jitter`:
//! a bank that writes 02:00 means 02:00, and whoever has ten thousand policies on one schedule says by how much to spread.

mod facts;

use interlock_crds::{BackupMode, BackupSchedule, BackupTrigger, Duration, OverlapRule, ScheduleStatus, SlotCount};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

pub use facts::{DueRun, Existing, Passed, PassedSlots, SlotDecision, SlotFacts};

use crate::{
    calendar::{Schedule, time_zone},
    mutants::{self, Mutant},
    object::Digest,
};

/// A run begun later than this after its slot is a catch-up.
const LATE: SignedDuration = SignedDuration::from_secs(60);
const SECOND: SignedDuration = SignedDuration::from_secs(1);

/// The name of the run for a slot: the same whoever computes it, whenever.
pub fn run_name(policy: &str, uid: &str, slot: Timestamp) -> String {
    let digest = Digest::of_bytes(format!("interlock backup slot\n{uid}\n{}", slot.as_second()).as_bytes()).to_string();
    let hash: String = digest.chars().skip("sha256:".len()).take(6).collect();
    format!("{policy}-{}-{hash}", slot.strftime("%Y%m%d-%H%M"))
}

/// By how much the beginnings of a policy's runs are later than their slots: 0 to `jitter`, from its uid alone.
pub fn jitter_offset(uid: &str, jitter: Option<Duration>) -> SignedDuration {
    let Some(most) = jitter.map(Duration::seconds).and_then(|seconds| u64::try_from(seconds).ok()) else {
        return SignedDuration::ZERO;
    };
    let Digest(bytes) = Digest::of_bytes(format!("interlock backup jitter\n{uid}").as_bytes());
    let hash = bytes.iter().take(8).fold(0_u64, |hash, byte| hash << 8 | u64::from(*byte));
    SignedDuration::from_secs(i64::try_from(hash % (most + 1)).unwrap_or(0))
}

/// Decides which slot is to be run.
pub fn decide(facts: &SlotFacts<'_>) -> SlotDecision {
    let mut pass = Pass { facts, offset: jitter_offset(facts.uid, facts.jitter), decision: SlotDecision::default() };
    let due: Vec<_> = facts.schedules.iter().filter_map(|schedule| pass.look(schedule)).collect();
    pass.choose(due);
    pass.decision.suspended_since = match (facts.suspended, facts.suspended_since) {
        (true, since) => Some(since.unwrap_or(facts.now)),
        (false, _) => None,
    };
    pass.decision
}

/// The newest slot of a schedule, which is due.
struct Due<'a> {
    schedule: &'a BackupSchedule,
    slot: Timestamp,
    shifted: bool,
    late: SignedDuration,
    resumed: bool,
}

struct Pass<'a, 'b> {
    facts: &'b SlotFacts<'a>,
    offset: SignedDuration,
    decision: SlotDecision,
}

impl<'a> Pass<'a, '_> {
    /// Accounts for the slots of one schedule up to now, except the newest if it is due.
    fn look(&mut self, schedule: &'a BackupSchedule) -> Option<Due<'a>> {
        let mut progress = self.facts.progress.iter().find(|p| p.name == schedule.name).cloned().unwrap_or_default();
        progress.name.clone_from(&schedule.name);
        progress.next_slot = None;
        let compiled = time_zone(&schedule.time_zone)
            .map_err(|error| error.to_string())
            .and_then(|zone| Schedule::compile(&schedule.schedule, &zone).map_err(|error| error.to_string()));
        let compiled = match compiled {
            Ok(compiled) => compiled,
            Err(why) => {
                self.decision.problems.push((schedule.name.clone(), why));
                self.decision.progress.push(progress);
                return None;
            }
        };
        let begins_by = minus(self.facts.now, self.offset);
        let next = compiled.next_after(begins_by);
        progress.next_slot = next.map(Time);
        self.decision.next_slot = earlier(self.decision.next_slot, next);
        self.wake(next.map(|slot| plus(slot, self.offset)));
        let from = progress.decided_until.as_ref().map_or(self.facts.created_at, |until| until.0);
        self.decision.progress.push(progress);
        let newest = compiled.latest_at_or_before(begins_by)?;
        let resumed = !self.facts.suspended && self.facts.suspended_since.is_some_and(|since| newest >= since);
        let begins_on_resume = resumed && self.facts.run_on_resume;
        if newest <= from && !begins_on_resume {
            return None;
        }
        let after = |at: Timestamp| plus(at, SignedDuration::from_nanos(1));
        let count = compiled.count(after(from), after(newest));
        let first = compiled.next_after(from).unwrap_or(newest);
        let late = self.facts.now.duration_since(plus(newest, self.offset));
        let too_late = schedule.starting_deadline.is_some_and(|deadline| late > deadline.signed());
        if self.facts.suspended || (resumed && !begins_on_resume) {
            self.account(schedule, count, first, newest, Passed::Suspended);
            return None;
        }
        if too_late && !begins_on_resume {
            self.account(schedule, count, first, newest, Passed::Missed);
            return None;
        }
        if count > 1
            && let Some(last) = compiled.latest_at_or_before(minus(newest, SECOND))
        {
            let why = if begins_on_resume { Passed::Suspended } else { Passed::Missed };
            self.account(schedule, count - 1, first, last, why);
        }
        Some(Due { schedule, slot: newest, shifted: compiled.is_shifted(newest), late, resumed: begins_on_resume })
    }

    /// Of the slots that are due at most one is begun.
    fn choose(&mut self, mut due: Vec<Due<'a>>) {
        due.sort_by_key(|d| (d.schedule.mode != BackupMode::Full, std::cmp::Reverse(d.slot)));
        let mut due = due.into_iter();
        let Some(first) = due.next() else { return };
        for other in due {
            self.account(other.schedule, 1, other.slot, other.slot, Passed::Covered(first.schedule.name.clone()));
        }
        let named_by = if mutants::is(Mutant::NameRunsByTheMoment) { self.facts.now } else { first.slot };
        let name = run_name(self.facts.policy, self.facts.uid, named_by);
        match (self.facts.existing.0)(&name) {
            Some(Some(uid)) if uid == self.facts.uid => {
                self.begun(&first);
                self.decision.adopted = Some(name);
                return;
            }
            Some(_) => return self.account(first.schedule, 1, first.slot, first.slot, Passed::NameTaken(name)),
            None => {}
        }
        match (self.facts.active, self.facts.overlap) {
            (None, _) => {
                self.begun(&first);
                self.decision.begin = Some(Self::run(name, &first));
            }
            (Some(active), OverlapRule::Forbid) => {
                self.account(first.schedule, 1, first.slot, first.slot, Passed::Overlap(active.to_owned()));
            }
            (Some(active), rule) => {
                if rule == OverlapRule::Replace {
                    self.decision.replace = Some(active.to_owned());
                }
                // It stays due until the active run has ended, or until its deadline.
                self.decide_until(&first.schedule.name, minus(first.slot, SECOND));
                let deadline =
                    first.schedule.starting_deadline.map(|d| plus(plus(first.slot, self.offset), d.signed()));
                self.wake(deadline.map(|at| plus(at, SECOND)));
            }
        }
    }

    fn run(name: String, due: &Due<'_>) -> DueRun {
        let late = (due.late > LATE).then(|| due.late.as_secs());
        let trigger = match late {
            _ if due.resumed => BackupTrigger::Resumed,
            Some(_) => BackupTrigger::CatchUp,
            None => BackupTrigger::Scheduled,
        };
        DueRun {
            name,
            schedule: due.schedule.name.clone(),
            slot: due.slot,
            shifted: due.shifted,
            mode: due.schedule.mode,
            trigger,
            late_seconds: late,
        }
    }

    fn begun(&mut self, due: &Due<'_>) {
        self.decide_until(&due.schedule.name, due.slot);
        if let Some(progress) = self.progress(&due.schedule.name) {
            progress.last_slot = Some(Time(due.slot));
        }
    }

    fn progress(&mut self, schedule: &str) -> Option<&mut ScheduleStatus> {
        self.decision.progress.iter_mut().find(|progress| progress.name == schedule)
    }

    fn decide_until(&mut self, schedule: &str, until: Timestamp) {
        if let Some(progress) = self.progress(schedule) {
            let known = progress.decided_until.as_ref().map(|known| known.0);
            progress.decided_until = known.max(Some(until)).map(Time);
        }
    }

    fn account(&mut self, schedule: &BackupSchedule, count: u64, first: Timestamp, last: Timestamp, why: Passed) {
        self.decide_until(&schedule.name, last);
        if let Some(progress) = self.progress(&schedule.name) {
            let counted = match why {
                Passed::Missed => &mut progress.missed_slots,
                Passed::Overlap(_) | Passed::Covered(_) | Passed::NameTaken(_) => &mut progress.skipped_slots,
                Passed::Suspended => &mut progress.suspended_slots,
            };
            let total = counted.as_ref().map_or(0, |c| c.total).saturating_add(count);
            *counted = Some(SlotCount { total, count, first: Time(first), last: Time(last) });
        }
        self.decision.passed.push(PassedSlots { schedule: schedule.name.clone(), count, first, last, why });
    }

    fn wake(&mut self, at: Option<Timestamp>) {
        self.decision.wake_at = earlier(self.decision.wake_at, at.filter(|at| *at > self.facts.now));
    }
}

/// The earlier of two instants, where there are any.
pub(super) fn earlier(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    [one, other].into_iter().flatten().min()
}

/// `at` and `by` later, or the end of time.
pub(super) fn plus(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}

/// `at` and `by` earlier, or the beginning of time.
pub(super) fn minus(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.checked_sub(by).unwrap_or(Timestamp::MIN)
}
