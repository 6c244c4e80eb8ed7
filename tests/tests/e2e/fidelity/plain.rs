//! Answers without what differs between two servers by nature: identities, versions, generated names, addresses, times.
//! Each such text gets a symbol when it is first seen, so that who refers to whom, and what kept its version, is still
//! compared.

use serde_json::{Map, Value, json};

/// The symbols of one server in one case.
#[derive(Default)]
pub struct Symbols {
    /// A text that may stand anywhere, and its symbol; the longest first.
    texts: Vec<(String, String)>,
    versions: Vec<(String, String)>,
}

/// The symbols of both servers. What both name at the same place gets the same symbol.
#[derive(Default)]
pub struct Glossary {
    real: Symbols,
    sim: Symbols,
    count: usize,
}

impl Glossary {
    /// Both answers with symbols in them.
    pub fn plain(&mut self, real: &Value, sim: &Value) -> (Value, Value) {
        self.learn(real, sim);
        let (mut real, mut sim) = (self.real.replaced(real), self.sim.replaced(sim));
        tidy(&mut real);
        tidy(&mut sim);
        (real, sim)
    }

    fn learn(&mut self, real: &Value, sim: &Value) {
        match (real, sim) {
            (Value::Array(a), b) => {
                a.iter().enumerate().for_each(|(index, a)| self.learn(a, b.get(index).unwrap_or(&Value::Null)));
            }
            (_, Value::Array(b)) => b.iter().for_each(|b| self.learn(&Value::Null, b)),
            _ => {}
        }
        let names: std::collections::BTreeSet<&String> =
            [real, sim].into_iter().filter_map(Value::as_object).flat_map(Map::keys).collect();
        for (kind, find) in NAMES {
            self.meet(kind, find(real).unwrap_or_default(), find(sim).unwrap_or_default());
        }
        for name in names {
            self.learn(&real[name], &sim[name]);
        }
    }

    /// Names in refusals of what was to get a generated one.
    pub fn learn_refused(&mut self, real: &Value, sim: &Value) {
        let name = |answer: &Value| answer["details"]["name"].as_str().unwrap_or_default().to_owned();
        self.meet("name", &name(real), &name(sim));
    }

    /// A text that is new gets a symbol, on both sides the same if both are new.
    fn meet(&mut self, kind: &str, real: &str, sim: &str) {
        self.count += 1;
        let symbol = format!("<{kind} {}>", self.count);
        for (symbols, text) in [(&mut self.real, real), (&mut self.sim, sim)] {
            let known = if kind == "version" { &mut symbols.versions } else { &mut symbols.texts };
            if !text.is_empty() && !known.iter().any(|(known, _)| known == text) {
                known.push((text.to_owned(), symbol.clone()));
                known.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
            }
        }
    }
}

type Find = fn(&Value) -> Option<&str>;

/// What servers name by themselves.
const NAMES: [(&str, Find); 7] = [
    ("uid", |object| object["metadata"]["uid"].as_str()),
    ("version", |object| {
        object["metadata"]["resourceVersion"].as_str().filter(|_| object["metadata"]["uid"].is_string())
    }),
    ("name", |object| {
        let metadata = &object["metadata"];
        let is_generated =
            !metadata["generateName"].as_str().unwrap_or_default().is_empty() && metadata["uid"].is_string();
        metadata["name"].as_str().filter(|_| is_generated)
    }),
    ("token", |object| object["name"].as_str().filter(|name| name.starts_with("kube-api-access-"))),
    ("hash", |object| object["metadata"]["labels"]["pod-template-hash"].as_str()),
    ("hash", |object| object["metadata"]["labels"]["controller-revision-hash"].as_str()?.rsplit('-').next()),
    ("address", |object| object["spec"]["clusterIP"].as_str().filter(|address| *address != "None")),
];

impl Symbols {
    /// The answer with symbols in it.
    fn replaced(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => json!(self.in_text(text)),
            Value::Array(items) => items.iter().map(|item| self.replaced(item)).collect(),
            Value::Object(fields) => {
                let one = |(name, value): (&String, &Value)| {
                    let value = match value.as_str() {
                        Some(version) if name == "resourceVersion" => json!(self.version(version)),
                        _ => self.replaced(value),
                    };
                    (self.in_text(name), value)
                };
                Value::Object(fields.iter().map(one).collect::<Map<_, _>>())
            }
            other => other.clone(),
        }
    }

    fn version(&self, version: &str) -> String {
        let known = self.versions.iter().find(|(known, _)| known == version);
        known.map_or_else(|| "<some version>".to_owned(), |(_, symbol)| symbol.clone())
    }

    fn in_text(&self, text: &str) -> String {
        if text.len() >= 20 && text.parse::<jiff::Timestamp>().is_ok() {
            return "<time>".to_owned();
        }
        let named = self.texts.iter().fold(text.to_owned(), |text, (known, symbol)| text.replace(known, symbol));
        // In messages versions stand in brackets.
        let in_brackets = |part: &str| {
            let is_version = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
            if is_version { self.version(part) } else { part.to_owned() }
        };
        let mut parts = named.split('(');
        let first = parts.next().unwrap_or_default().to_owned();
        parts.fold(first, |whole, part| match part.split_once(')') {
            Some((inner, rest)) => format!("{whole}({}){rest}", in_brackets(inner)),
            None => format!("{whole}({part}"),
        })
    }
}

/// The reasons of a refusal in one order, for a real server finds the fields of a map in any, and without the difference
/// of two of the server's own structures that follows some.
fn sort_causes(status: &mut Map<String, Value>) {
    let message = status["message"].as_str().unwrap_or_default().to_owned();
    let Some(causes) = status.get_mut("details").and_then(|details| details["causes"].as_array_mut()) else { return };
    let mut shown = std::collections::BTreeSet::new();
    for cause in causes.iter_mut() {
        let text = cause["message"].as_str().unwrap().to_owned();
        assert!(message.contains(&text) || !message.contains(" is invalid: "), "{message} lacks {text}");
        cause["message"] = json!(text.split("\n@@").next());
        shown.insert(format!("{}: {}", cause["field"].as_str().unwrap(), cause["message"].as_str().unwrap()));
    }
    causes.sort_by_key(Value::to_string);
    if let Some((start, _)) = message.split_once(" is invalid: ") {
        let list = shown.into_iter().collect::<Vec<_>>().join(", ");
        status["message"] = json!(format!("{start} is invalid: {list}"));
    }
}

/// Without the order that follows from times of whole seconds, and what only lists have.
fn tidy(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(tidy),
        Value::Object(fields) => {
            let is_list = fields.get("kind").and_then(Value::as_str).is_some_and(|kind| kind.ends_with("List"));
            if is_list && let Some(items) = fields.get_mut("items") {
                // Items of built-in kinds do not say what they are.
                for item in items.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
                    item.retain(|name, _| name != "apiVersion" && name != "kind");
                }
                fields.remove("metadata");
            }
            if let Some(metadata) = fields.get_mut("metadata").filter(|metadata| metadata["uid"].is_null())
                && metadata["resourceVersion"].is_string()
            {
                metadata["resourceVersion"] = json!("<some version>");
            }
            if let Some(entries) = fields.get_mut("managedFields").and_then(Value::as_array_mut) {
                entries
                    .sort_by_key(|entry| format!("{}{}{}", entry["operation"], entry["manager"], entry["subresource"]));
            }
            for port in fields.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
                if port["nodePort"].is_number() {
                    port["nodePort"] = json!("<port>");
                }
            }
            if let Some(port) = fields.get_mut("healthCheckNodePort") {
                *port = json!("<port>");
            }
            if fields.get("kind").is_some_and(|kind| kind == "Status") {
                sort_causes(fields);
            }
            fields.values_mut().for_each(tidy);
        }
        _ => {}
    }
}

/// Where two values differ: the place, and what is there.
pub fn differences(real: &Value, sim: &Value) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let refused = |answer: &Value| answer["kind"] == "Status";
    let shown = |answer: &Value| if refused(answer) { answer["message"].to_string() } else { "passes".to_owned() };
    if refused(real) == refused(sim) {
        collect("", Some(real), Some(sim), &mut found);
    } else {
        found.push((String::new(), format!("\n       real {}\n       sim  {}", shown(real), shown(sim))));
    }
    // The message says what the details say.
    if let Some(message) = found.iter().position(|(place, _)| place == "/message") {
        let message = found.swap_remove(message);
        found.retain(|(place, _)| ["/code", "/reason"].contains(&place.as_str()));
        found.push(message);
    }
    found
}

fn collect(path: &str, real: Option<&Value>, sim: Option<&Value>, found: &mut Vec<(String, String)>) {
    match (real, sim) {
        (Some(Value::Object(a)), Some(Value::Object(b))) => {
            let names: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for name in names {
                collect(&format!("{path}/{name}"), a.get(name), b.get(name), found);
            }
        }
        (Some(Value::Array(a)), Some(Value::Array(b))) => {
            for index in 0..a.len().max(b.len()) {
                collect(&format!("{path}/{index}"), a.get(index), b.get(index), found);
            }
        }
        (real, sim) if real != sim => {
            let shown = |value: Option<&Value>| value.map_or_else(|| "nothing".to_owned(), Value::to_string);
            found.push((path.to_owned(), format!("\n       real {}\n       sim  {}", shown(real), shown(sim))));
        }
        _ => {}
    }
}
