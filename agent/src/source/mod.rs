//! What mail servers say; one folder a kind, one driver each. A source knows neither tracker nor forwarder:
//! it hands its news to an [`Observer`](crate::event::Observer).
//!
//! [`registry`] lists the kinds, [`kind`] says what the rest of the agent knows of one, [`shell`] is what their drivers
//! share.

pub mod registry;
pub mod dovecot;
pub mod cyrus;
pub mod maildir;
pub mod doveadm;
pub mod imap;
pub mod kind;
pub mod keys;
pub mod examination;
pub mod shell;
pub mod pending;
pub mod names;
pub mod event_fd;
pub mod pulse;
pub mod socket_file;
pub mod sweep;
