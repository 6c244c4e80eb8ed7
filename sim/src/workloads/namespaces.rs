//! What every namespace holds: an account, and the certificate of the cluster.

use jiff::Timestamp;
use serde_json::json;

use super::writes;
use crate::api::{Api, ApiError, Key};

/// One look at a namespace.
pub(super) fn reconcile(api: &mut Api, key: &Key) -> Result<Option<Timestamp>, ApiError> {
    if writes::live(api, key).is_none() {
        return Ok(None);
    }
    let account = json!({
        "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": key.name},
    });
    writes::ensure(api, "service-account-controller", account)?;
    let certificate = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "kube-root-ca.crt", "namespace": key.name},
        "data": {"ca.crt": "-----BEGIN CERTIFICATE-----\nc2ltdWxhdGVk\n-----END CERTIFICATE-----\n"},
    });
    writes::ensure(api, "root-ca-cert-publisher", certificate).map(|()| None)
}
