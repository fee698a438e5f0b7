//! The doveadm source against a real Dovecot's HTTP API: one question reads all users, and the sweep alone brings every
//! badge to truth, though nobody tells of any change; and so do both sources together.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;
use support::cloud::Cloud;
use support::dovecot::{DoveadmApi, Dovecot, Options, USER_PASSWORD};
use support::generation::Generation;
use support::host::{Host, badges};
use support::imap_client::ImapClient;
use support::lmtp::LmtpClient;
use support::script::Scene;
use support::{required, wait_until};

/// Mailboxes that are subscribed; the server has one more.
const MAILBOXES: u32 = 20;

/// How long anything may take; far above what it takes.
const LIMIT: Duration = Duration::from_secs(30);

/// Dovecot's `doveadm_api_key`.
const KEY: &str = "k3y of doveadm";

/// An agent with the sources `doveadm` and `dovecot`.
struct Bench {
    cloud: Cloud,
    host: Host,
    dovecot: Dovecot,
    names: Vec<String>,
}

impl Bench {
    /// `is_told`: Dovecot speaks to the source `dovecot` after all.
    fn start(generation: Generation, lists_users: bool, is_told: bool) -> Self {
        let (cloud, mut host) = (Cloud::start(), Host::beside(generation));
        let names: Vec<String> = (1..=MAILBOXES).map(|number| format!("u{number}")).collect();
        let doveadm = Some(DoveadmApi { key: KEY, lists_users });
        let dict = is_told.then(|| host.dict());
        let dovecot =
            Dovecot::start(Options { generation, users: MAILBOXES + 1, dict, doveadm, ..Options::default() });
        let sources = host.dovecot_source() + &source(&dovecot);
        set_key(&host, KEY);
        host.configure(&cloud, &sources);
        host.subscribe(&names);
        host.start();
        let bench = Self { cloud, host, dovecot, names };
        bench.all_show("at the start", |_| 0);
        bench
    }

    /// Until every device shows what it must, given the mailbox's number.
    fn all_show(&self, step: &str, unseen: impl Fn(u32) -> u32) {
        for name in &self.names {
            let expected = [Some(unseen(number(name))); 2];
            let shown = || badges(&self.cloud, name);
            let what = format!("{step}: {name} to show {expected:?}, not {:?}", shown());
            wait_until(&what, LIMIT, || (shown() == expected).then_some(()));
        }
    }

    /// Delivers to every mailbox a message, to every third a second one.
    fn deliver(&self) {
        let mut lmtp = LmtpClient::connect(self.dovecot.lmtp()).expect("lmtp");
        for name in &self.names {
            for _ in 0..delivered(number(name)) {
                lmtp.deliver(name).expect("delivery");
            }
        }
    }

    fn imap(&self, name: &str) -> ImapClient {
        ImapClient::connect(self.dovecot.imap(), name, USER_PASSWORD).expect("imap")
    }

    /// A figure of the agent's metrics.
    fn figure(&self, name: &str) -> u64 {
        self.figure_if_told(name).unwrap_or_else(|| panic!("no {name}"))
    }

    /// The same; while sources change there may be none.
    fn figure_if_told(&self, name: &str) -> Option<u64> {
        self.host.ask("/metrics").lines().find_map(|line| line.strip_prefix(name))?.trim().parse().ok()
    }

    /// Questions that Dovecot has answered: about all, and by name.
    fn questions(&self) -> (u64, u64) {
        let log = self.dovecot.log();
        let (by_name, all): (Vec<_>, Vec<_>) = log
            .lines()
            .filter(|line| line.contains("Executing command 'mailbox status'"))
            .partition(|line| line.contains("' as '"));
        (all.len() as u64, by_name.len() as u64)
    }
}

/// 7, of `u7`.
fn number(name: &str) -> u32 {
    name.trim_start_matches('u').parse().expect("a number")
}

/// Messages that [`Bench::deliver`] brings.
fn delivered(number: u32) -> u32 {
    1 + u32::from(number.is_multiple_of(3))
}

/// A source of the kind `doveadm` that sweeps every two seconds.
fn source(dovecot: &Dovecot) -> String {
    format!(
        "[[source]]\nkind = \"doveadm\"\nurl = \"http://{}/doveadm/v1\"\napi-key-file = \"doveadm.key\"\n\
         sweep-interval = \"2s\"\n",
        dovecot.doveadm_http()
    )
}

fn set_key(host: &Host, key: &str) {
    let path = host.folder().join("doveadm.key");
    fs::write(&path, format!("{key}\n")).expect("own folder");
    fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("own file");
}

#[test]
fn the_sweep_alone_brings_twenty_badges_to_truth_by_one_question_about_all() {
    if !required("dovecot") {
        return;
    }
    let mut bench = Bench::start(Generation::Debian12, true, false);
    bench.deliver();
    bench.all_show("delivered, and nobody told", delivered);
    let corrections = bench.figure("mailbadge_sweep_corrections_total{source=\"doveadm\"}");
    assert!(corrections >= u64::from(MAILBOXES), "{corrections} corrections");
    // Read in one, and put there behind Dovecot's back in another.
    let mut imap = bench.imap("u3");
    imap.select("INBOX").and_then(|_| imap.store("1:*", '+', "\\Seen")).expect("a flag");
    let maildir = bench.dovecot.maildirs().replace("{user}", "u4");
    fs::copy("Cargo.toml", format!("{maildir}/tmp/message")).expect("a message");
    fs::rename(format!("{maildir}/tmp/message"), format!("{maildir}/new/message")).expect("a message");
    let after = |number| match number {
        3 => 0,
        4 => delivered(4) + 1,
        other => delivered(other),
    };
    bench.all_show("read, and written by somebody else", after);
    assert!(bench.figure("mailbadge_sweep_corrections_total{source=\"doveadm\"}") >= corrections + 2);
    wait_until("every answer to be about all of the twenty", LIMIT, || {
        let readings = bench.figure("mailbadge_observations_total{source=\"doveadm\",kind=\"reading\"}");
        (bench.questions() == (readings / u64::from(MAILBOXES), 0)).then_some(())
    });
    bench.host.kill();
    bench.deliver();
    bench.host.start();
    bench.all_show("delivered while the agent was dead", |number| after(number) + delivered(number));
    let doctor = bench.host.command(&["doctor"]).expect("all is well");
    let expected = ["u1 has 2 unseen", "21 users in one answer"];
    assert!(expected.iter().all(|part| doctor.contains(part)), "{doctor}");
    let status = bench.host.command(&["status"]).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("doveadm")).expect("the source's line");
    assert!(line.split_whitespace().take(4).eq(["doveadm", "doveadm", "20", "0"]), "{line}");
    bench.host.stop();
}

fn beside_the_dict_source_every_device_shows_status_unseen_after_each_step(generation: Generation) {
    let Bench { cloud, mut host, dovecot, names } = Bench::start(generation, true, true);
    let mailboxes = names.into_iter().take(6).collect();
    let (imap, lmtp) = (dovecot.imap(), dovecot.lmtp());
    Scene { cloud: &cloud, host: &host, imap, lmtp, password: USER_PASSWORD, mailboxes }.play();
    host.stop();
    assert_eq!(dovecot.complaints(), Vec::<String>::new());
}

fn where_dovecot_cannot_list_its_users_or_read_all_their_mail_each_mailbox_is_asked_by_name(
    generation: Generation,
) {
    for lists_users in [false, true] {
        let mut bench = Bench::start(generation, lists_users, false);
        if lists_users {
            // One mailbox that cannot be read costs Dovecot's answer about all.
            let home = PathBuf::from(bench.dovecot.maildirs().replace("{user}/Maildir", "u7"));
            fs::rename(&home, home.with_file_name("u7-away")).expect("own folder");
            File::create(&home).expect("own folder");
        }
        bench.names.retain(|name| name != "u7");
        bench.deliver();
        bench.all_show("delivered to all but one", delivered);
        let told = "now each mailbox is asked for by name";
        wait_until("the log to tell", LIMIT, || bench.host.log().contains(told).then_some(()));
        assert!(bench.host.ask("/readyz").starts_with("HTTP/1.1 200"), "the others are read");
        bench.host.stop();
    }
}

#[test]
fn a_wrong_key_is_told_once_and_mended_by_a_reload() {
    if !required("dovecot") {
        return;
    }
    let mut bench = Bench::start(Generation::Debian12, true, false);
    set_key(&bench.host, "another key");
    bench.host.signal("HUP");
    let told = "the credential is refused (HTTP status 401); api-key-file must hold what Dovecot has as doveadm_api_key";
    wait_until("readiness to tell", LIMIT, || bench.host.ask("/readyz").contains(told).then_some(()));
    let doctor = bench.host.command(&["doctor"]).expect_err("the key is wrong").to_string();
    assert!(!doctor.contains("another key"), "{doctor}");
    let refusals = || bench.dovecot.log().matches("Invalid authentication attempt").count();
    assert!(refusals() <= 3, "the daemon asked once, doctor twice");
    let logged = || bench.host.log().matches(told).count();
    wait_until("the log to tell", LIMIT, || (logged() == 1).then_some(()));
    set_key(&bench.host, KEY);
    bench.host.signal("HUP");
    bench.deliver();
    bench.all_show("with the right key", delivered);
    assert!(bench.host.ask("/readyz").starts_with("HTTP/1.1 200"));
    let log = bench.host.log();
    assert!(!log.contains(KEY) && !log.contains("another key"), "no key in the log");
    assert_eq!(logged(), 1, "told once");
    bench.host.stop();
}

#[test]
fn users_that_nobody_subscribes_to_are_found_and_read_where_all_are_to_be_watched() {
    if !required("dovecot") {
        return;
    }
    let (cloud, mut host) = (Cloud::start(), Host::new());
    let doveadm = Some(DoveadmApi { key: KEY, lists_users: true });
    let dovecot = Dovecot::start(Options { users: MAILBOXES, doveadm, ..Options::default() });
    set_key(&host, KEY);
    host.configure(&cloud, &source(&dovecot));
    let file = host.folder().join("mailbadge.toml");
    let without = fs::read_to_string(&file).expect("just written");
    fs::write(&file, format!("watch-all = true\n{without}")).expect("own folder");
    LmtpClient::connect(dovecot.lmtp()).and_then(|mut lmtp| lmtp.deliver("u2")).expect("delivery");
    host.start();
    let line = format!("mailbadge_mailboxes{{source=\"doveadm\",state=\"watched\"}} {MAILBOXES}.0");
    wait_until(&line, LIMIT, || host.ask("/metrics").contains(&line).then_some(()));
    host.subscribe(&["u2".to_owned()]);
    wait_until("u2", LIMIT, || (badges(&cloud, "u2") == [Some(1); 2]).then_some(()));
    host.stop();
}

#[test]
fn beside_doveadm_an_imap_source_sweeps_nobody_until_doveadm_fails() {
    if !required("dovecot") {
        return;
    }
    let mut bench = Bench::start(Generation::Debian12, true, false);
    let imap = bench.host.imap_source(&bench.dovecot, "sweep") + "sweep-interval = \"4s\"\n";
    let sources = bench.host.dovecot_source() + &source(&bench.dovecot) + &imap;
    bench.host.write_configuration(&bench.cloud, "", &sources);
    bench.host.signal("HUP");
    let log_ins = "mailbadge_logins_total{source=\"imap\",result=\"ok\"}";
    let all = u64::from(MAILBOXES);
    let has = |what: &str, condition: &dyn Fn(&Bench) -> bool| {
        wait_until(what, LIMIT, || condition(&bench).then_some(()));
    };
    has("the first visits", &|bench| {
        bench.host.ask("/metrics").contains(log_ins) && bench.figure(log_ins) == all
    });
    let rounds = bench.questions().0;
    has("six rounds of doveadm's", &|bench| bench.questions().0 >= rounds + 6);
    assert_eq!(bench.figure(log_ins), all, "nobody was visited once more");
    set_key(&bench.host, "another");
    bench.host.signal("HUP");
    has("the sweep over IMAP", &|bench| bench.figure_if_told(log_ins) >= Some(2 * all));
    bench.host.stop();
}

support::each_dovecot! {
    beside_the_dict_source_every_device_shows_status_unseen_after_each_step,
    where_dovecot_cannot_list_its_users_or_read_all_their_mail_each_mailbox_is_asked_by_name,
}
