//! Services. Addresses are allocated later, when the object is stored.

use serde_json::{Value, json};

use super::{each, unset, within};

pub(super) fn fill(service: &mut Value) {
    within(service, "spec", |spec| {
        unset(spec, "sessionAffinity", || json!("None"));
        unset(spec, "type", || json!("ClusterIP"));
        let kind = spec.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
        if spec.get("sessionAffinity").and_then(Value::as_str) == Some("ClientIP") {
            unset(spec, "sessionAffinityConfig", || json!({"clientIP": {"timeoutSeconds": 10800}}));
        } else if let Some(fields) = spec.as_object_mut() {
            fields.remove("sessionAffinityConfig");
        }
        each(spec, "ports", |port| {
            unset(port, "protocol", || json!("TCP"));
            let number = port.get("port").cloned().unwrap_or_default();
            unset(port, "targetPort", || number);
        });
        if kind != "ExternalName" {
            unset(spec, "internalTrafficPolicy", || json!("Cluster"));
        }
        if ["NodePort", "LoadBalancer"].contains(&kind.as_str()) {
            unset(spec, "externalTrafficPolicy", || json!("Cluster"));
        }
        if kind == "LoadBalancer" {
            unset(spec, "allocateLoadBalancerNodePorts", || json!(true));
        }
    });
}
