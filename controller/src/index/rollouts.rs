//! Rollouts and the plans that they follow.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use interlock_core::change::facts::{PlanFacts, RequestFacts, SystemFacts};
use interlock_crds as crds;

use super::{ChangeEntry, ChangeKey, Index, key_of};
use crate::change::{plan_facts, plan_key};

/// `namespace/name` of a Rollout.
pub type RolloutKey = String;

/// What is kept of Rollouts and RolloutPlans.
#[derive(Debug, Default)]
pub(super) struct Rollouts {
    plans: HashMap<String, PlanFacts>,
    known: HashMap<RolloutKey, Arc<crds::Rollout>>,
    /// By uid of Rollouts, and of the changes that they carry out.
    keys_of_uid: HashMap<String, BTreeSet<RolloutKey>>,
    woken: BTreeSet<RolloutKey>,
}

impl Index {
    /// A RolloutPlan was stored.
    pub fn rollout_plan_stored(&mut self, object: &crds::RolloutPlan) -> BTreeSet<ChangeKey> {
        let key = key_of(&object.metadata);
        let Some(facts) = plan_facts(object) else { return self.rollout_plan_deleted(&key) };
        if self.rollouts.plans.get(&key) == Some(&facts) {
            return BTreeSet::new();
        }
        self.rollouts.plans.insert(key.clone(), facts);
        self.changes_of_plan(&key)
    }

    /// A RolloutPlan was deleted.
    pub fn rollout_plan_deleted(&mut self, key: &str) -> BTreeSet<ChangeKey> {
        self.rollouts.plans.remove(key);
        self.changes_of_plan(key)
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
        let known = self.forget_rollout(&key);
        let uid = object.metadata.uid.clone().unwrap_or_default();
        for uid in [&uid, &object.spec.change_request.uid] {
            self.rollouts.keys_of_uid.entry(uid.clone()).or_default().insert(key.clone());
        }
        self.rollouts.woken.insert(key.clone());
        self.rollouts.known.insert(key, Arc::new(object.clone()));
        let moved = known.is_none_or(|known| phase(&known) != phase(object));
        self.key_of_uid(&object.spec.change_request.uid).filter(|_| moved).cloned().into_iter().collect()
    }

    /// A Rollout was deleted.
    pub fn rollout_deleted(&mut self, key: &str) -> BTreeSet<ChangeKey> {
        let Some(known) = self.forget_rollout(key) else { return BTreeSet::new() };
        self.commands.remove(known.metadata.uid.as_deref().unwrap_or_default());
        self.rollouts.woken.insert(key.to_owned());
        self.key_of_uid(&known.spec.change_request.uid).cloned().into_iter().collect()
    }

    fn forget_rollout(&mut self, key: &str) -> Option<Arc<crds::Rollout>> {
        let known = self.rollouts.known.remove(key)?;
        let own = known.metadata.uid.as_deref().unwrap_or_default();
        for uid in [own, &known.spec.change_request.uid] {
            super::remove_from(&mut self.rollouts.keys_of_uid, uid, key);
        }
        Some(known)
    }

    /// Wakes the Rollouts of this uid, or of the change of this uid.
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
