//! The only part that talks to a cluster: what is there, and writing what was planned.

use std::{collections::BTreeSet, time::Duration};

use interlock_core::{
    admission::webhooks::{self, Kinds},
    port::Served,
};
use interlock_crds::{GroupKind, SystemSpec};
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams},
    core::GroupVersionKind,
};
use serde_json::Value;

use super::{
    CONTROLLER, InstallError, NAMESPACE,
    bundle::{Bundle, Existing, describe_object},
    keys, root,
};

/// Field manager of everything that is installed.
const MANAGER: &str = "interlock-install";
const ESTABLISHED_WITHIN: Duration = Duration::from_mins(1);
const POLL: Duration = Duration::from_millis(200);

/// Reads what an earlier installation left.
pub async fn observe(client: &Client) -> Result<Existing, InstallError> {
    let secret = |name| get(client, "v1", "Secret", "secrets", Some(NAMESPACE), name);
    let keys = keys::Existing {
        seal: secret(keys::SEAL).await?,
        mac: secret(keys::MAC).await?,
        tls: secret(keys::TLS).await?,
    };
    let root = root::Existing {
        system: get(client, interlock_crds::API_VERSION, "System", "systems", None, root::ROOT).await?,
        policy: get(client, interlock_crds::API_VERSION, "ChangePolicy", "changepolicies", None, root::ROOT).await?,
        persons: list(client, interlock_crds::API_VERSION, "Person", "persons").await?,
    };
    let api_version = "admissionregistration.k8s.io/v1";
    let (kind, plural) = ("ValidatingWebhookConfiguration", "validatingwebhookconfigurations");
    let validating = get(client, api_version, kind, plural, None, webhooks::NAME).await?;
    let systems = list(client, interlock_crds::API_VERSION, "System", "systems").await?;
    let systems: Vec<SystemSpec> =
        systems.iter().filter_map(|s| serde_json::from_value(s.get("spec")?.clone()).ok()).collect();
    let kinds = kinds(client, &systems).await?;
    let controller = get(client, "apps/v1", "Deployment", "deployments", Some(NAMESPACE), CONTROLLER).await?;
    Ok(Existing { keys, root, validating, systems, kinds, controller })
}

/// How the cluster addresses the kinds that Systems name. A kind that it does not know is left out: there is no such
/// object yet.
async fn kinds(client: &Client, systems: &[SystemSpec]) -> Result<Kinds, InstallError> {
    let named: BTreeSet<GroupKind> = systems.iter().flat_map(webhooks::named).collect();
    if named.is_empty() {
        return Ok(Kinds::new());
    }
    let groups: Vec<&str> = named.iter().map(|kind| kind.group.as_str()).collect();
    let failed =
        |error: kube::Error| InstallError::Api { what: "the kinds of the cluster".to_owned(), why: why(&error) };
    let discovery = kube::Discovery::new(client.clone()).filter(&groups).run().await.map_err(failed)?;
    let served = |kind: &GroupKind| {
        let resources = discovery.get(&kind.group)?.resources_by_stability();
        let (resource, able) = resources.into_iter().find(|(resource, _)| resource.kind == kind.kind)?;
        Some(Served { plural: resource.plural, namespaced: able.scope == kube::discovery::Scope::Namespaced })
    };
    Ok(named.into_iter().filter_map(|kind| served(&kind).map(|served| (kind, served))).collect())
}

/// Writes `bundle` in order.
pub async fn apply(client: &Client, bundle: &Bundle) -> Result<(), InstallError> {
    for object in &bundle.foundation {
        write(client, object).await?;
    }
    for object in bundle.foundation.iter().filter(|object| object["kind"] == "CustomResourceDefinition") {
        established(client, object).await?;
    }
    for object in bundle.root.iter().chain(&bundle.controller).chain(&bundle.webhooks) {
        write(client, object).await?;
    }
    Ok(())
}

/// Applies `object`. A Secret is created instead: two installations at once must not both believe in their key.
async fn write(client: &Client, object: &Value) -> Result<(), InstallError> {
    let what = describe_object(object);
    let failed = |error: kube::Error| InstallError::Api { what: what.clone(), why: why(&error) };
    let api = api_of(client, object);
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    if object["kind"] == "Secret" {
        let wanted: DynamicObject = serde_json::from_value(object.clone())
            .map_err(|error| InstallError::Api { what: what.clone(), why: error.to_string() })?;
        let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        api.create(&params, &wanted).await.map_err(failed)?;
        println!("{what} created");
        return Ok(());
    }
    let before = api.get_metadata_opt(name).await.map_err(failed)?.and_then(|found| found.metadata.resource_version);
    let params = PatchParams::apply(MANAGER).force().validation_strict();
    let after = api.patch(name, &params, &Patch::Apply(object)).await.map_err(failed)?;
    let verb = match before {
        None => "created",
        Some(version) if Some(&version) == after.metadata.resource_version.as_ref() => "unchanged",
        Some(_) => "configured",
    };
    println!("{what} {verb}");
    Ok(())
}

/// Waits until the API server serves the kind of `definition`.
async fn established(client: &Client, definition: &Value) -> Result<(), InstallError> {
    let name = definition["metadata"]["name"].as_str().unwrap_or_default();
    let api = api_of(client, definition);
    let mut last = "no status yet".to_owned();
    let wait = async {
        loop {
            let found = api
                .get(name)
                .await
                .map_err(|error| InstallError::Api { what: describe_object(definition), why: why(&error) })?;
            let conditions = found.data["status"]["conditions"].as_array().cloned().unwrap_or_default();
            if conditions.iter().any(|c| c["type"] == "Established" && c["status"] == "True") {
                return Ok(());
            }
            if let Some(message) =
                conditions.iter().filter(|c| c["status"] == "False").find_map(|c| c["message"].as_str())
            {
                message.clone_into(&mut last);
            }
            tokio::time::sleep(POLL).await;
        }
    };
    match tokio::time::timeout(ESTABLISHED_WITHIN, wait).await {
        Ok(result) => result,
        Err(_) => Err(InstallError::NotEstablished {
            name: name.to_owned(),
            seconds: ESTABLISHED_WITHIN.as_secs(),
            why: last,
        }),
    }
}

async fn get(
    client: &Client,
    api_version: &str,
    kind: &str,
    plural: &str,
    namespace: Option<&str>,
    name: &str,
) -> Result<Option<Value>, InstallError> {
    let failed = |why: String| InstallError::Api { what: format!("cannot read {} {name}", kind.to_lowercase()), why };
    match api(client, api_version, kind, plural, namespace).get(name).await {
        Ok(found) => serde_json::to_value(found).map(Some).map_err(|error| failed(error.to_string())),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(failed(why(&error))),
    }
}

async fn list(client: &Client, api_version: &str, kind: &str, plural: &str) -> Result<Vec<Value>, InstallError> {
    let failed = |why: String| InstallError::Api { what: format!("cannot list {plural}"), why };
    let found = match api(client, api_version, kind, plural, None).list(&ListParams::default()).await {
        Ok(found) => found.items,
        Err(error) if is_absent(&error) => Vec::new(),
        Err(error) => return Err(failed(why(&error))),
    };
    found.into_iter().map(|item| serde_json::to_value(item).map_err(|error| failed(error.to_string()))).collect()
}

fn api_of(client: &Client, object: &Value) -> Api<DynamicObject> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let kind = text(&object["kind"]);
    let plural = plural(&kind);
    api(client, &text(&object["apiVersion"]), &kind, &plural, object["metadata"]["namespace"].as_str())
}

/// The plural of the kinds of an installation; discovery would cost calls and tell nothing else.
fn plural(kind: &str) -> String {
    let kind = kind.to_lowercase();
    kind.strip_suffix("policy").map_or_else(|| format!("{kind}s"), |stem| format!("{stem}policies"))
}

fn api(client: &Client, api_version: &str, kind: &str, plural: &str, namespace: Option<&str>) -> Api<DynamicObject> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural);
    match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    }
}

/// Whether what was asked for is not there. Before a first installation not even the kind is, and then the API server's
/// answer has no reason, only its code.
fn is_absent(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

/// What the API server said; kube's own text repeats it.
fn why(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if status.message.contains("failed calling webhook") => {
            format!(
                "{}; Interlock's webhooks fail closed: start the controller, then repeat this command",
                status.message
            )
        }
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plurals_of_what_is_installed() {
        for (kind, expected) in [
            ("Person", "persons"),
            ("ChangePolicy", "changepolicies"),
            ("ServiceAccount", "serviceaccounts"),
            ("PodDisruptionBudget", "poddisruptionbudgets"),
            ("ValidatingWebhookConfiguration", "validatingwebhookconfigurations"),
        ] {
            assert_eq!(plural(kind), expected);
        }
    }
}
