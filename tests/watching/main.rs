//! A real Dovecot reports over IMAP within the limits that we name: for mailboxes that are watched for long, that
//! sleep, and that come back all at once.

mod crowd;
mod hibernation;
mod rearm;
