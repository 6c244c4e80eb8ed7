//! Isolation probe, dependencies and application.

use interlock_crds::{DrillPhase, Fault, IsolationRecord, ProbeResult, SegmentName};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Ended, Pass, Plan, Seen, pods::Follow};
use crate::{
    backup::outcome::PodEnd,
    drill::{
        clock,
        names::PodRole,
        outcome, plus,
        reason::{Ending, Reason},
        report::DrillReport,
    },
};

impl Pass<'_> {
    /// Probe, dependencies and application must be done by then.
    fn start_deadline(&self, plan: &Plan) -> Timestamp {
        let begun = clock::segment_end(&self.status, SegmentName::Restore);
        plus(begun.unwrap_or_else(|| self.restore_deadline(plan)), plan.drill.timeouts.start.signed())
    }

    fn wait_starting(&mut self, plan: &Plan, reason: Reason, what: &str) -> Result<bool, Ending> {
        let deadline = self.start_deadline(plan);
        if deadline <= self.facts.now {
            let most = plan.drill.timeouts.start;
            return Err(Ending::failed(reason, format!("not done within {most} (timeouts.start); at the end: {what}")));
        }
        self.say(what);
        self.wake(deadline);
        Ok(false)
    }

    /// The application is started only when an attempt to connect succeeded from outside and failed from inside, to one
    /// target that was there all the time.
    pub(super) fn probing(&mut self, plan: &Plan) -> Result<bool, Ending> {
        let unknown = |why: String| Ending::failed(Reason::IsolationUnknown, why);
        let Some(target) = self.status.isolation.as_ref().map(|isolation| isolation.target.clone()) else {
            let Some(target) = self.facts.target else {
                let what = "no pod is known that answers outside the sandbox, so isolation cannot be probed";
                return self.wait_starting(plan, Reason::IsolationUnknown, what);
            };
            self.status.isolation = Some(IsolationRecord {
                target: target.chars().take(64).collect(),
                outside: None,
                inside: None,
                at: None,
            });
            return Ok(true);
        };
        let (outside, inside) = (self.follow(PodRole::OutsideProbe), self.follow(PodRole::InsideProbe));
        // The hand-over ended when the sandbox could be used.
        if let Some(Seen::Ours(pod)) = self.facts.pods.get(&PodRole::InsideProbe) {
            clock::end_segment(&mut self.status, SegmentName::Restore, pod.created_at, self.facts.now);
        }
        let (outside, inside) = match (outside, inside) {
            (Follow::Lost(why), _) | (_, Follow::Lost(why)) => {
                return Err(unknown(format!("isolation was not probed: {why}")));
            }
            (Follow::Ended(_, outside), Follow::Ended(_, inside)) => (outside, inside),
            (one, other) => {
                let waiting = [one, other].into_iter().find_map(|pod| match pod {
                    Follow::Wait(why) => why.map(ToOwned::to_owned),
                    _ => None,
                });
                let said = waiting.map_or_else(
                    || "the isolation of the sandbox is probed".to_owned(),
                    |why| format!("a probe has not started: {why}"),
                );
                return self.wait_starting(plan, Reason::IsolationUnknown, &said);
            }
        };
        let read = |end: &Ended| {
            let report = DrillReport::decode(end.pod.message.as_deref(), self.facts.uid);
            report.ok().and_then(|report| report.probe).unwrap_or(ProbeResult::NotTried)
        };
        let (found_outside, found_inside) = (read(outside), read(inside));
        if let Some(isolation) = &mut self.status.isolation {
            isolation.outside = Some(found_outside);
            isolation.inside = Some(found_inside);
            isolation.at = Some(Time(outside.at.max(inside.at)));
        }
        match (found_outside, found_inside) {
            // What connects is not isolated, whatever else is known.
            (_, ProbeResult::Connected) => Err(Ending::failed(
                Reason::IsolationNotEnforced,
                format!(
                    "from inside the sandbox {target} was reached: the network of this cluster does not enforce NetworkPolicies, so the application was not started on real data"
                ),
            )),
            (ProbeResult::Connected, ProbeResult::Blocked) if self.facts.target == Some(target.as_str()) => {
                match self.facts.sandbox {
                    Seen::Ours(sandbox) if sandbox.guarded => {
                        self.go_on(DrillPhase::Starting, "the sandbox is isolated");
                        Ok(true)
                    }
                    Seen::Ours(_) => Err(unknown(
                        "quota and NetworkPolicies of the sandbox are not those that Interlock made: what was blocked once may be let through"
                            .to_owned(),
                    )),
                    _ => {
                        let what = "the state of the sandbox is not known";
                        self.wait_starting(plan, Reason::IsolationUnknown, what)
                    }
                }
            }
            (ProbeResult::Connected, ProbeResult::Blocked) => Err(unknown(format!(
                "{target} was blocked from inside, but is no longer there: that it was blocked proves nothing"
            ))),
            (ProbeResult::Connected, ProbeResult::NotTried) => {
                Err(unknown("the probe inside the sandbox could not be made; the log of its pod says why".to_owned()))
            }
            (ProbeResult::Blocked | ProbeResult::NotTried, _) => Err(unknown(format!(
                "{target} was not reached from outside either: that it was not reached from inside proves nothing; see isolationTarget"
            ))),
        }
    }

    pub(super) fn starting(&mut self, plan: &Plan) -> Result<bool, Ending> {
        let files = plan.damages_files();
        if files && !self.damage(plan)? {
            return Ok(false);
        }
        let sandbox = &plan.drill.sandbox;
        for (index, dependency) in sandbox.dependencies.iter().enumerate() {
            if self.serving(plan, PodRole::Dependency(index), &format!("dependency {}", dependency.name))?.is_none() {
                return Ok(false);
            }
        }
        let probed = self.status.isolation.as_ref().and_then(|isolation| isolation.at.as_ref()).map(|at| at.0);
        let mut ready = probed.unwrap_or(self.facts.now);
        if sandbox.application.is_some() {
            match self.serving(plan, PodRole::Application, "the application")? {
                Some(at) => ready = at,
                None => return Ok(false),
            }
        }
        if plan.damages() && !files && !self.damage(plan)? {
            return Ok(false);
        }
        clock::end_segment(&mut self.status, SegmentName::Start, ready, self.facts.now);
        self.go_on(DrillPhase::Validating, "the validations begin");
        Ok(true)
    }

    /// Since when something serves; none as long as it is waited for.
    fn serving(&mut self, plan: &Plan, role: PodRole, name: &str) -> Result<Option<Timestamp>, Ending> {
        match self.follow(role) {
            Follow::Ready(pod) => Ok(pod.ready_at),
            // What the cluster, or somebody, did to a pod says nothing about the data.
            Follow::Lost(why) => Err(Ending::failed(Reason::NeverStarted, format!("{name} was not started: {why}"))),
            Follow::Ended(_, Ended { pod: PodEnd { reason: Some(why), .. }, deadline_exceeded: false, .. }) => {
                Err(Ending::failed(Reason::Evicted, format!("{name} was ended by the cluster ({why})")))
            }
            Follow::Ended(..) => Err(Ending::failed(
                Reason::StartFailed,
                format!("{name} ended on the restored data instead of serving; the log of its pod says why"),
            )),
            Follow::Wait(why) => {
                let said = why.map_or_else(|| format!("{name} starts"), |why| format!("{name} has not started: {why}"));
                self.wait_starting(plan, Reason::StartTimedOut, &said).map(|_| None)
            }
        }
    }

    /// Injects the fault; whether that is done.
    fn damage(&mut self, plan: &Plan) -> Result<bool, Ending> {
        let failed =
            |why: String| Ending::failed(Reason::FaultNotInjected, format!("the fault was not injected: {why}"));
        match self.follow(PodRole::Fault) {
            Follow::Lost(why) => Err(failed(why)),
            Follow::Ready(_) | Follow::Wait(_) => {
                self.wait_starting(plan, Reason::FaultNotInjected, "the fault is injected")
            }
            Follow::Ended(_, end) => match DrillReport::decode(end.pod.message.as_deref(), self.facts.uid) {
                Ok(report) if report.is_done() => Ok(true),
                Ok(_) => Err(failed("there was nothing of that path to damage".into())),
                Err(error) => Err(failed(outcome::silence(&end.pod, &error).message)),
            },
        }
    }
}

impl Plan {
    /// Whether the restored copy is damaged.
    fn damages(&self) -> bool {
        self.drill.fault_injection.as_ref().is_some_and(|fault| fault.fault != Fault::Delay)
    }

    /// Whether it is damaged before the application starts: a table can only be changed after.
    fn damages_files(&self) -> bool {
        let table = self.policy.heartbeat.as_ref().is_some_and(|heartbeat| heartbeat.table.is_some());
        let tampers = self.drill.fault_injection.as_ref().is_some_and(|fault| fault.fault == Fault::TamperHeartbeat);
        self.damages() && !(tampers && table)
    }
}
