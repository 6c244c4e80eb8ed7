//! A rehearsal for people.

use interlock_crds::ChangePhase;
use interlock_rehearsal::scenario::{Alone, ChangeSummary, Replayed, Report, duration_text};
use jiff::{SignedDuration, tz::TimeZone};

use super::lines::{Lines, short, zone};
use crate::ui::Ui;

/// Prints everything.
pub fn print(report: &Report, replayed: Option<&[Replayed]>, ui: Ui) {
    let ui = ui.of_story();
    let zone = zone(&report.time_zone);
    if let Some(title) = &report.title {
        ui.heading(title);
    }
    let length = duration_text(report.end.duration_since(report.start));
    let (from, steps) = (short(report.start, &zone), report.steps);
    let played =
        format!("from {from} for {length}, times in {}, seed {}, {steps} steps", report.time_zone, report.seed);
    ui.wrap(&ui.dim(&played), 2);
    let mut lines = Lines::new(&report.time_zone, ui);
    for entry in &report.timeline {
        lines.print(entry);
    }
    changes(report, &zone, ui);
    who_alone(&report.questions.who_alone, ui);
    if let Some(replayed) = replayed {
        replay(replayed, &zone, ui);
    }
    expectations(report, ui);
}

fn changes(report: &Report, zone: &TimeZone, ui: Ui) {
    if report.changes.is_empty() {
        return;
    }
    ui.line("");
    ui.heading("When would each change have run?");
    for change in &report.changes {
        ui.wrap(&format!("  {} {}: {}", change.change, ui.phase(change.phase), when(change, zone)), 6);
        for gate in &change.waits_for {
            let opens = gate.opens_at.map_or_else(String::new, |at| format!("; opens by itself {}", short(at, zone)));
            ui.wrap(&ui.dim(&format!("      waits for {}: {}{opens}", gate.gate, gate.message)), 8);
        }
        let held: Vec<_> = held(change);
        if !held.is_empty() {
            ui.wrap(&ui.dim(&format!("      held by {}", held.join(", "))), 8);
        }
    }
}

/// When a change ran, in a few words.
pub fn when(change: &ChangeSummary, zone: &TimeZone) -> String {
    match (change.started_at, change.ended_at) {
        (Some(started), Some(ended)) => {
            format!("started {}, ended after {}", short(started, zone), duration_text(ended.duration_since(started)))
        }
        (Some(started), None) => format!("started {}, still under way", short(started, zone)),
        (None, Some(ended)) => format!("never started; ended {}: {}", short(ended, zone), change.message),
        (None, None) if change.phase == ChangePhase::Pending && change.waits_for.is_empty() => {
            format!("has not started: {}", change.message)
        }
        (None, None) => "has not started".to_owned(),
    }
}

/// Gates that held a change back, with how long.
pub fn held(change: &ChangeSummary) -> Vec<String> {
    change
        .held
        .iter()
        .map(|held| {
            let length = duration_text(SignedDuration::from_secs(held.seconds));
            let spans = if held.spans > 1 { format!(" in {} spans", held.spans) } else { String::new() };
            format!("{} ({}) {length}{spans}", held.gate, held.reason)
        })
        .collect()
}

fn who_alone(answers: &[Alone], ui: Ui) {
    if answers.is_empty() {
        return;
    }
    ui.line("");
    ui.heading("Who could have approved a change alone?");
    for answer in answers {
        let risks: Vec<_> = answer.risks.iter().map(|risk| format!("{risk:?}")).collect();
        let risks =
            if risks.len() == 4 || risks.is_empty() { String::new() } else { format!(" at risk {}", risks.join(", ")) };
        let who = alone(answer);
        let who = if answer.people.is_empty() && answer.templates.is_empty() { ui.good(&who) } else { ui.warn(&who) };
        ui.wrap(&format!("  {}, {:?}{risks}: {who}", answer.policy, answer.type_), 4);
        ui.wrap(&ui.dim(&format!("      needs {}", answer.needs)), 8);
    }
}

/// The answer in words.
pub fn alone(answer: &Alone) -> String {
    if !answer.templates.is_empty() {
        return format!("nobody is asked inside the templates {}", answer.templates.join(", "));
    }
    if answer.people.is_empty() { "nobody".to_owned() } else { answer.people.join(", ") }
}

fn replay(replayed: &[Replayed], zone: &TimeZone, ui: Ui) {
    let stopped = replayed.iter().filter(|change| change.is_stopped).count();
    ui.line("");
    ui.heading("Which changes of the past would these policies have stopped?");
    ui.line(&format!("  {stopped} of {}", replayed.len()));
    for change in replayed {
        let verdict = if change.is_stopped { ui.bad("stopped") } else { ui.good("runs   ") };
        let started = short(change.started_at, zone);
        ui.wrap(&format!("  {verdict} {} ({started}, {:?}) {}", change.change, change.phase, change.title), 10);
        for why in reasons(change) {
            ui.wrap(&ui.dim(&format!("          {why}")), 12);
        }
    }
}

/// Why a change of the past would be stopped.
pub fn reasons(change: &Replayed) -> Vec<String> {
    let gates = change.gates.iter().map(|gate| format!("{}: {}", gate.gate, gate.message));
    gates.chain((!change.why.is_empty()).then(|| change.why.clone())).collect()
}

fn expectations(report: &Report, ui: Ui) {
    if report.expectations.is_empty() {
        return;
    }
    let met = report.expectations.iter().filter(|outcome| outcome.met).count();
    ui.line("");
    ui.heading(&format!("{met} of {} expectations met", report.expectations.len()));
    for outcome in report.expectations.iter().filter(|outcome| !outcome.met) {
        ui.wrap(&ui.bad(&format!("  ✗ {}: {}", outcome.place, outcome.text)), 4);
        ui.wrap(&format!("    found: {}", outcome.found), 4);
    }
}
