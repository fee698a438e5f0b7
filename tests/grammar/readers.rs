//! Every reader but IMAP's and the Maildir's, each with texts from its own grammar, at first to the letter and then with
//! everything mutated but the value that is needed: the value is read each time. The last line of each says what was drawn.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where it stopped")]

mod rules;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::HeaderMap;
use mailbadge::config;
use mailbadge::event::{DeviceId, MailboxId, Notification, Recipient, Rejection, SubscriptionKey};
use mailbadge::forwarder::answer::{Answer, Disposition, disposition};
use mailbadge::forwarder::wire::Stamp;
use mailbadge::https::Response;
use mailbadge::identity::certificate::Certificate;
use mailbadge::identity::key::PrivateKey;
use mailbadge::identity::metadata::Document;
use mailbadge::source::cyrus;
use mailbadge::source::doveadm::answer::{AnswerPart, Reader};
use mailbadge::source::dovecot::dict::{Conversation, Step};
use mailbadge::source::imap::{self, Login};
use mailbadge::time::{Moment, UnixMs};
use mailbadge::token::challenge::Challenge;
use mailbadge::token::exchange;
use rules::Rules;
use secrecy::ExposeSecret;
use std::fs::{self, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use support::command_line::Host;
use support::grammar::{Grammar, mutated, written};

const CERTIFICATE: &str = include_str!("../../fixtures/certificates/agent.cert.pem");
const KEY: &str = include_str!("../../fixtures/certificates/agent.key.pem");
const CHAIN: &str = include_str!("../../fixtures/certificates/sts.cert.pem");
const NOW: UnixMs = UnixMs(1_795_420_800_000);

/// One grammar, drawn from to the letter or mutated.
struct Drawn {
    grammar: Grammar,
    is_mutated: bool,
}

impl Drawn {
    fn text(&mut self, production: &str, given: &[(&str, &str)]) -> Vec<u8> {
        let pieces = self.grammar.draw(production, given);
        if self.is_mutated { mutated(&pieces, &mut self.grammar.rng) } else { written(&pieces) }
    }

    fn number(&mut self) -> u32 {
        self.grammar.rng.u32(0..100_000)
    }
}

/// Draws `count` texts each way; `check` panics where one is not read for what is needed.
fn every(rules: &Rules, count: usize, mut check: impl FnMut(&mut Drawn)) {
    for is_mutated in [false, true] {
        let mut drawn = Drawn { grammar: Grammar::new(&rules.productions, &rules.terminals, 27), is_mutated };
        for _ in 0..count {
            check(&mut drawn);
        }
        assert_eq!(drawn.grammar.missing(), Vec::<String>::new(), "never drawn");
        let (coverage, how) =
            (drawn.grammar.coverage(), if is_mutated { "mutated" } else { "to the letter" });
        // Written past the harness: what was drawn is to be seen in CI.
        writeln!(std::io::stderr().lock(), "{coverage} of {}, {how}", rules.name).unwrap();
    }
}

/// As Dovecot escapes a value.
fn escaped(value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for byte in value {
        match byte {
            b'\t' => bytes.extend(b"\x01t"),
            b'\r' => bytes.extend(b"\x01r"),
            b'\n' => bytes.extend(b"\x01n"),
            other => bytes.push(*other),
        }
    }
    bytes
}

#[test]
fn a_dict_value_is_read() {
    every(&rules::dict(), 400, |drawn| {
        let unseen = drawn.number();
        let value = escaped(&drawn.text("value", &[("unseen", &unseen.to_string())]));
        let (hello, begin) = drawn
            .grammar
            .rng
            .choice([
                ("H2\t2\t0\tu1\tunseen", "B1"),
                ("H3\t2\t0\t\tunseen", "B1\tu1"),
                ("H4\t0\t0\t\tunseen", "B1\tu1\t0"),
            ])
            .unwrap();
        let end = if drawn.is_mutated && drawn.grammar.rng.bool() { "\r\n" } else { "\n" };
        let mut bytes = format!("{hello}{end}").into_bytes();
        for line in [begin.as_bytes(), &[b"S1\tpriv/status/INBOX\t".as_slice(), &value].concat(), b"C1"] {
            bytes.extend([line, end.as_bytes()].concat());
            bytes.extend(drawn.text("lines", &[]));
        }
        let mut step = Step::default();
        Conversation::new().handle(&bytes, &mut step);
        let read: Vec<_> = step.updates.iter().map(|update| (&*update.user, update.reading.unseen)).collect();
        assert_eq!(read, [("u1", unseen)], "{}", bytes.escape_ascii());
        assert!(String::from_utf8_lossy(&step.replies).contains("O1\n"), "{}", bytes.escape_ascii());
    });
}

#[test]
fn a_datagram_of_cyrus_is_read() {
    every(&rules::cyrus(), 600, |drawn| {
        let unseen = drawn.number();
        let mailboxes = [
            ("user/kim", "kim"),
            ("user.kim", "kim"),
            ("user/kim.doe@Fabrikam.COM", "kim.doe@Fabrikam.COM"),
            ("user.kim^doe", "kim.doe"),
            ("user%2Fkim%20doe%40fabrikam.com", "kim doe@fabrikam.com"),
        ];
        let (mailbox, user) = drawn.grammar.rng.choice(mailboxes).unwrap();
        let datagram = drawn.text("frame", &[("unseen", &unseen.to_string()), ("mailbox", mailbox)]);
        let read = cyrus::notify::read(&datagram).map(|update| (update.user, update.reading.unseen));
        assert_eq!(read, Ok((user.into(), unseen)), "{}", datagram.escape_ascii());
    });
}

#[test]
fn an_answer_of_doveadm_is_read() {
    every(&rules::doveadm(), 400, |drawn| {
        let unseen = drawn.number();
        let answer = drawn.text("answer", &[("unseen", &unseen.to_string()), ("user", "kim@fabrikam.com")]);
        let (mut reader, mut counted, mut tags) = (Reader::default(), Vec::new(), Vec::new());
        for piece in answer.chunks(7) {
            let taken = reader.read(piece, |said| match said {
                AnswerPart::OfUser(user, counts) => counted.push((user, counts.unseen)),
                AnswerPart::Tag(tag) => tags.push(tag),
                _ => {}
            });
            assert!(taken.is_ok(), "{}", answer.escape_ascii());
        }
        assert_eq!(counted, [("kim@fabrikam.com".to_owned(), unseen)], "{}", answer.escape_ascii());
        assert!(tags.iter().any(|tag| tag.eq_ignore_ascii_case("t")) && reader.is_over(), "{tags:?}");
    });
}

#[test]
fn a_challenge_is_read() {
    const CLIENT: &str = "00000002-0000-0ff1-ce00-000000000000";
    const ISSUERS: &str = "00000001-0000-0000-c000-000000000000@*,7d1f@fabrikam.com";
    every(&rules::challenge(), 400, |drawn| {
        let line = drawn.text("challenge", &[("client", CLIENT), ("issuers", ISSUERS)]);
        let line = String::from_utf8(line).unwrap();
        let challenge = Challenge::parse(&[&line]).unwrap_or_else(|| panic!("{line}"));
        let issuers: Vec<String> = challenge.issuers.iter().map(ToString::to_string).collect();
        assert_eq!((challenge.client_id.as_str(), issuers.join(",").as_str()), (CLIENT, ISSUERS), "{line}");
    });
}

#[test]
fn a_metadata_document_is_read() {
    let certificate = Certificate::from_pem(CERTIFICATE, "").unwrap();
    let base64 = STANDARD.encode(certificate.der());
    let (id, realm) = ("00000001-0000-0000-c000-000000000000", "11111111-2222-3333-4444-555555555555");
    let (issuer, location) = (format!("{id}@{realm}"), "https://sts.example/A/tokens/OAuth/2");
    every(&rules::metadata(), 400, |drawn| {
        let given = [
            ("issuer", issuer.as_str()),
            ("id", id),
            ("realm", realm),
            ("certificate", &base64),
            ("location", location),
        ];
        let bytes = drawn.text("document", &given);
        let shown = bytes.escape_ascii();
        let document = Document::read(&bytes).unwrap_or_else(|error| panic!("{error}: {shown}"));
        let service = document.token_service().unwrap_or_else(|error| panic!("{error}: {shown}"));
        assert_eq!(document.certificates, std::slice::from_ref(&certificate), "{shown}");
        assert_eq!(
            (service.principal.to_string(), service.endpoint.to_string()),
            (issuer.clone(), location.to_owned()),
            "{shown}"
        );
    });
}

#[test]
fn a_token_is_read() {
    every(&rules::token(), 400, |drawn| {
        let token = format!("eyJ.{}.x-_", drawn.number());
        let content = drawn.text("answer", &[("token", &token)]);
        let shown = content.escape_ascii().to_string();
        let answer =
            Response { status: 200, headers: HeaderMap::new(), content: content.into(), is_cut: false };
        let read = exchange::read(&answer, NOW);
        assert_eq!(read.map(|read| read.token.expose_secret().to_owned()), Ok(token), "{shown}");
    });
}

fn sent() -> Notification {
    let recipient = Recipient {
        key: SubscriptionKey(7),
        app_id: "com.example.app".to_owned().into(),
        device_id: DeviceId::from("reg-1"),
        installation_id: None,
        last_update: UnixMs(1),
        expires_at: UnixMs(u64::MAX),
        background_sync: false,
    };
    Notification {
        mailbox: MailboxId(1),
        number: 41,
        unseen: 3,
        background_sync: false,
        recipients: vec![recipient],
        changed_at: Moment::START,
        taken_at: NOW,
    }
}

#[test]
fn a_relays_report_and_fault_are_read() {
    let (stamp, sent) = (Stamp::new(NOW), [sent()]);
    let id = format!("{stamp}-41");
    every(&rules::relay(), 400, |drawn| {
        let of = |status, content: &[u8]| {
            let answer = Answer { status, content: content.to_vec().into(), ..Answer::default() };
            disposition(&Ok(answer), &stamp, &sent, NOW)
        };
        let report = drawn.text("report", &[("id", &id), ("app", "com.example.app"), ("device", "reg-1")]);
        let Disposition::Acknowledged { rejected } = of(200, &report) else {
            panic!("{}", report.escape_ascii())
        };
        assert_eq!(
            rejected.first().map(|one| one.reason),
            Some(Rejection::Gone),
            "{}",
            report.escape_ascii()
        );
        let wait = u64::from(drawn.number()) + 1;
        let fault = drawn.text("fault", &[("wait", &wait.to_string())]);
        let Disposition::Wait { exactly, .. } = of(500, &fault) else { panic!("{}", fault.escape_ascii()) };
        assert_eq!(u128::from(wait), exactly.as_millis(), "{}", fault.escape_ascii());
    });
}

#[test]
fn a_certificate_and_its_key_are_read_from_pem() {
    let expected = Certificate::from_pem(CERTIFICATE, "").unwrap();
    every(&rules::pem(), 150, |drawn| {
        let joints = drawn.is_mutated && drawn.grammar.rng.bool();
        let shaped = |pem: &str| if joints { pem.trim_end().replace('\n', "\r\n ") } else { pem.to_owned() };
        let given = [CERTIFICATE, KEY, CHAIN].map(shaped);
        let given = [("certificate", given[0].as_str()), ("key", &given[1]), ("chain", &given[2])];
        let text = String::from_utf8(drawn.text("bundle", &given)).unwrap();
        let key = PrivateKey::from_pem(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        let found =
            Certificate::each_of_pem(&text, "").filter_map(Result::ok).find(|one| one.belongs_to(&key));
        assert_eq!(found.as_ref(), Some(&expected), "{text}");
    });
}

#[test]
fn a_password_is_read_from_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let (file, secret_file) = (folder.path().join("mailbadge.toml"), folder.path().join("password"));
    let text = "organization = \"a.b\"\n[[source]]\nkind = \"imap\"\nhost = \"::1\"\nmaster-user = \"a\"\npassword-file = \"password\"\n";
    fs::write(&file, text).unwrap();
    every(&rules::secret(), 60, |drawn| {
        let secrets = ["secret", " with spaces ", "\"quoted\"", "p\u{e4}ss\tword", "# no comment"];
        let secret = drawn.grammar.rng.choice(secrets).unwrap();
        let bytes = drawn.text("file", &[("secret", secret)]);
        fs::write(&secret_file, &bytes).unwrap();
        fs::set_permissions(&secret_file, Permissions::from_mode(0o600)).unwrap();
        let config = config::load(&file).unwrap_or_else(|error| panic!("{error}: {}", bytes.escape_ascii()));
        let [source] = config.sources.as_slice() else { panic!("one source") };
        let settings = source.settings::<imap::Settings>().expect("of kind imap");
        let Login::Master { password, .. } = &settings.login else { panic!("a master's") };
        assert_eq!(password.expose_secret(), secret, "{}", bytes.escape_ascii());
    });
}

#[test]
fn subscriptions_are_read_from_their_file() {
    let host = Host::new();
    every(&rules::subscriptions(), 8, |drawn| {
        let mailbox = format!("u{}", drawn.number());
        let members = format!(
            "\"Mailbox\":\"{mailbox}\",\"AppId\":\"a\",\"DeviceNotificationId\":\"d\",\"DeviceNotificationType\":\"GCM\""
        );
        fs::write(host.path("file"), drawn.text("file", &[("members", &members)])).unwrap();
        let added = host.json("subscription add --from file");
        assert_eq!(added["Added"], 1, "{added}");
        let list = host.json(&format!("subscription list --mailbox {mailbox}"));
        assert_eq!(list[0]["Mailbox"], mailbox.as_str(), "{list}");
    });
}
