//! The metrics' names and labels (product.md §3.3), written in OpenMetrics text from [`Figures`].

use super::Figures;
use crate::counters::{Count, FlowCounters, Histogram, SourceCounters};
use crate::time::UnixMs;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use std::fmt;

/// `Content-Type` of what [`text`] gives.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All metrics.
pub(super) fn text(figures: Figures) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("mailbadge");
    registry.register_collector(Box::new(Exposition(figures)));
    let mut text = String::with_capacity(8 * 1024);
    encode(&mut text, &registry)?;
    Ok(text)
}

#[derive(Debug)]
struct Exposition(Figures);

impl Collector for Exposition {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let to = &mut encoder;
        sources(to, &self.0)?;
        flow(to, &self.0.flow)?;
        state(to, &self.0)
    }
}

/// One sample: its labels and its number.
type Sample<'a, N> = (Vec<(&'static str, &'a str)>, N);

fn sources(to: &mut DescriptorEncoder, figures: &Figures) -> fmt::Result {
    let mailboxes =
        of_each(figures, "state", &[("watched", |it| &it.watched), ("waiting", |it| &it.waiting)]);
    let mailboxes = mailboxes.into_iter().map(|(labels, number)| (labels, number as f64)).collect();
    gauge(to, "mailboxes", "Mailboxes that a source watches, or waits to watch", mailboxes)?;
    let kinds: &[Labeled] = &[
        ("reading", |it| &it.readings),
        ("hint", |it| &it.hints),
        ("skipped", |it| &it.skipped),
        ("ignored", |it| &it.ignored),
        ("unknown", |it| &it.unknown),
    ];
    counter(to, "observations", "What sources said, by what it was worth", of_each(figures, "kind", kinds))?;
    let results: &[Labeled] = &[("ok", |it| &it.logins_ok), ("refused", |it| &it.logins_refused)];
    counter(to, "logins", "Log-ins at mail servers", of_each(figures, "result", results))?;
    let lost = of_each(figures, "", &[("", |it| &it.connections_lost)]);
    counter(to, "connections_lost", "Connections to mail servers that failed or ended", lost)?;
    let corrections = of_each(figures, "", &[("", |it| &it.sweep_corrections)]);
    counter(to, "sweep_corrections", "Counts that only a sweep found", corrections)
}

/// A label's value with the number that stands under it.
type Labeled = (&'static str, fn(&SourceCounters) -> &Count);

/// A sample per source and label value; with an empty label, one per source.
fn of_each<'a>(figures: &'a Figures, label: &'static str, labeled: &[Labeled]) -> Vec<Sample<'a, u64>> {
    let mut samples = Vec::new();
    for source in &figures.sources {
        for (value, read) in labeled {
            let mut labels = vec![("source", source.name.as_str())];
            labels.extend((!label.is_empty()).then_some((label, *value)));
            samples.push((labels, read(&source.counters).get()));
        }
    }
    samples
}

fn flow(to: &mut DescriptorEncoder, flow: &FlowCounters) -> fmt::Result {
    counter(to, "changes", "Counts that moved", vec![(Vec::new(), flow.changes.get())])?;
    let results = |rows: &[(&'static str, u64)]| {
        rows.iter().map(|(result, number)| (vec![("result", *result)], *number)).collect()
    };
    let notifications = results(&[
        ("acknowledged", flow.acknowledged.get()),
        ("gone", flow.gone.get()),
        ("invalid", flow.invalid.get()),
        ("throttled", flow.throttled.get()),
    ]);
    counter(to, "notifications_sent", "Devices told, by what the relay said of each", notifications)?;
    let batches = results(&[
        ("accepted", flow.batches_accepted.get()),
        ("retried", flow.batches_retried.get()),
        ("split", flow.batches_split.get()),
        ("halted", flow.batches_halted.get()),
    ]);
    counter(to, "batches", "Batches, by what came of them", batches)?;
    histogram(to, "batch_size", "Notifications in a batch", &flow.batch_size)?;
    let help = "From a change observed to its acknowledgement";
    histogram(to, "change_to_ack_seconds", help, &flow.change_to_ack_seconds)
}

fn state(to: &mut DescriptorEncoder, figures: &Figures) -> fmt::Result {
    let one = |number: f64| vec![(Vec::new(), number)];
    let seconds = |at: UnixMs| at.seconds() as f64;
    gauge(to, "behind", "Mailboxes whose acknowledged count is not their count", one(figures.behind as f64))?;
    let oldest = one(figures.oldest_unacknowledged_seconds);
    gauge(to, "oldest_unacknowledged_seconds", "Age of the oldest change not acknowledged", oldest)?;
    let help = "Mailboxes that a source could read and did not, in time";
    gauge(to, "unknown", help, one(figures.unknown as f64))?;
    let help = "Mailboxes of which nothing was reported since the start, where no source can be asked";
    gauge(to, "unconfirmed", help, one(figures.unconfirmed as f64))?;
    let token = figures.token_expires_at.map(|at| (Vec::new(), seconds(at)));
    gauge(to, "token_expiry_timestamp_seconds", "Until when the token is used", token.into_iter().collect())?;
    let certificates = figures.certificates.iter().map(|(role, at)| (vec![("role", *role)], seconds(*at)));
    let help = "End of the certificates that tokens are signed with";
    gauge(to, "certificate_expiry_timestamp_seconds", help, certificates.collect())?;
    let documents =
        figures.documents.iter().map(|(name, at)| (vec![("server", name.as_str())], seconds(*at)));
    let help = "When the metadata document of a token service was last read";
    gauge(to, "auth_document_timestamp_seconds", help, documents.collect())?;
    let offset = figures.clock_offset_seconds.map(|offset| (Vec::new(), offset));
    let help = "The relay's clock minus ours";
    gauge(to, "clock_offset_seconds", help, offset.into_iter().collect())?;
    let halted = one(f64::from(u8::from(figures.is_relay_halted)));
    gauge(to, "relay_halted", "1 while the relay refuses us as misconfigured", halted)
}

fn counter(to: &mut DescriptorEncoder, name: &str, help: &str, samples: Vec<Sample<u64>>) -> fmt::Result {
    write(to, name, help, MetricType::Counter, samples, |mut encoder, number| {
        encoder.encode_counter::<NoLabelSet, _, u64>(number, None)
    })
}

fn gauge(to: &mut DescriptorEncoder, name: &str, help: &str, samples: Vec<Sample<f64>>) -> fmt::Result {
    write(to, name, help, MetricType::Gauge, samples, |mut encoder, number| encoder.encode_gauge(number))
}

fn write<N>(
    to: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    kind: MetricType,
    samples: Vec<Sample<N>>,
    encode: impl Fn(MetricEncoder, &N) -> fmt::Result,
) -> fmt::Result {
    if samples.is_empty() {
        return Ok(());
    }
    let mut encoder = to.encode_descriptor(name, help, None, kind)?;
    for (labels, number) in samples {
        if labels.is_empty() {
            return encode(encoder, &number);
        }
        encode(encoder.encode_family(&labels)?, &number)?;
    }
    Ok(())
}

fn histogram(to: &mut DescriptorEncoder, name: &str, help: &str, values: &Histogram) -> fmt::Result {
    let encoder = to.encode_descriptor(name, help, None, MetricType::Histogram)?;
    Buckets(values).encode(encoder)
}

struct Buckets<'a>(&'a Histogram);

impl EncodeMetric for Buckets<'_> {
    fn encode(&self, mut encoder: MetricEncoder) -> fmt::Result {
        let buckets: Vec<_> = self.0.buckets().collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        encoder.encode_histogram::<NoLabelSet>(self.0.sum(), count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::SourceFigures;
    use std::sync::Arc;

    fn figures() -> Figures {
        let counters = Arc::new(SourceCounters::default());
        counters.watched.set(7);
        counters.logins_ok.add(3);
        counters.sweep_corrections.one();
        let flow = Arc::new(FlowCounters::default());
        flow.changes.add(5);
        flow.batch_size.observe(3.0);
        flow.batch_size.observe(1000.0);
        Figures {
            sources: vec![SourceFigures { name: "main".to_owned(), counters }],
            flow,
            behind: 2,
            unknown: 3,
            unconfirmed: 4,
            oldest_unacknowledged_seconds: 1.5,
            token_expires_at: Some(UnixMs::from_seconds(1_767_268_500)),
            certificates: vec![("current", UnixMs::from_seconds(1_800_000_000))],
            documents: vec![("MicrosoftSts".to_owned(), UnixMs::from_seconds(1_767_268_500))],
            clock_offset_seconds: None,
            is_relay_halted: true,
        }
    }

    #[test]
    fn every_metric_has_the_name_and_labels_that_were_promised() {
        let text = text(figures()).unwrap();
        let expected = [
            "mailbadge_mailboxes{source=\"main\",state=\"watched\"} 7.0",
            "mailbadge_mailboxes{source=\"main\",state=\"waiting\"} 0.0",
            "mailbadge_observations_total{source=\"main\",kind=\"reading\"} 0",
            "mailbadge_changes_total 5",
            "mailbadge_notifications_sent_total{result=\"acknowledged\"} 0",
            "mailbadge_batches_total{result=\"accepted\"} 0",
            "mailbadge_batch_size_sum 1003.0",
            "mailbadge_batch_size_count 2",
            "mailbadge_batch_size_bucket{le=\"2.0\"} 0",
            "mailbadge_batch_size_bucket{le=\"4.0\"} 1",
            "mailbadge_batch_size_bucket{le=\"+Inf\"} 2",
            "mailbadge_change_to_ack_seconds_count 0",
            "mailbadge_behind 2.0",
            "mailbadge_unknown 3.0",
            "mailbadge_unconfirmed 4.0",
            "mailbadge_auth_document_timestamp_seconds{server=\"MicrosoftSts\"} 1767268500.0",
            "mailbadge_oldest_unacknowledged_seconds 1.5",
            "mailbadge_sweep_corrections_total{source=\"main\"} 1",
            "mailbadge_logins_total{source=\"main\",result=\"ok\"} 3",
            "mailbadge_token_expiry_timestamp_seconds 1767268500.0",
            "mailbadge_certificate_expiry_timestamp_seconds{role=\"current\"} 1800000000.0",
            "mailbadge_relay_halted 1.0",
        ];
        for line in expected {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("clock_offset"), "what has no value is left out");
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn a_host_without_sources_has_metrics_too() {
        let text = text(Figures { sources: Vec::new(), certificates: Vec::new(), ..figures() }).unwrap();
        assert!(text.contains("mailbadge_behind 2.0") && !text.contains("logins"), "{text}");
    }
}
