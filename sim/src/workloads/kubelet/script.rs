//! What the containers of one pod do over time: pure, from the instant it began.

use jiff::{SignedDuration, Timestamp};

use super::super::read::{after, earlier};

/// How long a container takes to be started.
const STARTS: SignedDuration = SignedDuration::from_secs(1);
/// From when on a container that will crash is ready.
const READY: SignedDuration = SignedDuration::from_secs(2);
/// The delays before a crashed container is started again: the first, and the longest.
const BACK_OFF: (i64, i64) = (10, 300);

/// What the containers do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::workloads) enum Script {
    /// Their image never comes.
    Pulls,
    /// They run, and are ready after this long if ever.
    Runs { ready_after: Option<SignedDuration> },
    /// They end after this long.
    Ends { after: SignedDuration, succeeds: bool },
    /// They run this long and crash, this often; then they end well.
    Crashes { after: SignedDuration, times: u32 },
}

/// What a container does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::workloads) enum Doing {
    Creating,
    Pulling,
    Running { since: Timestamp },
    BackingOff { since: Timestamp, ended: Timestamp },
    Ended { since: Timestamp, at: Timestamp, succeeded: bool },
}

/// A script at an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::workloads) struct Scene {
    pub doing: Doing,
    pub is_ready: bool,
    pub restarts: u32,
    /// When something changes next.
    pub next: Option<Timestamp>,
}

impl Script {
    /// Where a script that began at `origin` is now.
    pub fn at(self, origin: Timestamp, now: Timestamp) -> Scene {
        let scene = |doing, is_ready, next| Scene { doing, is_ready, restarts: 0, next };
        if self == Self::Pulls {
            return scene(Doing::Pulling, false, None);
        }
        let since = after(origin, self.startup());
        if now < since {
            return scene(Doing::Creating, false, Some(since));
        }
        match self {
            Self::Pulls | Self::Runs { ready_after: None } => scene(Doing::Running { since }, false, None),
            Self::Runs { ready_after: Some(delay) } => {
                let ready = after(origin, delay);
                scene(Doing::Running { since }, now >= ready, Some(ready).filter(|ready| now < *ready))
            }
            Self::Ends { after: length, succeeds } => {
                let at = after(origin, length).max(since);
                if now < at {
                    return scene(Doing::Running { since }, true, Some(at));
                }
                scene(Doing::Ended { since, at, succeeded: succeeds }, false, None)
            }
            Self::Crashes { after: length, times } => crashes(since, length, times, now),
        }
    }

    fn startup(self) -> SignedDuration {
        match self {
            Self::Runs { ready_after: Some(length) } | Self::Ends { after: length, .. } => STARTS.min(length),
            _ => STARTS,
        }
    }
}

fn crashes(first: Timestamp, length: SignedDuration, times: u32, now: Timestamp) -> Scene {
    // A run that takes no time would never let time go on.
    let length = length.max(SignedDuration::from_millis(1));
    let (mut since, mut restarts, mut delay) = (first, 0, BACK_OFF.0);
    loop {
        let ended = after(since, length);
        if now < ended {
            let ready = after(since, READY);
            let is_ready = now >= ready;
            let next = earlier(Some(ended), Some(ready).filter(|_| !is_ready));
            return Scene { doing: Doing::Running { since }, is_ready, restarts, next };
        }
        if restarts >= times {
            let doing = Doing::Ended { since, at: ended, succeeded: true };
            return Scene { doing, is_ready: false, restarts, next: None };
        }
        let again = after(ended, SignedDuration::from_secs(delay));
        if now < again {
            let doing = Doing::BackingOff { since, ended };
            return Scene { doing, is_ready: false, restarts, next: Some(again) };
        }
        delay = (delay * 2).min(BACK_OFF.1);
        restarts = restarts.saturating_add(1);
        since = again;
    }
}
