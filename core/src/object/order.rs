//! In which order objects are written.

use super::id::GroupKind;

/// When a kind is written, earliest first: what others need comes before them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rank {
    /// Namespaces, which everything else lives in.
    Namespaces,
    /// Custom resource definitions and priority classes: without them others are refused.
    Definitions,
    /// Who may do what, and the accounts that workloads run as.
    Access,
    /// What workloads read at their start, and what bounds them.
    Config,
    /// Volumes and their classes.
    Storage,
    /// Services, network policies and every kind that is not listed, such as custom resources.
    Others,
    /// What makes pods.
    Workloads,
    /// What acts on workloads.
    Scaling,
    /// What sends traffic to them.
    Routes,
    /// Admission configurations: they may refuse whatever is written after them.
    Admission,
}

/// The rank of a kind.
pub fn rank(kind: &GroupKind) -> Rank {
    match (kind.group.as_str(), kind.kind.as_str()) {
        ("", "Namespace") => Rank::Namespaces,
        ("apiextensions.k8s.io", "CustomResourceDefinition") | ("scheduling.k8s.io", "PriorityClass") => {
            Rank::Definitions
        }
        ("rbac.authorization.k8s.io", _) | ("", "ServiceAccount") => Rank::Access,
        ("", "ConfigMap" | "Secret" | "ResourceQuota" | "LimitRange") => Rank::Config,
        ("", "PersistentVolume" | "PersistentVolumeClaim") | ("storage.k8s.io", _) => Rank::Storage,
        ("apps", _) | ("", "Pod" | "ReplicationController") | ("batch", "Job" | "CronJob") => Rank::Workloads,
        ("autoscaling", "HorizontalPodAutoscaler")
        | ("autoscaling.k8s.io", "VerticalPodAutoscaler")
        | ("policy", "PodDisruptionBudget") => Rank::Scaling,
        ("networking.k8s.io", "Ingress") => Rank::Routes,
        ("gateway.networking.k8s.io", kind) if kind.ends_with("Route") => Rank::Routes,
        ("admissionregistration.k8s.io", _) => Rank::Admission,
        _ => Rank::Others,
    }
}

/// The positions of kinds in the order in which they are written; equal ranks keep the order they were given in.
pub fn apply_order(kinds: &[GroupKind]) -> Vec<usize> {
    let mut positions: Vec<(Rank, usize)> =
        kinds.iter().enumerate().map(|(position, kind)| (rank(kind), position)).collect();
    positions.sort_unstable();
    positions.into_iter().map(|(_, position)| position).collect()
}

/// The positions of kinds in the order in which they are deleted: the exact reverse of writing them.
pub fn delete_order(kinds: &[GroupKind]) -> Vec<usize> {
    let mut positions = apply_order(kinds);
    positions.reverse();
    positions
}

/// Whether deleting an object of this kind destroys data that no manifest gives back. A `StatefulSet` leaves its claims, and
/// what a custom resource holds is unknown: neither counts.
pub fn destroys_data(group: &str, kind: &str) -> bool {
    matches!(
        (group, kind),
        ("", "PersistentVolumeClaim" | "PersistentVolume" | "Namespace")
            | ("apiextensions.k8s.io", "CustomResourceDefinition")
    )
}
