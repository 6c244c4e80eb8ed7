//! Printing: one place, so that colour, width and a closed pipe are dealt with once.

use std::io::{self, IsTerminal as _, Write as _};

use clap::ValueEnum;
use interlock_crds::{ChangePhase, GateState};

/// Columns of a terminal for which is written.
pub const WIDTH: usize = 80;

/// When to colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Standard output.
#[derive(Clone, Copy, Debug)]
pub struct Ui {
    colored: bool,
    terminal: bool,
    wraps: bool,
}

impl Ui {
    /// An output that colours when it should.
    pub fn new(color: Color) -> Self {
        let terminal = io::stdout().is_terminal();
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        let colored = match color {
            Color::Auto => terminal && wanted,
            Color::Always => true,
            Color::Never => false,
        };
        Self { colored, terminal, wraps: terminal }
    }

    /// The same for a story, whose lines are never wider than a terminal: it is also read where it was written to a file.
    #[must_use]
    pub const fn of_story(self) -> Self {
        Self { wraps: true, ..self }
    }

    /// Whether a person reads along.
    pub const fn is_terminal(self) -> bool {
        self.terminal
    }

    /// Prints a line. A reader that has gone away ends the program quietly.
    pub fn line(self, text: &str) {
        self.raw(&format!("{text}\n"));
    }

    /// Prints a line that may be too long for a terminal: see [`Ui::fit`]. What somebody copies, such as a command or a digest,
    /// is printed by [`Ui::line`], as a blank at which it was broken would be lost.
    pub fn wrap(self, text: &str, indent: usize) {
        self.line(&self.fit(text, indent));
    }

    /// A line as [`fitted`] has it on a terminal. Where a program reads along it stays one line, as programs expect a record.
    pub fn fit(self, text: &str, indent: usize) -> String {
        if self.wraps { fitted(text, indent) } else { text.replace(['\n', '\r'], " ").trim_end().to_owned() }
    }

    /// Prints text as it is.
    #[allow(clippy::unused_self, reason = "printing is this type's business, whatever it needs to know for it")]
    pub fn raw(self, text: &str) {
        let mut out = io::stdout().lock();
        if let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush())
            && error.kind() == io::ErrorKind::BrokenPipe
        {
            std::process::exit(0);
        }
    }

    /// Prints a heading.
    pub fn heading(self, text: &str) {
        self.wrap(&self.strong(text), 0);
    }

    /// Bold.
    pub fn strong(self, text: &str) -> String {
        self.paint("1", text)
    }

    /// Green.
    pub fn good(self, text: &str) -> String {
        self.paint("32", text)
    }

    /// Red.
    pub fn bad(self, text: &str) -> String {
        self.paint("31", text)
    }

    /// Yellow.
    pub fn warn(self, text: &str) -> String {
        self.paint("33", text)
    }

    /// Grey.
    pub fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.colored { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    /// A phase in its colour.
    pub fn phase(self, phase: ChangePhase) -> String {
        let text = format!("{phase:?}");
        match phase {
            ChangePhase::Succeeded => self.good(&text),
            ChangePhase::Failed | ChangePhase::Rejected | ChangePhase::RolledBack => self.bad(&text),
            ChangePhase::Running | ChangePhase::Paused => self.warn(&text),
            _ => text,
        }
    }

    /// The sign of a gate.
    pub fn gate(self, state: GateState, enforced: bool) -> String {
        match (state, enforced) {
            (GateState::Open, _) => self.good("open   "),
            (GateState::Closed, true) => self.bad("closed "),
            (GateState::Unknown, true) => self.bad("unknown"),
            (_, false) => self.warn("warns  "),
        }
    }
}

/// `text` in lines of at most `width` columns, the second and later ones indented by `indent`. It begins in that column.
pub fn wrapped(text: &str, width: usize, indent: usize) -> String {
    filled(text.split_whitespace(), width, indent, indent)
}

/// A whole line in lines of at most [`WIDTH`] columns, the second and later ones indented by `indent`. Blanks before and within
/// a line stay.
pub fn fitted(text: &str, indent: usize) -> String {
    filled(text.split([' ', '\n', '\r', '\t']), WIDTH, 0, indent)
}

/// Words in lines; an empty one is one more blank before the next. `used` columns of the first line are taken.
fn filled<'a>(words: impl Iterator<Item = &'a str>, width: usize, mut used: usize, indent: usize) -> String {
    let mut text = String::new();
    let (mut is_first, mut blanks) = (true, 0);
    for word in words {
        if word.is_empty() {
            blanks += 1;
            continue;
        }
        for piece in pieces(word) {
            let length = columns(piece);
            if !is_first && used + blanks + length > width {
                text.push('\n');
                (used, blanks) = (0, indent);
            }
            text.push_str(&" ".repeat(blanks));
            text.push_str(piece);
            used += blanks + length;
            (is_first, blanks) = (false, 0);
        }
        blanks = 1;
    }
    text
}

/// Pieces of a word between which a line may end: each wide character, and what stands between two of them.
fn pieces(word: &str) -> impl Iterator<Item = &str> {
    let mut rest = word;
    std::iter::from_fn(move || {
        let first = rest.chars().next()?;
        let end = if is_wide(first) { first.len_utf8() } else { rest.find(is_wide).unwrap_or(rest.len()) };
        let (piece, left) = rest.split_at(end);
        rest = left;
        Some(piece)
    })
}

/// Columns that `text` takes on a terminal: two for an East Asian wide character, none for a change of colour.
pub fn columns(text: &str) -> usize {
    let mut is_color = false;
    let taken = |character: char| {
        is_color |= character == '\u{1b}';
        let taken = if is_color { 0 } else { 1 + usize::from(is_wide(character)) };
        is_color &= character != 'm';
        taken
    };
    text.chars().map(taken).sum()
}

/// Whether a character is East Asian and wide.
fn is_wide(character: char) -> bool {
    matches!(
        character as u32,
        0x1100..=0x115f
            | 0x2e80..=0xa4cf
            | 0xac00..=0xd7a3
            | 0xf900..=0xfaff
            | 0xfe30..=0xfe6f
            | 0xff00..=0xff60
            | 0xffe0..=0xffe6
            | 0x20000..=0x3fffd
    )
}

/// `text` filled up with blanks to `width` columns.
pub fn padded(text: &str, width: usize) -> String {
    format!("{text}{}", " ".repeat(width.saturating_sub(columns(text))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_wrapped_at_words_and_indented() {
        assert_eq!(wrapped("one two three four", 9, 2), "one two\n  three\n  four");
        assert_eq!(wrapped("", 9, 2), "");
    }

    #[test]
    fn wide_characters_take_two_columns() {
        assert_eq!(padded("柜面", 6), "柜面  ");
        assert_eq!(padded("abcd", 2), "abcd");
        assert_eq!(wrapped("reason 调整利率和手续费 now", 12, 2), "reason 调\n  整利率和手\n  续费 now");
    }

    #[test]
    fn a_line_that_fits_stays_as_it_is_and_no_other_is_wider_than_a_terminal() {
        let row = "  teller-2-4-0    Pending   normal  ";
        assert_eq!(fitted(&format!("{row}a title"), 4), format!("{row}a title"));
        for title in ["one word after the other ".repeat(9), "调整利率".repeat(30), "版本2.4.0上线，".repeat(20)]
        {
            let text = fitted(&format!("{row}{title}"), 4);
            let (first, more) = text.split_once('\n').unwrap();
            assert!(first.starts_with(row) && more.lines().all(|line| line.starts_with("    ")), "{text}");
            assert!(text.lines().all(|line| columns(line) <= WIDTH), "{text}");
            let letters = |text: &str| text.replace([' ', '\n'], "");
            assert_eq!(letters(&text), letters(&format!("{row}{title}")), "nothing is lost");
        }
        let digest = "a".repeat(WIDTH);
        assert_eq!(fitted(&format!("digest {digest}"), 2), format!("digest\n  {digest}"), "one word is never broken");
    }

    #[test]
    fn a_program_that_reads_along_gets_one_line_and_a_story_is_wrapped_anyway() {
        let piped = Ui { colored: false, terminal: false, wraps: false };
        let record = format!("teller  {}", "its data is older than its objective ".repeat(9));
        assert_eq!(piped.fit(&record.replace("older than", "older\nthan"), 4), record.trim_end());
        for ui in [piped.of_story(), Ui { terminal: true, wraps: true, ..piped }] {
            assert_eq!(ui.fit(&record, 4), fitted(&record, 4));
        }
        assert!(!piped.of_story().is_terminal(), "nobody is asked there");
    }

    #[test]
    fn colours_take_no_columns() {
        let ui = Ui { colored: true, terminal: false, wraps: false };
        assert_eq!(columns(&ui.good("✓ 柜面")), 6);
        let plain = "open ".repeat(16);
        let painted = format!("{} ", ui.good("open")).repeat(16);
        assert_eq!(fitted(&painted, 0), painted.trim_end(), "as wide as {}", plain.trim_end().len());
    }
}
