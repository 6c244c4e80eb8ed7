//! restic as a child process: its exit, its summary, its errors.

use std::process::Stdio;
use std::time::{Duration, Instant};

use interlock_core::backup::plan::{MAX_PATIENCE_SECONDS, PROGRAMS_PATH, RunnerPlan};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader},
    process::Command,
    sync::mpsc,
};

use super::{Place, ending, install, log, reach, redact::Secrets, ssh};

/// How often progress goes to the log.
const EVERY: Duration = Duration::from_secs(10);
/// Most lines of output and errors that are kept.
const KEPT: usize = 200;

/// What restic came to.
#[derive(Clone, Debug, Default)]
pub(super) struct Came {
    /// Exit code; none if it was not started or a signal ended it.
    pub code: Option<i32>,
    /// The signal.
    pub signal: Option<i32>,
    /// Its JSON messages but for progress, and other lines as texts.
    pub output: Vec<Value>,
    /// Its errors, one line each, without secrets.
    pub errors: Vec<String>,
    /// How many there were.
    pub error_count: u64,
    /// Whether the connection to an SFTP server told why it failed.
    connection_failed: bool,
}

impl Came {
    /// Whether it ended with 0.
    pub fn is_good(&self) -> bool {
        self.code == Some(0)
    }

    /// The message of this type.
    pub fn message(&self, kind: &str) -> Option<&Value> {
        self.output.iter().rev().find(|message| message.get("message_type").and_then(Value::as_str) == Some(kind))
    }
}

/// restic for one plan.
#[derive(Debug)]
pub(super) struct Restic<'a> {
    place: &'a Place,
    plan: &'a RunnerPlan,
    secrets: &'a Secrets,
    environment: Vec<(String, String)>,
}

impl<'a> Restic<'a> {
    /// restic as the plan wants it.
    pub fn new(place: &'a Place, plan: &'a RunnerPlan, secrets: &'a Secrets) -> Self {
        Self { place, plan, secrets, environment: Vec::new() }
    }

    /// With another variable in its environment.
    #[must_use]
    pub fn with(mut self, name: &str, value: String) -> Self {
        self.environment.push((name.to_owned(), value));
        self
    }

    /// Whether anything answers at the address of the repository; else what a run of restic would have come to, sooner.
    pub async fn reach(&self) -> Result<(), Came> {
        let seconds = self.plan.patience_seconds.unwrap_or(MAX_PATIENCE_SECONDS);
        let patience = Duration::from_secs(seconds.unsigned_abs());
        let Err(why) = reach::reach(&self.plan.repository, patience).await else { return Ok(()) };
        // The exit code with which restic gives up.
        let mut came = Came { code: Some(1), ..Came::default() };
        self.wrong(&mut came, &why, true);
        Err(came)
    }

    /// Runs it to its end. Every line of its output is told to `each`, those of progress not.
    pub async fn run(&self, args: &[&str]) -> Came {
        self.run_with(args, |_| ()).await
    }

    /// The same; each message of its output is also told to `each`, and kept only as far as there is room.
    pub async fn run_with(&self, args: &[&str], mut each: impl FnMut(&Value)) -> Came {
        let mut came = Came::default();
        let mut child = match self.command(args).spawn() {
            Ok(child) => child,
            Err(error) => {
                came.errors.push(format!("restic cannot be started: {error}"));
                came.error_count = 1;
                return came;
            }
        };
        let (sender, mut lines) = mpsc::channel(256);
        read(child.stdout.take(), false, sender.clone());
        read(child.stderr.take(), true, sender);
        let mut told = Instant::now();
        let ended = ending::end_restic(self.place, child.id());
        tokio::pin!(ended);
        loop {
            tokio::select! {
                line = lines.recv() => match line {
                    Some((is_error, line)) => self.take(&mut came, is_error, &line, &mut told, &mut each),
                    None => break,
                },
                () = &mut ended => {}
            }
        }
        let status = child.wait().await;
        ending::end_rest(self.place);
        match status {
            Ok(status) => {
                use std::os::unix::process::ExitStatusExt as _;
                (came.code, came.signal) = (status.code(), status.signal());
            }
            Err(error) => came.errors.push(format!("how restic ended cannot be found out: {error}")),
        }
        came
    }

    fn take(&self, came: &mut Came, is_error: bool, line: &str, told: &mut Instant, each: &mut impl FnMut(&Value)) {
        let parsed = serde_json::from_str::<Value>(line).ok().filter(Value::is_object);
        let kind = parsed.as_ref().and_then(|message| message.get("message_type")?.as_str()).unwrap_or_default();
        match (kind, parsed.as_ref()) {
            ("status", Some(message)) => {
                if told.elapsed() >= EVERY {
                    *told = Instant::now();
                    log::say(&progress(message));
                }
            }
            // What the scan for the progress cannot read, the copying tells again.
            ("error", Some(message)) if message.get("during").and_then(Value::as_str) == Some("scan") => {}
            ("error", Some(message)) => {
                let text = |pointer: &str| message.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
                self.wrong(came, &format!("{}: {}", text("/item"), text("/error/message")), false);
            }
            ("exit_error", Some(message)) => {
                // It sums up what was told before, if anything was.
                let sums_up = message.get("code").and_then(Value::as_i64) == Some(3) && came.error_count > 0;
                let text = message.get("message").and_then(Value::as_str).unwrap_or_default();
                if sums_up {
                    return log::say(&self.secrets.redact(text));
                }
                // Why it gave up says more than what the source's own program wrote before, but not more than why the
                // connection failed.
                let first = !came.connection_failed;
                self.wrong(came, text.lines().next().unwrap_or_default(), first);
            }
            (_, Some(message)) if !is_error => {
                each(message);
                if came.output.len() < KEPT {
                    came.output.push(message.clone());
                }
            }
            // What the server itself says of a session is no error of restic's.
            _ if is_error && ssh::is_told_by_restic(line) => match ssh::said(line) {
                Some(why) => {
                    came.connection_failed = true;
                    self.wrong(came, why, true);
                }
                None => log::say(&self.secrets.redact(line)),
            },
            _ if is_error => {
                if !line.trim().is_empty() {
                    let line = self.secrets.redact(line);
                    log::say(&line);
                    if came.errors.len() < KEPT {
                        came.errors.push(line);
                    }
                }
            }
            _ => {
                if came.output.len() < KEPT {
                    came.output.push(serde_json::from_str(line).unwrap_or_else(|_| Value::String(line.to_owned())));
                }
            }
        }
    }

    /// Notes an error; as the first of all if it is what the others led to.
    fn wrong(&self, came: &mut Came, text: &str, first: bool) {
        let text = self.secrets.redact(text);
        log::say(&format!("error: {text}"));
        came.error_count += 1;
        if first {
            came.errors.insert(0, text);
            came.errors.truncate(KEPT);
        } else if came.errors.len() < KEPT {
            came.errors.push(text);
        }
    }

    fn command(&self, args: &[&str]) -> Command {
        let installed = self.place.at(PROGRAMS_PATH).join("restic");
        let program = if installed.is_file() { installed } else { install::find("restic").unwrap_or(installed) };
        let mut command = Command::new(program);
        command.env("RESTIC_REPOSITORY", self.repository()).env("RESTIC_PROGRESS_FPS", "0.5");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(ca) = &self.plan.ca_file {
            command.arg("--cacert").arg(self.place.at(ca));
        }
        if self.plan.repository.starts_with("sftp:") {
            let ssh = ssh::command(self.place, &self.plan.repository);
            command.arg("-o").arg(format!("sftp.command={ssh}"));
        }
        command.arg("--retry-lock").arg(format!("{}s", self.plan.retry_lock_seconds));
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    /// A repository on a volume lies below the root.
    fn repository(&self) -> String {
        let repository = &self.plan.repository;
        if repository.starts_with('/') { self.place.text(repository) } else { repository.clone() }
    }
}

fn read(stream: Option<impl AsyncRead + Unpin + Send + 'static>, is_error: bool, to: mpsc::Sender<(bool, String)>) {
    let Some(stream) = stream else { return };
    tokio::spawn(async move {
        let mut lines = BufReader::new(stream).split(b'\n');
        while let Ok(Some(line)) = lines.next_segment().await {
            if to.send((is_error, String::from_utf8_lossy(&line).into_owned())).await.is_err() {
                return;
            }
        }
    });
}

fn progress(message: &Value) -> String {
    let number = |field: &str| message.get(field).and_then(Value::as_u64).unwrap_or_default();
    let done = message.get("percent_done").and_then(Value::as_f64).unwrap_or_default();
    format!(
        "{:.0} %: {} of {} files, {} of {} bytes",
        done * 100.0,
        number("files_done"),
        number("total_files"),
        number("bytes_done"),
        number("total_bytes"),
    )
}
