//! Versions that proved themselves a short time ago.

use interlock_crds::{Rollout, RolloutPhase, RolloutSpec};
use jiff::Timestamp;
use serde_json::Value;

use super::{
    HASH_LABEL,
    facts::{LiveObjects, TargetFacts},
    live,
};

/// Why the wanted version of a Deployment needs no new proof, if the plan's `fastTrack` says so: it is the one that served,
/// wholly ready, until a release of this workload took its place a short time ago. What changes configuration too is a new
/// version.
pub fn known_good(
    spec: &RolloutSpec,
    target: &TargetFacts,
    objects: &LiveObjects,
    earlier: &[impl AsRef<Rollout>],
    now: Timestamp,
) -> Option<String> {
    let span = spec.plan.fast_track?;
    let workload = objects.get(&live::workload_id(spec.targets.first()?))?;
    if !target.configs.is_empty() {
        return None;
    }
    let wanted = target.wanted.pointer("/spec/template")?;
    let sets = objects.of_kind("apps", "ReplicaSet").filter(|set| live::is_controlled_by(set, workload));
    let hash =
        sets.filter(|set| template(set).as_ref() == Some(wanted)).map(|set| live::label(set, HASH_LABEL)).next()?;
    let mut served = earlier.iter().map(AsRef::as_ref).filter(|rollout| rollout.spec.targets == spec.targets);
    served.find_map(|rollout| {
        let status = rollout.status.as_ref().filter(|status| status.phase == RolloutPhase::Succeeded)?;
        let was_ready = status.start.as_ref()?.ready.is_none();
        let ended = status.finished_at.as_ref()?.0;
        let is_it = was_ready && status.hashes.as_ref()?.stable == hash;
        let until = ended.checked_add(span.signed()).unwrap_or(Timestamp::MAX);
        (is_it && now < until)
            .then(|| format!("this version served well until {ended}, and is known to be good until {until}"))
    })
}

/// The pod template of a ReplicaSet as its Deployment stated it.
pub(super) fn template(set: &Value) -> Option<Value> {
    let mut template = set.pointer("/spec/template")?.clone();
    template.pointer_mut("/metadata/labels")?.as_object_mut()?.remove(HASH_LABEL);
    Some(template)
}
