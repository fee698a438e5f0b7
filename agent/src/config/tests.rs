//! The annotated file lists what there is; each bad file in `fixtures/config/bad` is refused as its `expected` says.

use super::*;
use crate::identity::certificate::Certificate;
use crate::source::registry::KINDS;
use crate::source::{doveadm as doveadm_source, dovecot, imap as imap_source, maildir};
use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// A folder with what good configurations name: a password file and a certificate.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let fixtures = Path::new(ROOT).join("fixtures/config/files");
    for entry in fs::read_dir(fixtures).unwrap() {
        let file = entry.unwrap();
        let copy = dir.path().join(file.file_name());
        fs::copy(file.path(), &copy).unwrap();
        let is_open = file.file_name().to_string_lossy().starts_with("open");
        fs::set_permissions(&copy, Permissions::from_mode(if is_open { 0o640 } else { 0o600 })).unwrap();
    }
    dir
}

fn load_in(dir: &Path, file: &Path) -> Result<Config, ConfigError> {
    let copy = dir.join("mailbadge.toml");
    fs::copy(file, &copy).unwrap();
    load(&copy)
}

fn entries(folder: &str) -> Vec<PathBuf> {
    let mut paths: Vec<_> =
        fs::read_dir(Path::new(ROOT).join(folder)).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!paths.is_empty(), "{folder} is empty");
    paths.sort();
    paths
}

#[test]
fn every_good_file_is_taken() {
    let dir = folder();
    for file in entries("fixtures/config/good") {
        if let Err(error) = load_in(dir.path(), &file) {
            panic!("{}: {error}", file.display());
        }
    }
}

#[test]
fn every_bad_file_is_refused_with_its_expected_text() {
    let kinds = KINDS.map(|kind| format!("{:?}", kind.name)).join(" or ");
    for case in entries("fixtures/config/bad") {
        let dir = folder();
        let error = load_in(dir.path(), &case.join("mailbadge.toml")).expect_err(&case.display().to_string());
        let code = if error.is_permission() { 77 } else { 78 };
        let told = format!("{error}\nexit {code}\n")
            .replace(&format!("{}/", dir.path().display()), "DIR/")
            .replace(&kinds, "KINDS");
        if std::env::var_os("MAILBADGE_BLESS").is_some() {
            fs::write(case.join("expected"), &told).unwrap();
        }
        let expected = fs::read_to_string(case.join("expected")).unwrap_or_default();
        assert_eq!(told, expected, "{}", case.display());
    }
}

#[test]
fn the_annotated_file_names_every_key_with_its_default() {
    let annotated = Path::new(ROOT).join("mailbadge.toml");
    let config = load_in(folder().path(), &annotated).unwrap();
    let text = fs::read_to_string(&annotated).unwrap();
    let told: BTreeSet<_> = keys_with_tables(&text).into_iter().collect();
    let mut known: BTreeSet<_> =
        config.settings.iter().map(|it| (it.section.clone(), it.key.to_owned())).collect();
    for of_another_login in ["user", "token-file", "token-command"] {
        known.insert(("source.imap".to_owned(), of_another_login.to_owned()));
    }
    known.insert(("source.doveadm".to_owned(), "password-file".to_owned()));
    assert_eq!(told, known);
    for kind in KINDS {
        assert!(text.contains(&format!("kind = {:?}", kind.name)), "a source of kind {}", kind.name);
    }
    let dir = folder();
    let defaults = read(&required(&text), dir.path()).unwrap();
    assert_eq!(config.settings.len(), defaults.settings.len());
    for (annotated, default) in config.settings.iter().zip(&defaults.settings) {
        assert_eq!((&annotated.section, annotated.key), (&default.section, default.key));
        assert_eq!(annotated.value, default.value, "{}.{}", annotated.section, annotated.key);
    }
}

/// The file with its sources, and of their keys only those that the comment above calls required.
fn required(text: &str) -> String {
    let mut comment = String::new();
    let mut kept = Vec::new();
    for line in text.lines() {
        if line.starts_with('#') {
            comment.push_str(line);
            continue;
        }
        let is_head = line == "[[source]]" || line.starts_with("kind = ");
        if is_head || comment.contains("Required") {
            kept.push(line);
        }
        comment.clear();
    }
    kept.join("\n")
}

/// Keys of a file, those in comments included, with the tables they stand in; sources by their names.
fn keys_with_tables(text: &str) -> Vec<(String, String)> {
    let mut table = String::new();
    let mut keys = Vec::new();
    for line in text.lines() {
        let line = line.trim_start_matches("# ");
        if let Some(head) = line.strip_prefix('[') {
            table = head.trim_matches(['[', ']']).to_owned();
        } else if let Some((key, value)) = line.split_once(" = ")
            && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')
        {
            if key == "kind" {
                table = format!("source.{}", value.trim_matches('"'));
            }
            keys.push((table.clone(), key.to_owned()));
        }
    }
    keys
}

#[test]
fn values_reach_the_rooms() {
    let dir = folder();
    let text = r#"
        organization = "Fabrikam.com"
        state-dir = "state"
        [relay]
        ca-file = "ca.pem"
        ca-only = true
        max-hold = "250ms"
        [[source]]
        kind = "dovecot"
        listen = "localhost:4242"
        names = "local-part"
        [[source]]
        kind = "maildir"
        path = "/m/{local-part}"
        flag-separator = "!"
        names = "with-domain"
        domain = "Other.org"
        lowercase = true
        [[source]]
        kind = "doveadm"
        url = "https://mail.fabrikam.com:8080/doveadm/v1"
        password-file = "imap.password"
        ca-file = "ca.pem"
        sweep-interval = "1h"
        timeout = "30s"
        [[source]]
        kind = "imap"
        host = "::1"
        tls = "none"
        login = "authzid"
        master-user = "cyrus"
        password-file = "imap.password"
        [admin]
        listen = "off""#;
    let config = read(text, dir.path()).unwrap();
    assert_eq!((config.organization.as_str(), config.auth.realm.as_str()), ("fabrikam.com", "fabrikam.com"));
    assert_eq!(config.state_dir, dir.path().join("state"));
    assert_eq!(config.relay.max_hold, Duration::from_millis(250));
    assert!(config.relay.authorities.extra.len() == 1 && config.relay.authorities.is_only);
    assert_eq!(config.admin.listen, None);
    let [dovecot, maildir, doveadm, imap] = config.sources.as_slice() else { panic!("{:?}", config.sources) };
    let dovecot = dovecot.settings::<dovecot::Settings>().unwrap();
    let maildir = maildir.settings::<maildir::Settings>().unwrap();
    let doveadm = doveadm.settings::<doveadm_source::Settings>().unwrap();
    let imap = imap.settings::<imap_source::Settings>().unwrap();
    assert_eq!(doveadm.url.to_string(), "https://mail.fabrikam.com:8080/doveadm/v1");
    assert_eq!((doveadm.sweep_interval, doveadm.timeout), (Duration::from_hours(1), Duration::from_secs(30)));
    assert!(
        matches!(doveadm.credential, doveadm_source::Credential::Password(_))
            && doveadm.authorities.extra.len() == 1
            && !doveadm.authorities.is_only
    );
    assert_eq!(dovecot.names.mailbox("u1"), "u1@fabrikam.com");
    assert_eq!(maildir.names.server("U1"), "u1@other.org");
    assert_eq!(maildir.separator, maildir::message::Separator::ExclamationMark);
    assert_eq!(imap.names.server("U1"), "U1");
    assert_eq!(dovecot.listen, dovecot::Listen::Tcp("127.0.0.1:4242".parse().unwrap()));
    assert_eq!((imap.port, imap.watch), (143, imap_source::Watch::SweepOnly));
    assert!(matches!(&imap.login, imap_source::Login::AuthzId { user, .. } if user == "cyrus"));
    assert!(!format!("{config:?}").contains("s3cret"), "no password in a debug print");
}

#[test]
fn what_is_legal_but_unwise_is_advised() {
    let imap = "[[source]]\nkind = \"imap\"\nhost = \"::1\"\nmaster-user = \"a\"\npassword-file = \"imap.password\"\n";
    let dovecot = "[[source]]\nkind = \"dovecot\"\n";
    let cyrus = "[[source]]\nkind = \"cyrus\"\n";
    let maildir = "[[source]]\nkind = \"maildir\"\npath = \"/m/{user}\"\n";
    let doveadm =
        "[[source]]\nkind = \"doveadm\"\nurl = \"http://[::1]:1/\"\napi-key-file = \"doveadm.key\"\n";
    let rows: [(String, &[&str]); 14] = [
        (imap.to_owned(), &[]),
        (format!("{dovecot}{imap}"), &[]),
        (String::new(), &["source"]),
        (dovecot.to_owned(), &["source"]),
        (cyrus.to_owned(), &["source"]),
        (format!("{cyrus}{maildir}"), &[]),
        (format!("{dovecot}{doveadm}"), &[]),
        (format!("{doveadm}sweep-interval = \"2h\""), &["source.doveadm.sweep-interval"]),
        (format!("{maildir}sweep-interval = \"2h\""), &["source.maildir.sweep-interval"]),
        (format!("{cyrus}mode = \"0666\"\n{imap}"), &["source.cyrus.mode"]),
        (format!("{dovecot}listen = \"192.0.2.1:99\"\n{imap}"), &["source.dovecot.listen"]),
        (
            format!("{imap}watch = \"poll\"\npoll-interval = \"1s\"\nsweep-interval = \"2h\""),
            &["source.imap.poll-interval", "source.imap.sweep-interval"],
        ),
        (format!("{imap}[subscriptions]\nlisten = \"0.0.0.0:9925\""), &["subscriptions.listen"]),
        (
            format!("{imap}[relay]\nmax-hold = \"30s\"\n[admin]\nlisten = \"off\""),
            &["relay.max-hold", "admin.listen"],
        ),
    ];
    let dir = folder();
    for (text, expected) in rows {
        let config = read(&format!("organization = \"a.b\"\n{text}"), dir.path()).unwrap();
        let keys: Vec<_> = check(&config).into_iter().map(|one| one.key).collect();
        assert_eq!(keys, expected, "{text}");
    }
}

#[test]
fn every_root_that_can_be_read_counts_and_an_odd_one_between_is_named() {
    let dir = folder();
    let good = fs::read_to_string(dir.path().join("ca.pem")).unwrap();
    let odd = "-----BEGIN CERTIFICATE-----\nAAEC\n-----END CERTIFICATE-----";
    let bundle = format!("\u{feff}text\r\n{}{odd}{}", good.trim_end(), good.replace('\n', " \r\n"));
    let text = "organization = \"a.b\"\n[relay]\nca-file = \"bundle.pem\"\n";
    fs::write(dir.path().join("bundle.pem"), bundle).unwrap();
    let config = read(text, dir.path()).unwrap();
    let [first, second] = config.relay.authorities.extra.as_slice() else { panic!("two of three") };
    assert!(first == second && good.contains(&Certificate::from_der(first, "").unwrap().pem()));
    let advice = check(&config).remove(0);
    assert_eq!(advice.key, "relay.ca-file");
    assert!(
        advice.what.contains("bundle.pem: certificate 2 is left out: not a certificate"),
        "{}",
        advice.what
    );
    fs::write(dir.path().join("bundle.pem"), odd).unwrap();
    let fault = read(text, dir.path()).unwrap_err().remove(0);
    assert!(
        fault.key == "relay.ca-file" && fault.what.contains("certificate 1 is left out"),
        "{}",
        fault.what
    );
}

proptest::proptest! {
    #[test]
    fn no_text_whatever_panics(text in ".{0,200}", key in "[a-z-]{1,20}", value in "[0-9\"a-z.:-]{0,20}") {
        let _ = read(&text, Path::new("/nowhere"));
        let _ = read(&format!("organization = \"a.b\"\n[[source]]\nkind = \"imap\"\n{key} = {value}\n"), Path::new("/nowhere"));
        let _ = read(&format!("organization = \"a.b\"\n[relay]\n{key} = {value}\n"), Path::new("/nowhere"));
    }
}
