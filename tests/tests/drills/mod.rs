//! What happens in a sandbox.

mod copies;
mod server;
