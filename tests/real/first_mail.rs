//! The first mail of a new account: Dovecot reports the new INBOX first, without a message, and then the message. No
//! device is to show 0 and a moment later 1.

use mailbadge_sim::peers::device::{Arrival, Device, DeviceListener};
use mailbadge_sim::peers::unix_time::UnixMicros;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use support::cloud::Cloud;
use support::dovecot::{Dovecot, Options};
use support::generation::Generation;
use support::host::{APPS, Host, badges, device_id};
use support::lmtp::LmtpClient;
use support::wait_until;

/// New accounts.
const MAILBOXES: u32 = 8;

/// Above the two seconds that a first 0 may wait.
const LIMIT: Duration = Duration::from_secs(20);

/// Notifications that reached a device, by its id.
#[derive(Default)]
struct Received(Mutex<HashMap<Box<str>, u32>>);

impl DeviceListener for Received {
    fn arrived(&self, device: &Device, _arrival: Arrival, _now: UnixMicros) {
        *self.0.lock().entry(device.id.clone()).or_default() += 1;
    }
}

fn the_first_count_that_the_devices_of_a_new_account_show_is_1(generation: Generation) {
    let cloud = Cloud::start();
    let mut host = Host::beside(generation);
    let dict = Some(host.dict());
    let dovecot = Dovecot::start(Options { generation, users: MAILBOXES, dict, ..Options::default() });
    // What is held for company would hide it.
    host.configure_with(&cloud, "max-hold = \"1ms\"", &host.dovecot_source());
    let names: Vec<String> = (1..=MAILBOXES).map(|number| format!("u{number}")).collect();
    host.subscribe(&names);
    host.start();
    let received = Arc::new(Received::default());
    cloud.set_listener(Arc::clone(&received) as Arc<dyn DeviceListener>);
    let mut lmtp = LmtpClient::connect(dovecot.lmtp()).expect("lmtp");
    for name in &names {
        lmtp.deliver(name).expect("delivery");
    }
    for name in &names {
        wait_until(name, LIMIT, || (badges(&cloud, name) == [Some(1); 2]).then_some(()));
        let count = received.0.lock().get(device_id(name).as_str()).copied();
        // The icon shows 1: a notification before would have been another count.
        assert_eq!(count, Some(APPS.len() as u32), "{name}'s devices received more than the 1");
    }
    host.stop();
}

support::each_dovecot! {
    the_first_count_that_the_devices_of_a_new_account_show_is_1,
}
