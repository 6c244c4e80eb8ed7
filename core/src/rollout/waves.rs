//! Waves.

use interlock_crds::Wave;

use super::pass::Pass;

impl Pass<'_> {
    /// One pass of a release in waves.
    pub(super) fn waves(&mut self, waves: &[Wave]) {
        let _ = waves;
        self.say("releases in waves are not carried out yet");
    }
}

/// The Rollout of this name that a wave makes.
pub(super) fn rollout_named(facts: &super::RolloutFacts<'_>, name: &str) -> Option<serde_json::Value> {
    let _ = (facts, name);
    None
}
