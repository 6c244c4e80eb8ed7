//! What a stored object must be like: names, required fields, what may not change. Of built-in kinds only the usual
//! mistakes are noticed.

mod immutable;
mod workloads;

use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

use super::error::{ApiError, Cause};
use super::registry::KindInfo;
use super::{meta, openapi};

const LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const SUBDOMAIN: &str = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";

/// Refuses a new object.
///
/// # Errors
/// 422.
pub(super) fn created(info: &KindInfo, new: &Value) -> Result<(), ApiError> {
    let mut causes = Vec::new();
    name(info, meta::name(new), &mut causes);
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

fn matches(pattern: &'static LazyLock<Option<Regex>>, text: &str) -> bool {
    pattern.as_ref().is_none_or(|regex| regex.is_match(text))
}

static IS_LABEL: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(&format!("^{LABEL}$")).ok());
static IS_SUBDOMAIN: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(&format!("^{SUBDOMAIN}$")).ok());
static IS_KEY: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new("^[-._a-zA-Z0-9]+$").ok());
static IS_LABEL_VALUE: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new("^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$").ok());

fn name(info: &KindInfo, name: &str, causes: &mut Vec<Cause>) {
    const FIELD: &str = "metadata.name";
    if name.is_empty() {
        causes.push(Cause::new(FIELD, "Required value: name or generateName is required"));
        return;
    }
    if info.group == "rbac.authorization.k8s.io" {
        if [".", ".."].contains(&name) || name.contains(['/', '%']) {
            causes.push(Cause::new(FIELD, format!("Invalid value: \"{name}\": may not contain '/'")));
        }
        return;
    }
    if ["Namespace", "Service"].contains(&info.kind.as_str()) && info.group.is_empty() {
        if name.len() > 63 {
            causes.push(Cause::new(FIELD, format!("Invalid value: \"{name}\": must be no more than 63 bytes")));
        }
        if !matches(&IS_LABEL, name) {
            let detail = format!(
                "Invalid value: \"{name}\": a lowercase RFC 1123 label must consist of lower case alphanumeric \
                 characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or \
                 '123-abc', regex used for validation is '{LABEL}')"
            );
            causes.push(Cause::new(FIELD, detail));
        }
        return;
    }
    if name.len() > 253 {
        causes.push(Cause::new(FIELD, format!("Invalid value: \"{name}\": must be no more than 253 bytes")));
    }
    if !matches(&IS_SUBDOMAIN, name) {
        let detail = format!(
            "Invalid value: \"{name}\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric \
             characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex \
             used for validation is '{SUBDOMAIN}')"
        );
        causes.push(Cause::new(FIELD, detail));
    }
}

fn content(info: &KindInfo, new: &Value, causes: &mut Vec<Cause>) {
    labels(new, "metadata.labels", causes);
    if let Some(schema) = &info.schema {
        causes.extend(openapi::validate(schema, new));
    } else {
        keys(info, new, causes);
        workloads::check(info, new, causes);
    }
}

/// The keys of a ConfigMap or a Secret.
fn keys(info: &KindInfo, object: &Value, causes: &mut Vec<Cause>) {
    if !info.is("", "ConfigMap") && !info.is("", "Secret") {
        return;
    }
    for field in ["data", "binaryData"] {
        let listed = object.get(field).and_then(Value::as_object).into_iter().flatten();
        for key in listed.map(|(key, _)| key).filter(|key| !matches(&IS_KEY, key)) {
            let detail = format!(
                "Invalid value: \"{key}\": a valid config key must consist of alphanumeric characters, '-', '_' or '.' \
                 (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
            );
            causes.push(Cause::new(format!("{field}[{key}]"), detail));
        }
    }
}

/// The values of labels.
fn labels(object: &Value, field: &str, causes: &mut Vec<Cause>) {
    let listed = object.pointer("/metadata/labels").and_then(Value::as_object).into_iter().flatten();
    for value in listed.filter_map(|(_, value)| value.as_str()) {
        if value.len() > 63 {
            causes.push(Cause::new(field, format!("Invalid value: \"{value}\": must be no more than 63 bytes")));
        }
        if !matches(&IS_LABEL_VALUE, value) {
            let detail = format!(
                "Invalid value: \"{value}\": a valid label must be an empty string or consist of alphanumeric \
                 characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  \
                 or 'my_value',  or '12345', regex used for validation is \
                 '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
            );
            causes.push(Cause::new(field, detail));
        }
    }
}
