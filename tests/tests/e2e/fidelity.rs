//! The simulated API server answers as the real one does: each case is played on both, and every answer compared.
//!
//! Beside uids, versions and times, which differ by nature, nothing may differ but what [`EXCEPTIONS`] lists.

use interlock_core::{admission::User, object::ObjectId, port::Precondition};
use interlock_sim::api::{Api as SimApi, ApiError, Write};
use interlock_tests::{Api, path_of, world};
use serde_json::{Value, json};

/// A case and the answer in it (by number) whose message the simulation words differently, and why.
const EXCEPTIONS: &[(&str, usize, &str)] = &[];

const NAMESPACE: &str = "fidelity";

type Reply = Result<Value, (u16, String, String)>;

/// What a client may ask of a server.
trait Server {
    fn create(&mut self, manager: &str, object: &Value) -> Reply;
    fn replace(&mut self, manager: &str, object: &Value) -> Reply;
    fn merge(&mut self, manager: &str, object: &Value, patch: &Value) -> Reply;
    fn apply(&mut self, manager: &str, object: &Value, force: bool, dry_run: bool) -> Reply;
    fn delete(&mut self, object: &Value, required: &Precondition) -> Reply;
    fn get(&mut self, object: &Value) -> Reply;
}

struct Real<'a>(&'a Api);

impl Real<'_> {
    fn send(&self, method: &str, path: &str, content: &str, body: Option<&Value>) -> Reply {
        let answer = self.0.send(method, path, content, body);
        answer.map(|answer| answer.object).map_err(|refusal| (refusal.code, refusal.reason, refusal.message))
    }
}

impl Server for Real<'_> {
    fn create(&mut self, manager: &str, object: &Value) -> Reply {
        let path = path_of(object);
        let collection = path.rsplit_once('/').unwrap().0;
        self.send("POST", &format!("{collection}?fieldManager={manager}"), "application/json", Some(object))
    }
    fn replace(&mut self, manager: &str, object: &Value) -> Reply {
        self.send("PUT", &format!("{}?fieldManager={manager}", path_of(object)), "application/json", Some(object))
    }
    fn merge(&mut self, manager: &str, object: &Value, patch: &Value) -> Reply {
        let path = format!("{}?fieldManager={manager}", path_of(object));
        self.send("PATCH", &path, "application/merge-patch+json", Some(patch))
    }
    fn apply(&mut self, manager: &str, object: &Value, force: bool, dry_run: bool) -> Reply {
        let dry = if dry_run { "&dryRun=All" } else { "" };
        let path = format!("{}?fieldManager={manager}&force={force}{dry}", path_of(object));
        self.send("PATCH", &path, "application/apply-patch+yaml", Some(object))
    }
    fn delete(&mut self, object: &Value, required: &Precondition) -> Reply {
        let options = json!({
            "apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background",
            "preconditions": {"uid": required.uid, "resourceVersion": required.resource_version},
        });
        self.send("DELETE", &path_of(object), "application/json", Some(&options)).map(|_| Value::Null)
    }
    fn get(&mut self, object: &Value) -> Reply {
        self.send("GET", &path_of(object), "application/json", None)
    }
}

struct Simulated(SimApi, User);

impl Simulated {
    fn write(&mut self, write: Write) -> Reply {
        self.0.write(write).map(|object| (*object).clone()).map_err(told)
    }
}

fn told(error: ApiError) -> (u16, String, String) {
    (error.code, error.reason, error.message)
}

impl Server for Simulated {
    fn create(&mut self, manager: &str, object: &Value) -> Reply {
        let write = Write::create(&self.1, manager, object);
        self.write(write)
    }
    fn replace(&mut self, manager: &str, object: &Value) -> Reply {
        let write = Write::replace(&self.1, manager, object);
        self.write(write)
    }
    fn merge(&mut self, manager: &str, object: &Value, patch: &Value) -> Reply {
        let write = Write::merge_patch(&self.1, manager, &ObjectId::of(object).unwrap(), patch);
        self.write(write)
    }
    fn apply(&mut self, manager: &str, object: &Value, force: bool, dry_run: bool) -> Reply {
        let build = if force { Write::apply } else { Write::apply_without_force };
        let mut write = build(&self.1, manager, object);
        write.dry_run = dry_run;
        self.write(write)
    }
    fn delete(&mut self, object: &Value, required: &Precondition) -> Reply {
        let write = Write::delete(&self.1, &ObjectId::of(object).unwrap()).requiring(required);
        self.write(write).map(|_| Value::Null)
    }
    fn get(&mut self, object: &Value) -> Reply {
        let found = self.0.get(&self.1, &ObjectId::of(object).unwrap());
        found.map(|object| (*object).clone()).map_err(told)
    }
}

/// What was answered, in order.
#[derive(Default)]
struct Answers(Vec<Reply>);

impl Answers {
    /// Keeps an answer and gives the object back, or null.
    fn note(&mut self, reply: Reply) -> Value {
        self.0.push(reply.clone());
        reply.unwrap_or_default()
    }

    /// Keeps a fact.
    fn fact(&mut self, fact: bool) {
        self.0.push(Ok(json!(fact)));
    }
}

fn play(case: &str, script: fn(&mut dyn Server, &mut Answers)) {
    let admin = world().admin();
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
    world().ensure(&namespace).unwrap();
    let user = User { name: "kubernetes-admin".into(), groups: vec!["system:masters".into()], claims: Vec::new() };
    let mut simulated = Simulated(SimApi::new("2026-11-24T08:00:00Z".parse().unwrap()), user);
    simulated.create("setup", &namespace).unwrap();
    let (mut real, mut sim) = (Answers::default(), Answers::default());
    script(&mut Real(admin), &mut real);
    script(&mut simulated, &mut sim);
    for (number, (real, sim)) in real.0.into_iter().zip(sim.0).enumerate() {
        let alike = |(code, reason, message): (u16, String, String)| (code, reason, without_uids(&message));
        let (mut real, mut sim) = (real.map(normal).map_err(alike), sim.map(normal).map_err(alike));
        let exception = EXCEPTIONS.iter().find(|(c, n, _)| *c == case && *n == number);
        let same = real == sim;
        if exception.is_some() {
            assert!(!same, "{case}, answer {number}: the exception is not needed any more");
            for reply in [&mut real, &mut sim] {
                if let Err((_, _, message)) = reply {
                    message.clear();
                }
            }
        }
        assert!(real == sim, "{case}, answer {number}:\n real      {}\n simulated {}", shown(&real), shown(&sim));
    }
}

/// The message without uids and versions, which stand in brackets.
fn without_uids(message: &str) -> String {
    let differs = |part: &str| part.bytes().all(|b| b.is_ascii_digit()) || (part.len() == 36 && !part.contains(' '));
    message.split(['(', ')']).map(|part| if differs(part) { "some" } else { part }).collect::<Vec<_>>().join("|")
}

fn shown(reply: &Reply) -> String {
    match reply {
        Ok(value) => value.to_string(),
        Err(error) => format!("{error:?}"),
    }
}

/// The object without what differs by nature: identities, versions, times, and what controllers of the real cluster write.
fn normal(mut object: Value) -> Value {
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return object };
    for field in ["uid", "resourceVersion", "creationTimestamp", "deletionTimestamp"] {
        if let Some(value) = metadata.get_mut(field) {
            *value = json!("some");
        }
    }
    if let Some(entries) = metadata.get_mut("managedFields").and_then(Value::as_array_mut) {
        entries.retain(|entry| entry["manager"] != "kube-controller-manager");
        for entry in entries.iter_mut() {
            if entry.get("time").is_some() {
                entry["time"] = json!("some");
            }
        }
        // They stand in the order of their times, which are whole seconds.
        entries.sort_by_key(|entry| format!("{}{}", entry["operation"], entry["manager"]));
    }
    for field in ["clusterIP", "clusterIPs"] {
        if let Some(value) = object.get_mut("spec").and_then(|spec| spec.get_mut(field)) {
            *value = json!("some");
        }
    }
    object
}

fn config(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": NAMESPACE}, "data": data})
}

fn version(object: &Value) -> String {
    object["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn creating_replacing_and_deleting() {
    play("crud", |server, answers| {
        let wanted = config("crud", json!({"a": "1"}));
        answers.note(server.get(&wanted));
        let made = answers.note(server.create("first", &wanted));
        answers.note(server.create("first", &wanted));
        let mut next = made.clone();
        next["data"] = json!({"a": "2", "b": "x"});
        let replaced = answers.note(server.replace("second", &next));
        answers.note(server.replace("second", &next));
        let same = answers.note(server.replace("third", &replaced));
        answers.fact(version(&same) == version(&replaced));
        answers.note(server.merge(
            "second",
            &wanted,
            &json!({"data": {"b": null, "c": "3"}, "metadata": {"labels": {"l": "v"}}}),
        ));
        let other = Precondition { uid: Some("another".into()), resource_version: None };
        answers.note(server.delete(&wanted, &other));
        answers.note(server.delete(&wanted, &Precondition::of(&made)));
        let live = answers.note(server.get(&wanted));
        answers.note(server.delete(&wanted, &Precondition::of(&live)));
        answers.note(server.get(&wanted));
        answers.note(server.delete(&wanted, &Precondition::default()));
    });
}

#[test]
fn applying_and_owning_fields() {
    play("apply", |server, answers| {
        let one = config("apply", json!({"a": "1", "b": "1"}));
        answers.note(server.apply("one", &one, false, false));
        let again = answers.note(server.apply("one", &one, false, false));
        let same = answers.note(server.apply("one", &one, false, false));
        answers.fact(version(&same) == version(&again));
        // Another states a field of the first differently: refused, then taken over.
        let two = config("apply", json!({"b": "2", "c": "2"}));
        answers.note(server.apply("two", &two, false, false));
        answers.note(server.apply("two", &two, true, true));
        answers.note(server.apply("two", &two, true, false));
        // What the owner no longer states goes; what others own stays.
        answers.note(server.apply("one", &config("apply", json!({})), false, false));
        answers.note(server.merge("hand", &two, &json!({"data": {"d": "4"}})));
        answers.note(server.apply("two", &config("apply", json!({"d": "5"})), false, false));
        answers.note(server.apply("two", &config("apply", json!({"d": "5"})), true, false));
        answers.note(server.delete(&one, &Precondition::default()));
    });
}

#[test]
fn preconditions_of_an_apply() {
    play("preconditions", |server, answers| {
        let wanted = config("preconditions", json!({"a": "1"}));
        let mut stated = wanted.clone();
        stated["metadata"]["uid"] = json!("00000000-0000-4000-8000-000000000001");
        answers.note(server.apply("one", &stated, true, false));
        let made = answers.note(server.apply("one", &wanted, true, false));
        let mut old = config("preconditions", json!({"a": "2"}));
        old["metadata"]["resourceVersion"] = json!(version(&made));
        answers.note(server.apply("one", &old, true, false));
        old["data"] = json!({"a": "3"});
        answers.note(server.apply("one", &old, true, false));
        answers.note(server.delete(&wanted, &Precondition::default()));
    });
}

#[test]
fn a_deployment_is_defaulted_and_its_lists_are_merged() {
    play("deployment", |server, answers| {
        let deployment = |image: &str, env: Value| {
            let mut deployment = json!({
                "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": NAMESPACE},
                "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "web"}}, "template": {
                    "metadata": {"labels": {"app": "web"}},
                    "spec": {"containers": [{"name": "web", "image": image, "ports": [{"containerPort": 80}],
                        "resources": {"limits": {"cpu": "1000m", "memory": "64Mi"}}}]}}},
            });
            if env.as_array().is_some_and(|env| !env.is_empty()) {
                deployment["spec"]["template"]["spec"]["containers"][0]["env"] = env;
            }
            deployment
        };
        let plain = |object: Value| -> Value {
            // The Deployment controller of the real cluster has its say as soon as the object is there.
            let mut object = object;
            object.as_object_mut().map(|fields| fields.remove("status"));
            if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
                metadata.remove("annotations");
            }
            object
        };
        let note = |answers: &mut Answers, reply: Reply| answers.note(reply.map(plain));
        note(answers, server.apply("one", &deployment("web:1", json!([{"name": "A", "value": "1"}])), false, false));
        let two = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": NAMESPACE},
            "spec": {"template": {"spec": {"containers": [{"name": "web", "env": [{"name": "B", "value": "2"}]},
                {"name": "side", "image": "side:1"}]}}},
        });
        note(answers, server.apply("two", &two, false, false));
        note(answers, server.apply("one", &deployment("web:2", json!([])), false, false));
        let mut other = deployment("web:2", json!([]));
        other["spec"]["selector"]["matchLabels"]["app"] = json!("other");
        answers.note(server.apply("one", &other, true, true).map(plain));
        let mut broken = deployment("", json!([]));
        broken["metadata"]["name"] = json!("broken");
        answers.note(server.create("one", &broken));
        answers.note(server.delete(&two, &Precondition::default()));
    });
}

#[test]
fn finalizers_hold_an_object_until_they_are_gone() {
    play("finalizers", |server, answers| {
        let mut wanted = config("finalizers", json!({"a": "1"}));
        wanted["metadata"]["finalizers"] = json!(["example.org/hold"]);
        answers.note(server.create("one", &wanted));
        answers.note(server.delete(&wanted, &Precondition::default()));
        let dying = answers.note(server.get(&wanted));
        answers.fact(dying["metadata"]["deletionTimestamp"].is_string());
        answers.note(server.merge(
            "one",
            &wanted,
            &json!({"metadata": {"finalizers": ["example.org/hold", "example.org/more"]}}),
        ));
        answers.note(server.merge("one", &wanted, &json!({"metadata": {"finalizers": null}})));
        answers.note(server.get(&wanted));
    });
}

#[test]
fn what_is_immutable_stays() {
    play("immutable", |server, answers| {
        let mut wanted = config("immutable", json!({"a": "1"}));
        wanted["immutable"] = json!(true);
        answers.note(server.create("one", &wanted));
        answers.note(server.merge("one", &wanted, &json!({"data": {"a": "2"}})));
        answers.note(server.merge("one", &wanted, &json!({"immutable": false})));
        answers.note(server.merge("one", &wanted, &json!({"metadata": {"labels": {"l": "v"}}})));
        answers.note(server.delete(&wanted, &Precondition::default()));
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "typed", "namespace": NAMESPACE},
            "type": "example.org/kind", "stringData": {"key": "value"},
        });
        answers.note(server.create("one", &secret));
        answers.note(server.merge("one", &secret, &json!({"type": "example.org/other"})));
        answers.note(server.delete(&secret, &Precondition::default()));
    });
}

#[test]
fn a_service_is_defaulted() {
    play("service", |server, answers| {
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": NAMESPACE},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]},
        });
        let made = answers.note(server.create("one", &service));
        let mut next = made.clone();
        next["spec"]["ports"][0]["targetPort"] = json!("http");
        answers.note(server.replace("one", &next));
        answers.note(server.delete(&service, &Precondition::default()));
    });
}

#[test]
fn what_is_wrong_is_refused_in_the_same_words() {
    play("wrong", |server, answers| {
        let mut nowhere = config("wrong", json!({}));
        nowhere["metadata"]["namespace"] = json!("nowhere");
        answers.note(server.create("one", &nowhere));
        answers.note(server.create("one", &config("Not_A_Name", json!({}))));
        let mut versioned = config("versioned", json!({}));
        versioned["metadata"]["resourceVersion"] = json!("17");
        answers.note(server.create("one", &versioned));
        answers.note(server.replace("one", &config("absent", json!({}))));
        answers.note(server.merge("one", &config("absent", json!({})), &json!({"data": {"a": "b"}})));
    });
}
