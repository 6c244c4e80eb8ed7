//! What a stored object must be like: names, required fields, what may not change. Of built-in kinds only the usual
//! mistakes are noticed.

mod immutable;
mod metadata;
mod workloads;

use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

use super::error::{ApiError, Cause};
use super::registry::KindInfo;
use super::{meta, schema};

/// What the values of a ConfigMap or a Secret may hold together.
const MOST_OF_DATA: usize = 1024 * 1024;

/// Refuses a new object.
///
/// # Errors
/// 422.
pub(super) fn created(info: &KindInfo, new: &Value) -> Result<(), ApiError> {
    let mut causes = Vec::new();
    metadata::names(info, new, &mut causes);
    content(info, new, &mut causes);
    refuse(info, new, &causes)
}

/// Refuses an update.
///
/// # Errors
/// 422.
pub(super) fn updated(info: &KindInfo, old: &Value, new: &Value) -> Result<(), ApiError> {
    let mut causes = Vec::new();
    if meta::is_terminating(old) {
        let before = meta::finalizers(old);
        let added: Vec<String> = meta::finalizers(new).into_iter().filter(|name| !before.contains(name)).collect();
        if !added.is_empty() {
            let shown: Vec<String> = added.iter().map(|name| format!("\"{name}\"")).collect();
            let detail = format!(
                "Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers \
                 []string{{{}}}",
                shown.join(", ")
            );
            causes.push(Cause::new("metadata.finalizers", detail));
        }
    }
    if let Some(asked) = meta::text(new, "deletionTimestamp").filter(|_| !meta::is_terminating(old)) {
        let detail = format!("Invalid value: \"{asked}\": field is immutable");
        causes.push(Cause::new("metadata.deletionTimestamp", detail));
    }
    content(info, new, &mut causes);
    immutable::check(info, old, new, &mut causes);
    refuse(info, new, &causes)
}

fn refuse(info: &KindInfo, new: &Value, causes: &[Cause]) -> Result<(), ApiError> {
    if causes.is_empty() {
        return Ok(());
    }
    Err(ApiError::invalid(&info.group_kind(), meta::name(new), causes))
}

static IS_KEY: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new("^[-._a-zA-Z0-9]+$").ok());

fn content(info: &KindInfo, new: &Value, causes: &mut Vec<Cause>) {
    metadata::check(info, new, causes);
    if let Some(schema) = &info.schema {
        causes.extend(schema::validate(schema, new));
    } else {
        keys(info, new, causes);
        workloads::check(info, new, causes);
    }
}

/// The keys of a ConfigMap or a Secret, and how much they hold.
fn keys(info: &KindInfo, object: &Value, causes: &mut Vec<Cause>) {
    if !info.is("", "ConfigMap") && !info.is("", "Secret") {
        return;
    }
    let of = |field: &str| object.get(field).and_then(Value::as_object).into_iter().flatten();
    let mut size = 0;
    for (field, other) in [("data", "binaryData"), ("binaryData", "data")] {
        for (key, value) in of(field) {
            let invalid = |why: &str| Cause::new(format!("{field}[{key}]"), format!("Invalid value: \"{key}\": {why}"));
            if key.len() > 253 {
                causes.push(invalid("must be no more than 253 characters"));
            }
            if IS_KEY.as_ref().is_some_and(|regex| !regex.is_match(key)) {
                causes.push(invalid(
                    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or \
                     'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')",
                ));
            }
            match key.as_str() {
                "." => causes.push(invalid("must not be '.'")),
                ".." => causes.push(invalid("must not be '..'")),
                dotted if dotted.starts_with("..") => causes.push(invalid("must not start with '..'")),
                _ => {}
            }
            if field == "data" && of(other).any(|(name, _)| name == key) {
                causes.push(invalid(&format!("duplicate of key present in {other}")));
            }
            // What is written in base64 is smaller than it looks.
            let length = value.as_str().map_or(0, str::len);
            size += if field == "data" && info.is("", "ConfigMap") { length } else { length / 4 * 3 };
        }
    }
    if size > MOST_OF_DATA {
        let field = if info.is("", "Secret") { "data" } else { "[]" };
        causes.push(Cause::new(field, format!("Too long: may not be more than {MOST_OF_DATA} bytes")));
    }
}
