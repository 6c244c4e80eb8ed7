//! What is told of backups and drills: what they came to, and what that means for people.

use interlock_crds::{Backup, BackupPhase, BackupPolicy, DrillRun, DrillVerdict, RestoreDrill};
use interlock_sim::api::meta;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::report::{Entry, EntryKind};
use crate::world::key_of;

/// Kinds whose Jobs, volumes and certificates are not worth a line of their own.
const OWNERS: [&str; 4] = ["Backup", "BackupRepository", "BackupPolicy", "DrillRun"];

/// Whether an object belongs to a backup or a drill.
pub(super) fn is_of_one(object: Option<&Value>) -> bool {
    let owner = object.and_then(|object| object.pointer("/metadata/ownerReferences/0/kind")).and_then(Value::as_str);
    owner.is_some_and(|owner| OWNERS.contains(&owner))
}

/// What a write to a kind of backups or drills is worth telling.
pub(super) fn told(kind: &str, at: Timestamp, old: Option<&Value>, new: &Value) -> Vec<Entry> {
    let key = key_of(new);
    let told = match kind {
        "Backup" => backup(read(old), read(Some(new))),
        "DrillRun" => run(read(old), read(Some(new))),
        "BackupPolicy" => conditions::<BackupPolicy>(
            old,
            new,
            |policy| policy.status.as_ref().map(|status| status.conditions.clone()),
            &["RPOAtRisk", "Overdue"],
        ),
        "RestoreDrill" => conditions::<RestoreDrill>(
            old,
            new,
            |drill| drill.status.as_ref().map(|status| status.conditions.clone()),
            &["DrillOverdue", "CleanupFailed"],
        ),
        _ => Vec::new(),
    };
    told.into_iter().map(|text| Entry::new(at, EntryKind::Event, format!("{key}: {text}"))).collect()
}

fn read<T: DeserializeOwned>(object: Option<&Value>) -> Option<T> {
    serde_json::from_value(object?.clone()).ok()
}

/// Runs that went well are the rule, and told by their policy; the others are told one by one.
fn backup(old: Option<Backup>, new: Option<Backup>) -> Vec<String> {
    let (old, Some(new)) = (old.and_then(|old| old.status).unwrap_or_default(), new.and_then(|new| new.status)) else {
        return Vec::new();
    };
    let mut told = Vec::new();
    let went_wrong = matches!(new.phase, BackupPhase::Failed | BackupPhase::PartiallyFailed);
    if new.phase != old.phase && went_wrong {
        let reason = new.reason.unwrap_or_default();
        told.push(format!("the backup ended {:?} ({reason}): {}", new.phase, new.message.unwrap_or_default()));
    }
    if let Some(verified) = new.verified.filter(|verified| old.verified.as_ref() != Some(verified)) {
        told.push(format!("the recovery point is {:?}, says drill {}", verified.verdict, verified.drill_run));
    }
    told
}

fn run(old: Option<DrillRun>, new: Option<DrillRun>) -> Vec<String> {
    let (old, Some(new)) = (old.and_then(|old| old.status).unwrap_or_default(), new.and_then(|new| new.status)) else {
        return Vec::new();
    };
    if new.phase == old.phase {
        return Vec::new();
    }
    let message = new.message.clone().unwrap_or_default();
    if !new.phase.is_terminal() {
        return match &new.chosen {
            Some(chosen) if old.chosen.is_none() => {
                vec![format!("the drill restores {}, data of {}", chosen.backup, chosen.data_time.0)]
            }
            _ => Vec::new(),
        };
    }
    let verdict = new.verdict.map_or_else(|| format!("{:?}", new.phase), |verdict| format!("{verdict:?}"));
    let text = format!("the drill ended {verdict} ({}): {message}", new.reason.unwrap_or_default());
    if new.verdict != Some(DrillVerdict::Passed) {
        return vec![text];
    }
    let segments = new.segments.iter().filter_map(|segment| {
        let seconds = interlock_core::drill::clock::segment_seconds(segment)?;
        Some(format!("{:?} {seconds} s", segment.name))
    });
    vec![format!("{text} [{}]", segments.collect::<Vec<_>>().join(", "))]
}

/// What begins and ends, by conditions of bad news.
fn conditions<T: DeserializeOwned>(
    old: Option<&Value>,
    new: &Value,
    of: impl Fn(&T) -> Option<Vec<Condition>>,
    names: &[&str],
) -> Vec<String> {
    if old.is_some_and(|old| meta::uid(old) != meta::uid(new)) {
        return Vec::new();
    }
    let listed = |object: Option<&Value>| read::<T>(object).as_ref().and_then(&of).unwrap_or_default();
    let (before, after) = (listed(old), listed(Some(new)));
    let is = |list: &[Condition], name: &str| list.iter().any(|c| c.type_ == name && c.status == "True");
    let changed = names.iter().filter(|name| is(&before, name) != is(&after, name));
    changed
        .filter_map(|name| {
            let condition = after.iter().find(|condition| condition.type_ == **name)?;
            let word = if condition.status == "True" { "" } else { "no longer " };
            Some(format!("{word}{name}: {}", condition.message))
        })
        .collect()
}
