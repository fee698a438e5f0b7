//! Serves conversations with Dovecot: all connections on one thread, with one buffer between them.

pub(super) mod driver;
