//! What a manifest states, and what an object becomes when a manifest is applied.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{
    id::GroupKind,
    list::{self, Item},
    path::{Path, Segment},
    schema::Shape,
};

/// The object after a manifest was applied to it: an approximation of server-side apply where none can be asked. Maps
/// and objects merge, list maps merge by key, sets unite, everything else is replaced. An explicit null removes, and so
/// does an item of a list map that states `$patch: delete` beside its keys. What the API server alone knows is missing:
/// defaults, and the removal of fields that the manifest's manager owned and no longer states.
pub fn apply_partial(kind: &GroupKind, live: Option<&Value>, manifest: &Value) -> Value {
    merge(Shape::of_kind(kind), live, manifest)
}

fn merge(shape: Shape, live: Option<&Value>, manifest: &Value) -> Value {
    match manifest {
        Value::Object(stated) if shape.is_granular() => {
            let mut fields = live.and_then(Value::as_object).cloned().unwrap_or_default();
            for (name, value) in stated {
                merge_field(shape, &mut fields, name, value);
            }
            Value::Object(fields)
        }
        Value::Array(_) => {
            let live = live.filter(|live| !live.is_null());
            match (list::items(shape, live), list::items(shape, Some(manifest))) {
                (Some(live), Some(stated)) => Value::Array(merge_items(shape.item(), &live, &stated)),
                _ => without_nulls(manifest),
            }
        }
        _ => without_nulls(manifest),
    }
}

fn merge_field(shape: Shape, fields: &mut Map<String, Value>, name: &str, stated: &Value) {
    if stated.is_null() {
        fields.remove(name);
        return;
    }
    let merged = merge(shape.field(name), fields.get(name), stated);
    fields.insert(name.to_owned(), merged);
}

/// Items in the manifest's order; an item that only the live object has stays before the item that it preceded.
fn merge_items(shape: Shape, live: &[Item<'_>], stated: &[Item<'_>]) -> Vec<Value> {
    let (live_by_id, stated_by_id) = (list::by_id(live), list::by_id(stated));
    let mut merged = Vec::with_capacity(live.len() + stated.len());
    let mut taken: BTreeSet<&str> = BTreeSet::new();
    let mut rest = live.iter().peekable();
    for item in stated {
        while let Some(other) = rest.next_if(|other| is_settled(other, &stated_by_id, &taken)) {
            merged.extend((!stated_by_id.contains_key(other.id.as_str())).then(|| other.value.clone()));
        }
        if !is_removal(item.value) {
            let current = live_by_id.get(item.id.as_str()).map(|item| item.value);
            merged.push(merge(shape, current, item.value));
        }
        taken.insert(&item.id);
    }
    merged.extend(rest.filter(|other| !stated_by_id.contains_key(other.id.as_str())).map(|other| other.value.clone()));
    merged
}

fn is_settled(item: &Item<'_>, stated: &std::collections::BTreeMap<&str, &Item<'_>>, taken: &BTreeSet<&str>) -> bool {
    !stated.contains_key(item.id.as_str()) || taken.contains(item.id.as_str())
}

/// The field by which an item says that it is to go, as in the patches of kubectl, and what it says.
const REMOVAL: (&str, &str) = ("$patch", "delete");

/// What an item states that is to go, beside its keys.
pub(super) fn removal() -> Value {
    json!({ REMOVAL.0: REMOVAL.1 })
}

fn is_removal(item: &Value) -> bool {
    item.get(REMOVAL.0).and_then(Value::as_str) == Some(REMOVAL.1)
}

/// The value without fields that are null.
pub(crate) fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let stated = fields.iter().filter(|(_, value)| !value.is_null());
            Value::Object(stated.map(|(name, value)| (name.clone(), without_nulls(value))).collect())
        }
        Value::Array(items) => items.iter().map(without_nulls).collect(),
        _ => value.clone(),
    }
}

/// The places that a manifest states with their values, but for the ones that name the object. What is written as one
/// value is one place; an empty object or list is stated too, and so is an explicit null. An item that is to go is null.
pub fn stated_paths(kind: &GroupKind, manifest: &Value) -> Vec<(Path, Value)> {
    let mut stated = Stated { path: Path::root(), found: Vec::new() };
    stated.visit(Shape::of_kind(kind), manifest);
    stated.found
}

/// The fields that say which object this is.
const IDENTITY: [&[&str]; 4] = [&["apiVersion"], &["kind"], &["metadata", "name"], &["metadata", "namespace"]];

struct Stated {
    path: Path,
    found: Vec<(Path, Value)>,
}

impl Stated {
    fn visit(&mut self, shape: Shape, value: &Value) {
        match value {
            Value::Object(fields) if shape.is_granular() && !fields.is_empty() => {
                for (name, value) in fields {
                    self.within(Segment::Key(name.clone()), shape.field(name), value);
                }
            }
            _ => match list::items(shape, Some(value)).filter(|items| !items.is_empty()) {
                Some(items) => {
                    for item in items {
                        let value = if is_removal(item.value) { &Value::Null } else { item.value };
                        self.within(item.segment, shape.item(), value);
                    }
                }
                None if IDENTITY.iter().any(|keys| self.path.is_keys(keys)) => {}
                None => self.found.push((self.path.clone(), value.clone())),
            },
        }
    }

    fn within(&mut self, segment: Segment, shape: Shape, value: &Value) {
        self.path.push(segment);
        self.visit(shape, value);
        self.path.pop();
    }
}
