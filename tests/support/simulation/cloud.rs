//! The relay behind a lossy network: requests arrive late, twice or never, and so do answers.

use bytes::Bytes;
use mailbadge::forwarder::answer::{Answer, Failure};
use mailbadge::time::UnixMs;
use mailbadge_sim::peers::device::{App, Devices};
use mailbadge_sim::peers::fault::{Order, Wire};
use mailbadge_sim::peers::http::{Request, Response};
use mailbadge_sim::peers::relay::{Relay, Settings};
use mailbadge_sim::peers::tenant::credential::KeyCredential;
use mailbadge_sim::peers::tenant::{Issuer, Tenant};
use mailbadge_sim::peers::unix_time::UnixMicros;
use std::time::Duration;

/// How long the agent's client waits for an answer.
pub const TIMEOUT: Duration = Duration::from_secs(10);
/// The relay's host.
pub const AUTHORITY: &str = "relay.example";
/// The organization, and the realm of its agent.
pub const ORGANIZATION: &str = "fabrikam.com";
/// The organization's tenant.
pub const TENANT: &str = "11111111-2222-3333-4444-555555555555";
/// Exchange's application id: the agent's and the relay's.
pub const EXCHANGE: &str = "00000002-0000-0ff1-ce00-000000000000";

/// The relay and the way to it.
pub struct Cloud {
    /// The peer.
    pub relay: Relay,
    rng: fastrand::Rng,
    loss_percent: u32,
    is_calm: bool,
}

/// What the network does with a request.
pub struct Passage {
    /// How long it takes to the relay; `None`: lost.
    pub arrives_after: Option<Duration>,
    /// It arrives a second time so much later.
    pub again_after: Option<Duration>,
}

impl Cloud {
    /// A relay that trusts the agent's certificate directly.
    pub fn new(seed: u64, loss_percent: u32, certificate_der: &[u8]) -> Self {
        let mut relay = Relay::new(Settings::default(), seed);
        let credential = KeyCredential::from_der(certificate_der).expect("the fixture is a certificate");
        let tenant = Tenant {
            id: TENANT.to_owned(),
            accepted_domains: vec![ORGANIZATION.to_owned()],
            partner_applications: vec![Issuer::new(EXCHANGE, ORGANIZATION).with(credential)],
            ..Tenant::default()
        };
        relay.tenants.put(tenant).expect("the only tenant");
        Self { relay, rng: fastrand::Rng::with_seed(seed ^ 0x636c_6f75), loss_percent, is_calm: false }
    }

    /// Switches a fault on.
    pub fn fault(&mut self, order: Order, now: UnixMicros) {
        self.relay.faults.add(order, now);
    }

    /// No more faults, no more losses.
    pub fn calm(&mut self) {
        self.relay.faults.clear();
        self.is_calm = true;
    }

    /// Sends a request on its way.
    pub fn send(&mut self) -> Passage {
        let arrives_after = (!self.is_lost()).then(|| self.delay());
        let is_twice = !self.is_calm && self.rng.u32(0..100) < self.loss_percent / 4;
        let again_after = is_twice.then(|| Duration::from_millis(self.rng.u64(1..5_000)));
        Passage { arrives_after, again_after }
    }

    fn is_lost(&mut self) -> bool {
        !self.is_calm && self.rng.u32(0..100) < self.loss_percent
    }

    fn delay(&mut self) -> Duration {
        Duration::from_micros(self.rng.u64(100..40_000))
    }

    /// A request arrives; what comes back, and after how long. `None`: nothing ever does.
    pub fn arrive(
        &mut self,
        request: &Request,
        now: UnixMicros,
    ) -> Option<(Duration, Result<Answer, Failure>)> {
        if self.relay.faults.is_refusing(now) {
            return Some((self.delay(), Err(Failure::Connect("refused".to_owned()))));
        }
        let exchange = self.relay.exchange(now, request);
        let after = exchange.delay + self.delay();
        let closed = || Failure::Closed("reset".to_owned());
        match exchange.wire {
            Wire::BlackHole => None,
            Wire::Reset | Wire::Cut { after_bytes: 0 } => Some((after, Err(closed()))),
            Wire::Cut { .. } => Some((after, Err(Failure::Read("cut".to_owned())))),
            Wire::Whole | Wire::Slow { .. } if self.is_lost() => None,
            Wire::Whole | Wire::Slow { .. } => Some((after, Ok(answer(&exchange.response)))),
        }
    }

    /// What a device shows.
    pub fn badge(&self, device_id: &str) -> Option<u32> {
        self.devices().badge(App::Mowa, device_id)
    }

    /// The devices.
    pub fn devices(&self) -> &Devices {
        &self.relay.devices
    }
}

fn answer(response: &Response) -> Answer {
    let text = |name: &str| response.header(name).map(str::to_owned);
    let date = text("date").and_then(|date| httpdate::parse_http_date(&date).ok());
    let since_epoch = date.and_then(|date| date.duration_since(std::time::UNIX_EPOCH).ok());
    Answer {
        status: response.status,
        retry_after: text("retry-after"),
        www_authenticate: text("www-authenticate").into_iter().collect(),
        diagnostics: text("x-ms-diagnostics"),
        date: since_epoch.map(|date| UnixMs::from_seconds(date.as_secs())),
        is_report: response.header("preference-applied").is_some(),
        content: Bytes::clone(&response.body),
        is_cut: false,
    }
}
