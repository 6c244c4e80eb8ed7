//! Writes `crds/yaml/` and `docs/reference.md` from the types, or with `--check` tells what is stale.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path, process::ExitCode};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray,
};

fn main() -> ExitCode {
    let check = std::env::args().any(|argument| argument == "--check");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut stale = Vec::new();
    for (path, text) in generated() {
        let file = root.join(&path);
        if fs::read_to_string(&file).ok().as_deref() == Some(&text) {
            continue;
        }
        if check {
            stale.push(path);
        } else if let Err(error) =
            fs::create_dir_all(file.parent().unwrap_or(&root)).and_then(|()| fs::write(&file, text))
        {
            eprintln!("{path} cannot be written: {error}");
            return ExitCode::FAILURE;
        } else {
            println!("wrote {path}");
        }
    }
    if stale.is_empty() {
        return ExitCode::SUCCESS;
    }
    eprintln!("stale, run `cargo xtask codegen`: {}", stale.join(", "));
    ExitCode::FAILURE
}

fn generated() -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    let mut reference = String::from(
        "# Reference\n\nEvery kind of the API group `interlock.dev`, version `v1alpha1`. Generated from the types by `cargo xtask codegen`.\n",
    );
    for crd in interlock_crds::all() {
        let name = crd.metadata.name.clone().unwrap_or_default();
        let text = serde_saphyr::to_string(&crd).unwrap_or_else(|error| format!("# {error}\n"));
        files.insert(format!("crds/yaml/{name}.yaml"), text);
        page(&mut reference, &crd);
    }
    files.insert("docs/reference.md".to_owned(), reference);
    files
}

fn page(out: &mut String, crd: &CustomResourceDefinition) {
    let names = &crd.spec.names;
    let _ = writeln!(out, "\n## {}\n", names.kind);
    let Some(version) = crd.spec.versions.first() else { return };
    let Some(schema) = version.schema.as_ref().and_then(|s| s.open_api_v3_schema.as_ref()) else { return };
    let short: Vec<_> = names.short_names.iter().flatten().map(|n| format!("`{n}`")).collect();
    let _ = writeln!(
        out,
        "{}. {} scope; plural `{}`{}.\n",
        schema.description.clone().unwrap_or_default(),
        crd.spec.scope,
        names.plural,
        if short.is_empty() { String::new() } else { format!(", short {}", short.join(", ")) }
    );
    let _ = writeln!(out, "| field | type | meaning |\n|---|---|---|");
    for part in ["spec", "status"] {
        if let Some(schema) = schema.properties.as_ref().and_then(|p| p.get(part)) {
            rows(out, part, schema);
        }
    }
    let mut rules = Vec::new();
    collect(schema, "", &mut rules);
    if !rules.is_empty() {
        let _ = writeln!(out, "\nRefused by the schema:\n");
        for (path, message) in rules {
            let _ = writeln!(out, "- `{}`: {message}", if path.is_empty() { "." } else { &path });
        }
    }
}

fn rows(out: &mut String, path: &str, schema: &JSONSchemaProps) {
    let required = schema.required.clone().unwrap_or_default();
    for (name, field) in schema.properties.iter().flatten() {
        let here = format!("{path}.{name}");
        let (kind, inner) = kind(field);
        let must = if required.contains(name) { " (required)" } else { "" };
        let about = field.description.clone().unwrap_or_default().replace('\n', " ").replace('|', "\\|");
        let _ = writeln!(out, "| `{here}` | {kind}{must} | {about} |");
        if let Some(inner) = inner {
            rows(out, &format!("{here}{}", if field.items.is_some() { "[]" } else { "" }), inner);
        }
    }
}

fn kind(field: &JSONSchemaProps) -> (String, Option<&JSONSchemaProps>) {
    if let Some(values) = &field.enum_ {
        let values: Vec<_> = values.iter().filter_map(|v| v.0.as_str()).collect();
        return (values.join(", "), None);
    }
    match (&field.items, field.type_.as_deref()) {
        (Some(JSONSchemaPropsOrArray::Schema(item)), _) => {
            let (kind, _) = kind(item);
            (format!("list of {kind}"), item.properties.is_some().then_some(&**item))
        }
        (_, Some(type_)) => (type_.to_owned(), field.properties.is_some().then_some(field)),
        _ => ("any".to_owned(), None),
    }
}

fn collect(schema: &JSONSchemaProps, path: &str, into: &mut Vec<(String, String)>) {
    for rule in schema.x_kubernetes_validations.iter().flatten() {
        into.push((path.to_owned(), rule.message.clone().unwrap_or_else(|| rule.rule.clone())));
    }
    for (name, field) in schema.properties.iter().flatten() {
        collect(field, &format!("{path}.{name}"), into);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(item)) = &schema.items {
        collect(item, &format!("{path}[]"), into);
    }
}
