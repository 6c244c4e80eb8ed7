//! Reading and writing one place of an object.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{
    list::key_value,
    path::{Path, Segment},
};

/// The value at a path. For [`Segment::Order`], which is no place of its own, there is none.
pub fn get<'a>(object: &'a Value, path: &Path) -> Option<&'a Value> {
    path.segments().iter().try_fold(object, |value, segment| match segment {
        Segment::Key(name) => value.as_object()?.get(name),
        Segment::Select { keys } => value.as_array()?.iter().find(|item| has_keys(item, keys)),
        Segment::SetItem(member) => value.as_array()?.iter().find(|item| *item == member),
        Segment::Index(index) => value.as_array()?.get(*index),
        Segment::Order => None,
    })
}

/// Writes a value at a path and says whether that was possible. Missing objects and lists on the way are created, but
/// never an item of a list map without its content: such a half item would be a new thing that nobody asked for.
pub fn set(object: &mut Value, path: &Path, value: Value) -> bool {
    set_at(object, path.segments(), value)
}

fn set_at(target: &mut Value, segments: &[Segment], value: Value) -> bool {
    let Some((first, rest)) = segments.split_first() else {
        *target = value;
        return true;
    };
    if target.is_null() {
        return build(segments, value).is_some_and(|built| {
            *target = built;
            true
        });
    }
    match first {
        Segment::Key(name) => target.as_object_mut().is_some_and(|fields| set_field(fields, name, rest, value)),
        Segment::Order => target.as_array_mut().is_some_and(|items| rest.is_empty() && reorder(items, &value)),
        Segment::Select { .. } | Segment::SetItem(_) | Segment::Index(_) => {
            target.as_array_mut().is_some_and(|items| set_item(items, first, rest, value))
        }
    }
}

fn set_field(fields: &mut Map<String, Value>, name: &str, rest: &[Segment], value: Value) -> bool {
    if let Some(field) = fields.get_mut(name) {
        return set_at(field, rest, value);
    }
    build(rest, value).is_some_and(|built| {
        fields.insert(name.to_owned(), built);
        true
    })
}

fn set_item(items: &mut Vec<Value>, first: &Segment, rest: &[Segment], value: Value) -> bool {
    if let Some(position) = position_of(items, first) {
        return items.get_mut(position).is_some_and(|item| set_at(item, rest, value));
    }
    let appends = !matches!(first, Segment::Index(index) if *index != items.len());
    if appends && rest.is_empty() {
        items.push(value);
    }
    appends && rest.is_empty()
}

fn position_of(items: &[Value], segment: &Segment) -> Option<usize> {
    match segment {
        Segment::Select { keys } => items.iter().position(|item| has_keys(item, keys)),
        Segment::SetItem(member) => items.iter().position(|item| item == member),
        Segment::Index(index) => (*index < items.len()).then_some(*index),
        Segment::Key(_) | Segment::Order => None,
    }
}

fn build(segments: &[Segment], value: Value) -> Option<Value> {
    let Some((first, rest)) = segments.split_first() else {
        return Some(value);
    };
    match first {
        Segment::Key(name) => Some(Value::Object(Map::from_iter([(name.clone(), build(rest, value)?)]))),
        Segment::Select { .. } | Segment::SetItem(_) if rest.is_empty() => Some(Value::Array(vec![value])),
        Segment::Index(0) if rest.is_empty() => Some(Value::Array(vec![value])),
        _ => None,
    }
}

/// Takes the value at a path out of the object.
pub fn remove(object: &mut Value, path: &Path) -> Option<Value> {
    let Some((last, parents)) = path.segments().split_last() else {
        return Some(object.take());
    };
    let parent = parents.iter().try_fold(object, |value, segment| {
        if let Segment::Key(name) = segment {
            return value.as_object_mut()?.get_mut(name);
        }
        let items = value.as_array_mut()?;
        let position = position_of(items, segment)?;
        items.get_mut(position)
    })?;
    if let Segment::Key(name) = last {
        return parent.as_object_mut()?.remove(name);
    }
    let items = parent.as_array_mut()?;
    position_of(items, last).map(|position| items.remove(position))
}

/// Puts the items whose keys `wanted` lists into that order; the others keep their places.
fn reorder(items: &mut [Value], wanted: &Value) -> bool {
    let Some(wanted) = wanted.as_array() else {
        return false;
    };
    let keys: Vec<BTreeMap<String, Value>> = wanted.iter().filter_map(Value::as_object).map(to_keys).collect();
    let place = |item: &Value| keys.iter().position(|keys| has_keys(item, keys));
    let mut listed: Vec<(usize, Value)> =
        items.iter().filter_map(|item| place(item).map(|rank| (rank, item.clone()))).collect();
    listed.sort_by_key(|(rank, _)| *rank);
    let slots: Vec<&mut Value> = items.iter_mut().filter(|item| place(item).is_some()).collect();
    for (slot, (_, item)) in slots.into_iter().zip(listed) {
        *slot = item;
    }
    true
}

fn to_keys(fields: &Map<String, Value>) -> BTreeMap<String, Value> {
    fields.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn has_keys(item: &Value, keys: &BTreeMap<String, Value>) -> bool {
    keys.iter().all(|(name, wanted)| key_value(item, name).is_some_and(|found| *found == *wanted))
}
