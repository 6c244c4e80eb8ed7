//! Pods and their templates.

use serde_json::{Value, json};

use super::{each, unset, within};

/// A Pod of its own.
pub(super) fn fill_pod(pod: &mut Value) {
    within(pod, "spec", |spec| {
        unset(spec, "enableServiceLinks", || json!(true));
        fill(spec);
        for list in ["containers", "initContainers"] {
            each(spec, list, |container| within(container, "resources", requests_from_limits));
        }
    });
}

/// A Pod requests at least what it is limited to. Templates stay as they are.
fn requests_from_limits(resources: &mut Value) {
    let Some(limits) = resources.get("limits").and_then(Value::as_object).cloned() else {
        return;
    };
    unset(resources, "requests", || json!({}));
    within(resources, "requests", |requests| {
        for (name, amount) in limits {
            unset(requests, &name, || amount);
        }
    });
}

/// The spec of a Pod or of a template.
pub(super) fn fill(spec: &mut Value) {
    unset(spec, "restartPolicy", || json!("Always"));
    unset(spec, "terminationGracePeriodSeconds", || json!(30));
    unset(spec, "dnsPolicy", || json!("ClusterFirst"));
    unset(spec, "securityContext", || json!({}));
    unset(spec, "schedulerName", || json!("default-scheduler"));
    // The deprecated alias follows the name.
    let account = spec.get("serviceAccountName").or_else(|| spec.get("serviceAccount")).cloned();
    if let (Some(account), Some(fields)) = (account, spec.as_object_mut()) {
        fields.insert("serviceAccountName".to_owned(), account.clone());
        fields.insert("serviceAccount".to_owned(), account);
    }
    let on_host = spec.get("hostNetwork").and_then(Value::as_bool) == Some(true);
    for list in ["containers", "initContainers"] {
        each(spec, list, |container| fill_container(container, on_host));
    }
    each(spec, "volumes", fill_volume);
}

fn fill_container(container: &mut Value, on_host: bool) {
    unset(container, "terminationMessagePath", || json!("/dev/termination-log"));
    unset(container, "terminationMessagePolicy", || json!("File"));
    unset(container, "resources", || json!({}));
    let image = container.get("image").and_then(Value::as_str).unwrap_or_default().to_owned();
    if !image.is_empty() {
        let policy = if is_latest(&image) { "Always" } else { "IfNotPresent" };
        unset(container, "imagePullPolicy", || json!(policy));
    }
    each(container, "ports", |port| {
        unset(port, "protocol", || json!("TCP"));
        let number = port.get("containerPort").cloned().unwrap_or_default();
        if on_host {
            unset(port, "hostPort", || number);
        }
    });
    each(container, "env", |variable| {
        within(variable, "valueFrom", |from| {
            within(from, "fieldRef", |field| unset(field, "apiVersion", || json!("v1")));
            within(from, "resourceFieldRef", |field| unset(field, "divisor", || json!("0")));
        });
    });
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        within(container, probe, fill_probe);
    }
    within(container, "lifecycle", |lifecycle| {
        for hook in ["postStart", "preStop"] {
            within(lifecycle, hook, |hook| within(hook, "httpGet", fill_http));
        }
    });
}

/// Whether the tag is `latest` or none. A digest is never latest.
fn is_latest(image: &str) -> bool {
    if image.contains('@') {
        return false;
    }
    let last = image.rsplit_once('/').map_or(image, |(_, last)| last);
    last.rsplit_once(':').is_none_or(|(_, tag)| tag == "latest")
}

fn fill_probe(probe: &mut Value) {
    for (field, default) in
        [("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)]
    {
        unset(probe, field, || json!(default));
    }
    within(probe, "httpGet", fill_http);
    within(probe, "grpc", |grpc| unset(grpc, "service", || json!("")));
}

fn fill_http(get: &mut Value) {
    unset(get, "path", || json!("/"));
    unset(get, "scheme", || json!("HTTP"));
}

fn fill_volume(volume: &mut Value) {
    for source in ["secret", "configMap", "projected", "downwardAPI"] {
        within(volume, source, |source| unset(source, "defaultMode", || json!(420)));
    }
    within(volume, "hostPath", |path| unset(path, "type", || json!("")));
    within(volume, "downwardAPI", |source| {
        each(source, "items", |item| {
            within(item, "fieldRef", |field| unset(field, "apiVersion", || json!("v1")));
            within(item, "resourceFieldRef", |field| unset(field, "divisor", || json!("0")));
        });
    });
    within(volume, "projected", |projected| {
        each(projected, "sources", |source| {
            within(source, "serviceAccountToken", |token| unset(token, "expirationSeconds", || json!(3600)));
        });
    });
    if volume.as_object().is_some_and(|fields| fields.len() == 1 && fields.contains_key("name")) {
        unset(volume, "emptyDir", || json!({}));
    }
}
