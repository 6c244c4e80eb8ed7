//! Using a cluster that somebody else started.

use std::path::Path;

use serde_json::Value;

use crate::cluster::{Cluster, ClusterError};
use crate::kubeconfig;
use crate::state::write_file;
use crate::users::USERS;

/// Writes the kubeconfigs: the administrator's is a copy of the given one's current context, the users' act by
/// impersonation. Nothing in the cluster changes.
pub(crate) fn adopt(cluster: &Cluster, given: &Path) -> Result<(), ClusterError> {
    let administrator = current_context(cluster, given)?;
    let folder = &cluster.folder;
    write_file(&folder.admin_kubeconfig(), &administrator.to_string())?;
    for user in USERS {
        let config =
            kubeconfig::by_impersonation(&administrator, user).ok_or_else(|| ClusterError::NoUser(given.to_owned()))?;
        write_file(&folder.user_kubeconfig(user.name), &config.to_string())?;
    }
    Ok(())
}

fn current_context(cluster: &Cluster, given: &Path) -> Result<Value, ClusterError> {
    let arguments = ["config", "view", "--raw", "--minify", "--flatten", "--output=json"];
    let failed = |output: String| ClusterError::Kubectl { command: arguments.join(" "), output };
    let output = cluster.kubectl_with(given).args(arguments).output().map_err(ClusterError::NoKubectl)?;
    if !output.status.success() {
        return Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    serde_json::from_slice(&output.stdout).map_err(|reason| failed(reason.to_string()))
}
