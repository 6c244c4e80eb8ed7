//! Pods, templates and selectors.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::error::Cause;
use super::super::registry::KindInfo;
use super::super::select::label_selector_matches;

pub(super) fn check(info: &KindInfo, object: &Value, causes: &mut Vec<Cause>) {
    match (info.group.as_str(), info.kind.as_str()) {
        ("", "Pod") => pod_spec(object.get("spec"), "spec", causes),
        ("apps", "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet") => {
            replicas(object, causes);
            selector(object, causes);
            pod_spec(object.pointer("/spec/template/spec"), "spec.template.spec", causes);
            restart_policy(object, "/spec/template/spec", &["Always"], causes);
        }
        ("batch", "Job") => {
            pod_spec(object.pointer("/spec/template/spec"), "spec.template.spec", causes);
            restart_policy(object, "/spec/template/spec", &["OnFailure", "Never"], causes);
        }
        ("batch", "CronJob") => {
            let place = "/spec/jobTemplate/spec/template/spec";
            pod_spec(object.pointer(place), "spec.jobTemplate.spec.template.spec", causes);
            restart_policy(object, place, &["OnFailure", "Never"], causes);
            if object.pointer("/spec/schedule").and_then(Value::as_str).is_none_or(str::is_empty) {
                causes.push(Cause::new("spec.schedule", "Required value"));
            }
        }
        ("", "Service") => service(object, causes),
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding")
            if object.pointer("/roleRef/name").and_then(Value::as_str).is_none_or(str::is_empty) =>
        {
            causes.push(Cause::new("roleRef.name", "Required value"));
        }
        _ => {}
    }
}

fn replicas(object: &Value, causes: &mut Vec<Cause>) {
    let count = object.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(0);
    if count < 0 {
        causes.push(Cause::new("spec.replicas", format!("Invalid value: {count}: must be greater than or equal to 0")));
    }
}

fn selector(object: &Value, causes: &mut Vec<Cause>) {
    let selector = object.pointer("/spec/selector");
    let is_empty = |name: &str| selector.and_then(|selector| selector.get(name)).is_none();
    let labels = object.pointer("/spec/template/metadata/labels");
    if selector.is_none_or(Value::is_null) {
        causes.push(Cause::new("spec.selector", "Required value"));
        let shown = labels.cloned().unwrap_or(Value::Null);
        let detail = format!("Invalid value: {shown}: `selector` does not match template `labels`");
        causes.push(Cause::new("spec.template.metadata.labels", detail));
    } else if is_empty("matchLabels") && is_empty("matchExpressions") {
        causes.push(Cause::new("spec.selector", "Invalid value: {}: empty selector is invalid for deployment"));
    } else if !label_selector_matches(selector, labels) {
        let shown = labels.cloned().unwrap_or(Value::Null);
        let detail = format!("Invalid value: {shown}: `selector` does not match template `labels`");
        causes.push(Cause::new("spec.template.metadata.labels", detail));
    }
}

fn restart_policy(object: &Value, place: &str, allowed: &[&str], causes: &mut Vec<Cause>) {
    let found = object.pointer(&format!("{place}/restartPolicy")).and_then(Value::as_str).unwrap_or_default();
    if !allowed.contains(&found) {
        let shown: Vec<String> = allowed.iter().map(|policy| format!("\"{policy}\"")).collect();
        let field = format!("{}.restartPolicy", place.trim_start_matches('/').replace('/', "."));
        if found == "Always" {
            causes.push(Cause::new(field, format!("Required value: valid values: {}", shown.join(", "))));
            return;
        }
        causes
            .push(Cause::new(field, format!("Unsupported value: \"{found}\": supported values: {}", shown.join(", "))));
    }
}

fn pod_spec(spec: Option<&Value>, field: &str, causes: &mut Vec<Cause>) {
    let list = |name: &str| spec.and_then(|spec| spec.get(name)).and_then(Value::as_array);
    if list("containers").is_none_or(Vec::is_empty) {
        causes.push(Cause::new(format!("{field}.containers"), "Required value"));
    }
    let volumes: BTreeSet<&str> =
        list("volumes").into_iter().flatten().filter_map(|volume| volume.get("name")?.as_str()).collect();
    let mut names = BTreeSet::new();
    for kind in ["containers", "initContainers"] {
        for (index, container) in list(kind).into_iter().flatten().enumerate() {
            let place = format!("{field}.{kind}[{index}]");
            let text = |name: &str| container.get(name).and_then(Value::as_str).unwrap_or_default();
            if text("name").is_empty() {
                causes.push(Cause::new(format!("{place}.name"), "Required value"));
            } else if !names.insert(text("name").to_owned()) {
                causes.push(Cause::new(format!("{place}.name"), format!("Duplicate value: \"{}\"", text("name"))));
            }
            if text("image").is_empty() {
                causes.push(Cause::new(format!("{place}.image"), "Required value"));
            }
            let mounts = container.get("volumeMounts").and_then(Value::as_array).into_iter().flatten();
            for (number, mount) in mounts.enumerate() {
                let name = mount.get("name").and_then(Value::as_str).unwrap_or_default();
                if !volumes.contains(name) {
                    let field = format!("{place}.volumeMounts[{number}].name");
                    causes.push(Cause::new(field, format!("Not found: \"{name}\"")));
                }
            }
        }
    }
}

fn service(object: &Value, causes: &mut Vec<Cause>) {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let ports = object.pointer("/spec/ports").and_then(Value::as_array);
    let needs_ports = text("/spec/type") != "ExternalName" && text("/spec/clusterIP") != "None";
    if needs_ports && ports.is_none_or(Vec::is_empty) {
        causes.push(Cause::new("spec.ports", "Required value"));
    }
    let ports = ports.into_iter().flatten().collect::<Vec<_>>();
    for (index, port) in ports.iter().enumerate() {
        if ports.len() > 1 && port.get("name").is_none() {
            causes.push(Cause::new(format!("spec.ports[{index}].name"), "Required value"));
        }
        let number = port.get("port").and_then(Value::as_i64).unwrap_or(0);
        if !(1..=65535).contains(&number) {
            let detail = format!("Invalid value: {number}: must be between 1 and 65535, inclusive");
            causes.push(Cause::new(format!("spec.ports[{index}].port"), detail));
        }
    }
}
