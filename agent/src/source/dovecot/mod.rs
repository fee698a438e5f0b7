//! Dovecot's notify_status plugin as a source: we are its dict server.
