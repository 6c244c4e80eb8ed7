//! What windows and freezes say together: the state, and how long it holds.

use jiff::Timestamp;

use super::{
    CalendarView, Inner, WindowState,
    period::{Period, Search},
};

impl Inner {
    /// The view at `now`, and the next change of kind, window or freeze.
    pub(super) fn view(&self, now: Timestamp) -> (CalendarView, Option<Timestamp>) {
        let mut search = Search::from(now);
        let (state, change) = match longest(&self.freezes, now, &mut search) {
            Some((freeze, end)) => self.frozen(freeze, end, now, &mut search),
            None => match self.windows.iter().position(|window| window.is_active(now)) {
                Some(window) => self.open(Some(window), now, &mut search),
                None if self.windows.is_empty() => self.open(None, now, &mut search),
                None => self.outside(now, &mut search),
            },
        };
        let change = change.filter(|change| *change > now);
        let valid_until = if !is_bounded(&state, &search) {
            change
        } else if self.periods().any(|period| period.occurs_from(now)) {
            // What lies beyond the horizon comes into sight when the horizon moves, at midnight.
            [change, Some(search.tomorrow)].into_iter().flatten().min().filter(|until| *until > now)
        } else {
            None
        };
        (CalendarView { state, valid_until }, change.filter(|change| *change < search.horizon))
    }

    fn periods(&self) -> impl Iterator<Item = &Period> {
        self.windows.iter().chain(&self.freezes)
    }

    fn frozen(
        &self,
        freeze: &Period,
        ends_at: Timestamp,
        now: Timestamp,
        search: &mut Search,
    ) -> (WindowState, Option<Timestamp>) {
        let opens_at = self.first_open(ends_at, search);
        let change = self.overtaken(freeze, ends_at, now, search);
        (WindowState::Frozen { freeze: freeze.name.clone(), ends_at, opens_at }, Some(change))
    }

    fn open(&self, window: Option<usize>, now: Timestamp, search: &mut Search) -> (WindowState, Option<Timestamp>) {
        let freeze = next_start(&self.freezes, now, search);
        let Some(index) = window else {
            return (WindowState::Open { window: None, closes_at: freeze }, freeze);
        };
        let (earlier, rest) = self.windows.split_at(index);
        let end = rest.first().and_then(|window| window.run_end(now, search));
        let change = [freeze, end, next_start(earlier, now, search)].into_iter().flatten().min();
        let closes_at = [freeze, self.last_end(now, freeze, search)].into_iter().flatten().min();
        let name = rest.first().map(|window| window.name.clone());
        (WindowState::Open { window: name, closes_at: closes_at.filter(|_| !search.gave_up()) }, change)
    }

    fn outside(&self, now: Timestamp, search: &mut Search) -> (WindowState, Option<Timestamp>) {
        let starts = [next_start(&self.windows, now, search), next_start(&self.freezes, now, search)];
        let opens_at = self.first_open(now, search);
        let open = |window: &&Period| opens_at.is_some_and(|at| window.is_active(at));
        let next_window = self.windows.iter().find(open).map(|window| window.name.clone());
        (WindowState::Outside { next_window, opens_at }, starts.into_iter().flatten().min())
    }

    /// The first instant not before `from` in a window and in no freeze.
    fn first_open(&self, from: Timestamp, search: &mut Search) -> Option<Timestamp> {
        let mut at = from;
        while at < search.horizon && search.step() {
            if let Some((_, end)) = longest(&self.freezes, at, search) {
                at = end;
            } else if self.windows.is_empty() || self.windows.iter().any(|window| window.is_active(at)) {
                return Some(at);
            } else {
                at = next_start(&self.windows, at, search)?;
            }
        }
        None
    }

    /// Where the windows that are open at `now` and those that follow without a break end, if before `limit` and the
    /// horizon.
    fn last_end(&self, now: Timestamp, limit: Option<Timestamp>, search: &mut Search) -> Option<Timestamp> {
        let limit = limit.unwrap_or(search.horizon);
        let mut end = now;
        while end < limit && search.step() {
            match longest(&self.windows, end, search) {
                Some((_, later)) => end = later,
                None => return Some(end),
            }
        }
        None
    }

    /// When, at the latest at `end`, another freeze is the one to name instead of `named`, which ends then.
    fn overtaken(&self, named: &Period, end: Timestamp, now: Timestamp, search: &mut Search) -> Timestamp {
        // Where both last beyond the horizon, which of them is longer is not known until the horizon moves.
        let limit = if end < search.horizon { end } else { search.tomorrow };
        let mut first = limit;
        let mut wins_a_tie = true;
        for freeze in &self.freezes {
            if std::ptr::eq(freeze, named) {
                wins_a_tie = false;
                continue;
            }
            let mut at = now;
            while at < first {
                // One that is active now does not win, or it would be the one that is named.
                if let Some(over) = freeze.run_end(at, search) {
                    if at > now && (over > end || wins_a_tie && over == end) {
                        first = at;
                        break;
                    }
                    at = over;
                } else if let Some(start) = freeze.next_start(at, search) {
                    at = start;
                } else {
                    break;
                }
                if search.gave_up() {
                    first = first.min(at);
                    break;
                }
            }
        }
        if first < limit { first } else { end }
    }
}

/// Whether a part of the state is unknown only because the search ended.
fn is_bounded(state: &WindowState, search: &Search) -> bool {
    search.gave_up()
        || match state {
            WindowState::Open { closes_at, .. } => closes_at.is_none(),
            // A freeze that lasts beyond the horizon opens beyond it too.
            WindowState::Frozen { opens_at, .. } | WindowState::Outside { opens_at, .. } => opens_at.is_none(),
        }
}

/// The active period that ends last, the first as written of those that end together.
fn longest<'a>(periods: &'a [Period], at: Timestamp, search: &mut Search) -> Option<(&'a Period, Timestamp)> {
    let mut longest: Option<(&Period, Timestamp)> = None;
    for period in periods {
        if let Some(end) = period.run_end(at, search)
            && longest.is_none_or(|(_, other)| end > other)
        {
            longest = Some((period, end));
        }
    }
    longest
}

/// The first start after `at` of periods that are not active at `at`.
fn next_start(periods: &[Period], at: Timestamp, search: &mut Search) -> Option<Timestamp> {
    periods.iter().filter_map(|period| period.next_start(at, search)).min()
}
