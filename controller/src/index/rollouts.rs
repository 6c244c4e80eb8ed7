//! Rollouts and the plans that they follow.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use interlock_core::admission::WriteRequest;
use interlock_core::change::facts::{PlanFacts, RequestFacts, SystemFacts};
use interlock_core::change::gradual;
use interlock_core::object::ObjectId;
use interlock_core::rollout::{ROLLOUT_LABEL, derive::workload, live};
use interlock_crds as crds;

use super::{ChangeEntry, ChangeKey, Index, Told, key_of, told};
use crate::change::{plan_facts, plan_key};

/// `namespace/name` of a Rollout.
pub type RolloutKey = String;

/// What is kept of Rollouts and RolloutPlans.
#[derive(Debug, Default)]
pub(super) struct Rollouts {
    plans: BTreeMap<String, PlanFacts>,
    /// By plan what its condition Valid says.
    plan_told: HashMap<String, Told>,
    known: HashMap<RolloutKey, Arc<crds::Rollout>>,
    /// By uid of Rollouts, of those that they are part of, and of the changes that they carry out.
    keys_of_uid: HashMap<String, BTreeSet<RolloutKey>>,
    /// By kind, namespace and name of what a Rollout has announced to write or leads traffic by.
    keys_of_object: HashMap<String, BTreeSet<RolloutKey>>,
    woken: BTreeSet<RolloutKey>,
    /// Changes to look at again of which nobody was told yet.
    unsent: BTreeSet<ChangeKey>,
}

impl Index {
    /// A RolloutPlan was stored.
    pub fn rollout_plan_stored(&mut self, object: &crds::RolloutPlan) -> BTreeSet<ChangeKey> {
        let key = key_of(&object.metadata);
        let Some(facts) = plan_facts(object) else { return self.rollout_plan_deleted(&key) };
        let status = object.status.as_ref().map(|status| (status.observed_generation, status.conditions.as_slice()));
        self.rollouts.plan_told.insert(key.clone(), told(&object.metadata, status));
        if self.rollouts.plans.get(&key) == Some(&facts) {
            return BTreeSet::new();
        }
        self.rollouts.plans.insert(key.clone(), facts);
        self.changes_of_plan(&key)
    }

    /// A RolloutPlan was deleted.
    pub fn rollout_plan_deleted(&mut self, key: &str) -> BTreeSet<ChangeKey> {
        self.rollouts.plans.remove(key);
        self.rollouts.plan_told.remove(key);
        self.changes_of_plan(key)
    }

    /// The RolloutPlans, by `namespace/name`.
    pub fn rollout_plans(&self) -> impl Iterator<Item = &str> {
        self.rollouts.plans.keys().map(String::as_str)
    }

    /// What is wrong with a RolloutPlan, if it is not told yet: a reason and a sentence; none if nothing is.
    pub fn untold_of_plan(&self, key: &str) -> Option<Option<(&'static str, String)>> {
        let PlanFacts::Known { spec, .. } = self.rollouts.plans.get(key)? else { return None };
        let wrong = gradual::wrong_with(spec, |name| self.calendar(name).is_some());
        let told = self.rollouts.plan_told.get(key).and_then(Option::as_ref);
        let is_told = told.is_some_and(|(valid, message)| match &wrong {
            None => *valid,
            Some((_, why)) => !valid && message == why,
        });
        (!is_told).then_some(wrong)
    }

    fn changes_of_plan(&self, plan: &str) -> BTreeSet<ChangeKey> {
        let names = |key: &ChangeKey| {
            let live = self.live(key)?;
            let system = self.system_of(&live.request.namespace);
            plan_key(&live.request, system.as_deref()).map(|(key, _)| key)
        };
        self.all_live().into_iter().filter(|key| names(key).as_deref() == Some(plan)).collect()
    }

    /// The RolloutPlan that a request, or else its System, names.
    pub fn plan_facts(&self, request: &RequestFacts, system: Option<&SystemFacts>) -> PlanFacts {
        let Some((key, is_default)) = plan_key(request, system) else { return PlanFacts::None };
        self.rollouts.plans.get(&key).cloned().unwrap_or(PlanFacts::Missing { key, is_default })
    }

    /// A Rollout was stored. Its change looks again when it stands elsewhere.
    pub fn rollout_stored(&mut self, object: &crds::Rollout) -> BTreeSet<ChangeKey> {
        let key = key_of(&object.metadata);
        let phase = |rollout: &crds::Rollout| rollout.status.as_ref().map(|status| status.phase);
        let version = |rollout: &crds::Rollout| rollout.metadata.resource_version.clone().unwrap_or_default();
        if let Some(known) = self.rollouts.known.get(&key).filter(|known| known.metadata.uid == object.metadata.uid) {
            // The watch may still tell of what was before a write that this process has learnt of already.
            if super::is_older(&version(object), &version(known)) || version(object) == version(known) {
                return std::mem::take(&mut self.rollouts.unsent);
            }
        }
        let known = self.forget_rollout(&key);
        for uid in uids(object) {
            self.rollouts.keys_of_uid.entry(uid.to_owned()).or_default().insert(key.clone());
        }
        for touched in touched(object) {
            self.rollouts.keys_of_object.entry(touched).or_default().insert(key.clone());
        }
        self.rollouts.woken.insert(key.clone());
        self.rollouts.known.insert(key, Arc::new(object.clone()));
        let waves = |rollout: &crds::Rollout| -> Vec<crds::WavePhase> {
            rollout.status.iter().flat_map(|status| &status.waves).map(|wave| wave.phase).collect()
        };
        if known.as_ref().is_none_or(|known| waves(known) != waves(object)) {
            // Its waves' Rollouts are asked to return by it.
            self.wake_rollouts(object.metadata.uid.as_deref().unwrap_or_default());
        }
        let moved = known.is_none_or(|known| phase(&known) != phase(object));
        if moved {
            self.wake_parent(object);
        }
        let mut changes = std::mem::take(&mut self.rollouts.unsent);
        changes.extend(self.key_of_uid(&object.spec.change_request.uid).filter(|_| moved).cloned());
        changes
    }

    /// A Rollout was stored by this process itself. What is to be looked at again is told when the watch tells of it; whoever
    /// wrote it looks again by itself. The answer to a write may come late: what is gone by then stays so.
    pub fn rollout_learnt(&mut self, object: &crds::Rollout) {
        let key = key_of(&object.metadata);
        if self.rollouts.known.get(&key).is_none_or(|known| known.metadata.uid != object.metadata.uid) {
            return;
        }
        let was_woken = self.rollouts.woken.contains(&key);
        let changes = self.rollout_stored(object);
        if !was_woken {
            self.rollouts.woken.remove(&key);
        }
        self.rollouts.unsent.extend(changes);
    }

    /// A Rollout was deleted.
    pub fn rollout_deleted(&mut self, key: &str) -> BTreeSet<ChangeKey> {
        let Some(known) = self.forget_rollout(key) else { return BTreeSet::new() };
        self.commands.remove(known.metadata.uid.as_deref().unwrap_or_default());
        self.rollouts.woken.insert(key.to_owned());
        self.wake_parent(&known);
        self.key_of_uid(&known.spec.change_request.uid).cloned().into_iter().collect()
    }

    fn forget_rollout(&mut self, key: &str) -> Option<Arc<crds::Rollout>> {
        let known = self.rollouts.known.remove(key)?;
        for uid in uids(&known) {
            super::remove_from(&mut self.rollouts.keys_of_uid, uid, key);
        }
        for touched in touched(&known) {
            super::remove_from(&mut self.rollouts.keys_of_object, &touched, key);
        }
        Some(known)
    }

    fn wake_parent(&mut self, rollout: &crds::Rollout) {
        let namespace = rollout.metadata.namespace.as_deref().unwrap_or_default();
        let parent = rollout.spec.part_of.as_ref().map(|of| format!("{namespace}/{}", of.name));
        self.rollouts.woken.extend(parent);
    }

    /// Wakes the Rollouts of this uid, those that are part of it, or those of the change of this uid.
    pub(super) fn wake_rollouts(&mut self, uid: &str) {
        let keys = self.rollouts.keys_of_uid.get(uid).into_iter().flatten().cloned();
        self.rollouts.woken.extend(keys);
    }

    /// Wakes every Rollout that is not at rest.
    pub(super) fn wake_running_rollouts(&mut self) {
        let moves = |rollout: &crds::Rollout| !rollout.status.as_ref().is_some_and(|status| status.phase.is_at_rest());
        let moving = self.rollouts.known.iter().filter(|(_, rollout)| moves(rollout)).map(|(key, _)| key.clone());
        self.rollouts.woken.extend(moving.collect::<Vec<_>>());
    }

    /// Rollouts to look at again since this was asked last.
    pub fn take_woken_rollouts(&mut self) -> BTreeSet<RolloutKey> {
        std::mem::take(&mut self.rollouts.woken)
    }

    /// The Rollout of this key.
    pub fn rollout(&self, key: &str) -> Option<Arc<crds::Rollout>> {
        self.rollouts.known.get(key).cloned()
    }

    /// The Rollouts of these workloads, whatever became of them.
    pub fn rollouts_of(&self, targets: &[crds::RolloutTarget]) -> Vec<Arc<crds::Rollout>> {
        self.rollouts.known.values().filter(|rollout| rollout.spec.targets == targets).cloned().collect()
    }

    /// The Rollouts of running changes that are known to have to do with what is written: it is labelled as theirs, they
    /// announced it, or they lead traffic by it. A hint of where to look first, no more: the label is what somebody wrote.
    pub fn releases_touching(&self, request: &WriteRequest) -> Vec<Arc<crds::Rollout>> {
        let labelled = [&request.object, &request.old]
            .into_iter()
            .flatten()
            .filter_map(|object| object.pointer("/metadata/labels")?.get(ROLLOUT_LABEL)?.as_str());
        let name = request.name.as_deref().unwrap_or_default();
        let object = object_key(&request.kind, request.namespace.as_deref().unwrap_or_default(), name);
        let keys: BTreeSet<_> = labelled
            .filter_map(|uid| self.rollouts.keys_of_uid.get(uid))
            .chain(self.rollouts.keys_of_object.get(&object))
            .flatten()
            .collect();
        let rollouts = keys.into_iter().filter_map(|key| self.rollouts.known.get(key));
        rollouts.filter(|rollout| !self.has_ended(&rollout.spec.change_request.uid)).cloned().collect()
    }

    /// A newer change that wants one of these workloads, and takes the place of the one that is about them.
    pub fn newer(&self, workloads: impl IntoIterator<Item = ObjectId>, request: &RequestFacts) -> Option<String> {
        workloads.into_iter().find_map(|workload| {
            let others = self.changes_with(&workload.key());
            let other = others.iter().find(|other| gradual::supersedes(&other.request, request))?;
            Some(format!("change {}/{}", other.request.namespace, other.request.name))
        })
    }

    /// Every Rollout.
    pub fn all_rollouts(&self) -> BTreeSet<RolloutKey> {
        self.rollouts.known.keys().cloned().collect()
    }

    /// Whether the change of this uid has ended, or is not known.
    pub fn has_ended(&self, uid: &str) -> bool {
        let entry = self.key_of_uid(uid).and_then(|key| self.change(key));
        !matches!(entry, Some(ChangeEntry::Live(_)))
    }
}

/// The uids of what wakes a Rollout.
fn uids(rollout: &crds::Rollout) -> impl Iterator<Item = &str> {
    let own = rollout.metadata.uid.as_deref().unwrap_or_default();
    let part_of = rollout.spec.part_of.as_ref().map(|of| of.uid.as_str());
    [own, rollout.spec.change_request.uid.as_str()].into_iter().chain(part_of)
}

fn object_key(kind: &str, namespace: &str, name: &str) -> String {
    format!("{kind} {namespace}/{name}")
}

/// What a Rollout announced to write, its workloads and what stands beside them, and what its plan leads traffic by.
fn touched(rollout: &crds::Rollout) -> BTreeSet<String> {
    let journal = rollout.status.iter().flat_map(|status| &status.journal);
    let mut touched: BTreeSet<_> =
        journal.map(|entry| object_key(&entry.kind, &entry.namespace, &entry.name)).collect();
    let plan = &rollout.spec.plan;
    let route = plan.canary.as_ref().and_then(|canary| canary.route.as_ref());
    let routes = route.map(|route| ("HTTPRoute", &route.http_route));
    let services =
        route.map(|route| &route.backend).into_iter().chain(plan.blue_green.as_ref().map(|plan| &plan.service));
    for target in &rollout.spec.targets {
        let named = routes.into_iter().chain(services.clone().map(|service| ("Service", service)));
        touched.extend(named.map(|(kind, name)| object_key(kind, &target.namespace, name)));
        let workload = live::workload_id(target);
        let beside = workload::canary_name(&target.name);
        touched.extend([&workload.name, &beside].map(|name| object_key(&workload.kind, &target.namespace, name)));
    }
    touched
}
