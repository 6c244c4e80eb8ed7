//! Which keys a change is about.

use std::sync::Arc;

use interlock_core::object::GroupKind;
use jiff::Timestamp;
use serde_json::Value;

use super::{Workloads, autoscaler, budget, claims, read, services};
use crate::api::{Api, Event, EventType, Key, label_selector_matches, meta};

impl Workloads {
    /// Reads on in the server's log and marks what changed.
    pub(super) fn notice(&mut self, api: &mut Api) {
        let newest = api.resource_version();
        if self.seen == newest {
            return;
        }
        let events: Option<Vec<Event>> = api.events_since(self.seen, None).ok().map(|events| events.cloned().collect());
        self.seen = newest;
        let Some(events) = events else {
            // The log was cut: everything may have changed.
            let all: Vec<Arc<Value>> = api.all().collect();
            for object in &all {
                self.mark(api, object);
            }
            return;
        };
        for event in events {
            self.mark(api, &event.object);
            if event.change == EventType::Deleted {
                self.bury(api, &event);
            }
        }
    }

    /// Marks what new behaviours and lost nodes are about.
    pub(super) fn heed(&mut self, api: &Api, now: Timestamp) {
        if std::mem::take(&mut self.has_new_behaviours) {
            self.queue.add_all(self.pods.all().cloned());
            let autoscalers = api.list_arc(&autoscaler::kind(), None);
            self.queue.add_all(autoscalers.iter().map(|autoscaler| read::key(autoscaler)));
        }
        for node in self.nodes.heed(now) {
            self.mark_node(&node);
        }
    }

    fn mark(&mut self, api: &Api, object: &Value) {
        let key = read::key(object);
        if let Some(owner) = read::controller_key(object) {
            self.queue.add(owner);
        }
        let namespace = Some(key.namespace.as_str());
        match (key.kind.group.as_str(), key.kind.kind.as_str()) {
            ("", "Pod") => {
                let services = api.list_arc(&services::kind(), namespace);
                let selecting = services.iter().filter(|service| services::selects(service, object));
                self.queue.add_all(selecting.map(|service| read::key(service)));
                let labels = object.pointer("/metadata/labels");
                let budgets = api.list_arc(&budget::kind(), namespace);
                let counting =
                    budgets.iter().filter(|budget| label_selector_matches(budget.pointer("/spec/selector"), labels));
                self.queue.add_all(counting.map(|budget| read::key(budget)));
            }
            ("", "Node") => {
                self.mark_node(&key.name);
                let sets = api.list_arc(&GroupKind::new("apps", "DaemonSet"), None);
                self.queue.add_all(sets.iter().map(|set| read::key(set)));
            }
            ("apps", "Deployment" | "StatefulSet" | "ReplicaSet") => {
                let autoscalers = api.list_arc(&autoscaler::kind(), namespace);
                let about = autoscalers.iter().filter(|autoscaler| autoscaler::is_about(autoscaler, &key));
                self.queue.add_all(about.map(|autoscaler| read::key(autoscaler)));
            }
            _ => {}
        }
        self.queue.add(key);
    }

    /// A node came, went or changed: so may its pods, and those that wait for one.
    fn mark_node(&mut self, node: &str) {
        self.queue.add(cluster_key("Node", node));
        self.queue.add_all(self.pods.on(node).chain(self.pods.waiting()).cloned());
    }

    /// What is gone leaves things behind.
    fn bury(&mut self, api: &mut Api, event: &Event) {
        let object = &event.object;
        match (event.kind.group.as_str(), event.kind.kind.as_str()) {
            ("", "Pod") => self.pods.forget(object),
            ("", "PersistentVolumeClaim") => {
                // What is refused stays behind, as on a real cluster.
                let _ = claims::release(api, object);
            }
            ("", "Node") => {
                let pods: Vec<_> = self.pods.on(meta::name(object)).cloned().collect();
                for key in pods {
                    if let Some(pod) = api.get_arc(&key.kind, &key.namespace, &key.name) {
                        let _ = api.delete_as_system("pod-garbage-collector", &pod);
                    }
                }
            }
            ("batch", "Job") => self.pods.forget_job(meta::uid(object)),
            ("", "ConfigMap" | "ServiceAccount") => self.queue.add(cluster_key("Namespace", meta::namespace(object))),
            _ => {}
        }
    }
}

fn cluster_key(kind: &str, name: &str) -> Key {
    Key { kind: GroupKind::new("", kind), namespace: String::new(), name: name.to_owned() }
}
