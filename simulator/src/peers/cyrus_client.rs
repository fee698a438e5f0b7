//! What Cyrus writes to its notify socket, as a pure machine (sources.md §3): for each change of an INBOX an event with
//! the counts after it, among others that have none or are of another mailbox. Nobody answers; datagrams may be lost.

use super::mail_store::Status;
use std::collections::{HashMap, VecDeque};
use std::fmt::Write as _;

/// How mailboxes are spelled in an event's `uri`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hierarchy {
    /// `user/NAME`: `unixhierarchysep` is on.
    #[default]
    Slash,
    /// `user.NAME`, with a dot of the name's own as `^`.
    Dot,
}

/// How this Cyrus behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// How it spells mailboxes.
    pub hierarchy: Hierarchy,
    /// A datagram of three is lost, as where nobody is bound or the queue is full (quirk `cyrus-lost-datagrams`).
    pub is_lossy: bool,
}

/// The processes of one Cyrus, as the reader of its notify socket sees them.
#[derive(Debug)]
pub struct CyrusClient {
    settings: Settings,
    random: fastrand::Rng,
    /// What was told last of each user: bounded by the users there are.
    told: HashMap<Box<str>, Status>,
    out: VecDeque<Vec<u8>>,
}

impl CyrusClient {
    /// A server that has told nothing yet.
    pub fn new(settings: Settings, seed: u64) -> Self {
        let random = fastrand::Rng::with_seed(seed);
        Self { settings, random, told: HashMap::new(), out: VecDeque::new() }
    }

    /// From now on datagrams are lost, or no longer.
    pub const fn set_lossy(&mut self, is_lossy: bool) {
        self.settings.is_lossy = is_lossy;
    }

    /// The INBOX of `user` has changed; this is what STATUS says now.
    pub fn changed(&mut self, user: &str, status: Status) {
        let before = self.told.insert(user.into(), status);
        let is_noise_first = self.random.bool();
        if is_noise_first {
            self.modseq(user, status);
        }
        if before.is_some_and(|before| status.messages < before.messages) && self.random.bool() {
            self.moved_out(user, status);
        }
        self.event(user, status, before);
        if !is_noise_first {
            self.modseq(user, status);
        }
    }

    /// The next datagram to send; `None` when there is none.
    pub fn poll_output(&mut self) -> Option<Vec<u8>> {
        while let Some(datagram) = self.out.pop_front() {
            if !(self.settings.is_lossy && self.random.u8(0..3) == 0) {
                return Some(datagram);
            }
        }
        None
    }

    /// The event with the counts. `modseq` is one message's, so it is left out where the change was of several.
    fn event(&mut self, user: &str, status: Status, before: Option<Status>) {
        let Status { messages, unseen, uidnext, modseq, .. } = status;
        let is_one = before.is_none_or(|before| before.modseq + 1 >= modseq);
        let modseq = if is_one { format!("\"modseq\":{modseq},") } else { String::new() };
        let (event, more) = match before {
            Some(before) if messages < before.messages => ("MessageExpunge", r#","uidset":"1""#),
            Some(before) if messages == before.messages && unseen <= before.unseen => {
                ("MessageRead", r#","uidset":"1""#)
            }
            Some(before) if messages == before.messages => {
                ("FlagsClear", r#","uidset":"1","flagNames":"\\Seen""#)
            }
            _ => ("MessageNew", ""),
        };
        let uri = self.uri(user, "", status.uidvalidity);
        // A delivery is of one message, and its uri says which.
        let uri =
            if event == "MessageNew" { format!("{uri}/;UID={}", uidnext.saturating_sub(1)) } else { uri };
        let service = if event == "MessageNew" { "lmtp" } else { "imap" };
        self.send(&format!(
            r#"{{"event":"{event}","service":"{service}","uri":"{uri}",{modseq}"messages":{messages},"vnd.cmu.unseenMessages":{unseen},"uidnext":{uidnext}{more},"user":{}}}"#,
            quoted(user)
        ));
    }

    /// Comes with every change and has no counts.
    fn modseq(&mut self, user: &str, status: Status) {
        let uri = self.uri(user, "", status.uidvalidity);
        self.send(&format!(r#"{{"event":"MailboxModseq","service":"imap","uri":"{uri}","user":""}}"#));
    }

    /// A move is told with the counts of its target; INBOX's own follow in the expunge.
    fn moved_out(&mut self, user: &str, status: Status) {
        let (origin, target) =
            (self.uri(user, "", status.uidvalidity), self.uri(user, "Trash", status.uidvalidity));
        self.send(&format!(
            r#"{{"event":"vnd.cmu.MessageMove","service":"imap","oldMailboxID":"{origin}","uri":"{target}","modseq":2,"messages":1,"vnd.cmu.unseenMessages":1,"uidnext":2,"user":{}}}"#,
            quoted(user)
        ));
    }

    fn uri(&self, user: &str, folder: &str, uidvalidity: u32) -> String {
        let (separator, user) = match self.settings.hierarchy {
            Hierarchy::Slash => ("/", percent_encoded(user)),
            // The name's own dots, not those of its domain.
            Hierarchy::Dot => match user.split_once('@') {
                Some((local, domain)) => {
                    (".", percent_encoded(&format!("{}@{domain}", local.replace('.', "^"))))
                }
                None => (".", percent_encoded(&user.replace('.', "^"))),
            },
        };
        let (local, domain) = match user.split_once("%40") {
            Some((local, domain)) => (local, format!("%40{domain}")),
            None => (user.as_str(), String::new()),
        };
        let folder = if folder.is_empty() { String::new() } else { format!("{separator}{folder}") };
        format!("imap://localhost/user{separator}{local}{folder}{domain};UIDVALIDITY={uidvalidity}")
    }

    /// Method, class, priority, user, mailbox, number of options, message: each ended by NUL.
    fn send(&mut self, json: &str) {
        self.out.push_back(format!("mailbadge\0EVENT\0\0\0\x000\0{json}\0").into_bytes());
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// All but what RFC 3986 calls unreserved, and `^`.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~^".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: Status = Status { messages: 3, unseen: 2, uidnext: 4, uidvalidity: 7, modseq: 9 };

    /// The events of one change after another, without their noise; `user` has [`STATUS`] before.
    fn told(settings: Settings, user: &str, changes: &[Status]) -> Vec<serde_json::Value> {
        let mut client = CyrusClient::new(settings, 1);
        client.changed(user, STATUS);
        for status in changes {
            client.changed(user, *status);
        }
        let mut events = Vec::new();
        while let Some(datagram) = client.poll_output() {
            let text = String::from_utf8(datagram).expect("UTF-8");
            let fields: Vec<&str> = text.split('\0').collect();
            assert_eq!(fields[..6], ["mailbadge", "EVENT", "", "", "", "0"]);
            assert_eq!((fields.len(), fields[7]), (8, ""));
            let event: serde_json::Value = serde_json::from_str(fields[6]).expect("JSON");
            if event["event"] != "MailboxModseq" {
                events.push(event);
            }
        }
        events
    }

    #[test]
    fn each_change_is_the_event_that_cyrus_makes_of_it() {
        let changes = [
            Status { messages: 4, unseen: 3, uidnext: 5, modseq: 10, ..STATUS },
            Status { messages: 4, unseen: 0, uidnext: 5, modseq: 13, ..STATUS },
            Status { messages: 4, unseen: 1, uidnext: 5, modseq: 14, ..STATUS },
            Status { messages: 3, unseen: 1, uidnext: 5, modseq: 15, ..STATUS },
        ];
        let mut events = told(Settings::default(), "u1", &changes);
        events.retain(|event| event["event"] != "vnd.cmu.MessageMove");
        let seen: Vec<_> = events
            .iter()
            .map(|it| (it["event"].as_str(), it["vnd.cmu.unseenMessages"].as_u64(), it["modseq"].as_u64()))
            .collect();
        let expected = [
            (Some("MessageNew"), Some(2), Some(9)),
            (Some("MessageNew"), Some(3), Some(10)),
            (Some("MessageRead"), Some(0), None),
            (Some("FlagsClear"), Some(1), Some(14)),
            (Some("MessageExpunge"), Some(1), Some(15)),
        ];
        assert_eq!(seen, expected);
        assert_eq!(events[0]["uri"], "imap://localhost/user/u1;UIDVALIDITY=7/;UID=3");
    }

    #[test]
    fn mailboxes_are_spelled_as_the_server_is_configured() {
        for (hierarchy, user, uri) in [
            (
                Hierarchy::Slash,
                "j.doe@fabrikam.com",
                "imap://localhost/user/j.doe%40fabrikam.com;UIDVALIDITY=7",
            ),
            (
                Hierarchy::Dot,
                "j.doe@fabrikam.com",
                "imap://localhost/user.j^doe%40fabrikam.com;UIDVALIDITY=7",
            ),
            (Hierarchy::Dot, "u 1", "imap://localhost/user.u%201;UIDVALIDITY=7"),
        ] {
            let settings = Settings { hierarchy, is_lossy: false };
            let told = told(settings, user, &[Status { unseen: 1, modseq: 10, ..STATUS }]);
            assert_eq!(told.last().expect("an event")["uri"], uri);
        }
    }

    #[test]
    fn a_lossy_one_loses_some_and_not_all() {
        let changes: Vec<Status> =
            (0..100).map(|at| Status { unseen: 3 + at % 2, modseq: 10 + u64::from(at), ..STATUS }).collect();
        let count = told(Settings { is_lossy: true, ..Settings::default() }, "u1", &changes).len();
        assert!((40..90).contains(&count), "{count} of 101 arrived");
    }
}
