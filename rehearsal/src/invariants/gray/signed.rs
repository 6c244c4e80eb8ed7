//! Whoever must sign a step has signed it before the release goes on.

use std::collections::{BTreeMap, BTreeSet};

use interlock_core::rollout::sign_off;
use interlock_crds::{Approval, ApprovalDecision, Person, SignOff};
use interlock_sim::api::meta;

use super::parsed;
use crate::{cluster::Audit, invariants::Watchdog, port::CONTROLLER, world::World};

/// The step of a Rollout passes one that must be signed only when as many distinct persons as that demands have signed it
/// in this attempt. That nothing is written ahead of the step is another invariant.
pub(in crate::invariants) fn steps_are_signed(dog: &mut Watchdog, world: &World, audit: &Audit) -> Result<(), String> {
    if audit.user != CONTROLLER || audit.id.kind != "Rollout" {
        return Ok(());
    }
    let Some(rollout) = audit.new.as_ref().and_then(parsed) else { return Ok(()) };
    let before = audit.old.as_ref().and_then(parsed).and_then(|old| old.status).unwrap_or_default();
    let status = rollout.status.unwrap_or_default();
    let from = if before.attempt == status.attempt { before.current_step } else { 0 };
    let uid = rollout.metadata.uid.unwrap_or_default();
    let steps = super::steps(&rollout.spec.plan).iter().enumerate();
    for (position, step) in steps.take(status.current_step as usize).skip(from as usize) {
        let Some(rule) = &step.sign_off else { continue };
        let subject = format!("step-{position}-{}", status.attempt);
        let digest = sign_off::digest(&rollout.spec.change_digest, &uid, &subject);
        let persons = persons(dog, world, rule, &digest);
        if persons.len() < rule.count as usize {
            let (id, count) = (&audit.id, rule.count);
            return Err(format!("{id} passes step {position}, signed by {persons:?}, and {count} must sign it"));
        }
    }
    Ok(())
}

/// Persons of a sign-off's groups who have signed a digest, by any of their user names.
pub(super) fn persons(dog: &Watchdog, world: &World, rule: &SignOff, digest: &str) -> BTreeSet<String> {
    // User names with their groups as the server told them.
    let signers: BTreeMap<String, Vec<String>> = dog
        .versions(world, "Approval")
        .iter()
        .filter_map(|vote| serde_json::from_value::<Approval>((**vote).clone()).ok())
        .filter(|vote| vote.spec.digest == digest && vote.spec.decision == ApprovalDecision::Approve)
        .filter_map(|vote| vote.spec.recorded.map(|recorded| (recorded.user, recorded.groups)))
        .collect();
    let mut persons = BTreeSet::new();
    for object in dog.versions(world, "Person") {
        let Ok(person) = serde_json::from_value::<Person>((*object).clone()) else { continue };
        let may = |told: &Vec<String>| told.iter().chain(&person.spec.groups).any(|group| rule.groups.contains(group));
        if person.spec.identities.iter().filter_map(|identity| signers.get(identity)).any(may) {
            persons.insert(meta::name(&object).to_owned());
        }
    }
    persons
}
