//! `cargo demo`: simulator, agent and page on loopback; counts rise and fall on phones until Ctrl-C.

use crate::mail::{Deed, Mail};
use clap::Parser;
use mailbadge::time::driver::Clock;
use mailbadge_sim::peers::mail_store::MailStore;
use std::ffi::OsString;
use std::io::{self, Write};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use support::cloud::{Cloud, ORGANIZATION};
use support::dovecot::{Dovecot, Options};
use support::host::{APPS, Host, badges, device_id};
use support::process::try_until;

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

/// Everything that runs; ends in this order.
struct Demo {
    host: Host,
    mail: Mail,
    cloud: Cloud,
    names: Vec<String>,
    clock: Clock,
    is_ending: Arc<AtomicBool>,
}

fn show(args: &Args, out: &mut impl Write) -> io::Result<bool> {
    let demo = start(args)?;
    demo.welcome(out)?;
    let mut rng = fastrand::Rng::with_seed(7);
    let mut deeds = 0;
    let mut is_true = demo.agree(out, "at the start", "")?;
    while !demo.is_ending.load(Ordering::Relaxed) && (!args.once || deeds < DEEDS_ONCE) {
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
        writeln!(out, "\n{word}: {} devices, {deeds} changes", demo.names.len() * APPS.len())?;
    }
    Ok(is_true)
}

fn start(args: &Args) -> io::Result<Demo> {
    let count = args.mailboxes as usize;
    let cloud = Cloud::start_with((!args.dovecot).then(|| MailStore::new(count, ORGANIZATION)));
    let mut host = Host::new();
    let (mail, sources) = if let Some((store, address)) = cloud.mail_store() {
        (Mail::Simulated(store), host.imap_source_at(address, "auto"))
    } else {
        let dovecot = real_server(args.mailboxes, host.dict())?;
        let sources = host.dovecot_source() + &host.imap_source(&dovecot, "auto");
        (Mail::Real(Box::new(dovecot)), sources)
    };
    host.configure_with(&cloud, "max-hold = \"100ms\"", &sources);
    let names = mail.names(count);
    host.subscribe(&names);
    for name in &names {
        for app in APPS {
            cloud.name_device(app, &device_id(name), name);
        }
    }
    host.start();
    let is_ending = Arc::new(AtomicBool::new(false));
    let ending = Arc::clone(&is_ending);
    cloud.spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            ending.store(true, Ordering::Relaxed);
        }
    });
    Ok(Demo { host, mail, cloud, names, clock: Clock::start(), is_ending })
}

/// A real Dovecot, or a word on how to get one.
fn real_server(users: u32, dict: String) -> io::Result<Dovecot> {
    let is_there =
        Command::new("dovecot").arg("--version").output().is_ok_and(|output| output.status.success());
    if !is_there {
        let text = "no Dovecot here; on Debian: apt-get install dovecot-core dovecot-imapd dovecot-lmtpd";
        return Err(io::Error::other(text));
    }
    Ok(Dovecot::start(Options { users, dict: Some(dict), ..Options::default() }))
}

impl Demo {
    fn welcome(&self, out: &mut impl Write) -> io::Result<()> {
        let mail = match &self.mail {
            Mail::Simulated(_) => "simulated, ",
            Mail::Real(_) => "Dovecot, ",
        };
        writeln!(out, "mailbadge demo: all on loopback, nothing to configure\n")?;
        writeln!(out, "  page    {}   <- open this in a browser", self.cloud.page_url())?;
        writeln!(out, "  relay   {}", self.cloud.url())?;
        writeln!(out, "  mail    {mail}{} mailboxes, a phone and a tablet each", self.names.len())?;
        writeln!(out, "  agent   logs to {}", self.host.folder().join("agent.log").display())?;
        writeln!(out, "\nCtrl-C ends it.\n")
    }

    /// Waits until all devices show what is true, and says how long that took.
    fn agree(&self, out: &mut impl Write, name: &str, deed: &str) -> io::Result<bool> {
        let begin = self.clock.now().moment;
        let truth: Vec<u32> =
            self.names.iter().map(|name| self.mail.unseen(name)).collect::<io::Result<_>>()?;
        let is_true = |(name, unseen): (&String, &u32)| badges(&self.cloud, name) == [Some(*unseen); 2];
        let agreed = try_until(AGREE_MAX, || self.names.iter().zip(&truth).all(is_true).then_some(()));
        let millis = self.clock.now().moment.since(begin).as_millis();
        let verdict = if agreed.is_some() { "ok" } else { "WRONG" };
        let numbers =
            self.names.iter().zip(&truth).find(|(known, _)| *known == name).map(|(name, unseen)| {
                let [phone, tablet] =
                    badges(&self.cloud, name).map(|badge| badge.map_or("-".to_owned(), |n| n.to_string()));
                format!("{unseen:>3} unseen   phone {phone:<3} tablet {tablet:<3}")
            });
        let numbers = numbers.unwrap_or_default();
        writeln!(out, "  {name:<20} {deed:<10} {numbers:<36} {verdict:<5} {millis:>5} ms")?;
        out.flush()?;
        Ok(agreed.is_some())
    }
}
