//! What a drill measures: recovery time in segments, recovery point with error bars, and what the heartbeat says.
//!
//! T0 is when the run was admitted, and never moves. A segment begins where the one before ended, so that together they are
//! the whole, and each ends at an instant that an object of the cluster recorded: whoever computes them, and after however many
//! restarts, gets the same.

use interlock_crds::{
    BackupPolicySpec, ChosenPoint, DrillRunStatus, DrillSegment, HeartbeatRecord, MeasuredRpo, MeasuredRto,
    PostgresMode, RestoreDrillSpec, SegmentName, SelectionStrategy,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{minus, plus, whole_seconds};

/// By how much the clocks of source and controller are believed to differ at most, unless something else is known.
pub const CLOCK_SKEW: SignedDuration = SignedDuration::from_secs(2);
/// A heartbeat that is older than so many intervals was dead.
pub const DEAD_INTERVALS: i64 = 3;

/// What a heartbeat from the future means, and what can be done.
const AHEAD: &str = "its writer's clock is ahead or somebody changed it, so it cannot be told what was lost; set the clock, see who wrote it, and back up again";

/// The order of the segments.
pub const SEGMENTS: [SegmentName; 5] =
    [SegmentName::Queue, SegmentName::Provision, SegmentName::Restore, SegmentName::Start, SegmentName::Validate];

/// Ends segment `name` at `at`, and begins the next one there. An instant outside the segment (clocks differ) is moved to its
/// nearest end, so that the sum stays the total. A segment that was ended stays as it is.
pub fn end_segment(status: &mut DrillRunStatus, name: SegmentName, at: Timestamp, now: Timestamp) {
    let Some(place) = SEGMENTS.iter().position(|known| *known == name) else { return };
    let Some(t0) = status.t0.as_ref().map(|t0| t0.0) else { return };
    if segment_end(status, name).is_some() {
        return;
    }
    let begun = place
        .checked_sub(1)
        .and_then(|before| SEGMENTS.get(before))
        .map_or(Some(t0), |before| segment_end(status, *before));
    let Some(begun) = begun else { return };
    let end = whole_seconds(at).min(whole_seconds(now)).max(begun);
    status.segments.retain(|segment| segment.name != name);
    status.segments.push(DrillSegment { name, started_at: Time(begun), finished_at: Some(Time(end)) });
    if let Some(next) = SEGMENTS.get(place + 1) {
        status.segments.push(DrillSegment { name: *next, started_at: Time(end), finished_at: None });
    }
}

/// When a segment ended.
pub fn segment_end(status: &DrillRunStatus, name: SegmentName) -> Option<Timestamp> {
    status.segments.iter().find(|segment| segment.name == name)?.finished_at.as_ref().map(|at| at.0)
}

/// Length of a segment that ended, in seconds.
pub fn segment_seconds(segment: &DrillSegment) -> Option<i64> {
    segment.finished_at.as_ref().map(|end| end.0.duration_since(segment.started_at.0).as_secs())
}

/// The measured recovery time: from T0 to the end of the validations; none unless all segments ended.
pub fn rto(status: &DrillRunStatus, objective: Option<interlock_crds::Duration>) -> Option<MeasuredRto> {
    let end = segment_end(status, SegmentName::Validate)?;
    let seconds = end.duration_since(status.t0.as_ref()?.0).as_secs();
    let objective_seconds = objective.map(interlock_crds::Duration::seconds);
    Some(MeasuredRto { seconds, objective_seconds, met: objective_seconds.map(|objective| seconds <= objective) })
}

/// What recovery points are judged by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PointObjectives {
    /// Time from one heartbeat to the next.
    pub interval: SignedDuration,
    /// By how much clocks differ at most.
    pub skew: SignedDuration,
    /// By how much the data was recovered to an earlier moment on purpose.
    pub before_end: SignedDuration,
    /// Recovery point objective.
    pub rpo: Option<SignedDuration>,
    /// Objective of the capture lag; none: three intervals.
    pub capture_lag: Option<SignedDuration>,
}

/// By how much a drill recovers to an earlier moment than the newest one, on purpose.
pub fn before_end(drill: &RestoreDrillSpec, policy: &BackupPolicySpec) -> SignedDuration {
    let physical = policy.source.postgres.as_ref().is_some_and(|source| source.mode == PostgresMode::Physical);
    let application = drill.sandbox.application.as_ref().filter(|_| physical);
    let asked = application.and_then(|application| application.postgres.as_ref()?.recover_before_end);
    asked.map_or(SignedDuration::ZERO, interlock_crds::Duration::signed)
}

/// The measured recovery point, from the newest heartbeat in the restored data.
///
/// Whatever was written after that heartbeat and before T0 may be lost, so the distance is the loss, give or take an interval
/// and the difference of the clocks. It is judged with the clocks against us: what cannot be told is not met. For another
/// selection than Latest its age was asked for and proves nothing about the objective: there the capture lag is judged. What
/// was left out on purpose is not lost.
pub fn rpo(
    t0: Timestamp,
    chosen: &ChosenPoint,
    restored: &HeartbeatRecord,
    objectives: &PointObjectives,
) -> MeasuredRpo {
    let newest = plus(restored.time.0, objectives.before_end);
    let seconds = t0.duration_since(newest).as_secs();
    let error = (objectives.interval + objectives.skew).as_secs();
    let latest = chosen.strategy == SelectionStrategy::Latest;
    let lag = chosen.data_time.0.duration_since(newest).as_secs().max(0);
    let allowed = objectives.capture_lag.unwrap_or(objectives.interval * DEAD_INTERVALS as i32).as_secs();
    let objective = objectives.rpo.filter(|_| latest).map(|rpo| rpo.as_secs());
    MeasuredRpo {
        seconds,
        at_least_seconds: (seconds - error).max(0),
        at_most_seconds: seconds + error,
        objective_seconds: objective,
        // A heartbeat from after T0 measures nothing.
        met: objective.map(|objective| {
            let skew = objectives.skew.as_secs();
            seconds >= -skew && seconds + skew <= objective
        }),
        capture_lag_seconds: Some(lag),
        capture_lag_met: (!latest).then_some(lag <= allowed + objectives.skew.as_secs()),
    }
}

/// What the heartbeats say about the restored data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeartbeatFinding {
    /// The restored data is at least as new as the backup recorded, and the writer was alive then.
    Alive,
    /// The restored data is older than the backup recorded, or was changed: data was lost.
    Stale(String),
    /// The writer was dead when the backup was made: nothing can be said about loss.
    Dead(String),
    /// A heartbeat says that it was written after it was read: loss cannot be measured by it.
    Ahead(String),
}

/// What heartbeats are compared by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeartbeatLimits {
    /// Time from one heartbeat to the next.
    pub interval: SignedDuration,
    /// By how much the data was recovered to an earlier moment on purpose.
    pub before_end: SignedDuration,
    /// When the run was admitted: nothing in the restored data is later.
    pub t0: Timestamp,
    /// By how much clocks differ at most.
    pub skew: SignedDuration,
}

/// Compares the heartbeat that the backup recorded with the newest one in the restored data, which may be earlier by
/// `before_end`, and by the intervals after which a writer counts as dead.
///
/// No heartbeat is later than the moment at which it was read, or than T0: one that is was written by a clock that is ahead, or
/// by somebody who wants loss to look small. It is not believed, whatever else holds.
pub fn heartbeat(
    chosen: &ChosenPoint,
    restored: Option<&HeartbeatRecord>,
    limits: &HeartbeatLimits,
) -> HeartbeatFinding {
    let HeartbeatLimits { interval, before_end, t0, skew } = *limits;
    let dead_after = interval * DEAD_INTERVALS as i32;
    let Some(recorded) = &chosen.heartbeat else {
        return HeartbeatFinding::Dead(format!(
            "backup {} found no heartbeat in the source, so it cannot be told what was lost; see whether its writer runs",
            chosen.backup
        ));
    };
    let read_at = recorded.read_at.as_ref().map_or(chosen.data_time.0, |at| at.0);
    if plus(read_at, skew) < recorded.time.0 {
        return HeartbeatFinding::Ahead(format!(
            "heartbeat number {} in the source says {}, {} s after backup {} read it: {AHEAD}",
            recorded.seq,
            recorded.time.0,
            recorded.time.0.duration_since(read_at).as_secs(),
            chosen.backup
        ));
    }
    let Some(restored) = restored else {
        if !before_end.is_zero() {
            return HeartbeatFinding::Dead(format!(
                "there is no heartbeat in the data of {} s before the end of backup {}, so it cannot be told what was lost",
                before_end.as_secs(),
                chosen.backup
            ));
        }
        return HeartbeatFinding::Stale(format!(
            "there is no heartbeat in the restored data, and the backup recorded number {} of {}",
            recorded.seq, recorded.time.0
        ));
    };
    let newest = plus(restored.time.0, before_end);
    if plus(t0, skew) < newest {
        let late = newest.duration_since(t0).as_secs();
        let left_out = match before_end.as_secs() {
            0 => String::new(),
            seconds => format!(", and {seconds} s were left out on purpose"),
        };
        return HeartbeatFinding::Ahead(format!(
            "heartbeat number {} in the restored data says {}{left_out}: that is {late} s after the drill began at {t0}; {AHEAD}",
            restored.seq, restored.time.0
        ));
    }
    let is_older = if before_end.is_zero() {
        restored.seq < recorded.seq || (restored.seq == recorded.seq && restored.time.0 < recorded.time.0)
    } else {
        restored.time.0 < minus(recorded.time.0, before_end + dead_after)
    };
    if is_older {
        return HeartbeatFinding::Stale(format!(
            "the newest heartbeat in the restored data is number {} of {}, and the backup recorded number {} of {}: what was written in between is missing",
            restored.seq, restored.time.0, recorded.seq, recorded.time.0
        ));
    }
    if (restored.seq == recorded.seq && (restored.time != recorded.time || restored.hmac != recorded.hmac))
        || (restored.seq > recorded.seq && restored.time.0 < recorded.time.0)
        || (restored.seq < recorded.seq && restored.time.0 > recorded.time.0)
    {
        return HeartbeatFinding::Stale(format!(
            "heartbeat number {} in the restored data is not the one that the backup recorded: the data was changed",
            restored.seq
        ));
    }
    if plus(recorded.time.0, dead_after) < read_at {
        return HeartbeatFinding::Dead(format!(
            "the newest heartbeat was {} s old when backup {} was made, more than {DEAD_INTERVALS} intervals of {} s: its writer was dead, so it cannot be told what was lost",
            read_at.duration_since(recorded.time.0).as_secs(),
            chosen.backup,
            interval.as_secs()
        ));
    }
    HeartbeatFinding::Alive
}
