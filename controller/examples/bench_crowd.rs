//! What one event costs (facts from the index, then a decision) alone, and among 10,000 other requests of the same
//! System, half of them ended. Run by `cargo xtask bench`.

#![allow(clippy::expect_used, reason = "a benchmark that cannot go on should stop")]

use std::{hint::black_box, time::Instant};

use interlock_controller::{
    change::from_index,
    index::{Index, LiveChange},
};
use interlock_core::{
    change::{
        Next,
        decide::decide,
        digest::{BaseValues, base_digest},
        facts::{BaseFacts, BaseState},
        sealed,
    },
    seal::{Domain, KeyRing, SealKey},
};
use interlock_crds::{Approval, ChangePhase, ChangeRequest};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

const OTHERS: usize = 10_000;

fn main() {
    let seal = SealKey::from_seed(&[1; 32]).expect("a key");
    let mut keys = KeyRing::default();
    keys.insert(seal.public());
    let mut index = Index::new(keys);
    let now = "2026-11-24T08:00:00Z".parse().expect("a time");
    govern(&mut index);
    let base = BaseState::Read(BaseFacts {
        live: base_digest(&BaseValues::new()).expect("a digest"),
        effects: Vec::new(),
        secrets_mac: String::new(),
    });
    let mut request = change("mine", 20);
    let status = decided(&mut index, &request, &base, now).status;
    request["status"] = json!(status);
    let (_, record) = pinned(&mut index, &request, &base, now);
    request["status"]["base"] = json!(sealed::seal_base(&seal, "mine", record).expect("a seal"));
    let digest = decided(&mut index, &request, &base, now).status.change_digest.expect("a digest");
    let index = known(&seal, &request, &digest, now);
    let alone = index;
    let mut among = known(&seal, &request, &digest, now);
    for n in 0..OTHERS {
        let mut other = change(&format!("other-{n}"), 1);
        if n % 2 == 0 {
            let uid = format!("other-{n}");
            let end = sealed::seal_finish(&seal, &uid, ChangePhase::Succeeded, now, "carried out".to_owned());
            other["status"] = json!({"phase": "Succeeded", "finished": end.expect("a seal")});
        }
        among.change_stored(&object(other));
    }
    // In turns, so that what else the machine does disturbs both alike.
    let (mut one, mut many) = (Vec::new(), Vec::new());
    for _ in 0..15 {
        one.push(rate(&alone, &base, now));
        many.push(rate(&among, &base, now));
    }
    let (alone, among) = (best(one), best(many));
    println!("events per second, alone: {alone:.0}");
    println!("events per second, among {OTHERS} other requests: {among:.0} (ratio {:.2})", among / alone);
}

/// An index with the change and its votes.
fn known(seal: &SealKey, request: &Value, digest: &str, now: Timestamp) -> Index {
    let mut keys = KeyRing::default();
    keys.insert(seal.public());
    let mut index = Index::new(keys);
    govern(&mut index);
    index.change_stored(&object(request.clone()));
    for n in 0..5 {
        index.approval_stored(&vote(seal, n, digest, now));
    }
    index
}

/// The best of several measurements: everything else that the machine does only makes one slower.
fn best(rates: Vec<f64>) -> f64 {
    rates.into_iter().fold(0.0, f64::max)
}

fn govern(index: &mut Index) {
    index.system_stored(&object(json!({
        "metadata": {"name": "teller", "uid": "s", "generation": 1},
        "spec": {"tier": "High", "namespaces": ["teller"], "policyRef": {"name": "bank"},
            "executor": {"type": "Interlock", "serviceAccount": {"namespace": "teller", "name": "executor"}}},
    })));
    index.policy_stored(&object(json!({
        "metadata": {"name": "bank", "uid": "p", "generation": 1},
        "spec": {"types": {"normal": {"approvals":
            {"thresholds": [{"name": "peers", "count": 6, "groups": ["sre"]}]}}}},
    })));
    for n in 0..6 {
        index.person_stored(&object(json!({
            "metadata": {"name": format!("p{n}")}, "spec": {"displayName": {"en": format!("P {n}")}, "identities": [format!("p{n}")], "groups": ["sre"]},
        })));
    }
}

fn change(name: &str, objects: usize) -> Value {
    let manifests: Vec<_> = (0..objects)
        .map(|n| {
            json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"value": "new"},
                "metadata": {"name": format!("{name}-{n}"), "namespace": "teller"}})
        })
        .collect();
    json!({
        "metadata": {"name": name, "namespace": "teller", "uid": name, "generation": 1, "resourceVersion": "1"},
        "spec": {"title": "t", "reason": "r", "requester": "alice", "content": {"manifests": manifests}},
    })
}

fn vote(seal: &SealKey, n: u32, digest: &str, now: Timestamp) -> Approval {
    let user = interlock_core::admission::User { name: format!("p{n}"), ..Default::default() };
    let mut spec = json!({
        "changeRequest": "mine", "changeRequestUid": "mine", "digest": digest, "decision": "Approve",
        "approver": format!("p{n}"),
    });
    let request_uid = format!("r{n}");
    let recording = sealed::Recording { user: &user, time: now, request_uid: &request_uid };
    spec["recorded"] = json!(sealed::record(seal, Domain::Approval, "teller", &spec, &recording).expect("a seal"));
    object(json!({
        "metadata": {"name": format!("v{n}"), "namespace": "teller", "uid": format!("v{n}"), "creationTimestamp": now},
        "spec": spec,
    }))
}

fn object<T: DeserializeOwned>(value: Value) -> T {
    let mut value = value;
    value["apiVersion"] = json!(interlock_crds::API_VERSION);
    value["kind"] = json!("");
    serde_json::from_value(value).expect("an object")
}

fn decided(index: &mut Index, request: &Value, base: &BaseState, now: Timestamp) -> interlock_core::change::Decision {
    index.change_stored(&object::<ChangeRequest>(request.clone()));
    let live = index.live("teller/mine").expect("a change");
    event(index, &live, base, now)
}

fn pinned(
    index: &mut Index,
    request: &Value,
    base: &BaseState,
    now: Timestamp,
) -> (interlock_core::change::Decision, interlock_crds::BaseRecord) {
    let decision = decided(index, request, base, now);
    let Next::PinBase(record) = decision.next.clone() else { unreachable!("a new request pins its base") };
    (decision, record)
}

fn event(index: &Index, live: &LiveChange, base: &BaseState, now: Timestamp) -> interlock_core::change::Decision {
    let mut observed = from_index(index, live.request.clone(), live.content.clone(), now);
    observed.base = base.clone();
    decide(&observed.facts_in("cluster"), now)
}

fn rate(index: &Index, base: &BaseState, now: Timestamp) -> f64 {
    let live = index.live("teller/mine").expect("a change");
    let begun = Instant::now();
    let mut count = 0_u32;
    while begun.elapsed().as_millis() < 200 {
        for _ in 0..100 {
            black_box(event(black_box(index), &live, base, now));
        }
        count += 100;
    }
    f64::from(count) / begun.elapsed().as_secs_f64()
}
