//! How soon a real Dovecot reports over IMAP: mailboxes that are watched for long, that sleep, and that come back all at
//! once, each within its limit.

mod crowd;
mod hibernation;
mod rearm;
