//! A real Kubernetes control plane on this machine, without a container engine: etcd, the API server, the controller
//! manager and the scheduler, built from pinned Go modules, and kwok for nodes and pods that are simulated.
//!
//! ```no_run
//! use interlock_cluster::{Cluster, ClusterOptions};
//!
//! let cluster = Cluster::up(&ClusterOptions::ephemeral("my-test"))?;
//! let status = cluster.kubectl("alice").args(["auth", "whoami"]).status();
//! cluster.down()?;
//! # Ok::<(), interlock_cluster::ClusterError>(())
//! ```
//!
//! A real node, which runs containers, takes the place of the simulated ones where a test asks for it: [`Node`].
//!
//! Linux only: processes are told apart by what `/proc` says.

mod bring_up;
mod certs;
mod cluster;
mod components;
mod debian;
mod definitions;
mod existing;
mod image;
mod images;
mod kubeconfig;
mod kwok;
mod modules;
mod network;
mod node;
mod node_config;
mod node_error;
mod ports;
mod process;
mod roots;
mod state;
mod tools;
mod users;
mod volumes;
mod wait;

pub use certs::CertsError;
pub use cluster::{ADMIN, Cluster, ClusterError, ClusterOptions, ClusterSource};
pub use components::Component;
pub use debian::{DebianError, OpenSsh, Postgres, Prometheus};
pub use definitions::{DefinitionsError, argo_rollouts, gateway_api};
pub use image::{Image, ImageError};
pub use images::{busybox, interlock, postgres, rest_server, restic, restic_behind, web};
pub use kwok::{BEHAVIOUR_LABEL, Behaviour, NODES, READY_AFTER_ANNOTATION, RUNS_FOR_ANNOTATION};
pub use modules::{Tool, kubernetes_version};
pub use network::Network;
pub use node::{NODE_NAME, Node, NodeOptions, PodNetwork};
pub use node_error::NodeError;
pub use process::{ProcessError, ProcessId};
pub use roots::NoHome;
pub use state::{Audit, Description, Origin, Phase, StateError};
pub use tools::{Tools, ToolsError};
pub use users::{TestUser, USERS, find as find_user};
pub use volumes::{POOL, Reclaim, SMALL};
