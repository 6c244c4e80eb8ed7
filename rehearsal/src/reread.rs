//! Passes that only read again what nobody tells of, such as the live objects of a change whose base no longer holds.
//!
//! A real controller makes them each minute, because it does not watch those objects. The simulation knows what was
//! written: as long as that is nothing, the next such pass finds what the last one found, and is not played.

use interlock_controller::leader::NAMESPACE;
use interlock_sim::api::{Api, Event, meta};
use jiff::{SignedDuration, Timestamp};

/// A pass that reads again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reread {
    /// The server's version when the last pass began.
    pub seen: u64,
    /// When it is to read again.
    pub again: Timestamp,
    /// How long after that, and so on.
    pub every: SignedDuration,
    /// When there is something to do anyway.
    pub until: Option<Timestamp>,
}

impl Reread {
    /// When the pass is due. `newest` is the newest version of anything that it may read, none if anything may go wrong.
    pub fn due(&self, newest: Option<u64>, now: Timestamp) -> Option<Timestamp> {
        if newest.is_some_and(|newest| newest <= self.seen) {
            return self.until;
        }
        let late = now.duration_since(self.again).max(SignedDuration::ZERO).as_millis();
        let every = self.every.as_millis().max(1);
        // The first of its turns that is not over.
        let turns = i64::try_from((late + every - 1) / every * every).unwrap_or(i64::MAX);
        let again = self.again.checked_add(SignedDuration::from_millis(turns)).unwrap_or(Timestamp::MAX);
        Some(self.until.map_or(again, |until| until.min(again)))
    }

    /// The server's clock was set; the process's own was not.
    pub fn shift(&mut self, by: SignedDuration) {
        self.again = self.again.checked_add(by).unwrap_or(self.again);
        self.until = self.until.map(|until| until.checked_add(by).unwrap_or(until));
    }
}

/// The newest version of anything that a change can be made of.
#[derive(Clone, Copy, Debug, Default)]
pub struct Newest {
    read: u64,
    newest: u64,
}

impl Newest {
    /// Reads on in the server's log. To be called before the log is cut.
    pub fn read_on(&mut self, api: &Api) -> u64 {
        let end = api.resource_version();
        if self.read < end {
            let newest = api
                .events_since(self.read, None)
                .map(|events| events.filter(|event| may_be_content(event)).map(|event| event.rv).last());
            // What the log does not hold any more may have been anything.
            self.newest = newest.unwrap_or(Some(end)).unwrap_or(self.newest);
            self.read = end;
        }
        self.newest
    }
}

/// Neither the record of changes nor the controller's lease, which is renewed all the time.
fn may_be_content(event: &Event) -> bool {
    let is_record = event.kind.group == interlock_crds::GROUP
        && ["ChangeRequest", "Approval", "Evidence", "Action"].contains(&event.kind.kind.as_str());
    let is_lease = event.kind.is("coordination.k8s.io", "Lease") && meta::namespace(&event.object) == NAMESPACE;
    !is_record && !is_lease
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn reread(until: Option<&str>) -> Reread {
        let (again, until) = (at("2026-08-03T09:01:00Z"), until.map(at));
        Reread { seen: 7, again, every: SignedDuration::from_secs(60), until }
    }

    #[test]
    fn what_is_as_it_was_is_not_read_again() {
        let now = at("2026-08-03T09:00:10Z");
        assert_eq!(reread(None).due(Some(7), now), None);
        let window = "2026-08-04T20:00:00Z";
        assert_eq!(reread(Some(window)).due(Some(6), now), Some(at(window)), "time alone may change the answer");
    }

    #[test]
    fn what_was_written_is_read_at_the_next_turn() {
        let first = at("2026-08-03T09:01:00Z");
        assert_eq!(reread(None).due(Some(8), at("2026-08-03T09:00:10Z")), Some(first));
        assert_eq!(reread(None).due(Some(8), first), Some(first));
        let (later, turn) = (at("2026-08-05T10:30:20Z"), at("2026-08-05T10:31:00Z"));
        assert_eq!(reread(None).due(Some(8), later), Some(turn));
        assert_eq!(reread(Some("2026-08-05T10:30:30Z")).due(Some(8), later), Some(at("2026-08-05T10:30:30Z")));
        assert_eq!(reread(None).due(None, later), Some(turn), "a fault may change the answer too");
    }
}
