//! From the text of a scenario file to what is played.

use interlock_core::calendar::format_local;
use jiff::{SignedDuration, Timestamp};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    BadInput,
    doings::Doing,
    expect::{self, Expectation, Where},
    folder::{Folder, documents},
    format::{ExpectFile, PersonFile, ScenarioFile, StepFile},
    perform::behaviours,
    times::{self, At},
};
use crate::faults::Faults;

/// A step that can be played.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// `FILE, step N`, for messages.
    pub place: String,
    /// When; none together with the step before.
    pub at: Option<At>,
    /// A line for those who read along.
    pub say: Option<String>,
    /// A question to the person who watches.
    pub ask: Option<String>,
    /// What is done.
    pub doing: Option<Doing>,
    /// Who does it.
    pub by: Option<String>,
    /// What must hold after it.
    pub expect: Vec<Expectation>,
}

/// A scenario that can be played.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scenario {
    /// Name of its file, for messages.
    pub file: String,
    /// What it shows.
    pub title: Option<String>,
    /// When it begins.
    pub start: Option<Timestamp>,
    /// How long it is played.
    pub length: Option<SignedDuration>,
    /// Of everything that is left to chance.
    pub seed: Option<u64>,
    /// Controllers at the same time.
    pub controllers: Option<usize>,
    /// In which zone times are told.
    pub time_zone: Option<String>,
    /// What goes wrong.
    pub faults: Faults,
    /// How programs behave.
    pub behaviours: Vec<Value>,
    /// Who takes part.
    pub people: std::collections::BTreeMap<String, PersonFile>,
    /// Who does what.
    pub steps: Vec<Step>,
    /// What must hold at the end.
    pub expect: Vec<Expectation>,
}

impl Scenario {
    /// Reads a scenario. `file` is its name for messages; files that it names are those of the folder.
    ///
    /// # Errors
    /// What is wrong, where, and at which step.
    pub fn parse(file: &str, text: &str, folder: &Folder) -> Result<Self, BadInput> {
        let mut found = documents(file, text)?;
        let (Some(document), None) = (found.pop(), found.pop()) else {
            return Err(BadInput(format!("{file}: a scenario is one YAML document")));
        };
        let read: ScenarioFile = typed(document).map_err(|error| BadInput(format!("{file}: {error}")))?;
        let mut steps = Vec::with_capacity(read.steps.len());
        for (position, value) in read.steps.into_iter().enumerate() {
            steps.push(step(file, position + 1, value, folder)?);
        }
        let mut expectations = Vec::with_capacity(read.expect.len());
        for (position, value) in read.expect.into_iter().enumerate() {
            let place = format!("{file}, expect {}", position + 1);
            expectations.push(expectation(&place, value, Where::End)?);
        }
        let start = read.start.as_deref().map(|text| {
            times::instant(text).ok_or_else(|| {
                BadInput(format!(
                    "{file}: start: {text:?} is no instant: write 2026-11-27T09:00+08:00 or 2026-11-27T09:00[Asia/Shanghai]"
                ))
            })
        });
        if let Some(zone) = &read.time_zone
            && format_local(Timestamp::UNIX_EPOCH, zone).contains(" UTC ")
            && !zone.eq_ignore_ascii_case("UTC")
        {
            return Err(BadInput(format!("{file}: timeZone: {zone:?} is not a time zone of the IANA database")));
        }
        behaviours(&read.behaviours).map_err(|error| BadInput(format!("{file}: behaviours: {error}")))?;
        Ok(Self {
            file: file.to_owned(),
            title: read.title,
            start: start.transpose()?,
            length: read.length,
            seed: read.seed,
            controllers: read.controllers,
            time_zone: read.time_zone,
            faults: read.faults,
            behaviours: read.behaviours,
            people: read.people,
            steps,
            expect: expectations,
        })
    }
}

/// A value of a type, with the words of the reader for what is wrong.
fn typed<T: DeserializeOwned>(value: Value) -> Result<T, String> {
    serde_json::from_value(value).map_err(|error| error.to_string())
}

fn step(file: &str, number: usize, value: Value, folder: &Folder) -> Result<Step, BadInput> {
    let place = match value.get("at").and_then(Value::as_str) {
        Some(at) => format!("{file}, step {number} (at {at})"),
        None => format!("{file}, step {number}"),
    };
    let bad = |error: String| BadInput(format!("{place}: {error}"));
    let read: StepFile = typed(value).map_err(bad)?;
    let doing = Doing::of(&read, folder).map_err(bad)?;
    if doing.is_none() && read.expect.is_empty() && read.say.is_none() {
        return Err(bad(
            "nothing happens in it: write one of propose, approve, reject, withdrawVote, withdraw, abort, \
                        rollback, pause, resume, rebase, apply, edit, delete, evidence, crash, loseNode, returnNode, behaviours, faults, \
                        say \
                        and expect"
                .to_owned(),
        ));
    }
    if doing.as_ref().is_some_and(Doing::needs_somebody) && read.by.is_none() {
        return Err(bad("it does not say who does it: add `by`".to_owned()));
    }
    if let Some(Doing::Behave(list)) = &doing {
        behaviours(list).map_err(|error| bad(format!("behaviours: {error}")))?;
    }
    if read.ask.is_some() && !matches!(doing, Some(Doing::Vote(..))) {
        return Err(bad("ask belongs to a step that approves or rejects".to_owned()));
    }
    let position = match &doing {
        Some(doing) if !matches!(doing, Doing::Crash | Doing::Behave(_) | Doing::Metric(..) | Doing::GoWrong(_)) => {
            Where::AfterAct
        }
        _ => Where::Step,
    };
    let mut expectations = Vec::with_capacity(read.expect.len());
    for (index, value) in read.expect.into_iter().enumerate() {
        expectations.push(expectation(&format!("{place}, expect {}", index + 1), value, position)?);
    }
    Ok(Step { at: read.at, say: read.say, ask: read.ask, doing, by: read.by, expect: expectations, place })
}

fn expectation(place: &str, value: Value, position: Where) -> Result<Expectation, BadInput> {
    let bad = |error: String| BadInput(format!("{place}: {error}"));
    let read: ExpectFile = typed(value).map_err(bad)?;
    expect::of_file(&read, place, position).map_err(bad)
}
