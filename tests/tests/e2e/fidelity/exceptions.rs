//! Where the simulation answers otherwise on purpose. Each of these differences must show, or its line must go.

/// One difference that stays.
#[derive(Debug)]
pub struct Exception {
    /// The case.
    pub case: &'static str,
    /// The name of the request, or empty for all of the case.
    pub request: &'static str,
    /// Where in the answer.
    pub place: &'static str,
    /// Why it stays.
    pub why: &'static str,
}

impl Exception {
    /// Whether it explains a difference.
    pub fn covers(&self, case: &str, request: &str, place: &str) -> bool {
        let is_meant = self.request.is_empty() || self.request == request;
        self.case == case && is_meant && place.starts_with(self.place)
    }
}

/// All of them.
pub const EXCEPTIONS: &[Exception] = &[
    // Words.
    Exception { case: "labels", request: "type", place: "/message", why: TYPES },
    Exception { case: "keys", request: "type", place: "/message", why: TYPES },
    Exception { case: "deployments wrong", request: "type", place: "/message", why: TYPES },
    Exception { case: "deployments wrong", request: "apply type", place: "/message", why: TYPES },
    Exception { case: "dry run", request: "type", place: "/message", why: QUOTED },
    Exception { case: "ours wrong", request: "patch", place: "/message", why: QUOTED },
    Exception { case: "requirements", request: "kind", place: "/message", why: QUOTED },
    Exception { case: "jobs", request: "template", place: "/message", why: QUOTED },
    Exception { case: "jobs", request: "selector", place: "/message", why: "the refused object is named by its uid" },
    Exception { case: "stateful sets", request: "claims", place: "/message", why: QUOTED },
    Exception {
        case: "watch stale",
        request: "watch",
        place: "/message",
        why: "the oldest version is each server's own",
    },
    Exception { case: "lists", request: "unreadable", place: "/message", why: "says less of what cannot be read" },
    // What is not looked at.
    Exception { case: "configs", request: "docker", place: "", why: "the content of credentials is not read" },
    Exception { case: "quotas", request: "range", place: "", why: "the limits of a LimitRange are not compared" },
    Exception { case: "services", request: "range", place: "", why: "any address may be asked for" },
    // What is another way.
    Exception {
        case: "claims",
        request: "",
        place: "/metadata/resourceVersion",
        why: "a real server stores a claim \
        once more when it is first replaced by itself",
    },
    Exception {
        case: "cluster wide",
        request: "node",
        place: "/spec",
        why: "a node is ready when it is made, so nothing \
        keeps pods off it",
    },
    Exception {
        case: "quotas",
        request: "revision",
        place: "/metadata/managedFields",
        why: "the data of a \
        ControllerRevision is owned field by field",
    },
    Exception {
        case: "pods",
        request: "bind",
        place: "",
        why: "the scheduler of the simulation writes the node's name",
    },
];

const TYPES: &str = "a wrong type is refused in Rust's words, not in Go's";
const QUOTED: &str = "what is refused is quoted as JSON, where a real server shows Go's fields in Go's order";
