//! The certificate as a page: one file without anything from elsewhere, readable and printable, with the sealed JSON inside.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde_json::Value;

/// Where the sealed JSON begins.
const BEGIN: &str = "<script type=\"application/json\" id=\"interlock-certificate\">";
/// Where it ends.
const END: &str = "</script>";

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;color:#1a1a1a;max-width:52rem;margin:2rem auto;padding:0 1rem}\
h1{font-size:1.6rem;margin:0}h2{font-size:1.1rem;margin:1.6rem 0 .4rem;border-bottom:1px solid #ccc}\
table{border-collapse:collapse;width:100%}th,td{text-align:left;vertical-align:top;padding:.25rem .6rem .25rem 0;border-bottom:1px solid #eee}\
th{font-weight:600;width:14rem}td{overflow-wrap:anywhere}.verdict{font-size:1.3rem;font-weight:700;padding:.4rem .8rem;border:2px solid;display:inline-block;margin:.8rem 0}\
.Passed{color:#0a6b2d}.Failed{color:#a40e1c}.Inconclusive{color:#7a5b00}code{font:12px ui-monospace,monospace}\
.note{color:#555;font-size:.9rem}@media print{body{margin:0;max-width:none}tr,h2{break-inside:avoid;break-after:auto}}";

/// The page of a sealed JSON.
pub(super) fn page(json: &str, content: &Value, key: &str) -> String {
    let evidence = &content["evidence"];
    let (run, chosen) = (&content["run"], &evidence["chosen"]);
    let verdict = text(&evidence["verdict"]);
    let mut body = String::new();
    let title = format!("Restore drill {} of {}", text(&run["name"]), text(&content["system"]));
    let _ = write!(
        body,
        "<h1>{}</h1><div class=\"verdict {}\">{}: {}</div><p>{}</p>",
        escape(&title),
        escape(&verdict),
        escape(&verdict),
        escape(&text(&evidence["reason"])),
        escape(&text(&evidence["message"]))
    );
    section(&mut body, "What was measured", &measured(evidence));
    let pinned = &evidence["pinned"];
    section(
        &mut body,
        "What was restored",
        &[
            row("Backup", &chosen["backup"]),
            row("Snapshot", &chosen["snapshotId"]),
            row("Its base", &chosen["baseId"]),
            row("Data of", &chosen["dataTime"]),
            row("Files", &chosen["files"]),
            row("Bytes", &chosen["bytes"]),
            row("Chosen by", &chosen["strategy"]),
            row("Tier", &chosen["tier"]),
            row("Seed", &evidence["seed"]),
            row("Repository", &pinned["repository"]),
            row("Heartbeat recorded", &chosen["heartbeat"]["time"]),
            row("Heartbeat restored", &evidence["heartbeat"]["time"]),
        ],
    );
    validations(&mut body, &evidence["validations"]);
    let isolation = &evidence["isolation"];
    section(
        &mut body,
        "Isolation of the sandbox",
        &[
            row("Address that was dialled", &isolation["target"]),
            row("From outside", &isolation["outside"]),
            row("From inside", &isolation["inside"]),
            row("At", &isolation["at"]),
        ],
    );
    let images: Vec<_> = evidence["images"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|image| (text(&image["container"]), format!("{} {}", text(&image["image"]), text(&image["imageId"]))))
        .collect();
    section(&mut body, "Images", &images);
    section(
        &mut body,
        "Record",
        &[
            row("Namespace", &run["namespace"]),
            row("Drill", &run["drill"]),
            row("Uid of the run", &run["uid"]),
            row("Trigger", &run["trigger"]),
            row("Slot", &run["slot"]),
            row("Requester", &run["requester"]),
            row("Fault injected", &content["faultInjection"]["fault"]),
            row("Generation of the drill", &pinned["generation"]),
            row("Digest of the drill's spec", &pinned["specDigest"]),
            row("Digest of the policy's spec", &pinned["policyDigest"]),
            row("Digest of the evidence", &content["evidenceDigest"]),
            row("Release of Interlock", &content["release"]),
            ("Sealed by key".to_owned(), key.to_owned()),
        ],
    );
    body.push_str("<p class=\"note\">This page proves nothing by itself. Verify it with a key that you did not get together with it: <code>interlock drill verify FILE --trust KEY</code></p>");
    // Nothing in the JSON can end the element: the only character that could is written as its escape.
    let embedded = json.replace('<', "\\u003c");
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{}</title><style>{STYLE}</style></head>\n<body>{body}\n{BEGIN}{embedded}{END}</body></html>\n",
        escape(&title)
    )
}

/// The sealed JSON of a page. In it `<` is written as an escape, which means the same.
pub(super) fn embedded(page: &str) -> Option<&str> {
    let (_, rest) = page.split_once(BEGIN)?;
    rest.split_once(END).map(|(json, _)| json)
}

fn measured(evidence: &Value) -> Vec<(String, String)> {
    let (rto, rpo) = (&evidence["rto"], &evidence["rpo"]);
    let judged = |value: &Value, met: &str, objective: &str| {
        let objective = match value[objective].as_i64() {
            Some(seconds) => format!(", objective {seconds} s"),
            None => String::new(),
        };
        let met = match value[met].as_bool() {
            Some(true) => ", met",
            Some(false) => ", not met",
            None => ", not judged",
        };
        format!("{objective}{met}")
    };
    let mut rows = vec![row("Admitted (T0)", &evidence["t0"]), row("Verdict fell", &evidence["finishedAt"])];
    if let Some(seconds) = rto["seconds"].as_i64() {
        rows.push(("Recovery time".into(), format!("{seconds} s{}", judged(rto, "met", "objectiveSeconds"))));
    }
    if let Some(seconds) = rpo["seconds"].as_i64() {
        let (least, most) = (text(&rpo["atLeastSeconds"]), text(&rpo["atMostSeconds"]));
        let judged_rpo = judged(rpo, "met", "objectiveSeconds");
        rows.push(("Recovery point".into(), format!("{seconds} s ({least} to {most}){judged_rpo}")));
        let lag = judged(rpo, "captureLagMet", "none");
        rows.push(("Capture lag".into(), format!("{} s{lag}", text(&rpo["captureLagSeconds"]))));
    }
    for segment in evidence["segments"].as_array().into_iter().flatten() {
        let (from, to) = (text(&segment["startedAt"]), text(&segment["finishedAt"]));
        let length =
            from.parse::<Timestamp>().ok().zip(to.parse::<Timestamp>().ok()).map(|(from, to)| to.duration_since(from));
        let length = length.map(|length| format!("{} s, ", length.as_secs())).unwrap_or_default();
        rows.push((format!("Segment {}", text(&segment["name"])), format!("{length}{from} to {to}")));
    }
    rows
}

fn validations(body: &mut String, records: &Value) {
    body.push_str("<h2>Validations</h2><table><tr><th>Validation</th><th>Verdict</th><th>Result</th><th>Said</th><th>Digest of the question</th></tr>");
    for record in records.as_array().into_iter().flatten() {
        let critical = if record["critical"] == true { " (critical)" } else { "" };
        let result = [text(&record["number"]), text(&record["boolean"])].concat();
        let cells = [
            format!("{}{critical}", text(&record["name"])),
            text(&record["verdict"]),
            result,
            text(&record["message"]),
        ];
        body.push_str("<tr>");
        for cell in cells {
            let _ = write!(body, "<td>{}</td>", escape(&cell));
        }
        let _ = write!(body, "<td><code>{}</code></td></tr>", escape(&text(&record["queryDigest"])));
    }
    body.push_str("</table>");
}

fn row(name: &str, value: &Value) -> (String, String) {
    (name.to_owned(), text(value))
}

fn section(body: &mut String, title: &str, rows: &[(String, String)]) {
    let _ = write!(body, "<h2>{title}</h2><table>");
    for (name, value) in rows.iter().filter(|(_, value)| !value.is_empty()) {
        let _ = write!(body, "<tr><th>{}</th><td>{}</td></tr>", escape(name), escape(value));
    }
    body.push_str("</table>");
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}
