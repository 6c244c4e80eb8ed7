//! Restore drills with real restic and real PostgreSQL in real pods, whose isolation is proved by real attempts to connect.

mod fails;
mod moments;
mod passes;

use std::sync::MutexGuard;

use interlock_cluster::{NodeOptions, PodNetwork};
use interlock_tests::{
    World,
    vault::{self, Scene, database, policy, repository},
};
use serde_json::json;

const VOLUMES: usize = 16;
fn world(name: &'static str, network: PodNetwork) -> Option<(World, MutexGuard<'static, ()>)> {
    let turn = crate::turn();
    Some((vault::world(name, NodeOptions { volumes: VOLUMES, network, ..NodeOptions::default() })?, turn))
}

/// A vault, files with a heartbeat, and a database whose pod is also what the probes dial.
fn set(world: &World) -> Scene<'_> {
    let heartbeat = json!({"heartbeat": {"interval": "2s", "file": "/beat"}});
    let source = json!({"files": {"persistentVolumeClaim": "data"}});
    let mut objects = vec![repository("vault", "", "vault", &json!({})), policy("files", "vault", source, &heartbeat)];
    objects.extend(database(&[]));
    Scene::set(world, "drill", VOLUMES, objects)
}
