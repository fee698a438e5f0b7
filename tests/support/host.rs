//! A mail host's agent as a process of its own: configured by its command line, started, killed, started again.

use crate::cloud::{Cloud, ORGANIZATION};
use crate::cyrus::{Cyrus, PASSWORD, PROXY_USER};
use crate::dovecot::{Dovecot, MASTER_PASSWORD, MASTER_USER};
use crate::generation::Generation;
use crate::process::{Running, program, signal, spawn_agent, try_until};
use mailbadge_sim::peers::device::App;
use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// Longest wait for the agent to be ready, and to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// Devices of each mailbox: a phone and a tablet.
pub const APPS: [App; 2] = [App::Iphone, App::Ipad];

/// A configured agent.
pub struct Host {
    running: Option<Running>,
    environment: Vec<(&'static str, PathBuf)>,
    endpoint: &'static str,
    is_open_inside: bool,
    /// Of prlimit(1).
    limits: Vec<String>,
    folder: TempDir,
}

impl Host {
    /// A folder for an agent; nothing is configured yet.
    pub fn new() -> Self {
        Self::beside(Generation::default())
    }

    /// The same where servers of this generation reach its sockets.
    pub fn beside(generation: Generation) -> Self {
        Self {
            running: None,
            environment: Vec::new(),
            endpoint: "off",
            is_open_inside: false,
            limits: Vec::new(),
            folder: generation.folder(),
        }
    }

    /// Gives the daemon, from its next start on, and commands a variable of their environment.
    pub fn set_variable(&mut self, name: &'static str, value: PathBuf) {
        self.environment.push((name, value));
    }

    /// Has the daemon, from its next start on, show this user what it has open.
    pub fn open_inside(&mut self) {
        self.is_open_inside = true;
    }

    /// Starts the daemon under a limit from now on: an argument of prlimit(1), as `--nofile=64`.
    pub fn limit(&mut self, argument: &str) {
        self.limits.push(argument.to_owned());
    }

    /// Where Dovecot finds the agent, as Dovecot spells it.
    pub fn dict(&self) -> String {
        format!("proxy:{}:unseen", self.dict_socket().display())
    }

    /// The same as a path.
    pub fn dict_socket(&self) -> PathBuf {
        self.folder.path().join("dict.sock")
    }

    /// A source of the kind `dovecot`, for [`Host::configure`].
    pub fn dovecot_source(&self) -> String {
        // Mail processes run as somebody else when the test runs as root.
        let path = self.dict_socket();
        format!("[[source]]\nkind = \"dovecot\"\nlisten = \"{}\"\nmode = \"0666\"\n", path.display())
    }

    /// A source of the kind `maildir`, for [`Host::configure`].
    pub fn maildir_source(template: &str) -> String {
        format!("[[source]]\nkind = \"maildir\"\npath = \"{template}\"\n")
    }

    /// Where Cyrus finds the agent: its `notifysocket`.
    pub fn cyrus_socket(&self) -> PathBuf {
        self.folder.path().join("cyrus.sock")
    }

    /// A source of the kind `cyrus`, for [`Host::configure`].
    pub fn cyrus_source(&self) -> String {
        // Cyrus runs as somebody else when the test runs as root.
        let path = self.cyrus_socket();
        format!("[[source]]\nkind = \"cyrus\"\nlisten = \"{}\"\nmode = \"0666\"\n", path.display())
    }

    /// A source of the kind `imap` for Cyrus, which sweeps.
    pub fn cyrus_sweep(&self, cyrus: &Cyrus) -> String {
        let keys = format!("login = \"authzid\"\nmaster-user = \"{PROXY_USER}\"");
        self.imap(cyrus.imap(), &keys, PASSWORD, "sweep")
    }

    /// A source of the kind `imap`; `watch` as in the configuration.
    pub fn imap_source(&self, dovecot: &Dovecot, watch: &str) -> String {
        self.imap_source_at(dovecot.imap(), watch)
    }

    /// The same for any server on loopback whose master user is [`MASTER_USER`].
    pub fn imap_source_at(&self, address: SocketAddr, watch: &str) -> String {
        let keys = format!("login = \"master\"\nmaster-user = \"{MASTER_USER}\"");
        self.imap(address, &keys, MASTER_PASSWORD, watch)
    }

    fn imap(&self, address: SocketAddr, login: &str, secret: &str, watch: &str) -> String {
        let password = self.folder.path().join("imap.password");
        fs::write(&password, secret).expect("own folder");
        fs::set_permissions(&password, Permissions::from_mode(0o600)).expect("own file");
        format!(
            "[[source]]\nkind = \"imap\"\nhost = \"127.0.0.1\"\nport = {}\ntls = \"none\"\n{login}\n\
             password-file = \"imap.password\"\nwatch = \"{watch}\"\nlogin-rate = 200\n",
            address.port()
        )
    }

    /// Where its files are: configuration, state, `agent.log`.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Configures the agent for this relay and these sources, makes its certificate, has the relay trust it.
    pub fn configure(&self, cloud: &Cloud, sources: &str) {
        self.configure_with(cloud, "", sources);
    }

    /// The same with further keys of `[relay]`.
    pub fn configure_with(&self, cloud: &Cloud, relay: &str, sources: &str) {
        self.write_configuration(cloud, relay, sources);
        self.command(&["setup"]).expect("setup");
        let certificate = fs::read(self.folder.path().join("OAuthCert.cer")).expect("setup exports it");
        cloud.trust(&certificate);
        self.command(&["proxy", "enable", "--organization", ORGANIZATION, "--uri", cloud.url()])
            .expect("proxy enable");
    }

    /// Configures the agent for a relay that takes a token service's tokens, and registers its certificate there.
    pub fn configure_by_token_service(&self, cloud: &Cloud, relay: &str, sources: &str) {
        self.write_configuration(cloud, relay, sources);
        self.command(&["setup", "--auth-metadata-url", &cloud.auth_metadata_url()]).expect("setup");
        self.command(&["proxy", "enable", "--organization", ORGANIZATION, "--uri", cloud.url()])
            .expect("proxy enable");
        self.register(cloud);
    }

    /// Registers the current certificate at the organization's tenant.
    pub fn register(&self, cloud: &Cloud) {
        self.command(&["auth", "credential", "--register", &cloud.credentials_url()]).expect("registered");
    }

    /// Writes the file alone, as an administrator who edits it.
    pub fn write_configuration(&self, cloud: &Cloud, relay: &str, sources: &str) {
        let text = format!(
            "organization = \"{ORGANIZATION}\"\nstate-dir = \"state\"\n[relay]\nca-file = \"{}\"\n{relay}\n[subscriptions]\nlisten = \"{}\"\n[admin]\nlisten = \"{}\"\n{sources}",
            cloud.ca_file().display(),
            self.endpoint,
            self.admin_socket().display()
        );
        fs::write(self.folder.path().join("mailbadge.toml"), text).expect("own folder");
    }

    /// Subscribes two devices to each of these mailboxes.
    pub fn subscribe(&self, mailboxes: &[String]) {
        let mut lines = String::new();
        for mailbox in mailboxes {
            for app in APPS {
                let _ = writeln!(
                    lines,
                    r#"{{"Mailbox":"{mailbox}","AppId":"{}","DeviceNotificationId":"{}","DeviceNotificationType":"APNS"}}"#,
                    app.id(),
                    device_id(mailbox)
                );
            }
        }
        let file = self.folder.path().join("subscriptions.jsonl");
        fs::write(&file, lines).expect("own folder");
        self.command(&["subscription", "add", "--from", "subscriptions.jsonl"]).expect("subscription add");
    }

    /// Runs a command of the agent to its end; gives what it printed.
    pub fn command(&self, arguments: &[&str]) -> io::Result<String> {
        let output = Command::new(program())
            .arg("agent")
            .args(arguments)
            .args(["--config", "mailbadge.toml"])
            .current_dir(self.folder.path())
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .output()?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let text = String::from_utf8_lossy(&output.stderr);
        Err(io::Error::other(format!("{arguments:?}: {}: {text}", output.status)))
    }

    /// Starts the daemon and waits until it is ready. Panics, with its log, where it is not.
    pub fn start(&mut self) {
        self.start_until("HTTP/1.1 200");
    }

    /// Starts the daemon and waits until it answers, ready or not.
    pub fn start_unready(&mut self) {
        self.start_until("HTTP/1.1 ");
    }

    fn start_until(&mut self, expected: &str) {
        let mut arguments = vec!["run", "--config", "mailbadge.toml"];
        arguments.extend(self.is_open_inside.then_some("--allow-core-dumps"));
        let mut running = spawn_agent(&arguments, self.folder.path(), &self.environment, &self.limits)
            .expect("cargo built it");
        let mut answer = String::new();
        let is_ready = try_until(PATIENCE, || {
            answer = get(&self.admin_socket(), "/readyz").unwrap_or_else(|error| error.to_string());
            let is_ready = answer.starts_with(expected);
            (is_ready || running.ended().is_some()).then_some(is_ready)
        });
        assert_eq!(is_ready, Some(true), "the agent is not ready: {answer}\n{}", running.log());
        self.running = Some(running);
    }

    /// Starts a daemon that must refuse to; gives what it said. Panics where it runs.
    pub fn start_in_vain(&self) -> String {
        let arguments = ["run", "--config", "mailbadge.toml"];
        let log = self.folder.path().join("agent.log");
        let before = fs::read(&log).map_or(0, |text| text.len());
        let mut running = spawn_agent(&arguments, self.folder.path(), &self.environment, &self.limits)
            .expect("cargo built it");
        let ended = try_until(PATIENCE, || running.ended());
        let refused = ended.is_some_and(|status| !status.success());
        assert!(refused, "it started, or ended well\n{}", running.log());
        let said = fs::read(&log).expect("it has a log");
        String::from_utf8_lossy(said.get(before..).unwrap_or_default()).into_owned()
    }

    /// The running daemon's process.
    pub fn pid(&self) -> u32 {
        self.running.as_ref().expect("it runs").pid()
    }

    /// Opens the endpoint for relays, on a free port, from the next configuration on.
    pub fn open_endpoint(&mut self) {
        self.endpoint = "127.0.0.1:0";
    }

    /// Where the running daemon's metadata document is; panics where its endpoint is not open.
    pub fn metadata_url(&self) -> String {
        let log = self.log();
        let line = log.lines().rfind(|line| line.contains("endpoint for relays"));
        let address = line.and_then(|line| line.split("address=").nth(1)?.split_whitespace().next());
        let address = address.unwrap_or_else(|| panic!("no endpoint in {log}"));
        format!("http://{address}/autodiscover/metadata/json/1")
    }

    /// Sends the daemon a signal, by name without `SIG`.
    pub fn signal(&self, name: &str) {
        let running = self.running.as_ref().expect("it runs");
        signal(running.pid(), name).expect("its pid is ours");
    }

    /// Kills the daemon without warning.
    pub fn kill(&mut self) {
        let mut running = self.running.take().expect("it runs");
        running.kill().expect("its pid is ours");
    }

    /// Waits until the daemon ends by itself, and not well; gives what it said. Panics where it goes on.
    pub fn ends_by_itself(&mut self) -> String {
        let mut running = self.running.take().expect("it runs");
        let ended = try_until(PATIENCE, || running.ended());
        assert!(
            ended.is_some_and(|status| !status.success()),
            "it goes on, or ended well\n{}",
            running.log()
        );
        running.log()
    }

    /// Ends the daemon in good order; panics where it does not end by itself.
    pub fn stop(&mut self) {
        let mut running = self.running.take().expect("it runs");
        let status = running.stop(PATIENCE).expect("its pid is ours");
        assert!(status.is_some_and(|status| status.success()), "{status:?}\n{}", running.log());
    }

    /// What the daemon says of itself: the admin endpoint's answer to this path.
    pub fn ask(&self, path: &str) -> String {
        get(&self.admin_socket(), path).unwrap_or_else(|error| error.to_string())
    }

    /// What the daemon wrote so far.
    pub fn log(&self) -> String {
        self.running.as_ref().map(Running::log).unwrap_or_default()
    }

    fn admin_socket(&self) -> PathBuf {
        self.folder.path().join("admin.sock")
    }
}

impl Default for Host {
    fn default() -> Self {
        Self::new()
    }
}

/// The id of the mailbox's phone; its tablet has the same one with another app.
pub fn device_id(mailbox: &str) -> String {
    let mut digits = String::new();
    for byte in mailbox.bytes() {
        let _ = write!(digits, "{byte:02x}");
    }
    format!("{digits:0>64}")
}

/// Writes a file of this user's alone.
pub fn write_private(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).expect("own folder");
    fs::set_permissions(path, Permissions::from_mode(0o600)).expect("own file");
}

/// What the mailbox's devices show.
pub fn badges(cloud: &Cloud, mailbox: &str) -> [Option<u32>; 2] {
    let device = device_id(mailbox);
    APPS.map(|app| cloud.badge(app, &device))
}

/// One GET over a Unix socket; the whole answer.
fn get(socket: &Path, path: &str) -> io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
