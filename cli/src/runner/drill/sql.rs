//! psql against the server in the sandbox.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use interlock_core::drill::{expect::Scalar, plan::database_role, report::DrillReport};
use interlock_crds::SqlValidation;
use tokio::process::Command;

use super::super::install;
use super::{Pod, command, command::Ended, done, failed};

/// The server ends a query itself so long after the runner gave it up.
const GRACE: Duration = Duration::from_secs(1);
/// How long a connection may take, in seconds.
const CONNECT_SECONDS: &str = "10";

/// A program of PostgreSQL: found by the search path, or where Debian and Red Hat put them.
///
/// # Errors
/// The image has none.
pub(super) fn program(name: &str) -> Result<PathBuf, String> {
    let beside = || {
        let mut found: Vec<_> = ["/usr/lib/postgresql", "/usr"]
            .iter()
            .filter_map(|folder| fs::read_dir(folder).ok())
            .flat_map(|folder| folder.filter_map(Result::ok).map(|entry| entry.path().join("bin").join(name)))
            .filter(|path| path.to_string_lossy().contains("postgresql") || path.to_string_lossy().contains("pgsql"))
            .filter(|path| path.is_file())
            .collect();
        found.sort();
        found.pop()
    };
    install::find(name).or_else(beside).ok_or_else(|| {
        format!("this image has no {name}: name one of PostgreSQL in sandbox.application.postgres.image")
    })
}

/// psql as the superuser that the server of a run has.
///
/// # Errors
/// The image has none.
pub(super) fn psql(run: &str, host: &str, port: u16, database: &str) -> Result<Command, String> {
    let mut psql = Command::new(program("psql")?);
    psql.args(["--no-psqlrc", "--no-password", "--quiet", "--set=ON_ERROR_STOP=1"]);
    // The lines beside an error quote data.
    psql.arg("--set=VERBOSITY=terse");
    psql.env("PGHOST", host).env("PGPORT", port.to_string()).env("PGDATABASE", database);
    psql.env("PGUSER", database_role(run)).env("PGCONNECT_TIMEOUT", CONNECT_SECONDS).env("PGSSLMODE", "disable");
    psql.env("PGCLIENTENCODING", "UTF8");
    Ok(psql)
}

/// What a question came to.
pub(super) enum Answer {
    /// How psql ended, if not well.
    Bad(Ended),
    /// The only row of the answer, its first column; none if there was not exactly one row.
    Value(Option<String>),
}

/// Asks the server of the sandbox, in a transaction that cannot write.
///
/// # Errors
/// psql cannot be started.
pub(super) async fn ask(pod: &Pod<'_>, database: &str, query: &str, limit: Duration) -> Result<Answer, String> {
    let mut psql = psql(pod.run, &pod.application.application, pod.application.postgres_port, database)?;
    let limit_of_server = (limit + GRACE).as_millis();
    psql.env("PGOPTIONS", format!("-c default_transaction_read_only=on -c statement_timeout={limit_of_server}"));
    psql.args(["--tuples-only", "--csv", "--command", "BEGIN TRANSACTION READ ONLY", "--command"]);
    // A query that begins with a backslash would be a command of psql.
    psql.arg(format!("\n{query}"));
    let ended = command::ask(psql, limit).await?;
    if ended.code != Some(0) {
        return Ok(Answer::Bad(ended));
    }
    Ok(Answer::Value(String::from_utf8(ended.output).ok().and_then(|output| only_row(&output))))
}

/// A validation by a query: at most one number or boolean is told.
pub(super) async fn validate(
    pod: &Pod<'_>,
    sql: &SqlValidation,
    limit: Duration,
    report: &mut DrillReport,
) -> Result<(), String> {
    match ask(pod, &sql.database, &sql.query, limit).await? {
        Answer::Bad(ended) => bad(&ended, report),
        Answer::Value(value) => {
            match value.as_deref().and_then(Scalar::parse) {
                Some(Scalar::Number(number)) => report.number = Some(number),
                Some(Scalar::Boolean(boolean)) => report.boolean = Some(boolean),
                None => eprintln!("the answer is not one row whose first column is a number or a boolean"),
            }
            done(report);
        }
    }
    Ok(())
}

/// Notes how psql ended.
pub(super) fn bad(ended: &Ended, report: &mut DrillReport) {
    report.timed_out = ended.timed_out;
    report.signal = ended.signal;
    match ended.code {
        Some(code) => {
            failed(report, "psql did not end well");
            report.exit_code = Some(code);
        }
        None => report.exit_code = None,
    }
}

/// The first column of the only row of CSV; none if there are more rows, or none.
fn only_row(csv: &str) -> Option<String> {
    let mut quoted = false;
    let (mut first, mut in_first, mut rows) = (String::new(), true, 0);
    for character in csv.chars() {
        match character {
            '"' => quoted = !quoted,
            ',' if !quoted => in_first = false,
            '\n' if !quoted => {
                rows += 1;
                in_first = false;
            }
            other if in_first => first.push(other),
            _ => {}
        }
    }
    (rows == 1 && !quoted).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_row_is_an_answer_and_more_or_none_are_not() {
        assert_eq!(only_row("1500\n").as_deref(), Some("1500"));
        assert_eq!(only_row("t,\"a\nb\"\n").as_deref(), Some("t"));
        assert_eq!(only_row("\"a\n1\"\n").as_deref(), Some("a\n1"), "one value of two lines");
        assert_eq!(only_row("\n").as_deref(), Some(""), "null");
        assert_eq!([only_row(""), only_row("1\n2\n"), only_row("\"1\n")], [None, None, None]);
    }
}
