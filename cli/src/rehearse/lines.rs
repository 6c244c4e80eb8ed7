//! Entries of a timeline as lines: what `rehearse` prints and `demo` shows.

use interlock_core::calendar::time_zone;
use interlock_rehearsal::scenario::{Entry, EntryKind};
use jiff::{Timestamp, civil::Date, tz::TimeZone};

use crate::ui::Ui;

/// Columns before the text of an entry: the time and the sign.
pub const INDENT: usize = 13;

/// A zone by name; UTC if nobody knows it.
pub fn zone(name: &str) -> TimeZone {
    time_zone(name).unwrap_or(TimeZone::UTC)
}

/// `Mon 2026-11-30 22:00`, in a zone.
pub fn short(at: Timestamp, zone: &TimeZone) -> String {
    zone.to_datetime(at).strftime("%a %Y-%m-%d %H:%M").to_string()
}

/// Prints a timeline, with a heading for each day.
#[derive(Debug)]
pub struct Lines {
    zone: TimeZone,
    zone_name: String,
    day: Option<Date>,
    ui: Ui,
}

impl Lines {
    /// A timeline in a zone.
    pub fn new(zone_name: &str, ui: Ui) -> Self {
        Self { zone: zone(zone_name), zone_name: zone_name.to_owned(), day: None, ui }
    }

    /// Prints one entry.
    pub fn print(&mut self, entry: &Entry) {
        let local = self.zone.to_datetime(entry.at);
        if self.day != Some(local.date()) {
            self.day = Some(local.date());
            let day = local.strftime("%A %Y-%m-%d");
            self.ui.line("");
            self.ui.heading(&format!("{day} ({})", self.zone_name));
        }
        let clock = self.ui.dim(&local.strftime("%H:%M:%S").to_string());
        let text = match entry.kind {
            EntryKind::Said => {
                self.ui.line("");
                self.ui.strong(&entry.text)
            }
            _ => self.paint(entry.kind, &entry.text),
        };
        self.ui.wrap(&format!("  {clock} {} {text}", self.sign(entry.kind)), INDENT);
    }

    fn sign(&self, kind: EntryKind) -> String {
        match kind {
            EntryKind::Said => " ".to_owned(),
            EntryKind::Done => "•".to_owned(),
            EntryKind::Refused | EntryKind::Failed => self.ui.bad("✗"),
            EntryKind::Absent => self.ui.dim("-"),
            EntryKind::Phase => self.ui.strong("▶"),
            EntryKind::Opened | EntryKind::Met => self.ui.good("✓"),
            EntryKind::Closed => self.ui.warn("◦"),
            EntryKind::Vote | EntryKind::Event => self.ui.warn("!"),
            EntryKind::Written => self.ui.dim("→"),
            EntryKind::Fault => self.ui.bad("⚡"),
            EntryKind::Measured => self.ui.dim("~"),
            EntryKind::Released => self.ui.warn("▷"),
        }
    }

    fn paint(&self, kind: EntryKind, text: &str) -> String {
        match kind {
            EntryKind::Refused | EntryKind::Failed | EntryKind::Fault => self.ui.bad(text),
            EntryKind::Opened | EntryKind::Met => self.ui.good(text),
            EntryKind::Phase => self.ui.strong(text),
            EntryKind::Written | EntryKind::Measured | EntryKind::Absent => self.ui.dim(text),
            _ => text.to_owned(),
        }
    }
}
