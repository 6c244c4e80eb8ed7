//! How exposed data is: how old the newest good recovery point is, and whether that is beyond the objective.

use std::collections::BTreeSet;

use interlock_crds::{Backup, BackupPhase, PointRef, PointVerdict};
use jiff::{SignedDuration, Timestamp};

use super::slots::plus;

/// Whether a snapshot is a recovery point that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Standing {
    /// It is complete and was not found to be bad.
    Good,
    /// It is not complete.
    Partial,
    /// A drill restored it and found it bad.
    Corrupt,
}

/// Ids of the snapshots among `points` (id, standing) that drills found bad. Nothing that needs one of them as its base counts.
pub fn corrupt<'a>(points: impl IntoIterator<Item = (&'a str, Standing)>) -> BTreeSet<&'a str> {
    points.into_iter().filter(|(_, standing)| *standing == Standing::Corrupt).map(|(id, _)| id).collect()
}

/// The standing of a Backup's recovery point by what is known of itself, whatever its base is worth; none if there is none (any more).
pub fn standing(backup: &Backup) -> Option<Standing> {
    let status = backup.status.as_ref()?;
    let forgotten = status.retention.as_ref().is_some_and(|record| record.forgotten_at.is_some());
    status.point.as_ref().filter(|_| !forgotten)?;
    let verdict = status.verified.as_ref().map(|verified| verified.verdict);
    match (status.phase, verdict) {
        (_, Some(PointVerdict::Corrupt)) => Some(Standing::Corrupt),
        (BackupPhase::Succeeded, _) => Some(Standing::Good),
        (BackupPhase::PartiallyFailed, _) => Some(Standing::Partial),
        _ => None,
    }
}

/// Whether a prune was told to forget a Backup's recovery point. Until one says that it is gone nobody knows whether it is there: one
/// that broke off may have removed it, whatever the rules keep since.
pub fn is_expired(backup: &Backup) -> bool {
    let retention = backup.status.as_ref().and_then(|status| status.retention.as_ref());
    retention.is_some_and(|record| record.expired_at.is_some())
}

/// A Backup's recovery point, if it is good and surely there.
pub fn good_point(backup: &Backup) -> Option<PointRef> {
    let point = backup.status.as_ref()?.point.as_ref()?;
    (standing(backup)? == Standing::Good && !is_expired(backup)).then(|| PointRef {
        backup: backup.metadata.name.clone().unwrap_or_default(),
        snapshot_id: point.snapshot_id.clone(),
        data_time: point.data_time.clone(),
    })
}

/// Whether a drill has proved a Backup's recovery point.
pub fn is_proven(backup: &Backup) -> bool {
    let verified = backup.status.as_ref().and_then(|status| status.verified.as_ref());
    standing(backup) == Some(Standing::Good) && verified.is_some_and(|v| v.verdict == PointVerdict::Proven)
}

/// What becomes of a kept newest point when one Backup changes.
#[derive(Clone, Debug, PartialEq)]
pub enum IndexStep {
    /// It stays.
    Keep,
    /// This one is newer.
    Replace(PointRef),
    /// It is no longer good, or gone: the newest of all must be looked for once.
    Rescan,
}

/// The kept newest good point `known`, and the Backup `name` changed to `now_good` (none: no good point, or deleted). Looks at
/// nothing else, however many Backups there are.
pub fn index(known: Option<&PointRef>, name: &str, now_good: Option<PointRef>) -> IndexStep {
    let is_newer = |point: &PointRef| {
        known.is_none_or(|known| (point.data_time.0, &point.backup) > (known.data_time.0, &known.backup))
    };
    match (known, now_good) {
        (Some(known), Some(point)) if known.backup == name && point == *known => IndexStep::Keep,
        (Some(known), _) if known.backup == name => IndexStep::Rescan,
        (_, Some(point)) if is_newer(&point) => IndexStep::Replace(point),
        _ => IndexStep::Keep,
    }
}

/// The newest of `points`.
pub fn newest(points: impl IntoIterator<Item = PointRef>) -> Option<PointRef> {
    points.into_iter().max_by(|a, b| (a.data_time.0, &a.backup).cmp(&(b.data_time.0, &b.backup)))
}

/// How exposed the data of a policy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exposure {
    /// Seconds since the data time of the newest good point; without one, since the policy was created.
    pub seconds: i64,
    /// Whether there is a good point at all.
    pub has_point: bool,
    /// Whether that is more than the objective; false without one.
    pub at_risk: bool,
    /// When it will be, if nothing happens.
    pub at_risk_at: Option<Timestamp>,
}

/// Computes the exposure at `now`, from objects alone: the same after a restart.
pub fn exposure(
    last_good: Option<&PointRef>,
    created_at: Timestamp,
    rpo: Option<SignedDuration>,
    now: Timestamp,
) -> Exposure {
    let since = last_good.map_or(created_at, |point| point.data_time.0);
    let from = rpo.map(|rpo| at_risk_from(last_good, created_at, rpo));
    Exposure {
        seconds: now.duration_since(since).as_secs().max(0),
        has_point: last_good.is_some(),
        at_risk: from.is_some_and(|from| from <= now),
        at_risk_at: from.filter(|from| *from > now),
    }
}

/// From when on data is exposed beyond its objective if no good point follows: at the end of the objective it is still met.
pub fn at_risk_from(last_good: Option<&PointRef>, created_at: Timestamp, rpo: SignedDuration) -> Timestamp {
    let since = last_good.map_or(created_at, |point| point.data_time.0);
    plus(plus(since, rpo), SignedDuration::from_secs(1))
}

/// What is told of data that is exposed beyond its objective: the moment, not how long ago it was, as a message that changes
/// with time would be written again in each pass.
pub fn at_risk_sentence(last_good: Option<&PointRef>, rpo: interlock_crds::Duration) -> String {
    match last_good {
        Some(point) => {
            let since = point.data_time.0.checked_add(rpo.signed());
            let since = since.map_or_else(|_| String::new(), |at| format!(" since {at}"));
            format!(
                "the newest good recovery point, {}, holds the data of {}, and is older than the objective of {rpo}{since}",
                point.backup, point.data_time.0
            )
        }
        None => format!("there is no good recovery point, and the policy is older than its objective of {rpo}"),
    }
}
