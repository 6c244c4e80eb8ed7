//! What lies in a spool, by the names that PostgreSQL gives.

use std::collections::{BTreeMap, BTreeSet};

use interlock_crds::WalRange;

/// One segment: its timeline, and its number since the beginning of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Segment {
    /// Timeline.
    pub timeline: u32,
    /// Number.
    pub number: u64,
}

impl Segment {
    /// Reads a name of 24 hexadecimal digits: timeline, and two parts of the number.
    pub fn parse(name: &str, segment_bytes: u64) -> Option<Self> {
        let is_name = name.len() == 24 && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'A'..=b'F'));
        let part = |from: usize| u64::from_str_radix(name.get(from..from + 8)?, 16).ok();
        let per_log = (1_u64 << 32).checked_div(segment_bytes).filter(|per_log| is_name && *per_log > 0)?;
        let (high, low) = (part(8)?, part(16)?);
        let number = high.checked_mul(per_log)?.checked_add(low).filter(|_| low < per_log)?;
        Some(Self { timeline: u32::try_from(part(0)?).ok()?, number })
    }

    /// The name.
    pub fn name(self, segment_bytes: u64) -> String {
        let per_log = (1_u64 << 32).checked_div(segment_bytes).unwrap_or(1).max(1);
        format!("{:08X}{:08X}{:08X}", self.timeline, self.number / per_log, self.number % per_log)
    }

    /// The first and the last of a range.
    pub fn of_range(range: &WalRange) -> Option<(Self, Self)> {
        let bytes = u64::try_from(range.segment_bytes).ok()?;
        Some((Self::parse(&range.from, bytes)?, Self::parse(&range.to, bytes)?))
    }
}

/// Reads a position in the log, `16/B374D848`.
pub fn lsn(text: &str) -> Option<u64> {
    let (high, low) = text.trim().split_once('/')?;
    let part = |text: &str| u32::from_str_radix(text, 16).ok().map(u64::from);
    Some(part(high)? << 32 | part(low)?)
}

/// Reads a timeline's history: which timelines it comes from, the oldest first, each with the position at which it was left.
pub fn history(text: &str) -> Vec<(u32, u64)> {
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        Some((words.next()?.parse().ok()?, lsn(words.next()?)?))
    };
    text.lines().filter_map(line).collect()
}

/// What the first page of a segment says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Position of its first byte.
    pub address: u64,
    /// Identifier of the server's database cluster.
    pub system_id: u64,
    /// Length of segments.
    pub segment_bytes: u64,
}

/// Reads the first bytes of a segment, in the byte order of the server (`XLogLongPageHeaderData`).
pub fn header(bytes: &[u8]) -> Option<Header> {
    let little = match bytes.get(..2)? {
        [_, 0xD1] => true,
        [0xD1, _] => false,
        _ => return None,
    };
    let number = |at: usize, length: usize| {
        let field = bytes.get(at..at + length)?;
        let add = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
        Some(if little { field.iter().rev().fold(0, add) } else { field.iter().fold(0, add) })
    };
    Some(Header { address: number(8, 8)?, system_id: number(24, 8)?, segment_bytes: number(32, 4)? })
}

/// Why segments do not carry a base copy on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WalProblem {
    /// One is missing, and later ones are there.
    Gap {
        /// Its name.
        missing: String,
        /// The first later one.
        next: String,
    },
    /// Neither the first one nor a later one is there.
    Nothing {
        /// Name of the first one.
        first: String,
    },
}

/// What lies in a spool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spool {
    segment_bytes: u64,
    segments: BTreeSet<(u64, u32)>,
    histories: BTreeMap<u32, Vec<(u32, u64)>>,
}

impl Spool {
    /// Of whole files with these names, and of histories with their timelines.
    pub fn new<'a>(
        segment_bytes: u64,
        names: impl IntoIterator<Item = &'a str>,
        histories: impl IntoIterator<Item = (u32, Vec<(u32, u64)>)>,
    ) -> Self {
        let parsed = names.into_iter().filter_map(|name| Segment::parse(name, segment_bytes));
        Self {
            segment_bytes,
            segments: parsed.map(|segment| (segment.number, segment.timeline)).collect(),
            histories: histories.into_iter().collect(),
        }
    }

    /// The first and the last segment of those without a gap that a server recovers with from a base copy which begins in the
    /// segment `start`. What lies before it, without a gap, is among them.
    ///
    /// # Errors
    /// They do not carry it on.
    pub fn around(&self, start: Segment) -> Result<(Segment, Segment), WalProblem> {
        let line = self.line(start.timeline);
        let on_line = |number: u64| {
            // The segment in which a timeline was left goes on in the next one, which begins with a copy of it.
            let newest = line.iter().rev().find(|(_, begins)| *begins <= number);
            Segment { timeline: newest.map_or(start.timeline, |(timeline, _)| *timeline), number }
        };
        let is_there = |number: u64| {
            let wanted = on_line(number);
            self.segments.contains(&(number, wanted.timeline)).then_some(wanted)
        };
        let mut last = None;
        let mut number = start.number;
        while let Some(found) = is_there(number) {
            last = Some(found);
            number += 1;
        }
        let later = self.segments.range((number, 0)..).find_map(|(number, _)| is_there(*number));
        let Some(last) = last.filter(|_| later.is_none()) else {
            let missing = on_line(number).name(self.segment_bytes);
            return Err(match later {
                Some(next) => WalProblem::Gap { missing, next: next.name(self.segment_bytes) },
                None => WalProblem::Nothing { first: missing },
            });
        };
        let mut first = on_line(start.number);
        while let Some(found) = first.number.checked_sub(1).and_then(is_there) {
            first = found;
        }
        Ok((first, last))
    }

    /// The timelines that a server follows which begins on `timeline`, each with the number of its first segment: those of the
    /// newest that comes from it.
    fn line(&self, timeline: u32) -> Vec<(u32, u64)> {
        let comes_from = |(newer, from): &(&u32, &Vec<(u32, u64)>)| {
            **newer > timeline && from.iter().any(|(older, _)| *older == timeline)
        };
        let own = self.histories.get_key_value(&timeline);
        let newest = self.histories.iter().rev().find(comes_from).or(own);
        let Some((newest, from)) = newest else { return vec![(timeline, 0)] };
        let mut line = Vec::new();
        let mut begins = 0;
        for (older, left_at) in from {
            line.push((*older, begins));
            begins = left_at.checked_div(self.segment_bytes).unwrap_or(0);
        }
        line.push((*newest, begins));
        line
    }
}
