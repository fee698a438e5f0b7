//! Where access tokens come from: a file that somebody keeps fresh, or a program that prints one. Whose they are and how
//! they are shown is not decided here.

use crate::files::driver::{Trust, read as read_file};
use crate::https::json::without_mark;
use crate::source::imap::{Login, Settings, TOKEN_MAX, TokenFrom};
use crate::time::Moment;
use crate::time::driver::Clock;
use parking_lot::Mutex;
use secrecy::SecretString;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use zeroize::Zeroizing;

/// The program must have printed its token and ended after this long.
const COMMAND_WAIT: Duration = Duration::from_secs(10);
/// A printed token is used for so long, then the program is asked again; also as soon as a server refuses it.
const KEEP: Duration = Duration::from_mins(5);

/// The tokens of one source.
pub(super) struct Tokens {
    from: TokenFrom,
    clock: Clock,
    /// Held by whoever runs the program.
    turn: tokio::sync::Mutex<()>,
    /// The last printed token, and until when it is used.
    printed: Mutex<Option<(SecretString, Moment)>>,
}

impl Tokens {
    /// `None` where the source logs in without.
    pub(super) fn new(settings: &Settings, clock: Clock) -> Option<Self> {
        let Login::Token(login) = &settings.login else { return None };
        Some(Self::from(login.from.clone(), clock))
    }

    fn from(from: TokenFrom, clock: Clock) -> Self {
        Self { from, clock, turn: tokio::sync::Mutex::default(), printed: Mutex::default() }
    }

    /// A token to log in with now. One program runs at a time, however many connections wait for it.
    ///
    /// # Errors
    /// What went wrong, fit for people; never what was printed.
    pub(super) async fn token(&self) -> Result<SecretString, String> {
        match &self.from {
            TokenFrom::File(path) => read(path),
            TokenFrom::Command(words) => {
                let _turn = self.turn.lock().await;
                if let Some(token) = self.fresh() {
                    return Ok(token);
                }
                let token = print(words).await?;
                *self.printed.lock() = Some((token.clone(), self.clock.now().moment.after(KEEP)));
                Ok(token)
            }
        }
    }

    fn fresh(&self) -> Option<SecretString> {
        let printed = self.printed.lock();
        printed.as_ref().filter(|(_, until)| self.clock.now().moment < *until).map(|(token, _)| token.clone())
    }

    /// A server refused the last one: the next is a new one.
    pub(super) fn refused(&self) {
        *self.printed.lock() = None;
    }
}

fn read(path: &Path) -> Result<SecretString, String> {
    let bytes =
        read_file(path, TOKEN_MAX as u64, Trust::Secret).map_err(|error| format!("token-file {error}"))?;
    first_line(&bytes)
        .ok_or_else(|| format!("token-file {}: expected a line with an access token", path.display()))
}

async fn print(words: &[String]) -> Result<SecretString, String> {
    let (program, arguments) = words.split_first().ok_or("token-command is empty")?;
    let failed = |what: String| format!("token-command {program}: {what}");
    let run = async {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.kill_on_drop(true).spawn().map_err(|cause| failed(cause.to_string()))?;
        let mut bytes = Zeroizing::new(Vec::with_capacity(TOKEN_MAX + 1));
        if let Some(output) = child.stdout.take() {
            let read = output.take(TOKEN_MAX as u64 + 1).read_to_end(&mut bytes).await;
            read.map_err(|cause| failed(cause.to_string()))?;
        }
        let status = child.wait().await.map_err(|cause| failed(cause.to_string()))?;
        if !status.success() {
            return Err(failed(format!("{status}; run it by hand as this user to see why")));
        }
        first_line(&bytes).ok_or_else(|| failed("expected a line with an access token".to_owned()))
    };
    let in_time = tokio::time::timeout(COMMAND_WAIT, run).await;
    in_time.unwrap_or_else(|_| Err(failed(format!("printed no token within {} s", COMMAND_WAIT.as_secs()))))
}

/// A token is visible ASCII (RFC 6750 §2.1).
fn first_line(bytes: &[u8]) -> Option<SecretString> {
    let line = without_mark(bytes).split(|byte| matches!(byte, b'\r' | b'\n')).next()?.trim_ascii();
    let is_token = !line.is_empty() && line.len() < TOKEN_MAX && line.iter().all(u8::is_ascii_graphic);
    std::str::from_utf8(line).ok().filter(|_| is_token).map(SecretString::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::driver::replace;
    use secrecy::ExposeSecret;

    fn tokens(from: TokenFrom) -> Tokens {
        Tokens::from(from, Clock::start())
    }

    fn shell(script: &str) -> Tokens {
        tokens(TokenFrom::Command(["sh", "-c", script].map(str::to_owned).to_vec()))
    }

    #[tokio::test]
    async fn a_file_is_read_anew_each_time_and_its_faults_are_told_without_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let tokens = tokens(TokenFrom::File(path.clone()));
        assert!(tokens.token().await.unwrap_err().contains("token: No such file"));
        for (token, end) in
            [("first", "\nmore\n"), ("second", " \r\nmore"), ("third", "\r"), ("\u{feff}fourth", "")]
        {
            replace(&path, format!("{token}{end}").as_bytes(), 0o600).unwrap();
            let token = token.trim_start_matches('\u{feff}');
            assert_eq!(tokens.token().await.unwrap().expose_secret(), token);
        }
        for bad in ["", "\nlate", "two words", &"x".repeat(TOKEN_MAX)] {
            replace(&path, bad.as_bytes(), 0o600).unwrap();
            let error = tokens.token().await.unwrap_err();
            assert!(error.ends_with("token: expected a line with an access token"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_program_is_asked_once_until_its_token_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let count = folder.path().join("count");
        let tokens = shell(&format!("echo x >> {0}; wc -l < {0}", count.display()));
        for (expected, is_refused) in [("1", false), ("1", true), ("2", false)] {
            assert_eq!(tokens.token().await.unwrap().expose_secret(), expected);
            if is_refused {
                tokens.refused();
            }
        }
    }

    #[tokio::test]
    async fn a_program_that_fails_or_prints_without_end_is_told_of() {
        let cases = [
            ("echo secret >&2; exit 3", "token-command sh: exit status: 3; run it by hand"),
            ("echo", "token-command sh: expected a line"),
            ("yes secret | tr -d '\\n'", "token-command sh: "),
        ];
        for (script, expected) in cases {
            let error = shell(script).token().await.unwrap_err();
            assert!(error.starts_with(expected) && !error.contains("secret"), "{error}");
        }
        let missing = tokens(TokenFrom::Command(vec!["/nonexistent/program".to_owned()]));
        assert!(
            missing
                .token()
                .await
                .unwrap_err()
                .starts_with("token-command /nonexistent/program: No such file")
        );
    }
}
