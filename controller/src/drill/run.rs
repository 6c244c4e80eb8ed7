//! A run: from its object to its verdict, its certificate and its cleanup.

use std::collections::BTreeMap;

use interlock_core::{
    drill::{
        certificate,
        objects::FINALIZER,
        permit, proof,
        run::{self as core_run, DrillDecision, DrillFact},
        status,
    },
    port::{Identity, Port, PortError},
};
use interlock_crds::{
    Backup, CertificateRef, DrillPhase, DrillRun, DrillRunStatus, DrillVerdict, RestoreDrill, ShuffleState,
};
use jiff::Timestamp;

use super::{
    act::{Act, Thing},
    observe::{self, Observed, Parts},
};
use crate::{
    backup::{
        act::{self, Created},
        observe as backups,
    },
    change::Context,
    index::{BackupKey, beside, drills::is_over},
};

/// Decisions in one pass: each but the last writes something.
const MAX_ROUNDS: usize = 16;

/// One pass; when to look again although nothing happens.
pub(super) async fn pass<P: Port>(
    context: &Context<P>,
    key: &str,
    now: Timestamp,
) -> Result<Option<Timestamp>, PortError> {
    let waiter = BackupKey::DrillRun(key.to_owned()).waiter();
    let rests = || {
        context.port.watch(&waiter, &[]);
        Ok(None)
    };
    if context.ask(|index| index.drill_run(key)).is_none_or(|known| is_over(&known)) {
        return rests();
    }
    let Some(mut object) = backups::own::<_, DrillRun>(context, "DrillRun", key).await?.filter(|run| !is_over(run))
    else {
        return rests();
    };
    let id = backups::own_id("DrillRun", key);
    if !object.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER) {
        if object.metadata.deletion_timestamp.is_some() {
            return rests();
        }
        act::finalizer(context, &id, &mut object.metadata, FINALIZER, true).await?;
    }
    let mut refused: BTreeMap<Thing, String> = BTreeMap::new();
    let mut last_writes = Vec::new();
    for _ in 0..MAX_ROUNDS {
        if !context.port.may_write() {
            return Ok(None);
        }
        let recorded = object.status.clone().unwrap_or_default();
        let parts = observe::parts(context, key, &object);
        let observed = observe::observe(context, key, &object, &recorded, &parts, &refused, now).await?;
        let decision = decide(context, &object, &recorded, &parts, &observed, now);
        let status = certified(context, &object, &recorded, decision.status);
        let wrote = status != recorded;
        if wrote {
            record(context, &mut object, &recorded, status).await?;
        }
        if let Some(shuffle) = decision.shuffle {
            remember(context, key, &object, shuffle).await?;
        }
        if is_terminal(&object) {
            if !recorded.phase.is_terminal() {
                store_certificate(context, &object).await?;
            }
            verify(context, key, &object).await?;
        }
        if decision.release {
            context.port.watch(&waiter, &[]);
            store_certificate(context, &object).await?;
            act::finalizer(context, &id, &mut object.metadata, FINALIZER, false).await?;
            return Ok(None);
        }
        // What was asked for already and has not come yet is told by the watch.
        if !wrote && decision.writes == last_writes {
            return Ok(decision.wake_at);
        }
        let newest = object.status.clone().unwrap_or_default();
        let parts = observe::parts(context, key, &object);
        let act = Act { context, object: &object, recorded: &newest, parts: &parts, observed: &observed };
        for write in &decision.writes {
            refused.extend(act.write(write).await?);
        }
        if !wrote && decision.writes.is_empty() {
            return Ok(decision.wake_at);
        }
        last_writes = decision.writes;
    }
    Err(PortError::Unavailable("the run did not settle in one pass".to_owned()))
}

fn decide<P: Port>(
    context: &Context<P>,
    object: &DrillRun,
    recorded: &DrillRunStatus,
    parts: &Parts,
    observed: &Observed,
    now: Timestamp,
) -> DrillDecision {
    let hmac = |nonce: &str| context.hmac(nonce.as_bytes());
    let substitute = parts.refused();
    let without = || substitute.as_ref().map(|(pin, why)| DrillFact { pin, refusal: Some(*why) });
    let fact = parts.drill_fact().or_else(without);
    core_run::decide(&observed.facts(object, recorded, parts, &hmac, fact, now))
}

fn is_terminal(object: &DrillRun) -> bool {
    object.status.as_ref().is_some_and(|status| status.phase.is_terminal())
}

async fn record<P: Port>(
    context: &Context<P>,
    object: &mut DrillRun,
    recorded: &DrillRunStatus,
    status: DrillRunStatus,
) -> Result<(), PortError> {
    if recorded.phase != status.phase {
        let warning = matches!(status.phase, DrillPhase::Failed | DrillPhase::Inconclusive | DrillPhase::Missed);
        let told = match status.phase {
            phase if phase.is_terminal() && phase != DrillPhase::Passed => status.reason.clone(),
            _ => None,
        };
        let told = told.unwrap_or_else(|| format!("{:?}", status.phase));
        let message = status.message.clone().unwrap_or_default();
        tracing::info!(
            namespace = object.metadata.namespace, run = object.metadata.name, phase = ?status.phase, reason = told, message,
            "the drill moves on"
        );
        // A run is in each phase once.
        let of = format!("{:?}", status.phase);
        act::tell_once(context, &act::reference("DrillRun", &object.metadata), &of, warning, &told, message).await;
    }
    act::record(context, "DrillRun", &mut object.metadata, &object.spec, &status).await?;
    object.status = Some(status);
    Ok(())
}

/// Tells the drill how far its shuffle got.
async fn remember<P: Port>(
    context: &Context<P>,
    key: &str,
    object: &DrillRun,
    shuffle: ShuffleState,
) -> Result<(), PortError> {
    let drill_key = beside(key, &object.spec.drill_ref.name);
    let Some(mut drill) = backups::own::<_, RestoreDrill>(context, "RestoreDrill", &drill_key).await? else {
        return Ok(());
    };
    let known = drill.status.clone().unwrap_or_default();
    if known.shuffle.as_ref() == Some(&shuffle) {
        return Ok(());
    }
    let next = status::with_shuffle(&known, shuffle);
    act::record(context, "RestoreDrill", &mut drill.metadata, &drill.spec, &next).await
}

/// The status with its certificate, if the verdict falls with it. Both are one write: a verdict that is read without a
/// certificate was written by somebody else, and is never sealed.
fn certified<P: Port>(
    context: &Context<P>,
    object: &DrillRun,
    recorded: &DrillRunStatus,
    status: DrillRunStatus,
) -> DrillRunStatus {
    let judged = status.verdict.is_some_and(|verdict| verdict != DrillVerdict::Missed);
    if !judged || !status.phase.is_terminal() || recorded.phase.is_terminal() {
        return status;
    }
    let ended = DrillRun { status: Some(status.clone()), ..object.clone() };
    match sealed(context, &ended) {
        Ok(sealed) => DrillRunStatus { certificate: Some(sealed.reference), ..status },
        Err(why) => {
            tracing::error!(run = object.metadata.name, %why, "the drill has no certificate");
            status
        }
    }
}

/// The certificate of a run, from what is recorded alone.
pub(super) fn sealed<P: Port>(
    context: &Context<P>,
    object: &DrillRun,
) -> Result<certificate::Sealed, certificate::CertificateError> {
    let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
    let system = context.ask(|index| index.system_of(namespace)).map(|system| system.resolved.name.clone());
    permit::certificate(object, system.as_deref().unwrap_or_default(), env!("CARGO_PKG_VERSION"), &context.keys.seal)
}

/// Stores both files. If the executor may not, the record in the run remains, from which they can be written again. What keeps
/// them from being there is told.
async fn store_certificate<P: Port>(context: &Context<P>, object: &DrillRun) -> Result<(), PortError> {
    let Some(noted) = object.status.as_ref().and_then(|status| status.certificate.as_ref()) else { return Ok(()) };
    let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
    let id = observe::core_id("ConfigMap", Some(namespace), &noted.config_map);
    let missing = match context.port.live_get(&Identity::Controller, &id).await? {
        Some(map) if certificate::is_stored(&map, noted) => None,
        Some(_) => Some(format!(
            "ConfigMap {} holds something else; see who made it, delete it, and run the drill again",
            noted.config_map
        )),
        None => write_certificate(context, object, noted).await?,
    };
    if let Some(why) = missing {
        let message = format!("the certificate was sealed and could not be stored: {why}");
        act::tell(context, &act::reference("DrillRun", &object.metadata), true, "CertificateNotStored", message).await;
    }
    Ok(())
}

/// Writes both files; why that cannot be done.
async fn write_certificate<P: Port>(
    context: &Context<P>,
    object: &DrillRun,
    noted: &CertificateRef,
) -> Result<Option<String>, PortError> {
    let sealed = match sealed(context, object) {
        Ok(sealed) if sealed.reference == *noted => sealed,
        Ok(_) => {
            let why = "it would not be the one that was recorded, as the release or the seal key of Interlock, the System of \
                       the namespace or the record of the run has changed since; run the drill again";
            return Ok(Some(why.to_owned()));
        }
        Err(why) => return Ok(Some(why.to_string())),
    };
    let executor = match backups::executor(context, object.metadata.namespace.as_deref().unwrap_or_default()) {
        Ok(executor) => executor,
        Err(why) => return Ok(Some(why)),
    };
    let map = certificate::config_map(&permit::reference(object), &sealed);
    Ok(match act::create(context, &executor, &map).await? {
        Created::There => None,
        Created::Refused(why) => Some(why),
    })
}

/// Notes in the Backup what the run says about its recovery point.
async fn verify<P: Port>(context: &Context<P>, key: &str, object: &DrillRun) -> Result<(), PortError> {
    let chosen = object.status.as_ref().and_then(|status| status.chosen.as_ref());
    let (Some(chosen), Some(says)) = (chosen, proof::verification(object)) else { return Ok(()) };
    let backup_key = beside(key, &chosen.backup);
    let is_news = |backup: &Backup| {
        let known = backup.status.as_ref().and_then(|status| status.verified.as_ref());
        backup.metadata.uid.as_deref() == Some(chosen.uid.as_str()) && proof::supersedes(known, &says)
    };
    if !context.ask(|index| index.backup(&backup_key)).is_some_and(|known| is_news(&known)) {
        return Ok(());
    }
    let Some(mut live) = backups::own::<_, Backup>(context, "Backup", &backup_key).await?.filter(|live| is_news(live))
    else {
        return Ok(());
    };
    let mut status = live.status.clone().unwrap_or_default();
    status.verified = Some(says);
    act::record(context, "Backup", &mut live.metadata, &live.spec, &status).await
}
