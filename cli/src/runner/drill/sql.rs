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
/// Codes of errors, or how they begin, whose text names parts of the query and of the server: no such table, column or function,
/// syntax; connection, login, no such database, resources, and the operator.
const NO_DATA: [&str; 9] = ["42P01", "42703", "42883", "42601", "08", "28", "3D000", "53", "57"];
/// Marks between which servers of several languages quote.
const QUOTES: [char; 8] = ['"', '«', '»', '“', '”', '„', '「', '」'];
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
    // The words of psql itself are read; those of the server have its language.
    psql.env("PGCLIENTENCODING", "UTF8").env("LC_ALL", "C");
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
    // Notices of a query are no answer, and may be many.
    let options = format!(
        "-c default_transaction_read_only=on -c statement_timeout={limit_of_server} -c client_min_messages=error"
    );
    psql.env("PGOPTIONS", options);
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
    let is_whole = (ended.output.len() as u64) < command::MOST_OUTPUT;
    let output = String::from_utf8(ended.output).ok().filter(|_| is_whole);
    Ok(Answer::Value(output.and_then(|output| only_row(&output))))
}

/// A validation by a query: at most one number or boolean is told.
pub(super) async fn validate(
    pod: &Pod<'_>,
    sql: &SqlValidation,
    limit: Duration,
    report: &mut DrillReport,
) -> Result<(), String> {
    match ask(pod, &sql.database, &sql.query, limit).await? {
        Answer::Bad(ended) => bad(&ended, &sql.query, report),
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

/// Notes how psql ended that was asked this.
pub(super) fn bad(ended: &Ended, query: &str, report: &mut DrillReport) {
    report.timed_out = ended.timed_out;
    report.signal = ended.signal;
    report.exit_code = ended.code;
    if ended.code.is_some() {
        because(report, &without_data(&String::from_utf8_lossy(&ended.errors), query));
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
}

/// Why psql did not answer a query, with the server's text only if it can have no data in it.
fn without_data(errors: &str, query: &str) -> String {
    // The text of a function of the database is its own, whatever code it chose.
    let is_raised = errors.lines().any(is_of_language);
    match errors.lines().find_map(Told::read) {
        Some(Told::Connection(why)) if !is_raised => why.to_owned(),
        Some(Told::Server(code, text)) if !is_raised && has_no_data(code, text, errors, query) => {
            format!("{text} (error {code} of PostgreSQL)")
        }
        Some(Told::Server(code, _)) => {
            format!("error {code} of PostgreSQL, whose text may quote data and stands in the log of the pod")
        }
        Some(Told::Connection(_)) | None => "psql did not end well".to_owned(),
    }
}

/// Whether the text of an error is of a kind that has no data in it, and quotes nothing but parts of the query.
fn has_no_data(code: &str, text: &str, errors: &str, query: &str) -> bool {
    let begins = |with: &str| errors.lines().any(|line| line.starts_with(with));
    // One that points into the query was found before any row was read; one of a query that was made of data shows that query.
    let is_of_query = !code.starts_with("42") || (begins("LINE ") && !begins("QUERY:"));
    let pieces: Vec<_> = text.split(QUOTES).collect();
    // Names of a query are told in small letters.
    let query = query.to_lowercase();
    let mut quoted = pieces.iter().skip(1).step_by(2);
    NO_DATA.iter().any(|kind| code.starts_with(*kind))
        && is_of_query
        && pieces.len() % 2 == 1
        && quoted.all(|part| query.contains(&part.trim().to_lowercase()))
}

/// Whether a line says that the message before it was raised by a procedural language: `LOCATION:  exec_stmt_raise, pl_exec.c:3911`.
fn is_of_language(line: &str) -> bool {
    line.rsplit_once(", ").is_some_and(|(_, file)| file.starts_with("pl") && file.contains(".c:"))
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
        let query = "SELECT count(*) FROM Filler WHERE note = 'x'";
        let table = "ERROR:  42P01: relation \"filler\" does not exist\nLINE 2: SELECT count(*) FROM Filler\n              ^\n\
                     LOCATION:  parserOpenTable, parse_relation.c:1392";
        assert_eq!(without_data(table, query), "relation \"filler\" does not exist (error 42P01 of PostgreSQL)");
        let ended = "ERROR:  57014: canceling statement due to statement timeout\nLOCATION:  ProcessInterrupts, postgres.c:3402";
        assert!(without_data(ended, query).starts_with("canceling statement due to"), "{}", without_data(ended, query));
        let server = "psql: error: connection to server at \"127.0.0.1\", port 5432 failed: Connection refused";
        assert!(without_data(server, query).starts_with("connection to server at \"127.0.0.1\""));
        assert_eq!(without_data("", query), "psql did not end well");
        for line in ["NOTICE:  00000: alice", "DETAIL:  Key (name)=(alice) exists.", "LINE 1: select 'alice'::int", ""]
        {
            assert!(Told::read(line).is_none(), "{line}");
        }
    }

    #[test]
    fn of_an_error_that_may_quote_data_the_code_is_told_alone() {
        let query = "SELECT owner::regclass FROM accounts";
        let raised = "LOCATION:  exec_stmt_raise, pl_exec.c:3911";
        for (code, errors) in [
            ("22P02", "FEHLER:  22P02: ungültige Eingabesyntax für Typ integer: »alice«".to_owned()),
            ("42P01", "ERROR:  42P01: relation \"alice\" does not exist".to_owned()),
            ("42P01", "ERROR:  42P01: relation \"alice\" does not exist\nLINE 2: SELECT owner".to_owned()),
            ("42883", "ERROR:  42883: operator does not exist: alice".to_owned()),
            ("42601", "ERROR:  42601: syntax error in tsquery: \"alice\"".to_owned()),
            ("42601", "ERROR:  42601: syntax error in tsquery: \"alice\nLINE 1: \"".to_owned()),
            (
                "42703",
                "ERROR:  42703: column alice.owner does not exist\nLINE 1: SELECT\nQUERY:  SELECT alice".to_owned(),
            ),
            ("3F000", "ERROR:  3F000: schema \"alice\" does not exist".to_owned()),
            ("42704", "ERROR:  42704: unrecognized configuration parameter \"alice\"".to_owned()),
            ("0A000", "ERROR:  0A000: cross-database references are not implemented: alice".to_owned()),
            ("XX000", "ERROR:  XX000: alice".to_owned()),
            ("42501", format!("ERROR:  42501: alice\nCONTEXT:  PL/pgSQL function f()\n{raised}")),
            ("57014", format!("ERROR:  57014: alice\n{raised}")),
        ] {
            let told = without_data(&errors, query);
            assert!(told.starts_with(&format!("error {code} of PostgreSQL")) && !told.contains("alice"), "{told}");
        }
        let noted = format!("NOTICE:  00000: look\npsql: error: alice\n{raised}");
        assert_eq!(without_data(&noted, query), "psql did not end well");
    }
}
