//! `mailbadge check [--print]`: what is wrong with the configuration, what is unwise in it, and all of it.

use super::{Context, Exit, Failure};
use crate::config::{self, Advice, Config, ConfigError, Setting};
use crate::store::{SqliteStore, Store};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::path::Path;

/// Checks the configuration: errors with file, line and key; advice on legal but unwise settings.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Shows all of it, defaults included.
    #[arg(long)]
    print: bool,
}

/// Runs the command.
pub fn run(args: &Args, context: &mut Context) -> Result<(), Failure> {
    let path = context.config_path()?;
    match config::load(&path) {
        Ok(config) if context.screen.is_json => {
            let advice: Vec<_> = advice(&config, context).iter().map(advice_json).collect();
            let settings = args.print.then(|| settings_json(&config.settings));
            let result = json!({ "Path": path, "Errors": [], "Advice": advice, "Settings": settings });
            Ok(context.screen.json(&result)?)
        }
        Ok(config) => tell(&config, &path, args.print, context),
        Err(error) if context.screen.is_json => {
            context.screen.json(&json!({ "Path": path, "Errors": errors_json(&error), "Advice": [] }))?;
            Err(Failure::told(if error.is_permission() { Exit::Permission } else { Exit::Config }))
        }
        Err(error) => Err(error.into()),
    }
}

fn tell(config: &Config, path: &Path, print: bool, context: &mut Context) -> Result<(), Failure> {
    let advice = advice(config, context);
    if print {
        context.screen.bytes(printed(&config.settings).as_bytes())?;
        for Advice { key, what } in advice {
            context.screen.remark(format!("advice: {key}: {what}"))?;
        }
        return Ok(());
    }
    context.screen.line(format!("{}: valid", path.display()))?;
    for Advice { key, what } in advice {
        let mark = context.screen.warning("advice");
        context.screen.line(format!("{mark}: {key}: {what}"))?;
    }
    Ok(())
}

/// Advice on the settings, and on the names of those who are subscribed where that can be read: a state that cannot be is
/// the matter of other commands.
fn advice(config: &Config, context: &Context) -> Vec<Advice> {
    let mut advice = config::check(config);
    let store = SqliteStore::exists(&config.state_dir).then(|| context.open_store(config).ok()).flatten();
    let kept = store.and_then(|store| store.subscriptions(None).ok()).unwrap_or_default();
    advice.extend(config::check_names(config, kept.iter().map(|one| &*one.record.mailbox)));
    let mailboxes: HashSet<&str> = kept.iter().map(|one| &*one.record.mailbox).collect();
    advice.extend(config::check_pace(config, mailboxes.len()));
    advice
}

/// The whole configuration as TOML, defaults marked.
fn printed(settings: &[Setting]) -> String {
    let mut lines = Vec::new();
    let mut section = "";
    for setting in settings {
        if setting.section != section {
            section = &setting.section;
            let is_source = section.starts_with("source.");
            let head = if is_source { "[[source]]".to_owned() } else { format!("[{section}]") };
            lines.extend([String::new(), head]);
        }
        let (key, value) = (setting.key, &setting.value);
        lines.push(match (value.is_empty(), setting.is_default) {
            (true, _) => format!("# {key} is not set"),
            (false, true) => format!("{key} = {value}  # default"),
            (false, false) => format!("{key} = {value}"),
        });
    }
    lines.join("\n") + "\n"
}

fn advice_json(advice: &Advice) -> Value {
    json!({ "Key": advice.key, "What": advice.what })
}

fn settings_json(settings: &[Setting]) -> Vec<Value> {
    let one = |it: &Setting| json!({ "Section": it.section, "Key": it.key, "Value": it.value, "IsDefault": it.is_default });
    settings.iter().map(one).collect()
}

fn errors_json(error: &ConfigError) -> Vec<Value> {
    match error {
        ConfigError::Refused { faults, .. } => {
            faults.iter().map(|it| json!({ "Line": it.line, "Key": it.key, "What": it.what })).collect()
        }
        other => vec![json!({ "Line": null, "Key": null, "What": other.to_string() })],
    }
}
