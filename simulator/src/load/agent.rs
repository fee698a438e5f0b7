//! The agent under load as a process of its own: its configuration, its commands, its start and end, its admin
//! endpoint. Uses only what any administrator could use.

use super::usage::Usage;
use anyhow::{Context as _, Result, bail, ensure};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

/// How long a command of the agent may take.
const COMMAND_TIMEOUT: Duration = Duration::from_mins(2);
/// How long the daemon may take from its start to being ready.
const READY_TIMEOUT: Duration = Duration::from_secs(30);
/// How long it may take to drain and end.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);
/// Between two questions whether it is ready.
const ASK_EVERY: Duration = Duration::from_millis(20);
/// How much of an answer of the admin endpoint is read.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// How much of what a failed command wrote is shown.
const SHOWN_CHARS_MAX: usize = 2000;

/// An agent's program with its configuration, and a folder for what passes between it and us.
pub(super) struct Agent {
    program: PathBuf,
    leading_args: Vec<OsString>,
    configuration: PathBuf,
    folder: PathBuf,
}

/// The daemon while it runs; one that we started is killed when dropped.
pub(super) struct Daemon {
    /// `None`: it ran before us and goes on after us.
    child: Option<Child>,
    pid: u32,
    admin: Admin,
    log: PathBuf,
}

/// Where an admin endpoint listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Admin {
    Unix(PathBuf),
    Tcp(String),
}

impl Admin {
    /// `http://HOST:PORT`, `HOST:PORT` or the path of a Unix socket.
    pub(super) fn parse(text: &str) -> Self {
        let authority = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
        if text.starts_with('/') { Self::Unix(text.into()) } else { Self::Tcp(authority.to_owned()) }
    }
}

impl Agent {
    /// Writes the configuration into `folder`, which must be private and short enough for socket paths.
    pub(super) fn configure(
        program: PathBuf,
        leading_args: Vec<OsString>,
        folder: &Path,
        configuration: &str,
    ) -> Result<Self> {
        let file = folder.join("mailbadge.toml");
        write_private(&file, configuration)?;
        Ok(Self::configured(program, leading_args, folder, file))
    }

    /// One that is configured already.
    pub(super) fn configured(
        program: PathBuf,
        leading_args: Vec<OsString>,
        folder: &Path,
        configuration: PathBuf,
    ) -> Self {
        Self { program, leading_args, configuration, folder: folder.to_owned() }
    }

    /// A file of this agent's folder.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Runs one of its commands and gives what it printed.
    pub(super) async fn command(&self, args: &[&str]) -> Result<String> {
        let mut command = self.base();
        command.args(args).stdin(Stdio::null()).kill_on_drop(true);
        let name = args.join(" ");
        let output = timeout(COMMAND_TIMEOUT, command.output()).await;
        let output = output.with_context(|| format!("`{name}` did not end within {COMMAND_TIMEOUT:?}"))?;
        let output = output.with_context(|| format!("cannot start {}", self.program.display()))?;
        if !output.status.success() {
            let said: String =
                String::from_utf8_lossy(&output.stderr).chars().take(SHOWN_CHARS_MAX).collect();
            bail!("`{name}` ended with {}: {}", output.status, said.trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Starts the daemon and waits until it says that it is ready.
    pub(super) async fn start(&self) -> Result<Daemon> {
        let log = self.file("agent.log");
        let file = std::fs::File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = self.base();
        command.arg("run").stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).kill_on_drop(true);
        let child = command.spawn().with_context(|| format!("cannot start {}", self.program.display()))?;
        let pid = child.id().context("the agent ended at once")?;
        let admin = Admin::Unix(self.file("admin.sock"));
        let mut daemon = Daemon { child: Some(child), pid, admin, log };
        daemon.wait_until_ready().await?;
        Ok(daemon)
    }

    fn base(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.leading_args).arg("--config").arg(&self.configuration);
        command
    }
}

impl Daemon {
    /// Memory and processor time so far.
    pub(super) fn usage(&self) -> Result<Usage> {
        Usage::of(self.pid)
            .with_context(|| format!("the agent, process {}, is gone; {}", self.pid, self.last_words()))
    }

    /// A daemon that runs already, once it says that it is ready.
    pub(super) async fn adopt(pid: u32, admin: Admin) -> Result<Self> {
        let mut daemon = Self { child: None, pid, admin, log: PathBuf::new() };
        daemon.usage()?;
        daemon.wait_until_ready().await?;
        Ok(daemon)
    }

    /// `GET` at the admin endpoint: status and body.
    pub(super) async fn get(&self, path: &str) -> Result<(u16, String)> {
        match &self.admin {
            Admin::Unix(socket) => get(UnixStream::connect(socket).await?, path).await,
            Admin::Tcp(authority) => get(TcpStream::connect(authority).await?, path).await,
        }
    }

    /// Asks one that we started to drain and end.
    pub(super) async fn stop(mut self) -> Result<()> {
        let Some(child) = &mut self.child else { return Ok(()) };
        let ended = Command::new("kill").arg("-TERM").arg(self.pid.to_string()).status().await?;
        let status = timeout(STOP_TIMEOUT, child.wait()).await;
        let status = status.with_context(|| format!("the agent did not end within {STOP_TIMEOUT:?}"))??;
        ensure!(ended.success() && status.success(), "the agent ended with {status}; {}", self.last_words());
        Ok(())
    }

    async fn wait_until_ready(&mut self) -> Result<()> {
        let ready = async {
            loop {
                if let Some(status) = self.child.as_mut().map(Child::try_wait).transpose()?.flatten() {
                    bail!("the agent ended with {status}; {}", self.last_words());
                }
                if let Ok((200, _)) = self.get("/readyz").await {
                    return Ok(());
                }
                sleep(ASK_EVERY).await;
            }
        };
        match timeout(READY_TIMEOUT, ready).await {
            Ok(outcome) => outcome,
            Err(_) => bail!("the agent was not ready within {READY_TIMEOUT:?}; {}", self.why_unready().await),
        }
    }

    async fn why_unready(&self) -> String {
        match self.get("/readyz").await {
            Ok((_, reasons)) => format!("it says: {}", reasons.trim()),
            Err(_) => self.last_words(),
        }
    }

    /// The end of its log, where it is ours.
    fn last_words(&self) -> String {
        if self.child.is_none() {
            return "its log tells why".to_owned();
        }
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(5).collect();
        let lines: Vec<&str> = lines.into_iter().rev().collect();
        let said: String = lines.join(" | ").chars().take(SHOWN_CHARS_MAX).collect();
        format!("its log ends with: {said}")
    }
}

async fn get(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    path: &str,
) -> Result<(u16, String)> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = hyper::Request::get(path).header("host", "localhost").body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    let status = response.status().as_u16();
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
    connection.abort();
    let body = body.map_err(|error| anyhow::anyhow!("the admin endpoint's answer: {error}"))?;
    Ok((status, String::from_utf8_lossy(&body.to_bytes()).into_owned()))
}

/// Writes a file that only we may read, as the agent demands of secrets.
pub(super) fn write_private(path: &Path, text: &str) -> Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_admin_endpoint_is_named_as_people_name_it() {
        let table = [
            ("http://127.0.0.1:9924/", Admin::Tcp("127.0.0.1:9924".into())),
            ("127.0.0.1:9924", Admin::Tcp("127.0.0.1:9924".into())),
            ("/run/mailbadge/admin.sock", Admin::Unix("/run/mailbadge/admin.sock".into())),
        ];
        for (text, expected) in table {
            assert_eq!(Admin::parse(text), expected);
        }
    }
}
