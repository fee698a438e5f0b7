//! The keys of each `[[source]]`: what all kinds have, and those of the kinds that need no secret.

use super::sheet::{Section, Sheet};
use super::value::{Place, Spelling};
use super::{Source, doveadm, imap};
use crate::source::maildir::message::Separator;
use crate::source::names::{self, Names};
use crate::source::{cyrus, dovecot, maildir};
use std::collections::HashSet;
use std::time::Duration;
use toml::de::{DeTable, DeValue};

/// Sources of one agent: a `SourceId` is a byte.
const SOURCES_MAX: usize = 255;

/// Reads them all; `organization` is the domain that rules for names mean unless they say another, `watch_all` whether
/// sources look for mailboxes.
pub(super) fn all<'d>(
    sheet: &mut Sheet<'d>,
    found: Option<(usize, &'d DeValue<'d>)>,
    organization: &str,
    watch_all: bool,
) -> Vec<Source> {
    let Some((line, value)) = found else { return Vec::new() };
    let tables: Option<Vec<_>> = value.as_array().map(|list| {
        list.iter().filter_map(|one| Some((one.span().start, one.get_ref().as_table()?))).collect()
    });
    let Some(tables) = tables.filter(|tables| {
        tables.len() <= SOURCES_MAX && Some(tables.len()) == value.as_array().map(|list| list.len())
    }) else {
        sheet
            .section("source", line, None)
            .refuse("", format!("expected [[source]] tables, {SOURCES_MAX} at most"));
        return Vec::new();
    };
    let tells = |kind: &str| ["dovecot", "cyrus", "maildir"].contains(&kind);
    let around = Around {
        organization,
        watch_all,
        has_events: tables.iter().any(|(_, table)| kind_of(table).is_some_and(tells)),
    };
    let mut names = HashSet::new();
    let mut sources = Vec::new();
    for (start, table) in tables {
        let line = sheet.line(start);
        sources.extend(one(sheet.section("source", line, Some(table)), &around, &mut names));
    }
    sources
}

/// What one source has to know of all else.
pub(super) struct Around<'a> {
    organization: &'a str,
    watch_all: bool,
    /// Another source is told of every change.
    pub(super) has_events: bool,
}

fn kind_of<'d>(table: &'d DeTable<'d>) -> Option<&'d str> {
    table.iter().find(|(key, _)| key.get_ref() == "kind").and_then(|(_, value)| value.get_ref().as_str())
}

#[derive(Clone, Copy)]
enum Kind {
    Dovecot,
    Cyrus,
    Maildir,
    Doveadm,
    Imap,
}

const KINDS: &[(&str, Kind)] = &[
    ("dovecot", Kind::Dovecot),
    ("cyrus", Kind::Cyrus),
    ("maildir", Kind::Maildir),
    ("doveadm", Kind::Doveadm),
    ("imap", Kind::Imap),
];

fn one(mut section: Section, around: &Around, names: &mut HashSet<String>) -> Option<Source> {
    let kind = section.spelled("kind", None, &Spelling::choice(KINDS))?;
    let default_name = match kind {
        Kind::Dovecot => "dovecot",
        Kind::Cyrus => "cyrus",
        Kind::Maildir => "maildir",
        Kind::Doveadm => "doveadm",
        Kind::Imap => "imap",
    };
    let name = section.text("name", default_name);
    section.rename(format!("source.{name}"));
    if !names.insert(name.clone()) {
        section.refuse(
            "name",
            format!("another source is called {name:?} already; give each a name of its own"),
        );
    }
    // Where a word is wrong the fault stands on the sheet; the other keys are read all the same.
    let spelled = spelled_names(&mut section, around.organization).unwrap_or_default();
    match kind {
        Kind::Dovecot => dovecot_source(section, &name, spelled).map(Source::Dovecot),
        Kind::Cyrus => cyrus_source(section, &name, spelled).map(Source::Cyrus),
        Kind::Maildir => maildir_source(section, &name, spelled, around.watch_all).map(Source::Maildir),
        Kind::Doveadm => doveadm::source(section, &name, spelled, around.watch_all).map(Source::Doveadm),
        Kind::Imap => {
            let settings = imap::source(section, &name, spelled, around.has_events)?;
            Some(Source::Imap(Box::new(settings)))
        }
    }
}

const SPELLINGS: &[(&str, names::Spelling)] = &[
    ("same", names::Spelling::Same),
    ("local-part", names::Spelling::LocalPart),
    ("with-domain", names::Spelling::WithDomain),
];

/// The keys that say how the server spells its users.
fn spelled_names(section: &mut Section, organization: &str) -> Option<Names> {
    let spelling = section.choice("names", "same", SPELLINGS);
    let domain = section.optional("domain", &Spelling::domain());
    let is_lowered = section.yes_or_no("lowercase", false);
    Some(Names {
        spelling: spelling?,
        domain: domain.unwrap_or_else(|| organization.to_owned()).into(),
        is_lowered,
    })
}

fn dovecot_source(mut section: Section, name: &str, names: Names) -> Option<dovecot::Settings> {
    let place = section.spelled("listen", Some("/run/mailbadge/dict.sock"), &Spelling::place());
    let mode = section.spelled("mode", Some("0660"), &Spelling::mode());
    let connections_max = section.number("connections-max", 8192, 1..=1_000_000) as usize;
    section.finish();
    let listen = match place? {
        Place::Unix(path) => dovecot::Listen::Unix(path),
        Place::Tcp(address) => dovecot::Listen::Tcp(address),
    };
    Some(dovecot::Settings { name: name.into(), listen, mode: mode?, connections_max, names })
}

fn cyrus_source(mut section: Section, name: &str, names: Names) -> Option<cyrus::Settings> {
    let listen = section.spelled("listen", Some("/run/mailbadge/cyrus.sock"), &Spelling::socket_path());
    let mode = section.spelled("mode", Some("0660"), &Spelling::mode());
    section.finish();
    Some(cyrus::Settings { name: name.into(), listen: listen?, mode: mode?, names })
}

const SEPARATORS: &[(&str, Separator)] =
    &[(":", Separator::Colon), (";", Separator::Semicolon), ("!", Separator::ExclamationMark)];

fn maildir_source(
    mut section: Section,
    name: &str,
    names: Names,
    is_searching: bool,
) -> Option<maildir::Settings> {
    let path = section.spelled("path", None, &Spelling::maildir());
    let separator = section.choice("flag-separator", ":", SEPARATORS);
    let range = Duration::from_secs(1)..=Duration::from_hours(168);
    let sweep_interval = section.duration("sweep-interval", "15m", range);
    section.finish();
    let (path, separator) = (path?, separator?);
    Some(maildir::Settings { name: name.into(), path, separator, names, sweep_interval, is_searching })
}
