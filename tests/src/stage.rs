//! A namespace with a System of its own, for one test.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    Api, Refusal, World, config_map, deployment, eventually, path_of,
    world::{SOON, condition, world},
};

/// What a test wants of its System.
#[derive(Clone, Debug)]
pub struct Options {
    /// `spec` of the ChangePolicy.
    pub policy: Value,
    /// Merged into `spec` of the System.
    pub system: Value,
    /// Whether the executor gets the rights to write what is governed.
    pub with_rights: bool,
    /// Objects that are there before the System is.
    pub objects: Vec<Value>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            policy: policy_of(2, "sre"),
            system: json!({}),
            with_rights: true,
            objects: vec![
                config_map("web", &[("greeting", "hello"), ("old", "value")]),
                deployment("web", "web:1.0.0"),
            ],
        }
    }
}

/// So many votes of that group.
pub fn policy_of(count: u32, group: &str) -> Value {
    json!({
        "operators": ["sre"],
        "types": {"normal": {"approvals": {"thresholds": [{"name": "peers", "count": count, "groups": [group]}]}}},
    })
}

/// A namespace with a System of its own. It holds a Deployment and a ConfigMap, both named `web`.
pub struct Stage<'w> {
    pub world: &'w World,
    pub namespace: String,
}

impl Stage<'static> {
    /// In the world that all tests share: mode Enforce, two votes of `sre`.
    pub fn new(name: &str) -> Self {
        Self::with(name, Options::default())
    }

    pub fn with(name: &str, options: Options) -> Self {
        Stage::set(world(), name, options)
    }
}

impl<'w> Stage<'w> {
    pub fn set(world: &'w World, name: &str, options: Options) -> Self {
        let namespace = format!("t-{name}-{}", world.next_stage());
        let stage = Self { world, namespace };
        stage.build(options);
        stage
    }

    fn build(&self, options: Options) {
        let (admin, namespace) = (self.admin(), &self.namespace);
        let plain = |kind: &str, name: &str| json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name}});
        admin.create(&plain("Namespace", namespace)).unwrap();
        admin.create(&self.placed(plain("ServiceAccount", "executor"))).unwrap();
        for object in self.world.executor_rbac(namespace, "executor") {
            let is_right = object["metadata"]["name"] == "executor"; // beside it stands the right to act as it
            if options.with_rights || !is_right {
                admin.create(&object).unwrap();
            }
        }
        for object in options.objects {
            // As if by kubectl apply, which is how most objects come to be.
            let object = self.placed(object);
            let path = format!("{}?fieldManager=kubectl-client-side-apply", crate::api::collection_of(&object));
            admin.post(&path, &object).unwrap();
        }
        let interlock = |kind: &str, spec: Value| json!({"apiVersion": "interlock.dev/v1alpha1", "kind": kind, "metadata": {"name": namespace}, "spec": spec});
        admin.create(&interlock("ChangePolicy", options.policy)).unwrap();
        let mut system = json!({
            "tier": "Medium", "mode": "Enforce", "namespaces": [namespace], "policyRef": {"name": namespace},
            "executor": {"type": "Interlock", "serviceAccount": {"namespace": namespace, "name": "executor"}},
        });
        for (field, value) in options.system.as_object().unwrap() {
            system[field] = value.clone();
        }
        let enforced = system["mode"] == "Enforce";
        admin.create(&interlock("System", system)).unwrap();
        self.wait_system("NamespacesEnrolled");
        self.wait_system("ExecutorReady");
        if enforced {
            self.wait_guarded();
        }
    }

    fn wait_system(&self, type_: &str) {
        eventually(SOON, || {
            let system = self.system();
            let found = condition(&system, type_).is_some_and(|condition| condition["status"] == "True");
            if found { Ok(()) } else { Err(format!("System {}: {}", self.namespace, system["status"])) }
        });
    }

    /// The API server has seen the namespace's label.
    fn wait_guarded(&self) {
        let probe = self.placed(config_map("probe", &[]));
        eventually(SOON, || match self.admin().create(&probe) {
            Err(refusal) if refusal.code == 403 => Ok(()),
            Ok(_) => {
                self.admin().delete(&path_of(&probe)).map_err(|e| e.to_string())?;
                Err("a write passed".to_owned())
            }
            Err(refusal) => Err(refusal.to_string()),
        });
    }

    pub fn system(&self) -> Value {
        self.admin().get(&format!("/apis/interlock.dev/v1alpha1/systems/{}", self.namespace)).unwrap()
    }

    pub fn admin(&self) -> &'w Api {
        self.world.admin()
    }

    pub fn user(&self, name: &str) -> Api {
        self.world.identity(name)
    }

    /// The executor's user name.
    pub fn executor(&self) -> String {
        format!("system:serviceaccount:{}:executor", self.namespace)
    }

    /// The object in this namespace.
    pub fn placed(&self, mut object: Value) -> Value {
        if object["metadata"]["namespace"].is_null() {
            object["metadata"]["namespace"] = json!(self.namespace);
        }
        object
    }

    /// Path of something in this namespace: `configmaps/web`, `deployments/web/scale`, `changerequests/x`.
    pub fn path(&self, what: &str) -> String {
        let resource = what.split(['/', '?']).next().unwrap_or_default();
        let root = match resource {
            "changerequests" | "approvals" | "evidences" | "actions" | "rollouts" | "rolloutplans" | "backups"
            | "backuppolicies" | "backuprepositories" | "restoredrills" | "drillruns" => "/apis/interlock.dev/v1alpha1",
            "deployments" | "replicasets" | "statefulsets" | "daemonsets" => "/apis/apps/v1",
            "jobs" | "cronjobs" => "/apis/batch/v1",
            "httproutes" => "/apis/gateway.networking.k8s.io/v1",
            "horizontalpodautoscalers" => "/apis/autoscaling/v2",
            "roles" | "rolebindings" => "/apis/rbac.authorization.k8s.io/v1",
            "events" => "/api/v1",
            _ => "/api/v1",
        };
        format!("{root}/namespaces/{}/{what}", self.namespace)
    }

    pub fn get(&self, what: &str) -> Value {
        self.admin().get(&self.path(what)).unwrap_or_else(|refusal| panic!("{what}: {refusal}"))
    }

    pub fn exists(&self, what: &str) -> bool {
        match self.admin().get(&self.path(what)) {
            Ok(_) => true,
            Err(refusal) if refusal.code == 404 => false,
            Err(refusal) => panic!("{what}: {refusal}"),
        }
    }

    /// `data` of the ConfigMap.
    pub fn data(&self, name: &str) -> Value {
        self.get(&format!("configmaps/{name}"))["data"].clone()
    }

    /// Image of the Deployment.
    pub fn image(&self, name: &str) -> String {
        let found = self.get(&format!("deployments/{name}"));
        found["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap_or_default().to_owned()
    }

    /// A ChangeRequest that is not sent yet.
    pub fn request(&self, user: &str, name: &str, manifests: Vec<Value>) -> Value {
        let manifests: Vec<_> = manifests.into_iter().map(|manifest| self.placed(manifest)).collect();
        json!({
            "apiVersion": "interlock.dev/v1alpha1", "kind": "ChangeRequest",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {"title": name, "reason": "a test", "requester": user, "content": {"manifests": manifests}},
        })
    }

    /// Sends a ChangeRequest.
    pub fn send(&self, request: &Value) -> Result<Change<'_>, Refusal> {
        let user = request["spec"]["requester"].as_str().unwrap();
        let stored = self.user(user).create(request)?;
        Ok(self.change_of(&stored))
    }

    pub fn change_of(&self, stored: &Value) -> Change<'_> {
        let text = |field: &str| stored["metadata"][field].as_str().unwrap().to_owned();
        Change { stage: self, name: text("name"), uid: text("uid") }
    }

    /// Asks for a change.
    pub fn propose(&self, user: &str, name: &str, manifests: Vec<Value>) -> Change<'_> {
        self.propose_with(user, name, manifests, json!({}))
    }

    /// Asks for a change with further fields in its spec.
    pub fn propose_with(&self, user: &str, name: &str, manifests: Vec<Value>, more: Value) -> Change<'_> {
        let mut request = self.request(user, name, manifests);
        for (field, value) in more.as_object().unwrap() {
            request["spec"][field] = value.clone();
        }
        self.send(&request).unwrap_or_else(|refusal| panic!("{name}: {refusal}"))
    }

    /// Asks for a change that must be refused.
    pub fn refused(&self, name: &str, manifests: Vec<Value>, more: Value) -> Refusal {
        let mut request = self.request("alice", name, manifests);
        for (field, value) in more.as_object().unwrap() {
            request["spec"][field] = value.clone();
        }
        match self.send(&request) {
            Ok(_) => panic!("{name} was accepted"),
            Err(refusal) => refusal,
        }
    }
}

/// A ChangeRequest that was sent.
pub struct Change<'s> {
    stage: &'s Stage<'s>,
    pub name: String,
    pub uid: String,
}

impl Change<'_> {
    pub fn path(&self) -> String {
        self.stage.path(&format!("changerequests/{}", self.name))
    }

    pub fn get(&self) -> Value {
        self.stage.admin().get(&self.path()).unwrap_or_else(|refusal| panic!("{}: {refusal}", self.name))
    }

    pub fn status(&self) -> Value {
        self.get()["status"].clone()
    }

    pub fn phase(&self) -> String {
        self.status()["phase"].as_str().unwrap_or_default().to_owned()
    }

    /// Waits until the status says something about the current spec.
    pub fn until(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        eventually(SOON, || {
            let found = self.get();
            let current = found["status"]["observedGeneration"] == found["metadata"]["generation"];
            if current && holds(&found["status"]) {
                Ok(found["status"].clone())
            } else {
                Err(format!("{what} of {}: {}", self.name, serde_json::to_string_pretty(&found["status"]).unwrap()))
            }
        })
    }

    /// Waits for a phase; fails at once when the change ends in another.
    pub fn wait(&self, phase: &str) -> Value {
        let status = self.until(phase, |status| {
            let found = status["phase"].as_str().unwrap_or_default();
            found == phase || is_terminal(found)
        });
        assert_eq!(status["phase"], phase, "{}: {status:#}", self.name);
        status
    }

    /// The digest to vote on, once it is known.
    pub fn digest(&self) -> String {
        let status = self.until("a digest", |status| {
            status["changeDigest"].is_string() && !status["gates"].as_array().is_none_or(Vec::is_empty)
        });
        status["changeDigest"].as_str().unwrap().to_owned()
    }

    /// A gate as it stands in status.
    pub fn gate(&self, name: &str) -> Value {
        gate(&self.status(), name)
    }

    /// Waits until a gate has that reason.
    pub fn wait_gate(&self, name: &str, reason: &str) -> Value {
        gate(&self.until(reason, |status| gate(status, name)["reason"] == reason), name)
    }

    /// An Approval that is not sent yet.
    pub fn ballot(&self, approver: &str, decision: &str, digest: &str) -> Value {
        json!({
            "apiVersion": "interlock.dev/v1alpha1", "kind": "Approval",
            "metadata": {"generateName": format!("{}-", self.name), "namespace": self.stage.namespace},
            "spec": {
                "changeRequest": self.name, "changeRequestUid": self.uid, "digest": digest,
                "approver": approver, "decision": decision, "reason": "looked at it",
            },
        })
    }

    /// Votes; the digest is looked up.
    pub fn vote(&self, user: &str) -> Result<Value, Refusal> {
        let digest = self.digest();
        self.stage.user(user).create(&self.ballot(user, "Approve", &digest))
    }

    pub fn reject(&self, user: &str) -> Result<Value, Refusal> {
        let digest = self.digest();
        self.stage.user(user).create(&self.ballot(user, "Reject", &digest))
    }

    /// All of them vote for it.
    pub fn approve(&self, users: &[&str]) {
        let digest = self.digest();
        for user in users {
            let vote = self.ballot(user, "Approve", &digest);
            self.stage.user(user).create(&vote).unwrap_or_else(|refusal| panic!("{user}: {refusal}"));
        }
    }

    /// A command.
    pub fn act(&self, user: &str, verb: &str) -> Result<Value, Refusal> {
        self.stage.user(user).create(&json!({
            "apiVersion": "interlock.dev/v1alpha1", "kind": "Action",
            "metadata": {"generateName": format!("{}-", self.name), "namespace": self.stage.namespace},
            "spec": {
                "target": {"kind": "ChangeRequest", "name": self.name, "uid": self.uid},
                "verb": verb, "actor": user, "reason": "a test",
            },
        }))
    }

    /// Holds for a while: for what must not happen.
    pub fn stays(&self, phase: &str, span: Duration) {
        let start = std::time::Instant::now();
        while start.elapsed() < span {
            assert_eq!(self.phase(), phase, "{}: {:#}", self.name, self.status());
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// A gate in a status.
pub fn gate(status: &Value, name: &str) -> Value {
    let gates = status["gates"].as_array().cloned().unwrap_or_default();
    gates.into_iter().find(|gate| gate["name"] == name).unwrap_or(Value::Null)
}

fn is_terminal(phase: &str) -> bool {
    matches!(phase, "Succeeded" | "RolledBack" | "Failed" | "Rejected" | "Expired" | "Withdrawn" | "Superseded")
}
