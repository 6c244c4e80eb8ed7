//! How changes of one namespace ended in the last 30 days, counted without looking at each.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

/// How long an ending counts.
const KEPT: SignedDuration = SignedDuration::from_hours(24 * 30);

/// Endings in the order of their times.
#[derive(Debug, Default)]
pub(super) struct Endings {
    all: BTreeSet<(Timestamp, String)>,
    failed: BTreeSet<(Timestamp, String)>,
}

impl Endings {
    /// The change `key` ended. Telling of it again changes nothing.
    pub(super) fn insert(&mut self, key: &str, at: Timestamp, failed: bool) {
        if failed {
            self.failed.insert((at, key.to_owned()));
        }
        self.all.insert((at, key.to_owned()));
        // Nobody asks about a time before the newest ending.
        let newest = self.all.last().map_or(at, |(newest, _)| *newest);
        for kept in [&mut self.all, &mut self.failed] {
            while kept.first().is_some_and(|(old, _)| *old < since(newest)) {
                kept.pop_first();
            }
        }
    }

    /// Failed endings and all of them, in the 30 days before `now`.
    pub(super) fn count(&self, now: Timestamp) -> (u32, u32) {
        let first = (since(now), String::new());
        let recent = |all: &BTreeSet<(Timestamp, String)>| (all.len() - all.range(..&first).count()) as u32;
        (recent(&self.failed), recent(&self.all))
    }
}

fn since(now: Timestamp) -> Timestamp {
    now.checked_sub(KEPT).unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings_count_once_and_for_thirty_days() {
        let day = |n: i64| Timestamp::from_second(n * 86_400).unwrap();
        let mut endings = Endings::default();
        endings.insert("teller/a", day(100), true);
        endings.insert("teller/a", day(100), true);
        endings.insert("teller/b", day(110), false);
        assert_eq!(endings.count(day(110)), (1, 2));
        assert_eq!(endings.count(day(130)), (1, 2), "the thirtieth day counts");
        assert_eq!(endings.count(day(131)), (0, 1));
        endings.insert("teller/c", day(135), false);
        assert_eq!((endings.all.len(), endings.failed.len()), (2, 0), "what nobody can ask for any more is gone");
        endings.insert("teller/old", day(1), true);
        assert_eq!(endings.count(day(135)), (0, 2), "a list tells of endings in any order");
    }
}
