//! Each quirk of the simulated IMAP server, seen from the client.

use super::{Stage, check, logged_in};
use crate::peers::imap_server::{Input, Settings};
use crate::peers::mail_store::Quirk;
use std::time::Duration;

/// INBOX with one message, examined.
const EXAMINED: &str =
    "C: a EXAMINE INBOX\nS: * FLAGS …\nS: * OK [PERM…\nS: * 1 EXISTS\nS: * 1 RECENT\nS: * OK [UNSEEN …
        S: * OK [UIDV…\nS: * OK [UIDN…\nS: * OK [HIGH…\nS: a OK …\n";

#[test]
fn each_quirk_does_what_its_name_says() {
    let armed = "C: a NOTIFY SET STATUS (MAILBOXES INBOX (MessageNew MessageExpunge FlagChange))
        S: * STATUS INBOX (MESSAGES …\nS: a OK …\n";
    let table = [
        (
            Quirk::StatusFrozenWhenSelected,
            EXAMINED,
            "@ deliver\nC: b STATUS INBOX (UNSEEN)
          S: * STATUS INBOX (UNSEEN 1)\nS: * 2 EXISTS\nS: * 2 RECENT\nS: b OK [CLIENTBUG] …",
        ),
        (
            Quirk::NoFlagsInIdle,
            EXAMINED,
            "C: b IDLE\nS: + idling\n@ seen 1\n+900\n@ deliver\n+500\nS: * 2 EXISTS
          S: * 2 RECENT\nC: DONE\nS: * 1 FETCH (FLAGS (\\Seen))\nS: b OK …",
        ),
        (Quirk::ExistsBeforeContinuation, EXAMINED, "C: b IDLE\nS: * 1 EXISTS\nS: + idling"),
        (Quirk::SilentDrop, armed, "C: b NOOP\n@ deliver\n+5000000"),
        (
            Quirk::EsearchCountTotal,
            EXAMINED,
            "@ seen 1\nC: b NOOP\nS: * 1 FETCH …\nS: b OK …
          C: c UID SEARCH RETURN (COUNT) UNSEEN\nS: * ESEARCH (TAG \"c\") UID COUNT 1\nS: c OK …
          C: d UID SEARCH RETURN (COUNT) NOT SEEN\nS: * ESEARCH (TAG \"d\") UID COUNT 0\nS: d OK …",
        ),
        (
            Quirk::NotificationOverflow,
            armed,
            "@ deliver\n+500\nS: * OK [NOTIFICATIONOVERFLOW] …\n@ deliver\n+900",
        ),
        (
            Quirk::NotifyWithoutUnseen,
            armed,
            "@ deliver\n+500\nS: * STATUS INBOX (MESSAGES 2 UIDNEXT 3 HIGHESTMODSEQ 3)
          @ seen 1\n+500\nS: * STATUS INBOX (UNSEEN 1 HIGHESTMODSEQ 4)",
        ),
        (
            Quirk::StatusInUnselectedIdle,
            "",
            "C: b IDLE\nS: + idling\n@ seen 1\n+500\nS: * STATUS INBOX (MESSAGES 1 UNSEEN 0)",
        ),
        (
            Quirk::UidValidityBump,
            armed,
            "+500\nS: * STATUS INBOX (MESSAGES 1 UIDNEXT 2 UIDVALIDITY 1700000003 UNSEEN 1 HIGHESTMODSEQ 1)",
        ),
        (Quirk::OrderGoesBack, armed, "+500\nS: * STATUS INBOX (HIGHESTMODSEQ 1)"),
        (Quirk::UidValidityBump, EXAMINED, "C: b NOOP\nS: * BYE …\nE: close"),
        (
            Quirk::DuplicateStatus,
            armed,
            "@ seen 1\n+500\nS: * STATUS INBOX (UNSEEN 0 HIGHESTMODSEQ 3)
          S: * STATUS INBOX (UNSEEN 0 HIGHESTMODSEQ 3)",
        ),
        (Quirk::MassDisconnect, armed, "E: close"),
    ];
    for (quirk, before, after) in table {
        let mut stage = logged_in(Settings::default());
        stage.play(&format!("@ deliver\n{before}\n@ quirk {quirk}\n{after}"));
    }
}

#[test]
fn each_quirk_of_a_selected_mailbox_does_what_its_name_says() {
    let table = [
        (
            Quirk::FrozenView,
            EXAMINED,
            "@ deliver\nC: b SEARCH UNSEEN\nS: * SEARCH 1\nS: b OK …
          C: c STATUS INBOX (UNSEEN)\nS: * STATUS INBOX (UNSEEN 1)\nS: c OK …
          C: d NOOP\nS: * 2 EXISTS\nS: * 2 RECENT\nS: d OK …\nC: e SEARCH UNSEEN\nS: * SEARCH 1 2\nS: e OK …",
        ),
        (
            Quirk::IdleForgetsGap,
            EXAMINED,
            "@ deliver\nC: b IDLE\nS: + idling\n+900\n@ deliver\n+500\nS: * 3 EXISTS\nS: * 3 RECENT",
        ),
        (
            Quirk::IdleForgetsGap,
            "@ quirk status-in-unselected-idle",
            "@ deliver\nC: b IDLE\nS: + idling\n+900\n@ deliver\n+500\nS: * STATUS INBOX (MESSAGES 3 UNSEEN 3)",
        ),
        (
            Quirk::StatusInIdle,
            EXAMINED,
            "C: b IDLE\nS: + idling\n@ seen 1\n+500
          S: * STATUS INBOX (MESSAGES 1 UIDNEXT 2 UIDVALIDITY 1700000001 UNSEEN 0)\nS: * 1 FETCH (FLAGS (\\Seen))",
        ),
        (
            Quirk::SearchEmptySilent,
            EXAMINED,
            "C: b SEARCH UNSEEN\nS: * SEARCH 1\nS: b OK …\nC: c SEARCH SEEN\nS: c OK …
          C: d SEARCH RETURN (COUNT) SEEN\nS: d OK …",
        ),
        (
            Quirk::SearchInPieces,
            "@ deliver\n@ deliver\n@ deliver\nC: a SELECT INBOX\nS: * FLAGS …\nS: * OK [PERM…\nS: * 4 EXISTS
          S: * 4 RECENT\nS: * OK [UNSEEN …\nS: * OK [UIDV…\nS: * OK [UIDN…\nS: * OK [HIGH…\nS: a OK …\n",
            "C: b SEARCH UNSEEN\nS: * SEARCH 1 2 3\nS: * SEARCH 4\nS: b OK …\nC: c SEARCH SEEN\nS: * SEARCH\nS: c OK …",
        ),
        (Quirk::ByeAtIdle, EXAMINED, "C: b IDLE\nS: * BYE …\nE: close"),
        (Quirk::IdleNeverBegins, EXAMINED, "C: b IDLE\n+5000"),
        (Quirk::DoneUntagged, EXAMINED, "C: b IDLE\nS: + idling\nC: DONE\nS: * OK …"),
    ];
    for (quirk, before, after) in table {
        let mut stage = logged_in(Settings::default());
        stage.play(&format!("@ deliver\n{before}\n@ quirk {quirk}\n{after}"));
    }
}

#[test]
fn quirks_of_connections_that_have_just_begun() {
    let mut stage = Stage::new(Settings::default());
    stage.give(Input::Connected { is_tls: false });
    stage
        .play("@ quirk bye-after-login\nS: * OK …\nC: a LOGIN user1 secret\nS: a OK …\nS: * BYE …\nE: close");

    let mut stage = Stage::new(Settings::default());
    stage.give(Input::Connected { is_tls: false });
    stage.play(
        "@ quirk-everywhere auth-penalty\nS: * OK …\nC: a LOGIN user1 wrong\nC: b LOGIN user1 secret
        +1499\n+1\nS: a NO …\n+1500\nS: b OK …",
    );
}

#[test]
fn a_missing_inbox_has_no_first_status_and_pushes_its_first_twice() {
    check(
        "@ quirk inbox-missing-until-asked
         C: a NOTIFY SET STATUS (MAILBOXES INBOX (MessageNew MessageExpunge FlagChange))
         S: a OK NOTIFY completed.
         @ deliver
         +500
         S: * STATUS INBOX (MESSAGES 1 …
         S: * STATUS INBOX (MESSAGES 1 …
         @ deliver
         +500
         S: * STATUS INBOX (MESSAGES 2 …",
    );
}

#[test]
fn a_deaf_notify_hears_every_30_s_until_it_is_armed_again() {
    let mut stage = logged_in(Settings { rotation_changes: 2, ..Settings::default() });
    let arm = "NOTIFY SET (MAILBOXES INBOX (MessageNew MessageExpunge FlagChange))";
    stage.play(&format!(
        "@ quirk notify-deaf-after-rotation
         C: a {arm}
         S: a OK …
         @ deliver
         +500
         S: * STATUS INBOX (MESSAGES 1 …
         @ deliver
         +29999
         @ deliver
         +1
         S: * STATUS INBOX (MESSAGES 3 …
         @ deliver
         C: b NOOP
         S: * STATUS INBOX (MESSAGES 4 …
         S: b OK …
         +30000
         @ deliver
         +900
         C: c {arm}
         S: * STATUS INBOX (MESSAGES 5 …
         S: c OK …
         @ seen 1
         +29000"
    ));
}

#[test]
fn a_notify_that_is_armed_again_alone_is_off_and_on_in_turns() {
    let mut stage = logged_in(Settings::default());
    let arm = "NOTIFY SET (MAILBOXES INBOX (MessageNew MessageExpunge FlagChange))";
    stage.play(&format!(
        "@ quirk notify-rearm-toggles
         C: a {arm}
         S: a OK …
         @ deliver
         +500
         S: * STATUS INBOX (MESSAGES 1 …
         C: b {arm}
         S: b OK …
         @ deliver
         +29999
         +1
         S: * STATUS INBOX (MESSAGES 2 …
         C: c {arm}
         S: c OK …
         @ deliver
         +500
         S: * STATUS INBOX (MESSAGES 3 …
         C: d NOTIFY NONE
         S: d OK …
         C: e {arm}
         S: e OK …
         @ deliver
         +500
         S: * STATUS INBOX (MESSAGES 4 …"
    ));
}

#[test]
fn a_burst_of_keepalives_comes_where_one_was_due() {
    let mut stage = logged_in(Settings::default());
    stage.play("@ quirk keepalive-burst\nC: a IDLE\nS: + idling");
    stage.pass(Duration::from_mins(2));
    assert_eq!(stage.said.matches("* OK Still here\r\n").count(), 50);
}
