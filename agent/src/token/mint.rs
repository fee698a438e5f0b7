//! One token, got once, as the daemon would get it: for commands that try the way. The [`Keeper`] decides here too.

use super::Error;
use super::choice::TokenChoice;
use super::exchange::TokenRequest;
use super::keeper::{ChallengeAnswer, Input, Keeper, Output, Settings, TokenState};
use super::signer::Signer;
use crate::https::{Failure, Response};
use crate::time::{Now, UnixMs};
use secrecy::SecretString;
use std::sync::Arc;
use std::time::Duration;

/// What the relay's challenge led to.
#[derive(Clone, Debug)]
pub struct Minted {
    /// Which token it called for.
    pub choice: TokenChoice,
    /// The token.
    pub token: Arc<SecretString>,
    /// The end of its life.
    pub expires: UnixMs,
    /// Its life when it was new.
    pub life: Duration,
}

/// The token that the relay's answer to an empty bearer token calls for; `None` where it asks for none. `exchange` is
/// the token service's driver, `clock` reads both clocks.
pub async fn mint(
    settings: &Settings,
    signer: &Signer,
    challenge: ChallengeAnswer,
    exchange: impl AsyncFn(TokenRequest) -> Result<Response, Failure>,
    clock: impl Fn() -> Now,
) -> Result<Option<Minted>, Error> {
    let mut keeper = Keeper::new(settings.clone(), 0);
    keeper.handle(clock(), Input::Wake);
    let (mut challenge, mut since) = (Some(challenge), UnixMs::default());
    while let Some(output) = keeper.poll_output() {
        let input = match output {
            Output::AskChallenge => Input::Challenged(Ok(challenge.take().ok_or(Error::NoChallenge)?)),
            Output::Sign(claims) => {
                since = UnixMs::from_seconds(claims.nbf);
                // A failure is told as it is, not wrapped once more.
                Input::Signed(Ok(signer.sign(&claims)?))
            }
            Output::Exchange(request) => {
                let outcome = exchange(*request).await;
                since = clock().unix;
                Input::Exchanged(outcome)
            }
        };
        keeper.handle(clock(), input);
    }
    match (keeper.state(clock()), keeper.choice()) {
        (TokenState::Valid { token, expires, .. }, Some(choice)) => {
            let life = Duration::from_secs(expires.seconds().saturating_sub(since.seconds()));
            Ok(Some(Minted { choice: choice.clone(), token, expires, life }))
        }
        (TokenState::Failed { error, .. }, _) => Err(error),
        (TokenState::Open, _) => Ok(None),
        (TokenState::Valid { .. } | TokenState::Waiting, _) => Err(Error::NoChallenge),
    }
}
