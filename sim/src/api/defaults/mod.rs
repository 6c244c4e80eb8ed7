//! The values that the server fills in when a built-in object leaves them out.

mod pods;
mod services;
mod workloads;

pub(super) use workloads::TEMPLATE_GENERATION;

use serde_json::{Map, Value, json};

use super::registry::KindInfo;

/// Fills in the defaults of a built-in kind.
pub(super) fn fill(info: &KindInfo, object: &mut Value) {
    let name = super::meta::name(object).to_owned();
    fill_conditions(info, object);
    match (info.group.as_str(), info.kind.as_str()) {
        ("", "Namespace") => {
            if let Some(metadata) = super::meta::of_mut(object).filter(|_| !name.is_empty()) {
                let labels = metadata.entry("labels").or_insert_with(|| Value::Object(Map::new()));
                unset(labels, "kubernetes.io/metadata.name", || json!(name));
            }
        }
        ("", "Pod") => pods::fill_pod(object),
        ("", "Secret") => fill_secret(object),
        ("", "Service") => services::fill(object),
        ("", "PersistentVolume") => within(object, "spec", |spec| {
            unset(spec, "volumeMode", || json!("Filesystem"));
            unset(spec, "persistentVolumeReclaimPolicy", || json!("Retain"));
            within(spec, "hostPath", |path| unset(path, "type", || json!("")));
        }),
        ("", "Node") => fill_node(object),
        ("", "LimitRange") => within(object, "spec", |spec| each(spec, "limits", fill_limit)),
        ("discovery.k8s.io", "EndpointSlice") => fill_slice(object),
        ("", "PersistentVolumeClaim") => {
            within(object, "spec", |spec| unset(spec, "volumeMode", || json!("Filesystem")));
        }
        ("apps" | "batch", _) => workloads::fill(info, object),
        ("autoscaling", _) => within(object, "spec", fill_autoscaler),
        ("rbac.authorization.k8s.io", _) => fill_rbac(object),
        ("networking.k8s.io", "NetworkPolicy") => within(object, "spec", fill_network_policy),
        ("apiextensions.k8s.io", _) => within(object, "spec", fill_definition),
        ("storage.k8s.io", "StorageClass") => {
            unset(object, "reclaimPolicy", || json!("Delete"));
            unset(object, "volumeBindingMode", || json!("Immediate"));
        }
        ("scheduling.k8s.io", "PriorityClass") => unset(object, "preemptionPolicy", || json!("PreemptLowerPriority")),
        _ => {}
    }
}

/// Sets a field that is absent.
fn unset(value: &mut Value, field: &str, default: impl FnOnce() -> Value) {
    if let Some(fields) = value.as_object_mut()
        && fields.get(field).is_none_or(Value::is_null)
    {
        fields.insert(field.to_owned(), default());
    }
}

/// Works on a field if it is there.
fn within(value: &mut Value, field: &str, work: impl FnOnce(&mut Value)) {
    if let Some(field) = value.get_mut(field).filter(|field| !field.is_null()) {
        work(field);
    }
}

/// Works on every item of a list.
fn each(value: &mut Value, field: &str, work: impl FnMut(&mut Value)) {
    if let Some(items) = value.get_mut(field).and_then(Value::as_array_mut) {
        items.iter_mut().for_each(work);
    }
}

/// Times of conditions that are not known are written as null.
fn fill_conditions(info: &KindInfo, object: &mut Value) {
    let times: &[&str] = match info.kind.as_str() {
        "Deployment" => &["lastTransitionTime", "lastUpdateTime"],
        "Pod" | "Job" => &["lastProbeTime", "lastTransitionTime"],
        "ReplicaSet" | "StatefulSet" | "DaemonSet" => &["lastTransitionTime"],
        _ => return,
    };
    within(object, "status", |status| {
        for list in ["containerStatuses", "initContainerStatuses"] {
            each(status, list, |container| {
                unset(container, "state", || json!({}));
                unset(container, "lastState", || json!({}));
            });
        }
        each(status, "conditions", |condition| {
            for time in times {
                unset(condition, time, || Value::Null);
            }
        });
    });
}

fn fill_node(node: &mut Value) {
    unset(node, "status", || json!({}));
    within(node, "status", |status| {
        unset(status, "daemonEndpoints", || json!({"kubeletEndpoint": {"Port": 0}}));
        unset(status, "nodeInfo", || json!({}));
        within(status, "nodeInfo", |info| {
            for name in [
                "architecture",
                "bootID",
                "containerRuntimeVersion",
                "kernelVersion",
                "kubeProxyVersion",
                "kubeletVersion",
                "machineID",
                "operatingSystem",
                "osImage",
                "systemUUID",
            ] {
                unset(info, name, || json!(""));
            }
        });
    });
}

/// A limit is the default, and that the default request.
fn fill_limit(limit: &mut Value) {
    if limit.get("type").and_then(Value::as_str) != Some("Container") {
        return;
    }
    for (from, to) in [("max", "default"), ("default", "defaultRequest"), ("min", "defaultRequest")] {
        for (name, amount) in limit.get(from).and_then(Value::as_object).cloned().into_iter().flatten() {
            unset(limit, to, || json!({}));
            within(limit, to, |amounts| unset(amounts, &name, || amount));
        }
    }
}

fn fill_slice(slice: &mut Value) {
    each(slice, "endpoints", |endpoint| unset(endpoint, "conditions", || json!({})));
    each(slice, "ports", |port| {
        unset(port, "name", || json!(""));
        unset(port, "protocol", || json!("TCP"));
    });
    if let Some(fields) = slice.as_object_mut() {
        fields.entry("endpoints").or_insert(Value::Null);
    }
}

fn fill_secret(secret: &mut Value) {
    if secret.get("type").and_then(Value::as_str).is_none_or(str::is_empty)
        && let Some(fields) = secret.as_object_mut()
    {
        fields.insert("type".to_owned(), json!("Opaque"));
    }
    let Some(fields) = secret.as_object_mut() else {
        return;
    };
    let Some(Value::Object(texts)) = fields.remove("stringData") else {
        return;
    };
    let data = fields.entry("data").or_insert_with(|| Value::Object(Map::new()));
    for (name, text) in texts {
        let bytes = k8s_openapi::ByteString(text.as_str().unwrap_or_default().as_bytes().to_vec());
        if let (Some(data), Ok(encoded)) = (data.as_object_mut(), serde_json::to_value(bytes)) {
            data.insert(name, encoded);
        }
    }
}

fn fill_autoscaler(spec: &mut Value) {
    unset(spec, "minReplicas", || json!(1));
    unset(spec, "metrics", || {
        let target = json!({"type": "Utilization", "averageUtilization": 80});
        json!([{"type": "Resource", "resource": {"name": "cpu", "target": target}}])
    });
    within(spec, "behavior", |behavior| {
        let policy = |kind: &str, value: i64| json!({"type": kind, "value": value, "periodSeconds": 15});
        unset(behavior, "scaleUp", || json!({}));
        within(behavior, "scaleUp", |rules| {
            unset(rules, "stabilizationWindowSeconds", || json!(0));
            unset(rules, "policies", || json!([policy("Pods", 4), policy("Percent", 100)]));
            unset(rules, "selectPolicy", || json!("Max"));
        });
        unset(behavior, "scaleDown", || json!({}));
        within(behavior, "scaleDown", |rules| {
            unset(rules, "policies", || json!([policy("Percent", 100)]));
            unset(rules, "selectPolicy", || json!("Max"));
        });
    });
}

fn fill_rbac(object: &mut Value) {
    const GROUP: &str = "rbac.authorization.k8s.io";
    let kind = object.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
    let group_if_empty = |value: &mut Value| {
        if value.get("apiGroup").and_then(Value::as_str).unwrap_or_default().is_empty()
            && let Some(fields) = value.as_object_mut()
        {
            fields.insert("apiGroup".to_owned(), json!(GROUP));
        }
    };
    match kind.as_str() {
        "Role" | "ClusterRole" => {
            if let Some(fields) = object.as_object_mut() {
                fields.entry("rules").or_insert(Value::Null);
            }
        }
        _ => {
            within(object, "roleRef", group_if_empty);
            each(object, "subjects", |subject| {
                if subject.get("kind").and_then(Value::as_str) == Some("ServiceAccount") {
                    let is_empty = subject.get("apiGroup").and_then(Value::as_str).is_some_and(str::is_empty);
                    if let Some(fields) = subject.as_object_mut().filter(|_| is_empty) {
                        fields.remove("apiGroup");
                    }
                } else {
                    group_if_empty(subject);
                }
            });
        }
    }
}

fn fill_network_policy(spec: &mut Value) {
    unset(spec, "podSelector", || json!({}));
    let has_egress = spec.get("egress").is_some();
    unset(spec, "policyTypes", || if has_egress { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) });
    for direction in ["ingress", "egress"] {
        each(spec, direction, |rule| each(rule, "ports", |port| unset(port, "protocol", || json!("TCP"))));
    }
}

fn fill_definition(spec: &mut Value) {
    let kind = spec.pointer("/names/kind").and_then(Value::as_str).unwrap_or_default().to_owned();
    within(spec, "names", |names| {
        unset(names, "singular", || json!(kind.to_lowercase()));
        unset(names, "listKind", || json!(format!("{kind}List")));
    });
    unset(spec, "conversion", || json!({"strategy": "None"}));
}
