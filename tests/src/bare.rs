//! A real API server alone: no controllers, no nodes, no Interlock but its definitions. Nothing happens in it but what a
//! test does, so that every answer follows from what was asked before.

use std::sync::OnceLock;

use interlock_cluster::{Cluster, ClusterOptions, Component};
use serde_json::Value;

use crate::{Api, eventually, world, world::SOON};

/// The API server that all tests of this binary share.
pub fn bare() -> &'static Api {
    static BARE: OnceLock<(Cluster, Api)> = OnceLock::new();
    let (_, api) = BARE.get_or_init(|| {
        let mut cluster = Cluster::up(&ClusterOptions::ephemeral("bare")).unwrap_or_else(|error| panic!("{error:?}"));
        for component in [Component::KubeControllerManager, Component::KubeScheduler, Component::Kwok] {
            cluster.kill(component).unwrap();
        }
        let api = world::api(&cluster.admin_kubeconfig());
        (cluster, api)
    });
    api
}

/// Creates a definition, and returns when the API server serves its kind.
pub fn define(api: &Api, definition: &Value) {
    api.create(definition).unwrap();
    let spec = &definition["spec"];
    let path = format!(
        "/apis/{}/{}/{}",
        spec["group"].as_str().unwrap(),
        spec["versions"][0]["name"].as_str().unwrap(),
        spec["names"]["plural"].as_str().unwrap()
    );
    eventually(SOON, || api.get(&path).map_err(|refusal| refusal.to_string()));
}
