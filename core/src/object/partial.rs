//! The part of a manifest that makes one object another.

use serde_json::{Map, Value};

use super::{
    id::GroupKind,
    list::{self, Item},
    patch::{apply_partial, removal, without_nulls},
    path::Segment,
    schema::Shape,
};

/// The least manifest of which [`apply_partial`] makes `wanted` out of `live`: what differs, a null for each field that
/// goes, `$patch: delete` for each item of a list that goes. None if no part of a manifest does that. A null in either
/// object is no field.
pub fn partial_between(kind: &GroupKind, live: &Value, wanted: &Value) -> Option<Value> {
    let (live, wanted) = (without_nulls(live), without_nulls(wanted));
    let manifest = between(Shape::of_kind(kind), &live, &wanted);
    (apply_partial(kind, Some(&live), &manifest) == wanted).then_some(manifest)
}

fn between(shape: Shape, live: &Value, wanted: &Value) -> Value {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) if shape.is_granular() => fields_between(shape, live, wanted),
        (Value::Array(_), Value::Array(_)) => {
            match (list::items(shape, Some(live)), list::items(shape, Some(wanted))) {
                (Some(live), Some(wanted)) => items_between(shape.item(), &live, &wanted),
                _ => wanted.clone(),
            }
        }
        _ => wanted.clone(),
    }
}

fn fields_between(shape: Shape, live: &Map<String, Value>, wanted: &Map<String, Value>) -> Value {
    let gone = live.keys().filter(|name| !wanted.contains_key(*name)).map(|name| (name.clone(), Value::Null));
    let stated = wanted.iter().filter(|(name, value)| live.get(*name) != Some(*value)).map(|(name, value)| {
        let part = live.get(name).map_or_else(|| value.clone(), |live| between(shape.field(name), live, value));
        (name.clone(), part)
    });
    Value::Object(gone.chain(stated).collect())
}

/// Every wanted item, as they say the order; what goes stands first.
fn items_between(shape: Shape, live: &[Item<'_>], wanted: &[Item<'_>]) -> Value {
    let (before, after) = (list::by_id(live), list::by_id(wanted));
    let gone = live.iter().filter(|item| !after.contains_key(item.id.as_str())).map(|item| keyed(item, removal()));
    let stated = wanted.iter().map(|item| match before.get(item.id.as_str()) {
        Some(live) => keyed(item, between(shape, live.value, item.value)),
        None => item.value.clone(),
    });
    Value::Array(gone.chain(stated).collect())
}

/// What is stated of an item, with the keys that say which it is.
fn keyed(item: &Item<'_>, mut stated: Value) -> Value {
    let Segment::Select { keys } = &item.segment else { return item.value.clone() };
    if let Some(fields) = stated.as_object_mut() {
        let own = keys.keys().filter_map(|name| Some((name.clone(), item.value.get(name)?.clone())));
        fields.extend(own);
    }
    stated
}
