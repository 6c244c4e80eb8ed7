//! Versions that a workload had, as its controller still holds them, and the change that brings one back.
//!
//! A Deployment's are its ReplicaSets, those of a StatefulSet or DaemonSet its ControllerRevisions. They hold the pod
//! template and nothing else: the change states what differs in the template, and leaves replicas and all the rest alone.

use interlock_crds::{Rollout, RolloutPhase};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    CONFIG_ANNOTATION, HASH_LABEL, REVISION_LABEL,
    derive::{remove_key, set_text, workload},
    known, live,
};
use crate::{
    change::OPERATION_ANNOTATION,
    object::{ObjectId, partial_between, without_nulls},
};

/// What somebody wants back.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The live workload.
    pub workload: &'a Value,
    /// The ReplicaSets, or ControllerRevisions, of its namespace.
    pub held: &'a [Value],
    /// Rollouts, of whatever workload.
    pub rollouts: &'a [Rollout],
    /// Which revision; none for the one before the present one.
    pub revision: Option<u64>,
}

/// What brings a version back.
#[derive(Clone, Debug, PartialEq)]
pub struct Return {
    /// The revision that comes back.
    pub revision: u64,
    /// The present one.
    pub present: u64,
    /// Images of the version that comes back.
    pub images: Vec<String>,
    /// The manifest of the change: a part of the workload.
    pub manifest: Value,
    /// Whether the present configuration stays, with which the revision did not run: it counts as a new version then.
    pub other_configuration: bool,
    /// The Rollout that went back from this very version, if there is one and it never served.
    pub went_back: Option<String>,
}

/// Why nothing can be proposed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CannotReturn {
    /// The workload has no name.
    #[error("the workload cannot be named: {0}")]
    Unnamed(String),
    /// A release of it is under way, and nothing says that another version than the one before it is meant.
    #[error(
        "a release of {workload} is under way ({rollout}), and the version before it was never taken away: go back with \
         `interlock rollout abort {rollout}`, or name another version with --to"
    )]
    ReleaseRuns {
        /// The workload.
        workload: String,
        /// The Rollout.
        rollout: String,
    },
    /// No held version is the one that the workload states.
    #[error("the controller of {workload} has not recorded its present version yet; try again in a moment")]
    NotRecorded {
        /// The workload.
        workload: String,
    },
    /// There is none before the present one.
    #[error(
        "nothing is held of a version of {workload} before revision {present} (spec.revisionHistoryLimit says how many \
         are); propose its manifests with `interlock propose`"
    )]
    NothingEarlier {
        /// The workload.
        workload: String,
        /// The present revision.
        present: u64,
    },
    /// Those before the present one never served.
    #[error(
        "revision {revision} of {workload} is held, but Rollout {rollout} went back from it, and nothing else is held of a \
         version before revision {present}; name it with --to {revision} if it is meant"
    )]
    WentBack {
        /// The workload.
        workload: String,
        /// The newest revision before the present one.
        revision: u64,
        /// The Rollout.
        rollout: String,
        /// The present revision.
        present: u64,
    },
    /// There is none of that number.
    #[error("{workload} has no revision {revision}; held are {held}, and {present} is the present one")]
    NoSuchRevision {
        /// The workload.
        workload: String,
        /// What was asked for.
        revision: u64,
        /// Those that there are.
        held: String,
        /// The present one.
        present: u64,
    },
    /// It is there already.
    #[error("revision {revision} is what {workload} has already")]
    Present {
        /// The workload.
        workload: String,
        /// The revision.
        revision: u64,
    },
    /// Nothing of the template differs but the mark of its configuration.
    #[error(
        "revision {revision} of {workload} differs from revision {present} in its ConfigMaps and Secrets only, and \
         those are not held; propose them with `interlock propose`"
    )]
    OnlyConfiguration {
        /// The workload.
        workload: String,
        /// The revision.
        revision: u64,
        /// The present one.
        present: u64,
    },
    /// No part of a manifest says it.
    #[error(
        "what revision {revision} of {workload} lacks cannot be left out by a part of a manifest; propose its whole \
         manifest with `interlock propose`"
    )]
    NotAPart {
        /// The workload.
        workload: String,
        /// The revision.
        revision: u64,
    },
}

/// A version that is held.
struct Version<'a> {
    number: u64,
    template: Value,
    held: &'a Value,
}

/// The change that brings an earlier version of a workload back.
///
/// # Errors
/// Why there is none, and what to do instead.
pub fn bring_back(wanted: &Wanted<'_>) -> Result<Return, CannotReturn> {
    let id = ObjectId::of(wanted.workload).map_err(|error| CannotReturn::Unnamed(error.to_string()))?;
    let named = || format!("{} {}", id.kind, id.name);
    if let Some(rollout) = under_way(wanted.rollouts, &id).filter(|_| wanted.revision.is_none()) {
        return Err(CannotReturn::ReleaseRuns { workload: named(), rollout });
    }
    let versions = versions(wanted);
    let template = wanted.workload.pointer("/spec/template").map(without_nulls);
    let is_present = |version: &&Version<'_>| Some(&version.template) == template.as_ref();
    let Some(present) = versions.iter().rev().find(is_present).map(|version| version.number) else {
        return Err(CannotReturn::NotRecorded { workload: named() });
    };
    let version = match wanted.revision {
        Some(revision) if revision == present => {
            return Err(CannotReturn::Present { workload: named(), revision });
        }
        Some(revision) => versions.iter().find(|version| version.number == revision).ok_or_else(|| {
            let held: Vec<_> = versions.iter().map(|version| version.number.to_string()).collect();
            CannotReturn::NoSuchRevision { workload: named(), revision, held: held.join(", "), present }
        })?,
        None => before(wanted, &id, &versions, present)?,
    };
    let revision = version.number;
    let (earlier, other_configuration) = with_template(wanted.workload, &version.template);
    if other_configuration && earlier.pointer("/spec/template").map(without_nulls) == template {
        return Err(CannotReturn::OnlyConfiguration { workload: named(), revision, present });
    }
    let part = partial_between(&id.group_kind(), wanted.workload, &earlier);
    let Some(part) = part.as_ref().and_then(|part| part.pointer("/spec/template")) else {
        return Err(CannotReturn::NotAPart { workload: named(), revision });
    };
    let manifest = json!({
        "apiVersion": id.api_version(),
        "kind": id.kind,
        "metadata": {"name": id.name, "namespace": id.namespace, "annotations": {OPERATION_ANNOTATION: "Patch"}},
        "spec": {"template": part},
    });
    let went_back = went_back(wanted.rollouts, &id, version);
    Ok(Return { revision, present, images: images(&version.template), manifest, other_configuration, went_back })
}

/// The newest version before the present one that no release went back from: after a return its controller counts the
/// version that failed as the one before.
fn before<'v, 'a>(
    wanted: &Wanted<'_>,
    id: &ObjectId,
    versions: &'v [Version<'a>],
    present: u64,
) -> Result<&'v Version<'a>, CannotReturn> {
    let workload = || format!("{} {}", id.kind, id.name);
    let mut failed: Option<(u64, String)> = None;
    for version in versions.iter().rev().filter(|version| version.number < present) {
        let Some(rollout) = went_back(wanted.rollouts, id, version) else { return Ok(version) };
        failed.get_or_insert((version.number, rollout));
    }
    Err(match failed {
        Some((revision, rollout)) => CannotReturn::WentBack { workload: workload(), revision, rollout, present },
        None => CannotReturn::NothingEarlier { workload: workload(), present },
    })
}

/// The Rollout that went back from a version which served under no other. Batches record the version's own name. Of a
/// Deployment they record that of the second Deployment, so that the version is known by when it was made.
fn went_back(rollouts: &[Rollout], workload: &ObjectId, version: &Version<'_>) -> Option<String> {
    let own = rollouts
        .iter()
        .filter(|rollout| rollout.spec.targets.iter().any(|target| live::workload_id(target).same_object(workload)));
    let held = version.held;
    let names = [live::label(held, HASH_LABEL), live::label(held, REVISION_LABEL), live::name_of(Some(held))];
    let is = |hash: &str| !hash.is_empty() && names.contains(&hash);
    let made = live::text(held, "/metadata/creationTimestamp").parse::<Timestamp>().ok();
    let mut found: Option<String> = None;
    for rollout in own {
        let Some((status, hashes)) = rollout.status.as_ref().and_then(|status| Some((status, status.hashes.as_ref()?)))
        else {
            continue;
        };
        if is(&hashes.stable) || (status.phase == RolloutPhase::Succeeded && is(&hashes.canary)) {
            return None;
        }
        let begun = rollout.metadata.creation_timestamp.as_ref().map(|time| time.0);
        let ended = status.finished_at.as_ref().map(|time| time.0);
        let made_by_it = begun.zip(ended).zip(made).is_some_and(|((from, to), at)| (from..=to).contains(&at));
        if status.phase == RolloutPhase::RolledBack && (is(&hashes.canary) || made_by_it) {
            found.clone_from(&rollout.metadata.name);
        }
    }
    found
}

/// The Rollout that changes the workload now. One with waves stands for those that it made.
fn under_way(rollouts: &[Rollout], workload: &ObjectId) -> Option<String> {
    let runs = |rollout: &&Rollout| {
        let phase = rollout.status.as_ref().map(|status| status.phase).unwrap_or_default();
        let targets = &rollout.spec.targets;
        !phase.is_at_rest() && targets.iter().any(|target| live::workload_id(target).same_object(workload))
    };
    let running: Vec<_> = rollouts.iter().filter(runs).collect();
    let whole = running.iter().find(|rollout| rollout.spec.part_of.is_none()).or(running.first())?;
    whole.metadata.name.clone()
}

/// The versions of the workload, the oldest first.
fn versions<'a>(wanted: &Wanted<'a>) -> Vec<Version<'a>> {
    let own = wanted.held.iter().filter(|held| live::is_controlled_by(held, wanted.workload));
    let mut versions: Vec<_> = own.filter_map(version).collect();
    versions.sort_by_key(|version| version.number);
    versions
}

fn version(held: &Value) -> Option<Version<'_>> {
    if let Some(template) = held.pointer("/data/spec/template") {
        let mut template = without_nulls(template);
        // The way in which its controller goes back to it.
        template.as_object_mut()?.remove("$patch");
        return Some(Version { number: held.get("revision")?.as_u64()?, template, held });
    }
    let annotations = held.pointer("/metadata/annotations")?;
    let number = annotations.get(workload::REVISION_ANNOTATION)?.as_str()?.parse().ok()?;
    Some(Version { number, template: without_nulls(&known::template(held)?), held })
}

/// The workload with another template, and whether that ran with another configuration. The mark of the present one
/// stays: the ConfigMaps and Secrets that it stands for stay too.
fn with_template(live: &Value, template: &Value) -> (Value, bool) {
    let mut earlier = live.clone();
    if let Some(place) = earlier.pointer_mut("/spec/template") {
        place.clone_from(template);
    }
    let mark = workload::config_mark(live);
    let differs = workload::config_mark(&earlier) != mark;
    if differs {
        match mark {
            Some(mark) => {
                set_text(&mut earlier, &["spec", "template", "metadata", "annotations"], CONFIG_ANNOTATION, mark);
            }
            None => remove_key(&mut earlier, "/spec/template/metadata", "annotations", CONFIG_ANNOTATION),
        }
    }
    (earlier, differs)
}

fn images(template: &Value) -> Vec<String> {
    let containers = template.pointer("/spec/containers").and_then(Value::as_array).into_iter().flatten();
    containers.filter_map(|container| Some(container.get("image")?.as_str()?.to_owned())).collect()
}
