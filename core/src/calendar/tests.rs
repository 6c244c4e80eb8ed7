//! The scenarios of change windows (A25, A26, R25) and of schedules across changes of clocks (B4, B5), as tables, and
//! properties against a reference that visits every minute.

mod properties;
mod schedules;
mod states;

use jiff::Timestamp;

use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn recurring(name: &str, schedule: &str, minutes: i64) -> PeriodSpec {
    let occurrence = OccurrenceSpec::Recurring { schedule: schedule.into(), duration_seconds: minutes * 60 };
    PeriodSpec { name: name.into(), occurrence }
}

fn dated(name: &str, from: &str, until: &str) -> PeriodSpec {
    PeriodSpec { name: name.into(), occurrence: OccurrenceSpec::Dated { from: from.into(), until: until.into() } }
}

fn calendar(zone: &str, windows: Vec<PeriodSpec>, freezes: Vec<PeriodSpec>) -> Calendar {
    Calendar::compile(&CalendarSpec { time_zone: zone.into(), windows, freezes }).unwrap()
}

fn is_open(calendar: &Calendar, text: &str) -> bool {
    matches!(calendar.state_at(at(text)), WindowState::Open { .. })
}

fn opened(window: &str, closes_at: &str) -> WindowState {
    WindowState::Open { window: Some(window.into()), closes_at: Some(at(closes_at)) }
}

fn frozen(freeze: &str, ends_at: &str, opens_at: Option<&str>) -> WindowState {
    WindowState::Frozen { freeze: freeze.into(), ends_at: at(ends_at), opens_at: opens_at.map(at) }
}

fn outside(window: &str, opens_at: &str) -> WindowState {
    WindowState::Outside { next_window: Some(window.into()), opens_at: Some(at(opens_at)) }
}
