//! What stores: ConfigMaps and Secrets, claims, quotas.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Value, json};

use super::super::error::Cause;
use super::super::registry::KindInfo;
use super::check::{Causes, invalid, list, required, text, unsupported};
use super::containers::is_negative;

/// What the values of a ConfigMap or a Secret may hold together.
const MOST_OF_DATA: usize = 1024 * 1024;

static IS_KEY: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new("^[-._a-zA-Z0-9]+$").ok());

/// The keys of a ConfigMap or a Secret, and how much they hold.
pub(super) fn data(causes: &mut Causes, info: &KindInfo, object: &Value) {
    let of = |field: &str| object.get(field).and_then(Value::as_object).into_iter().flatten();
    let mut size = 0;
    for (field, other) in [("data", "binaryData"), ("binaryData", "data")] {
        for (key, value) in of(field) {
            let mut say = |why: &str| invalid(causes, format!("{field}[{key}]"), &json!(key), why);
            if key.len() > 253 {
                say("must be no more than 253 characters");
            }
            if IS_KEY.as_ref().is_some_and(|regex| !regex.is_match(key)) {
                say(
                    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or \
                     'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')",
                );
            }
            match key.as_str() {
                "." => say("must not be '.'"),
                ".." => say("must not be '..'"),
                dotted if dotted.starts_with("..") => say("must not start with '..'"),
                _ => {}
            }
            if field == "data" && of(other).any(|(name, _)| name == key) {
                say(&format!("duplicate of key present in {other}"));
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
    if info.is("", "Secret") {
        typed(causes, object);
    }
}

/// The keys that a type of Secret needs.
fn typed(causes: &mut Causes, secret: &Value) {
    let keys: &[&str] = match text(secret, "type") {
        "kubernetes.io/tls" => &["tls.crt", "tls.key"],
        "kubernetes.io/ssh-auth" => &["ssh-privatekey"],
        "kubernetes.io/dockerconfigjson" => &[".dockerconfigjson"],
        "kubernetes.io/basic-auth" => {
            let has = |key: &str| secret.pointer(&format!("/data/{key}")).is_some();
            if has("username") || has("password") { &[] } else { &["password", "username"] }
        }
        "kubernetes.io/service-account-token" => {
            let name = "kubernetes.io/service-account.name";
            let annotations = secret.pointer("/metadata/annotations");
            if annotations.is_none_or(|annotations| text(annotations, name).is_empty()) {
                required(causes, format!("metadata.annotations[{name}]"));
            }
            &[]
        }
        _ => &[],
    };
    for key in keys.iter().filter(|key| secret.get("data").is_none_or(|data| data.get(*key).is_none())) {
        required(causes, format!("data[{key}]"));
    }
}

/// A PersistentVolumeClaim.
pub(super) fn claim(causes: &mut Causes, object: &Value) {
    let none = Value::Null;
    let spec = object.get("spec").unwrap_or(&none);
    let modes = list(spec, "accessModes");
    if modes.is_empty() {
        causes.push(Cause::new("spec.accessModes", "Required value: at least 1 access mode is required"));
    }
    let allowed = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
    for mode in modes.iter().filter_map(Value::as_str).filter(|mode| !allowed.contains(mode)) {
        unsupported(causes, "spec.accessModes", mode, &allowed);
    }
    match spec.pointer("/resources/requests/storage") {
        None => required(causes, "spec.resources[storage]"),
        Some(size) if size == "0" || is_negative(size) => {
            invalid(causes, "spec.resources[storage]", size, "must be greater than zero");
        }
        Some(_) => {}
    }
}

/// A ResourceQuota.
pub(super) fn quota(causes: &mut Causes, object: &Value) {
    let hard = object.pointer("/spec/hard").and_then(Value::as_object).into_iter().flatten();
    for (name, amount) in hard.filter(|(_, amount)| is_negative(amount)) {
        invalid(causes, format!("spec.hard[{name}]"), amount, "must be greater than or equal to 0");
    }
}
