//! Conditions of a status.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::read;

/// What a condition says now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Condition<'a> {
    pub kind: &'a str,
    pub status: &'a str,
    pub reason: &'a str,
    pub message: &'a str,
}

/// `True` or `False`.
pub(super) const fn truth(is: bool) -> &'static str {
    if is { "True" } else { "False" }
}

/// The condition of a type.
pub(super) fn find<'a>(conditions: &'a [Value], kind: &str) -> Option<&'a Value> {
    conditions.iter().find(|condition| read::text(condition, "/type") == kind)
}

/// Whether the object's condition of a type is true.
pub(super) fn is_true(object: &Value, kind: &str) -> bool {
    find(read::list(object, "/status/conditions"), kind).is_some_and(|found| read::text(found, "/status") == "True")
}

/// Writes a condition. The transition time moves when the status does; `extra` fields are added as they are.
pub(super) fn put(conditions: &mut Vec<Value>, condition: &Condition<'_>, extra: Value, now: Timestamp) {
    let old = find(conditions, condition.kind);
    let kept = old.filter(|old| read::text(old, "/status") == condition.status);
    let since = kept.and_then(|old| old.get("lastTransitionTime")).cloned().unwrap_or_else(|| json!(read::shown(now)));
    let mut fields = Map::new();
    let mut set = |name: &str, value: Value| fields.insert(name.to_owned(), value);
    set("type", json!(condition.kind));
    set("status", json!(condition.status));
    set("lastTransitionTime", since);
    if !condition.reason.is_empty() {
        set("reason", json!(condition.reason));
    }
    if !condition.message.is_empty() {
        set("message", json!(condition.message));
    }
    if let Value::Object(extra) = extra {
        fields.extend(extra);
    }
    let new = Value::Object(fields);
    match conditions.iter_mut().find(|old| read::text(old, "/type") == condition.kind) {
        Some(old) => *old = new,
        None => conditions.push(new),
    }
}

/// Writes a condition that also tells when it was last looked at (`lastUpdateTime`), which moves when the condition says
/// something else, or when `touch` asks for it.
pub(super) fn put_dated(conditions: &mut Vec<Value>, condition: &Condition<'_>, touch: bool, now: Timestamp) {
    let same = find(conditions, condition.kind)
        .filter(|old| read::text(old, "/status") == condition.status && read::text(old, "/reason") == condition.reason);
    if same.is_some() && !touch {
        return;
    }
    put(conditions, condition, json!({"lastUpdateTime": read::shown(now)}), now);
}

/// Takes a condition away.
pub(super) fn remove(conditions: &mut Vec<Value>, kind: &str) {
    conditions.retain(|condition| read::text(condition, "/type") != kind);
}
