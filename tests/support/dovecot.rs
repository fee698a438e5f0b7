//! A private real Dovecot on free loopback ports, in a short temporary folder, gone when dropped.
//!
//! Works for root (mail belongs to `nobody`) and for anybody else (all belongs to them). Version 2.4 runs in its tree.

mod configuration;

use crate::generation::Generation;
use crate::process::{Running, free_address, greets, show_tail, try_until};
use configuration::{Configuration, Owner};
use std::fmt::Write as _;
use std::fs;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::unix::fs::chown;
use std::path::Path;
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

/// Password of every user.
pub const USER_PASSWORD: &str = "secret";

/// Who may log in as anybody: `u1*agent`.
pub const MASTER_USER: &str = "agent";

/// The master user's password.
pub const MASTER_PASSWORD: &str = "master-secret";

/// Longest wait for the server to answer on both ports, and to end.
const PATIENCE: Duration = Duration::from_secs(15);

/// How often other ports are tried when somebody else was quicker.
const PORT_ATTEMPTS: usize = 4;

/// What kind of server it shall be.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whose version it is.
    pub generation: Generation,
    /// Users are `u1` to this number.
    pub users: u32,
    /// Where `notify_status` writes to, as Dovecot 2.3 spells it (`proxy:<path>:unseen`); `None`: no plugin.
    pub dict: Option<String>,
    /// The prefix of the namespace that holds INBOX (`INBOX.`), or nothing.
    pub prefix: &'static str,
    /// How mail is stored.
    pub format: Format,
    /// doveadm's HTTP API, where it is to be served.
    pub doveadm: Option<DoveadmApi>,
    /// More configuration, put last.
    pub extra: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            generation: Generation::default(),
            users: 8,
            dict: None,
            prefix: "",
            format: Format::Maildir,
            doveadm: None,
            extra: String::new(),
        }
    }
}

/// How Dovecot stores a user's mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `~/Maildir`.
    Maildir,
    /// `~/sdbox`: Dovecot's own, one file a message.
    Sdbox,
}

/// How doveadm's HTTP API is served.
#[derive(Clone, Copy, Debug)]
pub struct DoveadmApi {
    /// `doveadm_api_key`.
    pub key: &'static str,
    /// Whether the server can list its users.
    pub lists_users: bool,
}

/// A running server.
#[derive(Debug)]
pub struct Dovecot {
    imap: SocketAddr,
    lmtp: SocketAddr,
    http: SocketAddr,
    options: Options,
    running: Option<Running>,
    folder: TempDir,
}

impl Dovecot {
    /// Starts one and waits until it answers. Panics, with its log, where it does not.
    pub fn start(options: Options) -> Self {
        let folder = options.generation.folder();
        let [imap, lmtp, http] = [(); 3].map(|()| free_address());
        let mut server = Self { imap, lmtp, http, options, running: None, folder };
        for attempt in 1.. {
            match server.start_again() {
                Ok(()) => break,
                Err(error) if attempt < PORT_ATTEMPTS && error.kind() == ErrorKind::AddrInUse => {
                    [server.imap, server.lmtp, server.http] = [(); 3].map(|()| free_address());
                }
                Err(error) => panic!("dovecot does not start: {error}\n{}", server.log()),
            }
        }
        server
    }

    /// Starts it once more after [`Dovecot::stop`] or [`Dovecot::kill`], on the same ports with the same mail.
    pub fn start_again(&mut self) -> io::Result<()> {
        self.configure()?;
        let mut command = self.options.generation.command("dovecot")?;
        command.arg("-F").arg("-c").arg(self.folder.path().join("dovecot.conf"));
        let mut running = Running::start("dovecot", command, &self.folder.path().join("output"))?;
        let is_up = try_until(PATIENCE, || match running.ended() {
            Some(_) => Some(false),
            None => (greets(self.imap) && greets(self.lmtp)).then_some(true),
        });
        self.running = Some(running);
        match is_up {
            Some(true) => Ok(()),
            _ if self.log().contains("Address already in use") => Err(ErrorKind::AddrInUse.into()),
            _ => Err(io::Error::other("it ended or does not answer")),
        }
    }

    /// Ends it in good order.
    pub fn stop(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.stop(PATIENCE).expect("dovecot's pid is ours");
        }
    }

    /// Kills the master process; its children end by themselves or go on for a while (sources.md §4.4).
    pub fn kill(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.kill().expect("dovecot's pid is ours");
        }
    }

    /// Where IMAP is spoken, without TLS.
    pub fn imap(&self) -> SocketAddr {
        self.imap
    }

    /// Where LMTP is spoken.
    pub fn lmtp(&self) -> SocketAddr {
        self.lmtp
    }

    /// Where doveadm's HTTP API is served, if at all.
    pub fn doveadm_http(&self) -> SocketAddr {
        self.http
    }

    /// Its folder, with `dovecot.conf`, and `mail/<user>` of each user.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where a user's Maildir is, as a source of the kind `maildir` spells it.
    pub fn maildirs(&self) -> String {
        format!("{}/mail/{{user}}/Maildir", self.folder.path().display())
    }

    /// Everything it logged.
    pub fn log(&self) -> String {
        let read = |name: &str| fs::read(self.folder.path().join(name)).unwrap_or_default();
        String::from_utf8_lossy(&[read("output"), read("log")].concat()).into_owned()
    }

    /// Lines of the log that tell of an error, a panic or a crash.
    pub fn complaints(&self) -> Vec<String> {
        let is_complaint = |line: &&str| {
            ["Error:", "Panic:", "Fatal:", "killed with signal"].iter().any(|word| line.contains(word))
        };
        self.log().lines().filter(is_complaint).map(str::to_owned).collect()
    }

    /// Runs `doveadm` on this server; gives what it printed.
    pub fn doveadm(&self, arguments: &[&str]) -> io::Result<String> {
        let mut command = self.options.generation.command("doveadm")?;
        let output =
            command.arg("-c").arg(self.folder.path().join("dovecot.conf")).args(arguments).output()?;
        if !output.status.success() {
            return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn configure(&self) -> io::Result<()> {
        let folder = self.folder.path();
        let mut users = String::new();
        for number in 1..=self.options.users {
            let _ = writeln!(users, "u{number}:{{PLAIN}}{USER_PASSWORD}");
        }
        fs::write(folder.join("users"), users)?;
        let listed = (1..=self.options.users).map(|number| format!("u{number}::1:1::/nowhere::\n"));
        fs::write(folder.join("listed"), listed.collect::<String>())?;
        fs::write(folder.join("masters"), format!("{MASTER_USER}:{{PLAIN}}{MASTER_PASSWORD}\n"))?;
        let owner = Owner::find(self.options.generation, folder)?;
        let mail = folder.join("mail");
        fs::create_dir_all(&mail)?;
        chown(&mail, Some(owner.uid), Some(owner.gid))?;
        let configuration = Configuration {
            folder,
            owner: &owner,
            imap: self.imap,
            lmtp: self.lmtp,
            http: self.http,
            options: &self.options,
        };
        fs::write(folder.join("dovecot.conf"), configuration.text())
    }
}

impl Drop for Dovecot {
    fn drop(&mut self) {
        self.stop();
        if thread::panicking() {
            show_tail("dovecot", &self.log());
        }
    }
}
