//! Promoting: the workload itself takes the new version while the second Deployment carries the traffic.

use interlock_crds::{Form, OnFailure, PromotionRecord, RolloutPhase};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    derive::{config, workload},
    facts::Verdict,
    live,
    pass::{Pass, Reach},
    sides::Goal,
    view::View,
};
use crate::{
    mutants::{self, Mutant},
    object::Health,
};

impl Pass<'_> {
    /// All steps are complete.
    pub fn begin_promotion(&mut self) {
        self.status.promotion = Some(PromotionRecord::default());
        self.phase(RolloutPhase::Promoting);
        self.status.step = None;
        self.step();
    }

    /// One pass of promoting two sides.
    pub fn promote_sides(&mut self, v: &View<'_>) {
        match self.promotion_reach(v) {
            Reach::There => {
                self.finish(RolloutPhase::Succeeded);
                self.say("the workload has the new version, and everything temporary is gone");
            }
            Reach::Waiting { message, measure } => {
                if self.status.hold.is_some() {
                    return;
                }
                let late = measure != PATIENT && self.is_late(measure);
                if late {
                    self.promotion_failed(&message);
                } else {
                    self.say(message);
                }
            }
        }
    }

    /// A promotion that fails stays on the side that serves: going on or back is for a person to say.
    pub fn promotion_failed(&mut self, why: &str) {
        let why = &self.refused().map_or_else(|| why.to_owned(), |refused| format!("{why}; {refused}"));
        let message = format!(
            "the promotion failed: {why}. What serves goes on serving, until somebody commands `interlock rollout retry` (go on) or `abort` (go back), or its change goes back"
        );
        match self.facts.on_failure() {
            OnFailure::Pause => self.hold_for_failure(&message),
            OnFailure::Rollback
                if self.facts.spec.part_of.is_none() && self.status.promotion.as_ref().is_some_and(|p| p.written) =>
            {
                self.phase(RolloutPhase::Failed);
                self.status.finished_at = Some(Time(self.now));
                self.writes.clear();
                self.say(message);
            }
            // The workload is still untouched: going back is nothing but what a failed step does. One of a wave goes back
            // whatever was written: nobody is asked about it, its wave says whether it may be missed.
            OnFailure::Rollback => {
                self.writes.clear();
                self.turn_back(&format!("the promotion failed: {why}"));
            }
        }
    }

    fn record(&mut self) -> &mut PromotionRecord {
        self.status.promotion.get_or_insert_with(PromotionRecord::default)
    }

    fn promotion_reach(&mut self, v: &View<'_>) -> Reach {
        let gradual = self.facts.target.is_some_and(workload::touches_pods);
        if self.record().returning && is_carried_better(v) {
            self.carry_again();
        } else if self.reliefs() > 0 && is_left_alone(v) {
            // What was seen of the second Deployment when it was to carry again was behind: it was going already.
            self.record().returning = true;
        }
        if !self.status.unsettled.is_empty() && self.settle() {
            return Reach::waiting("a write that was under way is being made void", 0);
        }
        if !self.record().returning {
            if gradual && let Some(waiting) = self.carry(v) {
                return waiting;
            }
            let reliefs = self.reliefs();
            if reliefs >= MOST_RELIEFS {
                self.promotion_failed(&format!("{reliefs} times the workload lost pods as soon as it had its traffic"));
                return Reach::waiting("", PATIENT);
            }
            if let Some(waiting) = self.give_new_version(v) {
                return waiting;
            }
            self.record().returning = true;
            self.step().progress = 0;
        }
        if let Some(waiting) = self.take_back(v) {
            return waiting;
        }
        self.clean_up(v)
    }

    fn reliefs(&self) -> u32 {
        self.status.promotion.as_ref().and_then(|promotion| promotion.reliefs).unwrap_or_default()
    }

    /// The workload lost pods after the traffic had begun to return to it: the second Deployment, which has all of its own,
    /// carries it once more. Its deletion may have been announced, and is made void first.
    fn carry_again(&mut self) {
        self.turn();
        let reliefs = self.reliefs() + 1;
        let record = self.record();
        (record.returning, record.reliefs) = (false, Some(reliefs));
        let now = Time(self.now);
        let step = self.step();
        step.progress = 0;
        step.progress_at = now;
    }

    /// The second Deployment carries everything.
    fn carry(&mut self, v: &View<'_>) -> Option<Reach> {
        v.service_name.as_ref()?;
        if let waiting @ Reach::Waiting { .. } =
            self.forward(v, &Goal { weight: 100, replicas: v.size().max(1), headers: Vec::new(), mirror: 0 })
        {
            return Some(waiting);
        }
        if let Some(waiting) = self.traffic_to_canary(v, v.size().max(1)) {
            return Some(waiting);
        }
        if self.record().switched_at.is_none() {
            let now = Time(self.now);
            self.record().switched_at = Some(now);
        }
        if self.record().written { None } else { self.after_switch(v) }
    }

    /// Blue/green keeps the old version for a while.
    fn after_switch(&mut self, v: &View<'_>) -> Option<Reach> {
        let plan = v.blue_green?;
        let now = self.now;
        let switched = self.record().switched_at.as_ref().map_or(now, |at| at.0);
        if self.status.fully {
            return None;
        }
        match self.run_analyses("switched", &plan.after_switch) {
            Some((Verdict::Failed, why)) => {
                self.writes.clear();
                self.turn_back(&why);
                return Some(Reach::waiting(why, PATIENT));
            }
            Some((Verdict::Inconclusive, why)) => {
                self.hold_for_inconclusive(&why);
                return Some(Reach::waiting(why, PATIENT));
            }
            Some((_, why)) => return Some(Reach::waiting(why, PATIENT)),
            None => {}
        }
        let end = switched.checked_add(plan.keep_old.signed()).unwrap_or(Timestamp::MAX);
        (end > self.now).then(|| {
            self.wake(end);
            Reach::waiting(
                format!("the new version serves; the old one is kept until {end} for instant return"),
                PATIENT,
            )
        })
    }

    /// The workload itself gets the new version, and the ConfigMaps and Secrets that it uses before it.
    fn give_new_version(&mut self, v: &View<'_>) -> Option<Reach> {
        let target = self.facts.target?;
        if !self.record().written {
            self.record().written = true;
            self.step().progress = 0;
            let now = Time(self.now);
            self.step().progress_at = now;
        }
        for object in &target.configs {
            let Some(id) = crate::object::ObjectId::of(&object.wanted).ok() else { continue };
            let found = v.object(&id);
            let wanted = config::promoted(found, object);
            if found != Some(&wanted) {
                self.write(Form::ConfigPromoted, None, "", found, wanted);
            }
        }
        if self.has_planned() {
            return Some(Reach::waiting("ConfigMaps and Secrets are given their new values", 0));
        }
        if v.version != workload::Version::New {
            self.write(Form::Promoted, None, "", Some(v.stable), workload::promoted(v.stable, target));
            return Some(Reach::waiting("the workload is given the new version", 0));
        }
        match v.stable_health() {
            Health::Healthy if is_short(v) => Some(Reach::waiting(
                format!("{} of {} pods of the workload itself are ready", own_ready(v), v.size()),
                i64::from(own_ready(v)) + 1,
            )),
            Health::Healthy if v.promoted_hash().is_some() => None,
            Health::Healthy => Some(Reach::waiting("the Deployment controller has not looked at the workload yet", 0)),
            Health::Progressing(why) | Health::Failed(why) => {
                Some(Reach::waiting(format!("the workload itself: {why}"), i64::from(own_ready(v)) + 1))
            }
        }
    }

    /// The workload itself takes the traffic back, then the second Deployment goes.
    fn take_back(&mut self, v: &View<'_>) -> Option<Reach> {
        v.canary?;
        let size = v.size();
        let Some(hash) = v.promoted_hash().map(ToOwned::to_owned) else {
            return Some(Reach::waiting("the workload itself is not ready: the second Deployment stays", 10));
        };
        if v.service_name.is_some() {
            self.pin(v, &hash);
            if self.has_planned() {
                return Some(Reach::waiting("callers inside the cluster go to the workload itself", 11));
            }
            if v.own_endpoints(&hash) < size {
                return Some(Reach::waiting(
                    format!("{} of {size} endpoints of the workload itself are ready", v.own_endpoints(&hash)),
                    12 + i64::from(v.own_endpoints(&hash)),
                ));
            }
            self.restore_route(v);
            if self.has_planned() {
                return Some(Reach::waiting("the route is given its own form", 1_000_000));
            }
            let is_early = mutants::is(Mutant::DeleteBeforeTheRoute);
            if v.route().is_some_and(|route| !live::is_accepted(route)) && !is_early {
                return Some(Reach::waiting("no Gateway has accepted the route yet", 1_000_001));
            }
        }
        self.remove_canary(v)
    }
}

/// Ready pods of the newest version of the workload itself.
fn own_ready(v: &View<'_>) -> u32 {
    live::current(&v.stable_sets).map_or(0, |set| set.ready)
}

/// Its `ReplicaSet` knows of lost pods before its Deployment does. While its controller has not seen its newest generation,
/// which somebody's annotation makes too, nothing is known of that.
fn is_short(v: &View<'_>) -> bool {
    live::current(&v.stable_sets).is_some_and(|set| set.ready < v.size())
}

/// Whether the workload is well and the second Deployment is gone, or going.
fn is_left_alone(v: &View<'_>) -> bool {
    v.canary.is_none_or(live::is_deleting) && v.promoted_hash().is_some() && !is_short(v)
}

/// Whether the second Deployment can carry all the traffic, and the workload itself cannot.
fn is_carried_better(v: &View<'_>) -> bool {
    v.service_name.is_some()
        && v.canary_is_live()
        && !v.canary_is_foreign()
        && v.canary_hash.is_some()
        && v.canary_ready >= v.size()
        && is_short(v)
}

/// So many times the second Deployment relieves the workload; then it carries on, and a person says what is to be done.
const MOST_RELIEFS: u32 = 3;
/// A wait without a deadline.
pub(super) const PATIENT: i64 = i64::MIN;
