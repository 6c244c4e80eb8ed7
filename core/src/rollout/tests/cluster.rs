//! A tiny cluster: what the API server refuses, what the Deployment controller, kubelets, the endpoint controller and a
//! Gateway do, one small thing at a time, in whatever order a test wants.

use std::collections::BTreeMap;

use interlock_crds::OperationKind;
use serde_json::{Value, json};

use crate::{
    object::{Digest, ObjectId},
    rollout::{LiveObjects, PlannedWrite, live},
};

#[derive(Clone, Debug)]
pub struct Pod {
    pub name: String,
    pub owner: String,
    pub labels: Value,
    pub image: String,
    pub ready: bool,
    pub leaving: bool,
}

/// One small thing that the cluster can do by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Reconcile(String),
    Ready(String),
    Left(String),
    Endpoints(String),
    Accept(String),
}

#[derive(Clone, Debug, Default)]
pub struct Cluster {
    pub objects: BTreeMap<String, Value>,
    pub pods: Vec<Pod>,
    pub endpoints: BTreeMap<String, BTreeMap<String, u32>>,
    /// What the Gateway last took up, by key.
    pub effective: BTreeMap<String, Value>,
    pub bad_images: Vec<String>,
    pub gateway_is_down: bool,
    pub nodes: usize,
    pub counter: u64,
    pub clock: jiff::Timestamp,
    pub revision: u64,
}

pub fn key(kind: &str, name: &str) -> String {
    let group = match kind {
        "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet" | "ControllerRevision" => "apps",
        "HTTPRoute" => "gateway.networking.k8s.io",
        "HorizontalPodAutoscaler" => "autoscaling",
        "Job" => "batch",
        "PodDisruptionBudget" => "policy",
        _ => "",
    };
    format!("{group}/{kind}/teller/{name}")
}

fn hash_of(template: &Value) -> String {
    Digest::of_canonical(template).unwrap().to_string().chars().skip(7).take(8).collect()
}

impl Cluster {
    pub fn get(&self, kind: &str, name: &str) -> Option<&Value> {
        self.objects.get(&key(kind, name))
    }

    /// An object as somebody else writes it.
    pub fn put(&mut self, mut object: Value) {
        self.counter += 1;
        let id = ObjectId::of(&object).unwrap();
        let generation =
            self.objects.get(&id.key()).and_then(|o| o["metadata"]["generation"].as_i64()).unwrap_or(0) + 1;
        let uid = self
            .objects
            .get(&id.key())
            .map_or_else(|| json!(format!("uid-{}", self.counter)), |o| o["metadata"]["uid"].clone());
        object["metadata"]["uid"] = uid;
        object["metadata"]["resourceVersion"] = json!(self.counter.to_string());
        object["metadata"]["generation"] = json!(generation);
        self.objects.insert(id.key(), object);
    }

    /// Somebody edits an object.
    pub fn edit(&mut self, kind: &str, name: &str, edit: impl FnOnce(&mut Value)) {
        let mut object = self.get(kind, name).unwrap().clone();
        edit(&mut object);
        self.put(object);
    }

    /// What the API server does with a write; the error is why it refuses.
    pub fn apply(&mut self, write: &PlannedWrite) -> Result<(), String> {
        let found = self.objects.get(&write.id.key()).cloned();
        if let Some(found) = &found {
            let is = |wanted: &Option<String>, pointer: &str| {
                wanted.as_ref().is_none_or(|wanted| found.pointer(pointer).and_then(Value::as_str) == Some(wanted))
            };
            if !is(&write.precondition.uid, "/metadata/uid")
                || !is(&write.precondition.resource_version, "/metadata/resourceVersion")
            {
                return Err(format!("conflict on {}", write.id));
            }
        }
        match (write.operation, found) {
            (OperationKind::Create, Some(_)) => return Err(format!("{} exists", write.id)),
            (OperationKind::Create, None) => self.put(write.object.clone().unwrap()),
            (OperationKind::Update, None) => return Err(format!("{} not found", write.id)),
            (OperationKind::Update, Some(found)) => {
                let new = write.object.clone().unwrap();
                let (generation, same) = (found["metadata"]["generation"].clone(), found["spec"] == new["spec"]);
                self.put(new);
                if same {
                    self.objects.get_mut(&write.id.key()).unwrap()["metadata"]["generation"] = generation;
                }
            }
            (_, None) => {}
            (_, Some(_)) if write.foreground => {
                self.counter += 1;
                let rv = json!(self.counter.to_string());
                let object = self.objects.get_mut(&write.id.key()).unwrap();
                object["metadata"]["deletionTimestamp"] = json!("2026-11-23T00:00:00Z");
                object["metadata"]["resourceVersion"] = rv;
            }
            (_, Some(found)) => {
                let name = found["metadata"]["name"].as_str().unwrap().to_owned();
                let uid = found["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
                self.objects.retain(|_, object| {
                    object["kind"] != "ReplicaSet" || object["metadata"]["ownerReferences"][0]["uid"] != json!(uid)
                });
                self.pods.retain(|pod| pod.owner != uid);
                self.objects.remove(&write.id.key());
                self.endpoints.remove(&name);
            }
        }
        Ok(())
    }

    pub fn live(&self) -> LiveObjects {
        let mut live = LiveObjects::default();
        for object in self.objects.values() {
            live.insert(object.clone());
        }
        live.endpoints = self.endpoints.clone();
        live
    }

    /// Everything that could happen next.
    pub fn events(&self) -> Vec<Event> {
        let mut events = Vec::new();
        for (key, object) in &self.objects {
            let kind = object["kind"].as_str().unwrap();
            if matches!(kind, "StatefulSet" | "DaemonSet") && self.clone().reconcile_set(key) {
                events.push(Event::Reconcile(key.clone()));
            }
            if kind == "Deployment" && self.clone().reconcile(key) {
                events.push(Event::Reconcile(key.clone()));
            }
            if kind == "HTTPRoute"
                && !self.gateway_is_down
                && (self.effective.get(key) != Some(&object["spec"]) || !live::is_accepted(object))
            {
                events.push(Event::Accept(key.clone()));
            }
            if kind == "Service"
                && self.endpoints.get(object["metadata"]["name"].as_str().unwrap()) != Some(&self.behind(object))
            {
                events.push(Event::Endpoints(object["metadata"]["name"].as_str().unwrap().to_owned()));
            }
        }
        for pod in &self.pods {
            if pod.leaving {
                events.push(Event::Left(pod.name.clone()));
            } else if !pod.ready && !self.bad_images.contains(&pod.image) {
                events.push(Event::Ready(pod.name.clone()));
            }
        }
        events
    }

    pub fn happen(&mut self, event: &Event) {
        match event {
            Event::Reconcile(key) if self.objects[key]["kind"] != "Deployment" => {
                self.reconcile_set(key);
            }
            Event::Reconcile(key) => {
                self.reconcile(key);
            }
            Event::Ready(name) => self.pods.iter_mut().filter(|p| p.name == *name).for_each(|p| p.ready = true),
            Event::Left(name) => self.pods.retain(|p| p.name != *name),
            Event::Endpoints(name) => {
                let behind = self.behind(self.get("Service", name).unwrap());
                self.endpoints.insert(name.clone(), behind);
            }
            Event::Accept(key) => self.accept(key),
        }
        self.count_pods();
    }

    fn accept(&mut self, key: &str) {
        let route = self.objects.get_mut(key).unwrap();
        self.effective.insert(key.to_owned(), route["spec"].clone());
        let generation = route["metadata"]["generation"].clone();
        route["status"] = json!({"parents": [{
        "parentRef": {"name": "edge"}, "controllerName": "example.com/gateway",
        "conditions": [
            {"type": "Accepted", "status": "True", "observedGeneration": generation},
            {"type": "ResolvedRefs", "status": "True", "observedGeneration": generation},
        ]}]});
        self.counter += 1;
        route["metadata"]["resourceVersion"] = json!(self.counter.to_string());
    }

    /// Pods that a Service selects and that are ready, by hash.
    pub fn behind(&self, service: &Value) -> BTreeMap<String, u32> {
        let mut found = BTreeMap::new();
        let selector = service["spec"]["selector"].as_object().unwrap();
        for pod in self.pods.iter().filter(|p| p.ready && !p.leaving) {
            if selector.iter().all(|(key, value)| pod.labels.get(key) == Some(value)) {
                *found.entry(pod.labels["pod-template-hash"].as_str().unwrap().to_owned()).or_default() += 1;
            }
        }
        found
    }

    pub fn ready_behind(&self, service: &str) -> u32 {
        self.get("Service", service).map_or(0, |service| self.behind(service).values().sum())
    }

    pub fn ready_of(&self, deployment: &str) -> u32 {
        let Some(uid) = self.get("Deployment", deployment).map(|d| d["metadata"]["uid"].as_str().unwrap()) else {
            return 0;
        };
        self.pods.iter().filter(|p| p.owner == uid && p.ready && !p.leaving).count() as u32
    }

    /// Pods of a Deployment that are not leaving, by image.
    pub fn images(&self, deployment: &str) -> BTreeMap<String, u32> {
        let mut found = BTreeMap::new();
        if let Some(uid) = self.get("Deployment", deployment).map(|d| d["metadata"]["uid"].as_str().unwrap()) {
            for pod in self.pods.iter().filter(|p| p.owner == uid && !p.leaving) {
                *found.entry(pod.image.clone()).or_default() += 1;
            }
        }
        found
    }

    /// One small step of the Deployment controller (maxSurge 1, maxUnavailable 0); false if there was nothing to do.
    fn reconcile(&mut self, key: &str) -> bool {
        let deployment = self.objects[key].clone();
        let uid = deployment["metadata"]["uid"].as_str().unwrap().to_owned();
        let name = deployment["metadata"]["name"].as_str().unwrap().to_owned();
        if live::is_deleting(&deployment) {
            if let Some(pod) = self.pods.iter_mut().find(|p| p.owner == uid && !p.leaving) {
                pod.leaving = true;
                return true;
            }
            if self.pods.iter().any(|p| p.owner == uid) {
                return false;
            }
            self.objects.retain(|_, object| {
                object["kind"] != "ReplicaSet" || object["metadata"]["ownerReferences"][0]["uid"] != json!(uid)
            });
            self.objects.remove(key);
            return true;
        }
        let hash = hash_of(&deployment["spec"]["template"]);
        let set_key = self::key("ReplicaSet", &format!("{name}-{hash}"));
        let stated = deployment["metadata"]["annotations"]["deployment.kubernetes.io/revision"].clone();
        if self.objects.get(&set_key).is_none_or(|set| {
            set["metadata"]["annotations"]["deployment.kubernetes.io/revision"] != stated || stated.is_null()
        }) {
            self.revision += 1;
            let revision = json!(self.revision.to_string());
            self.put(json!({
                "apiVersion": "apps/v1", "kind": "ReplicaSet",
                "metadata": {
                    "name": format!("{name}-{hash}"), "namespace": "teller",
                    "labels": {"pod-template-hash": hash},
                    "annotations": {"deployment.kubernetes.io/revision": revision},
                    "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": name, "uid": uid, "controller": true}],
                },
                "spec": {}, "status": {},
            }));
            let deployment = self.objects.get_mut(key).unwrap();
            deployment["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = revision;
            self.bump(key);
            return true;
        }
        let wanted = deployment["spec"]["replicas"].as_u64().unwrap() as usize;
        let of = |pods: &[Pod], new: bool| -> Vec<String> {
            let mut found: Vec<_> = pods
                .iter()
                .filter(|p| p.owner == uid && !p.leaving && (p.labels["pod-template-hash"] == json!(hash)) == new)
                .collect();
            found.sort_by_key(|p| (p.ready, p.name.clone()));
            found.into_iter().map(|p| p.name.clone()).collect()
        };
        let (new, old) = (of(&self.pods, true), of(&self.pods, false));
        let ready = self.pods.iter().filter(|p| p.owner == uid && p.ready && !p.leaving).count();
        let old_unready = self.pods.iter().find(|p| old.contains(&p.name) && !p.ready).map(|p| p.name.clone());
        let victim = if new.len() > wanted {
            new.first().cloned()
        } else if let Some(unready) = old_unready {
            Some(unready)
        } else if ready > wanted && !old.is_empty() {
            old.first().cloned()
        } else {
            None
        };
        if let Some(victim) = victim {
            self.pods.iter_mut().filter(|p| p.name == victim).for_each(|p| p.leaving = true);
            return true;
        }
        if new.len() < wanted && new.len() + old.len() < wanted + usize::from(!old.is_empty()) {
            self.counter += 1;
            let mut labels = deployment["spec"]["template"]["metadata"]["labels"].clone();
            labels["pod-template-hash"] = json!(hash);
            self.pods.push(Pod {
                name: format!("{name}-{hash}-{:05}", self.counter),
                owner: uid,
                labels,
                image: deployment["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap().to_owned(),
                ready: false,
                leaving: false,
            });
            return true;
        }
        let done = new.len() == wanted && old.is_empty() && ready == wanted;
        let status = json!({
            "observedGeneration": deployment["metadata"]["generation"],
            "replicas": new.len() + old.len(), "updatedReplicas": new.len(),
            "readyReplicas": ready, "availableReplicas": ready,
            "conditions": [
                {"type": "Progressing", "status": "True", "reason": if done { "NewReplicaSetAvailable" } else { "ReplicaSetUpdated" }},
                {"type": "Available", "status": if done { "True" } else { "False" }},
            ],
        });
        if deployment["status"] == status {
            return false;
        }
        self.objects.get_mut(key).unwrap()["status"] = status;
        self.bump(key);
        true
    }

    pub fn set_pods(&self) -> Vec<&Value> {
        self.objects.values().filter(|o| o["kind"] == "Pod").collect()
    }

    /// Pods of a set, ready or not, by image.
    pub fn set_images(&self, ready: bool) -> BTreeMap<String, u32> {
        let mut found = BTreeMap::new();
        for pod in self.set_pods() {
            if (pod["status"]["conditions"][0]["status"] == "True") == ready {
                *found.entry(pod["spec"]["image"].as_str().unwrap().to_owned()).or_default() += 1;
            }
        }
        found
    }

    /// One small step of the StatefulSet (ordered) or DaemonSet controller and its kubelets. Pods are objects here; each
    /// becomes ready at once unless its image is bad.
    fn reconcile_set(&mut self, key: &str) -> bool {
        let set = self.objects[key].clone();
        let uid = set["metadata"]["uid"].as_str().unwrap().to_owned();
        let is_daemon_set = set["kind"] == "DaemonSet";
        let hash = hash_of(&set["spec"]["template"]);
        let image = set["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap().to_owned();
        let revision_key = self::key("ControllerRevision", &hash);
        let newest = self
            .objects
            .values()
            .filter(|o| o["kind"] == "ControllerRevision")
            .filter_map(|o| o["revision"].as_i64())
            .max()
            .unwrap_or(0);
        let owner =
            json!([{"apiVersion": "apps/v1", "kind": set["kind"], "name": "teller", "uid": uid, "controller": true}]);
        if self.objects.get(&revision_key).is_none_or(|o| o["revision"].as_i64() != Some(newest)) {
            self.put(json!({
                "apiVersion": "apps/v1", "kind": "ControllerRevision", "revision": newest + 1,
                "metadata": {"name": hash, "namespace": "teller", "labels": {"controller-revision-hash": hash}, "ownerReferences": owner},
            }));
            return true;
        }
        let wanted = if is_daemon_set { self.nodes } else { set["spec"]["replicas"].as_u64().unwrap() as usize };
        let current = set["status"]["currentRevision"].as_str().map_or_else(|| hash.clone(), ToOwned::to_owned);
        let partition = set["spec"]["updateStrategy"]["rollingUpdate"]["partition"].as_u64().unwrap_or(0) as usize;
        let pod_key = |n: usize| self::key("Pod", &format!("teller-{n}"));
        let label = |pod: &Value| pod["metadata"]["labels"]["controller-revision-hash"].as_str().unwrap().to_owned();
        let ready = |pod: &Value| pod["status"]["conditions"][0]["status"] == "True";
        for n in 0..wanted {
            if !self.objects.contains_key(&pod_key(n)) {
                let new = is_daemon_set || n >= partition;
                let old_image = self
                    .objects
                    .get(&self::key("ControllerRevision", &current))
                    .and_then(|o| o["image"].as_str())
                    .unwrap_or(&image)
                    .to_owned();
                let (revision, image) = if new { (hash.clone(), image.clone()) } else { (current.clone(), old_image) };
                let status = if self.bad_images.contains(&image) { "False" } else { "True" };
                self.put(json!({
                    "apiVersion": "v1", "kind": "Pod",
                    "metadata": {"name": format!("teller-{n}"), "namespace": "teller", "creationTimestamp": self.clock.to_string(), "labels": {"app": "teller", "controller-revision-hash": revision}, "ownerReferences": owner},
                    "spec": {"nodeName": format!("node-{n}"), "image": image},
                    "status": {"conditions": [{"type": "Ready", "status": status}]},
                }));
                return true;
            }
        }
        if let Some(extra) = (wanted..wanted + 20).rev().map(pod_key).find(|k| self.objects.contains_key(k)) {
            self.objects.remove(&extra);
            return true;
        }
        let pods: Vec<Value> = (0..wanted).map(|n| self.objects[&pod_key(n)].clone()).collect();
        let rolls = set["spec"]["updateStrategy"]["type"] != "OnDelete";
        let healthy = pods.iter().all(ready);
        if rolls
            && healthy
            && let Some(n) = (0..wanted).rev().find(|n| (is_daemon_set || *n >= partition) && label(&pods[*n]) != hash)
        {
            self.objects.remove(&pod_key(n));
            return true;
        }
        let all_new = pods.iter().all(|pod| label(pod) == hash);
        let count = |by: &dyn Fn(&Value) -> bool| pods.iter().filter(|pod| by(pod)).count();
        let (updated, up) = (count(&|pod| label(pod) == hash), count(&ready));
        let status = json!({
            "observedGeneration": set["metadata"]["generation"], "replicas": pods.len(), "readyReplicas": up, "availableReplicas": up,
            "updatedReplicas": updated, "updateRevision": hash, "currentRevision": if all_new { hash.clone() } else { current },
            "desiredNumberScheduled": wanted, "currentNumberScheduled": pods.len(), "updatedNumberScheduled": updated,
            "numberAvailable": up, "numberReady": up,
        });
        if set["status"] == status {
            return false;
        }
        if all_new {
            self.objects.get_mut(&revision_key).unwrap()["image"] = json!(image);
        }
        self.objects.get_mut(key).unwrap()["status"] = status;
        self.bump(key);
        true
    }

    fn bump(&mut self, key: &str) {
        self.counter += 1;
        self.objects.get_mut(key).unwrap()["metadata"]["resourceVersion"] = json!(self.counter.to_string());
    }

    /// The ReplicaSet controller's status.
    pub fn count_pods(&mut self) {
        let pods = &self.pods;
        for object in self.objects.values_mut().filter(|o| o["kind"] == "ReplicaSet") {
            let owner = object["metadata"]["ownerReferences"][0]["uid"].as_str().unwrap();
            let hash = &object["metadata"]["labels"]["pod-template-hash"];
            let ready = pods
                .iter()
                .filter(|p| p.owner == owner && p.ready && !p.leaving && p.labels["pod-template-hash"] == *hash)
                .count();
            object["status"] = json!({"availableReplicas": ready, "readyReplicas": ready});
        }
    }

    /// Some pods stop being ready, as in an outage.
    pub fn break_pods(&mut self, image: &str, most: usize) {
        self.pods.iter_mut().filter(|p| p.image == image && p.ready).take(most).for_each(|p| p.ready = false);
        self.count_pods();
    }
}
