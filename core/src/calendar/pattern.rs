//! The local times that a cron expression names, as bits: found forwards and backwards without trying each.
//!
//! croner reads the expression and says which days it means. Its own search is not used: its rules for changes of clocks
//! are not ours (for `*/20` or `30 2,4` it leaves out what a gap skips), and its work grows with the distance.

use croner::{
    Cron, Weekday,
    parser::{CronParser, Seconds, Year},
};
use jiff::civil::{Date, DateTime, Time};

/// Most months looked at for a day: the rarest days, such as 29 February on a Monday around 2100, are 40 years apart.
const MAX_MONTHS: usize = 41 * 12;
/// Longest expression that is read, in characters.
const MAX_LENGTH: usize = 256;
/// Length of the shortest month, in days: the first row of the table of days.
const SHORTEST_MONTH: i8 = 28;
const MINUTES_PER_DAY: u32 = 24 * 60;

/// Why an expression cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PatternError {
    /// It is no cron expression, and why.
    Invalid(String),
    /// No date or time matches it.
    Never,
}

/// The local minutes that match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    /// Bit m: minute m of an hour matches.
    minutes: u64,
    /// Bit h: hour h of a day matches.
    hours: u32,
    /// Bit m: month m of a year matches, 1 to 12.
    months: u16,
    /// Bit d: day d matches, by length of the month (28 to 31) and weekday of its first day (Sunday first).
    days: [[u32; 7]; 4],
}

impl Pattern {
    /// Reads five fields (minute hour day month weekday) in the dialect of croner.
    pub(super) fn parse(expression: &str) -> Result<Self, PatternError> {
        let invalid = |why: String| PatternError::Invalid(why);
        if expression.len() > MAX_LENGTH {
            return Err(invalid(format!("it is longer than {MAX_LENGTH} characters")));
        }
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let cron = parser.parse(expression).map_err(|error| invalid(error.to_string()))?;
        let pattern = Self::of(&cron);
        if pattern.minutes == 0 || pattern.hours == 0 || !pattern.has_days() {
            return Err(PatternError::Never);
        }
        Ok(pattern)
    }

    fn of(cron: &Cron) -> Self {
        let bits = |values: Vec<u16>| values.into_iter().filter(|v| *v < 64).fold(0_u64, |bits, v| bits | 1 << v);
        let mut days = [[0; 7]; 4];
        for (length, row) in (28..).zip(&mut days) {
            for (first, mask) in (0..).zip(row) {
                *mask = matching_days(cron, length, first);
            }
        }
        Self {
            minutes: bits(cron.pattern.minutes.values()),
            hours: bits(cron.pattern.hours.values()) as u32,
            months: bits(cron.pattern.months.values()) as u16,
            days,
        }
    }

    /// Whether any date matches. Every month begins on every weekday in some year, leap years included.
    fn has_days(&self) -> bool {
        (1..=12_i8).filter(|month| self.months & (1 << month) != 0).any(|month| {
            let lengths = match month {
                2 => 28..=29,
                4 | 6 | 9 | 11 => 30..=30,
                _ => 31..=31,
            };
            lengths.into_iter().any(|length| self.days_of(length).iter().any(|mask| *mask != 0))
        })
    }

    fn days_of(&self, length: i8) -> [u32; 7] {
        usize::try_from(length - SHORTEST_MONTH).ok().and_then(|row| self.days.get(row)).copied().unwrap_or_default()
    }

    /// The matching days of the month of `date`, bit d for day d.
    fn days_in_month_of(&self, date: Date) -> u32 {
        if self.months & (1 << date.month()) == 0 {
            return 0;
        }
        let weekday = date.first_of_month().weekday().to_sunday_zero_offset();
        usize::try_from(weekday).ok().and_then(|w| self.days_of(date.days_in_month()).get(w).copied()).unwrap_or(0)
    }

    fn matches_day(&self, date: Date) -> bool {
        self.days_in_month_of(date) & (1 << date.day()) != 0
    }

    /// The first matching minute that is not before `from`; none within 41 years.
    pub(super) fn at_or_after(&self, from: DateTime) -> Option<DateTime> {
        let minute = minute_of(from) + u32::from(from.second() > 0 || from.subsec_nanosecond() > 0);
        if self.matches_day(from.date())
            && let Some(found) = self.time_from(minute)
        {
            return on(from.date(), found);
        }
        on(self.day_from(from.date().tomorrow().ok()?)?, self.time_from(0)?)
    }

    /// The last matching minute that is not after `until`; none within 41 years.
    pub(super) fn at_or_before(&self, until: DateTime) -> Option<DateTime> {
        if self.matches_day(until.date())
            && let Some(found) = self.time_until(minute_of(until))
        {
            return on(until.date(), found);
        }
        on(self.day_until(until.date().yesterday().ok()?)?, self.time_until(MINUTES_PER_DAY - 1)?)
    }

    /// How many matching minutes there are from `first` to `last`, both inclusive. The work grows with the months.
    pub(super) fn count(&self, first: DateTime, last: DateTime) -> u64 {
        let (from, until) = (minute_of(first), minute_of(last));
        if first.date() >= last.date() {
            let (whole, before) = (self.times_before(until + 1), self.times_before(from));
            let counted = first <= last && self.matches_day(first.date());
            return if counted { u64::from(whole - before) } else { 0 };
        }
        let a_day = self.times_before(MINUTES_PER_DAY);
        let begun = if self.matches_day(first.date()) { a_day - self.times_before(from) } else { 0 };
        let ended = if self.matches_day(last.date()) { self.times_before(until + 1) } else { 0 };
        u64::from(begun) + u64::from(ended) + self.days_between(first.date(), last.date()) * u64::from(a_day)
    }

    /// The last time of `date`, a day that matches.
    pub(super) fn last_of_day(&self, date: Date) -> Option<DateTime> {
        on(date, self.time_until(MINUTES_PER_DAY - 1)?)
    }

    /// The widest distance between one time of a day and the next on the same day, in minutes; 0 with only one.
    pub(super) fn widest_step(&self) -> u32 {
        let mut widest = 0;
        let mut minute = self.time_from(0);
        while let Some(from) = minute {
            minute = self.time_from(from + 1);
            widest = widest.max(minute.map_or(0, |to| to - from));
        }
        widest
    }

    /// Matching days strictly between two dates.
    fn days_between(&self, first: Date, last: Date) -> u64 {
        let later = |day: i8| u32::MAX.checked_shl(u32::from(day.unsigned_abs()) + 1).unwrap_or(0);
        let earlier = |day: i8| (1_u32 << day) - 1;
        let mut month = first.first_of_month();
        let mut mask = later(first.day());
        let mut days = 0;
        while month < last.first_of_month() {
            days += u64::from((self.days_in_month_of(month) & mask).count_ones());
            mask = u32::MAX;
            match month.last_of_month().tomorrow() {
                Ok(next) => month = next,
                Err(_) => return days,
            }
        }
        days + u64::from((self.days_in_month_of(month) & mask & earlier(last.day())).count_ones())
    }

    fn day_from(&self, from: Date) -> Option<Date> {
        let mut from = from;
        for _ in 0..MAX_MONTHS {
            let days = self.days_in_month_of(from) & (u32::MAX << from.day());
            if days != 0 {
                return Date::new(from.year(), from.month(), days.trailing_zeros() as i8).ok();
            }
            from = from.last_of_month().tomorrow().ok()?;
        }
        None
    }

    fn day_until(&self, until: Date) -> Option<Date> {
        let mut until = until;
        for _ in 0..MAX_MONTHS {
            let days = self.days_in_month_of(until) & (u32::MAX >> (31 - until.day()));
            if days != 0 {
                return Date::new(until.year(), until.month(), days.ilog2() as i8).ok();
            }
            until = until.first_of_month().yesterday().ok()?;
        }
        None
    }

    /// The first matching minute of a day that is not before `minute`.
    fn time_from(&self, minute: u32) -> Option<u32> {
        let (hour, minute) = (minute / 60, minute % 60);
        let rest = self.minutes & (u64::MAX << minute);
        if hour < 24 && self.hours & (1 << hour) != 0 && rest != 0 {
            return Some(hour * 60 + rest.trailing_zeros());
        }
        let later = self.hours & u32::MAX.checked_shl(hour + 1)?;
        (later != 0).then(|| later.trailing_zeros() * 60 + self.minutes.trailing_zeros())
    }

    /// The last matching minute of a day that is not after `minute`.
    fn time_until(&self, minute: u32) -> Option<u32> {
        let (hour, minute) = (minute / 60, minute % 60);
        let rest = self.minutes & (u64::MAX >> (63 - minute));
        if self.hours & (1 << hour) != 0 && rest != 0 {
            return Some(hour * 60 + rest.ilog2());
        }
        let earlier = self.hours & ((1 << hour) - 1);
        (earlier != 0).then(|| earlier.ilog2() * 60 + self.minutes.ilog2())
    }

    /// How many minutes of a day match before `minute`.
    fn times_before(&self, minute: u32) -> u32 {
        let (hour, minute) = (minute / 60, minute % 60);
        let here = if self.hours & (1 << hour) == 0 { 0 } else { (self.minutes & ((1 << minute) - 1)).count_ones() };
        (self.hours & ((1 << hour) - 1)).count_ones() * self.minutes.count_ones() + here
    }
}

/// The days that `cron` means in a month of `length` days (28 to 31) whose first day is the weekday `first` (0 is Sunday).
fn matching_days(cron: &Cron, length: u32, first: u32) -> u32 {
    // Any month of that length will do: croner takes the weekday as we give it.
    let (year, month) = match length {
        28 => (2023, 2),
        29 => (2024, 2),
        30 => (2024, 4),
        _ => (2024, 1),
    };
    (1..=length)
        .filter(|day| {
            let weekday = Weekday::from_days_from_sunday((first + day - 1) % 7);
            cron.pattern.day_match(year, month, *day, weekday).unwrap_or(false)
        })
        .fold(0, |days, day| days | 1 << day)
}

fn minute_of(local: DateTime) -> u32 {
    u32::from(local.hour().unsigned_abs()) * 60 + u32::from(local.minute().unsigned_abs())
}

fn on(date: Date, minute: u32) -> Option<DateTime> {
    let time = Time::new((minute / 60) as i8, (minute % 60) as i8, 0, 0).ok()?;
    Some(date.to_datetime(time))
}
