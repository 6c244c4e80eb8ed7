//! Plays a case on both servers in step, and compares each answer.

use interlock_sim::api::Api as SimApi;
use interlock_tests::{Api, bare};
use serde_json::{Value, json};

use super::{
    exceptions::EXCEPTIONS,
    plain::{Symbols, differences},
    real,
    request::{Both, Request, create},
    simulated,
};

/// One case under way.
pub struct Case {
    name: &'static str,
    namespace: String,
    real: &'static Api,
    sim: SimApi,
    symbols: [Symbols; 2],
    asked: usize,
    found: Vec<String>,
    /// The exceptions that were met.
    met: Vec<usize>,
}

/// Plays a case in a namespace of its own, and fails with every difference that no exception explains.
pub fn play(name: &'static str, script: impl FnOnce(&mut Case)) {
    let sim = SimApi::new("2026-11-24T08:00:00Z".parse().unwrap());
    let namespace = format!("fidelity-{}", name.replace(' ', "-"));
    let symbols = [Symbols::default(), Symbols::default()];
    let mut case = Case { name, namespace, real: bare(), sim, symbols, asked: 0, found: Vec::new(), met: Vec::new() };
    let place = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": case.namespace}});
    case.ask(create(&place));
    script(&mut case);
    for (number, exception) in EXCEPTIONS.iter().enumerate().filter(|(_, exception)| exception.case == name) {
        if !case.met.contains(&number) {
            case.found.push(format!("the exception is not needed any more: {exception:?}"));
        }
    }
    assert!(case.found.is_empty(), "{name}: {} differences\n{}", case.found.len(), case.found.join("\n"));
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
        self.compare(&request.shown(), request.name, &answers);
        answers
    }

    /// Asks one after the other.
    pub fn all<const N: usize>(&mut self, requests: [Request; N]) {
        for request in requests {
            self.ask(request);
        }
    }

    /// Watches a kind in the case's namespace after an answer, or with the objects that exist, up to an object called
    /// `end` (or the bookmark that ends what exists).
    pub fn watch(&mut self, kind: &Value, since: Option<&Both>, labels: &'static str) {
        self.asked += 1;
        let version = since.map(|answer| answer.at("/metadata/resourceVersion")).unwrap_or_default();
        let is_end = |event: &Value| {
            event["object"]["metadata"]["name"] == "end" || ["BOOKMARK", "ERROR"].contains(&event["type"].as_str().unwrap())
        };
        let kind = self.placed(kind.clone());
        let answers = Both {
            real: real::watch(self.real, &kind, &version.real, labels, is_end),
            sim: simulated::watch(&self.sim, &kind, &version.sim, labels),
        };
        self.compare(&format!("watch of {}", kind["kind"]), "watch", &answers);
    }

    /// The simulated server, for what a client cannot ask.
    pub fn sim(&mut self) -> &mut SimApi {
        &mut self.sim
    }

    /// The real server, for what a client cannot ask of the other.
    pub fn real(&self) -> &'static Api {
        self.real
    }

    /// Both answers are alike, but for exceptions.
    pub fn compare(&mut self, request: &str, name: &str, answers: &Both) {
        let [real, sim] = &mut self.symbols;
        let (real, sim) = (real.plain(&answers.real), sim.plain(&answers.sim));
        let mut differences = differences(&real, &sim);
        differences.retain(|(place, _)| {
            let met = EXCEPTIONS.iter().position(|exception| exception.covers(self.case_name(), name, place));
            self.met.extend(met);
            met.is_none()
        });
        for (place, values) in differences {
            self.found.push(format!("{}. {request}\n     {place}: {values}", self.asked));
        }
    }

    fn case_name(&self) -> &'static str {
        self.name
    }
}
