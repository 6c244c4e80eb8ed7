//! A case against a real API server.

use interlock_tests::{Api, collection_of, path_of};
use serde_json::{Value, json};

use super::request::{Request, Verb, delete_options, stays};

/// The answer, a `Status` if it is a refusal.
pub fn ask(api: &Api, request: &Request) -> Value {
    let object = &request.object.real;
    let collection = collection_of(object);
    let mut path = if matches!(request.verb, Verb::Create | Verb::List) { collection } else { path_of(object) };
    path += &request.subresource.map(|name| format!("/{name}")).unwrap_or_default();
    let manager = format!("fieldManager={}", request.manager);
    let dry = if request.is_dry { "&dryRun=All" } else { "" };
    let strict = format!("{manager}{dry}&fieldValidation=Strict");
    let json = "application/json";
    let (method, query, content, body) = match request.verb {
        Verb::Get => ("GET", String::new(), json, None),
        Verb::List => ("GET", selectors(request), json, None),
        Verb::Create => ("POST", strict, json, Some(object.clone())),
        Verb::Replace => ("PUT", strict, json, Some(object.clone())),
        Verb::Merge => ("PATCH", strict, "application/merge-patch+json", Some(request.patch.real.clone())),
        Verb::Apply => {
            let query = format!("{manager}{dry}&force={}", request.is_forced);
            ("PATCH", query, "application/apply-patch+yaml", Some(object.clone()))
        }
        Verb::Delete => {
            let options = delete_options(request);
            ("DELETE", String::new(), json, Some(options))
        }
    };
    let (_, answer) = api.raw(method, &format!("{path}?{query}"), content, body.as_ref()).unwrap();
    let answer = answer.object;
    // Where a deletion is done at once, the server says so instead of showing what is gone.
    let is_done = answer["kind"] == "Status" && answer["status"] == "Success";
    // Of some kinds it does show it.
    let is_gone = request.verb == Verb::Delete && answer["kind"] != "Status" && !stays(&answer);
    if is_done || is_gone { Value::Null } else { answer }
}

fn selectors(request: &Request) -> String {
    format!("labelSelector={}&fieldSelector={}", escaped(request.labels), escaped(request.fields))
}

fn escaped(text: &str) -> String {
    text.bytes()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

/// The events of a kind in a namespace after a version, or with the objects that exist if there is none, up to the one
/// for which `is_last`.
pub fn watch(api: &Api, object: &Value, version: &Value, labels: &str, is_last: impl Fn(&Value) -> bool) -> Value {
    let since = version.as_str().map_or_else(
        || "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true".to_owned(),
        |version| format!("resourceVersion={version}"),
    );
    let path = format!("{}?watch=true&{since}&labelSelector={}", collection_of(object), escaped(labels));
    match api.watch(&path, is_last) {
        Ok(events) => match events.as_slice() {
            [only] if only["type"] == "ERROR" => only["object"].clone(),
            _ => json!(events),
        },
        Err(refusal) => {
            json!({"kind": "Status", "code": refusal.code, "reason": refusal.reason, "message": refusal.message})
        }
    }
}
