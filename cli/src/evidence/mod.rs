//! `interlock evidence`: statements about the content of a change, from a test report, a scan or a person.

pub mod junit;
mod sarif;

use std::{path::PathBuf, process::ExitCode};

use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use interlock_core::{change::Content, object::Digest};
use interlock_crds::{Evidence, EvidenceKind, EvidenceResult, EvidenceSpec, EvidenceSubject, SummaryEntry};
use kube::{
    Api,
    api::{ObjectMeta, PostParams},
};

use crate::{
    context::Context,
    error::CliError,
    manifests,
    output::{self, Format},
    ui::Ui,
};

/// Most bytes of a report.
const MAX_REPORT_BYTES: u64 = 32 * 1024 * 1024;

/// Commands about evidence.
#[derive(Subcommand, Debug)]
pub enum EvidenceCommand {
    /// State that the content of a change, or an artifact, was examined
    Submit(Box<SubmitArgs>),
}

/// What was examined, and what was found.
///
/// The report is counted here; the cluster keeps the counts, not the report. A report without a test counts as failed.
#[derive(Args, Debug)]
#[command(group = ArgGroup::new("subject").required(true).args(["change", "content_digest", "artifact_digest"]))]
#[command(group = ArgGroup::new("finding").required(true).args(["junit", "sarif", "passed", "failed"]))]
pub struct SubmitArgs {
    /// What kind of examination.
    #[arg(long, value_enum, ignore_case = true)]
    pub kind: Kind,
    /// The change whose content was examined: cr/NAME.
    #[arg(long = "for", value_name = "cr/NAME")]
    pub change: Option<String>,
    /// The content digest that was examined, as `propose --dry-run` prints it.
    #[arg(long, value_name = "sha256:...", value_parser = digest)]
    pub content_digest: Option<Digest>,
    /// The digest of the image that was examined.
    #[arg(long, value_name = "sha256:...", value_parser = digest)]
    pub artifact_digest: Option<Digest>,
    /// Count a JUnit XML report; `-` is standard input.
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// Count a SARIF 2.1 report; `-` is standard input.
    #[arg(long, value_name = "FILE")]
    pub sarif: Option<PathBuf>,
    /// It passed.
    #[arg(long)]
    pub passed: bool,
    /// It failed.
    #[arg(long)]
    pub failed: bool,
    /// Where the report can be read.
    #[arg(long)]
    pub uri: Option<String>,
    /// A count to add, such as `critical=0`; repeatable.
    #[arg(long, value_name = "NAME=NUMBER", value_parser = summary_entry)]
    pub summary: Vec<SummaryEntry>,
    /// How to print the created object.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

/// Kinds of examination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "PascalCase")]
#[allow(missing_docs)]
pub enum Kind {
    #[value(alias = "test-report")]
    TestReport,
    #[value(alias = "security-scan")]
    SecurityScan,
    #[value(alias = "stress-test")]
    StressTest,
    #[value(alias = "regression-test")]
    RegressionTest,
    #[value(alias = "data-migration")]
    DataMigration,
    #[value(alias = "penetration-test")]
    PenetrationTest,
    Document,
}

/// What a report says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Findings {
    /// Whether it counts as passed.
    pub passed: bool,
    /// Why, in a sentence.
    pub message: String,
    /// Counts by name.
    pub summary: Vec<(&'static str, i64)>,
}

fn digest(text: &str) -> Result<Digest, String> {
    text.parse().map_err(|error: interlock_core::object::DigestParseError| error.to_string())
}

fn summary_entry(text: &str) -> Result<SummaryEntry, String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=NUMBER, such as critical=0")?;
    if name.is_empty() || name.chars().count() > 63 {
        return Err("the name has 1 to 63 characters".to_owned());
    }
    let value = value.parse().map_err(|_| "the value is a whole number".to_owned())?;
    Ok(SummaryEntry { name: name.to_owned(), value })
}

/// Carries out a command about evidence.
pub async fn execute(command: &EvidenceCommand, context: &Context, ui: Ui) -> Result<ExitCode, CliError> {
    match command {
        EvidenceCommand::Submit(args) => submit(args, context, ui).await,
    }
}

async fn submit(args: &SubmitArgs, context: &Context, ui: Ui) -> Result<ExitCode, CliError> {
    // The report first: a broken one needs no cluster.
    let found = findings(args)?;
    let summary = summary(&found, &args.summary)?;
    let subject = subject(args, context).await?;
    let kind = evidence_kind(args.kind);
    let namespace = context.namespace_or_default();
    let evidence = Evidence {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", format!("{kind:?}").to_lowercase())),
            namespace: Some(namespace.clone()),
            ..ObjectMeta::default()
        },
        spec: EvidenceSpec {
            kind,
            subject,
            result: if found.passed { EvidenceResult::Passed } else { EvidenceResult::Failed },
            summary,
            uri: args.uri.clone(),
            issuer: context.whoami().await?,
            recorded: None,
        },
    };
    let api: Api<Evidence> = Api::namespaced(context.client.clone(), &namespace);
    let stored = api.create(&PostParams::default(), &evidence).await?;
    if args.output != Format::Table {
        output::print(&stored, args.output, ui)?;
        return Ok(ExitCode::SUCCESS);
    }
    let name = stored.metadata.name.clone().unwrap_or_default();
    let result = if found.passed { ui.good("Passed") } else { ui.bad("Failed") };
    ui.wrap(&format!("evidence/{name} recorded: {kind:?} {result}{}", because(&found)), 2);
    let about = &stored.spec.subject;
    let digest = about.content_digest.as_deref().or(about.artifact_digest.as_deref()).unwrap_or_default();
    ui.line(&ui.dim(&format!("about {digest}")));
    if let Some(change) = &args.change {
        let change = crate::context::change_name(change)?;
        ui.line(&ui.dim(&format!("next: interlock why cr/{change} -n {namespace}")));
    }
    Ok(ExitCode::SUCCESS)
}

fn because(found: &Findings) -> String {
    if found.message.is_empty() { String::new() } else { format!(" ({})", found.message) }
}

fn findings(args: &SubmitArgs) -> Result<Findings, CliError> {
    let read = |path: &PathBuf, count: fn(&str) -> Result<Findings, String>| {
        let text = String::from_utf8(manifests::read_bounded(path, MAX_REPORT_BYTES)?)
            .map_err(|_| CliError::Usage(format!("{} is not written in UTF-8", path.display())))?;
        count(&text).map_err(|why| CliError::Usage(format!("{}: {why}", path.display())))
    };
    match (&args.junit, &args.sarif) {
        (Some(path), _) => read(path, junit::read),
        (_, Some(path)) => read(path, sarif::read),
        (None, None) => Ok(Findings { passed: args.passed, message: String::new(), summary: Vec::new() }),
    }
}

/// The counts of the report, then the added ones.
fn summary(found: &Findings, added: &[SummaryEntry]) -> Result<Vec<SummaryEntry>, CliError> {
    let mut entries: Vec<SummaryEntry> =
        found.summary.iter().map(|(name, value)| SummaryEntry { name: (*name).to_owned(), value: *value }).collect();
    for entry in added {
        if entries.iter().any(|e| e.name == entry.name) {
            return Err(CliError::Usage(format!("--summary {}: the count is given already", entry.name)));
        }
        entries.push(entry.clone());
    }
    Ok(entries)
}

async fn subject(args: &SubmitArgs, context: &Context) -> Result<EvidenceSubject, CliError> {
    let mut content_digest = args.content_digest.map(|d| d.to_string());
    if let Some(name) = &args.change {
        let change = context.change(name).await?;
        // Computed, not read from status, which lags behind the latest edit.
        let content = Content::parse(&change.spec, &context.namespace_or_default()).map_err(|problems| {
            let why: Vec<_> = problems.into_iter().map(|p| p.message).collect();
            CliError::Refused(format!("{name} has no content digest: {}", why.join("; ")))
        })?;
        content_digest = Some(content.digest.to_string());
    }
    Ok(EvidenceSubject { content_digest, artifact_digest: args.artifact_digest.map(|d| d.to_string()) })
}

const fn evidence_kind(kind: Kind) -> EvidenceKind {
    match kind {
        Kind::TestReport => EvidenceKind::TestReport,
        Kind::SecurityScan => EvidenceKind::SecurityScan,
        Kind::StressTest => EvidenceKind::StressTest,
        Kind::RegressionTest => EvidenceKind::RegressionTest,
        Kind::DataMigration => EvidenceKind::DataMigration,
        Kind::PenetrationTest => EvidenceKind::PenetrationTest,
        Kind::Document => EvidenceKind::Document,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(subcommand)]
        command: EvidenceCommand,
    }

    fn parse(line: &str) -> Result<SubmitArgs, clap::Error> {
        let words = ["x", "submit"].into_iter().chain(line.split_whitespace());
        Line::try_parse_from(words).map(|line| match line.command {
            EvidenceCommand::Submit(args) => *args,
        })
    }

    #[test]
    fn exactly_one_subject_and_one_finding_are_given() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let args =
            parse(&format!("--kind securityscan --content-digest {digest} --passed --summary critical=0")).unwrap();
        assert_eq!(args.kind, Kind::SecurityScan);
        assert_eq!(args.content_digest.map(|d| d.to_string()), Some(digest));
        for line in [
            "--kind TestReport --passed",
            "--kind TestReport --for cr/a",
            "--kind TestReport --for cr/a --passed --failed",
            "--kind TestReport --for cr/a --junit a --sarif b",
            "--kind TestReport --content-digest sha256:12 --passed",
            "--kind Wish --for cr/a --passed",
            "--kind Document --for cr/a --passed --summary many",
            "--kind Document --for cr/a --passed --summary a=b",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn a_count_is_given_once() {
        let found = Findings { passed: true, message: String::new(), summary: vec![("tests", 3)] };
        let entry = |name: &str| SummaryEntry { name: name.to_owned(), value: 1 };
        assert_eq!(summary(&found, &[entry("ms")]).unwrap().len(), 2);
        assert!(summary(&found, &[entry("tests")]).is_err());
        assert!(summary(&found, &[entry("ms"), entry("ms")]).is_err());
    }

    #[test]
    fn a_plain_result_says_what_was_given() {
        assert!(findings(&parse("--kind Document --for cr/a --passed").unwrap()).unwrap().passed);
        assert!(!findings(&parse("--kind Document --for cr/a --failed").unwrap()).unwrap().passed);
    }
}
