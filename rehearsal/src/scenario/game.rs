//! Playing: the world goes on until something is due, a person acts, what happened is told.

use std::collections::VecDeque;

use interlock_core::port::PortError;
use interlock_crds::ApprovalDecision;
use jiff::{SignedDuration, Timestamp};

use super::{
    BadInput,
    doings::Doing,
    expect::{Expectation, Sight},
    narrate::Narrator,
    read::Step,
    report::{Entry, EntryKind, Outcome},
};
use crate::{
    people::Change,
    world::{Happening, World},
};

/// How long a step takes.
const AT_ONCE: SignedDuration = SignedDuration::from_secs(1);
/// Steps of the simulation at one instant: far more than any work takes that comes to an end.
const MAX_STEPS_AT_ONCE: u64 = 500_000;

/// A question to the person who watches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The question.
    pub text: String,
    /// The change that it is about.
    pub change: Change,
    /// Who the person is for a moment.
    pub who: String,
}

/// What the person who watches decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Votes for the change.
    Approve,
    /// Votes against it.
    Reject,
    /// Does nothing.
    Wait,
}

/// What comes next.
#[derive(Clone, Debug, PartialEq)]
pub enum Moment {
    /// Something happened.
    Told(Entry),
    /// The person who watches is asked; go on with [`Player::answer`].
    Asks(Question),
    /// It is over.
    Over,
}

/// A rehearsal under way.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools, reason = "independent of each other: no two of them make one state")]
pub struct Player {
    pub(super) world: World,
    pub(super) narrator: Narrator,
    pub(super) title: Option<String>,
    pub(super) seed: u64,
    pub(super) zone: String,
    pub(super) start: Timestamp,
    pub(super) end: Timestamp,
    pub(super) steps: VecDeque<(Timestamp, Step)>,
    pub(super) last_words: Vec<Expectation>,
    pub(super) is_interactive: bool,
    queue: VecDeque<Entry>,
    pub(super) timeline: Vec<Entry>,
    pending: Vec<Pending>,
    pub(super) outcomes: Vec<Outcome>,
    pub(super) came: Option<Result<(), String>>,
    pub(super) unavailable: bool,
    pub(super) leader: Option<crate::cluster::ProcessId>,
    asked: bool,
    is_over: bool,
    pub(super) made: u64,
    at_once: (Timestamp, u64),
}

/// An expectation that has time.
#[derive(Debug)]
struct Pending {
    deadline: Timestamp,
    since: Timestamp,
    expectation: Expectation,
    came: Option<Result<(), String>>,
}

impl Player {
    pub(super) fn of_world(world: World, narrator: Narrator, start: Timestamp) -> Self {
        Self {
            world,
            narrator,
            title: None,
            seed: 0,
            zone: "UTC".to_owned(),
            start,
            end: start,
            steps: VecDeque::new(),
            last_words: Vec::new(),
            is_interactive: false,
            queue: VecDeque::new(),
            timeline: Vec::new(),
            pending: Vec::new(),
            outcomes: Vec::new(),
            came: None,
            unavailable: false,
            leader: None,
            asked: false,
            is_over: false,
            made: 0,
            at_once: (start, 0),
        }
    }

    /// The present instant.
    pub fn now(&self) -> Timestamp {
        self.world.now()
    }

    /// In which zone times are told.
    pub fn time_zone(&self) -> &str {
        &self.zone
    }

    /// The world as it is now.
    pub const fn world(&self) -> &World {
        &self.world
    }

    /// What happens next.
    ///
    /// # Errors
    /// The world does not come to rest: a defect of Interlock or of the simulation.
    pub fn next_moment(&mut self) -> Result<Moment, BadInput> {
        loop {
            if let Some(entry) = self.queue.pop_front() {
                self.timeline.push(entry.clone());
                return Ok(Moment::Told(entry));
            }
            if self.is_over {
                return Ok(Moment::Over);
            }
            if let Some(question) = self.advance()? {
                self.asked = true;
                return Ok(Moment::Asks(question));
            }
        }
    }

    /// Answers the question that was just asked.
    pub fn answer(&mut self, answer: Answer) {
        let Some((_, step)) = self.steps.front_mut().filter(|_| self.asked) else { return };
        let Some(Doing::Vote(_, decision)) = &mut step.doing else { return };
        match answer {
            Answer::Approve => *decision = ApprovalDecision::Approve,
            Answer::Reject => *decision = ApprovalDecision::Reject,
            Answer::Wait => {
                let who = step.by.clone().unwrap_or_default();
                step.doing = None;
                self.entry(EntryKind::Absent, format!("{who} waits"));
            }
        }
    }

    /// One step of the world, or what is due when it rests.
    fn advance(&mut self) -> Result<Option<Question>, BadInput> {
        let step = self.steps.front().map(|(at, _)| *at);
        let deadline = self.pending.iter().map(|pending| pending.deadline).min();
        let due = [step, deadline].into_iter().flatten().min().unwrap_or(self.end);
        if self.world.now() < due || self.world_is_busy() {
            if self.step_world(due.max(self.world.now()))? {
                return Ok(None);
            }
            self.world.rest_until(due);
        }
        if deadline == Some(due) {
            self.judge_due(due);
        } else if step == Some(due) {
            return self.play_next();
        } else if deadline.is_none() && step.is_none() {
            self.conclude();
        }
        Ok(None)
    }

    fn world_is_busy(&mut self) -> bool {
        !self.world.is_quiet()
    }

    /// One step of the world; what happened is told. False if it rests until then.
    pub(super) fn step_world(&mut self, until: Timestamp) -> Result<bool, BadInput> {
        let goes_on = self.world.step(until);
        self.absorb();
        self.made += 1;
        let now = self.world.now();
        if self.at_once.0 == now {
            self.at_once.1 += 1;
        } else {
            self.at_once = (now, 0);
        }
        if self.at_once.1 > MAX_STEPS_AT_ONCE {
            return Err(BadInput(format!("at {now} the simulated cluster does not come to rest; seed {}", self.seed)));
        }
        Ok(goes_on)
    }

    pub(super) fn absorb(&mut self) {
        for happening in self.world.take_happened() {
            if let Happening::Act { came, .. } = &happening {
                self.unavailable = matches!(came, Err(PortError::Unavailable(_)));
                self.came = Some(came.as_ref().map(|_| ()).map_err(ToString::to_string));
            }
            self.queue.extend(self.narrator.tell(&happening));
        }
        let leader = self.world.leader();
        if leader != self.leader {
            self.leader = leader;
            if let Some(leader) = leader {
                self.entry(EntryKind::Event, format!("controller {leader} takes over"));
            }
        }
    }

    /// Goes on until an instant.
    pub(super) fn run_until(&mut self, until: Timestamp) -> Result<(), BadInput> {
        while self.step_world(until)? {}
        self.world.rest_until(until);
        Ok(())
    }

    pub(super) fn entry(&mut self, kind: EntryKind, text: impl Into<String>) {
        let at = self.world.now();
        self.queue.push_back(Entry::new(at, kind, text));
    }

    fn play_next(&mut self) -> Result<Option<Question>, BadInput> {
        let Some((_, step)) = self.steps.front() else { return Ok(None) };
        if self.is_interactive
            && !self.asked
            && let (Some(text), Some(Doing::Vote(change, _))) = (&step.ask, &step.doing)
        {
            let who = step.by.as_deref().and_then(|by| self.narrator.cast.user(by));
            let who = who.map(|user| self.narrator.cast.called(&user.name).to_owned()).unwrap_or_default();
            let question = Question { text: text.clone(), change: change.clone(), who };
            if let Some(say) = step.say.clone() {
                self.entry(EntryKind::Said, say);
            }
            return Ok(Some(question));
        }
        let said = std::mem::take(&mut self.asked);
        let Some((at, step)) = self.steps.pop_front() else { return Ok(None) };
        if let Some(say) = step.say.clone().filter(|_| !said) {
            self.entry(EntryKind::Said, say);
        }
        self.came = None;
        if let Some(doing) = &step.doing {
            self.perform(doing, step.by.as_deref())?;
        }
        // What follows at once is seen before anything is judged, also what is due at this very instant.
        self.run_until(self.world.now().checked_add(AT_ONCE).unwrap_or(Timestamp::MAX))?;
        let came = self.came.clone();
        for expectation in step.expect {
            match expectation.within {
                None => self.judge(&expectation, Some(at), came.as_ref()),
                Some(within) => {
                    let deadline = at.checked_add(within).unwrap_or(self.end);
                    self.pending.push(Pending { deadline, since: at, expectation, came: came.clone() });
                }
            }
        }
        Ok(None)
    }

    fn judge_due(&mut self, due: Timestamp) {
        let (now, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.pending).into_iter().partition(|pending| pending.deadline <= due);
        self.pending = later;
        for pending in now {
            self.judge(&pending.expectation, Some(pending.since), pending.came.as_ref());
        }
    }

    fn judge(&mut self, expectation: &Expectation, since: Option<Timestamp>, came: Option<&Result<(), String>>) {
        let sight =
            Sight { world: &self.world, board: &self.narrator.board, start: self.start, zone: &self.zone, since, came };
        let (met, found) = expectation.judge(&sight);
        self.outcome(expectation, met, &found);
    }

    fn outcome(&mut self, expectation: &Expectation, met: bool, found: &str) {
        let at = self.world.now();
        let found = self.narrator.cast.with_names(found);
        let text = expectation.text.clone();
        let (kind, told) = if met {
            (EntryKind::Met, format!("as expected: {text}"))
        } else {
            (EntryKind::Failed, format!("NOT as expected: {text}; found: {found}"))
        };
        self.entry(kind, told);
        self.outcomes.push(Outcome { place: expectation.place.clone(), text, met, found, at });
    }

    fn conclude(&mut self) {
        for expectation in std::mem::take(&mut self.last_words) {
            self.judge(&expectation, None, None);
        }
        self.is_over = true;
    }

    /// Expectations of steps that come after the end are not met.
    pub(super) fn cut(&mut self) {
        let end = self.end;
        let (kept, cut): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(&mut self.steps).into_iter().partition(|(at, _)| *at <= end);
        self.steps = kept;
        for expectation in cut.into_iter().flat_map(|(_, step)| step.expect) {
            let found = "the rehearsal ends before that".to_owned();
            let at = self.end;
            self.outcomes.push(Outcome { place: expectation.place, text: expectation.text, met: false, found, at });
        }
    }
}
