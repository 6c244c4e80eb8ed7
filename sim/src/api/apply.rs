//! Server-side apply.

use serde_json::Value;

use super::error::{ApiError, Cause};
use super::fields::FieldSet;
use super::kinds::Typ;
use super::managers::{self, Entry, Manager};
use super::registry::KindInfo;
use super::{decode, meta, walk, zero};

/// The object after a configuration was applied to the live one, managers included.
pub(super) fn apply(
    info: &KindInfo,
    live: Option<&Value>,
    mut config: Value,
    manager: &Manager,
    force: bool,
) -> Result<Value, ApiError> {
    decode::check_config(info, &config)?;
    meta::set(&mut config, "managedFields", None);
    let typ = Typ::of(info);
    let before = live.map_or_else(|| zero::object(info), managers::without_managers);
    let mut managed = match live {
        None => Vec::new(),
        Some(live) => match managers::entries(live) {
            none if none.is_empty() => managers::before_first_apply(info, live, manager),
            entries => entries,
        },
    };

    let mut own = Entry::new(info, manager, true);
    own.fields = walk::stated(typ, &config);
    managers::reset(info, manager.subresource.as_deref(), &mut own.fields);
    let last = managed.iter().position(|entry| entry.is_of(&own)).map(|position| managed.remove(position));
    let merged = walk::merge(typ, Some(&before), &config);
    let new = match &last {
        Some(last) => prune(typ, &merged, &last.fields, managed.iter().chain([&own])),
        None => merged,
    };

    let found = walk::compare(typ, Some(&before), Some(&new));
    let mut taken = found.added.clone().union(&found.modified);
    managers::reset(info, manager.subresource.as_deref(), &mut taken);
    let conflicts: Vec<(&Entry, FieldSet)> = managed
        .iter()
        .map(|entry| (entry, entry.fields.intersection(&taken)))
        .filter(|(_, conflict)| !conflict.is_empty())
        .collect();
    if !force && !conflicts.is_empty() {
        return Err(conflict(&conflicts));
    }
    for entry in &mut managed {
        entry.fields.subtract(&taken);
        entry.fields.subtract(&found.removed);
    }
    let is_same = found.added.is_empty() && found.modified.is_empty() && found.removed.is_empty();
    if is_same {
        // An apply that changes no value keeps its time; a first one has none.
        own.time = last.map(|last| last.time).unwrap_or_default();
    }
    managed.push(own);
    let mut new = new;
    managers::write(&mut new, managed);
    Ok(new)
}

/// Removes what the manager stated last time, states no longer, and nobody else owns.
fn prune<'e>(typ: Typ<'_>, merged: &Value, last: &FieldSet, owners: impl Iterator<Item = &'e Entry>) -> Value {
    let owned = owners.fold(FieldSet::default(), |owned, entry| owned.union(&entry.fields));
    let present = walk::with_named(typ, &walk::stated(typ, merged));
    let left = walk::with_named(typ, last).intersection(&present).difference(&walk::with_named(typ, &owned));
    walk::without(typ, merged, &left)
}

fn conflict(conflicts: &[(&Entry, FieldSet)]) -> ApiError {
    let mut sorted: Vec<(String, Vec<String>)> =
        conflicts.iter().map(|(entry, set)| (entry.shown(), set.paths())).collect();
    sorted.sort();
    let count: usize = sorted.iter().map(|(_, paths)| paths.len()).sum();
    let message = if let ([(manager, paths)], 1) = (sorted.as_slice(), count) {
        format!("Apply failed with 1 conflict: conflict with {manager}: {}", paths.concat())
    } else {
        let shown: Vec<String> = sorted
            .iter()
            .map(|(manager, paths)| {
                let lines = std::iter::once(format!("conflicts with {manager}:"));
                lines.chain(paths.iter().map(|path| format!("- {path}"))).collect::<Vec<_>>().join("\n")
            })
            .collect();
        format!("Apply failed with {count} conflicts: {}", shown.join("\n"))
    };
    let of_manager = |(manager, paths): (String, Vec<String>)| {
        let detail = format!("conflict with {manager}");
        paths.into_iter().map(move |path| Cause::new(path, detail.clone())).collect::<Vec<_>>()
    };
    ApiError::new(409, "Conflict", message).because(sorted.into_iter().flat_map(of_manager).collect())
}
