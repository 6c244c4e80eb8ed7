//! Custom resources by their structural schema: pruning, defaults, validation.

mod formats;
mod logic;
mod rules;
mod texts;
mod validate;

use serde_json::{Number, Value};

use super::decode::tidy_metadata;

pub(super) use rules::{has_rules, refused};
pub(crate) use texts::compiled;
pub(super) use validate::{mistyped, validate};

fn has(schema: &Value, name: &str) -> bool {
    schema.get(name).and_then(Value::as_bool) == Some(true)
}

fn property<'a>(schema: &'a Value, name: &str) -> Option<&'a Value> {
    let named = schema.get("properties").and_then(|properties| properties.get(name));
    named.or_else(|| schema.get("additionalProperties").filter(|values| values.is_object()))
}

/// Whether this field belongs to an object as such and not to its schema.
fn is_type_meta(schema: &Value, is_root: bool, name: &str) -> bool {
    (is_root || has(schema, "x-kubernetes-embedded-resource")) && ["apiVersion", "kind", "metadata"].contains(&name)
}

/// What an item of a list was before, if that can be told: items of a map are known by their keys.
fn counterpart<'v>(schema: &Value, old: &'v Value, item: &Value) -> Option<&'v Value> {
    let keys = schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array)?;
    let keys: Vec<&str> = keys.iter().filter_map(Value::as_str).collect();
    old.as_array()?.iter().find(|old| keys.iter().all(|key| old.get(key) == item.get(key)))
}

/// Removes what the schema does not know and says what that was.
pub(super) fn prune(schema: &Value, value: &mut Value, is_root: bool) -> Vec<String> {
    let mut removed = Vec::new();
    prune_at(schema, value, is_root, "", &mut removed);
    removed
}

fn prune_at(schema: &Value, value: &mut Value, is_root: bool, path: &str, removed: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            let keeps = has(schema, "x-kubernetes-preserve-unknown-fields")
                || schema.get("additionalProperties").and_then(Value::as_bool) == Some(true);
            let dot = if path.is_empty() { "" } else { "." };
            let names: Vec<String> = fields.keys().cloned().collect();
            for name in names {
                if is_type_meta(schema, is_root, &name) {
                    continue;
                }
                let place = format!("{path}{dot}{name}");
                match property(schema, &name) {
                    Some(below) => {
                        if let Some(value) = fields.get_mut(&name) {
                            prune_at(below, value, false, &place, removed);
                        }
                    }
                    None if keeps => {}
                    None => {
                        fields.remove(&name);
                        removed.push(place);
                    }
                }
            }
        }
        Value::Array(items) => {
            if let Some(below) = schema.get("items") {
                for (index, item) in items.iter_mut().enumerate() {
                    prune_at(below, item, false, &format!("{path}[{index}]"), removed);
                }
            }
        }
        _ => {}
    }
}

/// Fills in defaults, and drops nulls where none is allowed.
pub(super) fn default(schema: &Value, value: &mut Value) {
    match value {
        Value::Object(fields) => {
            if has(schema, "x-kubernetes-embedded-resource") {
                fields.entry("metadata").and_modify(tidy_metadata);
            }
            let properties = schema.get("properties").and_then(Value::as_object);
            for (name, below) in properties.into_iter().flatten() {
                let is_unset = fields.get(name).is_none_or(|value| value.is_null() && !has(below, "nullable"));
                if is_unset && let Some(default) = below.get("default") {
                    fields.insert(name.clone(), default.clone());
                }
            }
            fields.retain(|name, value| {
                !value.is_null() || property(schema, name).is_none_or(|below| has(below, "nullable"))
            });
            for (name, value) in fields.iter_mut() {
                if let Some(below) = property(schema, name) {
                    default(below, value);
                }
            }
        }
        Value::Array(items) => {
            if let Some(below) = schema.get("items") {
                for item in items {
                    default(below, item);
                }
            }
        }
        _ => {}
    }
}

/// Numbers without a fraction are stored without one.
pub(super) fn trim_numbers(value: &mut Value) {
    match value {
        Value::Object(fields) => fields.values_mut().for_each(trim_numbers),
        Value::Array(items) => items.iter_mut().for_each(trim_numbers),
        Value::Number(number) if number.is_f64() => {
            let whole = number.as_f64().filter(|number| number.fract() == 0.0 && number.abs() < 1e18);
            if let Some(whole) = whole {
                *number = Number::from(whole as i64);
            }
        }
        _ => {}
    }
}
