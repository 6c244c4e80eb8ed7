//! psql against the server in the sandbox.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use interlock_core::drill::{expect::Scalar, plan::database_role, report::DrillReport};
use interlock_crds::SqlValidation;
use tokio::process::Command;

use super::super::install;
use super::{Pod, because, command, command::Ended, done};

/// The server ends a query itself so long after the runner gave it up.
const GRACE: Duration = Duration::from_secs(1);
/// Classes of errors whose text quotes no data: connection, feature, state of the transaction, rights, names, syntax, resources,
/// limits, state of objects, the operator, the system, and inner ones.
const NO_DATA: [&str; 12] = ["08", "0A", "25", "28", "3D", "3F", "42", "53", "54", "55", "57", "XX"];
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
    // With the code of each error, which tells whether its text may quote data.
    psql.arg("--set=VERBOSITY=verbose");
    let ended = command::ask_and_hear(psql, limit).await?;
    for line in String::from_utf8_lossy(&ended.errors).lines().filter(|line| Told::read(line).is_some()) {
        eprintln!("{line}");
    }
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
    report.exit_code = ended.code;
    if ended.code.is_some() {
        let told = String::from_utf8_lossy(&ended.errors);
        let told = told.lines().find_map(Told::read).map(Told::without_data);
        because(report, &told.unwrap_or_else(|| "psql did not end well".to_owned()));
    }
}

/// The first line of an error of psql; the lines below it quote data.
enum Told<'a> {
    /// It has no connection; the server's reason.
    Connection(&'a str),
    /// The server's code (SQLSTATE) and text.
    Server(&'a str, &'a str),
}

impl<'a> Told<'a> {
    fn read(line: &'a str) -> Option<Self> {
        if let Some(why) = line.strip_prefix("psql: error: ") {
            return Some(Self::Connection(why));
        }
        // The word before it is in the server's language.
        let (code, text) = line.split_once(":  ")?.1.split_once(": ")?;
        let is_code = code.len() == 5 && code.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
        // Notices and warnings come from queries that go on.
        let goes_on = code.starts_with("00") || code.starts_with("01");
        (is_code && !goes_on).then_some(Self::Server(code, text))
    }

    /// The error, with its text only if such errors name nothing but parts of the query and of the server.
    fn without_data(self) -> String {
        match self {
            Self::Connection(why) => why.to_owned(),
            Self::Server(code, text) if code.get(..2).is_some_and(|class| NO_DATA.contains(&class)) => {
                format!("{text} (error {code} of PostgreSQL)")
            }
            Self::Server(code, _) => {
                format!("error {code} of PostgreSQL, whose text may quote data and stands in the log of the pod")
            }
        }
    }
}

/// The first column of the only row of CSV; none if there are more rows, or none.
fn only_row(csv: &str) -> Option<String> {
    let mut quoted = false;
    let (mut first, mut in_first, mut rows) = (String::new(), true, 0);
    let mut characters = csv.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if quoted && characters.next_if_eq(&'"').is_some() => first.extend(in_first.then_some('"')),
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
        assert_eq!(only_row("\"{\"\"seq\"\": 3, 4}\"\n").as_deref(), Some("{\"seq\": 3, 4}"), "JSON, quoted");
        assert_eq!([only_row(""), only_row("1\n2\n"), only_row("\"1\n")], [None, None, None]);
    }

    #[test]
    fn an_error_of_psql_is_told_without_data() {
        let told = |line| Told::read(line).map(Told::without_data);
        assert_eq!(
            told("ERROR:  42P01: relation \"filler\" does not exist").as_deref(),
            Some("relation \"filler\" does not exist (error 42P01 of PostgreSQL)")
        );
        let server = "psql: error: connection to server at \"127.0.0.1\", port 5432 failed: Connection refused";
        assert!(told(server).is_some_and(|why| why.starts_with("connection to server at \"127.0.0.1\"")));
        let of_data = told("FEHLER:  22P02: ungültige Eingabesyntax für Typ integer: »alice«").unwrap();
        assert!(of_data.starts_with("error 22P02 of PostgreSQL") && !of_data.contains("alice"), "{of_data}");
        for line in ["NOTICE:  00000: alice", "DETAIL:  Key (name)=(alice) exists.", "LINE 1: select 'alice'::int", ""]
        {
            assert_eq!(told(line), None, "{line}");
        }
    }
}
