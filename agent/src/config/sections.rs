//! Which keys the configuration has, their defaults and limits: product.md §3.1, a function a table.

use super::sheet::{Section, Sheet};
use super::value::{Place, Spelling};
use super::{Auth, Config, Relay, Source, imap};
use crate::source::{cyrus, dovecot};
use crate::{admin, endpoint, subscription};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::time::Duration;
use toml::de::{DeTable, DeValue};

/// Sources of one agent: a `SourceId` is a byte.
const SOURCES_MAX: usize = 255;
/// Exchange's application id, the agent's own by default (protocol.md §5.1).
const EXCHANGE_ID: &str = "00000002-0000-0ff1-ce00-000000000000";
/// A PEM file with all of the Web's roots has 250 KB.
const CA_FILE_SIZE_MAX: u64 = 4 * 1024 * 1024;

/// Reads the whole document. Where the sheet has faults afterwards the result is worth nothing.
pub(super) fn config<'d>(sheet: &mut Sheet<'d>, document: &'d DeTable<'d>) -> Config {
    let mut root = sheet.section("", 1, Some(document));
    let organization = root.spelled("organization", None, &Spelling::domain()).unwrap_or_default();
    let state_dir = root.path_or("state-dir", "/var/lib/mailbadge");
    let tables = ["auth", "relay", "subscriptions", "count", "admin"].map(|key| root.table(key));
    let sources = root.table("source");
    root.finish();
    let [auth_table, relay_table, subscriptions_table, count_table, admin_table] = tables;
    let auth = auth(open(sheet, "auth", auth_table), &organization);
    let relay = relay(open(sheet, "relay", relay_table));
    let sources = all_sources(sheet, sources);
    let (subscriptions, endpoint) = subscriptions(open(sheet, "subscriptions", subscriptions_table));
    count(open(sheet, "count", count_table));
    let admin = admin(open(sheet, "admin", admin_table));
    Config {
        organization,
        state_dir,
        auth,
        relay,
        sources,
        subscriptions,
        endpoint,
        admin,
        settings: Vec::new(),
    }
}

/// One table by its name; what stands there and is no table is a fault.
fn open<'s, 'd>(
    sheet: &'s mut Sheet<'d>,
    name: &'static str,
    found: Option<(usize, &'d DeValue<'d>)>,
) -> Section<'s, 'd> {
    let (line, value) = found.map_or((1, None), |(line, value)| (line, Some(value)));
    let table = value.and_then(DeValue::as_table);
    let mut section = sheet.section(name, line, table);
    if value.is_some() && table.is_none() {
        section.refuse("", format!("expected a table: [{name}]"));
    }
    section
}

fn auth(mut section: Section, organization: &str) -> Auth {
    let auth = Auth {
        application_id: section
            .spelled("application-id", Some(EXCHANGE_ID), &Spelling::guid())
            .unwrap_or_default(),
        realm: section.optional("realm", &Spelling::text()).unwrap_or_else(|| organization.to_owned()),
        may_delegate: section.yes_or_no("delegation", false),
        token_lifetime: section.duration(
            "token-lifetime",
            "24h",
            Duration::from_mins(30)..=Duration::from_hours(168),
        ),
    };
    section.finish();
    auth
}

fn relay(mut section: Section) -> Relay {
    let relay = Relay {
        ca_pem: ca_file(&mut section).map(|(pem, _)| pem),
        batch_max: section.number("batch-max", 256, 1..=10_000) as usize,
        max_hold: section.duration("max-hold", "1s", Duration::ZERO..=Duration::from_mins(1)),
        concurrency: section.number("concurrency", 4, 1..=64) as usize,
        timeout: section.duration("timeout", "100s", Duration::from_secs(1)..=Duration::from_mins(10)),
    };
    section.finish();
    relay
}

/// The key `ca-file`: the file's text and the certificates in it, at least one.
pub(super) fn ca_file(section: &mut Section) -> Option<(Vec<u8>, Vec<CertificateDer<'static>>)> {
    let path = section.path("ca-file")?;
    match certificates(&path) {
        Ok(found) => Some(found),
        Err(what) => {
            section.refuse("ca-file", what);
            None
        }
    }
}

fn certificates(path: &Path) -> Result<(Vec<u8>, Vec<CertificateDer<'static>>), String> {
    let shown = path.display();
    let size = fs::metadata(path).map_err(|cause| format!("{shown}: {cause}"))?.len();
    if size > CA_FILE_SIZE_MAX {
        return Err(format!("{shown}: has {size} bytes; expected certificates in PEM"));
    }
    let pem = fs::read(path).map_err(|cause| format!("{shown}: {cause}"))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok((pem, found)),
        _ => Err(format!("{shown}: holds no certificate; expected \"-----BEGIN CERTIFICATE-----\" (PEM)")),
    }
}

fn all_sources<'d>(sheet: &mut Sheet<'d>, found: Option<(usize, &'d DeValue<'d>)>) -> Vec<Source> {
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
    let tells = |kind: &str| ["dovecot", "cyrus"].contains(&kind);
    let has_events = tables.iter().any(|(_, table)| kind_of(table).is_some_and(tells));
    let mut names = HashSet::new();
    let mut sources = Vec::new();
    for (start, table) in tables {
        let line = sheet.line(start);
        sources.extend(one_source(sheet.section("source", line, Some(table)), has_events, &mut names));
    }
    sources
}

fn kind_of<'d>(table: &'d DeTable<'d>) -> Option<&'d str> {
    table.iter().find(|(key, _)| key.get_ref() == "kind").and_then(|(_, value)| value.get_ref().as_str())
}

#[derive(Clone, Copy)]
enum Kind {
    Dovecot,
    Cyrus,
    Imap,
}

const KINDS: &[(&str, Kind)] = &[("dovecot", Kind::Dovecot), ("cyrus", Kind::Cyrus), ("imap", Kind::Imap)];

fn one_source(mut section: Section, has_events: bool, names: &mut HashSet<String>) -> Option<Source> {
    let kind = section.spelled("kind", None, &Spelling::choice(KINDS))?;
    let default_name = match kind {
        Kind::Dovecot => "dovecot",
        Kind::Cyrus => "cyrus",
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
    match kind {
        Kind::Dovecot => dovecot_source(section, &name).map(Source::Dovecot),
        Kind::Cyrus => cyrus_source(section, &name).map(Source::Cyrus),
        Kind::Imap => {
            imap::source(section, &name, has_events).map(|settings| Source::Imap(Box::new(settings)))
        }
    }
}

fn dovecot_source(mut section: Section, name: &str) -> Option<dovecot::Settings> {
    let place = section.spelled("listen", Some("/run/mailbadge/dict.sock"), &Spelling::place());
    let mode = section.spelled("mode", Some("0660"), &Spelling::mode());
    let connections_max = section.number("connections-max", 8192, 1..=1_000_000) as usize;
    section.finish();
    let listen = match place? {
        Place::Unix(path) => dovecot::Listen::Unix(path),
        Place::Tcp(address) => dovecot::Listen::Tcp(address),
    };
    Some(dovecot::Settings { name: name.into(), listen, mode: mode?, connections_max })
}

fn cyrus_source(mut section: Section, name: &str) -> Option<cyrus::Settings> {
    let listen = section.spelled("listen", Some("/run/mailbadge/cyrus.sock"), &Spelling::socket_path());
    let mode = section.spelled("mode", Some("0660"), &Spelling::mode());
    section.finish();
    Some(cyrus::Settings { name: name.into(), listen: listen?, mode: mode? })
}

fn subscriptions(mut section: Section) -> (subscription::Settings, endpoint::Settings) {
    use subscription::Settings;
    let place = section.spelled("listen", Some("127.0.0.1:9925"), &Spelling::place_or_off()).flatten();
    let expiration = section.duration("expiration", "72h", Settings::SHORTEST..=Settings::LONGEST);
    section.finish();
    (Settings { expiration }, endpoint::Settings { listen: place.map(listen) })
}

/// So far there is one policy; the keys stand here so that a file says which one it counts on.
fn count(mut section: Section) {
    section.choice("policy", "unseen", &[("unseen", ())]);
    if !section.yes_or_no("count-deleted", true) {
        section.refuse(
            "count-deleted",
            "is false; expected true: messages marked \\Deleted count, as in STATUS",
        );
    }
    section.finish();
}

fn admin(mut section: Section) -> admin::Settings {
    let place = section.spelled("listen", Some("127.0.0.1:9924"), &Spelling::loopback_place()).flatten();
    section.finish();
    admin::Settings { listen: place.map(listen) }
}

fn listen(place: Place) -> admin::Listen {
    match place {
        Place::Unix(path) => admin::Listen::Unix(path),
        Place::Tcp(address) => admin::Listen::Tcp(address),
    }
}
