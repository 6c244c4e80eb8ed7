//! Manifests from files: what a person would give `kubectl apply`, read with limits and as plain JSON values.
//!
//! No message of this module repeats a value that stands in a file: a broken file may be a Secret.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use interlock_core::object::{ObjectId, strip_server_fields};
use serde_json::Value;

use crate::error::CliError;

/// Most bytes of one file of manifests.
const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;
/// Most files of one command.
const MAX_FILES: usize = 1_000;
/// Most directories within each other; links that lead in a circle end here.
const MAX_DEPTH: usize = 32;
/// Most objects of one command: far above what one change may hold, so that the better message comes from there.
const MAX_DOCUMENTS: usize = 10_000;
/// What directories are searched for.
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];

/// The objects in files, in directories (recursively, sorted by name) and, for `-`, in standard input; Lists are taken
/// apart, and what the API server wrote (as in the output of `kubectl get -o yaml`) is taken off.
pub fn read(paths: &[PathBuf]) -> Result<Vec<Value>, CliError> {
    let mut files = Vec::new();
    for path in paths {
        collect(path, 0, &mut files)?;
    }
    let mut objects = Vec::new();
    for file in files {
        let bytes = read_bounded(&file, MAX_FILE_BYTES)?;
        let name = shown(&file);
        let text = String::from_utf8(bytes)
            .map_err(|_| CliError::Usage(format!("{name} is no text: manifests are written in UTF-8")))?;
        objects.extend(documents(&name, &text)?);
        if objects.len() > MAX_DOCUMENTS {
            return Err(CliError::Usage(format!("more than {MAX_DOCUMENTS} objects: split the change")));
        }
    }
    if objects.is_empty() {
        return Err(CliError::Usage("the files hold no object".to_owned()));
    }
    Ok(objects)
}

/// The bytes of a file, or of standard input for `-`; a file beyond `limit` bytes is refused, not cut.
pub fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>, CliError> {
    let name = shown(path);
    let trouble = |error: io::Error| CliError::Usage(format!("{name} cannot be read: {error}"));
    let mut bytes = Vec::new();
    if path == Path::new("-") {
        io::stdin().lock().take(limit + 1).read_to_end(&mut bytes).map_err(trouble)?;
    } else {
        fs::File::open(path).map_err(trouble)?.take(limit + 1).read_to_end(&mut bytes).map_err(trouble)?;
    }
    if bytes.len() as u64 > limit {
        return Err(CliError::Usage(format!("{name} has more than {} MiB", limit / (1024 * 1024))));
    }
    Ok(bytes)
}

fn shown(path: &Path) -> String {
    if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() }
}

fn collect(path: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<(), CliError> {
    let trouble = |error: io::Error| CliError::Usage(format!("{} cannot be read: {error}", path.display()));
    if path == Path::new("-") || !fs::metadata(path).map_err(trouble)?.is_dir() {
        files.push(path.to_owned());
    } else {
        if depth == MAX_DEPTH {
            return Err(CliError::Usage(format!("{}: more than {MAX_DEPTH} directories deep", path.display())));
        }
        let entries: Result<Vec<PathBuf>, io::Error> =
            fs::read_dir(path).map_err(trouble)?.map(|entry| entry.map(|e| e.path())).collect();
        let mut entries = entries.map_err(trouble)?;
        entries.sort();
        for entry in entries {
            let wanted = entry.extension().and_then(|e| e.to_str()).is_some_and(|e| EXTENSIONS.contains(&e));
            if wanted || entry.is_dir() {
                collect(&entry, depth + 1, files)?;
            }
        }
    }
    if files.len() > MAX_FILES {
        return Err(CliError::Usage(format!("more than {MAX_FILES} files: split the change")));
    }
    Ok(())
}

/// The objects in one text of YAML or JSON documents. `file` is its name for messages.
pub fn documents(file: &str, text: &str) -> Result<Vec<Value>, CliError> {
    let mut objects = Vec::new();
    for (position, document) in parse(file, text)?.into_iter().enumerate() {
        let place = format!("{file}, document {}", position + 1);
        expand(&place, document, &mut objects)?;
    }
    Ok(objects)
}

fn parse(file: &str, text: &str) -> Result<Vec<Value>, CliError> {
    let text = text.trim_start_matches('\u{feff}');
    // JSON as such first: it may be indented by tabs, which YAML refuses, and it may be deeper.
    if text.trim_start().starts_with('{')
        && let Ok(found) = serde_json::Deserializer::from_str(text).into_iter().collect::<Result<Vec<Value>, _>>()
    {
        return Ok(found);
    }
    let options = serde_saphyr::options! {
        // A snippet would show the lines around the error, and they may hold a Secret's value.
        with_snippet: false,
        // As kubectl reads `defaultMode: 0644`.
        legacy_octal_numbers: true,
    };
    let mut reader = text.as_bytes();
    let mut found = Vec::new();
    for (position, document) in serde_saphyr::read_with_options::<_, Value>(&mut reader, options).enumerate() {
        match document {
            Ok(Value::Null) => {}
            Ok(document) => found.push(document),
            Err(error) => {
                // Where, not what: the parser's own words may repeat what stands there.
                let place = error
                    .location()
                    .map_or_else(String::new, |at| format!(", line {} column {}", at.line(), at.column()));
                return Err(CliError::Usage(format!(
                    "{file}, document {}{place}: this is no YAML as it should be ({})",
                    position + 1,
                    kind_of(&error)
                )));
            }
        }
    }
    Ok(found)
}

/// What is wrong with the YAML in a few fixed words.
fn kind_of(error: &serde_saphyr::Error) -> &'static str {
    let text = error.to_string().to_lowercase();
    let known = [
        ("duplicate", "a key stands twice in one mapping"),
        ("budget", "it is too large, too deep or has too many aliases"),
        ("alias", "an alias is unknown or expands too far"),
        ("indent", "the indentation does not fit"),
        ("mapping values", "a colon stands where none may stand"),
        ("tab", "a tab stands where blanks are needed"),
        ("end of", "it ends in the middle"),
        ("eof", "it ends in the middle"),
    ];
    known.iter().find(|(word, _)| text.contains(word)).map_or("its syntax is wrong", |(_, words)| words)
}

fn expand(place: &str, mut document: Value, objects: &mut Vec<Value>) -> Result<(), CliError> {
    let kind = document.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
    let items = document.get_mut("items").map(Value::take);
    if let (Some(item_kind), Some(Value::Array(items))) = (kind.strip_suffix("List"), items) {
        let api_version = document.get("apiVersion").cloned().unwrap_or(Value::Null);
        for (position, mut item) in items.into_iter().enumerate() {
            // `ConfigMapList` says for its items what they are; `List` does not.
            if let Some(fields) = item.as_object_mut().filter(|_| !item_kind.is_empty()) {
                fields.entry("apiVersion").or_insert_with(|| api_version.clone());
                fields.entry("kind").or_insert_with(|| Value::String(item_kind.to_owned()));
            }
            objects.push(checked(&format!("{place}, item {}", position + 1), item)?);
        }
        return Ok(());
    }
    objects.push(checked(place, document)?);
    Ok(())
}

fn checked(place: &str, mut object: Value) -> Result<Value, CliError> {
    let id = ObjectId::of(&object).map_err(|error| {
        let hint = if object.pointer("/metadata/generateName").is_some() {
            " (generateName would make another object at each try)"
        } else {
            ""
        };
        CliError::Usage(format!("{place}: {error}{hint}"))
    })?;
    // Names become parts of addresses.
    let plain = |text: &str| {
        text != "." && text != ".." && text.chars().all(|c| c.is_ascii_alphanumeric() || "-._:".contains(c))
    };
    let parts = [&id.group, &id.version, &id.kind, &id.name];
    if !parts.into_iter().all(|part| plain(part)) || !id.namespace.as_deref().is_none_or(plain) {
        return Err(CliError::Usage(format!("{place}: its name, namespace, kind or apiVersion is not a valid name")));
    }
    strip_server_fields(&mut object);
    Ok(object)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const CANARY: &str = "hunter2-canary";

    fn refused(text: &str) -> String {
        documents("a.yaml", text).expect_err("refused").to_string()
    }

    #[test]
    fn documents_lists_and_json_become_objects_without_what_the_server_wrote() {
        let yaml = "
apiVersion: v1
kind: ConfigMap
metadata:
  name: a
  uid: x
  resourceVersion: '7'
  annotations: {kubectl.kubernetes.io/last-applied-configuration: '{}'}
data: {mode: 'on', n: '0644'}
status: {}
---
# only a comment
---
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Service, metadata: {name: b}}
---
apiVersion: v1
kind: ConfigMapList
items: [{metadata: {name: c}}]
";
        let config = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"mode": "on", "n": "0644"}});
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "b"}});
        let third = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}});
        assert_eq!(documents("a.yaml", yaml).unwrap(), vec![config, service.clone(), third]);
        let with_tabs = format!("{service}\n\t{service}");
        assert_eq!(documents("a.json", &with_tabs).unwrap(), vec![service.clone(), service]);
    }

    #[test]
    fn numbers_are_read_as_kubectl_reads_them() {
        let text = "{apiVersion: v1, kind: A, metadata: {name: a}, mode: 0644, big: 1.5, text: '0644'}";
        let found = documents("a.yaml", text).unwrap();
        assert_eq!(found[0].get("mode"), Some(&json!(420)));
        assert_eq!(found[0].get("big"), Some(&json!(1.5)));
        assert_eq!(found[0].get("text"), Some(&json!("0644")));
    }

    #[test]
    fn what_is_no_object_is_refused_with_its_place() {
        let second = "{apiVersion: v1, kind: A, metadata: {name: a}}\n---\n{apiVersion: v1, kind: A}";
        assert_eq!(refused(second), "a.yaml, document 2: metadata.name is missing, empty or not a string");
        let item = "{apiVersion: v1, kind: List, items: [5]}";
        assert_eq!(refused(item), "a.yaml, document 1, item 1: an object is expected, but the value is a number");
        let generated = "{apiVersion: v1, kind: A, metadata: {generateName: a-}}";
        assert!(refused(generated).ends_with("(generateName would make another object at each try)"));
        for name in ["..", "a%2fb", "a?b", "a#b"] {
            let text = format!("{{apiVersion: v1, kind: A, metadata: {{name: '{name}'}}}}");
            assert!(refused(&text).contains("not a valid name"), "{name}");
        }
    }

    #[test]
    fn broken_yaml_is_refused_and_its_values_are_not_repeated() {
        let texts = [
            format!("apiVersion: v1\nkind: Secret\nstringData:\n  password: {CANARY}: x\n"),
            format!("apiVersion: v1\nkind: Secret\nstringData:\n  {CANARY}: a\n  {CANARY}: b\n"),
            format!("apiVersion: v1\nstringData: {{password: \"{CANARY}\n"),
            format!("apiVersion: v1\nstringData:\n\tpassword: {CANARY}\n"),
            format!("stringData: {{password: *{CANARY}}}\n"),
            format!("stringData: {{password: !!int {CANARY}}}\n"),
            format!("stringData: {{password: !!binary {CANARY}}}\n"),
            format!("{CANARY}\n"),
            format!("{{\"stringData\": {{\"password\": \"{CANARY}\""),
        ];
        for text in texts {
            let message = refused(&text);
            assert!(!message.contains(CANARY), "{message}");
            assert!(message.starts_with("a.yaml, document 1"), "{message}");
        }
    }

    #[test]
    fn hostile_yaml_ends_soon() {
        let mut bomb = vec!["a: &a [x, x, x, x, x, x, x, x, x]".to_owned()];
        for (from, to) in ('a'..'j').zip('b'..='j') {
            let aliases = vec![format!("*{from}"); 9].join(", ");
            bomb.push(format!("{to}: &{to} [{aliases}]"));
        }
        assert!(refused(&bomb.join("\n")).contains("a.yaml, document 1"));
        assert!(refused(&"[".repeat(100_000)).contains("a.yaml, document 1"));
        assert!(refused(&"{\"a\":".repeat(100_000)).contains("a.yaml, document 1"));
    }

    #[test]
    fn directories_are_searched_in_order_and_only_for_manifests() {
        let directory = std::env::temp_dir().join(format!("interlock-manifests-{}", std::process::id()));
        fs::create_dir_all(directory.join("b")).unwrap();
        let write = |name: &str, object: &str| {
            let text = format!("{{apiVersion: v1, kind: A, metadata: {{name: {object}}}}}");
            fs::write(directory.join(name), text).unwrap();
        };
        write("c.yml", "third");
        write("a.yaml", "first");
        write("b/x.json", "second");
        fs::write(directory.join("notes.txt"), "no manifest").unwrap();
        let found = read(std::slice::from_ref(&directory)).unwrap();
        let names: Vec<_> = found.iter().filter_map(|o| o.pointer("/metadata/name")).collect();
        assert_eq!(names, ["first", "second", "third"]);
        fs::write(directory.join("large.yaml"), vec![b' '; 4 * 1024 * 1024 + 1]).unwrap();
        assert!(read(&[directory.join("large.yaml")]).unwrap_err().to_string().ends_with("more than 4 MiB"));
        assert!(matches!(read(&[directory.join("none.yaml")]), Err(CliError::Usage(_))));
        fs::remove_dir_all(&directory).unwrap();
    }
}
