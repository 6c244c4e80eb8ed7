//! A wave begins when those before it are complete and have been observed, and whoever must sign it has signed.

use interlock_core::rollout::{sign_off, waves};
use interlock_crds::{GROUP, Rollout, RolloutPhase, RolloutTarget, Wave};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::{parsed, signed, text};
use crate::{
    cluster::Audit,
    invariants::{Watchdog, starts},
    port::CONTROLLER,
    world::World,
};

/// So far off may a controller reckon the server's time.
const OFF: SignedDuration = SignedDuration::from_secs(2);

/// No Rollout of a wave is made before its wave may begin.
pub(in crate::invariants) fn waves_begin_in_turn(
    dog: &mut Watchdog,
    world: &World,
    audit: &Audit,
) -> Result<(), String> {
    let is_new = audit.user == CONTROLLER && audit.id.kind == "Rollout" && audit.old.is_none();
    let Some(child) = audit.new.as_deref().filter(|_| is_new) else { return Ok(()) };
    let of = text(child, "/spec/partOf/uid");
    let all: Vec<Rollout> = world.objects(GROUP, "Rollout").iter().filter_map(parsed).collect();
    let Some(parent) = all.iter().find(|one| one.metadata.uid.as_deref() == Some(of)) else { return Ok(()) };
    let plan = parent.spec.plan.waves.as_deref().unwrap_or_default();
    let Some(position) = plan.iter().position(|wave| wave.name == text(child, "/spec/partOf/wave")) else {
        return Err(format!("{} is of no wave of its plan", audit.id));
    };
    let (before, Some(wave)) = (&plan[..position], plan.get(position)) else { return Ok(()) };
    let begins = Begins { world, parent, all: &all, at: audit.at };
    before.iter().try_for_each(|earlier| begins.after(earlier))?;
    begins.outside_a_freeze(wave)?;
    // Who signed may take that back once it has begun.
    if begins.members(wave).count() > 1 { Ok(()) } else { begins.signed(dog, wave) }
}

/// A wave of a Rollout that begins now.
struct Begins<'a> {
    world: &'a World,
    parent: &'a Rollout,
    all: &'a [Rollout],
    at: Timestamp,
}

impl<'a> Begins<'a> {
    /// The Rollouts that a wave has made, of all attempts.
    fn members(&self, wave: &'a Wave) -> impl Iterator<Item = &'a Rollout> {
        let (all, uid) = (self.all, self.parent.metadata.uid.as_deref());
        all.iter().filter(move |one| {
            one.spec.part_of.as_ref().is_some_and(|of| Some(of.uid.as_str()) == uid && of.wave == wave.name)
        })
    }

    /// An earlier wave has given its workloads the new version, but for those that it may lose, and was observed long enough.
    fn after(&self, earlier: &'a Wave) -> Result<(), String> {
        let namespace = self.parent.metadata.namespace.as_deref().unwrap_or_default();
        let targets: Vec<_> =
            waves::workloads(earlier, namespace).filter(|target| self.parent.spec.targets.contains(target)).collect();
        let ended = |target: &RolloutTarget| {
            let mut phases = self.members(earlier).filter(|one| one.spec.targets.contains(target)).filter_map(phase);
            phases.any(RolloutPhase::is_at_rest)
        };
        if let Some(open) = targets.iter().find(|target| !ended(target)) {
            return Err(format!("a wave begins while {} of wave {} is being released", open.name, earlier.name));
        }
        let succeeded = |target: &&RolloutTarget| {
            let mut members = self.members(earlier).filter(|one| one.spec.targets.contains(target));
            members.any(|one| phase(one) == Some(RolloutPhase::Succeeded))
        };
        let lost = targets.iter().filter(|target| !succeeded(target)).count();
        if lost > earlier.failure_threshold as usize {
            return Err(format!("a wave begins after {lost} workloads of wave {} went back", earlier.name));
        }
        let Some(soak) = earlier.soak.filter(|_| !self.is_hurried()) else { return Ok(()) };
        let finished = |one: &Rollout| one.status.as_ref()?.finished_at.as_ref().map(|at| at.0);
        let last = self.members(earlier).filter_map(finished).max();
        let status = self.parent.status.as_ref();
        let record = status.and_then(|status| status.waves.iter().find(|record| record.name == earlier.name));
        let noted = record.and_then(|record| record.completed_at.as_ref()).map(|at| at.0);
        let Some(since) = [last, noted].into_iter().flatten().min() else { return Ok(()) };
        let end = since.checked_add(soak.signed()).unwrap_or(Timestamp::MAX);
        let early = |at: Timestamp| at.checked_add(OFF).unwrap_or(at) < end;
        if early(self.at) && self.world.before_it_was_set().is_none_or(early) {
            return Err(format!("a wave begins at {}, and wave {} is observed until {end}", self.at, earlier.name));
        }
        Ok(())
    }

    /// Whether somebody ended the observation by a command, or the version needs none.
    fn is_hurried(&self) -> bool {
        let uid = self.parent.metadata.uid.as_deref().unwrap_or_default();
        let hurries = |action: &Value| {
            text(action, "/spec/target/uid") == uid && ["Promote", "PromoteFully"].contains(&text(action, "/spec/verb"))
        };
        self.parent.status.as_ref().is_some_and(|status| status.fully)
            || self.world.objects(GROUP, "Action").iter().any(|action| hurries(action))
    }

    fn outside_a_freeze(&self, wave: &Wave) -> Result<(), String> {
        let Some(calendar) = &wave.calendar_ref else { return Ok(()) };
        let Some(found) = self.world.object(GROUP, "Calendar", "", &calendar.name) else {
            return Err(format!("wave {} begins without its Calendar {}", wave.name, calendar.name));
        };
        match starts::freeze_at(self.world, &found, self.at) {
            Some((from, to)) => Err(format!("wave {} begins in the freeze from {from} to {to}", wave.name)),
            None => Ok(()),
        }
    }

    /// As many distinct persons of its groups as it demands have signed this wave of this attempt.
    fn signed(&self, dog: &Watchdog, wave: &Wave) -> Result<(), String> {
        let Some(rule) = &wave.sign_off else { return Ok(()) };
        let attempt = self.parent.status.as_ref().map_or(0, |status| status.attempt);
        let uid = self.parent.metadata.uid.as_deref().unwrap_or_default();
        let subject = format!("wave-{}-{attempt}", wave.name);
        let digest = sign_off::digest(&self.parent.spec.change_digest, uid, &subject);
        let persons = signed::persons(dog, self.world, rule, &digest);
        if persons.len() < rule.count as usize {
            let (name, count) = (&wave.name, rule.count);
            return Err(format!("wave {name} begins with the signatures of {persons:?}, {count} are demanded"));
        }
        Ok(())
    }
}

fn phase(rollout: &Rollout) -> Option<RolloutPhase> {
    rollout.status.as_ref().map(|status| status.phase)
}
