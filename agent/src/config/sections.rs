//! Which keys the configuration has, their defaults and limits: product.md §3.1, a function a table.

use super::config_file::{ConfigFile, Section};
use super::value::Spelling;
use super::{Auth, Config, Relay, sources};
use crate::files::driver::Trust;
use crate::https::Authorities;
use crate::identity::certificate::Certificate;
use crate::source::keys::ListenAddress;
use crate::{admin, endpoint, listen, subscription};
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use std::path::Path;
use std::time::Duration;
use toml::de::{DeTable, DeValue};

/// Exchange's application id, the agent's own by default (protocol.md §5.1).
const EXCHANGE_ID: &str = "00000002-0000-0ff1-ce00-000000000000";
/// A PEM file with all of the Web's roots has 250 KB.
const CA_FILE_SIZE_MAX: u64 = 4 * 1024 * 1024;
/// The most connections that an endpoint may be given: each may hold 8 KiB of a head.
const CONNECTIONS_MAX: u32 = 10_000;

/// Reads the whole document. Where the file has faults afterwards the result is worth nothing.
pub(super) fn config<'d>(file: &mut ConfigFile<'d>, document: &'d DeTable<'d>) -> Config {
    let mut root = file.section("", 1, Some(document));
    let organization = root.spelled("organization", None, &Spelling::domain()).unwrap_or_default();
    let state_dir = root.path_or("state-dir", "/var/lib/mailbadge");
    let watch_all = root.yes_or_no("watch-all", false);
    let tables = ["auth", "relay", "subscriptions", "count", "admin"].map(|key| root.table(key));
    let sources = root.table("source");
    root.finish();
    let [auth_table, relay_table, subscriptions_table, count_table, admin_table] = tables;
    let auth = auth(open(file, "auth", auth_table), &organization);
    let relay = relay(open(file, "relay", relay_table));
    let sources = sources::all(file, sources, &organization, watch_all);
    let (subscriptions, endpoint) = subscriptions(open(file, "subscriptions", subscriptions_table));
    count(open(file, "count", count_table));
    let admin = admin(open(file, "admin", admin_table));
    Config {
        noticed: std::mem::take(&mut file.noticed),
        organization,
        state_dir,
        watch_all,
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
    file: &'s mut ConfigFile<'d>,
    name: &'static str,
    found: Option<(usize, &'d DeValue<'d>)>,
) -> Section<'s, 'd> {
    let (line, value) = found.map_or((1, None), |(line, value)| (line, Some(value)));
    let table = value.and_then(DeValue::as_table);
    let mut section = file.section(name, line, table);
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
        authorities: authorities(&mut section),
        batch_max: section.number("batch-max", 256, 1..=10_000) as usize,
        max_hold: section.duration("max-hold", "1s", Duration::ZERO..=Duration::from_mins(1)),
        concurrency: section.number("concurrency", 4, 1..=64) as usize,
        timeout: section.duration("timeout", "100s", Duration::from_secs(1)..=Duration::from_mins(10)),
    };
    section.finish();
    relay
}

/// The key `ca-file`: the certificates in the file that can be read, at least one; what cannot be read is noticed. And
/// `ca-only`: whether they alone are trusted.
pub(super) fn authorities(section: &mut Section) -> Authorities {
    let extra = ca_file(section).unwrap_or_default();
    let is_only = section.yes_or_no("ca-only", false);
    if is_only && section.table("ca-file").is_none() {
        section.refuse("ca-only", "stands without ca-file: then nobody would be trusted");
    }
    Authorities { extra, is_only }
}

fn ca_file(section: &mut Section) -> Option<Vec<CertificateDer<'static>>> {
    let path = section.path("ca-file")?;
    let bytes = section.read_file("ca-file", &path, CA_FILE_SIZE_MAX, Trust::Ours)?;
    match certificates(&path, &bytes) {
        Ok((found, odd)) => {
            for what in odd {
                section.notice("ca-file", what);
            }
            Some(found.iter().map(|one| CertificateDer::from(one.der().to_vec())).collect())
        }
        Err(what) => {
            section.refuse("ca-file", what);
            None
        }
    }
}

/// Those that can be read, and of each other one what is wrong with it.
fn certificates(path: &Path, bytes: &[u8]) -> Result<(Vec<Certificate>, Vec<String>), String> {
    let shown = path.display();
    let (mut found, mut odd) = (Vec::new(), Vec::new());
    for (index, read) in Certificate::each_of_pem(&String::from_utf8_lossy(bytes), "").enumerate() {
        match read.map_err(|error| error.to_string()).and_then(trusted) {
            Ok(certificate) => found.push(certificate),
            Err(why) => odd.push(format!("{shown}: certificate {} is left out: {why}", index + 1)),
        }
    }
    if found.is_empty() {
        let why = odd.first().cloned().unwrap_or_else(|| format!("{shown}: holds no certificate"));
        return Err(format!("{why}; expected \"-----BEGIN CERTIFICATE-----\" (PEM)"));
    }
    Ok((found, odd))
}

/// Whether TLS would take it as a root: one that it refuses would cost the others.
fn trusted(certificate: Certificate) -> Result<Certificate, String> {
    let der = CertificateDer::from(certificate.der());
    RootCertStore::empty().add(der.into_owned()).map_err(|error| format!("no root: {error}"))?;
    Ok(certificate)
}

fn subscriptions(mut section: Section) -> (subscription::Settings, endpoint::Settings) {
    use subscription::Settings;
    let address =
        section.spelled("listen", Some("127.0.0.1:9925"), &Spelling::listen_address_or_off()).flatten();
    let connections_max = connections_max(&mut section, listen::limits::ENDPOINT_CONNECTIONS);
    let expiration = section.duration("expiration", "72h", Settings::SHORTEST..=Settings::LONGEST);
    section.finish();
    (Settings { expiration }, endpoint::Settings { listen: address.map(listen), connections_max })
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
    let address = section.spelled("listen", Some("127.0.0.1:9924"), &Spelling::loopback_address()).flatten();
    let connections_max = connections_max(&mut section, listen::limits::ADMIN_CONNECTIONS);
    section.finish();
    admin::Settings { listen: address.map(listen), connections_max }
}

/// How many connections an endpoint holds.
fn connections_max(section: &mut Section, default: u32) -> usize {
    section.number("connections-max", default, 1..=CONNECTIONS_MAX) as usize
}

fn listen(address: ListenAddress) -> listen::Listen {
    use listen::Listen;
    match address {
        ListenAddress::Unix(path) => Listen::Unix(path),
        ListenAddress::Tcp(address) => Listen::Tcp(address),
    }
}
