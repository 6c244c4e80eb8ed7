//! What saves calls between passes. Losing it costs calls and nothing else.

use interlock_core::{
    change::facts::{BaseState, Preflight, RequestFacts},
    object::ObjectId,
};

/// What is remembered of one change.
#[derive(Debug, Default)]
pub struct Memo {
    base: Option<(String, i64, BaseState)>,
    preflight: Option<(i64, Preflight)>,
    /// Objects whose changes wake this change.
    pub watched: Vec<ObjectId>,
    /// The request as this process wrote it last, until the watch catches up.
    pub written: Option<(u64, RequestFacts, String)>,
}

impl Memo {
    /// The base as last read for this generation of the request.
    pub fn base_for(&self, request: &RequestFacts) -> BaseState {
        match &self.base {
            Some((uid, generation, base)) if *uid == request.uid && *generation == request.generation => base.clone(),
            _ => BaseState::Unread,
        }
    }

    /// Remembers a base that could be read.
    pub fn remember_base(&mut self, request: &RequestFacts, base: BaseState) {
        self.base = matches!(base, BaseState::Read(_)).then(|| (request.uid.clone(), request.generation, base));
    }

    /// Whether a dry run of this generation of the request was refused.
    pub fn preflight_for(&self, request: &RequestFacts) -> Preflight {
        match &self.preflight {
            Some((generation, preflight)) if *generation == request.generation => preflight.clone(),
            _ => Preflight::NotTried,
        }
    }

    /// Remembers what a dry run of this generation of the request came to.
    pub fn remember_preflight(&mut self, request: &RequestFacts, preflight: Preflight) {
        self.preflight = Some((request.generation, preflight));
    }

    /// Has the base read again in the next pass.
    pub fn forget_base(&mut self) {
        self.base = None;
    }
}
