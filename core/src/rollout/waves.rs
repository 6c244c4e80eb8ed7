//! Waves: releases of several workloads, one group after another.
//!
//! Each workload gets a Rollout of its own, on which everything else of this module works. A Rollout with waves only says
//! which of them may begin, and asks them to return.

use interlock_crds::{
    API_VERSION, EarlierWaves, Form, HoldReason, OnFailure, Rollout, RolloutPhase, RolloutPlanSpec, RolloutStatus,
    RolloutTarget, Wave, WavePhase, WaveRecord,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::{FINALIZER, ROLLOUT_LABEL, facts::RolloutFacts, live, pass::Pass, sign_off, steps::Outcome};
use crate::{
    mutants::{self, Mutant},
    object::{Health, health},
    say::first_of,
};

/// Why the Rollouts of this wave are to return, if they are: the fact `return_asked` of each.
pub fn return_asked(parent: &RolloutStatus, wave: &str) -> Option<String> {
    let record = parent.waves.iter().find(|record| record.name == wave)?;
    let why = || parent.cause.clone().unwrap_or_else(|| "its wave returns".to_owned());
    matches!(record.phase, WavePhase::Returning | WavePhase::Returned).then(why)
}

/// Workloads of a wave in the namespaces that they mean.
pub fn workloads<'w>(wave: &'w Wave, namespace: &'w str) -> impl Iterator<Item = RolloutTarget> + 'w {
    wave.targets.iter().map(move |target| RolloutTarget {
        kind: target.kind,
        namespace: target.namespace.clone().unwrap_or_else(|| namespace.to_owned()),
        name: target.name.clone(),
    })
}

/// Those to which the change gives something new, with their positions.
fn targets<'w>(facts: &'w RolloutFacts<'_>, wave: &'w Wave) -> impl Iterator<Item = (usize, RolloutTarget)> + 'w {
    workloads(wave, facts.namespace).enumerate().filter(|(_, target)| facts.spec.targets.contains(target))
}

/// The plan of the Rollouts of a wave.
pub fn plan_of(plan: &RolloutPlanSpec, wave: &Wave) -> RolloutPlanSpec {
    RolloutPlanSpec {
        canary: wave.canary.clone(),
        blue_green: wave.blue_green.clone(),
        batches: wave.batches.clone(),
        waves: None,
        ..plan.clone()
    }
}

/// The workloads that a Rollout with waves looks at before it begins the next wave.
pub fn reads(facts: &RolloutFacts<'_>) -> Vec<crate::object::ObjectId> {
    let waves = facts.spec.plan.waves.iter().flatten();
    waves.flat_map(|wave| targets(facts, wave)).map(|(_, target)| live::workload_id(&target)).collect()
}

/// Name of the Rollout of one workload.
fn name(facts: &RolloutFacts<'_>, status: &RolloutStatus, wave: &Wave, position: usize) -> String {
    let base: String = facts.name.chars().take(190).collect();
    let record = status.waves.iter().find(|record| record.name == wave.name);
    let attempt = record.map_or(status.attempt, |record| record.attempt);
    format!("{base}-{attempt}-{}-{position}", wave.name)
}

/// The Rollout of one workload of a wave.
fn rollout(facts: &RolloutFacts<'_>, name: &str, wave: &Wave, target: &RolloutTarget) -> Value {
    let plan = plan_of(&facts.spec.plan, wave);
    let change = &facts.spec.change_request;
    json!({
        "apiVersion": API_VERSION,
        "kind": "Rollout",
        "metadata": {
            "name": name,
            "namespace": facts.namespace,
            "labels": { ROLLOUT_LABEL: facts.uid },
            "finalizers": [FINALIZER],
            "ownerReferences": [{
                "apiVersion": API_VERSION, "kind": "ChangeRequest", "name": change.name, "uid": change.uid,
                "controller": true, "blockOwnerDeletion": false,
            }],
        },
        "spec": {
            "changeRequest": change,
            "changeDigest": facts.spec.change_digest,
            "plan": plan,
            "targets": [target],
            "partOf": {"name": facts.name, "uid": facts.uid, "wave": wave.name},
        },
    })
}

/// The Rollout of this name that a wave makes.
pub fn rollout_named(facts: &RolloutFacts<'_>, wanted: &str) -> Option<Value> {
    let waves = facts.spec.plan.waves.iter().flatten();
    waves
        .flat_map(|wave| targets(facts, wave).map(move |(position, target)| (wave, position, target)))
        .find(|(wave, position, _)| name(facts, facts.status, wave, *position) == wanted)
        .map(|(wave, _, target)| rollout(facts, wanted, wave, &target))
}

/// A workload of a wave and where its Rollout stands; none if it was not made.
struct Member<'a> {
    position: usize,
    target: RolloutTarget,
    rollout: Option<&'a Value>,
    phase: Option<RolloutPhase>,
}

impl Member<'_> {
    /// Whether more than one version of it may be there. One that failed has yet to go back.
    fn is_running(&self) -> bool {
        self.rollout.is_some() && !matches!(self.phase, Some(RolloutPhase::Succeeded | RolloutPhase::RolledBack))
    }

    fn has_failed(&self) -> bool {
        matches!(self.phase, Some(RolloutPhase::RolledBack | RolloutPhase::Failed))
            // Going back is a failure already: the wave need not wait for its end.
            || self.phase == Some(RolloutPhase::Aborting)
    }
}

impl<'a> Pass<'a> {
    fn members(&self, wave: &Wave) -> Vec<Member<'a>> {
        let facts = self.facts;
        targets(facts, wave)
            .map(|(position, target)| {
                let id = live::id(
                    "interlock.dev",
                    "v1alpha1",
                    "Rollout",
                    facts.namespace,
                    &name(facts, &self.status, wave, position),
                );
                let rollout = facts.live.get(&id).filter(|found| live::label(found, ROLLOUT_LABEL) == facts.uid);
                let read = rollout.map(|found| serde_json::from_value::<Rollout>(found.clone()));
                // A Rollout that cannot be read counts as one that runs.
                let phase = read
                    .map(|read| read.ok().and_then(|read| read.status).map(|status| status.phase).unwrap_or_default());
                Member { position, target, rollout, phase }
            })
            .collect()
    }

    /// One pass of a release in waves.
    pub(super) fn waves(&mut self, waves: &[Wave]) {
        self.status.steps = waves.len() as u32;
        if self.status.phase == RolloutPhase::Pending {
            self.started();
        }
        if self.status.phase == RolloutPhase::Promoting {
            self.phase(RolloutPhase::Progressing);
        }
        for (position, wave) in waves.iter().enumerate() {
            if self.status.waves.len() <= position {
                let attempt = self.status.attempt;
                self.status.waves.push(WaveRecord { name: wave.name.clone(), attempt, ..WaveRecord::default() });
            }
            let members = self.members(wave);
            if let Some(record) = self.status.waves.get_mut(position) {
                let count =
                    |by: &dyn Fn(&Member<'_>) -> bool| members.iter().filter(|member| by(member)).count() as u32;
                record.succeeded = count(&|member| member.phase == Some(RolloutPhase::Succeeded));
                record.running = count(&|member| member.is_running());
                // What a wave went on without stays known when somebody deletes its Rollout.
                let over = matches!(record.phase, WavePhase::Soaking | WavePhase::Complete);
                let known = std::mem::take(&mut record.missed);
                let missed = members.iter().filter(|member| {
                    member.has_failed() || (over && member.rollout.is_none() && known.contains(&member.target))
                });
                record.missed = missed.map(|member| member.target.clone()).collect();
                record.failed = record.missed.len() as u32;
                record.message.clear();
            }
        }
        match self.status.phase {
            RolloutPhase::Aborting => self.return_waves(waves),
            phase if phase.is_at_rest() => {}
            _ => self.forward_waves(waves),
        }
    }

    fn forward_waves(&mut self, waves: &[Wave]) {
        self.phase(RolloutPhase::Progressing);
        for (position, wave) in waves.iter().enumerate() {
            self.status.current_step = position as u32;
            if !self.wave_is_complete(position, wave, waves.get(..position).unwrap_or_default()) {
                return;
            }
        }
        self.status.current_step = self.status.steps;
        self.finish(RolloutPhase::Succeeded);
        let missed = self.status.waves.iter().filter(|record| !record.missed.is_empty());
        let missed: Vec<_> =
            missed.map(|record| format!("{} (wave {})", first_of(&record.missed), record.name)).collect();
        if missed.is_empty() {
            self.say("every wave has the new version");
        } else {
            let missed = missed.join(", ");
            self.say(format!(
                "every wave has the new version, but for {missed}, which went back: the plan tolerates it"
            ));
        }
    }

    fn set_wave(&mut self, position: usize, phase: WavePhase) {
        if let Some(record) = self.status.waves.get_mut(position) {
            record.phase = phase;
        }
    }

    fn wave_says(&mut self, position: usize, why: &str) {
        let name = self.status.waves.get(position).map(|record| record.name.clone()).unwrap_or_default();
        if let Some(record) = self.status.waves.get_mut(position) {
            record.message = crate::change::decide::bounded(why, 1024);
        }
        self.say(format!("wave {name}: {why}"));
    }

    /// Goes on with one wave; true when the next may be looked at.
    fn wave_is_complete(&mut self, position: usize, wave: &Wave, earlier: &[Wave]) -> bool {
        let Some(record) = self.status.waves.get(position).cloned() else { return false };
        let count = targets(self.facts, wave).count();
        if count == 0 {
            self.set_wave(position, WavePhase::Complete);
            return true;
        }
        if matches!(record.phase, WavePhase::Soaking | WavePhase::Complete) && record.running > 0 {
            // Somebody tries again what went back: the release is not over while two versions of a workload are there.
            self.wave_says(position, "a workload is being changed again; it goes on when that has ended");
            return false;
        }
        match record.phase {
            WavePhase::Complete => return true,
            WavePhase::Waiting => {
                if let Some(why) = self.keeps_from_beginning(wave, earlier) {
                    self.phase(RolloutPhase::Paused);
                    self.wave_says(position, &why);
                    return false;
                }
                self.set_wave(position, WavePhase::Running);
            }
            _ => {}
        }
        if record.failed > wave.failure_threshold {
            let why = format!(
                "{} of {count} workloads went back or failed ({}), and {} may",
                record.failed,
                first_of(&record.missed),
                wave.failure_threshold
            );
            self.wave_failed(position, wave, &why);
            return false;
        }
        if let Some(hold) = self.status.hold.clone() {
            // What runs goes on; nothing more begins.
            self.phase(RolloutPhase::Paused);
            self.say(hold.message);
            return false;
        }
        if record.phase == WavePhase::Soaking {
            return self.soaks(position, wave, &record);
        }
        self.begin_members(position, wave, &record)
    }

    /// Why a wave may not begin yet.
    fn keeps_from_beginning(&mut self, wave: &Wave, earlier: &[Wave]) -> Option<String> {
        if let Some(hold) = &self.status.hold {
            return Some(hold.message.clone());
        }
        for before in earlier {
            for member in self.members(before).iter().filter(|member| member.phase == Some(RolloutPhase::Succeeded)) {
                let found = self.facts.live.get(&live::workload_id(&member.target));
                let why = match found.map(health) {
                    Some(Health::Healthy) => continue,
                    Some(Health::Progressing(why) | Health::Failed(why)) => why,
                    None => "it does not exist".to_owned(),
                };
                return Some(format!("waits until {} of wave {} is healthy: {why}", member.target.name, before.name));
            }
        }
        if let Some(rule) = &wave.sign_off {
            let subject = sign_off::wave_subject(&wave.name, self.status.attempt);
            match self.signed(&subject, rule) {
                Outcome::Done => {}
                Outcome::Failed(why) => {
                    let own = self.facts.name;
                    return Some(format!(
                        "{why}, who may sign after all with `interlock rollout sign {own}`; or go back with `interlock rollout abort {own}`"
                    ));
                }
                Outcome::Waiting(why) | Outcome::Inconclusive(why) => return Some(why),
            }
        }
        self.wave_window(wave)
    }

    /// Why no workload of the wave may begin now, if its window is closed.
    fn wave_window(&mut self, wave: &Wave) -> Option<String> {
        let facts = self.facts;
        let gate = match &wave.calendar_ref {
            Some(calendar) => match facts.wave_windows.get(&calendar.name) {
                Some(gate) => gate,
                None => return Some(format!("the state of calendar {} is not known", calendar.name)),
            },
            None => &facts.window?.gate,
        };
        if let Some(at) = gate.changes_at {
            self.wake(at);
        }
        (!gate.open).then(|| gate.message.clone())
    }

    fn begin_members(&mut self, position: usize, wave: &Wave, record: &WaveRecord) -> bool {
        let members = self.members(wave);
        let waiting: Vec<_> = members.iter().filter(|member| member.rollout.is_none()).collect();
        // One that goes back is counted as failed, and still keeps its place until it is at rest.
        let free = wave.max_parallel.saturating_sub(record.running) as usize;
        if !waiting.is_empty() && free > 0 {
            if let Some(why) = self.wave_window(wave) {
                self.wave_says(position, &why);
                return false;
            }
            for member in waiting.iter().take(free) {
                let name = name(self.facts, &self.status, wave, member.position);
                let object = rollout(self.facts, &name, wave, &member.target);
                self.write(Form::WaveRollout, None, "", None, object);
            }
            self.wave_says(position, &format!("{} of {} workloads begin", waiting.len().min(free), members.len()));
            return false;
        }
        if !waiting.is_empty() || record.running > 0 {
            let done = record.succeeded;
            let missed = match record.missed.as_slice() {
                [] => String::new(),
                missed => {
                    format!("; {} went back or failed, and it goes on when they have gone back", first_of(missed))
                }
            };
            self.wave_says(
                position,
                &format!(
                    "{done} of {} workloads have the new version, {} are being changed{missed}",
                    members.len(),
                    record.running
                ),
            );
            return false;
        }
        let now = Time(self.now);
        if let Some(record) = self.status.waves.get_mut(position) {
            record.completed_at = Some(now);
            record.phase = WavePhase::Soaking;
        }
        let record = self.status.waves.get(position).cloned().unwrap_or_default();
        self.soaks(position, wave, &record)
    }

    fn soaks(&mut self, position: usize, wave: &Wave, record: &WaveRecord) -> bool {
        let end = wave
            .soak
            .filter(|_| !self.status.fully && !mutants::is(Mutant::SkipTheSoak))
            .zip(record.completed_at.as_ref())
            .map(|(soak, since)| since.0.checked_add(soak.signed()).unwrap_or(Timestamp::MAX));
        if let Some(end) = end.filter(|end| *end > self.now) {
            self.wake(end);
            self.phase(RolloutPhase::Paused);
            let but = match record.missed.as_slice() {
                [] => String::new(),
                missed => format!(" but {}, which went back,", first_of(missed)),
            };
            self.wave_says(position, &format!("all workloads{but} have the new version; it is observed until {end}"));
            return false;
        }
        self.set_wave(position, WavePhase::Complete);
        true
    }

    fn wave_failed(&mut self, position: usize, wave: &Wave, why: &str) {
        let message = format!("wave {}: {why}", wave.name);
        if self.facts.on_failure() == OnFailure::Pause {
            let own = self.facts.name;
            return self.hold(
                HoldReason::Failure,
                &format!(
                    "{message}; try these again first, each with `interlock rollout retry NAME`, then go on with `interlock rollout retry {own}`; or go back with `interlock rollout abort {own}`"
                ),
            );
        }
        self.turn_back(&message);
        if self.facts.spec.plan.earlier_waves == EarlierWaves::Stay {
            let earlier = self.status.waves.iter_mut().take(position);
            earlier.for_each(|record| record.phase = WavePhase::Complete);
        }
    }

    fn return_waves(&mut self, waves: &[Wave]) {
        if self.settle() {
            return;
        }
        let mut open = Vec::new();
        for (position, wave) in waves.iter().enumerate() {
            if self.status.waves.get(position).is_none_or(|record| record.phase != WavePhase::Returning) {
                continue;
            }
            let left = self
                .members(wave)
                .iter()
                .filter(|m| m.rollout.is_some() && m.phase != Some(RolloutPhase::RolledBack))
                .count();
            if left == 0 {
                self.set_wave(position, WavePhase::Returned);
            } else {
                open.push(format!("{left} workloads of wave {}", wave.name));
            }
        }
        let cause = self.status.cause.clone().unwrap_or_default();
        if !open.is_empty() {
            return self.say(format!("going back ({cause}): {} return to the old version", open.join(", ")));
        }
        if self.awaits_creation() {
            return self.say("a creation that was under way could still arrive; it is waited out");
        }
        let kept: Vec<_> =
            self.status.waves.iter().filter(|r| r.phase == WavePhase::Complete).map(|r| r.name.clone()).collect();
        if kept.is_empty() {
            self.finish(RolloutPhase::RolledBack);
            self.say(format!("everything is as before: {cause}"));
        } else {
            self.finish(RolloutPhase::Failed);
            self.say(format!(
                "{cause}; {} keep the new version, as the plan says (earlierWaves: Stay)",
                kept.join(", ")
            ));
        }
    }
}
