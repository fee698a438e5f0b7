//! Runs a load test: bring everything up, watch until every icon is true, keep quiet, do the plan, wait
//! until every icon is true again, count.

use super::agent::{Admin, Agent, Daemon, write_private};
use super::host::Host;
use super::ledger::{DeviceIndex, Wrong};
use super::notifier::Notifier;
use super::plan::{self, Plan};
use super::report::{AgentFigures, Asked, LoadReport, Logins, Percentiles, WrongBadge};
use super::usage::Usage;
use super::{Args, ORGANIZATION, Source, name_of, traffic};
use crate::peers::imap_server;
use crate::peers::mail_store::AccountId;
use crate::peers::relay::EXCHANGE_APPLICATION_ID;
use crate::peers::tenant::credential::KeyCredential;
use crate::peers::tenant::{Issuer, Tenant};
use crate::serve::notifiers::StatusChange;
use crate::serve::{self, Running, imap};
use anyhow::{Context as _, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

/// The tenant at the relay.
const TENANT: &str = "11111111-2222-3333-4444-555555555555";
/// Wrong badges that a report names, at most.
const WRONG_SHOWN_MAX: usize = 20;
/// Between two looks at how many icons are true.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// What the first truth may take beside the time for log-ins.
const FIRST_TRUTH_MAX: Duration = Duration::from_mins(1);

/// Everything that runs during a load test.
struct LoadTest {
    host: Arc<Host>,
    running: Running,
    agent: Agent,
    daemon: Daemon,
    notifier: Option<Notifier>,
    // Removed with everything in it at the end.
    _temporary: Option<tempfile::TempDir>,
}

/// Runs a load test.
pub(super) async fn run(args: &Args) -> Result<LoadReport> {
    let mut test = LoadTest::start(args).await?;
    let empty = test.daemon.usage()?;
    let mut report = blank(args);
    report.agent.rss_empty_bytes = empty.rss_bytes;
    test.watch(args, &mut report).await?;
    test.keep_quiet(args, &mut report).await?;
    test.load(args, &mut report).await?;
    test.finish(args, &mut report).await?;
    Ok(report)
}

impl LoadTest {
    /// Peers, a configured agent with the relay's trust, and its daemon, which watches nothing yet.
    async fn start(args: &Args) -> Result<Self> {
        let host = Host::new(args.mailboxes as usize, args.devices_per_mailbox as usize);
        let (folder, temporary) = folder(args.folder.as_deref())?;
        let running = serve::start(serve_options(args, &host, &folder)).await?;
        running.world.relay.lock().devices.set_listener(Some(Arc::clone(&host) as Arc<_>));
        let agent = agent(args, &folder, &running)?;
        introduce(&agent, &running).await?;
        let daemon = match (args.agent_pid, &args.admin) {
            (Some(pid), Some(admin)) => Daemon::adopt(pid, Admin::parse(admin)).await?,
            _ => agent.start().await?,
        };
        let notifier = Notifier::connect(args, |name| agent.file(name), host.started).await?;
        Ok(Self { host, running, agent, daemon, notifier, _temporary: temporary })
    }

    /// Subscribes every device and waits until each shows its count.
    async fn watch(&mut self, args: &Args, report: &mut LoadReport) -> Result<()> {
        let list = self.agent.file("subscriptions.jsonl");
        write_private(&list, &self.subscriptions(args)?)?;
        let path = list.to_str().context("the folder's name is not UTF-8")?;
        self.agent.command(&["subscription", "add", "--from", path]).await?;
        let started = self.host.now();
        let logins_max =
            Duration::from_secs_f64(f64::from(args.mailboxes) / f64::from(args.login_rate.max(1)));
        let at_most = FIRST_TRUTH_MAX + logins_max * 2;
        let devices = u64::from(args.mailboxes) * u64::from(args.devices_per_mailbox);
        let progress = progress(devices, "first counts");
        let mut logins = Logins::default();
        loop {
            self.tell_wrong_ones().await;
            let is_settled = self.host.settle(LOOK_EVERY).await;
            let elapsed = self.host.since(started);
            let count = self.running.imap.as_ref().map_or(0, imap::ImapListener::logins);
            logins.per_second_max = logins.per_second_max.max(count - logins.count);
            logins.count = count;
            logins.seconds = elapsed.as_secs_f64();
            let wrong = self.host.ledger.lock().wrong();
            progress.set_position(devices.saturating_sub(wrong as u64));
            if is_settled {
                break;
            }
            if elapsed > at_most {
                let why =
                    self.daemon.get("/readyz").await.map_or_else(|error| error.to_string(), |(_, why)| why);
                bail!(
                    "{wrong} of {devices} devices were not told their first count within {at_most:?}; {}",
                    why.trim()
                );
            }
        }
        progress.finish_and_clear();
        report.first_truth_seconds = logins.seconds;
        report.logins = logins;
        Ok(())
    }

    /// An agent that is told learns a count only when it changes: say it again where an icon is wrong.
    async fn tell_wrong_ones(&mut self) {
        let Some(notifier) = &mut self.notifier else { return };
        let wrong = self.host.ledger.lock().wrong_ones(usize::MAX);
        for Wrong { account, .. } in wrong {
            let account = AccountId(account as u32);
            let told = {
                let store = self.host.store.lock();
                store.name(account).cloned().zip(store.status(account))
            };
            if let Some((name, status)) = told {
                notifier.tell(account, StatusChange { name, status }).await;
            }
        }
    }

    /// What the idle agent takes.
    async fn keep_quiet(&self, args: &Args, report: &mut LoadReport) -> Result<()> {
        let (before, since) = (self.daemon.usage()?, self.host.now());
        sleep(args.quiet).await;
        let after = self.daemon.usage()?;
        let elapsed = self.host.since(since);
        let figures = &mut report.agent;
        figures.rss_watching_bytes = after.rss_bytes;
        let grown = after.rss_bytes.saturating_sub(figures.rss_empty_bytes);
        figures.rss_per_mailbox_bytes = grown as f64 / f64::from(args.mailboxes);
        figures.cpu_idle_percent = after.cpu_percent_since(before, elapsed);
        figures.idle_seconds = elapsed.as_secs_f64();
        Ok(())
    }

    /// Carries out the plan.
    async fn load(&mut self, args: &Args, report: &mut LoadReport) -> Result<()> {
        self.host.ledger.lock().begin();
        if let Some(notifier) = &mut self.notifier {
            notifier.begin();
        }
        let plan = Plan::new(plan_settings(args), args.seed);
        for quirk in &args.quirk {
            self.host.store.lock().set_quirk(None, *quirk, true);
        }
        let progress = progress(plan.expected(), "changes");
        let (before, since): (Usage, Duration) = (self.daemon.usage()?, self.host.now());
        let mut notifier = self.notifier.take();
        let (host, seed, bar) = (Arc::clone(&self.host), args.seed, progress.clone());
        let driven = tokio::task::spawn_blocking(move || {
            let lateness = traffic::run(&host, plan, notifier.as_mut(), seed, &bar);
            (lateness, notifier)
        });
        let (lateness, notifier) = driven.await?;
        self.notifier = notifier;
        let elapsed = self.host.since(since);
        progress.finish_and_clear();
        report.elapsed_seconds = elapsed.as_secs_f64();
        report.generator_lateness_ms = Percentiles::of(&lateness);
        report.agent.cpu_load_percent = self.daemon.usage()?.cpu_percent_since(before, elapsed);
        Ok(())
    }

    /// Waits for the truth, and counts.
    async fn finish(self, args: &Args, report: &mut LoadReport) -> Result<()> {
        let settled = self.host.steady(args.settle).await;
        report.settle_seconds = settled.map(|took| took.as_secs_f64());
        report.agent.rss_end_bytes = self.daemon.usage()?.rss_bytes;
        if let Some(imap) = &self.running.imap {
            report.logins.later = imap.logins() - report.logins.count;
        }
        if let Some(notifier) = &self.notifier {
            report.mail_server_wait_ms = Percentiles::of(&notifier.waits());
            report.failures.extend(notifier.failure());
            if notifier.unanswered() > 0 {
                report.failures.push(format!("{} commits were never answered", notifier.unanswered()));
            }
        }
        if let Err(error) = self.daemon.stop().await {
            report.failures.push(format!("{error:#}"));
        }
        {
            let ledger = self.host.ledger.lock();
            report.count(ledger.totals());
            report.latency_ms = Percentiles::of(ledger.latencies());
            report.wrong = ledger.wrong();
            let store = self.host.store.lock();
            let named = |wrong: Wrong| WrongBadge {
                mailbox: store
                    .name(AccountId(wrong.account as u32))
                    .map_or_else(String::new, ToString::to_string),
                device: wrong.device,
                truth: wrong.truth,
                shown: wrong.shown,
            };
            report.wrong_ones = ledger.wrong_ones(WRONG_SHOWN_MAX).into_iter().map(named).collect();
        }
        self.running.stop().await;
        Ok(())
    }

    /// A line for `subscription add --from` for every device.
    fn subscriptions(&self, args: &Args) -> Result<String> {
        let mut lines = String::new();
        let store = self.host.store.lock();
        for (account, name) in store.names() {
            for device in 0..args.devices_per_mailbox {
                let index = DeviceIndex((account.0 * args.devices_per_mailbox + device) as usize);
                let line = serde_json::json!({
                    "Mailbox": &**name,
                    "AppId": "com.microsoft.exchange.iphone",
                    "DeviceNotificationId": index.token(),
                    "DeviceNotificationType": "APNS",
                });
                writeln!(lines, "{line}")?;
            }
        }
        Ok(lines)
    }
}

/// The agent with a configuration of ours, or with its own.
fn agent(args: &Args, folder: &Path, running: &Running) -> Result<Agent> {
    let (program, leading) = (args.agent_program(), args.agent_arg.clone());
    match &args.agent_config {
        Some(file) => Ok(Agent::configured(program, leading, folder, file.clone())),
        None => Agent::configure(program, leading, folder, &args.configuration(folder, running)?),
    }
}

/// The agent's certificate at the relay, the relay's address at the agent.
async fn introduce(agent: &Agent, running: &Running) -> Result<()> {
    let export = agent.file("export");
    let path = export.to_str().context("the folder's name is not UTF-8")?;
    agent.command(&["setup", "--organization", ORGANIZATION, "--export-dir", path]).await?;
    let uri = running.relay_url.as_str();
    agent.command(&["proxy", "enable", "--organization", ORGANIZATION, "--uri", uri]).await?;
    let file = export.join("OAuthCert.cer");
    let der = std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let credential = KeyCredential::from_der(&der).with_context(|| file.display().to_string())?;
    let issuer = Issuer::new(EXCHANGE_APPLICATION_ID, ORGANIZATION).with(credential);
    let tenant = Tenant {
        id: TENANT.to_owned(),
        accepted_domains: vec![ORGANIZATION.to_owned()],
        partner_applications: vec![issuer],
        ..Tenant::default()
    };
    running.world.put_tenant(tenant)?;
    Ok(())
}

fn serve_options(args: &Args, host: &Arc<Host>, folder: &Path) -> serve::Options {
    let settings = imap_server::Settings { window: args.window, ..imap_server::Settings::default() };
    let imap = imap::Options { listen: args.imap, settings, seed: args.seed, ..imap::Options::default() };
    serve::Options {
        relay_listen: args.relay,
        state_dir: Some(folder.join("relay")),
        mail_store: (args.source == Source::Imap).then(|| Arc::clone(&host.store)),
        imap,
        imap_tls: args.imap_tls(),
        seed: args.seed,
        ..serve::Options::default()
    }
}

fn plan_settings(args: &Args) -> plan::Settings {
    plan::Settings {
        mailboxes: args.mailboxes,
        rate: args.rate,
        duration: args.duration,
        shape: args.shape,
        mix: args.mix,
    }
}

/// The folder that was asked for, or one of our own that goes with the test. Short, for socket paths.
fn folder(given: Option<&Path>) -> Result<(PathBuf, Option<tempfile::TempDir>)> {
    if let Some(path) = given {
        std::fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))?;
        let path = path.canonicalize().with_context(|| path.display().to_string())?;
        return Ok((path, None));
    }
    let folder = tempfile::Builder::new().prefix("mailbadge-load-").tempdir()?;
    Ok((folder.path().to_owned(), Some(folder)))
}

/// A bar on a terminal; nothing elsewhere.
fn progress(length: u64, what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg:14} {bar:40} {pos}/{len}  {per_sec}  {elapsed}");
    let bar = ProgressBar::new(length).with_message(what);
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn blank(args: &Args) -> LoadReport {
    LoadReport {
        asked: Asked {
            source: name_of(&args.source),
            mailboxes: args.mailboxes as usize,
            devices_per_mailbox: args.devices_per_mailbox as usize,
            rate: args.rate,
            seconds: args.duration.as_secs_f64(),
            shape: name_of(&args.shape),
            mix: args.mix.to_string(),
            seed: args.seed,
            imap_window_ms: args.window.as_millis() as u64,
            login_rate: args.login_rate,
        },
        changes: 0,
        changes_shown_already: 0,
        changes_unmeasured: 0,
        acknowledgements: 0,
        elapsed_seconds: 0.0,
        latency_ms: Percentiles::default(),
        generator_lateness_ms: Percentiles::default(),
        mail_server_wait_ms: Percentiles::default(),
        first_truth_seconds: 0.0,
        settle_seconds: None,
        agent: AgentFigures::default(),
        logins: Logins::default(),
        wrong: 0,
        wrong_ones: Vec::new(),
        failures: Vec::new(),
    }
}
