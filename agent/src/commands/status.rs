//! `mailbadge status`: asks the running daemon and shows one screen.

use super::{Context, Exit, Failure, Screen};
use crate::admin::{MailboxStatus, SourceStatus, Status, some_of};
use crate::config::Config;
use crate::listen::Listen;
use crate::time::UnixMs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// How long the daemon may take to answer.
const ANSWER_WAIT: Duration = Duration::from_secs(5);
/// Bytes of an answer that are read.
const ANSWER_MAX: u64 = 4 * 1024 * 1024;

/// Shows the running daemon's state: sources, mailboxes, relay, token, certificate.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the command.
pub fn run(_: &Args, context: &mut Context) -> Result<(), Failure> {
    let config = context.load_config()?;
    let Some(listen) = &config.admin.listen else {
        return Err(Failure::new(
            Exit::Config,
            "admin.listen is \"off\", so there is nobody to ask; set it and restart",
        ));
    };
    let status = ask_status(listen)?;
    if context.screen.is_json {
        return Ok(context.screen.json(&status)?);
    }
    tell(&status, context)
}

/// What the running daemon says of itself.
pub(super) fn ask_status(listen: &Listen) -> Result<Status, Failure> {
    let status = ask(listen, "/status")?.ok_or_else(|| not_ours(listen))?;
    serde_json::from_slice(&status).map_err(|_| not_ours(listen))
}

/// Refuses where a daemon of this configuration runs, with a database that is not at its place any more.
pub(super) fn refuse_beside_daemon(config: &Config) -> Result<(), Failure> {
    let running = config.admin.listen.as_ref().and_then(|listen| ask_status(listen).ok());
    let Some(running) = running else { return Ok(()) };
    let text = format!(
        "{}: there is no database, but mailbadge runs (pid {}) with another one; put that back in its place, or stop \
         mailbadge first",
        config.state_dir.display(),
        running.pid
    );
    Err(Failure::new(Exit::Unavailable, text))
}

/// What the running daemon knows of one mailbox; `None` where nobody subscribed to it.
pub(super) fn ask_mailbox(listen: &Listen, mailbox: &str) -> Result<Option<MailboxStatus>, Failure> {
    let status = ask(listen, &format!("/mailbox?name={}", in_a_query(mailbox)))?;
    status.map(|body| serde_json::from_slice(&body)).transpose().map_err(|_| not_ours(listen))
}

/// Percent-encoded (RFC 3986 §2.1).
fn in_a_query(text: &str) -> String {
    let encoded = |byte: u8| match byte {
        b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(encoded).collect()
}

fn not_ours(listen: &Listen) -> Failure {
    Failure::new(Exit::Unavailable, format!("{} is not answered by mailbadge", place(listen)))
}

fn place(listen: &Listen) -> String {
    match listen {
        Listen::Tcp(address) => address.to_string(),
        Listen::Unix(path) => path.display().to_string(),
    }
}

fn not_running(listen: &Listen, cause: &io::Error) -> Failure {
    let exit =
        if cause.kind() == io::ErrorKind::PermissionDenied { Exit::Permission } else { Exit::Unavailable };
    let remedy = "start it with `systemctl start mailbadge` or `mailbadge run`";
    Failure::new(exit, format!("mailbadge is not running: {}: {cause}; {remedy}", place(listen)))
}

/// The body of a 200; `None` for 404.
fn ask(listen: &Listen, target: &str) -> Result<Option<Vec<u8>>, Failure> {
    connect(listen, target).map_err(|cause| not_running(listen, &cause))
}

fn connect(listen: &Listen, target: &str) -> io::Result<Option<Vec<u8>>> {
    match listen {
        Listen::Tcp(address) => {
            let stream = TcpStream::connect_timeout(address, ANSWER_WAIT)?;
            stream.set_read_timeout(Some(ANSWER_WAIT))?;
            exchange(stream, target)
        }
        Listen::Unix(path) => {
            let stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(ANSWER_WAIT))?;
            exchange(stream, target)
        }
    }
}

/// HTTP/1.0: the answer ends with the connection.
fn exchange(mut stream: impl Read + Write, target: &str) -> io::Result<Option<Vec<u8>>> {
    stream.write_all(format!("GET {target} HTTP/1.0\r\nHost: localhost\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    stream.take(ANSWER_MAX).read_to_end(&mut answer)?;
    let head_end = answer.windows(4).position(|four| four == b"\r\n\r\n");
    match head_end {
        Some(end) if answer.starts_with(b"HTTP/1.0 200") || answer.starts_with(b"HTTP/1.1 200") => {
            Ok(Some(answer.split_off(end + 4)))
        }
        Some(_) if answer.starts_with(b"HTTP/1.0 404") || answer.starts_with(b"HTTP/1.1 404") => Ok(None),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "something else than mailbadge answers there")),
    }
}

fn tell(status: &Status, context: &mut Context) -> Result<(), Failure> {
    let now = context.now();
    let screen = &mut context.screen;
    let state = if status.unready.is_empty() { "ready".to_owned() } else { screen.warning("not ready") };
    screen.line(format!(
        "mailbadge {} (pid {}) is {state}, up {}",
        status.version,
        status.pid,
        span(status.started_at, now)
    ))?;
    for reason in &status.unready {
        screen.line(format!("  {reason}"))?;
    }
    for notice in &status.notices {
        screen.line(format!("  notice: {notice}"))?;
    }
    if !status.is_standby {
        tell_state(status, now, screen)?;
    }
    screen.line("")?;
    let rows: Vec<_> = status.sources.iter().map(source).collect();
    screen
        .table(&["SOURCE", "KIND", "WATCHED", "WAITING", "READINGS", "HINTS", "LOG-INS", "REFUSED"], &rows)?;
    for SourceStatus { name, trouble, limit, .. } in &status.sources {
        for text in trouble.iter().chain(limit) {
            let line = format!("{name}: {}", screen.warning(text));
            screen.line(line)?;
        }
    }
    Ok(())
}

/// What the daemon knows of its state directory, where it could open it.
fn tell_state(status: &Status, now: UnixMs, screen: &mut Screen) -> io::Result<()> {
    screen.line("")?;
    screen.fields(&[
        ("Mailboxes", mailboxes(status)),
        ("Relay", relay(status)),
        ("Last batch", last_batch(status, now)),
        ("Token", token(status, now)),
        ("Certificate", certificate(status, now)),
    ])?;
    if let Some(hint) = status.mailboxes.hint.as_ref().filter(|hint| !status.unready.contains(hint)) {
        let line = format!("  {}", screen.warning(hint));
        screen.line(line)?;
    }
    for warning in status.certificate.iter().flat_map(|it| &it.warnings) {
        let line = format!("  {}", screen.warning(warning));
        screen.line(line)?;
    }
    Ok(())
}

fn mailboxes(status: &Status) -> String {
    let it = &status.mailboxes;
    let mut parts = vec![format!("{} with {} devices", it.subscribed, it.devices)];
    parts.push(match it.behind {
        0 if it.unknown + it.unconfirmed + it.awaited > 0 => "none of those known behind".to_owned(),
        0 => "none behind".to_owned(),
        n => format!("{n} behind, the oldest for {:.1} s", it.oldest_unacknowledged_seconds),
    });
    if it.unknown > 0 {
        parts.push(format!("{} unknown ({})", it.unknown, some_of(&it.first_unknown, it.unknown)));
    }
    if it.unconfirmed > 0 {
        let named = some_of(&it.first_unconfirmed, it.unconfirmed);
        parts.push(format!("{} unconfirmed ({named})", it.unconfirmed));
    }
    if it.awaited > 0 {
        parts.push(format!("{} not read yet", it.awaited));
    }
    parts.join(", ")
}

fn relay(status: &Status) -> String {
    let it = &status.relay;
    if !it.is_enabled {
        return "disabled; `mailbadge proxy enable` starts forwarding".to_owned();
    }
    let organization = it.organization.as_deref().unwrap_or("?");
    let clock =
        it.clock_offset_seconds.map(|offset| format!(", its clock {offset:+.1} s")).unwrap_or_default();
    let trouble = it.trouble.as_ref().map(|trouble| format!("; {trouble}")).unwrap_or_default();
    format!("{} as {organization}, {} in flight{clock}{trouble}", it.uri, it.in_flight)
}

fn last_batch(status: &Status, now: UnixMs) -> String {
    status.relay.last_batch.as_ref().map_or_else(
        || "none yet".to_owned(),
        |it| {
            format!(
                "{} ago, {} mailboxes, {} ms: {}",
                span(it.at, now),
                it.notifications,
                it.took_ms,
                it.answer
            )
        },
    )
}

fn token(status: &Status, now: UnixMs) -> String {
    let it = &status.token;
    it.expires_at.map_or_else(|| it.state.clone(), |end| format!("{}, for {} more", it.state, span(now, end)))
}

fn certificate(status: &Status, now: UnixMs) -> String {
    let none = || "none; `mailbadge setup` makes one".to_owned();
    status.certificate.as_ref().map_or_else(none, |it| {
        if it.expires_at <= now {
            return format!("{}, expired {} ago", it.thumbprint, span(it.expires_at, now));
        }
        let next = it.next.as_ref();
        let next = next.map(|next| format!("; from {} on {}", next.effective_at, next.thumbprint));
        format!("{}, for {} more{}", it.thumbprint, span(now, it.expires_at), next.unwrap_or_default())
    })
}

fn source(source: &SourceStatus) -> Vec<String> {
    let numbers = [
        source.watched,
        source.waiting,
        source.readings,
        source.hints,
        source.logins_ok,
        source.logins_refused,
    ];
    let names = [source.name.clone(), source.kind.clone()];
    names.into_iter().chain(numbers.map(|number| number.to_string())).collect()
}

/// Two units are enough for people.
fn span(from: UnixMs, to: UnixMs) -> String {
    let seconds = to.0.saturating_sub(from.0) / 1000;
    let text = humantime::format_duration(Duration::from_secs(seconds)).to_string();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::{MailboxesStatus, UnknownMailbox};

    #[test]
    fn a_mailbox_whose_count_nobody_knows_is_not_none_behind() {
        let words = Some("NO [AUTHORIZATIONFAILED] no such user".to_owned());
        let first_unknown = vec![UnknownMailbox { name: "u3".to_owned(), words }];
        let known = MailboxesStatus { subscribed: 12, devices: 15, ..MailboxesStatus::default() };
        let unknown = MailboxesStatus { unknown: 2, first_unknown, ..known.clone() };
        let unconfirmed = vec!["u5".to_owned()];
        let unconfirmed = MailboxesStatus { unconfirmed: 1, first_unconfirmed: unconfirmed, ..known.clone() };
        let words = "u3: NO [AUTHORIZATIONFAILED] no such user";
        let cases = [
            (known.clone(), "12 with 15 devices, none behind".to_owned()),
            (
                unknown,
                format!("12 with 15 devices, none of those known behind, 2 unknown ({words} and 1 more)"),
            ),
            (unconfirmed, "12 with 15 devices, none of those known behind, 1 unconfirmed (u5)".to_owned()),
            (
                MailboxesStatus { awaited: 4, behind: 1, ..known },
                "12 with 15 devices, 1 behind, the oldest for 0.0 s, 4 not read yet".to_owned(),
            ),
        ];
        for (it, expected) in cases {
            assert_eq!(mailboxes(&Status { mailboxes: it, ..Status::default() }), expected);
        }
    }

    #[test]
    fn a_name_is_encoded_for_a_query() {
        assert_eq!(in_a_query("Kim+1@x.y&name=ä"), "Kim%2B1%40x.y%26name%3D%C3%A4");
    }

    #[test]
    fn spans_are_short() {
        for (ms, text) in [(0, "0s"), (61_000, "1m 1s"), (3 * 86_400_000 + 3_600_000 + 5000, "3days 1h")] {
            assert_eq!(span(UnixMs(1), UnixMs(1 + ms)), text);
        }
        assert_eq!(span(UnixMs(9), UnixMs(1)), "0s");
    }
}
