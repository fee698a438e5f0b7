//! `mailbadge restore FILE`: a backup in the place of the state, after all of it was checked. Not beside a daemon.

use super::backup::Counts;
use super::{Context, Failure};
use crate::run;
use crate::store::{self, SqliteStore};
use serde::Serialize;
use std::path::PathBuf;

/// Puts a backup in the place of the state; all counts are sent anew after it. The daemon must not run.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What `mailbadge backup` made.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Moves a database that is there aside: to `mailbadge.db.replaced-<date>`.
    #[arg(long)]
    replace: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Outcome {
    restored: PathBuf,
    #[serde(flatten)]
    counts: Counts,
    former: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: &Args, context: &mut Context) -> Result<(), Failure> {
    let config = context.load_config()?;
    store::make_state_dir(&config.state_dir)?;
    // Held until the end: no daemon starts meanwhile.
    let _lock = run::lock(&config.state_dir).map_err(super::run::failure)?;
    store::belong_to_owner_of(&config.state_dir, &run::lock_path(&config.state_dir))?;
    let aside = args.replace.then(|| format!("replaced-{}", context.now()));
    let (contents, former) = SqliteStore::restore(&config.state_dir, &args.file, aside.as_deref())?;
    let counts = Counts::from(contents);
    if context.screen.is_json {
        let outcome = Outcome { restored: config.state_dir, counts, former };
        return Ok(context.screen.json(&outcome)?);
    }
    context.screen.line(format!("Restored {} from {}.", counts.text(), args.file.display()))?;
    if let Some(former) = former {
        context.screen.line(format!("The former database is {}.", former.display()))?;
    }
    Ok(context.screen.line("All counts are sent anew when the daemon starts.")?)
}
