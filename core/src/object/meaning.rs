//! Equality by meaning.

use std::collections::BTreeSet;

use serde_json::{Number, Value};

use super::{list, quantity::Quantity, schema::Shape};

/// Whether two values mean the same where their schema says `shape`. Null is the same as absent, as is an empty list or
/// map that the schema knows (the API server's storage keeps no difference); quantities are compared by amount, list
/// maps by key, sets without order. Anything that is not shaped as the schema says is compared strictly.
pub fn same(shape: Shape, a: Option<&Value>, b: Option<&Value>) -> bool {
    match (present(shape, a), present(shape, b)) {
        (None, None) => true,
        (Some(a), Some(b)) => same_value(shape, a, b),
        (Some(only), None) | (None, Some(only)) => {
            matches!(shape, Shape::Defaulted(default) if only.as_str() == Some(default))
        }
    }
}

/// The value, unless it is null or an empty list or map that means the same as none.
pub(super) fn present(shape: Shape, value: Option<&Value>) -> Option<&Value> {
    value.filter(|value| match (shape, value) {
        (_, Value::Null) => false,
        (Shape::List(_) | Shape::Set | Shape::ListMap { .. }, Value::Array(items)) => !items.is_empty(),
        (Shape::Map(_) | Shape::AtomicMap, Value::Object(fields)) => !fields.values().all(Value::is_null),
        _ => true,
    })
}

fn same_value(shape: Shape, a: &Value, b: &Value) -> bool {
    match (shape, a, b) {
        (Shape::Quantity, _, _) => match (Quantity::of(a), Quantity::of(b)) {
            (Some(a), Some(b)) => a == b,
            _ => same_plain(Shape::Free, a, b),
        },
        (Shape::ListMap { ordered, .. }, _, _) => match (list::items(shape, Some(a)), list::items(shape, Some(b))) {
            (Some(a), Some(b)) => same_items(shape.item(), &a, &b, ordered),
            _ => same_plain(shape, a, b),
        },
        (Shape::Set, _, _) => match (list::items(shape, Some(a)), list::items(shape, Some(b))) {
            (Some(a), Some(b)) => same_items(Shape::Free, &a, &b, false),
            _ => same_plain(shape, a, b),
        },
        _ => same_plain(shape, a, b),
    }
}

fn same_items(shape: Shape, a: &[list::Item<'_>], b: &[list::Item<'_>], ordered: bool) -> bool {
    if ordered {
        return a.len() == b.len()
            && a.iter().zip(b).all(|(a, b)| a.id == b.id && same(shape, Some(a.value), Some(b.value)));
    }
    let by_id = list::by_id(b);
    let has_same =
        |a: &list::Item<'_>| by_id.get(a.id.as_str()).is_some_and(|b| same(shape, Some(a.value), Some(b.value)));
    a.len() == b.len() && a.iter().all(has_same)
}

fn same_plain(shape: Shape, a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            names.into_iter().all(|name| same(shape.field(name), a.get(name), b.get(name)))
        }
        (Value::Array(a), Value::Array(b)) => {
            let same_item = |(a, b): (&Value, &Value)| same(shape.item(), Some(a), Some(b));
            a.len() == b.len() && a.iter().zip(b).all(same_item)
        }
        (Value::Number(a), Value::Number(b)) => same_number(a, b),
        _ => a == b,
    }
}

/// 1 and 1.0 are one number; doubles beyond 2^53 are not trusted to be equal to integers.
fn same_number(a: &Number, b: &Number) -> bool {
    let exact = |number: &Number| number.as_f64().filter(|double| double.abs() < 9_007_199_254_740_992.0);
    a == b || ((a.is_f64() || b.is_f64()) && exact(a).is_some() && exact(a) == exact(b))
}
