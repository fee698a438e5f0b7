//! Who the host is in tokens, kept in step with the store: which certificate signs, when the next one takes its place,
//! what must be said of their ends. The rules are `identity`'s.

use crate::identity::auth_config::AuthConfig;
use crate::identity::auth_config::{self, Refusal};
use crate::identity::certificate::Certificate;
use crate::identity::certificate::StoredCertificate;
use crate::identity::in_use::{Ending, InUse, ReportedEndings};
use crate::identity::key::PrivateKey;
use crate::store::{Store, StoreError};
use crate::time::{Moment, Now, UnixMs};
use crate::token;
use crate::token::claims::Claims;
use crate::token::signer::{SignedToken, Signer};
use secrecy::ExposeSecret;
use std::sync::Arc;
use std::time::Duration;

/// What did not work, a key that cannot be read or a certificate that must not sign, is tried again this often.
const RETRY_EVERY: Duration = Duration::from_secs(10);

/// What reading found changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Changed {
    /// Another certificate signs.
    pub(super) signer: bool,
    /// The host has another name in tokens.
    pub(super) name: bool,
}

/// The host's identity as the store has it.
pub(super) struct Identity {
    store: Arc<dyn Store>,
    config: AuthConfig,
    in_use: InUse,
    signer: Option<Arc<Signer>>,
    reported: ReportedEndings,
    /// Why the current certificate cannot sign.
    current_trouble: Option<String>,
    /// Why the next one does not take its place.
    next_trouble: Option<String>,
    tried_at: Moment,
}

impl Identity {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            config: AuthConfig::default(),
            in_use: InUse::default(),
            signer: None,
            reported: ReportedEndings::default(),
            current_trouble: None,
            next_trouble: None,
            tried_at: Moment::START,
        }
    }

    /// Takes in what stands in the store.
    pub(super) fn read(&mut self) -> Result<Changed, StoreError> {
        let config = self.store.auth_config()?;
        let kept = self.store.certificates()?;
        let name = (&self.config.service_name, &self.config.realm) != (&config.service_name, &config.realm);
        match InUse::read(&config, &kept) {
            Ok(in_use) => self.in_use = in_use,
            Err(error) => tracing::error!(%error, "a certificate in the store cannot be read"),
        }
        self.config = config;
        let known = self.signer.as_ref().map(|signer| signer.certificate().thumbprint().to_string());
        if self.config.current == known {
            return Ok(Changed { signer: false, name });
        }
        let loaded = self.config.current.as_ref().map(|thumbprint| self.load(thumbprint, &kept)).transpose();
        told(&mut self.current_trouble, loaded.as_ref().err(), "no tokens can be signed");
        let signer = loaded.ok().flatten().map(|(certificate, key)| Arc::new(Signer::new(certificate, key)));
        if let Some(signer) = &signer {
            tracing::info!(thumbprint = %signer.certificate().thumbprint(), "tokens are signed with this certificate");
        }
        let is_other = signer.is_some() || self.signer.is_some();
        self.signer = signer;
        Ok(Changed { signer: is_other, name })
    }

    /// Whether something did not work and may work by now.
    pub(super) fn is_worth_a_retry(&mut self, now: Now) -> bool {
        let is_troubled = self.current_trouble.is_some() || self.next_trouble.is_some();
        let is_due = is_troubled && now.moment.since(self.tried_at) >= RETRY_EVERY;
        if is_due {
            self.tried_at = now.moment;
        }
        is_due
    }

    /// Lets the next certificate sign where its date has come; true where the store says so by now.
    pub(super) fn publish_what_is_due(&mut self, now: Now, is_retry: bool) -> Result<bool, StoreError> {
        if !auth_config::is_due(&self.config, now.unix) {
            self.next_trouble = None;
            return Ok(false);
        }
        if self.next_trouble.is_some() && !is_retry {
            return Ok(false);
        }
        let published = self.published(now.unix);
        told(&mut self.next_trouble, published.as_ref().err(), "the next certificate cannot take its place");
        let Ok(after) = published else { return Ok(false) };
        self.tried_at = now.moment;
        let is_published = self.store.replace_auth_config(&self.config, &after)?;
        if is_published {
            let (current, previous) = (after.current.unwrap_or_default(), after.previous.unwrap_or_default());
            tracing::info!(current, previous, "the next certificate signs from now on");
        }
        Ok(is_published)
    }

    /// The config after publishing, or why it must not be.
    fn published(&self, now: UnixMs) -> Result<AuthConfig, String> {
        let refused = |refusal: Refusal| refusal.to_string();
        let next = auth_config::next_of(&self.config).map_err(refused)?;
        let kept = self.store.certificates().map_err(|error| error.to_string())?;
        let (certificate, key) = self.load(&next.thumbprint, &kept)?;
        auth_config::publish(&self.config, (&certificate, &key), now).map_err(refused)
    }

    fn load(
        &self,
        thumbprint: &str,
        kept: &[StoredCertificate],
    ) -> Result<(Certificate, PrivateKey), String> {
        let stored = kept.iter().find(|one| one.thumbprint == thumbprint);
        let stored = stored.ok_or_else(|| format!("certificate {thumbprint} is not kept any more"))?;
        let key = self.store.private_key(thumbprint).map_err(|error| error.to_string())?;
        let pair = Certificate::from_der(&stored.der, &stored.friendly_name)
            .and_then(|certificate| Ok((certificate, PrivateKey::from_pem(key.expose_secret())?)));
        pair.map_err(|error| format!("certificate {thumbprint}: {error}"))
    }

    /// Logs certificates whose end came nearer, each step once.
    pub(super) fn warn(&mut self, now: UnixMs) {
        for ending in self.reported.news(self.in_use.endings(now)) {
            tracing::warn!(role = %ending.role, thumbprint = %ending.thumbprint, "{ending}");
        }
    }

    /// Who signs, if anybody can.
    pub(super) fn signer(&self) -> Option<Arc<Signer>> {
        self.signer.clone()
    }

    /// The auth config as it was last read.
    pub(super) fn config(&self) -> &AuthConfig {
        &self.config
    }

    /// What the outside is told.
    pub(super) fn snapshot(&self) -> IdentitySnapshot {
        IdentitySnapshot {
            config: self.config.clone(),
            in_use: self.in_use.clone(),
            current_trouble: self.current_trouble.clone(),
            next_trouble: self.next_trouble.clone(),
        }
    }
}

/// Signs `claims`, where anybody can; else why not, for the operator.
pub fn sign(signer: Option<&Signer>, claims: &Claims) -> Result<SignedToken, String> {
    let signer = signer.ok_or("there is no certificate yet; run `mailbadge setup`")?;
    signer.sign(claims).map_err(|error| match error {
        token::Error::Signing(why) => why,
        other => other.to_string(),
    })
}

/// Notes what is wrong, and logs it where it is news.
fn told(known: &mut Option<String>, trouble: Option<&String>, what: &str) {
    if known.as_ref() == trouble {
        return;
    }
    if let Some(trouble) = trouble {
        tracing::error!("{what}: {trouble}");
    } else {
        tracing::info!("the certificate is well again");
    }
    *known = trouble.cloned();
}

/// What the host is in tokens, as `/status` and `/metrics` show it.
#[derive(Clone, Default)]
pub struct IdentitySnapshot {
    /// The auth config as it was last read.
    pub config: AuthConfig,
    /// The certificates that it names.
    pub in_use: InUse,
    /// Why the current certificate cannot sign.
    pub current_trouble: Option<String>,
    /// Why the next one does not take its place.
    pub next_trouble: Option<String>,
}

impl IdentitySnapshot {
    /// What an administrator should know of the certificates, a sentence each.
    pub fn warnings(&self, now: UnixMs) -> Vec<String> {
        let endings = self.in_use.endings(now).iter().map(Ending::to_string).collect::<Vec<_>>();
        let next =
            self.next_trouble.iter().map(|why| format!("the next certificate cannot take its place: {why}"));
        endings.into_iter().chain(next).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::auth_config::NextCertificate;
    use crate::identity::issue::self_signed;
    use crate::store::SqliteStore;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;
    use tempfile::TempDir;

    const START: Now = Now { moment: Moment::START, unix: UnixMs(1_767_268_500_000) };
    const HOUR: Duration = Duration::from_hours(1);

    /// A store with two certificates, the first of them current.
    fn store() -> (TempDir, Arc<dyn Store>, [String; 2]) {
        let dir = tempfile::tempdir().unwrap();
        let store = SqliteStore::open_or_create(&dir.path().join("state"), START.unix).unwrap();
        let names = [(); 2].map(|()| {
            let (certificate, key) = self_signed("fabrikam.com", START.unix).unwrap();
            let thumbprint = certificate.thumbprint().to_string();
            let stored = StoredCertificate {
                thumbprint: thumbprint.clone(),
                friendly_name: certificate.friendly_name().to_owned(),
                der: certificate.der().to_vec(),
            };
            store.add_certificate(&stored, &key.to_pkcs8_pem().unwrap()).unwrap();
            thumbprint
        });
        let config = AuthConfig { current: Some(names[0].clone()), ..AuthConfig::default() };
        assert!(store.replace_auth_config(&AuthConfig::default(), &config).unwrap());
        (dir, Arc::new(store), names)
    }

    /// Plans the second certificate for `after` from the start.
    fn plan(store: &dyn Store, names: &[String; 2], after: Duration) {
        let before = store.auth_config().unwrap();
        let next = NextCertificate { thumbprint: names[1].clone(), effective_at: START.unix.after(after) };
        let config = AuthConfig { next: Some(next), ..before.clone() };
        assert!(store.replace_auth_config(&before, &config).unwrap());
    }

    fn signs(identity: &Identity) -> Option<String> {
        identity.signer().map(|signer| signer.certificate().thumbprint().to_string())
    }

    #[test]
    fn the_next_certificate_signs_from_its_date_on() {
        let (_dir, store, names) = store();
        let mut identity = Identity::new(Arc::clone(&store));
        assert_eq!(identity.read().unwrap(), Changed { signer: true, name: false });
        plan(&*store, &names, HOUR);
        assert_eq!(identity.read().unwrap(), Changed::default());
        let before = START.after(Duration::from_millis(3_599_999));
        assert!(!identity.publish_what_is_due(before, false).unwrap());
        assert!(identity.publish_what_is_due(START.after(HOUR), false).unwrap());
        assert_eq!(identity.read().unwrap(), Changed { signer: true, name: false });
        assert_eq!(signs(&identity).as_ref(), Some(&names[1]));
        let kept = store.auth_config().unwrap();
        assert_eq!((kept.previous.as_ref(), kept.next), (Some(&names[0]), None));
        assert!(!identity.publish_what_is_due(START.after(HOUR * 2), false).unwrap(), "once");
    }

    #[test]
    fn a_date_that_passed_while_the_daemon_was_down_is_made_up_for() {
        let (_dir, store, names) = store();
        plan(&*store, &names, HOUR);
        let mut identity = Identity::new(Arc::clone(&store));
        identity.read().unwrap();
        assert!(identity.publish_what_is_due(START.after(HOUR * 100), false).unwrap());
        assert_eq!(identity.read().unwrap(), Changed { signer: true, name: false });
        assert_eq!(signs(&identity).as_ref(), Some(&names[1]));
    }

    #[test]
    fn a_change_by_the_command_line_in_the_same_instant_wins() {
        let (_dir, store, names) = store();
        plan(&*store, &names, HOUR);
        let mut identity = Identity::new(Arc::clone(&store));
        identity.read().unwrap();
        let planned = store.auth_config().unwrap();
        assert!(store.replace_auth_config(&planned, &auth_config::clear_next(&planned)).unwrap());
        assert!(!identity.publish_what_is_due(START.after(HOUR), false).unwrap());
        identity.read().unwrap();
        assert_eq!(signs(&identity).as_ref(), Some(&names[0]));
    }

    #[test]
    fn a_key_that_others_can_read_is_refused_until_it_is_closed_again() {
        let (dir, store, names) = store();
        let key = dir.path().join("state/certificates").join(format!("{}.key", names[1]));
        fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
        plan(&*store, &names, HOUR);
        let mut identity = Identity::new(Arc::clone(&store));
        identity.read().unwrap();
        let due = START.after(HOUR);
        assert!(!identity.publish_what_is_due(due, false).unwrap());
        let warnings = identity.snapshot().warnings(due.unix);
        assert!(warnings[0].contains("mode 0644") && warnings[0].contains("chmod 600"), "{warnings:?}");
        assert_eq!(signs(&identity).as_ref(), Some(&names[0]), "the current one goes on signing");
        fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
        assert!(!identity.publish_what_is_due(due, false).unwrap(), "not looked at all the time");
        let later = due.after(RETRY_EVERY);
        assert!(identity.is_worth_a_retry(later) && !identity.is_worth_a_retry(later));
        assert!(identity.publish_what_is_due(later, true).unwrap());
    }

    #[test]
    fn a_current_certificate_without_its_key_is_told_and_tried_again() {
        let (dir, store, names) = store();
        let key = dir.path().join("state/certificates").join(format!("{}.key", names[0]));
        let aside = key.with_extension("aside");
        fs::rename(&key, &aside).unwrap();
        let mut identity = Identity::new(Arc::clone(&store));
        assert_eq!(identity.read().unwrap(), Changed::default());
        let snapshot = identity.snapshot();
        assert!(snapshot.current_trouble.unwrap().contains("No such file"));
        fs::rename(&aside, &key).unwrap();
        assert!(identity.is_worth_a_retry(START.after(RETRY_EVERY)));
        assert_eq!(identity.read().unwrap(), Changed { signer: true, name: false });
        assert_eq!(identity.snapshot().current_trouble, None);
    }

    #[test]
    fn another_name_in_tokens_is_noticed() {
        let (_dir, store, _) = store();
        let mut identity = Identity::new(Arc::clone(&store));
        identity.read().unwrap();
        let before = store.auth_config().unwrap();
        let after = AuthConfig { realm: Some("contoso.com".to_owned()), ..before.clone() };
        assert!(store.replace_auth_config(&before, &after).unwrap());
        assert_eq!(identity.read().unwrap(), Changed { signer: false, name: true });
    }
}
