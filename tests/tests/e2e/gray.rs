//! Gray releases on a real API server: real Deployments, ReplicaSets and EndpointSlices, pods of kwok, and a Gateway and
//! a server of the test's own.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU16, Ordering},
    },
    thread,
    time::Duration,
};

use interlock_tests::{
    Api, Change, Options, Stage, World,
    audit::Event,
    config_map, deployment, deployment_image, eventually,
    gateway::definition_of_routes,
    served,
    stage::policy_of,
    world,
    world::{SOON, condition},
};
use serde_json::{Value, json};

use crate::{
    alone::{Tail, alone, watched},
    assert_refused,
};

/// A namespace with these objects and the RolloutPlan `cautious`.
pub fn with_plan(mut objects: Vec<Value>, plan: Value) -> Options {
    objects.push(json!({
        "apiVersion": "interlock.dev/v1alpha1", "kind": "RolloutPlan", "metadata": {"name": "cautious"}, "spec": plan,
    }));
    Options { policy: policy_of(1, "sre"), objects, ..Options::default() }
}

/// One with a workload of four pods and what leads traffic to it.
pub fn options(plan: Value) -> Options {
    let mut web = deployment("web", "web:1.0.0");
    web["spec"]["replicas"] = json!(4);
    let objects = vec![
        config_map("web", &[("greeting", "hello")]),
        web,
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]}}),
    ];
    with_plan(objects, plan)
}

/// A change that is carried out by the plan.
pub fn approved<'s>(stage: &'s Stage<'_>, name: &str, manifests: Vec<Value>) -> Change<'s> {
    let change = stage.propose_with("alice", name, manifests, json!({"rolloutPlanRef": {"name": "cautious"}}));
    change.approve(&["bob"]);
    change
}

pub fn release<'s>(stage: &'s Stage<'_>, name: &str, image: &str) -> Change<'s> {
    approved(stage, name, vec![deployment_image("web", image)])
}

/// The Rollout of a change, once it is there.
pub fn rollout_of(stage: &Stage<'_>, change: &Change<'_>) -> Value {
    eventually(SOON, || {
        let all = stage.get("rollouts");
        let found =
            all["items"].as_array().unwrap().iter().find(|one| one["spec"]["changeRequest"]["uid"] == *change.uid);
        found.cloned().ok_or_else(|| format!("{} has no Rollout: {:#}", change.name, change.status()))
    })
}

pub fn until(stage: &Stage<'_>, change: &Change<'_>, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    eventually(SOON, || {
        let found = rollout_of(stage, change);
        if holds(&found) { Ok(found) } else { Err(format!("{what}: {:#}", found["status"])) }
    })
}

/// It stands at this step, which waits.
pub fn at_step(stage: &Stage<'_>, change: &Change<'_>, step: u64) -> Value {
    until(stage, change, &format!("step {step}"), |rollout| {
        rollout["status"]["currentStep"] == step && rollout["status"]["phase"] == "Paused"
    })
}

pub fn command(
    stage: &Stage<'_>,
    change: &Change<'_>,
    user: &str,
    verb: &str,
) -> Result<Value, interlock_tests::Refusal> {
    let rollout = rollout_of(stage, change);
    stage.user(user).create(&json!({
        "apiVersion": "interlock.dev/v1alpha1", "kind": "Action",
        "metadata": {"generateName": "command-", "namespace": stage.namespace},
        "spec": {
            "target": {"kind": "Rollout", "name": rollout["metadata"]["name"], "uid": rollout["metadata"]["uid"]},
            "verb": verb, "actor": user, "reason": "a test",
        },
    }))
}

pub fn has_no_canary(stage: &Stage<'_>) {
    for left in ["deployments/web-canary", "services/web-stable", "services/web-canary"] {
        eventually(SOON, || if stage.exists(left) { Err(format!("{left} is still there")) } else { Ok(()) });
    }
}

/// Writes of this stage's executor, in their order.
pub fn written(stage: &Stage<'_>, resource: &str, name: &str) -> Vec<Event> {
    let mut events = stage.world.audit(&format!("/namespaces/{}/{resource}", stage.namespace));
    events.retain(|event| {
        event.is_stored_write() && event.user() == stage.executor() && event.is_about(&stage.namespace, resource, name)
    });
    events
}

#[test]
fn r04_a_canary_by_replicas_goes_to_its_end_and_a_pause_costs_no_progress() {
    let plan = json!({"progressDeadline": "4s", "canary": {"steps": [
        {"setWeight": 20}, {"pause": {"duration": "6s"}}, {"setWeight": 50},
    ]}});
    let stage = Stage::with("r04", options(plan));
    let change = release(&stage, "good", "web:2.0.0");
    let paused = at_step(&stage, &change, 1);
    assert_eq!(paused["status"]["weights"]["observed"], json!({"stable": 80, "canary": 20}), "{:#}", paused["status"]);
    assert_eq!(stage.get("deployments/web-canary")["status"]["readyReplicas"], 1);
    assert_eq!(stage.image("web"), "web:1.0.0", "the old version is not touched before the promotion");
    change.wait("Succeeded");
    assert_eq!(stage.image("web"), "web:2.0.0");
    assert_eq!(stage.get("deployments/web")["status"]["readyReplicas"], 4);
    assert_eq!(rollout_of(&stage, &change)["status"]["phase"], "Succeeded");
    has_no_canary(&stage);
    // The old version kept its size from the first write to the last.
    for event in written(&stage, "deployments", "web") {
        assert_eq!(event.response()["spec"]["replicas"], 4);
    }
}

#[test]
fn r03_a_canary_that_never_gets_ready_goes_back_and_a_good_one_follows() {
    let plan = json!({"progressDeadline": "4s", "canary": {"steps": [{"setWeight": 20}]}});
    let stage = Stage::with("r03", options(plan));
    let bad = release(&stage, "bad", "web:broken");
    let status = bad.wait("RolledBack");
    assert!(status["message"].as_str().unwrap().contains("no progress"), "{status:#}");
    assert!(written(&stage, "deployments", "web").is_empty(), "the old version was never touched");
    has_no_canary(&stage);
    let good = release(&stage, "good", "web:2.0.0");
    good.wait("Succeeded");
    assert_eq!(stage.image("web"), "web:2.0.0");
}

/// Answers every request with one status.
struct Server {
    port: u16,
    status: Arc<AtomicU16>,
}

impl Server {
    fn start(status: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let status = Arc::new(AtomicU16::new(status));
        let says = Arc::clone(&status);
        // It ends with the process.
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let _ = stream.read(&mut [0; 4096]);
                let _ = write!(
                    stream,
                    "HTTP/1.1 {} Said\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
                    says.load(Ordering::Relaxed)
                );
            }
        });
        Self { port, status }
    }

    fn analysis(&self, count: u32) -> Value {
        json!([{"name": "health", "interval": "1s", "count": count, "failureLimit": 1,
            "http": {"url": format!("http://127.0.0.1:{}/{{{{workload}}}}", self.port)}}])
    }
}

#[test]
fn r17_values_that_are_bad_take_a_canary_back_and_good_ones_let_it_pass() {
    let server = Server::start(200);
    let plan =
        json!({"analyses": server.analysis(3), "canary": {"steps": [{"setWeight": 20}, {"analysis": ["health"]}]}});
    let stage = Stage::with("r17", options(plan));
    let good = release(&stage, "good", "web:2.0.0");
    good.wait("Succeeded");
    let record = rollout_of(&stage, &good)["status"]["analyses"][0].clone();
    assert_eq!(record["run"], "1-health-0-0");
    assert_eq!((&record["state"]["verdict"], &record["state"]["counts"]["successful"]), (&json!("Passed"), &json!(3)));
    server.status.store(500, Ordering::Relaxed);
    let bad = release(&stage, "bad", "web:3.0.0");
    let status = bad.wait("RolledBack");
    let cause = rollout_of(&stage, &bad)["status"]["cause"].clone();
    assert_eq!(cause, "analysis health: health status 500 is not 200, 2 failures of at most 1", "{status:#}");
    assert_eq!(stage.image("web"), "web:2.0.0");
    has_no_canary(&stage);
}

#[test]
fn what_an_analysis_needs_and_is_missing_is_told_and_a_person_goes_on() {
    let analyses = json!([{"name": "errors", "interval": "1s", "successWhen": "result < 1", "prometheus": {
        "address": "https://127.0.0.1:1", "query": "errors", "secretRef": {"name": "prometheus"}}}]);
    let plan = json!({"analyses": analyses, "canary": {"steps": [{"setWeight": 20}, {"analysis": ["errors"]}]}});
    let stage = Stage::with("missing", options(plan));
    let change = release(&stage, "release", "web:2.0.0");
    let says = |text: &'static str| {
        until(&stage, &change, text, |rollout| {
            condition(rollout, "Measured")
                .is_some_and(|found| found["status"] == "False" && found["message"].as_str().unwrap().contains(text))
        })
    };
    let found = says("Secret prometheus does not exist");
    assert_eq!(condition(&found, "Measured").unwrap()["reason"], "Missing");
    assert_eq!(found["status"]["analyses"][0]["state"]["counts"]["errors"], 0, "nothing was measured, nothing counts");
    command(&stage, &change, "bob", "Skip").unwrap();
    change.wait("Succeeded");
}

#[test]
fn plans_that_cannot_work_are_refused_and_a_change_waits_for_the_plan_that_it_names() {
    let stage = Stage::with("plans", options(json!({"canary": {"steps": [{"setWeight": 20}]}})));
    let plan = |name: &str, steps: Value| {
        stage.placed(json!({"apiVersion": "interlock.dev/v1alpha1", "kind": "RolloutPlan", "metadata": {"name": name},
            "spec": {"canary": {"steps": steps}}}))
    };
    let missing = plan("later", json!([{"setWeight": 20}, {"analysis": ["errors"]}]));
    let refusal = assert_refused(stage.user("alice").create(&missing), 422, "BadRolloutPlan");
    assert!(refusal.message.contains("a step names the analysis errors, and it lists none"), "{refusal}");
    let heavy = stage.user("alice").create(&plan("later", json!([{"setWeight": 70}]))).unwrap_err();
    assert!(heavy.code == 422 && heavy.message.contains("name a route for other weights"), "{heavy}");
    // Its plan does not exist yet: the change says so, and goes on by itself when it does.
    let more = json!({"rolloutPlanRef": {"name": "later"}});
    let change = stage.propose_with("alice", "release", vec![deployment_image("web", "web:2.0.0")], more);
    change.until("the missing plan", |status| {
        status["message"].as_str().is_some_and(|message| message.contains("later does not exist; create it"))
    });
    stage.user("alice").create(&plan("later", json!([{"setWeight": 20}]))).unwrap();
    change.approve(&["bob"]);
    change.wait("Succeeded");
    assert_eq!(rollout_of(&stage, &change)["status"]["steps"], 1);
}

#[test]
fn people_hold_promote_and_stop_a_release_and_strangers_do_not() {
    let plan = json!({"canary": {"steps": [{"setWeight": 20}, {"pause": {}}, {"setWeight": 50}, {"pause": {}}]}});
    let stage = Stage::with("people", options(plan));
    let change = release(&stage, "release", "web:2.0.0");
    at_step(&stage, &change, 1);
    assert_refused(command(&stage, &change, "mallory", "Promote"), 403, "NotOperator");
    assert_refused(command(&stage, &change, "alice", "Rebase"), 422, "NotForRollouts");
    command(&stage, &change, "bob", "Pause").unwrap();
    until(&stage, &change, "held", |rollout| rollout["status"]["hold"]["reason"] == "Commanded");
    command(&stage, &change, "bob", "Resume").unwrap();
    until(&stage, &change, "resumed", |rollout| rollout["status"]["hold"].is_null());
    command(&stage, &change, "bob", "Promote").unwrap();
    let second = at_step(&stage, &change, 3);
    assert_eq!(second["status"]["weights"]["observed"], json!({"stable": 50, "canary": 50}));
    command(&stage, &change, "bob", "Abort").unwrap();
    change.wait("RolledBack");
    let ended = rollout_of(&stage, &change);
    assert_eq!(ended["status"]["cause"], "Abort by bob: a test");
    assert_eq!(ended["status"]["obeyed"].as_array().unwrap().len(), 4);
    // Each command is a sealed record of who gave it.
    let actions = stage.get("actions");
    let recorded = actions["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|a| a["spec"]["recorded"]["user"] == "bob" && a["spec"]["recorded"]["seal"].is_string());
    assert_eq!(recorded.count(), 4, "{actions:#}");
    assert_eq!(stage.image("web"), "web:1.0.0");
    has_no_canary(&stage);
}

#[test]
fn r21_a_rollout_that_is_deleted_puts_everything_back_first() {
    let plan = json!({"canary": {"steps": [{"setWeight": 20}, {"pause": {}}]}});
    let stage = Stage::with("r21", options(plan));
    let change = release(&stage, "release", "web:2.0.0");
    let rollout = at_step(&stage, &change, 1);
    let path = stage.path(&format!("rollouts/{}", rollout["metadata"]["name"].as_str().unwrap()));
    assert_refused(stage.user("mallory").delete(&path), 403, "NotOperator");
    stage.user("bob").delete(&path).unwrap();
    change.wait("RolledBack");
    assert_eq!(stage.image("web"), "web:1.0.0");
    has_no_canary(&stage);
}

#[test]
fn r14_blue_green_switches_a_service_once_and_returns_it_when_it_fails_after_the_switch() {
    let server = Server::start(200);
    let plan = json!({"analyses": server.analysis(2), "blueGreen": {
        "service": "web", "steps": [{"pause": {}}], "afterSwitch": ["health"], "keepOld": "2s"}});
    let stage = Stage::with("r14", options(plan));
    let selector = stage.get("services/web")["spec"]["selector"].clone();
    let good = release(&stage, "good", "web:2.0.0");
    at_step(&stage, &good, 0);
    assert_eq!(stage.get("deployments/web-canary")["status"]["readyReplicas"], 4, "at full size beside the old one");
    let preview = stage.get("services/web-preview")["spec"]["selector"].clone();
    assert_ne!(preview["pod-template-hash"], stage.get("services/web")["spec"]["selector"]["pod-template-hash"]);
    command(&stage, &good, "bob", "Promote").unwrap();
    good.wait("Succeeded");
    assert_eq!(stage.image("web"), "web:2.0.0");
    server.status.store(500, Ordering::Relaxed);
    let bad = release(&stage, "bad", "web:3.0.0");
    at_step(&stage, &bad, 0);
    command(&stage, &bad, "bob", "Promote").unwrap();
    bad.wait("RolledBack");
    assert_eq!(stage.image("web"), "web:2.0.0");
    // To the new one, to what it was promoted to, and free again; then there and back.
    let hash = |event: &Event| event.response()["spec"]["selector"]["pod-template-hash"].clone();
    let switches: Vec<_> = written(&stage, "services", "web").iter().map(hash).collect();
    assert!(switches.len() >= 5, "{switches:?}");
    assert_eq!(stage.get("services/web")["spec"]["selector"], selector);
    assert!(!stage.exists("services/web-preview"));
    has_no_canary(&stage);
}

/// The HTTPRoute kind as the Gateway API defines it.
pub fn install_routes(world: &World) {
    let definition = definition_of_routes();
    world.ensure(&definition).unwrap();
    served(world.admin(), &definition);
}

/// Accepts every generation of a route, as a Gateway does, until it is dropped.
pub struct Gateway(Arc<AtomicBool>);

impl Gateway {
    pub fn start(api: Api, path: String) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&ended);
        thread::spawn(move || {
            while !until.load(Ordering::Relaxed) {
                if let Ok(mut route) = api.get(&path) {
                    let generation = route["metadata"]["generation"].clone();
                    if route["status"]["parents"][0]["conditions"][0]["observedGeneration"] != generation {
                        let accepted = json!({"type": "Accepted", "status": "True", "reason": "Accepted", "message": "",
                            "observedGeneration": generation, "lastTransitionTime": "2026-01-01T00:00:00Z"});
                        route["status"] = json!({"parents": [{"controllerName": "test/gateway",
                            "parentRef": route["spec"]["parentRefs"][0], "conditions": [accepted]}]});
                        // Somebody may have written it meanwhile: the next look sees that.
                        let _ = api.replace(&format!("{path}/status"), &route);
                    }
                }
                thread::sleep(Duration::from_millis(50));
            }
        });
        Self(ended)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

pub fn routed(steps: Value) -> Options {
    let plan = json!({"canary": {"route": {"httpRoute": "web", "backend": "web"}, "steps": steps}});
    let mut options = options(plan);
    options.objects.push(json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "web", "labels": {"team": "a"}},
        "spec": {
            "parentRefs": [{"name": "public"}],
            "rules": [{
                "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
                "filters": [{"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "a", "value": "b"}]}}],
                "backendRefs": [{"name": "web", "port": 80}],
            }],
        },
    }));
    options
}

/// Percent for the new version in each write of the route, none for its own form; all weights together are 100.
fn weights(events: &[Event]) -> Vec<Option<i64>> {
    let mut shares = Vec::new();
    for event in events {
        let backends = event.response()["spec"]["rules"][0]["backendRefs"].as_array().unwrap().clone();
        let weight =
            |name: &str| backends.iter().find(|b| b["name"] == name).map_or(0, |b| b["weight"].as_i64().unwrap_or(1));
        let is_own = backends.len() == 1 && backends[0]["name"] == "web";
        assert!(is_own || weight("web-stable") + weight("web-canary") == 100, "{backends:?}");
        let share = (!is_own).then(|| weight("web-canary"));
        if shares.last() != Some(&share) {
            shares.push(share);
        }
    }
    shares
}

#[test]
fn r11_a_weight_counts_when_the_gateway_has_accepted_it_and_the_route_is_as_before_in_the_end() {
    install_routes(world());
    let stage = Stage::with("r11", routed(json!([{"setWeight": 10}, {"pause": {}}, {"setWeight": 60}])));
    let before = stage.get("httproutes/web")["spec"].clone();
    let selector = stage.get("services/web")["spec"]["selector"].clone();
    let path = stage.path("httproutes/web");
    let gateway = Gateway::start(stage.admin().clone(), path.clone());
    let change = release(&stage, "release", "web:2.0.0");
    let paused = at_step(&stage, &change, 1);
    assert_eq!(paused["status"]["weights"]["observed"], json!({"stable": 90, "canary": 10}), "{:#}", paused["status"]);
    // Nobody accepts routes for a while: the next weight is written and does not count.
    drop(gateway);
    command(&stage, &change, "bob", "Promote").unwrap();
    let waits = until(&stage, &change, "the acceptance", |rollout| {
        rollout["status"]["message"].as_str().is_some_and(|message| message.contains("accepted"))
    });
    assert_eq!(waits["status"]["currentStep"], 2, "{:#}", waits["status"]);
    let _gateway = Gateway::start(stage.admin().clone(), path);
    change.wait("Succeeded");
    let events = written(&stage, "httproutes", "web");
    let shares: Vec<_> = weights(&events).into_iter().flatten().collect();
    assert_eq!(shares.iter().filter(|share| [10, 60, 100].contains(share)).count(), 3, "{shares:?}");
    let rising = shares.iter().position(|share| *share == 100).unwrap();
    assert!(shares[..rising].is_sorted() && shares[rising..].is_sorted_by(|a, b| a >= b), "{shares:?}");
    let after = stage.get("httproutes/web");
    assert_eq!((&after["spec"], &after["metadata"]["labels"]["team"]), (&before, &json!("a")));
    assert_eq!(stage.get("services/web")["spec"]["selector"], selector);
    assert_eq!(stage.image("web"), "web:2.0.0");
    has_no_canary(&stage);
}

/// Writes between two kills in one release: each costs the seconds until a new leader writes on.
const APART: usize = 7;

/// A release whose controller is killed after the write of this number (0: not at all) and each `APART` later; `abort`ed as
/// soon as it waits at step 1. How many writes there were, and those of the route.
fn killed_after(
    stage: &Stage<'_>,
    release: &Change<'_>,
    tail: &mut Tail,
    kill: usize,
    abort: bool,
) -> (usize, Vec<Event>) {
    let is_there = |one: &Value| {
        one["spec"]["changeRequest"]["uid"] == *release.uid
            && one["status"]["currentStep"] == 1
            && one["status"]["phase"] == "Paused"
    };
    let (mut due, mut aborts) = ((kill > 0).then_some(kill), abort);
    let mut events = watched(stage, tail, release, Duration::from_mins(3), |writes| {
        if let Some(at) = due.filter(|at| writes >= *at) {
            stage.world.kill_controller();
            stage.world.launch_controller();
            due = Some(at + APART);
        }
        // Nobody takes a command while the controller is away: it is given again.
        if aborts && stage.get("rollouts")["items"].as_array().unwrap().iter().any(is_there) {
            aborts = command(stage, release, "bob", "Abort").is_err();
        }
    });
    let writes = events.len();
    events.retain(|event| event.user() == stage.executor() && event.is_about(&stage.namespace, "httproutes", "web"));
    (writes, events)
}

#[test]
fn r29_a_controller_killed_after_each_write_moves_the_same_weights_to_the_same_end() {
    let world = alone();
    install_routes(&world);
    for (end, steps, moved) in [
        ("Succeeded", json!([{"setWeight": 25}, {"setWeight": 75}]), vec![Some(25), Some(75), Some(100), None]),
        ("RolledBack", json!([{"setWeight": 60}, {"pause": {}}]), vec![Some(60), None]),
    ] {
        let mut options = routed(steps);
        // A new leader takes some seconds.
        options.objects[3]["spec"]["progressDeadline"] = json!("2m");
        let stage = Stage::set(&world, &format!("r29-{}", end.to_lowercase()), options);
        let _gateway = Gateway::start(stage.admin().clone(), stage.path("httproutes/web"));
        let before = stage.get("httproutes/web")["spec"].clone();
        let mut undisturbed = 0;
        // Kills after the first, the eighth, ..., then after the second, the ninth, ...: after every one in the end.
        for kill in 0..=APART {
            world.wait_ready();
            let (mut tail, image) = (Tail::of(&world), format!("web:2.{kill}.0"));
            let change = release(&stage, &format!("release-{kill}"), &image);
            let (writes, events) = killed_after(&stage, &change, &mut tail, kill, end == "RolledBack");
            change.wait(end);
            let why = format!("{end}, killed after write {kill} of {undisturbed}, and each {APART} later");
            assert_eq!(weights(&events), moved, "{why}");
            assert_eq!(stage.get("httproutes/web")["spec"], before, "{why}");
            assert_eq!(stage.image("web"), if end == "Succeeded" { image.as_str() } else { "web:1.0.0" }, "{why}");
            has_no_canary(&stage);
            if kill == 0 {
                undisturbed = writes;
                assert!(undisturbed > 20, "only {undisturbed} writes were seen");
            }
        }
        println!("{end}: killed after each of {undisturbed} writes");
    }
}
