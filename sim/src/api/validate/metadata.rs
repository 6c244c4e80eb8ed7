//! Names, labels, annotations, finalizers and owners.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

use super::super::error::Cause;
use super::super::meta;
use super::super::registry::KindInfo;

const LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const SUBDOMAIN: &str = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const QUALIFIED: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const LABEL_VALUE: &str = "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?";
const MOST_OF_ANNOTATIONS: usize = 256 * 1024;

type Pattern = LazyLock<Option<Regex>>;

static IS_LABEL: Pattern = LazyLock::new(|| Regex::new(&format!("^{LABEL}$")).ok());
static IS_SUBDOMAIN: Pattern = LazyLock::new(|| Regex::new(&format!("^{SUBDOMAIN}$")).ok());
static IS_QUALIFIED: Pattern = LazyLock::new(|| Regex::new(&format!("^{QUALIFIED}$")).ok());
static IS_LABEL_VALUE: Pattern = LazyLock::new(|| Regex::new(&format!("^{LABEL_VALUE}$")).ok());

fn matches(pattern: &'static Pattern, text: &str) -> bool {
    pattern.as_ref().is_none_or(|regex| regex.is_match(text))
}

fn invalid(field: &str, value: &str, why: impl std::fmt::Display) -> Cause {
    Cause::new(field, format!("Invalid value: \"{value}\": {why}"))
}

/// Names of a new object.
pub(super) fn names(info: &KindInfo, new: &Value, causes: &mut Vec<Cause>) {
    if let Some(prefix) = meta::text(new, "generateName") {
        // What follows is generated, so a dash may stand at the end.
        let beginning = prefix.strip_suffix('-').map_or_else(|| prefix.to_owned(), |start| format!("{start}a"));
        name(info, "metadata.generateName", prefix, &beginning, causes);
    }
    match meta::name(new) {
        "" => causes.push(Cause::new("metadata.name", "Required value: name or generateName is required")),
        given => name(info, "metadata.name", given, given, causes),
    }
}

fn name(info: &KindInfo, field: &str, shown: &str, name: &str, causes: &mut Vec<Cause>) {
    if info.group == "rbac.authorization.k8s.io" {
        if [".", ".."].contains(&name) {
            causes.push(invalid(field, shown, format_args!("may not be '{name}'")));
        }
        for forbidden in ['/', '%'].into_iter().filter(|forbidden| name.contains(*forbidden)) {
            causes.push(invalid(field, shown, format_args!("may not contain '{forbidden}'")));
        }
        return;
    }
    let is_label = info.group.is_empty() && ["Namespace", "Service"].contains(&info.kind.as_str());
    let most = if is_label { 63 } else { 253 };
    if name.len() > most {
        causes.push(invalid(field, shown, format_args!("must be no more than {most} characters")));
    }
    if is_label && name.contains('.') && matches(&IS_SUBDOMAIN, name) {
        causes.push(invalid(field, shown, "must not contain dots"));
    } else if is_label && !matches(&IS_LABEL, name) {
        causes.push(invalid(field, shown, label_rule()));
    } else if !is_label && !matches(&IS_SUBDOMAIN, name) {
        causes.push(invalid(field, shown, subdomain_rule()));
    }
}

/// A name that is one label, such as that of a container.
pub(super) fn label_name(causes: &mut Vec<Cause>, field: &str, name: &str) {
    if name.len() > 63 {
        causes.push(invalid(field, name, "must be no more than 63 characters"));
    }
    if !matches(&IS_LABEL, name) {
        causes.push(invalid(field, name, label_rule()));
    }
}

/// A name like that of most objects.
pub(super) fn subdomain_name(causes: &mut Vec<Cause>, field: &str, name: &str) {
    if name.is_empty() {
        causes.push(Cause::new(field, "Required value"));
    } else if !matches(&IS_SUBDOMAIN, name) {
        causes.push(invalid(field, name, subdomain_rule()));
    }
}

fn label_rule() -> String {
    format!(
        "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end \
         with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '{LABEL}')"
    )
}

fn subdomain_rule() -> String {
    format!(
        "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start \
         and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '{SUBDOMAIN}')"
    )
}

/// What is wrong with a name like `example.com/MyName`.
fn qualified(name: &str) -> Vec<String> {
    let rule = format!(
        "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric \
         character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '{QUALIFIED}')"
    );
    let mut wrong = Vec::new();
    let name = match name.split('/').collect::<Vec<_>>().as_slice() {
        [name] => *name,
        [prefix, name] => {
            if prefix.is_empty() {
                wrong.push("prefix part must be non-empty".to_owned());
            } else {
                if prefix.len() > 253 {
                    wrong.push("prefix part must be no more than 253 bytes".to_owned());
                }
                if !matches(&IS_SUBDOMAIN, prefix) {
                    wrong.push(format!("prefix part {}", subdomain_rule()));
                }
            }
            *name
        }
        _ => {
            let optional = "with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')";
            return vec![format!("a valid label key {rule} {optional}")];
        }
    };
    if name.is_empty() {
        wrong.push("name part must be non-empty".to_owned());
    } else if name.len() > 63 {
        wrong.push("name part must be no more than 63 bytes".to_owned());
    }
    if !matches(&IS_QUALIFIED, name) {
        wrong.push(format!("name part {rule}"));
    }
    wrong
}

/// The parts of metadata that may be written at any time.
pub(super) fn check(info: &KindInfo, object: &Value, causes: &mut Vec<Cause>) {
    labels(object.pointer("/metadata/labels"), "metadata.labels", causes);
    annotations(object, causes);
    owners(object, causes);
    for (index, name) in meta::finalizers(object).iter().enumerate() {
        let wrong = qualified(name);
        let is_short = wrong.is_empty() && !name.contains('/') && !STANDARD.contains(&name.as_str());
        causes.extend(wrong.iter().map(|why| invalid("metadata.finalizers", name, why)));
        if is_short && !info.is_custom() {
            let why = "name is neither a standard finalizer name nor is it fully qualified";
            causes.push(invalid(&format!("metadata.finalizers[{index}]"), name, why));
        }
    }
}

/// Finalizers without a domain.
const STANDARD: [&str; 3] = ["kubernetes", "orphan", "foregroundDeletion"];

/// Keys and values of labels at any place.
pub(super) fn labels(labels: Option<&Value>, field: &str, causes: &mut Vec<Cause>) {
    for (key, value) in labels.and_then(Value::as_object).into_iter().flatten() {
        causes.extend(qualified(key).iter().map(|why| invalid(field, key, why)));
        let value = value.as_str().unwrap_or_default();
        if value.len() > 63 {
            causes.push(invalid(field, value, "must be no more than 63 bytes"));
        }
        if !matches(&IS_LABEL_VALUE, value) {
            causes.push(invalid(
                field,
                value,
                format_args!(
                    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and \
                     must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', \
                     regex used for validation is '{LABEL_VALUE}')"
                ),
            ));
        }
    }
}

fn annotations(object: &Value, causes: &mut Vec<Cause>) {
    const FIELD: &str = "metadata.annotations";
    let mut size = 0;
    for (key, value) in object.pointer("/metadata/annotations").and_then(Value::as_object).into_iter().flatten() {
        causes.extend(qualified(&key.to_lowercase()).iter().map(|why| invalid(FIELD, key, why)));
        size += key.len() + value.as_str().map_or(0, str::len);
    }
    if size > MOST_OF_ANNOTATIONS {
        causes.push(Cause::new(FIELD, format!("Too long: may not be more than {MOST_OF_ANNOTATIONS} bytes")));
    }
}

fn owners(object: &Value, causes: &mut Vec<Cause>) {
    const FIELD: &str = "metadata.ownerReferences";
    let listed = object.pointer("/metadata/ownerReferences").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let text = |owner: &Value, name: &str| owner.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    for (index, owner) in listed.iter().enumerate() {
        let place = format!("{FIELD}[{index}]");
        for name in ["apiVersion", "kind", "name", "uid"] {
            if text(owner, name).is_empty() {
                causes.push(Cause::new(format!("{place}.{name}"), "Required value: must not be empty"));
            }
        }
        if text(owner, "apiVersion") == "v1" && text(owner, "kind") == "Event" {
            let why = "/v1, Kind=Event is disallowed from being an owner";
            causes.push(Cause::new(place, format!("Invalid value: {}: {why}", shown(owner))));
        }
    }
    let controls = |owner: &&Value| owner.get("controller").and_then(Value::as_bool) == Some(true);
    if let [first, second, ..] = listed.iter().filter(controls).collect::<Vec<_>>().as_slice() {
        let named = |owner: &Value| format!("{}/{}", text(owner, "kind"), text(owner, "name"));
        let detail = format!(
            "Invalid value: [{}]: Only one reference can have Controller set to true. Found \"true\" in references for \
             {} and {}",
            listed.iter().map(shown).collect::<Vec<_>>().join(","),
            named(first),
            named(second)
        );
        causes.push(Cause::new(FIELD, detail));
    }
}

/// A reference in the order of the server's own type.
fn shown(owner: &Value) -> String {
    let fields = ["apiVersion", "kind", "name", "uid", "controller", "blockOwnerDeletion"];
    let parts = fields.iter().filter_map(|name| Some(format!("\"{name}\":{}", owner.get(*name)?)));
    format!("{{{}}}", parts.collect::<Vec<_>>().join(","))
}
