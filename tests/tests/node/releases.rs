//! What people who use a program see of its releases.

use std::time::Duration;

use interlock_cluster::{Node, NodeOptions, PodNetwork, web};
use interlock_tests::{
    Change, Installation, Options, Stage, World, deployment_image, eventually,
    gateway::{Gateway, definition_of_routes},
    load::{Load, Seen},
    served,
    stage::policy_of,
    world::{SOON, block_on},
};
use serde_json::{Value, json};

use crate::prometheus::Server;

/// Answers that a share is judged by.
const ANSWERS: u64 = 2_000;
/// From seeing a route to its being in effect, and once more to saying so.
const LAG: Duration = Duration::from_millis(300);

fn world() -> Option<World> {
    if let Err(reason) = Node::check_possible() {
        eprintln!("skipped: {reason}");
        return None;
    }
    let node = NodeOptions { network: PodNetwork::Unenforced, ..NodeOptions::default() };
    let world = World::up(&Installation { name: "node-gray", node: Some(node), ..Installation::default() });
    for (version, error_rate) in [("1.0.0", "0"), ("2.0.0", "0"), ("3.0.0", "0.5"), ("4.0.0", "0")] {
        let image = web(&format!("web:{version}")).unwrap().env("VERSION", version).env("ERROR_RATE", error_rate);
        image.import(world.node().unwrap()).unwrap();
    }
    let definition = definition_of_routes();
    world.ensure(&definition).unwrap();
    served(world.admin(), &definition);
    Some(world)
}

fn objects(prometheus: &str) -> Vec<Value> {
    let probe = json!({"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 1});
    let container = json!({
        "name": "main", "image": "web:1.0.0", "imagePullPolicy": "Never", "ports": [{"containerPort": 8080}],
        "readinessProbe": probe,
    });
    // What fails is measured over as little as two readings need.
    let errors = "sum(rate(http_requests_total{hash=\"{{hash}}\",code=\"500\"}[3s])) \
                  / sum(rate(http_requests_total{hash=\"{{hash}}\"}[3s]))";
    vec![
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {
            "replicas": 3, "selector": {"matchLabels": {"app": "web"}},
            "strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": {"metadata": {"labels": {"app": "web"}},
                "spec": {"terminationGracePeriodSeconds": 10, "containers": [container]}},
        }}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]}}),
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "web"}, "spec": {
            "parentRefs": [{"name": "public"}], "rules": [{"backendRefs": [{"name": "web", "port": 80}]}],
        }}),
        json!({"apiVersion": "interlock.dev/v1alpha1", "kind": "RolloutPlan", "metadata": {"name": "cautious"}, "spec": {
            "canary": {
                "route": {"httpRoute": "web", "backend": "web"},
                "steps": [
                    {"setWeight": 20}, {"pause": {}}, {"setWeight": 60}, {"pause": {}},
                    {"analysis": ["errors"]},
                ],
                "background": {"analyses": ["errors"], "startingStep": 1},
            },
            "analyses": [{
                "name": "errors", "prometheus": {"address": prometheus, "query": errors},
                "successWhen": "result < 0.05", "interval": "2s", "initialDelay": "6s", "count": 3, "failureLimit": 0,
            }],
        }}),
    ]
}

/// A program that people use, and who releases it.
struct Scene<'w> {
    stage: Stage<'w>,
    gateway: Gateway,
    load: Load,
    _prometheus: Server,
}

impl<'w> Scene<'w> {
    fn set(world: &'w World, name: &str) -> Self {
        let prometheus = Server::start(world);
        let objects = objects(&prometheus.address());
        let stage = Stage::set(world, name, Options { objects, policy: policy_of(1, "sre"), ..Options::default() });
        eventually(SOON, || {
            let ready = stage.get("deployments/web")["status"]["readyReplicas"].clone();
            if ready == 3 { Ok(()) } else { Err(format!("{ready} pods are ready")) }
        });
        prometheus.wait_for(3);
        let client = world.admin().client();
        let gateway = block_on(Gateway::start(client, &stage.namespace, LAG));
        eventually(SOON, || {
            let accepted = &stage.get("httproutes/web")["status"]["parents"][0]["conditions"][0]["status"];
            if accepted == "True" { Ok(()) } else { Err("the route is not accepted".to_owned()) }
        });
        let load = block_on(async { Load::start(gateway.address(), 4) });
        Self { stage, gateway, load, _prometheus: prometheus }
    }

    fn release(&self, name: &str, image: &str) -> Change<'_> {
        let plan = json!({"rolloutPlanRef": {"name": "cautious"}});
        let change = self.stage.propose_with("alice", name, vec![deployment_image("web", image)], plan);
        change.approve(&["bob"]);
        change
    }

    fn rollout(&self, change: &Change<'_>) -> Value {
        eventually(SOON, || {
            let all = self.stage.get("rollouts");
            let found = all["items"].as_array().unwrap().iter();
            let found = found.clone().find(|one| one["spec"]["changeRequest"]["uid"] == *change.uid).cloned();
            found.ok_or_else(|| format!("{} has no Rollout: {:#}", change.name, change.status()))
        })
    }

    fn at_step(&self, change: &Change<'_>, step: u64) {
        eventually(SOON, || {
            let status = self.rollout(change)["status"].clone();
            let is_there = status["currentStep"] == step && status["phase"] == "Paused";
            if is_there { Ok(()) } else { Err(format!("step {step}: {status:#}")) }
        });
    }

    fn command(&self, change: &Change<'_>, verb: &str) {
        let rollout = self.rollout(change);
        let command = json!({
            "apiVersion": "interlock.dev/v1alpha1", "kind": "Action",
            "metadata": {"generateName": "command-", "namespace": self.stage.namespace},
            "spec": {
                "target": {"kind": "Rollout", "name": rollout["metadata"]["name"], "uid": rollout["metadata"]["uid"]},
                "verb": verb, "actor": "bob", "reason": "a test",
            },
        });
        self.stage.user("bob").create(&command).unwrap();
    }

    /// From now on, so many answers.
    fn watch(&self) -> Seen {
        let before = self.load.take();
        assert_eq!(before.failures, Vec::<String>::new(), "until now");
        eventually(SOON, || {
            let seen = self.load.seen();
            if seen.total() >= ANSWERS { Ok(()) } else { Err(format!("only {} answers", seen.total())) }
        });
        let seen = self.load.take();
        assert_eq!(seen.failures, Vec::<String>::new());
        assert_eq!(self.gateway.take_failures(), Vec::<String>::new());
        seen
    }

    fn has_share(&self, version: &str, percent: f64) {
        let seen = self.watch();
        println!("{version} at {percent} %: {:?}", seen.answers);
        assert!(seen.is_share(version, percent), "{version} should have {percent} %: {:?}", seen.answers);
    }
}

#[test]
fn r30_shares_are_those_of_the_weights_and_not_one_request_fails() {
    let _turn = crate::turn();
    let Some(world) = world() else { return };
    let scene = Scene::set(&world, "gray");
    scene.has_share("1.0.0", 100.0);
    a_good_version_is_promoted(&world, &scene);
    what_a_person_stops_goes_back(&world, &scene);
    what_fails_goes_back_by_itself(&scene);
}

fn a_good_version_is_promoted(world: &World, scene: &Scene<'_>) {
    let change = scene.release("good", "web:2.0.0");
    scene.at_step(&change, 1);
    scene.has_share("2.0.0", 20.0);
    // Whoever leads anew goes on where the other one stood.
    scene.command(&change, "Promote");
    world.kill_controller();
    world.start_controller();
    scene.at_step(&change, 3);
    scene.has_share("2.0.0", 60.0);
    scene.command(&change, "Promote");
    change.wait("Succeeded");
    scene.has_share("2.0.0", 100.0);
    let measured = scene.rollout(&change)["status"]["analyses"].clone();
    assert!(measured.to_string().contains("\"errors\""), "{measured:#}");
}

fn what_a_person_stops_goes_back(world: &World, scene: &Scene<'_>) {
    let change = scene.release("stopped", "web:4.0.0");
    scene.at_step(&change, 1);
    scene.command(&change, "Promote");
    scene.at_step(&change, 3);
    scene.has_share("4.0.0", 60.0);
    scene.command(&change, "Abort");
    // In the middle of the way back.
    world.kill_controller();
    world.start_controller();
    change.wait("RolledBack");
    scene.has_share("4.0.0", 0.0);
}

fn what_fails_goes_back_by_itself(scene: &Scene<'_>) {
    let change = scene.release("bad", "web:3.0.0");
    let status = change.wait("RolledBack");
    assert!(status["message"].as_str().unwrap_or_default().contains("errors"), "{status:#}");
    // Its own answers failed; nothing else did.
    let seen = scene.load.take();
    let foreign = |why: &&String| !why.contains("500 Internal Server Error: 3.0.0");
    assert_eq!(seen.failures.iter().find(foreign), None);
    assert!(!seen.failures.is_empty());
    let foreign = |why: &&String| !why.ends_with(": 500 Internal Server Error");
    assert_eq!(scene.gateway.take_failures().iter().find(foreign), None);
    scene.has_share("2.0.0", 100.0);
}
