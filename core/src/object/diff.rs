//! What differs between two states of an object.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    id::GroupKind,
    list::{self, Item, order_value},
    meaning::{present, same},
    path::{Path, Segment},
    schema::Shape,
};

/// One place where two states differ. Places of one difference never lie within each other, but for the order of a
/// list ([`Segment::Order`]), which follows the changes of that list's items.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// Where.
    pub path: Path,
    /// The value before; none if there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// The value after; none if there is none any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
}

/// The differences by meaning from `old` to `new`, as small as the schema allows: an added or removed object or item is
/// one change, and so is a list that the schema does not know as a map. Nothing is left out: see
/// [`strip_server_fields`](super::strip_server_fields) for what the API server writes.
pub fn diff(kind: &GroupKind, old: &Value, new: &Value) -> Vec<Change> {
    let mut walk = Walk { path: Path::root(), changes: Vec::new() };
    walk.compare(Shape::of_kind(kind), Some(old), Some(new));
    walk.changes
}

struct Walk {
    path: Path,
    changes: Vec<Change>,
}

impl Walk {
    fn compare(&mut self, shape: Shape, old: Option<&Value>, new: Option<&Value>) {
        if same(shape, old, new) {
            return;
        }
        let (old, new) = (present(shape, old), present(shape, new));
        if let Some((old, new)) = both_objects(shape, old, new) {
            self.fields(shape, &old, &new);
        } else if let Some((old, new)) = list::items(shape, old).zip(list::items(shape, new)) {
            self.items(shape, &old, &new);
        } else {
            self.changes.push(Change { path: self.path.clone(), before: old.cloned(), after: new.cloned() });
        }
    }

    fn fields(&mut self, shape: Shape, old: &Fields<'_>, new: &Fields<'_>) {
        let names: BTreeSet<&str> = old.keys().chain(new.keys()).collect();
        for name in names {
            self.within(Segment::Key(name.to_owned()), |walk| {
                walk.compare(shape.field(name), old.get(name), new.get(name));
            });
        }
    }

    fn items(&mut self, shape: Shape, old: &[Item<'_>], new: &[Item<'_>]) {
        let (old_by_id, new_by_id) = (list::by_id(old), list::by_id(new));
        for item in old {
            let after = new_by_id.get(item.id.as_str()).map(|item| item.value);
            self.within(item.segment.clone(), |walk| {
                walk.compare(shape.item(), Some(item.value), after);
            });
        }
        for item in new.iter().filter(|item| !old_by_id.contains_key(item.id.as_str())) {
            self.within(item.segment.clone(), |walk| {
                walk.compare(shape.item(), None, Some(item.value));
            });
        }
        if matches!(shape, Shape::ListMap { ordered: true, .. }) && !restores_order(old, new) {
            self.within(Segment::Order, |walk| {
                let (before, after) = (Some(order_value(old)), Some(order_value(new)));
                walk.changes.push(Change { path: walk.path.clone(), before, after });
            });
        }
    }

    fn within(&mut self, segment: Segment, visit: impl FnOnce(&mut Self)) {
        self.path.push(segment);
        visit(self);
        self.path.pop();
    }
}

/// Whether removing the added items and appending the removed ones gives the old order back: then the changes of the
/// items say everything.
fn restores_order(old: &[Item<'_>], new: &[Item<'_>]) -> bool {
    let new_by_id = list::by_id(new);
    let kept = list::shared(new, &list::by_id(old));
    let removed = old.iter().map(|item| item.id.as_str()).filter(|id| !new_by_id.contains_key(id));
    kept.into_iter().chain(removed).eq(old.iter().map(|item| item.id.as_str()))
}

/// The fields of an object, or of a map that is absent and therefore empty.
pub(super) struct Fields<'a>(Option<&'a Map<String, Value>>);

impl<'a> Fields<'a> {
    /// No fields.
    pub fn none() -> Self {
        Self(None)
    }

    pub fn get(&self, name: &str) -> Option<&'a Value> {
        self.0.and_then(|fields| fields.get(name))
    }

    pub fn keys(&self) -> impl Iterator<Item = &'a str> {
        self.0.into_iter().flat_map(Map::keys).map(String::as_str)
    }

    /// The fields of a value that is compared field by field; an absent map has none, an absent object is no object.
    pub fn of(shape: Shape, value: Option<&'a Value>) -> Option<Self> {
        match value {
            Some(Value::Object(fields)) if shape.is_granular() => Some(Self(Some(fields))),
            None if matches!(shape, Shape::Map(_)) => Some(Self(None)),
            _ => None,
        }
    }
}

fn both_objects<'a>(shape: Shape, old: Option<&'a Value>, new: Option<&'a Value>) -> Option<(Fields<'a>, Fields<'a>)> {
    Fields::of(shape, old).zip(Fields::of(shape, new))
}
