//! Mail servers that let nobody in, without a word or with less than the configuration needs: within 20 s `/readyz` and the
//! log say what is wrong, in words that are true. One agent and a source for each, since each takes its time.

use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;
use support::cloud::Cloud;
use support::host::Host;
use support::process::try_until;
use support::scripted::{Script, ScriptedServer, says, says_and_ends};

/// From the agent's start to the words.
const LIMIT: Duration = Duration::from_secs(20);
/// Connections until then, most: a server that is not fit is not asked again and again.
const CONNECTIONS_MAX: usize = 8;

/// A server that says no more than its greeting.
struct Case {
    name: &'static str,
    /// Where it ends with [`END`], so does the connection.
    greeting: &'static str,
    keys: &'static str,
    /// What is said of it.
    words: &'static str,
}

/// What ends a connection.
const END: &str = "\0";

const IMAP: &str = "kind = \"imap\"\nhost = \"127.0.0.1\"\nport = PORT\nmaster-user = \"agent\"\npassword-file = \"secret\"\n";
const DOVEADM: &str = "kind = \"doveadm\"\napi-key-file = \"secret\"\n";

const CASES: [Case; 10] = [
    Case {
        name: "stripped",
        greeting: "* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] ready\r\n",
        keys: "tls = \"starttls\"\nca-file = \"CA\"\n",
        words: "no password or token was sent: server offers no STARTTLS",
    },
    Case {
        name: "preauth",
        greeting: "* PREAUTH [CAPABILITY IMAP4rev1 STARTTLS] welcome\r\n",
        keys: "tls = \"starttls\"\nca-file = \"CA\"\n",
        words: "no password or token was sent: server greets with PREAUTH",
    },
    Case {
        name: "mute",
        greeting: "",
        keys: "tls = \"none\"\n",
        words: "server did not answer within 12 s: waited for the greeting",
    },
    Case {
        name: "greeting-only",
        greeting: "* OK ready\r\n",
        keys: "tls = \"none\"\n",
        words: "server did not answer within 12 s: waited for CAPABILITY",
    },
    Case {
        name: "no-answer",
        greeting: "* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] ready\r\n",
        keys: "tls = \"none\"\n",
        words: "server did not answer within 17 s: waited for the log-in's answer",
    },
    Case {
        name: "hangs-up",
        greeting: END,
        keys: "tls = \"none\"\n",
        words: "no log-in works, and they are tried less and less often: server ended the connection before",
    },
    Case {
        name: "bye",
        greeting: "* BYE not today\r\n\0",
        keys: "tls = \"none\"\n",
        words: "no log-in works, and they are tried less and less often: server said BYE: not today",
    },
    Case {
        name: "no-tls",
        greeting: "",
        keys: "tls = \"implicit\"\nca-file = \"CA\"\n",
        words: "server did not answer within 12 s: waited for the TLS handshake",
    },
    Case {
        name: "doveadm",
        greeting: "",
        keys: "url = \"http://127.0.0.1:PORT/doveadm/v1\"\n",
        words: "no whole answer within 15 s",
    },
    Case {
        name: "doveadm-tls",
        greeting: "",
        keys: "url = \"https://127.0.0.1:PORT/doveadm/v1\"\nca-file = \"CA\"\n",
        words: "no TLS handshake within 10 s",
    },
];

#[test]
fn a_server_that_lets_nobody_in_is_named_in_true_words_within_20_s() {
    let (cloud, mut host) = (Cloud::start(), Host::new());
    let secret = host.folder().join("secret");
    fs::write(&secret, "a-secret\n").expect("own folder");
    fs::set_permissions(&secret, Permissions::from_mode(0o600)).expect("own file");
    let servers = CASES.map(|case| (case.name, ScriptedServer::start(case.script())));
    let mut sources = String::new();
    for (case, (_, server)) in CASES.iter().zip(&servers) {
        let kind = if case.name.starts_with("doveadm") { DOVEADM } else { IMAP };
        let keys = format!("[[source]]\nname = \"{}\"\n{kind}{}", case.name, case.keys);
        let keys = keys.replace("PORT", &server.address().port().to_string());
        let _ = write!(sources, "{}", keys.replace("CA\"", &format!("{}\"", cloud.ca_file().display())));
    }
    host.configure(&cloud, &sources);
    host.subscribe(&["u1".to_owned()]);
    host.start_unready();
    let mut unsaid = Vec::new();
    let is_said = || {
        let (ready, log) = (host.ask("/readyz"), host.log());
        unsaid = CASES.iter().filter(|case| !case.is_in(&ready) || !case.is_in(&log)).collect();
        unsaid.is_empty().then_some((ready, log))
    };
    let said = try_until(LIMIT, is_said);
    let names: Vec<&str> = unsaid.iter().map(|case| case.name).collect();
    let (ready, log) = said.unwrap_or_else(|| panic!("{names:?}: {}", host.ask("/readyz")));
    assert!(!ready.contains("credential"), "{ready}");
    let blamed = log.lines().find(|line| line.contains("source") && line.contains("credential"));
    assert_eq!(blamed, None);
    for (name, server) in servers {
        assert!(server.connections() <= CONNECTIONS_MAX, "{name}: {} connections", server.connections());
    }
    host.stop();
}

impl Case {
    fn script(&self) -> Script {
        self.greeting.strip_suffix(END).map_or_else(|| says(self.greeting), says_and_ends)
    }

    /// Whether a line names its source and says its words.
    fn is_in(&self, text: &str) -> bool {
        let source = format!("source {}: ", self.name);
        text.lines().any(|line| line.contains(&source) && line.contains(self.words))
    }
}
