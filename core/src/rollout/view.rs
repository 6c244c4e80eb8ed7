//! Two Deployments and what leads traffic to them, as one pass sees them.

use interlock_crds::{BlueGreenStrategy, CanaryStrategy, Form, Split};
use serde_json::Value;

use super::{
    CANARY_TRACK, ROLLOUT_LABEL, TRACK_LABEL, capacity,
    derive::{route, service, workload},
    facts::RolloutFacts,
    live::{self, ReplicaSet},
};
use crate::object::{Health, ObjectId, health};

/// The live state of a canary or a blue/green release.
#[derive(Clone)]
pub(super) struct View<'a> {
    pub facts: &'a RolloutFacts<'a>,
    pub namespace: String,
    /// The user's Deployment.
    pub stable: &'a Value,
    pub stable_sets: Vec<ReplicaSet>,
    pub version: workload::Version,
    /// The second Deployment.
    pub canary: Option<&'a Value>,
    pub canary_hash: Option<String>,
    pub canary_ready: u32,
    /// Name of the user's Service that is pinned, if one is.
    pub service_name: Option<String>,
    /// Name and own object of the route, and its backend.
    pub route_name: Option<String>,
    pub preview_name: Option<String>,
    pub blue_green: Option<&'a BlueGreenStrategy>,
    pub canary_spec: Option<&'a CanaryStrategy>,
}

fn available(deployment: Option<&Value>) -> u32 {
    deployment.map_or(0, |deployment| live::count(deployment, "/status/availableReplicas"))
}

impl<'a> View<'a> {
    /// Without a workload `stable` is null. None if the Rollout names none.
    pub fn of(
        facts: &'a RolloutFacts<'a>,
        canary_spec: Option<&'a CanaryStrategy>,
        blue_green: Option<&'a BlueGreenStrategy>,
    ) -> Option<Self> {
        let target = facts.spec.targets.first()?;
        let namespace = target.namespace.clone();
        let stable = facts.live.get(&live::workload_id(target)).unwrap_or(&Value::Null);
        let canary =
            facts.live.get(&live::id("apps", "v1", "Deployment", &namespace, &workload::canary_name(&target.name)));
        let sets = canary.map(|canary| live::replica_sets(facts.live, canary)).unwrap_or_default();
        // Scaling leaves the version as it is, also while the Deployment controller has not seen it yet.
        let known = facts.status.hashes.as_ref().map(|hashes| hashes.canary.as_str());
        let canary_set = live::current(&sets).or_else(|| sets.iter().find(|set| Some(set.hash.as_str()) == known));
        let route = canary_spec.and_then(|spec| spec.route.as_ref());
        Some(Self {
            facts,
            stable,
            stable_sets: live::replica_sets(facts.live, stable),
            version: facts.target.map_or(workload::Version::Other, |target| workload::version(stable, target)),
            canary,
            canary_hash: canary_set.map(|set| set.hash.clone()),
            // Its Deployment has counted them too: what is written before that conflicts with its count.
            canary_ready: canary_set.map_or(0, |set| set.ready.min(available(canary))),
            service_name: route.map(|r| r.backend.clone()).or_else(|| blue_green.map(|b| b.service.clone())),
            route_name: route.map(|r| r.http_route.clone()),
            preview_name: blue_green
                .map(|b| b.preview_service.clone().unwrap_or_else(|| service::preview_name(&b.service))),
            namespace,
            blue_green,
            canary_spec,
        })
    }

    pub fn service_id(&self, name: &str) -> ObjectId {
        live::id("", "v1", "Service", &self.namespace, name)
    }

    pub fn object(&self, id: &ObjectId) -> Option<&'a Value> {
        self.facts.live.get(id)
    }

    pub fn service(&self, name: &str) -> Option<&'a Value> {
        self.object(&self.service_id(name))
    }

    /// The user's Service.
    pub fn own_service(&self) -> Option<&'a Value> {
        self.service(self.service_name.as_deref()?)
    }

    pub fn route(&self) -> Option<&'a Value> {
        let name = self.route_name.as_deref()?;
        self.object(&live::id("gateway.networking.k8s.io", "v1", "HTTPRoute", &self.namespace, name))
    }

    pub fn backend(&self) -> &str {
        self.service_name.as_deref().unwrap_or_default()
    }

    /// Replicas that the user's Deployment asks for.
    pub fn size(&self) -> u32 {
        live::replicas(self.stable)
    }

    /// Ready pods of the user's Deployment with this hash.
    pub fn ready_of(&self, hash: &str) -> u32 {
        self.stable_sets.iter().find(|set| set.hash == hash).map_or(0, |set| set.ready)
    }

    pub fn old_hash(&self) -> &str {
        self.facts.status.hashes.as_ref().map_or("", |hashes| hashes.stable.as_str())
    }

    pub fn old_ready(&self) -> u32 {
        self.ready_of(self.old_hash())
    }

    /// Ready pods of the user's Deployment with another version than the old one.
    pub fn own_new_ready(&self) -> u32 {
        self.stable_sets.iter().filter(|set| set.hash != self.old_hash()).map(|set| set.ready).sum()
    }

    /// Hash of the new version in the user's own Deployment, once it is all there.
    pub fn promoted_hash(&self) -> Option<&str> {
        let is_new = self.version == workload::Version::New;
        live::current(&self.stable_sets)
            .filter(|_| is_new && self.stable_health().is_healthy())
            .map(|set| set.hash.as_str())
    }

    pub fn stable_health(&self) -> Health {
        health(self.stable)
    }

    /// Pods that all the traffic needs on the old side: its size, or what was ready of it when the release began.
    pub fn full(&self) -> u32 {
        let before = self.facts.status.start.as_ref().and_then(|start| start.ready);
        before.map_or(self.size(), |ready| ready.min(self.size()))
    }

    /// Whether nothing of the old version served when the release began.
    pub fn was_broken(&self) -> bool {
        self.facts.status.start.as_ref().is_some_and(|start| start.ready == Some(0))
    }

    pub fn canary_replicas(&self) -> u32 {
        self.canary.map_or(0, live::replicas)
    }

    /// The same as if there were no second Deployment.
    pub fn without_canary(&self) -> Self {
        Self { canary: None, canary_hash: None, canary_ready: 0, ..self.clone() }
    }

    pub fn canary_is_foreign(&self) -> bool {
        self.canary.is_some_and(|canary| live::label(canary, ROLLOUT_LABEL) != self.facts.uid)
    }

    /// The second Deployment is there to stay, and its controller has seen what is asked of it.
    pub fn canary_is_live(&self) -> bool {
        self.canary.is_some_and(|canary| {
            !live::is_deleting(canary)
                && live::is_observed(canary)
                && canary.pointer("/spec/selector/matchLabels").and_then(|l| l.get(TRACK_LABEL)).and_then(Value::as_str)
                    == Some(CANARY_TRACK)
        })
    }

    /// What the route gives the new version at least and at most; none while it has its own form.
    pub fn split(&self) -> Option<(Split, Split)> {
        route::share(self.route()?, self.backend())
    }

    pub fn route_is_accepted(&self) -> bool {
        self.route().is_some_and(live::is_accepted)
    }

    /// The most that may reach the second Deployment: what the route says, or said before Gateways took that up.
    pub fn share_in_effect(&self) -> u8 {
        let stated = self.split().map_or(0, |(_, most)| most.canary);
        let seen = self.facts.status.weights.map_or(0, |weights| weights.observed.canary);
        if self.route_is_accepted() || self.route().is_none() { stated } else { stated.max(seen) }
    }

    /// The hash that the user's Service selects.
    pub fn pinned(&self) -> Option<&'a str> {
        service::selected_hash(self.own_service()?)
    }

    /// Ready endpoints of the user's Service with this hash.
    pub fn own_endpoints(&self, hash: &str) -> u32 {
        self.service_name.as_deref().map_or(0, |name| self.facts.live.endpoints_of(name, hash))
    }

    /// The share that the new version has, as far as can be seen; none while a route is being taken up.
    pub fn observed(&self) -> Option<u8> {
        let canary = self.canary_hash.as_deref();
        // Only what is being promoted can lack a split and still have the new version everywhere.
        let returning = self.facts.status.promotion.as_ref().is_some_and(|p| p.returning || p.written);
        let gone_back = self.version != workload::Version::New;
        if self.route_name.is_some() && self.route().is_some() {
            if !self.route_is_accepted() {
                return None;
            }
            return Some(match self.split() {
                Some((_, most)) => most.canary,
                None if returning && !gone_back => 100,
                None => 0,
            });
        }
        if self.service_name.is_some() {
            let pinned = self.pinned();
            let is_new = pinned.is_some() && (pinned == canary || (pinned != Some(self.old_hash()) && !gone_back));
            return Some(if is_new || (returning && !gone_back && pinned.is_none()) { 100 } else { 0 });
        }
        Some(capacity::share_by_pods(self.old_ready(), self.canary_ready + self.own_new_ready()))
    }

    pub fn workload_form(&self) -> Form {
        if self.blue_green.is_some() { Form::GreenWorkload } else { Form::CanaryWorkload }
    }
}
