//! The relay and its devices in this process, on real sockets: what stands on each icon can be looked at directly.

use mailbadge::time::driver::Clock;
use mailbadge_sim::client::{Call, call};
use mailbadge_sim::peers::device::{App, DeviceListener};
use mailbadge_sim::peers::fault::{Faults, Kind, Order, Peer};
use mailbadge_sim::peers::mail_store::MailStore;
use mailbadge_sim::peers::relay::EXCHANGE_APPLICATION_ID;
use mailbadge_sim::peers::tenant::credential::KeyCredential;
use mailbadge_sim::peers::tenant::{Issuer, IssuerKind, Tenant};
use mailbadge_sim::peers::token_service;
use mailbadge_sim::peers::unix_time::UnixMicros;
use mailbadge_sim::serve::{Options, Running, notifiers, start};
use parking_lot::Mutex;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;

/// The organization that the relay knows.
pub const ORGANIZATION: &str = "fabrikam.com";

/// Its tenant.
const TENANT: &str = "11111111-2222-3333-4444-555555555555";

fn organization() -> Tenant {
    Tenant {
        id: TENANT.to_owned(),
        accepted_domains: vec![ORGANIZATION.to_owned()],
        registered_applications: vec![EXCHANGE_APPLICATION_ID.to_owned()],
        ..Tenant::default()
    }
}

fn shared(store: Option<MailStore>) -> Option<Arc<Mutex<MailStore>>> {
    store.map(|store| Arc::new(Mutex::new(store)))
}

/// The relay, serving.
pub struct Cloud {
    // Before the runtime, which must outlive it.
    running: Running,
    runtime: Runtime,
}

impl Cloud {
    /// Starts it on free loopback ports; nobody's certificate is trusted yet.
    pub fn start() -> Self {
        Self::start_with(None)
    }

    /// The same with a simulated mail server, where a store is given.
    pub fn start_with(store: Option<MailStore>) -> Self {
        Self::by_direct_trust(store, notifiers::Options::default())
    }

    /// With a simulated mail server that tells of its changes.
    pub fn start_telling(store: MailStore, tell: notifiers::Options) -> Self {
        Self::by_direct_trust(Some(store), tell)
    }

    fn by_direct_trust(store: Option<MailStore>, tell: notifiers::Options) -> Self {
        let tenant = Tenant {
            partner_applications: vec![Issuer::new(EXCHANGE_APPLICATION_ID, ORGANIZATION)],
            ..organization()
        };
        let mail_store = shared(store);
        Self::start_as(Options { tenants: vec![tenant], mail_store, tell, ..Options::default() })
    }

    /// A relay that takes tokens of the token service alone, which live so long; with a simulated mail server.
    pub fn by_token_service(store: MailStore, token_life: Duration) -> Self {
        let token_service = token_service::Settings { token_life, ..token_service::Settings::default() };
        Self::start_as(Options {
            tenants: vec![organization()],
            mail_store: shared(Some(store)),
            token_service,
            ..Options::default()
        })
    }

    fn start_as(options: Options) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("threads for the relay");
        let running = runtime.block_on(start(options)).expect("loopback has free ports");
        Self { running, runtime }
    }

    /// What `proxy enable --uri` takes.
    pub fn url(&self) -> &str {
        &self.running.relay_url
    }

    /// The page for people.
    pub fn page_url(&self) -> &str {
        &self.running.page_url
    }

    /// The simulated mail server's store and address.
    pub fn mail_store(&self) -> Option<(Arc<Mutex<MailStore>>, SocketAddr)> {
        Some((self.running.world.mail_store.clone()?, self.running.imap_addr?))
    }

    /// Has something run beside.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(task);
    }

    /// Tells the page whose inbox a device shows.
    pub fn name_device(&self, app: App, device: &str, mailbox: &str) {
        if let Some(device) = self.running.world.relay.lock().devices.make(app, device) {
            device.mailbox = Some(mailbox.into());
        }
    }

    /// What `relay.ca-file` takes.
    pub fn ca_file(&self) -> &Path {
        &self.running.ca_pem_path
    }

    /// Trusts the organization's certificate, DER.
    pub fn trust(&self, certificate: &[u8]) {
        let credential = KeyCredential::from_der(certificate).expect("the agent exports a good certificate");
        let issuer = Issuer::new(EXCHANGE_APPLICATION_ID, ORGANIZATION);
        let added = self.running.world.change_tenants(|tenants| {
            tenants.add_credential(ORGANIZATION, IssuerKind::Partner, &issuer, credential)
        });
        added.expect("the tenant is there");
    }

    /// Trusts a certificate of the organization no more.
    pub fn distrust(&self, thumbprint: &str) {
        let world = &self.running.world;
        let removed = world.change_tenants(|tenants| tenants.remove_credential(ORGANIZATION, thumbprint));
        assert!(removed.is_ok_and(|count| count > 0), "{thumbprint} was not trusted");
    }

    /// Where the token service's document for the organization is: what `setup --auth-metadata-url` takes.
    pub fn auth_metadata_url(&self) -> String {
        self.running.world.auth_metadata_url(ORGANIZATION)
    }

    /// Takes the token service down, or brings it up again.
    pub fn set_token_service_up(&self, is_up: bool) {
        let switched = self.runtime.block_on(self.running.world.set_up(Peer::TokenService, is_up));
        switched.expect("its port is its own");
    }

    /// One call of the control API: the answer, which must be a success.
    pub fn control(&self, question: Call) -> serde_json::Value {
        let answer = self.runtime.block_on(call(self.page_url(), question)).expect("it answers");
        assert_eq!(answer.0, 200, "{}", answer.1);
        answer.1
    }

    /// Where the organization's key credentials are uploaded.
    pub fn credentials_url(&self) -> String {
        format!("{}control/tenants/{ORGANIZATION}/credentials", self.page_url())
    }

    /// The number on a device's icon.
    pub fn badge(&self, app: App, device: &str) -> Option<u32> {
        self.running.world.relay.lock().devices.badge(app, device)
    }

    /// Tells of every notification that arrives at a device.
    pub fn set_listener(&self, listener: Arc<dyn DeviceListener>) {
        self.running.world.relay.lock().devices.set_listener(Some(listener));
    }

    /// Has something go wrong at the relay, until [`Cloud::heal`].
    pub fn fail(&self, kind: Kind) {
        self.fail_at(Peer::Relay, kind);
    }

    /// The same at one of the two.
    pub fn fail_at(&self, peer: Peer, kind: Kind) {
        let now = UnixMicros::from_ms(Clock::start().now().unix.0);
        let order = Order { kind, rate: 1.0, duration_ms: None, count: None };
        let added = self.change_faults(peer, |faults| faults.add(order, now));
        added.expect("there is room for a fault");
    }

    /// How many requests the faults met that are on at this peer.
    pub fn hits(&self, peer: Peer) -> u64 {
        let now = UnixMicros::from_ms(Clock::start().now().unix.0);
        self.running.world.with_faults(peer, |faults| faults.list(now).iter().map(|fault| fault.hits).sum())
    }

    /// Ends all faults of both.
    pub fn heal(&self) {
        for peer in [Peer::Relay, Peer::TokenService] {
            self.change_faults(peer, Faults::clear);
        }
    }

    fn change_faults<T>(&self, peer: Peer, change: impl FnOnce(&mut Faults) -> T) -> T {
        let changed = self.runtime.block_on(self.running.world.change_faults(peer, change));
        changed.expect("its port is its own")
    }

    /// Takes the relay's listener down, its connections with it, or brings it up again.
    pub fn set_up(&self, is_up: bool) {
        self.runtime.block_on(self.running.world.set_up(Peer::Relay, is_up)).expect("its port is its own");
    }

    /// Gives the relay's listener another certificate of the same authority.
    pub fn renew_certificate(&self) {
        self.running.world.renew_certificate(None).expect("it has its own authority");
    }
}
