//! Short ways to say what is wrong with a field.

use serde_json::Value;

use super::super::error::Cause;

/// What was found wrong so far.
pub(super) type Causes = Vec<Cause>;

/// A text of an object, empty if it is none.
pub(super) fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// A list of an object, empty if it is none.
pub(super) fn list<'v>(value: &'v Value, name: &str) -> &'v [Value] {
    value.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// A whole number of an object.
pub(super) fn number(value: &Value, name: &str) -> Option<i64> {
    value.get(name).and_then(Value::as_i64)
}

pub(super) fn required(causes: &mut Causes, field: impl Into<String>) {
    causes.push(Cause::new(field, "Required value"));
}

pub(super) fn invalid(causes: &mut Causes, field: impl Into<String>, value: &Value, why: &str) {
    causes.push(Cause::new(field, format!("Invalid value: {value}: {why}")));
}

pub(super) fn duplicate(causes: &mut Causes, field: impl Into<String>, value: &Value) {
    causes.push(Cause::new(field, format!("Duplicate value: {value}")));
}

/// One of a few words; what is not there is not looked at.
pub(super) fn one_of(causes: &mut Causes, field: impl Into<String>, found: &str, allowed: &[&str]) {
    if !found.is_empty() && !allowed.contains(&found) {
        unsupported(causes, field, found, allowed);
    }
}

pub(super) fn unsupported(causes: &mut Causes, field: impl Into<String>, found: &str, allowed: &[&str]) {
    let shown: Vec<String> = allowed.iter().map(|word| format!("\"{word}\"")).collect();
    causes.push(Cause::new(field, format!("Unsupported value: \"{found}\": supported values: {}", shown.join(", "))));
}

/// Numbers of an object that are not below nought.
pub(super) fn not_negative(causes: &mut Causes, place: &str, value: &Value, names: &[&str]) {
    for name in names {
        if let Some(found) = number(value, name).filter(|found| *found < 0) {
            let dot = if place.is_empty() { "" } else { "." };
            let field = format!("{place}{dot}{name}");
            invalid(causes, field, &Value::from(found), "must be greater than or equal to 0");
        }
    }
}

/// A number of a port, if it is one.
pub(super) fn port(causes: &mut Causes, field: impl Into<String>, value: Option<&Value>) {
    if let Some(found) = value.and_then(Value::as_i64).filter(|found| !(1..=65535).contains(found)) {
        invalid(causes, field, &Value::from(found), "must be between 1 and 65535, inclusive");
    }
}

/// A number, or a share of what there is.
pub(super) fn count_or_share(causes: &mut Causes, field: &str, value: Option<&Value>) {
    let is_share = |text: &str| text.strip_suffix('%').is_some_and(|digits| digits.parse::<u32>().is_ok());
    match value {
        Some(Value::String(text)) if !is_share(text) => {
            let why = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or \
                       '93%', regex used for validation is '[0-9]+%')";
            invalid(causes, field, &Value::from(text.as_str()), why);
        }
        Some(found @ Value::Number(number)) if number.as_i64().is_some_and(|number| number < 0) => {
            invalid(causes, field, found, "must be greater than or equal to 0");
        }
        _ => {}
    }
}
