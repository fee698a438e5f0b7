//! Names in a Maildir, drawn from their grammar (cr.yp.to/proto/maildir.html, and what programs make of it), with a real
//! Dovecot on the same files as judge: the source counts as unseen what STATUS UNSEEN counts.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where it stopped")]

use fastrand::Rng;
use mailbadge::source::maildir::driver::read_once;
use mailbadge::source::maildir::template::Template;
use mailbadge::source::maildir::{self};
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::path::Path;
use support::dovecot::{Dovecot, Options, USER_PASSWORD};
use support::imap_client::ImapClient;
use support::required;

/// Maildirs with entries of all productions mixed, beside one for each production alone.
const MIXED: usize = 40;
/// Entries in a mixed one.
const ENTRIES: usize = 12;

/// What lies under a name.
#[derive(Clone, Copy, Debug)]
enum Kind {
    File,
    Directory,
    Dangling,
    /// A link to a message elsewhere.
    Link,
}

#[derive(Debug)]
struct Entry {
    folder: &'static str,
    name: Vec<u8>,
    kind: Kind,
}

/// `unique` of a name: time, delivery and host, no two alike.
fn unique(rng: &mut Rng) -> String {
    let time = 1_700_000_000 + rng.u32(0..100_000_000);
    format!("{time}.M{}P{}.host{}", rng.u32(..), rng.u32(1..99_999), rng.u8(1..9))
}

fn some(rng: &mut Rng, letters: &str) -> String {
    let mut text = String::new();
    for letter in letters.chars().filter(|_| rng.bool()) {
        text.push(letter);
    }
    text
}

fn in_cur(name: impl Into<Vec<u8>>) -> Vec<Entry> {
    vec![Entry { folder: "cur", name: name.into(), kind: Kind::File }]
}

fn in_new(name: impl Into<Vec<u8>>) -> Vec<Entry> {
    vec![Entry { folder: "new", name: name.into(), kind: Kind::File }]
}

fn of_kind(folder: &'static str, name: String, kind: Kind) -> Vec<Entry> {
    vec![Entry { folder, name: name.into_bytes(), kind }]
}

type Draw = fn(&mut Rng) -> Vec<Entry>;

/// The productions, each with what draws it.
const PRODUCTIONS: &[(&str, Draw)] = &[
    ("new", |rng| in_new(unique(rng))),
    ("new with size", |rng| in_new(format!("{},S={}", unique(rng), rng.u16(..)))),
    ("new with empty flags", |rng| in_new(format!("{}:2,", unique(rng)))),
    ("new with S", |rng| in_new(format!("{}:2,S", unique(rng)))),
    ("new with F", |rng| in_new(format!("{}:2,F", unique(rng)))),
    ("no info", |rng| in_cur(unique(rng))),
    ("empty flags", |rng| in_cur(format!("{}:2,", unique(rng)))),
    ("S", |rng| in_cur(format!("{}:2,S", unique(rng)))),
    ("flags in order", |rng| in_cur(format!("{}:2,{}", unique(rng), some(rng, "DFPRST")))),
    ("flags out of order", |rng| in_cur(format!("{}:2,{}", unique(rng), some(rng, "TSRPFD")))),
    ("flags twice", |rng| in_cur(format!("{}:2,SS{}", unique(rng), some(rng, "RR")))),
    ("keywords", |rng| in_cur(format!("{}:2,{}{}", unique(rng), some(rng, "FS"), some(rng, "abcz")))),
    ("lower-case s", |rng| in_cur(format!("{}:2,s", unique(rng)))),
    ("unknown capitals", |rng| in_cur(format!("{}:2,X{}", unique(rng), some(rng, "SYZ")))),
    ("digits among flags", |rng| in_cur(format!("{}:2,1{}9", unique(rng), some(rng, "FS")))),
    ("size", |rng| in_cur(format!("{},S=123:2,{}", unique(rng), some(rng, "RS")))),
    ("sizes", |rng| in_cur(format!("{},S=123,W=130:2,{}", unique(rng), some(rng, "RS")))),
    ("size behind flags", |rng| in_cur(format!("{}:2,{},S=123", unique(rng), some(rng, "RS")))),
    ("S behind a comma", |rng| in_cur(format!("{}:2,F,S", unique(rng)))),
    ("experimental", |rng| in_cur(format!("{}:1,S", unique(rng)))),
    ("version 3", |rng| in_cur(format!("{}:3,S", unique(rng)))),
    ("no comma", |rng| in_cur(format!("{}:2S", unique(rng)))),
    ("colon alone", |rng| in_cur(format!("{}:", unique(rng)))),
    ("version alone", |rng| in_cur(format!("{}:2", unique(rng)))),
    ("colons", |rng| in_cur(format!("{}:2,:2,S", unique(rng)))),
    ("colon in unique", |rng| in_cur(format!("{}:b:2,S", unique(rng)))),
    ("nothing before the colon", |rng| in_cur(format!(":2,{}", some(rng, "FRS")))),
    ("semicolon", |rng| in_cur(format!("{};2,S", unique(rng)))),
    ("exclamation mark", |rng| in_cur(format!("{}!2,S", unique(rng)))),
    ("dot file", |rng| in_cur(format!(".{}:2,", unique(rng)))),
    ("dot file in new", |rng| in_new(format!(".{}", unique(rng)))),
    (".nfs", |rng| in_cur(format!(".nfs{:024x}", rng.u64(..)))),
    ("index file", |rng| in_cur(format!("dovecot.index.{}", rng.u16(..)))),
    ("space", |rng| in_cur(format!("{} a b:2,{}", unique(rng), some(rng, "S")))),
    ("no host", |rng| in_cur(format!("{}", rng.u64(..)))),
    ("not UTF-8", |rng| in_cur([unique(rng).as_bytes(), b"\xff\xfe\xe9:2,"].concat())),
    ("not UTF-8, seen", |rng| in_cur([unique(rng).as_bytes(), b"\xff\xfe\xe9:2,S"].concat())),
    ("not UTF-8 among flags", |rng| in_cur([unique(rng).as_bytes(), b":2,\xe9S"].concat())),
    ("control character", |rng| in_cur(format!("{}\u{7}:2,", unique(rng)))),
    ("line feed", |rng| in_cur(format!("{}\n:2,", unique(rng)))),
    ("tab", |rng| in_new(format!("{}\t", unique(rng)))),
    ("DEL", |rng| in_new(format!("{}\u{7f}", unique(rng)))),
    ("long", |rng| in_cur(format!("{}{}:2,", unique(rng), "x".repeat(180)))),
    ("directory in cur", |rng| of_kind("cur", unique(rng), Kind::Directory)),
    ("directory with flags in cur", |rng| of_kind("cur", format!("{}:2,S", unique(rng)), Kind::Directory)),
    ("directory in new", |rng| of_kind("new", unique(rng), Kind::Directory)),
    ("dangling link in cur", |rng| of_kind("cur", format!("{}:2,", unique(rng)), Kind::Dangling)),
    ("dangling link in new", |rng| of_kind("new", unique(rng), Kind::Dangling)),
    ("link in cur", |rng| of_kind("cur", format!("{}:2,", unique(rng)), Kind::Link)),
    ("link in new", |rng| of_kind("new", unique(rng), Kind::Link)),
    ("one in both", |rng| {
        let unique = unique(rng);
        [in_new(unique.clone()), in_cur(format!("{unique}:2,S"))].into_iter().flatten().collect()
    }),
    ("twice in cur", |rng| {
        let unique = unique(rng);
        [in_cur(format!("{unique}:2,")), in_cur(format!("{unique}:2,S"))].into_iter().flatten().collect()
    }),
];

/// Makes one user's Maildir, as the mail server would own it.
fn make(maildir: &Path, owner: (u32, u32), entries: &[Entry]) {
    let own = |path: &Path| chown(path, Some(owner.0), Some(owner.1)).unwrap();
    for folder in ["", "new", "cur", "tmp"] {
        let folder = maildir.join(folder);
        fs::create_dir_all(&folder).unwrap();
        own(&folder);
    }
    own(maildir.parent().unwrap());
    let target = maildir.parent().unwrap().join("elsewhere");
    let message = |path: &Path| {
        File::create(path).unwrap().write_all(b"From: a@example.org\n\nA message.\n").unwrap();
        own(path);
    };
    message(&target);
    for entry in entries {
        let path = maildir.join(entry.folder).join(OsStr::from_bytes(&entry.name));
        match entry.kind {
            Kind::File => message(&path),
            Kind::Directory => {
                fs::create_dir(&path).unwrap();
                own(&path);
            }
            Kind::Dangling => symlink("/nowhere/at/all", &path).unwrap(),
            Kind::Link => symlink(&target, &path).unwrap(),
        }
    }
}

/// What Dovecot counts, once it has put right what it puts right.
fn judged(dovecot: &Dovecot, user: &str) -> u32 {
    let mut client = ImapClient::connect(dovecot.imap(), user, USER_PASSWORD).unwrap();
    let mut status = || {
        let lines = client.ask("STATUS INBOX (UNSEEN)").unwrap();
        let line = lines.into_iter().find(|line| line.contains("UNSEEN")).unwrap();
        line.split("UNSEEN ").nth(1).unwrap().trim_end_matches(')').parse().unwrap()
    };
    let _first: u32 = status();
    status()
}

#[test]
fn unseen_is_what_dovecot_counts_whatever_the_names() {
    if !required("dovecot") {
        return;
    }
    let mut rng = Rng::with_seed(27);
    let mut cases: Vec<(String, Vec<Entry>)> =
        PRODUCTIONS.iter().map(|(name, draw)| ((*name).to_owned(), draw(&mut rng))).collect();
    for _ in 0..MIXED {
        let drawn: Vec<_> = (0..ENTRIES).map(|_| rng.choice(PRODUCTIONS).unwrap()).collect();
        let names: Vec<&str> = drawn.iter().map(|(name, _)| *name).collect();
        let mut entries: Vec<Entry> = drawn.iter().flat_map(|(_, draw)| draw(&mut rng)).collect();
        entries.sort_by(|a, b| (a.folder, &a.name).cmp(&(b.folder, &b.name)));
        entries.dedup_by(|a, b| (a.folder, &a.name) == (b.folder, &b.name));
        cases.push((names.join(", "), entries));
    }
    let dovecot = Dovecot::start(Options { users: cases.len() as u32, ..Options::default() });
    let settings = maildir::Settings::new("files", Template::parse(&dovecot.maildirs()).unwrap());
    let mut complaints = String::new();
    for (number, (what, entries)) in cases.iter().enumerate() {
        let user = format!("u{}", number + 1);
        let maildir = dovecot.maildirs().replace("{user}", &user);
        let maildir = Path::new(&maildir);
        let mail = fs::metadata(maildir.ancestors().nth(2).unwrap()).unwrap();
        make(maildir, (mail.uid(), mail.gid()), entries);
        let before = read_once(&settings, &user).unwrap().unwrap();
        let truth = judged(&dovecot, &user);
        let after = read_once(&settings, &user).unwrap().unwrap();
        // Of two in one folder Dovecot gives one another name, and drops its flags: until then there is no truth.
        let before = if what.contains("twice") { after } else { before };
        if (before, after) != (truth, truth) {
            let _ = writeln!(complaints, "{what}: {truth}, not {before}, then {after}");
        }
    }
    assert!(complaints.is_empty(), "\n{complaints}");
    // Written past the harness: what was drawn is to be seen in CI.
    let drawn = PRODUCTIONS.len();
    let _ = writeln!(std::io::stderr().lock(), "drew {drawn} of {drawn} productions of names in a Maildir");
}
