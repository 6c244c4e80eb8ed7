//! The built-in controllers of a cluster, its scheduler and its kubelets: single-threaded, deterministic, in virtual
//! time.
//!
//! [`Workloads::step`] does everything that is due at the present instant, [`Workloads::next_due`] tells when something
//! happens next by time alone. A step looks only at what changed since the last one. What programs do is said by
//! [`Behaviour`]s; without any, pods are ready after two seconds and Jobs succeed after five.
//!
//! Modelled: Deployments, ReplicaSets, StatefulSets, DaemonSets, Jobs, Pods and their nodes, claims and volumes,
//! EndpointSlices, load balancers, HorizontalPodAutoscalers, PodDisruptionBudgets, the default ServiceAccount. Each
//! module says what it leaves out. Not modelled at all: CronJobs, quotas, Events, adoption of objects that nobody controls,
//! and webhooks: the writes of the cluster's own controllers ask nobody.
//!
//! Garbage collection and the end of namespaces are the server's ([`Api::collect_garbage`],
//! [`Api::finish_namespaces`]).

mod autoscaler;
mod behaviour;
mod budget;
mod claims;
mod conditions;
mod daemon_set;
mod deployment;
mod hash;
mod job;
mod kubelet;
mod namespaces;
mod nodes;
mod notice;
mod pods;
mod program;
mod queue;
mod read;
mod replica_set;
mod revisions;
mod rounding;
mod scheduler;
mod services;
mod stateful_set;
mod writes;

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::api::{Api, ApiError, Key};
pub use behaviour::{Behaviour, Effect};
use kubelet::Pods;
use nodes::Nodes;
pub use program::Program;
use queue::Queue;

/// After so many rounds a step ends, though something is still to do: controllers that undo each other's work must not
/// stop time.
const ROUNDS: usize = 1000;

/// The controllers of one cluster.
#[derive(Clone, Debug)]
pub struct Workloads {
    behaviours: Vec<Behaviour>,
    nodes: Nodes,
    pods: Pods,
    queue: Queue,
    /// The resourceVersion up to which the server's log was read.
    seen: u64,
    has_begun: bool,
    has_new_behaviours: bool,
}

impl Workloads {
    /// Controllers of a cluster with three nodes, which are made in the first step.
    pub fn new(behaviours: Vec<Behaviour>) -> Self {
        Self::with_nodes(behaviours, 3)
    }

    /// Controllers of a cluster with nodes `node-1` to `node-<count>`, which are made in the first step.
    pub fn with_nodes(behaviours: Vec<Behaviour>, count: usize) -> Self {
        Self {
            behaviours,
            nodes: Nodes::new(count),
            pods: Pods::default(),
            queue: Queue::default(),
            seen: 0,
            has_begun: false,
            has_new_behaviours: false,
        }
    }

    /// From the next step on, programs behave like this, also those that run already.
    pub fn set_behaviours(&mut self, behaviours: Vec<Behaviour>) {
        self.behaviours = behaviours;
        self.has_new_behaviours = true;
    }

    /// From the next step on, this behaviour wins over all others.
    pub fn set_behaviour(&mut self, behaviour: Behaviour) {
        self.behaviours.insert(0, behaviour);
        self.has_new_behaviours = true;
    }

    /// From now on, pods that end well leave what these programs say.
    pub fn set_program(&mut self, program: Arc<dyn Program>) {
        self.pods.program = Some(program);
    }

    /// The behaviours; the first that matches wins.
    pub fn behaviours(&self) -> &[Behaviour] {
        &self.behaviours
    }

    /// From the next step on, the node is not heard of: its pods are not ready, and are deleted after the eviction
    /// delay. Unlike on a real cluster they are then gone at once, as if somebody had confirmed that the node is dead.
    pub fn lose_node(&mut self, name: &str) {
        self.nodes.tell(name, true);
    }

    /// From the next step on, the node is back.
    pub fn return_node(&mut self, name: &str) {
        self.nodes.tell(name, false);
    }

    /// How long pods stay on a node that is lost: five minutes unless said otherwise. Holds for nodes lost from now on.
    pub fn set_eviction_delay(&mut self, delay: SignedDuration) {
        self.nodes.set_eviction_delay(delay);
    }

    /// Does all work that is due at the server's present instant. Says whether anything was written.
    pub fn step(&mut self, api: &mut Api) -> bool {
        let (before, now) = (api.resource_version(), api.now());
        if !self.has_begun {
            // A node that is refused is made in a later step.
            self.has_begun = self.nodes.begin(api).is_ok();
        }
        self.heed(api, now);
        for _ in 0..ROUNDS {
            self.notice(api);
            let keys = self.queue.take(now);
            if keys.is_empty() {
                break;
            }
            for key in keys {
                match self.reconcile(api, &key) {
                    Ok(due) => self.queue.settle(&key, due, now),
                    Err(_) => self.queue.fail(&key, now),
                }
            }
        }
        api.resource_version() != before
    }

    /// The next instant at which something happens by time alone; none if nothing ever does. After a step it is later
    /// than the present, unless the controllers were told something since: then it is the beginning of time, for now.
    /// Writes by others are noticed in the next step and do not count here.
    pub fn next_due(&self) -> Option<Timestamp> {
        let has_news = !self.has_begun || self.has_new_behaviours || self.nodes.has_news() || self.queue.is_dirty();
        if has_news { Some(Timestamp::MIN) } else { self.queue.next() }
    }

    /// The resourceVersion up to which the server's log was read.
    pub const fn has_read_to(&self) -> u64 {
        self.seen
    }

    fn reconcile(&mut self, api: &mut Api, key: &Key) -> Result<Option<Timestamp>, ApiError> {
        match (key.kind.group.as_str(), key.kind.kind.as_str()) {
            ("", "Pod") => self.pods.reconcile(api, key, &self.behaviours, &self.nodes),
            ("", "Node") => self.nodes.reconcile(api, key),
            ("", "Namespace") => namespaces::reconcile(api, key),
            ("", "PersistentVolumeClaim") => claims::reconcile(api, key),
            ("", "PersistentVolume") => claims::reconcile_volume(api, key),
            ("", "Service") => services::reconcile(api, key),
            ("apps", "Deployment") => deployment::reconcile(api, key),
            ("apps", "ReplicaSet") => replica_set::reconcile(api, key),
            ("apps", "StatefulSet") => stateful_set::reconcile(api, key),
            ("apps", "DaemonSet") => daemon_set::reconcile(api, key),
            ("autoscaling", "HorizontalPodAutoscaler") => autoscaler::reconcile(api, key, &self.behaviours),
            ("batch", "Job") => job::reconcile(api, key),
            ("policy", "PodDisruptionBudget") => budget::reconcile(api, key),
            _ => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests;
