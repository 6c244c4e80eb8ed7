//! The Secret and the webhook configurations of a real cluster.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::core::PartialObjectMeta;
use kube::runtime::{WatchStreamExt as _, watcher};
use serde_json::{Value, json};

use super::{CertError, CertStore, Stored, TlsMaterial, trusts};

/// The Secret's name.
pub const SECRET: &str = "interlock-webhook-tls";
const MANAGER: &str = "interlock-certificates";
const LIMIT: Duration = Duration::from_secs(10);
/// Keys that may have to be removed again.
const OPTIONAL_KEYS: [&str; 3] = ["next-ca.crt", "next-ca.key", "next-ca.published"];

/// Certificates in a Secret of Interlock's namespace.
#[derive(Clone)]
pub struct KubeCertStore {
    client: kube::Client,
    secrets: Api<Secret>,
    name: String,
    mutating: Vec<String>,
    validating: Vec<String>,
}

impl KubeCertStore {
    /// The webhook configurations are cluster-scoped; one that does not exist counts as not published.
    pub fn new(client: kube::Client, namespace: &str, mutating: Vec<String>, validating: Vec<String>) -> Self {
        let secrets = Api::namespaced(client.clone(), namespace);
        Self { client, secrets, name: SECRET.to_owned(), mutating, validating }
    }

    /// The Secret as `interlock install` applies it.
    pub fn secret(namespace: &str, material: &TlsMaterial) -> Secret {
        Secret {
            metadata: ObjectMeta {
                name: Some(SECRET.to_owned()),
                namespace: Some(namespace.to_owned()),
                ..ObjectMeta::default()
            },
            type_: Some("kubernetes.io/tls".to_owned()),
            data: Some(material.secret_data().into_iter().map(|(key, value)| (key, ByteString(value))).collect()),
            ..Secret::default()
        }
    }
}

impl CertStore for KubeCertStore {
    async fn read(&self) -> Result<Option<Stored>, CertError> {
        let Some(secret) = within(self.secrets.get_opt(&self.name)).await? else { return Ok(None) };
        let data: BTreeMap<String, Vec<u8>> =
            secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0)).collect();
        let version = secret.metadata.resource_version.unwrap_or_default();
        Ok(Some(Stored { material: TlsMaterial::from_secret_data(&data)?, version }))
    }

    async fn write(&self, material: &TlsMaterial, version: Option<&str>) -> Result<(), CertError> {
        let Some(version) = version else {
            let namespace = self.secrets.namespace().unwrap_or_default();
            let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
            within(self.secrets.create(&params, &Self::secret(namespace, material))).await?;
            return Ok(());
        };
        // A merge patch keeps labels and the immutable type, whoever made the Secret.
        let mut data: BTreeMap<&str, Value> = OPTIONAL_KEYS.iter().map(|key| (*key, Value::Null)).collect();
        let stored = material.secret_data();
        data.extend(stored.iter().map(|(key, value)| (key.as_str(), Value::String(BASE64.encode(value)))));
        let patch = json!({"metadata": {"resourceVersion": version}, "data": data});
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        within(self.secrets.patch(&self.name, &params, &Patch::Merge(&patch))).await?;
        Ok(())
    }

    async fn publish(&self, bundle: &str) -> Result<bool, CertError> {
        let mutating: Api<MutatingWebhookConfiguration> = Api::all(self.client.clone());
        let validating: Api<ValidatingWebhookConfiguration> = Api::all(self.client.clone());
        let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        let mut all = true;
        for name in &self.mutating {
            let Some(mut found) = within(mutating.get_opt(name)).await? else {
                all = false;
                continue;
            };
            let clients = found.webhooks.iter_mut().flatten().map(|webhook| &mut webhook.client_config.ca_bundle);
            if add_trust(clients, bundle) {
                within(mutating.replace(name, &params, &found)).await?;
            }
        }
        for name in &self.validating {
            let Some(mut found) = within(validating.get_opt(name)).await? else {
                all = false;
                continue;
            };
            let clients = found.webhooks.iter_mut().flatten().map(|webhook| &mut webhook.client_config.ca_bundle);
            if add_trust(clients, bundle) {
                within(validating.replace(name, &params, &found)).await?;
            }
        }
        Ok(all)
    }

    fn changes(&self) -> BoxStream<'static, ()> {
        let config = watcher::Config::default().fields(&format!("metadata.name={}", self.name));
        let namespace = self.secrets.namespace().unwrap_or_default();
        // Metadata is enough, and keeps the keys out of the watch.
        let secrets: Api<PartialObjectMeta<Secret>> = Api::namespaced(self.client.clone(), namespace);
        watcher(secrets, config)
            .default_backoff()
            .filter_map(|event| async {
                match event {
                    // The first list only repeats what was read already.
                    Ok(watcher::Event::Apply(_) | watcher::Event::Delete(_)) => Some(()),
                    Ok(_) => None,
                    Err(error) => {
                        tracing::debug!(reason = %error, "the watch of the certificate's Secret was interrupted");
                        None
                    }
                }
            })
            .boxed()
    }
}

/// Gives the bundle to every client that does not trust all of it; whether there was one.
fn add_trust<'a>(clients: impl Iterator<Item = &'a mut Option<ByteString>>, bundle: &str) -> bool {
    let mut changed = false;
    for client in clients {
        if client.as_ref().is_some_and(|present| trusts(&present.0, bundle)) {
            continue;
        }
        *client = Some(ByteString(bundle.as_bytes().to_vec()));
        changed = true;
    }
    changed
}

async fn within<T>(request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, CertError> {
    match tokio::time::timeout(LIMIT, request).await {
        Err(_) => Err(CertError::Unavailable(format!("the API server did not answer within {LIMIT:?}"))),
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(kube::Error::Api(status))) if status.code == 409 => Err(CertError::Conflict),
        Ok(Err(kube::Error::Api(status))) => Err(CertError::Unavailable(status.message.clone())),
        Ok(Err(error)) => Err(CertError::Unavailable(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certs::Names;

    #[test]
    fn trust_is_added_where_it_is_missing_and_never_taken_away() {
        let now = "2026-11-23T00:00:00Z".parse().expect("time");
        let names = Names::of_service("interlock-webhook", "interlock-system");
        let old = TlsMaterial::new(now, &names).expect("made");
        let new = TlsMaterial::new(now, &names).expect("made");
        let both = format!("{}{}", new.bundle(now), old.bundle(now));
        let mut clients = [None, Some(ByteString(old.bundle(now).into_bytes())), Some(ByteString(both.clone().into()))];
        assert!(add_trust(clients.iter_mut(), &old.bundle(now)));
        assert_eq!(clients[2].as_ref().expect("kept").0, both.clone().into_bytes(), "the newer authority stays");
        assert!(!add_trust(clients.iter_mut(), &old.bundle(now)), "a second time changes nothing");
        assert!(add_trust(clients.iter_mut(), &both));
        assert!(clients.iter().flatten().all(|client| trusts(&client.0, &both)));
    }
}
