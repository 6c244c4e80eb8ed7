//! What a schema finds wrong with a value.

use serde_json::{Map, Value};

use super::super::error::Cause;
use super::super::fields::shown;
use super::super::kinds::{Typ, item_step};
use super::{counterpart, formats, has, is_type_meta, logic, property, texts::compiled};

/// What the schema finds wrong.
pub(in crate::api) fn validate(schema: &Value, value: &Value, old: Option<&Value>) -> Vec<Cause> {
    let mut causes = Vec::new();
    validate_at(schema, value, old, ("", true), &mut causes);
    causes
}

/// What was there before, unchanged, is not judged again.
pub(super) fn validate_at(
    schema: &Value,
    value: &Value,
    old: Option<&Value>,
    (path, is_root): (&str, bool),
    causes: &mut Vec<Cause>,
) {
    if old == Some(value) && !is_root {
        return;
    }
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
        // A fraction is a number all the same.
        if !(wanted == "integer" && value.is_number()) {
            return;
        }
        let detail =
            format!("Invalid value: \"\": Checked value must be of type integer (default format) in {shown_path}");
        causes.push(Cause::new("<nil>", detail));
    }
    logic::check(schema, value, path, causes);
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
        Value::Array(items) => list_rules(schema, items, old, path, causes),
        Value::Object(fields) => map_rules(schema, fields, old, (path, is_root), causes),
        _ => {}
    }
}

pub(super) fn type_name(value: &Value) -> &'static str {
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
        return;
    }
    if let Some(least) = limit("minLength").filter(|least| length < *least) {
        let detail = format!("Invalid value: \"{text}\": {path} in body should be at least {least} chars long");
        causes.push(Cause::new(path, detail));
        return;
    }
    let pattern = schema.get("pattern").and_then(Value::as_str);
    if let Some(pattern) = pattern.filter(|pattern| compiled(pattern).is_some_and(|regex| !regex.is_match(text))) {
        causes.push(Cause::new(path, format!("Invalid value: \"{text}\": {path} in body should match '{pattern}'")));
    }
    let format = schema.get("format").and_then(Value::as_str).filter(|format| !formats::fits(format, text));
    if let Some(format) = format {
        let detail = format!("Invalid value: \"{text}\": {path} in body must be of type {format}: \"{text}\"");
        causes.push(Cause::new(path, detail));
    }
}

fn number_rules(schema: &Value, number: &serde_json::Number, path: &str, causes: &mut Vec<Cause>) {
    let Some(found) = number.as_f64() else {
        return;
    };
    let format = schema.get("format").and_then(Value::as_str).unwrap_or_default();
    if number.as_i64().is_some_and(|number| !formats::holds(format, number)) {
        let detail =
            format!("Invalid value: \"\": Checked value must be of type integer with format {format} in {path}");
        causes.push(Cause::new("<nil>", detail));
    }
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
    let step = schema.get("multipleOf").and_then(Value::as_f64).filter(|step| (found / step).fract() != 0.0);
    if let Some(step) = step {
        let detail = format!("Invalid value: {number}: {path} in body should be a multiple of {step}");
        causes.push(Cause::new(path, detail));
    }
}

fn list_rules(schema: &Value, items: &[Value], old: Option<&Value>, path: &str, causes: &mut Vec<Cause>) {
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
            let before = old.and_then(|old| counterpart(schema, old, item));
            validate_at(below, item, before, (&format!("{path}[{index}]"), false), causes);
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
        // Each is told once.
        if identities.iter().take(index).filter(|earlier| *earlier == found).count() == 1 {
            causes.push(Cause::new(format!("{path}[{index}]"), format!("Duplicate value: {found}")));
        }
    }
}

fn map_rules(
    schema: &Value,
    fields: &Map<String, Value>,
    old: Option<&Value>,
    (path, is_root): (&str, bool),
    causes: &mut Vec<Cause>,
) {
    let dot = if path.is_empty() { "" } else { "." };
    let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
    for name in required.filter_map(Value::as_str) {
        if !fields.contains_key(name) && !is_type_meta(schema, is_root, name) {
            causes.push(Cause::new(format!("{path}{dot}{name}"), "Required value"));
        }
    }
    if has(schema, "x-kubernetes-embedded-resource") {
        for name in ["apiVersion", "kind"].into_iter().filter(|name| !fields.contains_key(*name)) {
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
            let before = old.and_then(|old| old.get(name));
            validate_at(below, value, before, (&format!("{path}{dot}{name}"), false), causes);
        }
    }
}

/// Why an apply configuration cannot be read as what its schema says, if so.
pub(in crate::api) fn mistyped(schema: &Value, value: &Value, path: &str) -> Option<String> {
    let wanted = schema.get("type").and_then(Value::as_str).unwrap_or_default();
    match (wanted, value) {
        (_, Value::Null) => None,
        ("object", Value::Object(fields)) => fields.iter().find_map(|(name, value)| {
            property(schema, name).and_then(|below| mistyped(below, value, &format!("{path}.{name}")))
        }),
        ("array", Value::Array(items)) => {
            let below = schema.get("items")?;
            let relation = Typ::Schema(schema).relation(value);
            items.iter().enumerate().find_map(|(index, item)| {
                let step = item_step(&relation, item).map_or_else(|| format!("[{index}]"), |step| shown(&step));
                mistyped(below, item, &format!("{path}{step}"))
            })
        }
        ("object", other) => Some(format!("{path}: expected map, got &{{{}}}", plain(other))),
        ("array", other) => Some(format!("{path}: expected list, got &{{{}}}", plain(other))),
        ("string", other) if !other.is_string() => {
            Some(format!("{path}: expected string, got &value.valueUnstructured{{Value:{other}}}"))
        }
        ("boolean", other) if !other.is_boolean() => {
            Some(format!("{path}: expected boolean, got &{{{}}}", plain(other)))
        }
        ("integer" | "number", other) if !other.is_number() => {
            let name = match other {
                Value::Bool(_) => "bool",
                Value::String(_) => "string",
                Value::Array(_) => "[]interface {}",
                _ => "map[string]interface {}",
            };
            Some(format!("{path}: expected numeric (int or float), got {name}"))
        }
        _ => None,
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned)
}
