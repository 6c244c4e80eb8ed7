//! Going back: an inverse patch of the changed paths.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    access::{get, remove, set},
    diff::Change,
    id::GroupKind,
    meaning::{present, same},
    path::{Path, Segment},
    schema::Shape,
};

/// A place that somebody else changed after the change wrote it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Conflict {
    /// Where.
    pub path: Path,
    /// The value before the change.
    pub before: Option<Value>,
    /// The value that the change wrote.
    pub after: Option<Value>,
    /// The value that was found.
    pub live: Option<Value>,
    /// Whether the value before could be put back. It cannot where the thing around it is gone, such as the container
    /// of an image: a container with nothing but an image would be a new thing that nobody asked for.
    pub restored: bool,
}

/// The object to write so that each changed place has its value from before, while every other place keeps its live
/// value: replicas that an autoscaler set stay, unless the change itself wrote them. `live` keeps its `resourceVersion`,
/// so that writing the result fails if the object moved on meanwhile.
///
/// The changes are those of one object, as [`diff`](super::diff) gives them. A live value that is neither the one before
/// nor the one after is put back too, and reported.
pub fn restore_paths(kind: &GroupKind, live: &Value, changes: &[Change]) -> (Value, Vec<Conflict>) {
    let mut restored = live.clone();
    let mut conflicts = Vec::new();
    for change in changes {
        let conflict = if change.path.last() == Some(&Segment::Order) {
            restore_order(live, &mut restored, change)
        } else {
            restore_value(kind, &mut restored, change)
        };
        conflicts.extend(conflict);
    }
    (restored, conflicts)
}

fn restore_value(kind: &GroupKind, object: &mut Value, change: &Change) -> Option<Conflict> {
    let shape = Shape::at(kind, &change.path);
    let live = get(object, &change.path);
    if same(shape, live, change.before.as_ref()) {
        return None;
    }
    let (live, is_ours) = (live.cloned(), same(shape, live, change.after.as_ref()));
    let done = match &change.before {
        Some(before) => set(object, &change.path, before.clone()),
        None => remove(object, &change.path).is_some(),
    };
    if done && change.before.is_none() {
        remove_emptied_parent(kind, object, &change.path);
    }
    (!is_ours || !done).then(|| conflict(change, live, done))
}

/// An emptied list or map goes too where the schema says that empty means none, as the object had none before.
fn remove_emptied_parent(kind: &GroupKind, object: &mut Value, path: &Path) {
    let Some(parent) = path.parent().filter(|parent| !parent.segments().is_empty()) else {
        return;
    };
    if present(Shape::at(kind, &parent), get(object, &parent)).is_none() {
        remove(object, &parent);
    }
}

fn restore_order(live: &Value, object: &mut Value, change: &Change) -> Option<Conflict> {
    let list = change.path.parent()?;
    let before = change.before.as_ref()?;
    let found = in_live(get(live, &list), change.after.as_ref());
    let expected = in_live(get(live, &list), change.before.as_ref());
    let is_ours = found.as_ref().is_some_and(|(live, wanted)| live == wanted);
    let is_before = expected.as_ref().is_some_and(|(live, wanted)| live == wanted);
    let done = set(object, &change.path, before.clone());
    (!(is_ours || is_before) || !done).then(|| conflict(change, found.map(|(live, _)| Value::Array(live)), done))
}

/// The keys that live items and a wanted order share, in the order of each.
fn in_live(list: Option<&Value>, wanted: Option<&Value>) -> Option<(Vec<Value>, Vec<Value>)> {
    let (items, wanted) = (list?.as_array()?, wanted?.as_array()?);
    let has = |item: &Value, keys: &Value| {
        let keys = keys.as_object();
        keys.is_some_and(|keys| keys.iter().all(|(name, value)| item.get(name) == Some(value)))
    };
    let live = items.iter().filter_map(|item| wanted.iter().find(|keys| has(item, keys))).cloned().collect();
    let present = wanted.iter().filter(|keys| items.iter().any(|item| has(item, keys))).cloned().collect();
    Some((live, present))
}

fn conflict(change: &Change, live: Option<Value>, restored: bool) -> Conflict {
    Conflict { path: change.path.clone(), before: change.before.clone(), after: change.after.clone(), live, restored }
}
