//! Reading: what a run made, as far as the part it is in looks at it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use interlock_core::{
    backup::{
        maintenance,
        observed::JOB_NAME_LABEL,
        repository::{self as claims_core, HolderState},
    },
    change::INTERLOCK_NAMESPACE,
    drill::{
        names::{self, PodRole},
        observed, permit, proof,
        run::{self, Access, ClaimState, DrillFact, DrillFacts, JobState, PodState, SandboxState, Seen, VolumeState},
        select::{self, Candidate},
        validate,
    },
    object::ObjectId,
    port::{Identity, Port, PortError},
};
use interlock_crds::{
    Backup, BackupPolicy, BackupPolicySpec, BackupRepository, DrillPhase, DrillRun, DrillRunStatus, PinnedDrill,
    RestoreDrill, RestoreDrillSpec, ShuffleState,
};
use jiff::Timestamp;
use serde_json::Value;

use super::act::Thing;
use crate::{
    backup::{observe as backups, repository},
    change::Context,
    claims,
    index::{BackupKey, beside},
};

/// The Service that is dialled unless a drill names another one: the webhook's, whose pods answer.
const OWN_SERVICE: &str = "interlock-webhook";

/// What a run refers to.
pub(super) struct Parts {
    pub drill: Option<Arc<RestoreDrill>>,
    pub policy: Option<Arc<BackupPolicy>>,
    pub repository: Option<Arc<BackupRepository>>,
    pin: Option<PinnedDrill>,
    refusal: Option<String>,
    /// Under whose rights the namespace of the repository is written.
    pub executor: Result<Identity, String>,
    /// What is carried out, once it is pinned.
    pub plan: Option<(RestoreDrillSpec, BackupPolicySpec)>,
}

/// What cannot be used of a drill and what it refers to.
pub(super) fn problems<P: Port>(
    context: &Context<P>,
    key: &str,
    drill: &RestoreDrill,
) -> (Option<Arc<BackupPolicy>>, Option<Arc<BackupRepository>>, Vec<String>) {
    let (policy, repository) = context.ask(|index| {
        let policy = index.backup_policy(&beside(key, &drill.spec.policy_ref.name));
        let repository =
            policy.as_ref().and_then(|policy| index.backup_repository(&beside(key, &policy.spec.repository_ref.name)));
        (policy, repository)
    });
    let mut wrong = validate::problems(&drill.spec);
    wrong.extend(validate::references(&drill.spec, policy.as_ref().map(|policy| &policy.spec)));
    if let (Some(policy), None) = (&policy, &repository) {
        wrong.push(format!("BackupRepository {} does not exist in this namespace", policy.spec.repository_ref.name));
    }
    let namespace = drill.metadata.namespace.as_deref().unwrap_or_default();
    wrong.extend(backups::executor(context, namespace).err());
    (policy, repository, wrong)
}

pub(super) fn parts<P: Port>(context: &Context<P>, key: &str, object: &DrillRun) -> Parts {
    let status = object.status.clone().unwrap_or_default();
    let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
    let drill = context.ask(|index| index.restore_drill(&beside(key, &object.spec.drill_ref.name)));
    let (policy, mut repository, wrong) = match &drill {
        Some(drill) => problems(context, key, drill),
        None => (None, None, Vec::new()),
    };
    let pin = drill.as_deref().zip(policy.as_deref()).zip(repository.as_deref());
    let pin = pin.map(|((drill, policy), repository)| run::pin(drill, policy, repository));
    if let Some(pinned) = &status.pinned {
        repository = context.ask(|index| index.backup_repository(&beside(key, &pinned.repository)));
        repository = repository.filter(|known| known.metadata.uid.as_ref() == Some(&pinned.repository_uid));
    }
    Parts {
        refusal: (!wrong.is_empty()).then(|| wrong.join("; ")),
        executor: backups::executor(context, namespace),
        plan: status.pinned.as_ref().and_then(|_| run::carried_out(&object.spec, &status).ok()),
        drill,
        policy,
        repository,
        pin,
    }
}

/// What is there of a run.
pub(super) struct Observed {
    candidates: Vec<Candidate>,
    proven: BTreeSet<String>,
    shuffle: ShuffleState,
    held: Option<Timestamp>,
    kept_out: Option<String>,
    job: Seen<JobState>,
    claim: Seen<ClaimState>,
    volume: Seen<VolumeState>,
    /// The volume as it was read.
    pub live_volume: Option<Value>,
    sandbox: Seen<SandboxState>,
    sandbox_claim: Seen<ClaimState>,
    pods: BTreeMap<PodRole, Seen<PodState>>,
    target: Option<String>,
    /// Names and addresses of the pods that serve.
    pub aliases: Vec<(String, String)>,
}

impl Observed {
    /// The facts that the core decides on.
    pub fn facts<'a>(
        &'a self,
        object: &'a DrillRun,
        recorded: &'a DrillRunStatus,
        parts: &'a Parts,
        hmac: &'a dyn Fn(&str) -> String,
        drill: Option<DrillFact<'a>>,
        now: Timestamp,
    ) -> DrillFacts<'a> {
        DrillFacts {
            name: object.metadata.name.as_deref().unwrap_or_default(),
            uid: object.metadata.uid.as_deref().unwrap_or_default(),
            namespace: object.metadata.namespace.as_deref().unwrap_or_default(),
            generation: object.metadata.generation.unwrap_or_default(),
            created_at: object.metadata.creation_timestamp.as_ref().map_or(now, |at| at.0),
            deleting: object.metadata.deletion_timestamp.is_some(),
            spec: &object.spec,
            status: recorded,
            drill,
            candidates: Some(&self.candidates),
            shuffle: &self.shuffle,
            proven: &self.proven,
            repository: match (self.held, self.kept_out.as_deref()) {
                (Some(since), _) => Access::Held(since),
                (None, Some(why)) => Access::Waiting(why),
                (None, None) => Access::Unknown,
            },
            repository_id: repository_id(parts),
            restore_job: &self.job,
            claim: &self.claim,
            volume: &self.volume,
            sandbox: &self.sandbox,
            sandbox_claim: &self.sandbox_claim,
            pods: &self.pods,
            target: self.target.as_deref(),
            skew: interlock_core::drill::clock::CLOCK_SKEW,
            hmac,
            now,
        }
    }
}

/// restic's id of the repository.
pub(super) fn repository_id(parts: &Parts) -> Option<&str> {
    parts.repository.as_ref()?.status.as_ref()?.repository_id.as_deref()
}

impl Parts {
    /// The drill as the core looks at it.
    pub fn drill_fact(&self) -> Option<DrillFact<'_>> {
        Some(DrillFact { pin: self.pin.as_ref()?, refusal: self.refusal.as_deref() })
    }

    /// A pin for a drill that cannot be begun, so that its refusal is told.
    pub fn refused(&self) -> Option<(PinnedDrill, &str)> {
        let (drill, why) = (self.drill.as_ref()?, self.refusal.as_deref()?);
        let pin = PinnedDrill {
            drill_uid: drill.metadata.uid.clone().unwrap_or_default(),
            generation: drill.metadata.generation.unwrap_or_default(),
            spec_digest: String::new(),
            spec: Value::Null,
            policy_uid: String::new(),
            policy_digest: String::new(),
            policy_spec: Value::Null,
            repository: String::new(),
            repository_uid: String::new(),
        };
        self.pin.is_none().then_some((pin, why))
    }
}

/// Every pod that a run may have. Without its drill these are the ones that each may have; others go with the sandbox.
fn roles(drill: Option<&RestoreDrillSpec>) -> Vec<PodRole> {
    let fixed = [PodRole::OutsideProbe, PodRole::InsideProbe, PodRole::Fault, PodRole::Application, PodRole::Wipe];
    let dependencies = (0..drill.map_or(0, |drill| drill.sandbox.dependencies.len())).map(PodRole::Dependency);
    let validations = (0..drill.map_or(0, |drill| drill.validations.len())).map(PodRole::Validation);
    fixed.into_iter().chain(dependencies).chain(validations).collect()
}

struct Look<'a, P> {
    context: &'a Context<P>,
    object: &'a DrillRun,
    recorded: &'a DrillRunStatus,
    parts: &'a Parts,
    refused: &'a BTreeMap<Thing, String>,
}

/// Looks at what the run made; from now on each change of that wakes it.
pub(super) async fn observe<P: Port>(
    context: &Context<P>,
    key: &str,
    object: &DrillRun,
    recorded: &DrillRunStatus,
    parts: &Parts,
    refused: &BTreeMap<Thing, String>,
    now: Timestamp,
) -> Result<Observed, PortError> {
    let look = Look { context, object, recorded, parts, refused };
    context.port.watch(&BackupKey::DrillRun(key.to_owned()).waiter(), &look.interest());
    // In this order: a prune notes what it forgets before it lets go of the repository, so whoever holds it finds that noted.
    let (held, kept_out) = look.access(key, now).await?;
    let (candidates, proven, shuffle) = look.points(key).await?;
    let phase = recorded.phase;
    let over = phase.is_terminal() && recorded.cleanup.state != interlock_crds::CleanupState::Done;
    let made = recorded.sandbox.is_some();
    let job = if look.may_have_job() { look.job().await? } else { Seen::Absent };
    let hands_over = made && (phase == DrillPhase::HandingOver || over);
    let claim =
        if made && (phase == DrillPhase::Provisioning || hands_over) { look.claim().await? } else { Seen::Unknown };
    let sandbox = if made && (phase >= DrillPhase::Provisioning) { look.sandbox().await? } else { Seen::Unknown };
    let (volume, live_volume) = if hands_over { look.volume(&claim, &sandbox).await? } else { (Seen::Unknown, None) };
    let sandbox_claim = if hands_over { look.sandbox_claim().await? } else { Seen::Unknown };
    let has_pods =
        matches!(phase, DrillPhase::Probing | DrillPhase::Starting | DrillPhase::Validating) || (made && over);
    let (pods, aliases) = if has_pods { look.pods().await? } else { (BTreeMap::new(), Vec::new()) };
    let target = if phase == DrillPhase::Probing { look.target().await? } else { None };
    Ok(Observed {
        candidates,
        proven,
        shuffle,
        held,
        kept_out,
        job,
        claim,
        volume,
        live_volume,
        sandbox,
        sandbox_claim,
        pods,
        target,
        aliases,
    })
}

impl<P: Port> Look<'_, P> {
    fn name(&self) -> &str {
        self.object.metadata.name.as_deref().unwrap_or_default()
    }

    fn uid(&self) -> &str {
        self.object.metadata.uid.as_deref().unwrap_or_default()
    }

    fn namespace(&self) -> &str {
        self.object.metadata.namespace.as_deref().unwrap_or_default()
    }

    /// The drill that is carried out; none if the record of it is broken.
    fn drill(&self) -> Option<&RestoreDrillSpec> {
        self.parts.plan.as_ref().map(|(drill, _)| drill)
    }

    /// Name and uid of the policy whose points are restored: the pinned one, whatever the drill says since.
    fn policy(&self) -> Option<(&str, &str)> {
        if let Some(pinned) = &self.recorded.pinned {
            return Some((self.drill()?.policy_ref.name.as_str(), pinned.policy_uid.as_str()));
        }
        let policy = &self.parts.policy.as_ref()?.metadata;
        Some((policy.name.as_deref().unwrap_or_default(), policy.uid.as_deref().unwrap_or_default()))
    }

    fn sandbox_name(&self) -> String {
        names::sandbox(self.name(), self.uid())
    }

    fn may_have_job(&self) -> bool {
        let name = names::restore_job(self.name());
        // Of a broken record what was announced is not believed either.
        let is_broken = self.recorded.sandbox.is_some() && self.drill().is_none();
        let announced = is_broken || self.recorded.jobs.iter().any(|job| job.name == name);
        let phase = self.recorded.phase;
        let matters = phase <= DrillPhase::HandingOver || phase.is_terminal();
        announced && (matters || self.recorded.repository_released_at.is_none())
    }

    /// What is waited for.
    fn interest(&self) -> Vec<ObjectId> {
        let phase = self.recorded.phase;
        if self.recorded.sandbox.is_none() {
            return Vec::new();
        }
        let (sandbox, namespace) = (self.sandbox_name(), self.namespace().to_owned());
        let mut all = vec![core_id("Namespace", None, &sandbox)];
        if phase <= DrillPhase::HandingOver || phase.is_terminal() {
            all.push(id("batch", "v1", "Job", Some(&namespace), &names::restore_job(self.name())));
            all.push(core_id("PersistentVolumeClaim", Some(&namespace), &names::claim(self.name())));
            all.push(core_id("PersistentVolumeClaim", Some(&sandbox), names::SANDBOX_CLAIM));
            let volume = self.recorded.sandbox.as_ref().and_then(|record| record.volume.as_deref());
            all.extend(volume.map(|volume| core_id("PersistentVolume", None, volume)));
        }
        if phase == DrillPhase::Probing {
            // An EndpointSlice goes by the name of its Service.
            let (service, namespace, _) = self.dialled();
            all.push(id("discovery.k8s.io", "v1", "EndpointSlice", Some(namespace), service));
        }
        if phase >= DrillPhase::Probing {
            all.extend(roles(self.drill()).into_iter().map(|role| {
                let namespace = if role == PodRole::OutsideProbe { INTERLOCK_NAMESPACE } else { &sandbox };
                core_id("Pod", Some(namespace), &role.name(self.uid()))
            }));
        }
        all
    }

    /// Recovery points, what earlier runs proved, and how far the shuffle got. The point that was chosen is read anew: a prune
    /// may have forgotten it while the run waited.
    async fn points(&self, key: &str) -> Result<(Vec<Candidate>, BTreeSet<String>, ShuffleState), PortError> {
        let drill = self.parts.drill.as_ref();
        let shuffle = drill.and_then(|drill| drill.status.as_ref()?.shuffle.clone()).unwrap_or_default();
        if self.recorded.phase > DrillPhase::Queued {
            return Ok((Vec::new(), BTreeSet::new(), shuffle));
        }
        let Some((policy, policy_uid)) = self.policy() else { return Ok((Vec::new(), BTreeSet::new(), shuffle)) };
        let policy_key = beside(key, policy);
        let (backups_of, runs) = self.context.ask(|index| {
            let runs = index.runs_of_drill(&beside(key, &self.object.spec.drill_ref.name));
            (index.backups_of(&policy_key), runs)
        });
        let mut candidates: Vec<_> =
            backups_of.iter().filter_map(|backup| select::candidate(backup, policy_uid)).collect();
        if let Some(chosen) = &self.recorded.chosen {
            let live: Option<Backup> = backups::own(self.context, "Backup", &beside(key, &chosen.backup)).await?;
            let live = live.as_ref().and_then(|backup| select::candidate(backup, policy_uid));
            candidates.retain(|candidate| candidate.uid != chosen.uid);
            candidates.extend(live);
        }
        let digest = self.parts.pin.as_ref().map(|pin| pin.spec_digest.as_str());
        let counted = runs.iter().filter(|run| !proof::selects_otherwise(run));
        let passed = counted.filter_map(|run| run.status.as_ref()).filter(|status| {
            status.phase == DrillPhase::Passed
                && status.pinned.as_ref().map(|pinned| pinned.spec_digest.as_str()) == digest
        });
        let proven = passed.filter_map(|status| Some(status.chosen.as_ref()?.backup.clone())).collect();
        Ok((candidates, proven, shuffle))
    }

    /// Since when the run holds its repository, and what keeps it out if it does not.
    async fn access(&self, key: &str, now: Timestamp) -> Result<(Option<Timestamp>, Option<String>), PortError> {
        let (true, Some(known)) = (self.recorded.phase == DrillPhase::Queued, &self.parts.repository) else {
            return Ok((None, None));
        };
        let held = claims::read(&self.context.port, known.metadata.uid.as_deref().unwrap_or_default()).await?;
        if let Some(own) = held.holders.iter().find(|claim| claim.uid == self.uid()) {
            return Ok((Some(own.since), None));
        }
        let kept_out = known.status.as_ref().map_or_else(
            || Some("nothing is known of it yet".to_owned()),
            |status| maintenance::keeps_runs_out(&known.spec, status, &[]),
        );
        if kept_out.is_some() {
            return Ok((None, kept_out));
        }
        let wanting =
            repository::wanting(self.context, &beside(key, known.metadata.name.as_deref().unwrap_or_default()), known);
        let arrangement = claims_core::arrange(&held.holders, &wanting, |_| HolderState::Live, now);
        Ok((None, arrangement.told(self.uid()).map(ToOwned::to_owned)))
    }

    async fn get(&self, id: &ObjectId) -> Result<Option<Value>, PortError> {
        self.context.port.live_get(&Identity::Controller, id).await
    }

    fn or_refused<T>(&self, seen: Seen<T>, thing: &Thing) -> Seen<T> {
        match (seen, self.refused.get(thing)) {
            (Seen::Absent, Some(why)) => Seen::Refused(why.clone()),
            (seen, _) => seen,
        }
    }

    async fn job(&self) -> Result<Seen<JobState>, PortError> {
        let (namespace, name) = (self.namespace(), names::restore_job(self.name()));
        let job = self.get(&backups::job_id(namespace, &name)).await?;
        let pods = match &job {
            Some(_) => {
                let label = format!("{JOB_NAME_LABEL}={name}");
                self.context.port.live_list_labelled("", "v1", "Pod", Some(namespace), &label).await?
            }
            None => Vec::new(),
        };
        Ok(self.or_refused(observed::job(job.as_ref(), &pods, self.uid()), &Thing::RestoreJob))
    }

    async fn claim(&self) -> Result<Seen<ClaimState>, PortError> {
        let id = core_id("PersistentVolumeClaim", Some(self.namespace()), &names::claim(self.name()));
        Ok(self.or_refused(observed::claim(self.get(&id).await?.as_ref(), self.uid()), &Thing::Claim))
    }

    async fn sandbox_claim(&self) -> Result<Seen<ClaimState>, PortError> {
        let id = core_id("PersistentVolumeClaim", Some(&self.sandbox_name()), names::SANDBOX_CLAIM);
        Ok(self.or_refused(observed::claim(self.get(&id).await?.as_ref(), self.uid()), &Thing::SandboxClaim))
    }

    async fn volume(
        &self,
        claim: &Seen<ClaimState>,
        sandbox: &Seen<SandboxState>,
    ) -> Result<(Seen<VolumeState>, Option<Value>), PortError> {
        let recorded = self.recorded.sandbox.as_ref().and_then(|record| record.volume.clone());
        let of_claim = match claim {
            Seen::Ours(claim) => claim.volume.clone(),
            _ => None,
        };
        let live = match (recorded.or(of_claim), claim) {
            (Some(name), _) => self.get(&core_id("PersistentVolume", None, &name)).await?,
            (None, Seen::Ours(_) | Seen::Unknown) => return Ok((Seen::Unknown, None)),
            (None, Seen::Absent | Seen::Refused(_) | Seen::Foreign) => self.unclaimed_volume(sandbox).await?,
        };
        Ok((observed::volume(live.as_ref(), self.uid()), live))
    }

    /// The volume of a claim that went before it was noted which it had. No index keeps volumes, so they are listed; that is for
    /// runs alone whose claim was there and is not, and not while the sandbox goes, as it was looked for before.
    async fn unclaimed_volume(&self, sandbox: &Seen<SandboxState>) -> Result<Option<Value>, PortError> {
        let claim_uid = self.recorded.sandbox.as_ref().and_then(|record| record.claim_uid.as_deref());
        let goes = matches!(sandbox, Seen::Ours(sandbox) if sandbox.terminating);
        if goes || (claim_uid.is_none() && self.drill().is_some()) {
            return Ok(None);
        }
        let all = self.context.port.live_list("", "v1", "PersistentVolume", None).await?;
        Ok(observed::volume_of(&all, self.uid(), claim_uid).cloned())
    }

    async fn sandbox(&self) -> Result<Seen<SandboxState>, PortError> {
        let name = self.sandbox_name();
        let namespace = self.get(&core_id("Namespace", None, &name)).await?;
        let mut guards = Vec::new();
        let matters = matches!(self.recorded.phase, DrillPhase::Provisioning | DrillPhase::Probing);
        if namespace.is_some() && matters {
            for (group, kind) in [("", "ResourceQuota"), ("networking.k8s.io", "NetworkPolicy")] {
                let listed = self.context.port.live_list(group, "v1", kind, Some(&name)).await?;
                // A list's items do not say what they are.
                guards.extend(listed.into_iter().map(|mut item| {
                    item["kind"] = Value::from(kind);
                    item
                }));
            }
        }
        let reference = permit::reference(self.object);
        let mark = self.context.hmac(&reference.marked());
        let seen = observed::sandbox(namespace.as_ref(), &guards, &reference, self.drill(), &mark);
        Ok(self.or_refused(seen, &Thing::Sandbox))
    }

    async fn pods(&self) -> Result<(BTreeMap<PodRole, Seen<PodState>>, Vec<(String, String)>), PortError> {
        let listed = self.context.port.live_list("", "v1", "Pod", Some(&self.sandbox_name())).await?;
        let named =
            |name: &str| listed.iter().find(|pod| pod.pointer("/metadata/name").and_then(Value::as_str) == Some(name));
        let mut pods = BTreeMap::new();
        for role in roles(self.drill()) {
            let name = role.name(self.uid());
            let outside;
            let live = if role == PodRole::OutsideProbe {
                outside = self.get(&core_id("Pod", Some(INTERLOCK_NAMESPACE), &name)).await?;
                outside.as_ref()
            } else {
                named(&name)
            };
            let seen = observed::pod(live, self.uid(), role);
            pods.insert(role, self.or_refused(seen, &Thing::Pod(role)));
        }
        let address = |role: PodRole, name: &str| {
            let pod = named(&role.name(self.uid())).filter(|pod| observed::is_of(pod, self.uid()))?;
            let address = pod.pointer("/status/podIP").and_then(Value::as_str)?;
            Some((name.to_owned(), address.to_owned()))
        };
        let dependencies = self.drill().into_iter().flat_map(|drill| drill.sandbox.dependencies.iter().enumerate());
        let mut aliases: Vec<_> =
            dependencies.filter_map(|(index, known)| address(PodRole::Dependency(index), &known.name)).collect();
        aliases.extend(address(PodRole::Application, validate::APPLICATION_HOST));
        Ok((pods, aliases))
    }

    /// Name and namespace of the Service whose pods the probes dial, and the port if it is not that of the Service.
    fn dialled(&self) -> (&str, &str, Option<u16>) {
        let named = self.drill().and_then(|drill| drill.sandbox.isolation_target.as_ref());
        let of_drill = named.and_then(|target| Some((target.service.split_once('.')?, target.port)));
        of_drill.map_or((OWN_SERVICE, INTERLOCK_NAMESPACE, None), |((service, namespace), port)| {
            (service, namespace, Some(port))
        })
    }

    /// What the probes dial: the one that was noted, as long as it answers.
    async fn target(&self) -> Result<Option<String>, PortError> {
        let (service, namespace, port) = self.dialled();
        let label = format!("kubernetes.io/service-name={service}");
        let group = "discovery.k8s.io";
        let slices =
            self.context.port.live_list_labelled(group, "v1", "EndpointSlice", Some(namespace), &label).await?;
        let found = observed::targets(&slices, port);
        let noted = self.recorded.isolation.as_ref().map(|isolation| isolation.target.clone());
        Ok(noted.filter(|noted| found.contains(noted)).or_else(|| found.into_iter().next()))
    }
}

/// The id of an object of the core group.
pub(super) fn core_id(kind: &str, namespace: Option<&str>, name: &str) -> ObjectId {
    id("", "v1", kind, namespace, name)
}

pub(super) fn id(group: &str, version: &str, kind: &str, namespace: Option<&str>, name: &str) -> ObjectId {
    ObjectId {
        group: group.to_owned(),
        version: version.to_owned(),
        kind: kind.to_owned(),
        namespace: namespace.map(ToOwned::to_owned),
        name: name.to_owned(),
    }
}
