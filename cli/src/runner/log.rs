//! What a container prints. The end of it is kept for whoever may not read logs, or comes when the pod is gone.

use std::sync::{Mutex, PoisonError};

/// Longest end that is kept, in bytes: a kubelet gives all containers of a pod 12 KiB together.
const KEPT_BYTES: usize = 2_048;

static KEPT: Mutex<String> = Mutex::new(String::new());

/// Prints a line, and keeps it.
pub(super) fn say(line: &str) {
    println!("{line}");
    keep(&mut KEPT.lock().unwrap_or_else(PoisonError::into_inner), line);
}

/// The last lines that were printed.
pub(super) fn tail() -> String {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner).trim_end().to_owned()
}

/// Adds a line, and lets go of what there is no room for, up to the beginning of a character.
fn keep(kept: &mut String, line: &str) {
    kept.push_str(line);
    kept.push('\n');
    let from = kept.ceil_char_boundary(kept.len().saturating_sub(KEPT_BYTES));
    kept.drain(..from);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_kept_from_the_beginning_of_a_character() {
        let mut kept = String::new();
        keep(&mut kept, "short");
        assert_eq!(kept, "short\n");
        keep(&mut kept, &"日".repeat(1_000));
        keep(&mut kept, "the end");
        assert!(kept.starts_with('日') && kept.ends_with("日\nthe end\n"), "{kept}");
        assert!((KEPT_BYTES - 2..=KEPT_BYTES).contains(&kept.len()), "{}", kept.len());
    }
}
