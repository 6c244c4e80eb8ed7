//! A folder of manifests: every object with the place where it stands.

use std::fs;
use std::path::Path;

use interlock_core::object::{GroupKind, ObjectId, apply_order, strip_server_fields};
use interlock_crds::GROUP;
use serde_json::Value;

use super::BadInput;

/// Most bytes of one file, and most files of one folder.
const LIMITS: (u64, usize) = (16 * 1024 * 1024, 2_000);
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
    let options = serde_saphyr::options! { with_snippet: false, legacy_octal_numbers: true };
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
                return Err(BadInput(format!(
                    "{file}, document {}{place}: this is no YAML as it should be",
                    position + 1
                )));
            }
        }
    }
    Ok(found)
}
