//! Load tests: peers in this process, the agent beside it, users who do what a plan says, and a report.
//!
//! The generator is an open model: latencies count from when a change was due, so a slow agent is not spared by a
//! generator that waits for it. Here are the options and the agent's configuration; `runner` says what happens in
//! which order.

mod agent;
mod dict;
mod host;
mod ledger;
mod notifier;
mod notify;
mod plan;
mod report;
mod runner;
mod traffic;
mod usage;

pub use plan::{Mix, Shape};
pub use report::LoadReport;

use crate::peers::dovecot_client;
use crate::peers::mail_store::{Credentials, Quirk, UnknownQuirk};
use crate::serve::{ImapTls, Running};
use anyhow::{Context as _, Result};
use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The organization whose mailboxes these are.
const ORGANIZATION: &str = "fabrikam.com";

/// How the agent learns of changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Source {
    /// It watches the simulated IMAP server, a connection each mailbox.
    Imap,
    /// It is told as Dovecot's notify_status plugin tells.
    Dovecot,
    /// It is told as Cyrus tells at its notify socket.
    Cyrus,
}

/// How the agent watches over IMAP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Watch {
    /// The agent chooses.
    Auto,
    /// NOTIFY.
    Notify,
    /// IDLE.
    Idle,
}

/// How connections to the simulated IMAP server are protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Tls {
    /// Not at all.
    None,
    /// STARTTLS.
    Starttls,
    /// From the first byte.
    Implicit,
}

/// Options of `mailbadge-sim load`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Mailboxes.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub mailboxes: u32,
    /// Devices of each mailbox.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=50))]
    pub devices_per_mailbox: u32,
    /// Steps a second over all mailboxes: arrivals, reads, expunges.
    #[arg(long, value_name = "R", default_value_t = 100.0, value_parser = positive)]
    pub rate: f64,
    /// How long.
    #[arg(long, value_name = "D", default_value = "10s", value_parser = humantime::parse_duration)]
    pub duration: Duration,
    /// How the agent learns of changes.
    #[arg(long, value_enum, default_value_t = Source::Imap)]
    pub source: Source,
    /// How the rate develops.
    #[arg(long, value_enum, default_value_t = Shape::Constant)]
    pub shape: Shape,
    /// Shares of arrivals, reads and expunges.
    #[arg(long, value_name = "A:R:E", default_value_t = Mix::default())]
    pub mix: Mix,
    /// Chooses who does what when.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// The agent's program [default: mailbadge beside this one, else in PATH]
    #[arg(long, value_name = "PATH")]
    pub agent: Option<PathBuf>,
    /// Goes before the agent's own arguments; may be given more than once.
    #[arg(long, value_name = "ARG")]
    pub agent_arg: Vec<OsString>,
    /// Keeps the agent's configuration, state and log there.
    #[arg(long, value_name = "DIR")]
    pub folder: Option<PathBuf>,
    /// Tests a daemon that runs already and goes on afterwards; its sources and relay must be this program's addresses.
    #[arg(long, value_name = "PID", requires_all = ["admin", "agent_config", "folder"])]
    pub agent_pid: Option<u32>,
    /// Its admin endpoint: URL or path of a Unix socket.
    #[arg(long, value_name = "URL", requires = "agent_pid")]
    pub admin: Option<String>,
    /// Its configuration, for commands: the relay's URL and the subscriptions become its state.
    #[arg(long, value_name = "FILE", requires = "agent_pid")]
    pub agent_config: Option<PathBuf>,
    /// Where it listens for Dovecot or Cyrus [default: dict.sock or cyrus.sock in --folder].
    #[arg(long, value_name = "PATH", requires = "agent_pid")]
    pub dict: Option<PathBuf>,
    /// Where the relay listens; its authority is ca.pem in --folder/relay.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    pub relay: SocketAddr,
    /// Where the IMAP server listens.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    pub imap: SocketAddr,
    /// Switched on at the IMAP server, for all mailboxes, when the load begins; may be given more than once.
    #[arg(long, value_name = "NAME", value_parser = quirk_of_imap)]
    pub quirk: Vec<Quirk>,
    /// Nothing happens for that long before the load: memory and CPU of an idle agent.
    #[arg(long, value_name = "D", default_value = "5s", value_parser = humantime::parse_duration)]
    pub quiet: Duration,
    /// Every badge must be true that long after the last step.
    #[arg(long, value_name = "D", default_value = "30s", value_parser = humantime::parse_duration)]
    pub settle: Duration,
    /// Writes the report there as JSON too.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// The agent's max-hold.
    #[arg(long, value_name = "D", default_value = "1s", value_parser = humantime::parse_duration)]
    pub max_hold: Duration,
    /// The agent's login-rate, with IMAP.
    #[arg(long, value_name = "R", default_value_t = 200)]
    pub login_rate: u32,
    /// How the agent watches, with IMAP.
    #[arg(long, value_enum, default_value_t = Watch::Auto)]
    pub watch: Watch,
    /// How IMAP connections are protected.
    #[arg(long, value_enum, default_value_t = Tls::None)]
    pub tls: Tls,
    /// The IMAP server merges changes for that long, as Dovecot does.
    #[arg(long, value_name = "D", default_value = "500ms", value_parser = humantime::parse_duration)]
    pub window: Duration,
    /// Dovecot's processes: connections at once, with Dovecot.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=8192))]
    pub dict_connections: u32,
    /// What they speak: dict-v2 (a connection each mailbox), dict-v3, dict-v4.
    #[arg(long, value_name = "NAME", default_value = "dict-v3")]
    pub dialect: dovecot_client::Dialect,
    /// Some commits are overtaken by later ones.
    #[arg(long)]
    pub out_of_order: bool,
}

fn quirk_of_imap(name: &str) -> Result<Quirk, String> {
    let quirk: Quirk = name.parse().map_err(|error: UnknownQuirk| error.to_string())?;
    match quirk.notifier() {
        None => Ok(quirk),
        Some(_) => {
            Err("it is none of the IMAP server; with Dovecot see --dialect and --out-of-order".to_owned())
        }
    }
}

fn positive(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|error| format!("{error}"))?;
    if number.is_finite() && number > 0.0 { Ok(number) } else { Err("expected a number above 0".to_owned()) }
}

/// Runs a load test, prints its report to `out`, and says whether every badge was true in the end.
pub fn run(args: &Args, out: &mut impl Write) -> Result<bool> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let report = runtime.block_on(runner::run(args))?;
    write!(out, "{report}")?;
    if let Some(path) = &args.json {
        let json = serde_json::to_string_pretty(&report)?;
        std::fs::write(path, json + "\n").with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(report.is_good())
}

impl Args {
    /// The agent's program.
    fn agent_program(&self) -> PathBuf {
        if let Some(given) = &self.agent {
            return given.clone();
        }
        let beside = std::env::current_exe().ok().map(|own| own.with_file_name("mailbadge"));
        beside.filter(|path| path.is_file()).unwrap_or_else(|| PathBuf::from("mailbadge"))
    }

    const fn imap_tls(&self) -> ImapTls {
        match self.tls {
            Tls::None => ImapTls::None,
            Tls::Starttls => ImapTls::StartTls,
            Tls::Implicit => ImapTls::Implicit,
        }
    }

    /// The agent's mailbadge.toml; all its files lie in `folder`.
    fn configuration(&self, folder: &Path, running: &Running) -> Result<String> {
        let folder = folder.display();
        let ca_file = running.ca_pem_path.display();
        let max_hold = self.max_hold.as_millis();
        let mut text = format!(
            "organization = \"{ORGANIZATION}\"\nstate-dir = \"{folder}/state\"\n\n\
             [relay]\nca-file = \"{ca_file}\"\nmax-hold = \"{max_hold}ms\"\n\n\
             [subscriptions]\nlisten = \"off\"\n\n[admin]\nlisten = \"{folder}/admin.sock\"\n\n[[source]]\n"
        );
        let told = match self.source {
            Source::Dovecot => Some(("dovecot", "dict.sock")),
            Source::Cyrus => Some(("cyrus", "cyrus.sock")),
            Source::Imap => None,
        };
        if let Some((kind, socket)) = told {
            write!(text, "kind = \"{kind}\"\nlisten = \"{folder}/{socket}\"\n")?;
            return Ok(text);
        }
        let credentials = Credentials::default();
        let master = credentials.master.context("the simulated mail host has no master user")?;
        let port = running.imap_addr.context("the IMAP server is not up")?.port();
        let login_rate = self.login_rate;
        let (watch, tls) = (name_of(&self.watch), name_of(&self.tls));
        write!(
            text,
            "kind = \"imap\"\nhost = \"127.0.0.1\"\nport = {port}\ntls = \"{tls}\"\nlogin = \"master\"\n\
             master-user = \"{}\"\nseparator = \"{}\"\npassword-file = \"{folder}/imap.password\"\n\
             watch = \"{watch}\"\nlogin-rate = {login_rate}\n",
            master.user, master.separator
        )?;
        if self.tls != Tls::None {
            writeln!(text, "ca-file = \"{ca_file}\"")?;
        }
        agent::write_private(Path::new(&format!("{folder}/imap.password")), &master.password)?;
        Ok(text)
    }
}

/// What clap calls this value.
fn name_of(value: &impl clap::ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}
