//! Reading TOML with line numbers: every key that is asked for is known, every other key is a fault that names the
//! nearest known one. Faults are collected, so that one run tells all of them.
//!
//! Which keys there are and what they mean stands in `sections`; how one value is spelled, in `value`.

use super::Advice;
use super::value::Spelling;
use super::{Fault, Setting};
use crate::files::driver::{Trust, read};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};
use zeroize::Zeroizing;

/// What one file says, with everything that is wrong with it.
#[derive(Debug)]
pub(super) struct ConfigFile<'d> {
    text: &'d str,
    /// Relative paths start here: the folder of the file.
    base: &'d Path,
    /// What was found wrong.
    pub(super) faults: Vec<Fault>,
    /// What was found odd and does not stop anything.
    pub(super) noticed: Vec<Advice>,
    /// Every known key with its value.
    pub(super) settings: Vec<Setting>,
}

/// One table of the file, possibly absent.
#[derive(Debug)]
pub(super) struct Section<'s, 'd> {
    file: &'s mut ConfigFile<'d>,
    /// `relay`, `source.main`; empty for the top level.
    name: String,
    /// Line of the table's head, for keys that are missing.
    line: usize,
    table: Option<&'d DeTable<'d>>,
    asked: Vec<&'static str>,
}

/// A value with where it stands.
#[derive(Clone, Copy, Debug)]
struct Placed<'d> {
    line: usize,
    value: &'d DeValue<'d>,
}

impl<'d> ConfigFile<'d> {
    pub(super) fn new(text: &'d str, base: &'d Path) -> Self {
        Self { text, base, faults: Vec::new(), noticed: Vec::new(), settings: Vec::new() }
    }

    /// The line, from 1, on which this byte stands.
    pub(super) fn line(&self, byte: usize) -> usize {
        let before = self.text.as_bytes().get(..byte).unwrap_or_default();
        1 + memchr::memchr_iter(b'\n', before).count()
    }

    pub(super) fn section<'s>(
        &'s mut self,
        name: impl Into<String>,
        line: usize,
        table: Option<&'d DeTable<'d>>,
    ) -> Section<'s, 'd> {
        Section { file: self, name: name.into(), line, table, asked: Vec::new() }
    }
}

impl<'d> Section<'_, 'd> {
    /// A text with a default.
    pub(super) fn text(&mut self, key: &'static str, default: &str) -> String {
        self.spelled(key, Some(default), &Spelling::text()).unwrap_or_default()
    }

    /// A value spelled as a text. Without a default it must be there; `None` then is a fault already told.
    pub(super) fn spelled<T>(
        &mut self,
        key: &'static str,
        default: Option<&str>,
        spelling: &Spelling<T>,
    ) -> Option<T> {
        let mut value = None;
        self.read(key, default, &spelling.expected, &mut |text| {
            value = (spelling.parse)(text);
            value.is_some()
        });
        value
    }

    /// The same for a spelling that is not known here: `take` says whether a text is one of those that were `expected`.
    pub(super) fn read(
        &mut self,
        key: &'static str,
        default: Option<&str>,
        expected: &str,
        take: &mut dyn FnMut(&str) -> bool,
    ) {
        let Some(placed) = self.find(key) else {
            let Some(default) = default else {
                return self.fault(self.line, key, format!("is missing; expected {expected}"));
            };
            self.keep(key, quoted(default), true);
            take(default);
            return;
        };
        match placed.value.as_str() {
            Some(text) if take(text) => self.keep(key, quoted(text), false),
            _ => self.fault(placed.line, key, format!("is {}; expected {expected}", shown(placed.value))),
        }
    }

    /// As [`Section::spelled`], but may be left out.
    pub(super) fn optional<T>(&mut self, key: &'static str, spelling: &Spelling<T>) -> Option<T> {
        if self.find(key).is_none() {
            self.leave_out(key);
            return None;
        }
        self.spelled(key, None, spelling)
    }

    /// A key that need not be there and is not.
    pub(super) fn leave_out(&mut self, key: &'static str) {
        self.keep(key, String::new(), true);
    }

    /// A path that may be left out; a relative one starts at the file's folder.
    pub(super) fn path(&mut self, key: &'static str) -> Option<PathBuf> {
        let given = self.optional(key, &Spelling::text())?;
        Some(self.file.base.join(given))
    }

    /// A path with a default.
    pub(super) fn path_or(&mut self, key: &'static str, default: &str) -> PathBuf {
        let given = self.text(key, default);
        self.file.base.join(given)
    }

    /// A span of time with its unit.
    pub(super) fn duration(
        &mut self,
        key: &'static str,
        default: &str,
        range: RangeInclusive<Duration>,
    ) -> Duration {
        self.spelled(key, Some(default), &Spelling::duration(range)).unwrap_or_default()
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy + 'static>(
        &mut self,
        key: &'static str,
        default: &str,
        words: &'static [(&'static str, T)],
    ) -> Option<T> {
        self.spelled(key, Some(default), &Spelling::choice(words))
    }

    /// A whole number.
    pub(super) fn number(&mut self, key: &'static str, default: u32, range: RangeInclusive<u32>) -> u32 {
        let Some(placed) = self.find(key) else {
            self.keep(key, default.to_string(), true);
            return default;
        };
        let parsed =
            placed.value.as_integer().and_then(|it| u32::from_str_radix(it.as_str(), it.radix()).ok());
        if let Some(number) = parsed.filter(|number| range.contains(number)) {
            self.keep(key, number.to_string(), false);
            return number;
        }
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        self.fault(placed.line, key, format!("is {}; expected {expected}", shown(placed.value)));
        default
    }

    /// A list of texts that may be left out: a program and its arguments.
    pub(super) fn words(&mut self, key: &'static str) -> Option<Vec<String>> {
        let Some(placed) = self.find(key) else {
            self.keep(key, String::new(), true);
            return None;
        };
        let words: Option<Vec<String>> = placed
            .value
            .as_array()
            .and_then(|list| list.iter().map(|word| word.get_ref().as_str().map(str::to_owned)).collect());
        if let Some(words) = words.filter(|words| words.first().is_some_and(|program| !program.is_empty())) {
            self.keep(key, format!("{words:?}"), false);
            return Some(words);
        }
        let expected = "a list of texts, a program and its arguments, like [\"/usr/bin/token\", \"imap\"]";
        self.fault(placed.line, key, format!("is {}; expected {expected}", shown(placed.value)));
        None
    }

    /// True or false.
    pub(super) fn yes_or_no(&mut self, key: &'static str, default: bool) -> bool {
        let Some(placed) = self.find(key) else {
            self.keep(key, default.to_string(), true);
            return default;
        };
        if let Some(answer) = placed.value.as_bool() {
            self.keep(key, answer.to_string(), false);
            return answer;
        }
        self.fault(placed.line, key, format!("is {}; expected true or false", shown(placed.value)));
        default
    }

    /// A fault of a key's value that only its neighbors or the world outside show.
    pub(super) fn refuse(&mut self, key: &'static str, what: impl Into<String>) {
        let line = self.find(key).map_or(self.line, |placed| placed.line);
        self.fault(line, key, what.into());
    }

    /// What is odd about a key's value and does not stop anything.
    pub(super) fn notice(&mut self, key: &str, what: String) {
        let key = format!("{}.{key}", self.name);
        self.file.noticed.push(Advice { key, what });
    }

    /// As [`Section::refuse`], where it is a matter of permission.
    pub(super) fn forbid(&mut self, key: &'static str, what: impl Into<String>) {
        self.refuse(key, what);
        if let Some(fault) = self.file.faults.last_mut() {
            fault.is_permission = true;
        }
    }

    /// The whole of the file that a key names; `None`, with a fault, where it cannot be read or may not be trusted.
    pub(super) fn read_file(
        &mut self,
        key: &'static str,
        path: &Path,
        size_max: u64,
        trust: Trust,
    ) -> Option<Zeroizing<Vec<u8>>> {
        match read(path, size_max, trust) {
            Ok(bytes) => return Some(bytes),
            Err(error) if error.is_forbidden() => self.forbid(key, error.to_string()),
            Err(error) => self.refuse(key, error.to_string()),
        }
        None
    }

    /// Under which name its keys are shown, those read before included.
    pub(super) fn rename(&mut self, name: String) {
        for setting in self.file.settings.iter_mut().filter(|setting| setting.section == self.name) {
            setting.section.clone_from(&name);
        }
        self.name = name;
    }

    /// Declares a key that somebody else reads: a table.
    pub(super) fn table(&mut self, key: &'static str) -> Option<(usize, &'d DeValue<'d>)> {
        self.find(key).map(|placed| (placed.line, placed.value))
    }

    /// Whatever was not asked for is unknown.
    pub(super) fn finish(mut self) {
        for (key, _) in self.table.into_iter().flatten() {
            if !self.asked.contains(&key.get_ref().as_ref()) {
                let line = self.file.line(key.span().start);
                let what = format!("unknown key; the nearest known one is {}", self.nearest(key.get_ref()));
                self.fault(line, key.get_ref(), what);
            }
        }
    }

    fn nearest(&self, key: &str) -> &'static str {
        let likeness = |known: &&str| strsim::jaro_winkler(known, key);
        let nearest = self.asked.iter().copied().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
        nearest.unwrap_or("none: this table has no keys")
    }

    fn find(&mut self, key: &'static str) -> Option<Placed<'d>> {
        if !self.asked.contains(&key) {
            self.asked.push(key);
        }
        let (_, value) = self.table?.iter().find(|(name, _)| name.get_ref() == key)?;
        Some(self.placed(value))
    }

    fn placed(&self, value: &'d Spanned<DeValue<'d>>) -> Placed<'d> {
        Placed { line: self.file.line(value.span().start), value: value.get_ref() }
    }

    fn keep(&mut self, key: &'static str, value: String, is_default: bool) {
        let settings = &mut self.file.settings;
        settings.push(Setting { section: self.name.clone(), key, value, is_default });
    }

    fn fault(&mut self, line: usize, key: &str, what: String) {
        let dot = if self.name.is_empty() || key.is_empty() { "" } else { "." };
        let key = format!("{}{dot}{key}", self.name);
        self.file.faults.push(Fault { line, key, what, is_permission: false });
    }
}

/// As TOML writes a text.
fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// A wrong value as a person wrote it, short.
fn shown(value: &DeValue) -> String {
    match value {
        DeValue::String(text) => quoted(&text.chars().take(60).collect::<String>()),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(answer) => answer.to_string(),
        other => format!("of type {}", other.type_str()),
    }
}
