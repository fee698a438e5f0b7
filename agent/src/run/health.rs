//! What the daemon tells of itself: fills the structs of `admin` from the rooms.

use super::Daemon;
use super::sources::SourceSnapshot;
use crate::admin::{
    BatchStatus, CertificateStatus, Figures, Health, MailboxStatus, NextCertificateStatus, RelayStatus,
    SourceFigures, SourceStatus, Status, TokenStatus,
};
use crate::identity::auth_config::Role;
use crate::identity::fitness::Urgency;
use crate::identity::in_use::Ending;
use crate::ledger::IdentitySnapshot;
use crate::time::{ClockOffset, Now, UnixMs};
use crate::token::keeper::TokenState;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What is wrong now, by who found it; a sentence each.
#[derive(Default)]
pub(super) struct Troubles {
    rooms: Mutex<[Option<String>; 5]>,
    /// Of token services' documents, by the names of the services.
    documents: Mutex<BTreeMap<String, String>>,
}

impl Troubles {
    pub(super) fn store(&self, trouble: Option<String>) {
        self.set(0, "store", trouble);
    }

    pub(super) fn doubt(&self, trouble: Option<String>) {
        self.set(1, "doubt", trouble);
    }

    pub(super) fn relay(&self, trouble: Option<String>) {
        self.set(2, "relay", trouble);
    }

    pub(super) fn reload(&self, trouble: Option<String>) {
        self.set(3, "reload", trouble);
    }

    pub(super) fn state(&self, trouble: Option<String>) {
        self.set(4, "state", trouble);
    }

    /// What came of reading a token service's document. An old one may still do: only `/readyz` knows whether it does.
    pub(super) fn document(&self, service: &str, trouble: Option<String>) {
        let mut all = self.documents.lock();
        if all.get(service) == trouble.as_ref() {
            return;
        }
        if let Some(trouble) = trouble {
            tracing::warn!(service, "{trouble}");
            all.insert(service.to_owned(), trouble);
        } else {
            tracing::info!(service, "its metadata document can be read again");
            all.remove(service);
        }
    }

    /// Logs what changed, once.
    fn set(&self, place: usize, room: &str, trouble: Option<String>) {
        let mut all = self.rooms.lock();
        let Some(known) = all.get_mut(place).filter(|known| **known != trouble) else { return };
        if let Some(trouble) = &trouble {
            tracing::error!(room, "{trouble}");
        } else {
            tracing::info!(room, "all is well again");
        }
        *known = trouble;
    }

    fn all(&self) -> Vec<String> {
        self.rooms.lock().iter().flatten().cloned().collect()
    }
}

impl Health for Daemon {
    fn status(&self) -> Status {
        let now = self.clock.now();
        let ledger = self.ledger_snapshot.lock().clone();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started_at: self.started_at,
            unready: self.unready(),
            notices: self.notices(),
            is_standby: false,
            mailboxes: self.mailboxes_status(&ledger, now),
            sources: self.sources(|source| SourceStatus {
                trouble: source.trouble,
                limit: source.limit,
                ..SourceStatus::of(&source.name, source.kind, &source.counters)
            }),
            relay: self.relay_status(),
            token: self.token_status(now),
            certificate: certificate_status(&ledger.identity, now.unix),
        }
    }

    fn mailbox(&self, name: &str) -> Option<MailboxStatus> {
        self.mailbox_status(name)
    }

    fn unready(&self) -> Vec<String> {
        let mut reasons = self.troubles.all();
        if !self.is_started.load(Ordering::Acquire) {
            reasons.push("starting: the sources are not up yet".to_owned());
        }
        let ledger = self.ledger_snapshot.lock().clone();
        match ledger.proxy {
            None => reasons.push("store: not read yet".to_owned()),
            Some(proxy) if !proxy.is_enabled => {
                reasons.push("relay: the proxy is disabled; run `mailbadge proxy enable`".to_owned());
            }
            Some(_) => reasons.extend(self.relay_reasons()),
        }
        reasons.extend(certificate_reason(&ledger.identity, self.clock.now().unix));
        reasons.extend(self.sources(|source| source.trouble).into_iter().flatten());
        reasons.extend(self.unknown_reasons());
        reasons
    }

    fn notices(&self) -> Vec<String> {
        let sources = self.sources(|source| (source.name, source.counters.connections_evicted.get()));
        self.crowds.look(sources, self.clock.now().moment)
    }

    fn figures(&self) -> Figures {
        let now = self.clock.now();
        let (behind, oldest) = self.behind(now);
        let census = self.census(now);
        let (identity, documents) = {
            let ledger = self.ledger_snapshot.lock();
            (ledger.identity.clone(), ledger.token_services.clone())
        };
        let flow = self.relay.flow();
        Figures {
            sources: self.sources(|source| SourceFigures { name: source.name, counters: source.counters }),
            flow: Arc::clone(&self.counters),
            behind,
            oldest_unacknowledged_seconds: oldest,
            unknown: census.unknown as u64,
            unconfirmed: census.unconfirmed as u64,
            token_expires_at: match flow.token(now) {
                Some(TokenState::Valid { expires, .. }) => Some(expires),
                _ => None,
            },
            certificates: identity
                .in_use
                .iter()
                .map(|(role, certificate)| (role.name(), certificate.not_after()))
                .collect(),
            documents: documents
                .into_iter()
                .filter_map(|known| Some((known.name, known.fetched_at?)))
                .collect(),
            clock_offset_seconds: flow.clock_offset_ms().map(|offset| offset as f64 / 1e3),
            is_relay_halted: flow.trouble().is_some_and(|(_, is_halted)| is_halted),
        }
    }
}

impl Daemon {
    /// How many mailboxes are behind, and the age of the oldest change in seconds.
    pub(super) fn behind(&self, now: Now) -> (u64, f64) {
        let (behind, oldest) = self.tracker.behind(now);
        (behind as u64, oldest.map_or(0.0, |moment| now.moment.since(moment).as_secs_f64()))
    }

    /// Each source as `reported` puts it.
    fn sources<T>(&self, reported: impl Fn(SourceSnapshot) -> T) -> Vec<T> {
        self.running_sources.snapshots().into_iter().map(reported).collect()
    }

    fn relay_reasons(&self) -> Vec<String> {
        let flow = self.relay.flow();
        let now = self.clock.now();
        let until = flow.waits_until(now);
        let trouble = flow.trouble().map(|(cause, _)| format!("relay: {cause}{until}"));
        let mut token = Vec::new();
        if let Some(TokenState::Failed { error, retry_at }) = flow.token(now) {
            token.push(format!("token: {error}; tried again at {}", now.date_of(retry_at)));
            token.extend(self.troubles.documents.lock().values().map(|trouble| format!("token: {trouble}")));
        }
        let offset = flow.clock_offset_ms().and_then(ClockOffset::notable);
        let clock = offset.map(|offset| format!("clock: the relay's is {offset}; synchronize it (NTP)"));
        let silence = flow.silence(now).map(|silence| {
            format!("relay: no answer of any kind for {} s, while counts wait", silence.as_secs())
        });
        trouble.into_iter().chain(silence).chain(token).chain(clock).collect()
    }

    fn relay_status(&self) -> RelayStatus {
        let proxy = self.ledger_snapshot.lock().proxy.clone();
        let flow = self.relay.flow();
        let until = flow.waits_until(self.clock.now());
        RelayStatus {
            is_enabled: proxy.as_ref().is_some_and(|proxy| proxy.is_enabled),
            uri: proxy.as_ref().map(|proxy| proxy.uri.clone()).unwrap_or_default(),
            organization: proxy.and_then(|proxy| proxy.organization),
            in_flight: flow.flying() as u32,
            trouble: flow.trouble().map(|(cause, _)| format!("{cause}{until}")),
            clock_offset_seconds: flow.clock_offset_ms().map(|offset| offset as f64 / 1e3),
            last_batch: flow.last_batch().map(|last| BatchStatus {
                at: last.at,
                notifications: last.notifications as u32,
                answer: last.outcome.clone(),
                took_ms: last.took.as_millis() as u64,
            }),
        }
    }

    fn token_status(&self, now: Now) -> TokenStatus {
        let none = |state: &str| TokenStatus { state: state.to_owned(), expires_at: None };
        let flow = self.relay.flow();
        match flow.token(now) {
            None => none("none: the proxy is disabled"),
            Some(TokenState::Waiting) => none("none yet"),
            Some(TokenState::Open) => none("not needed"),
            Some(TokenState::Failed { error, retry_at }) => {
                none(&format!("{error}; tried again at {}", now.date_of(retry_at)))
            }
            Some(TokenState::Valid { expires, .. }) => {
                let renewal = flow.token_error().map(|error| format!(", but not renewed: {error}"));
                let state = format!("valid{}", renewal.unwrap_or_default());
                TokenStatus { state, expires_at: Some(expires) }
            }
        }
    }
}

/// Why nothing can be signed, if so.
fn certificate_reason(identity: &IdentitySnapshot, now: UnixMs) -> Option<String> {
    let expired = || {
        let is_over = |ending: &Ending| ending.role == Role::Current && ending.urgency == Urgency::Expired;
        identity.in_use.endings(now).iter().find(|ending| is_over(ending)).map(Ending::to_string)
    };
    match (&identity.current_trouble, &identity.config.current) {
        (Some(trouble), _) => Some(format!("certificate: {trouble}")),
        (None, None) => Some("certificate: there is none; run `mailbadge setup`".to_owned()),
        (None, Some(_)) => expired().map(|text| format!("certificate: {text}")),
    }
}

fn certificate_status(identity: &IdentitySnapshot, now: UnixMs) -> Option<CertificateStatus> {
    let current = identity.in_use.current()?;
    Some(CertificateStatus {
        thumbprint: current.thumbprint().to_string(),
        expires_at: current.not_after(),
        next: identity.config.next.as_ref().map(|next| NextCertificateStatus {
            thumbprint: next.thumbprint.clone(),
            effective_at: next.effective_at,
        }),
        warnings: identity.warnings(now),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::auth_config::AuthConfig;
    use crate::identity::certificate::Certificate;
    use crate::identity::certificate::StoredCertificate;
    use crate::identity::in_use::InUse;

    /// A certificate that ended in 2020, as the current one.
    fn snapshot() -> IdentitySnapshot {
        let pem = include_str!("../../../fixtures/certificates/expired.cert.pem");
        let certificate = Certificate::from_pem(pem, "OAuth").unwrap();
        let stored = StoredCertificate {
            thumbprint: certificate.thumbprint().to_string(),
            friendly_name: String::new(),
            der: certificate.der().to_vec(),
        };
        let config = AuthConfig { current: Some(stored.thumbprint.clone()), ..AuthConfig::default() };
        let in_use = InUse::read(&config, &[stored]).unwrap();
        IdentitySnapshot { config, in_use, ..IdentitySnapshot::default() }
    }

    #[test]
    fn a_certificate_near_its_end_is_a_warning_and_an_expired_one_a_reason() {
        let date = |text: &str| text.parse::<UnixMs>().unwrap();
        for (now, warnings, is_reason) in [
            ("2019-10-01T00:00:00Z", 0, false),
            ("2019-12-20T00:00:00Z", 1, false),
            ("2020-02-01T00:00:00Z", 1, true),
        ] {
            let status = certificate_status(&snapshot(), date(now)).unwrap();
            assert_eq!(status.warnings.len(), warnings, "{now}");
            let reason = certificate_reason(&snapshot(), date(now));
            assert_eq!(reason.is_some_and(|text| text.contains("mailbadge setup")), is_reason, "{now}");
        }
    }

    #[test]
    fn each_room_has_one_trouble_until_it_is_well_again() {
        let troubles = Troubles::default();
        troubles.store(Some("full".to_owned()));
        troubles.store(Some("locked".to_owned()));
        troubles.doubt(Some("no note".to_owned()));
        assert_eq!(troubles.all(), ["locked", "no note"]);
        troubles.store(None);
        troubles.relay(Some("no URL".to_owned()));
        troubles.reload(Some("line 3".to_owned()));
        assert_eq!(troubles.all(), ["no note", "no URL", "line 3"]);
        troubles.document("MicrosoftSts", Some("404".to_owned()));
        assert_eq!(troubles.documents.lock().len(), 1);
        troubles.document("MicrosoftSts", None);
        assert!(troubles.documents.lock().is_empty());
    }

    #[test]
    fn a_key_that_cannot_be_read_and_a_missing_certificate_are_reasons() {
        let now = "2019-10-01T00:00:00Z".parse().unwrap();
        let troubled = IdentitySnapshot { current_trouble: Some("mode 0640".to_owned()), ..snapshot() };
        assert_eq!(certificate_reason(&troubled, now).as_deref(), Some("certificate: mode 0640"));
        let none = certificate_reason(&IdentitySnapshot::default(), now).unwrap();
        assert!(none.contains("there is none"), "{none}");
        assert_eq!(certificate_status(&IdentitySnapshot::default(), now), None);
    }
}
