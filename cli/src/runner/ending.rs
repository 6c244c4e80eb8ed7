//! The end of a pod: the kubelet asks the first process of a container alone, and what that one started would go on until the
//! grace of the pod is over.
//!
//! So the program whose output is stored, and those that copy a server, are asked at once, with everything that they started, and
//! killed [`GRACE`] later. restic is asked and never killed from here: it takes its lock away.

use std::io;
use std::process::{Output, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::{
    process::Command,
    signal::unix::{SignalKind, signal},
    sync::watch,
    time,
};

use super::{Place, log, note};

/// So long after it was asked a program is killed.
const GRACE: Duration = Duration::from_secs(5);

static ASKED: OnceLock<watch::Receiver<bool>> = OnceLock::new();

/// Listens from now on: a pod may be ended while nothing waits for it.
pub(super) fn listen() {
    ASKED.get_or_init(|| {
        let (tell, asked) = watch::channel(false);
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => {
                tokio::spawn(async move {
                    terminate.recv().await;
                    tell.send_replace(true);
                });
            }
            Err(error) => eprintln!("error: that this pod is being ended will not be noticed: {error}"),
        }
        asked
    });
}

/// Comes back when the pod is being ended; never where nothing listens.
pub(super) async fn asked() {
    let Some(mut asked) = ASKED.get().cloned() else { return std::future::pending().await };
    let told = asked.wait_for(|asked| *asked).await.is_ok();
    if !told {
        std::future::pending::<()>().await;
    }
}

/// Whether the pod is being ended.
pub(super) fn is_asked() -> bool {
    ASKED.get().is_some_and(|asked| *asked.borrow())
}

/// Waits until the pod is being ended, and then ends restic and the program whose output it stores. Never comes back.
pub(super) async fn end_restic(place: &Place, restic: Option<u32>) {
    asked().await;
    log::say("this pod is being ended; restic is asked to end");
    if let Some(restic) = pid(restic) {
        let _ = kill_process(restic, Signal::TERM);
    }
    end_source(place, Signal::TERM);
    time::sleep(GRACE).await;
    if end_source(place, Signal::KILL) {
        log::say(&format!("the program of the source did not end within {} s and is killed", GRACE.as_secs()));
    }
    std::future::pending::<()>().await;
}

/// Once restic has ended nobody reads what the program of the source still writes.
pub(super) fn end_rest(place: &Place) {
    if is_asked() {
        end_source(place, Signal::KILL);
    }
}

/// Signals the program of the source with everything that it started; whether there was any.
fn end_source(place: &Place, signal: Signal) -> bool {
    note::find_source_group(place).and_then(|group| pid(Some(group))).is_some_and(|group| {
        // It may have ended by itself.
        kill_process_group(group, signal).is_ok()
    })
}

/// Runs a program to its end and reads what it prints. It has a group of its own, which ends with the pod.
pub(super) async fn output(mut command: Command) -> io::Result<Output> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
    let child = command.spawn()?;
    let group = pid(child.id());
    // It may have ended by itself.
    let end = |with| group.map(|group| kill_process_group(group, with));
    let ended = async {
        asked().await;
        let _ = end(Signal::TERM);
        time::sleep(GRACE).await;
        let _ = end(Signal::KILL);
    };
    tokio::select! {
        output = child.wait_with_output() => output,
        () = ended => Err(io::Error::other("this pod was ended, and it had to be killed")),
    }
}

fn pid(id: Option<u32>) -> Option<Pid> {
    id.and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw)
}
