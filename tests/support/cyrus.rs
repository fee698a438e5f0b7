//! A private real Cyrus on free loopback ports, in a short temporary folder, gone when dropped.
//!
//! Debian's `cyrus-imapd` conflicts with `dovecot-imapd`, so it is unpacked beside the installed packages (sources.md
//! §8): `MAILBADGE_CYRUS` names the folder, by default `target/cyrus`. As root it runs as `cyrus`, else as whoever runs
//! the test. Debian 13's runs in its tree.

use crate::account::Account;
use crate::generation::Generation;
use crate::imap_client::ImapClient;
use crate::process::{Running, free_address, greets, show_tail, try_until};
use std::env;
use std::fs;
use std::io::{self, ErrorKind, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

/// Password of every user, [`PROXY_USER`] and [`ADMIN`] included.
pub const PASSWORD: &str = "secret";

/// Who may log in for anybody (SASL PLAIN with authzid).
pub const PROXY_USER: &str = "agent";

/// Who makes mailboxes.
const ADMIN: &str = "cyrus";

/// Where the unpacked package is, unless `MAILBADGE_CYRUS` says otherwise.
const UNPACKED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/cyrus");

/// Where Debian's packages put Cyrus's programs, below `/` or the unpacked folder.
const PROGRAMS: &str = "usr/lib/cyrus/bin";

/// Longest wait for the server to answer on both ports, and to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often other ports are tried when somebody else was quicker.
const PORT_ATTEMPTS: usize = 4;

/// Folders that Cyrus wants below its `configdirectory`.
const FOLDERS: [&str; 9] = ["db", "socket", "proc", "log", "msg", "lock", "sync", "user", "quota"];

/// The program of Debian's package, unpacked or installed.
pub(crate) fn find_unpacked(program: &str) -> Option<PathBuf> {
    let unpacked = env::var_os("MAILBADGE_CYRUS").map_or_else(|| PathBuf::from(UNPACKED), PathBuf::from);
    let places = [unpacked, PathBuf::from("/")].map(|root| root.join(PROGRAMS).join(program));
    places.into_iter().find(|file| file.is_file())
}

/// A running server with users `u1`, `u2`, …, each with an INBOX and a Trash.
#[derive(Debug)]
pub struct Cyrus {
    imap: SocketAddr,
    lmtp: SocketAddr,
    generation: Generation,
    extra: String,
    running: Option<Running>,
    folder: TempDir,
}

impl Cyrus {
    /// Starts one with so many users; `extra` is put last into its `imapd.conf`. Panics, with its output, where it does
    /// not answer.
    pub fn start(generation: Generation, users: u32, extra: &str) -> Self {
        let mut server = Self {
            imap: free_address(),
            lmtp: free_address(),
            generation,
            extra: extra.to_owned(),
            running: None,
            folder: generation.folder(),
        };
        server.furnish(users).unwrap_or_else(|error| panic!("cyrus cannot be set up: {error}"));
        for attempt in 1.. {
            match server.start_again() {
                Ok(()) => break,
                // What is wrong goes to syslog alone; a port that somebody else took is the likeliest.
                Err(_) if attempt < PORT_ATTEMPTS => {
                    server.stop();
                    (server.imap, server.lmtp) = (free_address(), free_address());
                }
                Err(error) => panic!("cyrus does not start: {error}\n{}", server.log()),
            }
        }
        server.make_mailboxes(users).unwrap_or_else(|error| panic!("mailboxes: {error}"));
        server
    }

    /// Starts it once more after [`Cyrus::stop`], with the same mail.
    pub fn start_again(&mut self) -> io::Result<()> {
        self.configure()?;
        let folder = self.folder.path();
        let mut command = self.generation.command("master")?;
        command.arg("-C").arg(folder.join("imapd.conf"));
        command.arg("-M").arg(folder.join("cyrus.conf")).arg("-p").arg(folder.join("pid"));
        // When it ends it tells its whole process group to.
        command.process_group(0);
        let mut running = Running::start("cyrus", command, &folder.join("output"))?;
        let is_up = try_until(PATIENCE, || match running.ended() {
            Some(_) => Some(false),
            None => (greets(self.imap) && greets(self.lmtp)).then_some(true),
        });
        self.running = Some(running);
        if is_up == Some(true) { Ok(()) } else { Err(io::Error::other("it ended or does not answer")) }
    }

    /// Ends it in good order.
    pub fn stop(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.stop(PATIENCE).expect("cyrus's pid is ours");
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

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("output")).unwrap_or_default()
    }

    /// Folders and passwords.
    fn furnish(&self, users: u32) -> io::Result<()> {
        let folder = self.folder.path();
        let owner = self.owner()?;
        let passwords = folder.join("sasldb2");
        for user in (1..=users).map(|number| format!("u{number}")).chain([PROXY_USER.into(), ADMIN.into()]) {
            self.set_password(&passwords, &user)?;
        }
        let mut ours = vec![folder.to_owned(), folder.join("spool"), folder.join("conf")];
        ours.extend(FOLDERS.map(|name| folder.join("conf").join(name)));
        for path in &ours {
            fs::create_dir_all(path)?;
        }
        for path in ours.iter().chain([&passwords]) {
            chown(path, Some(owner.uid), Some(owner.gid))?;
        }
        Ok(())
    }

    /// Whose processes and mail.
    fn owner(&self) -> io::Result<Account> {
        let made = fs::metadata(self.folder.path())?;
        if made.uid() == 0 {
            self.generation.account("cyrus")
        } else {
            self.generation.account_of(made.uid())
        }
    }

    fn configure(&self) -> io::Result<()> {
        let folder = self.folder.path();
        let owner = self.owner()?;
        let (name, group) = (&owner.name, self.generation.group_name(owner.gid)?);
        let path = folder.display();
        let settings = format!(
            "\
cyrus_user: {name}
cyrus_group: {group}
configdirectory: {path}/conf
partition-default: {path}/spool
admins: {ADMIN}
proxyservers: {PROXY_USER}
allowplaintext: yes
sasl_pwcheck_method: auxprop
sasl_auxprop_plugin: sasldb
sasl_sasldb_path: {path}/sasldb2
sasl_mech_list: PLAIN LOGIN
servername: localhost
unixhierarchysep: yes
altnamespace: yes
tls_server_cert: disabled
skiplist_unsafe: yes
lmtpsocket: {path}/conf/socket/lmtp
idlesocket: {path}/conf/socket/idle
proc_path: {path}/conf/proc
mboxname_lockpath: {path}/conf/lock
{}",
            self.extra
        );
        fs::write(folder.join("imapd.conf"), settings)?;
        fs::write(folder.join("cyrus.conf"), self.services()?)
    }

    fn services(&self) -> io::Result<String> {
        let settings = self.folder.path().join("imapd.conf");
        let command = |name: &str| {
            let program = self.generation.program(name)?;
            Ok::<_, io::Error>(format!("{} -C {}", program.display(), settings.display()))
        };
        Ok(format!(
            "START {{\n  recover cmd=\"{} -r\"\n}}\nSERVICES {{\n  imap cmd=\"{}\" listen=\"{}\" prefork=0\n  \
             lmtp cmd=\"{} -a\" listen=\"{}\" prefork=0\n}}\nDAEMON {{\n  idled cmd=\"{}\"\n}}\n",
            command("ctl_cyrusdb")?,
            command("imapd")?,
            self.imap,
            command("lmtpd")?,
            self.lmtp,
            command("idled")?
        ))
    }

    fn set_password(&self, passwords: &Path, user: &str) -> io::Result<()> {
        let mut command = self.generation.command("saslpasswd2")?;
        command.args(["-p", "-c", "-u", "localhost", "-f"]).arg(passwords).arg(user);
        let mut running = command.stdin(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let mut input = running.stdin.take().ok_or(ErrorKind::BrokenPipe)?;
        input.write_all(PASSWORD.as_bytes())?;
        drop(input);
        let status = running.wait()?;
        if status.success() {
            Ok(())
        } else {
            Err(io::Error::other(format!("saslpasswd2 for {user}: {status}")))
        }
    }

    fn make_mailboxes(&self, users: u32) -> io::Result<()> {
        let mut admin = ImapClient::connect(self.imap, ADMIN, PASSWORD)?;
        for number in 1..=users {
            admin.ask(&format!("CREATE user/u{number}"))?;
            admin.ask(&format!("CREATE user/u{number}/Trash"))?;
        }
        Ok(())
    }
}

impl Drop for Cyrus {
    fn drop(&mut self) {
        self.stop();
        if thread::panicking() {
            show_tail("cyrus", &self.log());
        }
    }
}
