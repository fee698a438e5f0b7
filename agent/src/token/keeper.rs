//! When challenge and token are got, renewed and forgotten (protocol.md §5.3, §5.8): a machine without I/O.
//!
//! It asks for three things, the relay's challenge, a signature, and a token service's answer, one at a time;
//! whoever drives it does them and reports back. Which token a challenge calls for is `choice`'s; what a rejected batch waits for is the
//! outbox's.

mod held;

use super::Error;
use super::challenge::Challenge;
use super::choice::{Configured, Issuer, TokenChoice, choose};
use super::claims::Claims;
use super::exchange::{self, TokenRequest};
use super::signer::SignedToken;
use crate::https::{Failure, Response};
use crate::identity::principal::{Audience, Principal};
use crate::time::{Moment, Now, UnixMs};
use held::{Access, Token, Work};
use secrecy::SecretString;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// How long a challenge is believed.
pub const CHALLENGE_LIFE: Duration = Duration::from_hours(1);
/// The least time between two attempts.
pub const ATTEMPT_GAP_MIN: Duration = Duration::from_secs(10);
/// The longest time between two attempts while they fail.
pub const ATTEMPT_GAP_MAX: Duration = Duration::from_mins(1);
/// A token is not used any more when this much of its life is left.
pub const UNUSED_END: Duration = Duration::from_mins(5);

/// How often the wall clock is looked at while a token is held.
const CLOCK_CHECK: Duration = Duration::from_mins(1);
/// How far ahead of its clock a relay lets a token begin (protocol.md §5.6, 8).
const CLOCK_TOLERANCE: Duration = Duration::from_mins(5);

/// Whose tokens are kept, and for whom.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What the agent can present, and to which relay.
    pub configured: Configured,
    /// Written as `trustedfordelegation`.
    pub may_delegate: bool,
    /// Life of a self-issued token; 24 h by default.
    pub lifetime: Duration,
}

/// The relay's answer to the batch with an empty bearer token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChallengeAnswer {
    /// HTTP status.
    pub status: u16,
    /// Every `WWW-Authenticate` line.
    pub www_authenticate: Vec<String>,
    /// How long the relay asked to be left alone (`Answer::asked_wait`).
    pub asked_wait: Option<Duration>,
}

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// Time passed: what [`Keeper::poll_timeout`] named may be due.
    Wake,
    /// [`Output::AskChallenge`] is done; an error text where there was no answer.
    Challenged(Result<ChallengeAnswer, String>),
    /// [`Output::Sign`] is done; an error text where the key could not sign.
    Signed(Result<SignedToken, String>),
    /// [`Output::Exchange`] is done.
    Exchanged(Result<Response, Failure>),
    /// The relay answered 401 to a batch.
    Rejected {
        /// The token it carried; `None` for an empty bearer token ([`TokenState::Open`]).
        serial: Option<u64>,
        /// The challenge in that answer.
        www_authenticate: Vec<String>,
    },
    /// From now on the signer holds another certificate.
    CertificateChanged,
    /// From now on this can be presented.
    Configured(Box<Configured>),
}

/// What is to be done. At most one is under way at a time.
#[derive(Clone, Debug)]
pub enum Output {
    /// POST a batch without notifications and with an empty bearer token, and report [`Input::Challenged`].
    AskChallenge,
    /// Sign, and report [`Input::Signed`].
    Sign(Claims),
    /// Ask a token service, and report [`Input::Exchanged`].
    Exchange(Box<TokenRequest>),
}

/// With what a batch can go now.
#[derive(Clone)]
pub enum TokenState {
    /// The relay asks for no token: an empty bearer token does.
    Open,
    /// With this token.
    Valid {
        /// For [`Input::Rejected`]; grows with each token.
        serial: u64,
        /// The token itself.
        token: Arc<SecretString>,
        /// When its life ends.
        expires: UnixMs,
    },
    /// Not yet: a token is being got.
    Waiting,
    /// Not now: the last attempt failed.
    Failed {
        /// Why.
        error: Error,
        /// When the next attempt is made.
        retry_at: Moment,
    },
}

impl fmt::Debug for TokenState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open => f.write_str("Open"),
            Self::Valid { serial, expires, .. } => {
                write!(f, "Valid {{ serial: {serial}, expires: {} }}", expires.0)
            }
            Self::Waiting => f.write_str("Waiting"),
            Self::Failed { error, retry_at } => {
                write!(f, "Failed {{ error: {error}, retry_at: {retry_at} }}")
            }
        }
    }
}

/// Keeps the token for one relay.
pub struct Keeper {
    settings: Settings,
    rng: fastrand::Rng,
    step: Step,
    access: Option<Access>,
    token: Option<Token>,
    /// The last attempt's failure, until one succeeds.
    error: Option<Error>,
    /// Attempts that failed in a row.
    failures: u32,
    attempted_at: Option<Moment>,
    /// No attempt before then.
    not_before: Moment,
    /// Both clocks when they were last told.
    latest: Now,
    last_serial: u64,
    outputs: VecDeque<Output>,
}

/// What is under way.
enum Step {
    Resting,
    AskingChallenge,
    Signing(Work),
    Exchanging(Work),
}

impl Keeper {
    /// A keeper that knows nothing yet; its first [`Input::Wake`] makes it ask. The seed spreads the attempts
    /// of many hosts.
    pub fn new(settings: Settings, seed: u64) -> Self {
        Self {
            settings,
            rng: fastrand::Rng::with_seed(seed),
            step: Step::Resting,
            access: None,
            token: None,
            error: None,
            failures: 0,
            attempted_at: None,
            not_before: Moment::START,
            latest: Now::default(),
            last_serial: 0,
            outputs: VecDeque::new(),
        }
    }

    /// Takes in what happened.
    pub fn handle(&mut self, now: Now, input: Input) {
        self.latest = now;
        match input {
            Input::Wake => {}
            Input::Challenged(answer) => self.challenged(now, answer),
            Input::Signed(result) => self.signed(now, result),
            Input::Exchanged(outcome) => self.exchanged(now, outcome),
            Input::Rejected { serial, www_authenticate } => self.rejected(now, serial, &www_authenticate),
            Input::CertificateChanged => self.certificate_changed(),
            Input::Configured(configured) => self.configured(*configured),
        }
        self.begin_what_is_due(now);
    }

    /// What is to be done next, if anything.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Input::Wake`] is due; `None` while something is under way.
    pub fn poll_timeout(&self) -> Option<Moment> {
        if !matches!(self.step, Step::Resting) {
            return None;
        }
        let due = self.due_at();
        // The wall clock may jump, and with it the token's end comes nearer without this timer noticing.
        let due = if self.token.is_some() { due.min(self.latest.moment.after(CLOCK_CHECK)) } else { due };
        Some(due.max(self.not_before))
    }

    /// With what a batch can go now.
    pub fn state(&self, now: Now) -> TokenState {
        if let Some(Access { choice: None, .. }) = self.access {
            return TokenState::Open;
        }
        if let Some(token) = self.token.as_ref().filter(|token| token.is_usable(now.unix)) {
            let secret = Arc::clone(&token.secret);
            return TokenState::Valid { serial: token.serial, token: secret, expires: token.expires };
        }
        match &self.error {
            Some(error) => TokenState::Failed { error: error.clone(), retry_at: self.not_before },
            None => TokenState::Waiting,
        }
    }

    /// Why the last attempt failed, also while an earlier token is still good.
    pub fn error(&self) -> Option<&Error> {
        self.error.as_ref()
    }

    /// Which token the relay's last challenge called for; `None` without one, and where it asks for none.
    pub fn choice(&self) -> Option<&TokenChoice> {
        self.access.as_ref()?.choice.as_ref()
    }

    /// The token service that issued the token in hand, if this is its serial and one did.
    pub fn service_of(&self, serial: u64) -> Option<&str> {
        match &self.token.as_ref().filter(|token| token.serial == serial)?.choice.issuer {
            Issuer::Service { name, .. } => Some(name),
            Issuer::Own => None,
        }
    }

    fn challenged(&mut self, now: Now, answer: Result<ChallengeAnswer, String>) {
        if !matches!(self.step, Step::AskingChallenge) {
            return;
        }
        self.step = Step::Resting;
        let asked_wait = answer.as_ref().ok().and_then(|answer| answer.asked_wait);
        let learned = match answer {
            Err(failure) => Err(Error::Unreachable(failure)),
            Ok(ChallengeAnswer { status: 200..=299, .. }) => {
                self.token = None;
                self.access = Some(Access { choice: None, learned_at: now.moment });
                self.succeeded();
                return;
            }
            Ok(ChallengeAnswer { status: 401, www_authenticate, .. }) => self.learn(now, &www_authenticate),
            Ok(ChallengeAnswer { status, .. }) => Err(Error::Unexpected(status)),
        };
        match learned {
            Ok(()) => self.sign_or_rest(now),
            Err(error) => self.failed(now, error, asked_wait),
        }
    }

    /// The challenge led to a choice: the attempt goes on with a signature unless the token in hand is good for it.
    fn sign_or_rest(&mut self, now: Now) {
        match self.wanted(now.unix) {
            Some(choice) => self.sign(now, choice),
            None => self.succeeded(),
        }
    }

    fn learn(&mut self, now: Now, www_authenticate: &[String]) -> Result<(), Error> {
        let challenge = Challenge::parse(www_authenticate).ok_or(Error::NoChallenge)?;
        let choice = choose(&challenge, &self.settings.configured)?;
        self.access = Some(Access { choice: Some(choice), learned_at: now.moment });
        Ok(())
    }

    fn signed(&mut self, now: Now, result: Result<SignedToken, String>) {
        let work = match std::mem::replace(&mut self.step, Step::Resting) {
            Step::Signing(work) => work,
            other => return self.step = other,
        };
        let signed = match result {
            Ok(signed) => signed,
            Err(text) => return self.failed(now, Error::Signing(text), None),
        };
        match &work.choice.issuer {
            Issuer::Own => self.keep(work, signed),
            Issuer::Service { name, service, .. } => {
                self.outputs.push_back(Output::Exchange(Box::new(TokenRequest {
                    service: name.clone(),
                    endpoint: Arc::clone(&service.endpoint),
                    resource: work.choice.audience.clone(),
                    assertion: signed,
                })));
                self.step = Step::Exchanging(work);
            }
        }
    }

    fn exchanged(&mut self, now: Now, outcome: Result<Response, Failure>) {
        let work = match std::mem::replace(&mut self.step, Step::Resting) {
            Step::Exchanging(work) => work,
            other => return self.step = other,
        };
        let Issuer::Service { name, service, .. } = &work.choice.issuer else { return };
        let (name, authority) = (name.clone(), service.endpoint.authority());
        match outcome.map(|answer| exchange::read(&answer, now.unix)) {
            Ok(Ok(token)) => self.keep(Work { since: now.unix, ..work }, token),
            Ok(Err(refusal)) => {
                let asked_wait = refusal.asked_wait;
                self.failed(now, Error::ServiceRefused { service: name, refusal }, asked_wait);
            }
            Err(failure) => {
                self.failed(now, Error::ServiceUnreachable { service: name, authority, failure }, None);
            }
        }
    }

    fn keep(&mut self, work: Work, token: SignedToken) {
        self.last_serial += 1;
        self.token = Some(Token {
            serial: self.last_serial,
            secret: token.token,
            choice: work.choice,
            signed_at: work.since,
            expires: token.expires,
            is_outdated: work.is_outdated,
        });
        self.succeeded();
    }

    fn rejected(&mut self, now: Now, serial: Option<u64>, www_authenticate: &[String]) {
        let is_open = matches!(self.access, Some(Access { choice: None, .. }));
        let is_current = match (serial, &self.token) {
            (Some(serial), Some(token)) => serial == token.serial,
            (None, _) => is_open,
            (Some(_), None) => false,
        };
        if !is_current {
            return;
        }
        self.token = None;
        self.access = None;
        if Challenge::parse(www_authenticate).is_none_or(|challenge| challenge.client_id.is_empty()) {
            return;
        }
        if let Err(error) = self.learn(now, www_authenticate) {
            self.failed(now, error, None);
        }
    }

    fn certificate_changed(&mut self) {
        self.outdate();
        self.try_again_soon();
    }

    /// What is in hand, or comes from what is under way, is to be replaced; it is used until then.
    fn outdate(&mut self) {
        if let Some(token) = &mut self.token {
            token.is_outdated = true;
        }
        if let Step::Signing(work) | Step::Exchanging(work) = &mut self.step {
            work.is_outdated = true;
        }
    }

    /// What was chosen before may not be what would be now: the challenge is asked for again.
    fn configured(&mut self, configured: Configured) {
        if self.settings.configured == configured {
            return;
        }
        if self.settings.configured.own != configured.own {
            self.outdate();
        }
        self.settings.configured = configured;
        self.access.take_if(|access| access.choice.is_some());
        self.try_again_soon();
    }

    /// Whatever failed before may have failed for what is different now: back to the shortest gap.
    fn try_again_soon(&mut self) {
        self.failures = 0;
        self.not_before = self.attempted_at.map_or(Moment::START, |at| at.after(ATTEMPT_GAP_MIN));
    }

    fn begin_what_is_due(&mut self, now: Now) {
        if !matches!(self.step, Step::Resting) || now.moment < self.not_before {
            return;
        }
        let is_challenge_due = self.access.as_ref().is_none_or(|access| now.moment >= access.ends());
        let wanted = self.wanted(now.unix);
        if !is_challenge_due && wanted.is_none() {
            return;
        }
        self.attempted_at = Some(now.moment);
        self.not_before = now.moment.after(ATTEMPT_GAP_MIN);
        match wanted {
            Some(choice) if !is_challenge_due => self.sign(now, choice),
            _ => {
                self.step = Step::AskingChallenge;
                self.outputs.push_back(Output::AskChallenge);
            }
        }
    }

    fn sign(&mut self, now: Now, choice: TokenChoice) {
        let Settings { configured, may_delegate, lifetime } = &self.settings;
        let own = &configured.own;
        let claims = match &choice.issuer {
            Issuer::Own => Claims::self_issued(own, &choice.audience, *may_delegate, *lifetime, now.unix),
            Issuer::Service { service, tenant, .. } => {
                let asking = Principal { id: own.id.clone(), realm: tenant.clone() };
                let (id, authority) = (service.principal.id.clone(), service.endpoint.authority());
                Claims::assertion(&asking, &Audience { id, authority, realm: tenant.clone() }, now.unix)
            }
        };
        self.step = Step::Signing(Work { choice, since: now.unix, is_outdated: false });
        self.outputs.push_back(Output::Sign(claims));
    }

    /// Which token must be got now; `None` where none is asked for or the one in hand is still good.
    fn wanted(&self, now: UnixMs) -> Option<TokenChoice> {
        let choice = self.choice()?;
        let is_good =
            self.token.as_ref().is_some_and(|token| token.choice == *choice && !token.is_renewal_due(now));
        (!is_good).then(|| choice.clone())
    }

    fn due_at(&self) -> Moment {
        let Some(access) = &self.access else { return self.not_before };
        if self.wanted(self.latest.unix).is_some() {
            return self.not_before;
        }
        let renewal = self.token.as_ref().map_or(access.ends(), |token| {
            let wait = token.renewal_at().0.saturating_sub(self.latest.unix.0);
            self.latest.moment.after(Duration::from_millis(wait))
        });
        renewal.min(access.ends())
    }

    fn succeeded(&mut self) {
        self.failures = 0;
        self.error = None;
    }

    /// The attempt failed: the next one after a back-off with jitter, or after what the relay asked for where
    /// that is longer.
    fn failed(&mut self, now: Now, error: Error, asked_wait: Option<Duration>) {
        self.error = Some(error);
        self.failures = self.failures.saturating_add(1);
        let ceiling = ATTEMPT_GAP_MIN.saturating_mul(1 << self.failures.min(8)).min(ATTEMPT_GAP_MAX);
        let spread = ceiling.saturating_sub(ATTEMPT_GAP_MIN).mul_f64(self.rng.f64());
        let wait = (ATTEMPT_GAP_MIN + spread).max(asked_wait.unwrap_or_default());
        self.not_before = now.moment.after(wait);
    }
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper")
            .field("state", &self.state(self.latest))
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
