//! The race for the lease: the controller's own [`LeaseMachine`] on the simulated cluster.

use std::time::Instant;

use interlock_controller::leader::{LeaseError, LeaseMachine, LeaseOptions, LeaseRecord, LeaseStep, NAME, NAMESPACE};
use interlock_core::{object::ObjectId, port::PortError};
use interlock_sim::api::Write;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use serde_json::Value;

use crate::{
    cluster::{Answer, CallId, Cluster, ProcessId, Request},
    faults::LEASE,
    port::{CONTROLLER, service_account},
};

#[derive(Debug)]
struct Asked {
    call: CallId,
    sent: Instant,
    is_read: bool,
}

/// One process's part in the race.
#[derive(Debug)]
pub struct Candidate {
    process: ProcessId,
    machine: LeaseMachine,
    asked: Option<Asked>,
    wakes: Option<Instant>,
    epoch: Option<u64>,
}

impl Candidate {
    /// A candidate that knows nothing.
    pub fn new(process: ProcessId) -> Self {
        let options = LeaseOptions { identity: format!("controller-{process}"), duration: LEASE };
        Self { process, machine: LeaseMachine::new(&options), asked: None, wakes: None, epoch: None }
    }

    /// Whether it holds the lease, by the clock of the leases.
    pub fn leads(&self, now: Instant) -> bool {
        self.machine.leading(now).is_some()
    }

    /// The next instant at which it has something to do by itself.
    pub fn next_due(&self) -> Option<Instant> {
        match &self.asked {
            Some(asked) => asked.sent.checked_add(self.machine.request_timeout()),
            None => self.wakes,
        }
    }

    /// Whether it has something to do now.
    pub fn is_due(&self, cluster: &Cluster) -> bool {
        let is_answered = self.asked.as_ref().is_some_and(|asked| cluster.is_answered(asked.call));
        is_answered || self.next_due().is_none_or(|due| due <= cluster.lease_instant())
    }

    /// The call it waits for, if it does.
    pub fn waits_for(&self) -> Option<CallId> {
        self.asked.as_ref().map(|asked| asked.call)
    }

    /// Takes an answer, asks what is to be asked. True if the process begins to lead, or was late with a renewal and
    /// turned something away meanwhile: then it looks at everything.
    pub fn go_on(&mut self, cluster: &mut Cluster, wall: Option<Timestamp>) -> bool {
        let now = cluster.lease_instant();
        self.take(cluster, now);
        self.wakes = None;
        if self.asked.is_none() {
            match self.machine.step(now, wall) {
                LeaseStep::Wait(until) => {
                    let ends = self.machine.leading(now).map_or(until, |(_, ends)| ends.min(until));
                    self.wakes = Some(ends);
                }
                LeaseStep::Read => {
                    let id = id();
                    self.ask(cluster, now, Request::Get(service_account(CONTROLLER), id));
                }
                LeaseStep::Create(record) => {
                    let write = Write::create(&service_account(CONTROLLER), "interlock-controller", &object(&record));
                    self.ask(cluster, now, Request::Write(Box::new(write)));
                }
                LeaseStep::Replace(record) => {
                    let write = Write::replace(&service_account(CONTROLLER), "interlock-controller", &object(&record));
                    self.ask(cluster, now, Request::Write(Box::new(write)));
                }
            }
        }
        self.publish(cluster, now)
    }

    fn ask(&mut self, cluster: &mut Cluster, sent: Instant, request: Request) {
        let is_read = !request.is_write();
        let call = cluster.send(Some(self.process), request);
        // Renewals are no sign of work.
        cluster.made -= 1;
        self.asked = Some(Asked { call, sent, is_read });
    }

    fn take(&mut self, cluster: &mut Cluster, now: Instant) {
        let Some(asked) = self.asked.take() else { return };
        let answer = match cluster.take_answer(asked.call) {
            Some(answer) => answer,
            None if now < asked.sent + self.machine.request_timeout() => {
                self.asked = Some(asked);
                return;
            }
            None => {
                cluster.abandon(asked.call);
                Err(PortError::Unavailable("no answer in time".to_owned()))
            }
        };
        let record = match answer {
            Ok(Answer::Object(object)) => serde_json::from_value::<Lease>((*object).clone())
                .map(|lease| Some(LeaseRecord::of(lease)))
                .map_err(|error| LeaseError::Unavailable(error.to_string())),
            Err(PortError::NotFound(_)) if asked.is_read => Ok(None),
            Ok(Answer::List(_)) => Err(LeaseError::Unavailable("a list is no lease".to_owned())),
            Err(PortError::Conflict(_) | PortError::AlreadyExists(_) | PortError::NotFound(_)) => {
                Err(LeaseError::Conflict)
            }
            Err(error) => Err(LeaseError::Unavailable(error.to_string())),
        };
        if asked.is_read {
            self.machine.read(now, record);
        } else {
            let record = record.and_then(|record| record.ok_or(LeaseError::Conflict));
            self.machine.written(asked.sent, now, record);
        }
    }

    fn publish(&mut self, cluster: &mut Cluster, now: Instant) -> bool {
        let term = self.machine.leading(now);
        let Some(belief) = cluster.beliefs.get_mut(&self.process) else { return false };
        belief.leads_until = term.map(|(_, until)| until);
        let epoch = term.map(|(epoch, _)| epoch);
        let missed = epoch.is_some() && std::mem::take(&mut belief.was_turned_away);
        let changed = epoch != self.epoch;
        self.epoch = epoch;
        epoch.is_some() && (changed || missed)
    }
}

fn id() -> ObjectId {
    ObjectId {
        group: "coordination.k8s.io".to_owned(),
        version: "v1".to_owned(),
        kind: "Lease".to_owned(),
        namespace: Some(NAMESPACE.to_owned()),
        name: NAME.to_owned(),
    }
}

fn object(record: &LeaseRecord) -> Value {
    let mut lease = record.lease(NAME);
    lease.metadata.namespace = Some(NAMESPACE.to_owned());
    serde_json::to_value(lease).unwrap_or(Value::Null)
}
