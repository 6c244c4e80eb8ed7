//! What a scenario file says.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::Value;

use super::times::{self, At};
use crate::{
    faults::Faults,
    metrics::{Source, Values},
    vault::Trouble,
};

/// A scenario: who does what and when, what goes wrong, and what is expected.
///
/// ```yaml
/// start: 2026-11-27T09:00[Asia/Shanghai]
/// for: 7d
/// people:
///   zhou-lei: {away: [{from: 1d, to: 3d}]}
/// steps:
/// - {at: 10m, approve: teller/teller-2-4-0, by: chen-jie}
/// expect:
/// - {change: teller/teller-2-4-0, phase: Succeeded}
/// ```
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScenarioFile {
    /// What it shows, for people.
    #[serde(default)]
    pub title: Option<String>,
    /// When it begins: an instant, or a local time with its zone in brackets. Left out: what the caller says.
    #[serde(default)]
    pub start: Option<String>,
    /// How long it is played. Left out: until a day after the last step.
    #[serde(default, rename = "for", deserialize_with = "times::optional")]
    pub length: Option<SignedDuration>,
    /// Of everything that is left to chance: which of two things that could happen happens first.
    #[serde(default)]
    pub seed: Option<u64>,
    /// Controllers that run at the same time.
    #[serde(default)]
    pub controllers: Option<usize>,
    /// In which zone times are told. Left out: that of the folder's first Calendar, else UTC.
    #[serde(default)]
    pub time_zone: Option<String>,
    /// What goes wrong from the start on.
    #[serde(default)]
    pub faults: Faults,
    /// How programs behave from before the start on.
    #[serde(default)]
    pub behaviours: Vec<Value>,
    /// Who takes part, by user name or by the name of a Person of the folder. Needed for strangers, groups and holidays only.
    #[serde(default)]
    pub people: BTreeMap<String, PersonFile>,
    /// Who does what, in order.
    #[serde(default)]
    pub steps: Vec<Value>,
    /// What must hold at the end.
    #[serde(default)]
    pub expect: Vec<Value>,
}

/// Somebody who takes part.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PersonFile {
    /// Groups that the API server reports of them. Those of their Person count beside.
    #[serde(default)]
    pub groups: Vec<String>,
    /// When they are on holiday: what they would do then does not happen.
    #[serde(default)]
    pub away: Vec<AwaySpan>,
}

/// A holiday.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AwaySpan {
    /// Its begin.
    pub from: At,
    /// Its end, exclusive.
    pub to: At,
}

/// One step: when, and exactly one thing that somebody does or that happens. A step of `say` or `expect` alone is fine.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StepFile {
    /// When. Left out: together with the step before, after it.
    pub at: Option<At>,
    /// A line for those who read along, told before.
    pub say: Option<String>,
    /// Proposes a change: a ChangeRequest, or `{file: FILE}` of the folder, with `name` where the file holds several. Its
    /// requester does, or `by`.
    pub propose: Option<Value>,
    /// Votes for the change `namespace/name`.
    pub approve: Option<String>,
    /// Votes against the change.
    pub reject: Option<String>,
    /// Takes one's vote on the change back.
    pub withdraw_vote: Option<String>,
    /// Takes the change itself back.
    pub withdraw: Option<String>,
    /// Stops the change; what it wrote goes back.
    pub abort: Option<String>,
    /// Goes back from a change that is paused after a failure.
    pub rollback: Option<String>,
    /// Holds a running change.
    pub pause: Option<String>,
    /// Lets a change go on.
    pub resume: Option<String>,
    /// Commands the gray release of a change.
    pub rollout: Option<RolloutFile>,
    /// Signs the step or wave of the gray release of the change that waits for signatures.
    pub sign: Option<String>,
    /// Refuses to sign it.
    pub refuse_to_sign: Option<String>,
    /// Accepts the live state as the new base of the change.
    pub rebase: Option<String>,
    /// Applies an object as `kubectl apply` does: the object, or `{file: FILE}` as for `propose`.
    pub apply: Option<Value>,
    /// Edits the object `Kind/namespace/name` as `kubectl edit` does; `patch` says how.
    pub edit: Option<String>,
    /// The merge patch of `edit`.
    pub patch: Option<Value>,
    /// Deletes the object `Kind/namespace/name`.
    pub delete: Option<String>,
    /// States evidence about the content of a change.
    pub evidence: Option<EvidenceFile>,
    /// What an analysis measures from now on.
    pub metric: Option<MetricFile>,
    /// Asks for a backup of the policy `namespace/name` now.
    pub backup: Option<String>,
    /// Asks for a run of the drill `namespace/name` now.
    pub drill: Option<String>,
    /// What goes wrong with pods of backups and drills from now on.
    pub trouble: Option<TroubleFile>,
    /// Kills the controller that leads.
    pub crash: Option<bool>,
    /// A node, `node-1` to `node-3`, is not heard of any more.
    pub lose_node: Option<String>,
    /// The node is back.
    pub return_node: Option<String>,
    /// From now on programs behave so, instead of as before.
    pub behaviours: Option<Vec<Value>>,
    /// From now on this goes wrong, instead of what went wrong before.
    pub faults: Option<Faults>,
    /// Who does it: a user name, or the name of a Person of the folder.
    pub by: Option<String>,
    /// Why, for commands.
    pub reason: Option<String>,
    /// In `interlock demo --interactive` the person who watches decides here: approve, reject or wait. This is the question.
    pub ask: Option<String>,
    /// What must hold after it, or `within` so long after it.
    #[serde(default)]
    pub expect: Vec<Value>,
}

/// A command on a gray release, such as `{change: mobile/mobile-4-8-0, verb: promoteFully}`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RolloutFile {
    /// Its change, `namespace/name`.
    pub change: String,
    /// The command.
    pub verb: RolloutVerb,
}

/// What goes wrong with pods of backups and drills from now on:
///
/// ```yaml
/// trouble: {namespace: teller, pods: teller-db-, with: WrongPassword}
/// trouble: {pods: validation-, with: WrongAnswer}
/// trouble: {pods: validation-, with: Nothing}
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TroubleFile {
    /// Namespace of the pods. Left out: any, as sandboxes have names that follow from uids.
    #[serde(default = "any_namespace")]
    pub namespace: String,
    /// How names of their Jobs, or of pods without one, begin: `POLICY-` for backups, `DRILL-` for restores, `probe`,
    /// `validation-0`, `application` in sandboxes.
    pub pods: String,
    /// What goes wrong.
    pub with: TroubleKind,
}

fn any_namespace() -> String {
    "*".to_owned()
}

/// What can go wrong with pods of backups and drills.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum TroubleKind {
    /// Nothing any more.
    Nothing,
    /// The repository has another password.
    WrongPassword,
    /// There is no repository at its address.
    RepositoryMissing,
    /// Some files of the source cannot be read.
    UnreadableFiles,
    /// The source has no files.
    EmptySource,
    /// Data in the repository is damaged.
    DamagedData,
    /// The restore says that all is well, and restores nothing.
    NothingRestored,
    /// The network lets a sandbox reach others.
    OpenNetwork,
    /// A validation does not hold.
    WrongAnswer,
    /// The pod ends without a word.
    Silence,
}

impl TroubleKind {
    /// What the pods do.
    pub fn trouble(self) -> Option<Trouble> {
        Some(match self {
            Self::Nothing => return None,
            Self::WrongPassword => Trouble::Opens(12),
            Self::RepositoryMissing => Trouble::Opens(10),
            Self::UnreadableFiles => Trouble::Partial,
            Self::EmptySource => Trouble::Empty,
            Self::DamagedData => Trouble::Restores(1, "ciphertext verification failed".to_owned()),
            Self::NothingRestored => Trouble::Lies,
            Self::OpenNetwork => Trouble::Unenforced,
            Self::WrongAnswer => Trouble::Wrong,
            Self::Silence => Trouble::Silent,
        })
    }
}

/// Commands on a gray release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "they are those of an Action")]
pub enum RolloutVerb {
    Promote,
    PromoteFully,
    Pause,
    Resume,
    Skip,
    Abort,
    Retry,
}

impl From<RolloutVerb> for interlock_crds::Verb {
    fn from(verb: RolloutVerb) -> Self {
        match verb {
            RolloutVerb::Promote => Self::Promote,
            RolloutVerb::PromoteFully => Self::PromoteFully,
            RolloutVerb::Pause => Self::Pause,
            RolloutVerb::Resume => Self::Resume,
            RolloutVerb::Skip => Self::Skip,
            RolloutVerb::Abort => Self::Abort,
            RolloutVerb::Retry => Self::Retry,
        }
    }
}

/// Evidence about a change.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EvidenceFile {
    /// The change, `namespace/name`.
    pub change: String,
    /// What was examined.
    pub kind: interlock_crds::EvidenceKind,
    /// Whether it passed. Left out: it did.
    #[serde(default = "passed")]
    pub result: interlock_crds::EvidenceResult,
}

/// What an analysis measures from now on, in one of these forms:
///
/// ```yaml
/// metric: {analysis: errors, value: 0.002}
/// metric: {analysis: latency, value: [0.2, 0.3, 0.25], stable: [0.2, 0.21], every: 15s}
/// metric: {analysis: errors, empty: true}
/// metric: {analysis: errors, fails: prometheus does not answer}
/// metric: {analysis: errors, missing: Secret prometheus does not exist}
/// ```
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MetricFile {
    /// Name of the analysis.
    pub analysis: String,
    /// Value of the new version, or values by turns; of an HTTP analysis the status.
    pub value: Option<Values>,
    /// The same of the old version. Left out: as the new one.
    pub stable: Option<Values>,
    /// How long each of several values lasts. Left out: 30s.
    #[serde(default, deserialize_with = "times::optional")]
    pub every: Option<SignedDuration>,
    /// The source has no data.
    pub empty: Option<bool>,
    /// The source does not answer, with these words.
    pub fails: Option<String>,
    /// Something without which it cannot be asked is missing: this.
    pub missing: Option<String>,
}

impl MetricFile {
    /// What the source says.
    pub fn source(&self) -> Result<Source, String> {
        let value = self.value.clone().map(|value| Source::Says {
            stable: self.stable.clone().unwrap_or_else(|| value.clone()),
            value,
            every: self.every.unwrap_or(SignedDuration::from_secs(30)),
        });
        let empty = (self.empty == Some(true)).then_some(Source::Empty);
        let fails = self.fails.clone().map(Source::Fails);
        let mut given = value.into_iter().chain(empty).chain(fails).chain(self.missing.clone().map(Source::Missing));
        match (given.next(), given.next()) {
            (Some(source), None) => Ok(source),
            _ => Err("give exactly one of value, empty, fails and missing".to_owned()),
        }
    }
}

fn passed() -> interlock_crds::EvidenceResult {
    interlock_crds::EvidenceResult::Passed
}

/// One expectation, in one of these forms; times are offsets from the start, or instants:
///
/// ```yaml
/// - {change: teller/teller-2-4-0, phase: Succeeded, within: 10m}
/// - {change: teller/teller-2-4-0, waitsFor: Window}
/// - {change: teller/teller-2-4-0, gate: Approval, state: Closed, reason: VotesMissing}
/// - {change: teller/teller-2-4-0, started: {after: 2d, before: 4d, inFreeze: false}}
/// - {change: teller/teller-2-4-0, started: {never: true}}
/// - {refused: true, contains: SelfApproval}
/// - {object: Deployment/teller/teller, path: /spec/replicas, equals: 3}
/// - {object: ConfigMap/teller/gone, absent: true}
/// ```
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExpectFile {
    /// The change that it is about, `namespace/name`.
    pub change: Option<String>,
    /// It is in this phase, or comes there `within` so long.
    pub phase: Option<interlock_crds::ChangePhase>,
    /// So long after the step; at the end of the file: so long after the change was proposed.
    #[serde(default, deserialize_with = "times::optional")]
    pub within: Option<SignedDuration>,
    /// This gate holds it back.
    pub waits_for: Option<String>,
    /// This gate is as `state` and `reason` say.
    pub gate: Option<String>,
    /// State of the gate.
    pub state: Option<interlock_crds::GateState>,
    /// Reason of the gate.
    pub reason: Option<String>,
    /// When it started.
    pub started: Option<SpanFile>,
    /// When it ended.
    pub ended: Option<SpanFile>,
    /// Whether what the step did was refused.
    pub refused: Option<bool>,
    /// The refusal, or the gate's message, holds this text.
    pub contains: Option<String>,
    /// An object, `Kind/namespace/name`.
    pub object: Option<String>,
    /// A place in it, as a JSON pointer.
    pub path: Option<String>,
    /// What stands there.
    pub equals: Option<Value>,
    /// Whether the object, or what would stand at `path`, is not there.
    pub absent: Option<bool>,
}

/// What is expected of a moment.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SpanFile {
    /// Not before this.
    pub after: Option<At>,
    /// Before this.
    pub before: Option<At>,
    /// Whether a freeze of the change's calendar lasted then.
    pub in_freeze: Option<bool>,
    /// Whether a window of the change's calendar was open then.
    pub in_window: Option<bool>,
    /// It has not come.
    pub never: Option<bool>,
}

/// An inclusive begin and an exclusive end.
pub(super) type Span = (Timestamp, Timestamp);
