//! The simulated counterparts as pure machines: time, randomness and bytes come in as arguments.

pub mod mail_store;
