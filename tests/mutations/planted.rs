//! Copied into a scratch clone of the agent by `tests/mutations/run`: says which planted fault is chosen.

use std::sync::LazyLock;

/// Whether the fault of this name is the one in `MAILBADGE_PLANTED`.
pub fn is(fault: &str) -> bool {
    static CHOSEN: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("MAILBADGE_PLANTED").ok());
    CHOSEN.as_deref() == Some(fault)
}
