//! Steps: what each asks for, and when it is complete.

use interlock_crds::{Form, Hold, HoldReason, OnFailure, Overrun, RolloutPhase, RolloutStep, SignOff, StepGate};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::Value;

use super::{
    ROLLOUT_LABEL,
    decide::AnalysisRun,
    facts::{RolloutVerb, Verdict},
    live,
    pass::{Pass, Reach, Strategy},
    sign_off,
};
use crate::{
    change::decide::bounded,
    mutants::{self, Mutant},
    object::{Health, health},
};

/// How a step stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Done,
    /// It waits for time, people or measurements.
    Waiting(String),
    Failed(String),
    Inconclusive(String),
}

impl Pass<'_> {
    /// Takes steps until one waits. `reach` goes towards what is asked.
    pub fn take_steps(&mut self, strategy: Strategy<'_>, reach: &mut dyn FnMut(&mut Self) -> Reach) {
        let mut steps = strategy.steps();
        if mutants::is(Mutant::LeaveTheLastStepOut) {
            steps = steps.split_last().map_or(steps, |(_, others)| others);
        }
        self.status.steps = steps.len() as u32;
        // Each round completes a step, so that this ends.
        for _ in 0..=steps.len() {
            let Some(step) = steps.get(self.status.current_step as usize) else {
                if self.status.hold.is_none() {
                    self.prove_or_wait(strategy);
                }
                return;
            };
            self.step();
            self.ask(step);
            let waiting = match reach(self) {
                Reach::There => None,
                Reach::Waiting { message, measure } => Some((message, measure)),
            };
            if let Some(hold) = self.status.hold.clone() {
                self.phase(RolloutPhase::Paused);
                self.say(hold.message);
                return;
            }
            // What runs beside the steps is heeded also while a step waits for the cluster, once it has begun.
            let begun = waiting.is_none() || self.facts.analyses.iter().any(|fact| fact.run.starts_with("background-"));
            if let Some((verdict, why)) = begun.then(|| self.background(strategy)).flatten() {
                match verdict {
                    Verdict::Failed => {
                        self.writes.clear();
                        return self.fail(&why);
                    }
                    Verdict::Inconclusive => {
                        self.writes.clear();
                        return self.hold_for_inconclusive(&why);
                    }
                    Verdict::Running | Verdict::Passed => {}
                }
            }
            if let Some((message, measure)) = waiting {
                self.phase(RolloutPhase::Progressing);
                if self.is_late(measure) {
                    let limit = self.facts.spec.plan.progress_deadline;
                    self.fail(&format!("no progress for {limit}: {message}"));
                } else {
                    self.say(message);
                }
                return;
            }
            self.complete();
            match self.outcome(step) {
                Outcome::Done => {}
                Outcome::Waiting(why) => {
                    let paused = step.pause.is_some() || step.sign_off.is_some() || step.gate.is_some();
                    self.phase(if paused { RolloutPhase::Paused } else { RolloutPhase::Progressing });
                    self.say(why);
                    return;
                }
                // To try again asks whoever refused, who has answered.
                Outcome::Failed(why) if step.sign_off.is_some() && self.facts.on_failure() == OnFailure::Pause => {
                    let own = self.facts.name;
                    return self.hold_for_failure(&format!(
                        "{why}, who may sign after all with `interlock rollout sign {own}`: only then does it go on with `interlock rollout retry`; or go back with `abort`"
                    ));
                }
                Outcome::Failed(why) => return self.fail(&why),
                Outcome::Inconclusive(why) => return self.hold_for_inconclusive(&why),
            }
            if self.has_planned() {
                return;
            }
            if self.status.fully && (step.pause.is_some() || step.analysis.is_some() || step.job.is_some()) {
                self.go_to(self.status.current_step + 1);
            } else {
                self.complete_step();
            }
        }
    }

    /// All steps are complete. What was to be measured beside them must have been, at least once.
    fn prove_or_wait(&mut self, strategy: Strategy<'_>) {
        match self.background(strategy) {
            Some((Verdict::Failed, why)) => return self.fail(&why),
            Some((Verdict::Inconclusive, why)) => return self.hold_for_inconclusive(&why),
            Some((Verdict::Running | Verdict::Passed, _)) | None => {}
        }
        let known = |run: &AnalysisRun| self.facts.analyses.iter().find(|fact| fact.run == run.run);
        let waits = |run: &AnalysisRun| {
            let measured = known(run).is_some_and(|fact| fact.measured || fact.verdict == Verdict::Passed);
            let why = known(run).map_or("it is being started", |fact| &fact.message);
            (!measured)
                .then(|| format!("no measurement of analysis {} beside the steps succeeded yet: {why}", run.name))
        };
        let beside = self.analyses.iter().filter(|run| run.run.starts_with("background-"));
        let Some(why) = beside.filter(|run| !self.is_dry(&run.name)).find_map(waits) else {
            return self.begin_promotion();
        };
        self.phase(RolloutPhase::Progressing);
        if self.is_late(0) {
            let limit = self.facts.spec.plan.progress_deadline;
            self.fail(&format!("no progress for {limit}: {why}"));
        } else {
            self.say(why);
        }
    }

    /// Whether an analysis is measured and shown only.
    fn is_dry(&self, name: &str) -> bool {
        self.facts.spec.plan.analyses.iter().any(|analysis| analysis.name == name && analysis.dry_run)
    }

    /// What the step asks for from now on.
    fn ask(&mut self, step: &RolloutStep) {
        let before = self.status.asked.clone().unwrap_or_default();
        let mut asked = before.clone();
        if let Some(weight) = step.set_weight {
            asked.weight = weight;
            asked.replicas = None;
        }
        if let Some(replicas) = step.set_replicas {
            asked.replicas = Some(replicas);
        }
        if let Some(header) = &step.header_match {
            asked.headers.clone_from(&header.headers);
        }
        if let Some(mirror) = step.mirror {
            asked.mirror = (mirror.percent > 0).then_some(mirror);
        }
        if asked != before {
            self.step().before.get_or_insert(before);
        }
        self.status.asked = Some(asked);
    }

    fn outcome(&mut self, step: &RolloutStep) -> Outcome {
        if let Some(rule) = &step.sign_off {
            let subject = sign_off::step_subject(self.status.current_step, self.status.attempt);
            return self.signed(&subject, rule);
        }
        if let Some(gate) = step.gate {
            return self.gate(gate.name);
        }
        if self.status.fully {
            return Outcome::Done;
        }
        if let Some(pause) = &step.pause {
            let Some(duration) = pause.duration else {
                return Outcome::Waiting("paused until somebody promotes it".to_owned());
            };
            let began = self.step().started_at.0;
            let end = began.checked_add(duration.signed()).unwrap_or(Timestamp::MAX);
            if end <= self.now {
                return Outcome::Done;
            }
            self.wake(end);
            return Outcome::Waiting(format!("paused until {end}"));
        }
        if let Some(names) = &step.analysis {
            return match self.run_analyses(&self.status.current_step.to_string(), names) {
                None => Outcome::Done,
                Some((Verdict::Failed, why)) => Outcome::Failed(why),
                Some((Verdict::Inconclusive, why)) => Outcome::Inconclusive(why),
                Some((_, why)) => Outcome::Waiting(why),
            };
        }
        if let Some(job) = &step.job {
            return self.run_job(&job.name, &job.spec);
        }
        Outcome::Done
    }

    /// Name of a run that belongs to this step, attempt and try; of one beside the steps, to this attempt and try.
    fn run_name(&mut self, place: &str, name: &str) -> String {
        let tries = if place == "background" { self.status.retries } else { self.step().tries };
        format!("{place}-{name}-{}-{tries}", self.status.attempt)
    }

    /// Asks for runs of these analyses; none when all have passed, else the worst verdict.
    pub fn run_analyses(&mut self, place: &str, names: &[String]) -> Option<(Verdict, String)> {
        let mut worst: Option<(Verdict, String)> = None;
        for name in names {
            let run = self.run_name(place, name);
            let fact = self.facts.analyses.iter().find(|fact| fact.run == run && fact.name == *name);
            let (verdict, message) = fact.map_or_else(
                || (Verdict::Running, "it is being started".to_owned()),
                |fact| (fact.verdict, fact.message.clone()),
            );
            if let Some(at) = fact.and_then(|fact| fact.wake_at) {
                self.wake(at);
            }
            self.analyses.push(AnalysisRun { name: name.clone(), run });
            let severity = |verdict| match verdict {
                Verdict::Passed => 0,
                Verdict::Running => 1,
                Verdict::Inconclusive => 2,
                Verdict::Failed => 3,
            };
            if verdict != Verdict::Passed && worst.as_ref().is_none_or(|(w, _)| severity(verdict) > severity(*w)) {
                worst = Some((verdict, format!("analysis {name}: {message}")));
            }
        }
        worst
    }

    /// Analyses beside the steps. Their name does not change with the step, so that one run lasts.
    fn background(&mut self, strategy: Strategy<'_>) -> Option<(Verdict, String)> {
        let Strategy::Canary(canary) = strategy else { return None };
        let background = canary.background.as_ref()?;
        if self.status.fully || self.status.current_step < background.starting_step {
            return None;
        }
        self.run_analyses("background", &background.analyses)
    }

    fn run_job(&mut self, name: &str, spec: &Value) -> Outcome {
        let position = self.status.current_step;
        let object = self.job(name, spec);
        let found = crate::object::ObjectId::of(&object).ok().and_then(|id| self.facts.live.get(&id));
        match found {
            None => {
                self.write(Form::StepJob, Some(i64::from(position)), "", None, object);
                Outcome::Waiting(format!("Job {name} is being started"))
            }
            Some(found) if live::label(found, ROLLOUT_LABEL) != self.facts.uid => {
                Outcome::Waiting(format!("Job {} is in the way; delete it", live::text(found, "/metadata/name")))
            }
            Some(found) => match health(found) {
                // Whoever suspends a Job has not run it.
                Health::Healthy if live::is_suspended(found) => {
                    Outcome::Waiting(format!("Job {name} is suspended; it counts when it is resumed and completes"))
                }
                Health::Healthy => Outcome::Done,
                Health::Progressing(why) => Outcome::Waiting(format!("Job {name}: {why}")),
                Health::Failed(why) => Outcome::Failed(format!("Job {name}: {why}")),
            },
        }
    }

    /// The Job of the current step, attempt and try.
    fn job(&mut self, name: &str, spec: &Value) -> Value {
        let position = self.status.current_step;
        let run = self.run_name(&position.to_string(), name);
        super::derive::step_job(self.facts.namespace, self.facts.name, self.facts.uid, &run, spec)
    }

    pub fn signed(&mut self, subject: &str, rule: &SignOff) -> Outcome {
        let Some(facts) = self.facts.sign_offs else {
            return Outcome::Waiting("signatures cannot be counted now".to_owned());
        };
        let digest = sign_off::digest(&self.facts.spec.change_digest, self.facts.uid, subject);
        let count = sign_off::count(&facts, rule, &digest, self.now);
        if count.rejected > 0 {
            return Outcome::Failed(format!("the sign-off was refused by {}", count.rejected_by));
        }
        if count.have >= rule.count || mutants::is(Mutant::SkipTheSignature) {
            return Outcome::Done;
        }
        Outcome::Waiting(format!(
            "waits for {} of {} signatures from {}; sign with `interlock rollout sign {}`",
            rule.count - count.have,
            rule.count,
            rule.groups.join(" or "),
            self.facts.name,
        ))
    }

    pub fn gate(&mut self, name: StepGate) -> Outcome {
        let Some(gate) = self.facts.gates.get(&name) else {
            return Outcome::Waiting(format!("gate {name:?} is closed: this version does not know its state"));
        };
        if gate.open {
            return Outcome::Done;
        }
        if let Some(at) = gate.changes_at {
            self.wake(at);
        }
        Outcome::Waiting(format!("gate {name:?} is closed: {}", gate.message))
    }

    /// A step failed.
    pub fn fail(&mut self, why: &str) {
        let why = &self.refused().map_or_else(|| why.to_owned(), |refused| format!("{why}; {refused}"));
        match self.facts.on_failure() {
            OnFailure::Rollback => {
                self.writes.clear();
                self.turn_back(why);
                self.say(format!("going back: {why}"));
            }
            OnFailure::Pause => self.hold_for_failure(&format!(
                "{why}; it waits for `interlock rollout retry` (try again) or `abort` (go back)"
            )),
        }
    }

    pub fn hold_for_failure(&mut self, message: &str) {
        self.hold(HoldReason::Failure, message);
    }

    pub fn hold_for_inconclusive(&mut self, why: &str) {
        let strategy = Strategy::of(&self.facts.spec.plan);
        // What runs beside the steps may hold one that no promotion ends.
        let stays = strategy.and_then(|strategy| self.cannot_promote(RolloutVerb::Promote, strategy)).is_some();
        let go_on = if stays { "`promote --full` (measure no more)" } else { "`promote`" };
        self.hold(
            HoldReason::Inconclusive,
            &format!(
                "{why}; measure again with `interlock rollout retry`, go on with {go_on}, or go back with `abort`"
            ),
        );
    }

    pub fn hold(&mut self, reason: HoldReason, message: &str) {
        if self.status.hold.as_ref().is_none_or(|hold| hold.reason != reason) {
            self.end_hold();
            self.status.hold = Some(Hold { reason, since: Time(self.now), message: bounded(message, 1024) });
        }
        self.phase(RolloutPhase::Paused);
        self.say(message);
    }

    /// Ends a hold and goes on.
    pub fn release_hold(&mut self) {
        let Some(hold) = self.end_hold() else { return };
        // What could not tell, or failed, is measured anew if it is asked again.
        self.status.retries += u32::from(matches!(hold.reason, HoldReason::Failure | HoldReason::Inconclusive));
        let promoting = self.status.promotion.is_some();
        self.phase(if promoting { RolloutPhase::Promoting } else { RolloutPhase::Progressing });
    }

    /// Tries again what failed or could not tell.
    pub fn try_again(&mut self) {
        self.release_hold();
        if let Some(promotion) = &mut self.status.promotion {
            promotion.reliefs = None;
        }
        let now = Time(self.now);
        let step = self.step();
        step.tries += 1;
        step.progress = 0;
        step.progress_at = now;
    }

    /// What a closed window does to a running release.
    pub fn mind_window(&mut self) {
        let Some(window) = self.facts.window else { return };
        if let Some(at) = window.gate.changes_at {
            self.wake(at);
        }
        let held = self.status.hold.as_ref().map(|hold| hold.reason);
        match (window.gate.open, window.overrun) {
            (true, _) if held == Some(HoldReason::WindowClosed) => self.release_hold(),
            (false, Overrun::Rollback) => {
                self.turn_back(&format!(
                    "its window closed, and the calendar says to go back: {}",
                    window.gate.message
                ));
            }
            (false, Overrun::Pause) if held.is_none() => {
                let message = format!("its window closed, and the calendar says to wait: {}", window.gate.message);
                self.hold(HoldReason::WindowClosed, &message);
            }
            _ => {}
        }
    }
}
