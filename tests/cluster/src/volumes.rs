//! A pool of persistent volumes: folders of the node, bound by claims of the class `pool`.

use std::path::Path;

use serde_json::{Value, json};

use crate::node::NodeOptions;

/// The storage class of the pool.
pub const POOL: &str = "pool";
/// The class of the small volume, if there is one: no claim that does not ask for it is bound to it.
pub const SMALL: &str = "small";

/// What becomes of a volume when its claim is gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reclaim {
    /// It stays `Released` with its data.
    #[default]
    Retain,
    /// It should be deleted. No provisioner made it, so it becomes `Failed`, and its data stays too.
    Delete,
}

/// The class and its volumes, as one list to create. The first claim takes a volume that is big enough when its first
/// pod is placed.
pub(crate) fn pool(folder: &Path, options: &NodeOptions) -> Value {
    let (count, size, reclaim) = (options.volumes, &options.volume_size, options.reclaim);
    let policy = match reclaim {
        Reclaim::Retain => "Retain",
        Reclaim::Delete => "Delete",
    };
    let class = json!({
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": POOL},
        "provisioner": "kubernetes.io/no-provisioner",
        "reclaimPolicy": policy,
        "volumeBindingMode": "Immediate",
    });
    let volumes = (0..count).map(|index| {
        let is_small = options.small.is_some_and(|(small, _)| small == index);
        json!({
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": format!("{POOL}-{index}")},
            "spec": {
                "capacity": {"storage": size},
                "accessModes": ["ReadWriteOnce"],
                "storageClassName": if is_small { SMALL } else { POOL },
                "persistentVolumeReclaimPolicy": policy,
                "hostPath": {"path": folder.join(index.to_string()), "type": "Directory"},
            },
        })
    });
    let items: Vec<_> = [class].into_iter().chain(volumes).collect();
    json!({"apiVersion": "v1", "kind": "List", "items": items})
}
