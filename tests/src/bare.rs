//! A real API server alone: no controllers, no nodes, no Interlock but its definitions. Nothing happens in it but what a
//! test does, so that every answer follows from what was asked before.

use std::sync::OnceLock;

use interlock_cluster::{Cluster, ClusterOptions, Component};
use serde_json::Value;

use crate::{Api, eventually, world, world::SOON};

/// The API server that all tests of this binary share, with these definitions.
pub fn bare(definitions: &[Value]) -> &'static Api {
    static BARE: OnceLock<(Cluster, Api)> = OnceLock::new();
    let (_, api) = BARE.get_or_init(|| {
        let mut cluster = Cluster::up(&ClusterOptions::ephemeral("bare")).unwrap_or_else(|error| panic!("{error:?}"));
        for component in [Component::KubeControllerManager, Component::KubeScheduler, Component::Kwok] {
            cluster.kill(component).unwrap();
        }
        let api = world::api(&cluster.admin_kubeconfig());
        for definition in definitions {
            api.create(definition).unwrap();
            served(&api, definition);
        }
        (cluster, api)
    });
    api
}

/// Waits until the API server serves the kind of a definition, and says so.
pub fn served(api: &Api, definition: &Value) {
    let spec = &definition["spec"];
    let path = format!(
        "/apis/{}/{}/{}",
        spec["group"].as_str().unwrap(),
        spec["versions"][0]["name"].as_str().unwrap(),
        spec["names"]["plural"].as_str().unwrap()
    );
    eventually(SOON, || {
        let found = api.get(&crate::path_of(definition)).map_err(|refusal| refusal.to_string())?;
        let conditions = found["status"]["conditions"].as_array().map_or(0, Vec::len);
        if conditions < 2 {
            Err("not established".to_owned())
        } else {
            api.get(&path).map_err(|refusal| refusal.to_string())
        }
    });
}
