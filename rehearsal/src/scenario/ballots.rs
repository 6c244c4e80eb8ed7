//! "Who could have approved this alone?", asked of the functions that count real votes.

use std::collections::BTreeSet;

use interlock_core::{
    change::{
        facts::{SealedFacts, Vote},
        gates::{Demands, demands},
        votes::{Ballot, tally},
    },
    people::{People, PersonFacts},
};
use interlock_crds::{ApprovalDecision, Approvals, ChangePolicy, ChangeType, GROUP, Person, RiskLevel};
use interlock_sim::api::meta;
use jiff::Timestamp;
use serde::Serialize;

use super::cast::Cast;
use crate::world::World;

/// Who could have approved a change of a type alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Alone {
    /// The policy.
    pub policy: String,
    /// The type of change.
    #[serde(rename = "type")]
    pub type_: ChangeType,
    /// At these risks; the answer is the same for each.
    pub risks: Vec<RiskLevel>,
    /// Who: everybody whose one vote meets every threshold.
    pub people: Vec<String>,
    /// Templates inside which no vote is needed at all.
    pub templates: Vec<String>,
    /// What the policy asks for, for a person.
    pub needs: String,
}

/// Asks of every policy and type.
pub(super) fn alone(world: &World, cast: &Cast) -> Vec<Alone> {
    let people = people(world);
    let now = world.now();
    let mut answers = Vec::new();
    for object in world.objects(GROUP, "ChangePolicy") {
        let Ok(policy) = serde_json::from_value::<ChangePolicy>((*object).clone()) else { continue };
        let name = meta::name(&object).to_owned();
        for type_ in [ChangeType::Normal, ChangeType::Standard, ChangeType::Emergency] {
            let Some(demands) = demands(&policy.spec, type_) else { continue };
            answers.extend(of_type(&name, type_, &demands, &people, cast, now));
        }
    }
    answers
}

fn people(world: &World) -> People {
    let mut people = People::default();
    for object in world.objects(GROUP, "Person") {
        if let Ok(person) = serde_json::from_value::<Person>((*object).clone()) {
            people.insert(PersonFacts::of(meta::name(&object), &person.spec));
        }
    }
    people
}

fn of_type(
    policy: &str,
    type_: ChangeType,
    demands: &Demands<'_>,
    people: &People,
    cast: &Cast,
    now: Timestamp,
) -> Vec<Alone> {
    let answer =
        |risks, people, templates, needs| Alone { policy: policy.to_owned(), type_, risks, people, templates, needs };
    let Some(rules) = demands.approvals else {
        let templates = demands.templates.unwrap_or_default().iter().map(|template| template.name.clone()).collect();
        return vec![answer(Vec::new(), Vec::new(), templates, "no vote, inside a template".to_owned())];
    };
    let mut answers: Vec<Alone> = Vec::new();
    for risk in [RiskLevel::Low, RiskLevel::Medium, RiskLevel::High, RiskLevel::Critical] {
        let (who, needs) = at_risk(rules, risk, people, cast, now);
        match answers.last_mut().filter(|last| last.people == who && last.needs == needs) {
            Some(last) => last.risks.push(risk),
            None => answers.push(answer(vec![risk], who, Vec::new(), needs)),
        }
    }
    answers
}

/// Each person votes alone on an imagined change that somebody else asked for.
fn at_risk(rules: &Approvals, risk: RiskLevel, people: &People, cast: &Cast, now: Timestamp) -> (Vec<String>, String) {
    let contributors = BTreeSet::new();
    let ballot = Ballot {
        rules,
        risk,
        digest: Some("imagined"),
        change_uid: "imagined",
        requester: "",
        contributors: &contributors,
        people,
    };
    let none = tally(&ballot, &[], now);
    let needs: Vec<_> =
        none.thresholds.iter().map(|t| format!("{} {} of {}", t.name, t.need, t.groups.join(" or "))).collect();
    if needs.is_empty() {
        // Without a threshold at this risk the gate stays closed, however many vote.
        return (Vec::new(), "the policy has no threshold at this risk: nobody can approve".to_owned());
    }
    let who = people
        .iter()
        .filter(|person| {
            person.identities.iter().any(|identity| tally(&ballot, &[vote(identity, rules, cast, now)], now).met())
        })
        .map(|person| person.identities.first().map_or(person.name.0.as_str(), |user| cast.called(user)).to_owned())
        .collect();
    (who, needs.join(", "))
}

fn vote(user: &str, rules: &Approvals, cast: &Cast, now: Timestamp) -> Vote {
    let claims = rules.require_claims.iter().map(|claim| (claim.key.clone(), vec![claim.value.clone()])).collect();
    Vote {
        name: "imagined".to_owned(),
        uid: "imagined".to_owned(),
        approver: user.to_owned(),
        decision: ApprovalDecision::Approve,
        digest: "imagined".to_owned(),
        change_uid: "imagined".to_owned(),
        created: now,
        sealed: Some(SealedFacts {
            user: user.to_owned(),
            groups: cast.as_reported(user).groups,
            claims,
            time: now,
            request_uid: "imagined".to_owned(),
        }),
    }
}
