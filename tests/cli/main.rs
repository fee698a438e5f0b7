//! The command line: what each command prints and how it ends, that nothing it prints is a secret, how mailboxes may be
//! spelled, and that `probe` and `doctor` name whatever is wrong, with the remedy.

mod commands;
mod names;
mod secrets;

mod doctor;
mod probe;
