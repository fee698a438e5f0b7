//! One Dovecot connection's conversation: bytes in, replies and committed readings out.
//!
//! Pure and without time: the protocol has no timer that would be ours, so there is nothing to poll for. Idle
//! conversations hold no buffer: what a step produces goes into a [`Step`] that the driver lends to all of them.

use super::line::{Command, Unreadable, unescape};
use super::status;
use crate::event::Reading;
use crate::source::pending::Update;

/// Longest line that is read, without its LF. INBOX's status takes some 200 bytes beside the user's name; Dovecot's own limit
/// is 64 KiB. Of a longer line the command is read and the rest skipped, so that a commit is answered whatever it carries.
pub const LINE_MAX: usize = 8 * 1024;

/// Transactions open at once in one conversation. Dovecot opens one a mailbox change.
pub const TRANSACTIONS_MAX: usize = 16;

/// Longest user name that is kept, in bytes. Dovecot's own stay far below.
pub const USER_MAX: usize = 1024;

/// How much of an over-long line is kept to know what it was.
const HEAD: usize = 16;

/// The mailbox whose status is read, below `priv/status/`.
const INBOX: &[u8] = b"INBOX";

/// What of a key comes before the mailbox's name.
const STATUS_PREFIX: &[u8] = b"priv/status/";

/// What one piece of input led to. To be used in the order of the fields: Dovecot waits for the replies.
#[derive(Debug, Default)]
pub struct Step {
    /// Bytes to send back, never more than came in.
    pub replies: Vec<u8>,
    /// Committed readings, oldest first.
    pub updates: Vec<Update>,
    /// Lines that could not be understood.
    pub skipped: u64,
    /// Values of INBOX's status that could not be understood: wrongly configured, most likely. Counted in `skipped` too.
    pub unreadable_values: u64,
    /// A commit could not be answered since it had no number: only the connection's end can free the one who waits.
    pub is_hopeless: bool,
}

impl Step {
    /// Empties it for the next use; keeps its memory.
    pub fn clear(&mut self) {
        self.replies.clear();
        self.updates.clear();
        self.skipped = 0;
        self.unreadable_values = 0;
        self.is_hopeless = false;
    }
}

/// Which protocol the hello announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    /// No hello yet, or a version we do not know: commits are answered, values are not believed.
    Unknown,
    /// 2.2.36 to 2.3.16, `H2`: the user stands in the hello.
    UserInHello,
    /// 2.3.17 to 2.4, `H3` and `H4`: the user stands in each `B`.
    UserInBegin,
}

/// A transaction between its `B` and its `C`.
#[derive(Debug)]
struct Transaction {
    id: u32,
    user: Option<Box<str>>,
    reading: Option<Reading>,
}

/// The conversation's state.
#[derive(Debug)]
pub struct Conversation {
    dialect: Dialect,
    /// The hello's user, in dialects that name it there.
    user: Option<Box<str>>,
    open: Vec<Transaction>,
    /// A line's beginning whose end has not come yet.
    tail: Vec<u8>,
    /// The line that `tail` begins is over-long: of it only the head is kept.
    is_over_long: bool,
}

impl Default for Conversation {
    fn default() -> Self {
        Self::new()
    }
}

impl Conversation {
    /// A connection that was just accepted. Nothing is said before Dovecot speaks.
    pub const fn new() -> Self {
        Self {
            dialect: Dialect::Unknown,
            user: None,
            open: Vec::new(),
            tail: Vec::new(),
            is_over_long: false,
        }
    }

    /// Whether Dovecot would lose nothing if the connection ended now.
    pub fn is_idle(&self) -> bool {
        self.open.is_empty() && self.tail.is_empty()
    }

    /// Bytes of a line whose end has not come yet.
    pub fn unfinished(&self) -> usize {
        self.tail.len()
    }

    /// Takes bytes as they came; appends to `step`.
    pub fn handle(&mut self, input: &[u8], step: &mut Step) {
        let mut rest = input;
        while let Some((line, after)) =
            memchr::memchr(b'\n', rest).and_then(|at| Some((rest.get(..at)?, rest.get(at + 1..)?)))
        {
            self.end_line(line, step);
            rest = after;
        }
        self.keep(rest);
    }

    /// The connection ended: a line that was begun is lost, as are transactions that were not committed.
    pub fn finish(&mut self, step: &mut Step) {
        if !self.tail.is_empty() {
            step.skipped += 1;
        }
        *self = Self::new();
    }

    fn end_line(&mut self, end: &[u8], step: &mut Step) {
        if self.tail.is_empty() {
            if end.len() <= LINE_MAX {
                return self.line(end, step);
            }
            return self.over_long(end, step);
        }
        self.keep(end);
        let line = std::mem::take(&mut self.tail);
        if std::mem::take(&mut self.is_over_long) {
            self.over_long(&line, step);
        } else {
            self.line(&line, step);
        }
    }

    /// Keeps a part of a line, or no more than its head once it is over-long.
    fn keep(&mut self, part: &[u8]) {
        if part.is_empty() || self.is_over_long {
            return;
        }
        if self.tail.len() + part.len() > LINE_MAX {
            self.is_over_long = true;
            let missing = HEAD.saturating_sub(self.tail.len()).min(part.len());
            self.tail.extend(part.iter().take(missing));
            self.tail.truncate(HEAD);
            self.tail.shrink_to_fit();
        } else {
            self.tail.extend_from_slice(part);
        }
    }

    fn line(&mut self, line: &[u8], step: &mut Step) {
        match Command::parse(line) {
            Ok(command) => self.obey(command, step),
            Err(why) => Self::skip(why, step),
        }
    }

    fn over_long(&mut self, head: &[u8], step: &mut Step) {
        step.skipped += 1;
        match Command::parse_head(head) {
            Ok(command) => self.obey(command, step),
            Err(Unreadable::Hopeless) => step.is_hopeless = true,
            Err(Unreadable::Skip) => {}
        }
    }

    fn skip(why: Unreadable, step: &mut Step) {
        step.skipped += 1;
        step.is_hopeless |= why == Unreadable::Hopeless;
    }

    fn obey(&mut self, command: Command<'_>, step: &mut Step) {
        match command {
            Command::Hello { major, user } => self.hello(major, user, step),
            Command::Begin { id, user } => self.begin(id, user, step),
            Command::Set { id, key, value } => self.set(id, key, value, step),
            Command::Unset { id, key } => self.unset(id, key, step),
            Command::Commit { id } => self.commit(id, step),
            Command::Rollback { id } => drop(self.close(id)),
            Command::Lookup => step.replies.extend_from_slice(b"N\n"),
            Command::Iterate => step.replies.push(b'\n'),
            Command::Aside => {}
        }
    }

    fn hello(&mut self, major: u32, user: &[u8], step: &mut Step) {
        self.open.clear();
        self.user = None;
        self.dialect = match major {
            2 => Dialect::UserInHello,
            3 | 4 => Dialect::UserInBegin,
            _ => Dialect::Unknown,
        };
        match self.dialect {
            Dialect::UserInHello => self.user = user_name(user, step),
            Dialect::UserInBegin => {}
            Dialect::Unknown => step.skipped += 1,
        }
    }

    fn begin(&mut self, id: u32, user: Option<&[u8]>, step: &mut Step) {
        drop(self.close(id));
        if self.open.len() >= TRANSACTIONS_MAX {
            step.skipped += 1;
            return;
        }
        let user = match self.dialect {
            Dialect::UserInHello => self.user.clone(),
            Dialect::UserInBegin => user_name(user.unwrap_or_default(), step),
            Dialect::Unknown => {
                step.skipped += 1;
                None
            }
        };
        self.open.push(Transaction { id, user, reading: None });
    }

    /// The last value of a transaction wins; one that cannot be read takes the earlier one's place, too.
    fn set(&mut self, id: u32, key: &[u8], value: &[u8], step: &mut Step) {
        if !is_inbox(key) {
            return;
        }
        let Some(transaction) = self.open.iter_mut().find(|open| open.id == id) else {
            step.skipped += 1;
            return;
        };
        transaction.reading = status::reading(&unescape(value));
        if transaction.reading.is_none() {
            step.skipped += 1;
            step.unreadable_values += 1;
        }
    }

    fn unset(&mut self, id: u32, key: &[u8], step: &mut Step) {
        match self.open.iter_mut().find(|open| open.id == id) {
            Some(transaction) if is_inbox(key) => transaction.reading = None,
            Some(_) => {}
            None => step.skipped += 1,
        }
    }

    /// Answered whatever it commits: Dovecot waits.
    fn commit(&mut self, id: u32, step: &mut Step) {
        step.replies.push(b'O');
        push_decimal(&mut step.replies, id);
        step.replies.push(b'\n');
        match self.close(id) {
            Some(Transaction { user: Some(user), reading: Some(reading), .. }) => {
                step.updates.push(Update { user, reading });
            }
            Some(_) => {}
            None => step.skipped += 1,
        }
    }

    fn close(&mut self, id: u32) -> Option<Transaction> {
        let at = self.open.iter().position(|open| open.id == id)?;
        let closed = self.open.swap_remove(at);
        if self.open.is_empty() {
            // Most connections fall silent after a commit, for hours.
            self.open = Vec::new();
        }
        Some(closed)
    }
}

fn is_inbox(key: &[u8]) -> bool {
    unescape(key).strip_prefix(STATUS_PREFIX).is_some_and(|name| name.eq_ignore_ascii_case(INBOX))
}

/// The user's name where it is one; counted where it is not.
fn user_name(field: &[u8], step: &mut Step) -> Option<Box<str>> {
    let name = unescape(field);
    let name = std::str::from_utf8(&name).ok().filter(|name| !name.is_empty() && name.len() <= USER_MAX);
    if name.is_none() {
        step.skipped += 1;
    }
    name.map(Box::from)
}

fn push_decimal(out: &mut Vec<u8>, number: u32) {
    // Ten digits hold any u32.
    let mut digits = [0_u8; 10];
    let mut rest = number;
    let mut used = 0;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        used += 1;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend(digits.iter().skip(digits.len() - used));
}

#[cfg(test)]
mod tests;
