//! The scheduler: gives each pod a node that is ready and fits its node selector, in turn.
//!
//! Left out: resources, taints of users, and affinity but for the one by which a DaemonSet names a node.

use std::sync::Arc;

use interlock_core::object::GroupKind;
use serde_json::{Value, json};

use super::{conditions, read};
use crate::api::{Api, meta};

/// The node that a pod has or that its DaemonSet wants for it.
pub(super) fn node_of(pod: &Value) -> &str {
    match read::text(pod, "/spec/nodeName") {
        "" => read::text(pod, AFFINITY),
        node => node,
    }
}

const AFFINITY: &str = "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms/0\
                        /matchFields/0/values/0";

/// The affinity by which a DaemonSet names a node.
pub(super) fn affinity_to(node: &str) -> Value {
    let field = json!({"key": "metadata.name", "operator": "In", "values": [node]});
    let terms = json!({"nodeSelectorTerms": [{"matchFields": [field]}]});
    json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}})
}

/// Whether a node has the labels that the object asks for at a pointer.
pub(super) fn fits_selector(object: &Value, pointer: &str, node: &Value) -> bool {
    let wanted = object.pointer(pointer).and_then(Value::as_object);
    wanted.into_iter().flatten().all(|(label, value)| value.as_str() == Some(read::label(node, label)))
}

/// The node for a pod, or why there is none; `turn` counts the pods that were placed.
pub(super) fn choose(api: &Api, pod: &Value, turn: u64) -> Result<String, String> {
    let wanted = read::text(pod, AFFINITY);
    let nodes = api.list_arc(&GroupKind::new("", "Node"), None);
    let fits = |node: &&Arc<Value>| {
        conditions::is_true(node, "Ready")
            && (!read::flag(node, "/spec/unschedulable") || !wanted.is_empty())
            && !meta::is_terminating(node)
            && fits_selector(pod, "/spec/nodeSelector", node)
            && (wanted.is_empty() || wanted == meta::name(node))
    };
    let fitting: Vec<&Arc<Value>> = nodes.iter().filter(fits).collect();
    match fitting.get((turn % fitting.len().max(1) as u64) as usize) {
        Some(node) => Ok(meta::name(node).to_owned()),
        None => Err(format!("0/{} nodes are available: none is ready and fits the pod.", nodes.len())),
    }
}
