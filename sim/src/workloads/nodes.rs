//! Nodes: made at the start, lost and back when told so.

use std::collections::{BTreeMap, BTreeSet};

use interlock_core::admission::User;
use interlock_core::object::GroupKind;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::conditions::{self, Condition};
use super::{read, writes};
use crate::api::{Api, ApiError, Key, Write, meta};

/// What is known of nodes besides what the server holds.
#[derive(Clone, Debug)]
pub(super) struct Nodes {
    count: usize,
    eviction_delay: SignedDuration,
    lost: BTreeMap<String, Timestamp>,
    /// Names that were told to be lost or back since the last step.
    told: BTreeSet<(String, bool)>,
}

impl Nodes {
    /// `node-1` to `node-<count>`.
    pub const fn new(count: usize) -> Self {
        Self { count, eviction_delay: SignedDuration::from_mins(5), lost: BTreeMap::new(), told: BTreeSet::new() }
    }

    /// How long pods stay on a node that is lost.
    pub const fn eviction_delay(&self) -> SignedDuration {
        self.eviction_delay
    }

    /// Sets how long pods stay on a node that is lost.
    pub const fn set_eviction_delay(&mut self, delay: SignedDuration) {
        self.eviction_delay = delay;
    }

    /// Since when the node cannot be heard.
    pub fn lost_since(&self, node: &str) -> Option<Timestamp> {
        self.lost.get(node).copied()
    }

    /// The node is lost (or back) with the next step.
    pub fn tell(&mut self, node: &str, is_lost: bool) {
        self.told.remove(&(node.to_owned(), !is_lost));
        self.told.insert((node.to_owned(), is_lost));
    }

    /// Takes note of what was told, and answers which nodes it is about.
    pub fn heed(&mut self, now: Timestamp) -> Vec<String> {
        let told = std::mem::take(&mut self.told);
        for (node, is_lost) in &told {
            if *is_lost {
                self.lost.entry(node.clone()).or_insert(now);
            } else {
                self.lost.remove(node);
            }
        }
        told.into_iter().map(|(node, _)| node).collect()
    }

    /// Whether anything was told since the last step.
    pub fn has_news(&self) -> bool {
        !self.told.is_empty()
    }

    /// Makes the nodes that a cluster begins with.
    pub fn begin(&self, api: &mut Api) -> Result<(), ApiError> {
        for number in 1..=self.count {
            let name = format!("node-{number}");
            if !exists(api, &name) {
                let node = node(&name, api.now());
                api.write(Write::create(&user(&name), "kubelet", &node))?;
            }
        }
        Ok(())
    }

    /// One look at a node: its condition and its taint follow from whether it is lost.
    pub fn reconcile(&self, api: &mut Api, key: &Key) -> Result<Option<Timestamp>, ApiError> {
        let Some(node) = writes::live(api, key) else {
            return Ok(None);
        };
        let is_lost = self.lost.contains_key(meta::name(&node));
        let mut taints = read::list(&node, "/spec/taints").to_vec();
        taints.retain(|taint| read::text(taint, "/key") != UNREACHABLE);
        if is_lost {
            taints.push(json!({"key": UNREACHABLE, "effect": "NoExecute"}));
        }
        if taints != read::list(&node, "/spec/taints") {
            writes::patch(api, NAME, &node, json!({"spec": {"taints": taints}}))?;
        }
        let Some(node) = writes::live(api, key) else {
            return Ok(None);
        };
        let mut found = read::list(&node, "/status/conditions").to_vec();
        let told = conditions::find(&found, "Ready").map(|ready| read::text(ready, "/status"));
        if told != Some(if is_lost { "Unknown" } else { "True" }) {
            tell(&mut found, is_lost, api.now());
            let mut status = node.get("status").cloned().unwrap_or_else(|| json!({}));
            writes::set(&mut status, "conditions", json!(found));
            writes::put_status(api, NAME, &node, status)?;
        }
        Ok(None)
    }
}

const NAME: &str = "node-controller";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";

fn tell(found: &mut Vec<Value>, is_lost: bool, now: Timestamp) {
    let (status, reason, message) = if is_lost {
        ("Unknown", "NodeStatusUnknown", "Kubelet stopped posting node status.")
    } else {
        ("True", "KubeletReady", "kubelet is posting ready status")
    };
    conditions::put(found, &Condition { kind: "Ready", status, reason, message }, json!({}), now);
}

fn user(node: &str) -> User {
    User { name: format!("system:node:{node}"), groups: vec!["system:nodes".to_owned()], claims: Vec::new() }
}

fn node(name: &str, now: Timestamp) -> Value {
    let resources = json!({"cpu": "8", "memory": "32Gi", "pods": "250", "ephemeral-storage": "100Gi"});
    let mut found = Vec::new();
    tell(&mut found, false, now);
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {
            "kubernetes.io/arch": "amd64",
            "kubernetes.io/hostname": name,
            "kubernetes.io/os": "linux",
        }},
        "status": {
            "addresses": [
                {"type": "InternalIP", "address": address(name)},
                {"type": "Hostname", "address": name},
            ],
            "allocatable": resources,
            "capacity": resources,
            "conditions": found,
        },
    })
}

/// The node's address, which follows from its name.
pub(super) fn address(node: &str) -> String {
    let number = node.rsplit_once('-').and_then(|(_, number)| number.parse::<u8>().ok());
    format!("192.168.0.{}", number.unwrap_or(0).saturating_add(10))
}

/// Whether the server holds a node of this name.
pub(super) fn exists(api: &Api, node: &str) -> bool {
    api.get_arc(&GroupKind::new("", "Node"), "", node).is_some()
}
