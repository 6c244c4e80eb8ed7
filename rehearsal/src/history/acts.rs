//! What people do in random histories, and what they should not.

use interlock_core::admission::User;
use interlock_crds::{API_VERSION, ApprovalDecision, ChangePhase, Verb};
use serde_json::{Value, json};

use super::bank::{PEOPLE, PIPELINE, PLANS, config, deployment};
use crate::people::{Act, Change, own, user};

/// A history: some changes and what becomes of them, and people who interfere.
pub(super) fn of(rng: &mut fastrand::Rng) -> Vec<(i64, Act)> {
    let mut acts = Vec::new();
    for n in 0..rng.usize(1..6) {
        change(rng, n, &mut acts);
    }
    for _ in 0..rng.usize(0..4) {
        acts.push((rng.i64(5_000..200_000), interference(rng)));
    }
    for _ in 0..rng.usize(0..3) {
        acts.push((rng.i64(5_000..120_000), administration(rng)));
    }
    acts.sort_by_key(|(at, _)| *at);
    acts
}

/// Somebody, under one of their user names.
fn somebody(rng: &mut fastrand::Rng) -> User {
    let (_, identities, groups) = PEOPLE[rng.usize(..PEOPLE.len())];
    user(identities[rng.usize(..identities.len())], groups)
}

fn alice() -> User {
    user("alice", &["dev", "sre"])
}

/// A change and what people do about it.
fn change(rng: &mut fastrand::Rng, n: usize, acts: &mut Vec<(i64, Act)>) {
    let namespace = if rng.u8(..4) == 0 { "ledger" } else { "teller" };
    let this = Change { namespace: namespace.to_owned(), name: format!("change-{n}") };
    let born = rng.i64(0..60_000);
    let request = request(rng, &this, n);
    if request.pointer("/spec/content/secretRefs").is_some() {
        acts.push((born - 500, Act::Create(alice(), staged(&this, rng.u8(..4)))));
    }
    acts.push((born, Act::Create(alice(), request.clone())));
    for _ in 0..rng.usize(1..6) {
        let decision = if rng.u8(..) < 20 { ApprovalDecision::Reject } else { ApprovalDecision::Approve };
        acts.push((born + rng.i64(1_000..40_000), Act::Vote(somebody(rng), this.clone(), decision)));
    }
    if rng.u8(..4) == 0 {
        // One person under two names.
        for (after, name) in [(15_000, "bob"), (20_000, "bob@bank")] {
            acts.push((born + after, Act::Vote(user(name, &["sre"]), this.clone(), ApprovalDecision::Approve)));
        }
    }
    if rng.u8(..4) > 0 {
        let by = if rng.u8(..8) == 0 { user("mallory", &["dev"]) } else { user(PIPELINE, &["ci"]) };
        acts.push((born + rng.i64(500..30_000), Act::Evidence(by, this.clone(), rng.u8(..8) > 0)));
    }
    for _ in 0..rng.usize(0..3) {
        let at = born + rng.i64(2_000..90_000);
        let verbs = [Verb::Abort, Verb::Rollback, Verb::Pause, Verb::Resume, Verb::Withdraw, Verb::Rebase];
        let act = match rng.u8(..9) {
            0 => Act::Patch(alice(), this.id(), json!({"spec": {"content": {"manifests": manifests(rng, &this, n)}}})),
            1 => Act::WithdrawVote(somebody(rng), this.clone()),
            2 => {
                // Made again under the same name, with the votes of the old one.
                acts.push((at + 2_000, Act::Create(alice(), request.clone())));
                acts.push((at + 4_000, Act::CopyVote(user("mallory", &["dev", "sre"]), this.clone())));
                Act::Delete(alice(), this.id())
            }
            _ => Act::Command(somebody(rng), this.clone(), verbs[rng.usize(..verbs.len())], "a history".to_owned()),
        };
        acts.push((at, act));
    }
    if rng.bool() {
        // A person looks at it later and decides what was left open.
        acts.push((born + 300_000, Act::Command(user("bob", &["sre"]), this, Verb::Rollback, "enough".to_owned())));
    }
}

fn request(rng: &mut fastrand::Rng, this: &Change, n: usize) -> Value {
    let is_standard = this.namespace == "teller" && rng.u8(..6) == 0;
    let manifests = if is_standard { vec![scaled(rng)] } else { manifests(rng, this, n) };
    let mut spec = json!({
        "title": this.name, "reason": "a history", "requester": "alice", "progressDeadline": "20s",
        "content": {"manifests": manifests},
    });
    if is_standard {
        spec["type"] = json!("Standard");
    } else if rng.u8(..6) == 0 {
        // The uid is filled in when the request is made.
        spec["content"]["secretRefs"] =
            json!([{"name": format!("{}-staged-1", this.name), "target": "db", "keys": ["password"]}]);
    }
    if n > 0 && rng.u8(..5) == 0 {
        spec["dependsOn"] = json!([{"name": format!("change-{}", n - 1)}]);
    }
    if this.namespace == "teller" && !is_standard && rng.u8(..2) == 0 {
        spec["rolloutPlanRef"] = json!({"name": PLANS[rng.usize(..PLANS.len())]});
    }
    if rng.u8(..) < 40 {
        spec["contingency"] = json!({"onFailure": "Pause"});
    }
    json!({
        "apiVersion": API_VERSION, "kind": "ChangeRequest",
        "metadata": {"name": this.name, "namespace": this.namespace}, "spec": spec,
    })
}

fn staged(this: &Change, value: u8) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "interlock.dev/staged", "immutable": true,
        "metadata": {"name": format!("{}-staged-1", this.name), "namespace": this.namespace},
        "data": {"password": format!("AAA{value}")},
    })
}

/// Inside the bank's template, mostly.
fn scaled(rng: &mut fastrand::Rng) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {
            "name": format!("web-{}", rng.u8(..2)), "namespace": "teller",
            "annotations": {"interlock.dev/operation": "Patch"},
        },
        "spec": {"replicas": rng.u8(2..7)},
    })
}

fn manifests(rng: &mut fastrand::Rng, this: &Change, n: usize) -> Vec<Value> {
    let mut objects: Vec<Value> = Vec::new();
    let mut taken = std::collections::BTreeSet::new();
    let kinds = if this.namespace == "teller" { 6 } else { 4 };
    for _ in 0..rng.usize(1..5) {
        let which = rng.usize(..kinds);
        if !taken.insert(which) {
            continue;
        }
        let value = format!("v{n}-{}", rng.u8(..4));
        objects.push(match which {
            0..=2 => {
                let mut object = config(&this.namespace, which, &value);
                match rng.u8(..4) {
                    0 => object["metadata"]["annotations"] = json!({"interlock.dev/operation": "Patch"}),
                    1 => object["metadata"]["annotations"] = json!({"interlock.dev/operation": "Delete"}),
                    _ => {}
                }
                object
            }
            3 => config(&this.namespace, 10 + n, &value),
            _ => {
                let tag = if rng.u8(..4) == 0 { "bad" } else { ["one", "two"][rng.usize(..2)] };
                let mut web = deployment(&format!("web-{}", which - 4), &format!("web:{tag}"));
                web["metadata"]["annotations"] = json!({"interlock.dev/operation": "Patch"});
                web
            }
        });
    }
    objects
}

/// What somebody does who should not, or need not.
fn interference(rng: &mut fastrand::Rng) -> Act {
    let mallory = user("mallory", &["dev"]);
    let target = config("teller", rng.usize(..3), "mallory was here");
    let id = interlock_core::object::ObjectId::of(&target);
    let change = Change { namespace: "teller".to_owned(), name: format!("change-{}", rng.u8(..4)) };
    match (rng.u8(..5), id) {
        (0, Ok(id)) => Act::Patch(mallory, id, json!({"data": {"value": "mallory was here"}})),
        (1, Ok(id)) => Act::Delete(mallory, id),
        (2 | 3, _) => {
            let phases = [ChangePhase::Running, ChangePhase::Scheduled, ChangePhase::Succeeded];
            Act::Forge(change, phases[rng.usize(..3)])
        }
        _ => Act::Apply(mallory, target),
    }
}

/// What an administrator does meanwhile.
fn administration(rng: &mut fastrand::Rng) -> Act {
    let admin = user("admin", &["system:masters"]);
    let voter = PEOPLE[rng.usize(1..4)].0;
    match rng.u8(..3) {
        0 | 1 => Act::Patch(admin, own("Person", "", voter), json!({"spec": {"barredGroups": ["sre"]}})),
        _ => {
            let thresholds = json!([{"name": "peers", "count": rng.u8(1..4), "groups": ["sre"]}]);
            let patch = json!({"spec": {"types": {"normal": {"approvals": {"thresholds": thresholds}}}}});
            Act::Patch(admin, own("ChangePolicy", "", "bank"), patch)
        }
    }
}
