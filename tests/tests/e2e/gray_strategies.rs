//! The other strategies and steps of gray releases on a real API server: batches, waves, a newer change, copies of
//! configuration, routes of the Gateway API's own definition, Jobs, signatures and gates, and an autoscaler meanwhile.

use interlock_tests::{
    Stage, audit::Event, config_map, deployment, deployment_image, eventually, patch_of, world, world::SOON,
};
use serde_json::{Value, json};

use crate::{
    calendar::calendar,
    gray::{
        Gateway, approved, at_step, command, has_no_canary, install_routes, options, release, rollout_of, routed,
        until, with_plan, written,
    },
    secrets::staged,
};

/// A workload whose pods are replaced in place; a DaemonSet has one on each of the three nodes.
fn set(kind: &str) -> Value {
    let mut set = deployment("db", "db:1.0.0");
    set["kind"] = json!(kind);
    let spec = set["spec"].as_object_mut().unwrap();
    if kind == "StatefulSet" {
        spec.insert("replicas".to_owned(), json!(4));
        spec.insert("serviceName".to_owned(), json!("db"));
    } else {
        spec.remove("replicas");
    }
    set
}

/// Ready pods with this image.
fn ready(stage: &Stage<'_>, image: &str) -> usize {
    let pods = stage.get("pods");
    let is_ready = |pod: &&Value| {
        let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
        pod["spec"]["containers"][0]["image"] == image
            && pod["metadata"]["deletionTimestamp"].is_null()
            && conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
    };
    pods["items"].as_array().unwrap().iter().filter(is_ready).count()
}

/// One release in two batches and the rest, one that a person stops after the first batch, one whose pods never get ready.
fn play_batches(kind: &str, size: usize, beside: Vec<Value>) -> Stage<'static> {
    let pause = json!({"pause": {}});
    let steps = json!([{"setWeight": 25}, pause, {"setWeight": 50}, pause]);
    let plan = json!({"progressDeadline": "15s", "batches": {"steps": steps}});
    let (name, objects) = (kind.to_lowercase(), [beside, vec![set(kind)]].concat());
    let stage = Stage::with(&name, with_plan(objects, plan));
    let workload = format!("{name}s/db");
    eventually(SOON, || match ready(&stage, "db:1.0.0") {
        found if found == size => Ok(()),
        found => Err(format!("{found} pods of the {kind} are ready")),
    });
    let own = stage.get(&workload)["spec"]["updateStrategy"].clone();
    let propose = |name: &str, image: &str| {
        let mut patch = deployment_image("db", image);
        patch["kind"] = json!(kind);
        approved(&stage, name, vec![patch])
    };
    let ends_with = |image: &str| {
        assert_eq!(ready(&stage, image), size, "{kind} has {image}");
        assert_eq!(stage.get(&workload)["spec"]["updateStrategy"], own, "{kind} has {image}");
    };
    let good = propose("good", "db:2.0.0");
    for (step, new) in [(1, 1), (3, 2)] {
        at_step(&stage, &good, step);
        assert_eq!([ready(&stage, "db:2.0.0"), ready(&stage, "db:1.0.0")], [new, size - new], "{kind} at step {step}");
        command(&stage, &good, "bob", "Promote").unwrap();
    }
    good.wait("Succeeded");
    ends_with("db:2.0.0");
    let stopped = propose("stopped", "db:3.0.0");
    at_step(&stage, &stopped, 1);
    assert_eq!(ready(&stage, "db:3.0.0"), 1);
    command(&stage, &stopped, "bob", "Abort").unwrap();
    stopped.wait("RolledBack");
    ends_with("db:2.0.0");
    let bad = propose("bad", "db:broken");
    let status = bad.wait("RolledBack");
    assert!(status["message"].as_str().unwrap().contains("no progress for 15s"), "{status:#}");
    ends_with("db:2.0.0");
    stage
}

#[test]
fn r23_a_stateful_set_goes_by_partition_as_its_budget_allows_and_comes_back() {
    // One pod may be away, so that two never change at once.
    let budget = json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "db"},
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "db"}}}});
    let stage = play_batches("StatefulSet", 4, vec![budget]);
    let partition = |event: &Event| event.response()["spec"]["updateStrategy"]["rollingUpdate"]["partition"].as_i64();
    let mut partitions: Vec<_> = written(&stage, "statefulsets", "db").iter().map(partition).collect();
    // With 4 no pod is given the new version yet: the budget had not counted a pod that had just become ready.
    partitions.retain(|partition| *partition != Some(4));
    partitions.dedup();
    assert_eq!(partitions, [3, 2, 1, 0, 3, 0, 3, 0].map(Some));
}

#[test]
fn r23_a_daemon_set_goes_node_by_node_and_comes_back() {
    let stage = play_batches("DaemonSet", 3, Vec::new());
    let mut deleted = written(&stage, "pods", "");
    deleted.retain(|event| event.verb() == "delete");
    assert_eq!(deleted.len(), 3 + 2 + 2, "each pod once, and one there and back twice: {deleted:#?}");
}

/// `interlock rollout sign`.
fn sign(stage: &Stage<'_>, user: &str, name: &str) -> (bool, String) {
    stage.world.interlock_status(user, &["rollout", "sign", name, "-n", &stage.namespace])
}

#[test]
fn r31_the_second_of_two_waves_waits_for_the_first_and_for_a_signature() {
    let canary = json!({"steps": [{"setWeight": 50}]});
    let targets = |name: &str| json!([{"kind": "Deployment", "name": name}]);
    let plan = json!({"waves": [
        {"name": "counters", "targets": targets("counter"), "canary": canary},
        {"name": "mobile", "targets": targets("mobile"), "canary": canary, "signOff": {"groups": ["branch-ops"]}},
    ]});
    let names = ["counter", "mobile"];
    let stage = Stage::with("waves", with_plan(names.map(|name| deployment(name, "web:1.0.0")).to_vec(), plan));
    let images = || names.map(|name| stage.image(name));
    let change = approved(&stage, "launch", names.map(|name| deployment_image(name, "web:2.0.0")).to_vec());
    let waits = until(&stage, &change, "the signature", |rollout| {
        rollout["status"]["message"]
            .as_str()
            .is_some_and(|message| message.contains("wave mobile: waits for 1 of 1 signatures from branch-ops"))
    });
    assert_eq!(waits["status"]["waves"][0]["phase"], "Complete", "{:#}", waits["status"]);
    assert_eq!(images(), ["web:2.0.0", "web:1.0.0"]);
    assert!(!stage.exists("deployments/mobile-canary"), "it has not begun");
    assert!(!sign(&stage, "alice", "launch").0, "who asked for it signs nothing");
    let (well, told) = sign(&stage, "bob", "launch");
    assert!(!well && told.contains("in none of the groups that may sign wave mobile"), "{told}");
    let (well, told) = sign(&stage, "dave", "launch");
    assert!(well && told.contains("signed"), "{told}");
    change.wait("Succeeded");
    assert_eq!(images(), ["web:2.0.0"; 2]);
    for name in names {
        assert!(!stage.exists(&format!("deployments/{name}-canary")));
    }
}

#[test]
fn r10_a_newer_change_takes_the_place_of_a_canary_that_waits() {
    let stage = Stage::with("r10", options(json!({"canary": {"steps": [{"setWeight": 20}, {"pause": {}}]}})));
    let first = release(&stage, "first", "web:2.0.0");
    at_step(&stage, &first, 1);
    let second = release(&stage, "second", "web:3.0.0");
    first.wait("RolledBack");
    let cause = rollout_of(&stage, &first)["status"]["cause"].clone();
    assert_eq!(cause, format!("superseded by change {}/second", stage.namespace));
    at_step(&stage, &second, 1);
    assert_eq!(stage.image("web-canary"), "web:3.0.0");
    assert!(written(&stage, "deployments", "web").is_empty(), "the old version is not touched by either");
    let canaries = written(&stage, "deployments", "web-canary");
    let place = |is: &dyn Fn(&Event) -> bool| canaries.iter().position(is).unwrap();
    let gone = place(&|event| event.verb() == "delete");
    let follows = place(&|event| event.response()["spec"]["template"]["spec"]["containers"][0]["image"] == "web:3.0.0");
    assert!(gone < follows, "the first canary goes before the second comes");
    command(&stage, &second, "bob", "Promote").unwrap();
    second.wait("Succeeded");
    assert_eq!(stage.image("web"), "web:3.0.0");
    has_no_canary(&stage);
}

#[test]
fn pods_of_a_canary_read_copies_of_their_configuration_and_secrets_until_it_is_promoted() {
    let mut options = options(json!({"canary": {"steps": [{"setWeight": 20}, {"pause": {}}]}}));
    options.objects[1]["spec"]["template"]["spec"]["containers"][0]["envFrom"] =
        json!([{"configMapRef": {"name": "web"}}, {"secretRef": {"name": "db"}}]);
    let secret =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "db"}, "stringData": {"password": "old"}});
    options.objects.push(secret);
    let stage = Stage::with("copies", options);
    let reference = staged(&stage, "db-staged-1", "new");
    let (old, new) = (["hello", "b2xk"], ["hi", "bmV3"]);
    let values = || {
        [&stage.data("web")["greeting"], &stage.get("secrets/db")["data"]["password"]]
            .map(|value| value.as_str().unwrap().to_owned())
    };
    for (name, verb, end, after) in [("stopped", "Abort", "RolledBack", old), ("good", "Promote", "Succeeded", new)] {
        let manifests = [deployment_image("web", "web:2.0.0"), patch_of(config_map("web", &[("greeting", "hi")]))];
        let manifests = manifests.map(|manifest| stage.placed(manifest));
        let more = json!({
            "content": {"manifests": manifests, "secretRefs": [reference]}, "rolloutPlanRef": {"name": "cautious"},
        });
        let change = stage.propose_with("alice", name, Vec::new(), more);
        change.approve(&["bob"]);
        at_step(&stage, &change, 1);
        assert_eq!(values(), old, "what the old pods read stays");
        let canary = stage.get("deployments/web-canary");
        let read = &canary["spec"]["template"]["spec"]["containers"][0]["envFrom"];
        let copies = [
            format!("configmaps/{}", read[0]["configMapRef"]["name"].as_str().unwrap()),
            format!("secrets/{}", read[1]["secretRef"]["name"].as_str().unwrap()),
        ];
        let [map, secret] = copies.each_ref().map(|copy| stage.get(copy));
        assert_eq!([&map["data"]["greeting"], &secret["data"]["password"]], new, "{name}");
        assert_eq!([&map["immutable"], &secret["immutable"]], [true; 2], "{name}");
        command(&stage, &change, "bob", verb).unwrap();
        change.wait(end);
        assert_eq!(values(), after, "{name}");
        for copy in &copies {
            eventually(SOON, || if stage.exists(copy) { Err(format!("{copy} is still there")) } else { Ok(()) });
        }
    }
    assert_eq!(stage.image("web"), "web:2.0.0");
    has_no_canary(&stage);
}

#[test]
fn headers_and_mirrors_are_put_into_a_route_of_the_gateway_api_and_taken_out_again() {
    install_routes(world());
    let pause = json!({"pause": {}});
    let stage = Stage::with(
        "headers",
        routed(json!([
            {"setWeight": 0}, {"headerMatch": {"headers": [{"name": "x-canary", "value": "yes"}]}},
            {"mirror": {"percent": 10}}, pause,
            {"headerMatch": {}}, {"mirror": {"percent": 0}}, {"setWeight": 50}, pause,
        ])),
    );
    let rules = || stage.get("httproutes/web")["spec"]["rules"].clone();
    let before = rules();
    assert_eq!(before[0]["backendRefs"][0]["weight"], 1, "the definition's own default");
    let _gateway = Gateway::start(stage.admin().clone(), stage.path("httproutes/web"));
    let change = release(&stage, "release", "web:2.0.0");
    let shares = |rule: &Value| -> Vec<(String, i64)> {
        let backends = rule["backendRefs"].as_array().unwrap().iter();
        backends.map(|one| (one["name"].as_str().unwrap().to_owned(), one["weight"].as_i64().unwrap())).collect()
    };
    let split = |old: i64, new: i64| vec![("web-stable".to_owned(), old), ("web-canary".to_owned(), new)];
    at_step(&stage, &change, 3);
    let found = rules();
    assert_eq!(found.as_array().unwrap().len(), 2, "{found:#}");
    let (of_header, own) = (&found[0], &found[1]);
    let header = json!([{"type": "Exact", "name": "x-canary", "value": "yes"}]);
    assert_eq!(of_header["matches"][0], json!({"path": before[0]["matches"][0]["path"], "headers": header}));
    assert_eq!(shares(of_header), [("web-canary".to_owned(), 1)]);
    assert_eq!(shares(own), split(100, 0));
    let mirror = &own["filters"][1]["requestMirror"];
    assert_eq!((&mirror["percent"], &mirror["backendRef"]["name"]), (&json!(10), &json!("web-canary")), "{own:#}");
    command(&stage, &change, "bob", "Promote").unwrap();
    at_step(&stage, &change, 7);
    let found = rules();
    assert_eq!((found.as_array().unwrap().len(), shares(&found[0])), (1, split(50, 50)), "{found:#}");
    assert_eq!(found[0]["filters"], before[0]["filters"]);
    command(&stage, &change, "bob", "Promote").unwrap();
    change.wait("Succeeded");
    assert_eq!(rules(), before);
    has_no_canary(&stage);
}

#[test]
fn r28_a_job_runs_once_before_a_signature_is_waited_for_and_one_that_fails_sends_the_release_back() {
    let set_up = |name: &str, image: &str| {
        let pod = json!({"restartPolicy": "Never", "containers": [{"name": "check", "image": image}]});
        let job = json!({"name": "smoke", "spec": {"backoffLimit": 0, "template": {"spec": pod}}});
        let steps = json!([{"setWeight": 20}, {"job": job}, {"signOff": {"groups": ["sre"]}}]);
        Stage::with(name, options(json!({"canary": {"steps": steps}})))
    };
    let stage = set_up("r28-good", "check:1");
    let jobs = || stage.get("jobs")["items"].as_array().unwrap().clone();
    let change = release(&stage, "release", "web:2.0.0");
    at_step(&stage, &change, 2);
    let ran = jobs();
    assert_eq!((ran.len(), &ran[0]["status"]["succeeded"]), (1, &json!(1)), "{ran:#?}");
    assert_eq!(ran[0]["metadata"]["ownerReferences"][0]["kind"], "Rollout");
    assert_refused_to_sign(&stage, &["alice", "dave", "mallory"]);
    let (well, told) = sign(&stage, "carol", "release");
    assert!(well, "{told}");
    change.wait("Succeeded");
    let after = jobs();
    assert_eq!((after.len(), &after[0]["metadata"]["uid"]), (1, &ran[0]["metadata"]["uid"]), "it ran once");
    let stage = set_up("r28-bad", "check:fail");
    let change = release(&stage, "release", "web:2.0.0");
    change.wait("RolledBack");
    let cause = rollout_of(&stage, &change)["status"]["cause"].clone();
    assert!(cause.as_str().unwrap().starts_with("Job smoke: "), "{cause}");
    assert_eq!(stage.image("web"), "web:1.0.0");
    has_no_canary(&stage);
}

fn assert_refused_to_sign(stage: &Stage<'_>, users: &[&str]) {
    for user in users {
        let (well, told) = sign(stage, user, "release");
        assert!(!well, "{user} signed: {told}");
    }
}

#[test]
fn r25_a_step_waits_until_its_gate_opens_and_no_command_opens_it() {
    let (name, path) = ("gate-step", "/apis/interlock.dev/v1alpha1/calendars/gate-step");
    world().admin().create(&calendar(name, &json!({"timeZone": "UTC"}))).unwrap();
    let steps = json!([{"setWeight": 20}, {"pause": {}}, {"gate": {"name": "Window"}}, {"setWeight": 50}]);
    let mut options = options(json!({"canary": {"steps": steps}}));
    options.policy["types"]["normal"]["calendarRef"] = json!({"name": name});
    let stage = Stage::with(name, options);
    let change = release(&stage, "release", "web:2.0.0");
    at_step(&stage, &change, 1);
    // What runs may go on when a freeze begins: that is the calendar's default.
    let freeze = json!([{"name": "stocktaking", "from": "2020-01-01T00:00", "until": "2098-01-01T00:00"}]);
    stage.admin().merge(path, &json!({"spec": {"freezes": freeze}})).unwrap();
    eventually(SOON, || {
        let status = stage.admin().get(path).map_err(|refusal| refusal.to_string())?["status"].clone();
        if status["phase"] == "Frozen" { Ok(()) } else { Err(format!("{status:#}")) }
    });
    command(&stage, &change, "bob", "Promote").unwrap();
    let waits = at_step(&stage, &change, 2);
    let message = waits["status"]["message"].as_str().unwrap();
    assert!(message.contains("gate Window is closed: Calendar gate-step is closed"), "{message}");
    for (position, verb) in [(2, "Promote"), (3, "Skip"), (4, "PromoteFully")] {
        command(&stage, &change, "bob", verb).unwrap();
        let waits = until(&stage, &change, verb, |rollout| {
            rollout["status"]["obeyed"].as_array().is_some_and(|obeyed| obeyed.len() == position)
        });
        assert_eq!(
            (&waits["status"]["currentStep"], &waits["status"]["phase"]),
            (&json!(2), &json!("Paused")),
            "{verb}"
        );
    }
    assert_eq!(stage.image("web"), "web:1.0.0");
    stage.admin().merge(path, &json!({"spec": {"freezes": null}})).unwrap();
    change.wait("Succeeded");
    assert_eq!(stage.image("web"), "web:2.0.0");
    has_no_canary(&stage);
}

#[test]
fn r24_an_autoscaler_keeps_working_and_shrinks_nothing_until_the_release_has_ended() {
    let mut options = options(json!({"canary": {"steps": [{"setWeight": 20}, {"pause": {}}]}}));
    options.objects.push(json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "web"},
        "spec": {"minReplicas": 2, "maxReplicas": 9,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}},
    }));
    let stage = Stage::with("r24", options);
    let least = || stage.get("horizontalpodautoscalers/web")["spec"]["minReplicas"].clone();
    let scaled = |replicas: u32| {
        stage
            .admin()
            .acting_as("system:serviceaccount:kube-system:horizontal-pod-autoscaler", &["system:masters"])
            .merge(&stage.path("deployments/web/scale"), &json!({"spec": {"replicas": replicas}}))
            .unwrap();
    };
    let good = release(&stage, "good", "web:2.0.0");
    let paused = at_step(&stage, &good, 1);
    assert_eq!(least(), 4, "as many as there were");
    let held = json!({"name": "web", "before": 2, "held": 4});
    assert_eq!(paused["status"]["start"]["autoscaler"], held);
    // Nobody measures here, so what the autoscaler writes for a load, the test writes as it. What is too few by what it is
    // held at, the real one puts right; by its own minimum it would leave three.
    scaled(3);
    eventually(SOON, || match stage.get("deployments/web")["spec"]["replicas"].as_u64() {
        Some(4) => Ok(()),
        other => Err(format!("{other:?} replicas of the old version")),
    });
    scaled(6);
    until(&stage, &good, "the share of more pods", |rollout| {
        let replicas = &rollout["status"]["replicas"];
        replicas["old"] == 6 && replicas["new"] == 2
    });
    command(&stage, &good, "bob", "Promote").unwrap();
    good.wait("Succeeded");
    let web = stage.get("deployments/web");
    assert_eq!((&web["spec"]["replicas"], &web["status"]["readyReplicas"]), (&json!(6), &json!(6)));
    assert_eq!((least(), stage.image("web")), (json!(2), "web:2.0.0".to_owned()));
    let stopped = release(&stage, "stopped", "web:3.0.0");
    at_step(&stage, &stopped, 1);
    assert_eq!(least(), 6);
    command(&stage, &stopped, "bob", "Abort").unwrap();
    stopped.wait("RolledBack");
    assert_eq!((least(), stage.image("web")), (json!(2), "web:2.0.0".to_owned()));
    has_no_canary(&stage);
}
