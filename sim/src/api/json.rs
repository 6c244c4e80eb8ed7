//! Patches of plain JSON: merge patch (RFC 7386) and JSON patch (RFC 6902).

use serde_json::{Map, Value};

/// RFC 7386.
pub(super) fn merge_patch(target: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        target.clone_from(patch);
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Some(fields) = target.as_object_mut() else {
        return;
    };
    for (name, value) in patch {
        if value.is_null() {
            fields.remove(name);
        } else {
            merge_patch(fields.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}

/// The operations `add`, `replace`, `remove` and `test` of RFC 6902.
pub(super) fn patch(target: &mut Value, operations: &[Value]) -> Result<(), String> {
    for operation in operations {
        let text = |name: &str| operation.get(name).and_then(Value::as_str).unwrap_or_default();
        let path = text("path");
        let value = operation.get("value").cloned().unwrap_or_default();
        let done = match text("op") {
            "add" => put(target, path, value, true),
            "replace" => put(target, path, value, false),
            "remove" => take(target, path),
            "test" => target.pointer(path).unwrap_or(&Value::Null) == &value,
            other => return Err(format!("the operation {other} is not supported")),
        };
        if !done {
            return Err(format!("{} operation does not apply: doc is missing path: \"{path}\"", text("op")));
        }
    }
    Ok(())
}

fn parent<'a>(target: &'a mut Value, path: &str) -> Option<(&'a mut Value, String)> {
    let (parent, last) = path.rsplit_once('/')?;
    Some((target.pointer_mut(parent)?, last.replace("~1", "/").replace("~0", "~")))
}

fn put(target: &mut Value, path: &str, value: Value, adds: bool) -> bool {
    if path.is_empty() {
        *target = value;
        return true;
    }
    match parent(target, path) {
        Some((Value::Object(fields), last)) => {
            let fits = adds || fields.contains_key(&last);
            if fits {
                fields.insert(last, value);
            }
            fits
        }
        Some((Value::Array(items), last)) => {
            if adds && last == "-" {
                items.push(value);
                return true;
            }
            match last.parse::<usize>() {
                Ok(index) if adds && index <= items.len() => items.insert(index, value),
                Ok(index) if !adds && index < items.len() => items[index] = value,
                _ => return false,
            }
            true
        }
        _ => false,
    }
}

fn take(target: &mut Value, path: &str) -> bool {
    match parent(target, path) {
        Some((Value::Object(fields), last)) => fields.remove(&last).is_some(),
        Some((Value::Array(items), last)) => match last.parse::<usize>() {
            Ok(index) if index < items.len() => {
                items.remove(index);
                true
            }
            _ => false,
        },
        _ => false,
    }
}
