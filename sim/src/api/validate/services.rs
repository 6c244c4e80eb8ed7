//! Services, NetworkPolicies and Ingresses.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::Value;

use super::super::error::Cause;
use super::check::{Causes, duplicate, invalid, list, one_of, port, required, text};
use super::{metadata, selectors};

/// A Service.
pub(super) fn service(causes: &mut Causes, object: &Value) {
    let none = Value::Null;
    let spec = object.get("spec").unwrap_or(&none);
    let kind = text(spec, "type");
    one_of(causes, "spec.type", kind, &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"]);
    metadata::labels(spec.get("selector"), "spec.selector", causes);
    let ports = list(spec, "ports");
    if kind == "ExternalName" {
        metadata::subdomain_name(causes, "spec.externalName", text(spec, "externalName"));
    } else if ports.is_empty() && text(spec, "clusterIP") != "None" {
        required(causes, "spec.ports");
    }
    let (mut names, mut numbers) = (BTreeSet::new(), BTreeSet::new());
    for (index, found) in ports.iter().enumerate() {
        let place = format!("spec.ports[{index}]");
        let name = text(found, "name");
        if name.is_empty() {
            if ports.len() > 1 {
                required(causes, format!("{place}.name"));
            }
        } else {
            metadata::label_name(causes, &format!("{place}.name"), name);
            if !names.insert(name) {
                duplicate(causes, format!("{place}.name"), &Value::from(name));
            }
        }
        port(causes, format!("{place}.port"), found.get("port"));
        port(causes, format!("{place}.targetPort"), found.get("targetPort"));
        one_of(causes, format!("{place}.protocol"), text(found, "protocol"), &["SCTP", "TCP", "UDP"]);
        let number = found.get("port").and_then(Value::as_i64).unwrap_or(0);
        let protocol = text(found, "protocol");
        if !numbers.insert((number, protocol)) {
            // The server shows its own structure.
            let shown = format!(
                "{{\"Name\":\"\",\"Protocol\":\"{protocol}\",\"AppProtocol\":null,\"Port\":{number},\"TargetPort\":0,\
                 \"NodePort\":0}}"
            );
            causes.push(Cause::new(&place, format!("Duplicate value: {shown}")));
        }
        if kind == "ClusterIP" && found.get("nodePort").is_some() {
            let detail = "Forbidden: may not be used when `type` is 'ClusterIP'";
            causes.push(Cause::new(format!("{place}.nodePort"), detail));
        }
    }
}

/// A NetworkPolicy.
pub(super) fn network_policy(causes: &mut Causes, object: &Value) {
    let Some(spec) = object.get("spec") else {
        return;
    };
    selectors::selector(causes, "spec.podSelector", spec.get("podSelector"));
    for (index, found) in list(spec, "policyTypes").iter().enumerate() {
        let field = format!("spec.policyTypes[{index}]");
        one_of(causes, field, found.as_str().unwrap_or_default(), &["Ingress", "Egress"]);
    }
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        for (index, rule) in list(spec, direction).iter().enumerate() {
            for (number, peer) in list(rule, peers).iter().enumerate() {
                let field = format!("spec.{direction}[{index}].{peers}[{number}].ipBlock.cidr");
                let range = peer.pointer("/ipBlock/cidr").and_then(Value::as_str);
                if let Some(range) = range.filter(|range| !is_range(range)) {
                    let why = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
                    invalid(causes, field, &Value::from(range), why);
                }
            }
        }
    }
}

fn is_range(text: &str) -> bool {
    let parts = text.split_once('/');
    let read = parts.and_then(|(address, length)| Some((address.parse::<IpAddr>().ok()?, length.parse::<u8>().ok()?)));
    read.is_some_and(|(address, length)| length <= if address.is_ipv4() { 32 } else { 128 })
}

/// An Ingress.
pub(super) fn ingress(causes: &mut Causes, object: &Value) {
    let none = Value::Null;
    let spec = object.get("spec").unwrap_or(&none);
    let rules = list(spec, "rules");
    if rules.is_empty() && spec.get("defaultBackend").is_none() {
        let detail = "Invalid value: null: either `defaultBackend` or `rules` must be specified";
        causes.push(Cause::new("spec", detail));
    }
    for (index, rule) in rules.iter().enumerate() {
        let paths = rule.pointer("/http/paths").and_then(Value::as_array).into_iter().flatten();
        for (number, path) in paths.enumerate() {
            let place = format!("spec.rules[{index}].http.paths[{number}]");
            if text(path, "pathType").is_empty() {
                let detail = "Required value: pathType must be specified";
                causes.push(Cause::new(format!("{place}.pathType"), detail));
            }
        }
    }
}
