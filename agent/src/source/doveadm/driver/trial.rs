//! One look from outside a running source, for `doctor`: one mailbox by name, then all users, each asked once.

use super::{ANSWER_WAIT, Channel};
use crate::event::MailboxId;
use crate::source::doveadm::answer::Said;
use crate::source::doveadm::rounds::Trouble;
use crate::source::doveadm::{Settings, question};
use std::time::Duration;

/// How long the answer about all users is waited for: many users take longer, and that is no fault.
pub const EVERYONE_PATIENCE: Duration = Duration::from_secs(20);

/// What doveadm says of this mailbox: messages without `\Seen`.
///
/// # Errors
/// What is wrong, for people.
pub async fn count_of(settings: &Settings, mailbox: &str) -> Result<u32, String> {
    let channel = Channel::new(settings).map_err(|error| error.to_string())?;
    let user = settings.names.server(mailbox).into();
    let (mut counted, mut failed) = (None, None);
    let heard = |said| match said {
        Said::OfUser(_, counts) | Said::OfQuestion(counts) => counted = Some(counts.unseen),
        Said::Failed(why) => failed = Some(why),
        Said::Skipped | Said::Tag(_) => {}
    };
    channel.ask(question::of_these(&[(MailboxId(0), user)]), ANSWER_WAIT, heard).await.map_err(text)?;
    counted.ok_or_else(|| failed.unwrap_or_else(|| "no count in the answer".to_owned()))
}

/// How many users an answer about all has. `None` where that takes long.
///
/// # Errors
/// Why there is no such answer, for people.
pub async fn users(settings: &Settings) -> Result<Option<usize>, String> {
    let channel = Channel::new(settings).map_err(|error| error.to_string())?;
    let (mut users, mut failed) = (0, None);
    let heard = |said| match said {
        Said::OfUser(..) => users += 1,
        Said::Failed(why) => failed = Some(why),
        Said::OfQuestion(_) | Said::Skipped | Said::Tag(_) => {}
    };
    match channel.ask(question::of_everyone(), EVERYONE_PATIENCE, heard).await {
        Ok(()) => failed.map_or(Ok(Some(users)), Err),
        Err(Trouble::Unanswered(_)) => Ok(None),
        Err(trouble) => Err(text(trouble)),
    }
}

fn text(trouble: Trouble) -> String {
    match trouble {
        Trouble::Refused(text) | Trouble::Unreachable(text) | Trouble::Unanswered(text) => text,
    }
}
