//! What a write of a kind may touch: status, generation, the server's metadata.

use serde_json::{Value, json};

use super::addresses;
use super::defaults::TEMPLATE_GENERATION;
use super::meta;
use super::registry::KindInfo;

/// Keeps a claim as long as a Pod uses it.
pub(super) const PROTECTION: &str = "kubernetes.io/pvc-protection";

/// Keeps a volume as long as a claim has it.
pub(super) const VOLUME_PROTECTION: &str = "kubernetes.io/pv-protection";

/// Whether a PUT may leave the resourceVersion out.
pub(super) fn allows_unconditional_update(info: &KindInfo) -> bool {
    const CONDITIONAL: [(&str, &str); 3] = [
        ("policy", "PodDisruptionBudget"),
        ("coordination.k8s.io", "Lease"),
        ("apiextensions.k8s.io", "CustomResourceDefinition"),
    ];
    !info.is_custom() && !CONDITIONAL.iter().any(|(group, kind)| info.is(group, kind))
}

/// Whether a PUT of what does not exist creates it.
pub(super) fn allows_create_on_update(info: &KindInfo) -> bool {
    const ALLOWING: [&str; 9] = [
        "Service",
        "Endpoints",
        "Event",
        "LimitRange",
        "Lease",
        "Role",
        "RoleBinding",
        "ClusterRole",
        "ClusterRoleBinding",
    ];
    !info.is_custom() && ALLOWING.contains(&info.kind.as_str())
}

/// A create cannot ask for a deletion.
pub(super) fn clear_deletion(new: &mut Value) {
    meta::set(new, "deletionTimestamp", None);
    meta::set(new, "deletionGracePeriodSeconds", None);
}

/// The metadata that no update changes.
pub(super) fn keep_identity(old: &Value, new: &mut Value) {
    for field in ["uid", "creationTimestamp", "generation", "deletionGracePeriodSeconds", "resourceVersion", "selfLink"]
    {
        meta::keep(new, old, field);
    }
    // Another one is refused later.
    if !meta::is_terminating(new) {
        meta::keep(new, old, "deletionTimestamp");
    }
}

/// What a write through a subresource sends unchanged need not be read: it comes from the live object anyway.
pub(super) fn leave_out_untouched(old: &Value, new: &mut Value) {
    const READ: [&str; 4] = ["apiVersion", "kind", "metadata", "status"];
    if let Some(fields) = new.as_object_mut() {
        fields.retain(|name, value| READ.contains(&name.as_str()) || old.get(name) != Some(value));
    }
}

/// What a write through a subresource cannot touch is as before already when managers are recorded.
pub(super) fn before_managers(info: &KindInfo, subresource: Option<&str>, old: &Value, new: &mut Value) {
    if subresource.is_none() {
        if info.has_status {
            keep_field(new, old, "status");
        }
        return;
    }
    let mut take = |field: &str| new.as_object_mut().and_then(|fields| fields.remove(field));
    let (status, metadata) = (take("status"), take("metadata"));
    let fields = old.as_object().into_iter().flatten().filter(|(name, _)| *name != "status");
    *new = fields.map(|(name, value)| (name.clone(), value.clone())).collect();
    set_field(new, "status", status);
    let Some(metadata) = metadata else {
        meta::set(new, "managedFields", None);
        return;
    };
    if info.is_custom() {
        meta::set(new, "managedFields", metadata.get("managedFields").cloned());
        return;
    }
    set_field(new, "metadata", Some(metadata));
    if info.is("apps", "Deployment") {
        meta::keep(new, old, "labels");
    }
    keep_identity(old, new);
}

fn count_template(set: &mut Value, count: i64) {
    let annotations = meta::of_mut(set).map(|metadata| metadata.entry("annotations").or_insert_with(|| json!({})));
    if let Some(annotations) = annotations.and_then(Value::as_object_mut) {
        annotations.insert(TEMPLATE_GENERATION.to_owned(), json!(count.to_string()));
    }
}

/// A new object: no status where it is a subresource, generation 1.
pub(super) fn prepare_create(info: &KindInfo, new: &mut Value) {
    if info.has_status && !info.is("", "Node") {
        let status = initial_status(info, new);
        set_field(new, "status", status);
    }
    meta::set(new, "generation", info.has_generation().then(|| json!(1)));
    match info.kind.as_str() {
        "DaemonSet" => count_template(new, 1),
        "PersistentVolumeClaim" => protect(new, PROTECTION),
        "PersistentVolume" => protect(new, VOLUME_PROTECTION),
        _ => {}
    }
}

fn protect(new: &mut Value, name: &str) {
    let mut finalizers = meta::finalizers(new);
    if !finalizers.iter().any(|found| found == name) {
        finalizers.push(name.to_owned());
    }
    meta::set(new, "finalizers", Some(json!(finalizers)));
}

fn initial_status(info: &KindInfo, new: &Value) -> Option<Value> {
    if info.is_custom() {
        return None;
    }
    Some(match info.kind.as_str() {
        "Namespace" => json!({"phase": "Active"}),
        "Pod" => json!({"phase": "Pending", "qosClass": quality_of_service(new)}),
        "CustomResourceDefinition" => unestablished(new),
        "StatefulSet" => json!({"availableReplicas": 0, "replicas": 0}),
        "ReplicaSet" => json!({"replicas": 0}),
        "DaemonSet" => {
            json!({"currentNumberScheduled": 0, "desiredNumberScheduled": 0, "numberMisscheduled": 0, "numberReady": 0})
        }
        "HorizontalPodAutoscaler" => json!({"currentMetrics": null, "desiredReplicas": 0}),
        "PodDisruptionBudget" => {
            json!({"currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0})
        }
        "PersistentVolumeClaim" => json!({"phase": "Pending"}),
        "PersistentVolume" => {
            json!({"phase": "Pending", "lastPhaseTransitionTime": meta::text(new, "creationTimestamp")})
        }
        "Service" | "Ingress" => json!({"loadBalancer": {}}),
        _ => json!({}),
    })
}

fn quality_of_service(pod: &Value) -> &'static str {
    let containers = pod.pointer("/spec/containers").and_then(Value::as_array).cloned().unwrap_or_default();
    let amounts = |container: &Value, kind: &str| {
        let listed = container.get("resources").and_then(|resources| resources.get(kind)).cloned().unwrap_or_default();
        ["cpu", "memory"].map(|name| listed.get(name).cloned().filter(|amount| amount != "0"))
    };
    let none = [None, None];
    let of = |kind| containers.iter().map(|container| amounts(container, kind)).collect::<Vec<_>>();
    let (requests, limits) = (of("requests"), of("limits"));
    if requests.iter().chain(&limits).all(|amounts| *amounts == none) {
        return "BestEffort";
    }
    let is_full = limits.iter().all(|amounts| amounts.iter().all(Option::is_some));
    if is_full && requests == limits { "Guaranteed" } else { "Burstable" }
}

/// The status of a new definition.
fn unestablished(definition: &Value) -> Value {
    let versions = definition.pointer("/spec/versions").and_then(Value::as_array).into_iter().flatten();
    let stored = versions.filter(|version| version.get("storage").and_then(Value::as_bool) == Some(true));
    let stored: Vec<Value> = stored.filter_map(|version| version.get("name").cloned()).collect();
    json!({"acceptedNames": {"kind": "", "plural": ""}, "conditions": null, "storedVersions": stored})
}

/// The status of a definition whose kind is served.
pub(super) fn established(definition: &Value) -> Value {
    let at = meta::text(definition, "creationTimestamp").unwrap_or_default();
    let condition = |of: &str, reason: &str, message: &str| json!({"type": of, "status": "True", "reason": reason, "message": message, "lastTransitionTime": at});
    json!({
        "acceptedNames": definition.pointer("/spec/names").cloned().unwrap_or_default(),
        "conditions": [
            condition("NamesAccepted", "NoConflicts", "no conflicts found"),
            condition("Established", "InitialNamesAccepted", "the initial names have been accepted"),
        ],
        "storedVersions": definition.pointer("/status/storedVersions").cloned().unwrap_or_default(),
    })
}

/// An update: the generation counts what is neither metadata nor status.
pub(super) fn prepare_update(info: &KindInfo, old: &Value, new: &mut Value) {
    keep_identity(old, new);
    if info.is("", "Service") {
        addresses::keep(old, new);
    }
    if info.is("", "Namespace") {
        keep_field(new, old, "spec");
    }
    if info.is("apps", "DaemonSet") {
        let annotations = old.pointer("/metadata/annotations");
        let count = annotations.and_then(|annotations| annotations.get(TEMPLATE_GENERATION)).and_then(Value::as_str);
        let count = count.and_then(|count| count.parse::<i64>().ok()).unwrap_or(0);
        let is_changed = old.pointer("/spec/template") != new.pointer("/spec/template");
        count_template(new, count + i64::from(is_changed));
    }
    // What never changes keeps its first generation.
    if info.has_generation() && info.kind != "PriorityClass" && !has_same_content(info, old, new) {
        let generation = old.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or(0);
        meta::set(new, "generation", Some(json!(generation + 1)));
    }
}

fn has_same_content(info: &KindInfo, old: &Value, new: &Value) -> bool {
    same_beside(old, new, |name| name == "metadata" || (info.has_status && name == "status"))
}

/// Whether nothing differs but the times in `managedFields`.
pub(super) fn same_but_times(old: &Value, new: &Value) -> bool {
    let none = Value::Null;
    let (before, after) = (old.get("metadata").unwrap_or(&none), new.get("metadata").unwrap_or(&none));
    let same_entries = match (before.get("managedFields"), after.get("managedFields")) {
        (Some(Value::Array(old)), Some(Value::Array(new))) => {
            old.len() == new.len() && old.iter().zip(new).all(|(old, new)| same_beside(old, new, |name| name == "time"))
        }
        (old, new) => old == new,
    };
    same_entries
        && same_beside(before, after, |name| name == "managedFields")
        && same_beside(old, new, |name| name == "metadata")
}

/// Whether two objects are the same but for some fields.
fn same_beside(old: &Value, new: &Value, leaves_out: impl Fn(&str) -> bool) -> bool {
    let (Some(old), Some(new)) = (old.as_object(), new.as_object()) else {
        return old == new;
    };
    let looked_at = |(name, _): &(&String, &Value)| !leaves_out(name);
    old.iter().filter(looked_at).eq(new.iter().filter(looked_at))
}

fn keep_field(new: &mut Value, old: &Value, field: &str) {
    set_field(new, field, old.get(field).cloned());
}

fn set_field(object: &mut Value, field: &str, value: Option<Value>) {
    let Some(fields) = object.as_object_mut() else {
        return;
    };
    match value {
        Some(value) => fields.insert(field.to_owned(), value),
        None => fields.remove(field),
    };
}
