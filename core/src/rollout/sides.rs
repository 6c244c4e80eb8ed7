//! Two Deployments side by side: what must be there before traffic moves, and what is taken away afterwards.

use interlock_crds::{Form, HeaderMatch};
use serde_json::Value;

use super::{
    ROLLOUT_LABEL,
    capacity::share_of,
    derive::{self, autoscaler, config, route, service, workload},
    live,
    pass::{Pass, Reach},
    view::View,
};
use crate::mutants::{self, Mutant};

/// What two sides should look like.
#[derive(Clone, Debug)]
pub(super) struct Goal {
    /// Percent for the new version.
    pub weight: u8,
    /// Pods of the second Deployment.
    pub replicas: u32,
    pub headers: Vec<HeaderMatch>,
    pub mirror: u8,
}

impl Goal {
    fn sends_traffic(&self) -> bool {
        self.weight > 0 || !self.headers.is_empty() || self.mirror > 0
    }
}

impl Pass<'_> {
    /// Goes towards a goal with the old version untouched. Plans at most what is safe now.
    pub fn forward(&mut self, v: &View<'_>, goal: &Goal) -> Reach {
        if goal.replicas == 0 && v.canary.is_none() && v.split().is_none() {
            return Reach::There;
        }
        if v.canary_is_foreign() {
            return Reach::waiting(format!("another release still has Deployment {}", live::name_of(v.canary)), 0);
        }
        if let Some(waiting) = self.prepare(v) {
            return waiting;
        }
        // Pods go only after their traffic: as long as more may arrive than is asked for, as many stay.
        let leaving = v.share_in_effect() > goal.weight;
        let replicas = if leaving { goal.replicas.max(v.canary_replicas()) } else { goal.replicas };
        self.canary_workload(v, replicas);
        self.share_services(v);
        if self.has_planned() {
            // Said as it will be said when it is written, so that the status is not written again for that.
            if let Some(counts) =
                self.status.replicas.as_mut().filter(|_| v.canary.is_none_or(|c| !live::is_deleting(c)))
            {
                counts.new_desired = replicas;
            }
            return Reach::waiting(ready_of(v.canary_ready, goal.replicas), v.canary_ready);
        }
        if v.canary.is_some_and(live::is_deleting) {
            return Reach::waiting(format!("Deployment {} is still being deleted", live::name_of(v.canary)), 0);
        }
        if let Some(waiting) = self.protect(v) {
            return waiting;
        }
        let waits_for_pods = v.canary_ready < goal.replicas && !mutants::is(Mutant::WeightBeforeEndpoints);
        if !v.canary_is_live() || v.canary_hash.is_none() || waits_for_pods {
            return Reach::waiting(ready_of(v.canary_ready, goal.replicas), v.canary_ready);
        }
        match v.route_name {
            Some(_) => self.split_route(v, goal),
            None => Reach::There,
        }
        .or(|| {
            let more = v.canary_replicas() > goal.replicas;
            if more {
                Reach::waiting("pods of the new version that are no longer needed are leaving", 0)
            } else {
                Reach::There
            }
        })
    }

    /// What must be there before the first pod of the new version: the autoscaler held, its configuration, and the
    /// user's Service pinned, so that nobody reaches the new version by accident.
    fn prepare(&mut self, v: &View<'_>) -> Option<Reach> {
        self.hold_autoscaler(v);
        if let Some(target) = self.facts.target {
            for copy in config::config_copies(&target.wanted, &target.configs, self.facts.uid) {
                let found = crate::object::ObjectId::of(&copy).ok().and_then(|id| v.object(&id));
                match found {
                    None => self.write(Form::ConfigCopy, None, "", None, copy),
                    Some(found) if live::label(found, ROLLOUT_LABEL) != self.facts.uid => {
                        return Some(Reach::waiting(
                            format!("{} is in the way; delete or rename it", live::text(found, "/metadata/name")),
                            0,
                        ));
                    }
                    Some(_) => {}
                }
            }
        }
        let old = v.old_hash().to_owned();
        if let Some(name) = v.service_name.clone() {
            let Some(own) = v.own_service() else {
                return Some(Reach::waiting(self.lacks(format!("Service {name} does not exist")), 0));
            };
            let is_promoting = self.status.promotion.is_some();
            if !is_promoting && service::selected_hash(own) != Some(old.as_str()) {
                self.write(Form::PinnedService, None, &old, Some(own), service::pinned_service(own, &old));
            }
            if v.route_name.is_some() {
                let name = service::stable_name(&name);
                if let Some(waiting) = self.share_service(v, Form::StableService, &name, &old) {
                    return Some(waiting);
                }
            }
        }
        self.has_planned().then(|| Reach::waiting("Services and configuration are being prepared", 0))
    }

    fn hold_autoscaler(&mut self, v: &View<'_>) {
        let Some(held) = self.status.start.as_ref().and_then(|start| start.autoscaler.clone()) else { return };
        let id = live::id("autoscaling", "v2", "HorizontalPodAutoscaler", &v.namespace, &held.name);
        if let Some(found) = v.object(&id).filter(|found| !autoscaler::is_held(found, &held)) {
            self.write(Form::HeldAutoscaler, Some(held.held), "", Some(found), autoscaler::hpa_held(found, &held));
        }
    }

    fn canary_workload(&mut self, v: &View<'_>, replicas: u32) {
        let number = Some(i64::from(replicas));
        match (v.canary, self.facts.target) {
            (None, Some(target)) if replicas > 0 => {
                let object = workload::canary_deployment(target, self.facts.uid, replicas);
                self.write(v.workload_form(), number, "", None, object);
            }
            (Some(canary), _) if live::replicas(canary) != replicas && !live::is_deleting(canary) => {
                self.write(v.workload_form(), number, "", Some(canary), workload::scaled(canary, replicas));
            }
            _ => {}
        }
    }

    /// The Services that reach the new version alone.
    fn share_services(&mut self, v: &View<'_>) {
        let Some(hash) = v.canary_hash.clone().filter(|_| v.canary_is_live()) else { return };
        if v.route_name.is_some() {
            let name = service::canary_name(v.backend());
            let _ = self.share_service(v, Form::CanaryService, &name, &hash);
        }
        if let Some(name) = v.preview_name.clone() {
            let _ = self.share_service(v, Form::PreviewService, &name, &hash);
        }
    }

    fn share_service(&mut self, v: &View<'_>, form: Form, name: &str, hash: &str) -> Option<Reach> {
        let found = v.service(name);
        match found {
            Some(found) if live::label(found, ROLLOUT_LABEL) != self.facts.uid => {
                return Some(Reach::waiting(format!("Service {name} is in the way; delete or rename it"), 0));
            }
            Some(found) if service::selected_hash(found) != Some(hash) => {
                self.write(form, None, hash, Some(found), service::pinned_service(found, hash));
            }
            Some(_) => {}
            None => {
                if let Some(own) = v.own_service() {
                    self.write(form, None, hash, None, service::share_service(own, name, hash, self.facts.uid));
                }
            }
        }
        None
    }

    /// Takes traffic from a new version that has no ready pod left, as long as the old one has any.
    fn protect(&mut self, v: &View<'_>) -> Option<Reach> {
        let (_, most) = v.split()?;
        let canary = service::canary_name(v.backend());
        let hash = v.canary_hash.as_deref()?;
        let is_dead = v.canary_ready == 0 && self.facts.live.endpoints_of(&canary, hash) == 0;
        if !is_dead || most.canary == 0 || self.stable_endpoints(v) == 0 {
            return None;
        }
        self.write_split(v, 0, &[], 0);
        Some(Reach::waiting("no pod of the new version is ready: all traffic goes to the old one meanwhile", 0))
    }

    /// Endpoints of the old version's share; no more than its ready pods, as EndpointSlices may lag behind.
    fn stable_endpoints(&self, v: &View<'_>) -> u32 {
        let listed = self.facts.live.endpoints_of(&service::stable_name(v.backend()), v.old_hash());
        listed.min(v.old_ready())
    }

    fn split_route(&mut self, v: &View<'_>, goal: &Goal) -> Reach {
        let Some(live_route) = v.route() else {
            let name = v.route_name.as_deref().unwrap_or_default();
            return Reach::waiting(self.lacks(format!("HTTPRoute {name} does not exist")), 0);
        };
        if let Some(why) = route::refusal(live_route, v.backend(), !goal.headers.is_empty(), goal.mirror > 0)
            .filter(|_| v.split().is_none())
        {
            return Reach::waiting(why, 0);
        }
        if !goal.sends_traffic() && v.split().is_none() {
            return Reach::There;
        }
        let ready = self
            .facts
            .live
            .endpoints_of(&service::canary_name(v.backend()), v.canary_hash.as_deref().unwrap_or_default());
        if goal.sends_traffic() && ready < goal.replicas && !mutants::is(Mutant::WeightBeforeEndpoints) {
            let message = format!("{ready} of {} endpoints of the new version are ready", goal.replicas);
            return Reach::waiting(message, i64::from(v.canary_ready) + i64::from(ready));
        }
        let weight = match self.weight_that_holds(v, goal.weight) {
            Ok(weight) => weight,
            Err(message) => return Reach::waiting(message, v.old_ready()),
        };
        self.write_split(v, weight, &goal.headers, goal.mirror);
        if self.has_planned() {
            return Reach::waiting(
                format!("the route is being set to {weight} percent"),
                1_000_000 + i64::from(weight),
            );
        }
        if !v.route_is_accepted() {
            let name = v.route_name.as_deref().unwrap_or_default();
            return Reach::waiting(
                format!(
                    "no Gateway has accepted generation {} of HTTPRoute {name} yet",
                    live::text_of(live_route, "/metadata/generation")
                ),
                2_000_000,
            );
        }
        if weight == goal.weight || v.was_broken() {
            Reach::There
        } else {
            let message = format!(
                "{} of {} pods of the old version are ready: it takes its share back with them",
                v.old_ready(),
                v.full()
            );
            Reach::waiting(message, v.old_ready())
        }
    }

    /// The weight next to the wanted one that the old version can bear. Taking load off it needs nothing of it; giving it
    /// more needs ready pods for that.
    fn weight_that_holds(&self, v: &View<'_>, wanted: u8) -> Result<u8, String> {
        let present = v.split().map_or(0, |(_, most)| most.canary);
        if wanted < 100 && self.stable_endpoints(v) == 0 {
            if v.was_broken() && v.old_ready() == 0 {
                // It served nobody before; whoever is there to serve, serves all.
                return Ok(100);
            }
            return Err("no endpoint of the old version is ready".to_owned());
        }
        if wanted >= present {
            return Ok(wanted);
        }
        let bearable = share_of(v.old_ready(), v.full());
        Ok(wanted.max(100 - bearable).min(present))
    }

    pub fn write_split(&mut self, v: &View<'_>, weight: u8, headers: &[HeaderMatch], mirror: u8) {
        let Some(live_route) = v.route() else { return };
        let before = self.status.start.as_ref().map(|start| start.route_weights.clone()).unwrap_or_default();
        let form = route::RouteForm { backend: v.backend(), split: Some(weight), headers, mirror, before: &before };
        let object = route::route_with_weights(live_route, &form);
        if *live_route != object {
            let form = if headers.is_empty() && mirror == 0 { Form::SplitRoute } else { Form::MatchedRoute };
            self.write(form, Some(i64::from(weight)), "", Some(live_route), object);
        }
    }

    pub fn restore_route(&mut self, v: &View<'_>) {
        let Some(live_route) = v.route().filter(|found| !route::is_own_form(found, v.backend())) else { return };
        let before = self.status.start.as_ref().map(|start| start.route_weights.clone()).unwrap_or_default();
        let form = route::RouteForm { backend: v.backend(), before: &before, ..Default::default() };
        self.write(Form::RestoredRoute, None, "", Some(live_route), route::route_with_weights(live_route, &form));
    }

    pub fn pin(&mut self, v: &View<'_>, hash: &str) {
        if let Some(own) = v.own_service().filter(|own| service::selected_hash(own) != Some(hash)) {
            self.write(Form::PinnedService, None, hash, Some(own), service::pinned_service(own, hash));
        }
    }

    /// Removes everything temporary but the second Deployment, which must be gone.
    pub fn clean_up(&mut self, v: &View<'_>) -> Reach {
        let shares = [service::stable_name(v.backend()), service::canary_name(v.backend())];
        let shares = shares.iter().filter(|_| v.route_name.is_some()).filter_map(|name| v.service(name));
        let mut ours: Vec<&Value> =
            shares.filter(|share| live::label(share, ROLLOUT_LABEL) == self.facts.uid).collect();
        // No Service goes while a route, or a Gateway that has not taken up the newest one, still leads to it.
        self.restore_route(v);
        let led = v.route().is_some_and(|route| !live::is_accepted(route) && !live::is_deleting(route));
        if self.has_planned() || (led && !ours.is_empty()) {
            return Reach::waiting("the route is given its own form", 7);
        }
        if let Some(own) = v.own_service().filter(|own| service::selected_hash(own).is_some()) {
            self.write(Form::UnpinnedService, None, "", Some(own), service::unpinned_service(own));
        }
        ours.extend(v.preview_name.iter().filter_map(|name| v.service(name)));
        if let Some(target) = self.facts.target {
            let copies = config::config_copies(&target.wanted, &target.configs, self.facts.uid);
            ours.extend(copies.iter().filter_map(|copy| v.object(&crate::object::ObjectId::of(copy).ok()?)));
        }
        for object in ours.into_iter().filter(|object| live::label(object, ROLLOUT_LABEL) == self.facts.uid) {
            self.delete(Form::Gone, object, false);
        }
        self.release_autoscaler(v);
        for object in [Some(v.stable), v.own_service(), v.route()].into_iter().flatten() {
            let planned = self.writes.iter().any(|w| {
                w.object.as_ref().is_some_and(|o| o.pointer("/metadata/uid") == object.pointer("/metadata/uid"))
            });
            if derive::is_touched(object) && !planned {
                self.write(Form::Untouched, None, "", Some(object), derive::touched(object, None));
            }
        }
        if self.has_planned() { Reach::waiting("what was temporary is being removed", 0) } else { Reach::There }
    }

    fn release_autoscaler(&mut self, v: &View<'_>) {
        let Some(held) = self.status.start.as_ref().and_then(|start| start.autoscaler.clone()) else { return };
        let id = live::id("autoscaling", "v2", "HorizontalPodAutoscaler", &v.namespace, &held.name);
        if let Some(found) = v.object(&id) {
            let released = autoscaler::hpa_released(found, &held);
            if *found != released {
                self.write(Form::ReleasedAutoscaler, held.before, "", Some(found), released);
            }
        }
    }
}

fn ready_of(ready: u32, wanted: u32) -> String {
    format!("{ready} of {wanted} pods of the new version are ready")
}

impl Reach {
    fn or(self, next: impl FnOnce() -> Self) -> Self {
        if self == Self::There { next() } else { self }
    }
}
