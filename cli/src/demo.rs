//! `demo`: the bank in accelerated time. The controller's own code on a simulated cluster in this process; nothing else is
//! needed, and nothing is left behind.

use std::{
    io::{self, BufRead as _, IsTerminal as _},
    process::ExitCode,
    thread,
    time::Duration,
};

use clap::Args;
use interlock_rehearsal::scenario::{
    Answer, BadInput, Entry, EntryKind, Folder, Moment, Player, Question, Report, Scenario, duration_text,
};
use jiff::Timestamp;

use crate::{
    error::{CliError, exit},
    rehearse::{
        apart,
        lines::{INDENT, Lines, short, zone},
        text::held,
    },
    ui::{Ui, fitted, padded},
};

/// The bank of the demo, as it stands in examples/demo.
const FOLDER: [(&str, &str); 6] = [
    ("00-namespaces.yaml", include_str!("../../examples/demo/00-namespaces.yaml")),
    ("10-workloads.yaml", include_str!("../../examples/demo/10-workloads.yaml")),
    ("20-people.yaml", include_str!("../../examples/demo/20-people.yaml")),
    ("30-rules.yaml", include_str!("../../examples/demo/30-rules.yaml")),
    ("35-backups.yaml", include_str!("../../examples/demo/35-backups.yaml")),
    ("40-changes.yaml", include_str!("../../examples/demo/40-changes.yaml")),
];
const SCENARIO: &str = include_str!("../../examples/demo/scenario.yaml");
/// A jump of time from which on it is worth a line.
const JUMP_SECONDS: i64 = 1_800;

/// How to watch.
#[derive(Args, Debug)]
pub struct DemoArgs {
    /// Stop where the bank's people decide, and be one of them: approve, reject or wait.
    #[arg(long)]
    pub interactive: bool,
    /// Print without pauses. Default where standard output is no terminal.
    #[arg(long)]
    pub fast: bool,
    /// Of everything that is left to chance.
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

/// Plays the demo. Exit code 1 if something went otherwise than the story says, which only decisions of the watcher may
/// cause.
pub fn execute(args: &DemoArgs, ui: Ui) -> Result<ExitCode, CliError> {
    apart(|| show(args, ui.of_story()))
}

fn show(args: &DemoArgs, ui: Ui) -> Result<ExitCode, CliError> {
    let trouble = |error: BadInput| CliError::Other(error.0);
    let folder = Folder::embedded(&FOLDER).map_err(trouble)?;
    let mut scenario = Scenario::parse("scenario.yaml", SCENARIO, &folder).map_err(trouble)?;
    scenario.seed = args.seed.or(scenario.seed);
    let mut player = Player::new(&folder, &scenario).map_err(trouble)?;
    if args.interactive {
        player = player.interactive();
    }
    intro(&scenario, &player, ui);
    let is_slow = ui.is_terminal() && !args.fast;
    let mut show = Show {
        lines: Lines::new(player.time_zone(), ui),
        ui,
        is_slow,
        is_interactive: args.interactive,
        last: player.now(),
        gates: Vec::new(),
        gates_of: None,
    };
    loop {
        match player.next_moment().map_err(trouble)? {
            Moment::Told(entry) => show.entry(&entry),
            Moment::Asks(question) => {
                show.catch_up();
                let answer = ask(&question, ui);
                player.answer(answer);
            }
            Moment::Over => {
                show.catch_up();
                break;
            }
        }
    }
    let report = player.into_report();
    summary(&report, ui);
    // Whoever decides for themselves may tell another story.
    Ok(if args.interactive || report.is_met() { ExitCode::SUCCESS } else { ExitCode::from(exit::FAILED) })
}

fn intro(scenario: &Scenario, player: &Player, ui: Ui) {
    ui.heading(scenario.title.as_deref().unwrap_or("Interlock"));
    let what = "A simulated cluster in this process, Interlock's own controller and webhooks, and a clock that jumps. \
                No cluster, no network, no root.";
    ui.wrap(&ui.dim(what), 0);
    ui.line(&ui.dim(&format!("Times are local times in {}.", player.time_zone())));
}

/// What has been shown so far.
struct Show {
    lines: Lines,
    ui: Ui,
    is_slow: bool,
    is_interactive: bool,
    last: Timestamp,
    /// The gates of the change of which was just told.
    gates: Vec<(String, bool)>,
    gates_of: Option<String>,
}

impl Show {
    fn entry(&mut self, entry: &Entry) {
        // That the story goes as written is for tests to know, and whoever decides otherwise knows it.
        if entry.kind == EntryKind::Met || (self.is_interactive && entry.kind == EntryKind::Failed) {
            return;
        }
        // Of several gates told in a row, all are shown once.
        if self.gates != entry.gates || self.gates_of != entry.change {
            self.strip();
        }
        self.gates.clone_from(&entry.gates);
        self.gates_of.clone_from(&entry.change);
        let jump = entry.at.duration_since(self.last);
        if jump.as_secs() >= JUMP_SECONDS {
            self.ui.line(&self.ui.dim(&format!("           ... {} later", duration_text(jump))));
            self.pause(700);
        }
        self.last = entry.at;
        self.lines.print(entry);
        self.pause(match entry.kind {
            EntryKind::Said => 2_200,
            EntryKind::Refused | EntryKind::Failed | EntryKind::Fault => 1_400,
            EntryKind::Phase => 900,
            EntryKind::Opened | EntryKind::Closed | EntryKind::Released => 500,
            _ => 300,
        });
    }

    /// Nothing is kept back when somebody is asked.
    fn catch_up(&mut self) {
        self.strip();
        self.gates.clear();
    }

    /// All gates of a change.
    fn strip(&self) {
        if !self.gates.is_empty() {
            self.ui.line(&strip(&self.gates, self.ui));
        }
    }

    fn pause(&self, milliseconds: u64) {
        if self.is_slow {
            thread::sleep(Duration::from_millis(milliseconds));
        }
    }
}

/// Gates beside each other, each in one piece.
fn strip(gates: &[(String, bool)], ui: Ui) -> String {
    /// A blank at which no line ends.
    const TIED: &str = "\u{a0}";
    let gates = gates.iter().map(|(name, is_open)| match is_open {
        true => ui.good(&format!("[✓{TIED}{name}]")),
        false => ui.warn(&format!("[{TIED}{TIED}{name}]")),
    });
    let line = format!("{}{}", " ".repeat(INDENT), gates.collect::<Vec<_>>().join(" "));
    fitted(&line, INDENT).replace(TIED, " ")
}

/// Asks until an answer is understood. Where nobody can answer, the story goes on as it is written.
fn ask(question: &Question, ui: Ui) -> Answer {
    ui.line("");
    ui.heading(&format!("You are {}. {}", question.who, question.text));
    loop {
        ui.raw(&format!("  {}: [a]pprove, [r]eject or [w]ait? ", question.change));
        let mut line = String::new();
        if !matches!(io::stdin().lock().read_line(&mut line), Ok(read) if read > 0) {
            ui.line("approve");
            return Answer::Approve;
        }
        if !io::stdin().is_terminal() {
            ui.line(line.trim());
        }
        match line.trim().to_lowercase().as_str() {
            "a" | "approve" => return Answer::Approve,
            "r" | "reject" => return Answer::Reject,
            "w" | "wait" => return Answer::Wait,
            _ => ui.line("  a, r or w"),
        }
    }
}

fn summary(report: &Report, ui: Ui) {
    let zone = zone(&report.time_zone);
    ui.line("");
    ui.heading("What was decided");
    for change in &report.changes {
        let phase = padded(&format!("{:?}", change.phase), 11);
        let phase = phase.replace(&format!("{:?}", change.phase), &ui.phase(change.phase));
        let when =
            change.started_at.map_or_else(|| "never started".to_owned(), |at| format!("ran {}", short(at, &zone)));
        ui.wrap(&format!("  {} {phase} {when}", padded(&change.change, 32)), 6);
        ui.wrap(&format!("      {}", change.title), 6);
        let held = held(change);
        if !held.is_empty() {
            ui.wrap(&ui.dim(&format!("      held by {}", held.join(", "))), 8);
        }
    }
    ui.line("");
    ui.heading("What was refused");
    for refusal in &report.refusals {
        ui.wrap(&format!("  {} {}", ui.bad(&padded(&refusal.by, 18)), refusal.what), 21);
        ui.wrap(&ui.dim(&format!("                     {}", refusal.why)), 21);
    }
    ui.line("");
    ui.line(&ui.dim("next:\n  interlock rehearse examples/bank --scenario examples/rehearsal/month-end.yaml"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::{Color, WIDTH, columns};

    #[test]
    fn gates_stand_in_as_many_lines_of_80_columns_as_they_need_and_none_is_broken() {
        let names = ["Approval", "Evidence", "Calendar", "RestoreProof", "Dependencies", "Freeze"];
        let gates = names.iter().zip([true, false].into_iter().cycle());
        let gates: Vec<_> = gates.map(|(name, is_open)| ((*name).to_owned(), is_open)).collect();
        for color in [Color::Never, Color::Always] {
            let text = strip(&gates, Ui::new(color));
            assert!(text.lines().count() == 2 && text.lines().all(|line| columns(line) <= WIDTH), "{text}");
            assert!(text.lines().all(|line| columns(line.trim_start()) + INDENT == columns(line)), "{text}");
        }
        let text = strip(&gates, Ui::new(Color::Never));
        for gate in ["[✓ Approval]", "[  Evidence]", "[  RestoreProof]", "[✓ Dependencies]"] {
            assert!(text.contains(gate), "{gate}\n{text}");
        }
    }
}
