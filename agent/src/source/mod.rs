//! What mail servers say; one folder a kind, one driver each. A source knows neither tracker nor forwarder:
//! it hands its news to an [`Observer`](crate::event::Observer).

pub mod bell;
pub mod dovecot;
pub mod cyrus;
pub mod maildir;
pub mod doveadm;
pub mod imap;
pub mod names;
pub mod pending;
pub mod pulse;
pub mod socket_file;
pub mod sweep;
