//! What every other side may write, a grammar each, as data.

use fastrand::Rng;
use support::grammar::{Piece, Production, Terminal};

/// JSON beside what is needed (RFC 8259), whole.
const MEMBERS: &[Production] = &[
    ("before", &["", "\"x-new\"~:~<json>~,~", "\"a\"~:~<json>~,~\"x-b\"~:~<json>~,~"]),
    ("after", &["", "~,~\"x-new\"~:~<json>", "~,~\"x\"~:~<json>~,~\"x-y\"~:~<json>"]),
];
/// What may stand before a text.
const MARKED: &[Production] = &[("mark", &["", "<byte-order-mark>"])];
/// And where one value in it is none.
const BROKEN: &[Production] = &[("json", &["<json-value>", "<json-value>", "<json-value>", "<no-json>"])];
const UNBROKEN: &[Production] = &[("json", &["<json-value>"])];

fn fixed(text: &str) -> Piece {
    Piece::Fixed(text.as_bytes().to_vec())
}

fn one_of(rng: &mut Rng, texts: &[&str]) -> Piece {
    fixed(rng.choice(texts).copied().unwrap_or_default())
}

const JSON_VALUE: Terminal = ("json-value", |rng| {
    one_of(
        rng,
        &[
            "null",
            "7",
            "-1",
            "1.5e3",
            "true",
            "\"a, b\"",
            "\"\\\"q\\\"\"",
            "[]",
            "[1,{\"a\":null}]",
            "{\"a\":{}}",
        ],
    )
});
const NO_JSON: Terminal =
    ("no-json", |rng| one_of(rng, &["UNSUPPORTED_VARIABLE_x", "%{x}", "\"not\"closed\"", "01", "NaN"]));
const MARK: Terminal = ("byte-order-mark", |_| fixed("\u{feff}"));
const NUMBER: Terminal = ("number", |rng| Piece::Number(rng.u32(1..).to_string()));
const WORD: Terminal =
    ("word", |rng| fixed(&(0..rng.usize(1..9)).map(|_| rng.alphanumeric()).collect::<String>()));

/// A grammar and what ends its alternatives.
pub(super) struct Rules {
    pub(super) name: &'static str,
    pub(super) productions: Vec<Production>,
    pub(super) terminals: Vec<Terminal>,
}

fn rules(name: &'static str, own: &[&[Production]], terminals: &[Terminal]) -> Rules {
    Rules { name, productions: own.concat(), terminals: terminals.to_vec() }
}

/// Dovecot's dict protocol (sources.md §2): lines, and the value that is configured.
pub(super) fn dict() -> Rules {
    let own: &[Production] = &[
        ("lines", &["", "<line>", "<line><line><line>"]),
        ("line", &["<aside>", "<question>", "<other-transaction>", "<unknown>"]),
        (
            "value",
            &[
                "{~<before>\"unseen\"~:~<!unseen><after>~}",
                "{~<before>\"unseen\"~:~\"<!unseen>\"<after>~}",
                "{~<members>~,~\"unseen\"~:~<!unseen>~}",
                "{~\"unseen\"~:~<!unseen>~,~<members>~}",
            ],
        ),
        ("members", &["<member>", "<member>~,~<member>", "<member>~,~<member>~,~<member>"]),
        (
            "member",
            &[
                "\"messages\"~:~<number>",
                "\"uidnext\"~:~<number>",
                "\"uidvalidity\"~:~<number>",
                "\"modseq\"~:~<number>",
                "\"guid\"~:~<json>",
            ],
        ),
    ];
    let terminals: [Terminal; 4] = [
        ("aside", |rng| one_of(rng, &["T1\t1\t2\n", "V1\n", "A1\tkey\t1\n", "R77\n", "U1\tpriv/other\n"])),
        ("question", |rng| one_of(rng, &["Lpriv/x\tu9\n", "I0\t0\tpriv/x\tu9\n"])),
        ("other-transaction", |rng| {
            one_of(
                rng,
                &[
                    "B8\tu9\nS8\tpriv/status/INBOX\t{\"unseen\":98}\nR8\n",
                    "S1\tpriv/status/Trash\t{\"unseen\":99}\n",
                    "S1\tpriv/x\tUNSEEN 5\n",
                ],
            )
        }),
        ("unknown", |rng| one_of(rng, &["\n", "X1\tnew\n", "GET / HTTP/1.1\r\n", "\u{fffd}\n", "B\n"])),
    ];
    rules("dict", &[own, MEMBERS, BROKEN], &[&terminals[..], &[JSON_VALUE, NO_JSON, NUMBER]].concat())
}

/// Cyrus's notify socket (sources.md §3) with RFC 5092's URLs and RFC 5423's events.
pub(super) fn cyrus() -> Rules {
    let own: &[Production] = &[
        ("frame", &["<word><nul>EVENT<nul><word><nul><word><nul><nul><options><event><end>"]),
        (
            "options",
            &["0<nul>", "1<nul><word><nul>", "2<nul><word><nul><word><nul>", "<number><nul>", "<nul>"],
        ),
        ("end", &["<nul>", "", "<nul><nul>", "<nul><word><nul>"]),
        (
            "event",
            &[
                "{~<before>\"uri\"~:~\"<uri>\"~,~\"vnd.cmu.unseenMessages\"~:~<!unseen><after>~}",
                "{~\"vnd.cmu.unseenMessages\"~:~\"<!unseen>\"~,~<member>~,~\"uri\"~:~\"<uri>\"~}",
                "{~<member>~,~\"uri\"~:~\"<uri>\"~,~<before>\"vnd.cmu.unseenMessages\"~:~<!unseen>~,~<member>~}",
            ],
        ),
        (
            "member",
            &[
                "\"event\"~:~\"MessageNew\"",
                "\"modseq\"~:~<number>",
                "\"messages\"~:~<number>",
                "\"mailboxID\"~:~<json>",
                "\"vnd.cmu.mailboxACL\"~:~<json>",
                "\"serverFQDN\"~:~<json>",
                "\"timestamp\"~:~<json>",
            ],
        ),
        ("uri", &["imap://<server>/<!mailbox><parameters>"]),
        ("server", &["", "localhost", "kim@<word>:143", "kim;AUTH=*@<word>", "[::1]"]),
        (
            "parameters",
            &[
                "",
                ";UIDVALIDITY=<number>",
                ";UIDVALIDITY=<number>/;UID=<number>",
                ";X=1;UIDVALIDITY=<number>",
                "/",
            ],
        ),
    ];
    let nul: Terminal = ("nul", |_| Piece::Fixed(vec![0]));
    let no_json: Terminal = ("no-json", |rng| {
        if rng.bool() { Piece::Fixed(b"\"\xe9\xff\"".to_vec()) } else { one_of(rng, &["UNKNOWN", "01", ""]) }
    });
    rules("Cyrus datagrams", &[own, MEMBERS, BROKEN], &[JSON_VALUE, no_json, NUMBER, WORD, nul])
}

/// doveadm's HTTP API (sources.md §2.1).
pub(super) fn doveadm() -> Rules {
    let own: &[Production] = &[
        ("answer", &["<mark>~[~<response>~]~", "~[~<response>~,~<other>~]~", "~[~<other>~,~<response>~]~"]),
        ("response", &["[~\"doveadmResponse\"~,~[~<rows><row><rows-after>~]~,~\"t\"<more>~]"]),
        ("more", &["", "~,~<json-value>", "~,~\"v2\"~,~null"]),
        ("rows", &["", "<odd-row>~,~", "<odd-row>~,~<odd-row>~,~"]),
        ("rows-after", &["", "~,~<odd-row>"]),
        (
            "row",
            &[
                "{~<before>\"username\"~:~\"<!user>\"~,~\"mailbox\"~:~\"INBOX\"~,~\"unseen\"~:~\"<!unseen>\"<after>~}",
                "{~\"unseen\"~:~<!unseen>~,~<member>~,~\"username\"~:~\"<!user>\"~}",
            ],
        ),
        (
            "member",
            &[
                "\"uidvalidity\"~:~\"<number>\"",
                "\"highestmodseq\"~:~<number>",
                "\"guid\"~:~<json>",
                "\"vsize\"~:~<number>",
            ],
        ),
        (
            "odd-row",
            &[
                "<json-value>",
                "{~}",
                "{~\"username\"~:~\"u9\"~,~\"mailbox\"~:~\"Trash\"~,~\"unseen\"~:~\"5\"~}",
                "{~\"username\"~:~\"u9\"~}",
            ],
        ),
        (
            "other",
            &[
                "[~\"error\"~,~{~\"type\"~:~\"exitCode\"~,~\"exitCode\"~:~<number>~}~,~\"o\"~]",
                "[~\"doveadmResponse\"~,~[~]~,~7~]",
            ],
        ),
    ];
    rules("doveadm answers", &[own, MEMBERS, MARKED, UNBROKEN], &[JSON_VALUE, NUMBER, MARK])
}

/// `WWW-Authenticate` (RFC 9110 §11.6.1, RFC 6750 §3, protocol.md §5.3).
pub(super) fn challenge() -> Rules {
    let own: &[Production] = &[
        ("challenge", &["<schemes>Bearer <parameters>", "<schemes>Bearer <parameters>~,~<scheme>"]),
        ("schemes", &["", "<scheme>~,~", "<scheme>~,~<scheme>~,~"]),
        (
            "scheme",
            &[
                "Negotiate",
                "Negotiate YIIabc==",
                "Basic realm=\"a, Bearer b\"",
                "Digest realm=\"x\"~,~nonce=\"y\"~,~client_id=other",
            ],
        ),
        (
            "parameters",
            &[
                "client_id~=~\"<!client>\"~<between>~<others>trusted_issuers~=~\"<!issuers>\"",
                "<others>trusted_issuers~=~\"<!issuers>\"~<between>~client_id~=~<!client><others-after>",
            ],
        ),
        ("between", &[",", ", ,", ";"]),
        ("others", &["", "<parameter>~<between>~", "<parameter>~<between>~<parameter>~<between>~"]),
        ("others-after", &["", "~<between>~<parameter>"]),
        (
            "parameter",
            &[
                "realm=\"\"",
                "realm~=~contoso.com",
                "error=\"invalid_token\"",
                "authorization_uri=\"https://login.example/a?b=c,d\"",
                "token_types=\"app_asserted_user_v1 service_asserted_app_v1\"",
                "x-new=\"a \\\" b\"",
                "client_id=\"\"",
                "x-empty=",
            ],
        ),
    ];
    rules("challenges", &[own], &[])
}

/// Metadata documents (protocol.md §5.4).
pub(super) fn metadata() -> Rules {
    let own: &[Production] = &[
        (
            "document",
            &[
                "<mark>{~<before>\"issuer\"~:~\"<!issuer>\"~,~<keys>~,~<endpoints><after>~}",
                "{~<endpoints>~,~<identity>~,~<keys><after>~}",
            ],
        ),
        (
            "identity",
            &[
                "\"serviceName\"~:~\"<!id>\"~,~\"realm\"~:~\"<!realm>\"",
                "\"issuer\"~:~<json>~,~\"serviceName\"~:~\"<!id>\"~,~\"realm\"~:~\"<!realm>\"",
            ],
        ),
        ("keys", &["\"keys\"~:~[~<odd-keys><key><odd-keys-after>~]", "\"keys\"~:~<key>"]),
        ("odd-keys", &["", "<odd-key>~,~", "<odd-key>~,~<odd-key>~,~"]),
        ("odd-keys-after", &["", "~,~<odd-key>"]),
        (
            "odd-key",
            &[
                "<json-value>",
                "{~\"usage\"~:~\"encryption\"~}",
                "{~\"keyvalue\"~:~{~\"type\"~:~\"rsa\"~,~\"value\"~:~\"AQAB\"~}~}",
                "{~\"usage\"~:~\"signing\"~,~\"keyvalue\"~:~{~\"value\"~:~\"AAEC\"~}~}",
            ],
        ),
        (
            "key",
            &[
                "{~<before>\"usage\"~:~\"signing\"~,~\"keyvalue\"~:~{~\"type\"~:~\"x509Certificate\"~,~\"value\"~:~\"<!certificate>\"<after>~}~}",
                "{~\"keyvalue\"~:~{~<before>\"value\"~:~\"<!certificate>\"~}<after>~}",
            ],
        ),
        (
            "endpoints",
            &[
                "\"endpoints\"~:~[~<endpoint>~]",
                "\"endpoints\"~:~[~<json-value>~,~<endpoint>~,~<json-value>~]",
                "\"endpoints\"~:~<endpoint>",
            ],
        ),
        (
            "endpoint",
            &[
                "{~<before>\"location\"~:~\"<!location>\"~,~\"protocol\"~:~\"OAuth2\"~,~\"usage\"~:~\"issuance\"<after>~}",
            ],
        ),
    ];
    rules("metadata documents", &[own, MEMBERS, MARKED, UNBROKEN], &[JSON_VALUE, MARK])
}

/// A token service's answer (RFC 6749 §5.1).
pub(super) fn token() -> Rules {
    let own: &[Production] = &[
        (
            "answer",
            &[
                "<mark>{~<before>\"access_token\"~:~\"<!token>\"<life><after>~}",
                "{~\"token_type\"~:~\"Bearer\"<life>~,~<before>\"access_token\"~:~\"<!token>\"~}",
            ],
        ),
        (
            "life",
            &[
                "",
                "~,~\"expires_in\"~:~<number>",
                "~,~\"expires_in\"~:~\"3600\"",
                "~,~\"expires_on\"~:~<json>",
            ],
        ),
    ];
    rules("token answers", &[own, MEMBERS, MARKED, BROKEN], &[JSON_VALUE, NO_JSON, NUMBER, MARK])
}

/// The relay's report and its faults (protocol.md §1.5).
pub(super) fn relay() -> Rules {
    let own: &[Production] = &[
        (
            "report",
            &[
                "<mark>{~<before>\"rejected\"~:~[~<entries><entry>~]<after>~}",
                "{~\"rejected\"~:~<entry>~,~\"accepted\"~:~<number>~}",
            ],
        ),
        ("entries", &["", "<json-value>~,~", "{~\"id\"~:~\"other\"~,~\"reason\"~:~\"gone\"~}~,~"]),
        (
            "entry",
            &[
                "{~<before>\"id\"~:~\"<!id>\"~,~\"appId\"~:~\"<!app>\"~,~\"deviceId\"~:~\"<!device>\"~,~\"reason\"~:~\"gone\"<after>~}",
            ],
        ),
        (
            "fault",
            &[
                "<mark>{~<before>\"BackOffTimeInMilliseconds\"~:~<!wait><after>~}",
                "{~\"CanRetry\"~:~<json>~,~\"BackOffTimeInMilliseconds\"~:~\"<!wait>\"~,~\"Message\"~:~<json>~}",
                "{~\"Message\"~:~<json>~,~\"InnerFault\"~:~{~<before>\"BackOffTimeInMilliseconds\"~:~<!wait>~}~}",
            ],
        ),
    ];
    let number: Terminal = ("number", |rng| fixed(&rng.u16(..).to_string()));
    rules("reports and faults of relays", &[own, MEMBERS, MARKED, UNBROKEN], &[JSON_VALUE, number, MARK])
}

/// PEM (RFC 7468) as bundles have it.
pub(super) fn pem() -> Rules {
    let own: &[Production] = &[
        (
            "bundle",
            &[
                "<mark><beside><!certificate><beside><!key><beside>",
                "<beside><!key><beside><!certificate>",
                "<!chain><beside><!certificate><!key>",
            ],
        ),
        (
            "beside",
            &["", "<line-end>", "<text><line-end>", "<block>", "<text><block><line-end>", "<block><block>"],
        ),
        ("block", &["<!chain>", "<broken-block>"]),
    ];
    let terminals: [Terminal; 4] = [
        ("line-end", |rng| one_of(rng, &["\n", "\r\n", " \r\n", "\n\n\t"])),
        ("text", |rng| {
            one_of(rng, &["Bag Attributes: -----", "subject=/CN=x", "\u{fc}", "-----BEGIN", "# a: b"])
        }),
        ("broken-block", |rng| {
            one_of(
                rng,
                &[
                    "-----BEGIN CERTIFICATE-----\nAAEC\n-----END CERTIFICATE-----",
                    "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----",
                    "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----",
                    "-----BEGIN X509 CRL-----\nAAEC\n-----END X509 CRL-----",
                    "-----BEGIN CERTIFICATE-----\nAAEC\n",
                ],
            )
        }),
        MARK,
    ];
    rules("PEM", &[own, MARKED], &terminals)
}

/// A file whose first line is a secret.
pub(super) fn secret() -> Rules {
    let own: &[Production] =
        &[("file", &["<mark><!secret>", "<mark><!secret><line-end>", "<mark><!secret><line-end><rest>"])];
    let terminals: [Terminal; 3] = [
        ("line-end", |rng| one_of(rng, &["\n", "\r\n", "\r", "\n\n"])),
        ("rest", |rng| one_of(rng, &["more\n", "\r\n", "# a comment"])),
        MARK,
    ];
    rules("password files", &[own, MARKED], &terminals)
}

/// Subscriptions, a line each.
pub(super) fn subscriptions() -> Rules {
    let own: &[Production] = &[
        ("file", &["<mark><line>", "<mark><blank><line><blank>"]),
        ("line", &["~{~<!members>~}~<line-end>", "~{~<!members>~}~,~<line-end>"]),
        ("blank", &["", "<line-end>", " <line-end><line-end>"]),
    ];
    let line_end: Terminal = ("line-end", |rng| one_of(rng, &["\n", "\r\n"]));
    rules("subscription files", &[own, MARKED], &[line_end, MARK])
}
