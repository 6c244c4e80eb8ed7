//! How a change is carried out, and how it goes back.

use interlock_tests::{
    Options, Stage, config_map, deployment, deployment_image, objects::operation, patch_of, stage::policy_of,
};
use serde_json::{Value, json};

use crate::{assert_refused, held};

fn one_vote() -> Options {
    Options { policy: policy_of(1, "sre"), ..Options::default() }
}

fn greeting(text: &str) -> Value {
    patch_of(config_map("web", &[("greeting", text)]))
}

/// The object without what the server and its controllers keep about it.
fn meaning(object: &Value) -> Value {
    let mut object = object.clone();
    object.as_object_mut().unwrap().remove("status");
    let metadata = object["metadata"].as_object_mut().unwrap();
    for field in ["managedFields", "resourceVersion", "generation", "uid", "creationTimestamp"] {
        metadata.remove(field);
    }
    if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.remove("deployment.kubernetes.io/revision");
    }
    object
}

#[test]
fn a_change_that_fails_goes_back_by_itself() {
    let stage = Stage::new("fails");
    let before = ["deployments/web", "configmaps/web"].map(|what| meaning(&stage.get(what)));
    let change = stage.propose_with(
        "alice",
        "bad",
        vec![greeting("bad"), deployment_image("web", "web:broken"), config_map("new", &[("a", "b")])],
        json!({"progressDeadline": "10s"}),
    );
    change.approve(&["bob", "carol"]);
    let status = change.wait("RolledBack");
    assert!(status["message"].as_str().unwrap().contains("was not healthy within 10 s"), "{status:#}");
    let after = ["deployments/web", "configmaps/web"].map(|what| meaning(&stage.get(what)));
    assert_eq!(before, after);
    assert!(!stage.exists("configmaps/new"));
}

#[test]
fn two_hundred_objects_are_one_change() {
    let stage = Stage::with("many", one_vote());
    let objects: Vec<_> = (0..200).map(|n| config_map(&format!("many-{n}"), &[("value", "made")])).collect();
    let change = stage.propose("alice", "many", objects);
    change.approve(&["bob"]);
    change.wait("Succeeded");
    let writes = stage.world.audit(&format!("/changerequests/{}/status", change.name));
    let writes = writes.iter().filter(|event| event.is_stored_write()).count();
    assert!(writes <= 6, "200 objects took {writes} writes of status");
    let labelled = stage.get("configmaps")["items"].as_array().unwrap().len();
    assert!(labelled >= 200, "{labelled}");
}

#[test]
fn without_its_before_state_a_change_says_so_and_can_be_given_up() {
    let stage = Stage::with("lost", one_vote());
    let change = stage.propose("alice", "lost", vec![deployment_image("web", "web:broken")]);
    change.approve(&["bob"]);
    change.until("the write", |s| s["message"].as_str().is_some_and(|m| m.contains("pods")));
    let secrets = "/api/v1/namespaces/interlock-system/secrets";
    let uid = change.get()["metadata"]["uid"].as_str().unwrap().to_owned();
    let stored = stage.admin().get(&format!("{secrets}?labelSelector=interlock.dev%2Fchange-uid%3D{uid}")).unwrap();
    for secret in stored["items"].as_array().unwrap() {
        stage.admin().delete(&format!("{secrets}/{}", secret["metadata"]["name"].as_str().unwrap())).unwrap();
    }
    // Anything that happens to the object wakes the change.
    stage
        .admin()
        .acting_as("system:serviceaccount:kube-system:horizontal-pod-autoscaler", &["system:masters"])
        .merge(&stage.path("deployments/web/scale"), &json!({"spec": {"replicas": 1}}))
        .unwrap();
    change.until("the loss", |s| s["message"].as_str().is_some_and(|m| m.contains("neither on nor back")));
    change.act("alice", "Abort").unwrap();
    let status = change.wait("Failed");
    assert!(status["message"].as_str().unwrap().contains("restore it from a backup"), "{status:#}");
}

#[test]
fn a_manifest_is_the_whole_and_a_patch_is_a_part() {
    let stage = Stage::with("apply", one_vote());
    // kubectl-applied before: what a later manifest leaves out goes.
    let part = stage.propose("alice", "part", vec![greeting("part")]);
    part.approve(&["bob"]);
    part.wait("Succeeded");
    assert_eq!(stage.data("web"), json!({"greeting": "part", "old": "value"}));
    let whole = stage.propose("alice", "whole", vec![config_map("web", &[("greeting", "whole")])]);
    whole.approve(&["bob"]);
    whole.wait("Succeeded");
    assert_eq!(stage.data("web"), json!({"greeting": "whole"}));
    // The annotation itself is an instruction, not content.
    assert!(stage.get("configmaps/web")["metadata"]["annotations"]["interlock.dev/operation"].is_null());
}

#[test]
fn objects_are_created_and_deleted() {
    let stage = Stage::with("create", one_vote());
    let change = stage.propose(
        "alice",
        "swap",
        vec![
            operation(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "web"}}), "Delete"),
            config_map("fresh", &[("a", "b")]),
            deployment("second", "second:1.0.0"),
        ],
    );
    change.approve(&["bob"]);
    change.wait("Succeeded");
    assert!(!stage.exists("configmaps/web"));
    assert_eq!(stage.data("fresh"), json!({"a": "b"}));
    assert_eq!(stage.get("deployments/second")["status"]["readyReplicas"], 2);
}

#[test]
fn a_deletion_goes_back_too() {
    let stage = Stage::with("undelete", one_vote());
    let before = meaning(&stage.get("configmaps/web"));
    let change = stage.propose_with(
        "alice",
        "swap",
        vec![
            operation(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "web"}}), "Delete"),
            deployment("second", "second:broken"),
        ],
        json!({"progressDeadline": "60s"}),
    );
    change.approve(&["bob"]);
    change.wait("Running");
    change.act("alice", "Abort").unwrap();
    change.wait("RolledBack");
    assert_eq!(meaning(&stage.get("configmaps/web")), before);
    assert!(!stage.exists("deployments/second"));
}

#[test]
fn with_on_failure_pause_a_person_decides() {
    let stage = Stage::with("pause", one_vote());
    let pause = json!({"progressDeadline": "3s", "contingency": {"onFailure": "Pause", "runbook": "docs/web.md"}});
    let change = stage.propose_with(
        "alice",
        "paused",
        vec![greeting("hi"), deployment_image("web", "web:broken")],
        pause.clone(),
    );
    change.approve(&["bob"]);
    change.wait("Paused");
    assert_eq!(stage.image("web"), "web:broken");
    assert_refused(change.act("dave", "Rollback"), 403, "NotOperator");
    change.act("carol", "Rollback").unwrap();
    change.wait("RolledBack");
    assert_eq!(stage.image("web"), "web:1.0.0");
    assert_eq!(stage.data("web")["greeting"], "hello");
    // Or it is tried again, when what was wrong is put right: here the pods become healthy by themselves.
    let change = stage.propose_with("alice", "resumed", vec![deployment_image("web", "web:broken")], pause);
    change.approve(&["bob"]);
    change.wait("Paused");
    let pods = stage.get("pods");
    for pod in pods["items"].as_array().unwrap() {
        let path = stage.path(&format!("pods/{}", pod["metadata"]["name"].as_str().unwrap()));
        let body = json!({"metadata": {"labels": {"interlock.dev/test-behaviour": "healthy"}}});
        // The kubelet's side of the simulation; the ReplicaSet controller may label its pods.
        let controller = "system:serviceaccount:kube-system:replicaset-controller";
        stage.admin().acting_as(controller, &["system:masters"]).merge(&path, &body).unwrap();
    }
    change.act("carol", "Resume").unwrap();
    change.until("not paused", |s| s["phase"] != "Paused");
    change.act("alice", "Abort").ok();
    change.until("an end", |s| s["finished"].is_object());
}

#[test]
fn contingency_jobs_run_after_the_objects_were_put_back() {
    let stage = Stage::with("jobs", one_vote());
    let job = json!({"name": "schema-down", "spec": {"template": {"spec": {"restartPolicy": "Never",
        "containers": [{"name": "down", "image": "down:1"}]}}}});
    let change = stage.propose_with(
        "alice",
        "with-job",
        vec![deployment_image("web", "web:broken")],
        json!({"progressDeadline": "15s", "contingency": {"jobs": [job]}}),
    );
    change.approve(&["bob"]);
    let status = change.wait("RolledBack");
    let jobs = stage.get("jobs");
    let jobs = jobs["items"].as_array().unwrap();
    assert_eq!(jobs.len(), 1, "{status:#}");
    assert!(jobs[0]["metadata"]["name"].as_str().unwrap().contains("schema-down"));
    assert_eq!(jobs[0]["status"]["succeeded"], 1);
    let journal = status["run"]["objects"].as_array().unwrap();
    assert!(journal.iter().any(|entry| entry["kind"] == "Job" && entry["operation"] == "RunJob"), "{journal:#?}");
}

#[test]
fn a13_a_running_change_is_not_deleted() {
    let stage = Stage::with("a13", one_vote());
    let waiting = stage.propose_with("alice", "waiting", vec![greeting("hi")], held());
    let change = stage.propose("alice", "running", vec![deployment_image("web", "web:broken")]);
    change.approve(&["bob"]);
    change.wait("Running");
    let refusal = assert_refused(stage.user("alice").delete(&change.path()), 403, "ChangeRunning");
    assert!(refusal.message.contains("interlock abort cr/running"), "{refusal}");
    assert_refused(stage.user("alice").delete(&stage.path("changerequests")), 403, "ChangeRunning");
    assert!(stage.exists("changerequests/running"));
    // A garbage collector that somebody points at it with an ownerReference is no way round.
    let collector =
        stage.admin().acting_as("system:serviceaccount:kube-system:generic-garbage-collector", &["system:masters"]);
    assert_refused(collector.delete(&change.path()), 403, "ChangeRunning");
    if stage.exists("changerequests/waiting") {
        stage.user("alice").delete(&waiting.path()).unwrap();
    }
    change.act("alice", "Abort").unwrap();
    change.wait("RolledBack");
    stage.user("alice").delete(&change.path()).unwrap();
}

#[test]
fn a13_a_namespace_can_be_taken_down_while_a_change_runs() {
    let stage = Stage::with("a13n", one_vote());
    let change = stage.propose("alice", "running", vec![deployment_image("web", "web:broken")]);
    change.approve(&["bob"]);
    change.wait("Running");
    let path = format!("/api/v1/namespaces/{}", stage.namespace);
    assert_refused(stage.user("bob").delete(&path), 403, "NamespaceGoverned");
    // Its System lets go of it; what is left is teardown.
    let system = format!("/apis/interlock.dev/v1alpha1/systems/{}", stage.namespace);
    stage.admin().merge(&system, &json!({"spec": {"namespaces": null}})).unwrap();
    interlock_tests::eventually(interlock_tests::world::SOON, || match stage.admin().delete(&path) {
        Ok(_) => Err("is being deleted".to_owned()),
        Err(refusal) if refusal.code == 404 => Ok(()),
        Err(refusal) => Err(refusal.to_string()),
    });
}

#[test]
fn what_somebody_else_changed_since_the_vote_stops_a_change() {
    let stage = Stage::with("moved", one_vote());
    let change = stage.propose("alice", "moved", vec![greeting("hi")]);
    let seen = change.digest();
    // Another change gets there first.
    let other = stage.propose("carol", "first", vec![greeting("first")]);
    other.approve(&["bob"]);
    other.wait("Succeeded");
    stage.user("bob").create(&change.ballot("bob", "Approve", &seen)).unwrap();
    change.wait_gate("Precondition", "BaseChanged");
    assert_eq!(stage.data("web")["greeting"], "first");
    assert_refused(change.act("bob", "Rebase"), 403, "NotOperator");
    change.act("alice", "Rebase").unwrap();
    change.until("a stale vote", |s| crate::counted(s, "Stale") == 1);
    change.vote("bob").unwrap();
    change.wait("Succeeded");
    assert_eq!(stage.data("web")["greeting"], "hi");
}

#[test]
fn changes_wait_for_what_they_depend_on_and_for_each_other() {
    let stage = Stage::with("depends", one_vote());
    let second =
        stage.propose_with("alice", "second", vec![greeting("second")], json!({"dependsOn": [{"name": "first"}]}));
    second.approve(&["bob"]);
    second.until("waiting", |s| s["waitingFor"].as_str().is_some_and(|w| w.contains("Dependency")));
    let first = stage.propose("alice", "first", vec![patch_of(config_map("web", &[("first", "yes")]))]);
    first.approve(&["bob"]);
    first.wait("Succeeded");
    second.wait("Succeeded");
    assert_eq!(stage.data("web"), json!({"greeting": "second", "old": "value", "first": "yes"}));
    // Two changes of one object: who runs first wins.
    let blocking = stage.propose("alice", "blocking", vec![deployment_image("web", "web:broken"), greeting("third")]);
    let blocked = stage.propose("alice", "blocked", vec![greeting("fourth")]);
    blocking.approve(&["bob"]);
    blocking.wait("Running");
    blocked.approve(&["bob"]);
    blocked.until("waiting", |s| s["waitingFor"].as_str().is_some_and(|w| w.contains("Collision")));
    blocking.act("alice", "Abort").unwrap();
    blocking.wait("RolledBack");
}
