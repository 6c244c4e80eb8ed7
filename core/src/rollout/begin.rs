//! What a release needs before its first write, and what it records then.

use interlock_crds::{PromotionRecord, RolloutPhase, RolloutStep, StartRecord, VersionHashes};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::Value;

use super::{
    HASH_LABEL, ROLLOUT_LABEL,
    derive::{autoscaler, route, service, workload},
    live, measure,
    pass::Pass,
    view::View,
};

impl Pass<'_> {
    /// Begins if everything is there; else says what is missing and waits for it.
    pub fn begin_sides(&mut self, v: &View<'_>) {
        if let Some(missing) = self.missing(v) {
            let missing = self.lacks(missing);
            return self.say(missing);
        }
        if v.version == workload::Version::New && v.stable_health().is_healthy() {
            self.started();
            self.finish(RolloutPhase::Succeeded);
            return self.say("the workload has the new version already");
        }
        let gradual = self.facts.target.is_some_and(workload::touches_pods);
        let Some(serving) = live::serving(&v.stable_sets) else {
            self.say("no controller has looked at the workload yet");
            return;
        };
        let size = v.size();
        let hpa = self.facts.live.of_kind("autoscaling", "HorizontalPodAutoscaler").find(|hpa| scales(hpa, v.stable));
        self.status.hashes = Some(VersionHashes { stable: serving.hash.clone(), canary: String::new() });
        self.status.start = Some(StartRecord {
            replicas: size,
            ready: (serving.ready < size).then_some(serving.ready),
            autoscaler: hpa.map(|hpa| autoscaler::hold(hpa, size)),
            route_weights: v.route().map(|found| route::own_weights(found, v.backend())).unwrap_or_default(),
            update_strategy: String::new(),
        });
        self.started();
        if !gradual {
            self.say("the change gives the pods nothing new: there is nothing to release gradually");
            self.status.promotion = Some(PromotionRecord::default());
            self.phase(RolloutPhase::Promoting);
        }
    }

    /// An analysis that the plan's steps name and its list does not have.
    pub fn unknown_analysis(&self) -> Option<String> {
        let missing = measure::unknown(&self.facts.spec.plan)?;
        Some(format!("the plan has no analysis {missing}; correct the plan and propose the change again"))
    }

    /// Records that it begins now.
    pub fn started(&mut self) {
        if self.status.started_at.is_none() {
            self.status.started_at = Some(Time(self.now));
        }
        self.status.finished_at = None;
        self.phase(RolloutPhase::Progressing);
        if let Some(why) = self.facts.known_good {
            self.status.fully = true;
            self.say(format!("its steps are passed over: {why}"));
        }
        self.go_to(0);
    }

    fn missing(&self, v: &View<'_>) -> Option<String> {
        if self.facts.target.is_none() {
            return Some("the stored plan of the change could not be read".to_owned());
        }
        if let Some(unknown) = self.unknown_analysis() {
            return Some(unknown);
        }
        if v.stable.pointer("/spec/paused") == Some(&Value::Bool(true)) {
            return Some(format!(
                "Deployment {} is paused; resume it with `kubectl rollout resume`",
                live::name_of(Some(v.stable))
            ));
        }
        if let Some(canary) = v.canary {
            let name = live::name_of(Some(canary));
            return Some(if live::label(canary, ROLLOUT_LABEL).is_empty() {
                format!("Deployment {name} is in the way; delete or rename it")
            } else {
                format!("another release still has Deployment {name}")
            });
        }
        if !live::is_observed(v.stable) {
            return Some("the Deployment controller has not looked at the workload yet".to_owned());
        }
        if let Some(name) = &v.service_name {
            let Some(own) = v.own_service() else { return Some(format!("Service {name} does not exist")) };
            let selector = own.pointer("/spec/selector").and_then(Value::as_object);
            if selector.is_none_or(serde_json::Map::is_empty) {
                return Some(format!(
                    "Service {name} selects no pods by labels, so that it cannot be pinned to a version"
                ));
            }
            if selector.is_some_and(|selector| selector.contains_key(HASH_LABEL)) {
                return Some(format!(
                    "Service {name} is pinned to a version already; remove {HASH_LABEL} from its selector"
                ));
            }
            let labels = v.stable.pointer("/spec/template/metadata/labels");
            let selects = |(key, value): (&String, &Value)| labels.and_then(|labels| labels.get(key)) == Some(value);
            if !selector.into_iter().flatten().all(selects) {
                return Some(format!(
                    "Service {name} does not select the pods of {}; name the one that does",
                    live::name_of(Some(v.stable))
                ));
            }
            let shares = [service::stable_name(name), service::canary_name(name)];
            let mut shares = shares.iter().filter(|_| v.route_name.is_some()).chain(&v.preview_name);
            if let Some(other) = shares.find(|share| v.service(share).is_some()) {
                return Some(format!("Service {other} is in the way; delete or rename it"));
            }
        }
        let name = v.route_name.as_deref()?;
        let Some(found) = v.route() else { return Some(format!("HTTPRoute {name} does not exist")) };
        let headers = v.canary_spec.is_some_and(|c| c.steps.iter().any(|s| s.header_match.is_some()));
        let mirrors = |step: &RolloutStep| step.mirror.is_some_and(|mirror| mirror.percent > 0);
        let mirror = v.canary_spec.is_some_and(|c| c.steps.iter().any(mirrors));
        route::refusal(found, v.backend(), headers, mirror)
            .or_else(|| (!live::is_accepted(found)).then(|| format!("no Gateway has accepted HTTPRoute {name} yet")))
    }
}

/// Whether an autoscaler scales this workload.
pub(super) fn scales(hpa: &Value, workload: &Value) -> bool {
    live::text(hpa, "/spec/scaleTargetRef/kind") == live::text(workload, "/kind")
        && live::text(hpa, "/spec/scaleTargetRef/name") == live::text(workload, "/metadata/name")
}
