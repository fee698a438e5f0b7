//! What a server may send, as data: `response` and `greeting` of RFC 9051 §9 with RFC 3501's leftovers, and what RFC 5465
//! and RFC 7162 add, under their own names. Values that decide something are the test's (`<!name>`).

use fastrand::Rng;
use support::grammar::{Piece, Production, Terminal};

/// RFC 9051 §9 and RFC 3501 §9.
const IMAP: &[Production] = &[
    ("greeting", &["* <resp-cond-auth>", "* <resp-cond-bye>"]),
    ("resp-cond-auth", &["OK <resp-text>", "PREAUTH <resp-text>"]),
    ("greeting-ok", &["* OK <resp-text>"]),
    ("continue-req", &["+~<text>", "+~<base64>"]),
    ("response-tagged", &["<!tag> <!state> <resp-text>"]),
    ("response-tagged-caps", &["<!tag> OK [CAPABILITY <!capabilities>] <text>"]),
    ("response-fatal", &["* <resp-cond-bye>"]),
    ("resp-cond-bye", &["BYE <resp-text>"]),
    ("resp-cond-state", &["OK <resp-text>", "NO <resp-text>", "BAD <resp-text>"]),
    ("resp-text", &["<text>", "[<resp-text-code>] <text>", "[<resp-text-code>] "]),
    (
        "resp-text-code",
        &[
            "ALERT",
            "BADCHARSET (<astring> <astring>)",
            "BADCHARSET",
            "PARSE",
            "PERMANENTFLAGS (<flag-list> \\*)",
            "READ-ONLY",
            "READ-WRITE",
            "TRYCREATE",
            "UIDNEXT <nz-number>",
            "UIDVALIDITY <nz-number>",
            "UNSEEN <nz-number>",
            "APPENDUID <nz-number> <uid-set>",
            "COPYUID <nz-number> <uid-set> <uid-set>",
            "UIDNOTSTICKY",
            "UNAVAILABLE",
            "AUTHENTICATIONFAILED",
            "AUTHORIZATIONFAILED",
            "EXPIRED",
            "PRIVACYREQUIRED",
            "CONTACTADMIN",
            "NOPERM",
            "INUSE",
            "EXPUNGEISSUED",
            "CORRUPTION",
            "SERVERBUG",
            "CLIENTBUG",
            "CANNOT",
            "LIMIT",
            "OVERQUOTA",
            "ALREADYEXISTS",
            "NONEXISTENT",
            "NOTSAVED",
            "HASCHILDREN",
            "CLOSED",
            "UNKNOWN-CTE",
            "X-ATOM",
            "X-ATOM <text-in-code>",
            "<condstore-code>",
        ],
    ),
    ("response-data", &["* <resp-cond-state>", "* <mailbox-data>", "* <enable-data>", "* <resp-cond-auth>"]),
    ("capability-data", &["* CAPABILITY <!capabilities>"]),
    ("enable-data", &["ENABLED IMAP4rev2 CONDSTORE", "ENABLED"]),
    (
        "mailbox-data",
        &[
            "FLAGS (<flag-list>)",
            "LIST <mailbox-list>",
            "LSUB <mailbox-list>",
            "STATUS <other-mailbox> (<status-att-list>)",
            "NAMESPACE <namespace> <namespace> <namespace>",
            "<number> RECENT",
            "<notify-metadata>",
        ],
    ),
    (
        "mailbox-list",
        &[
            "(<mbx-list-flags>) <quoted-char> <other-mailbox>",
            "() NIL <other-mailbox> (<mbox-list-extended>)",
        ],
    ),
    ("mbx-list-flags", &["\\HasChildren", "\\Noselect \\Marked", "\\NonExistent \\X-New"]),
    ("mbox-list-extended", &["\"CHILDINFO\" (\"SUBSCRIBED\")", "<notify-oldname>"]),
    ("quoted-char", &["\"/\"", "\".\"", "\"\\\\\""]),
    ("namespace", &["NIL", "((\"\" \"/\"))", "((\"INBOX.\" \".\" \"X-P\" (\"a\" \"b\")) (\"~\" NIL))"]),
    ("exists", &["* <!exists> EXISTS"]),
    ("search", &["* SEARCH<!numbers>", "* SEARCH<!numbers> <search-sort-mod-seq>"]),
    (
        "esearch-response",
        &[
            "* ESEARCH <search-correlator> UID <search-return>",
            "* ESEARCH <search-return>",
            "* ESEARCH UID <search-return>",
        ],
    ),
    ("search-correlator", &["(TAG <!quoted-tag>)"]),
    (
        "search-return",
        &[
            "COUNT <!count>",
            "MIN <nz-number> MAX <nz-number> COUNT <!count>",
            "ALL <uid-set> COUNT <!count>",
            "COUNT <!count> ALL <uid-set>",
            "COUNT <!count> MODSEQ <nz-number>",
            "X-EXT (<nz-number> (<astring>)) COUNT <!count>",
        ],
    ),
    ("status-inbox", &["* STATUS <inbox> (<status-with-unseen>)"]),
    ("status-inbox-partial", &["* STATUS <inbox> (<status-without-unseen>)"]),
    (
        "status-with-unseen",
        &[
            "UNSEEN <!unseen>",
            "UNSEEN <!unseen> <status-att-list>",
            "<status-att-list> UNSEEN <!unseen>",
            "<status-att-list> UNSEEN <!unseen> <status-att-list>",
        ],
    ),
    (
        "status-without-unseen",
        &[
            "MESSAGES <!any> UIDNEXT <!any>",
            "UIDNEXT <!any> <status-att-list>",
            "<status-att-list> MESSAGES <!any>",
        ],
    ),
    (
        "status-att-list",
        &[
            "<status-att-val>",
            "<status-att-val> <status-att-val>",
            "<status-att-val> <status-att-val> <status-att-val>",
        ],
    ),
    (
        "status-att-val",
        &[
            "MESSAGES <number>",
            "UIDNEXT <nz-number>",
            "UIDVALIDITY <nz-number>",
            "DELETED <number>",
            "SIZE <number>",
            "RECENT <number>",
            "HIGHESTMODSEQ <mod-sequence-valzer>",
            "MAILBOXID (<atom>)",
            "X-EXT <astring>",
        ],
    ),
    ("message-data-expunge", &["* <nz-number> EXPUNGE"]),
    ("message-data-fetch", &["* <nz-number> FETCH (<msg-att>)"]),
    (
        "msg-att",
        &["<msg-att-item>", "<msg-att-item> <msg-att-item>", "<msg-att-item> <msg-att-item> <msg-att-item>"],
    ),
    (
        "msg-att-item",
        &[
            "FLAGS (<flag-list>)",
            "FLAGS ()",
            "ENVELOPE (<nstring> <nstring> ((<nstring> NIL <nstring> <nstring>)) NIL NIL NIL NIL NIL <nstring> <nstring>)",
            "INTERNALDATE \"17-Jul-1996 02:44:25 -0700\"",
            "RFC822.SIZE <number>",
            "RFC822 <nstring>",
            "RFC822.HEADER <nstring>",
            "RFC822.TEXT <nstring>",
            "BODY (\"TEXT\" \"PLAIN\" (\"CHARSET\" \"X\") NIL NIL \"7BIT\" <number> <number>)",
            "BODYSTRUCTURE (\"MESSAGE\" \"RFC822\" NIL NIL NIL \"7BIT\" <number> NIL NIL <number> \"md5\" (\"inline\" NIL) (\"en\") \"loc\")",
            "BODY[] <nstring>",
            "BODY[1.2.HEADER.FIELDS (X Y)]<origin> <nstring>",
            "BINARY[1] <literal8>",
            "BINARY.SIZE[1] <number>",
            "UID <nz-number>",
            "MODSEQ (<nz-number>)",
            "X-EXT <nz-number>",
        ],
    ),
    ("flag-list", &["<flag>", "<flag> <flag>", "<flag> <flag> <flag>"]),
    (
        "flag",
        &[
            "\\Answered",
            "\\Flagged",
            "\\Deleted",
            "\\Seen",
            "\\Draft",
            "\\Recent",
            "$Forwarded",
            "$MDNSent",
            "$Junk",
            "\\X-New",
            "<atom>",
        ],
    ),
    ("uid-set", &["<nz-number>", "<nz-number>:<nz-number>", "<nz-number>,<nz-number>:<nz-number>"]),
    ("inbox", &["INBOX", "<quoted-inbox>", "<literal-inbox>"]),
    ("other-mailbox", &["Trash", "INBOX.Trash", "\"INBOX/a b\"", "<literal>", "&ZeVnLIqe-", "\"\""]),
    ("astring", &["<atom>", "<quoted>", "<literal>"]),
    ("nstring", &["NIL", "<quoted>", "<literal>"]),
];

/// RFC 5465 §8.
const NOTIFY: &[Production] = &[
    ("notify-badevent", &["<!tag> NO [BADEVENT (<notify-events>)] <text>"]),
    ("notify-events", &["MessageNew", "MessageExpunge FlagChange", "MailboxName ServerMetadataChange"]),
    ("notify-overflow", &["* OK [NOTIFICATIONOVERFLOW] <text>"]),
    (
        "notify-metadata",
        &["METADATA \"\" \"/shared/comment\"", "METADATA INBOX \"/shared/comment\" \"/private/comment\""],
    ),
    ("notify-oldname", &["\"OLDNAME\" (<astring>)"]),
];

/// RFC 7162 §7.
const CONDSTORE: &[Production] = &[
    ("condstore-code", &["HIGHESTMODSEQ <mod-sequence-valzer>", "NOMODSEQ", "MODIFIED <uid-set>", "CLOSED"]),
    ("search-sort-mod-seq", &["(MODSEQ <nz-number>)"]),
    ("mod-sequence-valzer", &["0", "<nz-number>", "9223372036854775807"]),
    ("expunged-resp", &["* VANISHED <uid-set>", "* VANISHED (EARLIER) <uid-set>"]),
];

/// All of them.
pub(super) fn productions() -> Vec<Production> {
    [IMAP, NOTIFY, CONDSTORE].concat()
}

fn fixed(text: String) -> Piece {
    Piece::Fixed(text.into_bytes())
}

fn letters(rng: &mut Rng) -> String {
    (0..rng.usize(1..9)).map(|_| rng.alphanumeric()).collect()
}

/// What the grammar leaves to the choice of whoever writes it.
pub(super) const TERMINALS: &[Terminal] = &[
    ("number", |rng| Piece::Number(rng.u32(..).to_string())),
    ("nz-number", |rng| Piece::Number(rng.u32(1..).to_string())),
    ("text", |rng| {
        let texts = ["done", "Still here.", "a (b) {5}", "x", "100 % of \"it\"", "[ALERT", "+ OK"];
        Piece::Text(rng.choice(texts).unwrap_or_default().to_owned())
    }),
    ("text-in-code", |rng| fixed(letters(rng))),
    ("origin", |_| fixed("<0>".to_owned())),
    ("base64", |_| fixed("VXNlcm5hbWU6".to_owned())),
    ("atom", |rng| fixed(letters(rng))),
    ("quoted", |rng| fixed(format!("\"{} \\\" ({}\"", letters(rng), letters(rng)))),
    ("literal", |rng| {
        let text = format!("{}\r\n) UNSEEN 5 \"", letters(rng));
        fixed(format!("{{{}}}\r\n{text}", text.len()))
    }),
    ("literal8", |_| Piece::Fixed(b"~{5}\r\n\0\xff\r\n(".to_vec())),
    ("quoted-inbox", |rng| {
        let name = support::grammar::any_case("INBOX", rng);
        Piece::Fixed([b"\"".as_slice(), &name, b"\""].concat())
    }),
    ("literal-inbox", |rng| {
        let name = support::grammar::any_case("INBOX", rng);
        Piece::Fixed([b"{5}\r\n".as_slice(), &name].concat())
    }),
];
