//! Plays a case on both servers in step, and compares each answer.

use interlock_sim::api::Api as SimApi;
use interlock_tests::{Api, bare, collection_of, eventually, path_of, served, world::SOON};
use serde_json::{Value, json};

use super::{
    exceptions::EXCEPTIONS,
    plain::{Glossary, differences},
    real,
    request::{Both, Request, create, delete, get, merge, replace},
    simulated,
};

/// One case under way.
pub struct Case {
    name: &'static str,
    namespace: String,
    real: &'static Api,
    sim: SimApi,
    glossary: Glossary,
    asked: usize,
    found: Vec<String>,
    /// What an exception calls the requests of a walk.
    naming: &'static str,
    /// The exceptions that were met.
    met: Vec<usize>,
}

/// Plays a case in a namespace of its own, and fails with every difference that no exception explains.
pub fn play(name: &'static str, script: impl FnOnce(&mut Case)) {
    let sim = SimApi::new("2026-11-24T08:00:00Z".parse().unwrap());
    let namespace = format!("fidelity-{}", name.replace(' ', "-"));
    let mut case = Case {
        name,
        namespace,
        real: real(),
        sim,
        glossary: Glossary::default(),
        asked: 0,
        naming: "",
        found: Vec::new(),
        met: Vec::new(),
    };
    let place = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": case.namespace}});
    case.ask(create(&place));
    script(&mut case);
    for (number, exception) in EXCEPTIONS.iter().enumerate().filter(|(_, exception)| exception.case == name) {
        if !case.met.contains(&number) {
            case.found.push(format!("this exception is not needed any more ({}): {exception:?}", exception.why));
        }
    }
    assert!(case.found.is_empty(), "{name}: {} differences\n{}", case.found.len(), case.found.join("\n"));
}

/// The real server, with Interlock's definitions.
fn real() -> &'static Api {
    let definitions = interlock_crds::all();
    let definitions: Vec<Value> =
        definitions.iter().map(|definition| serde_json::to_value(definition).unwrap()).collect();
    bare(&definitions)
}

impl Case {
    /// The object in the case's namespace.
    pub fn placed(&self, mut object: Value) -> Value {
        object["metadata"]["namespace"] = json!(self.namespace);
        object
    }

    /// A ConfigMap in the case's namespace.
    pub fn config(&self, name: &str, data: Value) -> Value {
        self.placed(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}))
    }

    /// Asks both and compares; gives what each answered.
    pub fn ask(&mut self, request: Request) -> Both {
        self.asked += 1;
        let answers = Both { real: real::ask(self.real, &request), sim: simulated::ask(&mut self.sim, &request) };
        if request.object.real["metadata"]["generateName"].is_string() {
            self.glossary.learn_refused(&answers.real, &answers.sim);
        }
        self.compare(&request.shown(), request.name, &answers);
        answers
    }

    /// Waits until the real server counts another second than when it gave this answer.
    pub fn later_than(&self, answer: &Both) {
        let times = answer.real["metadata"]["managedFields"].as_array().into_iter().flatten();
        let newest = times.filter_map(|entry| entry["time"].as_str()).max().unwrap_or_default().to_owned();
        let clock = self.config("clock", json!({}));
        let trial = format!("{}?dryRun=All", collection_of(&clock));
        eventually(SOON, || {
            let made = self.real.post(&trial, &clock).map_err(|refusal| refusal.to_string())?;
            let now = made["metadata"]["creationTimestamp"].as_str().unwrap_or_default().to_owned();
            if now > newest { Ok(()) } else { Err(format!("it is still {now}")) }
        });
    }

    /// Asks one after the other.
    pub fn all<const N: usize>(&mut self, requests: [Request; N]) {
        for request in requests {
            self.ask(request);
        }
    }

    /// The requests of walks have this name from here on.
    pub fn named(&mut self, name: &'static str) -> &mut Self {
        self.naming = name;
        self
    }

    /// Creates an object, writes each of these values in turn, as far as they are accepted, and deletes it.
    pub fn walk(&mut self, object: &Value, edits: &[(&str, Value)]) {
        self.ask(create(object).dry().named(self.naming));
        let mut live = self.ask(create(object).named(self.naming));
        live = self.ask(replace(&live).by("two").named(if self.naming.is_empty() { "unchanged" } else { self.naming }));
        for (pointer, value) in edits {
            let edit = replace(live.with(pointer, value)).by("three").named(self.naming);
            let answer = self.ask(edit.clone().dry());
            // What one of them refuses is tried only, so that later answers can be compared.
            if answer.real["kind"] != "Status" && answer.sim["kind"] != "Status" {
                live = self.ask(edit);
            }
        }
        self.all([get(object).named(self.naming), delete(object), get(object)]);
    }

    /// Watches a kind in the case's namespace after an answer, or with the objects that exist, up to an object called
    /// `end` (or the bookmark that ends what exists).
    pub fn watch(&mut self, kind: &Value, since: Option<&Both>, labels: &'static str) {
        let kind = self.placed(kind.clone());
        self.watch_all(&kind, since, labels);
    }

    /// Watches a kind wherever its objects are.
    pub fn watch_all(&mut self, kind: &Value, since: Option<&Both>, labels: &'static str) {
        self.asked += 1;
        let version = since.map(|answer| answer.at("/metadata/resourceVersion")).unwrap_or_default();
        let is_stream = since.is_some();
        let is_end = move |event: &Value| {
            let is_last = is_stream && event["object"]["metadata"]["name"] == "end";
            is_last || ["BOOKMARK", "ERROR"].contains(&event["type"].as_str().unwrap())
        };
        let answers = Both {
            real: real::watch(self.real, kind, &version.real, labels, is_end),
            sim: simulated::watch(&self.sim, kind, &version.sim, labels),
        };
        self.compare(&format!("watch of {}", kind["kind"]), "watch", &answers);
    }

    /// Creates a definition, and waits until the real server serves its kind.
    pub fn define(&mut self, definition: &Value) {
        let made = self.ask(create(definition));
        assert_eq!(made.real["kind"], "CustomResourceDefinition", "{}", made.real);
        served(self.real, definition);
        self.ask(get(definition));
    }

    /// Changes a definition, and waits until the real server refuses what is wrong by it.
    pub fn redefine(&mut self, definition: &Value, wrong: &Value) {
        let path = path_of(definition);
        self.real.merge(&path, &json!({"spec": definition["spec"]})).unwrap();
        let answer = simulated::ask(&mut self.sim, &merge(definition, json!({"spec": definition["spec"]})));
        assert_eq!(answer["kind"], "CustomResourceDefinition", "{answer}");
        let mut wrong = wrong.clone();
        wrong["metadata"]["name"] = json!("wrong");
        let trial = format!("{}?dryRun=All", collection_of(&wrong));
        eventually(SOON, || self.real.post(&trial, &wrong).err().ok_or_else(|| "still accepted".to_owned()));
    }

    /// The definition goes, and with it its kind.
    pub fn undefine(&mut self, definition: &Value) {
        self.real.delete(&path_of(definition)).unwrap();
    }

    /// The simulated server, for what a client cannot ask.
    pub fn sim(&mut self) -> &mut SimApi {
        &mut self.sim
    }

    /// Both answers are alike, but for exceptions.
    pub fn compare(&mut self, request: &str, name: &str, answers: &Both) {
        let (real, sim) = self.glossary.plain(&answers.real, &answers.sim);
        let mut differences = differences(&real, &sim);
        differences.retain(|(place, _)| {
            let met = EXCEPTIONS.iter().position(|exception| exception.covers(self.name, name, place));
            self.met.extend(met);
            met.is_none()
        });
        for (place, values) in differences {
            // A difference that stays is told once.
            let told = format!("{place}: {values}");
            if !self.found.iter().any(|earlier| earlier.ends_with(&told)) {
                self.found.push(format!("{}. {request}\n     {told}", self.asked));
            }
        }
    }
}
