//! A live view of one object, until it has come to its end.

use std::{pin::pin, process::ExitCode, time::Duration};

use futures::TryStreamExt as _;
use jiff::Timestamp;
use kube::{
    Api, Resource, ResourceExt as _,
    runtime::{WatchStreamExt as _, watcher},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{context::harmless, error::CliError, ui::Ui};

/// How often a view is drawn again.
const TICK: Duration = Duration::from_secs(1);

/// What is shown of objects of a kind.
pub trait View<K> {
    /// Everything, for a terminal, where it takes the place of what was shown before.
    fn whole(&self, object: &K, now: Timestamp, ui: Ui) -> Vec<String>;

    /// What is new, a line each, where standard output is no terminal.
    fn tell(&mut self, object: &K, ui: Ui);

    /// The exit code, once the object has come to its end.
    fn ended(&self, object: &K) -> Option<ExitCode>;
}

/// Shows what happens to `object` until it has ended.
///
/// # Errors
/// It is gone, or nobody tells of it any more: a view that stops before the end never says that all is well.
pub async fn watch<K, V>(object: &K, api: Api<K>, mut view: V, ui: Ui) -> Result<ExitCode, CliError>
where
    K: Resource + Clone + Serialize + DeserializeOwned + std::fmt::Debug + Send + 'static,
    V: View<K>,
{
    let config = watcher::Config::default().fields(&format!("metadata.name={}", object.name_any()));
    let mut stream = pin!(watcher(api, config).default_backoff());
    let mut tick = tokio::time::interval(TICK);
    let mut shown = None::<K>;
    loop {
        let event = tokio::select! {
            event = stream.try_next() => event.map_err(|error| CliError::Cluster(error.to_string()))?,
            _ = tick.tick(), if ui.is_terminal() => {
                if let Some(found) = &shown {
                    draw_over(&view, found, ui);
                }
                continue;
            }
        };
        let found = match event {
            Some(watcher::Event::Apply(found) | watcher::Event::InitApply(found)) => harmless(found),
            Some(watcher::Event::Delete(found)) => {
                return Err(CliError::NotFound(format!("{} was deleted", found.name_any())));
            }
            Some(watcher::Event::Init | watcher::Event::InitDone) => continue,
            None => {
                let name = object.name_any();
                return Err(CliError::Cluster(format!("the cluster tells nothing more of {name}; ask for it again")));
            }
        };
        if found.uid() != object.uid() {
            return Err(CliError::NotFound(format!("{} was deleted and made anew", found.name_any())));
        }
        if ui.is_terminal() {
            draw_over(&view, &found, ui);
        } else {
            view.tell(&found, ui);
        }
        if let Some(code) = view.ended(&found) {
            return Ok(code);
        }
        shown = Some(found);
    }
}

fn draw_over<K>(view: &impl View<K>, object: &K, ui: Ui) {
    ui.raw(&format!("\u{1b}[H\u{1b}[2J{}\n", view.whole(object, now(), ui).join("\n")));
}

/// The local clock: how long something takes is told to a person who looks at it here.
#[allow(clippy::disallowed_methods)]
pub fn now() -> Timestamp {
    Timestamp::now()
}
