//! Why a real node cannot be used.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::cluster::ClusterError;
use crate::debian::DebianError;
use crate::image::ImageError;
use crate::state::StateError;
use crate::tools::ToolsError;

/// Why there is no real node.
#[derive(Debug, Error)]
pub enum NodeError {
    /// Not root, or not Linux.
    #[error("a real node needs Linux and root, because it makes namespaces, mounts and cgroups; run it as root")]
    NotRoot,
    /// The cluster was brought up for simulated nodes.
    #[error("cluster `{0}` was brought up without a place for a real node: use ClusterOptions::with_real_node")]
    NotPrepared(String),
    /// The node does not see these folders of the machine.
    #[error(
        "{0} lies in a folder the node has for itself: set INTERLOCK_STATE and INTERLOCK_CACHE to folders outside /run, /var/log and /var/lib"
    )]
    Hidden(PathBuf),
    /// The programs are not there.
    #[error("the node's programs are not there")]
    Tools(#[from] ToolsError),
    /// A Debian package is not there.
    #[error("a package for the node is not there")]
    Debian(#[from] DebianError),
    /// A component did not start.
    #[error("the node did not start")]
    Cluster(#[from] ClusterError),
    /// A file of the node cannot be written.
    #[error("cannot write {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The machine refused a namespace, a link or a cgroup.
    #[error("cannot prepare the node: {0}")]
    Prepare(String),
    /// An image cannot be made or imported.
    #[error("an image of the node cannot be used")]
    Image(#[from] ImageError),
}

impl From<StateError> for NodeError {
    fn from(reason: StateError) -> Self {
        Self::Cluster(reason.into())
    }
}
