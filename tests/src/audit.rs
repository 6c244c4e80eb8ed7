//! What the API server's audit log says was done.

use std::{fs, path::Path};

use serde_json::Value;

/// A finished request.
#[derive(Clone, Debug)]
pub struct Event(pub Value);

impl Event {
    /// Who asked; the impersonated user if there was one.
    pub fn user(&self) -> &str {
        self.0["impersonatedUser"]["username"].as_str().or(self.0["user"]["username"].as_str()).unwrap_or_default()
    }

    pub fn verb(&self) -> &str {
        self.0["verb"].as_str().unwrap_or_default()
    }

    pub fn uri(&self) -> &str {
        self.0["requestURI"].as_str().unwrap_or_default()
    }

    pub fn code(&self) -> u64 {
        self.0["responseStatus"]["code"].as_u64().unwrap_or_default()
    }

    /// A write that was stored.
    pub fn is_stored_write(&self) -> bool {
        matches!(self.verb(), "create" | "update" | "patch" | "delete")
            && self.code() < 300
            && !self.uri().contains("dryRun=All")
    }

    pub fn is_about(&self, namespace: &str, resource: &str, name: &str) -> bool {
        let reference = &self.0["objectRef"];
        reference["namespace"] == namespace
            && reference["resource"] == resource
            && (name.is_empty() || reference["name"] == name)
    }

    /// The object as it was stored, where bodies are logged.
    pub fn response(&self) -> &Value {
        &self.0["responseObject"]
    }
}

/// All finished requests in the order in which they were logged that contain `needle` in their line.
pub fn events(log: &Path, needle: &str) -> Vec<Event> {
    let text = fs::read(log).expect("the audit log");
    text.split(|byte| *byte == b'\n')
        .filter_map(|line| std::str::from_utf8(line).ok())
        .filter(|line| line.contains(needle) && line.contains("\"ResponseComplete\""))
        .filter_map(|line| serde_json::from_str(line).ok())
        .map(Event)
        .collect()
}
