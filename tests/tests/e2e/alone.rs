//! What disturbs everything else, in clusters of its own: the controller killed, its webhooks gone, the root locked.

use std::{
    io::{Read as _, Seek as _, SeekFrom},
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use interlock_tests::{
    Change, Installation, Options, Stage, World, audit::Event, config_map, eventually, patch_of, path_of, world::SOON,
};
use serde_json::{Value, json};

use crate::assert_refused;

pub const CONTROLLER: &str = "system:serviceaccount:interlock-system:interlock-controller";

/// One test at a time.
pub fn alone() -> MutexGuard<'static, World> {
    // Its controller is killed more than a hundred times, and each time the lease is waited for.
    static WORLD: LazyLock<Mutex<World>> = LazyLock::new(|| {
        Mutex::new(World::up(&Installation { name: "e2e-alone", lease_seconds: 2, ..Installation::default() }))
    });
    let world = WORLD.lock().unwrap_or_else(PoisonError::into_inner);
    // Whatever an earlier test left.
    world.start_controller();
    world
}

/// The audit log from here on.
pub struct Tail(std::fs::File, String);

impl Tail {
    pub fn of(world: &World) -> Self {
        let mut file = std::fs::File::open(world.cluster().audit_log().unwrap()).unwrap();
        file.seek(SeekFrom::End(0)).unwrap();
        Self(file, String::new())
    }

    /// Requests that were finished since the last look.
    pub fn next(&mut self) -> Vec<Event> {
        self.0.read_to_string(&mut self.1).unwrap();
        let end = self.1.rfind('\n').map_or(0, |end| end + 1);
        let lines: String = self.1.drain(..end).collect();
        lines
            .lines()
            .filter(|line| line.contains("\"ResponseComplete\""))
            .filter_map(|line| serde_json::from_str(line).ok())
            .map(Event)
            .collect()
    }
}

/// Something that the controller stored for a change: by itself, or as the executor.
pub fn is_step(event: &Event, stage: &Stage<'_>) -> bool {
    let by_controller = event.0["user"]["username"] == CONTROLLER;
    let resource = event.0["objectRef"]["resource"].as_str().unwrap_or_default();
    let about = event.0["objectRef"]["namespace"] == stage.namespace.as_str() || resource == "secrets";
    by_controller && event.is_stored_write() && about && !matches!(resource, "leases" | "events")
}

/// What the controller stores for a change until that has ended. At each look `each` is told how much it is so far.
pub fn watched(
    stage: &Stage<'_>,
    tail: &mut Tail,
    change: &Change<'_>,
    limit: Duration,
    mut each: impl FnMut(usize),
) -> Vec<Event> {
    let (mut writes, start) = (Vec::new(), Instant::now());
    loop {
        writes.extend(tail.next().into_iter().filter(|event| is_step(event, stage)));
        each(writes.len());
        if change.get()["status"]["finished"].is_object() {
            break;
        }
        assert!(start.elapsed() < limit, "{:#}", change.status());
        thread::sleep(Duration::from_millis(4));
    }
    thread::sleep(Duration::from_millis(50));
    writes.extend(tail.next().into_iter().filter(|event| is_step(event, stage)));
    writes
}

fn small_change(number: usize) -> Vec<Value> {
    vec![
        patch_of(config_map("web", &[("greeting", &format!("hi {number}"))])),
        config_map(&format!("new-{number}"), &[("value", "made")]),
    ]
}

/// Carries out a change and disturbs it once after its `after`-th write; returns how many writes there were.
fn run(stage: &Stage<'_>, number: usize, after: Option<usize>, disturb: impl Fn()) -> usize {
    stage.world.wait_ready();
    let mut tail = Tail::of(stage.world);
    let change = stage.propose("alice", &format!("change-{number}"), small_change(number));
    change.approve(&["bob", "carol"]);
    let mut due = after;
    let writes = watched(stage, &mut tail, &change, SOON, |writes| {
        // It may end before there are so many.
        if due.is_some_and(|after| writes >= after) {
            disturb();
            due = None;
        }
    });
    let status = change.wait("Succeeded");
    assert_eq!(status["run"]["votes"].as_array().unwrap().len(), 2, "{status:#}");
    assert_eq!(stage.data("web")["greeting"], format!("hi {number}"));
    // Each object got its new content by one write of the executor.
    for (name, key, value) in
        [("web", "greeting", format!("hi {number}")), (&format!("new-{number}"), "value", "made".to_owned())]
    {
        let mut versions: Vec<_> = writes
            .iter()
            .filter(|event| {
                event.is_about(&stage.namespace, "configmaps", name) && event.response()["data"][key] == value.as_str()
            })
            .map(|event| {
                assert_eq!(event.user(), stage.executor());
                event.response()["metadata"]["resourceVersion"].as_str().unwrap().to_owned()
            })
            .collect();
        versions.dedup();
        assert_eq!(versions.len(), 1, "disturbed after write {after:?}: {name} was written {versions:?}");
    }
    writes.len()
}

#[test]
fn a24_killed_after_each_write_a_change_is_carried_out_once() {
    let world = alone();
    let stage = Stage::set(&world, "a24", Options::default());
    let undisturbed = run(&stage, 0, None, || ());
    assert!(undisturbed >= 5, "only {undisturbed} writes were seen");
    for kill in 1..=undisturbed {
        run(&stage, kill, Some(kill), || {
            world.kill_controller();
            world.launch_controller();
        });
    }
    println!("killed after each of {undisturbed} writes");
}

#[test]
fn a24_a_leader_that_hangs_is_replaced_and_does_no_harm_when_it_wakes_up() {
    let world = alone();
    let stage = Stage::set(&world, "hangs", Options::default());
    let lease = "/apis/coordination.k8s.io/v1/namespaces/interlock-system/leases/interlock-controller";
    let holder = || world.admin().get(lease).unwrap()["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned();
    let held_by_another_than = |who: &str| {
        eventually(SOON, || match holder() {
            another if !another.is_empty() && another != who => Ok(another),
            same => Err(format!("{same:?} holds the lease")),
        })
    };
    let second = world.second_controller();
    for after in 2..=4 {
        // The second controller leads, the first answers webhooks.
        let first = holder();
        world.kill_controller();
        let leader = held_by_another_than(&first);
        world.start_controller();
        run(&stage, after, Some(after), || second.signal("STOP"));
        held_by_another_than(&leader);
        let written = stage.get("configmaps/web")["metadata"]["resourceVersion"].clone();
        // Awake again in the middle of a pass, it still believes that it leads, until it looks.
        second.signal("CONT");
        run(&stage, after + 10, None, || ());
        assert_ne!(stage.get("configmaps/web")["metadata"]["resourceVersion"], written, "the next change went on");
        assert_eq!(stage.data("web")["greeting"], format!("hi {}", after + 10));
    }
}

#[test]
fn a06_a_status_forged_behind_the_webhooks_back_opens_nothing() {
    let world = alone();
    let stage = Stage::set(&world, "a06", Options::default());
    let change = stage.propose("alice", "forged", vec![patch_of(config_map("web", &[("greeting", "hi")]))]);
    change.vote("bob").unwrap();
    let before = change.until("one vote", |s| crate::counted(s, "Approves") == 1);
    // A real run record of another change, which was approved.
    let real = stage.propose("alice", "real", vec![patch_of(config_map("web", &[("other", "x")]))]);
    real.approve(&["bob", "carol"]);
    let record = real.wait("Succeeded")["run"].clone();
    let configuration = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
    let saved = world.admin().get(configuration).unwrap();
    let saved: Vec<_> = saved["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|c| c["metadata"]["name"].as_str().unwrap().contains("interlock"))
        .cloned()
        .collect();
    assert!(!saved.is_empty());
    for one in &saved {
        world.admin().delete(&format!("{configuration}/{}", one["metadata"]["name"].as_str().unwrap())).unwrap();
    }
    let status = json!({"status": {"phase": "Running", "run": record, "gates": [], "waitingFor": null, "votes": [
        {"approval": "x", "person": "bob", "state": "Approves"}, {"approval": "y", "person": "carol", "state": "Approves"}]}});
    let path = format!("{}/status", change.path());
    eventually(SOON, || world.user("bob").merge(&path, &status).map_err(|e| e.to_string()));
    for one in &saved {
        let mut again = one.clone();
        for field in ["resourceVersion", "uid", "creationTimestamp", "generation", "managedFields"] {
            again["metadata"].as_object_mut().unwrap().remove(field);
        }
        // Not there if the controller put it back first.
        again["apiVersion"] = json!("admissionregistration.k8s.io/v1");
        again["kind"] = json!("ValidatingWebhookConfiguration");
        world.ensure(&again).unwrap();
    }
    // The controller writes what is true, and the executor still may not write.
    let after =
        change.until("the truth", |s| s["phase"] == "Pending" && s["waitingFor"] == "Approval" && s["run"].is_null());
    assert_eq!(after["votes"], before["votes"]);
    let executor = world.admin().acting_as(&stage.executor(), &["system:masters"]);
    let body = json!({"data": {"greeting": "hi"}});
    eventually(SOON, || match executor.merge(&stage.path("configmaps/web?dryRun=All"), &body) {
        Ok(_) => Ok(()),
        Err(refusal) => Err(refusal.to_string()),
    });
    assert_refused(executor.merge(&stage.path("configmaps/web"), &body), 403, "BeyondChange");
    assert_eq!(stage.data("web")["greeting"], "hello");
}

#[test]
fn a21_without_interlock_nothing_governed_is_written_and_the_cluster_lives() {
    let world = alone();
    let stage = Stage::set(&world, "down", Options::default());
    let pods = |stage: &Stage<'_>| stage.get("pods")["items"].as_array().unwrap().clone();
    eventually(SOON, || if pods(&stage).len() == 2 { Ok(()) } else { Err("pods".to_owned()) });
    world.kill_controller();
    let refusal =
        world.user("bob").merge(&stage.path("configmaps/web"), &json!({"data": {"greeting": "x"}})).unwrap_err();
    assert_eq!(refusal.code, 500, "{refusal}");
    assert!(refusal.message.contains("failed calling webhook"), "{refusal}");
    // Other namespaces are not asked about; the autoscaler, the ReplicaSet controller and the kubelet go on.
    world
        .user("bob")
        .create(&json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "free", "namespace": "default"}}))
        .unwrap();
    let autoscaler =
        world.admin().acting_as("system:serviceaccount:kube-system:horizontal-pod-autoscaler", &["system:masters"]);
    autoscaler.merge(&stage.path("deployments/web/scale"), &json!({"spec": {"replicas": 3}})).unwrap();
    // ... the Deployment controller scales its ReplicaSet, that makes a pod, and kwok's kubelet starts it.
    eventually(SOON, || {
        let ready = stage.get("deployments/web")["status"]["readyReplicas"].clone();
        if ready == 3 { Ok(()) } else { Err(format!("{ready} ready")) }
    });
    world.start_controller();
    assert_refused(
        world.user("bob").merge(&stage.path("configmaps/web"), &json!({"data": {"greeting": "x"}})),
        403,
        "NoApprovedChange",
    );
}

#[test]
fn the_governors_are_governed_once_the_root_is_locked() {
    let world = World::up(&Installation { name: "e2e-root", lock: true, ..Installation::default() });
    let person = json!({"apiVersion": "interlock.dev/v1alpha1", "kind": "Person", "metadata": {"name": "grace"},
        "spec": {"displayName": {"en": "Grace"}, "identities": ["grace"], "groups": ["sre"]}});
    // Nobody, the administrator included, adds or changes one by hand.
    eventually(SOON, || match world.admin().create(&person) {
        Err(refusal) if refusal.code == 403 => Ok(()),
        Ok(_) => {
            world.admin().delete(&path_of(&person)).map_err(|e| e.to_string())?;
            Err("a Person was added".to_owned())
        }
        Err(refusal) => Err(refusal.to_string()),
    });
    for path in ["systems/interlock-root", "changepolicies/interlock-root", "persons/bob"] {
        let path = format!("/apis/interlock.dev/v1alpha1/{path}");
        let body = json!({"metadata": {"labels": {"a": "b"}}});
        assert_refused(world.admin().merge(&path, &body), 403, "NoApprovedChange");
        assert_refused(world.admin().delete(&path), 403, "NoApprovedChange");
    }
    // An approved change under the root System does.
    let stage = Stage { world: &world, namespace: "interlock-system".to_owned() };
    let mut request = stage.request("alice", "add-grace", vec![]);
    request["spec"]["content"]["manifests"] = json!([person]);
    let change = stage.send(&request).unwrap();
    assert_refused(change.vote("alice"), 403, "SelfApproval");
    assert_refused(change.vote("erin"), 403, "NotInGroup");
    change.approve(&["bob", "carol"]);
    change.wait("Succeeded");
    assert_eq!(world.admin().get(&path_of(&person)).unwrap()["spec"]["identities"], json!(["grace"]));
}
