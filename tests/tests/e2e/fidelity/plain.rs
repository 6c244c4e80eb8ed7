//! Answers without what differs between two servers by nature: identities, versions, generated names, addresses, times.
//! Each such text gets a symbol when it is first seen, so that who refers to whom, and what kept its version, is still
//! compared.

use serde_json::{Map, Value, json};

/// The symbols of one server in one case.
#[derive(Default)]
pub struct Symbols {
    /// A text that may stand anywhere, and its symbol; the longest first.
    texts: Vec<(String, String)>,
    versions: Vec<String>,
}

impl Symbols {
    /// The answer with symbols in it.
    pub fn plain(&mut self, answer: &Value) -> Value {
        self.learn(answer);
        let mut plain = self.replaced(answer);
        tidy(&mut plain);
        plain
    }

    fn learn(&mut self, value: &Value) {
        if let Value::Array(items) = value {
            items.iter().for_each(|item| self.learn(item));
        }
        let Value::Object(fields) = value else { return };
        if let Some(metadata) = fields.get("metadata") {
            let text = |name: &str| metadata[name].as_str().unwrap_or_default();
            self.learn_text("uid", text("uid"));
            let is_object = !text("uid").is_empty();
            if is_object && !self.versions.iter().any(|known| known == text("resourceVersion")) {
                self.versions.push(text("resourceVersion").to_owned());
            }
            if !text("generateName").is_empty() && is_object {
                self.learn_text(text("generateName"), text("name"));
            }
            let hash = metadata["labels"]["pod-template-hash"].as_str().or(metadata["labels"]["controller-revision-hash"].as_str());
            let hash = hash.unwrap_or_default();
            self.learn_text("hash", hash.rsplit('-').next().unwrap_or_default());
        }
        if let Some(address) = fields.get("spec").and_then(|spec| spec["clusterIP"].as_str()).filter(|ip| *ip != "None") {
            self.learn_text("address", address);
        }
        fields.values().for_each(|below| self.learn(below));
    }

    fn learn_text(&mut self, kind: &str, text: &str) {
        if text.is_empty() || self.texts.iter().any(|(known, _)| known == text) {
            return;
        }
        let number = self.texts.iter().filter(|(_, symbol)| symbol.starts_with(&format!("<{kind} "))).count() + 1;
        self.texts.push((text.to_owned(), format!("<{kind} {number}>")));
        self.texts.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
    }

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
        let known = self.versions.iter().position(|known| known == version);
        known.map_or_else(|| "<some version>".to_owned(), |number| format!("<version {}>", number + 1))
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

/// Without the order that follows from times of whole seconds, and what only lists have.
fn tidy(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(tidy),
        Value::Object(fields) => {
            let is_list = fields.get("kind").and_then(Value::as_str).is_some_and(|kind| kind.ends_with("List"));
            if is_list && fields.contains_key("items") {
                fields.remove("metadata");
            }
            if let Some(entries) = fields.get_mut("managedFields").and_then(Value::as_array_mut) {
                entries.sort_by_key(|entry| format!("{}{}{}", entry["operation"], entry["manager"], entry["subresource"]));
            }
            for port in fields.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
                if port["nodePort"].is_number() {
                    port["nodePort"] = json!("<port>");
                }
            }
            fields.values_mut().for_each(tidy);
        }
        _ => {}
    }
}

/// Where two values differ: the place, and what is there.
pub fn differences(real: &Value, sim: &Value) -> Vec<(String, String)> {
    let mut found = Vec::new();
    collect("", Some(real), Some(sim), &mut found);
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
            found.push((path.to_owned(), format!("real {}, simulated {}", shown(real), shown(sim))));
        }
        _ => {}
    }
}
