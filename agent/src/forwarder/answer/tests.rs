//! Rows of protocol.md §1.6 as data, reports, and what the relay may try on us.

use super::*;
use crate::event::{MailboxId, Recipient, SubscriptionKey};
use crate::time::Moment;
use proptest::prelude::*;

const STARTED: UnixMs = UnixMs(1_767_268_500_000);
/// 2026-01-01T12:00:00Z.
const NOW: UnixMs = UnixMs(1_767_268_800_000);

fn notification(number: u64, devices: &[&str]) -> Notification {
    let recipient = |(place, device): (usize, &&str)| Recipient {
        key: SubscriptionKey(i64::try_from(number).unwrap() * 100 + i64::try_from(place).unwrap()),
        app_id: "com.microsoft.exchange.mowa".to_owned().into(),
        device_id: (*device).into(),
        installation_id: None,
        last_update: STARTED,
        expires_at: UnixMs(u64::MAX),
        background_sync: false,
    };
    Notification {
        mailbox: MailboxId(u32::try_from(number).unwrap()),
        number,
        unseen: 3,
        background_sync: false,
        recipients: devices.iter().enumerate().map(recipient).collect(),
        changed_at: Moment::START,
        taken_at: NOW,
    }
}

fn sent() -> Vec<Notification> {
    vec![notification(41, &["reg-1"]), notification(42, &["reg-1", "reg-2"])]
}

fn answer(status: u16, retry_after: &str, content: &str) -> Answer {
    Answer {
        status,
        retry_after: (!retry_after.is_empty()).then(|| retry_after.to_owned()),
        content: Bytes::copy_from_slice(content.as_bytes()),
        ..Answer::default()
    }
}

fn of(outcome: &Result<Answer, Failure>) -> Disposition {
    disposition(outcome, &Stamp::new(STARTED), &sent(), NOW)
}

/// The variant, with the wait's seconds.
fn kind(disposition: &Disposition) -> String {
    match disposition {
        Disposition::Acknowledged { .. } => String::from("acknowledged"),
        Disposition::Unauthorized { .. } => String::from("unauthorized"),
        Disposition::Wait { exactly, .. } => format!("wait {}", exactly.as_secs_f32()),
        Disposition::Retry { .. } => String::from("retry"),
        Disposition::TooLarge { .. } => String::from("too large"),
        Disposition::Invalid { .. } => String::from("invalid"),
        Disposition::Halt { .. } => String::from("halt"),
    }
}

const OVER_BUDGET: &str =
    r#"{"BackOffTimeInMilliseconds":60000,"CanRetry":false,"Message":"tenant over budget"}"#;
const TWO_HOURS: &str = r#"{"BackOffTimeInMilliseconds":7200000}"#;
const CAN_RETRY: &str = r#"{"CanRetry":true,"Message":"queue full"}"#;
const INNER: &str = r#"{"Message":"outer","InnerFault":{"CanRetry":true,"BackOffTimeInMilliseconds":1500}}"#;
const WRONG_TYPES: &str = r#"{"BackOffTimeInMilliseconds":[60000],"CanRetry":1,"Message":7,"InnerFault":[]}"#;
/// As a gateway may write them; what cannot be read in the outer fault is looked for in the inner one.
const ODD: &str = "\u{feff}{\"backOffTimeInMilliseconds\":null,\"message\":7,\"x\":[],\"innerFault\":{\"BackOffTimeInMilliseconds\":\"1500\"}}";
const CAN_RETRY_TEXT: &str = r#"{"CANRETRY":"True","more":{}}"#;

/// Every row of protocol.md §1.6, in its order; V6 of §7 is the two hours.
#[test]
fn every_answer_has_its_row() {
    let rows = [
        (200, "", "", "acknowledged"),
        (200, "", "<html>welcome to our network</html>", "acknowledged"),
        (200, "5", OVER_BUDGET, "acknowledged"),
        (401, "", "", "unauthorized"),
        (401, "5", OVER_BUDGET, "unauthorized"),
        (403, "", OVER_BUDGET, "wait 60"),
        (403, "", TWO_HOURS, "wait 3600"),
        (500, "", OVER_BUDGET, "wait 60"),
        (500, "", INNER, "wait 1.5"),
        (403, "", ODD, "wait 1.5"),
        (403, "", CAN_RETRY_TEXT, "retry"),
        (503, "7", OVER_BUDGET, "wait 60"),
        (429, "5", "", "wait 5"),
        (503, "5", "", "wait 5"),
        (503, " 5 ", "<html>", "wait 5"),
        (429, "86400", "", "wait 3600"),
        (429, "18446744073709551615", "", "wait 3600"),
        (429, "Thu, 01 Jan 2026 12:01:30 GMT", "", "wait 90"),
        (503, "Fri, 02 Jan 2026 12:00:00 GMT", "", "wait 3600"),
        (429, "Thu, 01 Jan 2026 11:00:00 GMT", "", "retry"),
        (429, "0", "", "retry"),
        (429, "soon", "", "retry"),
        (429, "-5", "", "retry"),
        (429, "4.5", "", "wait 5"),
        (503, "0.2", "", "wait 1"),
        (503, "99999999999999999999999999", "", "wait 3600"),
        (503, "", r#"{"BackOffTimeInMilliseconds":1499.5}"#, "wait 1.5"),
        (503, "", r#"{"BackOffTimeInMilliseconds":-1500}"#, "retry"),
        (403, "", CAN_RETRY, "retry"),
        (404, "", CAN_RETRY, "retry"),
        (403, "", r#"{"BackOffTimeInMilliseconds":0,"CanRetry":true}"#, "retry"),
        (408, "", "", "retry"),
        (429, "", "", "retry"),
        (500, "", "", "retry"),
        (500, "", WRONG_TYPES, "retry"),
        (500, "", r#"{"CanRetry":false}"#, "retry"),
        (502, "60", "", "retry"),
        (503, "", "", "retry"),
        (504, "", "", "retry"),
        (413, "", "", "too large"),
        (413, "5", "<html>", "too large"),
        (400, "", "no JSON", "invalid"),
        (400, "", OVER_BUDGET, "wait 60"),
        (403, "", "", "halt"),
        (403, "", WRONG_TYPES, "halt"),
        (403, "", r#"{"CanRetry":false}"#, "halt"),
        (404, "", "", "halt"),
        (301, "", "", "halt"),
        (302, "5", "", "halt"),
        (307, "", "", "halt"),
        (100, "", "", "halt"),
        (204, "", "", "halt"),
        (418, "", "[[[[", "halt"),
        (501, "", "", "halt"),
        (999, "", "", "halt"),
    ];
    for (status, retry_after, content, expected) in rows {
        let disposition = of(&Ok(answer(status, retry_after, content)));
        assert_eq!(kind(&disposition), expected, "{status} {retry_after:?} {content}");
    }
}

#[test]
fn every_failure_is_tried_again() {
    let text = || String::from("why");
    let failures = [
        Failure::Dns(text()),
        Failure::Connect(text()),
        Failure::Tls(text()),
        Failure::Timeout(text()),
        Failure::Write(text()),
        Failure::Read(text()),
        Failure::Flooded(text()),
        Failure::Closed(text()),
    ];
    for failure in failures {
        let expected = Disposition::Retry { cause: failure.to_string() };
        assert_eq!(of(&Err(failure)), expected);
    }
}

#[test]
fn a_date_to_wait_for_is_read_on_the_relays_clock() {
    let ten_minutes_ahead = Answer {
        date: Some(NOW.after(Duration::from_mins(10))),
        ..answer(503, "Thu, 01 Jan 2026 12:10:20 GMT", "")
    };
    assert_eq!(ten_minutes_ahead.asked_wait(NOW), Some(Duration::from_secs(20)));
    assert_eq!(ten_minutes_ahead.clock_offset_ms(NOW), Some(600_000));
    assert_eq!(answer(503, "", "").clock_offset_ms(NOW), None);
}

#[test]
fn a_report_names_recipients_of_this_batch() {
    let report = r#"{"accepted":1,"rejected":[
        {"id":"20260101-115500-42","appId":"com.microsoft.exchange.mowa","deviceId":"reg-2","reason":"gone"},
        {"id":"20260101-115500-41","appId":"com.microsoft.exchange.mowa","deviceId":"reg-1","reason":"throttled","more":1},
        {"id":"20260101-115500-42","appId":"com.microsoft.exchange.mowa","deviceId":"reg-1","reason":"invalid"}]}"#;
    let odd =
        report.replace("rejected", "REJECTED").replace("\"gone\"", "\" Gone\"").replace("appId", "appid");
    for report in [report, &format!("\u{feff}{odd}")] {
        let Disposition::Acknowledged { rejected } = of(&Ok(answer(200, "", report))) else {
            panic!("not acknowledged")
        };
        let rejected: Vec<_> = rejected
            .iter()
            .map(|rejected| (rejected.mailbox.0, rejected.subscription.0, rejected.reason))
            .collect();
        assert_eq!(
            rejected,
            [(42, 4201, Rejection::Gone), (41, 4100, Rejection::Throttled), (42, 4200, Rejection::Invalid)]
        );
    }
}

#[test]
fn a_subscription_from_the_relays_future_is_sent_again_unless_the_relay_says_that_it_is_gone() {
    // How far our clock is ahead of the relay's, minutes; subscriptions are told to be five minutes old at least.
    let cases = [
        (0, "invalid", Rejection::Invalid),
        (4, "invalid", Rejection::Invalid),
        (6, "invalid", Rejection::Throttled),
        (6, "throttled", Rejection::Throttled),
        (4, "gone", Rejection::Gone),
        (6, "gone", Rejection::Gone),
    ];
    for (minutes, told, reason) in cases {
        let report = format!(
            r#"{{"accepted":2,"rejected":[{{"id":"20260101-115500-41","appId":"com.microsoft.exchange.mowa","deviceId":"reg-1","reason":"{told}"}}]}}"#
        );
        let date = Some(UnixMs(NOW.0 - minutes * 60_000));
        let mut sent = sent();
        let young = Recipient { last_update: NOW, ..sent[0].recipients[0].clone() };
        sent[0].recipients = vec![young];
        sent.truncate(1);
        let answered = Ok(Answer { date, ..answer(200, "", &report) });
        let expected = vec![Rejected { mailbox: MailboxId(41), subscription: SubscriptionKey(4100), reason }];
        let rejected = disposition(&answered, &Stamp::new(STARTED), &sent, NOW);
        assert_eq!(rejected, Disposition::Acknowledged { rejected: expected }, "{minutes} {told}");
    }
}

#[test]
fn what_a_report_names_without_sense_is_passed_over() {
    let entry = |id: &str, app: &str, device: &str, reason: &str| {
        format!(r#"{{"id":"{id}","appId":"{app}","deviceId":"{device}","reason":"{reason}"}}"#)
    };
    let app = "com.microsoft.exchange.mowa";
    let entries = [
        entry("20260101-115500-43", app, "reg-1", "gone"),
        entry("20251231-000000-42", app, "reg-1", "gone"),
        entry("20260101-115500-42", app, "reg-9", "gone"),
        entry("20260101-115500-42", "another", "reg-1", "gone"),
        entry("20260101-115500-42", app, "reg-1", "weather"),
        String::from("7"),
        String::from(r#"{"id":42}"#),
        entry("20260101-115500-42", app, "reg-1", "gone"),
    ];
    let report = format!(r#"{{"rejected":[{}]}}"#, entries.join(","));
    let Disposition::Acknowledged { rejected } = of(&Ok(answer(200, "", &report))) else {
        panic!("not acknowledged")
    };
    assert_eq!(rejected.len(), 1);
    for content in [r#"{"rejected":{}}"#, r#"{"accepted":2}"#, "[]", "null", "{"] {
        let expected = Disposition::Acknowledged { rejected: Vec::new() };
        assert_eq!(of(&Ok(answer(200, "", content))), expected, "{content}");
    }
}

#[test]
fn a_report_too_long_to_be_read_is_asked_for_in_halves() {
    let long = Answer { is_report: true, is_cut: true, ..answer(200, "", r#"{"rejected":[{"#) };
    assert_eq!(kind(&of(&Ok(long.clone()))), "too large");
    let alone = &sent()[..1];
    let alone = disposition(&Ok(long.clone()), &Stamp::new(STARTED), alone, NOW);
    assert_eq!(kind(&alone), "acknowledged");
    let endless = Answer { is_report: false, ..long };
    assert_eq!(kind(&of(&Ok(endless))), "acknowledged");
}

#[test]
fn the_challenge_of_a_401_is_handed_on() {
    let lines = vec![String::from("Basic realm=x"), String::from("Bearer client_id=y")];
    let refused = Answer {
        www_authenticate: lines.clone(),
        diagnostics: Some(String::from("2000002;reason=\"old\";error_category=\"token_expired\"")),
        ..answer(401, "", "")
    };
    let Disposition::Unauthorized { www_authenticate, cause } = of(&Ok(refused)) else {
        panic!("not unauthorized")
    };
    assert_eq!(www_authenticate, lines);
    assert_eq!(cause, "relay answered 401: 2000002;reason=\"old\";error_category=\"token_expired\"");
}

#[test]
fn a_cause_is_one_short_line_without_tokens() {
    let message = format!("no\\r\\nway \\u001b[31m Bearer eyJ0eXAi.eyJpc3Mi.c2ln {}", "x".repeat(5_000));
    let Disposition::Halt { cause } = of(&Ok(answer(403, "", &format!(r#"{{"Message":"{message}"}}"#))))
    else {
        panic!("not halted")
    };
    assert!(cause.starts_with("relay answered 403: no way [31m Bearer … xxx"), "{cause}");
    assert!(
        cause.chars().count() < 250 && !cause.contains("eyJ") && !cause.contains(char::is_control),
        "{cause}"
    );
}

#[test]
fn a_fault_is_not_looked_into_endlessly() {
    let deep =
        |levels: usize| format!("{}{}{}", r#"{"InnerFault":"#.repeat(levels), CAN_RETRY, "}".repeat(levels));
    assert_eq!(kind(&of(&Ok(answer(403, "", &deep(3))))), "retry");
    assert_eq!(kind(&of(&Ok(answer(403, "", &deep(4))))), "halt");
    assert_eq!(kind(&of(&Ok(answer(403, "", &deep(3_000))))), "halt");
}

proptest! {
    #[test]
    fn no_answer_makes_it_panic(
        status: u16,
        retry_after in ".{0,40}",
        content in proptest::collection::vec(any::<u8>(), 0..200),
        diagnostics in ".*",
        date: u64,
    ) {
        let answer = Answer {
            status,
            retry_after: Some(retry_after),
            diagnostics: Some(diagnostics),
            content: content.into(),
            date: Some(UnixMs(date)),
            ..Answer::default()
        };
        let _ = answer.clock_offset_ms(NOW);
        if let Disposition::Wait { exactly, .. } = of(&Ok(answer)) {
            prop_assert!(exactly <= WAIT_MAX && !exactly.is_zero());
        }
    }
}
