//! The IMAP source against a real Dovecot, by each way of watching: after every change it holds STATUS's UNSEEN.
//!
//! Without the rest of the agent: an observer that only records stands in for it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where it stopped")]

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::EncodingKey;
use mailbadge::counters::SourceCounters;
use mailbadge::event::{MailboxId, News, Observer, Reading, SourceId, Verdict};
use mailbadge::https::Authorities;
use mailbadge::source::imap::driver::{ImapSource, check_login, start};
use mailbadge::source::imap::{Login, Mechanism, Method, Settings, Tls, TokenFrom, TokenLogin, Watch};
use mailbadge::source::kind::Running;
use mailbadge::time::Now;
use mailbadge::time::driver::Clock;
use parking_lot::Mutex;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls_pki_types::CertificateDer;
use std::collections::HashMap;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use support::dovecot::{Dovecot, Format, MASTER_PASSWORD, MASTER_USER, Options, USER_PASSWORD};
use support::generation::Generation;
use support::imap_client::ImapClient;
use support::lmtp::LmtpClient;
use support::{required, wait_until};

/// How long a change may take to arrive; far above what it takes.
const LIMIT: Duration = Duration::from_secs(15);
/// How long a session in IDLE may outlive its server's master process: it ends when it next has something to do, 14 s after
/// on a quiet host.
const OUTLIVED_MAX: Duration = Duration::from_mins(1);
const USERS: u32 = 4;

/// Remembers the last reading of each mailbox.
#[derive(Default)]
struct Recorder {
    told: Mutex<HashMap<MailboxId, Reading>>,
}

impl Recorder {
    fn unseen(&self, number: u32) -> Option<u32> {
        self.told.lock().get(&MailboxId(number)).map(|reading| reading.unseen)
    }
}

impl Observer for Recorder {
    fn find(&self, name: &str) -> Option<MailboxId> {
        name.strip_prefix('u')?.parse().ok().map(MailboxId)
    }

    fn observe(&self, mailbox: MailboxId, _source: SourceId, news: News, _now: Now) -> Verdict {
        let News::Reading(reading) = news else { return Verdict::Ask };
        match self.told.lock().insert(mailbox, reading) {
            Some(before) if before.unseen == reading.unseen => Verdict::Unchanged,
            _ => Verdict::Changed,
        }
    }
}

/// A source that watches `u1` to `u<USERS>` in a runtime of its own.
struct Watching {
    runtime: tokio::runtime::Runtime,
    source: Option<ImapSource>,
    recorder: Arc<Recorder>,
    counters: Arc<SourceCounters>,
}

impl Watching {
    fn start(settings: Settings) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (recorder, counters) = (Arc::new(Recorder::default()), Arc::new(SourceCounters::default()));
        let inside = runtime.enter();
        let source =
            start(settings, SourceId(0), recorder.clone(), Clock::start(), counters.clone(), 1).unwrap();
        drop(inside);
        (1..=USERS).for_each(|number| source.watch(MailboxId(number), &format!("u{number}").into()));
        Self { runtime, source: Some(source), recorder, counters }
    }

    fn source(&self) -> &ImapSource {
        self.source.as_ref().expect("taken only when dropped")
    }

    fn wait_all_watched(&self) {
        wait_until("all mailboxes watched", LIMIT, || {
            (self.counters.watched.get() == u64::from(USERS)).then_some(())
        });
    }

    fn wait_unseen(&self, number: u32, unseen: u32, step: &str) {
        let what = format!("u{number} to show {unseen} after: {step}");
        wait_until(&what, LIMIT, || (self.recorder.unseen(number) == Some(unseen)).then_some(()));
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        if let Some(source) = self.source.take() {
            self.runtime.block_on(source.stop());
        }
    }
}

fn settings(address: SocketAddr, watch: Watch) -> Settings {
    let login = Login::Master {
        user: MASTER_USER.into(),
        separator: "*".into(),
        password: MASTER_PASSWORD.to_owned().into(),
    };
    Settings {
        port: address.port(),
        watch,
        login_rate: 100,
        poll_interval: Duration::from_secs(1),
        ..Settings::new("dovecot", "127.0.0.1", login)
    }
}

/// All a mailbox can go through; after each step the recorder agrees with STATUS.
fn check_every_change(generation: Generation, watch: Watch, asks: bool) {
    for format in [Format::Maildir, Format::Sdbox] {
        let options = Options { generation, users: USERS, format, ..Options::default() };
        check_every_change_of(options, watch, asks);
    }
}

fn check_every_change_of(options: Options, watch: Watch, asks: bool) {
    let server = Dovecot::start(options);
    let watching = Watching::start(settings(server.imap(), watch));
    watching.wait_all_watched();
    let mut lmtp = LmtpClient::connect(server.lmtp()).unwrap();
    let mut client = ImapClient::connect(server.imap(), "u1", USER_PASSWORD).unwrap();
    let mut other = ImapClient::connect(server.imap(), "u1", USER_PASSWORD).unwrap();
    let mut agrees = |step: &str| {
        if asks {
            watching.source().ask(MailboxId(1));
        }
        let unseen = other.status_unseen("INBOX").unwrap();
        watching.wait_unseen(1, unseen, step);
        unseen
    };
    lmtp.deliver("u1").unwrap();
    assert_eq!(agrees("one delivered"), 1);
    for _ in 0..4 {
        lmtp.deliver("u1").unwrap();
    }
    assert_eq!(agrees("four delivered"), 5);
    client.append("INBOX", "", 2).unwrap();
    assert_eq!(agrees("two appended"), 7);
    client.select("INBOX").unwrap();
    client.store("1:2", '+', "\\Seen").unwrap();
    assert_eq!(agrees("two seen"), 5);
    client.store("1", '-', "\\Seen").unwrap();
    assert_eq!(agrees("one unseen again"), 6);
    client.expunge("3").unwrap();
    assert_eq!(agrees("one expunged"), 5);
    client.move_to("1", "Trash").unwrap();
    assert_eq!(agrees("one moved out"), 4);
    client.select("Trash").unwrap();
    client.move_to("1", "INBOX").unwrap();
    assert_eq!(agrees("moved in"), 5);
    client.select("INBOX").unwrap();
    client.store("1:*", '+', "\\Seen").unwrap();
    assert_eq!(agrees("all seen"), 0);
    watching.wait_unseen(2, 0, "nothing of it");
    assert_eq!(watching.counters.skipped.get(), 0, "lines were not understood");
    assert_eq!(server.complaints(), Vec::<String>::new());
}

fn notify_tells_every_change(generation: Generation) {
    check_every_change(generation, Watch::Notify, false);
}

fn idle_tells_every_change(generation: Generation) {
    check_every_change(generation, Watch::Idle, false);
}

fn polling_finds_every_change(generation: Generation) {
    check_every_change(generation, Watch::Poll, false);
}

fn questions_find_every_change_without_a_watching_connection(generation: Generation) {
    check_every_change(generation, Watch::SweepOnly, true);
}

fn after_a_restart_of_the_server_every_mailbox_is_watched_again_and_true(generation: Generation) {
    let mut server = Dovecot::start(Options { generation, users: USERS, ..Options::default() });
    let watching = Watching::start(settings(server.imap(), Watch::Auto));
    watching.wait_all_watched();
    server.stop();
    wait_until("the loss to be noticed", OUTLIVED_MAX, || {
        (watching.counters.watched.get() == 0).then_some(())
    });
    wait_until("the source to say so", LIMIT, || watching.source().failure());
    server.start_again().unwrap();
    LmtpClient::connect(server.lmtp()).unwrap().deliver("u3").unwrap();
    watching.wait_all_watched();
    watching.wait_unseen(3, 1, "delivered before anyone watched again");
    assert_eq!(watching.source().failure(), None);
}

#[test]
fn a_wrong_master_password_is_tried_once_and_told() {
    if !required("dovecot") {
        return;
    }
    let server = Dovecot::start(Options { users: USERS, ..Options::default() });
    let login = Login::Master {
        user: MASTER_USER.into(),
        separator: "*".into(),
        password: "wrong-password-of-a-test".to_owned().into(),
    };
    let watching = Watching::start(Settings { login, ..settings(server.imap(), Watch::Auto) });
    let failure = wait_until("the refusal to be told", LIMIT, || watching.source().failure());
    assert!(failure.contains("AUTHENTICATIONFAILED") && !failure.contains("wrong-password"), "{failure}");
    assert_eq!(watching.counters.logins_refused.get(), 1);
}

#[test]
fn a_mailbox_that_does_not_exist_leaves_the_others_alone() {
    if !required("dovecot") {
        return;
    }
    let server = Dovecot::start(Options { users: USERS, ..Options::default() });
    let watching = Watching::start(settings(server.imap(), Watch::Auto));
    watching.wait_all_watched();
    watching.source().watch(MailboxId(99), &"nobody".into());
    wait_until("the log-in to be refused", LIMIT, || {
        (watching.counters.logins_refused.get() > 0).then_some(())
    });
    LmtpClient::connect(server.lmtp()).unwrap().deliver("u2").unwrap();
    watching.wait_unseen(2, 1, "delivered");
    assert_eq!(watching.source().failure(), None);
}

/// Dovecot leaves a log-in without an answer where all its processes are busy.
#[test]
fn more_mailboxes_than_the_server_has_processes_are_all_read_again_and_again() {
    if !required("dovecot") {
        return;
    }
    let patience = Duration::from_mins(3);
    let extra = "service imap {\n  process_limit = 2\n}\n".to_owned();
    let server = Dovecot::start(Options { users: USERS, extra, ..Options::default() });
    let watching = Watching::start(settings(server.imap(), Watch::Auto));
    let mut lmtp = LmtpClient::connect(server.lmtp()).unwrap();
    for unseen in 1..=2 {
        for number in 1..=USERS {
            lmtp.deliver(&format!("u{number}")).unwrap();
        }
        for number in 1..=USERS {
            let what = format!("u{number} to show {unseen}");
            wait_until(&what, patience, || (watching.recorder.unseen(number) == Some(unseen)).then_some(()));
        }
    }
    let limit = watching.source().limit().unwrap();
    assert!(limit.contains("source dovecot: server lets in 2 connections at once"), "{limit}");
    assert_eq!((1..=USERS).find_map(|number| watching.source().words(MailboxId(number))), None);
}

/// A certificate authority of its own, and Dovecot's configuration with a certificate for `mail.test` from it.
struct Secured {
    root: CertificateDer<'static>,
    extra: String,
    implicit_port: u16,
    _folder: tempfile::TempDir,
}

impl Secured {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf =
            CertificateParams::new(["mail.test".to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
        let (certificate, secret) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
        fs::write(&certificate, leaf.pem()).unwrap();
        fs::write(&secret, key.serialize_pem()).unwrap();
        let implicit_port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let extra = format!(
            "ssl = required\nssl_cert = <{}\nssl_key = <{}\nservice imap-login {{\n  inet_listener imaps {{\n    \
             port = {implicit_port}\n    ssl = yes\n  }}\n}}\n",
            certificate.display(),
            secret.display()
        );
        Self { root: authority.der().clone(), extra, implicit_port, _folder: folder }
    }
}

#[test]
fn starttls_and_implicit_tls_reach_only_the_server_whose_certificate_is_right() {
    if !required("dovecot") {
        return;
    }
    let secured = Secured::new();
    let server = Dovecot::start(Options { users: 1, extra: secured.extra.clone(), ..Options::default() });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let check = |tls: Tls, name: &str, roots: Vec<CertificateDer<'static>>| {
        let port = if tls == Tls::Implicit { secured.implicit_port } else { server.imap().port() };
        let plain = settings(server.imap(), Watch::Auto);
        let authorities = Authorities { extra: roots, is_only: false };
        let settings = Settings { tls, port, server_name: Some(name.into()), authorities, ..plain };
        runtime.block_on(check_login(settings, "u1", Clock::start())).map_err(|error| error.to_string())
    };
    let root = || vec![secured.root.clone()];
    for tls in [Tls::StartTls, Tls::Implicit] {
        let checked = check(tls, "mail.test", root()).unwrap();
        assert_eq!((checked.method, checked.unseen), (Method::Idle, 0));
        let wrong_name = check(tls, "other.test", root()).unwrap_err();
        assert!(wrong_name.contains("TLS with") && wrong_name.contains("not valid for name"), "{wrong_name}");
        let own = Secured::new();
        let unknown = check(tls, "mail.test", vec![own.root.clone()]).unwrap_err();
        assert!(unknown.contains("TLS with"), "{unknown}");
    }
}

/// What signs access tokens, for Dovecot's own check of them.
const TOKEN_KEY: &[u8] = b"a key that this test and its Dovecot share";

/// A Dovecot that takes access tokens (OAuth 2.0, checked by a shared key), and nothing but.
fn token_server(folder: &Path) -> Dovecot {
    let keys = folder.join("keys/default/HS256");
    fs::create_dir_all(&keys).unwrap();
    fs::write(keys.join("default"), STANDARD.encode(TOKEN_KEY)).unwrap();
    let settings = folder.join("oauth2.conf.ext");
    let text = format!(
        "introspection_mode = local\nlocal_validation_key_dict = fs:posix:prefix={}/keys/\nusername_attribute = sub\n",
        folder.display()
    );
    fs::write(&settings, text).unwrap();
    for path in [folder, &folder.join("keys"), &folder.join("keys/default"), &keys] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let extra = format!(
        "auth_mechanisms = plain xoauth2 oauthbearer\npassdb {{\n  driver = oauth2\n  \
         mechanisms = xoauth2 oauthbearer\n  args = {}\n}}\n",
        settings.display()
    );
    Dovecot::start(Options { users: USERS, extra, ..Options::default() })
}

fn access_token(user: &str, lives: i64) -> String {
    let now = i64::try_from(Clock::start().now().unix.seconds()).unwrap();
    let claims = serde_json::json!({"sub": user, "iat": now - 7200, "exp": now + lives});
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &EncodingKey::from_secret(TOKEN_KEY))
        .unwrap()
}

#[test]
fn an_access_token_opens_a_mailbox_by_both_mechanisms_and_an_expired_one_does_not() {
    if !required("dovecot") {
        return;
    }
    let folder = tempfile::Builder::new().prefix("mb").tempdir_in("/tmp").unwrap();
    let server = token_server(folder.path());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let path = folder.path().join("token");
    // A token that others can read is refused.
    let made = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    drop(made.expect("own folder"));
    for mechanism in [Mechanism::XOAuth2, Mechanism::OAuthBearer] {
        let from = TokenFrom::File(path.clone());
        let login = Login::Token(TokenLogin { mechanism, user: None, from });
        let settings = Settings { login, ..settings(server.imap(), Watch::Auto) };
        fs::write(&path, access_token("u1", -3600)).unwrap();
        let expired = runtime.block_on(check_login(settings.clone(), "u1", Clock::start())).unwrap_err();
        assert!(expired.to_string().starts_with("log-in refused: "), "{mechanism:?}: {expired}");
        fs::write(&path, access_token("u1", 3600)).unwrap();
        let checked = runtime.block_on(check_login(settings, "u1", Clock::start()));
        assert_eq!(checked.map(|checked| checked.unseen).map_err(|error| error.to_string()), Ok(0));
    }
}

support::each_dovecot! {
    after_a_restart_of_the_server_every_mailbox_is_watched_again_and_true,
    notify_tells_every_change,
    idle_tells_every_change,
    polling_finds_every_change,
    questions_find_every_change_without_a_watching_connection,
}
