//! A table of the file as [`Keys`], with which a kind of source reads what only it has.

use super::config_file::Section;
use super::secret;
use super::sections::authorities;
use super::value::Spelling;
use crate::files::driver::Trust;
use crate::https::Authorities;
use crate::source::keys::{Keys, ListenAddress, Take};
use secrecy::SecretString;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A file that is read anew when it is needed, such as one with an access token.
const PRIVATE_SIZE_MAX: u64 = 64 * 1024;

impl Keys for Section<'_, '_> {
    fn take(&mut self, key: &'static str, default: Option<&str>, expected: &str, take: Take<'_>) {
        self.read(key, default, expected, take);
    }

    fn is_given(&mut self, key: &'static str) -> bool {
        self.table(key).is_some()
    }

    fn leave_out(&mut self, key: &'static str) {
        self.leave_out(key);
    }

    fn text(&mut self, key: &'static str, default: &str) -> String {
        self.text(key, default)
    }

    fn required_text(&mut self, key: &'static str) -> String {
        self.spelled(key, None, &Spelling::text()).unwrap_or_default()
    }

    fn optional_text(&mut self, key: &'static str) -> Option<String> {
        self.optional(key, &Spelling::text())
    }

    fn duration(&mut self, key: &'static str, default: &str, range: RangeInclusive<Duration>) -> Duration {
        self.duration(key, default, range)
    }

    fn number(&mut self, key: &'static str, default: u32, range: RangeInclusive<u32>) -> u32 {
        self.number(key, default, range)
    }

    fn words(&mut self, key: &'static str) -> Option<Vec<String>> {
        self.words(key)
    }

    fn listen_address(&mut self, key: &'static str, default: &str) -> Option<ListenAddress> {
        self.spelled(key, Some(default), &Spelling::listen_address())
    }

    fn socket_path(&mut self, key: &'static str, default: &str) -> Option<PathBuf> {
        self.spelled(key, Some(default), &Spelling::socket_path())
    }

    fn mode(&mut self, key: &'static str, default: &str) -> Option<u32> {
        self.spelled(key, Some(default), &Spelling::mode())
    }

    fn path(&mut self, key: &'static str) -> Option<PathBuf> {
        self.path(key)
    }

    fn secret(&mut self, key: &'static str, what: &str) -> Option<SecretString> {
        secret::first_line_of(self, key, what)
    }

    fn is_private(&mut self, key: &'static str, path: &Path) -> bool {
        self.read_file(key, path, PRIVATE_SIZE_MAX, Trust::Secret).is_some()
    }

    fn authorities(&mut self) -> Authorities {
        authorities(self)
    }

    fn refuse(&mut self, key: &'static str, what: String) {
        self.refuse(key, what);
    }
}
