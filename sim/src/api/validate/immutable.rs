//! What may not change.

use serde_json::Value;

use super::super::error::Cause;
use super::super::registry::KindInfo;

pub(super) fn check(info: &KindInfo, old: &Value, new: &Value, causes: &mut Vec<Cause>) {
    match (info.group.as_str(), info.kind.as_str()) {
        ("", "ConfigMap" | "Secret") => configuration(old, new, causes),
        ("", "Pod") => pod(old, new, causes),
        ("", "Service") => service(old, new, causes),
        ("", "PersistentVolumeClaim") => claim(old, new, causes),
        ("apps", "Deployment" | "ReplicaSet" | "DaemonSet") => same("/spec/selector", old, new, causes),
        ("apps", "StatefulSet") => stateful_set(old, new, causes),
        ("apps", "ControllerRevision") => same("/data", old, new, causes),
        ("batch", "Job") => job(old, new, causes),
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => role(old, new, causes),
        ("storage.k8s.io", "StorageClass") => {
            for field in ["/parameters", "/provisioner", "/reclaimPolicy", "/volumeBindingMode"] {
                unchanged(field, old, new, causes);
            }
        }
        ("discovery.k8s.io", "EndpointSlice") => unchanged("/addressType", old, new, causes),
        ("scheduling.k8s.io", "PriorityClass") => {
            if old.get("value") != new.get("value") {
                causes.push(Cause::new("value", "Forbidden: may not be changed in an update."));
            }
            same("/preemptionPolicy", old, new, causes);
        }
        ("", "PersistentVolume") => volume(old, new, causes),
        ("", "ResourceQuota") => same("/spec/scopes", old, new, causes),
        _ => {}
    }
}

/// Like [`same`], where the server does not show the value.
fn unchanged(pointer: &str, old: &Value, new: &Value, causes: &mut Vec<Cause>) {
    if old.pointer(pointer) != new.pointer(pointer) {
        causes.push(Cause::new(pointer.trim_start_matches('/'), "Invalid value: null: field is immutable"));
    }
}

fn role(old: &Value, new: &Value, causes: &mut Vec<Cause>) {
    if old.get("roleRef") == new.get("roleRef") {
        return;
    }
    let part = |name: &str| new.pointer(&format!("/roleRef/{name}")).cloned().unwrap_or_default();
    let shown = format!("{{\"APIGroup\":{},\"Kind\":{},\"Name\":{}}}", part("apiGroup"), part("kind"), part("name"));
    causes.push(Cause::new("roleRef", format!("Invalid value: {shown}: field is immutable")));
}

/// What a volume is made of stays; how large it is and who has it may change.
fn volume(old: &Value, new: &Value, causes: &mut Vec<Cause>) {
    const ABOUT: [&str; 8] = [
        "capacity",
        "accessModes",
        "claimRef",
        "persistentVolumeReclaimPolicy",
        "storageClassName",
        "mountOptions",
        "volumeMode",
        "nodeAffinity",
    ];
    if rest(old, &ABOUT) != rest(new, &ABOUT) {
        let detail = "Forbidden: spec.persistentvolumesource is immutable after creation";
        causes.push(Cause::new("spec.persistentvolumesource", detail));
    }
}

fn same(pointer: &str, old: &Value, new: &Value, causes: &mut Vec<Cause>) {
    if old.pointer(pointer) != new.pointer(pointer) {
        let field = pointer.trim_start_matches('/').replace('/', ".");
        let shown = new.pointer(pointer).cloned().unwrap_or_default();
        causes.push(Cause::new(field, format!("Invalid value: {shown}: field is immutable")));
    }
}

fn configuration(old: &Value, new: &Value, causes: &mut Vec<Cause>) {
    if new.get("kind").is_some_and(|kind| kind == "Secret") {
        same("/type", old, new, causes);
    }
    if old.get("immutable").and_then(Value::as_bool) != Some(true) {
        return;
    }
    let empty = Value::Object(serde_json::Map::new());
    for field in ["immutable", "data", "binaryData"] {
        if old.get(field).unwrap_or(&empty) != new.get(field).unwrap_or(&empty) {
            causes.push(Cause::new(field, "Forbidden: field is immutable when `immutable` is set"));
        }
    }
}

/// The spec without the fields that may change.
fn rest(object: &Value, changeable: &[&str]) -> Value {
    let mut spec = object.get("spec").cloned().unwrap_or_default();
    if let Some(fields) = spec.as_object_mut() {
        fields.retain(|name, _| !changeable.contains(&name.as_str()));
    }
    spec
}

fn pod(old: &Value, new: &Value, causes: &mut Vec<Cause>) {
    let plain = |pod: &Value| {
        let mut spec = rest(pod, &["activeDeadlineSeconds", "tolerations", "nodeName", "schedulingGates"]);
        for list in ["containers", "initContainers"] {
            let items = spec.get_mut(list).and_then(Value::as_array_mut);
            for container in items.into_iter().flatten().filter_map(Value::as_object_mut) {
                container.remove("image");
            }
        }
        spec
    };
    let node = |pod: &Value| pod.pointer("/spec/nodeName").cloned();
    let is_moved = node(old).is_some() && node(old) != node(new);
    if plain(old) != plain(new) || is_moved {
        let detail = "Forbidden: pod updates may not change fields other than `spec.containers[*].image`,\
                      `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to \
                      existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was \
                      previously negative)";
        causes.push(Cause::new("spec", detail));
    }
}

fn service(old: &Value, new: &Value, causes: &mut Vec<Cause>) {
    let text =
        |object: &Value, pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let leaves = text(new, "/spec/type") == "ExternalName" || text(old, "/spec/type") == "ExternalName";
    let (before, after) = (text(old, "/spec/clusterIP"), text(new, "/spec/clusterIP"));
    if !leaves && !before.is_empty() && before != after {
        let detail = format!("Invalid value: [\"{after}\"]: may not change once set");
        causes.push(Cause::new("spec.clusterIPs[0]", detail));
    }
}

fn claim(old: &Value, new: &Value, causes: &mut Vec<Cause>) {
    let mut changeable = vec!["resources", "volumeAttributesClassName", "volumeName"];
    // The default class may come later.
    if old.pointer("/spec/storageClassName").is_none() {
        changeable.push("storageClassName");
    }
    let is_bound = |object: &Value| object.pointer("/spec/volumeName").cloned();
    let resized = old.pointer("/spec/resources") != new.pointer("/spec/resources");
    let may_resize = old.pointer("/status/phase").and_then(Value::as_str) == Some("Bound");
    let rebound = is_bound(old).is_some() && is_bound(old) != is_bound(new);
    if rest(old, &changeable) != rest(new, &changeable) || rebound || (resized && !may_resize) {
        let detail = "Forbidden: spec is immutable after creation except resources.requests and \
                      volumeAttributesClassName for bound claims";
        causes.push(Cause::new("spec", detail));
    }
    let mode = |claim: &Value| claim.pointer("/spec/volumeMode").cloned().unwrap_or_default();
    if mode(old) != mode(new) {
        causes.push(Cause::new("volumeMode", format!("Invalid value: {}: field is immutable", mode(new))));
    }
}

fn stateful_set(old: &Value, new: &Value, causes: &mut Vec<Cause>) {
    for field in ["serviceName", "podManagementPolicy", "selector", "volumeClaimTemplates"] {
        same(&format!("/spec/{field}"), old, new, causes);
    }
    let changeable = [
        "serviceName",
        "podManagementPolicy",
        "selector",
        "volumeClaimTemplates",
        "replicas",
        "ordinals",
        "template",
        "updateStrategy",
        "revisionHistoryLimit",
        "persistentVolumeClaimRetentionPolicy",
        "minReadySeconds",
    ];
    if rest(old, &changeable) != rest(new, &changeable) {
        let detail = "Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', \
                      'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and \
                      'minReadySeconds' are forbidden";
        causes.push(Cause::new("spec", detail));
    }
}

fn job(old: &Value, new: &Value, causes: &mut Vec<Cause>) {
    same("/spec/selector", old, new, causes);
    same("/spec/completionMode", old, new, causes);
    let is_indexed = new.pointer("/spec/completionMode").and_then(Value::as_str) == Some("Indexed");
    if !is_indexed {
        same("/spec/completions", old, new, causes);
    }
    // Where a suspended Job will run may still be chosen.
    let suspended = old.pointer("/spec/suspend").and_then(Value::as_bool) == Some(true);
    let template = |job: &Value| {
        let mut template = job.pointer("/spec/template").cloned().unwrap_or_default();
        if suspended {
            if let Some(spec) = template.get_mut("spec").and_then(Value::as_object_mut) {
                spec.retain(|name, _| {
                    !["nodeSelector", "tolerations", "affinity", "schedulingGates"].contains(&name.as_str())
                });
            }
            if let Some(metadata) = template.get_mut("metadata").and_then(Value::as_object_mut) {
                metadata.retain(|name, _| name != "labels" && name != "annotations");
            }
        }
        template
    };
    if template(old) != template(new) {
        let shown = new.pointer("/spec/template/spec").cloned().unwrap_or_default();
        causes.push(Cause::new("spec.template.spec", format!("Invalid value: {shown}: field is immutable")));
    }
}
