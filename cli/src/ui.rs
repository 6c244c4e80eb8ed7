//! Printing: one place, so that colour, width and a closed pipe are dealt with once.

use std::io::{self, IsTerminal as _, Write as _};

use clap::ValueEnum;
use interlock_crds::{ChangePhase, GateState};

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
        Self { colored, terminal }
    }

    /// Whether a person reads along.
    pub const fn is_terminal(self) -> bool {
        self.terminal
    }

    /// Prints a line. A reader that has gone away ends the program quietly.
    pub fn line(self, text: &str) {
        self.raw(&format!("{text}\n"));
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
        self.line(&self.strong(text));
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

/// `text` in lines of at most `width` columns, the second and later ones indented by `indent`.
pub fn wrapped(text: &str, width: usize, indent: usize) -> String {
    let mut lines = vec![String::new()];
    let mut used = indent;
    for word in text.split_whitespace() {
        let length = word.chars().map(columns).sum::<usize>();
        let Some(line) = lines.last_mut() else { break };
        if used > indent && used + 1 + length > width {
            lines.push(format!("{}{word}", " ".repeat(indent)));
            used = indent + length;
        } else {
            if used > indent {
                line.push(' ');
                used += 1;
            }
            line.push_str(word);
            used += length;
        }
    }
    lines.join("\n")
}

/// Columns that a character takes on a terminal: two for East Asian wide ones.
pub fn columns(character: char) -> usize {
    match character as u32 {
        0x1100..=0x115f
        | 0x2e80..=0xa4cf
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xfe30..=0xfe6f
        | 0xff00..=0xff60
        | 0xffe0..=0xffe6
        | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

/// `text` filled up with blanks to `width` columns.
pub fn padded(text: &str, width: usize) -> String {
    let used: usize = text.chars().map(columns).sum();
    format!("{text}{}", " ".repeat(width.saturating_sub(used)))
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
    }
}
