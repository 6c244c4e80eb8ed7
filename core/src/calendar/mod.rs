//! Change windows and freezes.
//!
//! Start inclusive, end exclusive; a freeze wins over a window; a calendar without windows is open outside its freezes.

mod schedule;

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp, civil::DateTime, tz::TimeZone};

pub use schedule::{Schedule, ScheduleError};

/// One window or freeze as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeriodSpec {
    /// Name, unique in its list.
    pub name: String,
    /// When it is.
    pub occurrence: OccurrenceSpec,
}

/// When a period is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OccurrenceSpec {
    /// Again and again.
    Recurring {
        /// Cron expression of the starts, five fields.
        schedule: String,
        /// How long each lasts, in elapsed seconds.
        duration_seconds: i64,
    },
    /// Once.
    Dated {
        /// Local start, inclusive.
        from: String,
        /// Local end, exclusive.
        until: String,
    },
}

/// A calendar as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CalendarSpec {
    /// IANA time zone of every local time.
    pub time_zone: String,
    /// When changes may start.
    pub windows: Vec<PeriodSpec>,
    /// When they may not.
    pub freezes: Vec<PeriodSpec>,
}

/// Why a calendar cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CalendarError {
    /// The zone is not known.
    #[error("{0:?} is not a time zone of the IANA database; write one such as Asia/Shanghai or UTC")]
    InvalidTimeZone(String),
    /// A schedule cannot be used.
    #[error("{period}: {error}")]
    InvalidSchedule {
        /// Name of the period.
        period: String,
        /// What is wrong.
        error: ScheduleError,
    },
    /// A date cannot be understood.
    #[error("{period}: {text:?} is not a local date and time; write it like 2027-02-05T00:00")]
    InvalidDate {
        /// Name of the period.
        period: String,
        /// What was written.
        text: String,
    },
    /// It ends before it starts.
    #[error("{period}: it ends at {until}, which is not after its start {from}")]
    EmptyPeriod {
        /// Name of the period.
        period: String,
        /// Its start.
        from: String,
        /// Its end.
        until: String,
    },
    /// It lasts too short or too long.
    #[error("{period}: a duration of {seconds} s is outside 1 s to 366 days")]
    InvalidDuration {
        /// Name of the period.
        period: String,
        /// What was written.
        seconds: i64,
    },
    /// Two periods of a list have one name.
    #[error("two periods are named {0}; give each its own name")]
    DuplicateName(String),
}

/// Whether changes may start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WindowState {
    /// They may.
    Open {
        /// The open window; none if the calendar has none.
        window: Option<String>,
        /// When that ends; none if nothing within 400 days ends it.
        closes_at: Option<Timestamp>,
    },
    /// A freeze forbids it.
    Frozen {
        /// The freeze.
        freeze: String,
        /// When this freeze ends.
        ends_at: Timestamp,
        /// When changes may start again; none if not within 400 days.
        opens_at: Option<Timestamp>,
    },
    /// No window is open.
    Outside {
        /// The window that opens next.
        next_window: Option<String>,
        /// When it does; none if not within 400 days.
        opens_at: Option<Timestamp>,
    },
}

/// A state and how long it lasts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CalendarView {
    /// The state.
    pub state: WindowState,
    /// Until when it stays as it is; none if nothing within 400 days changes it.
    pub valid_until: Option<Timestamp>,
}

/// A compiled calendar.
#[derive(Clone, Debug)]
pub struct Calendar {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    windows: Vec<Period>,
    freezes: Vec<Period>,
}

#[derive(Debug)]
struct Period {
    name: String,
    when: When,
}

#[derive(Debug)]
enum When {
    Recurring { schedule: Box<Schedule>, duration: SignedDuration },
    Dated { from: Timestamp, until: Timestamp },
}

/// How far ahead is looked.
const HORIZON: SignedDuration = SignedDuration::from_hours(24 * 400);
/// Most boundaries looked at in one question.
const MAX_STEPS: usize = 20_000;
/// Longest duration, in seconds.
const MAX_DURATION: i64 = 366 * 86_400;

impl Calendar {
    /// Compiles a calendar.
    pub fn compile(spec: &CalendarSpec) -> Result<Self, CalendarError> {
        let zone =
            TimeZone::get(&spec.time_zone).map_err(|_| CalendarError::InvalidTimeZone(spec.time_zone.clone()))?;
        Ok(Self {
            inner: Arc::new(Inner { windows: periods(&spec.windows, &zone)?, freezes: periods(&spec.freezes, &zone)? }),
        })
    }

    /// The state at `now`.
    pub fn state_at(&self, now: Timestamp) -> WindowState {
        self.view(now).state
    }

    /// The state at `now` and how long it lasts.
    pub fn view(&self, now: Timestamp) -> CalendarView {
        let here = self.kind_at(now);
        let mut change = None;
        let mut open = matches!(here, Kind::Open(_)).then_some(now);
        for boundary in self.boundaries(now) {
            let kind = self.kind_at(boundary);
            if change.is_none() && !kind.same(&here) {
                change = Some(boundary);
            }
            if open.is_none() && matches!(kind, Kind::Open(_)) {
                open = Some(boundary);
            }
            if change.is_some() && open.is_some() {
                break;
            }
        }
        let state = match here {
            Kind::Open(window) => WindowState::Open { window, closes_at: change },
            Kind::Frozen(freeze, ends_at) => WindowState::Frozen { freeze, ends_at, opens_at: open },
            Kind::Outside => WindowState::Outside { next_window: open.and_then(|o| self.window_at(o)), opens_at: open },
        };
        CalendarView { state, valid_until: change }
    }

    /// The first instant not before `now` at which changes may start.
    pub fn next_open(&self, now: Timestamp) -> Option<Timestamp> {
        match self.state_at(now) {
            WindowState::Open { .. } => Some(now),
            WindowState::Frozen { opens_at, .. } | WindowState::Outside { opens_at, .. } => opens_at,
        }
    }

    /// The next instant after `now` at which the state changes.
    pub fn next_change(&self, now: Timestamp) -> Option<Timestamp> {
        self.view(now).valid_until
    }

    /// Every instant after `now` at which some period starts or ends, in order, within the horizon.
    fn boundaries(&self, now: Timestamp) -> impl Iterator<Item = Timestamp> {
        let horizon = now.checked_add(HORIZON).unwrap_or(Timestamp::MAX);
        let mut at = now;
        std::iter::from_fn(move || {
            at = self.periods().filter_map(|p| p.boundary_after(at)).min().filter(|b| *b <= horizon)?;
            Some(at)
        })
        .take(MAX_STEPS)
    }

    fn periods(&self) -> impl Iterator<Item = &Period> {
        self.inner.windows.iter().chain(&self.inner.freezes)
    }

    fn kind_at(&self, at: Timestamp) -> Kind {
        let frozen =
            self.inner.freezes.iter().filter_map(|p| Some((p, p.ends_if_active(at)?))).max_by_key(|(_, end)| *end);
        if let Some((freeze, end)) = frozen {
            return Kind::Frozen(freeze.name.clone(), end);
        }
        if self.inner.windows.is_empty() {
            return Kind::Open(None);
        }
        match self.window_at(at) {
            Some(name) => Kind::Open(Some(name)),
            None => Kind::Outside,
        }
    }

    fn window_at(&self, at: Timestamp) -> Option<String> {
        self.inner.windows.iter().find(|p| p.ends_if_active(at).is_some()).map(|p| p.name.clone())
    }
}

enum Kind {
    Open(Option<String>),
    Frozen(String, Timestamp),
    Outside,
}

impl Kind {
    /// Adjacent windows are one opening; adjacent freezes are told apart, because the message names them.
    fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Open(_), Self::Open(_)) | (Self::Outside, Self::Outside) => true,
            (Self::Frozen(a, end_a), Self::Frozen(b, end_b)) => a == b && end_a == end_b,
            _ => false,
        }
    }
}

impl Period {
    /// The end of the occurrence in which `at` lies.
    fn ends_if_active(&self, at: Timestamp) -> Option<Timestamp> {
        let end = match &self.when {
            When::Recurring { schedule, duration } => schedule.latest_at_or_before(at)?.checked_add(*duration).ok()?,
            When::Dated { from, until } => (*from <= at).then_some(*until)?,
        };
        (end > at).then_some(end)
    }

    /// The next start or end after `at`.
    fn boundary_after(&self, at: Timestamp) -> Option<Timestamp> {
        match &self.when {
            When::Recurring { schedule, .. } => {
                [self.ends_if_active(at), schedule.next_after(at)].into_iter().flatten().min()
            }
            When::Dated { from, until } => [*from, *until].into_iter().filter(|b| *b > at).min(),
        }
    }
}

fn periods(specs: &[PeriodSpec], zone: &TimeZone) -> Result<Vec<Period>, CalendarError> {
    let mut periods: Vec<Period> = Vec::with_capacity(specs.len());
    for spec in specs {
        if periods.iter().any(|p| p.name == spec.name) {
            return Err(CalendarError::DuplicateName(spec.name.clone()));
        }
        periods.push(Period { name: spec.name.clone(), when: when(spec, zone)? });
    }
    Ok(periods)
}

fn when(spec: &PeriodSpec, zone: &TimeZone) -> Result<When, CalendarError> {
    let period = || spec.name.clone();
    match &spec.occurrence {
        OccurrenceSpec::Recurring { schedule, duration_seconds } => {
            if !(1..=MAX_DURATION).contains(duration_seconds) {
                return Err(CalendarError::InvalidDuration { period: period(), seconds: *duration_seconds });
            }
            let schedule = Schedule::compile(schedule, zone)
                .map_err(|error| CalendarError::InvalidSchedule { period: period(), error })?;
            Ok(When::Recurring { schedule: Box::new(schedule), duration: SignedDuration::from_secs(*duration_seconds) })
        }
        OccurrenceSpec::Dated { from, until } => {
            let local = |text: &str| {
                text.parse::<DateTime>()
                    .map_err(|_| CalendarError::InvalidDate { period: period(), text: text.to_owned() })
            };
            let bad = |text: &str| CalendarError::InvalidDate { period: period(), text: text.to_owned() };
            // Of a repeated hour the whole belongs to the period: a freeze must not end early.
            let start = schedule::earliest(zone, local(from)?).ok_or_else(|| bad(from))?;
            let end = schedule::latest(zone, local(until)?).ok_or_else(|| bad(until))?;
            if start >= end {
                return Err(CalendarError::EmptyPeriod { period: period(), from: from.clone(), until: until.clone() });
            }
            Ok(When::Dated { from: start, until: end })
        }
    }
}

/// `22:00 Asia/Shanghai`, with the date if it is another day there than at `now`.
pub fn describe_instant(instant: Timestamp, now: Timestamp, zone: &str) -> String {
    let (zone_name, zone) = TimeZone::get(zone).map_or(("UTC", TimeZone::UTC), |z| (zone, z));
    let (local, today) = (zone.to_datetime(instant), zone.to_datetime(now).date());
    let clock = if local.second() == 0 {
        format!("{:02}:{:02}", local.hour(), local.minute())
    } else {
        format!("{:02}:{:02}:{:02}", local.hour(), local.minute(), local.second())
    };
    if local.date() == today {
        format!("{clock} {zone_name}")
    } else {
        format!("{clock} {zone_name} on {}", local.date())
    }
}

#[cfg(test)]
mod tests;
