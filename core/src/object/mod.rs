//! What Interlock knows about Kubernetes objects as data: identity, canonical bytes, paths, differences by meaning,
//! inverse patches, what a write may change, health and order.
//!
//! Objects are [`serde_json::Value`], because a change may hold any kind. Every function is total: a malformed object
//! is compared strictly and reported, it never panics and is never read as something harmless.
//!
//! One table, [`schema`], generated from the OpenAPI of Kubernetes, says which lists are maps with keys and which
//! strings are quantities. Kinds outside the table (custom resources) have atomic lists and plain strings.

mod access;
mod allocated;
mod canonical;
mod diff;
mod health;
mod id;
mod list;
mod meaning;
mod order;
mod partial;
mod patch;
mod path;
mod permit;
mod quantity;
mod restore;
pub mod schema;
pub mod schema_gen;
#[rustfmt::skip]
mod schema_table;
mod strip;
mod workload_health;

pub use access::{get, remove, set};
pub use canonical::{CanonicalError, Digest, DigestParseError, canonical_json};
pub use diff::{Change, diff};
pub use health::{Health, health};
pub use id::{GroupKind, ObjectError, ObjectId};
pub use meaning::same;
pub use order::{Rank, apply_order, delete_order, destroys_data, rank};
pub use partial::partial_between;
pub(crate) use patch::without_nulls;
pub use patch::{apply_partial, stated_paths};
pub use path::{Path, PathPattern, PatternError, Segment};
pub use permit::{Violation, permitted_create, permitted_update, render_short};
pub use quantity::{Quantity, QuantityError};
pub use restore::{Conflict, restore_paths};
pub use schema::Shape;
pub use strip::strip_server_fields;

#[cfg(test)]
mod tests;
