//! Kubeconfig files with everything embedded, so that one can be copied elsewhere.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::certs::Identity;
use crate::users::TestUser;

/// The name of the cluster, the context's prefix, in every kubeconfig.
const CLUSTER: &str = "interlock";

/// A kubeconfig for one identity that authenticates by client certificate.
pub(crate) fn by_certificate(server: &str, authority_pem: &str, user: &str, identity: &Identity) -> String {
    let authority = STANDARD.encode(authority_pem);
    let certificate = STANDARD.encode(&identity.certificate_pem);
    let key = STANDARD.encode(&identity.key_pem);
    format!(
        "apiVersion: v1
kind: Config
clusters:
- name: {CLUSTER}
  cluster:
    server: {server}
    certificate-authority-data: {authority}
users:
- name: {user}
  user:
    client-certificate-data: {certificate}
    client-key-data: {key}
contexts:
- name: {user}@{CLUSTER}
  context:
    cluster: {CLUSTER}
    user: {user}
current-context: {user}@{CLUSTER}
"
    )
}

/// A kubeconfig that acts as `user` through the impersonation right of an administrator's kubeconfig, which is given
/// as `kubectl config view --raw --minify --flatten -o json` prints it. None if it holds no user.
/// For clusters that Interlock did not start and whose authority it therefore does not have.
pub(crate) fn by_impersonation(administrator: &Value, user: TestUser) -> Option<Value> {
    let mut config = administrator.clone();
    let credentials = config.get_mut("users")?.get_mut(0)?.get_mut("user")?.as_object_mut()?;
    credentials.insert("as".to_owned(), json!(user.name));
    credentials.insert("as-groups".to_owned(), json!(user.groups));
    Some(config)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{by_certificate, by_impersonation};
    use crate::certs::Identity;
    use crate::users::find;

    #[test]
    fn embeds_what_it_needs() {
        let identity = Identity { certificate_pem: "cert of alice".to_owned(), key_pem: "key of alice".to_owned() };
        let rendered = by_certificate("https://127.0.0.1:6443", "authority", "alice", &identity);
        assert_eq!(
            rendered,
            "apiVersion: v1
kind: Config
clusters:
- name: interlock
  cluster:
    server: https://127.0.0.1:6443
    certificate-authority-data: YXV0aG9yaXR5
users:
- name: alice
  user:
    client-certificate-data: Y2VydCBvZiBhbGljZQ==
    client-key-data: a2V5IG9mIGFsaWNl
contexts:
- name: alice@interlock
  context:
    cluster: interlock
    user: alice
current-context: alice@interlock
"
        );
    }

    #[test]
    fn impersonation_keeps_the_administrators_credentials() {
        let administrator = json!({"users": [{"name": "kind-admin", "user": {"token": "t"}}], "contexts": []});
        let erin = by_impersonation(&administrator, find("erin").unwrap()).unwrap();
        assert_eq!(erin["users"][0]["user"], json!({"token": "t", "as": "erin", "as-groups": ["sre", "branch-ops"]}));
        assert_eq!(by_impersonation(&json!({"users": []}), find("erin").unwrap()), None);
    }
}
