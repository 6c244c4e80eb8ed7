//! Waiting for something with a deadline: short polls, never a fixed sleep.

use std::thread;
use std::time::{Duration, Instant};

const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Calls `attempt` until it returns a value, fails, or `limit` has passed (then `None`).
/// The attempt made after the deadline still counts: a slow machine is not told "too late" without a last look.
pub(crate) fn poll<T, E>(limit: Duration, mut attempt: impl FnMut() -> Result<Option<T>, E>) -> Result<Option<T>, E> {
    let deadline = Instant::now() + limit;
    loop {
        let late = Instant::now() >= deadline;
        if let Some(value) = attempt()? {
            return Ok(Some(value));
        }
        if late {
            return Ok(None);
        }
        thread::sleep(POLL_INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::time::Duration;

    use super::poll;

    #[test]
    fn gives_up_after_the_limit_but_looks_at_least_once() {
        let mut looks = 0;
        let outcome: Result<Option<()>, Infallible> = poll(Duration::ZERO, || {
            looks += 1;
            Ok(None)
        });
        assert_eq!((outcome, looks), (Ok(None), 1));
    }

    #[test]
    fn a_failure_ends_the_wait_at_once() {
        let outcome: Result<Option<()>, &str> = poll(Duration::from_mins(1), || Err("broken"));
        assert_eq!(outcome, Err("broken"));
    }
}
