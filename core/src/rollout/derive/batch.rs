//! StatefulSets and DaemonSets, whose pods are replaced in place.

use serde_json::{Value, json};

use super::{map_at, workload};
use crate::rollout::facts::TargetFacts;

/// The StatefulSet with the new version for the pods from `partition` on.
pub fn partitioned(live: &Value, target: &TargetFacts, partition: u32) -> Value {
    rolling(workload::promoted(live, target), partition)
}

/// The DaemonSet with the new version, which a pod gets when it is deleted.
pub fn on_delete(live: &Value, target: &TargetFacts) -> Value {
    strategy(workload::promoted(live, target), &json!({"type": "OnDelete"}))
}

/// The workload with the old version for all pods: at once for a StatefulSet, as they are deleted for a DaemonSet.
pub fn back(live: &Value, target: &TargetFacts) -> Value {
    let object = workload::restored(live, target);
    if live.get("kind").and_then(Value::as_str) == Some("DaemonSet") {
        strategy(object, &json!({"type": "OnDelete"}))
    } else {
        rolling(object, 0)
    }
}

/// The workload with the new version for all pods, and the `updateStrategy` that the change wants.
pub fn promoted(live: &Value, target: &TargetFacts, recorded: &str) -> Value {
    let object = workload::promoted(live, target);
    match target.wanted.pointer("/spec/updateStrategy") {
        Some(wanted) => strategy(object, wanted),
        None => released(&object, recorded),
    }
}

/// The workload with this `updateStrategy` (JSON; empty: none), its version as it is.
pub fn released(live: &Value, recorded: &str) -> Value {
    let object = super::touched(live, None);
    match serde_json::from_str::<Value>(recorded) {
        Ok(own) if own.is_object() => strategy(object, &own),
        _ => object,
    }
}

/// Rolling from `partition` on; how many pods may be away at once stays the workload's own.
fn rolling(object: Value, partition: u32) -> Value {
    let mut own = object.pointer("/spec/updateStrategy").filter(|own| own.is_object()).cloned().unwrap_or(json!({}));
    if let Some(own) = own.as_object_mut() {
        own.insert("type".to_owned(), json!("RollingUpdate"));
    }
    if let Some(rolling) = map_at(&mut own, "rollingUpdate") {
        rolling.insert("partition".to_owned(), json!(partition));
    }
    strategy(object, &own)
}

fn strategy(mut object: Value, strategy: &Value) -> Value {
    if let Some(spec) = map_at(&mut object, "spec") {
        spec.insert("updateStrategy".to_owned(), strategy.clone());
    }
    object
}
