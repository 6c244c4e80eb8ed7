//! The command line of `interlock propose`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use interlock_crds::{ChangeType, DependsOn, Duration, OnFailure, RiskLevel, Schedule};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{place::Operation, request};
use crate::output::Format;

/// Proposes a change made of plain manifests.
///
/// Shows what would differ from the live objects, then creates a ChangeRequest. Secrets are staged: their values are
/// stored in a Secret of their own and appear neither in the request nor in the diff.
#[derive(Args, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is a switch of its own on the command line")]
pub struct ProposeArgs {
    /// Files or directories of manifests, `-` for standard input; repeatable.
    #[arg(short = 'f', long = "filename", required = true, value_name = "FILES")]
    pub files: Vec<PathBuf>,
    /// What the change is, in a few words. Default: inferred from the diff.
    #[arg(long, value_parser = title)]
    pub title: Option<String>,
    /// Why it is needed.
    #[arg(long, value_parser = reason)]
    pub reason: String,
    /// Type of the change.
    #[arg(long = "type", value_enum, default_value_t, value_name = "TYPE")]
    pub type_: Type,
    /// Raise the computed risk to at least this.
    #[arg(long, value_enum, value_name = "LEVEL")]
    pub minimum_risk: Option<Risk>,
    /// Do not start before this instant (RFC 3339, such as 2026-11-24T22:00:00+08:00).
    #[arg(long, value_name = "TIME", value_parser = instant)]
    pub not_before: Option<Timestamp>,
    /// The change expires if it has not started by this instant.
    #[arg(long, value_name = "TIME", value_parser = instant)]
    pub expires_at: Option<Timestamp>,
    /// A change that must have succeeded before; repeatable.
    #[arg(long, value_name = "[NAMESPACE/]NAME", value_parser = depends_on)]
    pub depends_on: Vec<DependsOn>,
    /// Carry the change out gradually, by this RolloutPlan of the namespace. Default: that of the System, if it names one.
    #[arg(long, value_name = "NAME", value_parser = name, conflicts_with = "delete")]
    pub rollout_plan: Option<String>,
    /// What happens when the change fails.
    #[arg(long, value_enum, default_value_t, value_name = "WHAT")]
    pub on_failure: Failure,
    /// How long an object may take to become healthy, such as 90s or 10m.
    #[arg(long, value_name = "DURATION", default_value = "10m")]
    pub progress_deadline: Duration,
    /// Name of the ChangeRequest. Default: inferred from title and content.
    #[arg(long, value_parser = name)]
    pub name: Option<String>,
    /// The manifests are parts of their objects: nothing that they leave out is removed.
    #[arg(long, conflicts_with = "delete")]
    pub patch: bool,
    /// Delete the objects.
    #[arg(long)]
    pub delete: bool,
    /// Do not ask.
    #[arg(short, long)]
    pub yes: bool,
    /// Show the diff, the content digest and the request, and create nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// How to print; json and yaml print the created object only.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

/// Types of change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Type {
    /// Voted on.
    #[default]
    Normal,
    /// Authorised in advance by a template of the policy.
    Standard,
    /// Fewer votes and no window, with an open incident.
    Emergency,
}

/// Levels of risk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub enum Risk {
    Low,
    Medium,
    High,
    Critical,
}

/// What happens when a change fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Failure {
    /// It goes back by itself.
    #[default]
    Rollback,
    /// It waits for a person.
    Pause,
}

impl ProposeArgs {
    /// What a command that makes the objects itself proposes: all that it does not ask for is as if it was left out.
    pub fn of(reason: &str, yes: bool, dry_run: bool) -> Self {
        Self {
            files: Vec::new(),
            title: None,
            reason: reason.to_owned(),
            type_: Type::Normal,
            minimum_risk: None,
            not_before: None,
            expires_at: None,
            depends_on: Vec::new(),
            rollout_plan: None,
            on_failure: Failure::Rollback,
            progress_deadline: Duration::from_seconds(600),
            name: None,
            patch: false,
            delete: false,
            yes,
            dry_run,
            output: Format::Table,
        }
    }

    /// What the manifests are for.
    pub const fn operation(&self) -> Operation {
        match (self.patch, self.delete) {
            (_, true) => Operation::Delete,
            (true, _) => Operation::Patch,
            (false, false) => Operation::AsWritten,
        }
    }

    /// The type as the API knows it.
    pub const fn change_type(&self) -> ChangeType {
        match self.type_ {
            Type::Normal => ChangeType::Normal,
            Type::Standard => ChangeType::Standard,
            Type::Emergency => ChangeType::Emergency,
        }
    }

    /// The risk as the API knows it.
    pub fn minimum_risk(&self) -> Option<RiskLevel> {
        self.minimum_risk.map(|risk| match risk {
            Risk::Low => RiskLevel::Low,
            Risk::Medium => RiskLevel::Medium,
            Risk::High => RiskLevel::High,
            Risk::Critical => RiskLevel::Critical,
        })
    }

    /// The answer to failure as the API knows it.
    pub const fn on_failure(&self) -> OnFailure {
        match self.on_failure {
            Failure::Rollback => OnFailure::Rollback,
            Failure::Pause => OnFailure::Pause,
        }
    }

    /// The schedule, if any instant is given.
    pub fn schedule(&self) -> Option<Schedule> {
        (self.not_before.is_some() || self.expires_at.is_some())
            .then(|| Schedule { not_before: self.not_before.map(Time), expires_at: self.expires_at.map(Time) })
    }
}

fn bounded(text: &str, most: usize) -> Result<String, String> {
    match text.chars().count() {
        0 => Err("it is empty".to_owned()),
        count if count > most => Err(format!("it has {count} characters, at most {most} are kept")),
        _ => Ok(text.to_owned()),
    }
}

fn title(text: &str) -> Result<String, String> {
    bounded(text, 200)
}

fn reason(text: &str) -> Result<String, String> {
    bounded(text, 4096)
}

fn name(text: &str) -> Result<String, String> {
    if request::is_name(text) {
        Ok(text.to_owned())
    } else {
        Err("a name has at most 63 characters: small letters, digits, - and ., at its ends a letter or digit"
            .to_owned())
    }
}

fn instant(text: &str) -> Result<Timestamp, String> {
    text.parse().map_err(|_| "write an instant with its offset, such as 2026-11-24T22:00:00+08:00".to_owned())
}

fn depends_on(text: &str) -> Result<DependsOn, String> {
    let text = text.strip_prefix("cr/").unwrap_or(text);
    let (namespace, name) = match text.split_once('/') {
        Some((namespace, name)) => (Some(namespace), name),
        None => (None, text),
    };
    if !request::is_name(name) || !namespace.is_none_or(request::is_name) {
        return Err("write NAME or NAMESPACE/NAME of a change".to_owned());
    }
    Ok(DependsOn { namespace: namespace.map(str::to_owned), name: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        propose: ProposeArgs,
    }

    fn parse(line: &str) -> Result<ProposeArgs, clap::Error> {
        Line::try_parse_from(["x"].into_iter().chain(line.split_whitespace())).map(|line| line.propose)
    }

    #[test]
    fn options_become_what_the_api_knows() {
        let args = parse(
            "-f a.yaml -f b --reason CD-1 --type emergency --minimum-risk high --on-failure pause \
             --not-before 2026-11-24T22:00:00+08:00 --depends-on other/a --depends-on cr/b --progress-deadline 90s",
        )
        .unwrap();
        assert_eq!(args.files.len(), 2);
        assert_eq!(args.change_type(), ChangeType::Emergency);
        assert_eq!(args.minimum_risk(), Some(RiskLevel::High));
        assert_eq!(args.on_failure(), OnFailure::Pause);
        assert_eq!(args.progress_deadline.seconds(), 90);
        let schedule = args.schedule().unwrap();
        assert_eq!(serde_json::to_value(&schedule).unwrap(), serde_json::json!({"notBefore": "2026-11-24T14:00:00Z"}));
        let named: Vec<_> = args.depends_on.iter().map(|d| (d.namespace.as_deref(), d.name.as_str())).collect();
        assert_eq!(named, [(Some("other"), "a"), (None, "b")]);
        assert_eq!(args.operation(), Operation::AsWritten);
    }

    #[test]
    fn a_wrong_line_is_refused() {
        for line in [
            "-f a",
            "--reason x",
            "-f a --reason x --type Wish",
            "-f a --reason x --not-before tomorrow",
            "-f a --reason x --not-before 2026-11-24T22:00:00",
            "-f a --reason x --depends-on a/b/c",
            "-f a --reason x --name A",
            "-f a --reason x --progress-deadline 5",
            "-f a --reason x --patch --delete",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
        assert!(Line::try_parse_from(["x", "-f", "a", "--reason", ""]).is_err());
    }
}
