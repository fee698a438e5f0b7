//! What doveadm answers, read as it comes: a piece of any length goes in, what it completes comes out. No answer is ever
//! held whole, however many users there are: one row at a time is.
//!
//! An answer is a list of responses, one a command, in the commands' order: `["doveadmResponse",[row,…],"tag"]` or
//! `["error",{"exitCode":75},"tag"]` (sources.md §2.1). A row that cannot be understood costs that row alone.

use crate::event::{ModSeq, UidValidity};
use crate::https::json::Members;
use serde_json::Value as Json;

/// Bytes of a row, at most: a longer one is skipped.
pub const ROW_MAX: usize = 16 * 1024;

/// How deep lists lie in each other: the answer, its responses, their rows.
const DEPTH_MAX: u8 = 3;
/// Within a response.
const RESPONSE: u8 = 2;

/// The counts of one INBOX.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Messages without `\Seen`.
    pub unseen: u32,
    /// UIDVALIDITY, where it was told.
    pub uid_validity: Option<UidValidity>,
    /// HIGHESTMODSEQ, where it was told.
    pub modseq: Option<ModSeq>,
}

/// What a piece of an answer completed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnswerPart {
    /// A row that names its user: one of all users.
    OfUser(String, Counts),
    /// A row that names none: its response's tag, which follows, says whose it is.
    OfQuestion(Counts),
    /// A row that could not be understood.
    Skipped,
    /// A command failed, with this exit code (sysexits), or another reason.
    Failed(String),
    /// The end of a response, with its tag.
    Tag(String),
}

/// Something else than doveadm's answer. The text is for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("what answers there is not doveadm: expected [[\"doveadmResponse\",[…],\"…\"]]")]
pub struct NotDoveadm;

/// Reads one answer.
#[derive(Debug, Default)]
pub struct Reader {
    /// Lists that are open.
    depth: u8,
    /// The value that is being read.
    value: Option<Value>,
    /// Texts of the response that were read: the word that it begins with, its tag, whatever a version adds.
    texts: u32,
    is_over: bool,
}

/// A value inside a response, as far as it was read.
#[derive(Debug, Default)]
struct Value {
    /// What opened it, and its bytes, [`ROW_MAX`] and one more at most.
    bytes: Vec<u8>,
    /// Objects and lists in it that are open.
    nesting: usize,
    is_text: bool,
    is_escaped: bool,
}

impl Reader {
    /// Takes the next piece; tells what it completed.
    ///
    /// # Errors
    /// [`NotDoveadm`]: reading on makes no sense.
    pub fn read(&mut self, piece: &[u8], mut tell: impl FnMut(AnswerPart)) -> Result<(), NotDoveadm> {
        piece.iter().try_for_each(|byte| self.take(*byte, &mut tell))
    }

    /// Whether the answer came to its end.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    fn take(&mut self, byte: u8, tell: &mut impl FnMut(AnswerPart)) -> Result<(), NotDoveadm> {
        let Some(value) = &mut self.value else { return self.between(byte) };
        match value.take(byte) {
            Progress::Open => Ok(()),
            Progress::Whole => self.end(tell),
            Progress::EndedBefore => {
                self.end(tell)?;
                self.between(byte)
            }
        }
    }

    /// A byte outside of any value.
    fn between(&mut self, byte: u8) -> Result<(), NotDoveadm> {
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => Ok(()),
            _ if self.is_over => Err(NotDoveadm),
            // The mark of byte order.
            0xEF | 0xBB | 0xBF if self.depth == 0 => Ok(()),
            b'[' if self.depth < DEPTH_MAX => {
                self.depth += 1;
                if self.depth == RESPONSE {
                    self.texts = 0;
                }
                Ok(())
            }
            b']' if self.depth > 0 => {
                self.depth -= 1;
                self.is_over = self.depth == 0;
                Ok(())
            }
            b',' if self.depth > 0 => Ok(()),
            _ if self.depth >= RESPONSE => {
                let mut value = Value::default();
                value.take(byte);
                self.value = Some(value);
                Ok(())
            }
            _ => Err(NotDoveadm),
        }
    }

    /// A value is whole: a row, or one of the three things in a response.
    fn end(&mut self, tell: &mut impl FnMut(AnswerPart)) -> Result<(), NotDoveadm> {
        let Some(Value { bytes, .. }) = self.value.take() else { return Ok(()) };
        if self.depth == DEPTH_MAX {
            tell(row(&bytes));
            return Ok(());
        }
        // What a version adds behind the tag.
        if self.texts > 1 {
            return Ok(());
        }
        if bytes.first() == Some(&b'{') {
            tell(AnswerPart::Failed(failure(&bytes)));
            return Ok(());
        }
        let text = match serde_json::from_slice(&bytes) {
            Ok(Json::String(text)) => Some(text),
            Ok(Json::Number(number)) if self.texts > 0 => Some(number.to_string()),
            _ if self.texts > 0 => None,
            _ => return Err(NotDoveadm),
        };
        if self.texts == 1
            && let Some(tag) = text
        {
            tell(AnswerPart::Tag(tag));
        }
        self.texts = self.texts.saturating_add(1);
        Ok(())
    }
}

/// Where a value stands after a byte.
enum Progress {
    Open,
    Whole,
    /// It was whole, and this byte is not its own any more.
    EndedBefore,
}

impl Value {
    fn take(&mut self, byte: u8) -> Progress {
        let is_plain = self.nesting == 0 && !self.is_text && !self.bytes.is_empty();
        if is_plain && matches!(byte, b',' | b']' | b'}' | b' ' | b'\t' | b'\r' | b'\n') {
            return Progress::EndedBefore;
        }
        if self.bytes.len() <= ROW_MAX {
            self.bytes.push(byte);
        }
        if self.is_text {
            match byte {
                _ if std::mem::take(&mut self.is_escaped) => {}
                b'\\' => self.is_escaped = true,
                b'"' => self.is_text = false,
                _ => {}
            }
        } else {
            match byte {
                b'"' => self.is_text = true,
                b'{' | b'[' => self.nesting += 1,
                b'}' | b']' => self.nesting = self.nesting.saturating_sub(1),
                _ => {}
            }
        }
        let is_closed = !self.is_text && self.nesting == 0 && matches!(byte, b'"' | b'}' | b']');
        if is_closed { Progress::Whole } else { Progress::Open }
    }
}

/// doveadm writes every value as a text; whatever a row holds besides is passed over.
fn row(bytes: &[u8]) -> AnswerPart {
    let Some(row) = Members::read(bytes) else { return AnswerPart::Skipped };
    match (counts(&row), row.text("username")) {
        (Some(counts), Some(user)) => AnswerPart::OfUser(user, counts),
        (Some(counts), None) if !row.has("username") => AnswerPart::OfQuestion(counts),
        _ => AnswerPart::Skipped,
    }
}

/// `None` for another mailbox than INBOX, and for a count that cannot be one.
fn counts(row: &Members) -> Option<Counts> {
    if row.text("mailbox").is_some_and(|mailbox| !mailbox.eq_ignore_ascii_case("INBOX")) {
        return None;
    }
    let uid_validity =
        row.number("uidvalidity").and_then(|number| u32::try_from(number).ok()?.try_into().ok());
    let modseq = row.number("highestmodseq").and_then(|number| number.try_into().ok());
    Some(Counts {
        unseen: u32::try_from(row.number("unseen")?).ok()?,
        uid_validity: uid_validity.map(UidValidity),
        modseq: modseq.map(ModSeq),
    })
}

/// Why a command failed: `{"type":"exitCode", "exitCode":75}`.
fn failure(bytes: &[u8]) -> String {
    let reason = Members::read(bytes);
    let kind = reason.as_ref().and_then(|reason| reason.text("type")).unwrap_or_default();
    let exit_code = reason.as_ref().and_then(|reason| reason.text("exitCode")).unwrap_or_default();
    let quoted =
        |text: &str| -> String { text.chars().filter(|char| !char.is_control()).take(100).collect() };
    match (kind.as_str(), exit_code.as_str()) {
        ("exitCode", "67") => "there is no such user".to_owned(),
        ("exitCode", "") => "exit code 0".to_owned(),
        ("exitCode", code) => format!("exit code {}", quoted(code)),
        ("", _) => "an error without a reason".to_owned(),
        (kind, _) => quoted(kind),
    }
}

#[cfg(test)]
mod tests;
