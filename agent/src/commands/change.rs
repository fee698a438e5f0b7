//! What would change: for every command that takes `--what-if`.

use super::{Context, Failure};

/// A member, what it is, what it would be.
pub(super) type Row = (&'static str, String, String);

/// A sentence for each row that differs.
pub(super) fn differences(rows: impl IntoIterator<Item = Row>) -> Vec<String> {
    let changed = rows.into_iter().filter(|(_, before, after)| before != after);
    changed
        .map(|(name, before, after)| format!("What if: {name} would change from {before:?} to {after:?}."))
        .collect()
}

/// Tells people; programs find the same in `WhatIf`.
pub(super) fn tell(differences: &[String], context: &mut Context) -> Result<(), Failure> {
    if context.screen.is_json {
        return Ok(());
    }
    if differences.is_empty() {
        context.screen.line("What if: nothing would change.")?;
    }
    for line in differences {
        context.screen.line(line)?;
    }
    Ok(context.screen.line("")?)
}
