//! Going back: the old version takes the traffic as far as it has ready pods for it, then the new one goes.

use interlock_crds::{Form, RolloutPhase};
use serde_json::Value;

use super::{
    capacity::{pods_for, share_of},
    derive::{
        service,
        workload::{self, Version},
    },
    live,
    pass::{Pass, Reach},
    view::View,
};
use crate::mutants::{self, Mutant};

impl Pass<'_> {
    /// One pass of going back.
    pub fn back_sides(&mut self, v: &View<'_>) {
        if self.settle() {
            return;
        }
        let reach = self.return_to_old(v);
        match reach {
            Reach::There if self.awaits_creation() => {
                self.say("a creation that was under way could still arrive; it is waited out");
            }
            Reach::There => {
                let cause = self.status.cause.clone().unwrap_or_default();
                self.finish(RolloutPhase::RolledBack);
                self.status.promotion = None;
                self.say(format!("everything is as before: {cause}"));
            }
            Reach::Waiting { message, measure } => {
                let late = self.is_late(measure);
                let cause = self.status.cause.clone().unwrap_or_default();
                self.say(format!("going back ({cause}): {message}"));
                if late {
                    self.say("this takes longer than the plan's progressDeadline; what serves goes on serving");
                }
            }
        }
    }

    fn return_to_old(&mut self, v: &View<'_>) -> Reach {
        if v.canary_is_foreign() {
            // Nothing can be served from it, and it is not ours to delete.
            return self.return_to_old(&v.without_canary());
        }
        if v.stable.is_null() {
            // The workload is gone, as in a namespace that is torn down: what is ours goes too.
            self.restore_route(v);
            let taken_up = v.route().is_none_or(|route| live::is_accepted(route) || live::is_deleting(route));
            if self.has_planned() || (v.canary.is_some() && !taken_up) {
                return Reach::waiting("the route is given its own form", 5);
            }
            if let Some(canary) = v.canary {
                self.delete(Form::Gone, canary, v.service_name.is_some());
                return Reach::waiting("the second Deployment is being deleted", 6);
            }
            return self.clean_up(v);
        }
        if let Some(waiting) = self.restore_workload(v) {
            return waiting;
        }
        if let Some(waiting) = self.return_traffic(v) {
            return waiting;
        }
        if let Some(waiting) = self.remove_canary(v) {
            return waiting;
        }
        self.clean_up(v)
    }

    /// Gives the workload itself its old version, if a promotion had written the new one. While it does, the second
    /// Deployment keeps serving if it can.
    fn restore_workload(&mut self, v: &View<'_>) -> Option<Reach> {
        let written = self.status.promotion.as_ref().is_some_and(|promotion| promotion.written);
        let target = self.facts.target?;
        if !written {
            return None;
        }
        let configs = self.restore_configs(v);
        if v.version == Version::Old && configs == 0 {
            return None;
        }
        let size = v.size();
        let can_serve = v.service_name.is_some() && v.canary_is_live() && v.canary_ready >= size && size > 0;
        if can_serve
            && v.canary_hash.is_some()
            && let Some(waiting) = self.traffic_to_canary(v, size)
        {
            self.writes.retain(|write| write.form != Form::ConfigRestored);
            return Some(waiting);
        }
        self.serve_from_both(v);
        if self.writes.iter().any(|write| matches!(write.form, Form::UnpinnedService | Form::RestoredRoute)) {
            return Some(Reach::waiting("pods of both versions serve while the workload is given its old version", 0));
        }
        // No pod of the old version starts with the new values.
        if configs > 0 {
            return Some(Reach::waiting("ConfigMaps and Secrets are given their old values", 0));
        }
        self.write(Form::Restored, None, "", Some(v.stable), workload::restored(v.stable, target));
        Some(Reach::waiting("the workload is given its old version", 0))
    }

    /// Where the second Deployment cannot carry everything, whoever is ready must: the workload's pods are then replaced
    /// as in any rolling update, behind a Service that selects both versions.
    fn serve_from_both(&mut self, v: &View<'_>) {
        let carried = v.canary_is_live() && v.canary_ready >= v.size() && v.service_name.is_some();
        if carried {
            return;
        }
        if let Some(own) = v.own_service().filter(|own| service::selected_hash(own).is_some()) {
            self.write(Form::UnpinnedService, None, "", Some(own), service::unpinned_service(own));
        }
        self.restore_route(v);
    }

    /// Plans ConfigMaps and Secrets as they were; says how many.
    fn restore_configs(&mut self, v: &View<'_>) -> usize {
        let Some(target) = self.facts.target else { return 0 };
        let before = self.writes.len();
        for config in &target.configs {
            let Some(id) = crate::object::ObjectId::of(&config.wanted).ok() else { continue };
            match (v.object(&id), &config.before) {
                (Some(found), Some(_)) => {
                    let object = super::derive::config::restored(found, config);
                    if *found != object {
                        self.write(Form::ConfigRestored, None, "", Some(found), object);
                    }
                }
                (Some(found), None) => self.delete(Form::ConfigRestored, found, false),
                (None, Some(before)) => self.write(Form::ConfigRestored, None, "", None, before.clone()),
                (None, None) => {}
            }
        }
        self.writes.len() - before
    }

    /// All traffic to the second Deployment, which has pods for it.
    pub fn traffic_to_canary(&mut self, v: &View<'_>, size: u32) -> Option<Reach> {
        let hash = v.canary_hash.clone().unwrap_or_default();
        if v.route().is_some() {
            let name = service::canary_name(v.backend());
            let selects = v.service(&name).and_then(service::selected_hash) == Some(hash.as_str());
            if !selects || self.facts.live.endpoints_of(&name, &hash) < size {
                return Some(Reach::waiting("the endpoints of the new version are not all ready", v.canary_ready));
            }
            self.write_split(v, 100, &[], 0);
            if !self.writes.iter().any(|w| w.form == Form::SplitRoute) && !v.route_is_accepted() {
                return Some(Reach::waiting("no Gateway has accepted the route yet", 1));
            }
        }
        if self.writes.iter().any(|w| w.form == Form::SplitRoute) {
            return Some(Reach::waiting("all traffic goes to the pods of the new version", 1));
        }
        self.pin(v, &hash);
        if self.writes.iter().any(|w| w.form == Form::PinnedService) {
            return Some(Reach::waiting("callers inside the cluster go to the pods of the new version", 2));
        }
        let others = self.other_endpoints(v, &hash);
        (v.own_endpoints(&hash) < size || others > 0)
            .then(|| Reach::waiting(format!("Service {} still has endpoints of another version", v.backend()), 3))
    }

    /// Ready endpoints of the user's Service with another hash.
    pub fn other_endpoints(&self, v: &View<'_>, hash: &str) -> u32 {
        let all = self.facts.live.endpoints.get(v.backend());
        all.into_iter().flatten().filter(|(other, _)| *other != hash).map(|(_, ready)| ready).sum()
    }

    fn return_traffic(&mut self, v: &View<'_>) -> Option<Reach> {
        let written = self.status.promotion.as_ref().is_some_and(|promotion| promotion.written);
        if v.canary.is_none() && v.split().is_none() && !written {
            self.restore_route(v);
            return None;
        }
        let (full, ready) = (v.full(), v.old_ready());
        let nobody_else = v.canary_ready + v.own_new_ready() == 0;
        let bearable = if nobody_else || v.was_broken() { 100 } else { share_of(ready, full) };
        let waiting = |what: &str| {
            let message = format!("{ready} of {full} pods of the old version are ready: {what}");
            Some(Reach::waiting(message, ready))
        };
        let old = v.old_hash().to_owned();
        if bearable < 100 || (ready == 0 && !nobody_else && !v.was_broken()) {
            if let Some((_, most)) = v.split() {
                let weight = 100 - bearable;
                let endpoints = self.facts.live.endpoints_of(&service::stable_name(v.backend()), &old);
                if weight < most.canary && endpoints > 0 {
                    self.write_split(v, weight, &[], 0);
                }
            }
            if !self.has_planned() {
                self.shrink_canary(v);
            }
            return waiting("it takes its share back with them");
        }
        // Without a Service to pin, pods are the share: now the old ones can do without the new ones.
        v.service_name.as_ref()?;
        if v.canary.is_some() && v.pinned() != Some(&old) {
            self.pin(v, &old);
            return waiting("callers inside the cluster go back to it");
        }
        if !nobody_else && !v.was_broken() && v.pinned().is_some() && v.own_endpoints(&old) == 0 {
            return waiting("their endpoints are not ready yet");
        }
        self.restore_route(v);
        if self.has_planned() {
            return waiting("the route is given its own form");
        }
        let is_early = mutants::is(Mutant::DeleteBeforeTheRoute);
        if v.route().is_some_and(|route| !live::is_accepted(route)) && v.canary.is_some() && !is_early {
            return waiting("no Gateway has accepted the route yet");
        }
        None
    }

    /// The second Deployment keeps as many pods as its share needs, so that the old version has room for its own.
    fn shrink_canary(&mut self, v: &View<'_>) {
        let needed = match (v.split(), &v.service_name) {
            (Some((_, most)), _) if v.route_is_accepted() => pods_for(v.full(), most.canary, None),
            (None, None) => v.full().saturating_sub(v.old_ready()),
            _ => return,
        };
        let Some(canary) = v.canary.filter(|canary| !live::is_deleting(canary)) else { return };
        if needed < live::replicas(canary) {
            let object = workload::scaled(canary, needed);
            self.write(v.workload_form(), Some(i64::from(needed)), "", Some(canary), object);
        }
    }

    /// Deletes the second Deployment once no traffic reaches it. None when it is gone.
    pub fn remove_canary(&mut self, v: &View<'_>) -> Option<Reach> {
        let canary: &Value = v.canary?;
        if let Some(hash) = v.canary_hash.as_deref()
            && v.service_name.is_some()
            && v.own_endpoints(hash) > 0
            && v.pinned() != Some(hash)
            && v.pinned().is_some()
        {
            return Some(Reach::waiting("its endpoints are leaving the Service", 5));
        }
        // A Service that is pinned must wait until the pods are gone, so that its Deployment has to as well. Otherwise nothing
        // waits for them: what they belong to names its owner until it is collected, so that nobody adopts it.
        self.delete(Form::Gone, canary, v.service_name.is_some());
        Some(Reach::waiting("the second Deployment is being deleted", 6))
    }
}
