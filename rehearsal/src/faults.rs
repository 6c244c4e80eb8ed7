//! What goes wrong, and how often.

use std::time::Duration;

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

/// Chances of faults, each between 0 and 1 for one step or one call. None by default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Faults {
    /// A call fails and nothing happened: refused, throttled, or lost on its way.
    pub lost_calls: f64,
    /// A write takes effect and its answer is lost.
    pub lost_answers: f64,
    /// A write that requires a state is refused as if somebody had written in between.
    pub conflicts: f64,
    /// The process that leads is killed.
    pub crashes: f64,
    /// A process hangs for up to 40 s and goes on where it was.
    pub hangs: f64,
    /// A watch tells the same event twice.
    pub repeated_events: f64,
    /// A watch breaks and everything is listed anew.
    pub broken_watches: f64,
    /// A write waits on its way while other things happen.
    pub slow_calls: f64,
    /// The executor's right to write is taken away for a while.
    pub lost_rights: f64,
    /// No webhook can be reached for a while, although controllers run.
    pub lost_webhooks: f64,
    /// The server's clock is set, by up to a minute forward or 20 s back.
    pub clock_jumps: f64,
    /// A node is lost for up to ten minutes.
    pub lost_nodes: f64,
    /// How far a process's reckoning of the server's time may be off, in milliseconds.
    pub skew_ms: i64,
}

impl Faults {
    /// Everything goes wrong, often.
    pub fn storm() -> Self {
        Self {
            lost_calls: 0.02,
            lost_answers: 0.03,
            conflicts: 0.01,
            crashes: 0.004,
            hangs: 0.002,
            repeated_events: 0.05,
            broken_watches: 0.01,
            slow_calls: 0.3,
            lost_rights: 0.001,
            lost_webhooks: 0.001,
            clock_jumps: 0.000_5,
            lost_nodes: 0.000_5,
            skew_ms: 900,
        }
    }

    /// The names of the faults that may happen, for messages and for shrinking a history.
    pub fn names(&self) -> Vec<&'static str> {
        self.rates().into_iter().filter(|(_, rate)| *rate > 0.0).map(|(name, _)| name).collect()
    }

    /// The same without one kind of fault.
    #[must_use]
    pub fn without(&self, name: &str) -> Self {
        let mut rest = self.clone();
        match name {
            "lostCalls" => rest.lost_calls = 0.0,
            "lostAnswers" => rest.lost_answers = 0.0,
            "conflicts" => rest.conflicts = 0.0,
            "crashes" => rest.crashes = 0.0,
            "hangs" => rest.hangs = 0.0,
            "repeatedEvents" => rest.repeated_events = 0.0,
            "brokenWatches" => rest.broken_watches = 0.0,
            "slowCalls" => rest.slow_calls = 0.0,
            "lostRights" => rest.lost_rights = 0.0,
            "lostWebhooks" => rest.lost_webhooks = 0.0,
            "clockJumps" => rest.clock_jumps = 0.0,
            "lostNodes" => rest.lost_nodes = 0.0,
            "skewMs" => rest.skew_ms = 0,
            _ => {}
        }
        rest
    }

    fn rates(&self) -> [(&'static str, f64); 13] {
        [
            ("lostCalls", self.lost_calls),
            ("lostAnswers", self.lost_answers),
            ("conflicts", self.conflicts),
            ("crashes", self.crashes),
            ("hangs", self.hangs),
            ("repeatedEvents", self.repeated_events),
            ("brokenWatches", self.broken_watches),
            ("slowCalls", self.slow_calls),
            ("lostRights", self.lost_rights),
            ("lostWebhooks", self.lost_webhooks),
            ("clockJumps", self.clock_jumps),
            ("lostNodes", self.lost_nodes),
            ("skewMs", self.skew_ms as f64),
        ]
    }
}

/// A call that was sent reaches the server within so long or never: the client's time limit.
pub const ON_ITS_WAY: SignedDuration = SignedDuration::from_secs(10);
/// How long the lease lasts after it was renewed.
pub const LEASE: Duration = Duration::from_secs(15);
