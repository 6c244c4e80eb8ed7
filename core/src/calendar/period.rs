//! One window or freeze, compiled: when it is active, until when without a break, and when it starts next.

use jiff::{SignedDuration, Timestamp, civil::DateTime, tz::TimeZone};

use super::{
    CalendarError, OccurrenceSpec, PeriodSpec,
    schedule::{Schedule, ScheduleError},
    zone::{earliest, latest},
};

/// Longest duration of a period, in seconds.
const MAX_DURATION: i64 = 366 * DAY_SECONDS;
/// How far ahead is looked, counted from the last midnight in UTC: what is found does not depend on the time of day.
const HORIZON_SECONDS: i64 = 400 * DAY_SECONDS;
const DAY_SECONDS: i64 = 86_400;
/// Most steps of one question to a calendar, over all its periods.
const MAX_STEPS: u32 = 4_096;

/// How far one question looks.
#[derive(Debug)]
pub(super) struct Search {
    /// Nothing at or after this instant is looked at.
    pub(super) horizon: Timestamp,
    /// The next midnight in UTC, at which the horizon moves.
    pub(super) tomorrow: Timestamp,
    steps: u32,
}

impl Search {
    pub(super) fn from(now: Timestamp) -> Self {
        // Whole seconds are counted towards 1970: before that, one second back is never too late.
        let seconds = now.as_second() - i64::from(now.subsec_nanosecond() < 0);
        let midnight = seconds - seconds.rem_euclid(DAY_SECONDS);
        let later = |by: i64| Timestamp::from_second(midnight + by).unwrap_or(Timestamp::MAX);
        Self { horizon: later(HORIZON_SECONDS), tomorrow: later(DAY_SECONDS), steps: 0 }
    }

    /// Takes one step; false if there is none left.
    pub(super) fn step(&mut self) -> bool {
        self.steps = self.steps.saturating_add(1);
        !self.gave_up()
    }

    /// Whether the question took too many steps, so that the answer is only what was found so far.
    pub(super) fn gave_up(&self) -> bool {
        self.steps > MAX_STEPS
    }
}

#[derive(Debug)]
pub(super) struct Period {
    pub(super) name: String,
    when: When,
}

#[derive(Debug)]
enum When {
    Recurring { schedule: Box<Schedule>, duration: SignedDuration },
    Dated { from: Timestamp, until: Timestamp },
}

impl Period {
    pub(super) fn compile(spec: &PeriodSpec, zone: &TimeZone) -> Result<Self, CalendarError> {
        let when = match &spec.occurrence {
            OccurrenceSpec::Recurring { schedule, duration_seconds } => {
                recurring(&spec.name, schedule, *duration_seconds, zone)?
            }
            OccurrenceSpec::Dated { from, until } => dated(&spec.name, from, until, zone)?,
        };
        Ok(Self { name: spec.name.clone(), when })
    }

    /// Whether it is active at `at`.
    pub(super) fn is_active(&self, at: Timestamp) -> bool {
        match &self.when {
            When::Recurring { schedule, duration } => {
                schedule.latest_at_or_before(at).is_some_and(|start| plus(start, *duration) > at)
            }
            When::Dated { from, until } => *from <= at && at < *until,
        }
    }

    /// Until when it is active without a break, if it is active at `at`.
    ///
    /// Occurrences that overlap or touch are one. At most the horizon, or what was found when the search gave up.
    pub(super) fn run_end(&self, at: Timestamp, search: &mut Search) -> Option<Timestamp> {
        search.step();
        match &self.when {
            When::Recurring { schedule, duration } => {
                let start = schedule.latest_at_or_before(at)?;
                let end = plus(start, *duration);
                (end > at).then(|| extend(schedule, *duration, end, search).min(search.horizon).max(at))
            }
            When::Dated { from, until } => (*from <= at && at < *until).then_some((*until).min(search.horizon)),
        }
    }

    /// When it starts next after `at`, at which it is not active.
    pub(super) fn next_start(&self, at: Timestamp, search: &mut Search) -> Option<Timestamp> {
        search.step();
        self.start_after(at).filter(|start| *start < search.horizon)
    }

    /// Whether it is active at `at` or at any time after it.
    pub(super) fn occurs_from(&self, at: Timestamp) -> bool {
        self.start_after(at).is_some() || self.is_active(at)
    }

    fn start_after(&self, at: Timestamp) -> Option<Timestamp> {
        match &self.when {
            When::Recurring { schedule, .. } => schedule.next_after(at),
            When::Dated { from, .. } => Some(*from).filter(|from| *from > at),
        }
    }
}

/// Where a run that lasts at least until `end` ends.
fn extend(schedule: &Schedule, duration: SignedDuration, mut end: Timestamp, search: &mut Search) -> Timestamp {
    while end < search.horizon {
        let last = schedule.last_in_a_row(end, duration).map_or(end, |start| plus(start, duration));
        if last <= end {
            return end;
        }
        end = last;
        if !search.step() {
            return end;
        }
    }
    end
}

fn plus(start: Timestamp, duration: SignedDuration) -> Timestamp {
    start.checked_add(duration).unwrap_or(Timestamp::MAX)
}

fn recurring(period: &str, schedule: &str, seconds: i64, zone: &TimeZone) -> Result<When, CalendarError> {
    if !(1..=MAX_DURATION).contains(&seconds) {
        return Err(CalendarError::InvalidDuration { period: period.to_owned(), seconds });
    }
    let compiled = Schedule::compile(schedule, zone).map_err(|error| match error {
        ScheduleError::Invalid { schedule, why } => {
            CalendarError::InvalidSchedule { period: period.to_owned(), schedule, why }
        }
        ScheduleError::Never { schedule } => CalendarError::NeverOccurs { period: period.to_owned(), schedule },
    })?;
    Ok(When::Recurring { schedule: Box::new(compiled), duration: SignedDuration::from_secs(seconds) })
}

fn dated(period: &str, from: &str, until: &str, zone: &TimeZone) -> Result<When, CalendarError> {
    let invalid =
        |text: &str| CalendarError::InvalidDate { period: period.to_owned(), text: text.chars().take(64).collect() };
    // Of a repeated hour the whole belongs to the period: a freeze must not end early.
    let start = local_time(from).and_then(|local| earliest(zone, local)).ok_or_else(|| invalid(from))?;
    let end = local_time(until).and_then(|local| latest(zone, local)).ok_or_else(|| invalid(until))?;
    if start >= end {
        return Err(CalendarError::EmptyPeriod {
            period: period.to_owned(),
            from: from.to_owned(),
            until: until.to_owned(),
        });
    }
    Ok(When::Dated { from: start, until: end })
}

/// A local date and time exactly as `2027-02-05T00:00` or `2027-02-05T00:00:00`.
///
/// Offsets and zones are refused: a general parser would read past them and mean another instant.
fn local_time(text: &str) -> Option<DateTime> {
    let shape = "dddd-dd-ddTdd:dd:dd";
    let shaped = |(c, s): (u8, u8)| if s == b'd' { c.is_ascii_digit() } else { c == s };
    let known_length = text.len() == 16 || text.len() == 19;
    if !known_length || !text.bytes().zip(shape.bytes()).all(shaped) {
        return None;
    }
    let digits = |range: std::ops::Range<usize>| text.get(range)?.parse::<i8>().ok();
    let second = if text.len() == 19 { digits(17..19)? } else { 0 };
    let year = text.get(0..4)?.parse().ok()?;
    DateTime::new(year, digits(5..7)?, digits(8..10)?, digits(11..13)?, digits(14..16)?, second, 0).ok()
}
