//! Who may log in to the simulated mail server: one password for all mailboxes, a master user, and how refused
//! log-ins slow down those that follow. The words of LOGIN and SASL are read elsewhere.

use super::{AccountId, MailStore, Quirk};
use std::time::Duration;

/// How long answers wait after so many refused log-ins in a row (measured at Dovecot; sources.md §4.1).
const PENALTIES: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(1500),
    Duration::from_secs(6),
    Duration::from_secs(10),
    Duration::from_secs(15),
];

/// After that long without a refusal the penalty is forgotten.
const PENALTY_FORGOTTEN_AFTER: Duration = Duration::from_mins(1);

/// Passwords of the simulated server. They protect nothing.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The password of every mailbox.
    pub password: String,
    /// Who may log in as anyone.
    pub master: Option<Master>,
}

/// A user who may log in to every mailbox: `mailbox*master`, or SASL PLAIN with an authzid.
#[derive(Clone, Debug)]
pub struct Master {
    /// Its name.
    pub user: String,
    /// Its password.
    pub password: String,
    /// What stands between the mailbox's name and the master's.
    pub separator: char,
}

impl Default for Credentials {
    fn default() -> Self {
        let master = Master { user: "agent".into(), password: "master-secret".into(), separator: '*' };
        Self { password: "secret".into(), master: Some(master) }
    }
}

/// Why a log-in is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Wrong password, or the user is unknown.
    AuthenticationFailed,
    /// The master user's password is right, and there is no such mailbox.
    AuthorizationFailed,
    /// Too many connections of this mailbox.
    Limit,
    /// Too many connections of all mailboxes.
    Full,
}

/// Refused log-ins so far: what Dovecot's anvil keeps per address.
#[derive(Debug, Default)]
pub(super) struct Penalty {
    refused: usize,
    last_refused_at: Duration,
}

impl MailStore {
    /// Checks a log-in and counts the connection; [`MailStore::log_out`] gives it back.
    ///
    /// `user` may hold the master's name behind the separator; `authzid` is SASL's authorization identity or empty.
    /// Returns also how long the answer must wait (quirk `auth-penalty`).
    pub fn log_in(
        &mut self,
        now: Duration,
        user: &str,
        authzid: &str,
        password: &str,
        limit: u16,
    ) -> (Result<AccountId, Refusal>, Duration) {
        let wait = self.penalty_now(now);
        let outcome = self.authorize(user, authzid, password).and_then(|account| self.admit(account, limit));
        if outcome == Err(Refusal::AuthenticationFailed) && self.everywhere().has(Quirk::AuthPenalty) {
            self.penalty.refused += 1;
            self.penalty.last_refused_at = now;
            return (outcome, self.penalty_now(now));
        }
        (outcome, wait)
    }

    /// A connection that had logged in is gone.
    pub fn log_out(&mut self, account: AccountId) {
        if let Some(account) = self.account_mut(account) {
            account.connections = account.connections.saturating_sub(1);
        }
    }

    fn authorize(&self, user: &str, authzid: &str, password: &str) -> Result<AccountId, Refusal> {
        let credentials = self.credentials();
        let master = credentials.master.as_ref();
        let is_delegate_first = self.everywhere().has(Quirk::DelegateFirst);
        let split = if is_delegate_first {
            user.split_once('\\').map(|(login, target)| (target, login))
        } else {
            master.and_then(|master| user.rsplit_once(master.separator))
        };
        let (target, login) = match split {
            Some(split) => split,
            None if is_delegate_first => (user, user),
            None if authzid.is_empty() => (user, user),
            None => (authzid, user),
        };
        if let Some(master) = master.filter(|master| master.user == login && target != login) {
            if master.password != password {
                return Err(Refusal::AuthenticationFailed);
            }
            return self.find(target).ok_or(Refusal::AuthorizationFailed);
        }
        if target != login || credentials.password != password {
            return Err(Refusal::AuthenticationFailed);
        }
        self.find(target).ok_or(Refusal::AuthenticationFailed)
    }

    fn admit(&mut self, id: AccountId, limit: u16) -> Result<AccountId, Refusal> {
        let quirks = self.quirks(id);
        let limit = if quirks.has(Quirk::UserIpLimit) { 1 } else { limit };
        let is_full = quirks.has(Quirk::ConnectionLimit) && self.connections() >= (self.count() / 2).max(1);
        let account = self.account_mut(id).ok_or(Refusal::AuthorizationFailed)?;
        if account.connections >= limit {
            return Err(Refusal::Limit);
        }
        if is_full {
            return Err(Refusal::Full);
        }
        let account = self.account_mut(id).ok_or(Refusal::AuthorizationFailed)?;
        account.connections += 1;
        Ok(id)
    }

    /// Sessions that are logged in.
    pub fn connections(&self) -> usize {
        self.names()
            .filter_map(|(id, _)| self.account(id))
            .map(|account| usize::from(account.connections))
            .sum()
    }

    fn penalty_now(&mut self, now: Duration) -> Duration {
        if now.saturating_sub(self.penalty.last_refused_at) >= PENALTY_FORGOTTEN_AFTER {
            self.penalty.refused = 0;
        }
        PENALTIES.get(self.penalty.refused).or(PENALTIES.last()).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_log_in() {
        let table: &[(&str, &str, &str, Result<u32, Refusal>)] = &[
            ("user2", "", "secret", Ok(1)),
            ("user2", "user2", "secret", Ok(1)),
            ("user2", "", "wrong", Err(Refusal::AuthenticationFailed)),
            ("user2", "user1", "secret", Err(Refusal::AuthenticationFailed)),
            ("user9", "", "secret", Err(Refusal::AuthenticationFailed)),
            ("user1*agent", "", "master-secret", Ok(0)),
            ("user1*agent", "", "secret", Err(Refusal::AuthenticationFailed)),
            ("user1*other", "", "master-secret", Err(Refusal::AuthenticationFailed)),
            ("user9*agent", "", "master-secret", Err(Refusal::AuthorizationFailed)),
            ("agent", "user1", "master-secret", Ok(0)),
            ("agent", "user9", "master-secret", Err(Refusal::AuthorizationFailed)),
            ("agent", "", "master-secret", Err(Refusal::AuthenticationFailed)),
        ];
        for (user, authzid, password, expected) in table {
            let mut store = MailStore::new(2, "");
            let (outcome, _) = store.log_in(Duration::ZERO, user, authzid, password, 10);
            assert_eq!(outcome.map(|account| account.0), *expected, "{user} {authzid} {password}");
        }
    }

    #[test]
    fn refused_log_ins_slow_down_a_good_one_until_they_are_forgotten() {
        let mut store = MailStore::new(1, "");
        store.set_quirk(None, Quirk::AuthPenalty, true);
        let at = Duration::from_secs;
        let waits: Vec<_> =
            (0..6).map(|n| store.log_in(at(n), "user1", "", "wrong", 10).1.as_millis()).collect();
        assert_eq!(waits, [1500, 6000, 10_000, 15_000, 15_000, 15_000]);
        assert_eq!(store.log_in(at(10), "user1", "", "secret", 10).1, at(15));
        assert_eq!(store.log_in(at(70), "user1", "", "secret", 10).1, Duration::ZERO);
    }

    #[test]
    fn connections_of_a_mailbox_are_limited_and_given_back() {
        let mut store = MailStore::new(1, "");
        let log_in = |store: &mut MailStore| store.log_in(Duration::ZERO, "user1", "", "secret", 2).0;
        assert!(log_in(&mut store).is_ok());
        assert!(log_in(&mut store).is_ok());
        assert_eq!(log_in(&mut store), Err(Refusal::Limit));
        store.log_out(AccountId(0));
        assert!(log_in(&mut store).is_ok());
        store.log_out(AccountId(0));
        store.set_quirk(Some(AccountId(0)), Quirk::UserIpLimit, true);
        assert_eq!(log_in(&mut store), Err(Refusal::Limit));
    }

    #[test]
    fn a_full_server_lets_in_half_as_many_sessions_as_it_has_mailboxes() {
        let mut store = MailStore::new(4, "");
        store.set_quirk(None, Quirk::ConnectionLimit, true);
        let log_in = |store: &mut MailStore, user| store.log_in(Duration::ZERO, user, "", "secret", 10).0;
        assert!(log_in(&mut store, "user1").is_ok());
        assert!(log_in(&mut store, "user2").is_ok());
        assert_eq!(log_in(&mut store, "user3"), Err(Refusal::Full));
        assert_eq!(store.connections(), 2);
        store.log_out(AccountId(0));
        assert!(log_in(&mut store, "user3").is_ok());
    }
}
