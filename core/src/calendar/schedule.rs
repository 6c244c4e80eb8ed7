//! Cron schedules in a time zone, with stated rules for the hours that a change of clocks skips or repeats.
//!
//! An occurrence is a local wall time. Where the clocks skip it, it happens at the instant of the change (02:30 in a gap
//! from 02:00 to 03:00 happens once, at 03:00); where they repeat it, it happens once, the first time.

use croner::{
    Cron,
    parser::{CronParser, Seconds},
};
use jiff::{
    SignedDuration, Timestamp,
    civil::DateTime,
    tz::{AmbiguousOffset, TimeZone},
};

/// A compiled schedule.
#[derive(Clone, Debug)]
pub struct Schedule {
    cron: Cron,
    zone: TimeZone,
}

/// Why a schedule cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// It is no cron expression.
    #[error("{schedule:?} is not a cron expression of five fields (minute hour day month weekday): {why}")]
    Invalid {
        /// What was written.
        schedule: String,
        /// What the parser says.
        why: String,
    },
    /// It never occurs.
    #[error("{schedule:?} never occurs: no date matches it; correct its day or month")]
    Never {
        /// What was written.
        schedule: String,
    },
}

/// Most local times looked at on either side of a change of clocks: a repeated three hours, minute by minute.
const NEAR: usize = 200;
/// Clocks are never set back by more than this.
const FOLD: SignedDuration = SignedDuration::from_hours(3);

impl Schedule {
    /// Compiles five fields in the dialect of croner (`L`, `#`, `W` included).
    pub fn compile(schedule: &str, zone: &TimeZone) -> Result<Self, ScheduleError> {
        let refuse = |why: String| ScheduleError::Invalid { schedule: schedule.chars().take(128).collect(), why };
        let cron = CronParser::builder()
            .seconds(Seconds::Disallowed)
            .build()
            .parse(schedule)
            .map_err(|error| refuse(error.to_string()))?;
        let compiled = Self { cron, zone: zone.clone() };
        // Every date that a cron expression can mean lies within eight years of any other (29 February around 2100).
        let start = DateTime::constant(2096, 1, 1, 0, 0, 0, 0);
        if compiled.next_local(start).is_none()
            && compiled.next_local(DateTime::constant(2024, 1, 1, 0, 0, 0, 0)).is_none()
        {
            return Err(ScheduleError::Never { schedule: schedule.to_owned() });
        }
        Ok(compiled)
    }

    /// The first occurrence later than `after`.
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        let mut local = self.zone.to_datetime(after);
        for _ in 0..NEAR {
            local = self.next_local(local)?;
            let instant = self.instant(local)?;
            if instant > after {
                return Some(instant);
            }
        }
        None
    }

    /// The last occurrence not later than `at`. Looks backwards, so its work does not depend on how long ago anything was.
    pub fn latest_at_or_before(&self, at: Timestamp) -> Option<Timestamp> {
        let here = self.zone.to_datetime(at);
        let mut local = here;
        if let Ok(earlier) = at.checked_sub(FOLD)
            && self.zone.to_offset(earlier) != self.zone.to_offset(at)
        {
            // Clocks were set just now: later local times may have happened already.
            local = here.checked_add(FOLD).unwrap_or(here);
        }
        let mut inclusive = true;
        for _ in 0..NEAR * 2 {
            local = self.previous_local(local, inclusive)?;
            inclusive = false;
            let instant = self.instant(local)?;
            if instant <= at {
                return Some(instant);
            }
        }
        None
    }

    fn next_local(&self, after: DateTime) -> Option<DateTime> {
        let start = after.to_zoned(TimeZone::UTC).ok()?;
        self.cron.find_next_occurrence(&start, false).ok().map(|found| found.datetime())
    }

    fn previous_local(&self, before: DateTime, inclusive: bool) -> Option<DateTime> {
        let start = before.to_zoned(TimeZone::UTC).ok()?;
        self.cron.find_previous_occurrence(&start, inclusive).ok().map(|found| found.datetime())
    }

    fn instant(&self, local: DateTime) -> Option<Timestamp> {
        earliest(&self.zone, local)
    }
}

/// The instant of a local time: the first where clocks repeat it, the change itself where they skip it.
pub fn earliest(zone: &TimeZone, local: DateTime) -> Option<Timestamp> {
    let ambiguous = zone.to_ambiguous_timestamp(local);
    match ambiguous.offset() {
        AmbiguousOffset::Gap { .. } => {
            let after = ambiguous.later().ok()?;
            let change = zone.preceding(after.checked_add(SignedDuration::from_nanos(1)).ok()?).next();
            change.map_or(Some(after), |transition| Some(transition.timestamp()))
        }
        AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Fold { .. } => ambiguous.earlier().ok(),
    }
}

/// The instant of a local time: the last where clocks repeat it, the change itself where they skip it.
pub fn latest(zone: &TimeZone, local: DateTime) -> Option<Timestamp> {
    let ambiguous = zone.to_ambiguous_timestamp(local);
    match ambiguous.offset() {
        AmbiguousOffset::Fold { .. } => ambiguous.later().ok(),
        AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Gap { .. } => earliest(zone, local),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn schedule(cron: &str, zone: &str) -> Schedule {
        Schedule::compile(cron, &TimeZone::get(zone).unwrap()).unwrap()
    }

    fn occurrences(schedule: &Schedule, from: &str, until: &str) -> Vec<String> {
        let (mut now, until) = (at(from), at(until));
        let mut found = Vec::new();
        while let Some(next) = schedule.next_after(now).filter(|n| *n < until) {
            assert_eq!(schedule.latest_at_or_before(next), Some(next), "both directions agree");
            found.push(next.to_string());
            now = next;
        }
        found
    }

    #[test]
    fn b04_a_time_that_the_clocks_skip_happens_once_at_the_change() {
        let daily = schedule("30 2 * * *", "Europe/Berlin");
        let found = occurrences(&daily, "2027-03-27T12:00:00Z", "2027-03-29T12:00:00Z");
        assert_eq!(found, ["2027-03-28T01:00:00Z", "2027-03-29T00:30:00Z"]);
        let often = schedule("*/20 * * * *", "Europe/Berlin");
        let found = occurrences(&often, "2027-03-28T00:30:00Z", "2027-03-28T01:30:00Z");
        assert_eq!(
            found,
            ["2027-03-28T00:40:00Z", "2027-03-28T01:00:00Z", "2027-03-28T01:20:00Z"],
            "skipped ones do not pile up"
        );
    }

    #[test]
    fn b05_a_time_that_the_clocks_repeat_happens_the_first_time_only() {
        let daily = schedule("30 2 * * *", "Europe/Berlin");
        let found = occurrences(&daily, "2026-10-24T12:00:00Z", "2026-10-26T12:00:00Z");
        assert_eq!(found, ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]);
        assert_eq!(daily.latest_at_or_before(at("2026-10-25T01:30:00Z")), Some(at("2026-10-25T00:30:00Z")));
        let newfoundland = schedule("30 1 * * *", "America/St_Johns");
        let found = occurrences(&newfoundland, "2026-11-01T00:00:00Z", "2026-11-02T12:00:00Z");
        assert_eq!(found, ["2026-11-01T04:00:00Z", "2026-11-02T05:00:00Z"]);
    }

    #[test]
    fn b03_the_latest_of_thousands_of_missed_slots_is_found_at_once() {
        let minutely = schedule("* * * * *", "UTC");
        assert_eq!(minutely.latest_at_or_before(at("2031-05-05T05:05:59Z")), Some(at("2031-05-05T05:05:00Z")));
    }

    #[test]
    fn impossible_and_malformed_schedules_are_refused_with_a_reason() {
        let zone = TimeZone::UTC;
        assert!(matches!(Schedule::compile("0 0 30 2 *", &zone), Err(ScheduleError::Never { .. })));
        for bad in ["", "* * *", "61 * * * *", "a b c d e", "0 0 * * * *"] {
            assert!(matches!(Schedule::compile(bad, &zone), Err(ScheduleError::Invalid { .. })), "{bad}");
        }
        assert!(Schedule::compile("0 0 29 2 *", &zone).is_ok(), "a leap day occurs");
        let month_end = schedule("0 18 L * *", "Asia/Shanghai");
        assert_eq!(month_end.next_after(at("2027-02-01T00:00:00Z")), Some(at("2027-02-28T10:00:00Z")));
    }
}
