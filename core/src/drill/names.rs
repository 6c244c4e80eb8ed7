//! Names of everything that a run makes: the same whoever computes them, whenever.

use crate::object::Digest;

/// The claim that is restored into, in the namespace of the repository.
pub fn claim(run: &str) -> String {
    format!("{run}-data")
}

/// The Job that restores.
pub fn restore_job(run: &str) -> String {
    format!("{run}-restore")
}

/// The sandbox's namespace. Part of it follows from the run's uid, so that runs of one name in two namespaces do not meet.
pub fn sandbox(run: &str, uid: &str) -> String {
    format!("{run}-{}", hash(uid, 8))
}

/// The pod that dials from outside, in Interlock's own namespace.
pub fn outside_probe(uid: &str) -> String {
    format!("drill-probe-{}", hash(uid, 16))
}

/// The claim inside the sandbox.
pub const SANDBOX_CLAIM: &str = "restored";

/// The ConfigMap with the certificate.
pub fn certificate(run: &str) -> String {
    format!("{run}-certificate")
}

/// One pod of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PodRole {
    /// Dials from Interlock's namespace.
    OutsideProbe,
    /// Dials from the sandbox.
    InsideProbe,
    /// Damages the restored copy.
    Fault,
    /// What the application needs, by its place in the spec.
    Dependency(usize),
    /// The application.
    Application,
    /// A validation, by its place in the spec.
    Validation(usize),
    /// Overwrites the restored copy, where its volume would otherwise stay.
    Wipe,
}

impl PodRole {
    /// Name of the pod.
    pub fn name(self, uid: &str) -> String {
        match self {
            Self::OutsideProbe => outside_probe(uid),
            Self::InsideProbe => "probe".to_owned(),
            Self::Fault => "fault".to_owned(),
            Self::Dependency(index) => format!("dependency-{index}"),
            Self::Application => "application".to_owned(),
            Self::Validation(index) => format!("validation-{index}"),
            Self::Wipe => "wipe".to_owned(),
        }
    }

    /// Whether it is ready at some time, instead of ending.
    pub const fn serves(self) -> bool {
        matches!(self, Self::Dependency(_) | Self::Application)
    }
}

/// The first `digits` hexadecimal digits of a hash.
fn hash(text: &str, digits: usize) -> String {
    let digest = Digest::of_bytes(format!("interlock drill\n{text}").as_bytes()).to_string();
    digest.chars().skip("sha256:".len()).take(digits).collect()
}
