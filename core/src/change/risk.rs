//! Risk: a sum of listed factors.

use interlock_crds::{RiskFactor, RiskLevel, RiskStatus, Tier};

use super::{
    content::Content,
    facts::{ChangeFacts, EffectKind},
};
use crate::{
    change::facts::BaseState,
    object::{ObjectId, destroys_data},
};

/// Computes the risk. A requester's `minimumRisk` raises the level and never lowers it.
pub fn risk(facts: &ChangeFacts<'_>, content: &Content) -> RiskStatus {
    let factors: Vec<_> = [
        tier(facts),
        kinds(content),
        amount(content),
        deletes(content),
        dependants(facts),
        history(facts),
        scale(facts),
    ]
    .into_iter()
    .flatten()
    .collect();
    let score = factors.iter().map(|f| f.points).sum::<u32>().min(100);
    let computed = level(score);
    RiskStatus { level: computed.max(facts.request.spec.minimum_risk.unwrap_or_default()), score, factors }
}

const fn level(score: u32) -> RiskLevel {
    match score {
        0..25 => RiskLevel::Low,
        25..50 => RiskLevel::Medium,
        50..80 => RiskLevel::High,
        _ => RiskLevel::Critical,
    }
}

fn factor(name: &str, points: u32, why: String) -> Option<RiskFactor> {
    (points > 0).then(|| RiskFactor { name: name.to_owned(), points, why })
}

fn tier(facts: &ChangeFacts<'_>) -> Option<RiskFactor> {
    let system = facts.system?;
    let points = match system.spec.tier {
        Tier::Critical => 30,
        Tier::High => 20,
        Tier::Medium => 10,
        Tier::Low => 0,
    };
    factor("tier", points, format!("{:?} system {}", system.spec.tier, system.resolved.name))
}

fn kinds(content: &Content) -> Option<RiskFactor> {
    content
        .objects
        .iter()
        .map(|object| (kind_points(&object.id), &object.id.kind))
        .max()
        .and_then(|(points, kind)| factor("kinds", points, format!("changes a {kind}")))
}

fn kind_points(kind: &ObjectId) -> u32 {
    match (kind.group.as_str(), kind.kind.as_str()) {
        ("rbac.authorization.k8s.io" | "apiextensions.k8s.io" | interlock_crds::GROUP, _) => 25,
        ("apps" | "batch", _) | ("", "Pod" | "ReplicationController") => 10,
        (
            "" | "networking.k8s.io" | "gateway.networking.k8s.io",
            "Service" | "Ingress" | "HTTPRoute" | "NetworkPolicy",
        ) => 10,
        ("", "Secret" | "PersistentVolumeClaim") => 10,
        _ => 5,
    }
}

fn amount(content: &Content) -> Option<RiskFactor> {
    let count = content.objects.len();
    let points = match count {
        0..=3 => 0,
        4..=10 => 5,
        11..=50 => 10,
        _ => 20,
    };
    factor("objects", points, format!("{count} objects"))
}

fn deletes(content: &Content) -> Option<RiskFactor> {
    let deleted: Vec<_> = content.objects.iter().filter(|o| o.intent == super::Intent::Delete).collect();
    let forever = deleted.iter().filter(|o| destroys_data(&o.id.group, &o.id.kind)).count();
    if forever > 0 {
        return factor("deletes", 30, format!("{forever} of its deletions destroy data"));
    }
    factor("deletes", if deleted.is_empty() { 0 } else { 15 }, format!("deletes {} objects", deleted.len()))
}

fn dependants(facts: &ChangeFacts<'_>) -> Option<RiskFactor> {
    let count = facts.dependants.len() as u32;
    let names: Vec<_> = facts.dependants.iter().take(5).map(String::as_str).collect();
    factor("dependants", (count * 5).min(15), format!("{count} systems depend on it: {}", names.join(", ")))
}

fn history(facts: &ChangeFacts<'_>) -> Option<RiskFactor> {
    let (failed, ended) = facts.history;
    factor("history", (failed * 10).min(20), format!("{failed} of {ended} changes failed in the last 30 days"))
}

fn scale(facts: &ChangeFacts<'_>) -> Option<RiskFactor> {
    let BaseState::Read(base) = facts.base else {
        return None;
    };
    let paths: usize = base
        .effects
        .iter()
        .map(|effect| match &effect.kind {
            EffectKind::Update(changes) => changes.len(),
            EffectKind::Create | EffectKind::Delete => 10,
            EffectKind::AlreadyGone => 0,
        })
        .sum();
    let points = match paths {
        0..=20 => 0,
        21..=100 => 5,
        _ => 10,
    };
    factor("scale", points, format!("{paths} values change"))
}
