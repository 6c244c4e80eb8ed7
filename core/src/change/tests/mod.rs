mod gradual;
mod runs;
mod waits;

use std::collections::BTreeSet;

use interlock_crds::{ApprovalDecision, ChangePolicySpec, ChangeRequestSpec, ChangeRequestStatus, SystemSpec};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    Content, Problem,
    content::ContentObject,
    digest::{BaseValues, Resolved, base_digest, base_key, base_of},
    facts::{
        BaseFacts, BaseState, CalendarFacts, ChangeFacts, Command, LaterFacts, PlanFacts, PolicyFacts, Preflight,
        RequestFacts, RunningChange, SealedFacts, SystemFacts, Vote,
    },
};
use crate::{
    object::apply_partial,
    people::{People, PersonFacts, PersonName},
    seal::{KeyRing, SealKey},
};

pub fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub const NOW: &str = "2026-11-24T08:00:00Z";

/// A change of a bank's teller, owned.
pub struct Case {
    pub request: RequestFacts,
    pub content: Result<Content, Vec<Problem>>,
    pub system: SystemFacts,
    pub policy: PolicyFacts,
    pub calendar: CalendarFacts,
    pub plan: PlanFacts,
    pub people: People,
    pub votes: Vec<Vote>,
    pub commands: Vec<Command>,
    pub base: BaseState,
    pub running: Vec<RunningChange>,
    pub dependants: BTreeSet<String>,
    pub preflight: Preflight,
    pub later: LaterFacts,
    pub seal: SealKey,
    pub keys: KeyRing,
}

fn person(name: &str, identities: &[&str], groups: &[&str]) -> PersonFacts {
    let set = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<BTreeSet<_>>();
    PersonFacts { name: PersonName(name.into()), identities: set(identities), groups: set(groups), barred: set(&[]) }
}

fn resolved(name: &str) -> Resolved {
    Resolved { name: name.into(), uid: format!("uid-of-{name}"), generation: 3 }
}

pub fn live_deployment() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "teller", "namespace": "teller", "uid": "d-1", "resourceVersion": "70", "generation": 4},
        "spec": {"replicas": 5, "selector": {"matchLabels": {"app": "teller"}}, "template": {
            "metadata": {"labels": {"app": "teller"}},
            "spec": {"containers": [{"name": "teller", "image": "teller:2.3.1"}]}}},
    })
}

impl Case {
    pub fn new(policy: Value, spec: &Value) -> Self {
        let mut request = json!({
            "title": "Teller 2.3.2", "reason": "CD-4711", "requester": "alice",
            "content": {"manifests": [{
                "apiVersion": "apps/v1", "kind": "Deployment",
                "metadata": {"name": "teller", "namespace": "teller", "annotations": {"interlock.dev/operation": "Patch"}},
                "spec": {"template": {"spec": {"containers": [{"name": "teller", "image": "teller:2.3.2"}]}}},
            }]},
        });
        for (field, value) in spec.as_object().unwrap() {
            request[field] = value.clone();
        }
        let seal = SealKey::from_seed(&[9; 32]).unwrap();
        let mut keys = KeyRing::default();
        keys.insert(seal.public());
        let mut people = People::default();
        people.insert(person("alice", &["alice", "alice-admin"], &["sre"]));
        people.insert(person("bob", &["bob", "bob-admin"], &["sre"]));
        people.insert(person("carol", &["carol"], &["sre", "branch-ops"]));
        people.insert(person("erin", &["erin"], &["branch-ops"]));
        let spec: ChangeRequestSpec = serde_json::from_value(request).unwrap();
        let policy: ChangePolicySpec = serde_json::from_value(policy).unwrap();
        let system: SystemSpec = serde_json::from_value(json!({
            "tier": "High", "namespaces": ["teller"], "policyRef": {"name": "bank"},
            "executor": {"type": "Interlock", "serviceAccount": {"namespace": "teller", "name": "executor"}},
        }))
        .unwrap();
        let mut case = Self {
            content: Content::parse(&spec, "teller"),
            request: RequestFacts {
                namespace: "teller".into(),
                name: "teller-2-3-2".into(),
                uid: "cr-uid".into(),
                generation: 1,
                created: at("2026-11-24T07:00:00Z"),
                deleting: false,
                spec: spec.into(),
                status: ChangeRequestStatus::default(),
                sealed: crate::change::facts::SealedRecords::default(),
            },
            system: SystemFacts { resolved: resolved("teller"), spec: system },
            policy: PolicyFacts { resolved: resolved("bank"), spec: policy },
            calendar: CalendarFacts::None,
            plan: PlanFacts::None,
            people,
            votes: Vec::new(),
            commands: Vec::new(),
            base: BaseState::Unread,
            running: Vec::new(),
            dependants: BTreeSet::new(),
            preflight: Preflight::NotTried,
            later: LaterFacts::default(),
            seal,
            keys,
        };
        case.read(&live_deployment());
        case
    }

    /// The live object is read.
    pub fn read(&mut self, live: &Value) {
        let content = self.content.as_ref().unwrap();
        let mut values = BaseValues::new();
        let mut effects = Vec::new();
        for object in &content.objects {
            values.insert(base_key(&object.id), base_of(object, Some(live)));
            effects.push(effect_of(object, live));
        }
        self.base =
            BaseState::Read(BaseFacts { live: base_digest(&values).unwrap(), effects, secrets_mac: String::new() });
    }

    pub fn facts(&mut self) -> ChangeFacts<'_> {
        self.request.sealed = crate::change::sealed::records(&self.keys, &self.request.uid, &self.request.status);
        ChangeFacts {
            cluster: "cluster-uid",
            request: &self.request,
            content: &self.content,
            system: Some(&self.system),
            policy: Some(&self.policy),
            calendar: &self.calendar,
            plan: &self.plan,
            people: &self.people,
            votes: &self.votes,
            evidence: &[],
            commands: &self.commands,
            base: &self.base,
            running: &self.running,
            dependencies: &[],
            dependants: &self.dependants,
            history: (0, 0),
            preflight: &self.preflight,
            later: &self.later,
        }
    }

    /// A vote on what the change is now.
    pub fn vote(&mut self, user: &str, decision: ApprovalDecision) {
        let digest = self.request.status.change_digest.clone().unwrap_or_default();
        let number = self.votes.len();
        let created = at("2026-11-24T07:30:00Z");
        self.votes.push(Vote {
            name: format!("vote-{number}"),
            uid: format!("vote-uid-{number}"),
            approver: user.into(),
            decision,
            digest,
            change_uid: self.request.uid.clone(),
            created,
            sealed: Some(SealedFacts {
                user: user.into(),
                groups: Vec::new(),
                claims: Vec::new(),
                time: created,
                request_uid: format!("admission-{number}"),
            }),
        });
    }
}

fn effect_of(object: &ContentObject, live: &Value) -> super::facts::Effect {
    let expected = apply_partial(&object.id.group_kind(), Some(live), &object.manifest);
    super::before::effect(object, Some(live), Some(&expected))
}
