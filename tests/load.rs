//! The load test as people run it: simulator and agent as programs, a few seconds, every badge true in the end.

use std::process::Command;
use support::process::program;

/// Runs `load` with these options and gives what its JSON report says.
fn load(options: &str) -> serde_json::Value {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let report = folder.path().join("report.json");
    let demo = program();
    let mut command = Command::new(&demo);
    command.args(["simulator", "load", "--agent-arg", "agent", "--agent"]).arg(&demo);
    command.arg("--json").arg(&report).args(options.split_whitespace());
    let output = command.output().expect("the simulator starts");
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{options}: {said}");
    assert!(said.contains("Wrong badges      0"), "{said}");
    serde_json::from_str(&std::fs::read_to_string(report).expect("a report")).expect("JSON")
}

fn number(report: &serde_json::Value, pointer: &str) -> f64 {
    let found = report.pointer(pointer).and_then(serde_json::Value::as_f64);
    found.unwrap_or_else(|| panic!("no number at {pointer}: {report:#}"))
}

/// Every change was told to somebody, and the figures hold together.
fn check(options: &str) -> serde_json::Value {
    let small = format!("--mailboxes 12 --rate 40 --duration 2s --quiet 100ms --max-hold 50ms {options}");
    let report = load(&small);
    let changes = number(&report, "/changes");
    let measured = number(&report, "/latency_ms/count");
    assert!(changes >= 40.0, "{report:#}");
    assert!(measured <= changes && measured >= 1.0, "{report:#}");
    assert!(number(&report, "/acknowledgements") >= 1.0, "{report:#}");
    assert!(number(&report, "/agent/rss_end_bytes") > 1e6, "{report:#}");
    report
}

#[test]
fn imap_under_load_ends_with_true_badges() {
    let report = check("--source imap --window 20ms --devices-per-mailbox 2");
    assert!(number(&report, "/logins/count") >= 12.0, "{report:#}");
    check("--source imap --window 20ms --watch idle --tls implicit --shape ramp");
}

#[test]
fn dovecot_under_load_ends_with_true_badges_and_answers_every_commit() {
    let report = check("--source dovecot --shape burst --out-of-order");
    assert!(number(&report, "/mail_server_wait_ms/count") >= 40.0, "{report:#}");
    check("--source dovecot --dialect dict-v2");
    check("--source dovecot --dialect dict-v4 --dict-connections 200");
}

#[test]
fn cyrus_under_load_ends_with_true_badges_and_its_datagrams_find_room() {
    let report = check("--source cyrus --shape burst");
    assert!(
        number(&report, "/mail_server_wait_ms/count") >= 80.0,
        "two datagrams a change at least: {report:#}"
    );
}

#[test]
fn odd_mail_servers_change_nothing_in_the_end() {
    for quirk in ["mass-disconnect", "uidvalidity-bump", "notification-overflow", "notify-without-unseen"] {
        check(&format!("--source imap --window 20ms --login-rate 100 --settle 60s --quirk {quirk}"));
    }
}

#[test]
fn an_agent_that_does_not_exist_is_an_error_that_says_so() {
    let output = Command::new(program())
        .args(["simulator", "load", "--agent", "/nonexistent/mailbadge", "--mailboxes", "1"])
        .output()
        .expect("the simulator starts");
    assert_eq!(output.status.code(), Some(69));
    assert!(String::from_utf8_lossy(&output.stderr).contains("/nonexistent/mailbadge"));
}
