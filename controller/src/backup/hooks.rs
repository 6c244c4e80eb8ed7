//! Hooks: begun once by the process that announced them; what they answered is kept until it is recorded.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use interlock_core::{
    backup::hooks::{self, HookDone},
    port::{Identity, Port},
};
use interlock_crds::{Backup, BackupPolicySpec, BackupStatus, Hook};
use jiff::Timestamp;

use crate::change::Context;

/// Hooks that this process began, by run, list and name, with their ends. Another process never begins them again: to it they
/// count as failed when their time is over.
#[derive(Debug, Default)]
pub struct Begun(Mutex<BTreeMap<String, Option<HookDone>>>);

impl Begun {
    fn with<T>(&self, look: impl FnOnce(&mut BTreeMap<String, Option<HookDone>>) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn key(backup: &Backup, after: bool, name: &str) -> String {
    format!("{} {after} {name}", backup.metadata.uid.as_deref().unwrap_or_default())
}

fn find<'a>(policy: &'a BackupPolicySpec, after: bool, name: &str) -> Option<&'a Hook> {
    let hooks = policy.hooks.as_ref()?;
    let list = if after { &hooks.after } else { &hooks.before };
    list.iter().find(|hook| hook.name == name)
}

/// A hook was just announced by this process: it is begun.
pub(super) fn begin<P: Port>(context: &Context<P>, backup: &Backup, after: bool, name: &str) {
    context.hooks.with(|begun| begun.insert(key(backup, after, name), None));
}

/// The ends of hooks that were announced and not recorded yet, as far as this process knows them. Asks what was begun.
pub(super) fn ends<P: Port>(
    context: &Context<P>,
    waiter: &str,
    backup: &Backup,
    recorded: &BackupStatus,
    policy: Option<&BackupPolicySpec>,
    executor: Option<&Identity>,
    now: Timestamp,
) -> Vec<HookDone> {
    let mut ends = Vec::new();
    for record in &recorded.hooks {
        let key = key(backup, record.after, &record.name);
        if record.finished_at.is_some() {
            context.hooks.with(|begun| begun.remove(&key));
            continue;
        }
        let Some(known) = context.hooks.with(|begun| begun.get(&key).cloned()) else { continue };
        let end = known.or_else(|| {
            let hook = find(policy?, record.after, &record.name)?;
            let namespace = backup.metadata.namespace.as_deref().unwrap_or_default();
            let question = hooks::question(hook, format!("hook {key}"), executor?.clone(), namespace, now)?;
            let answer = context.port.measure(waiter, &question)?;
            Some(hooks::done(hook, record.after, &answer))
        });
        if let Some(end) = end {
            context.hooks.with(|begun| begun.insert(key, Some(end.clone())));
            ends.push(end);
        }
    }
    ends
}
