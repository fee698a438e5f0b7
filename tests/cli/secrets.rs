//! Nothing that is printed holds a secret (product.md §1, promise 5): every command and the daemon run with `-v -v`, and
//! all they write, logs, errors, metrics, `--json`, is searched for private keys, tokens and the password of the mail
//! server; so is the `Debug` of every public type that holds one.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where it stopped")]

use mailbadge::config;
use mailbadge::event::SubscriptionKey;
use mailbadge::flow;
use mailbadge::forwarder::driver::{Bearer, Post};
use mailbadge::forwarder::url::RelayUrl;
use mailbadge::https::Response;
use mailbadge::https::driver::Request;
use mailbadge::https::url::Url;
use mailbadge::identity::certificate::Certificate;
use mailbadge::identity::key::PrivateKey;
use mailbadge::identity::principal::Audience;
use mailbadge::source::imap::exchange::{Outgoing, Output as ImapOutput};
use mailbadge::source::imap::{Login, Settings};
use mailbadge::time::{Moment, UnixMs};
use mailbadge::token::exchange::TokenRequest;
use mailbadge::token::keeper::{self, TokenState};
use mailbadge::token::signer::{SignedToken, Signer};
use mailbadge_sim::peers::fault::Kind;
use mailbadge_sim::peers::mail_store::MailStore;
use secrecy::SecretString;
use std::fmt::Debug;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use support::cloud::{Cloud, ORGANIZATION};
use support::dovecot::MASTER_PASSWORD;
use support::host::{Host, badges};
use support::process::{program, spawn_agent, wait_until};

/// Longest wait for a thing to happen on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

const KEY: &str = include_str!("../../fixtures/certificates/agent.key.pem");
const CERTIFICATE: &str = include_str!("../../fixtures/certificates/agent.cert.pem");

/// `doveadm_api_key`, and how it stands in a request.
const API_KEY: [&str; 2] = ["planted-api-key", "cGxhbnRlZC1hcGkta2V5"];
/// A source to which it belongs. Nobody listens there, which is told with every look.
const DOVEADM: &str =
    "[[source]]\nkind = \"doveadm\"\nurl = \"http://127.0.0.1:9/doveadm/v1\"\napi-key-file = \"api.key\"\n";

/// Lines of PEM that an RSA key of 2048 bits begins with and that are public: the modulus, which stands in its
/// certificate as well, and by chance in the same alignment.
const PUBLIC_LINES: usize = 7;

/// The private lines of a key in PEM.
fn key_lines(pem: &str) -> impl Iterator<Item = String> {
    let lines = pem.lines().filter(|line| !line.starts_with('-')).skip(PUBLIC_LINES);
    lines.filter(|line| line.len() > 16).map(str::to_owned)
}

/// Where a JWS in compact form begins, if there is one: three base64url parts, the first one a JSON object's.
fn find_token(text: &str) -> Option<usize> {
    let is_part = |part: &str| part.len() > 16;
    text.match_indices("eyJ").map(|(at, _)| at).find(|&at| {
        let rest = text.get(at..).unwrap_or_default();
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && !"-_.".contains(c)).unwrap_or(rest.len());
        let parts: Vec<&str> = rest.get(..end).unwrap_or_default().split('.').collect();
        parts.len() >= 3 && parts.iter().take(3).all(|part| is_part(part))
    })
}

/// Fails where `text` holds one of the secrets, or any token.
#[track_caller]
fn check(what: &str, text: &str, secrets: &[String]) {
    for secret in secrets {
        assert!(!text.contains(secret.as_str()), "{what} holds {secret:?}:\n{text}");
    }
    assert_eq!(find_token(text), None, "{what} holds a token:\n{text}");
    assert!(!text.contains("PRIVATE KEY-----"), "{what} holds a key:\n{text}");
}

/// Everything a command printed.
fn printed(folder: &Path, line: &str) -> (String, String) {
    let mut command = Command::new(program());
    command.arg("agent").args(line.split_whitespace()).current_dir(folder).stdin(Stdio::null());
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

fn place(folder: &Path, name: &str, text: &str, mode: u32) {
    fs::write(folder.join(name), text).unwrap();
    fs::set_permissions(folder.join(name), Permissions::from_mode(mode)).unwrap();
}

/// Commands that work and commands that fail, in this order.
fn lines(cloud: &Cloud, setup: &str) -> Vec<String> {
    let register = format!("auth credential --register {}", cloud.credentials_url());
    let unknown = register.replace(ORGANIZATION, "contoso.com");
    let lines = [
        setup,
        "certificate new",
        "certificate list",
        "certificate show",
        "certificate import both.pem",
        "certificate import both.pem --key other.pem",
        "certificate import open.pem",
        "certificate export --format pem",
        "certificate export --out copy.cer",
        "auth config show",
        "auth config publish",
        "auth config clear-previous --what-if",
        "auth server list",
        "auth server list --refresh",
        "auth server set MicrosoftSts --auth-metadata-url http://127.0.0.1:9/",
        "auth partner add --application-id 00000002-0000-0ff1-ce00-000000000000 --realm contoso.com",
        "auth partner list",
        "auth credential",
        &register,
        &unknown,
        "proxy show",
        "proxy disable --what-if",
        "subscription list",
        "check",
        "check --print",
        "token",
        "token --decode",
        "probe",
        "status",
        "--help",
    ];
    lines.map(str::to_owned).to_vec()
}

/// A host whose counts flow, and what goes wrong half way.
struct Story {
    cloud: Cloud,
    host: Host,
    /// How its certificate was set up.
    setup: String,
    go_wrong: fn(&Cloud, &Host),
}

impl Story {
    /// A relay that takes the host's own tokens, and later none.
    fn by_direct_trust() -> Self {
        let cloud = Cloud::start_with(Some(MailStore::new(1, ORGANIZATION)));
        let host = Host::new();
        place(host.folder(), "api.key", API_KEY[0], 0o600);
        let imap = host.imap_source_at(cloud.mail_store().unwrap().1, "notify");
        host.configure(&cloud, &(imap + DOVEADM));
        let go_wrong = |cloud: &Cloud, host: &Host| {
            cloud.fail(Kind::Unauthorized);
            let (store, _) = cloud.mail_store().unwrap();
            deliver(&mut store.lock());
            wait_until("the refusal is told", LIMIT, || host.ask("/readyz").contains("relay").then_some(()));
        };
        Self { cloud, host, setup: "setup".to_owned(), go_wrong }
    }

    /// A relay that takes a token service's tokens, which later does not know the certificate any more.
    fn by_token_service() -> Self {
        let cloud = Cloud::by_token_service(MailStore::new(1, ORGANIZATION), Duration::from_hours(24));
        let host = Host::new();
        host.write_configuration(&cloud, "", &host.imap_source_at(cloud.mail_store().unwrap().1, "notify"));
        let setup = format!("setup --auth-metadata-url {}", cloud.auth_metadata_url());
        let register = format!("auth credential --register {}", cloud.credentials_url());
        let enable = format!("proxy enable --organization {ORGANIZATION} --uri {}", cloud.url());
        for line in [&setup, &register, &enable] {
            host.command(&line.split(' ').collect::<Vec<_>>()).unwrap();
        }
        let go_wrong = |cloud: &Cloud, host: &Host| {
            let shown = host.command(&["certificate", "show"]).unwrap();
            let thumbprint = shown.lines().next().and_then(|line| line.rsplit(' ').next()).unwrap();
            cloud.distrust(thumbprint);
        };
        Self { cloud, host, setup, go_wrong }
    }

    /// Runs everything, while all is well and after it went wrong; what was printed, by whom.
    fn tell(&self) -> Vec<(String, String)> {
        let (store, _) = self.cloud.mail_store().unwrap();
        let name = store.lock().names().next().unwrap().1.to_string();
        self.host.subscribe(std::slice::from_ref(&name));
        let folder = self.host.folder();
        let arguments = ["run", "-v", "-v", "--config", "mailbadge.toml"];
        let mut daemon = spawn_agent(&arguments, folder, &[], &[]).unwrap();
        deliver(&mut store.lock());
        wait_until("it shows", LIMIT, || (badges(&self.cloud, &name) == [Some(1); 2]).then_some(()));
        let mut all = Vec::new();
        self.run_all(&mut all);
        (self.go_wrong)(&self.cloud, &self.host);
        self.run_all(&mut all);
        let argv = fs::read(format!("/proc/{}/cmdline", daemon.pid())).unwrap_or_default();
        all.push(("the process list".to_owned(), String::from_utf8_lossy(&argv).into_owned()));
        assert!(daemon.stop(LIMIT).unwrap().is_some_and(|status| status.success()), "{}", daemon.log());
        let log = daemon.log();
        assert!(log.contains("source started"), "{log}");
        all.push(("the log".to_owned(), log));
        all
    }

    fn run_all(&self, all: &mut Vec<(String, String)>) {
        let folder = self.host.folder();
        for line in lines(&self.cloud, &self.setup) {
            for options in ["-v -v", "-v -v --json"] {
                let line = format!("{line} {options} --config mailbadge.toml");
                let (out, err) = printed(folder, &line);
                all.extend([(format!("{line}: out"), out), (format!("{line}: err"), err)]);
            }
        }
        let (_, remarks) = printed(folder, "token --show --json -v -v --config mailbadge.toml");
        all.push(("token --show: err".to_owned(), remarks));
        all.extend(
            ["/metrics", "/status", "/readyz", "/livez"].map(|path| (path.to_owned(), self.host.ask(path))),
        );
    }
}

fn deliver(store: &mut MailStore) {
    let account = store.names().next().unwrap().0;
    store.deliver(account).unwrap();
}

fn check_story(story: &Story) {
    let folder = story.host.folder();
    place(folder, "both.pem", &format!("{CERTIFICATE}{KEY}"), 0o600);
    place(folder, "other.pem", include_str!("../../fixtures/certificates/stranger.key.pem"), 0o600);
    place(folder, "open.pem", &format!("{CERTIFICATE}{KEY}"), 0o644);
    let shown = printed(folder, "token --show --config mailbadge.toml").0;
    assert!(find_token(&shown).is_some(), "a token would be found: {shown}");
    let all = story.tell();
    let mut secrets = vec![MASTER_PASSWORD.to_owned()];
    secrets.extend(API_KEY.map(str::to_owned));
    for file in fs::read_dir(folder.join("state/certificates")).unwrap() {
        secrets.extend(key_lines(&fs::read_to_string(file.unwrap().path()).unwrap()));
    }
    assert!(secrets.len() > 3 * 15, "some 19 lines of each of three keys: {}", secrets.len());
    secrets.extend(key_lines(KEY));
    for (what, text) in &all {
        check(what, text, &secrets);
    }
}

#[test]
fn nothing_that_is_printed_holds_a_secret() {
    check_story(&Story::by_direct_trust());
}

#[test]
fn nothing_that_is_printed_holds_a_token_of_a_token_service() {
    check_story(&Story::by_token_service());
}

#[test]
fn no_public_type_shows_the_secret_it_holds() {
    const PASSWORD: &str = "planted-password";
    const TOKEN: &str = "eyJwbGFudGVkIjoidG9rZW4ifQ.eyJwbGFudGVkIjoidG9rZW4ifQ.cGxhbnRlZC1zaWduYXR1cmU";
    let key = PrivateKey::from_pem(KEY).unwrap();
    let certificate = Certificate::from_pem(CERTIFICATE, "").unwrap();
    let text = Arc::new(SecretString::from(TOKEN));
    let token = SignedToken { token: Arc::clone(&text), expires: UnixMs(0) };
    let url = Arc::new(Url::parse("https://sts.example/").unwrap());
    let resource = Audience::parse("a/b@c").unwrap();
    let request = TokenRequest {
        service: String::new(),
        endpoint: Arc::clone(&url),
        resource,
        assertion: token.clone(),
    };
    let mut headers = hyper::HeaderMap::new();
    headers.insert("authorization", format!("Bearer {TOKEN}").parse().unwrap());
    let content = bytes::Bytes::from(format!("{{\"access_token\":\"{TOKEN}\"}}"));
    let response =
        Response { status: 200, headers: headers.clone(), content: content.clone(), is_cut: false };
    let password = || SecretString::from(PASSWORD);
    let logins = [
        Login::Master { user: "agent".to_owned(), separator: "*".to_owned(), password: password() },
        Login::AuthzId { user: "agent".to_owned(), password: password() },
        Login::Password { user: None, password: password() },
    ];
    let sources = logins.clone().map(|login| Settings::new("main", "localhost", login));
    let relay = Arc::new(RelayUrl::parse("https://relay.example/").unwrap());
    let post = Post {
        url: relay,
        request_id: uuid::Uuid::nil(),
        bearer: Bearer::Token(Arc::clone(&text)),
        is_probe: false,
        body: bytes::Bytes::new(),
    };
    let valid = TokenState::Valid { serial: 1, token: Arc::clone(&text), expires: UnixMs(0) };
    let failed = TokenState::Failed { error: mailbadge::token::Error::NoChallenge, retry_at: Moment::START };
    let sent = format!("a1 LOGIN u1*agent {PASSWORD}\r\n").into_bytes();
    let values: [(&str, &dyn Debug); 18] = [
        ("PrivateKey", &key),
        ("its PEM", &key.to_pkcs8_pem().unwrap()),
        ("Signer", &Signer::new(certificate, key.clone())),
        ("SignedToken", &token),
        ("TokenRequest", &request),
        ("its form", &request.form()),
        ("https::Request", &Request { method: hyper::Method::POST, url, headers, body: content }),
        ("https::Response", &response),
        ("Bearer", &Bearer::Token(text)),
        ("Post", &post),
        ("TokenState", &valid),
        ("TokenState", &failed),
        ("keeper::Input", &keeper::Input::Signed(Ok(token.clone()))),
        ("keeper::Input", &keeper::Input::Exchanged(Ok(response.clone()))),
        ("keeper::Output", &keeper::Output::Exchange(Box::new(request.clone()))),
        ("flow::Input", &flow::Input::Signed(Ok(token.clone()))),
        ("Login and Settings", &(logins, sources)),
        ("ImapOutput", &ImapOutput::Send(Outgoing::from(sent))),
    ];
    let mut secrets = vec![PASSWORD.to_owned(), TOKEN.to_owned()];
    secrets.extend(key_lines(KEY));
    // A list of bytes is as telling as a text.
    secrets.extend(["112, 108, 97, 110, 116", "112,108,97,110,116"].map(str::to_owned));
    for (name, value) in values {
        check(name, &format!("{value:?}"), &secrets);
        check(name, &format!("{value:#?}").replace(['\n', ' '], ""), &secrets);
    }
}

#[test]
fn a_configuration_and_a_post_of_the_flow_show_no_secret() {
    let dir = tempfile::tempdir().unwrap();
    let text = "organization = \"a.b\"\n[[source]]\nkind = \"imap\"\nhost = \"localhost\"\nmaster-user = \"agent\"\n\
                password-file = \"pw\"\n";
    place(dir.path(), "pw", "planted-password\n", 0o600);
    place(dir.path(), "api.key", API_KEY[0], 0o600);
    place(dir.path(), "mailbadge.toml", &format!("{text}{DOVEADM}"), 0o644);
    let config = config::load(&dir.path().join("mailbadge.toml")).unwrap();
    check("Config", &format!("{config:?}{config:#?}"), &["planted-password", API_KEY[0]].map(str::to_owned));
    let token = "eyJwbGFudGVkIjoidG9rZW4ifQ.eyJwbGFudGVkIjoidG9rZW4ifQ.cGxhbnRlZC1zaWduYXR1cmU";
    let post = flow::Post {
        attempt: mailbadge::forwarder::outbox::Attempt(1),
        request_id: uuid::Uuid::nil(),
        token: Some(Arc::new(SecretString::from(token))),
        body: Vec::new(),
        devices: vec![SubscriptionKey(1)],
    };
    check("flow::Post", &format!("{post:?}{post:#?}"), &[token.to_owned()]);
    check("flow::Output", &format!("{:?}", flow::Output::Post(post)), &[token.to_owned()]);
}

#[test]
fn a_token_is_found_where_there_is_one() {
    let token = "eyJhbGciOiJSUzI1NiJ9x.eyJpc3MiOiJhQGIifQxx.c2lnbmF0dXJlLXNpZ25hdHVyZQ";
    assert_eq!(find_token(&format!("Bearer {token}\n")), Some(7));
    for text in
        ["", "eyJ", "eyJhbGciOiJSUzI1NiJ9x.short.c2lnbmF0dXJlLXNpZ25hdHVyZQ", "x5t eyJhbGciOiJSUzI1NiJ9xxx"]
    {
        assert_eq!(find_token(text), None, "{text}");
    }
}
