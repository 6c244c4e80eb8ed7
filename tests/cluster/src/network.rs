//! The addresses of a cluster with a real node. Each such cluster has a number, and with it ranges of its own, so that
//! several of them can be reached from this machine at the same time.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use serde::{Deserialize, Serialize};

/// How many clusters with a node one machine holds.
const NUMBERS: u32 = 250;

static CHOSEN: AtomicU32 = AtomicU32::new(0);

/// A cluster's number, below 250.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network(u8);

impl Network {
    /// A number that no cluster on this machine has, whoever started it: its interface is the mark. Whoever is slower in
    /// making the interface is refused then.
    pub(crate) fn choose(taken: &[Self]) -> Option<Self> {
        let first = std::process::id().wrapping_add(CHOSEN.fetch_add(1, Ordering::Relaxed));
        (0..NUMBERS)
            .filter_map(|step| u8::try_from(first.wrapping_add(step) % NUMBERS).ok().map(Self))
            .find(|network| !taken.contains(network) && !network.is_up())
    }

    fn is_up(self) -> bool {
        Path::new("/sys/class/net").join(self.interface()).exists()
    }

    /// The machine's end of the link to the node.
    pub fn interface(self) -> String {
        format!("interlock{}", self.0)
    }

    /// The cgroup of the node's pods.
    pub fn cgroup(self) -> String {
        format!("interlock-node-{}", self.0)
    }

    /// The machine's address on the link: the only one outside the cluster that pods reach.
    pub fn machine(self) -> String {
        format!("10.199.{}.1", self.0)
    }

    /// The node's address.
    pub fn node(self) -> String {
        format!("10.199.{}.2", self.0)
    }

    /// Where pods get their addresses from.
    pub fn pods(self) -> String {
        format!("10.200.{}.0/24", self.0)
    }

    /// Where Services get their addresses from.
    pub fn services(self) -> String {
        format!("10.201.{}.0/24", self.0)
    }

    /// The API's address inside the cluster.
    pub(crate) fn api(self) -> String {
        format!("10.201.{}.1", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::{NUMBERS, Network};

    #[test]
    fn a_taken_number_is_not_chosen() {
        let all: Vec<_> = (0..u8::try_from(NUMBERS).unwrap()).map(Network).collect();
        assert_eq!(Network::choose(&all), None);
        assert_eq!(Network::choose(&all[1..]).map(Network::pods), Some("10.200.0.0/24".to_owned()));
    }
}
