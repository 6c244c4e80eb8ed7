//! The world: cluster, controllers, people and time. One step at a time, chosen by a seeded scheduler.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::{Duration, Instant};

use interlock_controller::{
    change::{Keys, MacKey},
    leader::NAMESPACE,
};
use interlock_core::{
    object::{GroupKind, ObjectId},
    port::PortError,
    seal::SealKey,
};
use interlock_sim::{
    api::{ApiError, DenyRule, Verb, Write, meta},
    workloads::Workloads,
};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::{
    cluster::{Answer, Audit, CallId, CallState, ProcessId, Request, Shared, Told},
    faults::{Faults, ON_ITS_WAY},
    gateway::Gateway,
    metrics::Source,
    people::Act,
    process::{Key, Process},
    reread::Newest,
    server,
    vault::Vault,
};

/// How a world begins.
#[derive(Clone, Debug)]
pub struct Options {
    /// The seed of everything that is left to chance.
    pub seed: u64,
    /// When it begins.
    pub start: Timestamp,
    /// Controllers that run at the same time.
    pub controllers: usize,
    /// What goes wrong.
    pub faults: Faults,
}

/// What happened, for people and for checks.
#[derive(Clone, Debug)]
pub enum Happening {
    /// A write was stored.
    Stored(Audit),
    /// The controller told people something.
    Told(Told),
    /// What came of something that a person did.
    Act {
        /// When.
        at: Timestamp,
        /// Who did what.
        what: String,
        /// What the server said.
        came: Result<Arc<Value>, PortError>,
    },
    /// Something went wrong.
    Fault {
        /// When.
        at: Timestamp,
        /// What.
        what: String,
    },
}

impl Happening {
    /// When it happened.
    pub fn at(&self) -> Timestamp {
        match self {
            Self::Stored(audit) => audit.at,
            Self::Told(told) => told.at,
            Self::Act { at, .. } | Self::Fault { at, .. } => *at,
        }
    }
}

type Serving = Pin<Box<dyn Future<Output = Result<Arc<Value>, ApiError>> + Send>>;

/// A write that the server is working on.
struct Task {
    by: Option<ProcessId>,
    serving: Serving,
    /// Whether the answer will be lost.
    loses_answer: bool,
}

/// One thing that may happen next.
#[derive(Clone, Debug)]
enum Step {
    Serve(CallId),
    Tell(ProcessId, &'static str),
    Hear(ProcessId),
    GoOn(ProcessId),
    Run(ProcessId),
    /// A pass with one of so many keys.
    Begin(ProcessId, usize),
    Cluster,
    Act,
}

impl Step {
    /// Among how many such steps chance chooses.
    const fn choices(&self) -> usize {
        if let Self::Begin(_, keys) = self { *keys } else { 1 }
    }
}

/// The world.
pub struct World {
    /// What everybody shares.
    pub shared: Shared,
    /// What happened since somebody looked.
    pub happened: Vec<Happening>,
    /// What goes wrong.
    pub faults: Faults,
    /// The built-in controllers.
    pub workloads: Workloads,
    /// What leads requests to Services.
    pub gateway: Gateway,
    /// Where backups go.
    pub vault: Vault,
    /// Whether what would only be read again is left out while nothing can go wrong and it is as it was.
    pub skips_rereads: bool,
    newest: Newest,
    rng: fastrand::Rng,
    controllers: usize,
    /// How often a controller looked at what.
    passes: BTreeMap<Key, u64>,
    controllers_took: Duration,
    processes: BTreeMap<ProcessId, Process>,
    tasks: BTreeMap<CallId, Task>,
    awake_at: BTreeMap<ProcessId, Timestamp>,
    webhooks_back: Option<Timestamp>,
    clock_was_set: Option<(Instant, SignedDuration)>,
    node_back: Option<(Timestamp, String)>,
    rights_back: Option<(Timestamp, DenyRule)>,
    acts: BTreeMap<(Timestamp, u64), Act>,
    acted: BTreeMap<CallId, String>,
    counted: u64,
    cluster_seen: u64,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").field("processes", &self.processes).finish_non_exhaustive()
    }
}

impl World {
    /// An empty cluster with its controllers starting.
    pub fn new(options: &Options) -> Self {
        let shared = Shared::new(options.start);
        let mut world = Self {
            shared,
            happened: Vec::new(),
            faults: options.faults.clone(),
            workloads: Workloads::new(Vec::new()),
            gateway: Gateway::default(),
            vault: Vault::default(),
            skips_rereads: false,
            newest: Newest::default(),
            rng: fastrand::Rng::with_seed(options.seed),
            controllers: options.controllers,
            passes: BTreeMap::new(),
            controllers_took: Duration::ZERO,
            processes: BTreeMap::new(),
            tasks: BTreeMap::new(),
            awake_at: BTreeMap::new(),
            webhooks_back: None,
            clock_was_set: None,
            node_back: None,
            rights_back: None,
            acts: BTreeMap::new(),
            acted: BTreeMap::new(),
            counted: 0,
            cluster_seen: 0,
        };
        world.workloads.set_program(Arc::new(world.vault.clone()));
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
        // An empty cluster takes it.
        let _ = world.seed_objects(&[namespace]);
        for _ in 0..options.controllers {
            world.start_process();
        }
        world
    }

    /// The present instant by the server's clock.
    pub fn now(&self) -> Timestamp {
        self.shared.lock().api.now()
    }

    /// Reads an object as an omniscient observer.
    pub fn object(&self, group: &str, kind: &str, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.shared.lock().api.get_arc(&GroupKind::new(group, kind), namespace, name)
    }

    /// Lists objects as an omniscient observer.
    pub fn objects(&self, group: &str, kind: &str) -> Vec<Arc<Value>> {
        self.shared.lock().api.list_arc(&GroupKind::new(group, kind), None)
    }

    /// The public key by which seals of this installation are recognised.
    pub fn public_key(&self) -> Vec<u8> {
        keys().seal.public().to_vec()
    }

    /// Puts objects into the cluster before anything is governed.
    pub fn seed_objects(&mut self, objects: &[Value]) -> Result<(), ApiError> {
        let admin = crate::people::user("admin", &["system:masters"]);
        let mut cluster = self.shared.lock();
        for object in objects {
            // Interlock's own namespace is there already.
            let write = if is_own_namespace(object) {
                Write::apply(&admin, "kubectl", object)
            } else {
                Write::create(&admin, "kubectl-create", object)
            };
            cluster.api.write(write)?;
        }
        Ok(())
    }

    /// Has somebody do something at an instant, or as soon after it as they get to it.
    pub fn schedule(&mut self, at: Timestamp, act: Act) {
        self.counted += 1;
        self.acts.insert((at, self.counted), act);
    }

    /// The controller that leads, by its own belief.
    pub fn leader(&self) -> Option<ProcessId> {
        let now = self.shared.lock().lease_instant();
        self.processes.values().find(|process| process.candidate.leads(now)).map(|process| process.id)
    }

    /// Time passes to an instant before which nothing happens.
    pub fn rest_until(&mut self, to: Timestamp) {
        let rests = self.rests();
        let mut cluster = self.shared.lock();
        if to > cluster.api.now() {
            cluster.pass(to, rests);
        }
    }

    /// The monotonic clock.
    pub fn instant(&self) -> Instant {
        self.shared.lock().instant()
    }

    /// What the server's clock would show if nobody had set it a moment ago, for what was decided before.
    pub fn before_it_was_set(&self) -> Option<Timestamp> {
        const MOMENT: Duration = Duration::from_secs(15);
        let (when, by) = self.clock_was_set?;
        let now = self.shared.lock().instant();
        self.now().checked_sub(by).ok().filter(|_| now.duration_since(when) < MOMENT)
    }

    /// Whether somebody still means to do something.
    pub fn has_plans(&self) -> bool {
        !self.acts.is_empty()
    }

    /// What happened since the last look.
    pub fn take_happened(&mut self) -> Vec<Happening> {
        std::mem::take(&mut self.happened)
    }

    /// How often a controller looked at something.
    pub fn passes_begun(&self) -> u64 {
        self.passes.values().sum()
    }

    /// How often a controller looked at this.
    pub fn passes_over(&self, key: &Key) -> u64 {
        self.passes.get(key).copied().unwrap_or_default()
    }

    /// How long the controllers worked by the clock of this machine, for benchmarks: what they heard, decided and asked for.
    /// Without their webhooks, which work while the server does.
    pub const fn controllers_took(&self) -> Duration {
        self.controllers_took
    }

    /// Whether everything is quiet: no call is on its way, and nobody has anything to do before its time.
    pub fn is_quiet(&mut self) -> bool {
        self.steps().is_empty()
    }

    /// Makes one step. False when nothing will ever happen again, or nothing before `until`.
    pub fn step(&mut self, until: Timestamp) -> bool {
        self.go_wrong();
        let steps = self.steps();
        let slow = self.faults.slow_calls > 0.0 && self.rng.f64() < 0.02;
        if steps.is_empty() || slow {
            if !self.pass_time(until, steps.is_empty()) {
                return !steps.is_empty();
            }
        } else {
            let mut at = self.rng.usize(..steps.iter().map(Step::choices).sum::<usize>());
            for step in steps {
                if at < step.choices() {
                    let begun = Instant::now();
                    self.take(&step, at);
                    if !matches!(step, Step::Serve(_) | Step::Cluster | Step::Act) {
                        self.controllers_took += begun.elapsed();
                    }
                    break;
                }
                at -= step.choices();
            }
        }
        self.settle();
        true
    }

    fn steps(&mut self) -> Vec<Step> {
        let mut steps = Vec::new();
        let cluster = self.shared.lock();
        let now = cluster.api.now();
        steps.extend(
            cluster
                .calls
                .iter()
                .filter(|(_, call)| matches!(call.state, CallState::Sent) && call.held_until.is_none())
                .map(|(id, _)| Step::Serve(*id)),
        );
        let has_events = cluster.api.resource_version() != self.cluster_seen;
        for process in self.processes.values_mut().filter(|p| !p.is_paused) {
            let id = process.id;
            steps.extend(process.untold(&cluster.api).into_iter().map(|kind| Step::Tell(id, kind)));
            // A process runs for the lease when it has listed everything.
            steps.extend((process.is_synced() && process.candidate.is_due(&cluster)).then_some(Step::Run(id)));
            steps.extend(process.has_answers(&cluster).then_some(Step::GoOn(id)));
        }
        drop(cluster);
        for process in self.processes.values_mut().filter(|p| !p.is_paused) {
            if process.has_news(&self.shared) {
                steps.push(Step::Hear(process.id));
            }
            steps.extend((process.ready() > 0).then_some(Step::Begin(process.id, process.ready())));
        }
        let due = [self.workloads.next_due(), self.gateway.next_due()];
        if has_events || due.into_iter().flatten().any(|at| at <= now) {
            steps.push(Step::Cluster);
        }
        if self.acts.first_key_value().is_some_and(|((at, _), _)| *at <= now) {
            steps.push(Step::Act);
        }
        steps
    }

    fn take(&mut self, step: &Step, choice: usize) {
        let (now, version) = {
            let cluster = self.shared.lock();
            (cluster.api.now(), cluster.api.resource_version())
        };
        match *step {
            Step::Serve(id) => self.serve(id),
            Step::Tell(process, kind) => {
                let again = self.chance(self.faults.repeated_events);
                let cluster = self.shared.lock();
                if let Some(process) = self.processes.get_mut(&process) {
                    cluster.heard(process.id, cluster.instant());
                    process.deliver(&cluster.api, kind, again);
                }
            }
            Step::Run(process) => self.run_for_lease(process),
            Step::GoOn(process) => {
                if let Some(process) = self.processes.get_mut(&process) {
                    process.poll_all(now);
                }
            }
            Step::Hear(process) => {
                if let Some(process) = self.processes.get_mut(&process) {
                    process.hear(&self.shared);
                }
            }
            Step::Begin(process, _) => {
                if let Some(process) = self.processes.get_mut(&process)
                    && let Some(key) = process.ready_at(choice)
                {
                    *self.passes.entry(key.clone()).or_default() += 1;
                    process.begin(&key, now, version);
                }
            }
            Step::Cluster => {
                let mut cluster = self.shared.lock();
                self.workloads.step(&mut cluster.api);
                self.gateway.step(&mut cluster.api);
                let is_collecting = cluster.api.collect_garbage() | cluster.api.finish_namespaces();
                // A cascade takes several steps, and each is its own event.
                if !is_collecting {
                    self.cluster_seen = cluster.api.resource_version();
                }
                self.newest.read_on(&cluster.api);
                // What everybody has read is of no use any more.
                let read = self.processes.values().map(Process::has_read_to).chain([self.workloads.has_read_to()]);
                cluster.api.compact(read.min().unwrap_or_default());
            }
            Step::Act => {
                if let Some((_, act)) = self.acts.pop_first() {
                    self.act(&act);
                }
            }
        }
    }

    /// Everything that can go on without anybody's choice does.
    fn settle(&mut self) {
        loop {
            let mut moved = false;
            let ids: Vec<_> = self.tasks.keys().copied().collect();
            for id in ids {
                moved |= self.poll_task(id);
            }
            if !moved {
                break;
            }
        }
        self.collect(self.now());
    }

    fn run_for_lease(&mut self, id: ProcessId) {
        let Some(process) = self.processes.get_mut(&id) else { return };
        let mut cluster = self.shared.lock();
        let wall = cluster.beliefs.get(&id).and_then(|belief| belief.clock.now_at(cluster.instant()));
        if process.candidate.go_on(&mut cluster, wall) {
            process.leads();
        }
    }

    /// Whether nothing happens but renewals of the lease: then they are not played one by one.
    fn rests(&self) -> bool {
        let cluster = self.shared.lock();
        let now = cluster.lease_instant();
        let knows_time = |id: &ProcessId| {
            cluster.beliefs.get(id).is_some_and(|belief| belief.clock.now_at(cluster.instant()).is_some())
        };
        cluster.calls.is_empty()
            && self.awake_at.is_empty()
            && self.processes.values().all(|process| knows_time(&process.id))
            && self.processes.values().any(|process| process.candidate.leads(now))
    }

    fn collect(&mut self, now: Timestamp) {
        let mut cluster = self.shared.lock();
        self.happened.extend(cluster.audits.drain(..).map(Happening::Stored));
        self.happened.extend(cluster.told.drain(..).map(Happening::Told));
        let answered: Vec<_> = self.acted.keys().copied().collect();
        for id in answered {
            let Some(answer) = cluster.take_answer(id) else { continue };
            let came = answer.map(|answer| match answer {
                Answer::Object(object) => object,
                Answer::List(_) => Arc::new(Value::Null),
            });
            let what = self.acted.remove(&id).unwrap_or_default();
            self.happened.push(Happening::Act { at: now, what, came });
        }
    }

    fn serve(&mut self, id: CallId) {
        let (lost, loses_answer, conflict) = (
            self.chance(self.faults.lost_calls),
            self.chance(self.faults.lost_answers),
            self.chance(self.faults.conflicts),
        );
        let servers: Vec<_> = self.processes.values().filter(|p| p.is_synced() && !p.is_paused).map(|p| p.id).collect();
        let by =
            (!servers.is_empty() && self.webhooks_back.is_none()).then(|| servers[self.rng.usize(..servers.len())]);
        let mut cluster = self.shared.lock();
        let Some(call) = cluster.calls.get(&id).cloned() else { return };
        let from_controller = call.caller.is_some();
        if lost && from_controller {
            cluster.answer(id, Err(PortError::Unavailable("the server is busy; try again".to_owned())));
            return;
        }
        match call.request {
            Request::Write(write) => {
                if conflict && from_controller && !write.dry_run {
                    cluster.answer(id, Err(PortError::Conflict("the object has been modified".to_owned())));
                    return;
                }
                if let Some(call) = cluster.calls.get_mut(&id) {
                    call.state = CallState::Judged;
                }
                drop(cluster);
                let webhook = by.and_then(|by| self.processes.get(&by)).map(|p| Arc::clone(&p.webhook));
                let serving: Serving = Box::pin(server::write(self.shared.clone(), webhook, *write));
                self.tasks.insert(id, Task { by, serving, loses_answer: loses_answer && from_controller });
            }
            read => {
                let answer = server::read(&cluster.api, &read);
                cluster.answer(id, answer);
            }
        }
    }

    fn poll_task(&mut self, id: CallId) -> bool {
        let Some(task) = self.tasks.get_mut(&id) else { return false };
        let Poll::Ready(came) = task.serving.as_mut().poll(&mut TaskContext::from_waker(Waker::noop())) else {
            return false;
        };
        let loses_answer = self.tasks.remove(&id).is_some_and(|task| task.loses_answer);
        let answer = match came {
            _ if loses_answer => Err(PortError::Unavailable("no answer within 10 s".to_owned())),
            Ok(object) => Ok(Answer::Object(object)),
            Err(error) => Err(PortError::from(error)),
        };
        self.shared.lock().answer(id, answer);
        true
    }

    /// Lets time pass: to the next instant at which something is due, or a little when other things could happen too.
    fn pass_time(&mut self, until: Timestamp, nothing_else: bool) -> bool {
        let now = self.now();
        let rests = self.rests();
        self.put_off_rereads(now);
        let due = [
            self.processes.values().filter(|p| !p.is_paused).filter_map(Process::next_due).min(),
            self.workloads.next_due(),
            self.gateway.next_due(),
            self.acts.first_key_value().map(|((at, _), _)| *at),
            self.awake_at.values().min().copied(),
            self.rights_back.as_ref().map(|(at, _)| *at),
            self.webhooks_back,
            self.node_back.as_ref().map(|(at, _)| *at),
            (!rests).then(|| self.lease_due(now)).flatten(),
            self.call_due(now),
        ];
        let next = due.into_iter().flatten().filter(|at| *at > now).min();
        let mut to = if nothing_else {
            let Some(next) = next else { return false };
            next
        } else {
            let little = SignedDuration::from_millis(self.rng.i64(1..1_500));
            let to = now.checked_add(little).unwrap_or(now);
            next.map_or(to, |next| to.min(next))
        };
        let mut cluster = self.shared.lock();
        // What is on its way arrives in time, or not at all.
        if let Some(sent) = cluster.oldest_under_way() {
            let age = SignedDuration::try_from(cluster.instant().duration_since(sent)).unwrap_or(ON_ITS_WAY);
            to = to.min(now.checked_add((ON_ITS_WAY - age).max(SignedDuration::ZERO)).unwrap_or(now));
        }
        let too_late = to > until;
        let to = to.min(until);
        if to > now {
            cluster.pass(to, rests);
        }
        drop(cluster);
        if too_late || to <= now {
            return false;
        }
        self.come_due(to);
        true
    }

    /// What a fault may change is looked at in its turn, as by a real controller.
    fn put_off_rereads(&mut self, now: Timestamp) {
        if !self.skips_rereads {
            return;
        }
        let nothing_goes_wrong =
            self.faults == Faults::default() && self.rights_back.is_none() && self.webhooks_back.is_none();
        let newest = self.newest.read_on(&self.shared.lock().api);
        for process in self.processes.values_mut() {
            process.put_off_rereads(nothing_goes_wrong.then_some(newest), now);
        }
    }

    /// When a call that is held comes free.
    fn call_due(&self, now: Timestamp) -> Option<Timestamp> {
        let cluster = self.shared.lock();
        let wait = SignedDuration::try_from(cluster.next_free()?.saturating_duration_since(cluster.instant())).ok()?;
        now.checked_add(wait.max(SignedDuration::from_millis(1))).ok()
    }

    /// When a candidate for the lease has something to do.
    fn lease_due(&self, now: Timestamp) -> Option<Timestamp> {
        let clock = self.shared.lock().lease_instant();
        let running = self.processes.values().filter(|process| !process.is_paused && process.is_synced());
        let next = running.filter_map(|process| process.candidate.next_due()).min()?;
        let wait = SignedDuration::try_from(next.saturating_duration_since(clock)).ok()?;
        now.checked_add(wait.max(SignedDuration::from_millis(1))).ok()
    }

    fn come_due(&mut self, now: Timestamp) {
        let awake: Vec<_> = self.awake_at.iter().filter(|(_, at)| **at <= now).map(|(id, _)| *id).collect();
        for id in awake {
            self.awake_at.remove(&id);
            if let Some(process) = self.processes.get_mut(&id) {
                process.is_paused = false;
            }
        }
        if self.rights_back.as_ref().is_some_and(|(at, _)| *at <= now)
            && let Some((_, rule)) = self.rights_back.take()
        {
            self.shared.lock().api.authorizer().allow(&rule);
        }
        self.webhooks_back = self.webhooks_back.filter(|at| *at > now);
        if let Some((_, node)) = self.node_back.take_if(|(at, _)| *at <= now) {
            self.tell_of_node(&node, false);
        }
        self.shared.lock().free_calls();
        for process in self.processes.values_mut() {
            process.come_due(now);
        }
    }

    fn start_process(&mut self) {
        self.counted += 1;
        let id = self.counted as ProcessId;
        let process = Process::start(id, &self.shared, keys(), "cluster");
        let skew = self.faults.skew_ms;
        if skew > 0
            && let Some(belief) = self.shared.lock().beliefs.get_mut(&id)
        {
            belief.skew = SignedDuration::from_millis(self.rng.i64(-skew..=skew));
        }
        self.processes.insert(id, process);
    }

    /// From now on the analysis of this name measures this.
    pub fn measure(&mut self, analysis: &str, source: Source) {
        let mut cluster = self.shared.lock();
        let now = cluster.api.now();
        cluster.metrics.set(analysis, now, source);
    }

    /// Kills the process that leads, or the first one, between any two instructions; another is started.
    pub fn crash(&mut self) {
        let Some(id) = self.leader() else { return };
        let candidate = self.processes.remove(&id).and_then(|process| process.candidate.waits_for());
        self.unserve(id);
        self.fault(format!("controller {id} is killed"));
        let mut cluster = self.shared.lock();
        cluster.beliefs.remove(&id);
        if let Some(call) = candidate {
            cluster.abandon(call);
        }
        let now = cluster.instant();
        for call in cluster.calls.values_mut().filter(|call| call.is_abandoned && can_be_late(&call.request)) {
            let wait = Duration::from_secs(self.rng.u64(0..50));
            call.held_until = Some(now + wait).filter(|_| !wait.is_zero());
        }
        drop(cluster);
        while self.processes.len() < self.controllers {
            self.start_process();
        }
    }

    /// Kills the process that leads while a write of an executor is on its way; whether there was one. The write arrives as late
    /// as a request can, or when [`Self::deliver_late_writes`] is called.
    pub fn crash_amid_a_write(&mut self) -> bool {
        let leader = self.leader();
        let is_executors = |request: &Request| matches!(request, Request::Write(write) if write.user.name.ends_with(":executor") && !write.dry_run);
        let amid = self.shared.lock().calls.values().any(|call| {
            leader.is_some()
                && call.caller == leader
                && matches!(call.state, CallState::Sent)
                && is_executors(&call.request)
                && can_be_late(&call.request)
        });
        if amid {
            self.crash();
            let mut cluster = self.shared.lock();
            let late = cluster.instant() + Duration::from_secs(49);
            for call in cluster.calls.values_mut().filter(|call| call.is_abandoned && can_be_late(&call.request)) {
                call.held_until = Some(late);
            }
        }
        amid
    }

    /// What lies somewhere on its way, with nobody waiting for the answer, arrives now.
    pub fn deliver_late_writes(&mut self) {
        for call in self.shared.lock().calls.values_mut().filter(|call| call.is_abandoned) {
            call.held_until = None;
        }
    }

    /// Writes whose webhook was this process fail.
    fn unserve(&mut self, id: ProcessId) {
        let served: Vec<_> = self.tasks.iter().filter(|(_, task)| task.by == Some(id)).map(|(id, _)| *id).collect();
        for call in served {
            self.tasks.remove(&call);
            let error = PortError::Unavailable("Internal error occurred: failed calling webhook".to_owned());
            self.shared.lock().answer(call, Err(error));
        }
    }

    fn go_wrong(&mut self) {
        if self.chance(self.faults.crashes) {
            self.crash();
        }
        if self.chance(self.faults.hangs)
            && let Some(id) = self.leader().filter(|id| !self.awake_at.contains_key(id))
            && let Some(process) = self.processes.get_mut(&id)
        {
            process.is_paused = true;
            let wake = self.in_seconds(1..40);
            self.awake_at.insert(id, wake);
            self.unserve(id);
            self.fault(format!("controller {id} hangs until {wake}"));
        }
        if self.chance(self.faults.broken_watches) {
            let ids: Vec<_> = self.processes.keys().copied().collect();
            let (process, kind) = (self.rng.usize(..ids.len().max(1)), self.rng.usize(..crate::process::WATCHED.len()));
            if let Some(process) = ids.get(process).and_then(|id| self.processes.get_mut(id))
                && process.is_synced()
            {
                process.relist(crate::process::WATCHED[kind].1);
            }
        }
        if self.webhooks_back.is_none() && self.chance(self.faults.lost_webhooks) {
            let back = self.in_seconds(1..60);
            self.webhooks_back = Some(back);
            self.fault(format!("no webhook can be reached, until {back}"));
        }
        if self.node_back.is_none() && self.chance(self.faults.lost_nodes) {
            let node = format!("node-{}", self.rng.u8(1..4));
            self.node_back = Some((self.in_seconds(1..600), node.clone()));
            self.tell_of_node(&node, true);
        }
        if self.chance(self.faults.clock_jumps) {
            self.set_clock();
        }
        if self.rights_back.is_none() && self.chance(self.faults.lost_rights) {
            let verbs = ["create", "patch", "update", "delete"];
            let verb = verbs[self.rng.usize(..verbs.len())];
            let resource = ["configmaps", "deployments"][self.rng.usize(..2)];
            let rule = DenyRule {
                verb: Some(verb.to_owned()),
                resource: Some(resource.to_owned()),
                user: Some("system:serviceaccount:teller:executor".to_owned()),
                ..DenyRule::default()
            };
            self.shared.lock().api.authorizer().deny(rule.clone());
            let back = self.in_seconds(1..120);
            self.rights_back = Some((back, rule));
            self.fault(format!("the executor may no longer {verb} {resource}, until {back}"));
        }
    }

    /// A node is not heard of any more, or is back.
    pub fn tell_of_node(&mut self, node: &str, is_lost: bool) {
        if is_lost {
            self.workloads.lose_node(node);
        } else {
            self.workloads.return_node(node);
        }
        // The built-in controllers look at it in their next step.
        self.cluster_seen = 0;
        self.fault(format!("{node} is {}", if is_lost { "lost" } else { "back" }));
    }

    fn in_seconds(&mut self, range: std::ops::Range<i64>) -> Timestamp {
        self.now().checked_add(SignedDuration::from_secs(self.rng.i64(range))).unwrap_or(Timestamp::MAX)
    }

    /// Somebody sets the server's clock. Whatever waits for a span of time waits for the rest of it.
    fn set_clock(&mut self) {
        let by = SignedDuration::from_secs(self.rng.i64(-20..60));
        let Ok(to) = self.now().checked_add(by) else { return };
        self.fault(format!("the server's clock is set to {to}"));
        let mut cluster = self.shared.lock();
        cluster.api.set_clock(to);
        self.clock_was_set = Some((cluster.instant(), by));
        drop(cluster);
        self.processes.values_mut().for_each(|process| process.clock_was_set(by));
        let ends = self.awake_at.values_mut().chain(self.rights_back.as_mut().map(|(at, _)| at));
        let ends = ends.chain(self.node_back.as_mut().map(|(at, _)| at));
        for at in ends.chain(&mut self.webhooks_back) {
            *at = at.checked_add(by).unwrap_or(*at);
        }
    }

    /// From here on nothing goes wrong any more: whoever hangs goes on, and every right is back.
    pub fn calm(&mut self) {
        self.faults = Faults::default();
        let end = self.awake_at.values().copied().chain(self.rights_back.iter().map(|(at, _)| *at)).max();
        if let Some(end) = end {
            self.awake_at.values_mut().for_each(|at| *at = end.min(*at));
        }
        let mut cluster = self.shared.lock();
        cluster.beliefs.values_mut().for_each(|belief| belief.skew = SignedDuration::ZERO);
    }

    fn act(&mut self, act: &Act) {
        let now = self.now();
        if let Act::Fault(fault) = act {
            self.fault(format!("{fault:?}"));
            match fault {
                crate::people::Disturbance::Crash => self.crash(),
                crate::people::Disturbance::Measure(analysis, source) => self.measure(analysis, source.clone()),
            }
            return;
        }
        let what = act.describe();
        let write = act.write(&self.shared.lock().api);
        match write {
            Ok(write) if matches!(act, Act::Forge(..)) => {
                let came = self.shared.lock().api.write(write).map_err(PortError::from);
                self.happened.push(Happening::Act { at: now, what, came });
            }
            Ok(write) => {
                let id = self.shared.lock().send(None, Request::Write(Box::new(write)));
                self.acted.insert(id, what);
            }
            Err(why) => {
                self.happened.push(Happening::Act { at: now, what, came: Err(PortError::NotFound(why)) });
            }
        }
    }

    fn fault(&mut self, what: String) {
        let at = self.now();
        self.happened.push(Happening::Fault { at, what });
    }

    fn chance(&mut self, rate: f64) -> bool {
        rate > 0.0 && self.rng.f64() < rate
    }

    /// Calls that controllers made so far.
    pub fn calls_made(&self) -> u64 {
        self.shared.lock().made
    }

    /// How often controllers read an object of this kind so far, lists aside.
    pub fn gets_made(&self, kind: &str) -> u64 {
        self.shared.lock().gets.get(kind).copied().unwrap_or_default()
    }

    /// The live object of an id.
    pub fn live(&self, id: &ObjectId) -> Option<Arc<Value>> {
        self.object(&id.group, &id.kind, id.namespace.as_deref().unwrap_or_default(), &id.name)
    }
}

/// A write whose sender died may lie in some queue long after the sender's time limit. Updates and deletions are fenced
/// by what they require; creations rely on that limit, as docs/decisions.md says.
fn can_be_late(request: &Request) -> bool {
    matches!(request, Request::Write(write) if !matches!(write.verb, Verb::Create(_)))
}

fn is_own_namespace(object: &Value) -> bool {
    object.get("kind").and_then(Value::as_str) == Some("Namespace") && meta::name(object) == NAMESPACE
}

/// The keys of the simulated installation: of no worth anywhere else.
fn keys() -> Keys {
    let seal = SealKey::from_seed(&[7; 32]).unwrap_or_else(|_| unreachable!("32 bytes are a seed"));
    Keys { seal, mac: MacKey { id: "sim".to_owned(), secret: vec![7; 32] } }
}

/// `namespace/name` of an object.
pub fn key_of(object: &Value) -> String {
    format!("{}/{}", meta::namespace(object), meta::name(object))
}
