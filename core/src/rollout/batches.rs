//! StatefulSets by partition, DaemonSets by nodes.

use interlock_crds::BatchStrategy;

use super::pass::{Pass, Strategy};

impl Pass<'_> {
    /// One pass of a release in batches.
    pub fn batches(&mut self, strategy: Strategy<'_>, plan: &BatchStrategy) {
        let _ = (strategy, plan);
        self.say("releases in batches are not carried out yet");
    }
}
