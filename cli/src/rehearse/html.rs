//! A rehearsal as one page for a browser: nothing is loaded from elsewhere, and every text is escaped.

use std::fmt::Write as _;

use interlock_rehearsal::scenario::{Entry, EntryKind, Replayed, Report, duration_text};
use jiff::tz::TimeZone;

use super::{
    junit::escaped,
    lines::{short, zone},
    text::{alone, held, reasons, when},
};

const STYLE: &str = "
:root { color-scheme: light dark; --line: #8884; --good: #1a7f37; --bad: #cf222e; --warn: #9a6700; --dim: #6e7781; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; }
td, th { text-align: left; vertical-align: top; padding: .2rem .6rem; border-bottom: 1px solid var(--line); }
.time { white-space: nowrap; color: var(--dim); font-variant-numeric: tabular-nums; }
.day td { font-weight: 600; padding-top: 1rem; }
.said td { font-weight: 600; padding-top: .8rem; }
.phase td { font-weight: 600; }
.opened, .met, .ok { color: var(--good); } .refused, .failed, .fault, .no { color: var(--bad); }
.closed, .vote, .event { color: var(--warn); } .written, .absent, .dim { color: var(--dim); }
";

/// The page.
pub fn render(report: &Report, replayed: Option<&[Replayed]>) -> String {
    let zone = zone(&report.time_zone);
    let title = escaped(report.title.as_deref().unwrap_or("Rehearsal"));
    let mut page = String::new();
    push(
        &mut page,
        &format!("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>"),
    );
    push(&mut page, "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">");
    push(&mut page, &format!("<style>{STYLE}</style></head><body>\n<h1>{title}</h1>"));
    let length = duration_text(report.end.duration_since(report.start));
    push(
        &mut page,
        &format!(
            "<p class=\"dim\">From {} for {length}, times in {}, seed {}.</p>",
            short(report.start, &zone),
            escaped(&report.time_zone),
            report.seed
        ),
    );
    expectations(&mut page, report);
    changes(&mut page, report, &zone);
    who_alone(&mut page, report);
    if let Some(replayed) = replayed {
        replay(&mut page, replayed, &zone);
    }
    timeline(&mut page, report, &zone);
    push(&mut page, "</body></html>");
    page
}

fn push(page: &mut String, text: &str) {
    // Writing into a String cannot fail.
    let _ = writeln!(page, "{text}");
}

fn row(page: &mut String, class: &str, cells: &[String]) {
    let cells = cells.iter().map(|cell| format!("<td>{cell}</td>")).collect::<Vec<_>>().concat();
    push(page, &format!("<tr class=\"{class}\">{cells}</tr>"));
}

fn expectations(page: &mut String, report: &Report) {
    if report.expectations.is_empty() {
        return;
    }
    let met = report.expectations.iter().filter(|outcome| outcome.met).count();
    push(page, &format!("<h2>{met} of {} expectations met</h2><table>", report.expectations.len()));
    for outcome in &report.expectations {
        let (class, word) = if outcome.met { ("ok", "met") } else { ("no", "not met") };
        let place = format!("<span class=\"dim\">{}</span>", escaped(&outcome.place));
        row(page, class, &[word.to_owned(), escaped(&outcome.text), escaped(&outcome.found), place]);
    }
    push(page, "</table>");
}

fn changes(page: &mut String, report: &Report, zone: &TimeZone) {
    push(page, "<h2>When would each change have run?</h2><table>");
    for change in &report.changes {
        let mut more = held(change).into_iter().map(|held| format!("held by {held}")).collect::<Vec<_>>();
        more.extend(change.waits_for.iter().map(|gate| {
            let opens = gate.opens_at.map_or_else(String::new, |at| format!("; opens by itself {}", short(at, zone)));
            format!("waits for {}: {}{opens}", gate.gate, gate.message)
        }));
        let more = more
            .iter()
            .map(|line| format!("<br><span class=\"dim\">{}</span>", escaped(line)))
            .collect::<Vec<_>>()
            .concat();
        let name = format!("{}<br><span class=\"dim\">{}</span>", escaped(&change.change), escaped(&change.title));
        row(page, "", &[name, format!("{:?}", change.phase), format!("{}{more}", escaped(&when(change, zone)))]);
    }
    push(page, "</table>");
}

fn who_alone(page: &mut String, report: &Report) {
    push(page, "<h2>Who could have approved a change alone?</h2><table>");
    for answer in &report.questions.who_alone {
        let risks: Vec<_> = answer.risks.iter().map(|risk| format!("{risk:?}")).collect();
        let which = format!("{}, {:?}", answer.policy, answer.type_);
        row(page, "", &[escaped(&which), risks.join(", "), escaped(&alone(answer)), escaped(&answer.needs)]);
    }
    push(page, "</table>");
}

fn replay(page: &mut String, replayed: &[Replayed], zone: &TimeZone) {
    let stopped = replayed.iter().filter(|change| change.is_stopped).count();
    push(page, "<h2>Which changes of the past would these policies have stopped?</h2>");
    push(page, &format!("<p>{stopped} of {}</p><table>", replayed.len()));
    for change in replayed {
        let (class, word) = if change.is_stopped { ("no", "stopped") } else { ("ok", "runs") };
        let name = format!("{}<br><span class=\"dim\">{}</span>", escaped(&change.change), escaped(&change.title));
        let why: Vec<_> = reasons(change).iter().map(|why| escaped(why)).collect();
        row(page, class, &[word.to_owned(), name, short(change.started_at, zone), why.join("<br>")]);
    }
    push(page, "</table>");
}

fn timeline(page: &mut String, report: &Report, zone: &TimeZone) {
    push(page, "<h2>Timeline</h2><table>");
    let mut day = None;
    for entry in &report.timeline {
        let local = zone.to_datetime(entry.at);
        if day != Some(local.date()) {
            day = Some(local.date());
            push(page, &format!("<tr class=\"day\"><td colspan=\"2\">{}</td></tr>", local.strftime("%A %Y-%m-%d")));
        }
        let clock = local.strftime("%H:%M:%S");
        push(
            page,
            &format!(
                "<tr class=\"{}\"><td class=\"time\">{clock}</td><td>{}</td></tr>",
                class(entry),
                escaped(&entry.text)
            ),
        );
    }
    push(page, "</table>");
}

const fn class(entry: &Entry) -> &'static str {
    match entry.kind {
        EntryKind::Said => "said",
        EntryKind::Done => "done",
        EntryKind::Refused => "refused",
        EntryKind::Absent => "absent",
        EntryKind::Phase => "phase",
        EntryKind::Opened => "opened",
        EntryKind::Closed => "closed",
        EntryKind::Vote => "vote",
        EntryKind::Written => "written",
        EntryKind::Event => "event",
        EntryKind::Fault => "fault",
        EntryKind::Measured => "measured",
        EntryKind::Released => "released",
        EntryKind::Met => "met",
        EntryKind::Failed => "failed",
    }
}
