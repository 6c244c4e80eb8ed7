//! Measuring: what is due is asked of the port, which answers when it can.

use interlock_core::{
    analysis::Question,
    port::{Identity, Port},
    rollout::measure::{Due, Measured},
};

use super::observe::Observed;
use crate::change::Context;

/// The answer to what is due, if it is there.
pub fn ask<P: Port>(context: &Context<P>, waiter: &str, observed: &Observed, due: Due) -> Option<Measured> {
    let (run, _) = observed.run.as_ref()?;
    let meta = &observed.rollout.metadata;
    let question = Question {
        key: format!("{}/{}/{}", meta.uid.as_deref().unwrap_or_default(), due.run, due.slot.number),
        identity: Identity::Impersonate(run.executor.clone()),
        namespace: meta.namespace.clone().unwrap_or_default(),
        analysis: due.analysis,
        slot: due.slot,
        subject: due.subject,
        exec: None,
    };
    let answer = context.port.measure(waiter, &question)?;
    Some(Measured { run: due.run, slot: question.slot, answer })
}
