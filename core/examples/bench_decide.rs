//! Decisions per second on one core, for a waiting change of 20 objects with 5 votes. Run by `cargo xtask bench`.

#![allow(
    clippy::expect_used,
    clippy::too_many_lines,
    reason = "a benchmark that cannot go on should stop; its facts read best in one piece"
)]

use std::{collections::BTreeSet, hint::black_box, time::Instant};

use interlock_core::{
    change::{
        ChangeFacts, Content, Next, decide,
        digest::{BaseValues, Resolved, base_digest},
        facts::{
            BaseFacts, BaseState, CalendarFacts, LaterFacts, PlanFacts, PolicyFacts, Preflight, RequestFacts,
            SealedFacts, SealedRecords, SystemFacts, Vote,
        },
        sealed,
    },
    people::{People, PersonFacts, PersonName},
    seal::{KeyRing, SealKey},
};
use interlock_crds::{ApprovalDecision, ChangeRequestSpec, ChangeRequestStatus};
use serde_json::json;

fn rate<T>(work: impl Fn() -> T) -> f64 {
    let begun = Instant::now();
    let mut count = 0_u32;
    while begun.elapsed().as_millis() < 200 {
        for _ in 0..100 {
            work();
        }
        count += 100;
    }
    f64::from(count) / begun.elapsed().as_secs_f64()
}

fn main() {
    let now = "2026-11-24T08:00:00Z".parse().expect("a time");
    let manifests: Vec<_> = (0..20)
        .map(|n| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("c{n}"), "namespace": "teller"}, "data": {"value": "new"}}))
        .collect();
    let spec: ChangeRequestSpec = serde_json::from_value(
        json!({"title": "t", "reason": "r", "requester": "alice", "content": {"manifests": manifests}}),
    )
    .expect("a spec");
    let policy = serde_json::from_value(
        json!({"types": {"normal": {"approvals": {"thresholds": [{"name": "peers", "count": 6, "groups": ["sre"]}]}}}}),
    )
    .expect("a policy");
    let system = serde_json::from_value(json!({"tier": "High", "namespaces": ["teller"], "policyRef": {"name": "bank"}, "executor": {"type": "Interlock", "serviceAccount": {"namespace": "teller", "name": "executor"}}})).expect("a system");
    let resolved = |name: &str| Resolved { name: name.to_owned(), uid: name.to_owned(), generation: 1 };
    let seal = SealKey::from_seed(&[1; 32]).expect("a key");
    let mut keys = KeyRing::default();
    keys.insert(seal.public());
    let mut people = People::default();
    for n in 0..6 {
        people.insert(PersonFacts {
            name: PersonName(format!("p{n}")),
            identities: BTreeSet::from([format!("p{n}")]),
            groups: BTreeSet::from(["sre".to_owned()]),
            barred: BTreeSet::new(),
        });
    }
    let content = Content::parse(&spec, "teller");
    let mut request = RequestFacts {
        namespace: "teller".to_owned(),
        name: "c".to_owned(),
        uid: "uid".to_owned(),
        generation: 1,
        created: now,
        deleting: false,
        spec: spec.into(),
        status: ChangeRequestStatus::default(),
        sealed: SealedRecords::default(),
    };
    let base = BaseState::Read(BaseFacts {
        live: base_digest(&BaseValues::new()).expect("a digest"),
        effects: Vec::new(),
        secrets_mac: String::new(),
    });
    let system = SystemFacts { resolved: resolved("teller"), spec: system };
    let policy = PolicyFacts { resolved: resolved("bank"), spec: policy };
    let (dependants, later) = (BTreeSet::new(), LaterFacts::default());
    let mut votes = Vec::new();
    for round in 0..2 {
        let facts = ChangeFacts {
            cluster: "cluster",
            request: &request,
            content: &content,
            system: Some(&system),
            policy: Some(&policy),
            calendar: &CalendarFacts::None,
            plan: &PlanFacts::None,
            people: &people,
            votes: &votes,
            evidence: &[],
            commands: &[],
            base: &base,
            running: &[],
            dependencies: &[],
            dependants: &dependants,
            history: (0, 0),
            preflight: &Preflight::NotTried,
            later: &later,
        };
        if round == 1 {
            // The best of several measurements: everything else that the machine does only makes one slower.
            let best = (0..15).map(|_| rate(|| black_box(decide(black_box(&facts), now)))).fold(0.0, f64::max);
            println!("decisions per second, 20 objects, 5 votes: {best:.0}");
            return;
        }
        let Next::PinBase(record) = decide(&facts, now).next else { return };
        let digest = decide(&facts, now).status.change_digest.unwrap_or_default();
        request.status.base = Some(sealed::seal_base(&seal, "uid", record).expect("a seal"));
        request.sealed = sealed::records(&keys, "uid", &request.status);
        votes = (0..5)
            .map(|n| Vote {
                name: format!("v{n}"),
                uid: format!("v{n}"),
                approver: format!("p{n}"),
                decision: ApprovalDecision::Approve,
                digest: digest.clone(),
                change_uid: "uid".to_owned(),
                created: now,
                sealed: Some(SealedFacts {
                    user: format!("p{n}"),
                    groups: Vec::new(),
                    claims: Vec::new(),
                    time: now,
                    request_uid: format!("r{n}"),
                }),
            })
            .collect();
    }
}
