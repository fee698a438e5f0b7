//! The Maildir source beside the programs that write Maildirs: a real Dovecot, and Python's `mailbox`. After each change
//! every device shows the count, with the files alone and with all sources of Dovecot together.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;
use support::cloud::Cloud;
use support::dovecot::{Dovecot, Options, USER_PASSWORD};
use support::generation::Generation;
use support::host::{Host, badges};
use support::process::{Running, program};
use support::script::Scene;
use support::{required, required_if, wait_until};

/// Mailboxes where the whole path is walked with Dovecot.
const MAILBOXES: u32 = 6;

/// How long a count may take to its devices; far above what it takes.
const LIMIT: Duration = Duration::from_secs(30);

fn every_step_reaches_every_device(generation: Generation, is_combined: bool) {
    let cloud = Cloud::start();
    let mut host = Host::beside(generation);
    let dict = is_combined.then(|| host.dict());
    let dovecot = Dovecot::start(Options { generation, users: MAILBOXES, dict, ..Options::default() });
    let mut sources = Host::maildir_source(&dovecot.maildirs());
    if is_combined {
        sources += &host.dovecot_source();
        sources += &host.imap_source(&dovecot, "notify");
    }
    host.configure(&cloud, &sources);
    let mailboxes: Vec<String> = (1..=MAILBOXES).map(|number| format!("u{number}")).collect();
    host.subscribe(&mailboxes);
    host.start();
    let (imap, lmtp) = (dovecot.imap(), dovecot.lmtp());
    Scene { cloud: &cloud, host: &host, imap, lmtp, password: USER_PASSWORD, mailboxes }.play();
    host.stop();
    assert_eq!(dovecot.complaints(), Vec::<String>::new());
}

fn with_dovecots_files_alone_every_device_shows_status_unseen_after_each_step(generation: Generation) {
    every_step_reaches_every_device(generation, false);
}

fn with_files_dict_and_notify_together_every_device_shows_status_unseen_after_each_step(
    generation: Generation,
) {
    every_step_reaches_every_device(generation, true);
}

/// Does to a Maildir what it is told, a line each, and answers with the unseen messages that it then counts itself.
const PROGRAM: &str = r#"
import mailbox, sys
inbox = mailbox.Maildir(sys.argv[1], create=True)
trash = mailbox.Maildir(sys.argv[1] + "/.Trash", create=True)

def flag(change, keys):
    for key in keys:
        message = inbox[key]
        message.set_subdir("cur")
        change(message)
        inbox[key] = message

for line in sys.stdin:
    word, number = line.split()
    keys = sorted(inbox.keys())[:int(number)]
    if word == "add":
        for at in range(int(number)):
            inbox.add("From: sender@example.org\nSubject: %d\n\nA small message.\n" % at)
    elif word == "notice":
        flag(lambda message: None, keys)
    elif word == "seen":
        flag(lambda message: message.add_flag("S"), keys)
    elif word == "unseen":
        flag(lambda message: message.remove_flag("S"), keys)
    elif word == "flagged":
        flag(lambda message: message.add_flag("F"), keys)
    elif word == "remove":
        for key in keys:
            inbox.discard(key)
    elif word == "out":
        for key in keys:
            trash.add(inbox.pop(key))
    elif word == "in":
        for key in sorted(trash.keys())[:int(number)]:
            inbox.add(trash.pop(key))
    print(sum("S" not in message.get_flags() for message in inbox), flush=True)
"#;

/// Python, at one Maildir.
struct Python {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Python {
    fn start(maildir: &str) -> Self {
        let mut command = Command::new("python3");
        command.args(["-c", PROGRAM, maildir]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().expect("the test asked whether it is installed");
        let input = process.stdin.take().expect("piped");
        let output = BufReader::new(process.stdout.take().expect("piped"));
        Self { process, input, output }
    }

    fn ask(&mut self, line: &str) -> u32 {
        writeln!(self.input, "{line}").expect("it listens");
        let mut answer = String::new();
        self.output.read_line(&mut answer).expect("it answers");
        answer.trim().parse().unwrap_or_else(|_| panic!("{line}: {answer:?}"))
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What Python does, and how many messages are unseen then.
const STEPS: &[(&str, u32)] = &[
    ("add 3", 3),
    ("notice 2", 3),
    ("seen 1", 2),
    ("flagged 2", 2),
    ("unseen 1", 3),
    ("add 2", 5),
    ("seen 3", 2),
    ("remove 4", 1),
    ("unseen 1", 1),
    ("add 4", 5),
    ("out 2", 3),
    ("in 1", 4),
    ("seen 9", 0),
    ("unseen 2", 2),
    ("remove 9", 0),
];

#[test]
fn what_python_does_to_a_maildir_reaches_every_device_though_the_server_spells_names_otherwise() {
    if !required("python3") {
        return;
    }
    let cloud = Cloud::start();
    let mut host = Host::new();
    let maildirs = host.folder().join("mail");
    fs::create_dir(&maildirs).expect("own folder");
    let template = format!("{}/{{user}}/Maildir", maildirs.display());
    // The files know the local part only.
    let source = format!("{}names = \"local-part\"\n", Host::maildir_source(&template));
    host.configure(&cloud, &source);
    let mailbox = "kim@fabrikam.com";
    host.subscribe(&[mailbox.to_owned(), "nobody@fabrikam.com".to_owned()]);
    host.start();
    let shows = |step: &str, unseen: Option<u32>| {
        let what = format!("{step}: {unseen:?}, not {:?}", badges(&cloud, mailbox));
        wait_until(&what, LIMIT, || (badges(&cloud, mailbox) == [unseen; 2]).then_some(()));
    };
    fs::create_dir(maildirs.join("kim")).expect("own folder");
    let maildir = template.replace("{user}", "kim");
    let mut python = Python::start(&maildir);
    for (step, unseen) in STEPS {
        assert_eq!(python.ask(step), *unseen, "{step}, as Python counts");
        shows(step, Some(*unseen));
    }
    python.ask("add 1");
    shows("one is there", Some(1));
    host.kill();
    python.ask("add 1");
    File::create(format!("{maildir}/cur/odd name:2,S")).expect("own folder");
    host.start();
    shows("added while the agent was dead", Some(2));
    assert_eq!(
        badges(&cloud, "nobody@fabrikam.com"),
        [None; 2],
        "of a Maildir that is not there nothing is said"
    );
    host.stop();
}

/// Gives the program behind it so many inotify watches, in a user namespace of its own.
const FEW_WATCHES: &str = "echo 4 > /proc/sys/user/max_inotify_watches && exec \"$0\" \"$@\"";

fn with_few_watches(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "sh", "-c", FEW_WATCHES]).arg(program);
    command
}

#[test]
fn past_the_kernels_watches_maildirs_are_swept_and_readiness_says_so() {
    let is_there = with_few_watches("true").output().is_ok_and(|output| output.status.success());
    if !required_if("user-namespaces", "unshare with a user namespace", is_there) {
        return;
    }
    let cloud = Cloud::start();
    let host = Host::new();
    let maildirs = host.folder().join("mail");
    let template = format!("{}/{{user}}", maildirs.display());
    host.configure(&cloud, &format!("{}sweep-interval = \"1s\"\n", Host::maildir_source(&template)));
    let mailboxes = ["u1", "u2", "u3"].map(str::to_owned);
    host.subscribe(&mailboxes);
    for (name, folder) in mailboxes.iter().flat_map(|name| [(name, "new"), (name, "cur")]) {
        fs::create_dir_all(maildirs.join(name).join(folder)).expect("own folder");
    }
    let mut command = with_few_watches(program());
    command.args(["agent", "run", "--config", "mailbadge.toml"]).current_dir(host.folder());
    let _agent = Running::start("agent", command, &host.folder().join("agent.log")).expect("it starts");
    let told = "1 of 3 Maildirs are only read every 1s: each needs 2 inotify watches; raise fs.inotify.max_user_watches";
    wait_until("readiness to say so", LIMIT, || host.ask("/readyz").contains(told).then_some(()));
    for name in &mailboxes {
        File::create(maildirs.join(name).join("new/message")).expect("own folder");
    }
    for name in &mailboxes {
        wait_until(name, LIMIT, || (badges(&cloud, name) == [Some(1); 2]).then_some(()));
    }
}

/// Makes a Maildir with one unseen message.
fn make(maildir: &Path) {
    for folder in ["new", "cur"] {
        fs::create_dir_all(maildir.join(folder)).expect("own folder");
    }
    File::create(maildir.join("new/message")).expect("own folder");
}

#[test]
fn maildirs_that_nobody_subscribes_to_are_found_and_watched_until_that_is_not_wanted_any_more() {
    let cloud = Cloud::start();
    let mut host = Host::new();
    let maildirs = host.folder().join("mail");
    let template = format!("{}/{{user}}", maildirs.display());
    let sources = format!("{}sweep-interval = \"1s\"\n", Host::maildir_source(&template));
    host.configure(&cloud, &sources);
    let file = host.folder().join("mailbadge.toml");
    let without = fs::read_to_string(&file).expect("just written");
    fs::write(&file, format!("watch-all = true\n{without}")).expect("own folder");
    make(&maildirs.join("u1"));
    host.start();
    let watched = |number: u32| {
        let line = format!("mailbadge_mailboxes{{source=\"maildir\",state=\"watched\"}} {number}.0");
        wait_until(&line, LIMIT, || host.ask("/metrics").contains(&line).then_some(()));
    };
    watched(1);
    make(&maildirs.join("u2"));
    watched(2);
    host.subscribe(&["u2".to_owned()]);
    wait_until("u2", LIMIT, || (badges(&cloud, "u2") == [Some(1); 2]).then_some(()));
    fs::write(&file, without).expect("own folder");
    host.signal("HUP");
    watched(1);
    File::create(maildirs.join("u2/new/another")).expect("own folder");
    wait_until("u2", LIMIT, || (badges(&cloud, "u2") == [Some(2); 2]).then_some(()));
    host.stop();
}

support::each_dovecot! {
    with_dovecots_files_alone_every_device_shows_status_unseen_after_each_step,
    with_files_dict_and_notify_together_every_device_shows_status_unseen_after_each_step,
}
