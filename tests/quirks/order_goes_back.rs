//! Quirk `order-goes-back` where a dict tells the agent and nobody can be asked: Dovecot's index files were deleted, or a
//! backup was restored, and HIGHESTMODSEQ or UIDVALIDITY fell. And the habit of Dovecot to report the creation of a new
//! account's INBOX before its first message. Pure machines in virtual time.

use mailbadge::event::{MailboxId, News, Recipient, SourceId, SubscriptionKey};
use mailbadge::source::dovecot::dict::{Conversation, Step};
use mailbadge::time::{Moment, Now, UnixMs};
use mailbadge::tracker::Tracker;
use mailbadge::tracker::record::{ANSWER_WAIT, FIRST_ZERO_WAIT, LATE_MAX, Record};
use mailbadge_sim::peers::dovecot_client::{DovecotClient, Input, Output, Settings};
use mailbadge_sim::peers::mail_store::{AccountId, MailStore, Status};
use std::time::Duration;

const ACCOUNT: AccountId = AccountId(0);
const MAILBOX: MailboxId = MailboxId(0);
const DICT: SourceId = SourceId(0);

/// A Dovecot with one mailbox that has one device, and the agent's rooms from the socket to the batch.
struct Scene {
    store: MailStore,
    client: DovecotClient,
    conversation: Conversation,
    tracker: Tracker,
    now: Now,
    /// What a reader believes for which a lower MODSEQ is older for good.
    unarmed: Option<Status>,
}

impl Scene {
    fn new(shown: Option<u32>) -> Self {
        let store = MailStore::new(1, "");
        let tracker = Tracker::default();
        for (_, name) in store.names() {
            tracker.enroll(name).expect("one fits");
        }
        let now = Now { moment: Moment::START, unix: UnixMs(0) };
        let recipient = Recipient {
            key: SubscriptionKey(1),
            app_id: "com.microsoft.exchange.iphone".to_owned().into(),
            device_id: "ab".into(),
            installation_id: None,
            last_update: UnixMs(0),
            expires_at: UnixMs(u64::MAX),
            background_sync: false,
        };
        tracker.subscribe(MAILBOX, recipient, shown, now);
        let client = DovecotClient::new(Settings::default(), 1);
        Self { store, client, conversation: Conversation::new(), tracker, now, unarmed: None }
    }

    fn pass(&mut self, wait: Duration) {
        self.now = self.now.after(wait);
        self.tracker.wake(self.now);
    }

    /// Dovecot reports what STATUS says now.
    fn report(&mut self) {
        let status = self.store.status(ACCOUNT).expect("it is there");
        let is_older =
            |known: &Status| known.uidvalidity == status.uidvalidity && status.modseq < known.modseq;
        if !self.unarmed.as_ref().is_some_and(is_older) {
            self.unarmed = Some(status);
        }
        let name = self.store.name(ACCOUNT).expect("it is there").clone();
        let clock = Duration::from_micros(self.now.moment.micros());
        self.client.handle(clock, Input::Changed { user: &name, status, token: 1 });
        while let Some(output) = self.client.poll_output() {
            let Output::Send(bytes) = output else { continue };
            let mut step = Step::default();
            self.conversation.handle(&bytes, &mut step);
            self.client.handle(clock, Input::Bytes(&step.replies));
            for update in step.updates {
                self.tracker.observe(MAILBOX, DICT, News::Reading(update.reading), self.now);
            }
        }
    }

    fn deliver(&mut self) {
        self.store.deliver(ACCOUNT).expect("it takes messages");
        self.report();
    }

    fn believed(&self) -> Option<u32> {
        self.tracker.inspect(MAILBOX, Record::known).flatten().map(|known| known.unseen)
    }

    fn truth(&self) -> u32 {
        self.store.status(ACCOUNT).map_or(0, |status| status.unseen)
    }

    fn is_unarmed_right(&self) -> bool {
        self.unarmed.is_some_and(|status| status.unseen == self.truth())
    }

    /// The counts that leave for the relay now; it takes them.
    fn sent(&self) -> Vec<u32> {
        let batch = self.tracker.take(9, self.now);
        self.tracker.acknowledge(&batch, &[], self.now);
        batch.iter().map(|notification| notification.unseen).collect()
    }
}

/// A mailbox in use whose order went back some time after its last event.
fn gone_back(is_validity: bool, after: Duration) -> Scene {
    let mut scene = Scene::new(None);
    for _ in 0..20 {
        scene.deliver();
        scene.pass(Duration::from_secs(1));
    }
    scene.sent();
    scene.store.order_goes_back(ACCOUNT, is_validity);
    scene.pass(after);
    scene
}

#[test]
fn one_event_after_the_order_went_back_is_on_the_icon_within_a_bounded_wait() {
    for is_validity in [false, true] {
        let mut scene = gone_back(is_validity, LATE_MAX);
        scene.deliver();
        assert_ne!(scene.believed(), Some(scene.truth()), "it may still be late");
        scene.pass(ANSWER_WAIT);
        assert_eq!(
            (scene.believed(), scene.sent()),
            (Some(21), vec![21]),
            "UIDVALIDITY falls: {is_validity}"
        );
    }
}

#[test]
fn events_right_after_the_order_went_back_are_on_the_icon_once_none_can_be_late() {
    for is_validity in [false, true] {
        let mut scene = gone_back(is_validity, Duration::ZERO);
        for _ in 0..7 {
            scene.deliver();
            scene.pass(Duration::from_secs(10));
        }
        assert_eq!(scene.believed(), Some(scene.truth()), "UIDVALIDITY falls: {is_validity}");
    }
}

#[test]
fn a_reader_that_takes_a_lower_modseq_for_older_stays_wrong_for_good() {
    let mut scene = gone_back(false, LATE_MAX);
    assert!(scene.is_unarmed_right(), "it is right without the quirk");
    for _ in 0..5 {
        scene.deliver();
        scene.pass(Duration::from_hours(1));
        assert!(!scene.is_unarmed_right());
        assert_eq!(scene.believed(), Some(scene.truth()));
    }
}

#[test]
fn a_new_account_shows_its_first_message_and_no_0_before_it() {
    let mut scene = Scene::new(None);
    scene.report();
    assert!(scene.sent().is_empty(), "the creation of INBOX waits");
    scene.pass(Duration::from_secs(1));
    scene.deliver();
    assert_eq!(scene.sent(), [1]);
}

#[test]
fn a_new_account_without_a_message_shows_0_after_a_bounded_wait() {
    let mut scene = Scene::new(None);
    scene.report();
    scene.pass(FIRST_ZERO_WAIT);
    assert_eq!(scene.sent(), [0]);
    let mut renewed = Scene::new(Some(5));
    renewed.report();
    assert_eq!(renewed.sent(), [0], "a device that shows something else is corrected at once");
}
