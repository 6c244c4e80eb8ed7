//! Custom resources by their structural schema: pruning, defaults, validation. CEL rules, `anyOf`, `oneOf`, `allOf` and
//! `not` are not evaluated.

use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex};

use regex::Regex;
use serde_json::{Map, Value};

use super::error::Cause;

/// Patterns compile slowly and are few.
fn compiled(pattern: &str) -> Option<Regex> {
    static COMPILED: LazyLock<Mutex<BTreeMap<String, Option<Regex>>>> = LazyLock::new(Mutex::default);
    let mut compiled = COMPILED.lock().ok()?;
    compiled.entry(pattern.to_owned()).or_insert_with(|| Regex::new(pattern).ok()).clone()
}

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

/// What the schema finds wrong.
pub(super) fn validate(schema: &Value, value: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    validate_at(schema, value, "", true, &mut causes);
    causes
}

fn validate_at(schema: &Value, value: &Value, path: &str, is_root: bool, causes: &mut Vec<Cause>) {
    let shown_path = if path.is_empty() { "<nil>" } else { path };
    if value.is_null() && has(schema, "nullable") {
        return;
    }
    if let Some(wanted) = wrong_type(schema, value) {
        let detail = format!(
            "Invalid value: {}: {shown_path} in body must be of type {wanted}: \"{}\"",
            quoted_type(value),
            type_name(value)
        );
        causes.push(Cause::new(shown_path, detail));
        return;
    }
    if let Some(allowed) = schema.get("enum").and_then(Value::as_array)
        && !allowed.contains(value)
    {
        let allowed: Vec<String> = allowed.iter().map(Value::to_string).collect();
        let detail = format!("Unsupported value: {value}: supported values: {}", allowed.join(", "));
        causes.push(Cause::new(shown_path, detail));
    }
    match value {
        Value::String(text) => text_rules(schema, text, shown_path, causes),
        Value::Number(number) => number_rules(schema, number, shown_path, causes),
        Value::Array(items) => list_rules(schema, items, path, causes),
        Value::Object(fields) => map_rules(schema, fields, path, is_root, causes),
        _ => {}
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn quoted_type(value: &Value) -> String {
    match value {
        Value::Null => "\"null\"".to_owned(),
        _ => format!("\"{}\"", type_name(value)),
    }
}

fn wrong_type<'s>(schema: &'s Value, value: &Value) -> Option<&'s str> {
    if has(schema, "x-kubernetes-int-or-string") {
        return (!value.is_string() && !value.is_i64() && !value.is_u64()).then_some("integer,string");
    }
    let wanted = schema.get("type").and_then(Value::as_str).filter(|wanted| !wanted.is_empty())?;
    let found = type_name(value);
    let whole = value.as_f64().is_some_and(|number| number.fract() == 0.0);
    let fits = found == wanted || (wanted == "number" && found == "integer") || (wanted == "integer" && whole);
    (!fits).then_some(wanted)
}

fn text_rules(schema: &Value, text: &str, path: &str, causes: &mut Vec<Cause>) {
    let limit = |name: &str| schema.get(name).and_then(Value::as_u64);
    let length = text.chars().count() as u64;
    if let Some(most) = limit("maxLength").filter(|most| length > *most) {
        causes.push(Cause::new(path, format!("Too long: may not be more than {most} bytes")));
    }
    if let Some(least) = limit("minLength").filter(|least| length < *least) {
        let detail = format!("Invalid value: \"{text}\": {path} in body should be at least {least} chars long");
        causes.push(Cause::new(path, detail));
    }
    let pattern = schema.get("pattern").and_then(Value::as_str);
    if let Some(pattern) = pattern.filter(|pattern| compiled(pattern).is_some_and(|regex| !regex.is_match(text))) {
        causes.push(Cause::new(path, format!("Invalid value: \"{text}\": {path} in body should match '{pattern}'")));
    }
    let is_time = schema.get("format").and_then(Value::as_str) == Some("date-time");
    if is_time && text.parse::<jiff::Timestamp>().is_err() {
        let detail = format!("Invalid value: \"{text}\": {path} in body must be of type date-time: \"{text}\"");
        causes.push(Cause::new(path, detail));
    }
}

fn number_rules(schema: &Value, number: &serde_json::Number, path: &str, causes: &mut Vec<Cause>) {
    let Some(found) = number.as_f64() else {
        return;
    };
    let mut rule = |name: &str, exclusive: &str, words: &str, breaks: fn(f64, f64) -> bool| {
        let Some(limit) = schema.get(name) else {
            return;
        };
        let bound = limit.as_f64().unwrap_or_default();
        let is_exclusive = has(schema, exclusive);
        if breaks(found, bound) || (is_exclusive && (found - bound).abs() < f64::EPSILON) {
            let or_equal = if is_exclusive { "" } else { " or equal to" };
            let limit = if bound.fract() == 0.0 { format!("{bound:.0}") } else { limit.to_string() };
            let detail = format!("Invalid value: {number}: {path} in body should be {words} than{or_equal} {limit}");
            causes.push(Cause::new(path, detail));
        }
    };
    rule("minimum", "exclusiveMinimum", "greater", |found, bound| found < bound);
    rule("maximum", "exclusiveMaximum", "less", |found, bound| found > bound);
}

fn list_rules(schema: &Value, items: &[Value], path: &str, causes: &mut Vec<Cause>) {
    let limit = |name: &str| schema.get(name).and_then(Value::as_u64);
    let count = items.len() as u64;
    if let Some(most) = limit("maxItems").filter(|most| count > *most) {
        causes.push(Cause::new(path, format!("Too many: {count}: must have at most {most} items")));
    }
    if let Some(least) = limit("minItems").filter(|least| count < *least) {
        let detail = format!("Invalid value: {count}: {path} in body should have at least {least} items");
        causes.push(Cause::new(path, detail));
    }
    if let Some(below) = schema.get("items") {
        for (index, item) in items.iter().enumerate() {
            validate_at(below, item, &format!("{path}[{index}]"), false, causes);
        }
    }
    let identity = |item: &Value| match schema.get("x-kubernetes-list-type").and_then(Value::as_str) {
        Some("set") => Some(item.clone()),
        Some("map") => {
            let keys = schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array)?;
            let keys = keys.iter().filter_map(Value::as_str);
            Some(Value::Object(
                keys.filter_map(|key| Some((key.to_owned(), item.get(key)?.clone()))).collect::<Map<_, _>>(),
            ))
        }
        _ => None,
    };
    let identities: Vec<Value> = items.iter().filter_map(identity).collect();
    for (index, found) in identities.iter().enumerate() {
        if identities.iter().take(index).any(|earlier| earlier == found) {
            causes.push(Cause::new(format!("{path}[{index}]"), format!("Duplicate value: {found}")));
        }
    }
}

fn map_rules(schema: &Value, fields: &Map<String, Value>, path: &str, is_root: bool, causes: &mut Vec<Cause>) {
    let dot = if path.is_empty() { "" } else { "." };
    let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
    for name in required.filter_map(Value::as_str) {
        if !fields.contains_key(name) && !is_type_meta(schema, is_root, name) {
            causes.push(Cause::new(format!("{path}{dot}{name}"), "Required value"));
        }
    }
    let limit = |name: &str| schema.get(name).and_then(Value::as_u64);
    let count = fields.len() as u64;
    if let Some(most) = limit("maxProperties").filter(|most| count > *most) {
        causes.push(Cause::new(path, format!("Too many: {count}: must have at most {most} items")));
    }
    if let Some(least) = limit("minProperties").filter(|least| count < *least) {
        let detail = format!("Invalid value: {count}: {path} in body should have at least {least} properties");
        causes.push(Cause::new(path, detail));
    }
    for (name, value) in fields {
        if is_type_meta(schema, is_root, name) {
            continue;
        }
        if let Some(below) = property(schema, name) {
            validate_at(below, value, &format!("{path}{dot}{name}"), false, causes);
        }
    }
}
