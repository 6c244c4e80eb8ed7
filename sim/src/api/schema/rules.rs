//! The rules of a definition (`x-kubernetes-validations`).

use serde_json::Value;

use super::super::error::Cause;
use super::validate::type_name;
use super::{counterpart, has, is_type_meta, property};
use crate::cel::{Rule, Scope, Val};

const RULES: &str = "x-kubernetes-validations";

/// Whether a schema has rules at any place.
pub(in crate::api) fn has_rules(schema: &Value) -> bool {
    match schema {
        Value::Object(fields) => fields.contains_key(RULES) || fields.values().any(has_rules),
        Value::Array(items) => items.iter().any(has_rules),
        _ => false,
    }
}

/// What the rules of a schema refuse. What was there before, unchanged, is not judged again.
pub(in crate::api) fn refused(schema: &Value, value: &Value, old: Option<&Value>) -> Vec<Cause> {
    let mut causes = Vec::new();
    walk(schema, value, old, "", true, &mut causes);
    causes
}

fn walk(schema: &Value, value: &Value, old: Option<&Value>, path: &str, is_root: bool, causes: &mut Vec<Cause>) {
    if value.is_null() {
        return;
    }
    let rules = schema.get(RULES).and_then(Value::as_array).into_iter().flatten();
    causes.extend(rules.filter_map(|rule| judge(rule, schema, value, old, path)));
    match value {
        Value::Object(fields) => {
            let dot = if path.is_empty() { "" } else { "." };
            for (name, value) in fields {
                if is_type_meta(schema, is_root, name) {
                    continue;
                }
                if let Some(below) = property(schema, name) {
                    // Values of a map are named in brackets.
                    let is_named = schema.get("properties").is_some_and(|known| known.get(name).is_some());
                    let place = if is_named { format!("{path}{dot}{name}") } else { format!("{path}[{name}]") };
                    walk(below, value, old.and_then(|old| old.get(name)), &place, false, causes);
                }
            }
        }
        Value::Array(items) => {
            let Some(below) = schema.get("items") else {
                return;
            };
            let is_same = old == Some(value);
            for (index, item) in items.iter().enumerate() {
                let before = old.and_then(|old| if is_same { old.get(index) } else { counterpart(schema, old, item) });
                walk(below, item, before, &format!("{path}[{index}]"), false, causes);
            }
        }
        _ => {}
    }
}

fn judge(rule: &Value, schema: &Value, value: &Value, old: Option<&Value>, path: &str) -> Option<Cause> {
    let text = |name: &str| rule.get(name).and_then(Value::as_str).unwrap_or_default();
    let read = Rule::read(text("rule"));
    let is_optional = has(rule, "optionalOldSelf");
    if read.is_transition && old.is_none() && !is_optional {
        return None;
    }
    if !read.is_transition && old == Some(value) {
        return None;
    }
    let before = old.map(|old| Val::of(old, Some(schema)));
    let before = if is_optional { Some(Val::Optional(before.map(Box::new))) } else { before };
    let scope = || {
        let scope = Scope::default().with("self", Val::of(value, Some(schema)));
        if let Some(before) = before.clone() { scope.with("oldSelf", before) } else { scope }
    };
    let why = match read.evaluate(scope()) {
        Ok(Val::Bool(true)) => return None,
        Ok(Val::Bool(false)) => {
            let told = Rule::read(text("messageExpression"));
            let told = if text("messageExpression").is_empty() { None } else { told.evaluate(scope()).ok() };
            match told {
                Some(Val::Text(told)) if !told.trim().is_empty() => told.into_owned(),
                _ if !text("message").is_empty() => text("message").to_owned(),
                _ => format!("failed rule: {}", text("rule").trim()),
            }
        }
        Ok(other) => {
            format!("the rule must come to true or false, not to {}: {}", other.type_name(), text("rule").trim())
        }
        Err(why) => {
            let rule = if text("message").is_empty() { text("rule").trim() } else { text("message") };
            let (field, shown) = (if path.is_empty() { "<nil>" } else { path }, type_name(value));
            return Some(Cause::new(field, format!("Invalid value: \"{shown}\": {why} evaluating rule: {rule}")));
        }
    };
    let place = format!("{path}{}", text("fieldPath"));
    let place = place.trim_start_matches('.');
    let shown = match value {
        Value::Object(_) | Value::Array(_) => String::new(),
        scalar => format!("{scalar}: "),
    };
    Some(Cause::new(
        if place.is_empty() { "<nil>" } else { place },
        match text("reason") {
            "FieldValueForbidden" => format!("Forbidden: {why}"),
            "FieldValueRequired" => format!("Required value: {why}"),
            "FieldValueDuplicate" => format!("Duplicate value: {shown}{why}"),
            _ => format!("Invalid value: {shown}{why}"),
        },
    ))
}
