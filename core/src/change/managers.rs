//! Field managers: fields that an earlier tool applied are taken over, so that leaving one out of a manifest removes it.
//!
//! Server-side apply removes only what its own manager owned. Objects that were applied by client-side `kubectl apply`,
//! by Helm or created by Interlock carry those fields under other entries; these are merged into Interlock's `Apply`
//! entry by name, as kubectl itself does when it moves from client-side to server-side apply.

use serde_json::{Map, Value, json};

use super::FIELD_MANAGER;

/// Managers whose `Update` entries stand for a whole applied manifest.
const LEGACY: [&str; 5] = ["kubectl-client-side-apply", "before-first-apply", "helm", "Helm", FIELD_MANAGER];

/// The `managedFields` that the object should have before Interlock applies to it; none if nothing is to be taken over.
pub fn migrated(object: &Value) -> Option<Value> {
    let entries = object.pointer("/metadata/managedFields")?.as_array()?;
    let (legacy, mut rest): (Vec<_>, Vec<_>) = entries.iter().cloned().partition(is_legacy);
    let newest = legacy.iter().max_by_key(|e| e.get("time").and_then(Value::as_str).unwrap_or_default().to_owned())?;
    let version = newest.get("apiVersion")?.clone();
    let mut fields = Value::Object(Map::new());
    for entry in legacy.iter().filter(|e| e.get("apiVersion") == Some(&version)) {
        merge(&mut fields, entry.get("fieldsV1").unwrap_or(&Value::Null));
    }
    let own = rest.iter_mut().find(|e| is_own(e) && e.get("apiVersion") == Some(&version));
    if let Some(own) = own {
        if let Some(existing) = own.get_mut("fieldsV1") {
            merge(existing, &fields);
        }
    } else {
        // One manager has one Apply entry: one of another version gives way, its fields are applied again anyway.
        rest.retain(|e| !is_own(e));
        rest.push(json!({
            "manager": FIELD_MANAGER,
            "operation": "Apply",
            "apiVersion": version,
            "time": newest.get("time").cloned().unwrap_or(Value::Null),
            "fieldsType": "FieldsV1",
            "fieldsV1": fields,
        }));
    }
    Some(Value::Array(rest))
}

fn text<'a>(entry: &'a Value, field: &str) -> &'a str {
    entry.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn is_legacy(entry: &Value) -> bool {
    LEGACY.contains(&text(entry, "manager"))
        && text(entry, "operation") == "Update"
        && text(entry, "subresource").is_empty()
}

fn is_own(entry: &Value) -> bool {
    text(entry, "manager") == FIELD_MANAGER
        && text(entry, "operation") == "Apply"
        && text(entry, "subresource").is_empty()
}

/// The union of two field sets.
fn merge(into: &mut Value, from: &Value) {
    let (Some(into), Some(from)) = (into.as_object_mut(), from.as_object()) else {
        return;
    };
    for (key, value) in from {
        merge(into.entry(key.clone()).or_insert_with(|| Value::Object(Map::new())), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(manager: &str, operation: &str, fields: &Value) -> Value {
        json!({"manager": manager, "operation": operation, "apiVersion": "apps/v1", "time": "2026-01-01T00:00:00Z",
            "fieldsType": "FieldsV1", "fieldsV1": fields})
    }

    #[test]
    fn fields_of_client_side_apply_and_helm_become_interlocks_and_others_stay() {
        let object = json!({"metadata": {"managedFields": [
            entry("kubectl-client-side-apply", "Update", &json!({"f:spec": {"f:replicas": {}}})),
            entry("helm", "Update", &json!({"f:spec": {"f:paused": {}}})),
            entry("kube-controller-manager", "Update", &json!({"f:status": {}})),
            entry("interlock", "Apply", &json!({"f:spec": {"f:template": {}}})),
        ]}});
        let after = migrated(&object).unwrap();
        let own = after.as_array().unwrap().iter().find(|e| e["manager"] == "interlock").unwrap();
        assert_eq!(own["fieldsV1"], json!({"f:spec": {"f:replicas": {}, "f:paused": {}, "f:template": {}}}));
        assert_eq!(after.as_array().unwrap().len(), 2);
        let again = json!({"metadata": {"managedFields": after}});
        assert_eq!(migrated(&again), None, "nothing left to take over");
    }

    #[test]
    fn an_object_without_entries_or_with_odd_ones_is_left_alone() {
        for object in
            [json!({}), json!({"metadata": {"managedFields": "x"}}), json!({"metadata": {"managedFields": [1]}})]
        {
            assert_eq!(migrated(&object), None);
        }
    }
}
