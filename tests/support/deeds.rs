//! What people and other mail programs do to a mailbox: each a change that must reach the icon.

use crate::imap_client::ImapClient;
use crate::lmtp::LmtpClient;
use std::io;

/// One change. Messages are named as IMAP names them, by sequence numbers (RFC 9051 §9, sequence-set).
#[derive(Clone, Copy, Debug)]
pub enum Deed {
    /// So many are delivered over LMTP.
    Deliver(u32),
    /// So many are appended over IMAP.
    Append(u32),
    /// These are marked `\Seen`.
    Seen(&'static str),
    /// These are marked unseen again.
    Unseen(&'static str),
    /// These are deleted for good.
    Expunge(&'static str),
    /// These are moved from INBOX to Trash.
    MoveOut(&'static str),
    /// These are moved from Trash to INBOX.
    MoveIn(&'static str),
}

impl Deed {
    /// Does it to `user`'s mailbox; `imap` is logged in as that user.
    pub fn perform(self, user: &str, lmtp: &mut LmtpClient, imap: &mut ImapClient) -> io::Result<()> {
        imap.select("INBOX")?;
        match self {
            Self::Deliver(count) => (0..count).try_for_each(|_| lmtp.deliver(user).map(|_| ())),
            Self::Append(count) => imap.append("INBOX", "", count),
            Self::Seen(messages) => imap.store(messages, '+', "\\Seen"),
            Self::Unseen(messages) => imap.store(messages, '-', "\\Seen"),
            Self::Expunge(messages) => imap.expunge(messages),
            Self::MoveOut(messages) => imap.move_to(messages, "Trash"),
            Self::MoveIn(messages) => {
                imap.select("Trash")?;
                imap.move_to(messages, "INBOX")
            }
        }
    }
}
