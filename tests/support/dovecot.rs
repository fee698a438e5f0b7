//! A private real Dovecot on free loopback ports, in a short temporary folder, gone when dropped.
//!
//! Works for root (mail belongs to `nobody`) and for anybody else (all belongs to them).

use crate::account::{Account, group_name};
use crate::process::{Running, free_address, greets, show_tail, try_until};
use crate::requirement;
use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::Command;
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
    /// Users are `u1` to this number.
    pub users: u32,
    /// Where `notify_status` writes to, as Dovecot spells it (`proxy:<path>:unseen`); `None`: no plugin.
    pub dict: Option<String>,
    /// doveadm's HTTP API, where it is to be served.
    pub doveadm: Option<DoveadmApi>,
    /// More configuration, put last.
    pub extra: String,
}

impl Default for Options {
    fn default() -> Self {
        Self { users: 8, dict: None, doveadm: None, extra: String::new() }
    }
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
        // Short, since Unix sockets allow 107 bytes.
        let folder = tempfile::Builder::new().prefix("mb").tempdir_in("/tmp").expect("a temporary folder");
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("own folder");
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
        let program = requirement::find("dovecot").ok_or(ErrorKind::NotFound)?;
        let mut command = Command::new(program);
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
        let program = requirement::find("doveadm").ok_or(ErrorKind::NotFound)?;
        let output = Command::new(program)
            .arg("-c")
            .arg(self.folder.path().join("dovecot.conf"))
            .args(arguments)
            .output()?;
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
        let owner = Owner::find(folder)?;
        let mail = folder.join("mail");
        fs::create_dir_all(&mail)?;
        chown(&mail, Some(owner.uid), Some(owner.gid))?;
        fs::write(folder.join("dovecot.conf"), self.configuration(&owner))
    }

    fn configuration(&self, owner: &Owner) -> String {
        let folder = self.folder.path().display();
        let (imap, lmtp) = (self.imap.port(), self.lmtp.port());
        let (uid, gid) = (owner.uid, owner.gid);
        let mut text = format!(
            "\
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/log
protocols = imap lmtp
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
auth_master_user_separator = *
first_valid_uid = 1
first_valid_gid = 1
mail_location = maildir:~/Maildir
mail_max_userip_connections = 1000
passdb {{
  driver = passwd-file
  args = {folder}/masters
  master = yes
  result_success = continue
}}
passdb {{
  driver = passwd-file
  args = {folder}/users
}}
userdb {{
  driver = static
  args = uid={uid} gid={gid} home={folder}/mail/%u
}}
service imap-login {{
  chroot =
  service_count = 0
  client_limit = 4000
  inet_listener imap {{
    port = {imap}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service imap {{
  process_limit = 4000
}}
service lmtp {{
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {lmtp}
  }}
}}
service anvil {{
  chroot =
}}
namespace inbox {{
  inbox = yes
  mailbox Trash {{
    auto = create
    special_use = \\Trash
  }}
}}
"
        );
        text += &owner.configuration;
        text.extend(self.options.dict.as_deref().map(notify_status));
        text.extend(self.options.doveadm.map(|api| api.configuration(self.http, self.folder.path())));
        text + &self.options.extra
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

impl DoveadmApi {
    /// Who is looked up is found in the static userdb before; the other one can also be listed.
    fn configuration(self, address: SocketAddr, folder: &Path) -> String {
        let listing =
            format!("userdb {{\n  driver = passwd-file\n  args = {}/listed\n}}\n", folder.display());
        format!(
            "\
doveadm_api_key = {}
service doveadm {{
  inet_listener http {{
    address = 127.0.0.1
    port = {}
  }}
}}
{}",
            self.key,
            address.port(),
            if self.lists_users { &listing } else { "" }
        )
    }
}

/// The plugin's part of the configuration, 2.3.
pub fn notify_status(dict: &str) -> String {
    format!(
        "\
mail_plugins = $mail_plugins notify notify_status
plugin {{
  notify_status_dict = {dict}
  notify_status_mailbox = INBOX
  notify_status_value = {{\"messages\":%%{{messages}},\"unseen\":%%{{unseen}},\"uidnext\":%%{{uidnext}},\
\"uidvalidity\":%%{{uidvalidity}},\"modseq\":%%{{highest_modseq}}}}
}}
"
    )
}

/// Whose processes and whose mail.
struct Owner {
    uid: u32,
    gid: u32,
    configuration: String,
}

impl Owner {
    /// Dovecot never serves root's mail; everybody else serves their own.
    fn find(folder: &Path) -> io::Result<Self> {
        let made = fs::metadata(folder)?;
        if made.uid() == 0 {
            let nobody = Account::named("nobody")?;
            return Ok(Self { uid: nobody.uid, gid: nobody.gid, configuration: String::new() });
        }
        let own = Account::of(made.uid())?;
        let (name, group, gid) = (&own.name, group_name(made.gid())?, made.gid());
        let configuration = format!(
            "default_internal_user = {name}\ndefault_login_user = {name}\ndefault_internal_group = {group}\n"
        );
        Ok(Self { uid: own.uid, gid, configuration })
    }
}
