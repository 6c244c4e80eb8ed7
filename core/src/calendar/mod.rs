//! Change windows and freezes.
//!
//! Start inclusive, end exclusive; a freeze wins over a window; a calendar without windows is open outside its freezes.
//! Durations are elapsed seconds; what a change of clocks does to a start is told in [`Schedule`].
//!
//! A [`CalendarSpec`] is compiled once into a [`Calendar`]; each look at it gives a [`CalendarView`], which says how long
//! it holds, so that it can be kept until then.
//!
//! Every question is bounded: 400 days ahead and a few thousand steps. Where that is not enough (thousands of tiny periods
//! between here and the answer) an instant is told as unknown, and the view holds only for what was seen.

mod open;
mod pattern;
mod period;
mod schedule;
mod zone;

use std::sync::Arc;

use jiff::Timestamp;
use period::Period;

pub use schedule::{Schedule, ScheduleError};
pub use zone::{UnknownTimeZone, describe_instant, format_local, time_zone};

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
        /// Cron expression of the starts, five fields, in local time.
        schedule: String,
        /// How long each lasts, in elapsed seconds: 1 to 31,622,400 (366 days).
        duration_seconds: i64,
    },
    /// Once.
    Dated {
        /// Local start, inclusive, as `2027-02-05T00:00` or with seconds. If the clocks skip it, the end of the gap; if
        /// they repeat it, the first time.
        from: String,
        /// Local end, exclusive, written in the same way. If the clocks repeat it, the second time.
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
    /// A schedule is no cron expression.
    #[error(
        "{period}: {schedule:?} is not a cron expression of five fields: {why}; write minute hour day month weekday, such as \"0 22 * * 1-5\""
    )]
    InvalidSchedule {
        /// Name of the period.
        period: String,
        /// What was written.
        schedule: String,
        /// What the parser says.
        why: String,
    },
    /// No date in any year matches a schedule.
    #[error("{period}: {schedule:?} never occurs, because no date matches it; correct its day, month or weekday")]
    NeverOccurs {
        /// Name of the period.
        period: String,
        /// What was written.
        schedule: String,
    },
    /// A date cannot be understood.
    #[error("{period}: {text:?} is not a local date and time; write it like 2027-02-05T00:00, without offset or zone")]
    InvalidDate {
        /// Name of the period.
        period: String,
        /// What was written.
        text: String,
    },
    /// It ends before it starts.
    #[error("{period}: it ends at {until}, which is not after its start {from}; write a later end")]
    EmptyPeriod {
        /// Name of the period.
        period: String,
        /// Its start.
        from: String,
        /// Its end.
        until: String,
    },
    /// It lasts too short or too long.
    #[error("{period}: a duration of {seconds} s is not possible; write one from 1s to 366d")]
    InvalidDuration {
        /// Name of the period.
        period: String,
        /// What was written, in seconds.
        seconds: i64,
    },
    /// Two windows or two freezes have one name.
    #[error("two periods are named {0}; give each its own name")]
    DuplicateName(String),
}

/// Whether changes may start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WindowState {
    /// They may.
    Open {
        /// The open window, the first as written if there are several; none if the calendar has no windows.
        window: Option<String>,
        /// When they no longer may: the end of this and every window that follows without a break, or the start of a
        /// freeze. None if nothing known within 400 days ends it.
        closes_at: Option<Timestamp>,
    },
    /// A freeze forbids it.
    Frozen {
        /// The freeze; of several, the one that ends last.
        freeze: String,
        /// When this freeze ends; if it does not within 400 days, an instant to which it certainly lasts.
        ends_at: Timestamp,
        /// When changes may start again: later than `ends_at` if another freeze follows or no window is open then. None if
        /// not within 400 days.
        opens_at: Option<Timestamp>,
    },
    /// No window is open.
    Outside {
        /// The window that is open at `opens_at`.
        next_window: Option<String>,
        /// When changes may start again: the first instant in a window and in no freeze. None if not within 400 days.
        opens_at: Option<Timestamp>,
    },
}

/// A state and how long it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CalendarView {
    /// The state.
    pub state: WindowState,
    /// Until when (exclusive) the state is exactly this one, so that it may be kept; none if for ever.
    ///
    /// Never later than the next change. Earlier where something lies beyond the 400 days that are looked at: then it is
    /// the next midnight in UTC, at which those 400 days move on.
    pub valid_until: Option<Timestamp>,
}

/// A compiled calendar. Cloning it is cheap.
#[derive(Clone, Debug)]
pub struct Calendar {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    windows: Vec<Period>,
    freezes: Vec<Period>,
}

impl Calendar {
    /// Compiles a calendar.
    ///
    /// # Errors
    /// The first thing that cannot be used, as a sentence that names the period and says what to write instead.
    pub fn compile(spec: &CalendarSpec) -> Result<Self, CalendarError> {
        let zone = time_zone(&spec.time_zone).map_err(|unknown| CalendarError::InvalidTimeZone(unknown.name))?;
        let periods = |specs: &[PeriodSpec]| -> Result<Vec<Period>, CalendarError> {
            for (earlier, spec) in specs.iter().enumerate() {
                if specs.iter().take(earlier).any(|other| other.name == spec.name) {
                    return Err(CalendarError::DuplicateName(spec.name.clone()));
                }
            }
            specs.iter().map(|spec| Period::compile(spec, &zone)).collect()
        };
        Ok(Self { inner: Arc::new(Inner { windows: periods(&spec.windows)?, freezes: periods(&spec.freezes)? }) })
    }

    /// The state at `now`.
    pub fn state_at(&self, now: Timestamp) -> WindowState {
        self.view(now).state
    }

    /// The state at `now` and how long it holds.
    pub fn view(&self, now: Timestamp) -> CalendarView {
        self.inner.view(now).0
    }

    /// The first instant not before `now` at which changes may start; none if not within 400 days.
    pub fn next_open(&self, now: Timestamp) -> Option<Timestamp> {
        match self.state_at(now) {
            WindowState::Open { .. } => Some(now),
            WindowState::Frozen { opens_at, .. } | WindowState::Outside { opens_at, .. } => opens_at,
        }
    }

    /// The next instant after `now` at which the state changes: another kind, window or freeze. None if not within 400
    /// days.
    ///
    /// For waking up. A calendar with thousands of tiny periods may give an earlier instant, at which to ask again.
    pub fn next_change(&self, now: Timestamp) -> Option<Timestamp> {
        self.inner.view(now).1
    }
}

#[cfg(test)]
mod tests;
