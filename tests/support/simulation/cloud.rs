//! The relay behind a network with weather: requests arrive late, twice, cut short or never, and so do answers.

use super::tokens;
use bytes::Bytes;
use mailbadge::forwarder::answer::{Answer, Failure};
use mailbadge::time::UnixMs;
use mailbadge_sim::peers::device::{App, Devices};
use mailbadge_sim::peers::fault::{Order, Wire};
use mailbadge_sim::peers::http::{Request, Response};
use mailbadge_sim::peers::relay::{Relay, Settings};
use mailbadge_sim::peers::tenant::credential::KeyCredential;
use mailbadge_sim::peers::tenant::{Issuer, Tenant};
use mailbadge_sim::peers::token_service::TokenService;
use mailbadge_sim::peers::unix_time::UnixMicros;
use mailbadge_sim::play::{Plan, Tokens};
use mailbadge_sim::world::network::Latency;
use mailbadge_sim::world::{Network, Rule};
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

/// Usual latency of one way.
const LATENCY: Latency = Latency { least: Duration::from_micros(100), most: Duration::from_millis(40) };
/// Nothing on a slow line takes longer: TCP gives up, too.
const SLOW_MAX: Duration = Duration::from_mins(1);
/// Bytes of an answer's head, about.
const HEAD_BYTES: usize = 200;

/// The relay and the way to it.
pub struct Cloud {
    /// The peer.
    pub relay: Relay,
    /// The token service, where the relay takes only its tokens.
    pub service: Option<TokenService>,
    up: Network,
    down: Network,
    /// Messages that the network did not just pass on.
    pub troubles: u64,
}

/// What the network does with a request.
pub enum Passage {
    /// It arrives after so long, and where it is doubled once more after so much longer.
    Arrives(Duration, Option<Duration>),
    /// It never arrives, and nobody is told.
    Lost,
    /// The connection ends before it arrived whole.
    Cut(Duration),
}

/// What comes back from the relay, and after how long; `None`: nothing ever does.
pub type Back = Option<(Duration, Result<Response, Failure>)>;

impl Cloud {
    /// A relay that trusts this certificate directly.
    pub fn new(plan: &Plan, certificate_der: &[u8]) -> Self {
        let mut relay = Relay::new(Settings::default(), plan.seed.stream("relay").u64(..));
        let tenant = Tenant {
            id: TENANT.to_owned(),
            accepted_domains: vec![ORGANIZATION.to_owned()],
            registered_applications: vec![EXCHANGE.to_owned()],
            ..Tenant::default()
        };
        relay.tenants.put(tenant).expect("the only tenant");
        let up = Network::new(plan.seed, "to the relay", LATENCY, plan.weather);
        let down = Network::new(plan.seed, "from the relay", LATENCY, plan.weather);
        let service = (plan.tokens == Tokens::Service).then(|| tokens::service(plan));
        let mut cloud = Self { relay, service, up, down, troubles: 0 };
        cloud.trust(certificate_der);
        cloud
    }

    /// From now on the relay, or its token service, trusts this certificate and no other.
    pub fn trust(&mut self, certificate_der: &[u8]) {
        if let Some(service) = &mut self.service {
            tokens::register(service, certificate_der);
            let change = |tenant: &mut Tenant| tenant.token_services = vec![tokens::issuer()];
            return self.relay.tenants.change(TENANT, change).expect("the tenant is there");
        }
        let credential = KeyCredential::from_der(certificate_der).expect("the fixture is a certificate");
        let issuer = Issuer::new(EXCHANGE, ORGANIZATION).with(credential);
        let change = |tenant: &mut Tenant| tenant.partner_applications = vec![issuer];
        self.relay.tenants.change(TENANT, change).expect("the tenant is there");
    }

    /// Switches a fault on.
    pub fn fault(&mut self, order: Order, now: UnixMicros) {
        self.relay.faults.add(order, now);
    }

    /// Switches a fault of the token service on.
    pub fn fault_service(&mut self, order: Order, now: UnixMicros) {
        if let Some(service) = &mut self.service {
            service.faults.add(order, now);
        }
    }

    /// No more faults, fine weather.
    pub fn calm(&mut self) {
        if let Some(service) = &mut self.service {
            service.faults.clear();
        }
        self.relay.faults.clear();
        self.up.calm();
        self.down.calm();
    }

    /// Sends a request on its way.
    pub fn send(&mut self, bytes: usize) -> Passage {
        let (rule, latency) = (self.up.rule(), self.up.latency());
        self.troubles += u64::from(rule != Rule::Pass);
        match rule {
            Rule::Pass => Passage::Arrives(latency, None),
            Rule::DeliverAfter(wait) => Passage::Arrives(wait, None),
            Rule::Duplicate(later) => Passage::Arrives(latency, Some(later)),
            Rule::SlowBytes(rate) => Passage::Arrives(slow(bytes, rate), None),
            Rule::Drop => Passage::Lost,
            Rule::Cut(_) => Passage::Cut(latency),
        }
    }

    /// A request arrives; what comes back.
    pub fn arrive(&mut self, request: &Request, now: UnixMicros) -> Back {
        let mut service = self.service.as_mut().filter(|_| request.authority == tokens::AUTHORITY);
        let is_refusing = match &mut service {
            Some(service) => service.faults.is_refusing(now),
            None => self.relay.faults.is_refusing(now),
        };
        if is_refusing {
            return Some((self.down.latency(), Err(Failure::Connect("refused".to_owned()))));
        }
        let exchange = match service {
            Some(service) => service.exchange(now, request),
            None => self.relay.exchange(now, request),
        };
        let after = exchange.delay + self.down.latency();
        match exchange.wire {
            Wire::BlackHole => None,
            Wire::Reset | Wire::Cut { after_bytes: 0 } => Some((after, Err(closed()))),
            Wire::Cut { .. } => Some((after, Err(cut()))),
            Wire::Slow { rate_bytes } => {
                let bytes = HEAD_BYTES + exchange.response.body.len();
                Some((after + slow(bytes, rate_bytes), Ok(exchange.response)))
            }
            Wire::Whole => self.back(after, exchange.response),
        }
    }

    fn back(&mut self, after: Duration, response: Response) -> Back {
        let rule = self.down.rule();
        self.troubles += u64::from(rule != Rule::Pass);
        match rule {
            Rule::Pass | Rule::Duplicate(_) => Some((after, Ok(response))),
            Rule::DeliverAfter(wait) => Some((after + wait, Ok(response))),
            Rule::SlowBytes(rate) => {
                Some((after + slow(HEAD_BYTES + response.body.len(), rate), Ok(response)))
            }
            Rule::Drop => None,
            Rule::Cut(_) => Some((after, Err(cut()))),
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

    /// A device is no more, or is there again.
    pub fn set_gone(&mut self, device_id: &str, is_gone: bool) {
        if let Some(device) = self.relay.devices.make(App::Mowa, device_id) {
            device.is_gone = is_gone;
        }
    }
}

fn closed() -> Failure {
    Failure::Closed("reset".to_owned())
}

fn cut() -> Failure {
    Failure::Read("cut".to_owned())
}

fn slow(bytes: usize, rate_bytes: u32) -> Duration {
    Duration::from_secs_f64(bytes as f64 / f64::from(rate_bytes.max(1))).min(SLOW_MAX)
}

/// An answer as the agent's client hands it on.
pub fn answer(response: &Response) -> Answer {
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
