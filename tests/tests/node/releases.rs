//! What people who use a program see of its releases.

use std::{net::SocketAddr, time::Duration};

use interlock_cluster::{Node, NodeOptions, PodNetwork, web};
use interlock_tests::{
    Change, Installation, Options, Stage, World, deployment_image, eventually,
    gateway::{Gateway, SEED, definition_of_routes},
    load::{Load, ask, is_chance},
    served,
    stage::policy_of,
    world::{SOON, block_on},
};
use serde_json::{Value, json};

use crate::prometheus::Server;

/// Answers that a share is judged by at least where a release waits. Where it does not, all that there are.
const ANSWERS: u64 = 2_000;
/// Answers that people get while nobody leads.
const LEADERLESS: u64 = 500;
/// Requests with the header that leads to the new version.
const TESTED: u64 = 100;
/// Percent of the requests that are copied.
const COPIED: u8 = 25;
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
        json!({"apiVersion": "interlock.dev/v1alpha1", "kind": "RolloutPlan", "metadata": {"name": "tested"}, "spec": {
            "canary": {
                "route": {"httpRoute": "web", "backend": "web"},
                "steps": [
                    {"setWeight": 0}, {"headerMatch": {"headers": [{"name": "x-canary", "value": "yes"}]}},
                    {"mirror": {"percent": COPIED}}, {"pause": {}},
                    {"setWeight": 60}, {"headerMatch": {}}, {"mirror": {"percent": 0}}, {"pause": {}},
                ],
            },
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

    fn release(&self, name: &str, image: &str, plan: &str) -> Change<'_> {
        let plan = json!({"rolloutPlanRef": {"name": plan}});
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

    /// The generation of the route as it is.
    fn generation(&self) -> i64 {
        self.stage.get("httproutes/web")["metadata"]["generation"].as_i64().unwrap()
    }

    /// Waits until people have enough answers by the route as it is.
    fn answered(&self) {
        let generation = self.generation();
        eventually(SOON, || match self.load.seen().by(generation) {
            found if found >= ANSWERS => Ok(()),
            found => Err(format!("only {found} answers by generation {generation} of the route")),
        });
    }

    /// All answers since the last time: nothing failed, and by each route that people came by, both versions had the shares
    /// that its weights say. Returns the percents of the new version that people passed; none for the route's own form, by
    /// which only the old version came before the release and only the `last` after it.
    fn judged(&self, old: &str, new: &str, last: &str) -> Vec<Option<u64>> {
        let seen = self.load.take();
        assert_eq!(seen.failures, Vec::<String>::new());
        assert_eq!(self.gateway.take_failures(), Vec::<String>::new());
        let mut passed: Vec<Option<u64>> = Vec::new();
        for ((generation, weights), answers) in &seen.answers {
            let stated = weights.split(' ').find_map(|one| one.strip_prefix("web-canary="));
            let stated = stated.map(|percent| percent.parse::<u64>().unwrap());
            let is_after = passed.iter().any(Option::is_some);
            let percent = stated.unwrap_or(if is_after && last == new { 100 } else { 0 });
            let of = |version: &str| answers.get(version).copied().unwrap_or_default();
            let told = format!("generation {generation} of the route, {weights}: {answers:?}");
            println!("{told}");
            let all = of(old) + of(new);
            assert_eq!(answers.values().sum::<u64>(), all, "of {old} and {new} only: {told}");
            assert!(is_chance(of(new), all, percent as f64), "{new} should have {percent} %: {told}");
            if passed.last() != Some(&stated) {
                passed.push(stated);
            }
        }
        passed
    }

    /// Kills the controller as soon as its release is so, shows that it died there and that people do not notice, and lets
    /// another one lead.
    fn killed_while(&self, change: &Change<'_>, what: &str, is: impl Fn(&Value) -> bool) {
        let status = || self.rollout(change)["status"].clone();
        eventually(SOON, || {
            let status = status();
            if is(&status) { Ok(()) } else { Err(format!("{what}: {status:#}")) }
        });
        self.stage.world.kill_controller();
        let left = status();
        assert!(is(&left), "killed, but no longer while {what}: {left:#}");
        let before = self.load.seen().total();
        eventually(SOON, || match self.load.seen().total() - before {
            found if found >= LEADERLESS => Ok(()),
            found => Err(format!("only {found} answers while nobody leads")),
        });
        self.stage.world.start_controller();
    }

    /// Requests that pods of the second Deployment say they have answered.
    fn counted(&self) -> u64 {
        let pods = self.stage.get("pods?labelSelector=interlock.dev/track=canary");
        let count = |pod: &Value| -> u64 {
            let address = SocketAddr::new(pod["status"]["podIP"].as_str().unwrap().parse().unwrap(), 8080);
            let told = block_on(ask(address, "/metrics", None)).unwrap().body;
            let counters = told.lines().filter(|line| line.starts_with("http_requests_total{"));
            counters.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
        };
        pods["items"].as_array().unwrap().iter().map(count).sum()
    }

    /// Whether the route has its own form.
    fn is_unsplit(&self) -> bool {
        let rules = &self.stage.get("httproutes/web")["spec"]["rules"];
        rules[1].is_null() && rules[0]["backendRefs"][0]["name"] == "web" && rules[0]["backendRefs"][1].is_null()
    }
}

#[test]
fn r30_shares_are_those_of_the_weights_and_not_one_request_fails() {
    let _turn = crate::turn();
    let Some(world) = world() else { return };
    println!("shares and copies are drawn by seed {SEED}");
    let scene = Scene::set(&world, "gray");
    a_good_version_is_promoted(&world, &scene);
    what_a_person_stops_goes_back(&scene);
    what_fails_goes_back_by_itself(&scene);
}

fn a_good_version_is_promoted(world: &World, scene: &Scene<'_>) {
    let change = scene.release("good", "web:2.0.0", "cautious");
    scene.at_step(&change, 1);
    scene.answered();
    // Whoever leads anew goes on where the other one stood.
    scene.command(&change, "Promote");
    world.kill_controller();
    world.start_controller();
    scene.at_step(&change, 3);
    scene.answered();
    scene.command(&change, "Promote");
    scene.killed_while(&change, "the workload itself takes the new version", |status| {
        let promotion = &status["promotion"];
        status["phase"] == "Promoting" && promotion["written"] == true && promotion["returning"] == false
    });
    change.wait("Succeeded");
    scene.answered();
    assert_eq!(scene.judged("1.0.0", "2.0.0", "2.0.0"), [None, Some(20), Some(60), Some(100), None]);
    let measured = scene.rollout(&change)["status"]["analyses"].clone();
    assert!(measured.to_string().contains("\"errors\""), "{measured:#}");
}

fn what_a_person_stops_goes_back(scene: &Scene<'_>) {
    let change = scene.release("stopped", "web:4.0.0", "tested");
    scene.at_step(&change, 3);
    headers_and_copies_reach_it(scene);
    scene.command(&change, "Promote");
    scene.at_step(&change, 7);
    scene.answered();
    scene.command(&change, "Abort");
    scene.killed_while(&change, "its traffic has returned, and its pods are still there", |status| {
        status["phase"] == "Aborting" && scene.is_unsplit() && scene.stage.exists("deployments/web-canary")
    });
    change.wait("RolledBack");
    scene.answered();
    assert_eq!(scene.judged("2.0.0", "4.0.0", "2.0.0"), [None, Some(0), Some(60), None]);
}

/// Whoever sends the header reaches the new version; of a share of all other requests it sees copies, whose answers nobody
/// sees.
fn headers_and_copies_reach_it(scene: &Scene<'_>) {
    let generation = scene.generation();
    for (value, version) in [("yes", "4.0.0"), ("no", "2.0.0")] {
        for _ in 0..TESTED {
            let answer = block_on(ask(scene.gateway.address(), "/", Some(("x-canary", value)))).unwrap();
            assert_eq!((answer.body.as_str(), answer.route.0), (version, generation), "x-canary: {value}");
        }
    }
    scene.answered();
    let routed = scene.gateway.routed(generation);
    println!("generation {generation} of the route: {routed:?}");
    assert_eq!(routed.answered["web-canary"], TESTED);
    let (copied, all) = (routed.copied["web-canary"], routed.answered["web-stable"]);
    assert!(is_chance(copied, all, f64::from(COPIED)), "{copied} of {all} were copied");
    // That all other answers are the old version's is judged when the release has ended; here, that the copies came.
    let counted = eventually(SOON, || match scene.counted() {
        counted if counted >= TESTED + copied => Ok(counted),
        counted => Err(format!("it answered {counted} of {TESTED} requests and {copied} copies")),
    });
    let since = scene.gateway.routed(generation).copied["web-canary"];
    assert!(counted <= TESTED + since, "it answered {counted} of {TESTED} requests and at most {since} copies");
}

fn what_fails_goes_back_by_itself(scene: &Scene<'_>) {
    let change = scene.release("bad", "web:3.0.0", "cautious");
    let status = change.wait("RolledBack");
    assert!(status["message"].as_str().unwrap_or_default().contains("errors"), "{status:#}");
    // Its own answers failed; nothing else did.
    let seen = scene.load.take();
    let foreign = |why: &&String| !why.contains("500 Internal Server Error: 3.0.0");
    assert_eq!(seen.failures.iter().find(foreign), None);
    assert!(!seen.failures.is_empty());
    let foreign = |why: &&String| !why.ends_with(": 500 Internal Server Error");
    assert_eq!(scene.gateway.take_failures().iter().find(foreign), None);
    scene.answered();
    assert_eq!(scene.judged("2.0.0", "3.0.0", "2.0.0"), [None::<u64>]);
}
