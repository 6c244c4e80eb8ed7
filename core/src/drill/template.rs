//! Templates of pods that people write for a sandbox: what is refused in them, and what Interlock adds.
//!
//! A template is read by what it may contain, not by what it must not: a field that is not known here is refused, so that a
//! field of a later Kubernetes is no way out. Whoever edits a drill runs code on restored data; it reaches that data and
//! nothing else.

use serde_json::{Map, Value, json};

/// The volume with the restored data, which Interlock adds.
pub const RESTORED_VOLUME: &str = "restored";
/// Largest template, in bytes.
const MAX_BYTES: usize = 32_768;
/// Most containers of a pod.
const MAX_CONTAINERS: usize = 10;

const POD: [&str; 11] = [
    "containers",
    "initContainers",
    "volumes",
    "restartPolicy",
    "terminationGracePeriodSeconds",
    "securityContext",
    "nodeSelector",
    "tolerations",
    "imagePullSecrets",
    "automountServiceAccountToken",
    "enableServiceLinks",
];
const CONTAINER: [&str; 14] = [
    "name",
    "image",
    "imagePullPolicy",
    "command",
    "args",
    "workingDir",
    "env",
    "ports",
    "resources",
    "volumeMounts",
    "securityContext",
    "startupProbe",
    "readinessProbe",
    "livenessProbe",
];
const POD_SECURITY: [&str; 8] = [
    "runAsNonRoot",
    "runAsUser",
    "runAsGroup",
    "fsGroup",
    "fsGroupChangePolicy",
    "supplementalGroups",
    "seccompProfile",
    "supplementalGroupsPolicy",
];
const CONTAINER_SECURITY: [&str; 8] = [
    "allowPrivilegeEscalation",
    "readOnlyRootFilesystem",
    "runAsNonRoot",
    "runAsUser",
    "runAsGroup",
    "capabilities",
    "seccompProfile",
    "privileged",
];

/// What is wrong with a template, as sentences; empty if it can be used.
pub fn problems(name: &str, template: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    if template.to_string().len() > MAX_BYTES {
        return vec![format!("{name}: the template is larger than {MAX_BYTES} bytes")];
    }
    let Some(pod) = template.get("spec").and_then(Value::as_object) else {
        return vec![format!("{name}: write the template with metadata and spec, as in a Deployment")];
    };
    for field in
        template.as_object().into_iter().flat_map(Map::keys).filter(|f| !["metadata", "spec"].contains(&f.as_str()))
    {
        wrong.push(format!("{name}: {field} is no field of a pod template; write metadata and spec"));
    }
    known(&mut wrong, name, "spec", pod, &POD);
    for (field, only) in [("automountServiceAccountToken", false), ("enableServiceLinks", false)] {
        if pod.get(field).is_some_and(|value| value != only) {
            wrong.push(format!("{name}: spec.{field} must be {only}: pods of a sandbox have no credentials"));
        }
    }
    security(&mut wrong, name, "spec.securityContext", pod.get("securityContext"), &POD_SECURITY);
    let mut names = Vec::new();
    let containers = |field: &str| pod.get(field).and_then(Value::as_array).cloned().unwrap_or_default();
    if containers("containers").is_empty() {
        wrong.push(format!("{name}: spec.containers is empty"));
    }
    if containers("containers").len() + containers("initContainers").len() > MAX_CONTAINERS {
        wrong.push(format!("{name}: more than {MAX_CONTAINERS} containers"));
    }
    for field in ["containers", "initContainers"] {
        for (index, item) in containers(field).iter().enumerate() {
            let path = format!("spec.{field}[{index}]");
            container(&mut wrong, name, &path, item, field == "initContainers");
            names.push(item.get("name").and_then(Value::as_str).unwrap_or_default().to_owned());
        }
    }
    names.sort();
    if names.windows(2).any(|pair| pair.first() == pair.last()) {
        wrong.push(format!("{name}: two containers have one name"));
    }
    for (index, volume) in pod.get("volumes").and_then(Value::as_array).into_iter().flatten().enumerate() {
        wrong.extend(volume_problem(name, index, volume));
    }
    wrong
}

fn known(wrong: &mut Vec<String>, name: &str, path: &str, given: &Map<String, Value>, allowed: &[&str]) {
    for field in given.keys().filter(|field| !allowed.contains(&field.as_str())) {
        let why = match field.as_str() {
            "hostNetwork" | "hostPID" | "hostIPC" | "hostUsers" => "a sandbox does not share the node's namespaces",
            "serviceAccountName" | "serviceAccount" => "pods of a sandbox run without rights in the cluster",
            "envFrom" => "a sandbox holds no Secrets and ConfigMaps; write values into env",
            "nodeName" => "the scheduler chooses the node; use nodeSelector",
            "hostAliases" => "Interlock sets it, so that dependencies are found by their names",
            "volumeDevices" => "block devices are not given to a sandbox",
            "lifecycle" => "hooks are not run in a sandbox",
            "dnsConfig" | "dnsPolicy" => "a sandbox reaches no name server; dependencies are found by their names",
            "ephemeralContainers" => "containers stand in containers and initContainers",
            _ => "it is not among the fields that a drill allows",
        };
        wrong.push(format!("{name}: {path}.{field} is refused: {why}"));
    }
}

fn container(wrong: &mut Vec<String>, name: &str, path: &str, container: &Value, init: bool) {
    let Some(fields) = container.as_object() else {
        wrong.push(format!("{name}: {path} is not a container"));
        return;
    };
    // A sidecar is an init container that goes on.
    let more = if init { &["restartPolicy"][..] } else { &[] };
    let allowed: Vec<_> = CONTAINER.iter().chain(more).copied().collect();
    known(wrong, name, path, fields, &allowed);
    for (index, variable) in fields.get("env").and_then(Value::as_array).into_iter().flatten().enumerate() {
        let from = variable.get("valueFrom").and_then(Value::as_object);
        let harmless =
            from.is_none_or(|from| from.keys().all(|key| ["fieldRef", "resourceFieldRef"].contains(&key.as_str())));
        if !harmless {
            wrong.push(format!(
                "{name}: {path}.env[{index}] takes its value from a Secret or ConfigMap: a sandbox holds none; write a value"
            ));
        }
    }
    for port in fields.get("ports").and_then(Value::as_array).into_iter().flatten() {
        if port.get("hostPort").is_some_and(|port| *port != 0) || port.get("hostIP").is_some() {
            wrong.push(format!("{name}: {path}.ports has a hostPort: a sandbox is not reached through its node"));
        }
    }
    security(wrong, name, &format!("{path}.securityContext"), fields.get("securityContext"), &CONTAINER_SECURITY);
}

fn security(wrong: &mut Vec<String>, name: &str, path: &str, context: Option<&Value>, allowed: &[&str]) {
    let context = match context {
        None | Some(Value::Null) => return,
        Some(Value::Object(context)) => context,
        Some(_) => {
            wrong.push(format!("{name}: {path} is not an object; write its fields, or leave it out"));
            return;
        }
    };
    known(wrong, name, path, context, allowed);
    let is = |field: &str, value: Value| context.get(field) == Some(&value);
    if is("privileged", json!(true)) || is("allowPrivilegeEscalation", json!(true)) {
        wrong.push(format!("{name}: {path} asks for privileges; pods of a sandbox are restricted"));
    }
    if is("runAsNonRoot", json!(false)) || is("runAsUser", json!(0)) {
        wrong.push(format!("{name}: {path} runs as root; give runAsUser another user"));
    }
    let added = context.get("capabilities").and_then(|capabilities| capabilities.get("add"));
    if added.and_then(Value::as_array).is_some_and(|added| !added.is_empty()) {
        wrong.push(format!("{name}: {path} adds capabilities; pods of a sandbox have none"));
    }
    let seccomp = context.get("seccompProfile").and_then(|profile| profile.get("type")).and_then(Value::as_str);
    if seccomp.is_some_and(|profile| profile != "RuntimeDefault") {
        wrong.push(format!("{name}: {path}.seccompProfile must be RuntimeDefault"));
    }
}

fn volume_problem(name: &str, index: usize, volume: &Value) -> Option<String> {
    let path = format!("spec.volumes[{index}]");
    let fields = volume.as_object()?;
    if fields.get("name").and_then(Value::as_str) == Some(RESTORED_VOLUME) {
        return Some(format!(
            "{name}: {path} is named {RESTORED_VOLUME}, which Interlock adds; leave it out and mount it"
        ));
    }
    let other = fields.keys().find(|key| !["name", "emptyDir", "downwardAPI"].contains(&key.as_str()))?;
    let why = match other.as_str() {
        "hostPath" => "a sandbox does not see the disk of its node",
        "secret" | "configMap" | "projected" => "a sandbox holds no credentials",
        "persistentVolumeClaim" => "a sandbox has one volume, named restored, with the restored data",
        _ => "a template may use emptyDir, downwardAPI and the volume restored",
    };
    Some(format!("{name}: {path} is a {other}: {why}"))
}

/// Brings a template into the form that runs: labels and host names of Interlock, restricted, without token, the restored data
/// as volume, below its folder.
pub fn render(template: &Value, labels: &Value, aliases: &[(String, String)], folder: &str) -> Value {
    let mut spec = template.get("spec").cloned().unwrap_or_else(|| json!({}));
    spec["automountServiceAccountToken"] = json!(false);
    spec["enableServiceLinks"] = json!(false);
    if spec.get("terminationGracePeriodSeconds").is_none() {
        spec["terminationGracePeriodSeconds"] = json!(10);
    }
    for (field, value) in [("runAsNonRoot", json!(true)), ("seccompProfile", json!({"type": "RuntimeDefault"}))] {
        if spec["securityContext"].get(field).is_none() {
            spec["securityContext"][field] = value;
        }
    }
    let mut mounts_restored = false;
    for field in ["containers", "initContainers"] {
        for container in spec.get_mut(field).and_then(Value::as_array_mut).into_iter().flatten() {
            container["securityContext"]["allowPrivilegeEscalation"] = json!(false);
            container["securityContext"]["capabilities"] = json!({"drop": ["ALL"]});
            for mount in container.get_mut("volumeMounts").and_then(Value::as_array_mut).into_iter().flatten() {
                if mount["name"] == RESTORED_VOLUME {
                    mounts_restored = true;
                    let below = mount.get("subPath").and_then(Value::as_str).unwrap_or_default();
                    mount["subPath"] = json!(format!("{folder}/{}", below.trim_matches('/')).trim_end_matches('/'));
                }
            }
        }
    }
    if mounts_restored {
        let volume =
            json!({"name": RESTORED_VOLUME, "persistentVolumeClaim": {"claimName": super::names::SANDBOX_CLAIM}});
        match spec.get_mut("volumes").and_then(Value::as_array_mut) {
            Some(volumes) => volumes.push(volume),
            None => spec["volumes"] = json!([volume]),
        }
    }
    spec["hostAliases"] = host_aliases(aliases);
    let mut own = template.pointer("/metadata/labels").and_then(Value::as_object).cloned().unwrap_or_default();
    own.extend(labels.as_object().cloned().unwrap_or_default());
    json!({"labels": own, "spec": spec})
}

/// Names by which pods of a sandbox find each other: there is no name server in it.
pub fn host_aliases(aliases: &[(String, String)]) -> Value {
    aliases.iter().map(|(name, address)| json!({"ip": address, "hostnames": [name]})).collect()
}
