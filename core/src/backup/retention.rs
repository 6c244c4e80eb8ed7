//! What may be forgotten.
//!
//! The rules are those of `restic forget` (0.19): newest first; a counting rule keeps the newest point of each of the last N
//! periods that have one, and the oldest point of all while it has counts left; a `within` rule counts from the newest point
//! that is not in the future, not from now, so that a policy that stopped loses nothing. They see good points only: a partial
//! or corrupt one would use up a count that a good one needs.
//!
//! Above the rules stand the protections. The newest good and the newest proven point, the base that a kept one needs, points
//! in use and held ones are never forgotten, whatever the rules say. The answer names every point, with reasons.

use std::collections::{BTreeMap, BTreeSet};

use interlock_crds::{Backup, Duration, Retention};
use jiff::{Timestamp, civil::ISOWeekDate, tz::TimeZone};

use super::{
    exposure::{self, Standing},
    slots::minus,
};

/// A snapshot of a policy in its repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// Id of the snapshot.
    pub id: String,
    /// The moment whose data it holds.
    pub time: Timestamp,
    /// Whether it counts.
    pub standing: Standing,
    /// A drill has proved it.
    pub proven: bool,
    /// An earlier prune was told to forget it and did not say that it is gone: it may be.
    pub expired: bool,
    /// The snapshot without which it cannot be restored.
    pub base: Option<String>,
    /// A restore or drill uses it, or one that waits has chosen it; or a run adds to it.
    pub in_use: bool,
    /// It is held until then; the end of time if until somebody removes the hold.
    pub held_until: Option<Timestamp>,
}

/// The recovery points of a policy's runs. `in_use` are ids of snapshots that somebody needs; what a run that has not ended
/// adds to is in use too.
pub fn points<'a>(backups: impl Iterator<Item = &'a Backup> + Clone, in_use: &BTreeSet<String>) -> Vec<Point> {
    let adds_to: BTreeSet<_> = backups
        .clone()
        .filter_map(|backup| backup.status.as_ref().filter(|status| !status.phase.is_terminal())?.pinned.as_ref())
        .flat_map(|pinned| pinned.parent.iter().chain(&pinned.base_id))
        .collect();
    let point = |backup: &Backup| {
        let point = backup.status.as_ref()?.point.as_ref()?;
        let hold = backup.spec.hold.as_ref();
        Some(Point {
            id: point.snapshot_id.clone(),
            time: point.data_time.0,
            standing: exposure::standing(backup)?,
            proven: exposure::is_proven(backup),
            expired: exposure::is_expired(backup),
            base: point.base_id.clone(),
            in_use: in_use.contains(&point.snapshot_id) || adds_to.contains(&point.snapshot_id),
            held_until: hold.map(|hold| hold.until.as_ref().map_or(Timestamp::MAX, |until| until.0)),
        })
    };
    backups.filter_map(point).collect()
}

/// Why a point is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kept {
    /// `keepLast`.
    Last,
    /// `keepHourly`.
    Hourly,
    /// `keepDaily`.
    Daily,
    /// `keepWeekly`.
    Weekly,
    /// `keepMonthly`.
    Monthly,
    /// `keepYearly`.
    Yearly,
    /// `keepWithin`.
    Within,
    /// `keepWithinHourly`.
    WithinHourly,
    /// `keepWithinDaily`.
    WithinDaily,
    /// `keepWithinWeekly`.
    WithinWeekly,
    /// `keepWithinMonthly`.
    WithinMonthly,
    /// `keepWithinYearly`.
    WithinYearly,
    /// It is the newest good point.
    LastGood,
    /// It is the newest that a drill has proved.
    LastProven,
    /// A kept point cannot be restored without it.
    Base,
    /// A restore or drill uses it.
    InUse,
    /// A person holds it.
    Held,
    /// It is not complete, but there is nothing good that is newer.
    NothingNewer,
    /// Nothing can be said, so nothing is forgotten: no rule, or an unknown time zone.
    NoRule,
}

impl Kept {
    /// As `status.retention.keptBy` writes it: the name of the rule, or of the protection.
    pub fn name(self) -> String {
        match self {
            Self::LastGood
            | Self::LastProven
            | Self::Base
            | Self::InUse
            | Self::Held
            | Self::NothingNewer
            | Self::NoRule => {
                format!("{self:?}")
            }
            rule => format!("keep{rule:?}"),
        }
    }
}

/// Why a point is forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Forgotten {
    /// No rule keeps it.
    Expired,
    /// It is not complete, and there is a newer good one.
    Partial,
    /// A drill found it bad, and there is a newer good one.
    Corrupt,
}

/// What is kept and what is forgotten; every point is in one of both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Ids of the points that stay, with all reasons.
    pub keep: BTreeMap<String, BTreeSet<Kept>>,
    /// Ids of the points to forget, oldest first, with the reason.
    pub forget: Vec<(String, Forgotten)>,
}

/// Decides what is forgotten of the points of one policy.
pub fn plan(rules: &Retention, points: &[Point], now: Timestamp) -> Plan {
    let mut newest_first: Vec<_> = points.iter().collect();
    newest_first.sort_by(|a, b| (b.time, &b.id).cmp(&(a.time, &a.id)));
    let good: Vec<_> = newest_first.iter().copied().filter(|point| point.standing == Standing::Good).collect();
    // Log that follows on a corrupt base may carry on an earlier one, so rules keep it; but it is not the last good point.
    let corrupt = exposure::corrupt(points.iter().map(|point| (point.id.as_str(), point.standing)));
    let counts = |point: &&Point| point.base.as_deref().is_none_or(|base| !corrupt.contains(base));
    let [newest_good, last_good] = newest(good.iter().copied().filter(counts));
    let mut keep: BTreeMap<String, BTreeSet<Kept>> = BTreeMap::new();
    let mut kept = |point: &Point, why: Kept| {
        keep.entry(point.id.clone()).or_default().insert(why);
    };
    match crate::calendar::time_zone(&rules.time_zone) {
        Ok(zone) if has_rule(rules) => {
            by_rules(rules, &good, &zone, now, &mut kept);
            // What may be gone already takes nobody's place.
            let surely: Vec<_> = good.iter().copied().filter(|point| !point.expired).collect();
            by_rules(rules, &surely, &zone, now, &mut kept);
        }
        _ => points.iter().for_each(|point| kept(point, Kept::NoRule)),
    }
    for point in [newest_good, last_good].into_iter().flatten() {
        kept(point, Kept::LastGood);
    }
    let proven = newest(good.iter().copied().filter(counts).filter(|point| point.proven));
    proven.into_iter().flatten().for_each(|point| kept(point, Kept::LastProven));
    for point in points {
        if point.in_use {
            kept(point, Kept::InUse);
        }
        if point.held_until.is_some_and(|until| until > now) {
            kept(point, Kept::Held);
        }
        let newer_good = last_good.is_some_and(|newest| (newest.time, &newest.id) > (point.time, &point.id));
        if point.standing != Standing::Good && !newer_good {
            kept(point, Kept::NothingNewer);
        }
    }
    keep_bases(points, &mut keep);
    let why = |point: &Point| match point.standing {
        Standing::Good => Forgotten::Expired,
        Standing::Partial => Forgotten::Partial,
        Standing::Corrupt => Forgotten::Corrupt,
    };
    let forget = newest_first.iter().rev().filter(|point| !keep.contains_key(&point.id));
    Plan { forget: forget.map(|point| (point.id.clone(), why(point))).collect(), keep }
}

/// The newest of these points, newest first, and the newest that is surely there.
fn newest<'a>(mut points: impl Iterator<Item = &'a Point>) -> [Option<&'a Point>; 2] {
    let newest = points.next();
    let surely = newest.into_iter().chain(points).find(|point| !point.expired);
    [newest, surely]
}

/// Whether any rule is given.
pub fn has_rule(rules: &Retention) -> bool {
    let counts = counts(rules).iter().any(|(count, ..)| count.is_some());
    counts || rules.keep_within.is_some() || withins(rules).iter().any(|(within, ..)| within.is_some())
}

/// The bases of kept points stay, and theirs.
fn keep_bases(points: &[Point], keep: &mut BTreeMap<String, BTreeSet<Kept>>) {
    let bases: BTreeMap<_, _> = points.iter().filter_map(|p| p.base.as_ref().map(|base| (&p.id, base))).collect();
    let known: BTreeSet<_> = points.iter().map(|point| &point.id).collect();
    let mut open: Vec<_> = keep.keys().cloned().collect();
    while let Some(id) = open.pop() {
        let Some(base) = bases.get(&id).filter(|base| known.contains(*base)) else { continue };
        let reasons = keep.entry((*base).clone()).or_default();
        if reasons.insert(Kept::Base) && reasons.len() == 1 {
            open.push((*base).clone());
        }
    }
}

/// Numbers the period that a moment is in.
type Period = fn(Timestamp, &TimeZone) -> i64;

fn counts(rules: &Retention) -> [(Option<u32>, Option<Period>, Kept); 6] {
    [
        (rules.keep_last, None, Kept::Last),
        (rules.keep_hourly, Some(hour), Kept::Hourly),
        (rules.keep_daily, Some(day), Kept::Daily),
        (rules.keep_weekly, Some(week), Kept::Weekly),
        (rules.keep_monthly, Some(month), Kept::Monthly),
        (rules.keep_yearly, Some(year), Kept::Yearly),
    ]
}

fn withins(rules: &Retention) -> [(Option<Duration>, Period, Kept); 5] {
    [
        (rules.keep_within_hourly, hour, Kept::WithinHourly),
        (rules.keep_within_daily, day, Kept::WithinDaily),
        (rules.keep_within_weekly, week, Kept::WithinWeekly),
        (rules.keep_within_monthly, month, Kept::WithinMonthly),
        (rules.keep_within_yearly, year, Kept::WithinYearly),
    ]
}

fn by_rules(rules: &Retention, good: &[&Point], zone: &TimeZone, now: Timestamp, kept: &mut impl FnMut(&Point, Kept)) {
    let oldest = good.last().map(|point| &point.id);
    for (count, period, why) in counts(rules) {
        let mut left = count.unwrap_or(0);
        let mut last = None;
        for point in good {
            let number = period.map(|period| period(point.time, zone));
            if left == 0 {
                break;
            }
            if number.is_none() || number != last || oldest == Some(&point.id) {
                kept(point, why);
                last = number;
                left -= 1;
            }
        }
    }
    let Some(latest) = good.iter().map(|point| point.time).find(|time| *time < now) else {
        // All lie in the future: the clock is wrong, and what is young cannot be told.
        let any = rules.keep_within.is_some() || withins(rules).iter().any(|(within, ..)| within.is_some());
        return good.iter().filter(|_| any).for_each(|point| kept(point, Kept::Within));
    };
    if let Some(within) = rules.keep_within {
        let from = minus(latest, within.signed());
        good.iter().filter(|point| point.time > from).for_each(|point| kept(point, Kept::Within));
    }
    for (within, period, why) in withins(rules) {
        let Some(within) = within else { continue };
        let from = minus(latest, within.signed());
        let mut last = None;
        for point in good.iter().filter(|point| point.time > from) {
            let number = Some(period(point.time, zone));
            if number != last || oldest == Some(&point.id) {
                kept(point, why);
                last = number;
            }
        }
    }
}

fn hour(at: Timestamp, zone: &TimeZone) -> i64 {
    day(at, zone) * 100 + i64::from(zone.to_datetime(at).hour())
}

fn day(at: Timestamp, zone: &TimeZone) -> i64 {
    month(at, zone) * 100 + i64::from(zone.to_datetime(at).day())
}

fn week(at: Timestamp, zone: &TimeZone) -> i64 {
    let week = ISOWeekDate::from(zone.to_datetime(at).date());
    i64::from(week.year()) * 100 + i64::from(week.week())
}

fn month(at: Timestamp, zone: &TimeZone) -> i64 {
    year(at, zone) * 100 + i64::from(zone.to_datetime(at).month())
}

fn year(at: Timestamp, zone: &TimeZone) -> i64 {
    i64::from(zone.to_datetime(at).year())
}
