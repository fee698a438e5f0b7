//! Replays `fixtures/imap/*.trace` through the machine (fixtures/README.md tells the form), and throws at it what no trace
//! foresees.

use super::*;
use crate::event::News;
use crate::source::imap::{FLOOD_BYTES, LINE_MAX, Login, Mechanism, Tls, TokenFrom, TokenLogin, Watch};
use proptest::prelude::*;
use std::path::Path;

/// A session on a virtual clock.
struct Played {
    session: Session,
    now: Now,
}

impl Played {
    fn input(&mut self, input: Input<'_>) {
        self.session.handle(self.now, input);
    }

    /// Lets time pass, with every timer on its way.
    fn pass(&mut self, wait: Duration) {
        let end = self.now.after(wait);
        while let Some(at) = self.session.poll_timeout().filter(|at| *at <= end.moment) {
            self.now = self.now.after(at.since(self.now.moment));
            self.input(Input::Timeout);
        }
        self.now = end;
    }
}

#[derive(Clone)]
struct Header {
    login: String,
    mailbox: String,
    password: String,
    tls: Tls,
    errand: Errand,
    watch: Watch,
    reports_gap: bool,
}

impl Default for Header {
    fn default() -> Self {
        Self {
            login: "master".into(),
            mailbox: "u1".into(),
            password: "secret".into(),
            tls: Tls::None,
            errand: Errand::Watch,
            watch: Watch::Notify,
            reports_gap: false,
        }
    }
}

impl Header {
    /// The lines before the first `>`.
    fn of(lines: &[&str]) -> Self {
        let mut header = Self::default();
        for line in lines.iter().take_while(|line| !line.starts_with("> ")) {
            if let Some((key, value)) = line.split_once(": ").filter(|_| !line.starts_with('#')) {
                header.take(key, value);
            }
        }
        header
    }

    fn take(&mut self, key: &str, value: &str) {
        match key {
            "login" => self.login = value.into(),
            "mailbox" => self.mailbox = String::from_utf8(unescaped(value)).unwrap(),
            "password" => self.password = String::from_utf8(unescaped(value)).unwrap(),
            "tls" if value == "starttls" => self.tls = Tls::StartTls,
            "tls" if value == "implicit" => self.tls = Tls::Implicit,
            "errand" if value == "visit" => self.errand = Errand::Visit,
            "watch" if value == "auto" => self.watch = Watch::Auto,
            "watch" if value == "idle-unselected" => self.watch = Watch::IdleUnselected,
            "server" if value == "reports-gap" => self.reports_gap = true,
            _ => panic!("unknown header {key}: {value}"),
        }
    }

    fn play(&self) -> Played {
        let password = self.password.clone().into();
        let login = match self.login.as_str() {
            "master" => Login::Master { user: "agent".into(), separator: "*".into(), password },
            "authzid" => Login::AuthzId { user: "agent".into(), password },
            "password" => Login::Password { user: None, password },
            "one-account" => Login::Password { user: Some("u1".into()), password },
            "delegate" => Login::Password { user: Some("svc@fabrikam.com\\{mailbox}".into()), password },
            "xoauth2" => token(Mechanism::XOAuth2),
            "oauthbearer" => token(Mechanism::OAuthBearer),
            other => panic!("unknown login {other}"),
        };
        let (tls, watch) = (self.tls, self.watch);
        let settings = Settings { tls, watch, ..Settings::new("test", "127.0.0.1", login) };
        let mailbox = self.mailbox.as_str().into();
        let traits = Traits::default();
        // More than it takes to be believed.
        for _ in 0..if self.reports_gap { 9 } else { 0 } {
            traits.learn_reports_gap();
        }
        let session = Session::new(Arc::new(settings), Arc::new(traits), mailbox, self.errand, 1);
        let mut played = Played { session, now: Now::default().after(Duration::from_secs(1000)) };
        played.input(Input::Token(&self.password.clone().into()));
        played
    }
}

/// What comes from the file is the header's password.
fn token(mechanism: Mechanism) -> Login {
    Login::Token(TokenLogin { mechanism, user: None, from: TokenFrom::File("token".into()) })
}

/// `\xNN`, `\r` and `\n` as bytes; any other backslash is IMAP's own.
fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = match (first, after) {
            (b'\\', [b'r', more @ ..]) => (bytes.push(b'\r'), more).1,
            (b'\\', [b'n', more @ ..]) => (bytes.push(b'\n'), more).1,
            (b'\\', [b'x', high, low, more @ ..]) => {
                let digits = String::from_utf8(vec![*high, *low]).unwrap();
                (bytes.push(u8::from_str_radix(&digits, 16).unwrap()), more).1
            }
            _ => (bytes.push(*first), after).1,
        };
    }
    bytes
}

/// An output as traces write it.
fn written(output: &Output) -> String {
    match output {
        Output::Send(outgoing) => format!("C: {}", String::from_utf8_lossy(outgoing.bytes())),
        Output::StartTls => "= start-tls".into(),
        Output::LoggedIn => "= logged-in".into(),
        Output::Watching(method) => format!("= watching {}", format!("{method:?}").to_lowercase()),
        Output::News(News::Hint) => "= hint".into(),
        Output::News(News::Reading(reading)) => {
            let validity =
                reading.uid_validity.map_or(String::new(), |validity| format!(" validity {}", validity.0));
            let modseq = reading.modseq.map_or(String::new(), |modseq| format!(" modseq {}", modseq.0));
            let asked = if reading.asked_at.is_some() { " asked" } else { "" };
            format!("= reading {}{validity}{modseq}{asked}", reading.unseen)
        }
        Output::Noticed => "= noticed".into(),
        Output::Skipped => "= skipped".into(),
        Output::LoginRefused { refusal, text } => format!("= refused {refusal:?}: {text}"),
        Output::Alert(text) => format!("= alert {text}"),
        Output::Unreachable(reason) => format!("= unreachable {reason}"),
        Output::Close(ending) => format!("= close {ending}"),
    }
}

/// What a trace expects: a client's segment, which may have several lines, or another output.
fn expected(line: &str, following: &[&str]) -> String {
    let Some(first) = line.strip_prefix("C: ") else { return line.into() };
    let more = following.iter().map_while(|line| line.strip_prefix("C+ "));
    let lines: Vec<u8> = std::iter::once(first)
        .chain(more)
        .flat_map(|line| [unescaped(line), b"\r\n".to_vec()].concat())
        .collect();
    format!("C: {}", String::from_utf8_lossy(&lines))
}

/// Replays one trace, `step` bytes of the server's at a time.
fn replay(text: &str, step: usize) -> Result<(), String> {
    let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    let body = lines.iter().position(|line| line.starts_with("> ")).unwrap();
    let mut played = Header::of(&lines).play();
    for (at, line) in lines.iter().enumerate().skip(body) {
        let is_checked = line.starts_with("C: ") || line.starts_with("= ");
        let told = if is_checked || !line.starts_with("C+ ") { played.session.poll_output() } else { None };
        match (told, is_checked) {
            (Some(output), true) if written(&output) == expected(line, &lines[at + 1..]) => {}
            (Some(output), true) => return Err(format!("expected {line}, not {:?}", written(&output))),
            (None, true) => return Err(format!("expected {line}, nothing came")),
            (Some(output), false) => return Err(format!("before {line} came {:?}", written(&output))),
            (None, false) => act(&mut played, line, step),
        }
    }
    match played.session.poll_output() {
        Some(output) => Err(format!("at the end came {:?}", written(&output))),
        None => Ok(()),
    }
}

fn act(played: &mut Played, line: &str, step: usize) {
    match line.split_once(' ').unwrap_or((line, "")) {
        ("S:", said) => {
            let bytes = [unescaped(said), b"\r\n".to_vec()].concat();
            // What lies behind STARTTLS's answer counts only when it came in the same read.
            let step = if said.contains("\\r\\n") { bytes.len() } else { step };
            bytes.chunks(step).for_each(|piece| played.input(Input::Bytes(piece)));
        }
        ("@", wait) => {
            let number = |text: &str| text.parse().unwrap();
            played.pass(match wait.strip_suffix("ms") {
                Some(ms) => Duration::from_millis(number(ms)),
                None => Duration::from_secs(number(wait.strip_suffix('s').unwrap())),
            });
        }
        (">", "connected") => played.input(Input::Connected),
        (">", "tls-done") => played.input(Input::TlsDone),
        (">", "ask") => played.input(Input::Ask),
        (">", "closed") => played.input(Input::Closed),
        ("C+", _) => {}
        _ => panic!("unknown line {line}"),
    }
}

fn traces() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/imap");
    let mut traces: Vec<(String, String)> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "trace"))
        .map(|path| (path.display().to_string(), std::fs::read_to_string(&path).unwrap()))
        .collect();
    traces.sort();
    assert!(traces.len() > 30, "only {} traces", traces.len());
    traces
}

#[test]
fn every_trace_is_replayed_as_written_however_reads_cut_it() {
    let mut failures = Vec::new();
    for (name, text) in traces() {
        for step in [usize::MAX, 1, 7] {
            if let Err(failure) = replay(&text, step) {
                failures.push(format!("{name}, {step} bytes a read: {failure}"));
            }
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

/// A session that got as far as the trace does.
fn after(name: &str) -> Played {
    let (_, text) = traces().into_iter().find(|(path, _)| path.ends_with(&format!("/{name}.trace"))).unwrap();
    let mut played = Header::of(&text.lines().collect::<Vec<_>>()).play();
    for line in text.lines().filter(|line| ["S:", "> ", "@ "].iter().any(|start| line.starts_with(start))) {
        act(&mut played, line, usize::MAX);
        while played.session.poll_output().is_some() {}
    }
    played
}

/// Traces that leave the session alive: in NOTIFY, at each step of IDLE, on a visit, in the middle of a log-in.
const STATES: [&str; 13] = [
    "notify-uidvalidity",
    "notify-without-unseen",
    "notify-badevent",
    "idle",
    "idle-flags-after-done",
    "idle-no-flags",
    "idle-no-inbox",
    "idle-unselected",
    "unasked-in-idle",
    "idle-ended-by-server",
    "stalwart-frozen-view",
    "stalwart-idle-unselected",
    "login-quoted",
];

#[test]
fn the_states_that_are_tried_are_alive() {
    for name in STATES {
        assert!(!after(name).session.is_closed(), "{name}");
    }
}

#[test]
fn a_line_that_never_ends_ends_the_connection_in_every_state() {
    let mut played = Header::default().play();
    played.input(Input::Connected);
    for _ in 0..=LINE_MAX / 1000 {
        played.input(Input::Bytes(&[b'x'; 1000]));
    }
    assert_eq!(played.session.poll_output(), Some(Output::Close(Ending::LineTooLong)));
    assert_eq!((played.session.poll_output(), played.session.poll_timeout()), (None, None));

    let mut played = after("notify-uidvalidity");
    played.input(Input::Bytes(b"* LIST () \"/\" {70000}\r\n"));
    assert_eq!(played.session.poll_output(), Some(Output::Close(Ending::LineTooLong)));
}

#[test]
fn a_flood_of_lines_that_are_each_understood_ends_the_connection() {
    for (name, line) in [("notify-uidvalidity", "* STATUS INBOX (UNSEEN 3)\r\n"), ("idle", "* 1 EXISTS\r\n")]
    {
        let mut played = after(name);
        let many = line.repeat(1000);
        let mut sent = 0;
        while !played.session.is_closed() && sent < 3 * FLOOD_BYTES as usize {
            played.input(Input::Bytes(many.as_bytes()));
            sent += many.len();
            while let Some(output) = played.session.poll_output() {
                assert!(!matches!(output, Output::Close(ending) if ending != Ending::Flooded));
            }
        }
        assert!(played.session.is_closed(), "{name}: {sent} bytes");
    }
}

#[test]
fn a_count_on_its_way_is_not_believed_once_another_connection_saw_that_they_are_totals() {
    // Its last command is the counting search.
    let mut played = after("idle-no-inbox");
    played.session.link.traits.learn_count(false);
    played.input(Input::Bytes(b"* ESEARCH (TAG \"a5\") UID COUNT 3\r\na5 OK done\r\n"));
    assert_eq!(
        played.session.poll_output().map(|output| written(&output)),
        Some("C: a6 SEARCH UNSEEN\r\n".into())
    );
}

#[test]
fn an_idle_session_is_small_and_holds_no_buffer() {
    assert!(size_of::<Session>() <= 320, "{} bytes", size_of::<Session>());
    let played = after("notify-uidvalidity");
    assert!(!played.session.link.has_queue());
    assert!(!played.session.lines.is_inside());
}

#[test]
fn passwords_show_in_no_debug_form() {
    let mut played = Header::default().play();
    played.input(Input::Connected);
    played.input(Input::Bytes(b"* OK [CAPABILITY IMAP4rev1] hi\r\n"));
    let shown = format!("{:?}", played.session);
    assert!(!shown.contains("secret"), "{shown}");
    let sent = played.session.poll_output();
    assert!(matches!(&sent, Some(Output::Send(line)) if line.bytes().ends_with(b"\"secret\"\r\n")));
    assert!(!format!("{sent:?}").contains("secret"));
}

#[test]
fn a_closed_session_takes_anything_and_says_nothing() {
    let mut played = after("login-bye");
    for input in [Input::Connected, Input::Bytes(b"* OK hi\r\n"), Input::Ask, Input::Timeout, Input::Closed] {
        played.input(input);
        assert_eq!(played.session.poll_output(), None);
    }
    assert_eq!(played.session.poll_timeout(), None);
}

proptest! {
    #[test]
    fn whatever_a_server_sends_the_session_lives_or_closes(
        state in 0..STATES.len(),
        lines in proptest::collection::vec(
            "(\\* |a([0-9]{1,2}|4294967295) |\\+ )?(OK|NO|BAD|BYE|[0-9]{1,3} (EXISTS|EXPUNGE|RECENT)|4 FETCH \\(FLAGS \\(\\\\Seen\\)\\)|SEARCH( [0-9]){0,3}|ESEARCH COUNT 3|STATUS INBOX \\((UNSEEN [0-9])?\\)|CAPABILITY (IDLE|NOTIFY)|\\[(NOTIFICATIONOVERFLOW|UIDVALIDITY 3)\\]|\\PC{0,8})( [a-z]{1,4})?",
            0..40,
        ),
        waits in proptest::collection::vec(0u64..400, 0..40),
    ) {
        let mut played = after(STATES[state]);
        for (at, line) in lines.iter().enumerate() {
            played.input(Input::Bytes(format!("{line}\r\n").as_bytes()));
            if let Some(wait) = waits.get(at) {
                played.pass(Duration::from_secs(*wait));
            }
            if at % 5 == 0 {
                played.input(Input::Ask);
            }
            let told = std::iter::from_fn(|| played.session.poll_output()).count();
            prop_assert!(told < 60, "{told} outputs after one line");
        }
        let told = std::iter::from_fn(|| played.session.poll_output()).count();
        prop_assert_eq!(told, 0);
        // Alive means: it wakes by itself.
        prop_assert!(played.session.is_closed() || played.session.poll_timeout().is_some());
    }

    #[test]
    fn any_bytes_mean_the_same_in_any_pieces(state in 0..STATES.len(), bytes: Vec<u8>, step in 1usize..20) {
        let said = |step: usize| {
            let mut played = after(STATES[state]);
            bytes.chunks(step).for_each(|piece| played.input(Input::Bytes(piece)));
            std::iter::from_fn(move || played.session.poll_output()).collect::<Vec<_>>()
        };
        prop_assert_eq!(said(step), said(usize::MAX));
    }
}
