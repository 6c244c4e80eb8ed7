//! Who may vote, and what a vote counts for.

use interlock_tests::{
    Options, Patch, Stage, config_map, deployment_image, eventually, patch_of, stage::policy_of, world::SOON,
};
use serde_json::{Value, json};

use crate::{assert_refused, counted, held};

fn greeting(text: &str) -> Value {
    patch_of(config_map("web", &[("greeting", text)]))
}

#[test]
fn a_change_waits_for_two_votes_and_is_carried_out() {
    let stage = Stage::new("main");
    let change = stage.propose("alice", "web-1-1-0", vec![deployment_image("web", "web:1.1.0"), greeting("hi")]);
    let status = change.until("waiting", |s| s["waitingFor"] == "Approval");
    assert_eq!(status["phase"], "Pending");
    change.vote("bob").unwrap();
    change.until("one vote", |s| counted(s, "Approves") == 1);
    assert_eq!(change.phase(), "Pending");
    assert_eq!(stage.image("web"), "web:1.0.0");
    change.vote("carol").unwrap();
    change.wait("Succeeded");
    assert_eq!(stage.image("web"), "web:1.1.0");
    assert_eq!(stage.data("web"), json!({"greeting": "hi", "old": "value"}));
}

#[test]
fn a01_nobody_approves_their_own_change() {
    let stage = Stage::new("a01");
    // erin is in sre, so only that it is her own change speaks against her.
    let change = stage.propose("erin", "own", vec![greeting("hi")]);
    assert_refused(change.vote("erin"), 403, "SelfApproval");
    change.vote("bob").unwrap();
    let status = change.until("one vote", |s| counted(s, "Approves") == 1);
    assert_eq!(status["votes"].as_array().unwrap().len(), 1);
    assert_eq!(status["phase"], "Pending");
}

#[test]
fn a03_a_second_identity_is_the_same_person() {
    let stage = Stage::new("a03");
    let change = stage.propose("alice", "second", vec![greeting("hi")]);
    assert_refused(change.vote("alice-admin"), 403, "SamePerson");
    assert_refused(change.vote("mallory"), 403, "UnknownPerson");
    // dave is known, but in no group that may vote.
    assert_refused(change.vote("dave"), 403, "NotInGroup");
    change.vote("bob").unwrap();
    change.vote("bob-admin").unwrap();
    let status = change.until("two votes", |s| s["votes"].as_array().is_some_and(|v| v.len() == 2));
    assert_eq!((counted(&status, "Approves"), counted(&status, "Void")), (1, 1), "{status:#}");
    assert_eq!(status["phase"], "Pending");
    change.vote("erin").unwrap();
    change.wait("Succeeded");
}

#[test]
fn a03_machines_do_not_vote() {
    let stage = Stage::new("a03m");
    let change = stage.propose("alice", "machine", vec![greeting("hi")]);
    let machine = "system:serviceaccount:kube-system:clusterrole-aggregation-controller";
    let vote = change.ballot(machine, "Approve", &change.digest());
    let api = stage.admin().acting_as(machine, &["system:masters"]);
    assert_refused(api.create(&vote), 403, "MachineVote");
}

#[test]
fn a04_an_edit_makes_votes_stale_and_nothing_may_be_written() {
    let stage = Stage::new("a04");
    let old = deployment_image("web", "web:1.1.0");
    let change = stage.propose_with("alice", "edited", vec![old], held());
    change.approve(&["bob", "carol"]);
    change.wait("Scheduled");
    let before = change.digest();
    let edited = stage.request("alice", "edited", vec![deployment_image("web", "web:1.2.0")]);
    let body = json!({"spec": {"content": edited["spec"]["content"]}});
    assert_refused(stage.user("bob").merge(&change.path(), &body), 403, "NotRequester");
    stage.user("alice").merge(&change.path(), &body).unwrap();
    let status = change.until("stale votes", |s| counted(s, "Stale") == 2);
    assert_eq!(status["phase"], "Pending");
    assert_ne!(change.digest(), before);
    // Nobody writes the new content, nor the old, not even the executor.
    let executor = stage.admin().acting_as(&stage.executor(), &["system:masters"]);
    for image in ["web:1.1.0", "web:1.2.0"] {
        let body = json!({"spec": {"template": {"spec": {"containers": [{"name": "main", "image": image}]}}}});
        let path = stage.path("deployments/web");
        assert_refused(stage.user("bob").patch(&path, &Patch::Strategic, &body), 403, "NoApprovedChange");
        assert_refused(executor.patch(&path, &Patch::Strategic, &body), 403, "BeyondChange");
    }
    assert_eq!(stage.image("web"), "web:1.0.0");
    // A vote on the old digest is refused, one on the new counts.
    let replay = change.ballot("bob", "Approve", &before);
    assert_refused(stage.user("bob").create(&replay), 403, "StaleDigest");
    change.approve(&["bob", "carol"]);
    change.wait("Scheduled");
}

#[test]
fn a05_a_saved_vote_counts_for_no_other_request() {
    let stage = Stage::new("a05");
    let change = stage.propose_with("alice", "replayed", vec![greeting("hi")], held());
    change.vote("bob").unwrap();
    let saved = change.ballot("bob", "Approve", &change.digest());
    let request = change.get();
    stage.user("alice").delete(&change.path()).unwrap();
    eventually(SOON, || if stage.exists("changerequests/replayed") { Err("still there".to_owned()) } else { Ok(()) });
    let again = json!({"apiVersion": request["apiVersion"], "kind": request["kind"], "spec": request["spec"],
        "metadata": {"name": "replayed", "namespace": stage.namespace}});
    let again = stage.send(&again).unwrap();
    assert_refused(stage.user("bob").create(&saved), 403, "AnotherChange");
    // Its content is equal, its digest is not.
    let mut moved = saved.clone();
    moved["spec"]["changeRequestUid"] = json!(again.uid);
    again.digest();
    assert_refused(stage.user("bob").create(&moved), 403, "StaleDigest");
    let other = stage.propose_with("alice", "twin", vec![greeting("hi")], held());
    other.digest();
    let mut copied = saved;
    copied["spec"]["changeRequest"] = json!("twin");
    assert_refused(stage.user("bob").create(&copied), 403, "AnotherChange");
    let status = again.until("no votes", |s| s["waitingFor"].is_string());
    assert_eq!(counted(&status, "Approves"), 0, "{status:#}");
}

#[test]
fn a06_a_status_cannot_be_forged() {
    let stage = Stage::new("a06");
    let change = stage.propose("alice", "forged", vec![greeting("hi")]);
    change.digest();
    for status in [json!({"phase": "Succeeded"}), json!({"phase": "Running"}), json!({"votes": []})] {
        let path = format!("{}/status", change.path());
        assert_refused(stage.user("bob").merge(&path, &json!({"status": status})), 403, "StatusIsInterlocks");
    }
    // In the request itself a status is not even read.
    let mut request = stage.request("alice", "born-approved", vec![greeting("hi")]);
    request["status"] =
        json!({"phase": "Scheduled", "votes": [{"approval": "x", "person": "bob", "state": "Approves"}]});
    let born = stage.send(&request).unwrap();
    born.until("waiting", |s| s["phase"] == "Pending" && s["waitingFor"] == "Approval" && s["votes"].is_null());
}

#[test]
fn a07_nobody_votes_in_the_name_of_another() {
    let stage = Stage::new("a07");
    let change = stage.propose("alice", "named", vec![greeting("hi")]);
    let digest = change.digest();
    let forged = change.ballot("bob", "Approve", &digest);
    assert_refused(stage.user("carol").create(&forged), 403, "ApproverMismatch");
    // What stands in `recorded` is replaced by what the API server knows.
    let mut recorded = change.ballot("carol", "Approve", &digest);
    recorded["spec"]["recorded"] = json!({"user": "bob", "groups": ["sre"], "time": "2026-01-01T00:00:00Z",
        "requestUid": "r", "keyId": "k", "seal": "s"});
    let stored = stage.user("carol").create(&recorded).unwrap();
    assert_eq!(stored["spec"]["recorded"]["user"], "carol");
    assert_eq!(stored["spec"]["approver"], "carol");
    // And it cannot be changed afterwards.
    let path = interlock_tests::path_of(&stored);
    let refusal = stage.user("carol").merge(&path, &json!({"spec": {"approver": "bob"}})).unwrap_err();
    assert_eq!(refusal.code, 422, "{refusal}");
    assert!(refusal.message.contains("an Approval cannot be changed"), "{refusal}");
    // A change is requested in one's own name, and commanded in one's own.
    let request = stage.request("bob", "not-mine", vec![greeting("x")]);
    assert_refused(stage.user("alice").create(&request), 403, "RequesterMismatch");
}

/// Two people of this test alone, who vote by what their Person says.
fn wardens(stage: &Stage<'_>) -> [String; 2] {
    ["one", "two"].map(|name| {
        let name = format!("{}-{name}", stage.namespace);
        let person = json!({"apiVersion": "interlock.dev/v1alpha1", "kind": "Person", "metadata": {"name": name},
            "spec": {"displayName": {"en": name}, "identities": [name], "groups": ["wardens"]}});
        stage.admin().create(&person).unwrap();
        name
    })
}

fn edit_person(stage: &Stage<'_>, name: &str, spec: &Value) {
    let path = format!("/apis/interlock.dev/v1alpha1/persons/{name}");
    stage.admin().merge(&path, &json!({"spec": spec})).unwrap();
}

#[test]
fn a09_who_leaves_a_group_no_longer_counts() {
    let stage = Stage::with("a09", Options { policy: policy_of(2, "wardens"), ..Options::default() });
    let people = wardens(&stage);
    let change = stage.propose_with("alice", "left", vec![greeting("hi")], held());
    let vote = |name: &String| eventually(SOON, || change.vote(name).map_err(|e| e.to_string()));
    for name in &people {
        vote(name);
    }
    change.wait("Scheduled");
    edit_person(&stage, &people[0], &json!({"groups": null}));
    let status = change.wait("Pending");
    assert_eq!((counted(&status, "Approves"), counted(&status, "Void")), (1, 1), "{status:#}");
    edit_person(&stage, &people[0], &json!({"groups": ["wardens"]}));
    change.wait("Scheduled");
    edit_person(&stage, &people[0], &json!({"barredGroups": ["wardens"]}));
    change.wait("Pending");
    edit_person(&stage, &people[0], &json!({"barredGroups": null}));
    change.wait("Scheduled");
    // Who is no longer known at all counts for nothing.
    stage.admin().delete(&format!("/apis/interlock.dev/v1alpha1/persons/{}", people[1])).unwrap();
    change.wait("Pending");
}

#[test]
fn a09_a_vote_expires() {
    let mut policy = policy_of(1, "sre");
    policy["types"]["normal"]["approvals"]["maxAge"] = json!("4s");
    let stage = Stage::with("a09e", Options { policy, ..Options::default() });
    let change = stage.propose_with("alice", "aged", vec![greeting("hi")], held());
    change.vote("bob").unwrap();
    change.wait("Scheduled");
    // Time alone takes it away.
    let status = change.wait("Pending");
    assert_eq!((counted(&status, "Approves"), counted(&status, "Expired")), (0, 1), "{status:#}");
    change.vote("bob").unwrap();
    change.wait("Scheduled");
}

#[test]
fn a10_a_rejection_ends_a_change() {
    let stage = Stage::new("a10");
    let change = stage.propose("alice", "rejected", vec![greeting("hi")]);
    change.vote("bob").unwrap();
    change.reject("carol").unwrap();
    let status = change.wait("Rejected");
    assert!(status["message"].as_str().unwrap().contains("carol"), "{status:#}");
    let late = change.ballot("erin", "Approve", status["changeDigest"].as_str().unwrap());
    assert_refused(stage.user("erin").create(&late), 409, "ChangeEnded");
    let edit = json!({"spec": {"title": "another"}});
    assert_refused(stage.user("alice").merge(&change.path(), &edit), 409, "NotEditable");
    assert_eq!(stage.data("web")["greeting"], "hello");
}

#[test]
fn a10_a_running_change_can_only_be_aborted() {
    let stage = Stage::new("a10r");
    let change = stage.propose("alice", "running", vec![deployment_image("web", "web:broken")]);
    change.approve(&["bob", "carol"]);
    let status = change.wait("Running");
    let late = change.ballot("erin", "Reject", status["changeDigest"].as_str().unwrap());
    assert_refused(stage.user("erin").create(&late), 409, "ChangeRunning");
    let edit = json!({"spec": {"title": "another"}});
    assert_refused(stage.user("alice").merge(&change.path(), &edit), 409, "NotEditable");
    // mallory is neither the requester nor an operator.
    assert_refused(change.act("mallory", "Abort"), 403, "NotOperator");
    change.act("erin", "Abort").unwrap();
    change.wait("RolledBack");
    assert_eq!(stage.image("web"), "web:1.0.0");
}

#[test]
fn a11_a_vote_is_withdrawn_before_the_start_only() {
    let stage = Stage::new("a11");
    let change = stage.propose_with("alice", "withdrawn", vec![deployment_image("web", "web:broken")], held());
    let vote = interlock_tests::path_of(&change.vote("bob").unwrap());
    change.vote("carol").unwrap();
    change.wait("Scheduled");
    assert_refused(stage.user("carol").delete(&vote), 403, "NotYourVote");
    stage.user("bob").delete(&vote).unwrap();
    let status = change.wait("Pending");
    assert_eq!(counted(&status, "Approves"), 1);
    // Without the waiting time it is another change.
    stage.user("alice").merge(&change.path(), &json!({"spec": {"schedule": null}})).unwrap();
    change.until("stale", |s| counted(s, "Stale") == 1);
    let vote = interlock_tests::path_of(&change.vote("bob").unwrap());
    change.vote("carol").unwrap();
    change.wait("Running");
    let refusal = assert_refused(stage.user("bob").delete(&vote), 409, "ChangeStarted");
    assert!(refusal.message.contains("interlock abort"), "{refusal}");
    change.act("alice", "Abort").unwrap();
    change.wait("RolledBack");
}

#[test]
fn a11_the_requester_takes_a_change_back() {
    let stage = Stage::new("a11t");
    let change = stage.propose("alice", "taken-back", vec![greeting("hi")]);
    change.digest();
    assert_refused(change.act("bob", "Withdraw"), 403, "NotOperator");
    change.act("alice", "Withdraw").unwrap();
    change.wait("Withdrawn");
}

#[test]
fn a_change_that_is_not_started_in_time_expires() {
    let stage = Stage::new("expires");
    let now: jiff::Timestamp = stage.system()["metadata"]["creationTimestamp"].as_str().unwrap().parse().unwrap();
    let end = now + jiff::SignedDuration::from_secs(8);
    let change =
        stage.propose_with("alice", "late", vec![greeting("hi")], json!({"schedule": {"expiresAt": end.to_string()}}));
    change.wait("Expired");
    assert_refused(
        stage.user("bob").create(&change.ballot("bob", "Approve", &format!("sha256:{}", "0".repeat(64)))),
        409,
        "ChangeEnded",
    );
}
