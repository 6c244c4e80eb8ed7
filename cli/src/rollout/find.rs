//! Which Rollout somebody means.

use interlock_crds::Rollout;
use kube::{Api, ResourceExt, api::ListParams};

use crate::{
    context::{Context, harmless},
    error::CliError,
};

/// Rollouts of the namespace.
pub fn api(context: &Context) -> Api<Rollout> {
    Api::namespaced(context.client.clone(), &context.namespace_or_default())
}

/// The Rollout that somebody means with `text`: its name, or the name of its change or of its workload.
pub async fn one(text: &str, context: &Context) -> Result<Rollout, CliError> {
    let name = text.rsplit_once('/').map_or(text, |(_, name)| name);
    if name.is_empty() {
        return Err(CliError::Usage("the name of the release is empty".to_owned()));
    }
    if let Some(found) = api(context).get_opt(name).await? {
        return Ok(harmless(found));
    }
    let list = api(context).list(&ListParams::default()).await?;
    meant(name, list.items).map(harmless).map_err(|why| match why {
        Trouble::None => CliError::NotFound(format!(
            "there is no Rollout of {name} in namespace {}; name another with -n, or see `interlock rollout status`",
            context.namespace_or_default()
        )),
        Trouble::Several(names) => CliError::Usage(format!("{name} may be any of {}: name one", names.join(", "))),
    })
}

#[derive(Debug, PartialEq, Eq)]
enum Trouble {
    None,
    Several(Vec<String>),
}

/// Of those that carry a change or a workload of this name: the one that is under way, else the newest.
fn meant(name: &str, rollouts: Vec<Rollout>) -> Result<Rollout, Trouble> {
    let mut named: Vec<_> = rollouts
        .into_iter()
        .filter(|rollout| {
            rollout.spec.change_request.name == name || rollout.spec.targets.iter().any(|target| target.name == name)
        })
        .collect();
    named.sort_by_key(ResourceExt::creation_timestamp);
    let under_way: Vec<_> = named.iter().filter(|rollout| !is_at_rest(rollout)).map(ResourceExt::name_any).collect();
    match under_way.as_slice() {
        [] => named.pop().ok_or(Trouble::None),
        [one] => named.into_iter().find(|rollout| rollout.name_any() == *one).ok_or(Trouble::None),
        _ => {
            // One with waves stands for those that it made.
            let whole: Vec<_> =
                named.into_iter().filter(|found| !is_at_rest(found) && found.spec.part_of.is_none()).collect();
            match <[Rollout; 1]>::try_from(whole) {
                Ok([one]) => Ok(one),
                Err(_) => Err(Trouble::Several(under_way)),
            }
        }
    }
}

fn is_at_rest(rollout: &Rollout) -> bool {
    rollout.status.as_ref().is_some_and(|status| status.phase.is_at_rest())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rollout(name: &str, change: &str, phase: &str, created: &str) -> Rollout {
        serde_json::from_value(json!({
            "apiVersion": "interlock.dev/v1alpha1", "kind": "Rollout",
            "metadata": {"name": name, "creationTimestamp": created},
            "spec": {
                "changeRequest": {"name": change, "uid": "u"}, "changeDigest": "d", "plan": {},
                "targets": [{"kind": "Deployment", "namespace": "shop", "name": "web"}],
            },
            "status": {"phase": phase},
        }))
        .unwrap()
    }

    #[test]
    fn the_one_under_way_is_meant_else_the_newest() {
        let old = rollout("shop-1-a", "shop-1", "Succeeded", "2026-11-01T00:00:00Z");
        let new = rollout("shop-2-b", "shop-2", "RolledBack", "2026-11-02T00:00:00Z");
        let name = |rollouts: Vec<Rollout>, name: &str| meant(name, rollouts).map(|rollout| rollout.name_any());
        assert_eq!(name(vec![new.clone(), old.clone()], "web").unwrap(), "shop-2-b");
        assert_eq!(name(vec![new.clone(), old.clone()], "shop-1").unwrap(), "shop-1-a");
        let running = rollout("shop-0-c", "shop-0", "Paused", "2026-10-01T00:00:00Z");
        assert_eq!(name(vec![new.clone(), running.clone(), old], "web").unwrap(), "shop-0-c");
        assert_eq!(name(vec![new.clone()], "other"), Err(Trouble::None));
        let another = rollout("shop-3-d", "shop-3", "Progressing", "2026-11-03T00:00:00Z");
        assert!(matches!(meant("web", vec![running, another]), Err(Trouble::Several(names)) if names.len() == 2));
    }
}
