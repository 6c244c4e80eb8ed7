//! `allOf`, `anyOf`, `oneOf` and `not`.

use serde_json::Value;

use super::super::error::Cause;
use super::{has, validate::validate_at};

/// What the schemas that a schema is put together of find wrong.
pub(super) fn check(schema: &Value, value: &Value, path: &str, causes: &mut Vec<Cause>) {
    // There it only repeats what the type says.
    if has(schema, "x-kubernetes-int-or-string") {
        return;
    }
    let found = |name: &str| -> Option<Vec<Vec<Cause>>> {
        let schemas = schema.get(name)?.as_array()?;
        Some(schemas.iter().map(|schema| wrong(schema, value, path)).collect())
    };
    let mut say = |what: &str| causes.push(Cause::new("<nil>", format!("Invalid value: \"\": \"{path}\" must {what}")));
    let mut details = Vec::new();
    if let Some(found) = found("anyOf")
        && !found.iter().any(Vec::is_empty)
    {
        say("validate at least one schema (anyOf)");
        details.extend(found.into_iter().next());
    }
    if let Some(found) = found("oneOf") {
        match found.iter().filter(|wrong| wrong.is_empty()).count() {
            1 => {}
            0 => {
                say("validate one and only one schema (oneOf). Found none valid");
                details.extend(found.into_iter().next());
            }
            several => {
                say(&format!("validate one and only one schema (oneOf). Found {several} valid alternatives"));
            }
        }
    }
    if schema.get("not").is_some_and(|not| wrong(not, value, path).is_empty()) {
        say("not validate the schema (not)");
    }
    causes.extend(details.into_iter().flatten());
    if let Some(found) = found("allOf")
        && found.iter().any(|wrong| !wrong.is_empty())
    {
        let none = if found.iter().any(Vec::is_empty) { "" } else { ". None validated" };
        causes.extend(found.into_iter().flatten());
        let what = format!("Invalid value: \"\": \"{path}\" must validate all the schemas (allOf){none}");
        causes.push(Cause::new("<nil>", what));
    }
}

fn wrong(schema: &Value, value: &Value, path: &str) -> Vec<Cause> {
    let mut causes = Vec::new();
    validate_at(schema, value, None, (path, false), &mut causes);
    causes
}
