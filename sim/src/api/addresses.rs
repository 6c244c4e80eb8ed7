//! What the server hands out to Services: addresses and ports of nodes. What a type does not need it takes back.

use serde_json::{Map, Value, json};

use super::Api;

/// Whether a Service of this spec has a field.
type Needs = fn(&Map<String, Value>) -> bool;

fn text<'v>(spec: &'v Map<String, Value>, name: &str) -> &'v str {
    spec.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn has_address(spec: &Map<String, Value>) -> bool {
    text(spec, "type") != "ExternalName"
}

fn has_node_ports(spec: &Map<String, Value>) -> bool {
    ["NodePort", "LoadBalancer"].contains(&text(spec, "type"))
}

fn is_checked(spec: &Map<String, Value>) -> bool {
    text(spec, "type") == "LoadBalancer" && text(spec, "externalTrafficPolicy") == "Local"
}

/// An update: what was allocated stays, though the client leaves it out; what the new type does not need goes, unless
/// the client changed it.
pub(super) fn keep(old: &Value, new: &mut Value) {
    let none = Map::new();
    let old = old.get("spec").and_then(Value::as_object).unwrap_or(&none);
    let Some(new) = new.get_mut("spec").and_then(Value::as_object_mut) else {
        return;
    };
    let is_ported = |spec: &Map<String, Value>| has_node_ports(spec);
    let is_balanced = |spec: &Map<String, Value>| text(spec, "type") == "LoadBalancer";
    let needs: [(&str, Needs); 8] = [
        ("clusterIP", has_address),
        ("clusterIPs", has_address),
        ("ipFamilies", has_address),
        ("ipFamilyPolicy", has_address),
        ("internalTrafficPolicy", has_address),
        ("externalTrafficPolicy", is_ported),
        ("healthCheckNodePort", is_checked),
        ("allocateLoadBalancerNodePorts", is_balanced),
    ];
    for (field, needs) in needs {
        if needs(old) && needs(new) {
            if let Some(value) = old.get(field) {
                new.entry(field).or_insert_with(|| value.clone());
            }
        } else if needs(old) && new.get(field) == old.get(field) {
            new.remove(field);
        }
    }
    let earlier = old.get("ports").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let (had, has) = (has_node_ports(old), has_node_ports(new));
    for port in new.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        let same =
            |other: &&Value| other.get("port") == port.get("port") && other.get("protocol") == port.get("protocol");
        let number = earlier.iter().find(same).and_then(|port| port.get("nodePort")).cloned();
        let Some(fields) = port.as_object_mut() else {
            continue;
        };
        if had && !has && fields.get("nodePort") == number.as_ref() {
            fields.remove("nodePort");
        } else if let (true, true, Some(number)) = (had, has, number) {
            fields.entry("nodePort").or_insert(number);
        }
    }
}

impl Api {
    /// Hands out what a Service needs and has not. A trial takes nothing away from others.
    pub(super) fn allocate_addresses(&mut self, service: &mut Value, is_trial: bool) {
        let spec = service.as_object_mut().map(|fields| fields.entry("spec").or_insert_with(|| json!({})));
        let Some(spec) = spec.and_then(Value::as_object_mut).filter(|spec| has_address(spec)) else {
            return;
        };
        if text(spec, "clusterIP").is_empty() {
            self.addresses += u32::from(!is_trial);
            let address = if is_trial { 0 } else { self.addresses };
            let address = format!("10.{}.{}.{}", 96 + (address >> 16) % 16, (address >> 8) % 256, address % 256);
            spec.insert("clusterIP".to_owned(), json!(address));
            spec.insert("clusterIPs".to_owned(), json!([address]));
        }
        let address = spec.get("clusterIP").cloned().unwrap_or_default();
        spec.entry("clusterIPs").or_insert(json!([address]));
        spec.entry("ipFamilies").or_insert(json!(["IPv4"]));
        spec.entry("ipFamilyPolicy").or_insert(json!("SingleStack"));
        if is_checked(spec) && !spec.contains_key("healthCheckNodePort") {
            spec.insert("healthCheckNodePort".to_owned(), self.node_port());
        }
        if !has_node_ports(spec) {
            return;
        }
        for port in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(port) = port.as_object_mut().filter(|port| !port.contains_key("nodePort")) {
                port.insert("nodePort".to_owned(), self.node_port());
            }
        }
    }

    fn node_port(&mut self) -> Value {
        self.addresses += 1;
        json!(30000 + self.addresses % 2768)
    }
}
