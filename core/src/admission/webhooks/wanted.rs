//! What Systems and the installation want governed beside the default, and what of it cannot be.

use std::collections::{BTreeMap, BTreeSet};

use interlock_crds::{GroupKind, Mode, SystemSpec};
use serde_json::{Value, json};

use super::{
    EXEMPT_NAMESPACES, cel,
    governed::{ClusterObject, Resource, by_default, never},
};
use crate::port::Served;

/// How the cluster addresses kinds that Systems name.
pub type Kinds = BTreeMap<GroupKind, Served>;

/// What the webhooks are called for beside the default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Governed {
    /// Resources governed in the namespaces of every System: `interlock install --govern`.
    pub everywhere: BTreeSet<Resource>,
    /// Resources that Systems add, with the namespaces of those Systems.
    pub added: BTreeMap<Resource, BTreeSet<String>>,
    /// Cluster-scoped objects that Systems name.
    pub cluster_objects: BTreeSet<ClusterObject>,
}

impl Governed {
    /// What `systems` want beside `everywhere`. What may not be governed is left out, as is a kind that `kinds` does not
    /// hold: there can be no object of it yet.
    pub fn of<'s>(
        everywhere: impl IntoIterator<Item = Resource>,
        systems: impl IntoIterator<Item = &'s SystemSpec>,
        kinds: &Kinds,
    ) -> Self {
        let everywhere: BTreeSet<_> = everywhere.into_iter().filter(Resource::may_be_governed).collect();
        let known: BTreeSet<_> = by_default().union(&everywhere).cloned().collect();
        let mut governed = Self { everywhere, ..Self::default() };
        for spec in systems {
            let namespaces =
                || spec.namespaces.iter().filter(|name| !EXEMPT_NAMESPACES.contains(&name.as_str())).cloned();
            for kind in added_by(spec) {
                let Some(served) = kinds.get(kind).filter(|served| served.namespaced) else { continue };
                let resource = Resource::new(&kind.group, &served.plural);
                if resource.may_be_governed() && !known.contains(&resource) && !spec.namespaces.is_empty() {
                    governed.added.entry(resource).or_default().extend(namespaces());
                }
            }
            for object in &spec.cluster_objects {
                let kind = GroupKind { group: object.group.clone(), kind: object.kind.clone() };
                let Some(served) = kinds.get(&kind).filter(|served| !served.namespaced) else { continue };
                let object = ClusterObject {
                    group: object.group.clone(),
                    resource: served.plural.clone(),
                    name: object.name.clone(),
                    enforced: spec.mode == Mode::Enforce,
                };
                if object.may_be_governed() {
                    governed.cluster_objects.insert(object);
                }
            }
        }
        governed.added.retain(|_, namespaces| !namespaces.is_empty());
        governed
    }

    /// Resources governed beside the default, wherever.
    pub fn beside_default(&self) -> BTreeSet<Resource> {
        self.everywhere.iter().chain(self.added.keys()).cloned().collect()
    }

    /// Every governed resource, each beside the default with its `/scale`: a custom resource without that subresource
    /// is not hurt by it.
    pub(super) fn resources(&self) -> BTreeSet<Resource> {
        let mut governed = by_default();
        for resource in self.beside_default() {
            if !governed.contains(&resource) {
                governed.insert(Resource::new(&resource.group, &format!("{}/scale", resource.main())));
                governed.insert(resource);
            }
        }
        governed
    }

    /// The match condition by which a resource that Systems add is looked at in their namespaces only: what one System
    /// adds is no matter of another's.
    pub(super) fn added_condition(&self) -> Option<Value> {
        let phrases: Vec<_> = self
            .added
            .iter()
            .map(|(resource, namespaces)| {
                format!(
                    "(!({}) || request.namespace in {})",
                    cel::resource_is(&resource.group, &resource.resource),
                    cel::list(namespaces.iter().map(String::as_str))
                )
            })
            .collect();
        (!phrases.is_empty()).then(|| json!({ "name": ADDED_KINDS, "expression": phrases.join(" && ") }))
    }
}

/// Name of the match condition that [`Governed::added_condition`] makes.
pub(super) const ADDED_KINDS: &str = "added-kinds";

/// Kinds that `spec` adds and does not take out again.
fn added_by(spec: &SystemSpec) -> impl Iterator<Item = &GroupKind> {
    let governs = spec.governs.as_ref();
    let removed = move |kind: &GroupKind| governs.is_some_and(|g| g.remove.contains(kind));
    governs.into_iter().flat_map(|g| &g.add).filter(move |kind| !removed(kind))
}

/// The kinds that `spec` names, whose resources must be known to govern them.
pub fn named(spec: &SystemSpec) -> BTreeSet<GroupKind> {
    let objects = spec.cluster_objects.iter().map(|o| GroupKind { group: o.group.clone(), kind: o.kind.clone() });
    added_by(spec).cloned().chain(objects).filter(|kind| never(&kind.group, &kind.kind).is_none()).collect()
}

/// Why something that a System names is not governed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// It may never be.
    Forbidden(String),
    /// The cluster serves no such kind.
    Unknown(String),
    /// Its kind lies in namespaces, or does not, unlike the field where it stands.
    Scope(String),
}

impl Flaw {
    /// One word.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Forbidden(_) => "KindForbidden",
            Self::Unknown(_) => "KindUnknown",
            Self::Scope(_) => "WrongScope",
        }
    }

    /// What is wrong, and what to do.
    pub fn message(&self) -> &str {
        match self {
            Self::Forbidden(why) | Self::Unknown(why) | Self::Scope(why) => why,
        }
    }
}

/// What of `spec` cannot be governed where the cluster serves `kinds`.
pub fn flaws(spec: &SystemSpec, kinds: &Kinds) -> Vec<Flaw> {
    let mut flaws = Vec::new();
    for kind in added_by(spec) {
        let what = shown(kind);
        if let Some(why) = never(&kind.group, &kind.kind) {
            flaws.push(Flaw::Forbidden(format!("{what} in governs.add is never governed: {why}")));
            continue;
        }
        match kinds.get(kind) {
            None => flaws.push(unknown(&what)),
            Some(served) if !served.namespaced => flaws.push(Flaw::Scope(format!(
                "{what} in governs.add has no namespace: list each object in clusterObjects instead"
            ))),
            Some(_) => {}
        }
    }
    for object in &spec.cluster_objects {
        let kind = GroupKind { group: object.group.clone(), kind: object.kind.clone() };
        let what = shown(&kind);
        let forbidden =
            |why: &str| Flaw::Forbidden(format!("{what} {} in clusterObjects is never governed: {why}", object.name));
        if let Some(why) = never(&kind.group, &kind.kind) {
            flaws.push(forbidden(why));
            continue;
        }
        match kinds.get(&kind) {
            None => flaws.push(unknown(&what)),
            Some(served) if served.namespaced => flaws.push(Flaw::Scope(format!(
                "{what} in clusterObjects lies in namespaces: list its namespace, and the kind in governs.add"
            ))),
            Some(served) => {
                let named = ClusterObject {
                    group: object.group.clone(),
                    resource: served.plural.clone(),
                    name: object.name.clone(),
                    enforced: false,
                };
                if !named.may_be_governed() {
                    flaws.push(forbidden("Interlock itself rests on it"));
                }
            }
        }
    }
    flaws
}

fn unknown(what: &str) -> Flaw {
    Flaw::Unknown(format!("the cluster serves no kind {what}: correct it, or install its definition"))
}

fn shown(kind: &GroupKind) -> String {
    if kind.group.is_empty() { kind.kind.clone() } else { format!("{}.{}", kind.kind, kind.group) }
}
