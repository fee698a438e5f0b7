//! IMAP as a source: session machine, NOTIFY, IDLE, STATUS, log-in governor.
