//! A dump of a PostgreSQL server as one stream of SQL: roles and tablespaces, then each database in one transaction.

use std::fs;

use interlock_core::backup::plan::SECRETS_PATH;
use interlock_crds::SslMode;
use tokio::process::Command;

use super::{Place, ending};

/// A server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Server<'a> {
    /// Host.
    pub host: &'a str,
    /// Port.
    pub port: u16,
    /// How the connection is secured.
    pub ssl_mode: SslMode,
}

/// Reads a key of the source's Secret.
fn secret(place: &Place, key: &str) -> Option<String> {
    let text = fs::read_to_string(place.at(SECRETS_PATH).join("source").join(key)).ok()?;
    Some(text.trim_end_matches('\n').to_owned())
}

/// The password, so that it is told to nobody.
pub(super) fn password(place: &Place) -> Option<String> {
    secret(place, "password")
}

/// A client program, with the address and the credentials in its environment.
pub(super) fn client(place: &Place, server: &Server<'_>, program: &str) -> Command {
    let mut command = Command::new(program);
    let mode = match server.ssl_mode {
        SslMode::Disable => "disable",
        SslMode::Require => "require",
        SslMode::VerifyCa => "verify-ca",
        SslMode::VerifyFull => "verify-full",
    };
    command.env("PGHOST", server.host).env("PGPORT", server.port.to_string()).env("PGSSLMODE", mode);
    command.env("PGSSLROOTCERT", place.at(SECRETS_PATH).join("source/ca.crt")).env("PGCONNECT_TIMEOUT", "30");
    command.envs(secret(place, "username").map(|user| ("PGUSER", user)));
    command.envs(secret(place, "password").map(|password| ("PGPASSWORD", password)));
    command
}

/// Asks for one column.
async fn ask(place: &Place, server: &Server<'_>, query: &str) -> Result<Vec<String>, i32> {
    let mut psql = client(place, server, "psql");
    psql.args(["--no-psqlrc", "--tuples-only", "--no-align", "--dbname", "postgres", "--command", query]);
    let answer = psql.stderr(std::process::Stdio::inherit()).output().await;
    match answer {
        Ok(answer) if answer.status.success() => {
            Ok(String::from_utf8_lossy(&answer.stdout).lines().map(ToOwned::to_owned).collect())
        }
        Ok(answer) => Err(answer.status.code().unwrap_or(1)),
        Err(error) => Err(super::source::failed(&format!("psql cannot be started: {error}"))),
    }
}

/// What psql answers to one statement in a database, without its column names.
///
/// # Errors
/// What it wrote to its standard error, or that it took longer than `limit`.
pub(super) async fn psql(
    place: &Place,
    server: &Server<'_>,
    database: &str,
    statement: &str,
    limit: std::time::Duration,
) -> Result<String, String> {
    let mut psql = client(place, server, "psql");
    psql.args(["--no-psqlrc", "--no-password", "--quiet", "--tuples-only", "--no-align"]);
    psql.args(["--dbname", database, "--command", statement]).stdin(std::process::Stdio::null()).kill_on_drop(true);
    let answer = tokio::select! {
        answer = tokio::time::timeout(limit, psql.output()) => answer,
        () = ending::asked() => return Err("this pod is being ended".to_owned()),
    };
    let answer = answer
        .map_err(|_| format!("the server did not answer within {} s", limit.as_secs()))?
        .map_err(|error| format!("psql cannot be started: {error}"))?;
    if answer.status.success() {
        return Ok(String::from_utf8_lossy(&answer.stdout).into_owned());
    }
    let told = String::from_utf8_lossy(&answer.stderr);
    let told = told.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    Err(if told.is_empty() { "psql failed and said nothing".to_owned() } else { told })
}

/// The server's major version.
pub(super) async fn version(place: &Place, server: &Server<'_>) -> Option<u32> {
    let answer = ask(place, server, "show server_version_num").await.ok()?;
    Some(answer.first()?.trim().parse::<u32>().ok()? / 10_000)
}

/// Writes the dump to standard output. The first program that fails ends it, with its exit code.
pub(super) async fn dump(place: &Place, server: &Server<'_>, databases: &[String]) -> i32 {
    match dumped(place, server, databases).await {
        Ok(()) => 0,
        Err(code) => code,
    }
}

async fn dumped(place: &Place, server: &Server<'_>, databases: &[String]) -> Result<(), i32> {
    let is_superuser = ask(place, server, "select rolsuper from pg_roles where rolname = current_user").await?;
    let mut globals = client(place, server, "pg_dumpall");
    globals.args(["--globals-only", "--database", "postgres"]);
    if is_superuser.first().map(String::as_str) != Some("t") {
        eprintln!("the user is no superuser, so the passwords of roles are not in the dump");
        globals.arg("--no-role-passwords");
    }
    run(globals, "pg_dumpall").await?;
    let all = "select datname from pg_database where datallowconn and not datistemplate order by datname";
    let databases = if databases.is_empty() { ask(place, server, all).await? } else { databases.to_vec() };
    for database in databases {
        let mut dump = client(place, server, "pg_dump");
        // The database itself is made only where it is not there already, as `postgres` is.
        let create = database != "postgres";
        if !create {
            use std::io::Write as _;
            let mut out = std::io::stdout();
            out.write_all(b"\\connect postgres\n").and_then(|()| out.flush()).map_err(|_| 1)?;
        }
        dump.args(create.then_some("--create")).args(["--format=plain", "--dbname", &database]);
        run(dump, "pg_dump").await?;
    }
    Ok(())
}

async fn run(mut command: Command, name: &str) -> Result<(), i32> {
    match command.status().await {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(status.code().filter(|code| *code != 0).unwrap_or(1)),
        Err(error) => Err(super::source::failed(&format!("{name} cannot be started: {error}"))),
    }
}
