//! What the end-to-end tests share: one cluster with Interlock in it for all tests of a test binary, a namespace with a
//! System of its own for each test, and people who ask, vote and command.
//!
//! ```no_run
//! use interlock_tests::{Stage, config_map};
//!
//! let stage = Stage::new("greeting");
//! let change = stage.propose("alice", "hello", vec![config_map("web", &[("greeting", "hi")])]);
//! change.approve(&["bob", "carol"]);
//! change.wait("Succeeded");
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    clippy::needless_pass_by_value,
    missing_docs,
    reason = "a test that cannot go on panics; the names of these helpers say what they do"
)]

pub mod api;
pub mod audit;
pub mod bare;
pub mod gateway;
pub mod load;
pub mod objects;
pub mod stage;
pub mod vault;
pub mod world;

pub use api::{Api, Patch, Refusal, collection_of, path_of};
pub use bare::{bare, served};
pub use objects::{config_map, deployment, deployment_image, patch_of};
pub use stage::{Change, Options, Stage, policy_of};
pub use world::{Installation, World, eventually, world};
