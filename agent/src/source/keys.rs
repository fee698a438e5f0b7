//! What a kind of source reads its `[[source]]` with. The configuration has the file, the line numbers and the faults;
//! a kind says which keys it has, their defaults and limits.

use crate::https::Authorities;
use secrecy::SecretString;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The keys of one `[[source]]`. A key that is asked for is known; what is wrong with it becomes a fault of the file, and
/// the answer is then the default or `None`. Keys that nobody asked for are refused at the end.
pub trait Keys {
    /// Reads a text that has its own spelling. Without a default the key must be there. `take` gets the text, and says
    /// whether it is one of those that were `expected`.
    fn take(&mut self, key: &'static str, default: Option<&str>, expected: &str, take: Take<'_>);

    /// Whether the key is there.
    fn is_given(&mut self, key: &'static str) -> bool;

    /// Declares a key that may be left out, and is: for [`Keys::take`], which would miss it.
    fn leave_out(&mut self, key: &'static str);

    /// A text with a default.
    fn text(&mut self, key: &'static str, default: &str) -> String;

    /// A text that must be there.
    fn required_text(&mut self, key: &'static str) -> String;

    /// A text that may be left out.
    fn optional_text(&mut self, key: &'static str) -> Option<String>;

    /// A span of time with its unit.
    fn duration(&mut self, key: &'static str, default: &str, range: RangeInclusive<Duration>) -> Duration;

    /// A whole number.
    fn number(&mut self, key: &'static str, default: u32, range: RangeInclusive<u32>) -> u32;

    /// A program and its arguments, which may be left out.
    fn words(&mut self, key: &'static str) -> Option<Vec<String>>;

    /// The path of a Unix socket, or an address.
    fn listen_address(&mut self, key: &'static str, default: &str) -> Option<ListenAddress>;

    /// The path of a Unix socket.
    fn socket_path(&mut self, key: &'static str, default: &str) -> Option<PathBuf>;

    /// Permission bits of a socket, octal.
    fn mode(&mut self, key: &'static str, default: &str) -> Option<u32>;

    /// A path that may be left out; a relative one starts at the file's folder.
    fn path(&mut self, key: &'static str) -> Option<PathBuf>;

    /// The first line of a file that must be there and that only its owner may read; `what` it holds, for faults.
    fn secret(&mut self, key: &'static str, what: &str) -> Option<SecretString>;

    /// Whether only its owner may read this file, which the key names; a fault where not. Its content is not looked at.
    fn is_private(&mut self, key: &'static str, path: &Path) -> bool;

    /// The keys `ca-file`, which may be left out, and `ca-only`: the certificate authorities that are trusted.
    fn authorities(&mut self) -> Authorities;

    /// A fault of a key's value that only its neighbors or the world outside show.
    fn refuse(&mut self, key: &'static str, what: String);
}

/// Gets a text, and returns whether it can be used.
pub type Take<'a> = &'a mut dyn FnMut(&str) -> bool;

impl dyn Keys + '_ {
    /// A value with its own spelling. Without a default the key must be there.
    pub fn spelled<T>(
        &mut self,
        key: &'static str,
        default: Option<&str>,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let mut value = None;
        self.take(key, default, expected, &mut |text| {
            value = parse(text);
            value.is_some()
        });
        value
    }

    /// As [`Self::spelled`], but may be left out.
    pub fn optional<T>(
        &mut self,
        key: &'static str,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        if self.is_given(key) {
            return self.spelled(key, None, expected, parse);
        }
        self.leave_out(key);
        None
    }

    /// One of a few words.
    pub fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        default: &str,
        words: &[(&'static str, T)],
    ) -> Option<T> {
        let expected: Vec<_> = words.iter().map(|(name, _)| format!("{name:?}")).collect();
        self.spelled(key, Some(default), &expected.join(" or "), |text| {
            words.iter().find(|(name, _)| *name == text).map(|(_, value)| *value)
        })
    }
}

/// Where to listen: a path or an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// The path of a Unix socket.
    Unix(PathBuf),
    /// An address and a port.
    Tcp(SocketAddr),
}
