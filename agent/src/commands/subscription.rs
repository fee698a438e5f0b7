//! `mailbadge subscription add|list|remove`: by hand what devices do by themselves.

use super::{Context, Exit, Failure, driver};
use crate::config::{self, Advice, Config};
use crate::store::Store;
use crate::subscription::Request;
use crate::subscription::{Added, NewSubscription, Subscription};
use crate::time::UnixMs;
use serde::Serialize;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// Bytes in a line of `--from`, longest.
const LINE_MAX: u64 = 64 * 1024;
/// Lines of `--from` in one transaction, most.
const LINES_MAX: usize = 1_000_000;
/// Characters of a device id that people are shown.
const DEVICE_ID_SHOWN: usize = 20;

/// Devices that are told the count of a mailbox.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: SubscriptionCommand,
}

#[derive(Debug, clap::Subcommand)]
enum SubscriptionCommand {
    /// Adds a device, or renews it.
    Add(Box<Add>),
    /// Lists live subscriptions.
    List {
        /// Of this mailbox only.
        #[arg(long)]
        mailbox: Option<String>,
    },
    /// Removes the subscriptions of a mailbox, or one of them.
    Remove {
        /// The mailbox.
        #[arg(long)]
        mailbox: String,
        /// Only the one with this id.
        #[arg(long, value_name = "ID")]
        subscription_id: Option<String>,
    },
}

#[derive(Debug, clap::Args)]
struct Add {
    /// Adds many: a JSON object a line, Mailbox and the members of a subscription; all or none. "-": standard input.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["mailbox", "app_id", "device_id", "device_type", "unread"])]
    from: Option<PathBuf>,
    /// The mailbox as the mail server spells it; letter case of its domain aside.
    #[arg(long, required_unless_present = "from")]
    mailbox: Option<String>,
    /// For example com.microsoft.exchange.iphone.
    #[arg(long, required_unless_present = "from")]
    app_id: Option<String>,
    /// The device's id at its push service; APNs: 64 hex digits.
    #[arg(long, required_unless_present = "from")]
    device_id: Option<String>,
    /// APNS, GCM, WNS, WebApp or PendingGet [default: GCM for com.microsoft.exchange.mowa, else APNS]
    #[arg(long = "type", value_name = "TYPE")]
    device_type: Option<String>,
    /// The count that the device shows now.
    #[arg(long, value_name = "N")]
    unread: Option<i64>,
    /// Flags: 1 email, 2 calendar, 4 voice mail, 8 missed call, 16 quiet when out of office, 32 background sync.
    #[arg(long, value_name = "FLAGS", default_value_t = i64::from(crate::subscription::DEFAULT_OPTION))]
    option: i64,
    /// The app installation's own id.
    #[arg(long, value_name = "ID")]
    installation_id: Option<String>,
    /// Replaces the subscription with this id [default: composed of app and device]
    #[arg(long, value_name = "ID")]
    subscription_id: Option<String>,
}

impl Add {
    fn request(&self) -> Request {
        let text = |option: &Option<String>| option.clone().unwrap_or_default();
        let app_id = text(&self.app_id);
        let by_app = if app_id.rsplit('.').next() == Some("mowa") { "GCM" } else { "APNS" };
        Request {
            mailbox: text(&self.mailbox),
            device_notification_id: text(&self.device_id),
            device_notification_type: self.device_type.clone().unwrap_or_else(|| by_app.to_owned()),
            inbox_unread_count: self.unread,
            subscription_option: Some(self.option),
            installation_id: self.installation_id.clone(),
            subscription_id: self.subscription_id.clone(),
            app_id,
        }
    }
}

/// Runs the command.
pub fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let config = context.load_config()?;
    match args.command {
        SubscriptionCommand::Add(add) => {
            let store = context.open_or_create_store(&config)?;
            self::add(&add, &store, &config, context)
        }
        SubscriptionCommand::List { mailbox } => {
            let store = context.open_store(&config)?;
            list(kept(&store, mailbox.as_deref(), &config)?, context)
        }
        SubscriptionCommand::Remove { mailbox, subscription_id } => {
            let store = context.open_store(&config)?;
            let kept = kept(&store, Some(&mailbox), &config)?;
            remove(&store, &kept, &mailbox, subscription_id.as_deref(), context)
        }
    }
}

fn add(add: &Add, store: &dyn Store, config: &Config, context: &mut Context) -> Result<(), Failure> {
    let (now, expiration) = (context.now(), config.subscriptions.expiration);
    let Some(from) = &add.from else {
        let checked = add.request().checked(now, expiration);
        let record = checked.map_err(|invalid| Failure::new(Exit::Usage, invalid.to_string()))?;
        let record = as_kept(record, config);
        let added = store.add(std::slice::from_ref(&record))?;
        tell_one(&record, &added, context)?;
        return warn(&[record], config, context);
    };
    let name = if from == Path::new("-") { "standard input".to_owned() } else { from.display().to_string() };
    let failed = |cause: io::Error| Failure::new(Exit::Io, format!("{name}: {cause}"));
    let input: Box<dyn Read> = if from == Path::new("-") {
        Box::new(io::stdin())
    } else {
        Box::new(driver::open(from).map_err(failed)?)
    };
    let check = |request: Request| request.checked(now, expiration).map(|record| as_kept(record, config));
    let records = read_lines(BufReader::new(input), check)
        .map_err(|what| Failure::new(Exit::Usage, format!("{name}:{what}; nothing was added")))?;
    let added = store.add(&records)?;
    warn(&records, config, context)?;
    let replaced: usize = added.iter().map(|one| one.replaced.len()).sum();
    if context.screen.is_json {
        return Ok(context
            .screen
            .json(&serde_json::json!({ "Added": added.len(), "Replaced": replaced }))?);
    }
    Ok(context
        .screen
        .line(format!("Added {} subscriptions, {replaced} of them in place of former ones.", added.len()))?)
}

/// The record under the name by which sources find its mailbox.
fn as_kept(record: NewSubscription, config: &Config) -> NewSubscription {
    NewSubscription { mailbox: config.rulebook().kept(&record.mailbox).into_owned(), ..record }
}

/// Says of which of these mailboxes nothing may ever come.
fn warn(records: &[NewSubscription], config: &Config, context: &mut Context) -> Result<(), Failure> {
    for Advice { what, .. } in config::check_names(config, records.iter().map(|one| &*one.mailbox)) {
        let line = format!("{}: {what}", context.screen.warning("advice"));
        context.screen.remark(line)?;
    }
    Ok(())
}

/// The subscriptions of a mailbox, however it is spelled, or of all.
fn kept(store: &dyn Store, mailbox: Option<&str>, config: &Config) -> Result<Vec<Subscription>, Failure> {
    let rulebook = config.rulebook();
    let Some(mailbox) = mailbox else { return Ok(store.subscriptions(None)?) };
    if !rulebook.folds_case() {
        return Ok(store.subscriptions(Some(&rulebook.kept(mailbox)))?);
    }
    let mut all = store.subscriptions(None)?;
    all.retain(|one| rulebook.is_same(&one.record.mailbox, mailbox));
    Ok(all)
}

fn read_lines<E: std::fmt::Display>(
    mut input: impl BufRead,
    check: impl Fn(Request) -> Result<NewSubscription, E>,
) -> Result<Vec<NewSubscription>, String> {
    let mut records = Vec::new();
    for number in 1.. {
        let mut line = String::new();
        let read = input
            .by_ref()
            .take(LINE_MAX)
            .read_line(&mut line)
            .map_err(|cause| format!("{number}: {cause}"))?;
        if read == 0 {
            break;
        }
        if read as u64 == LINE_MAX {
            return Err(format!("{number}: the line is longer than {LINE_MAX} bytes"));
        }
        if records.len() == LINES_MAX {
            return Err(format!("{number}: more than {LINES_MAX} lines; give them in parts"));
        }
        if !object_of(&line).is_empty() {
            let request: Request =
                serde_json::from_str(object_of(&line)).map_err(|error| format!("{number}: {error}"))?;
            records.push(check(request).map_err(|invalid| format!("{number}: {invalid}"))?);
        }
    }
    Ok(records)
}

/// A line's object, without the mark of byte order at a file's beginning, or the comma that a list left behind it.
fn object_of(line: &str) -> &str {
    let line = line.trim_start_matches('\u{feff}').trim();
    line.strip_suffix(',').unwrap_or(line).trim_end()
}

fn tell_one(record: &NewSubscription, added: &[Added], context: &mut Context) -> Result<(), Failure> {
    if context.screen.is_json {
        return Ok(context.screen.json(&SubscriptionOutput::of(record))?);
    }
    let is_renewal = added.iter().any(|one| !one.replaced.is_empty());
    let verb = if is_renewal { "Renewed" } else { "Added" };
    let text =
        format!("{verb} {} for {} until {}.", record.subscription_id, record.mailbox, record.expires_at);
    Ok(context.screen.line(text)?)
}

/// Members as in protocol.md §2.1; `InboxUnreadCount` is what the device was last known to show.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct SubscriptionOutput<'a> {
    mailbox: &'a str,
    subscription_id: &'a str,
    app_id: &'a str,
    device_notification_id: &'a str,
    device_notification_type: &'a str,
    inbox_unread_count: Option<u32>,
    subscription_option: u32,
    installation_id: Option<&'a str>,
    last_subscription_update: UnixMs,
    expires_at: UnixMs,
}

impl<'a> SubscriptionOutput<'a> {
    fn of(record: &'a NewSubscription) -> Self {
        Self {
            mailbox: &record.mailbox,
            subscription_id: &record.subscription_id,
            app_id: &record.app_id,
            device_notification_id: &record.device_id,
            device_notification_type: &record.device_type,
            inbox_unread_count: record.shown,
            subscription_option: record.option,
            installation_id: record.installation_id.as_deref(),
            last_subscription_update: record.updated_at,
            expires_at: record.expires_at,
        }
    }
}

fn list(kept: Vec<Subscription>, context: &mut Context) -> Result<(), Failure> {
    let now = context.now();
    let live: Vec<_> = kept.into_iter().filter(|one| one.record.expires_at > now).collect();
    if context.screen.is_json {
        let output: Vec<_> = live.iter().map(|one| SubscriptionOutput::of(&one.record)).collect();
        return Ok(context.screen.json(&output)?);
    }
    let rows: Vec<_> = live.iter().map(row).collect();
    let heads = ["MAILBOX", "SUBSCRIPTION ID", "APP", "DEVICE", "TYPE", "SHOWS", "EXPIRES"];
    Ok(context.screen.table(&heads, &rows)?)
}

fn row(subscription: &Subscription) -> Vec<String> {
    let record = &subscription.record;
    vec![
        record.mailbox.clone(),
        shortened(&record.subscription_id, 2 * DEVICE_ID_SHOWN),
        record.app_id.clone(),
        shortened(&record.device_id, DEVICE_ID_SHOWN),
        record.device_type.clone(),
        record.shown.map_or_else(|| "?".to_owned(), |count| count.to_string()),
        record.expires_at.to_string(),
    ]
}

fn shortened(text: &str, length: usize) -> String {
    if text.chars().count() <= length {
        return text.to_owned();
    }
    text.chars().take(length.saturating_sub(1)).chain(['…']).collect()
}

fn remove(
    store: &dyn Store,
    kept: &[Subscription],
    mailbox: &str,
    id: Option<&str>,
    context: &mut Context,
) -> Result<(), Failure> {
    let meant = kept.iter().filter(|one| id.is_none_or(|id| one.record.subscription_id == id));
    let keys: Vec<_> = meant.map(|one| one.key).collect();
    let removed = store.remove(&keys)?.len();
    if context.screen.is_json {
        return Ok(context.screen.json(&serde_json::json!({ "Removed": removed }))?);
    }
    let plural = if removed == 1 { "" } else { "s" };
    Ok(context.screen.line(format!("Removed {removed} subscription{plural} of {mailbox}."))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn read(text: &str) -> Result<Vec<NewSubscription>, String> {
        read_lines(text.as_bytes(), |request| request.checked(UnixMs(0), Duration::from_hours(72)))
    }

    #[test]
    fn a_line_is_a_subscription_and_what_is_wrong_is_told_by_its_line() {
        let good =
            r#"{"Mailbox":"u1","AppId":"a","DeviceNotificationId":"d","DeviceNotificationType":"GCM"}"#;
        assert_eq!(read(&format!("{good}\n\n{good}")).unwrap().len(), 2);
        assert_eq!(read(&format!("\u{feff}\r\n {good} ,\r\n{good},\n,\n")).unwrap().len(), 2);
        let long = format!("{good}\n{}\n", " ".repeat(usize::try_from(LINE_MAX).unwrap()));
        let rows = [
            (format!("{good}\nnonsense\n"), "2: expected"),
            (format!("\n{}\n", good.replace("GCM", "FAX")), "2: DeviceNotificationType"),
            (good.replace("AppId", "AppID"), "1: unknown field `AppID`"),
            (long, "2: the line is longer"),
        ];
        for (text, expected) in rows {
            let error = read(&text).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_whatever_panics(text in ".{0,300}") {
            let _ = read(&text);
        }
    }
}
