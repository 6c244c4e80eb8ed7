//! Cron schedules in a time zone, with stated rules for the hours that a change of clocks skips or repeats.
//!
//! An occurrence is a local wall time. Where the clocks skip it, it happens at the instant of the change (02:30 in a gap
//! from 02:00 to 03:00 happens once, at 03:00, together with all others that the gap skips); where they repeat it, it
//! happens once, the first time.

use jiff::{SignedDuration, Timestamp, ToSpan, civil::DateTime, tz::TimeZone};

use super::{
    pattern::{Pattern, PatternError},
    zone::{TICK, earliest, repetition_end},
};

/// A compiled schedule: cheap to ask in both directions, however far away the answer is.
#[derive(Clone, Debug)]
pub struct Schedule {
    pattern: Pattern,
    /// The widest distance between two occurrences of one day on which the clocks do not change; zero with only one.
    widest_step: SignedDuration,
    zone: TimeZone,
}

/// Why a schedule cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// It is no cron expression.
    #[error(
        "{schedule:?} is not a cron expression of five fields: {why}; write minute hour day month weekday, such as \"0 22 * * 1-5\""
    )]
    Invalid {
        /// What was written, at most 128 characters of it.
        schedule: String,
        /// What the parser says.
        why: String,
    },
    /// It never occurs.
    #[error("{schedule:?} never occurs, because no date matches it; correct its day, month or weekday")]
    Never {
        /// What was written, at most 128 characters of it.
        schedule: String,
    },
}

/// A local time of the schedule and when it happens.
#[derive(Clone, Copy)]
struct Occurrence {
    local: DateTime,
    instant: Timestamp,
}

/// Most local times tried for one answer. One is enough unless a zone changes its clocks twice within hours.
const MAX_TRIES: usize = 8;

impl Schedule {
    /// Compiles five fields (minute hour day month weekday) in the dialect of croner: names, `L`, `#`, `W`, `@daily`.
    ///
    /// If both day and weekday are restricted, a date that matches either is meant, as cron has it; a weekday that begins
    /// with `+` must match as well.
    ///
    /// # Errors
    /// The expression cannot be read, or no date in any year matches it.
    pub fn compile(schedule: &str, zone: &TimeZone) -> Result<Self, ScheduleError> {
        let told = || schedule.chars().take(128).collect();
        match Pattern::parse(schedule) {
            Ok(pattern) => {
                let widest_step = SignedDuration::from_mins(i64::from(pattern.widest_step()));
                Ok(Self { pattern, widest_step, zone: zone.clone() })
            }
            Err(PatternError::Invalid(why)) => Err(ScheduleError::Invalid { schedule: told(), why }),
            Err(PatternError::Never) => Err(ScheduleError::Never { schedule: told() }),
        }
    }

    /// The first occurrence later than `after`; none if there is none within 41 years.
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        self.first_after(after).map(|found| found.instant)
    }

    /// The last occurrence not later than `at`; none if there is none within 41 years.
    ///
    /// It is searched backwards: the work does not depend on how many occurrences were missed since.
    pub fn latest_at_or_before(&self, at: Timestamp) -> Option<Timestamp> {
        self.last_until(at).map(|found| found.instant)
    }

    /// The occurrences from `from` (inclusive) to `until` (exclusive), in order and found as they are asked for.
    pub fn occurrences(&self, from: Timestamp, until: Timestamp) -> impl Iterator<Item = Timestamp> + '_ {
        let first = self.first_from(from).map(|found| found.instant);
        std::iter::successors(first, |at| self.next_after(*at)).take_while(move |at| *at < until)
    }

    /// How many occurrences there are from `from` (inclusive) to `until` (exclusive), without visiting each.
    pub fn count(&self, from: Timestamp, until: Timestamp) -> u64 {
        let last = until.checked_sub(TICK).ok().and_then(|t| self.last_until(t));
        let (Some(first), Some(last)) = (self.first_from(from), last) else { return 0 };
        if first.instant > last.instant {
            return 0;
        }
        let skipped: u64 = self.gaps(first.instant, last.instant).map(|(start, end)| self.merged(start, end)).sum();
        self.pattern.count(first.local, last.local).saturating_sub(skipped)
    }

    /// Whether `at`, at which it occurs, is only the end of a gap: the clocks skipped the local time that is meant.
    pub fn is_shifted(&self, at: Timestamp) -> bool {
        let local = self.zone.to_datetime(at);
        self.pattern.at_or_after(local) != Some(local)
    }

    /// The last occurrence not later than `at` or, if the occurrences of its day are at most `within` apart, the last of
    /// that day: a shortcut for following a run of occurrences that overlap.
    pub(super) fn last_in_a_row(&self, at: Timestamp, within: SignedDuration) -> Option<Timestamp> {
        let found = self.last_until(at)?;
        if self.widest_step.is_zero() || self.widest_step > within {
            return Some(found.instant);
        }
        let last = self.pattern.last_of_day(found.local.date()).and_then(|local| earliest(&self.zone, local));
        // On a day on which the clocks change the distances are others: there each occurrence is visited.
        let same_clock = |last: &Timestamp| self.zone.to_offset(*last) == self.zone.to_offset(found.instant);
        Some(last.filter(same_clock).unwrap_or(found.instant))
    }

    fn first_from(&self, from: Timestamp) -> Option<Occurrence> {
        from.checked_sub(TICK).map_or_else(|_| self.first_after(from), |before| self.first_after(before))
    }

    fn first_after(&self, after: Timestamp) -> Option<Occurrence> {
        let mut from = match repetition_end(&self.zone, after) {
            Some(end) => end,
            None => next_minute(self.zone.to_datetime(after))?,
        };
        for _ in 0..MAX_TRIES {
            let local = self.pattern.at_or_after(from)?;
            let instant = earliest(&self.zone, local)?;
            if instant > after {
                return Some(Occurrence { local, instant });
            }
            from = next_minute(local)?;
        }
        None
    }

    fn last_until(&self, at: Timestamp) -> Option<Occurrence> {
        let mut until = match repetition_end(&self.zone, at) {
            Some(end) => end.checked_sub(TICK).ok()?,
            None => self.zone.to_datetime(at),
        };
        for _ in 0..MAX_TRIES {
            let local = self.pattern.at_or_before(until)?;
            let instant = earliest(&self.zone, local)?;
            if instant <= at {
                return Some(Occurrence { local, instant });
            }
            until = local.checked_sub(TICK).ok()?;
        }
        None
    }

    /// The local times between which the clocks skip, for each time they do so from `first` to `last`.
    fn gaps(&self, first: Timestamp, last: Timestamp) -> impl Iterator<Item = (DateTime, DateTime)> + '_ {
        let before = first.checked_sub(TICK).unwrap_or(first);
        self.zone
            .following(before)
            .map(|change| change.timestamp())
            .take_while(move |change| *change <= last)
            .filter_map(|change| {
                let old = self.zone.to_offset(change.checked_sub(TICK).ok()?);
                let (start, end) = (old.to_datetime(change), self.zone.to_datetime(change));
                (start < end).then_some((start, end))
            })
    }

    /// How many occurrences a gap takes away by moving them to its end.
    fn merged(&self, start: DateTime, end: DateTime) -> u64 {
        // The first local time that the clocks skip is the start of the gap; its end exists.
        let first = if start.second() == 0 { Some(start) } else { next_minute(start) };
        first.map_or(0, |first| self.pattern.count(first, end).saturating_sub(1))
    }
}

/// The next full minute after `local`.
fn next_minute(local: DateTime) -> Option<DateTime> {
    let minute = local.with().second(0).subsec_nanosecond(0).build().ok()?;
    minute.checked_add(1.minute()).ok()
}
