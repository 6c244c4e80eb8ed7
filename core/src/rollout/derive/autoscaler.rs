//! The HorizontalPodAutoscaler of the workload.

use interlock_crds::HeldAutoscaler;
use serde_json::{Value, json};

use super::{map_at, touched};

/// What is held of an autoscaler while a workload of this size is released: its minReplicas rise to the size, at most to
/// its maxReplicas. It counts the pods of both versions and sees little load on each, and would shrink the old one.
pub fn hold(live: &Value, size: u32) -> HeldAutoscaler {
    let number = |pointer: &str| live.pointer(pointer).and_then(Value::as_i64);
    let before = number("/spec/minReplicas");
    let most = number("/spec/maxReplicas").unwrap_or(i64::MAX);
    HeldAutoscaler {
        name: live.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned(),
        before,
        held: before.unwrap_or(1).max(i64::from(size)).min(most),
    }
}

/// The live autoscaler, held.
pub fn hpa_held(live: &Value, held: &HeldAutoscaler) -> Value {
    let mut object = touched(live, None);
    if let Some(spec) = map_at(&mut object, "spec") {
        spec.insert("minReplicas".to_owned(), json!(held.held));
    }
    object
}

/// The live autoscaler with its own minReplicas again; if somebody else changed them meanwhile, theirs stay.
pub fn hpa_released(live: &Value, held: &HeldAutoscaler) -> Value {
    let mut object = touched(live, None);
    if !is_held(live, held) {
        return object;
    }
    if let Some(spec) = map_at(&mut object, "spec") {
        match held.before {
            Some(before) => spec.insert("minReplicas".to_owned(), json!(before)),
            None => spec.remove("minReplicas"),
        };
    }
    object
}

/// Whether it is held.
pub fn is_held(live: &Value, held: &HeldAutoscaler) -> bool {
    live.pointer("/spec/minReplicas").and_then(Value::as_i64) == Some(held.held)
}
