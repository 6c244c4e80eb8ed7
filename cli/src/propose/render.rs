//! The diff of a proposal as lines for a person.
//!
//! Values of Secrets are never shown, only the names of their keys. Control characters in values are written out, so that
//! a manifest cannot repaint the terminal of whoever reads its diff.

use interlock_core::object::{Change, Segment};
use serde_json::Value;
use similar::{ChangeTag, TextDiff};

use super::preview::{Effect, Preview};
use crate::ui::{Ui, fitted};

/// Texts up to this length are shown on one line.
const SHORT: usize = 80;
/// Most lines shown of one value or one created object.
const MAX_LINES: usize = 200;

/// All objects, and a line that sums them up.
pub fn lines(previews: &[Preview], ui: Ui) -> Vec<String> {
    let mut lines = Vec::new();
    for preview in previews {
        object(preview, ui, &mut lines);
    }
    let count = |effect: Effect| previews.iter().filter(|p| p.effect == effect).count();
    lines.push(format!(
        "{} to create, {} to update, {} to delete, {} unchanged",
        count(Effect::Create),
        count(Effect::Update),
        count(Effect::Delete),
        count(Effect::Nothing)
    ));
    lines
}

fn object(preview: &Preview, ui: Ui, lines: &mut Vec<String>) {
    let id = plain(&preview.id.to_string());
    lines.push(match preview.effect {
        Effect::Create => ui.good(&format!("+ {id} create")),
        Effect::Update => ui.warn(&format!("~ {id}")),
        Effect::Delete => ui.bad(&format!("- {id} delete")),
        Effect::Nothing => ui.dim(&format!("= {id} unchanged")),
    });
    if let Some(refused) = &preview.refused {
        lines.push(ui.bad(&fitted(&format!("    ! the API server would refuse it: {}", plain(refused)), 6)));
    }
    lines.extend(preview.notes.iter().map(|note| ui.warn(&fitted(&format!("    ! {}", plain(note)), 6))));
    if preview.is_secret() {
        lines.extend(preview.changes.iter().map(|change| masked(change, ui)));
        let created = preview.created.as_ref().and_then(|c| c.get("data")).and_then(Value::as_object);
        lines.extend(created.into_iter().flat_map(|data| data.keys()).map(|key| added_key(key, ui)));
        return;
    }
    if let Some(created) = &preview.created {
        block(&yaml(created), "    + ", |text| ui.good(text), lines);
    }
    for change in &preview.changes {
        one(change, ui, lines);
    }
}

fn added_key(key: &str, ui: Ui) -> String {
    ui.good(&format!("    + key {}", plain(key)))
}

/// A change of a Secret: where, never what.
fn masked(change: &Change, ui: Ui) -> String {
    let what = match change.path.segments() {
        [Segment::Key(data), Segment::Key(key), ..] if data == "data" => format!("key {}", plain(key)),
        _ => plain(&change.path.to_string()),
    };
    match (&change.before, &change.after) {
        (None, _) => ui.good(&format!("    + {what}")),
        (_, None) => ui.bad(&format!("    - {what}")),
        _ => ui.warn(&format!("    ~ {what} changed")),
    }
}

fn one(change: &Change, ui: Ui, lines: &mut Vec<String>) {
    let path = plain(&change.path.to_string());
    let is_short = |value: &Value| {
        let text = shown(value);
        text.chars().count() <= SHORT && !text.contains('\n')
    };
    match (&change.before, &change.after) {
        (Some(before), Some(after)) if is_short(before) && is_short(after) => {
            let (before, after) = (ui.bad(&plain(&shown(before))), ui.good(&plain(&shown(after))));
            lines.push(format!("    {path}: {before} → {after}"));
        }
        (Some(before), Some(after)) => {
            lines.push(format!("    {path}:"));
            unified(&long(before), &long(after), ui, lines);
        }
        (None, Some(after)) if is_short(after) => {
            lines.push(ui.good(&format!("    + {path}: {}", plain(&shown(after)))));
        }
        (Some(before), None) if is_short(before) => {
            lines.push(ui.bad(&format!("    - {path}: {}", plain(&shown(before)))));
        }
        (None, Some(after)) => {
            lines.push(ui.good(&format!("    + {path}:")));
            block(&long(after), "      + ", |text| ui.good(text), lines);
        }
        (Some(before), None) => {
            lines.push(ui.bad(&format!("    - {path}:")));
            block(&long(before), "      - ", |text| ui.bad(text), lines);
        }
        (None, None) => {}
    }
}

/// A value on one line.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) if text.is_empty() || text.trim() != text => format!("\"{text}\""),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A value on several lines.
fn long(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => yaml(other),
    }
}

fn yaml(value: &Value) -> String {
    serde_saphyr::to_string(value).unwrap_or_else(|_| value.to_string())
}

fn block(text: &str, prefix: &str, paint: impl Fn(&str) -> String, lines: &mut Vec<String>) {
    let all: Vec<&str> = text.lines().collect();
    lines.extend(all.iter().take(MAX_LINES).map(|line| paint(&format!("{prefix}{}", plain(line)))));
    rest(all.len(), prefix, lines);
}

fn rest(count: usize, prefix: &str, lines: &mut Vec<String>) {
    if count > MAX_LINES {
        let blanks = " ".repeat(prefix.len());
        lines.push(format!("{blanks}({} more lines, not shown)", count - MAX_LINES));
    }
}

fn unified(before: &str, after: &str, ui: Ui, lines: &mut Vec<String>) {
    let text_diff = TextDiff::from_lines(before, after);
    let mut found = Vec::new();
    for hunk in text_diff.unified_diff().context_radius(2).iter_hunks() {
        found.push(ui.dim(&format!("      {}", hunk.header())));
        for change in hunk.iter_changes() {
            let text = plain(change.value().trim_end_matches(['\n', '\r']));
            found.push(match change.tag() {
                ChangeTag::Delete => ui.bad(&format!("      - {text}")),
                ChangeTag::Insert => ui.good(&format!("      + {text}")),
                ChangeTag::Equal => format!("        {text}"),
            });
        }
    }
    if found.is_empty() {
        found.push(ui.dim("      (only the line endings differ)"));
    }
    let count = found.len();
    found.truncate(MAX_LINES);
    lines.append(&mut found);
    rest(count, "      ", lines);
}

/// Text without characters that move the cursor, hide or reorder what stands beside them; they are written out.
pub fn plain(text: &str) -> String {
    let is_hidden = |c: char| {
        (c.is_control() && c != '\t')
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
    };
    if !text.contains(is_hidden) {
        return text.to_owned();
    }
    text.chars().map(|c| if is_hidden(c) { c.escape_unicode().to_string() } else { c.to_string() }).collect()
}

#[cfg(test)]
#[path = "render_tests.rs"]
mod tests;
