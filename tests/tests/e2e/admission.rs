//! What is denied without an approved change, and what never is.

use interlock_tests::{
    Api, Options, Patch, Stage, config_map, deployment, eventually, patch_of, path_of, stage::policy_of, world::SOON,
};
use serde_json::{Value, json};

use crate::assert_refused;

fn controller(stage: &Stage<'_>, name: &str) -> Api {
    stage.admin().acting_as(&format!("system:serviceaccount:kube-system:{name}"), &["system:masters"])
}

#[test]
fn a14_an_edit_without_a_change_is_denied_with_a_hint() {
    let stage = Stage::new("a14");
    let path = stage.path("deployments/web");
    let body = json!({"spec": {"replicas": 5}});
    let refusal = assert_refused(stage.user("bob").merge(&path, &body), 403, "NoApprovedChange");
    assert!(refusal.message.contains("interlock propose -f FILE"), "{refusal}");
    // Where a change with the object waits, the answer names it.
    let change = stage.propose(
        "alice",
        "five",
        vec![patch_of(json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web"}, "spec": {"replicas": 5}}))],
    );
    change.until("waiting", |s| s["waitingFor"] == "Approval");
    eventually(SOON, || {
        let refusal = assert_refused(stage.user("bob").merge(&path, &body), 403, "NoApprovedChange");
        let hint = format!("interlock why cr/five -n {}", stage.namespace);
        let named = refusal.message.contains(&hint) && refusal.message.contains("waits for Approval");
        if named { Ok(()) } else { Err(refusal.message) }
    });
    // With kubectl it reads the same.
    let (well, text) =
        stage.world.kubectl("bob", &["-n", &stage.namespace, "set", "image", "deployment/web", "main=web:9"], "");
    assert!(!well && text.contains("five"), "{text}");
    assert_eq!(stage.image("web"), "web:1.0.0");
}

#[test]
fn a14_other_namespaces_are_left_alone() {
    let stage = Stage::new("a14o");
    let namespace = format!("{}-free", stage.namespace);
    stage.admin().create(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})).unwrap();
    let mut object = deployment("web", "web:1");
    object["metadata"]["namespace"] = json!(namespace);
    stage.user("bob").create(&object).unwrap();
    stage.user("bob").merge(&path_of(&object), &json!({"spec": {"replicas": 1}})).unwrap();
    stage.user("bob").delete(&path_of(&object)).unwrap();
}

#[test]
fn a15_scaling_by_any_road_is_denied_but_the_autoscaler_scales() {
    let stage = Stage::new("a15");
    let bob = stage.user("bob");
    let scale = stage.path("deployments/web/scale");
    assert_refused(bob.merge(&scale, &json!({"spec": {"replicas": 7}})), 403, "NoApprovedChange");
    let mut whole = stage.get("deployments/web/scale");
    whole["spec"]["replicas"] = json!(7);
    // Otherwise it conflicts with the controllers, which write the Deployment's status.
    whole["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    assert_refused(bob.replace(&scale, &whole), 403, "NoApprovedChange");
    let namespace = stage.namespace.as_str();
    let (well, text) = stage.world.kubectl("bob", &["scale", "deployment/web", "--replicas=7", "-n", namespace], "");
    assert!(!well && text.contains("governed by Interlock"), "{text}");
    // kubectl hides why: it tries an older version next.
    let (well, text) =
        stage.world.kubectl("bob", &["autoscale", "deployment/web", "--min=1", "--max=9", "-n", namespace], "");
    assert!(!well, "{text}");
    assert_eq!(stage.get("horizontalpodautoscalers")["items"], json!([]));
    // Nor does the name of Interlock's own field manager help.
    let apply =
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {"replicas": 7}});
    for manager in ["interlock", "kube-controller-manager"] {
        let answer = bob.patch(&stage.path("deployments/web"), &Patch::Apply(manager), &apply);
        assert_refused(answer, 403, "NoApprovedChange");
    }
    // Nor the group of masters.
    assert_refused(stage.admin().merge(&scale, &json!({"spec": {"replicas": 7}})), 403, "NoApprovedChange");
    let autoscaler = controller(&stage, "horizontal-pod-autoscaler");
    autoscaler.merge(&scale, &json!({"spec": {"replicas": 3}})).unwrap();
    assert_eq!(stage.get("deployments/web")["spec"]["replicas"], 3);
    // It scales, and nothing else.
    let body = json!({"metadata": {"annotations": {"x": "y"}}});
    assert_refused(autoscaler.merge(&stage.path("deployments/web"), &body), 403, "NoApprovedChange");
}

#[test]
fn a16_every_verb_gets_the_same_answer() {
    let hpa = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "web"},
        "spec": {"minReplicas": 2, "maxReplicas": 4, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "other"}}});
    let mut options = Options::default();
    options.objects.push(hpa);
    let stage = Stage::with("a16", options);
    let bob = stage.user("bob");
    let map = stage.path("configmaps/web");
    let mut whole = stage.get("configmaps/web");
    whole["data"]["greeting"] = json!("forged");
    let apply =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "web"}, "data": {"greeting": "forged"}});
    let generated = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "web-"}, "data": {}});
    let old_version = stage.path("horizontalpodautoscalers/web").replace("/v2/", "/v1/");
    let answers = [
        ("replace", bob.replace(&map, &whole)),
        ("merge patch", bob.merge(&map, &json!({"data": {"greeting": "forged"}}))),
        (
            "JSON patch",
            bob.patch(&map, &Patch::Json, &json!([{"op": "replace", "path": "/data/greeting", "value": "forged"}])),
        ),
        ("strategic patch", bob.patch(&map, &Patch::Strategic, &json!({"data": {"greeting": "forged"}}))),
        ("apply", bob.patch(&map, &Patch::Apply("bob"), &apply)),
        ("create", bob.post(&stage.path("configmaps"), &generated)),
        ("delete", bob.delete(&map)),
        ("delete all", bob.delete(&stage.path("configmaps"))),
        ("older version", bob.merge(&old_version, &json!({"spec": {"maxReplicas": 40}}))),
        ("label", bob.merge(&map, &json!({"metadata": {"labels": {"a": "b"}}}))),
        (
            "owner",
            bob.merge(
                &map,
                &json!({"metadata": {"ownerReferences": [
            {"apiVersion": "v1", "kind": "ConfigMap", "name": "probe", "uid": whole["metadata"]["uid"]}]}}),
            ),
        ),
    ];
    for (verb, answer) in answers {
        let refusal = answer.err().unwrap_or_else(|| panic!("{verb} was allowed"));
        assert_eq!((refusal.code, refusal.reason.as_str()), (403, "NoApprovedChange"), "{verb}: {refusal}");
    }
    assert_eq!(stage.data("web"), json!({"greeting": "hello", "old": "value"}));
    // A write that changes nothing needs nobody's leave.
    bob.merge(&map, &json!({"data": {"greeting": "hello"}})).unwrap();
}

#[test]
fn a18_owner_references_open_nothing() {
    let mut kept = config_map("kept", &[("a", "b")]);
    kept["metadata"]["finalizers"] = json!(["example.com/keep"]);
    let mut options = Options::default();
    options.objects.push(kept);
    let stage = Stage::with("a18", options);
    let sets = eventually(SOON, || {
        let sets = stage.get("replicasets");
        if sets["items"].as_array().is_some_and(|items| !items.is_empty()) {
            Ok(sets)
        } else {
            Err("no ReplicaSet".to_owned())
        }
    });
    let set = &sets["items"][0]["metadata"];
    let pod = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "forged", "namespace": stage.namespace, "labels": set["labels"], "ownerReferences": [
            {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": set["name"], "uid": set["uid"], "controller": true}]},
        "spec": {"containers": [{"name": "main", "image": "evil:1"}]}});
    assert_refused(stage.user("bob").create(&pod), 403, "NoApprovedChange");
    let mut real = pod.clone();
    real["metadata"]["name"] = json!("real");
    // One pod too many: the controller that made it takes it away again, and may.
    controller(&stage, "replicaset-controller").create(&real).unwrap();
    eventually(SOON, || {
        let live = stage.get("pods");
        let count = live["items"].as_array().unwrap().len();
        if count == 2 { Ok(()) } else { Err(format!("{count} pods")) }
    });
    // The garbage collector deletes; whoever holds the finalizer removes it, and no more.
    let path = stage.path("configmaps/kept");
    controller(&stage, "generic-garbage-collector").delete(&path).unwrap();
    assert!(stage.get("configmaps/kept")["metadata"]["deletionTimestamp"].is_string());
    let both = json!({"metadata": {"finalizers": null}, "data": {"a": "changed"}});
    assert_refused(stage.user("bob").merge(&path, &both), 403, "NoApprovedChange");
    stage.user("bob").merge(&path, &json!({"metadata": {"finalizers": null}})).unwrap();
    assert!(!stage.exists("configmaps/kept"));
    // What the cluster itself writes is never looked at.
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": "l", "namespace": stage.namespace}, "spec": {"holderIdentity": "bob"}});
    stage.user("bob").create(&lease).unwrap();
}

#[test]
fn a19_the_enrolment_labels_are_interlocks() {
    let stage = Stage::new("a19");
    let bob = stage.user("bob");
    let path = format!("/api/v1/namespaces/{}", stage.namespace);
    let labels = stage.admin().get(&path).unwrap()["metadata"]["labels"].clone();
    let own: Vec<String> =
        labels.as_object().unwrap().keys().filter(|key| key.starts_with("interlock.dev/")).cloned().collect();
    assert!(own.len() >= 2, "{labels}");
    for label in &own {
        for value in [Value::Null, json!("audit"), json!("another")] {
            let mut changed = serde_json::Map::new();
            changed.insert(label.clone(), value);
            assert_refused(bob.merge(&path, &json!({"metadata": {"labels": changed}})), 403, "EnrolmentLabel");
        }
        let mut labelled = serde_json::Map::new();
        labelled.insert(label.clone(), labels[label].clone());
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": format!("{}-claims", stage.namespace), "labels": labelled}});
        assert_refused(bob.create(&namespace), 403, "EnrolmentLabel");
    }
    // Other labels are anybody's.
    bob.merge(&path, &json!({"metadata": {"labels": {"team": "web"}}})).unwrap();
    assert_refused(bob.delete(&path), 403, "NamespaceGoverned");
}

#[test]
fn a23_a_dry_run_is_answered_and_stores_nothing() {
    let stage = Stage::new("a23");
    let body = json!({"data": {"greeting": "forged"}});
    let path = format!("{}?dryRun=All", stage.path("configmaps/web"));
    let answer = stage.user("bob").send("PATCH", &path, "application/merge-patch+json", Some(&body)).unwrap();
    assert_eq!(answer.object["data"]["greeting"], "forged");
    let warnings = answer.warnings.join("\n");
    assert!(warnings.contains("Interlock will deny this without --dry-run"), "{warnings:?}");
    assert_eq!(stage.data("web")["greeting"], "hello");
    // kubectl diff: exit code 1 means that there is a difference, above that it failed.
    let manifest = stage.placed(config_map("web", &[("greeting", "other")])).to_string();
    let (_, text) = stage.world.kubectl("bob", &["diff", "-f", "-"], &manifest);
    assert!(text.contains("+  greeting: other"), "{text}");
    let (well, text) = stage.world.kubectl(
        "bob",
        &["apply", "--server-side", "--dry-run=server", "--force-conflicts", "-f", "-"],
        &manifest,
    );
    assert!(well && text.contains("Interlock will deny this without --dry-run"), "{text}");
    // A vote on trial is no vote, and its denial is told as a warning.
    let change = stage.propose("alice", "tried", vec![patch_of(config_map("web", &[("greeting", "hi")]))]);
    let digest = change.digest();
    let votes = format!("{}?dryRun=All", stage.path("approvals"));
    for user in ["bob", "carol"] {
        stage.user(user).post(&votes, &change.ballot(user, "Approve", &digest)).unwrap();
    }
    let own = change.ballot("alice", "Approve", &digest);
    let answer = stage.user("alice").send("POST", &votes, "application/json", Some(&own)).unwrap();
    assert!(answer.warnings.join("").contains("asked for this change"), "{:?}", answer.warnings);
    assert_eq!(stage.get("approvals")["items"], json!([]));
    change.stays("Pending", std::time::Duration::from_millis(500));
    assert!(change.status()["votes"].is_null());
}

#[test]
fn modes_audit_and_warn_let_writes_pass() {
    for (mode, warns) in [("Audit", false), ("Warn", true)] {
        let name = mode.to_lowercase();
        let stage = Stage::with(&name, Options { system: json!({"mode": mode}), ..Options::default() });
        eventually(SOON, || {
            let path = format!("/api/v1/namespaces/{}", stage.namespace);
            let labels = stage.admin().get(&path).unwrap()["metadata"]["labels"].clone();
            let mut marked =
                labels.as_object().into_iter().flatten().filter(|(key, _)| key.starts_with("interlock.dev/"));
            if marked.any(|(_, value)| value == &name) { Ok(()) } else { Err(labels.to_string()) }
        });
        let text = std::cell::Cell::new(0);
        let warnings = eventually(SOON, || {
            text.set(text.get() + 1);
            let body = json!({"data": {"greeting": text.get().to_string()}});
            let path = stage.path("configmaps/web");
            let answer = stage.user("bob").send("PATCH", &path, "application/merge-patch+json", Some(&body)).unwrap();
            if warns && answer.warnings.is_empty() { Err("no warning".to_owned()) } else { Ok(answer.warnings) }
        });
        assert_eq!(!warnings.is_empty(), warns, "{mode}: {warnings:?}");
        assert_eq!(warnings.iter().any(|w| w.contains("would deny this in mode Enforce")), warns, "{warnings:?}");
    }
}

#[test]
fn the_executor_writes_nothing_but_its_running_change() {
    let stage = Stage::with("exec", Options { policy: policy_of(1, "sre"), ..Options::default() });
    let executor = stage.admin().acting_as(&stage.executor(), &["system:masters"]);
    let map = stage.path("configmaps/web");
    assert_refused(executor.merge(&map, &json!({"data": {"greeting": "x"}})), 403, "BeyondChange");
    let change = stage.propose(
        "alice",
        "runs",
        vec![
            patch_of(config_map("web", &[("greeting", "hi")])),
            patch_of(json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"template": {"spec": {"containers": [{"name": "main", "image": "web:broken"}]}}}})),
        ],
    );
    change.approve(&["bob"]);
    change.wait("Running");
    // While it runs: not another object, not other content of its own object, not its deletion.
    assert_refused(executor.merge(&map, &json!({"data": {"greeting": "other"}})), 403, "BeyondChange");
    assert_refused(executor.merge(&map, &json!({"data": {"more": "x"}})), 403, "BeyondChange");
    assert_refused(executor.delete(&map), 403, "BeyondChange");
    assert_refused(executor.create(&stage.placed(config_map("another", &[]))), 403, "BeyondChange");
    // And the answer to everybody else names it.
    let refusal = assert_refused(stage.user("bob").delete(&map), 403, "NoApprovedChange");
    assert!(refusal.message.contains("runs now"), "{refusal}");
    change.act("alice", "Abort").unwrap();
    change.wait("RolledBack");
}

#[test]
fn kinds_that_are_not_governed_pass_but_pods_never_do() {
    let system = json!({"governs": {"remove": [{"kind": "ConfigMap"}, {"kind": "Pod"}, {"group": "apps", "kind": "Deployment"}]}});
    let options = Options { system, ..Options::default() };
    // The stage waits for a ConfigMap to be denied, so it is set up governed first.
    let stage = Stage::with("governs", Options { system: json!({}), ..options.clone() });
    stage
        .admin()
        .merge(&format!("/apis/interlock.dev/v1alpha1/systems/{}", stage.namespace), &json!({"spec": options.system}))
        .unwrap();
    let bob = stage.user("bob");
    eventually(SOON, || {
        bob.merge(&stage.path("configmaps/web"), &json!({"data": {"greeting": "free"}})).map_err(|e| e.to_string())
    });
    assert_refused(
        bob.merge(&stage.path("deployments/web"), &json!({"spec": {"replicas": 9}})),
        403,
        "NoApprovedChange",
    );
    let pod = stage.placed(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "bare"},
        "spec": {"containers": [{"name": "main", "image": "evil:1"}]}}));
    assert_refused(bob.create(&pod), 403, "NoApprovedChange");
}

#[test]
fn a_trusted_controller_writes_its_paths_only() {
    let trusted = json!({"trustedControllers": [
        {"user": "tuner", "kinds": [{"group": "apps", "kind": "Deployment"}], "paths": ["/spec/replicas"]}]});
    let stage = Stage::with("trusted", Options { system: trusted, ..Options::default() });
    let tuner = stage.admin().acting_as("tuner", &["sre"]);
    let path = stage.path("deployments/web");
    tuner.merge(&path, &json!({"spec": {"replicas": 4}})).unwrap();
    assert_refused(tuner.merge(&path, &json!({"spec": {"replicas": 3, "paused": true}})), 403, "NoApprovedChange");
    assert_refused(tuner.delete(&path), 403, "NoApprovedChange");
}
