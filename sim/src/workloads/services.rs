//! Services: an EndpointSlice of the pods they select, and an address for a load balancer.
//!
//! Left out: the older Endpoints, and Services without a selector.

use std::sync::Arc;

use interlock_core::object::GroupKind;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{hash, kubelet, pods, read, writes};
use crate::api::{Api, ApiError, Key, meta};

const NAME: &str = "endpointslice-controller";

/// The kind.
pub(super) fn kind() -> GroupKind {
    GroupKind::new("", "Service")
}

/// Whether the Service selects a pod.
pub(super) fn selects(service: &Value, pod: &Value) -> bool {
    let selector = service.pointer("/spec/selector").and_then(Value::as_object).filter(|labels| !labels.is_empty());
    selector.is_some_and(|labels| labels.iter().all(|(name, value)| value.as_str() == Some(read::label(pod, name))))
}

/// One look at a Service.
pub(super) fn reconcile(api: &mut Api, key: &Key) -> Result<Option<Timestamp>, ApiError> {
    let Some(service) = writes::live(api, key) else {
        return Ok(None);
    };
    let has_address = !read::list(&service, "/status/loadBalancer/ingress").is_empty();
    if read::text(&service, "/spec/type") == "LoadBalancer" && !has_address {
        let number = read::text(&service, "/spec/clusterIP").rsplit_once('.').map_or("1", |(_, last)| last);
        let ingress = json!([{"ip": format!("203.0.113.{number}"), "ipMode": "VIP"}]);
        writes::put_status(api, "service-controller", &service, json!({"loadBalancer": {"ingress": ingress}}))?;
    }
    if service.pointer("/spec/selector").is_none() || read::text(&service, "/spec/type") == "ExternalName" {
        return Ok(None);
    }
    let mut selected = api.list_arc(&kubelet::kind(), Some(&key.namespace));
    selected
        .retain(|pod| selects(&service, pod) && !pods::has_ended(pod) && !read::text(pod, "/status/podIP").is_empty());
    write_slice(api, &service, &selected).map(|()| None)
}

fn write_slice(api: &mut Api, service: &Value, selected: &[Arc<Value>]) -> Result<(), ApiError> {
    let name = format!("{}-{}", meta::name(service), hash::short(&[meta::uid(service)]).split_at(5).0);
    let endpoints: Vec<Value> = selected.iter().map(|pod| endpoint(service, pod)).collect();
    let ports: Vec<Value> = read::list(service, "/spec/ports").iter().map(|port| slice_port(port, selected)).collect();
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": name,
            "namespace": meta::namespace(service),
            "labels": {
                "kubernetes.io/service-name": meta::name(service),
                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
            },
            "ownerReferences": [writes::reference_to(service)],
        },
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": ports,
    });
    let key = read::key(&slice);
    let Some(old) = api.get_arc(&key.kind, &key.namespace, &key.name) else {
        return writes::create(api, NAME, slice).map(drop);
    };
    let mut new = (*old).clone();
    writes::set(&mut new, "endpoints", json!(endpoints));
    writes::set(&mut new, "ports", json!(ports));
    if new == *old {
        return Ok(());
    }
    api.write_as_system(NAME, crate::api::Verb::Replace(new)).map(drop)
}

fn endpoint(service: &Value, pod: &Value) -> Value {
    let (is_ready, is_terminating) = (pods::is_ready(pod), meta::is_terminating(pod));
    let publishes = read::flag(service, "/spec/publishNotReadyAddresses");
    json!({
        "addresses": [read::text(pod, "/status/podIP")],
        "conditions": {
            "ready": publishes || (is_ready && !is_terminating),
            "serving": is_ready,
            "terminating": is_terminating,
        },
        "nodeName": read::text(pod, "/spec/nodeName"),
        "targetRef": {
            "kind": "Pod",
            "name": meta::name(pod),
            "namespace": meta::namespace(pod),
            "uid": meta::uid(pod),
        },
    })
}

fn slice_port(port: &Value, selected: &[Arc<Value>]) -> Value {
    let target = port.get("targetPort").unwrap_or(&Value::Null);
    let number = target.as_i64().or_else(|| {
        let containers = selected.first().map_or(&[][..], |pod| read::list(pod, "/spec/containers"));
        let mut ports = containers.iter().flat_map(|container| read::list(container, "/ports"));
        read::number(ports.find(|port| port.get("name") == Some(target))?, "/containerPort")
    });
    json!({
        "name": read::text(port, "/name"),
        "port": number.or_else(|| read::number(port, "/port")),
        "protocol": port.get("protocol").cloned().unwrap_or_else(|| json!("TCP")),
    })
}
