//! What applying a manifest removes: fields that an earlier tool applied and that the manifest leaves out.
//!
//! A change takes such fields over before it applies (see [`managers`]), which a dry run cannot do; so the preview
//! works out from `managedFields` what the API server would then remove.

use interlock_core::change::managers;
use serde_json::{Map, Value};

type Fields = Map<String, Value>;

/// Takes out of `object` what `live`'s earlier managers alone own and `manifest` leaves out; says whether there was any.
pub fn release(live: &Value, manifest: &Value, object: &mut Value) -> bool {
    let Some(Value::Array(entries)) = managers::migrated(live) else { return false };
    let is_own = |entry: &&Value| {
        let text = |field: &str| entry.get(field).and_then(Value::as_str).unwrap_or_default();
        text("manager") == interlock_core::change::FIELD_MANAGER
            && text("operation") == "Apply"
            && text("subresource").is_empty()
    };
    let fields = |entry: &Value| entry.get("fieldsV1").and_then(Value::as_object).cloned();
    let Some(own) = entries.iter().find(is_own).and_then(fields) else { return false };
    let others: Vec<Fields> = entries.iter().filter(|e| !is_own(e)).filter_map(fields).collect();
    release_within(&own, &others.iter().collect::<Vec<_>>(), Some(manifest), object)
}

fn release_within(own: &Fields, others: &[&Fields], stated: Option<&Value>, object: &mut Value) -> bool {
    let mut released = false;
    for (key, inner) in own {
        let shared: Vec<&Fields> = others.iter().filter_map(|o| o.get(key)?.as_object()).collect();
        let stated_here = stated.and_then(|s| child(s, key));
        let inner = inner.as_object().filter(|inner| !inner.is_empty());
        if stated_here.is_some() && inner.is_none() {
            continue;
        }
        let Some(place) = child_mut(object, key) else { continue };
        if let Some(inner) = inner.filter(|_| stated_here.is_some() || !shared.is_empty() || key.starts_with("f:")) {
            released |= release_within(inner, &shared, stated_here, place);
            let empty = place.as_object().is_some_and(Map::is_empty) || place.as_array().is_some_and(Vec::is_empty);
            if stated_here.is_some() || !shared.is_empty() || !empty {
                continue;
            }
        } else if !shared.is_empty() {
            continue;
        }
        released |= take(object, key);
    }
    released
}

/// The value that one step of a field set leads to: `f:name`, `k:{"name":"a"}` or `v:"member"`.
fn child<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    if let Some(name) = key.strip_prefix("f:") {
        return value.as_object()?.get(name);
    }
    value.as_array()?.get(position(value, key)?)
}

fn child_mut<'a>(value: &'a mut Value, key: &str) -> Option<&'a mut Value> {
    if let Some(name) = key.strip_prefix("f:") {
        return value.as_object_mut()?.get_mut(name);
    }
    let position = position(value, key)?;
    value.as_array_mut()?.get_mut(position)
}

fn take(value: &mut Value, key: &str) -> bool {
    if let Some(name) = key.strip_prefix("f:") {
        return value.as_object_mut().is_some_and(|fields| fields.remove(name).is_some());
    }
    let place = position(value, key);
    let taken = place.zip(value.as_array_mut()).map(|(place, items)| items.remove(place));
    taken.is_some()
}

fn position(list: &Value, key: &str) -> Option<usize> {
    let (kind, text) = key.split_at_checked(2)?;
    let wanted: Value = serde_json::from_str(text).ok()?;
    list.as_array()?.iter().position(|item| match kind {
        "v:" => *item == wanted,
        // `protocol: TCP` is the one key that a manifest may leave out.
        "k:" => wanted.as_object().is_some_and(|keys| {
            keys.iter().all(|(name, value)| {
                item.get(name).map_or(name == "protocol" && value == "TCP", |found| found == value)
            })
        }),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn live() -> Value {
        json!({
            "metadata": {"name": "a", "labels": {"app": "a", "team": "b"}, "managedFields": [
                {"manager": "kubectl-client-side-apply", "operation": "Update", "apiVersion": "v1", "time": "2026-01-01T00:00:00Z",
                 "fieldsType": "FieldsV1", "fieldsV1": {
                    "f:metadata": {"f:labels": {".": {}, "f:app": {}, "f:team": {}}},
                    "f:data": {".": {}, "f:greeting": {}, "f:old": {}, "f:both": {}},
                    "f:list": {"k:{\"name\":\"x\"}": {".": {}, "f:name": {}, "f:v": {}}, "k:{\"name\":\"y\"}": {".": {}, "f:name": {}}}}},
                {"manager": "someone", "operation": "Update", "apiVersion": "v1", "time": "2026-01-02T00:00:00Z",
                 "fieldsType": "FieldsV1", "fieldsV1": {"f:data": {"f:both": {}, "f:theirs": {}}}},
            ]},
            "data": {"greeting": "hello", "old": "value", "both": "1", "theirs": "2"},
            "list": [{"name": "x", "v": 1}, {"name": "y"}],
        })
    }

    #[test]
    fn fields_that_only_an_earlier_tool_applied_go_when_left_out() {
        let manifest = json!({"metadata": {"name": "a", "labels": {"app": "a"}}, "data": {"greeting": "hi"}, "list": [{"name": "x"}]});
        let mut object = live();
        assert!(release(&live(), &manifest, &mut object));
        assert_eq!(object.get("data"), Some(&json!({"greeting": "hello", "both": "1", "theirs": "2"})));
        assert_eq!(object.pointer("/metadata/labels"), Some(&json!({"app": "a"})));
        assert_eq!(object.get("list"), Some(&json!([{"name": "x"}])));
    }

    #[test]
    fn a_whole_map_that_is_left_out_goes_but_for_what_others_own() {
        let mut object = live();
        assert!(release(&live(), &json!({"metadata": {"name": "a"}}), &mut object));
        assert_eq!(object.get("data"), Some(&json!({"both": "1", "theirs": "2"})));
        assert_eq!(object.pointer("/metadata/labels"), None);
        assert_eq!(object.get("list"), None);
    }

    #[test]
    fn nothing_is_released_where_no_earlier_tool_applied() {
        let mut object = json!({"data": {"a": "b"}});
        assert!(!release(&json!({"metadata": {}, "data": {"a": "b"}}), &json!({}), &mut object));
        assert!(!release(
            &json!({"metadata": {"managedFields": [{"manager": "helm", "operation": "Update", "apiVersion": "v1", "fieldsV1": {"x": 1, "f:data": {"é": {}}}}]}}),
            &json!({}),
            &mut object
        ));
        assert_eq!(object, json!({"data": {"a": "b"}}));
    }
}
