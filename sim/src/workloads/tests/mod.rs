//! Tests of the controllers, by what they control.

mod behaviours;
mod deployments;
mod jobs;
mod nodes;
mod others;
mod pure;
mod stateful;

use std::sync::Arc;

use interlock_core::admission::User;
use interlock_core::object::{GroupKind, Health, ObjectId, health};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{Behaviour, Effect, Workloads};
use crate::api::{Api, Propagation, Write};

/// A server, its controllers and the namespace `bank`.
struct Cluster {
    api: Api,
    workloads: Workloads,
}

impl Cluster {
    fn new(behaviours: Vec<Behaviour>) -> Self {
        let mut api = Api::new("2026-03-01T10:00:00.5Z".parse().unwrap());
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "bank"}});
        api.write(Write::create(&user(), "test", &namespace)).unwrap();
        let mut cluster = Self { api, workloads: Workloads::new(behaviours) };
        cluster.settle();
        cluster
    }

    /// Does everything that is due now.
    fn settle(&mut self) {
        while self.workloads.step(&mut self.api) | self.api.collect_garbage() | self.api.finish_namespaces() {}
    }

    /// Lets time pass, instant by instant.
    fn run(&mut self, seconds: i64) {
        self.watch(seconds, |_| {});
    }

    /// Lets time pass and looks at every instant.
    fn watch(&mut self, seconds: i64, mut look: impl FnMut(&Self)) {
        let end = self.api.now().checked_add(SignedDuration::from_secs(seconds)).unwrap();
        self.settle();
        look(self);
        while let Some(due) = self.workloads.next_due().filter(|due| *due <= end) {
            self.api.set_time(due);
            self.settle();
            look(self);
        }
        self.api.set_time(end);
        self.settle();
        look(self);
    }

    fn apply(&mut self, object: &Value) {
        self.api.write(Write::apply(&user(), "test", object)).unwrap();
    }

    fn patch(&mut self, object: &Value, patch: &Value) {
        self.api.write(Write::merge_patch(&user(), "test", &ObjectId::of(object).unwrap(), patch)).unwrap();
    }

    fn delete(&mut self, object: &Value, propagation: Propagation) {
        let id = ObjectId::of(object).unwrap();
        self.api.write(Write::delete(&user(), &id).propagating(propagation)).unwrap();
    }

    fn get(&self, kind: (&str, &str), name: &str) -> Option<Arc<Value>> {
        self.api.get_arc(&GroupKind::new(kind.0, kind.1), "bank", name)
    }

    fn live(&self, object: &Value) -> Arc<Value> {
        let id = ObjectId::of(object).unwrap();
        self.api.get_arc(&id.group_kind(), id.namespace.as_deref().unwrap_or_default(), &id.name).unwrap()
    }

    fn health(&self, object: &Value) -> Health {
        health(&self.live(object))
    }

    fn list(&self, group: &str, kind: &str) -> Vec<Arc<Value>> {
        self.api.list_arc(&GroupKind::new(group, kind), Some("bank"))
    }

    fn pods(&self) -> Vec<Arc<Value>> {
        self.list("", "Pod")
    }

    fn ready_pods(&self) -> usize {
        self.pods().iter().filter(|pod| super::pods::is_ready(pod)).count()
    }
}

fn user() -> User {
    User { name: "li.na".into(), groups: vec!["system:authenticated".into()], claims: Vec::new() }
}

fn seconds(seconds: i64) -> SignedDuration {
    SignedDuration::from_secs(seconds)
}

fn bad_image(effect: Effect) -> Behaviour {
    Behaviour { image: Some("*:bad".to_owned()), ..Behaviour::of(effect) }
}

fn failed(health: &Health, word: &str) -> bool {
    matches!(health, Health::Failed(why) if why.contains(word))
}

fn progressing(health: &Health, word: &str) -> bool {
    matches!(health, Health::Progressing(why) if why.contains(word))
}

/// A workload of the kinds in `apps`, with one container.
fn workload(kind: &str, name: &str, image: &str, spec: &Value) -> Value {
    let mut object = json!({
        "apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name, "namespace": "bank"},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "main", "image": image}]},
            },
        },
    });
    for (field, value) in spec.as_object().unwrap() {
        object["spec"][field] = value.clone();
    }
    object
}

fn deployment(image: &str, spec: &Value) -> Value {
    workload("Deployment", "teller", image, spec)
}
