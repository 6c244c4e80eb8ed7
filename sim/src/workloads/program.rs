//! What the programs in pods that end do, where that matters beyond their end.

use std::fmt::Debug;

use jiff::Timestamp;
use serde_json::Value;

/// The programs of a cluster.
pub trait Program: Debug + Send + Sync {
    /// Whether a pod that is never restarted runs until it is deleted, as a server does, instead of ending by itself.
    fn serves(&self, pod: &Value) -> bool {
        let _ = pod;
        false
    }

    /// A pod that ends by itself ran well until `at`: what its containers leave as termination messages, by name. Asked once a pod.
    fn end(&self, pod: &Value, at: Timestamp) -> Vec<(String, String)>;
}
