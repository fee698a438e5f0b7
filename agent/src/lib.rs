//! mailbadge keeps the number on a phone's icon equal to the unseen count of a mailbox.
//!
//! One count's way: a mail server speaks to a [`source`]; the source hands a reading to the [`tracker`], which
//! compares it with what each device was last acknowledged to show; where they differ the mailbox is ready;
//! the [`batcher`] says when a batch goes; the [`forwarder`] carries the newest counts to the relay with a
//! [`token`] signed by the host's certificate ([`identity`]); the relay's acknowledgement sets what devices show.
//!
//! [`flow`] joins tracker, batcher, forwarder and token into one machine without I/O; the [`ledger`] keeps the tracker
//! in step with the [`store`]; [`run`] drives both with real sockets, clocks and files; the simulation in `tests/` drives
//! the same two in virtual time.
//! Modules stand in reading order; arrows between them never point upwards.

pub mod cli;
pub mod commands;
pub mod run;
pub mod config;

pub mod endpoint;
pub mod admin;
pub mod flow;
pub mod ledger;

pub mod source;
pub mod tracker;
pub mod batcher;
pub mod forwarder;
pub mod token;
pub mod store;
pub mod identity;
pub mod subscription;
pub mod https;
pub mod listen;
pub mod files;

pub mod counters;
pub mod event;
pub mod time;
