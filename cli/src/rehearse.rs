//! `rehearse`: a folder of manifests and a scenario, played in a simulated cluster. No cluster, kubeconfig or right is
//! needed. Exit codes: 0 every expectation was met, 1 one was not, 2 the folder or the scenario cannot be played.

mod html;
mod json;
mod junit;
pub mod lines;
pub mod text;

use std::{fs, path::PathBuf, process::ExitCode, thread};

use clap::{Args, ValueEnum};
use interlock_rehearsal::scenario::{BadInput, Folder, Replayed, Report, Scenario, play, replay};
use jiff::Timestamp;

use crate::{
    error::{CliError, exit},
    manifests::read_bounded,
    ui::Ui,
};

/// Most bytes of a scenario file.
const MAX_SCENARIO_BYTES: u64 = 16 * 1024 * 1024;

/// What to play, and how to tell it.
#[derive(Args, Debug)]
#[command(
    after_help = "Exit codes: 0 every expectation was met; 1 one was not; 2 the folder or the scenario cannot be played."
)]
pub struct RehearseArgs {
    /// Folder of manifests: what is in the cluster at the start, and changes that are proposed then.
    pub dir: PathBuf,
    /// Who does what and when, and what is expected.
    #[arg(long, value_name = "FILE")]
    pub scenario: Option<PathBuf>,
    /// How long to play, such as 90d. Default: as the scenario says, or a day after its last step.
    #[arg(long = "for", value_name = "TIME")]
    pub length: Option<interlock_crds::Duration>,
    /// Of everything that is left to chance; the same seed plays exactly the same. Default: as the scenario says, or 1.
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    pub format: ReportFormat,
    /// Write a JUnit report with a test case for each expectation.
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// Folder of exported ChangeRequests, Approvals and Evidence: say which of them the policies of DIR would have stopped.
    #[arg(long, value_name = "DIR")]
    pub replay: Option<PathBuf>,
}

/// How to print a rehearsal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
    /// One page, for a browser.
    Html,
}

/// Plays.
pub fn execute(args: &RehearseArgs, now: Timestamp, ui: Ui) -> Result<ExitCode, CliError> {
    apart(|| rehearse(args, now, ui))
}

/// Runs something on a thread of its own. The controllers of a simulated cluster are polled by its scheduler; within a task
/// of tokio they would share that task's budget, and all of them would stand still when it is spent.
pub fn apart<T: Send>(play: impl FnOnce() -> Result<T, CliError> + Send) -> Result<T, CliError> {
    let played = thread::scope(|scope| scope.spawn(play).join());
    played.unwrap_or_else(|_| {
        Err(CliError::Other("the rehearsal ended in a panic: this is a defect of Interlock".to_owned()))
    })
}

fn rehearse(args: &RehearseArgs, now: Timestamp, ui: Ui) -> Result<ExitCode, CliError> {
    let folder = Folder::read(&args.dir).map_err(usage)?;
    let mut scenario = match &args.scenario {
        Some(path) => {
            let name = path.display().to_string();
            let text = String::from_utf8(read_bounded(path, MAX_SCENARIO_BYTES)?)
                .map_err(|_| CliError::Usage(format!("{name} is no text: scenarios are written in UTF-8")))?;
            Scenario::parse(&name, &text, &folder).map_err(usage)?
        }
        None => Scenario { file: args.dir.display().to_string(), ..Scenario::default() },
    };
    // Without a start of its own a rehearsal begins now, at a full minute.
    let minute = Timestamp::from_second(now.as_second() / 60 * 60).unwrap_or(now);
    scenario.start.get_or_insert(minute);
    scenario.seed = args.seed.or(scenario.seed);
    scenario.length = args.length.map(interlock_crds::Duration::signed).or(scenario.length);
    let report = play(&folder, &scenario).map_err(usage)?;
    let replayed = match &args.replay {
        Some(path) => Some(replay(&folder, &Folder::read_export(path).map_err(usage)?).map_err(usage)?),
        None => None,
    };
    if let Some(path) = &args.junit {
        fs::write(path, junit::render(&report, &scenario.file))
            .map_err(|error| CliError::Other(format!("{} cannot be written: {error}", path.display())))?;
    }
    print(&report, replayed.as_deref(), args.format, ui)?;
    Ok(if report.is_met() { ExitCode::SUCCESS } else { ExitCode::from(exit::FAILED) })
}

fn print(report: &Report, replayed: Option<&[Replayed]>, format: ReportFormat, ui: Ui) -> Result<(), CliError> {
    match format {
        ReportFormat::Text => text::print(report, replayed, ui),
        ReportFormat::Json => ui.line(&json::render(report, replayed)?),
        ReportFormat::Html => ui.raw(&html::render(report, replayed)),
    }
    Ok(())
}

fn usage(error: BadInput) -> CliError {
    CliError::Usage(error.0)
}

#[cfg(test)]
mod tests {
    use interlock_rehearsal::scenario::{Entry, EntryKind, Outcome, Questions};

    use super::*;

    fn report() -> Report {
        let outcome = |met: bool| Outcome {
            place: "s.yaml, expect 1".to_owned(),
            text: "shop/a is <Succeeded>".to_owned(),
            met,
            found: "it is \"Pending\"\u{1b}[31m".to_owned(),
            at: Timestamp::UNIX_EPOCH,
        };
        Report {
            title: Some("<script>alert(1)</script>".to_owned()),
            seed: 1,
            start: Timestamp::UNIX_EPOCH,
            end: Timestamp::UNIX_EPOCH,
            time_zone: "UTC".to_owned(),
            steps: 0,
            timeline: vec![Entry::new(Timestamp::UNIX_EPOCH, EntryKind::Done, "alice creates <b>")],
            expectations: vec![outcome(true), outcome(false)],
            changes: Vec::new(),
            refusals: Vec::new(),
            questions: Questions::default(),
        }
    }

    /// More changes than a task of tokio has budget for locks (128) all start, though the command runs within a task.
    #[tokio::test]
    async fn many_changes_run_within_a_runtime() {
        const COUNT: usize = 150;
        let rules = r"
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: interlock.dev/v1alpha1
kind: Person
metadata: {name: alice}
spec: {displayName: {en: Alice}, identities: [alice]}
---
apiVersion: interlock.dev/v1alpha1
kind: ChangePolicy
metadata: {name: shop}
spec: {types: {standard: {templates: [{name: any, allow: [{kind: ConfigMap, path: /data/a, values: [after]}]}]}}}
---
apiVersion: interlock.dev/v1alpha1
kind: System
metadata: {name: shop}
spec:
  displayName: {en: Shop}
  tier: Low
  mode: Enforce
  namespaces: [shop]
  executor: {type: Interlock, serviceAccount: {namespace: shop, name: executor}}
  policyRef: {name: shop}
";
        let mut documents = vec![rules.to_owned()];
        for n in 0..COUNT {
            let config = format!("apiVersion: v1, kind: ConfigMap, metadata: {{name: c{n}, namespace: shop");
            let spec = format!(
                "title: t, reason: r, requester: alice, type: Standard, content: {{manifests: [{{{config}, \
                 annotations: {{interlock.dev/operation: Patch}}}}, data: {{a: after}}}}]}}"
            );
            let request = "apiVersion: interlock.dev/v1alpha1, kind: ChangeRequest";
            documents.push(format!("{{{config}}}, data: {{a: before}}}}\n"));
            documents.push(format!("{{{request}, metadata: {{name: c{n}, namespace: shop}}, spec: {{{spec}}}}}\n"));
        }
        let text = documents.join("---\n");
        let folder = Folder::embedded(&[("a.yaml", &text)]).expect("a folder");
        let scenario =
            Scenario::parse("s.yaml", "{start: '2026-11-23T08:00:00Z', for: 5m}", &folder).expect("a scenario");
        let report = apart(|| play(&folder, &scenario).map_err(usage)).expect("it plays");
        let succeeded = report.changes.iter().filter(|c| c.phase == interlock_crds::ChangePhase::Succeeded).count();
        assert_eq!(succeeded, COUNT);
    }

    #[test]
    fn each_expectation_is_a_test_case() {
        let xml = junit::render(&report(), "s.yaml");
        assert!(xml.contains("<testsuite name=\"s.yaml\" tests=\"2\" failures=\"1\""), "{xml}");
        assert_eq!(xml.matches("<testcase ").count(), 2);
        assert_eq!(xml.matches("<failure ").count(), 1);
        assert!(xml.contains("shop/a is &lt;Succeeded&gt;"), "{xml}");
        let read = crate::evidence::junit::read(&xml).expect("our own reader of reports understands it");
        assert!(!read.passed && read.message.contains("1 of 2"), "{}", read.message);
    }

    #[test]
    fn a_page_holds_texts_and_no_markup_of_others() {
        let page = html::render(&report(), Some(&[]));
        assert!(!page.contains("<script>") && !page.contains("<b>"), "{page}");
        assert!(page.contains("&lt;script&gt;") && page.contains("1 of 2 expectations met"), "{page}");
    }
}
