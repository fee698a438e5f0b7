//! A whole mailbadge on loopback: the simulator in this process, the agent as a process of its own, a folder for both.
//! The demo shows it to people; tests drive it.

use crate::process::{Running, program, try_until};
use mailbadge_sim::peers::device::App;
use mailbadge_sim::peers::mail_store::MailStore;
use mailbadge_sim::peers::relay::EXCHANGE_APPLICATION_ID;
use mailbadge_sim::peers::tenant::credential::KeyCredential;
use mailbadge_sim::peers::tenant::{Issuer, IssuerKind, Tenant};
use mailbadge_sim::serve::{self, World};
use parking_lot::Mutex;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// The organization that agent and relay agree on.
pub const ORGANIZATION: &str = "fabrikam.com";
/// Its tenant at the relay.
pub const TENANT: &str = "11111111-2222-3333-4444-555555555555";
/// How long the agent may take from its start to being ready.
pub const READY_MAX: Duration = Duration::from_secs(20);

/// Simulator, agent, folder.
pub struct Stand {
    runtime: Runtime,
    /// The simulator's servers.
    pub simulator: serve::Running,
    /// The daemon, while it runs.
    pub agent: Option<Running>,
    program: PathBuf,
    // Last, so that it goes after those that use it.
    folder: TempDir,
}

/// A device to be subscribed.
#[derive(Clone, Debug)]
pub struct Phone {
    /// Its mailbox, as the mail server spells it.
    pub mailbox: String,
    /// The app.
    pub app: App,
    /// `deviceId`.
    pub device_id: String,
}

impl Phone {
    /// The `number`th device of a mailbox: an iPhone first, then an Android phone.
    pub fn new(mailbox: &str, mailbox_number: usize, number: usize) -> Self {
        let is_apple = number.is_multiple_of(2);
        let app = if is_apple { App::Iphone } else { App::Mowa };
        let device_id = if is_apple {
            format!("{:064x}", mailbox_number * 100 + number + 1)
        } else {
            format!("reg-{mailbox_number}-{number}")
        };
        Self { mailbox: mailbox.to_owned(), app, device_id }
    }

    fn json(&self) -> String {
        let kind = if self.app == App::Mowa { "GCM" } else { "APNS" };
        let record = serde_json::json!({
            "Mailbox": self.mailbox, "AppId": self.app.id(), "DeviceNotificationId": self.device_id,
            "DeviceNotificationType": kind, "InstallationId": format!("DEV-{}", self.device_id),
        });
        record.to_string()
    }
}

impl Stand {
    /// Brings the simulator up; a mail store gives it an IMAP server.
    pub fn new(store: Option<MailStore>) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let tenant = Tenant {
            id: TENANT.to_owned(),
            accepted_domains: vec![ORGANIZATION.to_owned()],
            ..Tenant::default()
        };
        let options = serve::Options {
            tenants: vec![tenant],
            mail_store: store.map(|store| Arc::new(Mutex::new(store))),
            ..serve::Options::default()
        };
        let simulator = runtime.block_on(serve::start(options)).map_err(io::Error::other)?;
        // Short: Unix sockets allow 107 bytes. Enterable: a mail server of another user must reach a socket in it.
        let folder = tempfile::Builder::new().prefix("mb").tempdir()?;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        Ok(Self { runtime, simulator, agent: None, program: program(), folder })
    }

    /// The folder of configuration, state and sockets.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Everything the simulator knows.
    pub fn world(&self) -> &Arc<World> {
        &self.simulator.world
    }

    /// Runs something of the simulator's.
    pub fn wait_for<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// Has something run beside.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(task);
    }

    /// Writes the agent's configuration with these tables, `[relay]` and `[[source]]`, and passwords.
    pub fn configure(&self, relay: &str, sources: &str, password: &str) -> io::Result<()> {
        let folder = self.folder().display();
        let ca = self.simulator.ca_pem_path.display();
        let text = format!(
            "organization = \"{ORGANIZATION}\"\nstate-dir = \"{folder}/state\"\n\n[relay]\nca-file = \"{ca}\"\n{relay}\n\
             {sources}\n[admin]\nlisten = \"{folder}/admin.sock\"\n"
        );
        self.write("mailbadge.toml", &text)?;
        self.write("imap.password", password)
    }

    fn write(&self, name: &str, text: &str) -> io::Result<()> {
        let mut options = fs::OpenOptions::new();
        let mut file =
            options.create(true).truncate(true).write(true).mode(0o600).open(self.folder().join(name))?;
        file.write_all(text.as_bytes())
    }

    /// The `[[source]]` of the simulator's own IMAP server.
    pub fn imap_source(&self, watch: &str) -> String {
        let port = self.simulator.imap_addr.map_or(143, |address| address.port());
        imap_source(port, watch)
    }

    /// The agent's program with arguments and this stand's configuration.
    pub fn agent_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("agent").args(arguments).arg("--config").arg(self.folder().join("mailbadge.toml"));
        command.current_dir(self.folder()).stdin(Stdio::null());
        command
    }

    /// Runs one of the agent's commands to its end.
    pub fn run(&self, arguments: &[&str]) -> io::Result<Output> {
        self.agent_command(arguments).output()
    }

    /// The same; an error with what it said where it failed.
    pub fn must(&self, arguments: &[&str]) -> io::Result<String> {
        let output = self.run(arguments)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(io::Error::other(format!("mailbadge {}: {}: {said}", arguments.join(" "), output.status)))
    }

    /// What an administrator does once: certificate, its registration with the tenant, the proxy.
    pub fn set_up(&self) -> io::Result<()> {
        let folder = self.folder().display().to_string();
        self.must(&["setup", "--organization", ORGANIZATION, "--export-dir", &folder])?;
        self.trust(&fs::read(self.folder().join("OAuthCert.cer"))?)?;
        self.must(&["proxy", "enable", "--organization", ORGANIZATION, "--uri", &self.simulator.relay_url])?;
        Ok(())
    }

    /// Registers a certificate with the tenant.
    pub fn trust(&self, der: &[u8]) -> io::Result<()> {
        let credential = KeyCredential::from_der(der).map_err(io::Error::other)?;
        let issuer = Issuer::new(EXCHANGE_APPLICATION_ID, ORGANIZATION);
        let mut relay = self.world().relay.lock();
        let added = relay.tenants.add_credential(TENANT, IssuerKind::Partner, &issuer, credential);
        added.map(drop).map_err(io::Error::other)
    }

    /// Subscribes devices, all at once.
    pub fn subscribe(&self, phones: &[Phone]) -> io::Result<()> {
        let lines: Vec<String> = phones.iter().map(Phone::json).collect();
        self.write("phones.jsonl", &lines.join("\n"))?;
        let file = self.folder().join("phones.jsonl").display().to_string();
        self.must(&["subscription", "add", "--from", &file])?;
        let mut relay = self.world().relay.lock();
        for phone in phones {
            if let Some(device) = relay.devices.make(phone.app, &phone.device_id) {
                device.mailbox = Some(phone.mailbox.as_str().into());
            }
        }
        Ok(())
    }

    /// Starts the daemon and waits until it says that it is ready.
    pub fn start_agent(&mut self) -> io::Result<()> {
        let log = self.folder().join("agent.log");
        let begin = fs::metadata(&log).map_or(0, |found| found.len());
        self.agent = Some(Running::start("agent", self.agent_command(&["run"]), &log)?);
        let is_ready = || {
            let text = fs::read(&log).unwrap_or_default();
            let new = String::from_utf8_lossy(text.get(begin as usize..).unwrap_or_default()).into_owned();
            new.lines().any(|line| line.contains(" ready ")).then_some(())
        };
        try_until(READY_MAX, is_ready).ok_or_else(|| {
            let log = fs::read_to_string(&log).unwrap_or_default();
            io::Error::other(format!("the agent was not ready within {READY_MAX:?}: {log}"))
        })
    }

    /// What a device's icon shows.
    pub fn badge(&self, phone: &Phone) -> Option<u32> {
        self.world().relay.lock().devices.badge(phone.app, &phone.device_id)
    }

    /// Devices that do not show what `truth` says of their mailbox: the device, what it shows, what is true.
    pub fn wrong<'p>(
        &self,
        phones: &'p [Phone],
        truth: impl Fn(&str) -> u32,
    ) -> Vec<(&'p Phone, Option<u32>, u32)> {
        let look = |phone: &'p Phone| (phone, self.badge(phone), truth(&phone.mailbox));
        phones.iter().map(look).filter(|(_, shown, truth)| *shown != Some(*truth)).collect()
    }
}

/// The `[[source]]` of an IMAP server on loopback where `agent` is the master user.
pub fn imap_source(port: u16, watch: &str) -> String {
    format!(
        "[[source]]\nkind = \"imap\"\nhost = \"127.0.0.1\"\nport = {port}\ntls = \"none\"\nlogin = \"master\"\n\
         master-user = \"agent\"\npassword-file = \"imap.password\"\nwatch = \"{watch}\"\n"
    )
}
