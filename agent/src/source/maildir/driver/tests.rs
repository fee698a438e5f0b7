//! The source on real folders, with this test as the mail programs.

use super::*;
use crate::source::maildir::template::Template;
use crate::time::{Moment, Now};
use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::thread;
use tempfile::TempDir;

/// Longest wait for anything that must come.
const LIMIT: Duration = Duration::from_secs(10);

/// Remembers the last count of each mailbox.
#[derive(Default)]
struct Recorder(Mutex<HashMap<MailboxId, u32>>);

impl Observer for Recorder {
    fn find(&self, _name: &str) -> Option<MailboxId> {
        None
    }

    fn observe(&self, mailbox: MailboxId, source: SourceId, news: News, now: Now) -> Verdict {
        let News::Reading(reading) = news else { panic!("a Maildir gives readings: {news:?}") };
        assert!(source == SourceId(3) && reading.asked_at.is_some_and(|asked| asked <= now.moment));
        match self.0.lock().insert(mailbox, reading.unseen) {
            Some(before) if before == reading.unseen => Verdict::Unchanged,
            _ => Verdict::Changed,
        }
    }
}

struct Bench {
    recorder: Arc<Recorder>,
    counters: Arc<SourceCounters>,
    source: MaildirSource,
    folder: TempDir,
}

impl Bench {
    /// A source that watches u1, u2 and u3, whose Maildirs are not there.
    fn start(sweep_interval: Duration) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let template = format!("{}/{{user}}/Maildir", folder.path().display());
        let settings = Settings {
            sweep_interval,
            ..Settings::new("maildir", Template::parse(&template).expect("a template"))
        };
        let (recorder, counters) = (Arc::<Recorder>::default(), Arc::<SourceCounters>::default());
        let observer = Arc::clone(&recorder) as Arc<dyn Observer>;
        let source = start(&settings, SourceId(3), observer, Clock::start(), Arc::clone(&counters), 7);
        let source = source.expect("it starts");
        (1..=3).for_each(|number| source.watch(MailboxId(number), &format!("u{number}").into()));
        Self { recorder, counters, source, folder }
    }

    fn maildir(&self, number: u32) -> PathBuf {
        self.folder.path().join(format!("u{number}/Maildir"))
    }

    fn make(&self, number: u32) {
        for name in ["tmp", "new", "cur"] {
            fs::create_dir_all(self.maildir(number).join(name)).expect("own folder");
        }
    }

    /// As a delivery agent does: written in `tmp/`, moved to `new/`.
    fn deliver(&self, number: u32, name: &str) {
        let (written, delivered) =
            (self.maildir(number).join("tmp").join(name), self.maildir(number).join("new").join(name));
        fs::write(&written, "a message").expect("own folder");
        fs::rename(written, delivered).expect("own folder");
    }

    fn rename(&self, number: u32, from: &str, to: &str) {
        fs::rename(self.maildir(number).join(from), self.maildir(number).join(to)).expect("own folder");
    }

    fn wait_for(&self, number: u32, unseen: Option<u32>, step: &str) {
        let known = || self.recorder.0.lock().get(&MailboxId(number)).copied();
        wait_until(&format!("{step}: u{number} to have {unseen:?}, has {:?}", known()), || known() == unseen);
    }

    fn wait_watched(&self, watched: u64) {
        wait_until("mailboxes watched", || self.counters.watched.get() == watched);
    }
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let clock = Clock::start();
    while !condition() {
        assert!(clock.now().moment.since(Moment::START) < LIMIT, "waited in vain: {what}");
        thread::yield_now();
    }
}

#[test]
fn every_change_of_a_maildir_is_counted() {
    let bench = Bench::start(Duration::from_hours(1));
    bench.make(1);
    bench.wait_for(1, Some(0), "it appeared");
    bench.wait_watched(1);
    bench.deliver(1, "a");
    bench.wait_for(1, Some(1), "delivered");
    bench.deliver(1, "b");
    bench.deliver(1, "c");
    bench.wait_for(1, Some(3), "two delivered");
    bench.rename(1, "new/a", "cur/a:2,S");
    bench.wait_for(1, Some(2), "read");
    bench.rename(1, "new/b", "cur/b:2,");
    bench.rename(1, "cur/a:2,S", "cur/a:2,");
    bench.wait_for(1, Some(3), "noticed, and the first one unread again");
    bench.rename(1, "cur/a:2,", "cur/a:2,FS");
    bench.wait_for(1, Some(2), "read again");
    fs::remove_file(bench.maildir(1).join("new/c")).expect("own file");
    bench.wait_for(1, Some(1), "deleted");
    fs::create_dir_all(bench.maildir(1).join(".Sub/new")).expect("own folder");
    fs::write(bench.maildir(1).join(".Sub/new/x"), "").expect("own folder");
    fs::create_dir(bench.maildir(1).join("cur/folder")).expect("own folder");
    fs::write(bench.maildir(1).join("cur/.hidden"), "").expect("own folder");
    fs::hard_link(bench.maildir(1).join("cur/b:2,"), bench.maildir(1).join("new/d")).expect("own folder");
    bench.wait_for(
        1,
        Some(3),
        "linked into new/; a folder in cur/ counts, as for Dovecot; another Maildir and a hidden file do not",
    );
    assert_eq!(bench.recorder.0.lock().len(), 1, "of Maildirs that are not there nothing is said");
    assert_eq!(bench.source.failure(), None);
}

#[test]
fn a_maildir_is_found_however_it_appears_and_again_when_it_was_replaced() {
    let bench = Bench::start(Duration::from_hours(1));
    fs::create_dir(bench.folder.path().join("u1")).expect("own folder");
    bench.make(2);
    bench.deliver(2, "a");
    bench.wait_for(2, Some(1), "it appeared with a message");
    // Moved in as a whole, as a restored backup is.
    fs::create_dir_all(bench.folder.path().join("elsewhere/Maildir/new")).expect("own folder");
    fs::create_dir_all(bench.folder.path().join("elsewhere/Maildir/cur")).expect("own folder");
    fs::write(bench.folder.path().join("elsewhere/Maildir/new/m"), "").expect("own folder");
    fs::rename(bench.folder.path().join("elsewhere"), bench.folder.path().join("u3")).expect("own folder");
    bench.wait_for(3, Some(1), "it was moved in");
    bench.make(1);
    bench.wait_for(1, Some(0), "it appeared step by step");
    bench.wait_watched(3);

    fs::remove_dir_all(bench.maildir(2)).expect("own folder");
    bench.wait_watched(2);
    bench.make(2);
    bench.deliver(2, "b");
    bench.deliver(2, "c");
    bench.wait_for(2, Some(2), "deleted and made again");
    bench.rename(3, "new", "old");
    fs::create_dir(bench.maildir(3).join("new")).expect("own folder");
    bench.wait_for(3, Some(0), "new/ was replaced");
    fs::write(bench.maildir(3).join("new/n"), "").expect("own folder");
    bench.wait_for(3, Some(1), "and is watched");
}

/// A folder that appears between two steps of a look gives no event.
#[test]
fn a_maildir_that_appears_at_any_moment_of_a_look_is_found() {
    const MAILBOXES: u32 = 400;
    let bench = Bench::start(Duration::from_hours(1));
    (4..=MAILBOXES).for_each(|number| bench.source.watch(MailboxId(number), &format!("u{number}").into()));
    wait_until("all are waited for", || bench.counters.waiting.get() == u64::from(MAILBOXES));
    for number in 1..=MAILBOXES {
        fs::create_dir_all(bench.maildir(number).join("new")).expect("own folder");
        // Each question begins a look; the last folder appears at another moment of it each time.
        bench.source.ask(MailboxId(number));
        (0..number * 4).for_each(|_| std::hint::spin_loop());
        fs::create_dir(bench.maildir(number).join("cur")).expect("own folder");
    }
    bench.wait_watched(u64::from(MAILBOXES));
}

#[test]
fn what_no_event_told_the_sweep_finds() {
    let bench = Bench::start(Duration::from_millis(200));
    bench.make(1);
    bench.deliver(1, "a");
    bench.wait_for(1, Some(1), "delivered");
    // The watches stay with the folders that were moved away.
    fs::rename(bench.maildir(1), bench.folder.path().join("u1/away")).expect("own folder");
    bench.make(1);
    bench.wait_for(1, Some(0), "replaced by an empty one");
    wait_until("the correction to be counted", || bench.counters.sweep_corrections.get() == 1);
    bench.deliver(1, "b");
    bench.wait_for(1, Some(1), "and is watched");
}

#[test]
fn questions_are_answered_and_an_unwatched_mailbox_is_silent() {
    let bench = Bench::start(Duration::from_hours(1));
    bench.make(1);
    bench.wait_for(1, Some(0), "it appeared");
    bench.recorder.0.lock().clear();
    bench.source.ask(MailboxId(1));
    bench.wait_for(1, Some(0), "asked");
    bench.source.unwatch(MailboxId(1));
    wait_until("it is let go", || bench.counters.waiting.get() == 2);
    bench.deliver(1, "a");
    bench.source.ask(MailboxId(1));
    bench.make(2);
    bench.wait_for(2, Some(0), "what came after the delivery");
    bench.wait_for(1, Some(0), "nobody asks for it any more");
    drop(bench.source);
}

#[test]
fn what_cannot_be_read_is_told_and_a_name_that_leaves_the_template_is_refused() {
    let bench = Bench::start(Duration::from_millis(100));
    fs::create_dir(bench.folder.path().join("u1")).expect("own folder");
    fs::write(bench.maildir(1), "a mailbox of another format").expect("own folder");
    wait_until("the trouble is told", || bench.source.failure().is_some());
    let failure = bench.source.failure().expect("just seen");
    assert!(failure.starts_with("source maildir: 1 Maildirs cannot be read; one of them: "), "{failure}");
    assert!(failure.contains("u1/Maildir"), "{failure}");
    fs::remove_file(bench.maildir(1)).expect("own file");
    bench.make(1);
    bench.wait_for(1, Some(0), "it is a Maildir now");
    wait_until("all is well", || bench.source.failure().is_none());
    bench.source.watch(MailboxId(9), &"../u1".into());
    bench.deliver(1, "a");
    bench.wait_for(1, Some(1), "delivered");
    assert_eq!(bench.recorder.0.lock().get(&MailboxId(9)), None);
    assert_eq!(read_once(&bench.source.settings, "u1"), Ok(Some(1)));
    assert!(read_once(&bench.source.settings, "../u1").expect_err("refused").contains("slash"));
    assert_eq!(read_once(&bench.source.settings, "u2"), Ok(None));
}

#[test]
fn two_mailboxes_that_lead_to_one_maildir_both_follow_it_and_one_outlives_the_other() {
    let bench = Bench::start(Duration::from_hours(1));
    bench.make(1);
    std::os::unix::fs::symlink(bench.folder.path().join("u1"), bench.folder.path().join("u2"))
        .expect("own folder");
    bench.wait_watched(2);
    bench.deliver(1, "a");
    bench.wait_for(1, Some(1), "delivered");
    bench.wait_for(2, Some(1), "delivered, by the link");
    bench.source.unwatch(MailboxId(2));
    bench.wait_watched(1);
    bench.deliver(1, "b");
    bench.rename(1, "new/a", "cur/a:2,S");
    bench.deliver(1, "c");
    bench.wait_for(1, Some(2), "the other one is not watched any more");
    bench.wait_for(2, Some(1), "nobody asks for it");
    bench.source.watch(MailboxId(2), &"u2".into());
    bench.wait_for(2, Some(2), "watched again");
    bench.source.unwatch(MailboxId(1));
    bench.wait_watched(1);
    fs::remove_file(bench.maildir(1).join("new/c")).expect("own file");
    bench.wait_for(2, Some(1), "deleted");
    // The link leads elsewhere: nothing stirs, but the way there is what is read next.
    bench.make(3);
    fs::remove_file(bench.folder.path().join("u2")).expect("own link");
    std::os::unix::fs::symlink(bench.folder.path().join("u3"), bench.folder.path().join("u2"))
        .expect("own folder");
    bench.source.ask(MailboxId(2));
    bench.wait_for(2, Some(0), "it leads to the third one's");
    bench.deliver(3, "d");
    bench.wait_for(2, Some(1), "which is watched");
    bench.wait_for(3, Some(1), "by both");
}

#[test]
fn a_template_without_the_domain_leads_both_domains_to_one_maildir() {
    let folder = TempDir::new().expect("a temporary folder");
    let template = format!("{}/{{local-part}}/Maildir", folder.path().display());
    let settings = Settings::new("maildir", Template::parse(&template).expect("a template"));
    let (recorder, counters) = (Arc::<Recorder>::default(), Arc::<SourceCounters>::default());
    let observer = Arc::clone(&recorder) as Arc<dyn Observer>;
    let source = start(&settings, SourceId(3), observer, Clock::start(), Arc::clone(&counters), 7);
    let source = source.expect("it starts");
    source.watch(MailboxId(1), &"kim@fabrikam.com".into());
    source.watch(MailboxId(2), &"kim@contoso.com".into());
    let bench = Bench { recorder, counters, source, folder };
    let maildir = bench.folder.path().join("kim/Maildir");
    for name in ["new", "cur"] {
        fs::create_dir_all(maildir.join(name)).expect("own folder");
    }
    bench.wait_watched(2);
    for (number, name) in ["a", "b"].into_iter().enumerate() {
        fs::write(maildir.join("new").join(name), "").expect("own file");
        let unseen = u32::try_from(number).expect("small") + 1;
        bench.wait_for(1, Some(unseen), "of the one domain");
        bench.wait_for(2, Some(unseen), "of the other");
    }
    bench.source.unwatch(MailboxId(1));
    bench.wait_watched(1);
    fs::write(maildir.join("new/c"), "").expect("own file");
    bench.wait_for(2, Some(3), "the one that is left");
}
