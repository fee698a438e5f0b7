//! The script of steps that every source must follow: after each, every device shows what STATUS says.

use crate::cloud::Cloud;
use crate::deeds::Deed;
use crate::host::{Host, badges};
use crate::imap_client::ImapClient;
use crate::lmtp::LmtpClient;
use crate::process::try_until;
use std::net::SocketAddr;
use std::time::Duration;

/// How long a count may take to its devices; far above what it takes, and above the longest pause between two attempts
/// to reach a relay that was away, which is a minute.
const LIMIT: Duration = Duration::from_secs(90);

/// Each changes the count, so that none can pass for the one before it.
pub const STEPS: &[Deed] = &[
    Deed::Deliver(3),
    Deed::Append(2),
    Deed::Seen("1"),
    Deed::Unseen("1"),
    Deed::Seen("2:3"),
    Deed::Expunge("1"),
    Deed::Append(1),
    Deed::MoveOut("3:4"),
    Deed::MoveIn("1"),
    Deed::Deliver(1),
    Deed::Seen("1:*"),
    Deed::Unseen("2"),
    Deed::Expunge("1:*"),
];

/// Where the script is played: a mail server, an agent beside it, a relay with devices.
pub struct Scene<'a> {
    /// Relay and devices.
    pub cloud: &'a Cloud,
    /// The agent, for what it says when a badge is wrong.
    pub host: &'a Host,
    /// The mail server's IMAP.
    pub imap: SocketAddr,
    /// The mail server's LMTP.
    pub lmtp: SocketAddr,
    /// Every user's password.
    pub password: &'a str,
    /// The mailboxes, each with two devices.
    pub mailboxes: Vec<String>,
}

impl Scene<'_> {
    /// Does each of [`STEPS`] to each mailbox; after each step all badges are true.
    pub fn play(&self) {
        let mut lmtp = LmtpClient::connect(self.lmtp).expect("lmtp");
        for step in STEPS {
            for name in &self.mailboxes {
                let done = step.perform(name, &mut lmtp, &mut self.client(name));
                done.unwrap_or_else(|error| panic!("{step:?}: {error}"));
            }
            self.all_badges_are_true(&format!("{step:?}"));
        }
    }

    /// Waits until both devices of each mailbox show what STATUS says.
    pub fn all_badges_are_true(&self, step: &str) {
        for name in &self.mailboxes {
            let unseen = self.client(name).status_unseen("INBOX").expect("STATUS");
            let mut shown = [None; 2];
            let is_true = try_until(LIMIT, || {
                shown = badges(self.cloud, name);
                (shown == [Some(unseen); 2]).then_some(())
            });
            let status = || self.host.ask("/status");
            assert!(
                is_true.is_some(),
                "{step}: {name} has {unseen} unseen, its devices show {shown:?}\n{}",
                status()
            );
        }
    }

    fn client(&self, name: &str) -> ImapClient {
        ImapClient::connect(self.imap, name, self.password).expect("imap")
    }
}
