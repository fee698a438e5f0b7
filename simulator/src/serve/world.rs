//! What the servers share: the peers, each behind a lock, and the doors through which they are reached.

use super::certificates::{CertificateFiles, Certificates};
use super::documents::Reader;
use super::https::Door;
use super::notifiers::Notifiers;
use super::{METADATA_PATH, ServeError, clock};
use crate::peers::fault::{Faults, Peer};
use crate::peers::http::{Exchange, Request};
use crate::peers::mail_store::MailStore;
use crate::peers::principal::{EXCHANGE_APPLICATION_ID, TOKEN_SERVICE_APPLICATION_ID};
use crate::peers::relay::Relay;
use crate::peers::relay::batch::Batch;
use crate::peers::tenant::{Issuer, Tenant, TenantError, Tenants};
use crate::peers::token_service::TokenService;
use crate::peers::unix_time::UnixMicros;
use parking_lot::Mutex;
use std::sync::Arc;

/// What the servers share.
pub struct World {
    /// The relay with its tenants, devices, faults and record. Lock shortly, never across an await.
    pub relay: Mutex<Relay>,
    /// The token service with its keys, faults and record. Lock shortly; where both are needed, the relay first.
    pub token_service: Mutex<TokenService>,
    /// The mail host, where there is one.
    pub mail_store: Option<Arc<Mutex<MailStore>>>,
    pub(super) notifiers: Notifiers,
    /// The listeners' certificates.
    pub certificates: Certificates,
    pub(super) reader: Reader,
    relay_door: Door,
    token_service_door: Door,
    body_bytes_max: (usize, usize),
}

impl World {
    pub(super) fn new(
        (relay, relay_door): (Relay, Door),
        (token_service, token_service_door): (TokenService, Door),
        (mail_store, notifiers): (Option<Arc<Mutex<MailStore>>>, Notifiers),
        certificates: Certificates,
        reader: Reader,
    ) -> Self {
        let body_bytes_max = (relay.settings().body_bytes_max, token_service.settings().body_bytes_max);
        Self {
            relay: Mutex::new(relay),
            token_service: Mutex::new(token_service),
            mail_store,
            notifiers,
            certificates,
            reader,
            relay_door,
            token_service_door,
            body_bytes_max,
        }
    }

    /// Takes a peer's listener down, its connections with it, or brings it up again at the same address.
    pub async fn set_up(&self, peer: Peer, is_up: bool) -> Result<(), ServeError> {
        let door = self.door(peer);
        let word = if is_up { "come up" } else { "go down" };
        if door.switch(is_up).await { Ok(()) } else { Err(ServeError::Switch(door.address(), word)) }
    }

    /// Whether a peer's listener is up.
    pub fn is_up(&self, peer: Peer) -> bool {
        self.door(peer).state().borrow().is_up
    }

    /// Another certificate for both listeners; connections of the old one end after the request at hand.
    pub fn renew_certificate(&self, given: Option<&CertificateFiles>) -> Result<(), ServeError> {
        self.certificates.renew(given)?;
        self.relay_door.renew();
        self.token_service_door.renew();
        Ok(())
    }

    /// The relay's base URL that an agent is configured with.
    pub fn relay_url(&self) -> String {
        format!("https://{}/PushNotifications", self.relay_door.address())
    }

    /// The token service's base URL.
    pub fn token_service_url(&self) -> String {
        format!("https://{}", self.token_service_door.address())
    }

    /// Where the token service's document for a realm is.
    pub fn auth_metadata_url(&self, realm: &str) -> String {
        format!("{}{METADATA_PATH}?realm={realm}", self.token_service_url())
    }

    /// Changes what relay and token service know of tenants.
    pub fn change_tenants<T>(
        &self,
        change: impl FnOnce(&mut Tenants) -> Result<T, TenantError>,
    ) -> Result<T, TenantError> {
        let mut relay = self.relay.lock();
        let outcome = change(&mut relay.tenants)?;
        self.token_service.lock().tenants = relay.tenants.clone();
        Ok(outcome)
    }

    /// Adds a tenant or replaces the one with its id. Without resources of its own it may have tokens for this relay.
    pub fn put_tenant(&self, mut tenant: Tenant) -> Result<(), TenantError> {
        if tenant.resources.is_empty() {
            let address = self.relay_door.address();
            let resource = |host: String| format!("{EXCHANGE_APPLICATION_ID}/{host}");
            tenant.resources = vec![resource(address.to_string())];
            if address.ip().is_loopback() {
                tenant.resources.push(resource(format!("localhost:{}", address.port())));
            }
        }
        self.change_tenants(|tenants| tenants.put(tenant))
    }

    /// A tenant that trusts the token service here, where it names no other.
    pub fn trusting_own_token_service(&self, mut tenant: Tenant) -> Tenant {
        if tenant.token_services.is_empty() {
            let issuer = Issuer::new(TOKEN_SERVICE_APPLICATION_ID, &tenant.id);
            tenant.token_services.push(issuer.by_document(&self.auth_metadata_url(&tenant.id)));
        }
        tenant
    }

    /// Changes a peer's faults, and waits until its listener does as they ask.
    pub async fn change_faults<T>(
        &self,
        peer: Peer,
        change: impl FnOnce(&mut Faults) -> T,
    ) -> Result<T, ServeError> {
        let changed = self.with_faults(peer, change);
        let door = self.door(peer);
        if door.heeds_faults().await {
            Ok(changed)
        } else {
            Err(ServeError::Switch(door.address(), "do as its faults ask"))
        }
    }

    /// Looks at or changes a peer's faults. Its listener looks at them soon after.
    pub fn with_faults<T>(&self, peer: Peer, look: impl FnOnce(&mut Faults) -> T) -> T {
        match peer {
            Peer::Relay => look(&mut self.relay.lock().faults),
            Peer::TokenService => look(&mut self.token_service.lock().faults),
        }
    }

    /// TLS handshakes that failed: clients that do not trust the authority, mostly.
    pub fn handshake_failures(&self) -> u64 {
        self.relay_door.handshake_failures() + self.token_service_door.handshake_failures()
    }

    pub(super) const fn door(&self, peer: Peer) -> &Door {
        match peer {
            Peer::Relay => &self.relay_door,
            Peer::TokenService => &self.token_service_door,
        }
    }

    pub(super) fn is_refusing(&self, peer: Peer, now: UnixMicros) -> bool {
        self.with_faults(peer, |faults| faults.is_refusing(now))
    }

    pub(super) const fn body_bytes_max(&self, peer: Peer) -> usize {
        match peer {
            Peer::Relay => self.body_bytes_max.0,
            Peer::TokenService => self.body_bytes_max.1,
        }
    }

    pub(super) fn exchange(&self, peer: Peer, request: &Request) -> Exchange {
        match peer {
            Peer::Relay => {
                // Read outside of the lock.
                let batch = Batch::read(&request.body);
                let now = clock::now();
                self.relay.lock().exchange_read(now, request, &batch)
            }
            Peer::TokenService => self.token_service.lock().exchange(clock::now(), request),
        }
    }
}
