//! StatefulSets by partition, DaemonSets by nodes: pods are replaced in place, some at a time.

use std::collections::BTreeSet;

use interlock_crds::{
    BatchStrategy, Form, RolloutPhase, StartRecord, VersionCounts, VersionHashes, Weights, WorkloadKind,
};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::{
    REVISION_LABEL, capacity,
    derive::{batch, workload},
    live,
    pass::{Pass, Reach, Strategy},
};
use crate::{
    mutants::{self, Mutant},
    object::{Health, health},
};

/// Added to a message when a disruption budget holds a batch up.
const NO_DISRUPTION: &str = "; a PodDisruptionBudget allows no further pod to be replaced now";

/// A workload in batches, as one pass sees it.
struct Batches<'a> {
    workload: &'a Value,
    is_daemon_set: bool,
    version: workload::Version,
    size: u32,
    pods: Vec<&'a Value>,
    /// Revision of the old version, as it was recorded; empty before the release begins.
    stable: String,
    /// Revision of the new version, as it was recorded; empty until it is known.
    canary: String,
    /// Revision that the workload states now; none until its controller has made it.
    stated: Option<String>,
}

impl<'a> Batches<'a> {
    fn of(pass: &Pass<'a>) -> Option<Self> {
        let target = pass.facts.spec.targets.first()?;
        let workload = pass.facts.live.get(&live::workload_id(target))?;
        let is_daemon_set = target.kind == WorkloadKind::DaemonSet;
        let size = if is_daemon_set {
            live::count(workload, "/status/desiredNumberScheduled")
        } else {
            live::replicas(workload)
        };
        let stated = if !live::is_observed(workload) {
            None
        } else if is_daemon_set {
            let revisions = pass.facts.live.of_kind("apps", "ControllerRevision");
            let newest = revisions
                .filter(|revision| live::is_controlled_by(revision, workload))
                .max_by_key(|revision| revision.get("revision").and_then(Value::as_i64));
            newest.map(|revision| live::label(revision, REVISION_LABEL).to_owned())
        } else {
            Some(live::text(workload, "/status/updateRevision").to_owned())
        };
        let mut pods: Vec<_> =
            pass.facts.live.of_kind("", "Pod").filter(|pod| live::is_controlled_by(pod, workload)).collect();
        pods.sort_by_key(|pod| (live::text(pod, "/spec/nodeName"), live::text(pod, "/metadata/name")));
        let hashes = pass.status.hashes.clone().unwrap_or_default();
        Some(Self {
            workload,
            is_daemon_set,
            version: pass.facts.target.map_or(workload::Version::Other, |target| workload::version(workload, target)),
            size,
            pods,
            stable: hashes.stable,
            canary: hashes.canary,
            stated: stated.filter(|revision| !revision.is_empty()),
        })
    }

    fn ready_of(&self, revision: &str) -> u32 {
        self.pods.iter().filter(|pod| has(pod, revision) && is_ready(pod)).count() as u32
    }

    fn of_revision(&self, revision: &str) -> u32 {
        self.pods.iter().filter(|pod| has(pod, revision) && !live::is_deleting(pod)).count() as u32
    }

    /// Whether a pod has the old version: as it was recorded, or as a workload with that version states it now, because
    /// somebody restarted it meanwhile. A DaemonSet's revisions are told apart from it: right after it was given its old
    /// version the newest that was told may still be that of the new one, which never counts.
    fn is_old(&self, pod: &Value) -> bool {
        let is_new = |revision: &str| !self.canary.is_empty() && revision == self.canary;
        let stated = self.stated.as_deref().filter(|_| self.version == workload::Version::Old);
        let restarted = stated.filter(|revision| !is_new(revision));
        has(pod, &self.stable) || restarted.is_some_and(|revision| has(pod, revision))
    }

    fn old_pods(&self) -> u32 {
        self.pods.iter().filter(|pod| self.is_old(pod) && !live::is_deleting(pod)).count() as u32
    }

    fn old_ready(&self) -> u32 {
        self.pods.iter().filter(|pod| self.is_old(pod) && is_ready(pod)).count() as u32
    }

    /// Where a pod stands in its StatefulSet, from 0 on.
    fn index(&self, pod: &Value) -> Option<u32> {
        let (_, ordinal) = live::text(pod, "/metadata/name").rsplit_once('-')?;
        ordinal.parse::<u32>().ok()?.checked_sub(live::count(self.workload, "/spec/ordinals/start"))
    }

    /// From which index on the pods of a StatefulSet are given the new version already; its size if none is.
    fn given_from(&self) -> u32 {
        let rolls = live::text(self.workload, "/spec/updateStrategy/type") != "OnDelete";
        let is_new = self.version == workload::Version::New;
        let partition = live::count(self.workload, "/spec/updateStrategy/rollingUpdate/partition").min(self.size);
        if is_new && rolls { partition } else { self.size }
    }

    /// Pods that are missing, or not ready for as long as the workload asks (`minReadySeconds`).
    fn unready(&self, now: Timestamp) -> u32 {
        let available = |pod: &&&Value| self.available_at(pod).is_some_and(|at| at <= now);
        self.size.saturating_sub(self.pods.iter().filter(available).count() as u32)
    }

    /// When the next pod has been ready for long enough.
    fn settles(&self, now: Timestamp) -> Option<Timestamp> {
        self.pods.iter().filter_map(|pod| self.available_at(pod)).filter(|at| *at > now).min()
    }

    fn available_at(&self, pod: &Value) -> Option<Timestamp> {
        let least = i64::from(live::count(self.workload, "/spec/minReadySeconds"));
        let since = || {
            let conditions = pod.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten();
            let ready = conditions.into_iter().find(|c| live::text(c, "/type") == "Ready")?;
            live::text(ready, "/lastTransitionTime").parse::<Timestamp>().ok()
        };
        match (is_ready(pod), least) {
            (false, _) => None,
            (true, 0) => Some(Timestamp::MIN),
            (true, _) => Some(since()?.checked_add(SignedDuration::from_secs(least)).unwrap_or(Timestamp::MAX)),
        }
    }
}

fn has(pod: &Value, revision: &str) -> bool {
    live::label(pod, REVISION_LABEL) == revision
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten();
    !live::is_deleting(pod)
        && conditions.into_iter().any(|c| live::text(c, "/type") == "Ready" && live::text(c, "/status") == "True")
}

impl Pass<'_> {
    /// One pass of a release in batches.
    pub fn batches(&mut self, strategy: Strategy<'_>, plan: &BatchStrategy) {
        let Some(b) = Batches::of(self) else {
            return self.without_workload();
        };
        if self.status.phase.is_at_rest() {
            return;
        }
        self.follow_restart_in_place(&b);
        self.observe_batches(&b);
        match self.status.phase {
            RolloutPhase::Pending => return self.begin_batches(&b, plan),
            RolloutPhase::Aborting if self.status.start.is_none() => return self.never_begun(),
            RolloutPhase::Aborting => return self.back_batches(&b),
            _ => {}
        }
        if self.status.promotion.is_none() {
            self.take_steps(strategy, &mut |pass| {
                if pass.status.hold.is_some() {
                    return Reach::There;
                }
                let asked = pass.status.asked.clone().unwrap_or_default();
                let batch = asked.replicas.unwrap_or_else(|| capacity::pods_for(b.size, asked.weight, None));
                pass.reach_batch(&b, batch.min(b.size), plan.failure_threshold)
            });
        }
        if self.status.promotion.is_some() && self.status.phase != RolloutPhase::Aborting {
            self.status.current_step = self.status.steps;
            self.phase(if self.status.hold.is_some() { RolloutPhase::Paused } else { RolloutPhase::Promoting });
            match self.status.hold.clone() {
                Some(hold) => self.say(hold.message),
                None => self.promote_batches(&b, plan.failure_threshold),
            }
        }
    }

    /// Somebody restarted the workload before its first batch: the old version is the one with the new revision as soon as
    /// most of its pods have it. On the way back both revisions count, so that no pod is replaced without need.
    fn follow_restart_in_place(&mut self, b: &Batches<'_>) {
        if b.version != workload::Version::Old || self.status.phase == RolloutPhase::Aborting {
            return;
        }
        let (Some(hashes), Some(stated)) = (&mut self.status.hashes, &b.stated) else { return };
        let ready = b.ready_of(stated);
        if [&hashes.stable, &hashes.canary].contains(&stated) || ready == 0 || ready < b.ready_of(&hashes.stable) {
            return;
        }
        hashes.stable.clone_from(stated);
        self.say("the pods of the old version were replaced by others of the same version; these count from now on");
    }

    fn observe_batches(&mut self, b: &Batches<'_>) {
        let Some(hashes) = &mut self.status.hashes else { return };
        if b.version == workload::Version::New
            && let Some(stated) = &b.stated
            && *stated != hashes.stable
        {
            hashes.canary.clone_from(stated);
        }
        let (old, new) = (b.old_ready(), if hashes.canary.is_empty() { 0 } else { b.ready_of(&hashes.canary) });
        let asked = self.status.asked.clone().unwrap_or_default();
        let promoting = self.status.promotion.is_some() || self.status.phase == RolloutPhase::Succeeded;
        let desired = if self.status.cause.is_some() {
            0
        } else if promoting {
            100
        } else {
            asked.weight
        };
        self.status.replicas = Some(VersionCounts { old, new, new_desired: capacity::pods_for(b.size, desired, None) });
        self.status.weights = Some(Weights {
            desired: interlock_crds::Split::of(desired),
            observed: interlock_crds::Split::of(capacity::share_by_pods(old, new)),
        });
    }

    fn begin_batches(&mut self, b: &Batches<'_>, plan: &BatchStrategy) {
        self.status.steps = plan.steps.len() as u32;
        let strategy = b.workload.pointer("/spec/updateStrategy").cloned().unwrap_or(Value::Null);
        let name = live::name_of(Some(b.workload));
        if self.facts.target.is_none() {
            return self.say("the stored plan of the change could not be read");
        }
        if let Some(unknown) = self.unknown_analysis() {
            return self.say(unknown);
        }
        if live::text(&strategy, "/type") == "OnDelete" {
            return self.say(format!(
                "{name} has updateStrategy OnDelete, whose pods a person replaces; give it RollingUpdate"
            ));
        }
        if b.is_daemon_set
            && !matches!(live::text_of(&strategy, "/rollingUpdate/maxSurge").as_str(), "" | "0" | "\"0\"" | "\"0%\"")
        {
            return self.say(format!(
                "{name} has maxSurge, and batches replace pods in place; give it maxUnavailable instead"
            ));
        }
        // Pods of a version that never became ready do not count: most ready pods say which version serves.
        let serving = b.pods.iter().map(|pod| live::label(pod, REVISION_LABEL)).max_by_key(|revision| {
            (b.ready_of(revision), Some(*revision) == b.stated.as_deref(), (*revision).to_owned())
        });
        let Some(serving) = serving.map(ToOwned::to_owned).or_else(|| b.stated.clone()) else {
            return self.say(format!("no controller has looked at {name} yet"));
        };
        let ready = b.ready_of(&serving);
        self.status.hashes = Some(VersionHashes { stable: serving, canary: String::new() });
        self.status.start = Some(StartRecord {
            replicas: b.size,
            ready: (ready < b.size).then_some(ready),
            autoscaler: None,
            route_weights: Vec::new(),
            update_strategy: if strategy.is_object() { strategy.to_string() } else { String::new() },
        });
        self.started();
    }

    /// So many pods of the new version.
    fn reach_batch(&mut self, b: &Batches<'_>, batch_size: u32, threshold: u8) -> Reach {
        if batch_size == 0 {
            return Reach::There;
        }
        let Some(target) = self.facts.target else { return Reach::waiting("the stored plan could not be read", 0) };
        let (mut given, mut hindered) = (batch_size, "");
        let (form, number, object) = if b.is_daemon_set {
            (Form::OnDelete, None, batch::on_delete(b.workload, target))
        } else {
            let (partition, why) = self.lowered(b, b.size.saturating_sub(batch_size));
            (given, hindered) = (b.size.saturating_sub(partition), why);
            (Form::Partition, Some(i64::from(partition)), batch::partitioned(b.workload, target, partition))
        };
        self.write(form, number, "", Some(b.workload), object);
        if self.has_planned() {
            return Reach::waiting(format!("{given} of {} pods are given the new version{hindered}", b.size), 0);
        }
        let Some(new) = b.stated.clone().filter(|_| b.version == workload::Version::New) else {
            return Reach::waiting("its controller has not looked at the new version yet", 0);
        };
        let ready = b.ready_of(&new);
        let required = capacity::required_ready(batch_size, threshold);
        let tolerated = batch_size.saturating_sub(required);
        if b.is_daemon_set {
            // Counted by the pods that are left, as a deleted pod's successor may not be there yet.
            let others = b.pods.iter().filter(|pod| !has(pod, &new) && !live::is_deleting(pod)).count() as u32;
            let missing = others.saturating_sub(b.size.saturating_sub(batch_size));
            hindered = self.replace_pods(b, missing, tolerated, &|pod| !has(pod, &new));
        }
        // What the plan tolerates is unready pods, not pods that were never given the new version.
        let given = b.of_revision(&new);
        if ready >= required && given >= batch_size {
            return Reach::There;
        }
        let message = if ready < required {
            format!("{ready} of {batch_size} pods of the batch are ready, {required} must be{hindered}")
        } else {
            let ready = format!("{ready} of {batch_size} pods of the batch are ready");
            format!("{ready} and {given} have the new version, which all must have{hindered}")
        };
        Reach::waiting(message, ready)
    }

    /// Deletes pods so that new ones take their place: no more at once than the workload and its disruption budgets allow.
    /// Says what else holds it up, to be added to a message.
    fn replace_pods(
        &mut self,
        b: &Batches<'_>,
        most: u32,
        tolerated: u32,
        wanted: &dyn Fn(&Value) -> bool,
    ) -> &'static str {
        let on_its_way = b.pods.iter().filter(|pod| live::is_deleting(pod)).count() as u32;
        // What the plan tolerates are new pods that do not become ready, not pods that are taken away or only begin.
        let patience = self.facts.spec.plan.progress_deadline.signed() / 2;
        let gives_up_at = |pod: &Value| {
            let is_new = !wanted(pod) && !is_ready(pod) && !live::is_deleting(pod);
            let at = live::text(pod, "/metadata/creationTimestamp").parse::<Timestamp>().ok().filter(|_| is_new)?;
            at.checked_add(patience).ok()
        };
        let (given_up, begun): (Vec<_>, Vec<_>) =
            b.pods.iter().filter_map(|pod| gives_up_at(pod)).partition(|at| *at <= self.now);
        if let Some(next) = begun.into_iter().min() {
            self.wake(next);
        }
        let away = b.unready(self.now).saturating_sub((given_up.len() as u32).min(tolerated)).max(on_its_way);
        let at_once = if mutants::is(Mutant::AllPodsAtOnce) { u32::MAX } else { self.at_once(b) };
        let mut allowed = at_once.saturating_sub(away);
        // A budget may not have counted yet what was deleted just now.
        let mut budget = self.disruptions(b).map(|budget| budget.saturating_sub(on_its_way));
        if let Some(settled) = b.settles(self.now) {
            self.wake(settled);
        }
        let mut left = most;
        let (broken, ready): (Vec<_>, Vec<_>) =
            b.pods.iter().filter(|pod| wanted(pod) && !live::is_deleting(pod)).partition(|pod| !is_ready(pod));
        for pod in broken.into_iter().chain(ready) {
            let costs = is_ready(pod);
            if left == 0 || (costs && (allowed == 0 || budget == Some(0))) {
                let by_budget = left > 0 && costs && budget == Some(0);
                return if by_budget { NO_DISRUPTION } else { "" };
            }
            left -= 1;
            if costs {
                allowed -= 1;
                budget = budget.map(|budget| budget - 1);
            }
            self.delete(Form::ReplacedPod, pod, false);
        }
        ""
    }

    /// Pods that may be away at once: the workload's own maxUnavailable; 1 where it states none.
    fn at_once(&self, b: &Batches<'_>) -> u32 {
        let recorded = self.status.start.as_ref().map(|start| start.update_strategy.clone()).unwrap_or_default();
        let strategy: Value = serde_json::from_str(&recorded).unwrap_or_default();
        match strategy.pointer("/rollingUpdate/maxUnavailable") {
            Some(Value::String(percent)) => {
                let percent = percent.trim_end_matches('%').parse::<u32>().unwrap_or(0).min(100);
                // Kubernetes rounds it up for DaemonSets.
                (u64::from(b.size) * u64::from(percent)).div_ceil(100).max(1) as u32
            }
            Some(number) => number.as_u64().and_then(|n| u32::try_from(n).ok()).unwrap_or(1).max(1),
            None => 1,
        }
    }

    /// What disruption budgets over the workload's pods allow; none if there are none.
    fn disruptions(&self, b: &Batches<'_>) -> Option<u32> {
        let budgets = self.facts.live.of_kind("policy", "PodDisruptionBudget");
        let over_ours = budgets.filter(|budget| b.pods.iter().any(|pod| selects(budget, pod)));
        over_ours
            .map(|budget| if live::is_observed(budget) { live::count(budget, "/status/disruptionsAllowed") } else { 0 })
            .min()
    }

    /// The partition on the way to `goal` that may be written now: the StatefulSet's controller asks no disruption budget, so
    /// it is given no more ready pods than these allow. Says what else holds it up, to be added to a message.
    fn lowered(&self, b: &Batches<'_>, goal: u32) -> (u32, &'static str) {
        let Some(budget) = self.disruptions(b) else { return (goal, "") };
        let new = b.stated.as_deref().filter(|_| b.version == workload::Version::New);
        let ready_ones = b.pods.iter().filter(|pod| is_ready(pod) && new.is_none_or(|new| !has(pod, new)));
        let costly: BTreeSet<u32> = ready_ones.filter_map(|pod| b.index(pod)).filter(|index| *index < b.size).collect();
        let from = b.given_from();
        // What was given before and is not taken yet, and what a budget may not have counted yet.
        let pending = costly.iter().filter(|index| **index >= from).count() as u32;
        let away = b.size.saturating_sub(b.pods.iter().filter(|pod| !live::is_deleting(pod)).count() as u32);
        let left = budget.saturating_sub(pending.saturating_add(away));
        let too_many = costly.iter().rev().filter(|index| (goal..from).contains(*index)).nth(left as usize);
        too_many.map_or((goal, ""), |index| (index + 1, NO_DISRUPTION))
    }

    fn promote_batches(&mut self, b: &Batches<'_>, threshold: u8) {
        let written = self.status.promotion.get_or_insert_default();
        written.written = true;
        match self.rest_of_batches(b, threshold) {
            Reach::There => {
                self.finish(RolloutPhase::Succeeded);
                self.say("every pod has the new version");
            }
            Reach::Waiting { message, measure } => {
                if self.is_late(measure) {
                    self.promotion_failed(&message);
                } else {
                    self.say(message);
                }
            }
        }
    }

    fn rest_of_batches(&mut self, b: &Batches<'_>, threshold: u8) -> Reach {
        let released = self.status.promotion.as_ref().is_some_and(|promotion| promotion.returning);
        if !released {
            if let waiting @ Reach::Waiting { .. } = self.reach_batch(b, b.size, threshold) {
                return waiting;
            }
            if let Some(promotion) = &mut self.status.promotion {
                promotion.returning = true;
            }
        }
        if let Some(target) = self.facts.target {
            let recorded = self.status.start.as_ref().map(|start| start.update_strategy.clone()).unwrap_or_default();
            let object = batch::promoted(b.workload, target, &recorded);
            self.write(Form::Promoted, None, "", Some(b.workload), object);
        }
        if self.has_planned() {
            return Reach::waiting("the workload is given its own updateStrategy again", 0);
        }
        match health(b.workload) {
            Health::Healthy => Reach::There,
            Health::Progressing(why) | Health::Failed(why) if threshold > 0 => {
                self.say(format!("tolerated by the plan's failureThreshold: {why}"));
                Reach::There
            }
            Health::Progressing(why) | Health::Failed(why) => {
                Reach::waiting(why, b.pods.iter().filter(|p| is_ready(p)).count() as i64)
            }
        }
    }

    fn back_batches(&mut self, b: &Batches<'_>) {
        if self.settle() {
            return;
        }
        match self.return_batches(b) {
            Reach::There if self.awaits_creation() => self.say("a creation that was under way is waited out"),
            Reach::There => {
                let cause = self.status.cause.clone().unwrap_or_default();
                self.finish(RolloutPhase::RolledBack);
                self.status.promotion = None;
                self.say(format!("everything is as before: {cause}"));
            }
            Reach::Waiting { message, measure } => {
                let late = self.is_late(measure);
                let cause = self.status.cause.clone().unwrap_or_default();
                self.say(format!("going back ({cause}): {message}"));
                if late {
                    let unready = b.pods.iter().find(|pod| !is_ready(pod)).map(|pod| live::text(pod, "/metadata/name"));
                    let advice = unready.map(|name| format!("; pod {name} is not ready: see why, or delete it"));
                    let advice = advice.unwrap_or_default();
                    self.say(format!("this takes longer than the plan's progressDeadline{advice}"));
                }
            }
        }
    }

    fn return_batches(&mut self, b: &Batches<'_>) -> Reach {
        let Some(target) = self.facts.target else { return Reach::waiting("the stored plan could not be read", 0) };
        let recorded = self.status.start.as_ref().map(|start| start.update_strategy.clone()).unwrap_or_default();
        if b.version != workload::Version::Old {
            let object = batch::back(b.workload, target);
            if workload::version(&object, target) != workload::Version::Old {
                // What somebody else made of it goes to no further pod.
                let name = live::name_of(Some(b.workload));
                let why = "was changed by somebody else so that it cannot be given its old version";
                return Reach::waiting(format!("{name} {why}; give it that by hand"), 0);
            }
            self.write(Form::BatchesBack, None, "", Some(b.workload), object);
            return Reach::waiting("the workload is given its old version", 0);
        }
        // Only its controller tells which revision the old version has now.
        if b.stated.is_none() {
            return Reach::waiting("its controller has not looked at the old version yet", 0);
        }
        let (old, ready) = (b.old_pods(), b.old_ready());
        if old < b.size || b.pods.iter().any(|pod| !b.is_old(pod)) {
            let mut hindered = "";
            if b.is_daemon_set {
                hindered = self.replace_pods(b, u32::MAX, 0, &|pod| !b.is_old(pod));
            } else {
                // An ordered set waits for a broken pod for ever; deleting it lets the old version take its place.
                for pod in b.pods.iter().filter(|pod| !b.is_old(pod) && !is_ready(pod)) {
                    self.delete(Form::ReplacedPod, pod, false);
                }
            }
            return Reach::waiting(
                format!("{old} of {} pods have the old version{hindered}", b.size),
                i64::from(old) + i64::from(ready),
            );
        }
        let before = self.status.start.as_ref().and_then(|start| start.ready);
        let full = before.map_or(b.size, |ready| ready.min(b.size));
        if ready < full {
            return Reach::waiting(format!("{ready} of {full} pods of the old version are ready"), ready);
        }
        self.write(Form::StrategyReleased, None, "", Some(b.workload), batch::released(b.workload, &recorded));
        if self.has_planned() {
            return Reach::waiting("the workload is given its own updateStrategy again", 1_000_000);
        }
        Reach::There
    }
}

/// Whether a disruption budget is over a pod.
fn selects(budget: &Value, pod: &Value) -> bool {
    let same_namespace = live::text(budget, "/metadata/namespace") == live::text(pod, "/metadata/namespace");
    let expressions = budget.pointer("/spec/selector/matchExpressions").and_then(Value::as_array);
    let labels = budget.pointer("/spec/selector/matchLabels").and_then(Value::as_object);
    // Expressions are not read here: such a budget counts as over every pod whose labels it does not exclude.
    let any_expression = expressions.is_some_and(|all| !all.is_empty());
    let by_labels =
        labels.is_none_or(|labels| labels.iter().all(|(key, value)| value.as_str() == Some(live::label(pod, key))));
    same_namespace && by_labels && (any_expression || labels.is_some() || budget.pointer("/spec/selector").is_some())
}
