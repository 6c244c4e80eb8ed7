//! The cluster's Gateway: it takes a route up some time after it was written, and says so in the route's status.

use std::collections::BTreeMap;
use std::sync::Arc;

use interlock_core::object::GroupKind;
use interlock_sim::api::Api;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::world::key_of;

const NAME: &str = "gateway-controller";
/// How long it takes unless said otherwise.
const DELAY: SignedDuration = SignedDuration::from_secs(1);

/// A Gateway that every HTTPRoute may name as its parent.
#[derive(Clone, Debug)]
pub struct Gateway {
    delay: SignedDuration,
    /// Routes that it will take up: which generation, and when.
    due: BTreeMap<String, (i64, Timestamp)>,
    in_effect: BTreeMap<String, Arc<Value>>,
}

impl Default for Gateway {
    fn default() -> Self {
        Self { delay: DELAY, due: BTreeMap::new(), in_effect: BTreeMap::new() }
    }
}

impl Gateway {
    /// How long it takes to take up what is written from now on.
    pub fn set_delay(&mut self, delay: SignedDuration) {
        self.delay = delay;
    }

    /// By which form of a route (`namespace/name`) it sends requests now.
    pub fn in_effect(&self, route: &str) -> Option<&Arc<Value>> {
        self.in_effect.get(route)
    }

    /// When it takes up the next route.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.due.values().map(|(_, at)| *at).min()
    }

    /// Takes up what is due.
    pub fn step(&mut self, api: &mut Api) {
        let now = api.now();
        let routes = api.list_arc(&GroupKind::new("gateway.networking.k8s.io", "HTTPRoute"), None);
        let is_there = |key: &String| routes.iter().any(|route| key_of(route) == *key);
        self.due.retain(|key, _| is_there(key));
        self.in_effect.retain(|key, _| is_there(key));
        for route in routes {
            let (key, generation) = (key_of(&route), generation(&route));
            if self.in_effect.get(&key).is_some_and(|known| self::generation(known) == generation) {
                continue;
            }
            let due = now.checked_add(self.delay).unwrap_or(now);
            let wanted = self.due.entry(key.clone()).or_insert((generation, due));
            if wanted.0 != generation {
                *wanted = (generation, due);
            }
            if wanted.1 > now {
                continue;
            }
            // What was written meanwhile is taken up in a later step.
            if api.write_status_as_system(NAME, accepted(&route, generation, now)).is_ok() {
                self.due.remove(&key);
                self.in_effect.insert(key, route);
            }
        }
    }
}

fn generation(route: &Value) -> i64 {
    route.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or_default()
}

/// The route with the status of one that every parent has accepted.
fn accepted(route: &Value, generation: i64, now: Timestamp) -> Value {
    let at = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let condition = |kind: &str, reason: &str| {
        json!({
            "type": kind, "status": "True", "reason": reason, "message": "", "observedGeneration": generation,
            "lastTransitionTime": at,
        })
    };
    let conditions = [condition("Accepted", "Accepted"), condition("ResolvedRefs", "ResolvedRefs")];
    let parents = route.pointer("/spec/parentRefs").and_then(Value::as_array).into_iter().flatten();
    let parents: Vec<_> = parents
        .map(|parent| json!({"parentRef": parent, "controllerName": "example.org/gateway", "conditions": conditions}))
        .collect();
    let mut route = route.clone();
    if let Some(fields) = route.as_object_mut() {
        fields.insert("status".to_owned(), json!({ "parents": parents }));
    }
    route
}
