//! Pods and templates.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::error::Cause;
use super::check::{Causes, duplicate, list, number, one_of, required, text};
use super::{containers, metadata};

/// The spec of a Pod or a template.
pub(super) fn spec(causes: &mut Causes, spec: Option<&Value>, field: &str) {
    let Some(spec) = spec else {
        return required(causes, format!("{field}.containers"));
    };
    volumes(causes, spec, field);
    if list(spec, "containers").is_empty() {
        required(causes, format!("{field}.containers"));
    }
    let mut names = BTreeSet::new();
    for name in ["containers", "initContainers"] {
        containers::check(causes, spec, field, name, &mut names);
    }
    let policies = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    one_of(causes, format!("{field}.dnsPolicy"), text(spec, "dnsPolicy"), &policies);
    let account = text(spec, "serviceAccountName");
    if !account.is_empty() {
        metadata::subdomain_name(causes, &format!("{field}.serviceAccountName"), account);
    }
    metadata::labels(spec.get("nodeSelector"), &format!("{field}.nodeSelector"), causes);
}

/// The template of a workload whose pods run for good, or, of a Job, until they end.
pub(super) fn template(causes: &mut Causes, template: Option<&Value>, field: &str, policies: &[&str]) {
    let labels = template.and_then(|template| template.pointer("/metadata/labels"));
    metadata::labels(labels, &format!("{field}.labels"), causes);
    let of_pod = template.and_then(|template| template.get("spec"));
    spec(causes, of_pod, &format!("{field}.spec"));
    let found = of_pod.map(|spec| text(spec, "restartPolicy")).unwrap_or_default();
    if policies.contains(&found) {
        return;
    }
    let shown: Vec<String> = policies.iter().map(|policy| format!("\"{policy}\"")).collect();
    let detail = match found {
        "Always" | "" => format!("Required value: valid values: {}", shown.join(", ")),
        _ => format!("Unsupported value: \"{found}\": supported values: {}", shown.join(", ")),
    };
    causes.push(Cause::new(format!("{field}.spec.restartPolicy"), detail));
}

/// Pods that are replaced when they end have no deadline.
pub(super) fn no_deadline(causes: &mut Causes, object: &Value, kind: &str) {
    let spec = object.pointer("/spec/template/spec");
    if spec.and_then(|spec| number(spec, "activeDeadlineSeconds")).is_some() {
        let detail = format!("Forbidden: activeDeadlineSeconds in {kind} is not Supported");
        causes.push(Cause::new("spec.template.spec.activeDeadlineSeconds", detail));
    }
}

fn volumes(causes: &mut Causes, spec: &Value, field: &str) {
    let mut names = BTreeSet::new();
    for (index, volume) in list(spec, "volumes").iter().enumerate() {
        let place = format!("{field}.volumes[{index}]");
        let name = text(volume, "name");
        if name.is_empty() {
            required(causes, format!("{place}.name"));
        } else {
            metadata::label_name(causes, &format!("{place}.name"), name);
            if !names.insert(name) {
                duplicate(causes, format!("{place}.name"), &Value::from(name));
            }
        }
        // Which of two is too many depends on their order in the server's own type, where emptyDir is early.
        let kinds = volume.as_object().into_iter().flatten().map(|(kind, _)| kind).filter(|kind| *kind != "name");
        for kind in kinds.skip(1) {
            causes.push(Cause::new(format!("{place}.{kind}"), "Forbidden: may not specify more than 1 volume type"));
        }
    }
}
