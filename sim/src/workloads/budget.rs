//! The controller of PodDisruptionBudgets, which only counts.

use std::collections::BTreeMap;
use std::sync::Arc;

use interlock_core::object::GroupKind;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::conditions::{self, Condition, truth};
use super::rounding::{Round, resolve};
use super::{kubelet, pods, read, writes};
use crate::api::{Api, ApiError, Key, label_selector_matches, meta};

const NAME: &str = "disruption-controller";

/// The kind.
pub(super) fn kind() -> GroupKind {
    GroupKind::new("policy", "PodDisruptionBudget")
}

/// One look at a budget.
pub(super) fn reconcile(api: &mut Api, key: &Key) -> Result<Option<Timestamp>, ApiError> {
    let Some(budget) = writes::live(api, key) else {
        return Ok(None);
    };
    let mut selected = api.list_arc(&kubelet::kind(), Some(&key.namespace));
    let selector = budget.pointer("/spec/selector");
    selected.retain(|pod| pods::is_active(pod) && label_selector_matches(selector, pod.pointer("/metadata/labels")));
    let healthy = selected.iter().filter(|pod| pods::is_ready(pod)).count() as i64;
    let expected = expected(api, &selected);
    let (least, may_miss) = (budget.pointer("/spec/minAvailable"), budget.pointer("/spec/maxUnavailable"));
    let (expected, desired) = match (least, may_miss) {
        (Some(least), _) if least.is_i64() => (selected.len() as i64, resolve(Some(least), 0, Round::Up)),
        (Some(least), _) => (expected, resolve(Some(least), expected, Round::Up)),
        (None, may_miss) => (expected, (expected - resolve(may_miss, expected, Round::Up)).max(0)),
    };
    let allowed = if expected > 0 { (healthy - desired).max(0) } else { 0 };
    let mut found = read::list(&budget, "/status/conditions").to_vec();
    let generation = read::count(&budget, "/metadata/generation");
    let reason = if allowed > 0 { "SufficientPods" } else { "InsufficientPods" };
    let condition = Condition { kind: "DisruptionAllowed", status: truth(allowed > 0), reason, message: "" };
    conditions::put(&mut found, &condition, json!({"observedGeneration": generation, "message": ""}), api.now());
    let status = json!({
        "observedGeneration": generation,
        "currentHealthy": healthy,
        "desiredHealthy": desired,
        "expectedPods": expected,
        "disruptionsAllowed": allowed,
        "conditions": found,
    });
    writes::put_status(api, NAME, &budget, status).map(|()| None)
}

/// The pods that the controllers of these pods are asked for.
fn expected(api: &Api, pods: &[Arc<Value>]) -> i64 {
    let mut asked = BTreeMap::new();
    for pod in pods {
        let controller = read::controller_key(pod);
        let owner = controller.and_then(|key| api.get_arc(&key.kind, &key.namespace, &key.name));
        let (uid, count) = owner.map_or_else(
            || (meta::uid(pod).to_owned(), 1),
            |owner| (meta::uid(&owner).to_owned(), read::replicas(&owner)),
        );
        asked.insert(uid, count);
    }
    asked.values().sum()
}
