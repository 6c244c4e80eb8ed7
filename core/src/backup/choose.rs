//! Which recovery point a person restores.

use interlock_crds::{Backup, RecoveryPoint};
use jiff::Timestamp;

use super::{
    exposure::{Standing, corrupt, is_expired, standing},
    wal::carries_on,
};

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The newest good one.
    Newest,
    /// The newest good one whose data is not later than this.
    At(Timestamp),
    /// That of this Backup.
    Of(String),
}

/// The recovery point to restore, with a warning if it is not a good one.
///
/// # Errors
/// The sentence why there is none.
pub fn choose<'a>(
    backups: &'a [Backup],
    wanted: &Wanted,
) -> Result<(&'a Backup, &'a RecoveryPoint, Option<String>), String> {
    let point = |backup: &'a Backup| backup.status.as_ref().and_then(|status| status.point.as_ref());
    let name = |backup: &Backup| backup.metadata.name.clone().unwrap_or_default();
    if let Wanted::Of(wanted) = wanted {
        let backup = backups.iter().find(|backup| name(backup) == *wanted);
        let backup = backup.ok_or_else(|| format!("there is no Backup {wanted} of this policy"))?;
        let status = backup.status.clone().unwrap_or_default();
        return match (standing(backup), point(backup)) {
            (Some(Standing::Good), Some(point)) => {
                let why =
                    || format!("a prune was told to forget {wanted}: if it did, the restore finds nothing and fails");
                Ok((backup, point, is_expired(backup).then(why)))
            }
            (Some(Standing::Partial), Some(point)) => {
                let why = status.message.unwrap_or_default();
                Ok((backup, point, Some(format!("{wanted} is not complete: {why}"))))
            }
            (Some(Standing::Corrupt), Some(point)) => {
                Ok((backup, point, Some(format!("a drill found {wanted} corrupt: what comes back may be damaged"))))
            }
            _ if status.retention.is_some_and(|record| record.forgotten_at.is_some()) => {
                Err(format!("{wanted} was forgotten by retention: its data is no longer in the repository"))
            }
            _ => Err(format!("{wanted} has no recovery point: {}", status.message.unwrap_or_default())),
        };
    }
    let points = backups.iter().filter_map(|backup| Some((point(backup)?.snapshot_id.as_str(), standing(backup)?)));
    let corrupt = corrupt(points);
    let good = backups.iter().filter(|backup| standing(backup) == Some(Standing::Good) && !is_expired(backup));
    let good = good.filter_map(|backup| Some((backup, point(backup)?)));
    let good = good.filter(|(_, point)| point.base_id.as_deref().is_none_or(|base| !corrupt.contains(base)));
    let latest = match wanted {
        Wanted::At(at) => good.filter(|(_, point)| point.data_time.0 <= *at).max_by_key(|(_, point)| point.data_time.0),
        _ => good.max_by_key(|(_, point)| point.data_time.0),
    };
    latest.map(|(backup, point)| (backup, point, None)).ok_or_else(|| match wanted {
        Wanted::At(at) => format!("no good recovery point holds data of {at} or earlier"),
        _ => "there is no good recovery point".to_owned(),
    })
}

/// Snapshots from which a PostgreSQL server recovers.
#[derive(Clone, Debug, PartialEq)]
pub struct Recovery<'a> {
    /// The base copy.
    pub base: (&'a Backup, &'a RecoveryPoint),
    /// The write-ahead log that carries it on; none: the base copy alone.
    pub wal: Option<(&'a Backup, &'a RecoveryPoint)>,
    /// The moment to stop at; none: the end of what is there.
    pub until: Option<Timestamp>,
}

/// The physical recovery point to restore, with a warning if it is not a good one. For a moment: the newest base that was
/// complete by then and is carried on beyond it, and the earliest log that does.
///
/// # Errors
/// The sentence why there is none.
pub fn choose_recovery<'a>(backups: &'a [Backup], wanted: &Wanted) -> Result<(Recovery<'a>, Option<String>), String> {
    let good: Vec<Physical<'_>> = backups.iter().filter_map(Physical::good).collect();
    if let Wanted::At(at) = wanted {
        return at_moment(&good, *at).map(|recovery| (recovery, None));
    }
    let (backup, point, warning) = choose(backups, wanted)?;
    let Some(id) = &point.base_id else {
        return Ok((Recovery { base: (backup, point), wal: None, until: None }, warning));
    };
    let base = good.iter().find(|known| known.point.snapshot_id == *id && known.is_base()).ok_or_else(|| {
        let name = backup.metadata.name.as_deref().unwrap_or_default();
        format!("the base copy that {name} needs is no good recovery point (any more): choose one of another base")
    })?;
    Ok((Recovery { base: (base.backup, base.point), wal: Some((backup, point)), until: None }, warning))
}

/// A good point of a PostgreSQL server's physical copies.
#[derive(Clone, Copy)]
struct Physical<'a> {
    backup: &'a Backup,
    point: &'a RecoveryPoint,
    until: Timestamp,
}

impl<'a> Physical<'a> {
    fn good(backup: &'a Backup) -> Option<Self> {
        let point = backup.status.as_ref()?.point.as_ref()?;
        let until = point.recoverable_until.as_ref()?.0;
        (standing(backup)? == Standing::Good && point.wal.is_some() && !is_expired(backup)).then_some(Self {
            backup,
            point,
            until,
        })
    }

    fn is_base(&self) -> bool {
        self.point.base_id.is_none()
    }

    fn name(&self) -> &str {
        self.backup.metadata.name.as_deref().unwrap_or_default()
    }

    /// Whether this log carries `base` on.
    fn carries_on(&self, base: &Physical<'_>) -> bool {
        let own = self.point.base_id.as_deref() == Some(base.point.snapshot_id.as_str());
        let ranges = base.point.wal.as_ref().zip(self.point.wal.as_ref());
        !self.is_base() && (own || ranges.is_some_and(|(base, wal)| carries_on(base, wal)))
    }
}

fn at_moment<'a>(good: &[Physical<'a>], at: Timestamp) -> Result<Recovery<'a>, String> {
    let mut bases: Vec<_> = good.iter().filter(|point| point.is_base()).collect();
    bases.sort_by_key(|base| std::cmp::Reverse((base.until, base.name().to_owned())));
    let log_of = |base: &Physical<'_>| {
        let carries_on = good.iter().filter(|wal| wal.carries_on(base) && wal.until >= at);
        carries_on.min_by_key(|wal| (wal.until, wal.name().to_owned())).copied()
    };
    let mut complete = bases.iter().filter(|base| base.until <= at);
    let found = complete.find_map(|base| Some((base, log_of(base)?)));
    let Some((base, wal)) = found else {
        let windows: Vec<_> = bases.iter().take(3).filter_map(|base| window(base, good)).collect();
        let there = match windows.as_slice() {
            [] => "no write-ahead log carries on a good base copy; a run in mode Incremental stores it".to_owned(),
            windows => format!("what can be recovered is {}", windows.join(", ")),
        };
        return Err(format!("{at} cannot be recovered: {there}"));
    };
    Ok(Recovery { base: (base.backup, base.point), wal: Some((wal.backup, wal.point)), until: Some(at) })
}

/// From when until when a base is carried on.
fn window(base: &Physical<'_>, good: &[Physical<'_>]) -> Option<String> {
    let newest = good.iter().filter(|wal| wal.carries_on(base)).map(|wal| wal.until).max()?;
    Some(format!("{} to {newest}", base.until))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn backup(name: &str, phase: &str, time: &str, more: &Value) -> Backup {
        let mut status = json!({"phase": phase, "message": "why",
            "point": {"snapshotId": format!("id-{name}"), "dataTime": time}});
        status.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let value = json!({"metadata": {"name": name}, "spec": {"policyRef": {"name": "p"}, "requester": "x"}, "status": status});
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn the_newest_good_point_is_taken_and_any_other_only_by_name_and_with_a_warning() {
        let forgotten = json!({"retention": {"forgottenAt": "2026-11-09T00:00:00Z"}});
        let told = json!({"retention": {"expiredAt": "2026-11-09T00:00:00Z"}});
        let all = [
            backup("old", "Succeeded", "2026-11-01T00:00:00Z", &json!({})),
            backup("new", "Succeeded", "2026-11-02T00:00:00Z", &json!({})),
            backup("partial", "PartiallyFailed", "2026-11-03T00:00:00Z", &json!({})),
            backup("gone", "Succeeded", "2026-11-04T00:00:00Z", &forgotten),
            backup("told", "Succeeded", "2026-11-05T00:00:00Z", &told),
        ];
        let chosen =
            |wanted: Wanted| choose(&all, &wanted).map(|(_, point, warning)| (point.snapshot_id.clone(), warning));
        assert_eq!(chosen(Wanted::Newest), Ok(("id-new".into(), None)));
        assert_eq!(chosen(Wanted::At("2026-11-01T12:00:00Z".parse().unwrap())), Ok(("id-old".into(), None)));
        assert!(chosen(Wanted::At("2026-10-01T00:00:00Z".parse().unwrap())).unwrap_err().contains("or earlier"));
        assert!(chosen(Wanted::Of("partial".into())).unwrap().1.unwrap().contains("not complete"));
        assert!(chosen(Wanted::Of("gone".into())).unwrap_err().contains("forgotten"));
        assert!(chosen(Wanted::Of("told".into())).unwrap().1.unwrap().contains("was told to forget told"));
        assert!(chosen(Wanted::Of("never".into())).unwrap_err().contains("no Backup"));
    }
}
