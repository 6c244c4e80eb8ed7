//! Which recovery point a person restores.

use interlock_crds::{Backup, RecoveryPoint};
use jiff::Timestamp;

use super::exposure::{Standing, standing};

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
            (Some(Standing::Good), Some(point)) => Ok((backup, point, None)),
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
    let good = backups.iter().filter(|backup| standing(backup) == Some(Standing::Good));
    let good = good.filter_map(|backup| Some((backup, point(backup)?)));
    let latest = match wanted {
        Wanted::At(at) => good.filter(|(_, point)| point.data_time.0 <= *at).max_by_key(|(_, point)| point.data_time.0),
        _ => good.max_by_key(|(_, point)| point.data_time.0),
    };
    latest.map(|(backup, point)| (backup, point, None)).ok_or_else(|| match wanted {
        Wanted::At(at) => format!("no good recovery point holds data of {at} or earlier"),
        _ => "there is no good recovery point".to_owned(),
    })
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
        let all = [
            backup("old", "Succeeded", "2026-11-01T00:00:00Z", &json!({})),
            backup("new", "Succeeded", "2026-11-02T00:00:00Z", &json!({})),
            backup("partial", "PartiallyFailed", "2026-11-03T00:00:00Z", &json!({})),
            backup("gone", "Succeeded", "2026-11-04T00:00:00Z", &forgotten),
        ];
        let chosen =
            |wanted: Wanted| choose(&all, &wanted).map(|(_, point, warning)| (point.snapshot_id.clone(), warning));
        assert_eq!(chosen(Wanted::Newest), Ok(("id-new".into(), None)));
        assert_eq!(chosen(Wanted::At("2026-11-01T12:00:00Z".parse().unwrap())), Ok(("id-old".into(), None)));
        assert!(chosen(Wanted::At("2026-10-01T00:00:00Z".parse().unwrap())).unwrap_err().contains("or earlier"));
        assert!(chosen(Wanted::Of("partial".into())).unwrap().1.unwrap().contains("not complete"));
        assert!(chosen(Wanted::Of("gone".into())).unwrap_err().contains("forgotten"));
        assert!(chosen(Wanted::Of("never".into())).unwrap_err().contains("no Backup"));
    }
}
