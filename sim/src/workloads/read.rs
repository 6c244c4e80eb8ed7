//! Short ways into objects, read without trust in their shape.

use interlock_core::object::GroupKind;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::api::{Key, meta};

/// The text at a JSON pointer; empty if there is none.
pub(super) fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The number at a JSON pointer.
pub(super) fn number(object: &Value, pointer: &str) -> Option<i64> {
    object.pointer(pointer).and_then(Value::as_i64)
}

/// The count at a JSON pointer; the API leaves zeros out.
pub(super) fn count(object: &Value, pointer: &str) -> i64 {
    number(object, pointer).unwrap_or(0)
}

/// The replicas that are asked for; the API's default is one.
pub(super) fn replicas(object: &Value) -> i64 {
    number(object, "/spec/replicas").unwrap_or(1)
}

/// Whether the boolean at a JSON pointer is true.
pub(super) fn flag(object: &Value, pointer: &str) -> bool {
    object.pointer(pointer) == Some(&Value::Bool(true))
}

/// The list at a JSON pointer; empty if there is none.
pub(super) fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The time at a JSON pointer.
pub(super) fn time(object: &Value, pointer: &str) -> Option<Timestamp> {
    text(object, pointer).parse().ok()
}

/// A label; empty if there is none.
pub(super) fn label<'a>(object: &'a Value, name: &str) -> &'a str {
    named(object, "/metadata/labels", name)
}

/// An annotation; empty if there is none.
pub(super) fn annotation<'a>(object: &'a Value, name: &str) -> &'a str {
    named(object, "/metadata/annotations", name)
}

fn named<'a>(object: &'a Value, pointer: &str, name: &str) -> &'a str {
    object.pointer(pointer).and_then(|map| map.get(name)).and_then(Value::as_str).unwrap_or_default()
}

/// Where the object is stored.
pub(super) fn key(object: &Value) -> Key {
    Key {
        kind: GroupKind::new(group(text(object, "/apiVersion")), text(object, "/kind")),
        namespace: meta::namespace(object).to_owned(),
        name: meta::name(object).to_owned(),
    }
}

fn group(api_version: &str) -> &str {
    api_version.rsplit_once('/').map_or("", |(group, _)| group)
}

/// The reference to the object's controller.
pub(super) fn controller(object: &Value) -> Option<&Value> {
    list(object, "/metadata/ownerReferences").iter().find(|owner| flag(owner, "/controller"))
}

/// Where the object's controller is stored; controllers here live beside what they control.
pub(super) fn controller_key(object: &Value) -> Option<Key> {
    let owner = controller(object)?;
    Some(Key {
        kind: GroupKind::new(group(text(owner, "/apiVersion")), text(owner, "/kind")),
        namespace: meta::namespace(object).to_owned(),
        name: text(owner, "/name").to_owned(),
    })
}

/// A time as the API shows it.
pub(super) fn shown(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// An instant later, or the end of time.
pub(super) fn after(at: Timestamp, duration: SignedDuration) -> Timestamp {
    at.checked_add(duration).unwrap_or(Timestamp::MAX)
}

/// An instant some seconds later, or the end of time.
pub(super) fn seconds_after(at: Timestamp, seconds: i64) -> Timestamp {
    after(at, SignedDuration::from_secs(seconds))
}

/// The earlier of two instants that may not come.
pub(super) fn earlier(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
