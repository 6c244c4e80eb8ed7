//! The lease under virtual time, and once over a real runtime.

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const LEASE: Duration = Duration::from_secs(30);

fn options(identity: &str) -> LeaseOptions {
    LeaseOptions { identity: identity.to_owned(), duration: LEASE }
}

/// The server's side of a lease: compare-and-swap on the resource version.
#[derive(Clone, Debug, Default)]
struct Store {
    record: Option<LeaseRecord>,
    version: u64,
}

impl Store {
    fn put(&mut self, step: &LeaseStep) -> Result<LeaseRecord, LeaseError> {
        let (wanted, expected) = match step {
            LeaseStep::Create(record) => (record, None),
            LeaseStep::Replace(record) => (record, Some(record.resource_version.as_str())),
            other => unreachable!("{other:?} writes nothing"),
        };
        if self.record.as_ref().map(|record| record.resource_version.as_str()) != expected {
            return Err(LeaseError::Conflict);
        }
        self.version += 1;
        let stored = LeaseRecord { resource_version: self.version.to_string(), ..wanted.clone() };
        self.record = Some(stored.clone());
        Ok(stored)
    }
}

/// Lets `machine` act against `store` without delay until it waits.
fn settle(machine: &mut LeaseMachine, store: &mut Store, now: Instant) -> Instant {
    for _ in 0..10 {
        match machine.step(now, None) {
            LeaseStep::Wait(until) => return until,
            LeaseStep::Read => machine.read(now, Ok(store.record.clone())),
            write => {
                let answer = store.put(&write);
                machine.written(now, now, answer);
            }
        }
    }
    panic!("the machine does not settle");
}

#[test]
fn a_renewal_that_came_late_is_told_if_somebody_was_turned_away_meanwhile() {
    let (start, mut store) = (Instant::now(), Store::default());
    let mut machine = LeaseMachine::new(&options("first"));
    settle(&mut machine, &mut store, start);
    let handle = LeaderHandle::new();
    let mut state = handle.state();
    handle.publish(&machine);
    assert!(matches!(*state.borrow_and_update(), LeaderState::Leading { .. }));
    handle.publish(&machine);
    assert!(!state.has_changed().unwrap(), "a renewal in time is nobody's business");
    *handle.term() = Some((1, start));
    assert!(!handle.is_leader_now(), "the term lapsed while its renewal was on the way");
    handle.publish(&machine);
    assert!(state.has_changed().unwrap(), "whoever was turned away looks again");
}

#[test]
fn the_first_candidate_creates_the_lease_and_renews_every_third() {
    let (start, mut store) = (Instant::now(), Store::default());
    let mut first = LeaseMachine::new(&options("first"));
    let wake = settle(&mut first, &mut store, start);
    assert_eq!(wake, start + LEASE / 3);
    assert_eq!(first.leading(start), Some((1, start + LEASE * 5 / 6)));
    let before = store.clone();
    assert_eq!(settle(&mut first, &mut store, wake), wake + LEASE / 3);
    assert_eq!(store.version, before.version + 1, "one write renews");
    let (old, new) = (before.record.expect("record"), store.record.expect("record"));
    assert!(new.renewed > old.renewed, "a renewal changes the object although the wall clock is unknown");
    assert_eq!(new.transitions, 1, "a renewal is no new term");
}

#[test]
fn a_second_candidate_waits_for_its_own_observation_to_age_not_for_the_written_time() {
    let (start, mut store) = (Instant::now(), Store::default());
    let mut first = LeaseMachine::new(&options("first"));
    settle(&mut first, &mut store, start);
    // The holder's wall clock is years behind or ahead: nothing follows from it.
    for wall in ["1999-01-01T00:00:00Z", "2099-01-01T00:00:00Z"] {
        let mut store = store.clone();
        store.record.as_mut().expect("record").renewed = wall.parse().expect("time");
        let mut second = LeaseMachine::new(&options("second"));
        let seen = start + SECOND * 20;
        let mut now = settle(&mut second, &mut store, seen);
        while now < seen + LEASE {
            assert_eq!(second.leading(now), None);
            now = settle(&mut second, &mut store, now);
        }
        settle(&mut second, &mut store, now);
        assert_eq!(now, seen + LEASE, "not a moment later");
        assert_eq!(second.leading(now).map(|(epoch, _)| epoch), Some(2));
    }
}

#[test]
fn a_holder_that_cannot_renew_stops_before_anybody_can_take_over() {
    let (start, mut store) = (Instant::now(), Store::default());
    let mut first = LeaseMachine::new(&options("first"));
    settle(&mut first, &mut store, start);
    let mut now = start;
    while now < start + LEASE * 5 / 6 {
        assert!(first.leading(now).is_some());
        match first.step(now, None) {
            LeaseStep::Wait(until) => now = until,
            LeaseStep::Read => first.read(now, Err(LeaseError::Unavailable("down".into()))),
            _ => first.written(now, now, Err(LeaseError::Unavailable("down".into()))),
        }
    }
    assert_eq!(first.leading(now), None);
    assert!(now < start + LEASE);
}

#[test]
fn a_released_lease_is_taken_at_once_with_a_new_epoch() {
    let (start, mut store) = (Instant::now(), Store::default());
    let mut first = LeaseMachine::new(&options("first"));
    settle(&mut first, &mut store, start);
    let released = first.release(start + SECOND).expect("held");
    assert_eq!(first.leading(start + SECOND), None);
    store.put(&LeaseStep::Replace(released)).expect("released");
    let mut second = LeaseMachine::new(&options("second"));
    settle(&mut second, &mut store, start + SECOND);
    assert_eq!(second.leading(start + SECOND).map(|(epoch, _)| epoch), Some(2));
    assert_eq!(first.release(start + SECOND * 2), None, "released once");
}

#[test]
fn a_term_that_ended_and_begins_again_in_the_same_process_has_a_new_epoch() {
    let (start, mut store) = (Instant::now(), Store::default());
    let mut first = LeaseMachine::new(&options("first"));
    settle(&mut first, &mut store, start);
    let later = start + LEASE * 2;
    assert_eq!(first.leading(later), None);
    settle(&mut first, &mut store, later);
    assert_eq!(first.leading(later).map(|(epoch, _)| epoch), Some(2));
}

#[test]
fn after_the_lease_was_deleted_a_seen_epoch_is_exceeded() {
    let (start, mut store) = (Instant::now(), Store::default());
    let mut first = LeaseMachine::new(&options("first"));
    settle(&mut first, &mut store, start);
    first.raise_above(41, start + SECOND);
    assert_eq!(first.leading(start + SECOND), None, "an epoch that was seen elsewhere does not count as the own one");
    settle(&mut first, &mut store, start + SECOND);
    assert_eq!(first.leading(start + SECOND).map(|(epoch, _)| epoch), Some(42));
}

#[test]
fn a_takeover_by_another_ends_the_term_as_soon_as_it_is_seen() {
    let (start, mut store) = (Instant::now(), Store::default());
    let mut first = LeaseMachine::new(&options("first"));
    settle(&mut first, &mut store, start);
    let mut stolen = store.record.clone().expect("record");
    stolen.holder = Some("kubectl edit".into());
    stolen.transitions = 7;
    store.put(&LeaseStep::Replace(stolen)).expect("stolen");
    settle(&mut first, &mut store, start + LEASE / 3);
    assert_eq!(first.leading(start + LEASE / 3), None);
    assert_eq!(first.holder(), Some("kubectl edit"));
}

/// A small generator of reproducible numbers (xorshift).
struct Seeded(u64);

impl Seeded {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

type Answer = Result<Option<LeaseRecord>, LeaseError>;

struct Candidate {
    machine: LeaseMachine,
    /// Milliseconds on its own clock for each thousand of real time.
    rate: u64,
    zero: Instant,
    in_flight: Option<(u64, Instant, LeaseStep, Option<Answer>)>,
    paused_until: u64,
}

impl Candidate {
    fn own(&self, real_ms: u64) -> Instant {
        self.zero + Duration::from_millis(real_ms * self.rate / 1000)
    }

    /// One real millisecond-step: answers arrive, the machine acts, requests are sent, lost or delayed.
    fn tick(&mut self, real: u64, store: &mut Store, seed: &mut Seeded, broken: bool) {
        if real < self.paused_until {
            return;
        }
        if seed.below(2000) == 0 {
            self.paused_until = real + seed.below(40_000);
        }
        let now = self.own(real);
        if let Some((arrives, sent, step, answer)) = self.in_flight.take() {
            let late = now.duration_since(sent) > self.machine.request_timeout();
            if real < arrives && !late {
                self.in_flight = Some((arrives, sent, step, answer));
                return;
            }
            let lost = Err(LeaseError::Unavailable("lost".into()));
            let answer = if late { lost } else { answer.unwrap_or(lost) };
            if step == LeaseStep::Read {
                self.machine.read(now, answer);
            } else {
                // A test that cannot fail proves nothing: `broken` counts the term from the answer.
                let sent = if broken { now } else { sent };
                let written = answer.and_then(|record| record.ok_or(LeaseError::Conflict));
                self.machine.written(sent, now, written);
            }
        }
        let step = self.machine.step(now, None);
        if matches!(step, LeaseStep::Wait(_)) {
            return;
        }
        // The server sees the request at once; it is the answer that takes its time or never comes.
        let reached = seed.below(10) != 0;
        let answer = reached.then(|| match &step {
            LeaseStep::Read => Ok(store.record.clone()),
            write => store.put(write).map(Some),
        });
        let answered = seed.below(10) != 0;
        let arrives = real + seed.below(6_000);
        self.in_flight = Some((arrives, now, step, answer.filter(|_| answered)));
    }
}

/// The greatest number of leaders at one real instant, and how many terms there were.
fn history(seed: u64, slowest: u64, fastest: u64, broken: bool) -> (usize, u64) {
    let mut seed = Seeded(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let (mut store, mut most) = (Store::default(), 0);
    let mut candidates: Vec<Candidate> = (0..3)
        .map(|index| Candidate {
            machine: LeaseMachine::new(&options(&format!("candidate-{index}"))),
            rate: slowest + seed.below(fastest - slowest + 1),
            zero: Instant::now() + SECOND * (1000 * index),
            in_flight: None,
            paused_until: 0,
        })
        .collect();
    for real in (0..600_000).step_by(100) {
        for candidate in &mut candidates {
            candidate.tick(real, &mut store, &mut seed, broken);
        }
        let leaders = candidates.iter().filter(|one| one.machine.leading(one.own(real)).is_some()).count();
        most = most.max(leaders);
    }
    (most, store.record.map_or(0, |record| record.transitions))
}

#[test]
fn never_two_leaders_whatever_is_lost_delayed_or_paused_with_clocks_that_differ_by_eight_percent() {
    let mut terms = 0;
    for seed in 1..=150 {
        let (most, transitions) = history(seed, 960, 1040, false);
        assert!(most <= 1, "seed {seed}: {most} leaders at once");
        terms += transitions;
    }
    assert!(terms > 300, "the histories must contain takeovers, there were {terms} terms");
}

#[test]
fn the_property_fails_when_a_term_counts_from_the_answer_and_clocks_differ_too_much() {
    let worst = (1..=150).map(|seed| history(seed, 700, 1300, true).0).max();
    assert!(worst > Some(1), "the histories must be able to show two leaders");
}

/// The same store behind the trait, with a switch that makes it unreachable.
#[derive(Clone, Default)]
struct Shelf {
    store: Arc<Mutex<Store>>,
    down: Arc<AtomicBool>,
}

impl Shelf {
    fn reach(&self) -> Result<MutexGuard<'_, Store>, LeaseError> {
        if self.down.load(Ordering::SeqCst) {
            return Err(LeaseError::Unavailable("down".into()));
        }
        Ok(self.store.lock().expect("not poisoned"))
    }
}

impl LeaseStore for Shelf {
    async fn read(&self) -> Result<Option<LeaseRecord>, LeaseError> {
        Ok(self.reach()?.record.clone())
    }

    async fn create(&self, record: &LeaseRecord) -> Result<LeaseRecord, LeaseError> {
        self.reach()?.put(&LeaseStep::Create(record.clone()))
    }

    async fn replace(&self, record: &LeaseRecord) -> Result<LeaseRecord, LeaseError> {
        self.reach()?.put(&LeaseStep::Replace(record.clone()))
    }
}

fn short(identity: &str) -> LeaseOptions {
    LeaseOptions { identity: identity.to_owned(), duration: SECOND }
}

async fn leads(handle: &LeaderHandle) {
    let mut state = handle.state();
    let wait = state.wait_for(|state| matches!(state, LeaderState::Leading { .. }));
    tokio::time::timeout(SECOND * 5, wait).await.expect("in time").expect("campaign runs");
}

#[tokio::test]
async fn a_campaign_leads_hands_over_at_release_and_stands_down_when_the_store_is_away() {
    let shelf = Shelf::default();
    let (first, campaign_of_first) = campaign(shelf.clone(), &short("first"), Clock::new());
    let first_task = tokio::spawn(campaign_of_first);
    leads(&first).await;
    assert!(first.is_leader_now());
    assert_eq!(first.epoch(), Some(1));

    let (second, campaign_of_second) = campaign(shelf.clone(), &short("second"), Clock::new());
    tokio::spawn(campaign_of_second);
    tokio::time::sleep(SECOND * 2).await;
    assert!(first.is_leader_now() && !second.is_leader_now(), "renewals keep the lease");

    first.release().await;
    first_task.await.expect("ended");
    assert!(!first.is_leader_now());
    leads(&second).await;
    assert_eq!(second.epoch(), Some(2));

    shelf.down.store(true, Ordering::SeqCst);
    let mut state = second.state();
    let lost = state.wait_for(|state| matches!(state, LeaderState::Standby { .. }));
    tokio::time::timeout(SECOND * 2, lost).await.expect("in time").expect("campaign runs");
    assert!(!second.is_leader_now());

    shelf.down.store(false, Ordering::SeqCst);
    leads(&second).await;
    assert_eq!(second.epoch(), Some(3), "a new term has a new epoch");
}

#[test]
fn the_lease_object_keeps_what_the_record_says() {
    let lease = Lease {
        metadata: ObjectMeta { resource_version: Some("77".into()), ..ObjectMeta::default() },
        spec: Some(LeaseSpec {
            holder_identity: Some(String::new()),
            lease_transitions: Some(4),
            lease_duration_seconds: Some(3),
            ..LeaseSpec::default()
        }),
    };
    let seen = LeaseRecord::of(lease);
    assert_eq!(seen.holder, None, "an empty holder is none");
    assert_eq!((seen.transitions, seen.duration, seen.resource_version.as_str()), (4, SECOND * 3, "77"));
}
