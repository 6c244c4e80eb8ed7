//! Built-in kinds through their own types: wrong types are refused, unknown fields are noticed.

use k8s_openapi::api::{
    apps::v1 as apps, autoscaling::v2 as autoscaling, batch::v1 as batch, coordination::v1 as coordination,
    core::v1 as core, discovery::v1 as discovery, networking::v1 as networking, policy::v1 as policy, rbac::v1 as rbac,
    scheduling::v1 as scheduling, storage::v1 as storage,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::registry::KindInfo;

/// The object as its type reads and writes it; what the type does not know is gone. Kinds without a type stay as they
/// are.
pub(super) fn through_type(info: &KindInfo, object: &Value) -> Result<Value, String> {
    match (info.group.as_str(), info.kind.as_str()) {
        ("", "Namespace") => through::<core::Namespace>(object),
        ("", "Node") => through::<core::Node>(object),
        ("", "Pod") => through::<core::Pod>(object),
        ("", "ConfigMap") => through::<core::ConfigMap>(object),
        ("", "Secret") => through::<core::Secret>(object),
        ("", "Service") => through::<core::Service>(object),
        ("", "ServiceAccount") => through::<core::ServiceAccount>(object),
        ("", "PersistentVolume") => through::<core::PersistentVolume>(object),
        ("", "PersistentVolumeClaim") => through::<core::PersistentVolumeClaim>(object),
        ("", "ResourceQuota") => through::<core::ResourceQuota>(object),
        ("", "LimitRange") => through::<core::LimitRange>(object),
        ("apps", "Deployment") => through::<apps::Deployment>(object),
        ("apps", "ReplicaSet") => through::<apps::ReplicaSet>(object),
        ("apps", "StatefulSet") => through::<apps::StatefulSet>(object),
        ("apps", "DaemonSet") => through::<apps::DaemonSet>(object),
        ("apps", "ControllerRevision") => through::<apps::ControllerRevision>(object),
        ("batch", "Job") => through::<batch::Job>(object),
        ("batch", "CronJob") => through::<batch::CronJob>(object),
        ("autoscaling", "HorizontalPodAutoscaler") => through::<autoscaling::HorizontalPodAutoscaler>(object),
        ("policy", "PodDisruptionBudget") => through::<policy::PodDisruptionBudget>(object),
        ("rbac.authorization.k8s.io", "Role") => through::<rbac::Role>(object),
        ("rbac.authorization.k8s.io", "RoleBinding") => through::<rbac::RoleBinding>(object),
        ("rbac.authorization.k8s.io", "ClusterRole") => through::<rbac::ClusterRole>(object),
        ("rbac.authorization.k8s.io", "ClusterRoleBinding") => through::<rbac::ClusterRoleBinding>(object),
        ("networking.k8s.io", "NetworkPolicy") => through::<networking::NetworkPolicy>(object),
        ("networking.k8s.io", "Ingress") => through::<networking::Ingress>(object),
        ("coordination.k8s.io", "Lease") => through::<coordination::Lease>(object),
        ("discovery.k8s.io", "EndpointSlice") => through::<discovery::EndpointSlice>(object),
        ("storage.k8s.io", "StorageClass") => through::<storage::StorageClass>(object),
        ("scheduling.k8s.io", "PriorityClass") => through::<scheduling::PriorityClass>(object),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => through::<CustomResourceDefinition>(object),
        _ => Ok(object.clone()),
    }
}

fn through<T: DeserializeOwned + Serialize>(object: &Value) -> Result<Value, String> {
    let typed = T::deserialize(object).map_err(|error| error.to_string())?;
    serde_json::to_value(typed).map_err(|error| error.to_string())
}

/// The fields of `given` that `known` lacks, such as `spec.containers[0].imge`.
pub(super) fn missing(given: &Value, known: &Value) -> Vec<String> {
    let mut found = Vec::new();
    collect("", given, known, &mut found);
    found
}

fn collect(path: &str, given: &Value, known: &Value, found: &mut Vec<String>) {
    match (given, known) {
        (Value::Object(given), Value::Object(known)) => {
            for (name, value) in given.iter().filter(|(_, value)| !value.is_null()) {
                let dot = if path.is_empty() { "" } else { "." };
                let place = format!("{path}{dot}{name}");
                match known.get(name) {
                    Some(known) => collect(&place, value, known, found),
                    None => found.push(place),
                }
            }
        }
        (Value::Array(given), Value::Array(known)) => {
            for (index, (given, known)) in given.iter().zip(known).enumerate() {
                collect(&format!("{path}[{index}]"), given, known, found);
            }
        }
        _ => {}
    }
}
