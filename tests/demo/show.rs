//! `cargo demo`: simulator, agent and page on loopback; counts rise and fall on phones until Ctrl-C.

use crate::mail::{Deed, Mail, dovecot_sources};
use clap::Parser;
use mailbadge::time::driver::Clock;
use mailbadge_sim::peers::device::App;
use mailbadge_sim::peers::mail_store::MailStore;
use std::ffi::OsString;
use std::io::{self, Write};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use support::dovecot::{Dovecot, MASTER_PASSWORD, Options};
use support::process::try_until;
use support::stand::{ORGANIZATION, Phone, Stand};

/// How long devices may take to agree with their mailbox.
const AGREE_MAX: Duration = Duration::from_secs(20);
/// Deeds of `--once`.
const DEEDS_ONCE: usize = 12;
/// Between two deeds while people watch.
const PAUSE: Duration = Duration::from_millis(1500);

/// Shows mailbadge whole: a mail server, the agent, a relay and phones, all on loopback.
#[derive(Debug, Parser)]
#[command(name = "cargo demo --")]
struct Args {
    /// Ends by itself: 0 when every device agreed with its mailbox, else 1.
    #[arg(long)]
    once: bool,
    /// With a private real Dovecot (Debian: dovecot-imapd, dovecot-lmtpd) instead of the simulated mail server.
    #[arg(long)]
    dovecot: bool,
    /// Mailboxes, two phones each.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=50))]
    mailboxes: u32,
}

/// Runs the demo.
pub(crate) fn main_with(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args = match Args::try_parse_from(args) {
        Ok(args) => args,
        Err(error) => {
            let code = error.exit_code();
            // Nothing can be said where nothing can be written.
            let _unsaid = error.print();
            return ExitCode::from(u8::try_from(code).unwrap_or(64));
        }
    };
    match show(&args, &mut io::stdout()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _unsaid = writeln!(io::stderr(), "demo: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Everything that runs.
struct Demo {
    stand: Stand,
    mail: Mail,
    names: Vec<String>,
    phones: Vec<Phone>,
    clock: Clock,
    is_ending: Arc<AtomicBool>,
}

fn show(args: &Args, out: &mut impl Write) -> io::Result<bool> {
    let demo = start(args)?;
    demo.welcome(out)?;
    let mut rng = fastrand::Rng::with_seed(7);
    let mut deeds = 0;
    let mut is_true = demo.agree(out, "at the start", "")?;
    while !demo.is_ending.load(Ordering::Relaxed) && !(args.once && deeds == DEEDS_ONCE) {
        let name = rng.choice(&demo.names).cloned().unwrap_or_default();
        let deed = match rng.u32(0..10) {
            0..5 => Deed::Deliver,
            5..8 => Deed::Read,
            8 => Deed::ReadAll,
            _ => Deed::Delete,
        };
        demo.mail.apply(&name, deed)?;
        is_true &= demo.agree(out, &name, &deed.to_string())?;
        deeds += 1;
        if !args.once {
            let _ended = try_until(PAUSE, || demo.is_ending.load(Ordering::Relaxed).then_some(()));
        }
    }
    if args.once {
        let word = if is_true { "every device agreed with its mailbox" } else { "not every device agreed" };
        writeln!(out, "\n{word}: {} devices, {deeds} changes", demo.phones.len())?;
    }
    Ok(is_true)
}

fn start(args: &Args) -> io::Result<Demo> {
    let count = args.mailboxes as usize;
    let store = (!args.dovecot).then(|| MailStore::new(count, ORGANIZATION));
    let mut stand = Stand::new(store)?;
    let dict = stand.folder().join("dict.sock").display().to_string();
    let (mail, sources) = if args.dovecot {
        let dovecot = real_server(args.mailboxes, &dict)?;
        let sources = dovecot_sources(&dovecot, &dict);
        (Mail::Real(Box::new(dovecot)), sources)
    } else {
        let store = stand.world().mail_store.clone().ok_or_else(|| io::Error::other("no mail store"))?;
        (Mail::Simulated(store), stand.imap_source("auto"))
    };
    stand.configure("max-hold = \"100ms\"", &sources, MASTER_PASSWORD)?;
    stand.set_up()?;
    let names = mail.names(count);
    let of_mailbox = |(number, name): (usize, &String)| [0, 1].map(|phone| Phone::new(name, number, phone));
    let phones: Vec<Phone> = names.iter().enumerate().flat_map(of_mailbox).collect();
    stand.subscribe(&phones)?;
    stand.start_agent()?;
    let is_ending = Arc::new(AtomicBool::new(false));
    let ending = Arc::clone(&is_ending);
    stand.spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            ending.store(true, Ordering::Relaxed);
        }
    });
    Ok(Demo { stand, mail, names, phones, clock: Clock::start(), is_ending })
}

/// A real Dovecot, or a word on how to get one.
fn real_server(users: u32, dict: &str) -> io::Result<Dovecot> {
    let is_there =
        Command::new("dovecot").arg("--version").output().is_ok_and(|output| output.status.success());
    if !is_there {
        let text = "no Dovecot here; on Debian: apt-get install dovecot-core dovecot-imapd dovecot-lmtpd";
        return Err(io::Error::other(text));
    }
    Ok(Dovecot::start(Options { users, dict: Some(format!("proxy:{dict}:unseen")), ..Options::default() }))
}

impl Demo {
    fn welcome(&self, out: &mut impl Write) -> io::Result<()> {
        let simulator = &self.stand.simulator;
        let mail = match &self.mail {
            Mail::Simulated(_) => "simulated, ",
            Mail::Real(_) => "Dovecot, ",
        };
        writeln!(out, "mailbadge demo: all on loopback, nothing to configure\n")?;
        writeln!(out, "  page    {}   <- open this in a browser", simulator.page_url)?;
        writeln!(out, "  relay   {}", simulator.relay_url)?;
        writeln!(out, "  mail    {mail}{} mailboxes, two phones each", self.names.len())?;
        writeln!(out, "  agent   logs to {}", self.stand.folder().join("agent.log").display())?;
        writeln!(out, "\nCtrl-C ends it.\n")
    }

    /// Waits until all devices show what is true, and says how long that took.
    fn agree(&self, out: &mut impl Write, name: &str, deed: &str) -> io::Result<bool> {
        let begin = self.clock.now().moment;
        let truth: Vec<(String, u32)> = self
            .names
            .iter()
            .map(|name| Ok((name.clone(), self.mail.unseen(name)?)))
            .collect::<io::Result<_>>()?;
        let of =
            |mailbox: &str| truth.iter().find(|(name, _)| name == mailbox).map_or(0, |(_, unseen)| *unseen);
        let agreed = try_until(AGREE_MAX, || self.stand.wrong(&self.phones, of).is_empty().then_some(()));
        let took = self.clock.now().moment.since(begin);
        let phones = self.phones.iter().filter(|phone| phone.mailbox == name);
        let badges: Vec<String> = phones.map(|phone| self.badge(phone)).collect();
        let verdict = if agreed.is_some() { "ok" } else { "WRONG" };
        let unseen = if deed.is_empty() { String::new() } else { format!("{:>3} unseen", of(name)) };
        let millis = took.as_millis();
        writeln!(
            out,
            "  {name:<20} {deed:<10} {unseen:<11} {:<28} {verdict:<5} {millis:>5} ms",
            badges.join("  ")
        )?;
        out.flush()?;
        Ok(agreed.is_some())
    }

    fn badge(&self, phone: &Phone) -> String {
        let name = if phone.app == App::Mowa { "Android" } else { "iPhone" };
        let badge = self.stand.badge(phone).map_or_else(|| "-".to_owned(), |badge| badge.to_string());
        format!("{name} {badge}")
    }
}
