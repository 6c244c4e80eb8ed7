//! Where requests go (R30): shares sum up, they go to ready endpoints only, and pods go after them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use interlock_sim::api::meta;
use serde_json::Value;

use super::{is_ready, of_change, own_services, text};
use crate::{
    cluster::Audit,
    invariants::{A_MOMENT, Watchdog},
    world::{World, key_of},
};

/// When a Service (`namespace/name`) was last seen with a ready endpoint, and a version (its hash) with a ready pod.
pub(in crate::invariants) type Ready = BTreeMap<String, Instant>;

fn is_route(audit: &Audit) -> bool {
    audit.id.kind == "HTTPRoute" && audit.subresource.is_none() && audit.user.ends_with(":executor")
}

/// Weights of a route's backends, by name; the most where several rules name one.
pub(super) fn weights(route: &Value) -> BTreeMap<String, i64> {
    let mut weights = BTreeMap::new();
    let rules = route.pointer("/spec/rules").and_then(Value::as_array).into_iter().flatten();
    for reference in rules.filter_map(|rule| rule.get("backendRefs")?.as_array()).flatten() {
        let weight = reference.get("weight").map_or(1, |weight| weight.as_i64().unwrap_or_default());
        let known = weights.entry(text(reference, "/name").to_owned()).or_default();
        *known = weight.max(*known);
    }
    weights
}

fn ready_endpoints(world: &World, namespace: &str, service: &str) -> usize {
    let slices = world.objects("discovery.k8s.io", "EndpointSlice");
    let of = slices.iter().filter(|slice| {
        meta::namespace(slice) == namespace && text(slice, "/metadata/labels/kubernetes.io~1service-name") == service
    });
    let endpoints = of.filter_map(|slice| slice.get("endpoints")?.as_array()).flatten();
    endpoints.filter(|endpoint| endpoint.pointer("/conditions/ready") == Some(&Value::Bool(true))).count()
}

/// In a rule that is split the shares sum up to a multiple of a hundred; and a backend whose weight rises has a ready
/// endpoint, or had one a moment ago, as long as any backend has.
pub(in crate::invariants) fn weights_follow_endpoints(
    dog: &mut Watchdog,
    world: &World,
    audit: &Audit,
) -> Result<(), String> {
    let now = world.instant();
    for route in world.objects("gateway.networking.k8s.io", "HTTPRoute") {
        let namespace = meta::namespace(&route);
        for service in weights(&route).into_keys().chain(shares(&route)) {
            if ready_endpoints(world, namespace, &service) > 0 {
                dog.ready.insert(format!("{namespace}/{service}"), now);
            }
        }
    }
    let (Some(old), Some(new)) = (audit.old.as_deref(), audit.new.as_deref()) else { return Ok(()) };
    if !is_route(audit) {
        return Ok(());
    }
    for rule in new.pointer("/spec/rules").and_then(Value::as_array).into_iter().flatten() {
        let refs = rule.get("backendRefs").and_then(Value::as_array).cloned().unwrap_or_default();
        let of = |suffix: &str| -> i64 {
            let ours = refs.iter().filter(|r| text(r, "/name").ends_with(suffix));
            ours.filter_map(|r| r.get("weight")?.as_i64()).sum()
        };
        let (stable, canary) = (of("-stable"), of("-canary"));
        let is_for_headers = stable == 0 && refs.len() == 1 && rule.get("matches").is_some();
        if (stable > 0 || canary > 0) && !is_for_headers && (stable + canary) % 100 != 0 {
            return Err(format!("{} splits {stable} to {canary}", audit.id));
        }
    }
    let before = weights(old);
    let namespace = meta::namespace(new);
    let had_one = |service: &str| {
        dog.ready.get(&format!("{namespace}/{service}")).is_some_and(|at| now.duration_since(*at) < A_MOMENT)
    };
    let after = weights(new);
    let anybody = after.keys().any(|service| had_one(service));
    for (service, weight) in &after {
        if *weight > before.get(service).copied().unwrap_or(0) && anybody && !had_one(service) {
            return Err(format!("{} gives {weight} to {service}, which has no ready endpoint", audit.id));
        }
    }
    Ok(())
}

/// A Service is made to select a version only when that has a ready pod, or had one a moment ago, as long as any version
/// has one that the Service could select.
pub(in crate::invariants) fn services_follow_ready_pods(
    dog: &mut Watchdog,
    world: &World,
    audit: &Audit,
) -> Result<(), String> {
    if !dog.running_changes().any(|start| start.is_gradual) {
        return Ok(());
    }
    let now = world.instant();
    let hash_of = |object: &Value, pointer: &str| text(object, pointer).to_owned();
    let pods = world.objects("", "Pod");
    for pod in pods.iter().filter(|pod| is_ready(pod)) {
        dog.ready.insert(hash_of(pod, "/metadata/labels/pod-template-hash"), now);
    }
    let Some(new) = audit.new.as_deref().filter(|_| audit.id.kind == "Service" && audit.user.ends_with(":executor"))
    else {
        return Ok(());
    };
    let hash = hash_of(new, "/spec/selector/pod-template-hash");
    let had_before = audit.old.as_deref().is_some_and(|old| hash_of(old, "/spec/selector/pod-template-hash") == hash);
    // The Service of a share is made before it is sent anything; R30 looks at that.
    if hash.is_empty() || had_before || super::is_releases(new) {
        return Ok(());
    }
    let is_fresh = |at: &Instant| now.duration_since(*at) < A_MOMENT;
    let app = new.pointer("/spec/selector/app");
    let could_be = pods.iter().any(|pod| is_ready(pod) && pod.pointer("/metadata/labels/app") == app && app.is_some());
    if could_be && !dog.ready.get(&hash).is_some_and(is_fresh) {
        return Err(format!("{} is made to select {hash}, of which no pod is ready", audit.id));
    }
    Ok(())
}

/// Shares that a route may soon name.
fn shares(route: &Value) -> Vec<String> {
    let own = weights(route).into_keys().filter(|name| !name.ends_with("-stable") && !name.ends_with("-canary"));
    own.flat_map(|own| [format!("{own}-stable"), format!("{own}-canary")]).collect()
}

/// The executor deletes no second Deployment and no Service of a share to which the Gateway still sends requests.
pub(in crate::invariants) fn pods_go_after_their_traffic(
    dog: &mut Watchdog,
    world: &World,
    audit: &Audit,
) -> Result<(), String> {
    let gone = audit.new.as_deref().is_none_or(meta::is_terminating);
    if !audit.user.ends_with(":executor") || !gone || !matches!(audit.id.kind.as_str(), "Service" | "Deployment") {
        return Ok(());
    }
    let namespace = audit.id.namespace.clone().unwrap_or_default();
    let running: Vec<_> = dog.running_changes().flat_map(|start| of_change(world, &start.change)).collect();
    for own in running.iter().flat_map(own_services).filter(|_| audit.id.kind == "Deployment") {
        if leads_to(world, &namespace, &own, audit.old.as_ref()) {
            return Err(format!("{} goes while Service {own} selects its pods", audit.id));
        }
    }
    let routes = world.objects("gateway.networking.k8s.io", "HTTPRoute");
    for route in routes.iter().filter(|route| meta::namespace(route) == namespace) {
        let Some(in_effect) = world.gateway.in_effect(&key_of(route)) else { continue };
        for (service, weight) in weights(in_effect).into_iter().filter(|(_, weight)| *weight > 0) {
            let hit = match audit.id.kind.as_str() {
                "Service" => service == audit.id.name,
                _ => leads_to(world, &namespace, &service, audit.old.as_ref()),
            };
            if hit {
                return Err(format!("{} goes while {weight} of {} go to {service}", audit.id, meta::name(route)));
            }
        }
    }
    Ok(())
}

/// Whether a Service leads to pods of a Deployment: it selects one version, and has an endpoint that is a pod of it.
fn leads_to(world: &World, namespace: &str, service: &str, deployment: Option<&Arc<Value>>) -> bool {
    let Some(service) = world.object("", "Service", namespace, service) else { return false };
    let hash = text(&service, "/spec/selector/pod-template-hash").to_owned();
    let owner = deployment.map(|deployment| meta::uid(deployment).to_owned()).unwrap_or_default();
    let sets = world.objects("apps", "ReplicaSet");
    !hash.is_empty()
        && sets.iter().any(|set| {
            text(set, "/metadata/labels/pod-template-hash") == hash
                && text(set, "/metadata/ownerReferences/0/uid") == owner
        })
}
