//! A folder of manifests: every object with the place where it stands.

use std::fs;
use std::path::Path;

use interlock_core::object::{GroupKind, ObjectId, apply_order, strip_server_fields};
use interlock_crds::GROUP;
use serde_json::Value;
use serde_saphyr::budget::BudgetBreach;

use super::BadInput;

/// Most bytes of one file, and most files of one folder.
const LIMITS: (u64, usize) = (16 * 1024 * 1024, 2_000);
/// Most values, names of fields and lists of one file: ten thousand changes with their votes are less than a million.
const MAX_NODES: usize = 4_000_000;
/// Directories within each other.
const MAX_DEPTH: usize = 16;

/// One object and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// Name of the file within the folder.
    pub file: String,
    /// `FILE, document N`, for messages.
    pub place: String,
    /// The object.
    pub object: Value,
}

/// The objects of a folder, in the order of file names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Folder {
    /// The objects.
    pub sources: Vec<Source>,
}

impl Folder {
    /// Reads a directory with everything in it, as written by a person: what the API server adds is taken off.
    pub fn read(path: &Path) -> Result<Self, BadInput> {
        Self::of_texts(&texts(path)?, true)
    }

    /// Reads a directory of exported objects, with what the API server added to them.
    pub fn read_export(path: &Path) -> Result<Self, BadInput> {
        Self::of_texts(&texts(path)?, false)
    }

    /// The objects in texts, each with the name of its file.
    pub fn embedded(texts: &[(&str, &str)]) -> Result<Self, BadInput> {
        let owned: Vec<_> = texts.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        Self::of_texts(&owned, true)
    }

    fn of_texts(texts: &[(String, String)], strip: bool) -> Result<Self, BadInput> {
        let mut folder = Self::default();
        for (file, text) in texts {
            for (position, document) in documents(file, text)?.into_iter().enumerate() {
                let place = format!("{file}, document {}", position + 1);
                folder.add(file, &place, document, strip)?;
            }
        }
        Ok(folder)
    }

    fn add(&mut self, file: &str, place: &str, mut document: Value, strip: bool) -> Result<(), BadInput> {
        let is_list = document.get("kind").and_then(Value::as_str).is_some_and(|kind| kind.ends_with("List"));
        if is_list && let Some(Value::Array(items)) = document.get_mut("items").map(Value::take) {
            for (position, item) in items.into_iter().enumerate() {
                self.add(file, &format!("{place}, item {}", position + 1), item, strip)?;
            }
            return Ok(());
        }
        if document.get("apiVersion").is_none() && document.get("kind").is_none() {
            // A scenario may lie beside the manifests that it is about.
            if document.get("steps").is_some() || document.get("expect").is_some() {
                return Ok(());
            }
        }
        ObjectId::of(&document).map_err(|error| BadInput(format!("{place}: {error}")))?;
        if strip {
            strip_server_fields(&mut document);
            if let Some(fields) = document.as_object_mut() {
                fields.remove("status");
            }
        }
        self.sources.push(Source { file: file.to_owned(), place: place.to_owned(), object: document });
        Ok(())
    }

    /// The objects of one file, found by its name or by the end of its path.
    pub fn file<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Source> {
        let wanted = name.trim_start_matches("./");
        self.sources.iter().filter(move |source| source.file == wanted)
    }

    /// The objects of one of Interlock's kinds.
    pub fn own<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Source> {
        self.sources.iter().filter(move |source| is_own(&source.object, kind))
    }

    /// The objects to put into the cluster before the start, what others need first. Changes are proposed, not put.
    pub fn to_seed(&self) -> Result<Vec<&Source>, BadInput> {
        for kind in ["Approval", "Evidence", "Action"] {
            if let Some(source) = self.own(kind).next() {
                return Err(BadInput(format!(
                    "{}: {kind} objects carry the seal of the cluster that they come from and mean nothing in another; \
                     write a step of the scenario instead, or judge a folder of exported objects with --replay",
                    source.place
                )));
            }
        }
        let seeded: Vec<_> = self.sources.iter().filter(|source| !is_own(&source.object, "ChangeRequest")).collect();
        let kinds: Vec<_> = seeded
            .iter()
            .map(|source| GroupKind::of(&source.object).unwrap_or_else(|_| GroupKind::new("", "")))
            .collect();
        Ok(apply_order(&kinds).into_iter().filter_map(|index| seeded.get(index).copied()).collect())
    }
}

/// Whether an object is of one of Interlock's kinds.
pub(super) fn is_own(object: &Value, kind: &str) -> bool {
    GroupKind::of(object).is_ok_and(|found| found.is(GROUP, kind))
}

fn texts(path: &Path) -> Result<Vec<(String, String)>, BadInput> {
    let mut files = Vec::new();
    collect(path, path, 0, &mut files)?;
    if files.is_empty() {
        return Err(BadInput(format!("{} holds no file that ends in .yaml, .yml or .json", path.display())));
    }
    Ok(files)
}

fn collect(root: &Path, path: &Path, depth: usize, files: &mut Vec<(String, String)>) -> Result<(), BadInput> {
    let trouble = |error: std::io::Error| BadInput(format!("{} cannot be read: {error}", path.display()));
    let metadata = fs::metadata(path).map_err(trouble)?;
    if !metadata.is_dir() {
        if metadata.len() > LIMITS.0 || files.len() >= LIMITS.1 {
            return Err(BadInput(format!("{}: too large, or too many files in the folder", path.display())));
        }
        let text = fs::read_to_string(path).map_err(trouble)?;
        let name = path.strip_prefix(root).ok().filter(|name| !name.as_os_str().is_empty()).unwrap_or(path);
        files.push((name.display().to_string(), text));
        return Ok(());
    }
    if depth == MAX_DEPTH {
        return Err(BadInput(format!("{}: more than {MAX_DEPTH} directories deep", path.display())));
    }
    let entries: Result<Vec<_>, _> =
        fs::read_dir(path).map_err(trouble)?.map(|entry| entry.map(|e| e.path())).collect();
    let mut entries = entries.map_err(trouble)?;
    entries.sort();
    for entry in entries {
        let extension = entry.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        if entry.is_dir() || ["yaml", "yml", "json"].contains(&extension) {
            collect(root, &entry, depth + 1, files)?;
        }
    }
    Ok(())
}

/// The YAML or JSON documents of a text. No message repeats a value: a broken file may be a Secret.
pub(super) fn documents(file: &str, text: &str) -> Result<Vec<Value>, BadInput> {
    documents_of_at_most(MAX_NODES, file, text)
}

fn documents_of_at_most(nodes: usize, file: &str, text: &str) -> Result<Vec<Value>, BadInput> {
    let length = text.len() as u64;
    if length > LIMITS.0 {
        let (most, is) = (LIMITS.0 >> 20, length.div_ceil(1 << 20));
        return Err(BadInput(format!(
            "{file}: it has {is} MiB, and at most {most} MiB of one file are read: split it"
        )));
    }
    let options = serde_saphyr::options! {
        with_snippet: false,
        legacy_octal_numbers: true,
        // A list or a mapping is one node and two events: what is counted is the nodes.
        budget: serde_saphyr::budget! { max_nodes: nodes, max_events: 3 * nodes },
    };
    let mut reader = text.trim_start_matches('\u{feff}').as_bytes();
    let mut found = Vec::new();
    for (position, document) in serde_saphyr::read_with_options::<_, Value>(&mut reader, options).enumerate() {
        match document {
            Ok(Value::Null) => {}
            Ok(document) => found.push(document),
            Err(error) => {
                let place = error
                    .location()
                    .map_or_else(String::new, |at| format!(", line {} column {}", at.line(), at.column()));
                let why = why(&error, nodes);
                return Err(BadInput(format!("{file}, document {}{place}: {why}", position + 1)));
            }
        }
    }
    Ok(found)
}

fn why(error: &serde_saphyr::Error, nodes: usize) -> String {
    match error {
        serde_saphyr::Error::Budget { breach: BudgetBreach::Nodes { .. } | BudgetBreach::Events { .. }, .. } => {
            format!("it is too large: at most {nodes} values, names of fields and lists of one file are read; split it")
        }
        serde_saphyr::Error::Budget { .. } => {
            "it is nested too deeply, or has too many documents, anchors or aliases".to_owned()
        }
        _ => "this is no YAML as it should be".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn what_is_too_large_is_refused_with_the_limit() {
        // One mapping, one name, one list, and what is in it.
        let text = format!("{{\"steps\": [{}1]}}", "1, ".repeat(96));
        assert_eq!(documents_of_at_most(100, "s.json", &text).unwrap().len(), 1);
        let refused = documents_of_at_most(99, "s.json", &text).unwrap_err().to_string();
        assert!(refused.contains("s.json, document 1") && refused.contains("at most 99 values"), "{refused}");
        let deep = format!("{}1", "- ".repeat(100));
        let refused = documents_of_at_most(1_000, "s.json", &deep).unwrap_err().to_string();
        assert!(refused.contains("nested too deeply"), "{refused}");
        let long = " ".repeat((16 << 20) + 1);
        let refused = documents("s.json", &long).unwrap_err().to_string();
        assert!(refused.contains("it has 17 MiB, and at most 16 MiB"), "{refused}");
    }

    #[test]
    fn a_file_may_be_larger_than_the_reader_allows_by_itself() {
        // A quarter of a million nodes is what it allows.
        let text = format!("steps: [{}1]", "1, ".repeat(300_000));
        assert_eq!(documents("s.yaml", &text).unwrap().len(), 1);
    }
}
