//! What a decision about slots looks at, and what it answers.

use interlock_crds::{BackupMode, BackupSchedule, BackupTrigger, Duration, OverlapRule, ScheduleStatus};
use jiff::Timestamp;

/// Backups of the namespace: whether there is one of a name, and the uid of the policy that it is of.
#[derive(Clone, Copy)]
pub struct Existing<'a>(pub &'a dyn Fn(&str) -> Option<Option<String>>);

impl std::fmt::Debug for Existing<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Existing")
    }
}

/// What is looked at.
#[derive(Clone, Debug)]
pub struct SlotFacts<'a> {
    /// Name of the policy.
    pub policy: &'a str,
    /// Uid of the policy.
    pub uid: &'a str,
    /// When the policy was created: earlier slots are nobody's.
    pub created_at: Timestamp,
    /// Its schedules.
    pub schedules: &'a [BackupSchedule],
    /// How far each got.
    pub progress: &'a [ScheduleStatus],
    /// What happens while a run is active.
    pub overlap: OverlapRule,
    /// By how much beginnings are spread.
    pub jitter: Option<Duration>,
    /// Whether the policy is suspended.
    pub suspended: bool,
    /// Whether a run follows when it no longer is.
    pub run_on_resume: bool,
    /// Since when it is suspended, as recorded.
    pub suspended_since: Option<Timestamp>,
    /// Name of the run that is active.
    pub active: Option<&'a str>,
    /// Asked for the name of the run that is due.
    pub existing: Existing<'a>,
    /// Now.
    pub now: Timestamp,
}

/// What follows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SlotDecision {
    /// The run to begin. Its creation may be repeated: the name is that of the slot.
    pub begin: Option<DueRun>,
    /// The active run that is to be ended first (overlap Replace).
    pub replace: Option<String>,
    /// A run of the due slot is there already: it was made before a crash and is this policy's.
    pub adopted: Option<String>,
    /// Slots that are accounted for without a run, for events and records.
    pub passed: Vec<PassedSlots>,
    /// How far each schedule got: to be recorded with, or before, the run.
    pub progress: Vec<ScheduleStatus>,
    /// Since when the policy is suspended.
    pub suspended_since: Option<Timestamp>,
    /// The earliest slot that is still to come.
    pub next_slot: Option<Timestamp>,
    /// When time alone changes the answer.
    pub wake_at: Option<Timestamp>,
    /// Schedules that cannot be used, with the sentence why.
    pub problems: Vec<(String, String)>,
}

/// A run that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueRun {
    /// Name of the Backup.
    pub name: String,
    /// Name of the schedule.
    pub schedule: String,
    /// The slot.
    pub slot: Timestamp,
    /// Whether the clocks skipped its local time.
    pub shifted: bool,
    /// Full or Incremental.
    pub mode: BackupMode,
    /// Scheduled, CatchUp or Resumed.
    pub trigger: BackupTrigger,
    /// How many seconds after its slot, if it is late.
    pub late_seconds: Option<i64>,
}

/// Slots that are accounted for without a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassedSlots {
    /// Name of the schedule.
    pub schedule: String,
    /// How many.
    pub count: u64,
    /// The first.
    pub first: Timestamp,
    /// The last.
    pub last: Timestamp,
    /// Why.
    pub why: Passed,
}

/// Why there is no run for a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Passed {
    /// Nobody was there to begin it, and a later slot is due, or its starting deadline is over.
    Missed,
    /// This run was active.
    Overlap(String),
    /// The run of this other schedule, due together, does its work.
    Covered(String),
    /// An object that is not a run of this policy has its name.
    NameTaken(String),
    /// The policy was suspended.
    Suspended,
}

impl PassedSlots {
    /// One sentence for a person.
    pub fn sentence(&self) -> String {
        let slots = if self.count == 1 {
            format!("slot {} of schedule {}", self.first, self.schedule)
        } else {
            format!("{} slots of schedule {} ({} to {})", self.count, self.schedule, self.first, self.last)
        };
        match &self.why {
            Passed::Missed => format!("{slots} passed without a run, as nothing could begin it in time"),
            Passed::Overlap(run) => {
                format!(
                    "{slots} skipped: run {run} was still active; set overlap to Wait or Replace, or give runs more distance"
                )
            }
            Passed::Covered(other) => {
                format!("{slots} skipped: schedule {other} was due together with it and did its work")
            }
            Passed::NameTaken(name) => {
                format!("{slots} skipped: Backup {name} exists and is not of this policy; delete it if nobody needs it")
            }
            Passed::Suspended => format!("{slots} passed while the policy was suspended"),
        }
    }
}
