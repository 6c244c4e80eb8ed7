//! What happens to a pod: a node, containers that start, run and end, and its end when it is deleted.
//!
//! The server removes a pod at once; a finalizer, set with the node, stands for the kubelet that ends the containers
//! first. Init containers end as soon as the others start.

mod script;
mod status;

pub(super) use script::{Doing, Script};

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use interlock_core::admission::User;
use interlock_core::object::{GroupKind, ObjectId};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::behaviour::{Behaviour, Effect, Subject};
use super::nodes::{self, Nodes};
use super::program::Program;
use super::{pods, read, scheduler, writes};
use crate::api::{Api, ApiError, Key, Verb, Write, meta};

use status::Place;

/// Stands for the kubelet in a pod's metadata.
pub(super) const FINALIZER: &str = "sim.interlock.dev/kubelet";

const DEFAULT_READY: SignedDuration = SignedDuration::from_secs(2);
const JOB_RUNS: SignedDuration = SignedDuration::from_secs(5);
const TERMINATES: SignedDuration = SignedDuration::from_secs(1);

/// What one pod does.
#[derive(Clone, Debug)]
struct Run {
    key: Key,
    node: String,
    address: u32,
    since: Timestamp,
    /// When the script began.
    origin: Timestamp,
    effect: Option<Effect>,
    script: Script,
    /// Restarts before this script.
    restarts: u32,
}

/// The pods that have a node.
#[derive(Clone, Debug, Default)]
pub(super) struct Pods {
    runs: BTreeMap<String, Run>,
    waiting: BTreeSet<Key>,
    placed: u64,
    /// How often pods of a Job were made to fail, by its uid.
    failures: BTreeMap<String, u32>,
    /// What programs leave when they end.
    pub program: Option<Arc<dyn Program>>,
}

impl Pods {
    /// The pods on a node.
    pub fn on<'a>(&'a self, node: &'a str) -> impl Iterator<Item = &'a Key> {
        self.runs.values().filter(move |run| run.node == node).map(|run| &run.key)
    }

    /// The pods that wait for a node.
    pub fn waiting(&self) -> impl Iterator<Item = &Key> {
        self.waiting.iter()
    }

    /// All pods, with and without a node.
    pub fn all(&self) -> impl Iterator<Item = &Key> {
        self.runs.values().map(|run| &run.key).chain(&self.waiting)
    }

    /// The pod is gone.
    pub fn forget(&mut self, pod: &Value) {
        self.runs.remove(meta::uid(pod));
        self.waiting.remove(&read::key(pod));
    }

    /// The Job is gone.
    pub fn forget_job(&mut self, uid: &str) {
        self.failures.remove(uid);
    }

    /// One look at a pod; answers when the next is due by time alone.
    pub fn reconcile(
        &mut self,
        api: &mut Api,
        key: &Key,
        behaviours: &[Behaviour],
        nodes: &Nodes,
    ) -> Result<Option<Timestamp>, ApiError> {
        let Some(pod) = api.get_arc(&key.kind, &key.namespace, &key.name) else {
            self.waiting.remove(key);
            return Ok(None);
        };
        if meta::is_terminating(&pod) {
            return end(api, &pod, behaviours, nodes);
        }
        if pods::has_ended(&pod) {
            return Ok(None);
        }
        if read::text(&pod, "/spec/nodeName").is_empty() {
            return self.schedule(api, &pod, key, behaviours).map(|()| None);
        }
        self.run(api, pod, behaviours, nodes)
    }

    fn schedule(&mut self, api: &mut Api, pod: &Value, key: &Key, behaviours: &[Behaviour]) -> Result<(), ApiError> {
        let workload = workload_of(api, pod);
        let refuses = |effect: &Effect| (*effect == Effect::Unschedulable).then_some(());
        let chosen = match subject(pod, &workload).ask(behaviours, refuses) {
            Some(()) => Err("0 nodes are available: a behaviour of the simulation says so.".to_owned()),
            None => scheduler::choose(api, pod, self.placed),
        };
        let node = match chosen {
            Ok(node) => node,
            Err(why) => {
                self.waiting.insert(key.clone());
                let status = status::unscheduled(pod, &why, api.now());
                return write_status(api, "system:kube-scheduler", pod, status);
            }
        };
        self.waiting.remove(key);
        self.placed += 1;
        bind(api, pod, &node).map(drop)
    }

    fn run(
        &mut self,
        api: &mut Api,
        mut pod: Arc<Value>,
        behaviours: &[Behaviour],
        nodes: &Nodes,
    ) -> Result<Option<Timestamp>, ApiError> {
        let (now, node) = (api.now(), read::text(&pod, "/spec/nodeName").to_owned());
        if !meta::finalizers(&pod).iter().any(|name| name == FINALIZER) {
            pod = bind(api, &pod, &node)?;
        }
        let lost = nodes.lost_since(&node);
        if let Some(eviction) = lost.map(|since| read::after(since, nodes.eviction_delay()))
            && eviction <= now
            && !endures_lost_nodes(&pod)
        {
            return api.delete_as_system("node-controller", &pod).map(|()| None);
        }
        let run = self.enter(api, &pod, &node, behaviours);
        // A kubelet that nobody hears says nothing new.
        let at = lost.map_or(now, |since| since.min(now));
        let scene = run.script.at(run.origin.min(at), at);
        let address = [(run.address >> 8) % 256, run.address % 256];
        let place = Place {
            host_ip: &nodes::address(&node),
            pod_ip: &format!("10.244.{}.{}", address[0], address[1]),
            since: run.since,
            is_lost: lost.is_some(),
            restarts: run.restarts,
        };
        let said = match (scene.doing, &self.program) {
            (Doing::Ended { at, succeeded: true, .. }, Some(program)) => program.end(&pod, at),
            _ => Vec::new(),
        };
        let status = status::scheduled(&pod, &scene, &place, &said, now);
        let user = if lost.is_some() {
            "system:serviceaccount:kube-system:node-controller".to_owned()
        } else {
            format!("system:node:{node}")
        };
        write_status(api, &user, &pod, status)?;
        Ok(match lost {
            Some(_) if endures_lost_nodes(&pod) => None,
            Some(since) => Some(read::after(since, nodes.eviction_delay())),
            None => scene.next,
        })
    }

    /// The run of a pod, with the script that the behaviours of now give it.
    fn enter(&mut self, api: &Api, pod: &Value, node: &str, behaviours: &[Behaviour]) -> &Run {
        let (now, workload) = (api.now(), workload_of(api, pod));
        let is_job = read::text(pod, "/spec/restartPolicy") != "Always";
        let effect = subject(pod, &workload).ask(behaviours, |effect| says_what_runs(effect, is_job).then_some(effect));
        let known = self.runs.get(meta::uid(pod)).cloned();
        let script = match &known {
            Some(run) if run.effect.as_ref() == effect => run.script,
            _ => self.script(pod, effect),
        };
        let run = match known {
            Some(run) if run.effect.as_ref() == effect => run,
            Some(run) => {
                let scene = run.script.at(run.origin, now);
                // What is ready stays so where it would become ready anyway.
                let origin = match script {
                    Script::Runs { ready_after: Some(delay) } if scene.is_ready => {
                        now.checked_sub(delay).unwrap_or(run.origin)
                    }
                    _ => now,
                };
                let restarts = run.restarts.saturating_add(scene.restarts);
                let is_back = matches!(scene.doing, Doing::BackingOff { .. });
                Run { origin, effect: effect.cloned(), script, restarts: restarts + u32::from(is_back), ..run }
            }
            None => {
                let address = self.placed as u32 + 1;
                let (key, node) = (read::key(pod), node.to_owned());
                Run { key, node, address, since: now, origin: now, effect: effect.cloned(), script, restarts: 0 }
            }
        };
        let entry = self.runs.entry(meta::uid(pod).to_owned());
        entry.insert_entry(run).into_mut()
    }

    fn script(&mut self, pod: &Value, effect: Option<&Effect>) -> Script {
        let policy = read::text(pod, "/spec/restartPolicy");
        let fails = |after: SignedDuration, times: u32| match policy {
            "Never" => Script::Ends { after, succeeds: false },
            _ => Script::Crashes { after, times },
        };
        match effect {
            Some(Effect::ImagePullError) => Script::Pulls,
            Some(Effect::CrashLoop { after }) => fails(*after, u32::MAX),
            Some(Effect::NeverReady) => Script::Runs { ready_after: None },
            Some(Effect::ReadyAfter(delay)) => Script::Runs { ready_after: Some(*delay) },
            Some(Effect::JobSucceedsAfter(after)) => Script::Ends { after: *after, succeeds: true },
            Some(Effect::JobFails { times }) => {
                let owner = read::controller(pod).map_or_else(|| meta::uid(pod), |owner| read::text(owner, "/uid"));
                let failed = self.failures.entry(owner.to_owned()).or_default();
                let left = times.saturating_sub(*failed);
                if left == 0 {
                    return Script::Ends { after: JOB_RUNS, succeeds: true };
                }
                *failed = failed.saturating_add(if policy == "Never" { 1 } else { left });
                fails(JOB_RUNS, left)
            }
            _ if policy == "Always" || self.program.as_ref().is_some_and(|program| program.serves(pod)) => {
                Script::Runs { ready_after: Some(DEFAULT_READY) }
            }
            _ => Script::Ends { after: JOB_RUNS, succeeds: true },
        }
    }
}

fn says_what_runs(effect: &Effect, is_job: bool) -> bool {
    match effect {
        Effect::ImagePullError | Effect::CrashLoop { .. } | Effect::NeverReady => true,
        Effect::ReadyAfter(_) => !is_job,
        Effect::JobSucceedsAfter(_) | Effect::JobFails { .. } => is_job,
        Effect::Unschedulable | Effect::TerminatesAfter(_) | Effect::WantsReplicas(_) => false,
    }
}

/// Gives the pod a node, and with it a kubelet.
fn bind(api: &mut Api, pod: &Value, node: &str) -> Result<Arc<Value>, ApiError> {
    let mut finalizers = meta::finalizers(pod);
    finalizers.push(FINALIZER.to_owned());
    let patch = json!({"metadata": {"finalizers": finalizers}, "spec": {"nodeName": node}});
    let id = ObjectId::of(pod).map_err(|error| ApiError::bad_request(error.to_string()))?;
    api.write(Write::new(&user("system:kube-scheduler"), "kube-scheduler", Verb::MergePatch { id, patch }))
}

/// The containers of a deleted pod end in their own time; those of a lost node are given up.
fn end(api: &mut Api, pod: &Value, behaviours: &[Behaviour], nodes: &Nodes) -> Result<Option<Timestamp>, ApiError> {
    let kept: Vec<String> = meta::finalizers(pod).into_iter().filter(|name| name != FINALIZER).collect();
    if kept.len() == meta::finalizers(pod).len() {
        return Ok(None);
    }
    let workload = workload_of(api, pod);
    let stated = subject(pod, &workload).ask(behaviours, |effect| match effect {
        Effect::TerminatesAfter(length) => Some(*length),
        _ => None,
    });
    let grace = read::number(pod, "/spec/terminationGracePeriodSeconds").unwrap_or(30);
    let length = stated.unwrap_or(TERMINATES).min(SignedDuration::from_secs(grace));
    let since = read::time(pod, "/metadata/deletionTimestamp").unwrap_or_else(|| api.now());
    let due = read::after(since, length);
    let node = read::text(pod, "/spec/nodeName");
    let is_over = pods::has_ended(pod) || nodes.lost_since(node).is_some() || !nodes::exists(api, node);
    if due > api.now() && !is_over {
        return Ok(Some(due));
    }
    let id = ObjectId::of(pod).map_err(|error| ApiError::bad_request(error.to_string()))?;
    let patch = json!({"metadata": {"finalizers": kept}});
    api.write(Write::new(&user(&format!("system:node:{node}")), "kubelet", Verb::MergePatch { id, patch }))?;
    Ok(None)
}

fn endures_lost_nodes(pod: &Value) -> bool {
    read::list(pod, "/spec/tolerations").iter().any(|toleration| {
        let is_about = ["", "node.kubernetes.io/unreachable"].contains(&read::text(toleration, "/key"));
        is_about && toleration.get("tolerationSeconds").is_none()
    })
}

fn write_status(api: &mut Api, name: &str, pod: &Value, status: Value) -> Result<(), ApiError> {
    if pod.get("status") == Some(&status) {
        return Ok(());
    }
    let manager = if name.starts_with("system:node:") { "kubelet" } else { "kube-controller-manager" };
    api.write(Write::new(&user(name), manager, Verb::Replace(writes::with_status(pod, status))).on("status")).map(drop)
}

fn user(name: &str) -> User {
    let group = if name.starts_with("system:node:") { "system:nodes" } else { "system:authenticated" };
    User { name: name.to_owned(), groups: vec![group.to_owned()], claims: Vec::new() }
}

/// The name of what runs the pod in the end: its Deployment rather than its ReplicaSet.
fn workload_of(api: &Api, pod: &Value) -> String {
    let mut name = meta::name(pod).to_owned();
    let mut next = read::controller_key(pod);
    // A CronJob's pod is two away from it; owners in a circle are nobody's workload.
    for _ in 0..3 {
        let Some(key) = next else {
            break;
        };
        next = api.get_arc(&key.kind, &key.namespace, &key.name).and_then(|owner| read::controller_key(&owner));
        // Only workloads count: an operator's custom resource names something else.
        if key.kind.group == "apps" || key.kind.group == "batch" {
            name = key.name;
        }
    }
    name
}

fn subject<'a>(pod: &'a Value, workload: &'a str) -> Subject<'a> {
    let images = read::list(pod, "/spec/containers").iter().map(|container| read::text(container, "/image"));
    Subject { namespace: meta::namespace(pod), workload, images: images.collect() }
}

/// The kind of pods.
pub(super) fn kind() -> GroupKind {
    GroupKind::new("", "Pod")
}
