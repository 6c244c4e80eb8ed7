//! One release on the tiny cluster, with what must hold after every event.

use std::collections::BTreeMap;

use interlock_crds::{
    ChangeRequestRef, Form, OperationKind, RolloutPhase, RolloutPlanSpec, RolloutSpec, RolloutStatus, RolloutTarget,
    StepGate,
};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::cluster::{Cluster, Event, key};
use crate::rollout::{
    AnalysisFact, CommandFact, ConfigTarget, GateFact, LiveObjects, PlannedWrite, RefusedWrite, RolloutDecision,
    RolloutFacts, RolloutVerb, TargetFacts, Verdict, WindowFact, capacity, decide, notes, permitted,
    sign_off::SignOffFacts,
};

pub const UID: &str = "0b5e7f52-0000-4000-8000-000000000001";
pub const DIGEST: &str = "sha256:1111111111111111111111111111111111111111111111111111111111111111";

pub fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_795_000_000 + seconds).unwrap()
}

pub fn deployment(image: &str, replicas: u32) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "teller", "namespace": "teller", "labels": {"app": "teller", "argocd": "tracks-me"}},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "teller"}},
            "template": {
                "metadata": {"labels": {"app": "teller"}},
                "spec": {"containers": [{"name": "teller", "image": image}]},
            },
        },
    })
}

pub fn service() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "teller", "namespace": "teller", "labels": {"team": "branch"}},
        "spec": {"selector": {"app": "teller"}, "ports": [{"port": 80, "nodePort": 30080}], "type": "NodePort", "clusterIP": "10.0.0.7"},
    })
}

pub fn route() -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": {"name": "teller", "namespace": "teller", "labels": {"l": "1"}, "annotations": {"a": "2"}},
        "spec": {
            "parentRefs": [{"name": "edge"}],
            "hostnames": ["teller.example"],
            "rules": [
                {"matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
                 "filters": [{"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "x", "value": "y"}]}}],
                 "backendRefs": [{"group": "", "kind": "Service", "name": "teller", "port": 80, "weight": 1}]},
                {"matches": [{"path": {"type": "PathPrefix", "value": "/static"}}],
                 "backendRefs": [{"group": "", "kind": "Service", "name": "cdn", "port": 80, "weight": 1}]},
            ],
        },
    })
}

pub fn autoscaler(least: u32, most: u32) -> Value {
    json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "teller", "namespace": "teller"},
        "spec": {"minReplicas": least, "maxReplicas": most, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "teller"}},
    })
}

pub fn plan(mut value: Value) -> RolloutPlanSpec {
    let analysis =
        |name: &str| json!({"name": name, "http": {"url": "http://x.example"}, "successWhen": "status == 200.0"});
    value["analyses"] = json!(["errors", "slow", "late", "beside"].map(analysis));
    serde_json::from_value(value).unwrap()
}

pub fn routed(steps: Value) -> RolloutPlanSpec {
    plan(
        json!({"canary": {"route": {"httpRoute": "teller", "backend": "teller"}, "steps": steps}, "progressDeadline": "60s"}),
    )
}

pub fn by_pods(steps: Value) -> RolloutPlanSpec {
    plan(json!({"canary": {"steps": steps}, "progressDeadline": "60s"}))
}

/// Where the controller is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kill {
    Never,
    /// After this many writes to objects or to the status.
    After(u32),
}

// Each is one fact that a test sets.
#[allow(clippy::struct_excessive_bools)]
pub struct Game {
    pub cluster: Cluster,
    pub spec: RolloutSpec,
    pub status: RolloutStatus,
    pub target: TargetFacts,
    pub now: Timestamp,
    pub commands: Vec<CommandFact>,
    pub verdicts: BTreeMap<String, Verdict>,
    pub runs: Vec<String>,
    pub gates: BTreeMap<StepGate, GateFact>,
    pub window: Option<WindowFact>,
    pub votes: Vec<crate::change::facts::Vote>,
    pub people: crate::people::People,
    pub superseded_by: Option<String>,
    pub return_asked: Option<String>,
    pub refused: Option<RefusedWrite>,
    pub known_good: bool,
    pub change_active: bool,
    pub deleting: bool,
    pub released: bool,
    pub kill: Kill,
    pub kills: u32,
    pub chaos: bool,
    /// Everything that was written, in order.
    pub log: Vec<String>,
    /// Every weight that the Gateway took up.
    pub weights: Vec<u8>,
    pub phases: Vec<RolloutPhase>,
    /// What people were told, in order.
    pub told: Vec<String>,
    pub status_writes: u32,
    pub urgent_writes: u32,
    pub uid: String,
    originals: BTreeMap<String, Value>,
}

impl Game {
    pub fn new(plan: RolloutPlanSpec, before: Value, wanted: Value, others: &[Value]) -> Self {
        let mut cluster = Cluster { bad_images: vec!["bad".into(), "worse".into()], ..Cluster::default() };
        cluster.nodes = 5;
        cluster.put(before.clone());
        for object in others {
            cluster.put(object.clone());
        }
        let mut game = Self {
            cluster,
            spec: RolloutSpec {
                change_request: ChangeRequestRef {
                    name: "cr".into(),
                    uid: "0b5e7f52-0000-4000-8000-0000000000cc".into(),
                },
                change_digest: DIGEST.into(),
                plan,
                targets: vec![RolloutTarget {
                    kind: serde_json::from_value(before["kind"].clone()).unwrap(),
                    namespace: "teller".into(),
                    name: "teller".into(),
                }],
                part_of: None,
            },
            status: RolloutStatus::default(),
            target: TargetFacts::new(before, wanted, Vec::new()),
            now: at(0),
            commands: Vec::new(),
            verdicts: BTreeMap::new(),
            runs: Vec::new(),
            gates: BTreeMap::new(),
            window: None,
            votes: Vec::new(),
            people: crate::people::People::default(),
            superseded_by: None,
            return_asked: None,
            refused: None,
            known_good: false,
            change_active: true,
            deleting: false,
            released: false,
            kill: Kill::Never,
            kills: 0,
            chaos: false,
            log: Vec::new(),
            weights: Vec::new(),
            phases: Vec::new(),
            told: Vec::new(),
            status_writes: 0,
            urgent_writes: 0,
            uid: UID.into(),
            originals: BTreeMap::new(),
        };
        game.settle_cluster();
        game.remember();
        game
    }

    pub fn with_configs(mut self, configs: Vec<ConfigTarget>) -> Self {
        for config in &configs {
            if let Some(before) = &config.before {
                self.cluster.put(before.clone());
            }
        }
        self.target.configs = configs;
        self
    }

    /// The objects as the user has them.
    pub fn remember(&mut self) {
        self.originals = self.cluster.objects.clone();
    }

    /// The next change, on the cluster as this release leaves it.
    pub fn next_change(&mut self, plan: RolloutPlanSpec, uid: &str, image: &str) {
        let kind = self.target.before["kind"].as_str().unwrap();
        let mut before = self.cluster.get(kind, "teller").unwrap().clone();
        crate::object::strip_server_fields(&mut before);
        let mut wanted = before.clone();
        wanted["spec"]["template"]["spec"]["containers"][0]["image"] = json!(image);
        self.target = TargetFacts::new(before, wanted, Vec::new());
        self.status = RolloutStatus::default();
        self.spec.plan = plan;
        self.uid = uid.into();
        self.superseded_by = None;
        self.commands.clear();
        self.phases.clear();
    }

    pub fn settle_cluster(&mut self) {
        for _ in 0..2000 {
            let Some(event) = self.cluster.events().into_iter().next() else { return };
            self.cluster.happen(&event);
        }
        panic!("the cluster does not settle");
    }

    pub fn command(&mut self, verb: RolloutVerb) {
        let id = format!("action-{}-{}", self.commands.len(), self.uid);
        self.commands.push(CommandFact { id, verb, actor: "li-na".into(), reason: "because".into(), at: self.now });
    }

    pub fn decide(&self) -> RolloutDecision {
        self.decide_on(&self.status)
    }

    pub fn decide_on(&self, status: &RolloutStatus) -> RolloutDecision {
        self.with_facts(status, &self.cluster.live(), |facts| decide(facts, self.now))
    }

    pub fn with_facts<T>(
        &self,
        status: &RolloutStatus,
        live: &LiveObjects,
        then: impl FnOnce(&RolloutFacts<'_>) -> T,
    ) -> T {
        let analyses: Vec<_> = self
            .verdicts
            .iter()
            .flat_map(|(name, verdict)| {
                let runs = self.runs.iter().filter(move |run| run.contains(&format!("-{name}-")));
                runs.map(move |run| AnalysisFact {
                    name: name.clone(),
                    run: run.clone(),
                    verdict: *verdict,
                    measured: *verdict == Verdict::Passed,
                    message: format!("it says {verdict:?}"),
                    wake_at: None,
                })
            })
            .collect();
        let contributors = std::collections::BTreeSet::new();
        let sign_offs = SignOffFacts {
            change_uid: &self.spec.change_request.uid,
            votes: &self.votes,
            people: &self.people,
            requester: "wang",
            contributors: &contributors,
        };
        let windows = BTreeMap::new();
        then(&RolloutFacts {
            namespace: "teller",
            name: "teller-2",
            uid: &self.uid,
            generation: 1,
            deleting: self.deleting,
            spec: &self.spec,
            status,
            change_active: self.change_active,
            target: Some(&self.target),
            live,
            analyses: &analyses,
            commands: &self.commands,
            sign_offs: Some(sign_offs),
            gates: &self.gates,
            window: self.window.as_ref(),
            wave_windows: &windows,
            superseded_by: self.superseded_by.as_deref(),
            known_good: self.known_good.then_some("it served well an hour ago"),
            return_asked: self.return_asked.as_deref(),
            refused: self.refused.as_ref(),
        })
    }

    fn die(&mut self) -> bool {
        if let Kill::After(left) = &mut self.kill {
            if *left == 0 {
                self.kill = Kill::Never;
                self.kills += 1;
                return true;
            }
            *left -= 1;
        }
        false
    }

    /// One pass of the controller; true if it wrote anything.
    pub fn pass(&mut self) -> bool {
        let decision = self.decide();
        self.released |= decision.release;
        let mut wrote = decision.analyses.iter().any(|run| !self.runs.contains(&run.run));
        if decision.status != self.status {
            self.urgent_writes += u32::from(decision.must_record(&self.status));
            let told = notes(&self.spec.plan, &self.status, &decision);
            self.told.extend(told.into_iter().map(|note| format!("{}: {}", note.reason, note.message)));
            self.status = decision.status.clone();
            self.status_writes += 1;
            if self.phases.last() != Some(&self.status.phase) {
                self.phases.push(self.status.phase);
            }
            wrote = true;
            self.check();
            let again = self.decide();
            assert_eq!(again.status, self.status, "deciding again on the result changes nothing");
            assert_eq!(again.writes, decision.writes, "deciding again on the result plans the same writes");
            if self.die() {
                return true;
            }
        }
        for run in &decision.analyses {
            if !self.runs.contains(&run.run) {
                self.runs.push(run.run.clone());
            }
        }
        for write in &decision.writes {
            self.allowed(write);
            match self.cluster.apply(write) {
                Ok(()) => {
                    self.log.push(format!(
                        "{:?} {:?} {} {}",
                        write.operation,
                        write.form,
                        write.id.name,
                        write.number.unwrap_or(-1)
                    ));
                    wrote = true;
                }
                Err(error) => {
                    self.log.push(error);
                    return true;
                }
            }
            self.check();
            if self.die() {
                return true;
            }
        }
        wrote
    }

    /// Everything happens in turn until nothing does; then time goes on to the next due time, at most to `until`.
    pub fn run_for(&mut self, seconds: i64) {
        let until = self.now.checked_add(SignedDuration::from_secs(seconds)).unwrap();
        for _ in 0..20_000 {
            if self.pass() {
                continue;
            }
            if let Some(event) = self.cluster.events().into_iter().next() {
                self.happen(&event);
                continue;
            }
            if let Some(wake) = self.decide().wake_at.filter(|wake| *wake <= until) {
                self.now = wake;
                continue;
            }
            self.now = until;
            if !self.pass() {
                return;
            }
        }
        panic!("it never comes to rest: {:?} {:?}", self.status.phase, self.decide().reasons);
    }

    pub fn happen(&mut self, event: &Event) {
        self.cluster.clock = self.now;
        self.cluster.happen(event);
        if let Event::Accept(_) = event {
            let share = self.effective_share();
            if self.weights.last() != Some(&share) {
                self.weights.push(share);
            }
        }
        self.check();
    }

    /// What the Gateway sends to `teller-canary`, of what it sends to teller at all.
    pub fn effective_share(&self) -> u8 {
        let Some(spec) = self.cluster.effective.get(&key("HTTPRoute", "teller")) else { return 0 };
        let route = json!({"spec": spec});
        crate::rollout::derive::route::share(&route, "teller").map_or(0, |(_, most)| most.canary)
    }

    /// What a write must respect at the moment at which it is made (R30).
    fn allowed(&self, write: &PlannedWrite) {
        let live = self.cluster.live();
        let before = live.get(&write.id).cloned();
        let verdict =
            self.with_facts(&self.status, &live, |facts| permitted(facts, before.as_ref(), write.object.as_ref()));
        assert_eq!(verdict, Ok(()), "the webhook permits {:?} of {}", write.form, write.id);
        let broken = self.status.start.as_ref().is_some_and(|start| start.ready == Some(0))
            || self.cluster.get("Deployment", "teller").is_none();
        let size =
            self.cluster.get("Deployment", "teller").map_or(0, |d| d["spec"]["replicas"].as_u64().unwrap() as u32);
        let ready = |service: &str| self.cluster.ready_behind(service);
        if write.id.kind == "HTTPRoute" {
            for (backend, weight) in weights(write.object.as_ref().unwrap()) {
                let rose = weights(before.as_ref().unwrap()).get(&backend).is_none_or(|old| *old < weight);
                assert!(
                    weight == 0
                        || !rose
                        || backend == "cdn"
                        || ready(&backend) > 0
                        || broken
                        || (ready("teller-canary") == 0 && self.cluster.ready_of("teller") == 0),
                    "{backend} gets {weight} without a ready pod"
                );
            }
        }
        let is_canary = write.id.kind == "Deployment" && write.id.name == "teller-canary";
        let share = self.effective_share();
        let pinned_new = self
            .cluster
            .get("Service", "teller")
            .and_then(|s| s["spec"]["selector"]["pod-template-hash"].as_str())
            .is_some_and(|hash| self.status.hashes.as_ref().is_some_and(|h| h.canary == hash));
        if is_canary && write.operation == OperationKind::Delete {
            assert_eq!(share, 0, "its traffic has left before the second Deployment goes");
            assert!(!pinned_new, "callers inside the cluster have left too");
        }
        if is_canary && write.operation == OperationKind::Update {
            let replicas_of = |o: &Option<Value>| o.as_ref().unwrap()["spec"]["replicas"].as_u64().unwrap() as u32;
            let (had, replicas) = (replicas_of(&before), replicas_of(&write.object));
            let most = self.spec.plan.canary.as_ref().and_then(|c| c.max_canary_replicas);
            let stated = self.status.asked.as_ref().and_then(|a| a.replicas);
            if self.spec.plan.canary.as_ref().is_some_and(|c| c.route.is_some()) && stated.is_none() && replicas < had {
                assert!(
                    replicas >= capacity::pods_for(size, share, most),
                    "{replicas} pods are too few for {share} percent of {size}: {:?}",
                    self.log
                );
            }
        }
        if write.id.kind == "Deployment" && write.id.name == "teller" {
            let (old, new) =
                (&before.as_ref().unwrap()["spec"]["replicas"], &write.object.as_ref().unwrap()["spec"]["replicas"]);
            let wanted = &self.target.wanted["spec"]["replicas"];
            assert!(
                old == new || *wanted != self.target.before["spec"]["replicas"],
                "the size is not the release's to change"
            );
            let service_mode = self
                .cluster
                .get("Service", "teller")
                .is_some_and(|s| s["spec"]["selector"].get("pod-template-hash").is_some());
            if write.form == Form::Promoted && service_mode {
                assert!(
                    share == 100 || self.spec.plan.blue_green.is_some(),
                    "the second Deployment carries everything"
                );
                assert!(pinned_new);
                assert!(self.chaos || self.cluster.ready_of("teller-canary") >= size, "at full size");
            }
        }
    }

    /// What holds after every event.
    pub fn check(&self) {
        if let Some(route) = self.cluster.get("HTTPRoute", "teller") {
            for rule in route["spec"]["rules"].as_array().unwrap() {
                let pair: Vec<_> = rule["backendRefs"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .filter(|r| r["name"].as_str().unwrap().starts_with("teller-"))
                    .collect();
                if pair.len() == 2 {
                    let sum: i64 = pair.iter().map(|r| r["weight"].as_i64().unwrap()).sum();
                    assert!(sum == 100 || rule["backendRefs"].as_array().unwrap().len() > 2, "the weights are {sum}");
                }
            }
        }
        let kind = self.target.before["kind"].as_str().unwrap();
        let Some(stable) = self.cluster.get(kind, "teller") else { return };
        let image = &stable["spec"]["template"]["spec"]["containers"][0]["image"];
        let new_image = &self.target.wanted["spec"]["template"]["spec"]["containers"][0]["image"];
        let old_image = &self.target.before["spec"]["template"]["spec"]["containers"][0]["image"];
        if image == new_image && new_image != old_image {
            let written = self.status.promotion.as_ref().is_some_and(|p| p.written);
            assert!(
                kind != "Deployment" || written || self.status.phase == RolloutPhase::Succeeded,
                "the new template reached the stable before its promotion"
            );
        }
        // Whatever the Gateway uses is there, unless the test itself breaks pods.
        if !self.chaos
            && let Some(spec) = self.cluster.effective.get(&key("HTTPRoute", "teller"))
        {
            let broken =
                self.status.start.as_ref().is_some_and(|start| start.ready == Some(0)) || self.status.start.is_none();
            for (backend, weight) in weights(&json!({"spec": spec})) {
                assert!(
                    weight == 0 || backend == "cdn" || broken || self.cluster.ready_behind(&backend) > 0,
                    "{weight} percent go to {backend}, which has no ready pod: {:?}",
                    self.log
                );
            }
        }
        if self.status.phase == RolloutPhase::RolledBack && self.status.started_at.is_some() {
            self.as_before(old_image);
        }
        if self.status.phase == RolloutPhase::Succeeded {
            self.as_before(new_image);
        }
    }

    /// Nothing of the release is left, and everything else is byte by byte as it was.
    pub fn as_before(&self, image: &Value) {
        let kind = self.target.before["kind"].as_str().unwrap();
        let stable = self.cluster.get(kind, "teller").unwrap();
        assert_eq!(stable["spec"]["template"]["spec"]["containers"][0]["image"], *image);
        for (key, object) in &self.cluster.objects {
            let label = object.pointer("/metadata/labels").and_then(|l| l.get(crate::rollout::ROLLOUT_LABEL));
            assert!(label.is_none_or(|uid| uid != self.uid.as_str()) || object["kind"] == "Job", "{key} is left");
            let epoch = object.pointer("/metadata/annotations").and_then(|a| a.get(crate::change::EPOCH_ANNOTATION));
            assert!(epoch.is_none(), "{key} still has a mark");
            if let (Some(original), "Service" | "HTTPRoute" | "HorizontalPodAutoscaler") =
                (self.originals.get(key), object["kind"].as_str().unwrap())
            {
                assert_eq!(object["spec"], original["spec"], "{key} is as it was");
                assert_eq!(object["metadata"].get("annotations"), original["metadata"].get("annotations"));
            }
        }
    }

    /// What people were told, in brief: `1 of 2` for a step that is complete, else the reason.
    pub fn told_briefly(&self) -> Vec<&str> {
        let told = self.told.iter().map(|told| match told.strip_prefix("StepCompleted: step ") {
            Some(step) => step.split(" is complete").next().unwrap(),
            None => told.split(':').next().unwrap(),
        });
        told.collect()
    }

    pub fn phase(&self) -> RolloutPhase {
        self.status.phase
    }

    pub fn message(&self) -> &str {
        self.status.message.as_deref().unwrap_or_default()
    }
}

/// Weights of the backends of the rules that serve teller.
pub fn weights(route: &Value) -> BTreeMap<String, i64> {
    let mut found = BTreeMap::new();
    for rule in route["spec"]["rules"].as_array().unwrap() {
        for reference in rule["backendRefs"].as_array().unwrap() {
            let weight = reference["weight"].as_i64().unwrap_or(1);
            let entry: &mut i64 = found.entry(reference["name"].as_str().unwrap().to_owned()).or_default();
            *entry = (*entry).max(weight);
        }
    }
    found
}
