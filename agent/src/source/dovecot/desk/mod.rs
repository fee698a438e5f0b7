//! Where conversations with Dovecot are held: all connections on one thread, with one buffer between them.

pub(super) mod driver;
