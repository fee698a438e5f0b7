//! What a load test found, as text and as JSON.

use super::ledger::Totals;
use hdrhistogram::Histogram;
use serde::Serialize;
use std::fmt;

/// Mailboxes from which on memory is also told for each.
const EACH_SHOWN_FROM: usize = 500;

/// Percentiles of a histogram, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Percentiles {
    /// How many values.
    pub count: u64,
    /// Half are below.
    pub p50: f64,
    /// 90 of 100 are below.
    pub p90: f64,
    /// 99 of 100 are below.
    pub p99: f64,
    /// 999 of 1000 are below.
    pub p999: f64,
    /// The longest.
    pub max: f64,
}

impl Percentiles {
    /// Of a histogram of microseconds.
    pub(super) fn of(micros: &Histogram<u64>) -> Self {
        let at = |quantile| micros.value_at_quantile(quantile) as f64 / 1000.0;
        if micros.is_empty() {
            return Self::default();
        }
        Self { count: micros.len(), p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max: at(1.0) }
    }
}

impl fmt::Display for Percentiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.count == 0 {
            return f.write_str("none measured");
        }
        let Self { p50, p90, p99, p999, max, .. } = self;
        write!(f, "p50 {p50:.2}  p90 {p90:.2}  p99 {p99:.2}  p99.9 {p999:.2}  max {max:.2} ms")
    }
}

/// What was asked for.
#[derive(Clone, Debug, Serialize)]
pub struct Asked {
    /// `imap` or `dovecot`.
    pub source: String,
    /// Mailboxes.
    pub mailboxes: usize,
    /// Devices of each.
    pub devices_per_mailbox: usize,
    /// Steps per second.
    pub rate: f64,
    /// For so long.
    pub seconds: f64,
    /// Shape of the rate.
    pub shape: String,
    /// Arrivals, reads, expunges.
    pub mix: String,
    /// Seed of plan and chance.
    pub seed: u64,
    /// Milliseconds in which the simulated server merges changes, IMAP only.
    pub imap_window_ms: u64,
    /// Log-ins per second that the agent is allowed.
    pub login_rate: u32,
}

/// What the agent took of the machine.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct AgentFigures {
    /// Resident bytes when ready, with nothing subscribed.
    pub rss_empty_bytes: u64,
    /// Resident bytes when every mailbox was watched and quiet.
    pub rss_watching_bytes: u64,
    /// Resident bytes at the end.
    pub rss_end_bytes: u64,
    /// What a watched mailbox adds, in bytes.
    pub rss_per_mailbox_bytes: f64,
    /// Percent of one core while nothing happened …
    pub cpu_idle_percent: f64,
    /// … for so long.
    pub idle_seconds: f64,
    /// Percent of one core under load.
    pub cpu_load_percent: f64,
}

/// Log-ins at the simulated IMAP server.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Logins {
    /// Until every mailbox was watched.
    pub count: u64,
    /// In how many seconds.
    pub seconds: f64,
    /// In the second that had most.
    pub per_second_max: u64,
    /// From then to the end.
    pub later: u64,
}

/// An icon that did not show the truth at the end.
#[derive(Clone, Debug, Serialize)]
pub struct WrongBadge {
    /// The mailbox.
    pub mailbox: String,
    /// Which of its devices, from 0.
    pub device: usize,
    /// UNSEEN.
    pub truth: u32,
    /// The badge; `null`: none was ever sent.
    pub shown: Option<u32>,
}

/// Everything a load test found.
#[derive(Clone, Debug, Serialize)]
pub struct LoadReport {
    /// What was asked for.
    pub asked: Asked,
    /// Changes of a count.
    pub changes: u64,
    /// Of these, how many led to the number that the icon showed already: not measured.
    pub changes_shown_already: u64,
    /// Of these, how many were dropped from measuring since too many of one mailbox waited.
    pub changes_unmeasured: u64,
    /// Notifications that reached a device.
    pub acknowledgements: u64,
    /// Seconds from the first step's due time to the last step done.
    pub elapsed_seconds: f64,
    /// From when a change was due to its mailbox's first device showing it, or a newer one.
    pub latency_ms: Percentiles,
    /// How late the generator itself was; it is part of the latencies.
    pub generator_lateness_ms: Percentiles,
    /// How long Dovecot's processes waited for the agent; nothing with IMAP.
    pub mail_server_wait_ms: Percentiles,
    /// Seconds from the subscriptions to every icon being true for the first time.
    pub first_truth_seconds: f64,
    /// Seconds from the last step to every icon being true; `null`: it did not come to that.
    pub settle_seconds: Option<f64>,
    /// What the agent took.
    pub agent: AgentFigures,
    /// Log-ins, with IMAP.
    pub logins: Logins,
    /// Icons that were wrong at the end.
    pub wrong: usize,
    /// Some of them.
    pub wrong_ones: Vec<WrongBadge>,
    /// What else went wrong.
    pub failures: Vec<String>,
}

impl LoadReport {
    /// Whether every badge was true in the end and nothing failed.
    pub fn is_good(&self) -> bool {
        self.wrong == 0 && self.failures.is_empty()
    }

    /// Takes over what the ledger counted.
    pub(super) fn count(&mut self, totals: Totals) {
        self.changes = totals.changes;
        self.changes_shown_already = totals.needless;
        self.changes_unmeasured = totals.unmeasured;
        self.acknowledgements = totals.notifications;
    }
}

/// Bytes as people read them.
fn bytes(bytes: f64) -> String {
    match bytes {
        b if b >= 1024.0 * 1024.0 => format!("{:.1} MiB", b / 1024.0 / 1024.0),
        b if b >= 1024.0 => format!("{:.2} KiB", b / 1024.0),
        b => format!("{b:.0} B"),
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source, mailboxes, devices_per_mailbox, rate, seconds, shape, mix, seed, .. } = self;
        write!(f, "{source}, {mailboxes} mailboxes × {devices_per_mailbox} devices, ")?;
        write!(f, "{rate}/s {shape} for {seconds} s, {mix}, seed {seed}")
    }
}

impl fmt::Display for WrongBadge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { mailbox, device, truth, shown } = self;
        let shown = shown.map_or("nothing".to_owned(), |shown| shown.to_string());
        write!(f, "{mailbox}, device {device}: shows {shown}, should show {truth}")
    }
}

impl LoadReport {
    fn changes_line(&self) -> String {
        let per_second = self.changes as f64 / self.elapsed_seconds.max(f64::EPSILON);
        format!("{} ({per_second:.0}/s; {} shown already)", self.changes, self.changes_shown_already)
    }

    /// What only one of the sources has.
    fn source_line(&self) -> (&'static str, String) {
        if self.asked.source != "imap" {
            return ("Mail server waits", self.mail_server_wait_ms.to_string());
        }
        let Logins { count, seconds, per_second_max, later } = self.logins;
        let allowed = self.asked.login_rate;
        let rate = format!("{per_second_max}/s at most ({allowed}/s allowed)");
        ("Log-ins", format!("{count} in {seconds:.1} s, {rate}, {later} later"))
    }

    fn truth_line(&self) -> String {
        let settled = self.settle_seconds.map(|seconds| format!("{seconds:.2} s after the last step"));
        let settled = settled.as_deref().unwrap_or("never after the last step");
        format!("{:.1} s after subscribing, {settled}", self.first_truth_seconds)
    }

    fn memory_line(&self) -> String {
        let agent = &self.agent;
        let [empty, watching, end] =
            [agent.rss_empty_bytes, agent.rss_watching_bytes, agent.rss_end_bytes].map(|b| bytes(b as f64));
        // With few mailboxes what is needed once outweighs what each needs.
        let each = if self.asked.mailboxes >= EACH_SHOWN_FROM {
            format!(" ({} a mailbox)", bytes(agent.rss_per_mailbox_bytes))
        } else {
            String::new()
        };
        format!("{empty} empty, {watching} watching{each}, {end} at the end")
    }

    fn cpu_line(&self) -> String {
        let AgentFigures { cpu_idle_percent, idle_seconds, cpu_load_percent, .. } = self.agent;
        format!(
            "{cpu_idle_percent:.2} % of a core idle over {idle_seconds:.0} s, {cpu_load_percent:.1} % under load"
        )
    }
}

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (source, of_source) = self.source_line();
        let lines = [
            ("Asked", self.asked.to_string()),
            ("Changes", self.changes_line()),
            ("Acknowledgements", self.acknowledgements.to_string()),
            ("Latency", format!("{}  (from due to shown)", self.latency_ms)),
            ("Generator late", self.generator_lateness_ms.to_string()),
            (source, of_source),
            ("All true", self.truth_line()),
            ("Agent's memory", self.memory_line()),
            ("Agent's CPU", self.cpu_line()),
        ];
        let failures = self.failures.iter().map(|failure| ("Failure", failure.clone()));
        let wrong = std::iter::once(("Wrong badges", self.wrong.to_string()));
        let wrong_ones = self.wrong_ones.iter().map(|one| ("", one.to_string()));
        for (name, value) in lines.into_iter().chain(failures).chain(wrong).chain(wrong_ones) {
            writeln!(f, "{name:<18}{value}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_in_milliseconds() {
        let mut micros = Histogram::new_with_bounds(1, 60_000_000, 3).unwrap();
        assert_eq!(Percentiles::of(&micros).to_string(), "none measured");
        (1..=1000).for_each(|ms| micros.record(ms * 1000).unwrap());
        let percentiles = Percentiles::of(&micros);
        assert!((499.0..502.0).contains(&percentiles.p50), "{percentiles}");
        assert!((989.0..992.0).contains(&percentiles.p99), "{percentiles}");
    }

    #[test]
    fn bytes_are_written_as_people_read_them() {
        let table = [(0.0, "0 B"), (1023.0, "1023 B"), (1536.0, "1.50 KiB"), (3_145_728.0, "3.0 MiB")];
        for (number, text) in table {
            assert_eq!(bytes(number), text);
        }
    }
}
