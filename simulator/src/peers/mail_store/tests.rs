//! The store's numbers against a model that counts anew each time.

use super::*;
use parking_lot::Mutex;
use proptest::prelude::*;

const USER: AccountId = AccountId(0);

#[test]
fn names_follow_the_domain() {
    assert_eq!(MailStore::new(2, "").name(AccountId(1)).map(|name| &**name), Some("user2"));
    let store = MailStore::new(2, "fabrikam.com");
    assert_eq!(store.find("U2@fabrikam.com"), Some(AccountId(1)));
    assert_eq!(store.find("u3@fabrikam.com"), None);
}

#[test]
fn a_moved_message_keeps_its_flags_and_gets_a_new_uid() {
    let mut store = MailStore::new(1, "");
    store.deliver(USER);
    let uid = store.append(USER, FolderId::INBOX, Flags::SEEN).unwrap();
    let in_trash = store.move_out(USER, uid).unwrap();
    assert_eq!(store.status(USER).unwrap().messages, 1);
    assert_eq!(store.move_in(USER, in_trash), Some(3));
    assert_eq!(store.messages(USER)[1], Message { uid: 3, flags: Flags::SEEN });
    assert_eq!(store.move_out(USER, 99), None);
}

#[test]
fn another_uidvalidity_starts_uids_and_modseq_anew_and_keeps_messages() {
    let mut store = MailStore::new(1, "");
    for _ in 0..5 {
        store.deliver(USER);
    }
    store.expunge(USER, 2);
    let before = store.status(USER).unwrap();
    store.set_quirk(Some(USER), Quirk::UidValidityBump, true);
    let after = store.status(USER).unwrap();
    assert_ne!(after.uidvalidity, before.uidvalidity);
    assert_eq!((after.messages, after.unseen, after.uidnext, after.modseq), (4, 4, 5, 1));
    assert!(!store.quirks(USER).has(Quirk::UidValidityBump));
}

#[test]
fn observers_hear_of_inbox_changes_only_and_only_of_real_ones() {
    let mut store = MailStore::new(1, "");
    let heard = Arc::new(Mutex::new(Vec::new()));
    let into = Arc::clone(&heard);
    store.subscribe(move |change| {
        if let Change::Inbox { status, .. } = change {
            into.lock().push(status.unseen);
        }
    });
    store.deliver(USER);
    store.set_seen(USER, 1, true);
    store.set_seen(USER, 1, true);
    store.set_seen(USER, 9, true);
    let trash = store.folder(USER, "Trash").unwrap();
    store.append(USER, trash, Flags::NONE);
    store.all_seen(USER);
    assert_eq!(*heard.lock(), [1, 0]);
    assert_eq!(store.version(USER), 2);
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Deliver,
    Append(u8),
    Seen(u32, bool),
    AllSeen,
    Deleted(u32),
    Expunge(u32),
    Out(u32),
    In(u32),
    Bump,
}

fn step() -> impl Strategy<Value = Step> {
    let uid = 1..12u32;
    prop_oneof![
        Just(Step::Deliver),
        (0..32u8).prop_map(Step::Append),
        (uid.clone(), any::<bool>()).prop_map(|(uid, seen)| Step::Seen(uid, seen)),
        Just(Step::AllSeen),
        uid.clone().prop_map(Step::Deleted),
        uid.clone().prop_map(Step::Expunge),
        uid.clone().prop_map(Step::Out),
        uid.prop_map(Step::In),
        Just(Step::Bump),
    ]
}

fn take(store: &mut MailStore, step: Step) {
    match step {
        Step::Deliver => _ = store.deliver(USER),
        Step::Append(bits) => {
            let all = [Flags::SEEN, Flags::DELETED, Flags::FLAGGED, Flags::ANSWERED, Flags::DRAFT];
            let chosen = all.iter().enumerate().filter(|(bit, _)| bits & (1 << bit) != 0);
            let flags = chosen.fold(Flags::NONE, |flags, (_, flag)| flags.with(*flag));
            store.append(USER, FolderId::INBOX, flags);
        }
        Step::Seen(uid, seen) => _ = store.set_seen(USER, uid, seen),
        Step::AllSeen => _ = store.all_seen(USER),
        Step::Deleted(uid) => _ = store.set_flag(USER, uid, Flags::DELETED, true),
        Step::Expunge(uid) => _ = store.expunge(USER, uid),
        Step::Out(uid) => _ = store.move_out(USER, uid),
        Step::In(uid) => _ = store.move_in(USER, uid),
        Step::Bump => store.bump_uidvalidity(USER),
    }
}

proptest! {
    #[test]
    fn counts_are_those_of_the_messages_and_modseq_only_grows(steps in prop::collection::vec(step(), 0..60)) {
        let mut store = MailStore::new(1, "");
        for step in steps {
            let before = store.status(USER).unwrap();
            let version = store.version(USER);
            take(&mut store, step);
            let after = store.status(USER).unwrap();
            let messages = store.messages(USER);
            let unseen = messages.iter().filter(|message| !message.flags.contains(Flags::SEEN)).count();
            prop_assert_eq!(after.unseen as usize, unseen);
            prop_assert_eq!(after.messages as usize, messages.len());
            prop_assert!(messages.windows(2).all(|pair| pair[0].uid < pair[1].uid));
            prop_assert!(messages.iter().all(|message| message.uid < after.uidnext));
            let is_same_life = before.uidvalidity == after.uidvalidity;
            prop_assert_eq!(!is_same_life || after.modseq > before.modseq, store.version(USER) != version);
        }
    }
}
