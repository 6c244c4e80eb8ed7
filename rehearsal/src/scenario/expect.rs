//! What is expected, and whether it is so.

use interlock_core::calendar::{WindowState, format_local};
use interlock_crds::{ChangePhase, ChangeRequest, GateState};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::{
    board::Board,
    doings::{ObjectRef, change},
    format::{ExpectFile, SpanFile},
    look,
    times::{At, duration_text},
    words::refusal,
};
use crate::{people::Change, world::World};

/// Where an expectation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Where {
    /// In a step in which somebody does something.
    AfterAct,
    /// In another step.
    Step,
    /// At the end.
    End,
}

/// Something that is expected.
#[derive(Clone, Debug, PartialEq)]
pub struct Expectation {
    /// Where it stands, for messages.
    pub place: String,
    /// What is expected, in a sentence.
    pub text: String,
    /// How long it may take.
    pub within: Option<SignedDuration>,
    check: Check,
}

#[derive(Clone, Debug, PartialEq)]
enum Check {
    Phase(Change, ChangePhase),
    WaitsFor(Change, String),
    Gate { change: Change, gate: String, state: Option<GateState>, reason: Option<String>, contains: Option<String> },
    Moment { change: Change, ended: bool, span: SpanFile },
    Act { refused: bool, contains: Option<String> },
    Object { object: ObjectRef, path: String, wanted: Wanted },
}

#[derive(Clone, Debug, PartialEq)]
enum Wanted {
    Value(Value),
    Present,
    Absent,
}

/// What an expectation is judged by.
pub(super) struct Sight<'a> {
    pub world: &'a World,
    pub board: &'a Board,
    pub start: Timestamp,
    /// In which zone times are told.
    pub zone: &'a str,
    /// From when `within` counts; none at the end.
    pub since: Option<Timestamp>,
    /// What came of the step: the refusal, if it was one. None if nothing was tried.
    pub came: Option<&'a Result<(), String>>,
}

/// Reads an expectation.
pub(super) fn of_file(file: &ExpectFile, place: &str, position: Where) -> Result<Expectation, String> {
    let forms = [
        ("phase", file.phase.is_some()),
        ("waitsFor", file.waits_for.is_some()),
        ("gate", file.gate.is_some()),
        ("started", file.started.is_some()),
        ("ended", file.ended.is_some()),
        ("refused", file.refused.is_some()),
        ("object", file.object.is_some()),
    ];
    let given: Vec<_> = forms.iter().filter(|(_, given)| *given).map(|(name, _)| *name).collect();
    let [form] = given.as_slice() else {
        return Err(format!(
            "expect exactly one of phase, waitsFor, gate, started, ended, refused and object; this has {}",
            if given.is_empty() { "none".to_owned() } else { given.join(" and ") }
        ));
    };
    let check = match *form {
        "refused" => {
            if position != Where::AfterAct {
                return Err("refused belongs to a step in which somebody does something".to_owned());
            }
            Check::Act { refused: file.refused == Some(true), contains: file.contains.clone() }
        }
        "object" => of_object(file)?,
        _ => of_change(file)?,
    };
    if file.within.is_some() && !matches!(check, Check::Phase(..)) && position == Where::End {
        return Err("within at the end of the file goes with phase only".to_owned());
    }
    let mut text = check.describe();
    if let Some(within) = file.within {
        text = format!("{text} within {}", duration_text(within));
    }
    Ok(Expectation { place: place.to_owned(), text, within: file.within, check })
}

fn of_change(file: &ExpectFile) -> Result<Check, String> {
    let text = file.change.as_deref().ok_or("say of which change: add `change: NAMESPACE/NAME`")?;
    let change = change(text)?;
    Ok(if let Some(phase) = file.phase {
        Check::Phase(change, phase)
    } else if let Some(gate) = &file.waits_for {
        Check::WaitsFor(change, gate.clone())
    } else if let Some(gate) = &file.gate {
        if file.state.is_none() && file.reason.is_none() && file.contains.is_none() {
            return Err("say how the gate is: add `state`, `reason` or `contains`".to_owned());
        }
        let (state, reason, contains) = (file.state, file.reason.clone(), file.contains.clone());
        Check::Gate { change, gate: gate.clone(), state, reason, contains }
    } else if let Some(span) = &file.started {
        Check::Moment { change, ended: false, span: span.clone() }
    } else {
        Check::Moment { change, ended: true, span: file.ended.clone().unwrap_or_default() }
    })
}

fn of_object(file: &ExpectFile) -> Result<Check, String> {
    let object = file.object.as_deref().unwrap_or_default().parse()?;
    let wanted = match (&file.equals, file.absent) {
        (Some(_), Some(_)) => {
            return Err("an object that is absent equals nothing: leave out equals or absent".to_owned());
        }
        (Some(value), None) => Wanted::Value(value.clone()),
        (None, Some(true)) => Wanted::Absent,
        (None, _) => Wanted::Present,
    };
    let path = file.path.clone().unwrap_or_default();
    if !path.is_empty() && !path.starts_with('/') {
        return Err(format!("path {path:?} is no JSON pointer: write one such as /spec/replicas"));
    }
    Ok(Check::Object { object, path, wanted })
}

impl Check {
    fn describe(&self) -> String {
        match self {
            Self::Phase(change, phase) => format!("{change} is {phase:?}"),
            Self::WaitsFor(change, gate) => format!("{change} waits for {gate}"),
            Self::Gate { change, gate, state, reason, contains } => {
                let state = state.map(|state| format!("{state:?}"));
                let says = contains.as_ref().map(|text| format!("saying {text:?}"));
                let parts: Vec<_> = [state, reason.clone(), says].into_iter().flatten().collect();
                format!("gate {gate} of {change} is {}", parts.join(", "))
            }
            Self::Moment { change, ended, span } => {
                let verb = if *ended { "ended" } else { "started" };
                if span.never == Some(true) {
                    return format!("{change} has not {verb}");
                }
                let not = |is: bool| if is { "" } else { "not " };
                let parts: Vec<_> = [
                    span.after.as_ref().map(|at| format!("not before {at}")),
                    span.before.as_ref().map(|at| format!("before {at}")),
                    span.in_freeze.map(|is| format!("{}in a freeze", not(is))),
                    span.in_window.map(|is| format!("{}in an open window", not(is))),
                ]
                .into_iter()
                .flatten()
                .collect();
                format!("{change} {verb} {}", parts.join(", ")).trim_end().to_owned()
            }
            Self::Act { refused: true, contains: Some(text) } => format!("it is refused, saying {text:?}"),
            Self::Act { refused: true, contains: None } => "it is refused".to_owned(),
            Self::Act { refused: false, .. } => "it is not refused".to_owned(),
            Self::Object { object, path, wanted } => {
                let place = if path.is_empty() { String::new() } else { format!(" at {path}") };
                match wanted {
                    Wanted::Value(value) => format!("{object}{place} is {value}"),
                    Wanted::Present => format!("{object} has something{place}"),
                    Wanted::Absent => format!("{object} has nothing{place}"),
                }
            }
        }
    }
}

impl Expectation {
    /// Whether it is so, and what was found.
    pub(super) fn judge(&self, sight: &Sight<'_>) -> (bool, String) {
        match &self.check {
            Check::Phase(change, phase) => self.phase(change, *phase, sight),
            Check::WaitsFor(change, gate) => with_change(sight, change, |request| {
                let holding = look::holding(request);
                let found: Vec<_> = holding.iter().map(|held| format!("{}: {}", held.gate, held.message)).collect();
                let phase = request.status.as_ref().map(|status| status.phase).unwrap_or_default();
                let found =
                    if found.is_empty() { format!("it waits for no gate; it is {phase:?}") } else { found.join("; ") };
                (holding.iter().any(|held| held.gate == *gate), found)
            }),
            Check::Gate { change, gate, state, reason, contains } => with_change(sight, change, |request| {
                let gates = request.status.as_ref().map(|status| status.gates.as_slice()).unwrap_or_default();
                let Some(found) = gates.iter().find(|found| found.name == *gate) else {
                    return (false, format!("it has no gate {gate}"));
                };
                let met = state.is_none_or(|state| state == found.state)
                    && reason.as_ref().is_none_or(|reason| *reason == found.reason)
                    && contains.as_ref().is_none_or(|text| found.message.contains(text));
                (met, format!("{:?}, {}: {}", found.state, found.reason, found.message))
            }),
            Check::Moment { change, ended, span } => {
                with_change(sight, change, |request| moment(sight, request, *ended, span))
            }
            Check::Act { refused, contains } => act(sight.came, *refused, contains.as_deref()),
            Check::Object { object, path, wanted } => object_is(sight.world, object, path, wanted),
        }
    }

    fn phase(&self, change: &Change, phase: ChangePhase, sight: &Sight<'_>) -> (bool, String) {
        let Some(seen) = sight.board.get(&change.to_string()) else {
            return (false, format!("there is no ChangeRequest {change}"));
        };
        let now = seen.phase().unwrap_or_default();
        let message = if seen.message.is_empty() { String::new() } else { format!(": {}", seen.message) };
        let found = format!("it is {now:?}{message}");
        let Some(within) = self.within else { return (now == phase, found) };
        let first = seen.phases.first().map(|(at, _)| *at);
        let Some(since) = sight.since.or(first) else { return (false, found) };
        let until = since.checked_add(within).unwrap_or(Timestamp::MAX);
        let in_force = seen.phases.iter().rfind(|(at, _)| *at <= since).is_some_and(|(_, before)| *before == phase);
        let reached = seen.phases.iter().find(|(at, reached)| *reached == phase && since <= *at && *at <= until);
        match (reached, in_force) {
            (Some((at, _)), _) => (true, format!("so after {}", duration_text(at.duration_since(since)))),
            (None, true) => (true, "it was so already".to_owned()),
            (None, false) => (false, found),
        }
    }
}

fn with_change(
    sight: &Sight<'_>,
    change: &Change,
    judge: impl FnOnce(&ChangeRequest) -> (bool, String),
) -> (bool, String) {
    match look::request(sight.world, change) {
        Some(request) => judge(&request),
        None => (false, format!("there is no ChangeRequest {change}")),
    }
}

fn moment(sight: &Sight<'_>, request: &ChangeRequest, ended: bool, span: &SpanFile) -> (bool, String) {
    let status = request.status.clone().unwrap_or_default();
    let came = if ended { status.finished.map(|f| f.at.0) } else { status.run.map(|run| run.started_at.0) };
    let verb = if ended { "ended" } else { "started" };
    let Some(at) = came else {
        return (span.never == Some(true), format!("it has not {verb}; it is {:?}", status.phase));
    };
    let resolve = |at: &At| at.resolve(sight.start, sight.start).unwrap_or(Timestamp::MAX);
    let state = look::calendar_at(sight.world, request, at);
    let frozen = matches!(state, Some(WindowState::Frozen { .. }));
    let open = matches!(state, Some(WindowState::Open { .. }));
    let met = span.never != Some(true)
        && span.after.as_ref().is_none_or(|bound| resolve(bound) <= at)
        && span.before.as_ref().is_none_or(|bound| at < resolve(bound))
        && span.in_freeze.is_none_or(|wanted| wanted == frozen)
        && span.in_window.is_none_or(|wanted| wanted == open);
    let how = match state {
        None => "no calendar applied".to_owned(),
        Some(WindowState::Open { window: Some(window), .. }) => format!("in window {window}"),
        Some(WindowState::Open { .. }) => "in no freeze".to_owned(),
        Some(WindowState::Frozen { freeze, .. }) => format!("in freeze {freeze}"),
        Some(WindowState::Outside { .. }) => "outside every window".to_owned(),
    };
    (met, format!("it {verb} at {}, {how}", format_local(at, sight.zone)))
}

fn act(came: Option<&Result<(), String>>, refused: bool, contains: Option<&str>) -> (bool, String) {
    match came {
        None => (false, "nobody tried".to_owned()),
        Some(Ok(())) => (!refused, "it was done".to_owned()),
        Some(Err(message)) => {
            let (by, why) = refusal(message);
            let says = contains.is_none_or(|text| message.contains(text));
            (refused && says, format!("refused ({by}): {why}"))
        }
    }
}

fn object_is(world: &World, object: &ObjectRef, path: &str, wanted: &Wanted) -> (bool, String) {
    let id = match object.id(&world.shared.lock().api) {
        Ok(id) => id,
        Err(why) => return (false, why),
    };
    let live = world.live(&id);
    let found = live.as_deref().and_then(|live| live.pointer(path));
    // A Secret's values are nobody's business, here as anywhere.
    let hidden = id.group.is_empty() && id.kind == "Secret";
    let shown = match (found, live.is_some()) {
        (None, false) => "the object is not there".to_owned(),
        (None, true) => "nothing is there".to_owned(),
        (Some(_), _) if path.is_empty() || hidden => "it is there".to_owned(),
        (Some(value), _) => format!("it is {value}"),
    };
    let met = match wanted {
        Wanted::Value(value) => found == Some(value),
        Wanted::Present => found.is_some(),
        Wanted::Absent => found.is_none(),
    };
    (met, shown)
}
