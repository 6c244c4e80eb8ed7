//! The receiver of a server's write-ahead log: pg_receivewal with a replication slot, all the time.
//!
//! It checks first that the server limits what slots keep, makes the slot if it is missing, and begins again with growing pauses
//! whenever pg_receivewal ends. Where the server no longer has what comes next, what was received so far is put aside: nothing
//! carries it on, and the next base copy begins a new chain.

use std::{
    fs,
    path::Path,
    process::{ExitCode, Stdio},
    time::Duration,
};

use interlock_core::backup::{
    plan::{EXCHANGE_PATH, WAL_PATH},
    receiver::{
        RECEIVER_PLAN_VARIABLE, RECEIVER_PLAN_VERSION, ReceiverEnd, ReceiverPlan, is_alive, pause, receiver_end,
    },
    wal::{ENDED_FOLDER, OLDEST_POSTGRES},
};
use jiff::Timestamp;
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    signal::unix::{SignalKind, signal},
};

use super::{
    Place, physical,
    postgres::{self, Server},
    redact::Secrets,
    spool, tool,
};

/// The file whose time says when it was last seen that log is received.
const ALIVE_FILE: &str = "receiving";
/// How often that is looked at.
const EVERY: Duration = Duration::from_secs(5);
/// A server that does not answer a question within this does not answer.
const LIMIT: Duration = Duration::from_secs(30);
/// After so many looks in a row at which nothing was received, pg_receivewal is ended and begun again.
const MOST_SILENT: u32 = 12;

/// Whether log was received within the last while, for the readiness probe.
pub(super) fn check(place: &Place) -> Result<(), String> {
    let file = place.at(EXCHANGE_PATH).join(ALIVE_FILE);
    let told = fs::read_to_string(&file).ok().and_then(|text| text.trim().parse::<Timestamp>().ok());
    let told = told.ok_or("nothing was received yet")?;
    if is_alive(told, now()) { Ok(()) } else { Err(format!("nothing was received since {told}")) }
}

/// Receives until it is asked to end.
pub(super) async fn execute(place: &Place) -> ExitCode {
    let plan = match plan() {
        Ok(plan) => plan,
        Err(why) => {
            eprintln!("error: {why}");
            return ExitCode::FAILURE;
        }
    };
    let secrets = tool::secrets(place);
    let receiver = Receiver { place, plan: &plan, secrets: &secrets };
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return ExitCode::FAILURE };
    tokio::select! {
        () = receiver.receive() => ExitCode::FAILURE,
        _ = terminate.recv() => ExitCode::SUCCESS,
    }
}

fn plan() -> Result<ReceiverPlan, String> {
    let text = std::env::var(RECEIVER_PLAN_VARIABLE)
        .map_err(|_| format!("{RECEIVER_PLAN_VARIABLE} is not set: this runs in pods of Interlock"))?;
    let plan: ReceiverPlan =
        serde_json::from_str(&text).map_err(|error| format!("{RECEIVER_PLAN_VARIABLE} cannot be read: {error}"))?;
    if plan.version != RECEIVER_PLAN_VERSION {
        let own = RECEIVER_PLAN_VERSION;
        return Err(format!("the plan has version {}, and this release reads version {own}", plan.version));
    }
    Ok(plan)
}

struct Receiver<'a> {
    place: &'a Place,
    plan: &'a ReceiverPlan,
    secrets: &'a Secrets,
}

impl Receiver<'_> {
    fn server(&self) -> Server<'_> {
        Server { host: &self.plan.host, port: self.plan.port, ssl_mode: self.plan.ssl_mode }
    }

    fn say(&self, text: &str) {
        println!("{}", self.secrets.redact(text));
    }

    /// Never comes back.
    async fn receive(&self) {
        let mut attempt = 0;
        loop {
            let began = tokio::time::Instant::now();
            if let Err(why) = self.once().await {
                self.say(&format!("error: {why}"));
            }
            // One that had worked for a while is not one of a row of failures.
            attempt = if began.elapsed() > Duration::from_mins(1) { 1 } else { attempt + 1 };
            let wait = pause(attempt);
            println!("it is tried again in {} s", wait.as_secs());
            tokio::time::sleep(wait.unsigned_abs()).await;
        }
    }

    /// One attempt, from the questions to the end of pg_receivewal.
    async fn once(&self) -> Result<(), String> {
        self.is_possible().await?;
        self.make_slot().await?;
        let mut child = self
            .command(&["--synchronous", "--no-loop", "--verbose", "--status-interval=5"])
            .spawn()
            .map_err(|error| format!("pg_receivewal cannot be started: {error}"))?;
        println!("the write-ahead log is received through slot {}", self.plan.slot);
        let stderr = child.stderr.take();
        let mut lines = stderr.map(|stderr| BufReader::new(stderr).lines());
        let mut told = String::new();
        let mut silent = 0;
        let mut look = tokio::time::interval(EVERY);
        let ended = loop {
            let next = async {
                match &mut lines {
                    Some(lines) => lines.next_line().await.ok().flatten(),
                    None => None,
                }
            };
            tokio::select! {
                line = next => match line {
                    Some(line) => {
                        self.say(&line);
                        told.push_str(&line);
                        told.push('\n');
                        // Only the end matters.
                        if told.len() > 16_384 {
                            told.clear();
                        }
                    }
                    None => break child.wait().await,
                },
                _ = look.tick() => {
                    silent = if self.is_received().await { 0 } else { silent + 1 };
                    // A connection to a server that is away does not always end by itself.
                    if silent > MOST_SILENT {
                        end(&child);
                    }
                }
            }
        };
        let code = ended.ok().and_then(|status| status.code());
        match receiver_end(&told) {
            ReceiverEnd::Removed => self.begin_anew(),
            ReceiverEnd::SlotLost => self.drop_slot().await,
            ReceiverEnd::Other => Err(format!("pg_receivewal ended with {}", code.unwrap_or(-1))),
        }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = postgres::client(self.place, &self.server(), "pg_receivewal");
        command.args(["--no-password", "--slot", &self.plan.slot]).args(args);
        command.arg("--directory").arg(self.place.at(WAL_PATH));
        command.stdin(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    /// The row that the server answers.
    async fn ask(&self, statement: &str) -> Result<Vec<String>, String> {
        let told = postgres::psql(self.place, &self.server(), "postgres", statement, LIMIT).await?;
        Ok(told.lines().next().unwrap_or_default().split('|').map(ToOwned::to_owned).collect())
    }

    async fn is_possible(&self) -> Result<(), String> {
        let row = self
            .ask("select current_setting('server_version_num')::int / 10000, coalesce(current_setting('max_slot_wal_keep_size', true), ''), current_setting('wal_level')")
            .await?;
        let text = |at: usize| row.get(at).map(String::as_str).unwrap_or_default();
        let version: u32 = text(0).parse().unwrap_or_default();
        if version < OLDEST_POSTGRES {
            return Err(format!("the server has PostgreSQL {version}, and {OLDEST_POSTGRES} or newer is needed"));
        }
        physical::is_limited(text(1)).map_err(|stop| stop.why)?;
        if text(2) == "minimal" {
            return Err("the server's wal_level is minimal, so its log cannot be received: set it to replica and restart the server".to_owned());
        }
        Ok(())
    }

    async fn make_slot(&self) -> Result<(), String> {
        let mut make = self.command(&["--create-slot", "--if-not-exists"]);
        let output = make.output().await.map_err(|error| format!("pg_receivewal cannot be started: {error}"))?;
        if output.status.success() {
            return Ok(());
        }
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        let last = told.lines().last().unwrap_or_default();
        Err(format!("slot {} could not be made: {last}", self.plan.slot))
    }

    /// The server gave the slot up: another one of its name begins where the server is.
    async fn drop_slot(&self) -> Result<(), String> {
        self.say(&format!("slot {} was lost; it is made anew", self.plan.slot));
        let there =
            self.ask(&format!("select 1 from pg_replication_slots where slot_name = '{}'", self.plan.slot)).await?;
        if there.first().map(String::as_str) != Some("1") {
            return Ok(());
        }
        let output = self.command(&["--drop-slot"]).output().await;
        let output = output.map_err(|error| format!("pg_receivewal cannot be started: {error}"))?;
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        let last = told.lines().last().unwrap_or_default();
        if output.status.success() { Ok(()) } else { Err(format!("it could not be dropped: {last}")) }
    }

    /// Puts aside what nothing carries on, so that pg_receivewal begins at the slot.
    fn begin_anew(&self) -> Result<(), String> {
        let folder = self.place.at(WAL_PATH);
        let ended = folder.join(ENDED_FOLDER);
        let failed = |error: std::io::Error| format!("{} cannot be put aside: {error}", folder.display());
        fs::create_dir_all(&ended).map_err(failed)?;
        let is_segment = |name: &str| name.get(..24).is_some_and(|name| name.bytes().all(|b| b.is_ascii_hexdigit()));
        let mut moved = 0_u64;
        for name in spool::names(&folder)?.into_iter().filter(|name| is_segment(name)) {
            fs::rename(folder.join(&name), ended.join(&name)).map_err(failed)?;
            moved += 1;
        }
        self.say(&format!(
            "the server no longer has the segment that comes next: {moved} segments were put aside in the folder {ENDED_FOLDER}, and it begins anew; take a Full backup, as nothing after this can be recovered from an earlier one"
        ));
        Ok(())
    }

    /// Whether the server says that somebody receives, which is told to the probe.
    async fn is_received(&self) -> bool {
        let sql = format!("select active from pg_replication_slots where slot_name = '{}'", self.plan.slot);
        match self.ask(&sql).await {
            Ok(row) if row.first().map(String::as_str) == Some("t") => {
                if let Err(error) = tell(&self.place.at(EXCHANGE_PATH)) {
                    self.say(&format!("error: that it receives cannot be told: {error}"));
                }
                true
            }
            Ok(_) => false,
            Err(why) => {
                self.say(&format!("the server does not answer: {why}"));
                false
            }
        }
    }
}

/// The node's clock: both sides of the file that says that log is received are in one pod.
#[allow(clippy::disallowed_methods)]
fn now() -> Timestamp {
    Timestamp::now()
}

fn tell(folder: &Path) -> std::io::Result<()> {
    let (partial, whole) = (folder.join(".receiving.partial"), folder.join(ALIVE_FILE));
    fs::write(&partial, now().to_string())?;
    fs::rename(&partial, &whole)
}

fn end(child: &Child) {
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid {
        let _ = kill_process(pid, Signal::TERM);
    }
}
