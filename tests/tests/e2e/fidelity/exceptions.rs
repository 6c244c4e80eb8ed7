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
    Exception { case: "labels", request: "type", place: "/message", why: TYPES },
    Exception { case: "keys", request: "type", place: "/message", why: TYPES },
    Exception { case: "dry run", request: "type", place: "/message", why: QUOTED },
    Exception { case: "requirements", request: "kind", place: "/message", why: QUOTED },
    Exception { case: "watch stale", request: "watch", place: "/message", why: "the oldest version is each server's own" },
    Exception { case: "lists", request: "unreadable", place: "/message", why: "says less of what cannot be read" },
];

const TYPES: &str = "a wrong type is refused in Rust's words, not in Go's";
const QUOTED: &str = "a refused patch is quoted with the fields of the object in another order";
