//! The webhooks: a server that the API server calls, and the gathering of facts for the core's judgement.

pub mod judge;
pub mod review;
pub mod server;
