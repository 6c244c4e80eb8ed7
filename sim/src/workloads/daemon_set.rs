//! The controller of DaemonSets: a pod on every node that fits.
//!
//! Left out: `maxSurge`, and taints other than those of nodes that are lost, which these pods endure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use interlock_core::object::GroupKind;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::pods::{self, Availability, Census, Name};
use super::revisions::{self, Revisions};
use super::rounding::{Round, resolve};
use super::{read, scheduler, writes};
use crate::api::{Api, ApiError, Key, meta};

const NAME: &str = "daemon-set-controller";

/// One look at a DaemonSet; answers when the next is due by time alone.
pub(super) fn reconcile(api: &mut Api, key: &Key) -> Result<Option<Timestamp>, ApiError> {
    let Some(set) = writes::live(api, key) else {
        return Ok(None);
    };
    let revisions = Revisions::ensure(api, NAME, &set)?;
    let nodes: BTreeSet<String> = api
        .list_arc(&GroupKind::new("", "Node"), None)
        .iter()
        .filter(|node| scheduler::fits_selector(&set, "/spec/template/spec/nodeSelector", node))
        .map(|node| meta::name(node).to_owned())
        .collect();
    let outcome = place(api, &set, &nodes, &revisions).and_then(|()| renew(api, &set, &nodes, &revisions));
    let due = report(api, &set, &nodes, revisions.update_hash())?;
    let pods = writes::pods(api, &set);
    let is_needed = |revision: &Value| {
        let hash = read::label(revision, revisions::LABEL);
        pods.iter().any(|pod| revisions::is_of(pod, hash))
    };
    revisions.forget_oldest(api, NAME, &set, is_needed)?;
    outcome.map(|()| due)
}

/// The pods by the node that they are for.
fn by_node(api: &Api, set: &Value) -> BTreeMap<String, Vec<Arc<Value>>> {
    let mut by_node = BTreeMap::<String, Vec<Arc<Value>>>::new();
    for pod in writes::pods(api, set) {
        by_node.entry(scheduler::node_of(&pod).to_owned()).or_default().push(pod);
    }
    by_node
}

fn place(api: &mut Api, set: &Value, nodes: &BTreeSet<String>, revisions: &Revisions) -> Result<(), ApiError> {
    let found = by_node(api, set);
    for (node, pods) in &found {
        let mut staying = 0;
        for pod in pods.iter().filter(|pod| !meta::is_terminating(pod)) {
            if pods::has_ended(pod) || !nodes.contains(node) || staying > 0 {
                api.delete_as_system(NAME, pod)?;
            } else {
                staying += 1;
            }
        }
    }
    for node in nodes.iter().filter(|node| !found.contains_key(*node)) {
        create(api, set, node, revisions)?;
    }
    Ok(())
}

fn create(api: &mut Api, set: &Value, node: &str, revisions: &Revisions) -> Result<(), ApiError> {
    let generation = read::annotation(set, "deprecated.daemonset.template.generation").to_owned();
    let mut labels = vec![(revisions::LABEL, revisions.update_hash())];
    if !generation.is_empty() {
        labels.push(("pod-template-generation", &generation));
    }
    let template = set.pointer("/spec/template").cloned().unwrap_or_default();
    let mut pod = pods::from_template(set, &template, Name::Generated(&format!("{}-", meta::name(set))), &labels);
    if let Some(spec) = pod.get_mut("spec") {
        writes::set(spec, "affinity", scheduler::affinity_to(node));
        let mut tolerations = read::list(spec, "/tolerations").to_vec();
        for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
            tolerations.push(json!({"key": key, "operator": "Exists", "effect": "NoExecute"}));
        }
        writes::set(spec, "tolerations", json!(tolerations));
    }
    writes::create(api, NAME, pod).map(drop)
}

/// Deletes pods of older templates, no more at once than may be missing.
fn renew(api: &mut Api, set: &Value, nodes: &BTreeSet<String>, revisions: &Revisions) -> Result<(), ApiError> {
    if read::text(set, "/spec/updateStrategy/type") == "OnDelete" {
        return Ok(());
    }
    let stated = set.pointer("/spec/updateStrategy/rollingUpdate/maxUnavailable");
    let most = resolve(stated, nodes.len() as i64, Round::Up).max(1);
    let (seconds, now) = (read::count(set, "/spec/minReadySeconds"), api.now());
    let serves = |pod: &Arc<Value>| pods::is_active(pod) && pods::availability(pod, seconds, now) == Availability::Yes;
    let found = by_node(api, set);
    let serving = nodes.iter().filter(|node| found.get(*node).is_some_and(|pods| pods.iter().any(serves))).count();
    let mut missing = nodes.len() as i64 - serving as i64;
    let old =
        found.values().flatten().filter(|pod| pods::is_active(pod) && !revisions::is_of(pod, revisions.update_hash()));
    for pod in old {
        if serves(pod) {
            if missing >= most {
                continue;
            }
            missing += 1;
        }
        api.delete_as_system(NAME, pod)?;
    }
    Ok(())
}

fn report(api: &mut Api, set: &Value, nodes: &BTreeSet<String>, hash: &str) -> Result<Option<Timestamp>, ApiError> {
    let all = writes::pods(api, set);
    let on_nodes = all.iter().filter(|pod| nodes.contains(scheduler::node_of(pod)));
    let census = Census::of(on_nodes.clone(), read::count(set, "/spec/minReadySeconds"), api.now());
    let wanted = nodes.len() as i64;
    let mut status = json!({
        "observedGeneration": read::count(set, "/metadata/generation"),
        "currentNumberScheduled": census.active,
        "desiredNumberScheduled": wanted,
        "numberMisscheduled": all.iter().filter(|pod| !nodes.contains(scheduler::node_of(pod))).count(),
        "numberReady": census.ready,
    });
    writes::set_count(&mut status, "updatedNumberScheduled", revisions::count_of(on_nodes, hash));
    writes::set_count(&mut status, "numberAvailable", census.available);
    writes::set_count(&mut status, "numberUnavailable", wanted - census.available);
    writes::put_status(api, NAME, set, status)?;
    Ok(census.next)
}
