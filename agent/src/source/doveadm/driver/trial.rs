//! One look from outside a running source, for `doctor`: one mailbox by name, then all users, each asked once.

use super::{ANSWER_SHARE, ANSWER_WAIT, Channel, ROW_SHARE, limit};
use crate::event::MailboxId;
use crate::source::doveadm::answer::AnswerPart;
use crate::source::doveadm::rounds::Trouble;
use crate::source::doveadm::{Settings, question};
use crate::source::examination::{Condition, Examiner, Finding};
use std::time::Duration;

/// How long the answer about all users is waited for: many users take longer, and that is no fault.
pub const EVERYONE_PATIENCE: Duration = Duration::from_secs(20);

/// For so many users an answer has room.
const USERS_MAX: usize = 1 << 20;

/// One mailbox, then all users at once. Where one cannot be asked for, all of them would only say so again, with another
/// remedy.
pub(in crate::source::doveadm) fn examine(settings: &Settings, examiner: &Examiner) -> Vec<Finding> {
    let first = one(settings, examiner);
    let is_ill = first.result == Condition::Ill;
    let second = (!is_ill).then(|| everyone(settings, examiner));
    [Some(first), second].into_iter().flatten().collect()
}

/// One mailbox, by its name.
fn one(settings: &Settings, examiner: &Examiner) -> Finding {
    let check = format!("source {}", settings.name);
    let Some(mailbox) = examiner.mailbox else { return Finding::untried(check) };
    let remedy = "check url and api-key-file or password-file, Dovecot's `service doveadm` and its log";
    match examiner.runtime.block_on(count_of(settings, mailbox)) {
        Ok(unseen) => Finding::well(check, format!("{}: {mailbox} has {unseen} unseen", settings.url)),
        Err(wrong) => Finding::ill(check, format!("{mailbox}: {wrong}"), remedy),
    }
}

/// All users at once; where that fails the source asks for each by name, so that it is no fault.
fn everyone(settings: &Settings, examiner: &Examiner) -> Finding {
    let check = format!("source {} users", settings.name);
    let remedy =
        "let Dovecot list its users (`doveadm user '*'`), and see its log for mailboxes that it cannot read";
    match examiner.runtime.block_on(users(settings)) {
        Ok(Some(users)) => Finding::well(check, format!("{users} users in one answer")),
        Ok(None) => {
            let patience = EVERYONE_PATIENCE.as_secs();
            let found = format!("no whole answer about all users within {patience} s; many take longer");
            Finding::skipped(check, found)
        }
        Err(wrong) => {
            let found = format!("not in one answer, so each mailbox is asked for by name: {wrong}");
            Finding::skipped(check, found).with_remedy(remedy)
        }
    }
}

/// What doveadm says of this mailbox: messages without `\Seen`.
///
/// # Errors
/// What is wrong, for people.
pub async fn count_of(settings: &Settings, mailbox: &str) -> Result<u32, String> {
    let channel = Channel::new(settings).map_err(|error| error.to_string())?;
    let user = settings.names.server(mailbox).into();
    let (mut counted, mut failed) = (None, None);
    let heard = |said| match said {
        AnswerPart::OfUser(_, counts) | AnswerPart::OfQuestion(counts) => counted = Some(counts.unseen),
        AnswerPart::Failed(why) => failed = Some(why),
        AnswerPart::Skipped | AnswerPart::Tag(_) => {}
    };
    let limit = limit(ANSWER_WAIT, 1, ANSWER_SHARE);
    channel.ask(question::of_these(&[(MailboxId(0), user)]), limit, heard).await.map_err(text)?;
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
        AnswerPart::OfUser(..) => users += 1,
        AnswerPart::Failed(why) => failed = Some(why),
        AnswerPart::OfQuestion(_) | AnswerPart::Skipped | AnswerPart::Tag(_) => {}
    };
    let limit = limit(EVERYONE_PATIENCE, USERS_MAX, ROW_SHARE);
    match channel.ask(question::of_everyone(), limit, heard).await {
        Ok(()) => failed.map_or(Ok(Some(users)), Err),
        Err(Trouble::Unanswered(_)) => Ok(None),
        Err(trouble) => Err(text(trouble)),
    }
}

fn text(trouble: Trouble) -> String {
    match trouble {
        Trouble::Refused(text)
        | Trouble::Unreachable(text)
        | Trouble::Flooded(text)
        | Trouble::Unanswered(text) => text,
    }
}
