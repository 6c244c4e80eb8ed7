//! A PostgreSQL server on the restored data, as the main process of its container, until the pod is deleted.
//!
//! It is ready when everything that was restored is loaded without an error and a query is answered. Durability is switched
//! off: the data is thrown away afterwards. Nobody needs a password: only pods of the sandbox reach it.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use interlock_core::{
    backup::plan::SCRATCH_PATH,
    drill::plan::{RESTORED_PATH, database_role},
};
use interlock_crds::PostgresMode;
use jiff::SignedDuration;
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    process::{Child, Command},
    signal::unix::{SignalKind, signal},
    time,
};

use super::super::{
    Place,
    recover::{self, Moment},
};
use super::{Application, Pod, dump::Dump, plan, sql};

/// The folder of the volume with the server's own files.
pub(super) const SERVER_FOLDER: &str = "postgres";
/// The file that says that everything is loaded.
const READY: &str = "ready";
/// One question to the server takes at most so long: less than the kubelet waits for a probe.
const QUESTION: Duration = Duration::from_secs(4);
/// How long the server may take to end.
const ENDING: Duration = Duration::from_secs(8);

/// Serves until the pod is ended.
pub(super) async fn execute(pod: &Pod<'_>, mode: PostgresMode, recover_before_end_seconds: Option<i64>) -> ExitCode {
    let served = match mode {
        PostgresMode::Logical => logical(pod).await,
        PostgresMode::Physical => physical(pod, recover_before_end_seconds).await,
    };
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::FAILURE
        }
    }
}

/// A new server that every restored dump is loaded into.
async fn logical(pod: &Pod<'_>) -> Result<(), String> {
    let dumps = dumps(Path::new(&super::data(pod.place)))?;
    let owner = dumps.iter().find_map(Dump::superuser).unwrap_or_else(|| "postgres".to_owned());
    let folder = folder(pod.place)?;
    initialize(&folder, &owner).await?;
    // Servers of other releases may not know the setting.
    let tablespaces = dumps.iter().any(Dump::has_tablespaces).then(|| "allow_in_place_tablespaces=on".to_owned());
    let mut server = start(pod, &folder, tablespaces.as_slice())?;
    let work = async {
        until_answered(pod, &owner).await?;
        for dump in &dumps {
            println!("loads {}", dump.path().display());
            dump.load(&owner, psql(pod, "postgres")?).await?;
        }
        ready_now(pod)?;
        println!("everything is loaded; the server is ready");
        std::future::pending().await
    };
    serve(pod.place, &mut server, work).await
}

/// A server on the base copy that was restored, which recovers with the log beside it.
async fn physical(pod: &Pod<'_>, recover_before_end_seconds: Option<i64>) -> Result<(), String> {
    let moment =
        recover_before_end_seconds.map_or(Moment::End, |seconds| Moment::BeforeEnd(SignedDuration::from_secs(seconds)));
    let prepared = recover::prepare(Path::new(&super::data(pod.place)), moment)?;
    let settings = recover::settings(&prepared, &pod.place.at(SCRATCH_PATH)).await?;
    let end = prepared.until.unwrap_or(prepared.recoverable_until);
    println!("the copy recovers to {end}");
    let mut server = start(pod, &prepared.data, &settings)?;
    let work = async {
        // Nobody is answered before recovery has ended.
        until_answered(pod, &prepared.owner).await?;
        ready_now(pod)?;
        println!("recovery has ended; the server is ready");
        std::future::pending().await
    };
    serve(pod.place, &mut server, work).await
}

/// The server's end: by itself, because the work on it failed, or because the pod is ended.
async fn serve(
    place: &Place,
    server: &mut Child,
    work: impl Future<Output = Result<(), String>>,
) -> Result<(), String> {
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    let ended = tokio::select! {
        status = server.wait() => match status {
            Ok(status) => Err(format!("the server ended ({status})")),
            Err(error) => Err(format!("the server is lost: {error}")),
        },
        done = work => done,
        _ = terminate.recv() => Ok(()),
    };
    let _ = fs::remove_file(mark(place));
    stop(server).await;
    ended
}

/// Every dump at the top of the restored data.
fn dumps(data: &Path) -> Result<Vec<Dump>, String> {
    let failed = |error: std::io::Error| format!("{} cannot be read: {error}", data.display());
    let entries = fs::read_dir(data).map_err(failed)?.map(|entry| entry.map(|entry| entry.path()));
    let mut paths: Vec<PathBuf> = entries.collect::<Result<_, _>>().map_err(failed)?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "sql") && path.is_file());
    paths.sort();
    if paths.is_empty() {
        return Err("no dump was restored: the recovery point holds no file *.sql".to_owned());
    }
    paths.iter().map(|path| Dump::read(path)).collect()
}

/// Where the server's files are: on the volume, beside the restored data; if it may not be written there, in scratch space.
fn folder(place: &Place) -> Result<PathBuf, String> {
    let make = |path: &Path| fs::DirBuilder::new().mode(0o700).create(path);
    let on_volume = place.at(&format!("{RESTORED_PATH}/{SERVER_FOLDER}"));
    match make(&on_volume) {
        Ok(()) => return Ok(on_volume),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(format!("{} is there already: a server was started here before", on_volume.display()));
        }
        Err(error) => println!("{} cannot be made ({error}); scratch space is used", on_volume.display()),
    }
    let in_scratch = place.at(&format!("{SCRATCH_PATH}/{SERVER_FOLDER}"));
    make(&in_scratch).map_err(|error| format!("{} cannot be made: {error}", in_scratch.display()))?;
    Ok(in_scratch)
}

async fn initialize(folder: &Path, owner: &str) -> Result<(), String> {
    let mut initdb = Command::new(sql::program("initdb")?);
    initdb.arg("--pgdata").arg(folder).args(["--username", owner, "--auth=trust"]);
    // A dump says which encoding and locale its databases have.
    initdb.args(["--encoding=UTF8", "--locale=C", "--no-sync"]).stdin(Stdio::null()).stdout(Stdio::null());
    let status = initdb.status().await.map_err(|error| format!("initdb cannot be started: {error}"))?;
    if !status.success() {
        return Err(format!(
            "initdb failed ({status}); the user of the pod must be one that the image knows (application.postgres.runAsUser)"
        ));
    }
    let hba = folder.join("pg_hba.conf");
    fs::write(&hba, "local all all trust\nhost all all all trust\n")
        .map_err(|error| format!("{} cannot be written: {error}", hba.display()))
}

/// Starts a server on these files, with more settings than every server of a drill has.
///
/// # Errors
/// It cannot be started.
fn start(pod: &Pod<'_>, folder: &Path, more: &[String]) -> Result<Child, String> {
    let mut server = Command::new(sql::program("postgres")?);
    server.arg("-D").arg(folder).args(["-p", &pod.application.postgres_port.to_string()]);
    let sockets = format!("unix_socket_directories={}", pod.place.text(SCRATCH_PATH));
    let settings = [
        "listen_addresses=*",
        &sockets,
        "ssl=off",
        "fsync=off",
        "synchronous_commit=off",
        "full_page_writes=off",
        // Containers have little of /dev/shm.
        "dynamic_shared_memory_type=mmap",
        // Statements and details of errors quote data.
        "log_min_error_statement=panic",
        "log_error_verbosity=terse",
        "log_statement=none",
    ];
    server.args(settings.into_iter().chain(more.iter().map(String::as_str)).flat_map(|setting| ["-c", setting]));
    server.stdin(Stdio::null()).process_group(0).kill_on_drop(true);
    server.spawn().map_err(|error| format!("postgres cannot be started: {error}"))
}

/// psql through the socket.
fn psql(pod: &Pod<'_>, database: &str) -> Result<Command, String> {
    sql::psql(pod.run, &pod.place.text(SCRATCH_PATH), pod.application.postgres_port, database)
}

/// Waits until the server answers its owner, and makes the role of the run.
async fn until_answered(pod: &Pod<'_>, owner: &str) -> Result<(), String> {
    loop {
        let mut asked = psql(pod, "postgres")?;
        asked.env("PGUSER", owner).arg("--command");
        asked.arg(format!("CREATE ROLE \"{}\" SUPERUSER LOGIN", database_role(pod.run)));
        asked.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        if let Ok(Ok(status)) = time::timeout(QUESTION, asked.status()).await
            && status.success()
        {
            return Ok(());
        }
        // A server that cannot start ends, and that is noticed.
        time::sleep(Duration::from_millis(200)).await;
    }
}

/// A server that is asked to end throws its clients out and ends at once.
async fn stop(server: &mut Child) {
    let pid = server.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid {
        let _ = kill_process(pid, Signal::INT);
    }
    if time::timeout(ENDING, server.wait()).await.is_err() {
        let _ = server.kill().await;
    }
}

fn mark(place: &Place) -> PathBuf {
    place.at(&format!("{SCRATCH_PATH}/{READY}"))
}

fn ready_now(pod: &Pod<'_>) -> Result<(), String> {
    let mark = mark(pod.place);
    fs::write(&mark, pod.run).map_err(|error| format!("{} cannot be written: {error}", mark.display()))
}

/// Whether everything is loaded and the server answers a query.
///
/// # Errors
/// It is not, or does not.
pub(in super::super) async fn ready(place: &Place, application: &Application) -> Result<(), String> {
    let run = plan()?.run;
    if fs::read_to_string(mark(place)).ok().as_deref() != Some(run.as_str()) {
        return Err("the data is not loaded yet".to_owned());
    }
    let mut asked = psql(&Pod { place, run: &run, application }, "postgres")?;
    asked.args(["--tuples-only", "--no-align", "--command", "SELECT 1"]);
    match super::command::ask(asked, QUESTION).await? {
        ended if ended.code == Some(0) && ended.output.trim_ascii() == b"1" => Ok(()),
        ended => Err(format!("the server does not answer a query ({:?})", ended.code)),
    }
}
