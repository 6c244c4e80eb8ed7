//! What follows from the facts about a release.

use interlock_crds::{
    BlueGreenStrategy, CanaryStrategy, HoldReason, RolloutPhase, RolloutStatus, Split, Supersede, VersionCounts,
    Weights,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::{
    capacity,
    derive::workload,
    facts::RolloutFacts,
    live,
    pass::{Pass, PlannedWrite, Strategy},
    sides::Goal,
    view::View,
};

/// What follows.
#[derive(Clone, Debug, PartialEq)]
pub struct RolloutDecision {
    /// The status as it should be. It is recorded before the first of `writes`; if that fails, none of them is made.
    pub status: RolloutStatus,
    /// Writes that may be made now, in any order.
    pub writes: Vec<PlannedWrite>,
    /// Analysis runs that should exist.
    pub analyses: Vec<AnalysisRun>,
    /// When to look again although nothing happened.
    pub wake_at: Option<Timestamp>,
    /// What happened and what is waited for, for a person.
    pub reasons: Vec<String>,
    /// Positions of the steps that are complete by this decision, in their order; not those that are passed over or left out.
    pub completed: Vec<u32>,
    /// Nothing of the release is left: its finalizer may go.
    pub release: bool,
}

impl RolloutDecision {
    /// Whether the status must be recorded at once. What only tells people how far it got (counts, messages) may be recorded
    /// with a little delay, so that a hundred pods that become ready do not make a hundred writes.
    pub fn must_record(&self, recorded: &RolloutStatus) -> bool {
        let plain = |status: &RolloutStatus| {
            let mut status = status.clone();
            status.message = None;
            status.replicas = None;
            status.next_transition = None;
            if let Some(hashes) = &mut status.hashes {
                // It is found again by its ReplicaSet.
                hashes.canary.clear();
            }
            // Of a route it says what may still be in effect; without one it counts pods.
            let by_pods = status.start.as_ref().is_none_or(|start| start.route_weights.is_empty());
            if let Some(weights) = status.weights.as_mut().filter(|_| by_pods) {
                weights.observed = Split::default();
            }
            for wave in &mut status.waves {
                wave.message.clear();
            }
            for condition in &mut status.conditions {
                condition.message.clear();
            }
            if let Some(step) = &mut status.step {
                step.progress = 0;
                step.progress_at = step.started_at.clone();
            }
            status
        };
        !self.writes.is_empty() && self.status != *recorded || plain(&self.status) != plain(recorded)
    }

    /// Whether the status differs in more than what is found again at any time, so that it is never worth a write of its own.
    pub fn is_news(&self, recorded: &RolloutStatus) -> bool {
        let mut known = recorded.clone();
        if let (Some(known), Some(found)) = (&mut known.hashes, &self.status.hashes) {
            known.canary.clone_from(&found.canary);
        }
        known.next_transition.clone_from(&self.status.next_transition);
        self.status != known
    }
}

/// A run of an analysis.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AnalysisRun {
    /// Name of the analysis in the plan.
    pub name: String,
    /// Name of the run: the same one at each decision, another one when it is measured anew.
    pub run: String,
}

/// Most transitions in one decision; more follow in the next one.
const ROUNDS: usize = 8;

/// Decides. Total and deterministic; deciding again on the recorded result plans the same writes and records nothing new.
pub fn decide(facts: &RolloutFacts<'_>, now: Timestamp) -> RolloutDecision {
    let mut decision = once(facts, now);
    // Nothing new, as in most passes: to decide again on the same facts is to decide the same.
    if decision.status == *facts.status {
        return decision;
    }
    // Transitions that follow from one another are recorded together: that saves writes of the status.
    for _ in 0..ROUNDS {
        let next = once(&RolloutFacts { status: &decision.status, ..facts.clone() }, now);
        let settled = next.status == decision.status;
        let earlier = std::mem::replace(&mut decision, next);
        let mut reasons = earlier.reasons;
        reasons.retain(|reason| !decision.reasons.contains(reason));
        decision.reasons.splice(0..0, reasons);
        decision.completed.splice(0..0, earlier.completed);
        if settled {
            break;
        }
    }
    decision
}

fn once(facts: &RolloutFacts<'_>, now: Timestamp) -> RolloutDecision {
    let mut pass = Pass::new(facts, now);
    match Strategy::of(&facts.spec.plan) {
        None => pass.say("the plan states no strategy"),
        Some(strategy @ Strategy::Waves(waves)) => {
            pass.direct(strategy);
            pass.waves(waves);
        }
        Some(strategy) => {
            pass.direct(strategy);
            match strategy {
                Strategy::Canary(canary) => pass.sides(strategy, Some(canary), None),
                Strategy::BlueGreen(blue_green) => pass.sides(strategy, None, Some(blue_green)),
                Strategy::Batches(batches) => pass.batches(strategy, batches),
                Strategy::Waves(_) => {}
            }
        }
    }
    pass.conclude()
}

impl Pass<'_> {
    /// What people, the calendar and other changes say about the direction.
    fn direct(&mut self, strategy: Strategy<'_>) {
        let at_rest = self.status.phase.is_at_rest();
        if at_rest && !self.facts.change_active && !(self.facts.deleting && self.status.phase == RolloutPhase::Failed) {
            return;
        }
        self.obey(strategy);
        if self.status.phase == RolloutPhase::Aborting {
            return;
        }
        if let Some(why) = self.facts.return_asked.filter(|_| self.status.phase != RolloutPhase::RolledBack) {
            self.leave_rest();
            return self.turn_back(why);
        }
        if self.status.phase == RolloutPhase::Failed && self.facts.spec.part_of.is_some() {
            self.leave_rest();
            return self.turn_back("its promotion failed, and what fails of a wave goes back");
        }
        if self.status.phase == RolloutPhase::Failed && self.facts.deleting {
            self.leave_rest();
            return self.turn_back("the Rollout is being deleted");
        }
        if self.status.phase.is_at_rest() {
            return;
        }
        if self.facts.deleting {
            return self.turn_back("the Rollout is being deleted");
        }
        let written = self.status.promotion.as_ref().is_some_and(|promotion| promotion.written);
        if let Some(newer) = self.facts.superseded_by.filter(|_| self.facts.spec.plan.supersede == Supersede::Restart) {
            if !written {
                return self.turn_back(&format!("superseded by {newer}"));
            }
            self.say(format!("{newer} follows when this promotion is complete"));
        }
        // Of waves the window only says when their workloads may begin; each of these minds its own.
        if !self.facts.is_pending() && !written && !matches!(strategy, Strategy::Waves(_)) {
            self.mind_window();
        }
    }

    fn sides(
        &mut self,
        strategy: Strategy<'_>,
        canary: Option<&CanaryStrategy>,
        blue_green: Option<&BlueGreenStrategy>,
    ) {
        let facts = self.facts;
        let Some(view) = View::of(facts, canary, blue_green) else {
            return self.without_workload();
        };
        let v = &view;
        if v.stable.is_null() {
            return match self.status.phase {
                RolloutPhase::Aborting if self.status.start.is_some() => self.back_sides(v),
                _ => self.without_workload(),
            };
        }
        if self.status.phase.is_at_rest() {
            return;
        }
        if self.follow_restart(v) {
            // The hashes that were just recorded are what the view reads next time.
            return;
        }
        self.observe(v);
        if self.status.phase == RolloutPhase::Pending {
            self.status.steps = strategy.steps().len() as u32;
            self.begin_sides(v);
            // The hashes that were just recorded are what the view reads next time.
            return;
        }
        if self.status.phase == RolloutPhase::Aborting {
            return if self.status.start.is_none() { self.never_begun() } else { self.back_sides(v) };
        }
        if self.status.promotion.is_none() {
            self.take_steps(strategy, &mut |pass| {
                let goal = pass.goal(v);
                pass.forward(v, &goal)
            });
        }
        if self.status.promotion.is_some() && self.status.phase != RolloutPhase::Aborting {
            self.status.current_step = self.status.steps;
            let held = self.status.hold.as_ref().map(|hold| (hold.reason, hold.message.clone()));
            self.phase(if held.is_some() { RolloutPhase::Paused } else { RolloutPhase::Promoting });
            match held {
                Some((_, message)) => {
                    self.say(message);
                    self.keep_serving(v);
                }
                None => self.promote_sides(v),
            }
        }
    }

    /// Somebody restarted the workload, or changed of its pods what is not the release's: the old version is the one with the
    /// new hash as soon as most of its pods have it. Whether that was so.
    fn follow_restart(&mut self, v: &View<'_>) -> bool {
        let Some(hashes) = self.status.hashes.as_mut().filter(|_| v.version == workload::Version::Old) else {
            return false;
        };
        let Some(current) = live::current(&v.stable_sets).filter(|set| set.hash != hashes.stable) else { return false };
        if current.ready == 0 || current.ready < v.old_ready() {
            return false;
        }
        hashes.stable.clone_from(&current.hash);
        self.say("the pods of the old version were replaced by others of the same version; these count from now on");
        true
    }

    /// While a promotion is held nothing moves, but what serves has its pods, also when the workload is scaled.
    fn keep_serving(&mut self, v: &View<'_>) {
        if self.status.promotion.as_ref().is_some_and(|promotion| promotion.written) || v.canary.is_none() {
            return;
        }
        let weight = v.split().map_or(0, |(_, most)| most.canary);
        let by_weight = if v.blue_green.is_some() { v.size() } else { capacity::pods_for(v.size(), weight, None) };
        let replicas = by_weight.max(v.canary_replicas());
        let _ = self.forward(v, &Goal { weight, replicas, headers: Vec::new(), mirror: 0 });
    }

    /// Without the workload there is nothing that could be given or taken.
    pub fn without_workload(&mut self) {
        let name = self.facts.spec.targets.first().map(|target| target.name.clone()).unwrap_or_default();
        match self.status.phase {
            RolloutPhase::Aborting => self.never_begun(),
            RolloutPhase::Succeeded | RolloutPhase::RolledBack | RolloutPhase::Failed => {}
            _ => {
                let missing = format!("workload {name} does not exist; create it again or delete the Rollout");
                let missing = self.lacks(missing);
                self.say(missing);
            }
        }
    }

    /// It goes back before it wrote anything.
    pub fn never_begun(&mut self) {
        if self.settle() {
            return;
        }
        let cause = self.status.cause.clone().unwrap_or_default();
        self.finish(RolloutPhase::RolledBack);
        self.say(format!("nothing was changed: {cause}"));
    }

    /// What the steps so far ask for, as numbers of pods and percent.
    fn goal(&self, v: &View<'_>) -> Goal {
        let asked = self.status.asked.clone().unwrap_or_default();
        let most = v.canary_spec.and_then(|canary| canary.max_canary_replicas);
        let size = v.size();
        let sends = !asked.headers.is_empty() || asked.mirror.is_some();
        let by_weight = match (v.blue_green, &v.route_name) {
            (Some(_), _) => size.max(1),
            (None, Some(_)) if v.was_broken() && asked.weight > 0 => size.max(1),
            (None, Some(_)) => capacity::pods_for(size, asked.weight, most).max(u32::from(sends)),
            // 100 promotes: until then as many as one half has.
            (None, None) => capacity::added_pods(size, asked.weight.min(50), most),
        };
        // What failed moves nothing more until a person has decided.
        let failed = self.status.hold.as_ref().is_some_and(|hold| hold.reason == HoldReason::Failure);
        let present = v.split().map_or(0, |(_, most)| most.canary);
        Goal {
            weight: if failed && v.route_name.is_some() { asked.weight.min(present) } else { asked.weight },
            replicas: asked.replicas.unwrap_or(by_weight),
            headers: asked.headers,
            mirror: asked.mirror.map_or(0, |mirror| mirror.percent),
        }
    }

    fn observe(&mut self, v: &View<'_>) {
        if let (Some(hashes), Some(hash)) = (&mut self.status.hashes, &v.canary_hash) {
            hashes.canary.clone_from(hash);
        }
        let goal = self.goal(v);
        let desired = match self.status.phase {
            RolloutPhase::Promoting | RolloutPhase::Succeeded | RolloutPhase::Failed => 100,
            RolloutPhase::Aborting | RolloutPhase::RolledBack => 0,
            _ if self.status.promotion.is_some() => 100,
            _ => goal.weight,
        };
        let before = self.status.weights.map_or(Split::default(), |weights| weights.observed);
        let observed = v.observed().map_or(before, Split::of);
        self.status.weights = Some(Weights { desired: Split::of(desired), observed });
        if self.status.hashes.is_some() {
            self.status.replicas = Some(VersionCounts {
                old: v.old_ready(),
                new: v.canary_ready + v.own_new_ready(),
                new_desired: v.canary_replicas(),
            });
        }
    }

    fn conclude(mut self) -> RolloutDecision {
        if let Some(refused) = self.refused() {
            self.say(format!("{refused}; it is tried again until it passes"));
        }
        self.journal();
        self.status.observed_generation = Some(self.facts.generation);
        let wake_at = self.wakes.iter().min().copied();
        self.status.next_transition = wake_at.map(Time);
        if let Some(message) = self.message() {
            self.status.message = Some(message);
        }
        let conditions = self.conditions();
        self.status.conditions = conditions;
        let ended = matches!(self.status.phase, RolloutPhase::Succeeded | RolloutPhase::RolledBack);
        RolloutDecision {
            release: self.facts.deleting && ended && self.writes.is_empty(),
            status: self.status,
            writes: self.writes,
            analyses: self.analyses,
            wake_at,
            reasons: self.reasons,
            completed: self.completed,
        }
    }

    fn conditions(&self) -> Vec<Condition> {
        let phase = self.status.phase;
        let reason = format!("{phase:?}");
        let is = |yes: bool| if yes { "True" } else { "False" };
        let moving = matches!(phase, RolloutPhase::Progressing | RolloutPhase::Promoting | RolloutPhase::Aborting);
        let all = [
            ("Progressing", is(moving || phase == RolloutPhase::Paused)),
            ("Paused", is(phase == RolloutPhase::Paused)),
            (
                "Healthy",
                match phase {
                    RolloutPhase::Failed | RolloutPhase::Aborting | RolloutPhase::RolledBack => "False",
                    RolloutPhase::Pending => "Unknown",
                    _ if self.status.hold.as_ref().is_some_and(|hold| hold.reason == HoldReason::Failure) => "False",
                    _ => "True",
                },
            ),
        ];
        let message = self.status.message.clone().unwrap_or_default();
        let mut conditions: Vec<_> =
            all.into_iter().map(|(type_, status)| self.condition(type_, status, &reason, &message)).collect();
        conditions.extend(self.ready());
        conditions.extend(self.measured());
        conditions
    }

    /// Whether everything is there that it needs to go forward; none when it does not.
    fn ready(&self) -> Option<Condition> {
        use RolloutPhase::{Paused, Pending, Progressing, Promoting};
        matches!(self.status.phase, Pending | Progressing | Paused | Promoting).then(|| match &self.lacking {
            Some(what) => self.condition("Ready", "False", "Missing", what),
            None if let Some(refused) = self.refused() => {
                self.condition("Ready", "False", "Refused", &refused.to_string())
            }
            None => self.condition("Ready", "True", "Complete", "everything that the release needs is there"),
        })
    }

    /// Whether what is to be measured can be; none while nothing is.
    fn measured(&self) -> Option<Condition> {
        let running: Vec<_> = self
            .status
            .analyses
            .iter()
            .map(|record| &record.state)
            .filter(|state| state.finished_at.is_none())
            .collect();
        let hindered = running.iter().find(|state| state.blocked || state.counts.consecutive_errors > 0);
        match hindered {
            Some(state) if state.blocked => Some(self.condition("Measured", "False", "Missing", &state.message)),
            Some(state) => Some(self.condition("Measured", "False", "NoAnswer", &state.message)),
            None if running.is_empty() => None,
            None => Some(self.condition("Measured", "True", "Measuring", "every source of the analyses answers")),
        }
    }

    fn condition(&self, type_: &str, status: &str, reason: &str, message: &str) -> Condition {
        let known = self.facts.status.conditions.iter().find(|c| c.type_ == type_ && c.status == status);
        Condition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: message.to_owned(),
            last_transition_time: known.map_or_else(|| Time(self.now), |c| c.last_transition_time.clone()),
            observed_generation: Some(self.facts.generation),
        }
    }
}
