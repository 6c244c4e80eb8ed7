//! The one clock of the controller: the API server's, as its `Date` headers tell it.
//!
//! A `Date` header has a resolution of one second, so one header only bounds the server's time. Each answer gives the
//! interval in which the server's clock must have been; intervals of successive answers are intersected, so that a
//! few answers locate it to some milliseconds. The monotonic clock carries the time on between answers.
//!
//! `now` never goes back. When it is not known, it says so: nothing was heard for [`HEARD_WITHIN`], the headers
//! contradict each other, or the server's clock went back by more than can be waited out unnoticed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

/// Without a `Date` header for this long, the time is unknown.
pub const HEARD_WITHIN: Duration = Duration::from_mins(1);

/// A contradiction up to this size is jitter and corrected at once; a greater one must be confirmed.
const JITTER: SignedDuration = SignedDuration::from_secs(2);

/// So many headers in a row must agree before a contradiction is believed.
const CONFIRMATIONS: u32 = 3;

/// How far a monotonic clock may run off within a second, in nanoseconds: 200 parts per million.
const DRIFT_NANOSECONDS_PER_SECOND: u64 = 200_000;

/// The API server's clock as seen from here. Clones share it.
#[derive(Clone, Debug)]
pub struct Clock {
    source: Arc<Source>,
}

#[derive(Debug)]
enum Source {
    Observed { start: Instant, state: Mutex<State> },
    Fixed(Mutex<Timestamp>),
}

#[derive(Debug, Default)]
struct State {
    /// Where the server's clock stood at `start`.
    agreed: Option<Bounds>,
    /// A contradicting opinion and how many headers in a row shared it.
    disputed: Option<(Bounds, u32)>,
    heard: Option<Instant>,
    /// The greatest instant ever handed out.
    latest: Option<Timestamp>,
    warned_of_regress: bool,
}

/// The instant at which this process's clock started, on the server's clock: somewhere between the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bounds {
    earliest: Timestamp,
    latest: Timestamp,
}

impl Bounds {
    /// `date` was written between `sent` and `received`, and cuts off up to a second.
    fn of(date: Timestamp, sent: Duration, received: Duration) -> Option<Self> {
        let earliest = date.checked_sub(SignedDuration::try_from(received).ok()?).ok()?;
        let latest = date
            .checked_add(SignedDuration::from_secs(1))
            .and_then(|end| end.checked_sub(SignedDuration::try_from(sent).unwrap_or(SignedDuration::ZERO)))
            .ok()?;
        Some(Self { earliest, latest })
    }

    fn intersect(self, other: Self) -> Option<Self> {
        let both = Self { earliest: self.earliest.max(other.earliest), latest: self.latest.min(other.latest) };
        (both.earliest <= both.latest).then_some(both)
    }

    /// The space between two intervals that do not touch.
    fn gap(self, other: Self) -> SignedDuration {
        if self.latest < other.earliest {
            self.latest.duration_until(other.earliest)
        } else {
            other.latest.duration_until(self.earliest)
        }
    }

    fn widened(self, by: SignedDuration) -> Self {
        Self {
            earliest: self.earliest.checked_sub(by).unwrap_or(self.earliest),
            latest: self.latest.checked_add(by).unwrap_or(self.latest),
        }
    }

    fn middle(self) -> Timestamp {
        let half = self.earliest.duration_until(self.latest) / 2;
        self.earliest.checked_add(half).unwrap_or(self.earliest)
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock {
    /// A clock that knows nothing until it observes a `Date` header.
    pub fn new() -> Self {
        Self::starting_at(Instant::now())
    }

    /// The same, for who has a monotonic clock of their own: `start` is its present.
    pub fn starting_at(start: Instant) -> Self {
        Self { source: Arc::new(Source::Observed { start, state: Mutex::default() }) }
    }

    /// A clock that stands still, for tests and for commands that ask what would be true at a time.
    pub fn fixed(at: Timestamp) -> Self {
        Self { source: Arc::new(Source::Fixed(Mutex::new(at))) }
    }

    /// Moves a fixed clock. An observed clock only follows the API server and ignores this.
    pub fn set(&self, at: Timestamp) {
        if let Source::Fixed(time) = &*self.source {
            *time.lock().unwrap_or_else(PoisonError::into_inner) = at;
        }
    }

    /// The API server's time; none when it is not known.
    pub fn now(&self) -> Option<Timestamp> {
        self.now_at(Instant::now())
    }

    /// Takes the `Date` header of an answer whose request was sent and whose headers were received at these instants.
    /// A header that cannot be read is ignored: the clock then becomes unknown by itself.
    pub fn observe(&self, date_header: &str, sent: Instant, received: Instant) {
        let Source::Observed { start, state } = &*self.source else { return };
        let Ok(date) = jiff::fmt::rfc2822::parse(date_header) else {
            tracing::debug!(header = date_header, "a Date header could not be read");
            return;
        };
        let seen = Bounds::of(
            date.timestamp(),
            sent.saturating_duration_since(*start),
            received.saturating_duration_since(*start),
        );
        if let Some(seen) = seen {
            lock(state).take(seen, received);
        }
    }

    /// The API server's time at an instant of the monotonic clock, which is the present.
    pub fn now_at(&self, instant: Instant) -> Option<Timestamp> {
        match &*self.source {
            Source::Fixed(time) => Some(*time.lock().unwrap_or_else(PoisonError::into_inner)),
            Source::Observed { start, state } => lock(state).read(*start, instant),
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn take(&mut self, seen: Bounds, received: Instant) {
        let silence = self.heard.map_or(Duration::ZERO, |heard| received.saturating_duration_since(heard));
        // Answers of concurrent requests arrive out of order: the newest counts.
        self.heard = Some(self.heard.map_or(received, |heard| heard.max(received)));
        let Some(agreed) = self.agreed else {
            self.agreed = Some(seen);
            return;
        };
        let drift = Duration::from_nanos(
            u64::try_from(silence.as_millis()).unwrap_or(u64::MAX).saturating_mul(DRIFT_NANOSECONDS_PER_SECOND) / 1000,
        );
        let agreed = agreed.widened(SignedDuration::try_from(drift).unwrap_or(SignedDuration::ZERO));
        if let Some(both) = agreed.intersect(seen) {
            self.agreed = Some(both);
            self.disputed = None;
            return;
        }
        if agreed.gap(seen) <= JITTER {
            self.agreed = Some(seen);
            self.disputed = None;
            return;
        }
        let (bounds, times) = match self.disputed {
            Some((other, times)) => other.intersect(seen).map_or((seen, 1), |both| (both, times + 1)),
            None => (seen, 1),
        };
        if times < CONFIRMATIONS {
            self.disputed = Some((bounds, times));
            return;
        }
        tracing::warn!(
            from = %agreed.middle(), to = %bounds.middle(),
            "the API server's clock was set, or another API server with a different clock answers"
        );
        self.agreed = Some(bounds);
        self.disputed = None;
    }

    fn read(&mut self, start: Instant, instant: Instant) -> Option<Timestamp> {
        let heard = self.heard?;
        if instant.saturating_duration_since(heard) > HEARD_WITHIN || self.disputed.is_some() {
            return None;
        }
        let elapsed = SignedDuration::try_from(instant.saturating_duration_since(start)).ok()?;
        let computed = self.agreed?.middle().checked_add(elapsed).ok()?;
        let Some(latest) = self.latest.filter(|latest| *latest > computed) else {
            self.latest = Some(computed);
            self.warned_of_regress = false;
            return Some(computed);
        };
        // A small step back is waited out by standing still. A great one would make every age and window wrong for as
        // long as it lasts: the time is then unknown until the server's clock has caught up.
        if computed.duration_until(latest) <= JITTER {
            return Some(latest);
        }
        if !self.warned_of_regress {
            self.warned_of_regress = true;
            tracing::warn!(
                handed_out = %latest, server = %computed,
                "the API server's clock went back: the time is unknown until it has caught up or this process restarts"
            );
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(at: Timestamp) -> String {
        at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    /// A server whose clock shows `zero` at `start`, asked at `after` with the given way there and back.
    struct Server {
        start: Instant,
        zero: Timestamp,
    }

    impl Server {
        fn time(&self, after: Duration) -> Timestamp {
            self.zero + after
        }

        fn answer(&self, clock: &Clock, after: Duration, there: Duration, back: Duration) {
            let sent = self.start + after;
            let written = self.time(after + there);
            clock.observe(&header(written), sent, sent + there + back);
        }
    }

    fn server() -> (Clock, Server) {
        let start = Instant::now();
        (Clock::starting_at(start), Server { start, zero: at("2026-11-23T21:59:58.350Z") })
    }

    const MS: Duration = Duration::from_millis(1);
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn unknown_before_the_first_header_and_after_a_minute_of_silence() {
        let (clock, server) = server();
        assert_eq!(clock.now_at(server.start), None);
        server.answer(&clock, SECOND, MS, MS);
        assert!(clock.now_at(server.start + SECOND * 60).is_some());
        assert_eq!(clock.now_at(server.start + SECOND * 62), None);
        server.answer(&clock, SECOND * 70, MS, MS);
        assert!(clock.now_at(server.start + SECOND * 71).is_some());
    }

    #[test]
    fn a_header_that_is_no_date_is_ignored() {
        let (clock, server) = server();
        clock.observe("yesterday", server.start, server.start);
        assert_eq!(clock.now_at(server.start), None);
    }

    #[test]
    fn some_answers_locate_the_servers_clock_far_below_the_headers_resolution() {
        let (clock, server) = server();
        for step in 0..40 {
            server.answer(&clock, MS * 310 * step, MS * 3, MS * 9);
        }
        let later = MS * 310 * 40;
        let error = clock.now_at(server.start + later).expect("known").duration_until(server.time(later)).abs();
        assert!(error < SignedDuration::from_millis(40), "off by {error}");
    }

    #[test]
    fn time_never_goes_back_while_estimates_sharpen() {
        let (clock, server) = server();
        let mut last = Timestamp::MIN;
        for step in 0..500u32 {
            let after = MS * 137 * step;
            server.answer(&clock, after, MS * (step % 7), MS * (step % 11));
            let now = clock.now_at(server.start + after + MS * 30).expect("known");
            assert!(now >= last, "{now} after {last}");
            last = now;
        }
    }

    #[test]
    fn one_contradicting_header_makes_the_time_unknown_and_three_are_believed() {
        let (clock, mut server) = server();
        server.answer(&clock, SECOND, MS, MS);
        server.zero += SignedDuration::from_mins(10);
        server.answer(&clock, SECOND * 2, MS, MS);
        assert_eq!(clock.now_at(server.start + SECOND * 2), None);
        server.answer(&clock, SECOND * 3, MS, MS);
        server.answer(&clock, SECOND * 4, MS, MS);
        let now = clock.now_at(server.start + SECOND * 4).expect("believed");
        assert!(now.duration_until(server.time(SECOND * 4)).abs() < SignedDuration::from_secs(1));
    }

    #[test]
    fn a_single_liar_among_answers_is_forgotten() {
        let (clock, server) = server();
        let liar = Server { start: server.start, zero: server.zero + SignedDuration::from_mins(10) };
        server.answer(&clock, SECOND, MS, MS);
        liar.answer(&clock, SECOND * 2, MS, MS);
        server.answer(&clock, SECOND * 3, MS, MS);
        let now = clock.now_at(server.start + SECOND * 3).expect("known again");
        assert!(now.duration_until(server.time(SECOND * 3)).abs() < SignedDuration::from_secs(1));
    }

    #[test]
    fn a_server_clock_set_back_is_unknown_until_it_has_caught_up_and_never_runs_backwards() {
        let (clock, mut server) = server();
        server.answer(&clock, SECOND, MS, MS);
        let before = clock.now_at(server.start + SECOND).expect("known");
        server.zero -= SignedDuration::from_mins(1);
        for step in 2..30u32 {
            server.answer(&clock, SECOND * step, MS, MS);
            assert_eq!(clock.now_at(server.start + SECOND * step), None);
        }
        for step in 30..70u32 {
            server.answer(&clock, SECOND * step, MS, MS);
        }
        let after = clock.now_at(server.start + SECOND * 70).expect("caught up");
        assert!(after >= before);
    }

    #[test]
    fn a_fixed_clock_stands_where_it_was_set() {
        let clock = Clock::fixed(at("2026-02-28T23:59:59Z"));
        assert_eq!(clock.now(), Some(at("2026-02-28T23:59:59Z")));
        clock.set(at("2026-03-01T00:00:00Z"));
        assert_eq!(clock.clone().now(), Some(at("2026-03-01T00:00:00Z")));
    }
}
