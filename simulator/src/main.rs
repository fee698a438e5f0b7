//! `mailbadge-sim`: see the library.
fn main() {}
