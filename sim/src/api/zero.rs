//! Built-in objects with nothing in them.
//!
//! On a create the server compares with an empty object of its own type, whose structures are there already. So
//! `managedFields` names `f:strategy` only by what is in it, but `f:labels` also by itself.

use serde_json::{Value, json};

use super::registry::KindInfo;

/// The empty object of a kind.
pub(super) fn object(info: &KindInfo) -> Value {
    let mut empty = json!({"apiVersion": info.api_version(), "kind": info.kind});
    if info.is_custom() {
        return empty;
    }
    let template = || json!({"metadata": {}, "spec": {"containers": null}});
    let spec = match info.kind.as_str() {
        "Deployment" => json!({"selector": null, "strategy": {}, "template": template()}),
        "StatefulSet" => {
            json!({"selector": null, "serviceName": "", "template": template(), "updateStrategy": {}})
        }
        "DaemonSet" => json!({"selector": null, "template": template(), "updateStrategy": {}}),
        "ReplicaSet" => json!({"selector": null, "template": template()}),
        "Job" => json!({"template": template()}),
        "CronJob" => json!({"schedule": "", "jobTemplate": {"metadata": {}, "spec": {"template": template()}}}),
        "Pod" => json!({"containers": null}),
        "PersistentVolumeClaim" => json!({"resources": {}}),
        "HorizontalPodAutoscaler" => json!({"scaleTargetRef": {"kind": "", "name": ""}, "maxReplicas": 0}),
        "NetworkPolicy" => json!({"podSelector": {}}),
        "Service"
        | "Namespace"
        | "Node"
        | "PersistentVolume"
        | "ResourceQuota"
        | "LimitRange"
        | "PodDisruptionBudget"
        | "Ingress"
        | "Lease" => json!({}),
        "CustomResourceDefinition" => json!({"group": "", "names": {}, "scope": "", "versions": null}),
        _ => Value::Null,
    };
    let Some(fields) = empty.as_object_mut() else {
        return empty;
    };
    fields.insert("metadata".to_owned(), json!({}));
    if !spec.is_null() {
        fields.insert("spec".to_owned(), spec);
    }
    if info.has_status {
        let status = if info.is("", "Service") { json!({"loadBalancer": {}}) } else { json!({}) };
        fields.insert("status".to_owned(), status);
    }
    match info.kind.as_str() {
        "Role" | "ClusterRole" => fields.insert("rules".to_owned(), Value::Null),
        "RoleBinding" | "ClusterRoleBinding" => {
            fields.insert("roleRef".to_owned(), json!({"apiGroup": "", "kind": "", "name": ""}))
        }
        "EndpointSlice" => fields.insert("addressType".to_owned(), json!("")),
        _ => None,
    };
    empty
}
