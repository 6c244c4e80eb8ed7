//! Lists that are maps or sets: their items by key.

use std::{borrow::Cow, collections::BTreeMap};

use serde_json::Value;

use super::{path::Segment, schema::Shape};

/// The one key of a list map that has a default in the whole Kubernetes API: the `protocol` of a port.
const KEY_DEFAULT: (&str, &str) = ("protocol", "TCP");

/// A list map's or set's item with the step that leads to it.
pub(super) struct Item<'a> {
    /// The text of the item's key, by which items of two lists are paired.
    pub id: String,
    /// The step to the item.
    pub segment: Segment,
    /// The item.
    pub value: &'a Value,
}

/// The value of one key of a list map's item, with the default if the item leaves it out.
pub(super) fn key_value<'a>(item: &'a Value, name: &str) -> Option<Cow<'a, Value>> {
    match item.as_object()?.get(name) {
        Some(Value::Null) | None => {
            (name == KEY_DEFAULT.0).then(|| Cow::Owned(Value::String(KEY_DEFAULT.1.to_owned())))
        }
        Some(scalar @ (Value::String(_) | Value::Number(_) | Value::Bool(_))) => Some(Cow::Borrowed(scalar)),
        Some(Value::Array(_) | Value::Object(_)) => None,
    }
}

/// The items of a list map or a set; an absent list has none. `None` means that the list cannot be read as what its
/// schema says (it is no list, an item has no key, or two items have one key) and must be compared as a whole.
pub(super) fn items(shape: Shape, list: Option<&Value>) -> Option<Vec<Item<'_>>> {
    if !matches!(shape, Shape::ListMap { .. } | Shape::Set) {
        return None;
    }
    let Some(list) = list else {
        return Some(Vec::new());
    };
    let items: Vec<Item<'_>> = list.as_array()?.iter().map(|value| item(shape, value)).collect::<Option<_>>()?;
    (by_id(&items).len() == items.len()).then_some(items)
}

/// The items by the text of their key.
pub(super) fn by_id<'i, 'a>(items: &'i [Item<'a>]) -> BTreeMap<&'i str, &'i Item<'a>> {
    items.iter().map(|item| (item.id.as_str(), item)).collect()
}

/// The keys of those items that another list has too, in order.
pub(super) fn shared<'i>(items: &'i [Item<'_>], other: &BTreeMap<&str, &Item<'_>>) -> Vec<&'i str> {
    items.iter().map(|item| item.id.as_str()).filter(|id| other.contains_key(id)).collect()
}

fn item(shape: Shape, value: &Value) -> Option<Item<'_>> {
    match shape {
        Shape::ListMap { keys, .. } => {
            let keys: BTreeMap<String, Value> = keys
                .iter()
                .map(|name| Some(((*name).to_owned(), key_value(value, name)?.into_owned())))
                .collect::<Option<_>>()?;
            let id = keys.values().map(Value::to_string).collect::<Vec<_>>().join("\n");
            Some(Item { id, segment: Segment::Select { keys }, value })
        }
        Shape::Set if !value.is_array() && !value.is_object() && !value.is_null() => {
            Some(Item { id: value.to_string(), segment: Segment::SetItem(value.clone()), value })
        }
        _ => None,
    }
}

/// The keys of items in their order, as the value of [`Segment::Order`].
pub(super) fn order_value(items: &[Item<'_>]) -> Value {
    items
        .iter()
        .filter_map(|item| match &item.segment {
            Segment::Select { keys } => {
                Some(Value::Object(keys.iter().map(|(name, value)| (name.clone(), value.clone())).collect()))
            }
            _ => None,
        })
        .collect()
}
