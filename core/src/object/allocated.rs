//! The table of values that the API server itself allocates, so that a dry run cannot foretell them.

use serde_json::Value;

use super::{
    id::GroupKind,
    path::{Path, PathPattern},
};

/// The directory in which every container finds the token of its ServiceAccount.
const TOKEN_MOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// One row: a place of a kind, and which values are such as the server allocates there, given the new object.
struct Row {
    group: &'static str,
    kind: &'static str,
    place: &'static str,
    is_allocated: fn(value: &Value, object: &Value) -> bool,
}

const ROWS: &[Row] = &[
    row("", "Service", "/spec/clusterIP", is_address),
    row("", "Service", "/spec/clusterIPs", is_address_list),
    row("", "Service", "/spec/ports/*/nodePort", is_port),
    row("", "Service", "/spec/healthCheckNodePort", is_port),
    row("", "Namespace", "/spec", is_namespace_spec),
    row("", "Namespace", "/metadata/labels/kubernetes.io~1metadata.name", is_own_name),
    row("", "ServiceAccount", "/secrets/*", is_own_token),
    row("", "Pod", "/spec/volumes/*", is_token_volume),
    row("", "Pod", "/spec/containers/*/volumeMounts/*", is_token_mount),
    row("", "Pod", "/spec/initContainers/*/volumeMounts/*", is_token_mount),
    row("batch", "Job", "/spec/selector", is_job_selector),
    row("batch", "Job", "/spec/template/metadata/labels/controller-uid", is_own_uid),
    row("batch", "Job", "/spec/template/metadata/labels/batch.kubernetes.io~1controller-uid", is_own_uid),
    row("batch", "Job", "/spec/template/metadata/labels/job-name", is_own_name),
    row("batch", "Job", "/spec/template/metadata/labels/batch.kubernetes.io~1job-name", is_own_name),
    // The API server gives a Job without labels the same map as its template.
    row("batch", "Job", "/metadata/labels/controller-uid", is_own_uid),
    row("batch", "Job", "/metadata/labels/batch.kubernetes.io~1controller-uid", is_own_uid),
    row("batch", "Job", "/metadata/labels/job-name", is_own_name),
    row("batch", "Job", "/metadata/labels/batch.kubernetes.io~1job-name", is_own_name),
];

const fn row(
    group: &'static str,
    kind: &'static str,
    place: &'static str,
    is_allocated: fn(&Value, &Value) -> bool,
) -> Row {
    Row { group, kind, place, is_allocated }
}

/// The rows for one kind, and the object that is written.
pub(super) struct Allocated<'a> {
    object: &'a Value,
    rows: Vec<(PathPattern, &'static Row)>,
}

impl<'a> Allocated<'a> {
    pub fn of(kind: &GroupKind, object: &'a Value) -> Self {
        let rows = ROWS.iter().filter(|row| kind.is(row.group, row.kind));
        // Every place is a valid pattern, as a test proves; an invalid one would permit nothing.
        let rows = rows.filter_map(|row| Some((row.place.parse().ok()?, row))).collect();
        Self { object, rows }
    }

    /// Whether the new value is the server's: nothing was there before, and both the new and the expected value are
    /// such as the server allocates, or absent.
    pub fn permits(&self, path: &Path, old: Option<&Value>, new: Option<&Value>, expected: Option<&Value>) -> bool {
        let allocated = |row: &Row, value: Option<&Value>, object: &Value| {
            value.is_none_or(|value| value.is_null() || (row.is_allocated)(value, object))
        };
        old.is_none_or(Value::is_null)
            && self.rows.iter().any(|(place, row)| {
                place.matches(path)
                    && allocated(row, new, self.object)
                    && (allocated(row, expected, self.object) || is_dry_run_of_uid(row, expected))
            })
    }
}

/// A dry run of a Job was given a uid of its own, which nobody can know any more.
fn is_dry_run_of_uid(row: &Row, expected: Option<&Value>) -> bool {
    let Some(expected) = expected else {
        return true;
    };
    match row.place {
        "/spec/selector" => selected_uid(expected).is_some(),
        place => place.ends_with("controller-uid") && expected.is_string(),
    }
}

fn is_address(value: &Value, _object: &Value) -> bool {
    value.as_str().is_some_and(|text| text.parse::<std::net::IpAddr>().is_ok())
}

fn is_address_list(value: &Value, object: &Value) -> bool {
    value.as_array().is_some_and(|items| items.iter().all(|item| is_address(item, object)))
}

fn is_port(value: &Value, _object: &Value) -> bool {
    value.as_u64().is_some_and(|port| (1..=65_535).contains(&port))
}

fn is_namespace_spec(value: &Value, _object: &Value) -> bool {
    *value == serde_json::json!({ "finalizers": ["kubernetes"] })
}

fn is_own_name(value: &Value, object: &Value) -> bool {
    value.is_string() && object.pointer("/metadata/name") == Some(value)
}

fn is_own_uid(value: &Value, object: &Value) -> bool {
    value.is_string() && object.pointer("/metadata/uid") == Some(value)
}

/// `{"name": "<account>-token-<random>"}`, as clusters before 1.24 add.
fn is_own_token(value: &Value, object: &Value) -> bool {
    let account = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    let only_name = value.as_object().is_some_and(|fields| fields.len() == 1);
    let name = value.get("name").and_then(Value::as_str).unwrap_or_default();
    let random = name.strip_prefix(account).and_then(|rest| rest.strip_prefix("-token-"));
    only_name && !account.is_empty() && random.is_some_and(is_random_suffix)
}

fn is_random_suffix(text: &str) -> bool {
    text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

fn is_token_name(value: Option<&Value>) -> bool {
    let random = value.and_then(Value::as_str).and_then(|name| name.strip_prefix("kube-api-access-"));
    random.is_some_and(is_random_suffix)
}

/// Exactly the projected volume that the ServiceAccount admission plugin makes: a token, the cluster's root
/// certificate and the namespace. A volume that only has the right name is not permitted.
fn is_token_volume(value: &Value, object: &Value) -> bool {
    if !mounts_token(object) {
        return false;
    }
    let mut content = value.clone();
    let Some(fields) = content.as_object_mut() else {
        return false;
    };
    let name = fields.remove("name");
    if let Some(token) = content.pointer_mut("/projected/sources/0/serviceAccountToken").and_then(Value::as_object_mut)
    {
        token.remove("expirationSeconds");
    }
    if let Some(projected) = content.get_mut("projected").and_then(Value::as_object_mut)
        && projected.get("defaultMode") == Some(&Value::from(0o644))
    {
        projected.remove("defaultMode");
    }
    let namespace = serde_json::json!({ "apiVersion": "v1", "fieldPath": "metadata.namespace" });
    let made = serde_json::json!({ "projected": { "sources": [
        { "serviceAccountToken": { "path": "token" } },
        { "configMap": { "name": "kube-root-ca.crt", "items": [{ "key": "ca.crt", "path": "ca.crt" }] } },
        { "downwardAPI": { "items": [{ "path": "namespace", "fieldRef": namespace }] } },
    ] } });
    is_token_name(name.as_ref()) && content == made
}

fn is_token_mount(value: &Value, object: &Value) -> bool {
    let made = serde_json::json!({ "name": value.get("name"), "readOnly": true, "mountPath": TOKEN_MOUNT });
    mounts_token(object) && is_token_name(value.get("name")) && *value == made
}

/// A pod that asks for no token gets none from the server.
fn mounts_token(pod: &Value) -> bool {
    pod.pointer("/spec/automountServiceAccountToken") != Some(&Value::Bool(false))
}

fn is_job_selector(value: &Value, object: &Value) -> bool {
    selected_uid(value).is_some_and(|uid| object.pointer("/metadata/uid") == Some(uid))
}

/// The uid of a selector that selects by a Job's uid and by nothing else.
fn selected_uid(selector: &Value) -> Option<&Value> {
    let only = |value: &Value| value.as_object().is_some_and(|fields| fields.len() == 1);
    let labels = selector.get("matchLabels").filter(|labels| only(labels) && only(selector))?;
    let uid = labels.get("batch.kubernetes.io/controller-uid").or_else(|| labels.get("controller-uid"))?;
    uid.is_string().then_some(uid)
}

#[cfg(test)]
mod tests {
    use super::{PathPattern, ROWS};

    #[test]
    fn every_place_is_a_valid_pattern() {
        for row in ROWS {
            assert!(row.place.parse::<PathPattern>().is_ok(), "{}", row.place);
        }
    }
}
