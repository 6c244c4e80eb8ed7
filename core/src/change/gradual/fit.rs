//! Which plan a workload is released by, and whether it can be.

use std::borrow::Cow;
use std::collections::BTreeSet;

use interlock_crds::{RolloutPlanSpec, RolloutTarget, Wave, WorkloadKind};

use super::workload_kind;
use crate::{object::ObjectId, rollout::waves};

/// Whether a target of a wave is this workload.
fn is(target: &RolloutTarget, id: &ObjectId) -> bool {
    Some(target.kind) == workload_kind(id) && target.name == id.name && Some(&target.namespace) == id.namespace.as_ref()
}

/// The wave that has a workload. A target without a namespace means that of the change.
fn wave_of<'p>(plan: &'p RolloutPlanSpec, namespace: &str, id: &ObjectId) -> Option<&'p Wave> {
    plan.waves.iter().flatten().find(|wave| waves::workloads(wave, namespace).any(|target| is(&target, id)))
}

/// What a plan is, what it takes, and whether it takes a Deployment, or else a workload of another kind. None: it has waves.
fn takes(plan: &RolloutPlanSpec, deployment: bool) -> Option<(&'static str, &'static str, bool)> {
    match (&plan.canary, &plan.blue_green, &plan.batches) {
        (Some(_), ..) => Some(("a canary", "a Deployment", deployment)),
        (_, Some(_), _) => Some(("blue/green", "a Deployment", deployment)),
        (.., Some(_)) => Some(("batches", "a StatefulSet or DaemonSet", !deployment)),
        _ => None,
    }
}

/// A workload that the strategy of its own wave does not take.
pub(super) fn misplaced(plan: &RolloutPlanSpec, wave: &Wave) -> Option<String> {
    let own = waves::plan_of(plan, wave);
    wave.targets.iter().find_map(|target| {
        let (strategy, takes, fits) = takes(&own, target.kind == WorkloadKind::Deployment)?;
        (!fits).then(|| {
            format!(
                "it is {strategy}, which takes {takes}, and it names {:?} {}: give it a strategy that fits, or name the workload in another wave",
                target.kind, target.name
            )
        })
    })
}

/// The plan by which a workload is released: that of its wave, or the plan itself. None: no wave has it.
pub(super) fn plan_for<'p>(
    plan: &'p RolloutPlanSpec,
    namespace: &str,
    id: &ObjectId,
) -> Option<Cow<'p, RolloutPlanSpec>> {
    if plan.waves.is_none() {
        return Some(Cow::Borrowed(plan));
    }
    wave_of(plan, namespace, id).map(|wave| Cow::Owned(waves::plan_of(plan, wave)))
}

/// Whether a workload gets copies of its configuration for its new pods. Where pods are replaced in place there are none:
/// what they read is written in its place in the order.
pub(super) fn copies_configuration(plan: &RolloutPlanSpec, namespace: &str, id: &ObjectId) -> bool {
    plan_for(plan, namespace, id).is_none_or(|plan| plan.batches.is_none())
}

/// What two waves of a plan share, so that neither could be carried out.
pub(super) fn shared(plan: &RolloutPlanSpec) -> Option<String> {
    let (mut names, mut targets) = (BTreeSet::new(), BTreeSet::new());
    plan.waves.iter().flatten().find_map(|wave| {
        if !names.insert(&wave.name) {
            return Some(format!("there are two waves {}: give each a name of its own", wave.name));
        }
        let twice = wave.targets.iter().find(|target| !targets.insert(*target))?;
        Some(format!("{:?} {} is in two places: name it in one wave, once", twice.kind, twice.name))
    })
}

/// Why a plan cannot carry new pods of these workloads out.
pub(super) fn refusal(name: &str, plan: &RolloutPlanSpec, namespace: &str, workloads: &[&ObjectId]) -> Option<String> {
    let listed: Vec<_> = workloads.iter().map(|id| format!("{} {}", id.kind, id.name)).collect();
    if workloads.len() > 1 && plan.waves.is_none() {
        return Some(format!(
            "the change gives new pods to {}, and RolloutPlan {name} has no waves, so that it takes one workload: propose them as changes of their own",
            listed.join(", ")
        ));
    }
    workloads.iter().find_map(|id| {
        let Some(own) = plan_for(plan, namespace, id) else {
            return Some(format!(
                "the change gives new pods to {} {}, which no wave of RolloutPlan {name} names: add it to a wave, or propose it as a change of its own",
                id.kind, id.name
            ));
        };
        // A plan is for changes of many namespaces: only here is it known which one a target without any means.
        let all = plan.waves.iter().flatten().flat_map(|wave| waves::workloads(wave, namespace));
        if all.filter(|target| is(target, id)).count() > 1 {
            return Some(format!(
                "waves of RolloutPlan {name} name {} {} twice, with and without its namespace {namespace}: name it in one wave, once",
                id.kind, id.name
            ));
        }
        let (strategy, takes, fits) = takes(&own, id.kind == "Deployment")?;
        let of = wave_of(plan, namespace, id).map_or(String::new(), |wave| format!("wave {} of ", wave.name));
        (!fits).then(|| {
            format!(
                "{of}RolloutPlan {name} is {strategy}, which takes {takes}, and the change gives new pods to {} {}: name a RolloutPlan that fits",
                id.kind, id.name
            )
        })
    })
}
