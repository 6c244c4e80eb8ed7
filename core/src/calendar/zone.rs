//! Local times and instants: which zone is meant, what a skipped or repeated local time stands for, how one is told.

use jiff::{
    SignedDuration, Timestamp,
    civil::DateTime,
    tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase},
};

/// The smallest step of time.
pub(super) const TICK: SignedDuration = SignedDuration::from_nanos(1);

/// A time zone that the database does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is not a time zone of the IANA database; write one such as Asia/Shanghai or UTC")]
pub struct UnknownTimeZone {
    /// What was written, at most 64 characters of it.
    pub name: String,
}

/// The zone with the IANA name `name` (upper and lower case are the same), from the database inside the program.
///
/// The files and the environment of the machine are never consulted: every replica knows the same rules.
///
/// # Errors
/// No zone has that name. `Etc/Unknown` is refused too: it names no zone.
pub fn time_zone(name: &str) -> Result<TimeZone, UnknownTimeZone> {
    TimeZoneDatabase::bundled()
        .get(name)
        .ok()
        .filter(|zone| !zone.is_unknown())
        .ok_or_else(|| UnknownTimeZone { name: name.chars().take(64).collect() })
}

/// The instant of a local time: the first where the clocks repeat it, the change itself where they skip it.
///
/// A later local time never gives an earlier instant. None outside the years that an instant can have.
pub(super) fn earliest(zone: &TimeZone, local: DateTime) -> Option<Timestamp> {
    let ambiguous = zone.to_ambiguous_timestamp(local);
    match ambiguous.offset() {
        AmbiguousOffset::Gap { .. } => {
            let after = ambiguous.later().ok()?;
            let change = zone.preceding(after.checked_add(TICK).ok()?).next();
            Some(change.map_or(after, |transition| transition.timestamp()))
        }
        AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Fold { .. } => ambiguous.earlier().ok(),
    }
}

/// The instant of a local time: the last where the clocks repeat it, the change itself where they skip it.
pub(super) fn latest(zone: &TimeZone, local: DateTime) -> Option<Timestamp> {
    let ambiguous = zone.to_ambiguous_timestamp(local);
    match ambiguous.offset() {
        AmbiguousOffset::Fold { .. } => ambiguous.later().ok(),
        AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Gap { .. } => earliest(zone, local),
    }
}

/// If the clock at `at` shows a local time for the second time: the local time at which the repetition ends.
///
/// Every local time before that one has happened already.
pub(super) fn repetition_end(zone: &TimeZone, at: Timestamp) -> Option<DateTime> {
    let local = zone.to_datetime(at);
    let AmbiguousOffset::Fold { before, after } = zone.to_ambiguous_timestamp(local).offset() else {
        return None;
    };
    if zone.to_offset(at) != after {
        return None;
    }
    let change = zone.preceding(at.checked_add(TICK).ok()?).next()?;
    Some(before.to_datetime(change.timestamp())).filter(|end| *end > local)
}

/// `22:00 Asia/Shanghai on 2026-11-24`: `instant` in the zone `zone`, to the second if it is not a full minute.
///
/// With the name of an unknown zone it is told in UTC, and says so.
pub fn format_local(instant: Timestamp, zone: &str) -> String {
    let told = Told::new(zone);
    format!("{} on {}", told.clock(instant), told.zone.to_datetime(instant).date())
}

/// As [`format_local`], without the date if it is the same day there as at `now`: `22:00 Asia/Shanghai`.
pub fn describe_instant(instant: Timestamp, now: Timestamp, zone: &str) -> String {
    let told = Told::new(zone);
    let day = told.zone.to_datetime(instant).date();
    let clock = told.clock(instant);
    if day == told.zone.to_datetime(now).date() { clock } else { format!("{clock} on {day}") }
}

/// The zone in which an instant is told.
struct Told<'a> {
    name: &'a str,
    zone: TimeZone,
}

impl<'a> Told<'a> {
    fn new(name: &'a str) -> Self {
        time_zone(name).map_or(Self { name: "UTC", zone: TimeZone::UTC }, |zone| Self { name, zone })
    }

    fn clock(&self, instant: Timestamp) -> String {
        let local = self.zone.to_datetime(instant);
        let name = self.name;
        if local.second() == 0 {
            format!("{:02}:{:02} {name}", local.hour(), local.minute())
        } else {
            format!("{:02}:{:02}:{:02} {name}", local.hour(), local.minute(), local.second())
        }
    }
}
