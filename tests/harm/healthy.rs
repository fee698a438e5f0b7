//! What a source that listens adds to a delivery by a real Dovecot and a real Cyrus: measured beside a server of the same
//! version that reports to nobody.

use mailbadge::counters::SourceCounters;
use mailbadge::event::{Observer, SourceId};
use mailbadge::source::{cyrus, dovecot};
use mailbadge::time::driver::Clock;
use std::path::Path;
use std::sync::Arc;
use support::cyrus::Cyrus;
use support::delivery::costs_next_to_nothing;
use support::dovecot::{Dovecot, Format, Options};
use support::generation::Generation;
use support::lmtp::LmtpClient;
use support::machine;
use support::recorder::Recorder;

/// Servers run as somebody else when the test runs as root.
const MODE: u32 = 0o666;

fn observer() -> Arc<dyn Observer> {
    Arc::<Recorder>::default()
}

fn counters() -> Arc<SourceCounters> {
    Arc::default()
}

/// With dbox the plugin's own part is small and the difference is ours. With Maildir it is larger, and grows with the
/// mailbox: the plugin has Dovecot read the whole folder once more in each delivery, whoever listens.
fn a_healthy_listener_costs_a_dovecot_delivery_no_more_than_a_millisecond_at_the_median_and_at_p99(
    generation: Generation,
) {
    let _alone = machine::alone();
    let folder = generation.folder();
    let socket = folder.path().join("dict.sock");
    let listen = dovecot::Listen::Unix(socket.clone());
    let settings = dovecot::Settings { mode: MODE, ..dovecot::Settings::new("dovecot", listen) };
    let source = dovecot::start(&settings, SourceId(0), observer(), Clock::start(), counters());
    let _source = source.expect("the socket is ours");
    let options = Options { generation, format: Format::Sdbox, ..Options::default() };
    let dict = Some(format!("proxy:{}:unseen", socket.display()));
    let with = Dovecot::start(Options { dict, ..options.clone() });
    let without = Dovecot::start(options);
    let clients = [&with, &without].map(|dovecot| LmtpClient::connect(dovecot.lmtp()).expect("lmtp"));
    costs_next_to_nothing(clients, &["u1", "u2", "u3", "u4", "u5", "u6", "u7", "u8"]);
}

/// What `packaging/cyrus` ships, with this socket.
fn shipped(socket: &Path) -> String {
    let text = include_str!("../../packaging/cyrus/imapd.conf");
    text.replace("/run/mailbadge/cyrus.sock", &socket.display().to_string())
}

fn a_healthy_listener_costs_a_cyrus_delivery_no_more_than_a_millisecond_at_the_median_and_at_p99(
    generation: Generation,
) {
    let _alone = machine::alone();
    let folder = generation.folder();
    let [socket, nobodys] = ["cyrus.sock", "nobodys.sock"].map(|name| folder.path().join(name));
    let settings = cyrus::Settings { mode: MODE, ..cyrus::Settings::new("cyrus", socket.clone()) };
    let source = cyrus::start(&settings, SourceId(0), observer(), Clock::start(), counters());
    let _source = source.expect("the socket is ours");
    let [with, without] = [&socket, &nobodys].map(|path| Cyrus::start(generation, 1, &shipped(path)));
    let clients = [&with, &without].map(|cyrus| LmtpClient::connect(cyrus.lmtp()).expect("lmtp"));
    costs_next_to_nothing(clients, &["u1"]);
}

support::each_dovecot! {
    a_healthy_listener_costs_a_dovecot_delivery_no_more_than_a_millisecond_at_the_median_and_at_p99,
}

support::each_cyrus! {
    a_healthy_listener_costs_a_cyrus_delivery_no_more_than_a_millisecond_at_the_median_and_at_p99,
}
